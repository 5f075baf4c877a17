//! What is kept beside a ciphertext: leaf preimage, salts and envelope, sealed per record.
//!
//! Sealed under a key of the shred tree, so that a stolen disk yields ciphertext only, and erasing a
//! record makes every copy of its salts and envelope unreadable, in old segments too.

use alloy_primitives::{Address, B128, B256};
use cid::Cid;
use stele_core::{
    crypto::{Secret32, aead, aead::WRAPPED_LEN, os_rng},
    id::{LogId, RecordId},
    leaf::{LeafKind, LeafPreimage},
};
use zeroize::Zeroizing;

use crate::{
    codec::{Reader, put_bytes},
    custody::SharedPepper,
    envelope::Envelope,
    error::{Error, Result},
    shred::ShredTree,
};

/// Kept by this vault's own custodian.
const VERSION: u8 = 1;
/// Followed by the organisation that keeps the record.
const VERSION_FOREIGN: u8 = 2;
/// Added to either: followed, after that, by where the shares of the pepper lie.
const SHARED: u8 = 2;
const WHAT: &str = "a record's meta";

/// Everything about one record version that is neither content nor on the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    /// The log its leaf stands in.
    pub log: LogId,
    /// Organisation that keeps the record, and releases its pepper where that is not shared; `None` for this vault's
    /// own.
    pub custodian: Option<Address>,
    /// Where the shares of its pepper lie; `None` where one custodian keeps it.
    pub shared: Option<SharedPepper>,
    /// What the leaf commits to.
    pub preimage: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: [u8; 32],
    /// Salt of the element tree and of the content digest. Never disclosed with a proof.
    pub element_salt: Secret32,
    /// The wrapped record key; `None` for a tombstone, which has no content.
    pub envelope: Option<Envelope>,
    /// Length of the content in bytes, as it was given.
    pub size_bytes: u64,
}

impl RecordMeta {
    /// The record.
    #[must_use]
    pub const fn record(&self) -> RecordId {
        self.preimage.record
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.preimage.version
    }

    /// The leaf to anchor.
    #[must_use]
    pub fn leaf(&self) -> B256 {
        self.preimage.commit(&self.leaf_salt)
    }

    /// Address of the ciphertext; `None` for a tombstone.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the preimage holds something else.
    pub fn cid(&self) -> Result<Option<Cid>> {
        if self.preimage.cid.is_empty() {
            return Ok(None);
        }
        Cid::try_from(self.preimage.cid.as_ref())
            .map(Some)
            .map_err(|_| Error::Malformed {
                what: WHAT,
                problem: "its CID is none",
            })
    }

    /// The meta in the clear, for a member that may read the record: it travels sealed to that member.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.encode()
    }

    /// Reads what [`Self::to_bytes`] gave for this record version.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8], record: RecordId, version: u32) -> Result<Self> {
        Self::decode(bytes, record, version)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let preimage = &self.preimage;
        let mut out = Zeroizing::new(Vec::with_capacity(448));
        let more = if self.shared.is_some() { SHARED } else { 0 };
        match self.custodian {
            None => out.push(VERSION + more),
            Some(custodian) => {
                out.push(VERSION_FOREIGN + more);
                out.extend_from_slice(custodian.as_slice());
            }
        }
        if let Some(shared) = &self.shared {
            out.extend_from_slice(shared.custody.as_slice());
            out.extend_from_slice(&shared.period.to_be_bytes());
            put_bytes(&mut out, shared.checks.as_flattened());
            put_bytes(&mut out, shared.mask.as_ref().map_or(&[], |mask| mask));
        }
        out.extend_from_slice(self.log.as_slice());
        out.push(match preimage.kind {
            LeafKind::Create => 1,
            LeafKind::Amend => 2,
            LeafKind::Tombstone => 3,
        });
        out.push(preimage.category_slot);
        put_bytes(&mut out, &preimage.cid);
        out.extend_from_slice(preimage.content.as_slice());
        out.extend_from_slice(preimage.element_root.as_slice());
        out.extend_from_slice(preimage.envelope_digest.as_slice());
        out.extend_from_slice(preimage.author.as_slice());
        out.extend_from_slice(preimage.previous.as_slice());
        out.extend_from_slice(&self.leaf_salt);
        out.extend_from_slice(self.element_salt.expose());
        out.extend_from_slice(&self.size_bytes.to_be_bytes());
        if let Some(envelope) = &self.envelope {
            out.extend_from_slice(&envelope.encapsulation);
            out.extend_from_slice(&envelope.wrapped);
        }
        out
    }

    fn decode(bytes: &[u8], record: RecordId, version: u32) -> Result<Self> {
        let mut reader = Reader::new(bytes, WHAT);
        let version_of_meta = reader.u8()?;
        let is_shared = version_of_meta > VERSION_FOREIGN;
        let custodian = match version_of_meta - if is_shared { SHARED } else { 0 } {
            VERSION => None,
            VERSION_FOREIGN => Some(Address::new(reader.array()?)),
            _ => return Err(reader.error("its version is unknown")),
        };
        let shared = if is_shared {
            Some(shared_pepper(&mut reader)?)
        } else {
            None
        };
        let log = LogId::new(reader.array()?);
        let kind = match reader.u8()? {
            1 => LeafKind::Create,
            2 => LeafKind::Amend,
            3 => LeafKind::Tombstone,
            _ => return Err(reader.error("its kind is unknown")),
        };
        let preimage = LeafPreimage {
            record,
            version,
            kind,
            category_slot: reader.u8()?,
            cid: reader.bytes()?.to_vec().into(),
            content: B256::new(reader.array()?),
            element_root: B256::new(reader.array()?),
            envelope_digest: B256::new(reader.array()?),
            author: Address::new(reader.array()?),
            previous: B256::new(reader.array()?),
        };
        let leaf_salt = reader.array()?;
        let element_salt = Secret32::new(reader.array()?);
        let size_bytes = reader.u64()?;
        let envelope = if reader.is_empty() {
            None
        } else {
            Some(Envelope {
                encapsulation: reader.array()?,
                wrapped: reader.array::<WRAPPED_LEN>()?,
            })
        };
        reader.end()?;
        Ok(Self {
            log,
            custodian,
            shared,
            preimage,
            leaf_salt,
            element_salt,
            envelope,
            size_bytes,
        })
    }

    /// Seals the meta for the store. `None` if the record's key was destroyed.
    pub(crate) fn seal(&self, shred: &ShredTree) -> Result<Option<Vec<u8>>> {
        let (record, version) = (self.record(), self.version());
        let Some(key) = meta_key(shred, &record, version) else {
            return Ok(None);
        };
        aead::seal(
            &key,
            &table_key(&record, version),
            &self.encode(),
            &mut os_rng(),
        )
        .map(Some)
        .map_err(Error::crypto("sealing a record's meta"))
    }

    /// Opens what [`Self::seal`] sealed.
    pub(crate) fn open(
        shred: &ShredTree,
        record: RecordId,
        version: u32,
        sealed: &[u8],
    ) -> Result<Self> {
        let key = meta_key(shred, &record, version).ok_or(Error::Erased { record })?;
        let plain = aead::open(&key, &table_key(&record, version), sealed)
            .map_err(|_| Error::RecordMismatch { record, version })?;
        Self::decode(&plain, record, version)
    }
}

fn shared_pepper(reader: &mut Reader<'_>) -> Result<SharedPepper> {
    let (custody, period) = (B128::new(reader.array()?), reader.u32()?);
    let (checks, rest) = reader.bytes()?.as_chunks();
    if !rest.is_empty() {
        return Err(reader.error("the checks of its shares are cut off"));
    }
    let mask = match reader.bytes()? {
        [] => None,
        mask => Some(
            mask.try_into()
                .map_err(|_| reader.error("the mask of its pepper has a wrong length"))?,
        ),
    };
    Ok(SharedPepper {
        custody,
        period,
        checks: checks.to_vec(),
        mask,
    })
}

/// Key of the meta table: record, then version, so that versions of a record stand together.
pub(crate) fn table_key(record: &RecordId, version: u32) -> Vec<u8> {
    [record.as_bytes(), &version.to_be_bytes()].concat()
}

/// Reads what [`table_key`] wrote.
pub(crate) fn parse_table_key(key: &[u8]) -> Result<(RecordId, u32)> {
    let mut reader = Reader::new(key, "a key of the meta table");
    let (record, version) = (RecordId(B256::new(reader.array()?)), reader.u32()?);
    reader.end()?;
    Ok((record, version))
}

fn meta_key(shred: &ShredTree, record: &RecordId, version: u32) -> Option<Secret32> {
    shred.key(&record.0.0, "stele/meta/v1", &[&version.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meta(envelope: Option<Envelope>) -> RecordMeta {
        RecordMeta {
            log: LogId::repeat_byte(1),
            custodian: None,
            shared: None,
            preimage: LeafPreimage {
                record: RecordId(B256::repeat_byte(2)),
                version: 3,
                kind: LeafKind::Amend,
                category_slot: 4,
                cid: vec![1, 2, 3].into(),
                content: B256::repeat_byte(5),
                element_root: B256::repeat_byte(6),
                envelope_digest: B256::repeat_byte(7),
                author: Address::repeat_byte(8),
                previous: B256::repeat_byte(9),
            },
            leaf_salt: [10; 32],
            element_salt: Secret32::new([11; 32]),
            envelope,
            size_bytes: 12,
        }
    }

    #[test]
    fn seals_for_its_own_record_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let shred = ShredTree::open(&folder.path().join("s"), Secret32::new([1; 32])).unwrap();
        let envelope = Envelope {
            encapsulation: [1; 32],
            wrapped: [2; 48],
        };
        let foreign = RecordMeta {
            custodian: Some(Address::repeat_byte(13)),
            ..meta(Some(envelope))
        };
        let shared = Some(SharedPepper {
            custody: B128::repeat_byte(14),
            period: 15,
            checks: vec![[16; 16], [17; 16]],
            mask: Some([18; 32]),
        });
        let shared_foreign = RecordMeta {
            shared: shared.clone(),
            ..foreign.clone()
        };
        let shared = RecordMeta {
            shared,
            ..meta(Some(envelope))
        };
        for meta in [
            meta(None),
            meta(Some(envelope)),
            foreign,
            shared,
            shared_foreign,
        ] {
            let sealed = meta.seal(&shred).unwrap().unwrap();
            let record = meta.record();
            assert_eq!(RecordMeta::open(&shred, record, 3, &sealed).unwrap(), meta);
            assert!(RecordMeta::open(&shred, record, 4, &sealed).is_err());
            assert!(RecordMeta::open(&shred, RecordId::default(), 3, &sealed).is_err());
        }
        let sealed = meta(None).seal(&shred).unwrap().unwrap();
        shred.puncture(&[[2; 32]]).unwrap();
        assert!(matches!(
            RecordMeta::open(&shred, RecordId(B256::repeat_byte(2)), 3, &sealed),
            Err(Error::Erased { .. })
        ));
        assert_eq!(meta(None).seal(&shred).unwrap(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            version in 0_u8..7,
            bytes in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let mut framed = vec![version];
            framed.extend_from_slice(&bytes);
            if let Ok(meta) = RecordMeta::decode(&framed, RecordId::default(), 1) {
                prop_assert_eq!(&*meta.encode(), &framed);
            }
        }
    }
}
