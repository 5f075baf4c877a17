//! Access receipts: what was read (or refused), by whom, when, why. Each organisation keeps its own sequence,
//! chained by hash; batches of it are anchored in the Audit contract.

use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use serde::{Deserialize, Serialize};

use crate::mmr;

/// What was done or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum AccessAction {
    /// One resource or version was read.
    Read = 1,
    /// Resources were found by a search.
    Search = 2,
    /// Versions were listed.
    History = 3,
    /// A patient's record was taken out whole.
    Export = 4,
    /// A resource was created or changed.
    Write = 5,
    /// A resource was deleted or erased.
    Delete = 6,
    /// The index was rebuilt from the patient's records, or another act of maintenance.
    Maintenance = 7,
    /// A proof was made of a record.
    Proof = 8,
}

impl AccessAction {
    /// From its number in a receipt.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Read,
            2 => Self::Search,
            3 => Self::History,
            4 => Self::Export,
            5 => Self::Write,
            6 => Self::Delete,
            7 => Self::Maintenance,
            8 => Self::Proof,
            _ => return None,
        })
    }

    /// Its number in a receipt.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// One access. Pseudonyms and counts only: no clinical value, no name, no search term.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessReceipt {
    /// Organisation whose gateway served or refused.
    pub organization: Address,
    /// Position in the organisation's sequence, from 0.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who asked.
    pub actor: Address,
    /// The log concerned: the patient, or the organisation for resources without one.
    pub log: Address,
    /// See [`AccessAction`].
    pub action: u8,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Category slots concerned, as a bit set.
    pub categories: u64,
    /// Purpose bits claimed.
    pub purposes: u16,
    /// Number of records concerned.
    pub records: u32,
    /// Digest over the ids and versions of the records concerned, in order; zero where there are none.
    pub records_digest: B256,
    /// Random, so that the digest of a receipt can't be guessed from its few possible contents.
    pub salt: B256,
}

impl AccessReceipt {
    /// keccak-256 over the RLP of the receipt.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(alloy_rlp::encode(self))
    }
}

/// Next head of a sequence's hash chain: keccak-256 over head ‖ digest. The first head is zero.
#[must_use]
pub fn next_head(head: B256, digest: B256) -> B256 {
    keccak256([head.as_slice(), digest.as_slice()].concat())
}

/// Root over a batch of digests, with the rules of [`crate::mmr`].
#[must_use]
pub fn batch_root(digests: &[B256]) -> B256 {
    mmr::bag(
        u64::try_from(digests.len()).unwrap_or(u64::MAX),
        &mmr::peaks(digests),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_and_root_depend_on_order() {
        let receipts: Vec<AccessReceipt> = (0..5)
            .map(|sequence| AccessReceipt {
                sequence,
                ..AccessReceipt::default()
            })
            .collect();
        let digests: Vec<B256> = receipts.iter().map(AccessReceipt::digest).collect();
        let mut reversed = digests.clone();
        reversed.reverse();
        assert_ne!(batch_root(&digests), batch_root(&reversed));
        let chain = |digests: &[B256]| digests.iter().fold(B256::ZERO, |h, d| next_head(h, *d));
        assert_ne!(chain(&digests), chain(&reversed));
        for code in 1..=8 {
            assert_eq!(
                AccessAction::from_code(code).map(AccessAction::code),
                Some(code)
            );
        }
        assert_eq!(AccessAction::from_code(9), None);
    }
}
