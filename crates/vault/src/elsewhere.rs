//! Records that their patient seals elsewhere: what the vault gives for it, and taking in what came of it.
//!
//! A patient who holds the keys seals in the browser. The vault says where to (the place of the public key) and releases the
//! custodian's half of the record's key; what comes back is ciphertext, the wrapped key, salts and the leaf's preimage. All
//! of it that can be checked without the key is checked: address, envelope, place and length. What it says only the
//! patient, and who is let read it, will know.

use alloy_primitives::B256;
use stele_core::{
    crypto::{Secret32, aead::WRAPPED_LEN, stream},
    id::{LogId, RecordId},
    leaf::LeafPreimage,
    time::Timestamp,
};

use crate::{
    cid::digest_of,
    custodian::Pepper,
    custody::{ShareOf, SharedPepper},
    envelope::{Encapsulation, Envelope},
    error::{Error, Result},
    keys::KeyPlace,
    meta::{self, RecordMeta},
    seal::SealedBatch,
    store::{ObjectWriter, Table, Writes},
    vault::Vault,
};

const WHAT: &str = "a record sealed elsewhere";

/// Room that was made for one record version.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The log its leaf will stand in.
    pub log: LogId,
    /// The record.
    pub record: RecordId,
    /// Its version, from 1.
    pub version: u32,
    /// The public key that its key is sealed to.
    pub place: KeyPlace,
    /// The custodian's half of its key.
    pub pepper: Pepper,
    shared: Option<SharedPepper>,
}

/// A record version as it was sealed elsewhere, without its ciphertext.
#[derive(Clone, Debug)]
pub struct SealedElsewhere {
    /// What its leaf commits to.
    pub preimage: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: [u8; 32],
    /// Salt of the content's digest and of the element tree.
    pub element_salt: Secret32,
    /// The encapsulation that the key is wrapped under, encoded.
    pub encapsulation: Vec<u8>,
    /// The wrapped key.
    pub wrapped: [u8; WRAPPED_LEN],
    /// Length of the content in bytes.
    pub size_bytes: u64,
}

impl Vault {
    /// Makes room for a record version that is sealed elsewhere. Stores nothing.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Erased`], [`Error::UnknownLog`] as for sealing here.
    pub fn reserve(
        &self,
        log: LogId,
        record: RecordId,
        version: u32,
        category: u8,
        now: Timestamp,
    ) -> Result<Reserved> {
        self.require_absent(record, version)?;
        let (place, _) = self.keys.writing_key(log, category, now.month())?;
        let (pepper, shared) = self.custodian.seal(&ShareOf {
            log,
            slot: place.slot,
            record: &record,
            version,
        })?;
        Ok(Reserved {
            log,
            record,
            version,
            place,
            pepper,
            shared,
        })
    }

    /// Begins to take in what was sealed for a reserved version. The ciphertext follows by [`Taking::push`].
    ///
    /// # Errors
    /// [`Error::Malformed`] if it was sealed for another version or place, or its envelope is not the one that its leaf
    /// names; [`Error::Exists`].
    pub fn take_sealed(&self, reserved: &Reserved, sealed: SealedElsewhere) -> Result<Taking<'_>> {
        let (record, version) = (reserved.record, reserved.version);
        self.require_absent(record, version)?;
        let encapsulation = Encapsulation::decode(&sealed.encapsulation)?;
        let envelope = Envelope {
            encapsulation: encapsulation.digest(),
            wrapped: sealed.wrapped,
        };
        let preimage = &sealed.preimage;
        if encapsulation.place != reserved.place {
            return Err(malformed("it is sealed to another key"));
        }
        if (preimage.record, preimage.version) != (record, version)
            || preimage.category_slot != reserved.place.slot
        {
            return Err(malformed("its leaf is another record's"));
        }
        if preimage.envelope_digest != B256::new(envelope.digest(&record, version)) {
            return Err(malformed("its leaf names another envelope"));
        }
        let mut writes = Writes::default();
        writes.require_new_record(meta::table_key(&record, version));
        writes.put(
            Table::Encapsulations,
            envelope.encapsulation.to_vec(),
            sealed.encapsulation,
        );
        let meta = RecordMeta {
            log: reserved.log,
            custodian: None,
            shared: reserved.shared.clone(),
            preimage: sealed.preimage,
            leaf_salt: sealed.leaf_salt,
            element_salt: sealed.element_salt,
            envelope: Some(envelope),
            size_bytes: sealed.size_bytes,
        };
        Ok(Taking {
            vault: self,
            left: stream::sealed_len(meta.size_bytes),
            meta,
            writer: self.store.object_writer(),
            writes,
        })
    }

    fn require_absent(&self, record: RecordId, version: u32) -> Result<()> {
        let at = meta::table_key(&record, version);
        if self.store.contains(Table::Meta, &at)? {
            return Err(Error::Exists { record, version });
        }
        Ok(())
    }
}

/// Ciphertext that comes in piece by piece. Dropping it keeps nothing.
pub struct Taking<'a> {
    vault: &'a Vault,
    meta: RecordMeta,
    /// Bytes that may still come: a ciphertext is at most as long as its content makes it.
    left: u64,
    writer: ObjectWriter<'a>,
    writes: Writes,
}

impl Taking<'_> {
    /// Takes more ciphertext.
    ///
    /// # Errors
    /// [`Error::Malformed`] for more of it than the content's length makes; [`Error::DiskFull`]; [`Error::Objects`].
    pub async fn push(&mut self, sealed: &[u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(sealed.len() as u64)
            .ok_or(malformed("it is longer than its content makes it"))?;
        self.writer.push(sealed).await
    }

    /// Ends the ciphertext. It is stored; the batch still has to be committed.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not the ciphertext that the leaf names; [`Error::Objects`]; [`Error::Erased`].
    pub async fn finish(mut self) -> Result<SealedBatch> {
        let imported = self.writer.finish(&mut self.writes).await?;
        let digest = digest_of(&imported.cid)?;
        // Taking such a record back would take the other's ciphertext along.
        if self.vault.store.blob(&digest)?.is_some() || self.vault.store.object(&digest)?.is_some()
        {
            return Err(malformed("its ciphertext is another record's"));
        }
        if imported.cid.to_bytes() != self.meta.preimage.cid.as_ref() {
            return Err(malformed(
                "its ciphertext is not the one that its leaf names",
            ));
        }
        self.vault.put_meta(&self.meta, &mut self.writes)?;
        Ok(SealedBatch {
            records: vec![self.meta],
            writes: self.writes,
        })
    }
}

const fn malformed(problem: &'static str) -> Error {
    Error::Malformed {
        what: WHAT,
        problem,
    }
}
