//! Doctors who register themselves: what they claim waits for the organisation's administrator, who verifies the licence
//! or declines. Until then there is no account and no key, nothing on the ledger: the applicant can sign in with the
//! passkey and see where the request stands, and nothing else. Claims stay in the local store.

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};
use stele_core::{id::OrganizationId, time::Timestamp};

use super::{
    Deed, NewPasskey, PasskeyUse, Site,
    passkeys::{Known, checked},
    random,
};
use crate::{
    Service,
    directory::role,
    error::{Error, Result},
    session::Actor,
};

/// How long a request waits to be looked at, in milliseconds: 90 days.
const WAITING_MS: u64 = 90 * 24 * 3600 * 1000;
/// How long a declined request can still be seen, in milliseconds: 30 days.
const DECLINED_MS: u64 = 30 * 24 * 3600 * 1000;
/// The evidence of a check is kept for good.
const FOR_GOOD: Timestamp = Timestamp(i64::MAX.unsigned_abs());
/// Requests that wait at one organisation: nobody's desk is flooded.
const WAITING_MAX: usize = 200;
/// Longest name, number and branch, in characters.
pub const CLAIM_MAX: usize = 120;
/// Longest address, and longest words of an administrator, in characters.
pub const CLAIM_TEXT_MAX: usize = 300;

/// What somebody says of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// Name as they write it.
    pub name: String,
    /// Number in the national register of doctors.
    pub registration: String,
    /// Address of the clinic.
    pub address: String,
    /// Branch of medicine.
    pub branch: String,
    /// Number of the licence.
    pub licence: String,
}

impl Claim {
    /// What is missing or too long: fields of a form, and words.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        [
            ("name", "your name", &self.name, CLAIM_MAX),
            (
                "registration",
                "your number in the national register",
                &self.registration,
                CLAIM_MAX,
            ),
            (
                "address",
                "the address of your clinic",
                &self.address,
                CLAIM_TEXT_MAX,
            ),
            ("branch", "your branch of medicine", &self.branch, CLAIM_MAX),
            (
                "licence",
                "the number of your licence",
                &self.licence,
                CLAIM_MAX,
            ),
        ]
        .into_iter()
        .filter(|(_, _, text, max)| text.trim().is_empty() || text.chars().count() > *max)
        .map(|(field, words, _, max)| (field, format!("Enter {words}, at most {max} characters")))
        .collect()
    }
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// Nobody has decided.
    Waiting,
    /// The licence was verified: the person is a doctor of the organisation.
    Verified {
        /// The account that was made.
        account: Address,
        /// The administrator.
        by: Address,
        /// When.
        at: Timestamp,
        /// How it was checked.
        how: String,
    },
    /// Declined.
    Declined {
        /// The administrator.
        by: Address,
        /// When.
        at: Timestamp,
        /// Why, for the applicant to read.
        reason: String,
    },
}

/// A request to be registered as a doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its id.
    pub id: B256,
    /// With whom.
    pub organization: OrganizationId,
    /// What is claimed.
    pub claim: Claim,
    /// When it was made.
    pub asked: Timestamp,
    /// Where it stands.
    pub standing: Standing,
}

/// Others of the same organisation with the same licence: for the administrator, never for the applicant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SameLicence {
    /// Members.
    pub members: Vec<Address>,
    /// Other requests.
    pub requests: Vec<B256>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    organization: Address,
    claim: Claim,
    asked: Timestamp,
    credential: Bytes,
    passkey: Known,
    /// The account that is being made, from the first step of it on: a second attempt goes on with it.
    account: Option<Address>,
    standing: Standing,
}

impl Kept {
    fn shown(self, id: B256) -> Application {
        Application {
            id,
            organization: OrganizationId(self.organization),
            claim: self.claim,
            asked: self.asked,
            standing: self.standing,
        }
    }

    fn expires(&self) -> Timestamp {
        match &self.standing {
            Standing::Waiting => self.asked.plus_ms(WAITING_MS),
            Standing::Declined { at, .. } => at.plus_ms(DECLINED_MS),
            Standing::Verified { .. } => FOR_GOOD,
        }
    }
}

impl Service {
    /// Organisations of this node with which doctors can register: those that have somebody to look at it.
    ///
    /// # Errors
    /// The index or the ledger can't answer.
    pub fn open_to_doctors(&self) -> Result<Vec<OrganizationId>> {
        let mut open = Vec::new();
        for organization in self.hosted_organizations()? {
            let members = self
                .index
                .chain()
                .accounts_of(organization.0, 2)
                .map_err(Error::index("listing administrators"))?;
            let has_administrator = members
                .iter()
                .any(|member| member.status == 1 && member.roles & role::ADMINISTRATOR != 0);
            if has_administrator {
                open.push(organization);
            }
        }
        Ok(open)
    }

    /// Takes a doctor's request in. Gives its id; the passkey signs in to it from now on.
    ///
    /// # Errors
    /// The claim has gaps, the organisation takes none, or the passkey does not answer the challenge.
    pub async fn apply(
        &self,
        site: &Site,
        organization: OrganizationId,
        claim: Claim,
        challenge: &[u8; 32],
        passkey: &NewPasskey,
    ) -> Result<B256> {
        if let Some((_, words)) = claim.problems().into_iter().next() {
            return Err(Error::Conflict { message: words });
        }
        if !self.open_to_doctors()?.contains(&organization) {
            return Err(Error::not_found(
                "organisation",
                "that doctors can register with",
            ));
        }
        let new = checked(site, challenge, passkey)?;
        let name = organization.to_string();
        let _turn = self
            .turns
            .take([("Applications", name.as_str())].into_iter())
            .await;
        let waiting = self.kept_applications(organization)?;
        let waiting = waiting
            .iter()
            .filter(|(_, kept)| kept.standing == Standing::Waiting);
        if waiting.count() >= WAITING_MAX {
            return Err(Error::Conflict {
                message:
                    "Too many requests wait here. Call the organisation, or try again in some days."
                        .into(),
            });
        }
        let now = self.clock.now();
        let kept = Kept {
            organization: organization.0,
            claim,
            asked: now,
            credential: new.credential.clone().into(),
            passkey: Known::new(&new, "First passkey", now),
            account: None,
            standing: Standing::Waiting,
        };
        let id = B256::from(random());
        if self.known_passkey(&new.credential)?.is_some() || !self.keep_application(&id, &kept)? {
            return Err(Error::Conflict {
                message:
                    "This passkey is already in use. Sign in with it, or choose another device."
                        .into(),
            });
        }
        Ok(id)
    }

    /// Checks the sign-in of somebody whose request waits or was declined, and gives the request. `None` for a passkey
    /// that belongs to no such request: then it may be an account's.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] with what is wrong.
    pub fn sign_in_applicant(
        &self,
        site: &Site,
        random: &[u8; 32],
        passkey: &PasskeyUse,
    ) -> Result<Option<B256>> {
        const WHAT: &str = "signing in";
        let found = self
            .index
            .local()
            .application_with(&passkey.credential, self.clock.now())
            .map_err(Error::index(WHAT))?;
        let Some((id, document)) = found else {
            return Ok(None);
        };
        let mut kept = parse(&document)?;
        if matches!(kept.standing, Standing::Verified { .. }) {
            return Ok(None);
        }
        let challenge = self.sign_in_challenge(random);
        kept.passkey
            .check_sign_in(site, &challenge, passkey, self.clock.now())?;
        self.keep_application(&id, &kept)?;
        Ok(Some(id))
    }

    /// A request, for whoever signed in to it.
    ///
    /// # Errors
    /// [`Error::NotFound`] also after it has expired.
    pub fn own_application(&self, id: &B256) -> Result<Application> {
        self.kept_application(id).map(|kept| kept.shown(*id))
    }

    /// Requests at the actor's organisation: those that wait first, then the newest.
    ///
    /// # Errors
    /// The actor is no administrator.
    pub fn applications(&self, actor: &Actor) -> Result<Vec<Application>> {
        self.require_administrator(actor)?;
        let mut list: Vec<Application> = self
            .kept_applications(actor.organization)?
            .into_iter()
            .map(|(id, kept)| kept.shown(id))
            .collect();
        list.sort_by_key(|one| {
            (
                one.standing != Standing::Waiting,
                std::cmp::Reverse(one.asked),
                one.id,
            )
        });
        Ok(list)
    }

    /// One request, and who else has the same licence.
    ///
    /// # Errors
    /// The actor is no administrator, or the request another organisation's.
    pub fn application(&self, actor: &Actor, id: &B256) -> Result<(Application, SameLicence)> {
        self.require_administrator(actor)?;
        let kept = self.application_at(actor, id)?;
        let mut same = SameLicence::default();
        let licence = plain(&kept.claim.licence);
        for (other, one) in self.kept_applications(actor.organization)? {
            let is_declined = matches!(one.standing, Standing::Declined { .. });
            if other != *id && !is_declined && plain(&one.claim.licence) == licence {
                match one.standing {
                    Standing::Verified { account, .. } => same.members.push(account),
                    Standing::Waiting | Standing::Declined { .. } => same.requests.push(other),
                }
            }
        }
        for member in self.members(actor)? {
            let is_own = kept.account == Some(member.account);
            if is_own || same.members.contains(&member.account) {
                continue;
            }
            // Only a commitment is recorded, so a licence is found again as somebody else may have written it.
            let written = kept.claim.licence.trim();
            for licence in [written, &written.to_uppercase(), &licence] {
                if self.has_licence(member.account, licence)? {
                    same.members.push(member.account);
                    break;
                }
            }
        }
        Ok((kept.shown(*id), same))
    }

    /// Takes an applicant in whose licence the administrator has checked: from the block of the registration on, a doctor
    /// of the organisation. A second attempt goes on where a first one was cut off.
    ///
    /// # Errors
    /// The actor is no administrator, it was decided before, or the ledger refuses.
    pub async fn verify_application(
        &self,
        site: &Site,
        actor: &Actor,
        id: &B256,
        how: &str,
    ) -> Result<Address> {
        self.require_administrator(actor)?;
        let name = id.to_string();
        let _turn = self
            .turns
            .take([("Application", name.as_str())].into_iter())
            .await;
        let mut kept = self.undecided(actor, id)?;
        let account = match kept.account {
            Some(account) => account,
            None => self.make_member_keys().await?,
        };
        kept.account = Some(account);
        self.keep_application(id, &kept)?;
        let words = format!("{}: {how}", kept.claim.name);
        self.noted(actor, Deed::VerifyLicence, Some(account), &words, async {
            self.enrol_applicant(site, &kept, account).await?;
            kept.standing = Standing::Verified {
                account,
                by: actor.account,
                at: self.clock.now(),
                how: how.to_owned(),
            };
            self.keep_application(id, &kept).map(drop)
        })
        .await?;
        Ok(account)
    }

    async fn enrol_applicant(&self, site: &Site, kept: &Kept, account: Address) -> Result<()> {
        let (organization, claim) = (OrganizationId(kept.organization), &kept.claim);
        if self.account(account)?.is_none() {
            let licence = claim.licence.trim();
            self.enrol_member(organization, account, role::DOCTOR, licence)
                .await?;
        }
        if self.known_passkey(&kept.credential)?.is_none() {
            let whose = (account, organization);
            self.bind_passkey(site, whose, &kept.credential, &kept.passkey)
                .await?;
        }
        self.describe_practitioner(organization, account, &claim.name, &claim.branch)
            .await
    }

    /// Declines a request.
    ///
    /// # Errors
    /// The actor is no administrator, or it was decided before.
    pub async fn decline_application(&self, actor: &Actor, id: &B256, reason: &str) -> Result<()> {
        self.require_administrator(actor)?;
        let name = id.to_string();
        let _turn = self
            .turns
            .take([("Application", name.as_str())].into_iter())
            .await;
        let mut kept = self.undecided(actor, id)?;
        if kept
            .account
            .map(|one| self.account(one))
            .transpose()?
            .flatten()
            .is_some()
        {
            return Err(Error::Conflict {
                message: "The account was registered already, and the last step was cut off. Verify again to finish it, then suspend the member.".into(),
            });
        }
        let words = format!("{}: {reason}", kept.claim.name);
        self.noted(actor, Deed::DeclineLicence, None, &words, async {
            kept.standing = Standing::Declined {
                by: actor.account,
                at: self.clock.now(),
                reason: reason.to_owned(),
            };
            self.keep_application(id, &kept).map(drop)
        })
        .await
    }

    fn undecided(&self, actor: &Actor, id: &B256) -> Result<Kept> {
        let kept = self.application_at(actor, id)?;
        if kept.standing == Standing::Waiting {
            return Ok(kept);
        }
        Err(Error::Conflict {
            message: "Somebody has already decided on this request.".into(),
        })
    }

    fn application_at(&self, actor: &Actor, id: &B256) -> Result<Kept> {
        let kept = self.kept_application(id)?;
        if kept.organization == actor.organization.0 {
            return Ok(kept);
        }
        Err(no_such())
    }

    fn kept_application(&self, id: &B256) -> Result<Kept> {
        let found = self
            .index
            .local()
            .application(id, self.clock.now())
            .map_err(Error::index("reading a request to be registered"))?;
        parse(&found.ok_or_else(no_such)?)
    }

    fn kept_applications(&self, organization: OrganizationId) -> Result<Vec<(B256, Kept)>> {
        self.index
            .local()
            .applications_of(organization.0, self.clock.now())
            .map_err(Error::index("listing requests to be registered"))?
            .into_iter()
            .map(|(id, document)| parse(&document).map(|kept| (id, kept)))
            .collect()
    }

    fn keep_application(&self, id: &B256, kept: &Kept) -> Result<bool> {
        const WHAT: &str = "keeping a request to be registered";
        let document = serde_json::to_vec(kept).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_application(
                id,
                kept.organization,
                &kept.credential,
                &document,
                kept.expires(),
            )
            .map_err(Error::index(WHAT))
    }
}

fn parse(document: &[u8]) -> Result<Kept> {
    serde_json::from_slice(document)
        .map_err(|error| Error::internal("reading a request to be registered", error))
}

fn no_such() -> Error {
    Error::not_found("request", "to be registered, or it is too old")
}

/// A licence's number without what people write differently: blanks, dashes, small letters.
fn plain(licence: &str) -> String {
    licence
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_uppercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_needs_everything() {
        let claim = Claim {
            name: "Dr Ines Okafor".into(),
            registration: "9".repeat(CLAIM_MAX + 1),
            address: "1 Harbour Street".into(),
            branch: " ".into(),
            licence: "MD 1".into(),
        };
        let fields: Vec<&str> = claim.problems().iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["registration", "branch"]);
    }

    #[test]
    fn a_licence_is_known_again_however_it_is_written() {
        assert_eq!(plain("md-12 34/ä"), "MD1234Ä");
        assert_ne!(plain("MD-1234"), plain("MD-1235"));
    }
}
