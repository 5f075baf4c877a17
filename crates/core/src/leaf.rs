//! What a record's leaf on the ledger commits to. The commitment is salted: without the salt, which is
//! destroyed at erasure, a leaf says nothing about what it stood for.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

use crate::id::{OrganizationId, RecordId};

/// What a leaf does to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeafKind {
    /// First version of a record.
    Create,
    /// A later version.
    Amend,
    /// The record was deleted; earlier versions stand.
    Tombstone,
}

impl LeafKind {
    const fn code(self) -> u8 {
        match self {
            Self::Create => 1,
            Self::Amend => 2,
            Self::Tombstone => 3,
        }
    }
}

/// Everything a leaf commits to. Kept off chain beside the ciphertext, with the salt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeafPreimage {
    /// The record.
    pub record: RecordId,
    /// Version of the record, from 1.
    pub version: u32,
    /// What the leaf does.
    pub kind: LeafKind,
    /// Category slot, 0 to 63, under the patient's permutation.
    pub category_slot: u8,
    /// CID of the ciphertext, in bytes; empty for a tombstone.
    pub cid: Bytes,
    /// Salted digest of the plaintext bytes; see [`content_digest`].
    pub content: B256,
    /// Root of the salted tree over the resource's elements; zero where there is none (Binary, tombstone).
    pub element_root: B256,
    /// Digest of the key envelope.
    pub envelope_digest: B256,
    /// Who wrote it.
    pub author: Address,
    /// Leaf of the version before; zero for the first.
    pub previous: B256,
}

impl LeafPreimage {
    /// The leaf: keccak-256 over a fixed layout that begins with the salt.
    #[must_use]
    pub fn commit(&self, salt: &[u8; 32]) -> B256 {
        let mut bytes = Vec::with_capacity(320);
        bytes.extend_from_slice(b"stele/leaf/1");
        bytes.extend_from_slice(salt);
        bytes.extend_from_slice(self.record.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.push(self.kind.code());
        bytes.push(self.category_slot);
        bytes.extend_from_slice(keccak256(&self.cid).as_slice());
        bytes.extend_from_slice(self.content.as_slice());
        bytes.extend_from_slice(self.element_root.as_slice());
        bytes.extend_from_slice(self.envelope_digest.as_slice());
        bytes.extend_from_slice(self.author.as_slice());
        bytes.extend_from_slice(self.previous.as_slice());
        keccak256(&bytes)
    }
}

/// Id of a FHIR resource's record: keccak-256 over the organisation that assigned the id, type and id.
#[must_use]
pub fn record_id(organization: OrganizationId, resource_type: &str, id: &str) -> RecordId {
    let mut bytes = Vec::with_capacity(96);
    bytes.extend_from_slice(b"stele/record/1");
    bytes.extend_from_slice(organization.as_bytes());
    bytes.extend_from_slice(resource_type.as_bytes());
    bytes.push(b'/');
    bytes.extend_from_slice(id.as_bytes());
    RecordId(keccak256(&bytes))
}

/// Hashes plaintext bytes into the leaf's `content`, whole or piece by piece. The salt is derived from the
/// record's element salt, never from the leaf's: a disclosed leaf must not let anyone guess the content.
pub struct ContentHasher(aws_lc_rs::digest::Context);

impl ContentHasher {
    /// Starts over a record's element salt.
    #[must_use]
    pub fn new(element_salt: &[u8; 32]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(b"stele/content/1");
        context.update(element_salt);
        Self(context)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// SHA-256 over domain, salt and all bytes.
    #[must_use]
    pub fn finish(self) -> B256 {
        B256::try_from(self.0.finish().as_ref()).unwrap_or_default()
    }
}

/// Salted digest of a record's plaintext bytes as stored.
#[must_use]
pub fn content_digest(element_salt: &[u8; 32], bytes: &[u8]) -> B256 {
    let mut hasher = ContentHasher::new(element_salt);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts() {
        let base = LeafPreimage {
            record: record_id(OrganizationId::default(), "Observation", "a"),
            version: 1,
            kind: LeafKind::Create,
            category_slot: 3,
            cid: Bytes::from_static(b"cid"),
            content: B256::repeat_byte(1),
            element_root: B256::repeat_byte(2),
            envelope_digest: B256::repeat_byte(3),
            author: Address::repeat_byte(4),
            previous: B256::ZERO,
        };
        let salt = [7; 32];
        let mut others = vec![base.commit(&[8; 32])];
        for change in 0..10 {
            let mut other = base.clone();
            match change {
                0 => other.record = RecordId(B256::ZERO),
                1 => other.version = 2,
                2 => other.kind = LeafKind::Amend,
                3 => other.category_slot = 4,
                4 => other.cid = Bytes::from_static(b"cie"),
                5 => other.content = B256::ZERO,
                6 => other.element_root = B256::ZERO,
                7 => other.envelope_digest = B256::ZERO,
                8 => other.author = Address::ZERO,
                _ => other.previous = B256::repeat_byte(9),
            }
            others.push(other.commit(&salt));
        }
        others.push(base.commit(&salt));
        let distinct: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[test]
    fn content_in_pieces_equals_content_whole() {
        let mut hasher = ContentHasher::new(&[1; 32]);
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), content_digest(&[1; 32], b"abc"));
        assert_ne!(
            content_digest(&[1; 32], b"abc"),
            content_digest(&[2; 32], b"abc")
        );
    }
}
