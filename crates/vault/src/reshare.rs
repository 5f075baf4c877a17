//! Sharing peppers anew that this vault's custodian kept alone, for records from before there were other custodians.
//!
//! Nothing is sealed again: the meta of each record version gets the place of new shares and a mask, which together give
//! the pepper that it was sealed with. The tree that gave it alone is destroyed at a later start of the program, when
//! nothing is being written and no meta is left that needs it.

use crate::{
    custody::{Before, ShareOf},
    error::{Error, Result},
    meta::{RecordMeta, table_key},
    store::{Table, Writes},
    vault::Vault,
};

/// Metas rewritten in one commit, while nothing is erased.
const STEP: usize = 64;

impl Vault {
    /// Shares all peppers that this vault's custodian keeps alone, if others share those of new records; gives how many.
    /// To be called on a thread that may block. A crash in between is made good by calling it again.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DiskFull`].
    pub fn share_anew(&self) -> Result<u64> {
        if self.custodian.before() != Some(Before::Alone) {
            return Ok(0);
        }
        let mut done = 0;
        let mut waiting = Vec::with_capacity(STEP);
        for meta in self.all_metas() {
            if let Some(meta) = kept_alone(meta)? {
                waiting.push((meta.record(), meta.version()));
            }
            if waiting.len() == STEP {
                done += self.share_some(&waiting)?;
                waiting.clear();
            }
        }
        done += self.share_some(&waiting)?;
        self.custodian.set_before(Before::Shared)?;
        Ok(done)
    }

    fn share_some(&self, records: &[(stele_core::id::RecordId, u32)]) -> Result<u64> {
        // An erasure in between would be undone by writing the meta once more.
        let _nothing_is_erased = self.rewriting.blocking_lock();
        let mut writes = Writes::default();
        let mut done = 0;
        for (record, version) in records {
            let Some(mut meta) = self.meta(record, *version).ok().flatten() else {
                continue;
            };
            let shared = self.custodian.share_anew(&ShareOf {
                log: meta.log,
                slot: meta.preimage.category_slot,
                record,
                version: *version,
            })?;
            meta.shared = shared;
            if let Some(sealed) = meta.seal(&self.records)? {
                writes.put(Table::Meta, table_key(record, *version), sealed);
                done += 1;
            }
        }
        if !writes.is_empty() {
            self.store.commit_blocking(writes)?;
        }
        Ok(done)
    }

    /// Destroys what gave peppers alone, once all are shared. To be called before anything is written.
    pub(crate) fn end_keeping_alone(&self) -> Result<()> {
        if self.custodian.before() != Some(Before::Shared) {
            return Ok(());
        }
        for meta in self.all_metas() {
            if kept_alone(meta)?.is_some() {
                // Sealed while the others were shared.
                return self.custodian.set_before(Before::Alone);
            }
        }
        self.custodian.destroy_own()?;
        self.custodian.set_before(Before::Gone)
    }

    /// Takes over where the shares of copies lie whose peppers another member has shared anew.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DiskFull`].
    pub async fn follow_shared(&self, metas: &[RecordMeta]) -> Result<()> {
        let mut writes = Writes::default();
        for given in metas {
            let (record, version) = (given.record(), given.version());
            let Some(mut meta) = self.meta(&record, version).ok().flatten() else {
                continue;
            };
            let is_copy = meta.custodian.is_some() && meta.custodian == given.custodian;
            if !is_copy || meta.leaf() != given.leaf() || meta.shared == given.shared {
                continue;
            }
            meta.shared.clone_from(&given.shared);
            if let Some(sealed) = meta.seal(&self.records)? {
                writes.put(Table::Meta, table_key(&record, version), sealed);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await
    }
}

/// A meta whose pepper this vault's custodian keeps alone. One that can't be read needs no pepper any more.
fn kept_alone(meta: Result<RecordMeta>) -> Result<Option<RecordMeta>> {
    match meta {
        Ok(meta) => Ok(Some(meta).filter(|meta| meta.custodian.is_none() && meta.shared.is_none())),
        Err(Error::Erased { .. } | Error::RecordMismatch { .. } | Error::Malformed { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
