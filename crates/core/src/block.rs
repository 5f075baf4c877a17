//! Blocks, their headers and receipts. A block's digest is keccak-256 over the RLP of its header; the header
//! commits to everything else, so a decoded block whose body does not match is refused.

use alloy_primitives::{Address, B256, Bloom, Bytes, Log, keccak256};
use alloy_rlp::{BufMut, Decodable, Encodable, RlpDecodable, RlpEncodable};
use alloy_trie::root::ordered_trie_root_with_encoder;
use serde::{Deserialize, Serialize};

/// Largest encoded block in bytes. Never shrink it: the engine's channels are sized by it.
pub const MAX_BLOCK_BYTES: usize = 8 * 1024 * 1024;

/// A block's header.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Header {
    /// Digest of the parent's header; zero for the first block.
    pub parent_hash: B256,
    /// Height; the first block has 0.
    pub number: u64,
    /// Milliseconds since the Unix epoch; grows strictly. Contracts see whole seconds.
    pub timestamp_ms: u64,
    /// ed25519 key of the validator that built the block.
    pub proposer: B256,
    /// Ordered Merkle-Patricia root of the encoded transactions.
    pub transactions_root: B256,
    /// Ordered Merkle-Patricia root of the encoded receipts.
    pub receipts_root: B256,
    /// Merkle-Patricia root of the state after the block.
    pub state_root: B256,
    /// Bloom filter over all logs (Ethereum yellow paper §4.3.1).
    pub logs_bloom: Bloom,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// Gas used by all its transactions.
    pub gas_used: u64,
    /// Epoch of the validator set that finalizes the block.
    pub epoch: u64,
    /// Hash of the validator set that finalizes the blocks after the next height at which validators can change; see
    /// [`validators_hash`] and [`crate::epoch`].
    pub next_validators_hash: B256,
}

impl Header {
    /// The block's digest: keccak-256 over the header's RLP.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(alloy_rlp::encode(self))
    }

    /// Whole seconds since the Unix epoch, as contracts see them.
    #[must_use]
    pub const fn timestamp_seconds(&self) -> u64 {
        self.timestamp_ms / 1000
    }
}

/// A header with the transactions it commits to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// EIP-2718 encodings, in order of execution.
    pub transactions: Vec<Bytes>,
}

/// Why bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Longer than [`MAX_BLOCK_BYTES`].
    #[error("block of {0} bytes is over the limit of {MAX_BLOCK_BYTES} bytes")]
    TooLarge(usize),
    /// Not the RLP of a block.
    #[error("malformed block: {0}")]
    Malformed(#[from] alloy_rlp::Error),
    /// The body is not what the header commits to.
    #[error("block {number}: transactions root is {found}, the header says {stated}")]
    TransactionsRoot {
        /// Height.
        number: u64,
        /// Root in the header.
        stated: B256,
        /// Root of the body.
        found: B256,
    },
}

impl Block {
    /// The block's digest.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// RLP `[header, [transaction, …]]`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.rlp_header().encode(&mut out);
        self.header.encode(&mut out);
        self.transactions.encode(&mut out);
        out.into()
    }

    /// Bytes of the encoding, which is not made for it.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.rlp_header().length_with_payload()
    }

    fn rlp_header(&self) -> alloy_rlp::Header {
        let payload_length = self
            .header
            .length()
            .saturating_add(self.transactions.length());
        alloy_rlp::Header {
            list: true,
            payload_length,
        }
    }

    /// Reads a block and holds its body against the header's transactions root.
    ///
    /// # Errors
    /// Too large, malformed, trailing bytes, or a body the header does not commit to.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge(bytes.len()));
        }
        let mut rest = bytes;
        let mut list = alloy_rlp::Header::decode_bytes(&mut rest, true)?;
        let header = Header::decode(&mut list)?;
        let transactions = Vec::<Bytes>::decode(&mut list)?;
        if !list.is_empty() || !rest.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        let found = transactions_root(&transactions);
        if found != header.transactions_root {
            return Err(BlockError::TransactionsRoot {
                number: header.number,
                stated: header.transactions_root,
                found,
            });
        }
        Ok(Self {
            header,
            transactions,
        })
    }
}

/// Ordered Merkle-Patricia root of encoded transactions.
#[must_use]
pub fn transactions_root(transactions: &[Bytes]) -> B256 {
    ordered_trie_root_with_encoder(transactions, |tx, out| out.put_slice(tx))
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Receipt {
    /// EIP-2718 type of the transaction.
    pub tx_type: u8,
    /// False when the call was reverted or ran out of gas: nothing but the nonce changed.
    pub success: bool,
    /// Gas used by the block up to and with this transaction.
    pub cumulative_gas_used: u64,
    /// Logs, in order.
    pub logs: Vec<Log>,
}

impl Receipt {
    /// Bloom filter over the receipt's logs.
    #[must_use]
    pub fn bloom(&self) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in &self.logs {
            bloom.accrue_log(log);
        }
        bloom
    }

    /// Consensus encoding, as Ethereum has it: `type ‖ rlp([status, cumulativeGas, bloom, logs])`, no type byte for 0.
    pub fn encode_consensus(&self, out: &mut dyn BufMut) {
        if self.tx_type != 0 {
            out.put_u8(self.tx_type);
        }
        let bloom = self.bloom();
        let payload_length = [
            self.success.length(),
            self.cumulative_gas_used.length(),
            bloom.length(),
            self.logs.length(),
        ]
        .iter()
        .sum();
        alloy_rlp::Header {
            list: true,
            payload_length,
        }
        .encode(out);
        self.success.encode(out);
        self.cumulative_gas_used.encode(out);
        bloom.encode(out);
        self.logs.encode(out);
    }
}

/// Ordered Merkle-Patricia root of consensus-encoded receipts.
#[must_use]
pub fn receipts_root(receipts: &[Receipt]) -> B256 {
    ordered_trie_root_with_encoder(receipts, |receipt, out| receipt.encode_consensus(out))
}

/// One seat of the validator set.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable, Serialize, Deserialize)]
pub struct Validator {
    /// ed25519 public key.
    pub key: B256,
    /// Organisation that runs it.
    pub organization: Address,
}

/// Hash of a validator set: keccak-256 over the RLP list of seats in order of key.
#[must_use]
pub fn validators_hash(validators: &[Validator]) -> B256 {
    let mut sorted = validators.to_vec();
    sorted.sort_by_key(|validator| validator.key);
    keccak256(alloy_rlp::encode(&sorted))
}
