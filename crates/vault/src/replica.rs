//! Copies of other members' records: ciphertext by address, and what gives its owner the vault back after a loss.
//!
//! For each leaf of a log its owner makes a [`Parcel`] and keeps it with other members. To whoever holds it a parcel is
//! an address and two sealed byte strings:
//!
//! ```text
//! sealed = AES-256-GCM(HKDF(master key of the owner's vault, "stele/vault/replica/v1", log);
//!                      record ‖ version ‖ meta as the owner's vault stores it, which is sealed once more)
//! shared = AES-256-GCM(export("stele/replica/v1" ‖ log ‖ leaf) of the record's encapsulation; what a reader needs)
//! ```
//!
//! `sealed` opens with the owner's master key *and* the leaf of its tree of destroyable keys that belongs to the record,
//! so a copy brings no erased record back. `shared` opens for whoever was granted the category; the content needs the
//! pepper besides, which custodians destroy with an erasure. Trees are never copied.

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use cid::Cid;
use stele_core::{
    crypto::{Secret32, aead, kdf, os_rng},
    id::{LogId, RecordId},
};
use zeroize::Zeroizing;

use crate::{
    cid::Digest,
    codec::{Reader, put_bytes},
    custody::Custody,
    envelope::Encapsulation,
    error::{Error, Result},
    keys::{Grant, Holder},
    meta::{RecordMeta, table_key},
    store::{Table, Writes},
    vault::Vault,
};

const WHAT: &str = "a copy of another member's record";
const VERSION: u8 = 1;

/// What a member keeps of one leaf of another member's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Place of the leaf in its log.
    pub leaf: u64,
    /// Address of the ciphertext; `None` for a version without content.
    pub cid: Option<Cid>,
    /// Encapsulation that `shared` is sealed under; `None` if there is no `shared`.
    pub encapsulation: Option<Digest>,
    /// For the owner.
    pub sealed: Vec<u8>,
    /// For readers; empty if the owner holds no key to seal it with.
    pub shared: Vec<u8>,
}

/// A parcel as it is held here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The log.
    pub log: LogId,
    /// The parcel.
    pub parcel: Parcel,
    /// Whether the ciphertext came here for this parcel alone, and goes with it.
    pub is_blob_ours: bool,
}

/// How far a log is copied here, and what is kept of it beside parcels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCopy {
    /// Organisation whose log it is.
    pub owner: Address,
    /// The leaf to go on from: everything before it is here, or was erased.
    pub next: u64,
    /// Height of the ledger at which the owner gave what follows.
    pub as_of: u64,
    /// Keys granted over the log, each sealed to its grantee.
    pub grants: Vec<(Address, Grant)>,
    /// Rows of the owner's key table by account, each sealed for the owner ([`Vault::sealed_keys`]).
    pub keys: Vec<(Address, Vec<u8>)>,
    /// Who shares the peppers of its records.
    pub custodies: Vec<Custody>,
}

impl LogCopy {
    /// Of a log of which nothing is here yet.
    #[must_use]
    pub const fn new(owner: Address) -> Self {
        Self {
            owner,
            next: 0,
            as_of: 0,
            grants: Vec::new(),
            keys: Vec::new(),
            custodies: Vec::new(),
        }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.owner.as_slice());
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&self.as_of.to_be_bytes());
        put_count(&mut out, self.grants.len());
        for (grantee, grant) in &self.grants {
            out.extend_from_slice(grantee.as_slice());
            put_bytes(&mut out, &grant.encode());
        }
        put_count(&mut out, self.keys.len());
        for (account, key) in &self.keys {
            out.extend_from_slice(account.as_slice());
            put_bytes(&mut out, key);
        }
        let custodies = serde_json::to_vec(&self.custodies).map_err(|_| Error::Malformed {
            what: WHAT,
            problem: "its custodies can't be written",
        })?;
        put_bytes(&mut out, &custodies);
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.u8()? != VERSION {
            return Err(reader.error("its version is unknown"));
        }
        let owner = Address::new(reader.array()?);
        let (next, as_of) = (reader.u64()?, reader.u64()?);
        let grants = (0..reader.u32()?).map(|_| {
            let grantee = Address::new(reader.array()?);
            Ok((grantee, Grant::decode(reader.bytes()?)?))
        });
        let grants = grants.collect::<Result<_>>()?;
        let keys = (0..reader.u32()?)
            .map(|_| Ok((Address::new(reader.array()?), reader.bytes()?.to_vec())));
        let keys = keys.collect::<Result<_>>()?;
        let custodies = serde_json::from_slice(reader.bytes()?)
            .map_err(|_| reader.error("its custodies can't be read"))?;
        reader.end()?;
        Ok(Self {
            owner,
            next,
            as_of,
            grants,
            keys,
            custodies,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

impl Held {
    fn key(log: LogId, leaf: u64) -> Vec<u8> {
        [log.as_slice(), &leaf.to_be_bytes()].concat()
    }

    fn encode(&self) -> Vec<u8> {
        let parcel = &self.parcel;
        let mut out = vec![VERSION, u8::from(self.is_blob_ours)];
        put_bytes(
            &mut out,
            &parcel.cid.map_or_else(Vec::new, |cid| cid.to_bytes()),
        );
        put_bytes(
            &mut out,
            parcel.encapsulation.as_ref().map_or(&[], |digest| digest),
        );
        put_bytes(&mut out, &parcel.sealed);
        put_bytes(&mut out, &parcel.shared);
        out
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let mut at = Reader::new(key, WHAT);
        let (log, leaf) = (LogId::new(at.array()?), at.u64()?);
        at.end()?;
        let mut reader = Reader::new(value, WHAT);
        if reader.u8()? != VERSION {
            return Err(reader.error("its version is unknown"));
        }
        let is_blob_ours = reader.u8()? == 1;
        let cid = match reader.bytes()? {
            [] => None,
            bytes => Some(Cid::try_from(bytes).map_err(|_| reader.error("its CID is none"))?),
        };
        let encapsulation = match reader.bytes()? {
            [] => None,
            bytes => Some(
                Digest::try_from(bytes).map_err(|_| reader.error("its encapsulation is none"))?,
            ),
        };
        let parcel = Parcel {
            leaf,
            cid,
            encapsulation,
            sealed: reader.bytes()?.to_vec(),
            shared: reader.bytes()?.to_vec(),
        };
        reader.end()?;
        Ok(Self {
            log,
            parcel,
            is_blob_ours,
        })
    }
}

/// What the owner finds in a parcel of its own.
#[derive(Debug)]
pub struct OwnParcel {
    /// The meta, opened.
    pub meta: RecordMeta,
    row: Bytes,
}

/// Making and opening parcels.
impl Vault {
    /// The parcel of a record version that this vault keeps as its own, at a leaf of its log. `described` is sealed for
    /// readers with what the holder's keys give; without such a key readers get nothing. `None` for a version that is
    /// not here.
    ///
    /// # Errors
    /// [`Error::Erased`]; [`Error::RecordMismatch`] if the stored meta was altered; [`Error::Database`].
    pub fn parcel(
        &self,
        (leaf, record, version): (u64, &RecordId, u32),
        holder: Holder,
        described: impl FnOnce(&RecordMeta) -> Zeroizing<Vec<u8>>,
    ) -> Result<Option<Parcel>> {
        let Some(meta) = self.meta(record, version)? else {
            return Ok(None);
        };
        let Some(row) = self
            .store
            .value(Table::Meta, &table_key(record, version))?
            .filter(|_| meta.custodian.is_none())
        else {
            return Ok(None);
        };
        let context = Held::key(meta.log, leaf);
        let own = Zeroizing::new([record.as_bytes(), &version.to_be_bytes(), &row[..]].concat());
        let sealed = aead::seal(&self.parcel_key(meta.log), &context, &own, &mut os_rng())
            .map_err(Error::crypto("sealing a parcel"))?;
        let encapsulation = meta.envelope.map(|envelope| envelope.encapsulation);
        let mut parcel = Parcel {
            leaf,
            cid: meta.cid()?,
            encapsulation: None,
            sealed,
            shared: Vec::new(),
        };
        if let Some(digest) = encapsulation
            && let Ok(exporter) = self.exporter(holder, &digest)
        {
            let key = exporter
                .key(&shared_context(&context))
                .map_err(Error::crypto("deriving a parcel's key"))?;
            parcel.shared = aead::seal(&key, &context, &described(&meta), &mut os_rng())
                .map_err(Error::crypto("sealing a parcel"))?;
            parcel.encapsulation = Some(digest);
        }
        Ok(Some(parcel))
    }

    /// What a parcel says to a reader who was granted keys; `None` for one whose keys do not open it. The encapsulation
    /// has to be here.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an encapsulation that is not here; [`Error::Database`].
    pub fn open_shared(
        &self,
        reader: Address,
        log: LogId,
        parcel: &Parcel,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(digest) = &parcel.encapsulation else {
            return Ok(None);
        };
        let exporter = match self.exporter(Holder::Grantee(reader), digest) {
            Ok(exporter) => exporter,
            Err(Error::NoKey { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let context = Held::key(log, parcel.leaf);
        let key = exporter
            .key(&shared_context(&context))
            .map_err(Error::crypto("deriving a parcel's key"))?;
        Ok(aead::open(&key, &context, &parcel.shared).ok())
    }

    /// What the owner finds in a parcel of its own; `None` for a record that was erased here.
    ///
    /// # Errors
    /// [`Error::Crypto`] for a parcel that this vault did not make, or that was altered; [`Error::RecordMismatch`].
    pub fn open_parcel(&self, log: LogId, parcel: &Parcel) -> Result<Option<OwnParcel>> {
        let context = Held::key(log, parcel.leaf);
        let own = aead::open(&self.parcel_key(log), &context, &parcel.sealed)
            .map_err(Error::crypto("opening a parcel"))?;
        let mut reader = Reader::new(&own, WHAT);
        let (record, version) = (RecordId(B256::new(reader.array()?)), reader.u32()?);
        let row = Bytes::copy_from_slice(reader.rest());
        if self.is_erased(&record)? {
            return Ok(None);
        }
        match RecordMeta::open(&self.records, record, version, &row) {
            Ok(meta) => Ok(Some(OwnParcel { meta, row })),
            Err(Error::Erased { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what parcels gave back, durably, as it stood before the loss. Versions that are here already are passed
    /// over.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Database`].
    pub async fn take_back(&self, found: &[OwnParcel]) -> Result<()> {
        let mut writes = Writes::default();
        for OwnParcel { meta, row } in found {
            let at = table_key(&meta.record(), meta.version());
            if !self.store.contains(Table::Meta, &at)? {
                writes.put(Table::Meta, at, row.to_vec());
            }
        }
        self.commit_some(writes).await
    }

    /// Keeps encapsulations, which are public, under their digests.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn keep_encapsulations(&self, given: &[Encapsulation]) -> Result<()> {
        let mut writes = Writes::default();
        for one in given {
            let at = one.digest().to_vec();
            if !self.store.contains(Table::Encapsulations, &at)? {
                writes.put(Table::Encapsulations, at, one.encode());
            }
        }
        self.commit_some(writes).await
    }

    /// The rows of the key table that belong to an account, each sealed for this vault: what is kept with other members
    /// beside its log.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Crypto`].
    pub fn sealed_keys(&self, account: Address) -> Result<Vec<Vec<u8>>> {
        let key = self.parcel_key(account);
        let mut sealed = Vec::new();
        for row in self.keys.rows(account)? {
            let (at, value) = row;
            let mut plain = Zeroizing::new(Vec::with_capacity(8 + at.len() + value.len()));
            put_bytes(&mut plain, &at);
            put_bytes(&mut plain, &value);
            let one = aead::seal(&key, account.as_slice(), &plain, &mut os_rng())
                .map_err(Error::crypto("sealing a key's row"))?;
            sealed.push(one);
        }
        Ok(sealed)
    }

    /// Puts rows of an account's keys back that are not here, durably; gives how many. One whose key was destroyed here
    /// stays away.
    ///
    /// # Errors
    /// [`Error::Crypto`] for rows that this vault did not seal; [`Error::Database`].
    pub async fn take_back_keys(&self, account: Address, sealed: &[Vec<u8>]) -> Result<u64> {
        let key = self.parcel_key(account);
        let mut rows = Vec::with_capacity(sealed.len());
        for one in sealed {
            let plain = aead::open(&key, account.as_slice(), one)
                .map_err(Error::crypto("opening a key's row"))?;
            let mut reader = Reader::new(&plain, "a key's row");
            rows.push((reader.bytes()?.to_vec(), reader.bytes()?.to_vec()));
            reader.end()?;
        }
        self.keys.put_back(account, rows).await
    }

    /// One key a log, from the master key: a random nonce each is then far from its bound.
    fn parcel_key(&self, log: LogId) -> Secret32 {
        kdf::derive(
            self.master().expose(),
            "stele/vault/replica/v1",
            &[log.as_slice()],
        )
    }

    async fn commit_some(&self, writes: Writes) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        self.store.commit(writes).await
    }
}

/// Keeping parcels of others.
impl Vault {
    /// Keeps parcels of a log, and how far it is copied, durably and together.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Database`].
    pub async fn keep_parcels(&self, log: LogId, copy: &LogCopy, held: &[Held]) -> Result<()> {
        let mut writes = Writes::default();
        for one in held {
            let at = Held::key(log, one.parcel.leaf);
            writes.put(Table::Parcels, at, one.encode());
        }
        writes.put(Table::Copies, log.to_vec(), copy.encode()?);
        self.store.commit(writes).await
    }

    /// How far a log is copied here. `None` if it is not.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn log_copy(&self, log: LogId) -> Result<Option<LogCopy>> {
        let row = self.store.value(Table::Copies, log.as_slice())?;
        row.map(|bytes| LogCopy::decode(&bytes)).transpose()
    }

    /// Parcels of a log from a leaf on, at most so many.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn parcels(&self, log: LogId, from: u64, limit: usize) -> Result<Vec<Parcel>> {
        let found = self.store.scan_from(Table::Parcels, &Held::key(log, from));
        let held = found.map(|entry| {
            let (key, value) = entry?;
            Held::decode(&key, &value)
        });
        held.take_while(|one| one.as_ref().map_or(true, |one| one.log == log))
            .take(limit)
            .map(|one| one.map(|one| one.parcel))
            .collect()
    }

    /// The parcel of a leaf, if it is held here.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn held(&self, log: LogId, leaf: u64) -> Result<Option<Held>> {
        let at = Held::key(log, leaf);
        let row = self.store.value(Table::Parcels, &at)?;
        row.map(|value| Held::decode(&at, &value)).transpose()
    }

    /// Some parcels held here, from a place drawn at random on, and from the beginning after the last one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn some_parcels(&self, from: &[u8; 20], limit: usize) -> Result<Vec<Held>> {
        self.some(Table::Parcels, from, limit)?
            .iter()
            .map(|(key, value)| Held::decode(key, value))
            .collect()
    }

    /// Addresses of some ciphertexts of records here, this vault's own and copies for readers, from a place drawn at
    /// random on. Metas that do not open are passed over.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn some_metas(&self, from: &[u8; 20], limit: usize) -> Result<Vec<RecordMeta>> {
        let mut found = Vec::new();
        for (key, sealed) in self.some(Table::Meta, from, limit)? {
            let (record, version) = crate::meta::parse_table_key(&key)?;
            found.extend(RecordMeta::open(&self.records, record, version, &sealed));
        }
        Ok(found)
    }

    fn some(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let mut found: Vec<_> = self
            .store
            .scan_from(table, from)
            .take(limit)
            .collect::<Result<_>>()?;
        let more = limit.saturating_sub(found.len());
        for entry in self.store.scan(table, &[]).take(more) {
            let (key, value) = entry?;
            if key.as_ref() >= from {
                break;
            }
            found.push((key, value));
        }
        Ok(found)
    }

    /// Drops the parcel of an erased leaf, and its ciphertext if that came here for it. Durable when it returns; a parcel
    /// that is not here is no error. Gives whether there was one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Objects`].
    pub async fn drop_parcel(&self, log: LogId, leaf: u64) -> Result<bool> {
        let at = Held::key(log, leaf);
        let Some(value) = self.store.value(Table::Parcels, &at)? else {
            return Ok(false);
        };
        let held = Held::decode(&at, &value)?;
        let mut writes = Writes::default();
        writes.remove(Table::Parcels, at);
        let object = match held.parcel.cid.filter(|_| held.is_blob_ours) {
            Some(cid) => self.store.remove(&cid, &mut writes)?,
            None => None,
        };
        self.store.commit(writes).await?;
        if let Some(object) = object {
            self.store.delete_object(&object).await?;
        }
        Ok(true)
    }
}

fn shared_context(context: &[u8]) -> Vec<u8> {
    [&b"stele/replica/v1"[..], context].concat()
}

#[cfg(test)]
mod tests;
