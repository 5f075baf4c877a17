//! The trail of a record, answered from receipts and the ledger as FHIR AuditEvent and Provenance. These are
//! views: nobody writes them and nobody can change them.

use std::sync::Arc;

use alloy_primitives::Address;
use serde_json::{Value, json};
use stele_core::{
    consent::Purpose,
    id::PatientId,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use stele_index::{ResourceVersion, receipts::Appended};

use crate::{
    Service,
    error::{Error, Result},
    records::{SearchPage, Stored, Verification},
    session::Actor,
};

/// System of pseudonymous accounts in identifiers.
const ACCOUNTS: &str = "https://stele.health/account";

impl Service {
    /// Accesses to a patient's record, newest first, refused ones too. For the patient, for those who may decide
    /// for them, and for administrators of their organisation. `cursor` is the time up to which is listed.
    ///
    /// # Errors
    /// The actor may not see them.
    pub fn audit_events(
        &self,
        actor: &Actor,
        patient_id: &str,
        count: u32,
        cursor: Option<&str>,
    ) -> Result<SearchPage> {
        const WHAT: &str = "listing accesses";
        let patient = self.patient_account(actor, patient_id)?;
        self.grants_of(actor, patient)?;
        let until = match cursor {
            None => Timestamp(u64::MAX >> 1),
            Some(text) => Timestamp(text.parse().map_err(|_| Error::Invalid {
                issues: vec![stele_fhir::outcome::Issue::error(
                    stele_fhir::outcome::IssueCode::Value,
                    "the page's cursor is not one of this list",
                )],
                unreadable: true,
            })?),
        };
        let count = count.clamp(1, crate::records::COUNT_MAX);
        let found = self
            .index
            .local()
            .receipts_about(patient.0, until, count)
            .map_err(Error::index(WHAT))?;
        let full = found.len() >= usize::try_from(count).unwrap_or(usize::MAX);
        let next = found
            .last()
            .filter(|_| full)
            .map(|last| last.receipt.at_ms.saturating_sub(1).to_string());
        let matches = found
            .iter()
            .map(|one| audit_event(one, patient_id))
            .collect();
        Ok(SearchPage {
            matches,
            next,
            ..SearchPage::default()
        })
    }

    /// Who wrote each version of a resource, when, and where it stands on the ledger.
    ///
    /// # Errors
    /// As for [`Service::read`].
    pub fn provenance(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<SearchPage> {
        const WHAT: &str = "reading provenance";
        let versions = self
            .index
            .search()
            .history(
                resource_type,
                id,
                None,
                1000,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(Error::index(WHAT))?;
        if versions.is_empty() {
            return Err(Error::not_found(resource_type, id));
        }
        let mut matches = Vec::with_capacity(versions.len());
        for version in &versions {
            let place = &version.placement;
            let leaf = self
                .index
                .chain()
                .leaf(place.log, place.leaf)
                .map_err(Error::index(WHAT))?
                .ok_or_else(|| Error::internal(WHAT, "a version's leaf is not indexed"))?;
            let cid = self
                .vault
                .meta(&place.record, version.version)
                .map_err(Error::vault(WHAT))?
                .and_then(|meta| meta.cid().ok().flatten())
                .map(|cid| cid.to_string());
            matches.push(provenance_of(version, &leaf, cid.as_deref()));
        }
        Ok(SearchPage {
            matches,
            ..SearchPage::default()
        })
    }

    /// The account behind a Patient resource that the actor may see.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none for this actor.
    pub fn patient_account(&self, actor: &Actor, patient_id: &str) -> Result<PatientId> {
        let now = self.clock.now();
        let found = self
            .index
            .search()
            .read("Patient", patient_id, None, &actor.viewer(), now)
            .map_err(Error::index("finding a patient"))?;
        if let Some(patient) = found.and_then(|version| version.placement.patient) {
            return Ok(patient);
        }
        // Who may decide for a patient finds them also without a grant.
        let hidden = self
            .locate("Patient", patient_id)?
            .and_then(|v| v.placement.patient);
        hidden
            .filter(|patient| self.grants_of(actor, *patient).is_ok())
            .ok_or_else(|| Error::not_found("Patient", patient_id))
    }
}

fn audit_event(appended: &Appended, patient_id: &str) -> Stored {
    let receipt = &appended.receipt;
    let id = format!("{}-{}", hex_short(receipt.organization), receipt.sequence);
    let action = AccessAction::from_code(receipt.action);
    let (code, interaction) = match action {
        Some(AccessAction::Read) => ("R", "read"),
        Some(AccessAction::Search) => ("E", "search-type"),
        Some(AccessAction::History) => ("R", "history"),
        Some(AccessAction::Export) => ("R", "everything"),
        Some(AccessAction::Write) => ("C", "create"),
        Some(AccessAction::Delete) => ("D", "delete"),
        Some(AccessAction::Maintenance) => ("E", "maintenance"),
        Some(AccessAction::Proof) => ("R", "proof"),
        None => ("E", "unknown"),
    };
    let at = Timestamp(receipt.at_ms);
    let value = json!({
        "resourceType": "AuditEvent",
        "id": id,
        "meta": { "versionId": "1", "lastUpdated": at.to_instant() },
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
            "code": "rest",
            "display": "RESTful Operation"
        },
        "subtype": [{ "system": "https://stele.health/access-action", "code": interaction }],
        "action": code,
        "recorded": at.to_instant(),
        "outcome": if receipt.allowed { "0" } else { "4" },
        "outcomeDesc": if receipt.allowed { "Success" } else { "Refused" },
        "purposeOfEvent": purposes(receipt),
        "agent": [{
            "who": account(receipt.actor),
            "requestor": true
        }, {
            "who": account(receipt.organization),
            "requestor": false
        }],
        "source": { "observer": account(receipt.organization) },
        "entity": [{
            "what": { "reference": format!("Patient/{patient_id}") },
            "detail": [
                { "type": "records", "valueString": receipt.records.to_string() },
                { "type": "receipt", "valueString": appended.digest.to_string() },
                { "type": "sequence", "valueString": receipt.sequence.to_string() }
            ]
        }]
    });
    view("AuditEvent", id, 1, at, &value)
}

fn purposes(receipt: &AccessReceipt) -> Value {
    Purpose::ALL
        .into_iter()
        .filter(|purpose| receipt.purposes & purpose.bit() != 0)
        .map(|purpose| {
            json!({ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
                "code": purpose.code()
            }] })
        })
        .collect()
}

fn provenance_of(
    version: &ResourceVersion,
    leaf: &stele_index::records::Leaf,
    cid: Option<&str>,
) -> Stored {
    let id = format!("{}.{}", version.id, version.version);
    let activity = match (version.deleted, version.version) {
        (true, _) => "DELETE",
        (false, 1) => "CREATE",
        (false, _) => "UPDATE",
    };
    let mut entity = Vec::new();
    if let Some(cid) = cid {
        entity.push(json!({ "role": "source", "what": { "identifier": {
            "system": "urn:ietf:rfc:3986", "value": format!("ipfs://{cid}")
        } } }));
    }
    let value = json!({
        "resourceType": "Provenance",
        "id": id,
        "meta": { "versionId": "1", "lastUpdated": leaf.anchored.at.to_instant() },
        "target": [{
            "reference": format!("{}/{}/_history/{}", version.resource_type, version.id, version.version)
        }],
        "recorded": leaf.anchored.at.to_instant(),
        "activity": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": activity
        }] },
        "agent": [{
            "type": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "author"
            }] },
            "who": account(leaf.author)
        }],
        "entity": entity,
        "extension": [{
            "url": "https://stele.health/fhir/anchor",
            "extension": [
                { "url": "transaction", "valueString": leaf.anchored.tx.to_string() },
                { "url": "height", "valueString": leaf.anchored.height.to_string() },
                { "url": "log", "valueString": leaf.log.to_string() },
                { "url": "index", "valueString": leaf.index.to_string() },
                { "url": "leaf", "valueString": leaf.leaf.to_string() }
            ]
        }]
    });
    view("Provenance", id, 1, leaf.anchored.at, &value)
}

fn account(address: Address) -> Value {
    json!({ "identifier": { "system": ACCOUNTS, "value": address.to_string() } })
}

fn hex_short(address: Address) -> String {
    alloy_primitives::hex::encode(address.as_slice().get(..6).unwrap_or_default())
}

fn view(resource_type: &str, id: String, version: u32, at: Timestamp, value: &Value) -> Stored {
    Stored {
        resource_type: resource_type.into(),
        id,
        version,
        last_updated: at,
        deleted: false,
        text: value.to_string().into(),
        state: Verification::Verified,
    }
}
