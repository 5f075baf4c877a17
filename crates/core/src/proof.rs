//! Proof files: from a record's bytes, or from one of its elements, to a block that a quorum of validators
//! signed. Verified here with no node, no network and no trust in whoever made the file.
//!
//! The chain of a proof: content → leaf → path → peak of the log → storage of the Records contract → state
//! root → header → (headers of later blocks →) certificate → validators of its epoch → (changes of validators →)
//! validators at genesis, which the verifier knows.

mod state;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable as _;
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::{
    block::Header,
    certificate::{CertificateError, CommitCertificate, ValidatorSet, namespace},
    crypto::Secret32,
    element::{self, ElementProof},
    epoch::{self, Change, ChangeError},
    id::{LogId, OrganizationId, RECORDS},
    leaf::{LeafPreimage, content_digest, record_id},
    mmr,
    time::Timestamp,
};

pub use state::{ProvenState, SlotProof, StateProof, mapping_slot};

/// Format of the files this module writes and reads.
pub const FORMAT: &str = "stele-proof/1";

/// What a verifier trusts: the chain, told by its first block and that block's validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    /// Chain id.
    pub chain_id: u64,
    /// Digest of the first block.
    pub genesis_hash: B256,
    /// Validators at genesis.
    pub validators: ValidatorSet,
}

/// A proof file for one version of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordProof {
    /// [`FORMAT`].
    pub format: String,
    /// Organisation that assigned the resource's id.
    pub organization: OrganizationId,
    /// FHIR resource type.
    pub resource_type: String,
    /// FHIR logical id.
    pub id: String,
    /// What of the record is shown.
    pub disclosure: Disclosure,
    /// What the leaf commits to.
    pub leaf: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: B256,
    /// Where the leaf stands.
    pub log: LogProof,
    /// Siblings from the leaf up to its peak.
    pub path: Vec<B256>,
    /// Position of the leaf in the log.
    pub index: u64,
}

/// What of a record a proof shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Disclosure {
    /// All its bytes, with the salt that ties them to the leaf.
    #[serde(rename_all = "camelCase")]
    Whole {
        /// The bytes as stored, in base64.
        content: String,
        /// The record's element salt.
        element_salt: B256,
    },
    /// Some elements of the resource and nothing of the others.
    Elements {
        /// The elements with their proof.
        proof: ElementProof,
    },
    /// Nothing: only that the leaf stands, as for a tombstone.
    Nothing,
}

/// State of a log, proven against a certified block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogProof {
    /// The log: a patient's account, or an organisation's.
    pub log: LogId,
    /// Number of leaves.
    pub size: u64,
    /// First word of the log in storage; holds the size.
    pub head: StorageProof,
    /// Peaks of the log that the proof needs, by height of their mountain.
    pub peaks: Vec<PeakProof>,
    /// RLP of the Records contract's account.
    pub account: Bytes,
    /// Nodes from the state root to that account.
    pub account_proof: Vec<Bytes>,
    /// RLP of the header whose state root is meant, then of each later one up to the certified block.
    pub headers: Vec<Bytes>,
    /// Encoded certificate of the last of these headers.
    pub certificate: Bytes,
    /// Every change of validators up to the epoch of that certificate, from the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// A storage word with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageProof {
    /// Its value.
    pub value: U256,
    /// Nodes from the storage root to the word.
    pub proof: Vec<Bytes>,
}

/// A peak with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeakProof {
    /// Height of the mountain: it covers 2^height leaves.
    pub height: u8,
    /// The peak.
    pub word: StorageProof,
}

/// Why a proof does not hold. `where_` in the command line's answer is the name of the variant's part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a file of this format.
    #[error("format is {0:?}, expected {FORMAT:?}")]
    Format(String),
    /// A part can't be read.
    #[error("{part} is malformed: {problem}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The certificate is not of this chain's validators.
    #[error("the certificate does not hold: {0}")]
    Certificate(#[source] CertificateError),
    /// The validators of the certificate's epoch do not follow from those at genesis.
    #[error("the changes of validators do not hold: {0}")]
    Changes(#[source] ChangeError),
    /// The block is final by validators that had ended their epoch by hand before it.
    #[error("block {height} is of a branch that the consortium left after block {last}")]
    LeftBehind {
        /// Height of the block.
        height: u64,
        /// Height of the last block that the consortium kept.
        last: u64,
    },
    /// A header is not the parent of the next.
    #[error("header {0} is not the parent of the one after it")]
    Headers(u64),
    /// State or storage is not what the header commits to.
    #[error("{part} is not in the state of block {height}")]
    State {
        /// Which part.
        part: &'static str,
        /// Height of the block.
        height: u64,
    },
    /// The leaf is not in the log.
    #[error("the record is not in its log at position {index}")]
    Leaf {
        /// Position claimed.
        index: u64,
    },
    /// The record named is not the one that was anchored.
    #[error("the anchored record is not {0}")]
    Record(String),
    /// The bytes are not those that were anchored.
    #[error("the content is not what was anchored")]
    Content,
    /// An element is not as it was anchored.
    #[error("element proof: {0}")]
    Element(#[source] element::Error),
    /// Not all leaves of the log are there.
    #[error("the log has {size} records, {given} were given")]
    Incomplete {
        /// Leaves the ledger has.
        size: u64,
        /// Leaves shown.
        given: u64,
    },
    /// The leaves given are not those of the log.
    #[error("the records given are not those of the log")]
    OtherLeaves,
}

impl ProofError {
    /// Which link of the chain broke, as one stable word.
    #[must_use]
    pub const fn link(&self) -> &'static str {
        match self {
            Self::Format(_) => "format",
            Self::Malformed { part, .. } | Self::State { part, .. } => part,
            Self::Certificate(_) => "certificate",
            Self::Changes(_) | Self::LeftBehind { .. } => "changes",
            Self::Headers(_) => "headers",
            Self::Leaf { .. } => "leaf",
            Self::Record(_) => "record",
            Self::Content => "content",
            Self::Element(_) => "element",
            Self::Incomplete { .. } | Self::OtherLeaves => "log",
        }
    }
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proven {
    /// The log.
    pub log: LogId,
    /// Number of leaves it has.
    pub size: u64,
    /// Height of the block whose state was proven.
    pub height: u64,
    /// Digest of that block.
    pub block_hash: B256,
    /// Digest of its parent.
    pub parent_hash: B256,
    /// Its time.
    pub timestamp: Timestamp,
    /// Position of the record; absent for a whole log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Who wrote the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Address>,
    /// Version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// Slot of the first word of a log: `keccak256(log ‖ 0)`, as Solidity lays out the mapping at slot 0.
/// The word is `size (64 bits) | custodian << 64`; the peak of height h stands at this slot + 1 + h.
#[must_use]
pub fn log_slot(log: LogId) -> U256 {
    mapping_slot(log.into_word(), U256::ZERO)
}

/// Slot of a peak of a log.
#[must_use]
pub fn peak_slot(log: LogId, height: u8) -> U256 {
    log_slot(log)
        .wrapping_add(U256::from(height))
        .wrapping_add(U256::from(1))
}

impl LogProof {
    /// Verifies that the log had this size and these peaks in a block the consortium finalized.
    ///
    /// # Errors
    /// The first link that does not hold.
    pub fn verify(&self, anchor: &TrustAnchor) -> Result<Proven, ProofError> {
        let header = verify_headers(&self.headers, &self.certificate, &self.changes, anchor)?;
        let height = header.number;
        let account_key = Nibbles::unpack(keccak256(RECORDS));
        verify_proof(
            header.state_root,
            account_key,
            Some(self.account.to_vec()),
            &self.account_proof,
        )
        .map_err(|_| ProofError::State {
            part: "account",
            height,
        })?;
        let account = TrieAccount::decode(&mut self.account.as_ref())
            .map_err(|error| malformed("account", &error))?;
        let word = |part, slot: U256, word: &StorageProof| {
            let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            let value = (!word.value.is_zero()).then(|| alloy_rlp::encode(word.value));
            verify_proof(account.storage_root, key, value, &word.proof)
                .map_err(|_| ProofError::State { part, height })
        };
        word("log", log_slot(self.log), &self.head)?;
        if self.head.value.as_limbs().first() != Some(&self.size) {
            return Err(ProofError::State {
                part: "log",
                height,
            });
        }
        for peak in &self.peaks {
            word("peak", peak_slot(self.log, peak.height), &peak.word)?;
        }
        Ok(Proven {
            log: self.log,
            size: self.size,
            height,
            block_hash: header.hash(),
            parent_hash: header.parent_hash,
            timestamp: Timestamp(header.timestamp_ms),
            index: None,
            author: None,
            version: None,
        })
    }

    /// Verifies as [`LogProof::verify`], and that `leaves` are all the leaves of the log: none was withheld.
    ///
    /// # Errors
    /// The first link that does not hold, or leaves that are missing or others.
    pub fn verify_complete(
        &self,
        anchor: &TrustAnchor,
        leaves: &[B256],
    ) -> Result<Proven, ProofError> {
        let proven = self.verify(anchor)?;
        let given = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        if given != self.size {
            return Err(ProofError::Incomplete {
                size: self.size,
                given,
            });
        }
        let stated: Vec<B256> = mmr::peak_heights(self.size)
            .filter_map(|height| self.peaks.iter().find(|p| p.height == height))
            .map(|peak| peak.word.value.into())
            .collect();
        if stated == mmr::peaks(leaves) {
            Ok(proven)
        } else {
            Err(ProofError::OtherLeaves)
        }
    }
}

impl RecordProof {
    /// Verifies every link from what is disclosed to the certificate.
    ///
    /// # Errors
    /// The first link that does not hold.
    pub fn verify(&self, anchor: &TrustAnchor) -> Result<Proven, ProofError> {
        if self.format != FORMAT {
            return Err(ProofError::Format(self.format.chars().take(40).collect()));
        }
        let proven = self.log.verify(anchor)?;
        let outside = || ProofError::Leaf { index: self.index };
        let (height, position) = mmr::locate(self.log.size, self.index).ok_or_else(outside)?;
        let leaf = self.leaf.commit(&self.leaf_salt.0);
        let peak = self
            .log
            .peaks
            .iter()
            .find(|peak| peak.height == height)
            .ok_or_else(outside)?;
        if self.path.len() != usize::from(height)
            || U256::from_be_bytes(mmr::climb(leaf, position, &self.path).0) != peak.word.value
        {
            return Err(outside());
        }
        if self.leaf.record != record_id(self.organization, &self.resource_type, &self.id) {
            return Err(ProofError::Record(format!(
                "{}/{}",
                self.resource_type, self.id
            )));
        }
        self.verify_disclosure()?;
        Ok(Proven {
            index: Some(self.index),
            author: Some(self.leaf.author),
            version: Some(self.leaf.version),
            ..proven
        })
    }

    fn verify_disclosure(&self) -> Result<(), ProofError> {
        match &self.disclosure {
            Disclosure::Nothing => Ok(()),
            Disclosure::Elements { proof } => proof
                .verify(&self.leaf.element_root)
                .map_err(ProofError::Element),
            Disclosure::Whole {
                content,
                element_salt,
            } => {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(content)
                    .map_err(|error| malformed("content", &error))?;
                if content_digest(&element_salt.0, &bytes) != self.leaf.content {
                    return Err(ProofError::Content);
                }
                if self.leaf.element_root.is_zero() {
                    return Ok(());
                }
                let text =
                    std::str::from_utf8(&bytes).map_err(|error| malformed("content", &error))?;
                let root = element::root(text, &Secret32::new(element_salt.0))
                    .map_err(ProofError::Element)?;
                if root == self.leaf.element_root {
                    Ok(())
                } else {
                    Err(ProofError::Content)
                }
            }
        }
    }

    /// The content disclosed whole, if it is.
    ///
    /// # Errors
    /// The content is not base64.
    pub fn content(&self) -> Result<Option<Vec<u8>>, ProofError> {
        match &self.disclosure {
            Disclosure::Whole { content, .. } => base64::engine::general_purpose::STANDARD
                .decode(content)
                .map(Some)
                .map_err(|error| malformed("content", &error)),
            Disclosure::Elements { .. } | Disclosure::Nothing => Ok(None),
        }
    }
}

/// The first of some headers, once each is the parent of the next and the certificate covers the last.
fn verify_headers(
    headers: &[Bytes],
    certificate: &Bytes,
    changes: &[Change],
    anchor: &TrustAnchor,
) -> Result<Header, ProofError> {
    let headers = headers
        .iter()
        .map(|bytes| {
            let mut rest = bytes.as_ref();
            let header = Header::decode(&mut rest).map_err(|error| malformed("headers", &error))?;
            if rest.is_empty() {
                Ok(header)
            } else {
                Err(malformed("headers", &"trailing bytes"))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    for pair in headers.windows(2) {
        if let [parent, child] = pair
            && child.parent_hash != parent.hash()
        {
            return Err(ProofError::Headers(parent.number));
        }
    }
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Err(malformed("headers", &"there are none"));
    };
    let certificate = CommitCertificate::decode(certificate).map_err(ProofError::Certificate)?;
    let domain = namespace(anchor.chain_id, &anchor.genesis_hash);
    let epoch = usize::try_from(certificate.epoch).unwrap_or(usize::MAX);
    let before = changes.get(..epoch).ok_or_else(|| {
        let problem = format!(
            "{} where the certificate is of epoch {}",
            changes.len(),
            certificate.epoch
        );
        malformed("changes", &problem)
    })?;
    let validators =
        epoch::walk(&anchor.validators, &domain, before).map_err(ProofError::Changes)?;
    if let Some(end) = changes.get(epoch).filter(|end| end.is_recovery()) {
        // Its end by hand counts only if it holds itself.
        let through = changes.get(..=epoch).unwrap_or_default();
        epoch::walk(&anchor.validators, &domain, through).map_err(ProofError::Changes)?;
        let kept = end.header().map_err(ProofError::Changes)?.number;
        if last.number > kept {
            return Err(ProofError::LeftBehind {
                height: last.number,
                last: kept,
            });
        }
    }
    certificate
        .verify(&last.hash(), &validators, &domain)
        .map_err(ProofError::Certificate)?;
    Ok(first.clone())
}

fn malformed(part: &'static str, problem: &dyn std::fmt::Display) -> ProofError {
    ProofError::Malformed {
        part,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests;
