//! Erasure: after it, what is left of a record is noise and an unexplained leaf.
//!
//! In this order, each step repeated harmlessly after a crash:
//! 1. one commit writes the tombstone and removes metas (envelope, salts) and blobs;
//! 2. the shred trees of records and of the custodian are punctured, so that copies of the metas in
//!    old segments, and peppers, can never be opened or derived again;
//! 3. large objects are deleted.
//!
//! A vault restored from a backup applies its tombstones when it is opened; tombstones newer than
//! the backup come from the ledger, by [`Vault::erase`] before anything is served.

use alloy_primitives::B256;
use stele_core::{id::RecordId, time::Timestamp};

use crate::{
    codec::Reader,
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
        let mut writes = Writes::default();
        let mut objects = Vec::new();
        for record in records {
            self.remove_record(record, &mut writes, &mut objects)?;
            if !self.is_erased(record)? {
                let at = now.0.to_be_bytes().to_vec();
                writes.put(Table::Tombstones, record.as_bytes().to_vec(), at);
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
                let mut record = Reader::new(&key, "a tombstone");
                let mut at = Reader::new(&value, "a tombstone");
                Ok((RecordId(B256::new(record.array()?)), Timestamp(at.u64()?)))
            })
            .collect()
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
            self.remove_record(record, &mut writes, &mut objects)?;
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
        self.records.puncture(&ids)?;
        self.custodian.destroy(&ids)
    }

    fn remove_record(
        &self,
        record: &RecordId,
        writes: &mut Writes,
        objects: &mut Vec<Object>,
    ) -> Result<()> {
        for entry in self.store.scan(Table::Meta, record.as_bytes()) {
            let (key, sealed) = entry?;
            let (_, version) = meta::parse_table_key(&key)?;
            // A meta that no longer opens is removed all the same; its blob cannot be found, and
            // nothing can open that either.
            match RecordMeta::open(&self.records, *record, version, &sealed) {
                Ok(meta) => {
                    if let Some(cid) = meta.cid()? {
                        objects.extend(self.store.remove(&cid, writes)?);
                    }
                }
                Err(Error::Erased { .. } | Error::RecordMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
            writes.remove(Table::Meta, key.to_vec());
        }
        Ok(())
    }
}
