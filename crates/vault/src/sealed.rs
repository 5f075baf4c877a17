//! A record as it lies in the vault, handed to somebody who opens it elsewhere with keys of their own.
//!
//! What leaves is ciphertext, the wrapped key, the record's salt and the pepper the custodian released. None of it
//! opens without the patient's key, which this node never has.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use stele_core::{
    crypto::{Secret32, stream as sealed_stream},
    id::RecordId,
    leaf::content_digest,
};
use zeroize::Zeroizing;

use crate::{
    RecordMeta, Vault,
    cid::{RAW, digest_of},
    custodian::Pepper,
    envelope::{Encapsulation, Envelope, content_key},
    error::{Error, Result},
    keys::RootKey,
    open::expand,
};

/// Longest ciphertext handed over in one piece, in bytes.
pub const SEALED_MAX: u64 = 64 << 20;
const WHAT: &str = "a sealed record";

/// One record version, sealed, with everything but the key that opens it. Byte strings are in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedRecord {
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// Salt of the content's digest and of its element tree: 32 bytes in base64.
    pub element_salt: String,
    /// The encapsulation that the key was wrapped under.
    pub encapsulation: String,
    /// The wrapped key: 48 bytes.
    pub wrapped: String,
    /// What the custodian released: 32 bytes.
    pub pepper: String,
    /// The ciphertext.
    pub sealed: String,
}

impl Vault {
    /// Puts together what somebody else opens: to be given out only with a pepper the custodian released for
    /// the one who asks.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::MissingRecord`] for a tombstone, [`Error::OutOfRange`] above
    /// [`SEALED_MAX`].
    pub async fn sealed_record(&self, meta: &RecordMeta, pepper: &Pepper) -> Result<SealedRecord> {
        let bytes = self.ciphertext_bytes(meta)?;
        if bytes > SEALED_MAX {
            return Err(Error::OutOfRange {
                what: "a ciphertext handed over in one piece",
                limit: SEALED_MAX,
            });
        }
        let pieces: Vec<Bytes> = self.ciphertext(meta)?.try_collect().await?;
        Ok(SealedRecord {
            sealed: encode(&pieces.concat()),
            ..self.sealed_apart(meta, pepper)?
        })
    }

    /// As [`Self::sealed_record`] without the ciphertext, which [`Self::ciphertext`] gives.
    ///
    /// # Errors
    /// [`Error::MissingRecord`] for a tombstone.
    pub fn sealed_apart(&self, meta: &RecordMeta, pepper: &Pepper) -> Result<SealedRecord> {
        let (record, version) = (meta.record(), meta.version());
        let missing = || Error::MissingRecord { record, version };
        let envelope = meta.envelope.ok_or_else(missing)?;
        Ok(SealedRecord {
            record,
            version,
            size_bytes: meta.size_bytes,
            element_salt: encode(meta.element_salt.expose()),
            encapsulation: encode(&self.encapsulation(&envelope.encapsulation)?.encode()),
            wrapped: encode(&envelope.wrapped),
            pepper: encode(pepper.secret().expose()),
            sealed: String::new(),
        })
    }

    /// A record's ciphertext in pieces of at most 256 KiB, each held against its address. Opens nothing by itself.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::MissingRecord`] for a tombstone.
    pub fn ciphertext(
        &self,
        meta: &RecordMeta,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let cid = located(meta)?;
        let digest = digest_of(&cid)?;
        let missing = Error::MissingBlob { cid };
        let (blob, object) = if cid.codec() == RAW {
            (Some(self.store.blob(&digest)?.ok_or(missing)?), None)
        } else {
            (None, Some(self.store.object(&digest)?.ok_or(missing)?))
        };
        let store = Arc::clone(&self.store);
        let leaves = object.as_ref().map_or(0, |object| object.leaves.len());
        let rest = stream::unfold(
            (store, object, 0),
            move |(store, object, index)| async move {
                let one = object.as_ref().filter(|_| index < leaves)?;
                let piece = store.object_leaf(one, index).await;
                Some((piece, (store, object, index + 1)))
            },
        );
        Ok(stream::iter(blob.map(Ok)).chain(rest))
    }

    /// Length of a record's ciphertext in bytes.
    ///
    /// # Errors
    /// As [`Self::ciphertext`].
    pub fn ciphertext_bytes(&self, meta: &RecordMeta) -> Result<u64> {
        let cid = located(meta)?;
        let digest = digest_of(&cid)?;
        let missing = Error::MissingBlob { cid };
        if cid.codec() == RAW {
            let blob = self.store.blob(&digest)?.ok_or(missing)?;
            return Ok(blob.len() as u64);
        }
        let object = self.store.object(&digest)?.ok_or(missing)?;
        Ok(object.size_bytes)
    }
}

fn located(meta: &RecordMeta) -> Result<::cid::Cid> {
    let (record, version) = (meta.record(), meta.version());
    meta.cid()?.ok_or(Error::MissingRecord { record, version })
}

impl SealedRecord {
    /// Opens the record with the patient's root key. The caller holds the content against the ledger:
    /// [`Self::matches`].
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Crypto`] for another patient's key or altered bytes.
    pub fn open(&self, root: &RootKey) -> Result<Zeroizing<Vec<u8>>> {
        let encapsulation = Encapsulation::decode(&decode(&self.encapsulation)?)?;
        let place = encapsulation.place;
        let category = root.category_of(place.slot)?;
        let secret = root
            .category(category, place.generation)
            .leaf(place.epoch)?;
        let envelope = Envelope {
            encapsulation: encapsulation.digest(),
            wrapped: array(&self.wrapped)?,
        };
        let exporter = encapsulation.open(&secret)?;
        let key = envelope.open(&exporter, &self.record, self.version)?;
        let pepper = Pepper::new(Secret32::new(array(&self.pepper)?));
        let key = content_key(&key, &pepper, &self.record, self.version);
        let (encoding, content) = sealed_stream::open(&key, &decode(&self.sealed)?)
            .map_err(Error::crypto("opening a record"))?;
        expand(
            self.record,
            self.version,
            self.size_bytes,
            encoding,
            content,
        )
    }

    /// Whether the content is the one a leaf commits to by its salted digest.
    ///
    /// # Errors
    /// [`Error::RecordMismatch`] if not; [`Error::Malformed`].
    pub fn matches(&self, content: &[u8], digest: &alloy_primitives::B256) -> Result<()> {
        if content_digest(&array(&self.element_salt)?, content) == *digest {
            return Ok(());
        }
        Err(Error::RecordMismatch {
            record: self.record,
            version: self.version,
        })
    }

    /// The record's element salt. 32 bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn element_salt(&self) -> Result<[u8; 32]> {
        array(&self.element_salt)
    }
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| Error::Malformed {
            what: WHAT,
            problem: "a part is not base64",
        })
}

fn array<const N: usize>(text: &str) -> Result<[u8; N]> {
    decode(text)?.try_into().map_err(|_| Error::Malformed {
        what: WHAT,
        problem: "a part has a wrong length",
    })
}
