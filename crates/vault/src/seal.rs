//! Sealing: plaintext in, ciphertext with its address, envelope, salts and leaf out.
//!
//! [`Vault::seal_batch`] is computation only and may run on any thread; nothing is stored until
//! [`Vault::commit`], which makes a whole batch durable with one shared fsync. Content of unknown
//! length goes through [`Vault::seal_stream`] and is never held whole.

use std::{collections::BTreeMap, io::Write};

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use rand_core::CryptoRng;
use stele_core::{
    crypto::{
        Secret32,
        hpke::Exporter,
        stream::{self, Encoding, Sealer},
    },
    element,
    id::{LogId, RecordId},
    leaf::{ContentHasher, LeafKind, LeafPreimage, content_digest},
    time::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    cid::{Digest, LEAF_LEN, digest_of, import},
    custody::{ShareOf, SharedPepper},
    envelope::{Encapsulation, Envelope, content_key},
    error::{Error, Result},
    keys::KeyPlace,
    meta::{self, RecordMeta},
    store::{ObjectWriter, Table, Writes},
    vault::Vault,
};

/// Shorter content is not compressed: its padding would eat the gain.
const COMPRESS_MIN_LEN: usize = 512;

/// Longest JSON whose element tree is built: some 200,000 elements, 40 MiB for a moment.
const TREE_MAX: usize = 4 << 20;

/// What a new record version holds.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// A JSON resource: it gets an element tree and is compressed.
    Json(&'a str),
    /// Anything else, sealed as it is.
    Opaque(&'a [u8]),
    /// Nothing: a tombstone.
    None,
}

/// A record version to be sealed.
#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    /// The log its leaf will stand in: the patient's, or the organisation's.
    pub log: LogId,
    /// The record.
    pub record: RecordId,
    /// Its version, from 1. A record version is sealed once.
    pub version: u32,
    /// What the leaf does.
    pub kind: LeafKind,
    /// Category, 0 to 63, before the patient's permutation.
    pub category: u8,
    /// Who wrote it.
    pub author: Address,
    /// Leaf of the version before; zero for the first.
    pub previous: B256,
    /// The content.
    pub content: Content<'a>,
}

/// Sealed records, not yet durable.
#[derive(Debug)]
pub struct SealedBatch {
    /// Their metas, in the order given; [`RecordMeta::leaf`] is what to anchor.
    pub records: Vec<RecordMeta>,
    pub(crate) writes: Writes,
}

impl SealedBatch {
    /// Joins two batches into one commit.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.records.extend(other.records);
        self.writes.append(other.writes);
        self
    }
}

/// Encapsulations made so far in a batch, by place.
type Shared = BTreeMap<KeyPlace, (Digest, Exporter)>;

/// A record's keys and salts, before its content is sealed.
struct Prepared {
    place: KeyPlace,
    envelope: Envelope,
    content_key: Secret32,
    shared: Option<SharedPepper>,
    leaf_salt: [u8; 32],
    element_salt: Secret32,
}

impl Vault {
    /// Seals record versions. One X-Wing encapsulation is made for each distinct (log, category)
    /// in the batch. Stores nothing.
    ///
    /// # Errors
    /// [`Error::Exists`] if a version is stored already; [`Error::Erased`] if its record was
    /// erased; [`Error::UnknownLog`] if no key of its log is known; [`Error::Element`] if a JSON
    /// content is none.
    pub fn seal_batch(
        &self,
        records: &[NewRecord<'_>],
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<SealedBatch> {
        let mut batch = SealedBatch {
            records: Vec::with_capacity(records.len()),
            writes: Writes::default(),
        };
        let mut shared = Shared::new();
        for record in records {
            let prepared = self.prepare(record, now, &mut shared, &mut batch.writes, rng)?;
            let meta = match record.content {
                Content::None => tombstone_meta(record, &prepared),
                Content::Json(text) => {
                    let root = element_root(record, &prepared, text)?;
                    seal_content(
                        record,
                        &prepared,
                        text.as_bytes(),
                        root,
                        &mut batch.writes,
                        rng,
                    )?
                }
                Content::Opaque(bytes) => {
                    seal_content(record, &prepared, bytes, B256::ZERO, &mut batch.writes, rng)?
                }
            };
            self.put_meta(&meta, &mut batch.writes)?;
            batch.records.push(meta);
        }
        Ok(batch)
    }

    /// Makes a batch durable, whole or not at all. Concurrent commits share one fsync.
    ///
    /// # Errors
    /// [`Error::Exists`] if another commit was first with one of the versions; [`Error::DiskFull`];
    /// [`Error::Database`].
    pub async fn commit(&self, batch: SealedBatch) -> Result<Vec<RecordMeta>> {
        self.store.commit(batch.writes).await?;
        Ok(batch.records)
    }

    /// As [`Self::commit`], for threads outside the runtime.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_blocking(&self, batch: SealedBatch) -> Result<Vec<RecordMeta>> {
        self.store.commit_blocking(batch.writes)?;
        Ok(batch.records)
    }

    /// Starts sealing content of unknown length. Where `record.content` is the JSON that will be pushed, up to 4 MiB
    /// of it, the leaf gets its element root; other content has none.
    ///
    /// # Errors
    /// As [`Self::seal_batch`].
    pub fn seal_stream(
        &self,
        record: &NewRecord<'_>,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<SealStream<'_>> {
        let mut writes = Writes::default();
        let prepared = self.prepare(record, now, &mut Shared::new(), &mut writes, rng)?;
        let mut sealed = Vec::with_capacity(2 * stream::CHUNK_LEN);
        let sealer = Sealer::new(&prepared.content_key, Encoding::Plain, rng, &mut sealed)
            .map_err(Error::crypto("sealing a record"))?;
        let mut meta = tombstone_meta(record, &prepared);
        if let Content::Json(text) = record.content
            && text.len() <= TREE_MAX
        {
            meta.preimage.element_root = element_root(record, &prepared, text)?;
        }
        Ok(SealStream {
            vault: self,
            meta,
            envelope: prepared.envelope,
            hasher: ContentHasher::new(prepared.element_salt.expose()),
            sealer,
            sealed,
            writer: self.store.object_writer(),
            writes,
        })
    }

    fn prepare(
        &self,
        record: &NewRecord<'_>,
        now: Timestamp,
        shared: &mut Shared,
        writes: &mut Writes,
        rng: &mut impl CryptoRng,
    ) -> Result<Prepared> {
        let (id, version) = (&record.record, record.version);
        let at = meta::table_key(id, version);
        if self.store.contains(Table::Meta, &at)? {
            return Err(Error::Exists {
                record: *id,
                version,
            });
        }
        writes.require_new_record(at);
        let (place, public) = self
            .keys
            .writing_key(record.log, record.category, now.month())?;
        let (encapsulation, exporter) = match shared.entry(place) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => {
                let (encapsulation, exporter) = Encapsulation::new(place, &public, rng)?;
                let digest = encapsulation.digest();
                writes.put(
                    Table::Encapsulations,
                    digest.to_vec(),
                    encapsulation.encode(),
                );
                empty.insert((digest, exporter))
            }
        };
        let (envelope, key) = Envelope::seal(*encapsulation, exporter, id, version, rng)?;
        let (pepper, shared) = self.custodian.seal(&ShareOf {
            log: record.log,
            slot: place.slot,
            record: id,
            version,
        })?;
        let mut leaf_salt = [0; 32];
        rng.fill_bytes(&mut leaf_salt);
        Ok(Prepared {
            place,
            envelope,
            content_key: content_key(&key, &pepper, id, version),
            shared,
            leaf_salt,
            element_salt: Secret32::random(rng),
        })
    }

    pub(crate) fn put_meta(&self, meta: &RecordMeta, writes: &mut Writes) -> Result<()> {
        let sealed = meta.seal(&self.records)?.ok_or(Error::Erased {
            record: meta.record(),
        })?;
        writes.put(
            Table::Meta,
            meta::table_key(&meta.record(), meta.version()),
            sealed,
        );
        Ok(())
    }
}

/// Content being sealed as it comes.
pub struct SealStream<'a> {
    vault: &'a Vault,
    meta: RecordMeta,
    envelope: Envelope,
    hasher: ContentHasher,
    sealer: Sealer,
    sealed: Vec<u8>,
    writer: ObjectWriter<'a>,
    writes: Writes,
}

impl SealStream<'_> {
    /// Takes more content. Holds at most a few chunks of 64 KiB and one upload part.
    ///
    /// # Errors
    /// [`Error::Objects`] if the object store refuses.
    pub async fn push(&mut self, content: &[u8]) -> Result<()> {
        for piece in content.chunks(stream::CHUNK_LEN) {
            self.hasher.update(piece);
            self.meta.size_bytes += piece.len() as u64;
            self.sealer
                .push(piece, &mut self.sealed)
                .map_err(Error::crypto("sealing a record"))?;
            self.hand_on().await?;
        }
        Ok(())
    }

    /// Ends the content. The ciphertext is stored; the batch still has to be committed.
    ///
    /// # Errors
    /// [`Error::Objects`] if the object store refuses.
    pub async fn finish(mut self) -> Result<SealedBatch> {
        self.sealer
            .finish(&mut self.sealed)
            .map_err(Error::crypto("sealing a record"))?;
        self.writer.push(&self.sealed).await?;
        let imported = self.writer.finish(&mut self.writes).await?;
        let (record, version) = (self.meta.record(), self.meta.version());
        self.meta.preimage.cid = imported.cid.to_bytes().into();
        self.meta.preimage.content = self.hasher.finish();
        self.meta.preimage.envelope_digest = B256::new(self.envelope.digest(&record, version));
        self.meta.envelope = Some(self.envelope);
        self.vault.put_meta(&self.meta, &mut self.writes)?;
        Ok(SealedBatch {
            records: vec![self.meta],
            writes: self.writes,
        })
    }

    async fn hand_on(&mut self) -> Result<()> {
        self.writer.push(&self.sealed).await?;
        self.sealed.clear();
        Ok(())
    }
}

fn element_root(record: &NewRecord<'_>, prepared: &Prepared, text: &str) -> Result<B256> {
    element::root(text, &prepared.element_salt).map_err(|source| Error::Element {
        record: record.record,
        source,
    })
}

fn tombstone_meta(record: &NewRecord<'_>, prepared: &Prepared) -> RecordMeta {
    RecordMeta {
        custodian: None,
        shared: prepared.shared.clone(),
        log: record.log,
        preimage: LeafPreimage {
            record: record.record,
            version: record.version,
            kind: record.kind,
            category_slot: prepared.place.slot,
            cid: Bytes::new().into(),
            content: B256::ZERO,
            element_root: B256::ZERO,
            envelope_digest: B256::ZERO,
            author: record.author,
            previous: record.previous,
        },
        leaf_salt: prepared.leaf_salt,
        element_salt: prepared.element_salt.clone(),
        envelope: None,
        size_bytes: 0,
    }
}

fn seal_content(
    record: &NewRecord<'_>,
    prepared: &Prepared,
    content: &[u8],
    element_root: B256,
    writes: &mut Writes,
    rng: &mut impl CryptoRng,
) -> Result<RecordMeta> {
    let compressed = match record.content {
        Content::Json(_) => compress(content),
        Content::Opaque(_) | Content::None => None,
    };
    let (encoding, bytes) = match &compressed {
        Some(smaller) => (Encoding::Deflate, smaller.as_slice()),
        None => (Encoding::Plain, content),
    };
    let sealed = stream::seal(&prepared.content_key, encoding, bytes, rng)
        .map_err(Error::crypto("sealing a record"))?;
    let cid = store_sealed(sealed, writes)?;
    let mut meta = tombstone_meta(record, prepared);
    meta.preimage.cid = cid.to_bytes().into();
    meta.preimage.content = content_digest(prepared.element_salt.expose(), content);
    meta.preimage.element_root = element_root;
    meta.preimage.envelope_digest =
        B256::new(prepared.envelope.digest(&record.record, record.version));
    meta.envelope = Some(prepared.envelope);
    meta.size_bytes = content.len() as u64;
    Ok(meta)
}

fn store_sealed(sealed: Vec<u8>, writes: &mut Writes) -> Result<::cid::Cid> {
    if sealed.len() > LEAF_LEN {
        return Err(Error::OutOfRange {
            what: "the ciphertext of a record in a batch",
            limit: LEAF_LEN as u64,
        });
    }
    let cid = import(&sealed)?.cid;
    writes.put(Table::Blobs, digest_of(&cid)?.to_vec(), sealed);
    Ok(cid)
}

/// Raw DEFLATE, or `None` where it would not help.
fn compress(content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if content.len() < COMPRESS_MIN_LEN {
        return None;
    }
    let out = Vec::with_capacity(content.len() / 2);
    let mut encoder = DeflateEncoder::new(out, Compression::fast());
    encoder.write_all(content).ok()?;
    let out = Zeroizing::new(encoder.finish().ok()?);
    (stream::sealed_len(out.len() as u64) < stream::sealed_len(content.len() as u64)).then_some(out)
}
