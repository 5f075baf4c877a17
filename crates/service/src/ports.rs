//! What the use cases need from outside, as traits implemented by the binary (and by test doubles):
//! the ledger. Owned by this crate so that fronts and use cases compile without the EVM and the network.

use std::{future::Future, pin::Pin, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use stele_core::{
    block::{Header, Receipt, Validator},
    epoch::{Change, Epoch, recovery::Recovery},
    id::OrganizationId,
    tx::Transaction,
};

use crate::network::{KnownCard, SignedCard};

/// What a trace looks like, and how it is asked for: go-ethereum's forms.
pub use alloy_rpc_types_trace::geth::{GethDebugTracingOptions as TraceOptions, GethTrace};

/// A boxed future, so that the port can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the ledger did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The transaction was refused at the door; the text is meant for its sender.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        kind: RefusalKind,
        /// What was wrong.
        message: String,
    },
    /// A call or transaction was reverted by a contract; the bytes are its ABI-encoded error.
    #[error("execution reverted{}", revert_text(output))]
    Reverted {
        /// Revert data.
        output: Bytes,
    },
    /// A call ran out of gas or failed in another way that gives no data.
    #[error("execution failed: {reason}")]
    Halted {
        /// The reason as the EVM names it.
        reason: String,
    },
    /// What was asked for is not kept.
    #[error("{what} is not available: {reason}")]
    NotAvailable {
        /// What was asked for.
        what: String,
        /// Why it is not there.
        reason: String,
    },
    /// The question itself makes no sense.
    #[error("{message}")]
    Question {
        /// What is wrong with it.
        message: String,
    },
    /// The question is over a limit.
    #[error("{message}")]
    Limit {
        /// Which limit, and how to stay under it.
        message: String,
    },
    /// The transaction was accepted but is not final yet; it may still become so.
    #[error(
        "transaction {hash} is not final after {waited_ms} ms; it is kept and may still be recorded"
    )]
    Pending {
        /// The transaction.
        hash: B256,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The ledger stopped or its files are damaged.
    #[error("the ledger cannot answer: {message}")]
    Unavailable {
        /// What happened.
        message: String,
    },
}

/// Why a transaction was refused at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The bytes are not a transaction, or too many.
    Malformed,
    /// For another chain, or with a bad signature.
    Signature,
    /// Nonce too low, or too far ahead.
    Nonce,
    /// Already in the pool or in a block.
    Known,
    /// Gas limit too low or too high, or value without balance.
    Gas,
    /// The sender may not transact.
    NotPermitted,
    /// The pool is full for this sender, its sponsor or everyone.
    PoolFull,
}

fn revert_text(output: &Bytes) -> String {
    alloy_sol_types::decode_revert_reason(output)
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

/// Which block a question is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockRef {
    /// The last finalized block; Ethereum's `latest`, `safe` and `finalized` alike.
    #[default]
    Latest,
    /// The state with the pool's transactions; only nonces can be asked for.
    Pending,
    /// By height; `earliest` is 0.
    Number(u64),
    /// By digest.
    Hash(B256),
}

/// A call that changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Caller; zero when nobody in particular.
    pub from: Address,
    /// Contract called; `None` is a creation.
    pub to: Option<Address>,
    /// Calldata or init code.
    pub input: Bytes,
    /// Value in wei.
    pub value: U256,
    /// Gas limit; `None` is the block's.
    pub gas: Option<u64>,
}

/// What to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A finalized transaction, by hash.
    Transaction(B256),
    /// Every transaction of a block.
    Block(BlockRef),
    /// A call that changes nothing, on the state after a block.
    Call(Call, BlockRef),
}

/// What a transaction or call did, step by step.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The transaction; zero for a call.
    pub hash: B256,
    /// The trace, in the form that was asked for.
    pub trace: GethTrace,
}

/// Which slots of an account are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotQuery {
    /// The account.
    pub address: Address,
    /// The block.
    pub at: BlockRef,
    /// Before the transaction at this index of the block; after all of them when absent.
    pub before: Option<usize>,
    /// keccak-256 of the first slot's key, or less.
    pub from: B256,
    /// At most so many.
    pub max: usize,
}

/// Slots that hold something, by the keccak-256 of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotRange {
    /// Hashed key and value, in ascending order.
    pub slots: Vec<(B256, U256)>,
    /// Hashed key of the next one, if there is more.
    pub next: Option<B256>,
}

/// A finalized block as queries give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockView {
    /// Digest of the header.
    pub hash: B256,
    /// The header.
    pub header: Header,
    /// Hashes of its transactions, in order.
    pub transactions: Vec<B256>,
    /// Size of its encoding in bytes.
    pub size_bytes: u64,
}

/// A finalized transaction, or one that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// keccak-256 of its encoding.
    pub hash: B256,
    /// Its sender.
    pub sender: Address,
    /// The transaction.
    pub transaction: Transaction,
    /// Where it stands; `None` while it waits.
    pub position: Option<Position>,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Digest of the block.
    pub block_hash: B256,
    /// Height of the block.
    pub height: u64,
    /// The block's time in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Index in the block.
    pub index: u32,
}

/// What a finalized transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptView {
    /// The transaction.
    pub hash: B256,
    /// Its sender.
    pub sender: Address,
    /// The contract called; `None` for a creation.
    pub to: Option<Address>,
    /// The contract created.
    pub created: Option<Address>,
    /// Where it stands.
    pub position: Position,
    /// Gas it used itself.
    pub gas_used: u64,
    /// Number of logs in the block before its own.
    pub first_log_index: u32,
    /// The receipt.
    pub receipt: Receipt,
}

/// A log with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// The log.
    pub log: Log,
    /// Transaction that emitted it.
    pub tx_hash: B256,
    /// Where that stands.
    pub position: Position,
    /// Index in the block.
    pub log_index: u32,
}

/// Which logs are asked for (the filter of `eth_getLogs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// First height.
    pub from: u64,
    /// Last height, inclusive; `None` is the latest.
    pub to: Option<u64>,
    /// Any of these addresses; empty is any.
    pub addresses: Vec<Address>,
    /// For each position any of these topics; empty is any.
    pub topics: Vec<Vec<B256>>,
}

impl LogFilter {
    /// Whether a log is asked for; heights are the caller's to check.
    #[must_use]
    pub fn matches(&self, log: &Log) -> bool {
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.iter().enumerate().all(|(position, wanted)| {
                wanted.is_empty()
                    || log
                        .topics()
                        .get(position)
                        .is_some_and(|t| wanted.contains(t))
            })
            && log.topics().len() >= self.topics.len()
    }
}

/// A storage slot with its proof (EIP-1186).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotProof {
    /// The slot.
    pub key: B256,
    /// Its value, zero when absent.
    pub value: U256,
    /// Nodes from the storage root to the leaf.
    pub proof: Vec<Bytes>,
}

/// An account with its proof against a block's state root (EIP-1186).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account.
    pub address: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its balance in wei.
    pub balance: U256,
    /// keccak-256 of its code.
    pub code_hash: B256,
    /// Root of its storage.
    pub storage_root: B256,
    /// Nodes from the state root to the account.
    pub proof: Vec<Bytes>,
    /// The slots asked for.
    pub storage: Vec<SlotProof>,
    /// Height of the block whose state root it verifies against.
    pub height: u64,
}

/// A finalized block with everything it did: what the index follows and subscribers receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// The block.
    pub block: BlockView,
    /// Receipts in order of the transactions.
    pub receipts: Vec<ReceiptView>,
}

/// Facts of the chain that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFacts {
    /// Chain id.
    pub chain_id: u64,
    /// Digest of the first block.
    pub genesis_hash: B256,
    /// Gas limit of a block.
    pub block_gas_limit: u64,
    /// Whether any sender may transact and deploy (development).
    pub open: bool,
    /// Validators at genesis.
    pub validators: Vec<Validator>,
}

/// An e-mail of plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The same at every attempt.
    pub id: String,
    /// Address of the recipient.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Text.
    pub text: String,
}

/// Why a notice did not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CourierError {
    /// Whether another attempt is useless.
    pub is_permanent: bool,
    /// What happened, without an address or anything secret.
    pub reason: String,
}

/// Puts what is sent into the language of who receives it.
pub trait Interpreter: Send + Sync {
    /// A sentence in a language, by its code (BCP 47), or in the installation's: one of
    /// [`crate::notices::SENTENCES`] or of [`crate::notices::NoticeKind::words`], with `{name}` replaced by its value.
    fn say(
        &self,
        language: Option<&str>,
        english: &'static str,
        values: &[(&'static str, &str)],
    ) -> String;
    /// A day, `2026-06-30`, in words.
    fn day(&self, language: Option<&str>, written: &str) -> String;
}

/// Carries notices to people. At least once: a message that was on its way at a crash is sent again under the same id.
pub trait Courier: Send + Sync {
    /// Whether e-mail can be sent.
    fn has_mail(&self) -> bool;
    /// What people call the organisation's own channel, if there is one.
    fn hook_name(&self) -> Option<&str>;
    /// Hands an e-mail to the mail server.
    fn send_mail(&self, mail: Mail) -> BoxFuture<'_, Result<(), CourierError>>;
    /// Hands a JSON text to the organisation's channel.
    fn call_hook<'a>(
        &'a self,
        id: &'a str,
        body: String,
    ) -> BoxFuture<'a, Result<(), CourierError>>;
}

/// Why another member did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No gateway of it is configured.
    #[error("no gateway is configured for it")]
    Unknown,
    /// It can't be reached.
    #[error("it can't be reached: {reason}")]
    Unreachable {
        /// What the network said.
        reason: String,
    },
    /// It refused.
    #[error("it refused ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In its words.
        message: String,
    },
}

/// Final blocks in a row, all of one epoch.
#[derive(Clone, Debug, Default)]
pub struct FinalBlocks {
    /// Encoded blocks, ascending by height.
    pub blocks: Vec<Bytes>,
    /// Encoded certificate that names the last of them.
    pub certificate: Bytes,
    /// Documents that ended epochs by hand not long before these blocks, or after; unchecked.
    pub recoveries: Vec<Recovery>,
}

/// The gateways of the other members.
pub trait Peers: Send + Sync + 'static {
    /// Sends a signed question and gives the body of the answer.
    fn ask(
        &self,
        to: OrganizationId,
        signature: String,
        question: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, PeerError>>;
    /// What members say of where they are, this node's own card among them.
    fn cards(&self) -> Vec<SignedCard> {
        Vec::new()
    }
    /// Takes note of where members are.
    fn learn(&self, cards: Vec<KnownCard>) {
        let _ = cards;
    }
    /// Fetches one block by its CID, unverified.
    fn block(&self, of: OrganizationId, cid: cid::Cid) -> BoxFuture<'_, Result<Bytes, PeerError>>;
}

/// The ledger as the use cases see it. Reads see finalized state only and are fast (tens of microseconds);
/// they may be called from asynchronous code.
pub trait Ledger: Send + Sync + 'static {
    /// Facts of the chain.
    fn facts(&self) -> ChainFacts;
    /// Admits a signed transaction (EIP-2718 bytes) and returns its hash.
    fn submit(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>>;
    /// As [`Ledger::submit`], but only this node proposes the transaction: once the node has restarted and a block of
    /// its own is final, a transaction that is not final by then never will be.
    fn submit_own(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>> {
        self.submit(transaction)
    }
    /// Waits until the transaction is final *and indexed*, so that its sender reads its own write.
    fn wait(&self, hash: B256, timeout_ms: u64) -> BoxFuture<'_, Result<ReceiptView, LedgerError>>;
    /// Executes a call against finalized state and returns its output.
    ///
    /// # Errors
    /// Reverted, halted, or state that is not kept.
    fn call(&self, call: &Call, at: BlockRef) -> Result<Bytes, LedgerError>;
    /// Smallest gas limit with which the transaction would succeed.
    ///
    /// # Errors
    /// As for [`Ledger::call`].
    fn estimate_gas(&self, call: &Call) -> Result<u64, LedgerError>;
    /// Executes again and tells what was done, in go-ethereum's forms. `None` if there is no such transaction or block.
    ///
    /// # Errors
    /// As for [`Ledger::call`]; a tracer that there is not.
    fn trace(
        &self,
        what: &Traced,
        options: &TraceOptions,
    ) -> Result<Option<Vec<Trace>>, LedgerError>;
    /// Height of the last finalized block.
    fn height(&self) -> u64;
    /// Time of the last finalized block, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Damaged files.
    fn finalized_at_ms(&self) -> Result<u64, LedgerError>;
    /// Balance, nonce, code.
    ///
    /// # Errors
    /// State that is not kept.
    fn account(&self, address: Address, at: BlockRef) -> Result<(U256, u64, Bytes), LedgerError>;
    /// One storage slot.
    ///
    /// # Errors
    /// State that is not kept.
    fn storage(&self, address: Address, slot: U256, at: BlockRef) -> Result<B256, LedgerError>;
    /// A range of the slots of an account. `None` if there is no such block, or no such transaction in it.
    ///
    /// # Errors
    /// State that is not kept.
    fn slots(&self, query: &SlotQuery) -> Result<Option<SlotRange>, LedgerError>;
    /// Account and slots with their proofs, against the state root of the block.
    ///
    /// # Errors
    /// State that is not kept.
    fn proof(
        &self,
        address: Address,
        slots: &[B256],
        at: BlockRef,
    ) -> Result<AccountProof, LedgerError>;
    /// A finalized block.
    ///
    /// # Errors
    /// Damaged files.
    fn block(&self, at: BlockRef) -> Result<Option<BlockView>, LedgerError>;
    /// Header RLP and encoded certificate of a height: what a proof file carries.
    ///
    /// # Errors
    /// Damaged files.
    fn certified_header(&self, height: u64) -> Result<Option<(Header, Bytes)>, LedgerError>;
    /// The epoch of the next block: who validates now. `None` where there are no validators.
    fn epoch(&self) -> Option<Arc<Epoch>> {
        None
    }
    /// Every change of validators so far, from the first: what a proof file carries, too.
    ///
    /// # Errors
    /// Damaged files.
    fn validator_changes(&self) -> Result<Vec<Change>, LedgerError> {
        Ok(Vec::new())
    }
    /// Final blocks from a height on, with the certificate of the last: what another member that lacks them is given.
    /// `None` if there are none.
    ///
    /// # Errors
    /// Damaged files.
    fn final_blocks(&self, from: u64) -> Result<Option<FinalBlocks>, LedgerError> {
        let _ = from;
        Ok(None)
    }
    /// The documents that ended epochs by hand, the oldest first.
    fn recoveries(&self) -> Vec<Recovery> {
        Vec::new()
    }
    /// Height of the last block before the others went on without an organisation, whose validators they took for lost.
    fn left_behind(&self, organization: Address) -> Option<u64> {
        let _ = organization;
        None
    }
    /// A final block whose state can be given to an organisation that joins, with what proves it, in the ledger's own form. `None` if
    /// there is none.
    ///
    /// # Errors
    /// Damaged files.
    fn snapshot_offer(&self, to: Address) -> Result<Option<Bytes>, LedgerError> {
        let _ = to;
        Ok(None)
    }
    /// Parts of the state after the block at a height for an organisation that joins, `wants` being what it lacks, in the
    /// ledger's own form.
    /// `None` if that state is not kept.
    ///
    /// # Errors
    /// [`LedgerError::Question`] if `wants` can't be read; damaged files.
    fn state_parts(
        &self,
        to: Address,
        height: u64,
        wants: &[u8],
    ) -> Result<Option<Vec<Bytes>>, LedgerError> {
        let _ = (to, height, wants);
        Ok(None)
    }
    /// Encoded receipts of final blocks from a height up to another, a list a block; those that fit into an answer.
    ///
    /// # Errors
    /// Damaged files.
    fn receipts_run(&self, from: u64, to: u64) -> Result<Vec<Bytes>, LedgerError> {
        let _ = (from, to);
        Ok(Vec::new())
    }
    /// A finalized or waiting transaction.
    ///
    /// # Errors
    /// Damaged files.
    fn transaction(&self, hash: B256) -> Result<Option<TransactionView>, LedgerError>;
    /// All transactions of a block, in order.
    ///
    /// # Errors
    /// Damaged files.
    fn transactions_of(&self, height: u64) -> Result<Vec<TransactionView>, LedgerError>;
    /// Receipt of a finalized transaction.
    ///
    /// # Errors
    /// Damaged files.
    fn receipt(&self, hash: B256) -> Result<Option<ReceiptView>, LedgerError>;
    /// All receipts of a block, in order.
    ///
    /// # Errors
    /// Damaged files.
    fn receipts_of(&self, height: u64) -> Result<Vec<ReceiptView>, LedgerError>;
    /// Logs by filter, in order, at most `limit`.
    ///
    /// # Errors
    /// More than `limit` logs, or damaged files.
    fn logs(&self, filter: &LogFilter, limit: usize) -> Result<Vec<LogView>, LedgerError>;
    /// Finalized blocks from now on. A slow receiver is told how many it missed.
    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<Finalized>>;
    /// Number of transactions that wait, ready and not.
    fn pool_size(&self) -> (usize, usize);
}
