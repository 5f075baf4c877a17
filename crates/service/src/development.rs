//! What a development chain does beyond the ledger: accounts it signs for, state that is edited, a clock that is moved, a
//! past that is returned to. Implemented by the binary's `stele dev` alone; a node of a consortium has nothing of it.

use alloy_primitives::{Address, B256, Bytes, Signature, U256};

use crate::ports::LedgerError;

/// A transaction whose sender is one of the chain's own accounts, or impersonated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Send {
    /// Who sends.
    pub from: Address,
    /// Contract called; `None` is a creation.
    pub to: Option<Address>,
    /// Calldata or init code.
    pub input: Bytes,
    /// Value in wei.
    pub value: U256,
    /// Gas limit; estimated if it is not given.
    pub gas: Option<u64>,
    /// Nonce; the next one if it is not given.
    pub nonce: Option<u64>,
}

/// A change of state beside transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// Balance in wei.
    Balance(Address, U256),
    /// Nonce of the account's next transaction; never lower than it is.
    Nonce(Address, u64),
    /// Bytecode.
    Code(Address, Bytes),
    /// One slot's word.
    Slot(Address, U256, B256),
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// As soon as a transaction comes.
    Instant,
    /// Every so many milliseconds, empty ones too.
    Interval(u64),
    /// When asked for only.
    Manual,
}

/// A development chain. All methods may block for as long as a block takes.
pub trait Development: std::marker::Send + Sync + 'static {
    /// Accounts whose keys the chain has, in their order.
    fn accounts(&self) -> Vec<Address>;
    /// Speaks for an account without its key, or no longer.
    fn impersonate(&self, account: Address, wanted: bool);
    /// Speaks for every account, or no longer.
    fn impersonate_all(&self, wanted: bool);
    /// Signs a 32-byte hash with the key of one of [`Development::accounts`].
    ///
    /// # Errors
    /// There is no key of the account.
    fn sign(&self, account: Address, hash: B256) -> Result<Signature, LedgerError>;
    /// Sends a transaction; when blocks are made at once it is in one when this returns.
    ///
    /// # Errors
    /// The chain does not speak for the sender; the estimate of its gas fails; it is refused.
    fn send(&self, transaction: Send) -> Result<B256, LedgerError>;
    /// Changes state, in a block of its own.
    ///
    /// # Errors
    /// Code of a system contract, a lower nonce.
    fn change(&self, change: StateChange) -> Result<(), LedgerError>;
    /// Makes blocks, `interval_s` seconds apart when there are several.
    ///
    /// # Errors
    /// Too many.
    fn mine(&self, blocks: u64, interval_s: Option<u64>) -> Result<(), LedgerError>;
    /// When blocks are made.
    fn mining(&self) -> Mining;
    /// Sets when blocks are made.
    fn set_mining(&self, mining: Mining);
    /// Moves the clock and says how far it is off now, in seconds.
    fn increase_time(&self, seconds: u64) -> u64;
    /// Sets the next block's time in Unix seconds; the clock goes on from there.
    ///
    /// # Errors
    /// Not later than the last block.
    fn set_next_timestamp(&self, seconds: u64) -> Result<(), LedgerError>;
    /// Remembers this moment under a number.
    fn snapshot(&self) -> u64;
    /// Returns to a moment and forgets it and all later ones; `false` if it is not known.
    ///
    /// # Errors
    /// The state of that moment cannot be read.
    fn revert(&self, snapshot: u64) -> Result<bool, LedgerError>;
    /// Returns to the beginning.
    ///
    /// # Errors
    /// As [`Development::revert`].
    fn reset(&self) -> Result<(), LedgerError>;
}
