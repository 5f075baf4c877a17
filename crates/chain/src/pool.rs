//! Transactions that wait for a block: admission, order, limits.
//!
//! Decoding and signature recovery, which cost the most, happen outside the lock. What is admitted carries its
//! sender from then on. Order is first come, first served across senders, by nonce within one. The pool is never
//! part of consensus: a validator judges a block by its content alone.

mod queue;
mod refusals;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use stele_core::tx::{MAX_TX_BYTES, RecoveredTransaction, TransactionError};

use crate::{
    chain::Development,
    error::{InvalidTransaction, Rejected},
    evm::tx_env,
    executor::{Signatures, recover_exactly},
    rules,
    state::StateView,
};

use queue::Queue;
use refusals::Refusals;

/// How much the pool keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Transactions in all.
    pub transactions: usize,
    /// Bytes of all transactions together.
    pub bytes: usize,
    /// Transactions of one sender.
    pub per_sender: usize,
    /// Transactions of all accounts of one organisation.
    pub per_organization: usize,
    /// How far ahead of the account's nonce a transaction may be.
    pub nonce_gap: u64,
}

impl Default for PoolLimits {
    /// Some seconds of full load; an organisation may fill half of it.
    fn default() -> Self {
        Self {
            transactions: 32_768,
            bytes: 64 << 20,
            per_sender: 2_048,
            per_organization: 16_384,
            nonce_gap: 1_024,
        }
    }
}

/// A transaction in the pool.
#[derive(Clone, Debug)]
pub struct Pooled {
    /// The transaction with its sender.
    pub recovered: Arc<RecoveredTransaction>,
    /// Its encoding.
    pub encoded: Bytes,
    /// The account it counts against: an organisation, or in an open network an unregistered sender.
    pub organization: Address,
    arrival: u64,
}

/// What admission holds a transaction against.
pub(crate) struct Admission<'a> {
    pub(crate) view: &'a StateView,
    /// Whose transactions are taken for whose.
    pub(crate) signatures: Signatures,
    pub(crate) open: bool,
    pub(crate) block_gas_limit: u64,
}

/// The pool.
pub(crate) struct Pool {
    limits: PoolLimits,
    queue: Mutex<Queue>,
    refusals: Mutex<Refusals>,
    on_ready: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            queue: Mutex::default(),
            refusals: Mutex::default(),
            on_ready: OnceLock::new(),
        }
    }

    /// Calls `notify` from the admitting thread whenever a transaction that can be executed was admitted. It must be
    /// quick. Only the first call of this function has an effect.
    pub(crate) fn on_ready(&self, notify: Box<dyn Fn() + Send + Sync>) {
        // A second listener would mean two block builders; the first one stays.
        let _ = self.on_ready.set(notify);
    }

    /// Checks a transaction and takes it in.
    ///
    /// # Errors
    /// Says why not.
    pub(crate) fn admit(
        &self,
        encoded: Bytes,
        admission: &Admission<'_>,
    ) -> Result<Arc<Pooled>, Rejected> {
        if encoded.len() > MAX_TX_BYTES {
            let size = encoded.len();
            let too_large = TransactionError::TooLarge {
                size,
                max: MAX_TX_BYTES,
            };
            return Err(InvalidTransaction::from(too_large).into());
        }
        let hash = keccak256(&encoded);
        if self.queue().get(&hash).is_some() {
            return Err(Rejected::AlreadyKnown);
        }
        let recovered = recover_exactly(&encoded, hash, admission.signatures)?;
        let (next_nonce, organization) = self.check(&recovered, admission)?;
        let pooled = Pooled {
            recovered: Arc::new(recovered),
            encoded,
            organization,
            arrival: 0,
        };
        let (pooled, executable) = self.queue().insert(pooled, next_nonce, &self.limits)?;
        if executable && let Some(notify) = self.on_ready.get() {
            notify();
        }
        Ok(pooled)
    }

    /// The account's nonce and the organisation the transaction counts against.
    fn check(
        &self,
        recovered: &RecoveredTransaction,
        admission: &Admission<'_>,
    ) -> Result<(u64, Address), Rejected> {
        let env = tx_env(recovered);
        rules::check_alone(&env, admission.block_gas_limit)?;
        let sender = recovered.sender;
        let view = admission.view;
        let account = view.account(sender)?;
        let (next, balance) = account.map_or_else(Default::default, |a| (a.nonce, a.balance));
        let given = env.nonce;
        if given < next {
            return Err(InvalidTransaction::NonceTooLow { next, given }.into());
        }
        if given.saturating_sub(next) > self.limits.nonce_gap {
            return Err(Rejected::NonceGap {
                next,
                given,
                gap_max: self.limits.nonce_gap,
            });
        }
        let has_code =
            account.is_some_and(|account| account.code_hash != revm::primitives::KECCAK_EMPTY);
        if has_code && admission.signatures.development == Development::No {
            return Err(InvalidTransaction::SenderIsContract { sender }.into());
        }
        if env.value > balance {
            return Err(InvalidTransaction::InsufficientFunds {
                balance,
                value: env.value,
            }
            .into());
        }
        let organization = rules::check(recovered, admission.open, |address, key| {
            view.slot(address, key)
        })??;
        Ok((next, organization))
    }

    /// Transactions in the order they should be executed, leaving out those in `executed`, up to `bytes_max` bytes.
    pub(crate) fn candidates(
        &self,
        executed: &BTreeSet<B256>,
        bytes_max: usize,
    ) -> Vec<Arc<Pooled>> {
        let queue = self.queue();
        let mut bytes = 0_usize;
        queue
            .in_order()
            .filter(|pooled| !executed.contains(&pooled.recovered.hash))
            .take_while(|pooled| {
                bytes = bytes.saturating_add(pooled.encoded.len());
                bytes <= bytes_max
            })
            .collect()
    }

    /// Whether there is a transaction that can be executed, leaving out those in `executed`.
    pub(crate) fn has_work(&self, executed: &BTreeSet<B256>) -> bool {
        self.queue()
            .in_order()
            .any(|pooled| !executed.contains(&pooled.recovered.hash))
    }

    /// A transaction by its hash.
    pub(crate) fn get(&self, hash: &B256) -> Option<Arc<Pooled>> {
        self.queue().get(hash)
    }

    /// Drops a transaction that can no longer be executed, and remembers why.
    pub(crate) fn refuse(&self, hash: B256, reason: InvalidTransaction) {
        self.queue().remove(&hash);
        self.refusals().remember(hash, reason);
    }

    /// Why a transaction was dropped, if that was not long ago.
    pub(crate) fn refusal(&self, hash: &B256) -> Option<InvalidTransaction> {
        // It may have been admitted again since.
        match self.queue().get(hash) {
            Some(_) => None,
            None => self.refusals().get(hash),
        }
    }

    /// Drops the sender's transactions below its nonce in the final state.
    pub(crate) fn advance(&self, sender: Address, next_nonce: u64) {
        self.queue().advance(sender, next_nonce);
    }

    /// Whose transactions wait.
    pub(crate) fn senders(&self) -> Vec<Address> {
        self.queue().senders()
    }

    /// As [`Pool::advance`], for a sender whose transaction came in beside a block: it may be executable only now.
    pub(crate) fn catch_up(&self, sender: Address, next_nonce: u64) {
        self.advance(sender, next_nonce);
        if let Some(notify) = self.on_ready.get() {
            notify();
        }
    }

    /// The nonce after the sender's transactions that wait and can be executed one after the other.
    pub(crate) fn next_nonce(&self, sender: Address, state_nonce: u64) -> u64 {
        self.queue().next_nonce(sender, state_nonce)
    }

    /// What waits.
    pub(crate) fn status(&self) -> PoolStatus {
        self.queue().status()
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of the queue is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much waits in the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Transactions.
    pub transactions: usize,
    /// Their bytes.
    pub bytes: usize,
}
