//! What can go wrong: a transaction that is refused, a block that is not valid, a question without an answer, and
//! the errors after which a node must not vote.

use alloy_primitives::{Address, B256, U256};
use stele_core::{epoch::recovery::RecoveryError, tx::TransactionError};

use crate::state;

/// Errors after which the node stops before it votes, or does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state could not be read or written, or is damaged.
    #[error("the chain's state failed")]
    State(#[from] state::Error),
    /// The genesis file is not usable.
    #[error("reading the genesis: {problem}")]
    Genesis {
        /// What is wrong with it.
        problem: String,
    },
    /// The data folder belongs to another chain.
    #[error(
        "the data folder holds the chain with genesis {stored}, the genesis file gives {given}"
    )]
    OtherGenesis {
        /// Digest of the first block in the folder.
        stored: B256,
        /// Digest of the first block according to the file.
        given: B256,
    },
    /// A block stands on one that is neither final nor was handed over.
    #[error("block {block} at height {height} stands on {parent}, which is not known here")]
    UnknownParent {
        /// The block.
        block: B256,
        /// Its height.
        height: u64,
        /// The parent it names.
        parent: B256,
    },
    /// The validators finalized a block that this node finds invalid: its software or its data are not theirs.
    #[error("block {block} at height {height} is final but not valid here: {reason}")]
    FinalButInvalid {
        /// The block.
        block: B256,
        /// Its height.
        height: u64,
        /// What is invalid.
        #[source]
        reason: InvalidBlock,
    },
    /// A commit certificate does not finalize the block it was stored with.
    #[error("the commit certificate at height {height} does not hold: {problem}")]
    Certificate {
        /// Height.
        height: u64,
        /// What is wrong.
        problem: String,
    },
    /// Height up to which a check came before it failed.
    #[error("checking the chain at height {height}")]
    Check {
        /// Height.
        height: u64,
        /// What failed.
        #[source]
        source: Box<Self>,
    },
}

/// Why a document does not end an epoch by hand here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryRefused {
    /// The document itself does not hold.
    #[error(transparent)]
    Document(#[from] RecoveryError),
    /// The chain has no final block: it needs another genesis, not a recovery.
    #[error("no block is final yet: make a new genesis with the members that are left")]
    Nothing,
    /// Later blocks are final that this node has not taken in.
    #[error(
        "a block after {head} is final: start the node so that it takes that in, then stop it again"
    )]
    Pending {
        /// Height of the last block here.
        head: u64,
    },
    /// The block that it names is not here yet.
    #[error(
        "it names block {height}, and this node ends at block {head}: start the node beside the others until it has \
         that block, then stop it again"
    )]
    Behind {
        /// Height of the last final block here.
        head: u64,
        /// Height it names.
        height: u64,
    },
    /// Blocks are final here that are not part of it.
    #[error(
        "it names block {height}, and blocks {} to {head} with {transactions} transactions are final at this node: \
         they are not part of what the others go on with",
        .height.saturating_add(1)
    )]
    Ahead {
        /// Height it names.
        height: u64,
        /// Height of the last final block here.
        head: u64,
        /// Transactions in the blocks between.
        transactions: u64,
    },
    /// Another block is final here at the height that it names.
    #[error("it names block {named} at height {height}, where {stored} is final at this node")]
    OtherBlock {
        /// Height.
        height: u64,
        /// Digest of the block here.
        stored: B256,
        /// Digest it names.
        named: B256,
    },
    /// The epoch has ended already.
    #[error("epoch {epoch} has ended already")]
    Over {
        /// The epoch.
        epoch: u64,
    },
    /// Another document has ended the epoch.
    #[error("epoch {epoch} was ended by {known}; this is {given}")]
    Other {
        /// The epoch.
        epoch: u64,
        /// Digest of the document in force.
        known: B256,
        /// Digest of this one.
        given: B256,
    },
    /// Somebody signed who may not act at that block.
    #[error(
        "organisation {organization} has signed it and is no active organisation at that block"
    )]
    Suspended {
        /// The organisation.
        organization: Address,
    },
    /// Somebody is to get a seat who can't have one.
    #[error(
        "validator {key} is to get a seat for {organization}, which is no active organisation at that block, or not the \
         one that runs it"
    )]
    Seat {
        /// The validator's key.
        key: B256,
        /// The organisation named for it.
        organization: Address,
    },
    /// The chain could not be read or written.
    #[error("putting a recovery into force")]
    Chain(#[source] Error),
}

impl RecoveryRefused {
    /// Whether blocks are final here that the others left behind: this node can't go on beside them.
    #[must_use]
    pub const fn is_left_behind(&self) -> bool {
        matches!(
            self,
            Self::Ahead { .. } | Self::OtherBlock { .. } | Self::Over { .. } | Self::Other { .. }
        )
    }
}

impl From<Error> for RecoveryRefused {
    fn from(error: Error) -> Self {
        Self::Chain(error)
    }
}

impl From<state::Error> for RecoveryRefused {
    fn from(error: state::Error) -> Self {
        Self::Chain(error.into())
    }
}

/// Why a block is not valid. Final: other validators come to the same result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBlock {
    /// The header contradicts the parent's.
    #[error("{field} is {found}, not {expected}")]
    Header {
        /// Which field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The timestamp is not after the parent's.
    #[error("timestamp {timestamp_ms} ms is not after the parent's {parent_ms} ms")]
    Timestamp {
        /// The block's.
        timestamp_ms: u64,
        /// The parent's.
        parent_ms: u64,
    },
    /// Another block than its parent, or than itself, is final at that height.
    #[error("it is not on the branch that is final up to height {height}")]
    Overtaken {
        /// Height of the last final block.
        height: u64,
    },
    /// Over the size limit.
    #[error("the block has {size} bytes, the limit is {max}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A transaction that may not stand in a block.
    #[error("transaction {index}: {reason}")]
    Transaction {
        /// Its position.
        index: usize,
        /// Why it is not valid.
        #[source]
        reason: InvalidTransaction,
    },
}

/// Why a transaction may not stand in a block on top of a given state. Texts follow go-ethereum's where it has
/// one, because tools match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTransaction {
    /// Not readable, of another chain, or wrongly signed.
    #[error(transparent)]
    Unreadable(#[from] TransactionError),
    /// A transaction with this nonce is already part of the chain.
    #[error("nonce too low: next nonce {next}, tx nonce {given}")]
    NonceTooLow {
        /// The account's next nonce.
        next: u64,
        /// The transaction's.
        given: u64,
    },
    /// Transactions before this one are missing.
    #[error("nonce too high: next nonce {next}, tx nonce {given}")]
    NonceTooHigh {
        /// The account's next nonce.
        next: u64,
        /// The transaction's.
        given: u64,
    },
    /// The largest nonce cannot be followed by another.
    #[error("nonce has max value")]
    NonceMax,
    /// The sender does not own what it sends.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {value}")]
    InsufficientFunds {
        /// The sender's balance in wei.
        balance: U256,
        /// The value in wei.
        value: U256,
    },
    /// The gas limit does not even cover the transaction itself.
    #[error("intrinsic gas too low: gas {limit}, minimum needed {needed}")]
    IntrinsicGas {
        /// The transaction's limit.
        limit: u64,
        /// What it needs at least.
        needed: u64,
    },
    /// More gas asked for than a block, or what is left of it, has.
    #[error("exceeds block gas limit: gas {limit}, available {available}")]
    GasLimit {
        /// The transaction's limit.
        limit: u64,
        /// What the block has.
        available: u64,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {max}")]
    InitCodeTooLarge {
        /// Size in bytes.
        size: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// EIP-3607: contracts do not sign.
    #[error("sender not an eoa: {sender} is a contract")]
    SenderIsContract {
        /// The sender.
        sender: Address,
    },
    /// The sender is not registered with an organisation of the consortium.
    #[error(
        "sender {sender} is not registered; an organisation of the consortium registers accounts"
    )]
    NotRegistered {
        /// The sender.
        sender: Address,
    },
    /// The sender or its organisation is suspended or closed.
    #[error("sender {sender} or its organisation {organization} is not active")]
    NotActive {
        /// The sender.
        sender: Address,
        /// Its organisation.
        organization: Address,
    },
    /// The key is not, or no longer, one of the account's.
    #[error("the signing key does not speak for account {account}")]
    KeyRefused {
        /// The account.
        account: Address,
    },
    /// The passkey signed for another relying party.
    #[error("the passkey signed for another relying party than account {account} registered")]
    RelyingParty {
        /// The account.
        account: Address,
    },
    /// The passkey was used on a page that may not ask.
    #[error("organisation {organization} does not allow the web origin the passkey was used on")]
    Origin {
        /// The account's organisation.
        organization: Address,
    },
    /// The sender may not deploy contracts.
    #[error("account {sender} may not deploy contracts; governance grants that")]
    MayNotDeploy {
        /// The sender.
        sender: Address,
    },
    /// Refused by the rules of the machine in a way that has no variant of its own.
    #[error("{0}")]
    Rules(String),
}

/// Why the pool does not take a transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// It could not stand in a block.
    #[error(transparent)]
    Invalid(#[from] InvalidTransaction),
    /// The pool has it.
    #[error("already known")]
    AlreadyKnown,
    /// The pool has another transaction of the sender with this nonce, and without a price nothing can outbid it.
    #[error("replacement transaction underpriced: nonce {nonce} of {sender} is taken by {pending}")]
    NonceTaken {
        /// The sender.
        sender: Address,
        /// The nonce.
        nonce: u64,
        /// The transaction that has it.
        pending: B256,
    },
    /// Too far ahead of the account's nonce.
    #[error(
        "nonce too high: next nonce {next}, tx nonce {given}, at most {gap_max} ahead are kept"
    )]
    NonceGap {
        /// The account's next nonce.
        next: u64,
        /// The transaction's.
        given: u64,
        /// How far ahead the pool keeps transactions.
        gap_max: u64,
    },
    /// A limit of the pool is reached; try again later.
    #[error("txpool is full: {what} has reached its limit of {limit}")]
    Full {
        /// What is full.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The state could not be read.
    #[error("the chain's state failed")]
    State(#[from] state::Error),
}

/// What kind of refusal it is, for fronts that map refusals to codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// The bytes are not an acceptable transaction: a parse error or invalid parameters.
    Malformed,
    /// Well formed, but not acceptable to this chain in its present state.
    Invalid,
    /// The account may not do this.
    NotPermitted,
    /// The pool already has it, or its nonce.
    Known,
    /// Limits; may succeed later.
    Limit,
    /// The node itself failed.
    Internal,
}

impl Rejected {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        match self {
            Self::Invalid(invalid) => invalid.kind(),
            Self::AlreadyKnown | Self::NonceTaken { .. } => RejectionKind::Known,
            Self::NonceGap { .. } => RejectionKind::Invalid,
            Self::Full { .. } => RejectionKind::Limit,
            Self::State(_) => RejectionKind::Internal,
        }
    }

    /// Whether the same transaction may be accepted later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind(), RejectionKind::Limit)
    }
}

impl InvalidTransaction {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> RejectionKind {
        match self {
            Self::Unreadable(_) => RejectionKind::Malformed,
            Self::NonceTooLow { .. }
            | Self::NonceTooHigh { .. }
            | Self::NonceMax
            | Self::InsufficientFunds { .. }
            | Self::IntrinsicGas { .. }
            | Self::GasLimit { .. }
            | Self::InitCodeTooLarge { .. }
            | Self::SenderIsContract { .. }
            | Self::Rules(_) => RejectionKind::Invalid,
            Self::NotRegistered { .. }
            | Self::NotActive { .. }
            | Self::KeyRefused { .. }
            | Self::RelyingParty { .. }
            | Self::Origin { .. }
            | Self::MayNotDeploy { .. } => RejectionKind::NotPermitted,
        }
    }
}

/// Why a question about the chain has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Only the states after the last final blocks are kept.
    #[error("state at block {asked} is not kept; the oldest kept is {oldest}, the latest {latest}")]
    StateNotKept {
        /// Height asked for.
        asked: u64,
        /// Height of the oldest block whose state is kept.
        oldest: u64,
        /// Height of the last final block.
        latest: u64,
    },
    /// The call could not be made.
    #[error(transparent)]
    Invalid(#[from] InvalidTransaction),
    /// The call needs more gas than it may use.
    #[error("gas required exceeds allowance ({allowance})")]
    OutOfAllowance {
        /// The allowance.
        allowance: u64,
    },
    /// More logs match than are returned at once.
    #[error("query returned more than {max} results; narrow the range of blocks")]
    TooManyLogs {
        /// Largest number returned.
        max: usize,
    },
    /// The range of blocks is the wrong way round or too wide.
    #[error("invalid range of blocks {from} to {to}: at most {max} blocks at once")]
    Range {
        /// First height.
        from: u64,
        /// Last height.
        to: u64,
        /// Most blocks in a range.
        max: u64,
    },
    /// A trace was asked for in a form that there is not; says which there are.
    #[error("{0}")]
    Tracer(String),
    /// A trace records more than it may.
    #[error("the trace is over {max} bytes; ask without memory, or with a limit of steps")]
    TraceTooLarge {
        /// Most bytes recorded.
        max: usize,
    },
    /// A question about parts of the state that can't be read.
    #[error("the list of wanted parts of the state can't be read")]
    Wants,
    /// The state could not be read.
    #[error("the chain's state failed")]
    State(#[from] state::Error),
}

/// Why a snapshot that another member gives is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Its header is not one that the validators finalized, or the proof of who they are does not hold.
    #[error("the header of the snapshot is not proven: {problem}")]
    Offer {
        /// What is wrong.
        problem: String,
    },
    /// A part of the state is not the one that has to come.
    #[error("the state at height {height} is not what the header commits to")]
    Part {
        /// Height of the snapshot.
        height: u64,
        /// What was expected.
        source: state::WrongPart,
    },
    /// Blocks before the snapshot are not those that the validators finalized.
    #[error("the blocks from height {height} on: {problem}")]
    Blocks {
        /// The first of them.
        height: u64,
        /// What is wrong.
        problem: String,
    },
    /// Nothing was wrong with what was given, but with this node.
    #[error("keeping a snapshot")]
    Own(#[from] Error),
}

impl SnapshotError {
    /// Whether the fault is this node's, not the giver's.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }
}

impl From<state::Error> for SnapshotError {
    fn from(error: state::Error) -> Self {
        Self::Own(Error::State(error))
    }
}
