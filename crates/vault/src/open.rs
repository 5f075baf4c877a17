//! Opening: ciphertext and keys in, checked plaintext out.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, DecompressError, FlushDecompress, Status};
use futures::{Stream, stream as streams};
use stele_core::{
    crypto::{
        Secret32,
        hpke::Exporter,
        stream::{self, CHUNK_LEN, Encoding, HEADER_LEN, Opener},
    },
    id::RecordId,
    leaf::content_digest,
};
use zeroize::Zeroizing;

use crate::{
    cid::{LEAF_LEN, RAW, digest_of},
    custodian::Pepper,
    envelope::{Encapsulation, content_key},
    error::{Error, Result},
    keys::Holder,
    meta::RecordMeta,
    store::{Object, Store, Table},
    vault::Vault,
};

impl Vault {
    /// Opens a record version whose ciphertext is one blob (up to 256 KiB), and checks the content
    /// against the leaf. Reads the disk, so it belongs on a thread that may block briefly.
    ///
    /// # Errors
    /// [`Error::NoKey`] if the holder has no key; [`Error::Mismatch`], [`Error::RecordMismatch`] or
    /// [`Error::Expand`] if anything was altered; [`Error::MissingBlob`];
    /// [`Error::OutOfRange`] for larger records: see [`Self::open_stream`].
    pub fn open_record(
        &self,
        meta: &RecordMeta,
        holder: Holder,
        pepper: &Pepper,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let (record, version) = (meta.record(), meta.version());
        let cid = meta
            .cid()?
            .ok_or(Error::MissingRecord { record, version })?;
        if cid.codec() != RAW {
            return Err(Error::OutOfRange {
                what: "the ciphertext of a record opened at once",
                limit: LEAF_LEN as u64,
            });
        }
        let sealed = self
            .store
            .blob(&digest_of(&cid)?)?
            .ok_or(Error::MissingBlob { cid })?;
        let key = self.content_key(meta, holder, pepper)?;
        let (encoding, content) =
            stream::open(&key, &sealed).map_err(Error::crypto("opening a record"))?;
        let content = expand(record, version, meta.size_bytes, encoding, content)?;
        if content_digest(meta.element_salt.expose(), &content) != meta.preimage.content {
            return Err(Error::RecordMismatch { record, version });
        }
        Ok(content)
    }

    /// Opens a range of a record of any size, chunk by chunk; all of it for `0..size_bytes`. Each
    /// chunk is authentic when it is given out. Content sealed by [`Self::seal_stream`] is never
    /// compressed, which is what makes ranges possible; a small record is opened at once.
    ///
    /// # Errors
    /// As [`Self::open_record`], now or as items.
    pub async fn open_stream(
        &self,
        meta: &RecordMeta,
        holder: Holder,
        pepper: &Pepper,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let (record, version) = (meta.record(), meta.version());
        let cid = meta
            .cid()?
            .ok_or(Error::MissingRecord { record, version })?;
        let range = range.start.min(meta.size_bytes)..range.end.min(meta.size_bytes);
        let reader = if cid.codec() == RAW {
            let content = self.open_record(meta, holder, pepper)?;
            let part = to_usize(range.start)..to_usize(range.end);
            Reader::Whole(Some(Bytes::copy_from_slice(
                content.get(part).unwrap_or_default(),
            )))
        } else {
            let object = self
                .store
                .object(&digest_of(&cid)?)?
                .ok_or(Error::MissingBlob { cid })?;
            let key = self.content_key(meta, holder, pepper)?;
            let reader = ChunkReader::open(
                Arc::clone(&self.store),
                object,
                &key,
                meta.size_bytes,
                range,
            );
            Reader::Chunks(Box::new(reader.await?))
        };
        Ok(streams::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        }))
    }

    /// The key a record's content is sealed with, as a holder finds it. For handing to nobody:
    /// a proof discloses elements, never this.
    fn content_key(&self, meta: &RecordMeta, holder: Holder, pepper: &Pepper) -> Result<Secret32> {
        let (record, version) = (meta.record(), meta.version());
        let envelope = meta
            .envelope
            .ok_or(Error::MissingRecord { record, version })?;
        let exporter = self.exporter(holder, &envelope.encapsulation)?;
        let key = envelope.open(&exporter, &record, version)?;
        Ok(content_key(&key, pepper, &record, version))
    }

    /// Unwraps what a record's envelope shares with others and keeps it, at most until the next block, so that opening
    /// the record is short. Opens nothing: that takes the pepper.
    ///
    /// # Errors
    /// [`Error::NoKey`] if the holder has no key; [`Error::Crypto`], [`Error::Malformed`].
    pub fn unwrap_ahead(&self, meta: &RecordMeta, holder: Holder) -> Result<()> {
        match &meta.envelope {
            Some(envelope) => self.exporter(holder, &envelope.encapsulation).map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn exporter(&self, holder: Holder, digest: &[u8; 32]) -> Result<Arc<Exporter>> {
        self.cached_exporter(holder, digest, || {
            let encapsulation = self.encapsulation(digest)?;
            let secret = self.keys.reading_key(holder, &encapsulation.place)?;
            encapsulation.open(&secret)
        })
    }

    /// The encapsulation a record's envelope refers to: what a reader elsewhere (a patient's
    /// browser) needs beside the meta, the ciphertext and the pepper.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not here or not what its digest says.
    pub fn encapsulation(&self, digest: &[u8; 32]) -> Result<Encapsulation> {
        let malformed = |problem| Error::Malformed {
            what: "an encapsulation",
            problem,
        };
        let bytes = self
            .store
            .value(Table::Encapsulations, digest)?
            .ok_or(malformed("it is not stored here"))?;
        let encapsulation = Encapsulation::decode(&bytes)?;
        if encapsulation.digest() != *digest {
            return Err(malformed("it does not match its digest"));
        }
        Ok(encapsulation)
    }
}

enum Reader {
    Whole(Option<Bytes>),
    Chunks(Box<ChunkReader>),
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Whole(content) => Ok(content.take().filter(|bytes| !bytes.is_empty())),
            Self::Chunks(reader) => reader.next().await,
        }
    }
}

/// Reads an object leaf by leaf and opens it chunk by chunk, holding one of each.
struct ChunkReader {
    store: Arc<Store>,
    object: Object,
    opener: Opener,
    /// Content bytes still to give.
    range: Range<u64>,
    /// The leaf read last.
    leaf: Option<(usize, Bytes)>,
}

impl ChunkReader {
    async fn open(
        store: Arc<Store>,
        object: Object,
        key: &Secret32,
        content_len: u64,
        range: Range<u64>,
    ) -> Result<Self> {
        let first = store.object_leaf(&object, 0).await?;
        let header = first.get(..HEADER_LEN).unwrap_or_default();
        let opener = Opener::new(key, header, object.size_bytes)
            .map_err(Error::crypto("opening a record"))?;
        if opener.encoding() != Encoding::Plain {
            return Err(Error::Malformed {
                what: "a large record",
                problem: "it is compressed",
            });
        }
        let mut reader = Self {
            store,
            object,
            opener,
            range,
            leaf: Some((0, first)),
        };
        // The last chunk tells the length; that it opens as the last one shows nothing was cut off.
        let last = reader.chunk(reader.opener.chunk_count() - 1).await?;
        let found = reader
            .opener
            .content_len(&last)
            .map_err(Error::crypto("opening a record"))?;
        if found != content_len {
            return Err(Error::Malformed {
                what: "a large record",
                problem: "its length differs",
            });
        }
        Ok(reader)
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let index = self.range.start / CHUNK_LEN as u64;
        let chunk = self.chunk(u32::try_from(index).unwrap_or(u32::MAX)).await?;
        let start = index * CHUNK_LEN as u64;
        let end = (start + chunk.len() as u64).min(self.range.end);
        let part = to_usize(self.range.start - start)..to_usize(end - start);
        let part = chunk.get(part).filter(|part| !part.is_empty());
        let bytes = Bytes::copy_from_slice(part.ok_or(Error::Malformed {
            what: "a large record",
            problem: "a chunk is empty",
        })?);
        self.range.start = end;
        Ok(Some(bytes))
    }

    async fn chunk(&mut self, index: u32) -> Result<Zeroizing<Vec<u8>>> {
        let range = self.opener.chunk_range(index);
        let mut sealed = BytesMut::with_capacity(to_usize(range.end - range.start));
        let mut at = range.start;
        while at < range.end {
            let leaf_index = to_usize(at / LEAF_LEN as u64);
            let start = leaf_index as u64 * LEAF_LEN as u64;
            let leaf = self.leaf(leaf_index).await?;
            let end = range.end.min(start + leaf.len() as u64);
            let part = leaf.get(to_usize(at - start)..to_usize(end - start));
            sealed.extend_from_slice(part.filter(|part| !part.is_empty()).ok_or(
                Error::Malformed {
                    what: "a large record",
                    problem: "a leaf is too short",
                },
            )?);
            at = end;
        }
        self.opener
            .open_chunk(index, &sealed)
            .map_err(Error::crypto("opening a record"))
    }

    async fn leaf(&mut self, index: usize) -> Result<Bytes> {
        if let Some((held, bytes)) = &self.leaf
            && *held == index
        {
            return Ok(bytes.clone());
        }
        let bytes = self.store.object_leaf(&self.object, index).await?;
        self.leaf = Some((index, bytes.clone()));
        Ok(bytes)
    }
}

pub(crate) fn expand(
    record: RecordId,
    version: u32,
    size_bytes: u64,
    encoding: Encoding,
    content: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>> {
    if encoding == Encoding::Plain {
        return Ok(content);
    }
    let failed = |source: DecompressError| Error::Expand {
        record,
        version,
        source: source.into(),
    };
    // The length is known, so a forged stream cannot expand beyond it. A length told by somebody else reserves no more
    // than a small record needs.
    let size = to_usize(size_bytes);
    let mut out = Zeroizing::new(Vec::with_capacity(size.min(1 << 20)));
    let mut inflater = Decompress::new(false);
    loop {
        let before = (inflater.total_in(), out.len());
        let rest = content
            .get(to_usize(inflater.total_in())..)
            .unwrap_or_default();
        let status = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::Finish)
            .map_err(failed)?;
        if status == Status::StreamEnd || out.len() >= size {
            break;
        }
        if out.len() == out.capacity() {
            let more = out.len().min(size.saturating_sub(out.len()));
            out.reserve_exact(more.max(1));
        } else if before == (inflater.total_in(), out.len()) {
            // Cut off: the digest would tell, and this tells why.
            return Err(Error::Malformed {
                what: "a record's compressed content",
                problem: "it ends early",
            });
        }
    }
    out.truncate(size);
    Ok(out)
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
