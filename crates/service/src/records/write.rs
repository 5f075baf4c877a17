//! Writing: place, seal, make durable, anchor, index, in this order, all or nothing.
//!
//! A crash leaves one of three things: nothing (before the journal entry), a batch that is finished at the next
//! start (after it), or an anchored batch that only lacks its index entries (finished too). See `reconcile`.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolEvent as _, SolValue as _};
use stele_core::{
    abi::records::IRecords::{self, anchorCall},
    account::AccountKey,
    consent::Permissions,
    crypto::os_rng,
    id::{PatientId, RECORDS, RecordId},
    leaf::LeafKind,
    receipt::AccessAction,
    time::Timestamp,
};
use stele_fhir::search::begin_ms;
use stele_index::NewVersion;
use stele_vault::{Content, NewRecord, RecordMeta};

use super::{
    Effect, Write, Written,
    pending::{JournalEntry, JournalVersion, Recorded, Ticket, Watch, tell},
    place::{NewPatients, Placed, Placement},
};
use crate::{
    Service,
    error::{Error, Result},
    ports::{LedgerError, ReceiptView},
    session::{Actor, ActorKind},
    transactions::Order,
};

/// Leaves of one anchoring transaction; a larger batch takes several.
const LEAVES_MAX: usize = 1024;
/// Largest content sealed as one blob; larger goes through a stream. Ciphertexts above 256 KiB are objects.
pub(crate) const CONTENT_MAX: usize = 200 * 1024;
/// How often a write's transaction is waited for, each time for the ledger's patience (15 s): an hour. After it the
/// journal keeps the write for the next start.
const WAITS_MAX: u32 = 240;

impl Service {
    /// Writes a batch, all or nothing. When this returns, everything is durable, final, anchored and findable.
    ///
    /// # Errors
    /// Nothing was written. [`Error::Invalid`], [`Error::NotPermitted`] (which leaves a receipt),
    /// [`Error::PreconditionFailed`], [`Error::StorageFull`], or the ledger's refusal.
    pub async fn write(&self, actor: &Actor, writes: Vec<Write>) -> Result<Vec<Written>> {
        self.write_watched(actor, writes, Watch::default()).await
    }

    /// As [`Self::write`], telling a watch once the batch is sealed and durable. From then on it is carried to its
    /// end whatever happens to the one who asked, if somebody sees to it that this future is polled.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub async fn write_watched(
        &self,
        actor: &Actor,
        writes: Vec<Write>,
        watch: Watch,
    ) -> Result<Vec<Written>> {
        self.vault
            .require_room()
            .map_err(Error::vault("storing records"))?;
        let _turns = self.turns.take(writes.iter().filter_map(target)).await;
        let now = self.clock.now();
        let mut new = NewPatients::default();
        // Patients first, so that other resources of the batch may refer to them; what belongs to whom it points at last.
        let mut ordered: Vec<(usize, Write)> = writes.into_iter().enumerate().collect();
        ordered.sort_by_key(|(_, write)| rank(write));
        let mut placements = Vec::with_capacity(ordered.len());
        for (position, write) in ordered {
            placements.push((position, self.place(actor, write, &mut new, now).await?));
        }
        placements.sort_by_key(|(position, _)| *position);
        self.learn_writing_keys(actor, &placements, &new).await?;
        self.require_write(actor, &placements, &new).await?;
        self.write_placed(
            actor,
            placements.into_iter().map(|(_, p)| p).collect(),
            new,
            now,
            watch,
        )
        .await
    }

    async fn write_placed(
        &self,
        actor: &Actor,
        placements: Vec<Placement>,
        new: NewPatients,
        now: Timestamp,
        watch: Watch,
    ) -> Result<Vec<Written>> {
        let mut answers = Vec::with_capacity(placements.len());
        let mut placed = Vec::with_capacity(placements.len());
        for placement in placements {
            match placement {
                Placement::Nothing {
                    resource_type,
                    id,
                    version,
                    last_updated,
                    deleted,
                } => {
                    answers.push(Some(Written {
                        effect: if deleted {
                            Effect::Deleted
                        } else {
                            Effect::Unchanged
                        },
                        resource_type,
                        id,
                        version,
                        last_updated,
                        text: None,
                        height: 0,
                    }));
                }
                Placement::Write(one) => {
                    answers.push(None);
                    placed.push(*one);
                }
            }
        }
        let mut written = self
            .commit(actor, placed, new, now, watch)
            .await?
            .into_iter();
        answers
            .into_iter()
            .map(|answer| {
                answer.or_else(|| written.next()).ok_or_else(|| {
                    Error::internal("answering a write", "fewer results than changes")
                })
            })
            .collect()
    }

    /// Seals, stores, anchors and indexes what was placed.
    async fn commit(
        &self,
        actor: &Actor,
        placed: Vec<Placed>,
        new: NewPatients,
        now: Timestamp,
        watch: Watch,
    ) -> Result<Vec<Written>> {
        if placed.is_empty() {
            return Ok(Vec::new());
        }
        let entry = JournalEntry {
            author: actor.account,
            sender: sender_of(actor),
            versions: placed.iter().map(JournalVersion::of).collect(),
            orders: new.orders,
            promise: None,
        };
        let ticket = self.begin(actor, entry, &watch)?;
        let (placed, metas) = match self.store(actor, placed, now).await {
            Ok(stored) => stored,
            Err(error) => {
                self.discard(&ticket, &error).await?;
                return Err(error);
            }
        };
        tell(watch, &ticket);
        self.record(&ticket, placed, &metas).await
    }

    /// Anchors and indexes a batch that is durable, and closes its journal entry.
    pub(crate) async fn record(
        &self,
        ticket: &Ticket,
        placed: Vec<Placed>,
        metas: &[RecordMeta],
    ) -> Result<Vec<Written>> {
        let places = match self.settle(&ticket.entry(), metas).await {
            Ok(places) => places,
            Err(error) => {
                if !is_unsettled(&error) {
                    self.discard(ticket, &error).await?;
                }
                return Err(error);
            }
        };
        self.index_versions(&placed, metas, &places).await?;
        let written: Vec<Written> = placed
            .into_iter()
            .zip(&places)
            .map(|(one, place)| one.into_written(place.height))
            .collect();
        self.finish(ticket, written.iter().map(Recorded::of).collect())?;
        Ok(written)
    }

    /// Registers the batch's new patients and anchors its leaves.
    async fn settle(&self, entry: &JournalEntry, metas: &[RecordMeta]) -> Result<Vec<LeafPlace>> {
        if !entry.orders.is_empty() {
            self.transactions
                .send("registering patients", entry.sender, entry.orders.clone())
                .await?;
        }
        self.anchor(entry.author, entry.sender, metas).await
    }

    /// Seals on a thread of its own and makes the batch durable. What was placed is handed back with it.
    async fn store(
        &self,
        actor: &Actor,
        placed: Vec<Placed>,
        now: Timestamp,
    ) -> Result<(Vec<Placed>, Vec<RecordMeta>)> {
        const WHAT: &str = "sealing records";
        let vault = Arc::clone(&self.vault);
        let author = actor.account;
        let sealing = tokio::task::spawn_blocking(move || {
            let small: Vec<NewRecord<'_>> = placed
                .iter()
                .filter(|one| one.text.len() <= CONTENT_MAX)
                .map(|one| one.to_seal(author))
                .collect();
            let batch = vault.seal_batch(&small, now, &mut os_rng());
            batch.map(|batch| (placed, batch))
        });
        let (placed, mut batch) = sealing
            .await
            .map_err(|error| Error::internal(WHAT, error))?
            .map_err(storage(WHAT))?;
        for large in placed.iter().filter(|one| one.text.len() > CONTENT_MAX) {
            let mut stream = self
                .vault
                .seal_stream(&large.to_seal(author), now, &mut os_rng())
                .map_err(storage(WHAT))?;
            stream
                .push(large.text.as_bytes())
                .await
                .map_err(storage(WHAT))?;
            batch = batch.and(stream.finish().await.map_err(storage(WHAT))?);
        }
        let metas = self.vault.commit(batch).await.map_err(storage(WHAT))?;
        // Large records were sealed last; the order of `placed` is what callers go by.
        let mut by_record: BTreeMap<RecordId, RecordMeta> = metas
            .into_iter()
            .map(|meta| (meta.record(), meta))
            .collect();
        let metas = placed
            .iter()
            .map(|one| by_record.remove(&one.record))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::internal(WHAT, "a sealed record is missing"))?;
        Ok((placed, metas))
    }

    /// Anchors leaves and says where each stands. Several transactions where one would be too large; they are
    /// sent in order, so the ledger takes the first ones or all of them.
    pub(crate) async fn anchor(
        &self,
        author: Address,
        sender: Address,
        metas: &[RecordMeta],
    ) -> Result<Vec<LeafPlace>> {
        const WHAT: &str = "anchoring records";
        let custodian = self.organization_hosting(sender);
        let mut orders = Vec::new();
        for chunk in metas.chunks(LEAVES_MAX) {
            orders.push(self.anchor_order(author, sender, custodian, chunk)?);
        }
        let hashes = self.transactions.send(WHAT, sender, orders.clone()).await?;
        let mut places = Vec::with_capacity(metas.len());
        for ((chunk, hash), order) in metas.chunks(LEAVES_MAX).zip(hashes).zip(&orders) {
            let receipt = self.settled_at_last(WHAT, sender, hash, order).await?;
            places.extend(places_of(chunk, &receipt)?);
        }
        Ok(places)
    }

    /// Waits for a transaction for as long as the ledger says no more than "not yet".
    pub(crate) async fn settled_at_last(
        &self,
        what: &'static str,
        sender: Address,
        hash: B256,
        order: &Order,
    ) -> Result<ReceiptView> {
        let mut waits = 1;
        loop {
            match self
                .transactions
                .settled(what, sender, hash, Some(order))
                .await
            {
                Err(error) if is_pending(&error) && waits < WAITS_MAX => {
                    tracing::warn!(%hash, waits, "a write waits for the ledger");
                    waits = waits.saturating_add(1);
                }
                other => return other,
            }
        }
    }

    fn anchor_order(
        &self,
        author: Address,
        sender: Address,
        custodian: Address,
        metas: &[RecordMeta],
    ) -> Result<Order> {
        let call = self.anchor_call(author, sender, custodian, metas)?;
        let gas = gas_of(metas.len(), call.entries.len());
        Ok(Order::new(RECORDS, &call, gas))
    }

    /// The call that anchors leaves, one entry a log.
    pub(crate) fn anchor_call(
        &self,
        author: Address,
        sender: Address,
        custodian: Address,
        metas: &[RecordMeta],
    ) -> Result<anchorCall> {
        let mut logs: BTreeMap<Address, (Vec<u8>, Vec<B256>)> = BTreeMap::new();
        for meta in metas {
            let (categories, leaves) = logs.entry(meta.log).or_default();
            categories.push(meta.preimage.category_slot);
            leaves.push(meta.leaf());
        }
        let entries: Vec<IRecords::Entry> = logs
            .into_iter()
            .map(|(log, (categories, leaves))| IRecords::Entry {
                log,
                categories: categories.into(),
                leaves,
            })
            .collect();
        let signature = if custodian == sender {
            Bytes::new()
        } else {
            self.storage_signature(author, custodian, &entries)?
        };
        Ok(anchorCall {
            entries,
            author,
            custodian,
            storageSignature: signature,
        })
    }

    /// The custodian's word that it keeps the ciphertexts, for a batch it does not send itself.
    fn storage_signature(
        &self,
        author: Address,
        custodian: Address,
        entries: &[IRecords::Entry],
    ) -> Result<Bytes> {
        const WHAT: &str = "signing for storage";
        let digest = keccak256(entries.to_vec().abi_encode());
        let chain_id = alloy_primitives::U256::from(self.ledger.facts().chain_id);
        let message = ("stele/custody/1", chain_id, RECORDS, author, digest).abi_encode_params();
        let secret = self
            .vault
            .keys()
            .signing(custodian)
            .map_err(Error::vault(WHAT))?
            .ok_or_else(|| Error::internal(WHAT, "the custodian's key is not here"))?;
        let key = AccountKey::new(secret).map_err(|error| Error::internal(WHAT, error))?;
        let signature = key
            .sign_hash(keccak256(message))
            .map_err(|error| Error::internal(WHAT, error))?;
        Ok(signature.as_bytes().to_vec().into())
    }

    /// Refuses early, in words, what the ledger would refuse; a refusal leaves a receipt.
    pub(crate) async fn require_write(
        &self,
        actor: &Actor,
        placements: &[(usize, Placement)],
        new: &NewPatients,
    ) -> Result<()> {
        let mut open: BTreeMap<Address, u64> = BTreeMap::new();
        for (_, placement) in placements {
            let Placement::Write(one) = placement else {
                continue;
            };
            let Some(patient) = one.patient else {
                if one.log == actor.organization.0 && actor.kind != ActorKind::Patient {
                    continue;
                }
                return Err(Error::NotPermitted {
                    message: format!("{} is kept by organisations only", one.resource_type),
                });
            };
            if new.by_id.values().any(|other| *other == patient) {
                continue;
            }
            let slot = self.slot_to_write(patient, one)?;
            let slots = match open.get(&patient.0) {
                Some(slots) => *slots,
                None => {
                    let slots = self.open_slots(actor, patient.0, Permissions::WRITE)?;
                    open.insert(patient.0, slots);
                    slots
                }
            };
            if slots & slot != 0 || (slot != 0 && actor.is_patient(patient.0)) {
                continue;
            }
            self.refuse(
                actor,
                patient.0,
                AccessAction::Write,
                slot,
                &[(one.record, one.version)],
            )
            .await?;
            return Err(not_allowed(&one.resource_type));
        }
        Ok(())
    }

    /// The category's slot as a bit; none where another member did not name it, since the patient did not open it.
    fn slot_to_write(&self, patient: PatientId, one: &Placed) -> Result<u64> {
        let keys = self.vault.keys();
        let key = keys.writing_key(patient.0, one.category, one.last_updated.month());
        match key {
            Ok((place, _)) => Ok(1 << place.slot),
            Err(stele_vault::Error::UnknownLog { .. })
                if self.host_elsewhere(patient)?.is_some() =>
            {
                Ok(0)
            }
            Err(error) => Err(Error::vault("finding a patient's key")(error)),
        }
    }

    pub(crate) async fn index_versions(
        &self,
        placed: &[Placed],
        metas: &[RecordMeta],
        places: &[LeafPlace],
    ) -> Result<()> {
        const WHAT: &str = "indexing records";
        let batch: Vec<NewVersion> = placed
            .iter()
            .zip(metas)
            .zip(places)
            .map(|((one, meta), place)| one.to_index(meta, place))
            .collect();
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || index.search().put(&batch))
            .await
            .map_err(|error| Error::internal(WHAT, error))?
            .map_err(Error::index(WHAT))
    }
}

/// Where a leaf came to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafPlace {
    pub(crate) index: u64,
    pub(crate) height: u64,
}

/// Finds each leaf's position from the `Anchored` logs of a receipt.
pub(crate) fn places_of(metas: &[RecordMeta], receipt: &ReceiptView) -> Result<Vec<LeafPlace>> {
    let mut next: BTreeMap<Address, u64> = BTreeMap::new();
    for log in receipt
        .receipt
        .logs
        .iter()
        .filter(|log| log.address == RECORDS)
    {
        if let Ok(anchored) = IRecords::Anchored::decode_log(log) {
            next.insert(anchored.log, anchored.first);
        }
    }
    metas
        .iter()
        .map(|meta| {
            let index = next.get_mut(&meta.log).ok_or_else(|| {
                Error::internal("anchoring records", "the ledger recorded no leaf")
            })?;
            let place = LeafPlace {
                index: *index,
                height: receipt.position.height,
            };
            *index = index.saturating_add(1);
            Ok(place)
        })
        .collect()
}

impl Placed {
    fn to_seal(&self, author: Address) -> NewRecord<'_> {
        NewRecord {
            log: self.log,
            record: self.record,
            version: self.version,
            kind: self.kind,
            category: self.category,
            author,
            previous: self.previous,
            content: Content::Json(&self.text),
        }
    }

    pub(crate) fn to_index(&self, meta: &RecordMeta, place: &LeafPlace) -> NewVersion {
        let deleted = self.kind == LeafKind::Tombstone;
        NewVersion {
            resource_type: self.resource_type.clone(),
            id: self.id.clone(),
            version: self.version,
            placement: stele_index::Placement {
                record: self.record,
                log: self.log,
                leaf: place.index,
                patient: self.patient,
                category_slot: meta.preimage.category_slot,
                category: self.category,
                month: self.last_updated.month(),
            },
            last_updated: self.last_updated,
            clinical_ms: clinical_ms(&self.value),
            deleted,
            values: if deleted {
                Vec::new()
            } else {
                stele_fhir::search::extract(&self.resource_type, &self.value)
            },
            text: if deleted {
                stele_fhir::search::FullText::default()
            } else {
                stele_fhir::search::full_text(&self.value)
            },
        }
    }

    fn into_written(self, height: u64) -> Written {
        Written {
            effect: Effect::of(self.kind),
            text: (self.kind != LeafKind::Tombstone).then(|| self.text.into()),
            resource_type: self.resource_type,
            id: self.id,
            version: self.version,
            last_updated: self.last_updated,
            height,
        }
    }
}

/// Who signs the anchoring: the organisation for its staff and systems, a patient for themselves.
pub(crate) const fn sender_of(actor: &Actor) -> Address {
    match actor.kind {
        ActorKind::System | ActorKind::Practitioner => actor.organization.0,
        ActorKind::Patient => actor.account,
    }
}

/// What a writer is told whom the patient has not let add.
pub(crate) fn not_allowed(resource_type: &str) -> Error {
    Error::NotPermitted {
        message: format!(
            "the patient has not allowed adding to {resource_type} for this purpose; ask the patient"
        ),
    }
}

fn target(write: &Write) -> Option<(&str, &str)> {
    match write {
        Write::Create { .. } => None,
        Write::Update { resource, id, .. } => Some((&resource.resource_type, id)),
        Write::Delete {
            resource_type, id, ..
        } => Some((resource_type, id)),
    }
}

fn rank(write: &Write) -> u8 {
    match write {
        Write::Create { resource } | Write::Update { resource, .. } => {
            match resource.resource_type.as_str() {
                "Patient" => 0,
                "Provenance" | "AuditEvent" => 2,
                _ => 1,
            }
        }
        Write::Delete { .. } => 1,
    }
}

/// Upper bound of an anchoring's gas: base, calldata and log by leaf, storage by log.
pub(crate) fn gas_of(leaves: usize, logs: usize) -> u64 {
    let leaves = u64::try_from(leaves).unwrap_or(u64::MAX);
    let logs = u64::try_from(logs).unwrap_or(u64::MAX);
    leaves
        .saturating_mul(3_000)
        .saturating_add(logs.saturating_mul(400_000))
        .saturating_add(200_000)
}

fn is_pending(error: &Error) -> bool {
    matches!(
        error,
        Error::Ledger {
            source: LedgerError::Pending { .. },
            ..
        }
    )
}

/// Whether the ledger may still record what was sent: then the journal keeps the batch for the next start.
pub(crate) fn is_unsettled(error: &Error) -> bool {
    let is_cut_off = matches!(
        error,
        Error::Ledger {
            source: LedgerError::Unavailable { .. },
            ..
        }
    );
    is_cut_off || is_pending(error)
}

/// Maps an erased record to a conflict, everything else to the vault's errors.
pub(crate) fn storage(what: &'static str) -> impl FnOnce(stele_vault::Error) -> Error {
    move |source| match source {
        stele_vault::Error::Erased { record } => Error::Conflict {
            message: format!("record {record} was erased and can't be stored again"),
        },
        source => Error::vault(what)(source),
    }
}

/// Start of the clinical date in milliseconds; partial dates begin at their first day.
pub(crate) fn clinical_ms(value: &serde_json::Value) -> Option<i64> {
    let text = stele_fhir::compartment::clinical_date(value)?;
    // A date that FHIR does not know still says its day.
    begin_ms(text).or_else(|| begin_ms(text.get(..10)?))
}
