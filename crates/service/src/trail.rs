//! The trail of a record, answered from receipts and the ledger as FHIR AuditEvent and Provenance. These are
//! views: nobody writes them and nobody can change them.

use alloy_primitives::{Address, B256};
use serde_json::{Map, Value, json};
use stele_core::{
    consent::Purpose,
    id::PatientId,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use stele_index::{ResourceVersion, receipts::Appended, records::Leaf};

use crate::{
    Service,
    error::{Error, Result},
    ports::BlockRef,
    records::{SearchPage, Stored, Verification, bad_cursor},
    session::Actor,
};

/// System of pseudonymous accounts in identifiers.
const ACCOUNTS: &str = "https://stele.health/account";

impl Service {
    /// Accesses to a patient's record, newest first, refused ones too. For the patient, for those who may decide
    /// for them, and for administrators of their organisation. `cursor` is the id of the last one listed before:
    /// its place in its organisation's sequence.
    ///
    /// # Errors
    /// The actor may not see them, or the cursor is not one of this list.
    pub fn audit_events(
        &self,
        actor: &Actor,
        patient_id: &str,
        count: u32,
        cursor: Option<&str>,
    ) -> Result<SearchPage> {
        let patient = self.patient_account(actor, patient_id)?;
        self.require_decider(actor, patient)?;
        let before = match cursor {
            None => None,
            Some(id) => {
                let last = self.receipt_named(id)?;
                let last = last.filter(|last| last.receipt.log == patient.0);
                Some(last.ok_or_else(bad_cursor)?.receipt)
            }
        };
        let count = count.clamp(1, crate::records::COUNT_MAX);
        let mut found = self
            .index
            .local()
            .receipts_about(patient.0, before.as_ref(), count.saturating_add(1))
            .map_err(Error::index("listing accesses"))?;
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let is_more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| is_more)
            .map(|last| event_id(&last.receipt));
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

    /// One access by the id of its AuditEvent.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for an access to a record about which the actor may not decide.
    pub fn audit_event(&self, actor: &Actor, id: &str) -> Result<Stored> {
        let hidden = || Error::not_found("AuditEvent", id);
        let found = self.receipt_named(id)?.ok_or_else(hidden)?;
        let patient = PatientId(found.receipt.log);
        let name = self
            .index
            .search()
            .patient_named(patient)
            .map_err(Error::index("finding a patient"))?
            .ok_or_else(hidden)?;
        match self.require_decider(actor, patient) {
            Ok(()) => Ok(audit_event(&found, &name)),
            Err(Error::NotPermitted { .. }) => Err(hidden()),
            Err(error) => Err(error),
        }
    }

    /// The receipt that an AuditEvent's id means: an organisation and a place in its sequence. Of other members' sequences
    /// this node has what their custodians released of its patients' records.
    fn receipt_named(&self, id: &str) -> Result<Option<Appended>> {
        let Some((short, Ok(sequence))) = id
            .split_once('-')
            .map(|(short, sequence)| (short, sequence.parse::<u64>()))
        else {
            return Ok(None);
        };
        let known = self.all_organizations()?;
        let Some(organization) = known.into_iter().find(|one| hex_short(*one) == short) else {
            return Ok(None);
        };
        let found = self
            .index
            .local()
            .receipts_from(organization, sequence, 1)
            .map_err(Error::index("reading an access receipt"))?
            .pop();
        Ok(found.filter(|one| one.receipt.sequence == sequence))
    }

    /// Who wrote each version of a resource, when, and where it stands on the ledger; newest first.
    ///
    /// # Errors
    /// As for [`Service::read`].
    pub fn provenance(&self, actor: &Actor, resource_type: &str, id: &str) -> Result<Vec<Stored>> {
        const VERSIONS_MAX: u32 = 1000;
        let versions = self
            .index
            .search()
            .history(
                resource_type,
                id,
                None,
                VERSIONS_MAX,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(Error::index("reading provenance"))?;
        if versions.is_empty() {
            return Err(Error::not_found(resource_type, id));
        }
        versions
            .iter()
            .map(|version| self.provenance_of(version))
            .collect()
    }

    /// Who wrote one version, by the id of its Provenance: its log and its place there.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for a version that the actor may not see.
    pub fn provenance_at(&self, actor: &Actor, id: &str) -> Result<Stored> {
        const WHAT: &str = "reading provenance";
        let hidden = || Error::not_found("Provenance", id);
        let place = id.split_once('-').and_then(|(log, leaf)| {
            Some((log.parse::<Address>().ok()?, leaf.parse::<u64>().ok()?))
        });
        let (log, leaf) = place.ok_or_else(hidden)?;
        let search = self.index.search();
        let found = search
            .at_leaf(log, leaf)
            .map_err(Error::index(WHAT))?
            .ok_or_else(hidden)?;
        let seen = search
            .read(
                found.resource_type,
                &found.id,
                Some(found.version),
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(Error::index(WHAT))?;
        self.provenance_of(&seen.ok_or_else(hidden)?)
    }

    fn provenance_of(&self, version: &ResourceVersion) -> Result<Stored> {
        const WHAT: &str = "reading provenance";
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
        let block = self
            .ledger
            .block(BlockRef::Number(leaf.anchored.height))
            .map_err(Error::ledger(WHAT))?
            .map(|block| block.hash);
        let organization = self.organization_of(leaf.author)?;
        Ok(provenance(
            version,
            &Anchored {
                leaf,
                cid,
                block,
                organization: organization.0,
            },
        ))
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
    let id = event_id(receipt);
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

/// What the ledger says of one version.
struct Anchored {
    leaf: Leaf,
    cid: Option<String>,
    block: Option<B256>,
    organization: Address,
}

fn provenance(version: &ResourceVersion, anchored: &Anchored) -> Stored {
    let leaf = &anchored.leaf;
    let id = format!("{}-{}", alloy_primitives::hex::encode(leaf.log), leaf.index);
    let place = format!("{}/{}", version.resource_type, version.id);
    let activity = match (version.deleted, version.version) {
        (true, _) => "DELETE",
        (false, 1) => "CREATE",
        (false, _) => "UPDATE",
    };
    let at = leaf.anchored.at;
    let mut agent = Map::new();
    agent.insert(
        "type".into(),
        json!({ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
            "code": "author"
        }] }),
    );
    agent.insert("who".into(), account(leaf.author));
    if anchored.organization != leaf.author && !anchored.organization.is_zero() {
        agent.insert("onBehalfOf".into(), account(anchored.organization));
    }
    let mut entities = Vec::new();
    if version.version > 1 {
        let before = version.version.saturating_sub(1);
        entities.push(json!({
            "role": "revision", "what": { "reference": format!("{place}/_history/{before}") }
        }));
    }
    if let Some(cid) = &anchored.cid {
        entities.push(json!({ "role": "source", "what": { "identifier": {
            "system": "urn:ietf:rfc:3986", "value": format!("ipfs://{cid}")
        } } }));
    }
    let mut value = json!({
        "resourceType": "Provenance",
        "id": id,
        "meta": { "versionId": "1", "lastUpdated": at.to_instant() },
        "extension": [anchor_extension(&place, version.version, anchored)],
        "target": [{ "reference": format!("{place}/_history/{}", version.version) }],
        "recorded": at.to_instant(),
        "activity": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": activity
        }] },
        "agent": [agent]
    });
    if let Some(members) = value.as_object_mut().filter(|_| !entities.is_empty()) {
        members.insert("entity".into(), entities.into());
    }
    view("Provenance", id, 1, at, &value)
}

/// Where the version stands on the ledger, and where its proof is made.
fn anchor_extension(place: &str, version: u32, anchored: &Anchored) -> Value {
    let leaf = &anchored.leaf;
    let mut parts = vec![
        json!({ "url": "transaction", "valueString": leaf.anchored.tx.to_string() }),
        json!({ "url": "height", "valueString": leaf.anchored.height.to_string() }),
        json!({ "url": "log", "valueString": leaf.log.to_string() }),
        json!({ "url": "index", "valueString": leaf.index.to_string() }),
        json!({ "url": "leaf", "valueString": leaf.leaf.to_string() }),
        json!({ "url": "proof", "valueUri": format!("{place}/$proof?version={version}") }),
    ];
    if let Some(block) = anchored.block {
        parts.push(json!({ "url": "block", "valueString": block.to_string() }));
    }
    json!({ "url": "https://stele.health/fhir/anchor", "extension": parts })
}

fn account(address: Address) -> Value {
    json!({ "identifier": { "system": ACCOUNTS, "value": address.to_string() } })
}

fn event_id(receipt: &AccessReceipt) -> String {
    format!("{}-{}", hex_short(receipt.organization), receipt.sequence)
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
