//! The administrator's desk: an organisation's staff, described, suspended, reinstated, invited.

use alloy_primitives::{Address, hex};
use serde_json::{Value, json};
use stele_core::{
    consent::Purpose,
    id::{OrganizationId, PatientId},
    time::Timestamp,
};
use stele_fhir::parse;

use super::{Deed, Invitation};
use crate::{
    Service, Write,
    directory::role,
    error::{Error, Result},
    records::ACCOUNT_SYSTEM,
    session::Actor,
};

/// A member of an organisation's staff, as the ledger has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: Address,
    /// Roles, see [`role`].
    pub roles: u32,
    /// Whether they may act now.
    pub active: bool,
    /// When they were registered.
    pub registered: Timestamp,
}

/// Somebody to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Name, for people; kept in the directory, never on the ledger.
    pub name: String,
    /// What they are: "cardiologist"; may be empty.
    pub what: String,
    /// Roles, see [`role`].
    pub roles: u32,
    /// Number of the licence, of which a salted commitment is recorded; may be empty.
    pub licence: String,
}

impl Service {
    /// The staff of the actor's organisation, suspended ones too, in order of registration.
    ///
    /// # Errors
    /// The actor is no administrator.
    pub fn members(&self, actor: &Actor) -> Result<Vec<Member>> {
        self.require_administrator(actor)?;
        let found = self
            .index
            .chain()
            .accounts_of(actor.organization.0, 2)
            .map_err(Error::index("listing members"))?;
        let mut members: Vec<Member> = found
            .into_iter()
            .map(|account| Member {
                account: account.address,
                roles: account.roles,
                active: account.status == 1,
                registered: account.registered.at,
            })
            .collect();
        members.sort_by_key(|member| (member.registered, member.account));
        Ok(members)
    }

    /// Registers a member of the actor's organisation.
    ///
    /// # Errors
    /// The actor is no administrator, or the ledger refuses.
    pub async fn register_member(&self, actor: &Actor, new: &NewMember) -> Result<Address> {
        self.require_administrator(actor)?;
        let organization = actor.organization;
        let account = self.make_member_keys().await?;
        let words = format!("{}, {}", new.name, role_names(new.roles));
        self.noted(actor, Deed::Register, Some(account), &words, async {
            self.enrol_member(organization, account, new.roles, &new.licence)
                .await?;
            self.describe_practitioner(organization, account, &new.name, &new.what)
                .await
        })
        .await?;
        Ok(account)
    }

    /// Suspends or reinstates a member of the actor's organisation; acts in its block.
    ///
    /// # Errors
    /// The actor is no administrator, the member of another organisation, or the actor.
    pub async fn set_member_status(
        &self,
        actor: &Actor,
        member: Address,
        active: bool,
    ) -> Result<()> {
        self.require_member(actor, member)?;
        if member == actor.account {
            return Err(Error::Conflict {
                message: "You cannot suspend yourself. Ask another administrator.".into(),
            });
        }
        let deed = if active {
            Deed::Reinstate
        } else {
            Deed::Suspend
        };
        let work = self.set_practitioner_status(actor.organization, member, active);
        self.noted(actor, deed, Some(member), "", work).await
    }

    /// An invitation for a member of the actor's organisation.
    ///
    /// # Errors
    /// The actor is no administrator, or the member of another organisation.
    pub async fn invite_member(&self, actor: &Actor, member: Address) -> Result<Invitation> {
        self.require_member(actor, member)?;
        let work = async { self.invite(member) };
        self.noted(actor, Deed::InviteMember, Some(member), "", work)
            .await
    }

    /// An invitation for a patient whom the actor's organisation registered, to be handed over in person.
    ///
    /// # Errors
    /// The actor is no administrator, or the patient another organisation's.
    pub async fn invite_patient(&self, actor: &Actor, patient: PatientId) -> Result<Invitation> {
        self.require_administrator(actor)?;
        let found = self.account(patient.0)?;
        if found.is_some_and(|found| found.kind == 3 && found.sponsor == actor.organization) {
            let work = async { self.invite(patient.0) };
            return self
                .noted(actor, Deed::InvitePatient, Some(patient.0), "", work)
                .await;
        }
        Err(Error::not_found("patient", "of this organisation"))
    }

    /// Puts an organisation's name into the directory.
    ///
    /// # Errors
    /// The name is not valid, or the write is refused.
    pub async fn describe_organization(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<()> {
        self.describe(
            organization,
            "Organization",
            organization.0,
            json!({ "name": name }),
        )
        .await
    }

    /// Puts a member's name and calling into the directory. `what` may be empty.
    ///
    /// # Errors
    /// The name is not valid, or the write is refused.
    pub async fn describe_practitioner(
        &self,
        organization: OrganizationId,
        account: Address,
        name: &str,
        what: &str,
    ) -> Result<()> {
        let mut described = json!({ "name": [{ "text": name }] });
        if let Some(members) = described.as_object_mut().filter(|_| !what.is_empty()) {
            let calling = json!([{ "code": { "text": what } }]);
            members.insert("qualification".into(), calling);
        }
        self.describe(organization, "Practitioner", account, described)
            .await
    }

    /// Names stand in the directory, as FHIR resources; on the ledger is only the account.
    async fn describe(
        &self,
        organization: OrganizationId,
        resource_type: &str,
        account: Address,
        mut described: Value,
    ) -> Result<()> {
        let id = hex::encode(account);
        if let Some(members) = described.as_object_mut() {
            members.insert("resourceType".into(), json!(resource_type));
            members.insert("id".into(), json!(id));
            let identifier = json!([{ "system": ACCOUNT_SYSTEM, "value": account.to_string() }]);
            members.insert("identifier".into(), identifier);
        }
        let resource = parse::edited(described.to_string()).map_err(|issues| Error::Invalid {
            issues,
            unreadable: false,
        })?;
        let actor = Actor::system(organization, Purpose::Treat, "operator");
        let write = Write::Update {
            resource,
            id,
            if_match: None,
        };
        self.write(&actor, vec![write]).await.map(drop)
    }

    pub(super) fn require_administrator(&self, actor: &Actor) -> Result<()> {
        if self.is_administrator(actor)? {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: "This is for administrators of the organisation.".into(),
        })
    }

    fn require_member(&self, actor: &Actor, member: Address) -> Result<()> {
        self.require_administrator(actor)?;
        let found = self.account(member)?;
        if found.is_some_and(|found| found.kind == 2 && found.sponsor == actor.organization) {
            return Ok(());
        }
        Err(Error::not_found("member", "of this organisation"))
    }
}

/// The names of roles, for people.
fn role_names(roles: u32) -> String {
    let names: Vec<&str> = ROLES
        .iter()
        .filter(|(_, bit, _)| roles & bit != 0)
        .map(|(_, _, words)| *words)
        .collect();
    names.join(", ")
}

/// Roles by the names that commands and pages use.
pub const ROLES: [(&str, u32, &str); 8] = [
    ("doctor", role::DOCTOR, "Doctor"),
    ("nurse", role::NURSE, "Nurse"),
    ("pharmacist", role::PHARMACIST, "Pharmacist"),
    ("laboratory", role::LABORATORY, "Laboratory staff"),
    ("insurance", role::INSURANCE, "Insurance staff"),
    ("administrator", role::ADMINISTRATOR, "Administrator"),
    ("auditor", role::AUDITOR, "Auditor"),
    ("researcher", role::RESEARCHER, "Researcher"),
];
