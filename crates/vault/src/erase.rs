//! Erasure: after it, what is left of a record is noise and an unexplained leaf.
//!
//! In this order, each step repeated harmlessly after a crash:
//! 1. one commit writes the tombstone and removes metas (envelope, salts) and blobs;
//! 2. the shred trees of records and of the custodian are punctured, so that copies of the metas in
//!    old segments, and peppers, can never be opened or derived again;
//! 3. large objects are deleted;
//! 4. the other custodians of a shared pepper are told until each has destroyed its shares, too
//!    ([`Vault::untold_erasures`]). The tombstone remembers where they lie.
//!
//! A vault restored from a backup applies its tombstones when it is opened; tombstones newer than
//! the backup come from the ledger, by [`Vault::erase`] before anything is served.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use alloy_primitives::{Address, B128, B256};
use stele_core::{id::RecordId, time::Timestamp};

use crate::{
    codec::Reader,
    custody::ErasedPlace,
    error::{Error, Result},
    meta::{self, RecordMeta},
    store::{Object, Table, Writes},
    vault::Vault,
};

impl Vault {
    /// Erases records with all their versions: keys, salts, peppers and ciphertext. Durable when it
    /// returns. Records that are not here leave a tombstone too, and can never be stored again.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Io`], [`Error::Objects`]; to be called again until it succeeds.
    pub async fn erase(&self, records: &[RecordId], now: Timestamp) -> Result<()> {
        let _nothing_is_rewritten = self.rewriting.lock().await;
        let mut writes = Writes::default();
        let mut objects = Vec::new();
        for record in records {
            let shared = self.remove_record(record, &mut writes, &mut objects)?;
            if !self.is_erased(record)? {
                let tombstone = Tombstone { at: now, shared };
                let key = record.as_bytes().to_vec();
                writes.put(Table::Tombstones, key, tombstone.encode());
            }
        }
        self.store.commit(writes).await?;
        self.puncture(records)?;
        for object in &objects {
            self.store.delete_object(object).await?;
        }
        Ok(())
    }

    /// Removes one record version that was sealed but never anchored. No tombstone: the version may
    /// be sealed again.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Objects`].
    pub async fn discard(&self, record: &RecordId, version: u32) -> Result<()> {
        let _nothing_is_rewritten = self.rewriting.lock().await;
        let Some(meta) = self.meta(record, version)? else {
            return Ok(());
        };
        let mut writes = Writes::default();
        let object = match meta.cid()? {
            Some(cid) => self.store.remove(&cid, &mut writes)?,
            None => None,
        };
        writes.remove(Table::Meta, meta::table_key(record, version));
        self.store.commit(writes).await?;
        match object {
            Some(object) => self.store.delete_object(&object).await,
            None => Ok(()),
        }
    }

    /// Whether a record was erased here.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn is_erased(&self, record: &RecordId) -> Result<bool> {
        self.store.contains(Table::Tombstones, record.as_bytes())
    }

    /// All erased records, with the time of erasure: what a backup must carry on.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn tombstones(&self) -> Result<Vec<(RecordId, Timestamp)>> {
        self.store
            .scan(Table::Tombstones, &[])
            .map(|entry| {
                let (key, value) = entry?;
                Ok((record_of(&key)?, Tombstone::decode(&value)?.at))
            })
            .collect()
    }

    /// Shares of erased records that other custodians have not destroyed yet, with those who have to be told.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn untold_erasures(&self) -> Result<Vec<(ErasedPlace, Vec<Address>)>> {
        let mut untold = Vec::new();
        for entry in self.store.scan(Table::Tombstones, &[]) {
            let (key, value) = entry?;
            let record = record_of(&key)?;
            for shared in Tombstone::decode(&value)?.shared {
                let Some(custody) = self.custodian.custody(shared.custody) else {
                    continue;
                };
                let pending: Vec<Address> = (0..)
                    .zip(&custody.custodians)
                    .filter(|(place, who)| **who != custody.owner && shared.told >> place & 1 == 0)
                    .map(|(_, who)| *who)
                    .collect();
                if !pending.is_empty() {
                    untold.push((shared.place(record), pending));
                }
            }
        }
        Ok(untold)
    }

    /// Notes that a custodian has destroyed its shares of erased records.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub async fn told_erasures(&self, places: &[ErasedPlace], by: Address) -> Result<()> {
        let _nothing_is_rewritten = self.rewriting.lock().await;
        let mut writes = Writes::default();
        let mut changed: BTreeMap<RecordId, Tombstone> = BTreeMap::new();
        for place in places {
            let found = match changed.entry(place.record) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(empty) => {
                    let Some(value) = self
                        .store
                        .value(Table::Tombstones, place.record.as_bytes())?
                    else {
                        continue;
                    };
                    empty.insert(Tombstone::decode(&value)?)
                }
            };
            let custodian = self.custodian.custody(place.custody);
            let Some(at) = custodian.and_then(|custody| custody.place_of(by)) else {
                continue;
            };
            for shared in &mut found.shared {
                if shared.place(place.record) == *place {
                    shared.told |= 1 << at;
                }
            }
        }
        for (record, tombstone) in changed {
            let key = record.as_bytes().to_vec();
            writes.put(Table::Tombstones, key, tombstone.encode());
        }
        self.store.commit(writes).await
    }

    /// Forgets that a custodian has destroyed shares of erased records: it is told of all of them once more.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub async fn tell_again(&self, custodian: Address) -> Result<()> {
        let _nothing_is_rewritten = self.rewriting.lock().await;
        let mut writes = Writes::default();
        for entry in self.store.scan(Table::Tombstones, &[]) {
            let (key, value) = entry?;
            let mut tombstone = Tombstone::decode(&value)?;
            let mut is_changed = false;
            for shared in &mut tombstone.shared {
                let custody = self.custodian.custody(shared.custody);
                let place = custody.and_then(|custody| custody.place_of(custodian));
                let bit = place.map_or(0, |place| 1 << place);
                is_changed |= shared.told & bit != 0;
                shared.told &= !bit;
            }
            if is_changed {
                writes.put(Table::Tombstones, key.to_vec(), tombstone.encode());
            }
        }
        self.store.commit(writes).await
    }

    /// Repeats what a crash or an older copy of a key file may have undone.
    pub(crate) async fn reapply_tombstones(&self) -> Result<()> {
        let records: Vec<RecordId> = self
            .tombstones()?
            .into_iter()
            .map(|(record, _)| record)
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut writes = Writes::default();
        let mut objects = Vec::new();
        for record in &records {
            drop(self.remove_record(record, &mut writes, &mut objects)?);
        }
        if !writes.is_empty() {
            self.store.commit(writes).await?;
        }
        self.puncture(&records)?;
        for object in &objects {
            self.store.delete_object(object).await?;
        }
        Ok(())
    }

    fn puncture(&self, records: &[RecordId]) -> Result<()> {
        let ids: Vec<[u8; 32]> = records.iter().map(|record| record.0.0).collect();
        let mut shares = Vec::new();
        for record in records {
            if let Some(value) = self.store.value(Table::Tombstones, record.as_bytes())? {
                let shared = Tombstone::decode(&value)?.shared;
                shares.extend(shared.iter().map(|one| one.place(*record)));
            }
        }
        self.records.puncture(&ids)?;
        self.custodian.destroy(&ids, &shares)
    }

    /// Gives where the shares of its own peppers lie.
    fn remove_record(
        &self,
        record: &RecordId,
        writes: &mut Writes,
        objects: &mut Vec<Object>,
    ) -> Result<Vec<SharesErased>> {
        let mut shared = BTreeSet::new();
        for entry in self.store.scan(Table::Meta, record.as_bytes()) {
            let (key, sealed) = entry?;
            let (_, version) = meta::parse_table_key(&key)?;
            // A meta that no longer opens is removed all the same; its blob cannot be found, and
            // nothing can open that either.
            match RecordMeta::open(&self.records, *record, version, &sealed) {
                Ok(meta) => {
                    if let Some(place) = meta.shared.as_ref().filter(|_| meta.custodian.is_none()) {
                        shared.insert((place.custody, place.period));
                    }
                    if let Some(cid) = meta.cid()? {
                        objects.extend(self.store.remove(&cid, writes)?);
                    }
                }
                Err(Error::Erased { .. } | Error::RecordMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
            writes.remove(Table::Meta, key.to_vec());
        }
        let shared = shared.into_iter().map(|(custody, period)| SharesErased {
            custody,
            period,
            told: 0,
        });
        Ok(shared.collect())
    }
}

/// What the table of tombstones says of a record: when, in 8 bytes, then 21 bytes for each custody and period that its
/// versions were sealed in.
struct Tombstone {
    at: Timestamp,
    shared: Vec<SharesErased>,
}

/// Shares to be destroyed, and the custodians that have done it, as a bit set.
struct SharesErased {
    custody: B128,
    period: u32,
    told: u8,
}

impl SharesErased {
    const fn place(&self, record: RecordId) -> ErasedPlace {
        ErasedPlace {
            record,
            custody: self.custody,
            period: self.period,
        }
    }
}

impl Tombstone {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.at.0.to_be_bytes().to_vec();
        for shared in &self.shared {
            out.extend_from_slice(shared.custody.as_slice());
            out.extend_from_slice(&shared.period.to_be_bytes());
            out.push(shared.told);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "a tombstone");
        let at = Timestamp(reader.u64()?);
        let mut shared = Vec::new();
        while !reader.is_empty() {
            shared.push(SharesErased {
                custody: B128::new(reader.array()?),
                period: reader.u32()?,
                told: reader.u8()?,
            });
        }
        Ok(Self { at, shared })
    }
}

fn record_of(key: &[u8]) -> Result<RecordId> {
    let mut reader = Reader::new(key, "a tombstone");
    Ok(RecordId(B256::new(reader.array()?)))
}
