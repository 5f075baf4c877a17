//! Words of a contract's storage, proven against a certified block.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable as _;
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use serde::{Deserialize, Serialize};

use super::{ProofError, TrustAnchor, malformed, verify_headers};
use crate::{epoch::Change, time::Timestamp};

/// Some words of a contract's storage with what ties them to a block the consortium finalized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateProof {
    /// The contract.
    pub contract: Address,
    /// The words.
    pub words: Vec<SlotProof>,
    /// RLP of the contract's account.
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

/// A storage word with its place and proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotProof {
    /// Slot in the contract's storage.
    pub slot: B256,
    /// Its value; zero where nothing stands.
    pub value: U256,
    /// Nodes from the storage root to the word.
    pub proof: Vec<Bytes>,
}

/// What a [`StateProof`] proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenState {
    /// Height of the block.
    pub height: u64,
    /// Digest of the block.
    pub block_hash: B256,
    /// Its time.
    pub timestamp: Timestamp,
    /// The words by their slots.
    pub words: BTreeMap<B256, U256>,
}

impl ProvenState {
    /// A proven word.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if the proof says nothing of this slot.
    pub fn word(&self, part: &'static str, slot: U256) -> Result<U256, ProofError> {
        self.words
            .get(&B256::from(slot))
            .copied()
            .ok_or_else(|| malformed(part, &"the proof says nothing of this slot"))
    }
}

impl StateProof {
    /// Verifies every link from the words to the certificate.
    ///
    /// # Errors
    /// The first link that does not hold.
    pub fn verify(&self, anchor: &TrustAnchor) -> Result<ProvenState, ProofError> {
        let header = verify_headers(&self.headers, &self.certificate, &self.changes, anchor)?;
        let height = header.number;
        let state = |part| ProofError::State { part, height };
        verify_proof(
            header.state_root,
            Nibbles::unpack(keccak256(self.contract)),
            Some(self.account.to_vec()),
            &self.account_proof,
        )
        .map_err(|_| state("account"))?;
        let account = TrieAccount::decode(&mut self.account.as_ref())
            .map_err(|error| malformed("account", &error))?;
        for word in &self.words {
            let key = Nibbles::unpack(keccak256(word.slot));
            let value = (!word.value.is_zero()).then(|| alloy_rlp::encode(word.value));
            verify_proof(account.storage_root, key, value, &word.proof)
                .map_err(|_| state("storage"))?;
        }
        Ok(ProvenState {
            height,
            block_hash: header.hash(),
            timestamp: Timestamp(header.timestamp_ms),
            words: self
                .words
                .iter()
                .map(|word| (word.slot, word.value))
                .collect(),
        })
    }
}

/// Slot of a mapping's entry, `keccak256(key ‖ position)`, as Solidity lays it out.
#[must_use]
pub fn mapping_slot(key: B256, position: U256) -> U256 {
    let mut bytes = [0_u8; 64];
    let (first, second) = bytes.split_at_mut(32);
    first.copy_from_slice(key.as_slice());
    second.copy_from_slice(&position.to_be_bytes::<32>());
    keccak256(bytes).into()
}
