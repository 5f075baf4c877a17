//! Erasure: the key, salts and pepper of a record are destroyed, its ciphertext deleted; the ledger keeps a leaf
//! that says nothing, and a tombstone.

use std::sync::Arc;

use stele_core::{
    abi::records::IRecords::tombstoneCall,
    crypto::os_rng,
    id::RECORDS,
    leaf::{LeafKind, LeafPreimage},
    receipt::AccessAction,
};

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
    transactions::Order,
};

/// What an erasure did.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// Versions whose content is gone.
    pub versions: u32,
    /// Height of the block with the tombstone.
    pub height: u64,
}

impl Service {
    /// Erases a record with all its versions. The tombstone is recorded first: a crash in between leaves an
    /// erasure that [`Self::finish_erasures`] completes, never erased content without a trace.
    ///
    /// # Errors
    /// The actor may not erase it, or there is no such record.
    pub async fn erase(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        reason: u8,
    ) -> Result<Erased> {
        const WHAT: &str = "erasing a record";
        let found = self
            .locate(resource_type, id)?
            .ok_or_else(|| Error::not_found(resource_type, id))?;
        let place = found.placement.clone();
        let hosting = self.organization_hosting(place.log);
        let administers = actor.organization.0 == hosting && self.is_administrator(actor)?;
        if !actor.is_patient(place.log) && !administers {
            let slot = 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
            let records = [(place.record, found.version)];
            self.refuse(actor, place.log, AccessAction::Delete, slot, &records)
                .await?;
            return Err(Error::NotPermitted {
                message: "only the patient or an administrator of the patient's organisation erases records".into(),
            });
        }
        let journal = self
            .index
            .local()
            .begin(JOURNAL, place.record.as_bytes())
            .map_err(Error::index(WHAT))?;
        let sender = crate::records::sender_of(actor);
        let orders = self.tombstones_for(actor, &found, reason)?;
        let hashes = self.transactions.send(WHAT, sender, orders.clone()).await?;
        let mut height = 0;
        for (hash, order) in hashes.into_iter().zip(&orders) {
            let receipt = self
                .transactions
                .settled(WHAT, sender, hash, Some(order))
                .await?;
            height = receipt.position.height;
        }
        self.note_erasure(&place.record)?;
        self.vault
            .erase(&[place.record], self.clock.now())
            .await
            .map_err(Error::vault(WHAT))?;
        self.index
            .search()
            .erase(&[place.record])
            .map_err(Error::index(WHAT))?;
        self.index
            .local()
            .finish(journal)
            .map_err(Error::index(WHAT))?;
        Ok(Erased {
            versions: found.version,
            height,
        })
    }

    /// One tombstone for the leaf of each version. A tombstone's own preimage is not kept: nobody is to prove
    /// anything about an erased record but that it was erased.
    fn tombstones_for(
        &self,
        actor: &Actor,
        found: &stele_index::ResourceVersion,
        reason: u8,
    ) -> Result<Vec<Order>> {
        const WHAT: &str = "erasing a record";
        let place = &found.placement;
        let mut orders = Vec::new();
        for version in 1..=found.version {
            let leaf_of = self.index.search().leaf_of(place.record, version);
            let Some((log, index)) = leaf_of.map_err(Error::index(WHAT))? else {
                continue;
            };
            let mut salt = [0; 32];
            rand_core::Rng::fill_bytes(&mut os_rng(), &mut salt);
            let leaf = LeafPreimage {
                record: place.record,
                version,
                kind: LeafKind::Tombstone,
                category_slot: place.category_slot,
                cid: alloy_primitives::Bytes::new(),
                content: alloy_primitives::B256::ZERO,
                element_root: alloy_primitives::B256::ZERO,
                envelope_digest: alloy_primitives::B256::ZERO,
                author: actor.account,
                previous: alloy_primitives::B256::ZERO,
            }
            .commit(&salt);
            let call = tombstoneCall {
                log,
                index,
                category: place.category_slot,
                leaf,
                reason,
                author: actor.account,
            };
            orders.push(Order::new(RECORDS, &call, 1_000_000));
        }
        Ok(orders)
    }

    /// Adds a record to the list kept beside the data folder, which a restore goes by.
    fn note_erasure(&self, record: &stele_core::id::RecordId) -> Result<()> {
        use std::io::Write as _;
        const WHAT: &str = "noting an erasure";
        let Some(path) = self.tombstones_file.get() else {
            return Ok(());
        };
        let failed = |error: std::io::Error| Error::internal(WHAT, error);
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(failed)?;
        writeln!(file, "{record}").map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// Where erased records are listed, one id a line, outside the data folder and so outside its backups.
    pub fn keep_tombstones_in(&self, path: std::path::PathBuf) {
        // Set once, at start; a second call would be a mistake of the wiring and changes nothing.
        let _ = self.tombstones_file.set(path);
    }

    /// Erases what a list of tombstones names, without asking the ledger: for a restored data folder, before it
    /// serves anything.
    ///
    /// # Errors
    /// The vault or the index fails.
    pub async fn apply_tombstones(&self, records: &[stele_core::id::RecordId]) -> Result<()> {
        const WHAT: &str = "applying tombstones";
        self.vault
            .erase(records, self.clock.now())
            .await
            .map_err(Error::vault(WHAT))?;
        self.index
            .search()
            .erase(records)
            .map_err(Error::index(WHAT))
            .map(drop)
    }

    /// Completes erasures that a crash cut off after their tombstone, and takes back those cut off before it.
    ///
    /// # Errors
    /// The vault or the index fails.
    pub async fn finish_erasures(&self) -> Result<u64> {
        const WHAT: &str = "finishing an erasure";
        let mut finished = 0_u64;
        for (journal, state) in self
            .index
            .local()
            .unfinished(JOURNAL)
            .map_err(Error::index(WHAT))?
        {
            let record = stele_core::id::RecordId::from_slice(&state)
                .map_err(|error| Error::internal(WHAT, error))?;
            let placed = self
                .vault
                .versions(&record)
                .ok()
                .and_then(|mut all| all.pop());
            let tombstoned = match placed {
                Some(meta) => {
                    let leaf = self.find_leaf(&meta)?.map(|place| place.index);
                    self.index
                        .chain()
                        .tombstones_of(meta.log)
                        .map_err(Error::index(WHAT))?
                        .iter()
                        .any(|tombstone| Some(tombstone.index) == leaf)
                }
                // Keys are gone already: what is left is to make it so everywhere.
                None => true,
            };
            if tombstoned {
                self.note_erasure(&record)?;
                self.vault
                    .erase(&[record], self.clock.now())
                    .await
                    .map_err(Error::vault(WHAT))?;
                self.index
                    .search()
                    .erase(&[record])
                    .map_err(Error::index(WHAT))?;
                finished = finished.saturating_add(1);
            }
            self.index
                .local()
                .finish(journal)
                .map_err(Error::index(WHAT))?;
        }
        Ok(finished)
    }
}

/// Name of the journal entries of this module.
pub(crate) const JOURNAL: &str = "erase";
