//! The ledger's views as Ethereum's JSON-RPC writes them. Fields that have no meaning here are there all
//! the same, with the values an empty Ethereum block has, because libraries insist on them.

use alloy_consensus::Transaction as _;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U64, U256};
use serde::Serialize;
use stele_core::{
    block::Header,
    tx::{AccountSignature, Transaction},
};
use stele_service::ports::{
    AccountProof, BlockView, LogView, Position, ReceiptView, TransactionView,
};

use super::arguments::Slot;

/// A block's header, as `newHeads` gives it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadJson {
    hash: B256,
    parent_hash: B256,
    sha3_uncles: B256,
    miner: Address,
    state_root: B256,
    transactions_root: B256,
    receipts_root: B256,
    logs_bloom: Bloom,
    difficulty: U64,
    number: U64,
    gas_limit: U64,
    gas_used: U64,
    timestamp: U64,
    extra_data: B256,
    mix_hash: B256,
    nonce: B64,
    base_fee_per_gas: U64,
}

impl HeadJson {
    pub(crate) fn new(hash: B256, header: &Header) -> Self {
        Self {
            hash,
            parent_hash: header.parent_hash,
            sha3_uncles: EMPTY_LIST_HASH,
            // What COINBASE gives to contracts: nobody is rewarded.
            miner: Address::ZERO,
            state_root: header.state_root,
            transactions_root: header.transactions_root,
            receipts_root: header.receipts_root,
            logs_bloom: header.logs_bloom,
            difficulty: U64::ZERO,
            number: U64::from(header.number),
            gas_limit: U64::from(header.gas_limit),
            gas_used: U64::from(header.gas_used),
            timestamp: U64::from(header.timestamp_seconds()),
            extra_data: header.proposer,
            // What PREVRANDAO gives to contracts.
            mix_hash: header.parent_hash,
            nonce: B64::ZERO,
            base_fee_per_gas: U64::ZERO,
        }
    }
}

/// A block with its transactions.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BlockJson {
    #[serde(flatten)]
    head: HeadJson,
    size: U64,
    uncles: [B256; 0],
    transactions: TransactionsJson,
}

/// Transactions of a block, as the caller wants them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum TransactionsJson {
    Hashes(Vec<B256>),
    Full(Vec<TransactionJson>),
}

impl BlockJson {
    pub(crate) fn with_hashes(block: BlockView) -> Self {
        Self {
            head: HeadJson::new(block.hash, &block.header),
            size: U64::from(block.size_bytes),
            uncles: [],
            transactions: TransactionsJson::Hashes(block.transactions),
        }
    }

    pub(crate) fn with_transactions(block: BlockView, transactions: &[TransactionView]) -> Self {
        let full = transactions.iter().map(TransactionJson::new).collect();
        Self {
            transactions: TransactionsJson::Full(full),
            ..Self::with_hashes(block)
        }
    }
}

/// A transaction. The three Ethereum types have the fields of their type; an account transaction looks like
/// a legacy one of type `0x5e` and says what kind of key signed it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionJson {
    hash: B256,
    #[serde(rename = "type")]
    tx_type: U64,
    nonce: U64,
    block_hash: Option<B256>,
    block_number: Option<U64>,
    transaction_index: Option<U64>,
    from: Address,
    to: Option<Address>,
    value: U256,
    gas: U64,
    gas_price: U256,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_fee_per_gas: Option<U256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_priority_fee_per_gas: Option<U256>,
    input: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_list: Option<AccessList>,
    v: U64,
    r: U256,
    s: U256,
    #[serde(skip_serializing_if = "Option::is_none")]
    y_parity: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_kind: Option<&'static str>,
}

impl TransactionJson {
    pub(crate) fn new(view: &TransactionView) -> Self {
        let transaction = &view.transaction;
        let (r, s, odd) = match transaction {
            Transaction::Ethereum(tx) => {
                let signature = tx.signature();
                (signature.r(), signature.s(), signature.v())
            }
            Transaction::Account(tx) => tx.rpc_signature(),
        };
        let parity = u64::from(odd);
        let chain_id = transaction.chain_id();
        let legacy = transaction.tx_type() == LEGACY;
        let fees = Fees::of(transaction);
        Self {
            hash: view.hash,
            tx_type: U64::from(transaction.tx_type()),
            nonce: U64::from(transaction.nonce()),
            block_hash: view.position.map(|at| at.block_hash),
            block_number: view.position.map(|at| U64::from(at.height)),
            transaction_index: view.position.map(|at| U64::from(at.index)),
            from: view.sender,
            to: transaction.to().to().copied(),
            value: transaction.value(),
            gas: U64::from(transaction.gas_limit()),
            gas_price: fees.price,
            max_fee_per_gas: fees.max,
            max_priority_fee_per_gas: fees.max_priority,
            input: transaction.input().clone(),
            chain_id: chain_id.map(U64::from),
            access_list: access_list(transaction),
            v: U64::from(if legacy {
                eip155_v(chain_id, parity)
            } else {
                parity
            }),
            r,
            s,
            y_parity: (!legacy).then(|| U64::from(parity)),
            signature_kind: match transaction {
                Transaction::Ethereum(_) => None,
                Transaction::Account(tx) => Some(match tx.signature {
                    AccountSignature::Secp256k1(_) => "secp256k1",
                    AccountSignature::WebAuthn(_) => "webauthn",
                }),
            },
        }
    }
}

/// Prices as offered; nothing is ever paid.
#[derive(Default)]
struct Fees {
    price: U256,
    max: Option<U256>,
    max_priority: Option<U256>,
}

impl Fees {
    fn of(transaction: &Transaction) -> Self {
        match transaction {
            Transaction::Account(_) => Self::default(),
            Transaction::Ethereum(tx) => match tx.gas_price() {
                // The price is part of what was signed, so it is shown although it is not paid.
                Some(price) => Self {
                    price: U256::from(price),
                    ..Self::default()
                },
                None => Self {
                    price: U256::ZERO,
                    max: Some(U256::from(tx.max_fee_per_gas())),
                    max_priority: tx.max_priority_fee_per_gas().map(U256::from),
                },
            },
        }
    }
}

fn access_list(transaction: &Transaction) -> Option<AccessList> {
    match transaction {
        Transaction::Ethereum(tx) => tx.access_list().cloned(),
        Transaction::Account(_) => None,
    }
}

/// EIP-155: 35 + 2 · chain id + parity; 27 + parity without replay protection.
fn eip155_v(chain_id: Option<u64>, parity: u64) -> u64 {
    match chain_id {
        Some(id) => id
            .saturating_mul(2)
            .saturating_add(35)
            .saturating_add(parity),
        None => parity.saturating_add(27),
    }
}

/// A receipt.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiptJson {
    transaction_hash: B256,
    transaction_index: U64,
    block_hash: B256,
    block_number: U64,
    from: Address,
    to: Option<Address>,
    contract_address: Option<Address>,
    cumulative_gas_used: U64,
    gas_used: U64,
    effective_gas_price: U64,
    logs: Vec<LogJson>,
    logs_bloom: Bloom,
    #[serde(rename = "type")]
    tx_type: U64,
    status: U64,
}

impl ReceiptJson {
    pub(crate) fn new(view: ReceiptView) -> Self {
        let logs_bloom = view.receipt.bloom();
        let at = view.position;
        let hash = view.hash;
        let logs = view
            .receipt
            .logs
            .into_iter()
            .zip(view.first_log_index..)
            .map(|(log, log_index)| {
                LogJson::new(LogView {
                    log,
                    tx_hash: hash,
                    position: at,
                    log_index,
                })
            })
            .collect();
        Self {
            transaction_hash: hash,
            transaction_index: U64::from(at.index),
            block_hash: at.block_hash,
            block_number: U64::from(at.height),
            from: view.sender,
            to: view.to,
            contract_address: view.created,
            cumulative_gas_used: U64::from(view.receipt.cumulative_gas_used),
            gas_used: U64::from(view.gas_used),
            effective_gas_price: U64::ZERO,
            logs,
            logs_bloom,
            tx_type: U64::from(view.receipt.tx_type),
            status: U64::from(u64::from(view.receipt.success)),
        }
    }
}

/// A log. `removed` is always false: what is shown is final.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogJson {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_hash: B256,
    block_number: U64,
    block_timestamp: U64,
    transaction_hash: B256,
    transaction_index: U64,
    log_index: U64,
    removed: bool,
}

impl LogJson {
    pub(crate) fn new(view: LogView) -> Self {
        let LogView {
            log,
            tx_hash,
            position,
            log_index,
        } = view;
        let Position {
            block_hash,
            height,
            timestamp_ms,
            index,
        } = position;
        let (topics, data) = log.data.split();
        Self {
            address: log.address,
            topics,
            data,
            block_hash,
            block_number: U64::from(height),
            block_timestamp: U64::from(timestamp_ms / 1000),
            transaction_hash: tx_hash,
            transaction_index: U64::from(index),
            log_index: U64::from(log_index),
            removed: false,
        }
    }
}

/// An account with proofs (EIP-1186).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProofJson {
    address: Address,
    account_proof: Vec<Bytes>,
    balance: U256,
    code_hash: B256,
    nonce: U64,
    storage_hash: B256,
    storage_proof: Vec<SlotJson>,
}

#[derive(Clone, Debug, Serialize)]
struct SlotJson {
    key: String,
    value: U256,
    proof: Vec<Bytes>,
}

impl ProofJson {
    /// The slots come back in the order and the spelling in which they were asked for.
    pub(crate) fn new(proof: AccountProof, slots: Vec<Slot>) -> Self {
        let storage_proof = proof
            .storage
            .into_iter()
            .zip(slots)
            .map(|(slot, asked)| SlotJson {
                key: asked.given,
                value: slot.value,
                proof: slot.proof,
            })
            .collect();
        Self {
            address: proof.address,
            account_proof: proof.proof,
            balance: proof.balance,
            code_hash: proof.code_hash,
            nonce: U64::from(proof.nonce),
            storage_hash: proof.storage_root,
            storage_proof,
        }
    }
}

/// What transactions would pay: nothing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeeHistoryJson {
    pub(crate) oldest_block: U64,
    /// One more than there are blocks: the next block's is known too.
    pub(crate) base_fee_per_gas: Vec<U64>,
    pub(crate) gas_used_ratio: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<Vec<Vec<U64>>>,
}

/// keccak-256 of an empty RLP list: the hash of no uncles (yellow paper, "KEC(RLP(()))").
const EMPTY_LIST_HASH: B256 =
    alloy_primitives::b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
/// EIP-2718 type of legacy transactions.
const LEGACY: u8 = 0;
