//! The durable blockstore: ciphertext by content address, and the vault's other tables.
//!
//! Small blobs (one leaf, up to 256 KiB) live in `fjall`; larger ones are objects of their own in an
//! [`ObjectStore`], with their inner nodes and the list of their leaves in `fjall`. All tables share
//! one journal, so that a batch of records becomes durable, whole or not at all, with one fsync,
//! and concurrent batches share it (`commit`). Every read is checked against its address.
//!
//! The store sees ciphertext only. It must never be given plaintext or unwrapped keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cid::Cid;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use object_store::{ObjectStore, ObjectStoreExt, path::Path as ObjectPath};

use crate::{
    cid::{DAG_PB, Digest, LEAF_LEN, RAW, cid_of, digest_of, sha256},
    codec::Reader,
    error::{Error, Result},
};

pub(crate) mod commit;
mod object;
#[cfg(feature = "s3")]
pub mod s3;
mod settle;
mod space;
mod verify;

use commit::Committer;
pub(crate) use commit::Writes;
pub use object::ObjectWriter;
pub use verify::{BadBlob, Progress, Report};

/// Tables of the vault's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Digest → one-leaf blob.
    Blobs,
    /// Digest → dag-pb node of an object.
    Nodes,
    /// Digest of an object's leaf → digest of its root, place among the leaves.
    Leaves,
    /// Digest of an object's root → [`Object`].
    Objects,
    /// Record and version → sealed record meta.
    Meta,
    /// Digest → encapsulation shared by a batch.
    Encapsulations,
    /// Keys of the key service, wrapped.
    Keys,
    /// Erased record → when.
    Tombstones,
    /// Another member's log and leaf → what is kept of it for its owner and readers.
    Parcels,
    /// Another member's log → how far it is copied.
    Copies,
}

impl Table {
    /// Whether it grows with the records that are stored, and not with what is done about them.
    const fn is_of_records(self) -> bool {
        match self {
            Self::Blobs
            | Self::Nodes
            | Self::Leaves
            | Self::Objects
            | Self::Meta
            | Self::Parcels => true,
            Self::Encapsulations | Self::Keys | Self::Tombstones | Self::Copies => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Nodes => "nodes",
            Self::Leaves => "leaves",
            Self::Objects => "objects",
            Self::Meta => "meta",
            Self::Encapsulations => "encapsulations",
            Self::Keys => "keys",
            Self::Tombstones => "tombstones",
            Self::Parcels => "parcels",
            Self::Copies => "copies",
        }
    }
}

/// The tables, opened.
#[derive(Clone)]
struct Tables([Keyspace; 10]);

impl Tables {
    fn open(db: &Database) -> Result<Self, fjall::Error> {
        let table = |name: &str| {
            db.keyspace(name, || {
                let options = KeyspaceCreateOptions::default().max_memtable_size(WRITES_BYTES);
                // Ciphertexts are written once and never change: keeping them out of the sorted
                // segments saves rewriting them at every compaction.
                if name == "blobs" {
                    // Each has a checksum of its own there, so that damage costs one blob.
                    let apart = KvSeparationOptions::default().separation_threshold(BLOB_MIN_BYTES);
                    options.with_kv_separation(Some(apart))
                } else {
                    options
                }
            })
        };
        Ok(Self([
            table("blobs")?,
            table("nodes")?,
            table("leaves")?,
            table("objects")?,
            table("meta")?,
            table("encapsulations")?,
            table("keys")?,
            table("tombstones")?,
            table("parcels")?,
            table("copies")?,
        ]))
    }

    const fn of(&self, table: Table) -> &Keyspace {
        let Self(
            [
                blobs,
                nodes,
                leaves,
                objects,
                meta,
                encapsulations,
                keys,
                tombstones,
                parcels,
                copies,
            ],
        ) = self;
        match table {
            Table::Blobs => blobs,
            Table::Nodes => nodes,
            Table::Leaves => leaves,
            Table::Objects => objects,
            Table::Meta => meta,
            Table::Encapsulations => encapsulations,
            Table::Keys => keys,
            Table::Tombstones => tombstones,
            Table::Parcels => parcels,
            Table::Copies => copies,
        }
    }
}

/// Writes of one table kept in memory before they go to a file. The default of 64 MiB a table would let an import
/// hold half a gigabyte.
const WRITES_BYTES: u64 = 16 << 20;

/// Where the store keeps things and how much room it leaves.
pub(crate) struct StoreConfig<'a> {
    /// Folder of the database.
    pub(crate) folder: &'a Path,
    /// Store of large objects.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Bytes that must stay free for a write to be accepted.
    pub(crate) reserve_bytes: u64,
    /// Bytes of the database's read cache.
    pub(crate) cache_bytes: u64,
}

/// A large blob: where its bytes are and what its leaves hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Name in the object store: 32 hexadecimal digits, random.
    pub(crate) name: [u8; 16],
    /// Length in bytes.
    pub(crate) size_bytes: u64,
    /// Digests of the leaves, in order.
    pub(crate) leaves: Vec<Digest>,
}

impl Object {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(25 + self.leaves.len() * 32);
        out.push(1);
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&self.size_bytes.to_be_bytes());
        for leaf in &self.leaves {
            out.extend_from_slice(leaf);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "an object's description");
        if reader.u8()? != 1 {
            return Err(reader.error("its version is unknown"));
        }
        let (name, size_bytes) = (reader.array()?, reader.u64()?);
        let (leaves, left) = reader.rest().as_chunks::<32>();
        let expected = size_bytes.div_ceil(LEAF_LEN as u64);
        if !left.is_empty() || leaves.len() as u64 != expected {
            return Err(Error::Malformed {
                what: "an object's description",
                problem: "it has a wrong number of leaves",
            });
        }
        Ok(Self {
            name,
            size_bytes,
            leaves: leaves.to_vec(),
        })
    }

    fn path(&self) -> ObjectPath {
        object_path(&self.name)
    }
}

fn object_path(name: &[u8; 16]) -> ObjectPath {
    let text = alloy_primitives::hex::encode(name);
    let (folder, _) = text.split_at_checked(2).unwrap_or(("", ""));
    ObjectPath::from_iter([folder, text.as_str()])
}

/// The blockstore and tables of one vault.
pub struct Store {
    folder: PathBuf,
    tables: Tables,
    committer: Committer,
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    pub(crate) fn open(config: &StoreConfig<'_>) -> Result<Self> {
        std::fs::create_dir_all(config.folder)
            .map_err(Error::io("creating the folder", config.folder))?;
        settle::drop_settled_journal(config.folder)?;
        let (db, tables) = stele_disk::open(config.folder, |folder| {
            let db = Database::builder(folder)
                .cache_size(config.cache_bytes)
                .open()?;
            let tables = Tables::open(&db)?;
            Ok((db, tables))
        })
        .map_err(|error| match error {
            stele_disk::Error::Engine(error) => Error::database("opening")(error),
            error => Error::Unreadable(error),
        })?;
        let room = space::Room::new(config.folder, config.reserve_bytes);
        let committer = Committer::start(db, tables.clone(), room)?;
        Ok(Self {
            folder: config.folder.to_owned(),
            tables,
            committer,
            objects: Arc::clone(&config.objects),
        })
    }

    /// Number of ciphertexts, approximately; costs nothing.
    #[must_use]
    pub fn blobs(&self) -> u64 {
        let of = |table| self.tables.of(table).approximate_len() as u64;
        of(Table::Blobs).saturating_add(of(Table::Objects))
    }

    /// Ends writing for good: what waits is written, and everything moves from the journal to the tables. Reading
    /// goes on.
    pub(crate) fn close(&self) -> Result<()> {
        // Its threads do the moving, so the database must outlive it.
        match self.committer.stop() {
            Some(_database) => settle::settle(&self.tables, &self.folder),
            None => Ok(()),
        }
    }

    /// Refuses when records could not be stored: before anything is prepared for them.
    pub(crate) fn require_room(&self) -> Result<()> {
        self.committer.require_room(0)
    }

    /// Free bytes, and those that must stay free.
    pub(crate) fn room(&self) -> Option<(u64, u64)> {
        self.committer.room()
    }

    /// Makes writes durable: all of them, or none. Concurrent callers share one fsync.
    pub(crate) async fn commit(&self, writes: Writes) -> Result<()> {
        self.committer.commit(writes).await
    }

    /// As [`Self::commit`], for threads that may block.
    pub(crate) fn commit_blocking(&self, writes: Writes) -> Result<()> {
        self.committer.commit_blocking(writes)
    }

    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self
            .tables
            .of(table)
            .get(key)
            .map_err(Error::reading(table.name()))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn contains(&self, table: Table, key: &[u8]) -> Result<bool> {
        self.tables
            .of(table)
            .contains_key(key)
            .map_err(Error::reading(table.name()))
    }

    /// Keys and values under a prefix, in order. Stops at the first error.
    pub(crate) fn scan(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes)>> + use<> {
        self.tables.of(table).prefix(prefix).map(move |guard| {
            let (key, value) = guard.into_inner().map_err(Error::reading(table.name()))?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
    }

    /// Keys and values from a key on, in order. Stops at the first error.
    pub(crate) fn scan_from(
        &self,
        table: Table,
        from: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes)>> + use<> {
        let found = self.tables.of(table).range(from.to_vec()..);
        found.map(move |guard| {
            let (key, value) = guard.into_inner().map_err(Error::reading(table.name()))?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
    }

    /// Number of parcels of other members' records, approximately; costs nothing.
    #[must_use]
    pub fn parcels(&self) -> u64 {
        self.tables.of(Table::Parcels).approximate_len() as u64
    }

    /// Keys of a table, in order, without their values: a damaged value does not hide the others.
    pub(crate) fn keys(&self, table: Table) -> impl Iterator<Item = Result<Bytes>> + use<> {
        self.tables.of(table).iter().map(move |guard| {
            let key = guard.key().map_err(Error::reading(table.name()))?;
            Ok(Bytes::copy_from_slice(&key))
        })
    }

    /// A one-leaf blob, checked against its digest. `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the stored bytes are not what the digest says.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let Some(bytes) = self.value(Table::Blobs, digest)? else {
            return Ok(None);
        };
        check(RAW, digest, &bytes)?;
        Ok(Some(bytes))
    }

    pub(crate) fn object(&self, root: &Digest) -> Result<Option<Object>> {
        self.value(Table::Objects, root)?
            .map(|bytes| Object::decode(&bytes))
            .transpose()
    }

    /// One leaf of an object, checked.
    pub(crate) async fn object_leaf(&self, object: &Object, index: usize) -> Result<Bytes> {
        let digest = object.leaves.get(index).ok_or(Error::Malformed {
            what: "an object",
            problem: "it has no such leaf",
        })?;
        let start = index as u64 * LEAF_LEN as u64;
        let end = (start + LEAF_LEN as u64).min(object.size_bytes);
        let cid = cid_of(RAW, digest)?;
        let bytes = match self.objects.get_range(&object.path(), start..end).await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::MissingBlob { cid }),
            // A file cut short gives an invalid range: the bytes are not what the address says.
            Err(error) if is_short(&self.objects, object).await => {
                tracing::error!(%cid, %error, "a stored object is cut short");
                return Err(Error::Mismatch { cid });
            }
            Err(source) => {
                return Err(Error::Objects {
                    attempt: "reading",
                    source,
                });
            }
        };
        check(RAW, digest, &bytes)?;
        Ok(bytes)
    }

    /// One IPFS block (a leaf or an inner node) by its CID, checked. `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the stored bytes are not what the CID says; [`Error::Malformed`] for
    /// a CID whose hash is not SHA-256.
    pub async fn block(&self, cid: &Cid) -> Result<Option<Bytes>> {
        let digest = digest_of(cid)?;
        if cid.codec() == DAG_PB {
            let Some(bytes) = self.value(Table::Nodes, &digest)? else {
                return Ok(None);
            };
            check(DAG_PB, &digest, &bytes)?;
            return Ok(Some(bytes));
        }
        if cid.codec() != RAW {
            return Ok(None);
        }
        if let Some(bytes) = self.blob(&digest)? {
            return Ok(Some(bytes));
        }
        let Some(place) = self.value(Table::Leaves, &digest)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&place, "a leaf's place");
        let (root, index) = (reader.array()?, reader.u32()?);
        reader.end()?;
        let Some(object) = self.object(&root)? else {
            return Ok(None);
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.object_leaf(&object, index).await.map(Some)
    }

    /// Whether a block is here, without reading or checking it.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Malformed`].
    pub fn has_block(&self, cid: &Cid) -> Result<bool> {
        let digest = digest_of(cid)?;
        if cid.codec() == DAG_PB {
            return self.contains(Table::Nodes, &digest);
        }
        Ok(self.contains(Table::Blobs, &digest)? || self.contains(Table::Leaves, &digest)?)
    }

    /// Adds the removal of everything stored under a CID to `writes` and gives the object to
    /// delete, if it has one.
    pub(crate) fn remove(&self, cid: &Cid, writes: &mut Writes) -> Result<Option<Object>> {
        let root = digest_of(cid)?;
        if cid.codec() == RAW {
            writes.remove(Table::Blobs, root.to_vec());
            return Ok(None);
        }
        let Some(object) = self.object(&root)? else {
            return Ok(None);
        };
        for leaf in &object.leaves {
            writes.remove(Table::Leaves, leaf.to_vec());
        }
        let mut nodes = vec![root];
        while let Some(digest) = nodes.pop() {
            if let Some(bytes) = self.value(Table::Nodes, &digest)? {
                for link in crate::cid::links(&bytes)? {
                    if link.codec() == DAG_PB {
                        nodes.push(digest_of(&link)?);
                    }
                }
            }
            writes.remove(Table::Nodes, digest.to_vec());
        }
        writes.remove(Table::Objects, root.to_vec());
        Ok(Some(object))
    }

    /// Deletes an object's bytes. One that is gone already is no error.
    pub(crate) async fn delete_object(&self, object: &Object) -> Result<()> {
        match self.objects.delete(&object.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::Objects {
                attempt: "deleting",
                source,
            }),
        }
    }
}

async fn is_short(objects: &Arc<dyn ObjectStore>, object: &Object) -> bool {
    objects
        .head(&object.path())
        .await
        .is_ok_and(|found| found.size < object.size_bytes)
}

/// Every blob is at least a stream's header and tag long, so every one is kept apart.
const BLOB_MIN_BYTES: u32 = 64;

fn check(codec: u64, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if sha256(bytes) == *digest {
        return Ok(());
    }
    Err(Error::Mismatch {
        cid: cid_of(codec, digest)?,
    })
}

#[cfg(test)]
mod tests;
