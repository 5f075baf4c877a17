//! Entries that a patient who holds the keys seals in the browser.
//!
//! 1. [`Service::offer_sealing`] names the records, and gives for each the place of the key and the custodian's half of it.
//! 2. [`Service::take_sealed`] stores what came of it, as a write that waits, and makes the transaction that anchors it.
//! 3. [`Service::record_sealed`] sends that with the passkey's signature; from its block on the entries stand.
//!
//! What is never signed is taken back: after ten minutes, or at the next start. The content never comes here: what can be
//! checked without it is checked, and who reads the entries later finds out whether they are what they say
//! ([`Service::is_what_it_says`]).

use std::{collections::BTreeMap, io, sync::Arc};

use alloy_primitives::{Address, B256, Bytes as CallBytes};
use alloy_rlp::Encodable as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stele_core::{
    consent::Permissions,
    crypto::Secret32,
    id::{OrganizationId, PatientId, RECORDS, RecordId},
    leaf::{LeafKind, LeafPreimage, record_id},
    time::Timestamp,
    tx::{AccountSignature, AccountTransaction, Transaction},
};
use stele_fhir::category::Category;
use stele_vault::{
    RecordMeta, SealedBatch,
    elsewhere::{Reserved, SealedElsewhere},
};

use super::own;
use crate::{
    Service,
    error::{Error, Result},
    people::{PasskeyUse, ToSign},
    records::{
        JournalEntry, JournalVersion, LeafPlace, Recorded, Ticket, Watch, gas_of, is_unsettled,
        new_id, places_of,
    },
    session::Actor,
    transactions::Order,
};

/// Most records of one offer: an entry and the content of its file are two.
const RECORDS_MAX: usize = 8;
/// Most offers, and most batches waiting for their signature, of one account.
const WAITING_MAX: usize = 16;
/// How long an offer waits for what is sealed, and that for its signature, in milliseconds. As long as a draft.
const WAIT_MS: u64 = 10 * 60 * 1000;
/// Longest text of an entry in bytes. A file has the caller's limit.
pub(crate) const TEXT_MAX: u64 = 1 << 20;
const BINARY: &str = "Binary";
const WHAT: &str = "recording what a patient sealed";

/// A record that the patient is about to seal.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// FHIR resource type.
    pub resource_type: String,
    /// Part of the record it belongs to: a name of [`Category`].
    pub category: String,
    /// The entry of the patient's own that it is a new version of.
    #[serde(default)]
    pub amends: Option<Amended>,
}

/// An entry of the patient's own, as the patient sees it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amended {
    /// FHIR logical id.
    pub id: String,
    /// Its version.
    pub version: u32,
}

/// What the browser needs to seal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingOffer {
    /// Names the offer when what is sealed is handed over. It ends after ten minutes.
    pub id: String,
    /// The patient's account, the author.
    pub author: Address,
    /// The patient's resource: `Patient/id`.
    pub subject: String,
    /// The records, in the order they were wanted.
    pub records: Vec<Room>,
}

/// Room for one record version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// FHIR resource type.
    pub resource_type: String,
    /// FHIR logical id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// When it is written: goes into the resource's `meta`.
    pub last_updated: String,
    /// The record.
    pub record: RecordId,
    /// What its leaf does.
    pub kind: LeafKind,
    /// Leaf of the version before; zero for the first.
    pub previous: B256,
    /// Number of the category.
    pub category: u8,
    /// Generation of the patient's key that it is sealed to.
    pub generation: u32,
    /// Month of that key, from January 1970.
    pub month: u16,
    /// The custodian's half of the record's key: 32 bytes in base64.
    pub pepper: String,
}

/// A record as the browser sealed it; its ciphertext comes apart. Byte strings are in base64.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedEntry {
    /// What its leaf commits to.
    pub leaf: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: B256,
    /// Salt of the content's digest and of the element tree: 32 bytes.
    pub element_salt: String,
    /// The encapsulation that its key is wrapped under.
    pub encapsulation: String,
    /// The wrapped key: 48 bytes.
    pub wrapped: String,
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// Length of the ciphertext in bytes.
    pub sealed_bytes: u64,
}

/// A transaction that waits for the passkey, with its bytes for the browser to check.
#[derive(Clone, Debug)]
pub struct SealedDraft {
    /// The draft and what the passkey signs.
    pub to_sign: ToSign,
    /// RLP of the call that is signed.
    pub call: CallBytes,
}

struct Offered {
    account: Address,
    expires: Timestamp,
    records: Vec<(JournalVersion, LeafKind, B256, Reserved)>,
}

struct Waiting {
    account: Address,
    expires: Timestamp,
    ticket: Ticket,
    metas: Vec<RecordMeta>,
}

/// What waits: offers for what is sealed, batches for their signatures. In memory: a start takes back what was not signed.
#[derive(Default)]
pub(crate) struct Sealing {
    offers: Mutex<BTreeMap<String, Offered>>,
    waiting: Mutex<BTreeMap<String, Waiting>>,
}

impl Service {
    /// Makes room for records that the patient seals.
    ///
    /// # Errors
    /// The actor is no patient who holds the keys; a type or category that is none; an entry that is not the patient's own
    /// or has changed.
    pub async fn offer_sealing(
        self: &Arc<Self>,
        actor: &Actor,
        wanted: &[Wanted],
    ) -> Result<SealingOffer> {
        let patient = own(actor)?;
        if !self.holds_own_keys(patient)? {
            return Err(conflict("the organisation keeps this patient's keys"));
        }
        if wanted.is_empty() || wanted.len() > RECORDS_MAX {
            return Err(conflict("one to eight records are sealed at once"));
        }
        self.vault.require_room().map_err(Error::vault(WHAT))?;
        self.end_expired().await?;
        let now = self.clock.now();
        let mut rooms = Vec::with_capacity(wanted.len());
        let mut records = Vec::with_capacity(wanted.len());
        for one in wanted {
            let (version, kind, previous) = self.placed_for(actor, patient, one, now)?;
            let reserved = self
                .vault
                .reserve(
                    patient.0,
                    version.record,
                    version.version,
                    version.category,
                    now,
                )
                .map_err(Error::vault(WHAT))?;
            rooms.push(Room {
                resource_type: version.resource_type.clone(),
                id: version.id.clone(),
                version: version.version,
                last_updated: now.to_instant(),
                record: version.record,
                kind,
                previous,
                category: version.category,
                generation: reserved.place.generation,
                month: reserved.place.epoch,
                pepper: STANDARD.encode(reserved.pepper.secret().expose()),
            });
            records.push((version, kind, previous, reserved));
        }
        let id = new_id();
        let offered = Offered {
            account: actor.account,
            expires: now.plus_ms(WAIT_MS),
            records,
        };
        let mut offers = self.sealing.offers.lock();
        let mine = offers.values().filter(|one| one.account == actor.account);
        if mine.count() >= WAITING_MAX {
            // The oldest would end first; whoever makes so many has given it up.
            let oldest = offers
                .iter()
                .filter(|(_, one)| one.account == actor.account)
                .min_by_key(|(_, one)| one.expires)
                .map(|(id, _)| id.clone());
            oldest.and_then(|id| offers.remove(&id));
        }
        offers.insert(id.clone(), offered);
        Ok(SealingOffer {
            id,
            author: actor.account,
            subject: self.patient_reference(patient)?,
            records: rooms,
        })
    }

    /// What a wanted record is, and what its leaf follows.
    fn placed_for(
        &self,
        actor: &Actor,
        patient: PatientId,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<(JournalVersion, LeafKind, B256)> {
        let resource_type = wanted.resource_type.as_str();
        let category = Category::from_name(&wanted.category)
            .ok_or_else(|| conflict("the entry's part of the record is unknown"))?;
        // Who somebody is stands with the organisation that checked it.
        if !stele_fhir::is_resource_type(resource_type) || resource_type == "Patient" {
            return Err(conflict("patients add no entries of this type"));
        }
        let version = |id: String, version: u32| JournalVersion {
            record: record_id(self.organization, resource_type, &id),
            version,
            resource_type: resource_type.to_owned(),
            id,
            patient: Some(patient),
            category: category.number(),
            last_updated: now,
        };
        let Some(amends) = &wanted.amends else {
            return Ok((version(new_id(), 1), LeafKind::Create, B256::ZERO));
        };
        let current = self
            .locate(resource_type, &amends.id)?
            .filter(|current| current.placement.log == patient.0 && !current.deleted)
            .ok_or_else(|| Error::not_found(resource_type, &amends.id))?;
        let placed = self.placed(resource_type, &amends.id, current.version)?;
        if placed.is_none_or(|placed| placed.author != actor.account) {
            return Err(Error::NotPermitted {
                message: "patients change entries of their own only".into(),
            });
        }
        if current.version != amends.version {
            return Err(Error::PreconditionFailed {
                message: "the entry has changed since it was read".into(),
            });
        }
        let next = version(amends.id.clone(), current.version.saturating_add(1));
        let previous = self.leaf_of(&next.record, current.version)?;
        Ok((next, LeafKind::Amend, previous))
    }

    /// Stores what was sealed, one ciphertext after the other from `body`, and makes the transaction that anchors it.
    /// Nothing is kept unless all of it came and fits.
    ///
    /// # Errors
    /// The offer is unknown or has ended; what came does not fit it; a file larger than `max_bytes`.
    pub async fn take_sealed(
        self: &Arc<Self>,
        actor: &Actor,
        offer: &str,
        sealed: Vec<SealedEntry>,
        max_bytes: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<SealedDraft> {
        let offered = self.sealing.offers.lock().remove(offer);
        let now = self.clock.now();
        let offered = offered
            .filter(|one| one.account == actor.account && one.expires > now)
            .ok_or_else(|| conflict("it took too long; begin again"))?;
        if offered.records.len() != sealed.len() {
            return Err(conflict("another number of records was sealed"));
        }
        let batch = self.taken(actor, &offered, sealed, max_bytes, body).await?;
        let entry = JournalEntry {
            author: actor.account,
            sender: actor.account,
            versions: offered.records.into_iter().map(|one| one.0).collect(),
            orders: Vec::new(),
            promise: None,
        };
        let ticket = self.begin(actor, entry, &Watch::default())?;
        let metas = match self.vault.commit(batch).await.map_err(unfit) {
            Ok(metas) => metas,
            Err(error) => {
                self.discard(&ticket, &error).await?;
                return Err(error);
            }
        };
        match self.draft_sealed(actor, &metas) {
            Ok(draft) => {
                let waiting = Waiting {
                    account: actor.account,
                    expires: now.plus_ms(WAIT_MS),
                    ticket,
                    metas,
                };
                let id = draft.to_sign.id.clone();
                self.sealing.waiting.lock().insert(id, waiting);
                Ok(draft)
            }
            Err(error) => {
                self.discard(&ticket, &error).await?;
                Err(error)
            }
        }
    }

    /// Takes the ciphertexts in, each checked against its leaf.
    async fn taken(
        &self,
        actor: &Actor,
        offered: &Offered,
        sealed: Vec<SealedEntry>,
        max_bytes: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<SealedBatch> {
        let mut pieces = Pieces {
            body,
            held: Bytes::new(),
        };
        let mut whole: Option<SealedBatch> = None;
        for ((version, kind, previous, reserved), one) in offered.records.iter().zip(sealed) {
            let is_file = version.resource_type == BINARY;
            let most = if is_file { max_bytes } else { TEXT_MAX };
            if one.size_bytes > most {
                return Err(Error::TooLarge {
                    message: format!("an entry of this kind may have at most {most} bytes"),
                });
            }
            let fits = (one.leaf.kind, one.leaf.author, one.leaf.previous)
                == (*kind, actor.account, *previous)
                && one.leaf.element_root.is_zero() == is_file;
            if !fits {
                return Err(conflict("the leaf is not what was agreed"));
            }
            let mut left = one.sealed_bytes;
            let mut taking = self
                .vault
                .take_sealed(reserved, one.elsewhere()?)
                .map_err(unfit)?;
            while left > 0 {
                let piece = pieces.next(left).await?;
                left = left.saturating_sub(piece.len() as u64);
                taking.push(&piece).await.map_err(unfit)?;
            }
            let batch = taking.finish().await.map_err(unfit)?;
            whole = Some(match whole {
                Some(before) => before.and(batch),
                None => batch,
            });
        }
        whole.ok_or_else(|| conflict("nothing was sealed"))
    }

    fn draft_sealed(&self, actor: &Actor, metas: &[RecordMeta]) -> Result<SealedDraft> {
        let sender = actor.account;
        let custodian = self.organization_hosting(sender);
        let call = self.anchor_call(sender, sender, custodian, metas)?;
        let gas = gas_of(metas.len(), call.entries.len());
        let (id, call) = self.keep_own_call(RECORDS, gas, PatientId(sender), &call)?;
        let mut encoded = Vec::new();
        call.encode(&mut encoded);
        Ok(SealedDraft {
            to_sign: ToSign {
                id,
                challenge: call.signing_hash(),
            },
            call: encoded.into(),
        })
    }

    /// Sends the transaction that the passkey signed, and waits until the entries stand and are found. To be polled to its
    /// end, whoever asked. Gives `Type/id` of each.
    ///
    /// # Errors
    /// The draft ended, the passkey signed something else, or the ledger refuses; then nothing is kept.
    pub async fn record_sealed(
        self: &Arc<Self>,
        actor: &Actor,
        draft: &str,
        passkey: &PasskeyUse,
    ) -> Result<Vec<String>> {
        let (call, _) = self.read_draft(actor, draft)?;
        let waiting = self.sealing.waiting.lock().remove(draft);
        let Waiting { ticket, metas, .. } = waiting
            .filter(|one| one.account == actor.account)
            .ok_or_else(|| conflict("it took too long; begin again"))?;
        let order = Order {
            to: call.to,
            input: call.input.clone(),
            gas: call.gas_limit,
        };
        let sent = async {
            let signature = AccountSignature::WebAuthn(self.assertion_of(actor.account, passkey)?);
            let signed = Transaction::Account(Box::new(AccountTransaction { call, signature }));
            let hash = self
                .ledger
                .submit(signed.encode())
                .await
                .map_err(Error::ledger(WHAT))?;
            let receipt = self
                .settled_at_last(WHAT, actor.account, hash, &order)
                .await?;
            places_of(&metas, &receipt)
        };
        let places = match sent.await {
            Ok(places) => places,
            Err(error) => {
                if !is_unsettled(&error) {
                    self.discard(&ticket, &error).await?;
                }
                return Err(error);
            }
        };
        let versions = ticket.entry().versions;
        let recorded: Vec<Recorded> = versions
            .iter()
            .zip(&metas)
            .zip(&places)
            .map(|((version, meta), place)| {
                Recorded::again(version, meta.preimage.kind, place.height)
            })
            .collect();
        let named = versions
            .iter()
            .map(|one| format!("{}/{}", one.resource_type, one.id))
            .collect();
        self.index_sealed(versions, metas, places).await?;
        self.finish(&ticket, recorded)?;
        self.end_draft(draft)?;
        Ok(named)
    }

    async fn index_sealed(
        self: &Arc<Self>,
        versions: Vec<JournalVersion>,
        metas: Vec<RecordMeta>,
        places: Vec<LeafPlace>,
    ) -> Result<()> {
        let mut opened = Vec::with_capacity(versions.len());
        for ((version, meta), place) in versions.into_iter().zip(metas).zip(places) {
            let text = self.text_for_index(&version, &meta).await?;
            opened.push((version, meta, place, text));
        }
        self.index_opened(opened).await
    }

    /// What the index gets of a version of a patient of this node: its content where the hosting organisation may read it,
    /// else what can be said without.
    pub(crate) async fn text_for_index(
        self: &Arc<Self>,
        version: &JournalVersion,
        meta: &RecordMeta,
    ) -> Result<String> {
        let is_own = version
            .patient
            .map_or(Ok(false), |patient| self.holds_own_keys(patient))?;
        if !is_own {
            return self.open_for_index(version, meta).await;
        }
        let slot = 1_u64
            .checked_shl(meta.preimage.category_slot.into())
            .unwrap_or(0);
        let hosting = self.maintenance(meta.log);
        if self.open_slots(&hosting, meta.log, Permissions::READ)? & slot == 0 {
            return Ok(version.outline());
        }
        match self.open_for_index(version, meta).await {
            Ok(text) => Ok(text),
            Err(error) => {
                tracing::warn!(record = %version.record, %error, "an entry of a patient can't be indexed by its content");
                Ok(version.outline())
            }
        }
    }

    /// Whether the text that a patient sealed is the resource that its record is named after. What others wrote was checked
    /// when it was written; this could not be.
    pub(crate) fn is_what_it_says(&self, meta: &RecordMeta, text: &str) -> bool {
        if meta.preimage.author != meta.log {
            return true;
        }
        // Ids of another member's records were given by an organisation that the meta does not name for certain, so there it
        // is enough that it is one resource.
        let named = meta
            .custodian
            .is_none()
            .then(|| (self.organization, meta.record()));
        is_resource(text, named)
    }

    /// Takes back what waited too long for its signature, and forgets offers that ended.
    async fn end_expired(&self) -> Result<()> {
        let now = self.clock.now();
        self.sealing
            .offers
            .lock()
            .retain(|_, one| one.expires > now);
        let ended: Vec<Waiting> = {
            let mut waiting = self.sealing.waiting.lock();
            let over: Vec<String> = waiting
                .iter()
                .filter(|(_, one)| one.expires <= now)
                .map(|(id, _)| id.clone())
                .collect();
            over.iter().filter_map(|id| waiting.remove(id)).collect()
        };
        for one in ended {
            self.discard(&one.ticket, &conflict("it was not signed in time"))
                .await?;
        }
        Ok(())
    }
}

impl SealedEntry {
    fn elsewhere(self) -> Result<SealedElsewhere> {
        let read = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| conflict("a part of what was sealed is not base64"))
        };
        let wrong = |_| conflict("a part of what was sealed has a wrong length");
        Ok(SealedElsewhere {
            element_salt: Secret32::new(read(&self.element_salt)?.try_into().map_err(wrong)?),
            wrapped: read(&self.wrapped)?.try_into().map_err(wrong)?,
            encapsulation: read(&self.encapsulation)?,
            preimage: self.leaf,
            leaf_salt: self.leaf_salt.into(),
            size_bytes: self.size_bytes,
        })
    }
}

/// A body in pieces that never reach past the record they belong to.
struct Pieces<S> {
    body: S,
    held: Bytes,
}

impl<S: Stream<Item = io::Result<Bytes>> + Send + Unpin> Pieces<S> {
    async fn next(&mut self, most: u64) -> Result<Bytes> {
        while self.held.is_empty() {
            self.held = match self.body.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    return Err(conflict(&format!("the content ended early: {error}")));
                }
                None => return Err(conflict("the content ended early")),
            };
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let length = self.held.remaining().min(most);
        Ok(self.held.split_to(length))
    }
}

/// Whether a text is one JSON object with type and id, and those of a record where it is given with who named it.
fn is_resource(text: &str, named: Option<(OrganizationId, RecordId)>) -> bool {
    let said: Option<Value> = serde_json::from_str(text).ok();
    let member = |name: &str| said.as_ref()?.get(name)?.as_str();
    match (member("resourceType"), member("id")) {
        (Some(resource_type), Some(id)) => named.is_none_or(|(organization, record)| {
            record_id(organization, resource_type, id) == record
        }),
        _ => false,
    }
}

fn conflict(message: &str) -> Error {
    Error::Conflict {
        message: message.to_owned(),
    }
}

/// What came from outside and does not fit is the sender's matter, not the node's.
fn unfit(error: stele_vault::Error) -> Error {
    use stele_vault::Error as Vault;
    match error {
        Vault::Malformed { .. } | Vault::Crypto { .. } | Vault::Exists { .. } => Error::Conflict {
            message: error.to_string(),
        },
        other => Error::vault(WHAT)(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given to readers verbatim, inside of Bundles too, is one resource and the one it is said to be.
    #[test]
    fn what_a_patient_sealed_has_to_be_what_its_record_is_named() {
        let organization = OrganizationId(Address::repeat_byte(1));
        let record = record_id(organization, "Observation", "a1");
        let good = r#"{"resourceType":"Observation","id":"a1","status":"final"}"#;
        let named = |organization| Some((organization, record));
        assert!(is_resource(good, named(organization)) && is_resource(good, None));
        for bad in [
            "",
            "{}",
            "not JSON",
            r#"{"resourceType":"Observation","id":"a2"}"#,
            r#"{"resourceType":"Condition","id":"a1"}"#,
            r#"[{"resourceType":"Observation","id":"a1"}]"#,
            r#"{"resourceType":"Observation","id":"a1"}},{"resource":{}"#,
        ] {
            assert!(!is_resource(bad, named(organization)), "{bad}");
        }
        assert!(!is_resource("{}", None) && !is_resource(r#"{"id":"a1"}},{}"#, None));
        let other = OrganizationId(Address::repeat_byte(2));
        assert!(!is_resource(good, named(other)));
    }
}
