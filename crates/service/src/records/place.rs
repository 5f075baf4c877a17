//! Where a resource belongs: whose log, which category, which version comes next.

use std::collections::HashMap;

use alloy_primitives::{Address, B256};
use serde_json::{Value, json};
use stele_core::{
    id::{PatientId, RecordId},
    leaf::{LeafKind, record_id},
    time::Timestamp,
};
use stele_fhir::{
    category,
    compartment::{PatientRef, patient_of},
    outcome::{Issue, IssueCode},
    reference::Reference,
    text::set_id_and_meta,
};
use stele_index::ResourceVersion;

use super::Write;
use crate::{
    Service,
    directory::role,
    error::{Error, Result},
    session::{Actor, ActorKind},
    transactions::Order,
};

/// A change with everything decided that can be decided before it is sealed.
pub(crate) struct Placed {
    pub(crate) resource_type: String,
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) record: RecordId,
    pub(crate) log: Address,
    pub(crate) patient: Option<PatientId>,
    pub(crate) category: u8,
    pub(crate) kind: LeafKind,
    pub(crate) previous: B256,
    pub(crate) last_updated: Timestamp,
    /// Text to be stored; for a tombstone type, id and meta only.
    pub(crate) text: String,
    /// The same as a tree, for the index.
    pub(crate) value: Value,
}

/// A change, placed: to be written, or found to change nothing.
pub(crate) enum Placement {
    Write(Box<Placed>),
    Nothing {
        resource_type: String,
        id: String,
        version: u32,
        last_updated: Timestamp,
        deleted: bool,
    },
}

/// New patients of a batch and the orders that register them.
#[derive(Default)]
pub(crate) struct NewPatients {
    pub(crate) by_id: HashMap<String, PatientId>,
    pub(crate) orders: Vec<Order>,
    /// Whose the resources are that were placed so far, by `Type/id`: what points at them belongs to the same.
    pub(crate) placed: HashMap<String, PatientId>,
}

impl Service {
    /// Places one change.
    pub(crate) async fn place(
        &self,
        actor: &Actor,
        write: Write,
        new: &mut NewPatients,
        now: Timestamp,
    ) -> Result<Placement> {
        match write {
            Write::Create { resource } => {
                let id = new_id();
                self.place_version(actor, resource, id, None, new, now)
                    .await
            }
            Write::Update {
                resource,
                id,
                if_match,
            } => {
                let current = self.locate(&resource.resource_type, &id)?;
                check_if_match(&resource.resource_type, &id, current.as_ref(), if_match)?;
                self.place_version(actor, resource, id, current, new, now)
                    .await
            }
            Write::Delete {
                resource_type,
                id,
                if_match,
            } => self.place_deletion(actor, resource_type, id, if_match, now),
        }
    }

    async fn place_version(
        &self,
        actor: &Actor,
        resource: stele_fhir::parse::Resource,
        id: String,
        current: Option<ResourceVersion>,
        new: &mut NewPatients,
        now: Timestamp,
    ) -> Result<Placement> {
        let resource_type = resource.resource_type;
        let record = record_id(self.organization, &resource_type, &id);
        let previous = match &current {
            Some(version) if version.placement.record != record => {
                return Err(kept_elsewhere(&resource_type, &id));
            }
            Some(version) => {
                if let Some(same) = self.unchanged(version, &record, &resource.text)? {
                    return Ok(same);
                }
                self.leaf_of(&record, version.version)?
            }
            None => B256::ZERO,
        };
        let (log, patient) = self
            .owner(
                actor,
                &resource_type,
                &id,
                &resource.value,
                current.as_ref(),
                new,
            )
            .await?;
        if let Some(patient) = patient {
            new.placed.insert(format!("{resource_type}/{id}"), patient);
        }
        let version = current
            .as_ref()
            .map_or(1, |version| version.version.saturating_add(1));
        let text = set_id_and_meta(&resource.text, &id, &version.to_string(), &now.to_instant())
            .map_err(|error| invalid(&resource_type, IssueCode::Structure, error.to_string()))?;
        let mut value = resource.value;
        self.name_patient(&mut value, patient)?;
        Ok(Placement::Write(Box::new(Placed {
            category: category::assign(&value).number(),
            kind: if version == 1 {
                LeafKind::Create
            } else {
                LeafKind::Amend
            },
            value,
            last_updated: now,
            resource_type,
            id,
            version,
            record,
            log,
            patient,
            previous,
            text,
        })))
    }

    fn place_deletion(
        &self,
        actor: &Actor,
        resource_type: String,
        id: String,
        if_match: Option<u32>,
        now: Timestamp,
    ) -> Result<Placement> {
        let visible = self
            .index
            .search()
            .read(&resource_type, &id, None, &actor.viewer(), now)
            .map_err(Error::index("finding a resource"))?;
        let Some(current) = visible else {
            return Err(Error::not_found(&resource_type, &id));
        };
        check_if_match(&resource_type, &id, Some(&current), if_match)?;
        if current.deleted {
            return Ok(Placement::Nothing {
                resource_type,
                id,
                version: current.version,
                last_updated: current.last_updated,
                deleted: true,
            });
        }
        if current.placement.record != record_id(self.organization, &resource_type, &id) {
            return Err(kept_elsewhere(&resource_type, &id));
        }
        if current.placement.patient.is_none() && current.placement.log != actor.organization.0 {
            return Err(not_owner(&resource_type, &id));
        }
        Ok(Placement::Write(Box::new(Placed {
            record: current.placement.record,
            previous: self.leaf_of(&current.placement.record, current.version)?,
            version: current.version.saturating_add(1),
            log: current.placement.log,
            patient: current.placement.patient,
            category: current.placement.category,
            kind: LeafKind::Tombstone,
            last_updated: now,
            // Sealed like any content, so that the index can be rebuilt with deletions in it.
            text: json!({
                "resourceType": resource_type,
                "id": id,
                "meta": {
                    "versionId": current.version.saturating_add(1).to_string(),
                    "lastUpdated": now.to_instant(),
                },
            })
            .to_string(),
            value: Value::Null,
            resource_type,
            id,
        })))
    }

    /// Whether the text is the current version's, told by the salted digest, without opening anything.
    fn unchanged(
        &self,
        current: &ResourceVersion,
        record: &RecordId,
        text: &str,
    ) -> Result<Option<Placement>> {
        if current.deleted {
            return Ok(None);
        }
        let meta = self
            .vault
            .meta(record, current.version)
            .map_err(Error::vault("reading a record's meta"))?;
        let Some(meta) = meta else { return Ok(None) };
        let same = set_id_and_meta(
            text,
            &current.id,
            &current.version.to_string(),
            &current.last_updated.to_instant(),
        );
        let same = same.is_ok_and(|text| {
            stele_core::leaf::content_digest(meta.element_salt.expose(), text.as_bytes())
                == meta.preimage.content
        });
        Ok(same.then(|| Placement::Nothing {
            resource_type: current.resource_type.to_owned(),
            id: current.id.clone(),
            version: current.version,
            last_updated: current.last_updated,
            deleted: false,
        }))
    }

    /// The log a resource stands in and the patient it is about.
    async fn owner(
        &self,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        value: &Value,
        current: Option<&ResourceVersion>,
        new: &mut NewPatients,
    ) -> Result<(Address, Option<PatientId>)> {
        let patient = match patient_of(value) {
            PatientRef::None => None,
            PatientRef::Own(_) => Some(match current {
                Some(version) => PatientId(version.placement.log),
                None => self.new_patient(actor, id, value, new).await?,
            }),
            PatientRef::One(reference) => {
                Some(self.patient_behind(resource_type, &reference, new)?)
            }
            PatientRef::Identified(system, value) if system == ACCOUNT_SYSTEM => {
                Some(self.patient_with_account(resource_type, &value)?)
            }
            PatientRef::Several(_) => {
                return Err(invalid(
                    resource_type,
                    IssueCode::NotSupported,
                    "the resource is about several patients; a record belongs to one",
                ));
            }
            PatientRef::Targets(targets) => self.patient_of_targets(&targets, new)?,
            PatientRef::Identified(..) | PatientRef::Unnamed => {
                return Err(invalid(
                    resource_type,
                    IssueCode::Required,
                    format!(
                        "the patient is named by text or another's identifier only; refer to it as Patient/id, or by \
                         an identifier of the system {ACCOUNT_SYSTEM}"
                    ),
                ));
            }
        };
        let log = patient.map_or(actor.organization.0, |patient| patient.0);
        if let Some(current) = current
            && (current.placement.log, current.placement.patient) != (log, patient)
        {
            if current.placement.patient.is_none() && patient.is_none() {
                return Err(not_owner(resource_type, id));
            }
            return Err(invalid(
                resource_type,
                IssueCode::BusinessRule,
                "an update may not move a resource to another patient",
            ));
        }
        Ok((log, patient))
    }

    /// The account of a patient whose Patient resource is new: one that keeps its own keys and says so by
    /// identifier, or one that this organisation manages from now on.
    async fn new_patient(
        &self,
        actor: &Actor,
        id: &str,
        value: &Value,
        new: &mut NewPatients,
    ) -> Result<PatientId> {
        if let Some(patient) = new.by_id.get(id) {
            return Ok(*patient);
        }
        if actor.kind == ActorKind::Patient {
            return Err(Error::NotPermitted {
                message: "patients are registered by an organisation".into(),
            });
        }
        let patient = match own_account(value)? {
            Some(account) => {
                let known = self.account(account)?.is_some_and(|found| {
                    found.kind == 3 && found.active && found.sponsor == actor.organization
                });
                if !known {
                    return Err(invalid(
                        "Patient",
                        IssueCode::NotFound,
                        "the account in Patient.identifier is not a patient of this organisation",
                    ));
                }
                PatientId(account)
            }
            None => {
                let (patient, orders) = self.prepare_patient(actor.organization).await?;
                new.orders.extend(orders);
                patient
            }
        };
        new.by_id.insert(id.to_owned(), patient);
        Ok(patient)
    }

    fn patient_behind(
        &self,
        resource_type: &str,
        reference: &str,
        new: &NewPatients,
    ) -> Result<PatientId> {
        let unknown = || {
            let named: String = reference.chars().take(100).collect();
            invalid(
                resource_type,
                IssueCode::NotFound,
                format!("the resource refers to {named}, a patient that this server does not have"),
            )
        };
        let Some(Reference::Relative {
            resource_type: "Patient",
            id,
            ..
        }) = Reference::parse(reference)
        else {
            return Err(unknown());
        };
        if let Some(patient) = new.by_id.get(id) {
            return Ok(*patient);
        }
        let found = self
            .locate("Patient", id)?
            .filter(|version| !version.deleted);
        found
            .and_then(|version| version.placement.patient)
            .ok_or_else(unknown)
    }

    /// The patient of any member with an account on the ledger: how somebody names a patient whose Patient resource is not
    /// open to them.
    fn patient_with_account(&self, resource_type: &str, value: &str) -> Result<PatientId> {
        let account = value.parse::<Address>().map_err(|_| {
            let message = "the account in the patient's identifier is not an address";
            invalid(resource_type, IssueCode::Value, message)
        })?;
        let known = self.account(account)?;
        if known.is_some_and(|found| found.kind == 3 && found.active) {
            return Ok(PatientId(account));
        }
        let message = format!("the account {account} in the patient's identifier is no patient's");
        Err(invalid(resource_type, IssueCode::NotFound, message))
    }

    /// Gives a logical reference to the patient its literal one beside it, so that the index finds the resource by it. The
    /// text that is stored stays as it was written.
    pub(crate) fn name_patient(&self, value: &mut Value, patient: Option<PatientId>) -> Result<()> {
        let Some(patient) = patient else {
            return Ok(());
        };
        for name in ["subject", "patient"] {
            let Some(Value::Object(element)) = value.get_mut(name) else {
                continue;
            };
            let system = element.get("identifier").and_then(|one| one.get("system"));
            if element.contains_key("reference")
                || system.and_then(Value::as_str) != Some(ACCOUNT_SYSTEM)
            {
                continue;
            }
            let named = self.index.search().patient_named(patient);
            if let Some(id) = named.map_err(Error::index("naming a patient"))? {
                element.insert("reference".into(), format!("Patient/{id}").into());
            }
        }
        Ok(())
    }

    /// The one patient that the targets of a Provenance or AuditEvent are about.
    fn patient_of_targets(
        &self,
        targets: &[String],
        new: &NewPatients,
    ) -> Result<Option<PatientId>> {
        for target in targets {
            let Some(Reference::Relative {
                resource_type, id, ..
            }) = Reference::parse(target)
            else {
                continue;
            };
            if resource_type == "Patient"
                && let Some(patient) = new.by_id.get(id)
            {
                return Ok(Some(*patient));
            }
            if let Some(patient) = new.placed.get(&format!("{resource_type}/{id}")) {
                return Ok(Some(*patient));
            }
            let found = self.locate(resource_type, id)?;
            if let Some(patient) = found.and_then(|version| version.placement.patient) {
                return Ok(Some(patient));
            }
        }
        // All targets may stand in the same batch; then they are about the batch's only new patient.
        let mut patients = new.by_id.values();
        Ok(match (patients.next(), patients.next()) {
            (Some(only), None) => Some(*only),
            _ => None,
        })
    }

    pub(crate) fn locate(&self, resource_type: &str, id: &str) -> Result<Option<ResourceVersion>> {
        self.index
            .search()
            .locate(resource_type, id)
            .map_err(Error::index("finding a resource"))
    }

    pub(crate) fn leaf_of(&self, record: &RecordId, version: u32) -> Result<B256> {
        const WHAT: &str = "reading a record's meta";
        let meta = self
            .vault
            .meta(record, version)
            .map_err(Error::vault(WHAT))?;
        meta.map(|meta| meta.leaf())
            .ok_or_else(|| Error::internal(WHAT, "the current version is not in the vault"))
    }

    /// Whether the actor administers its organisation: systems do, staff with the role do.
    pub(crate) fn is_administrator(&self, actor: &Actor) -> Result<bool> {
        Ok(match actor.kind {
            ActorKind::System => true,
            ActorKind::Patient => false,
            ActorKind::Practitioner => self
                .account(actor.account)?
                .is_some_and(|account| account.active && account.roles & role::ADMINISTRATOR != 0),
        })
    }
}

/// System of the identifier by which a Patient resource names the account of a patient with own keys.
pub const ACCOUNT_SYSTEM: &str = "https://stele.health/account";

fn own_account(patient: &Value) -> Result<Option<Address>> {
    let identifiers = patient.get("identifier").and_then(Value::as_array);
    let account = identifiers.into_iter().flatten().find(|identifier| {
        identifier.get("system").and_then(Value::as_str) == Some(ACCOUNT_SYSTEM)
    });
    let Some(value) = account.and_then(|identifier| identifier.get("value")) else {
        return Ok(None);
    };
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            invalid(
                "Patient",
                IssueCode::Value,
                "the account in Patient.identifier is not an address",
            )
        })
}

fn check_if_match(
    resource_type: &str,
    id: &str,
    current: Option<&ResourceVersion>,
    if_match: Option<u32>,
) -> Result<()> {
    let Some(expected) = if_match else {
        return Ok(());
    };
    let found = current.map_or(0, |version| version.version);
    if found == expected {
        return Ok(());
    }
    Err(Error::PreconditionFailed {
        message: format!("{resource_type}/{id} is at version {found}, If-Match names {expected}"),
    })
}

fn not_owner(resource_type: &str, id: &str) -> Error {
    Error::NotPermitted {
        message: format!("{resource_type}/{id} belongs to another organisation"),
    }
}

pub(crate) fn invalid(
    resource_type: &str,
    code: IssueCode,
    diagnostics: impl Into<String>,
) -> Error {
    Error::Invalid {
        issues: vec![Issue::error(code, diagnostics).at(resource_type)],
        unreadable: false,
    }
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What another member keeps is changed there: the version that counts is the one in its vault.
fn kept_elsewhere(resource_type: &str, id: &str) -> Error {
    Error::Conflict {
        message: format!(
            "{resource_type}/{id} is kept by another member of the consortium and can be changed only there"
        ),
    }
}
