//! Runs blocks: transactions in, receipts and changed state out. The proposer and every validator run the same
//! code over the same view, so they come to the same roots.

use std::{cell::RefCell, sync::Arc};

use alloy_primitives::{Address, B256, Bloom, Bytes, U256, keccak256};
use rayon::prelude::*;
use revm::{
    context::result::ExecutionResult,
    database_interface::{Database as _, DatabaseCommit as _},
};
use stele_core::{
    block::{Block, Header, MAX_BLOCK_BYTES, Receipt},
    tx::{RecoveredTransaction, SenderKey, Transaction},
};

use crate::{
    chain::Development,
    contracts::{seating, storage as words},
    dev::impersonated,
    epochs::Seating,
    error::{InvalidBlock, InvalidTransaction},
    evm::{Cached, CodeCache, Environment, Failure, Machine, Mode, tx_env},
    rules,
    state::{self, Overlay, Pending, StateView},
};

/// A block while it runs.
pub(crate) struct Execution {
    machine: Machine<Cached<Pending>>,
    open: bool,
    gas_limit: u64,
    gas_used: u64,
    receipts: Vec<Receipt>,
}

/// What a block did.
pub(crate) struct Outcome {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) gas_used: u64,
    pub(crate) logs_bloom: Bloom,
    pub(crate) overlay: Overlay,
}

/// Why a transaction is not part of the block.
#[derive(Debug)]
pub(crate) enum Refusal {
    Invalid(InvalidTransaction),
    Fatal(state::Error),
}

impl From<state::Error> for Refusal {
    fn from(error: state::Error) -> Self {
        Self::Fatal(error)
    }
}

impl From<InvalidTransaction> for Refusal {
    fn from(invalid: InvalidTransaction) -> Self {
        Self::Invalid(invalid)
    }
}

impl Execution {
    pub(crate) fn new(
        view: StateView,
        environment: &Environment,
        code: CodeCache,
        open: bool,
        mode: Mode,
    ) -> Self {
        let database = Cached {
            inner: Pending::new(view),
            code,
        };
        Self {
            machine: Machine::new(database, environment, mode),
            open,
            gas_limit: environment.gas_limit,
            gas_used: 0,
            receipts: Vec::new(),
        }
    }

    /// Carries out what an end of the epoch by hand decided, before any transaction.
    pub(crate) fn seat(&mut self, seating: Option<&Seating>) -> Result<(), state::Error> {
        let Some(Seating {
            validators,
            suspended,
        }) = seating
        else {
            return Ok(());
        };
        let pending = &mut self.machine.database().inner;
        seating::carry_out(pending, validators, suspended)
    }

    /// The state with what ran so far. Read it only: what is written here is part of the block.
    pub(crate) fn database(&mut self) -> &mut Cached<Pending> {
        self.machine.database()
    }

    /// Gas that is left in the block.
    pub(crate) const fn gas_left(&self) -> u64 {
        self.gas_limit.saturating_sub(self.gas_used)
    }

    /// Runs one transaction. One that is refused has changed nothing.
    pub(crate) fn run(&mut self, recovered: &RecoveredTransaction) -> Result<(), Refusal> {
        let limit = recovered.transaction.gas_limit();
        let available = self.gas_left();
        if limit > available {
            return Err(InvalidTransaction::GasLimit { limit, available }.into());
        }
        let database = RefCell::new(self.machine.database());
        rules::check(recovered, self.open, |contract, key| {
            database.borrow_mut().storage(contract, key)
        })??;
        let transaction = tx_env(recovered);
        let (result, changes) = match self.machine.transact(transaction) {
            Ok(done) => done,
            Err(Failure::Fatal(error)) => return Err(error.into()),
            Err(Failure::Invalid(invalid)) => {
                return Err(rules::translate(&invalid, &tx_env(recovered)).into());
            }
        };
        self.machine.database().commit(changes);
        self.gas_used = self.gas_used.saturating_add(result.tx_gas_used());
        let (success, logs) = match result {
            ExecutionResult::Success { logs, .. } => (true, logs),
            ExecutionResult::Revert { .. } | ExecutionResult::Halt { .. } => (false, Vec::new()),
        };
        self.receipts.push(Receipt {
            tx_type: recovered.transaction.tx_type(),
            success,
            cumulative_gas_used: self.gas_used,
            logs,
        });
        Ok(())
    }

    /// Computes the roots.
    pub(crate) fn finish(self) -> Result<Outcome, state::Error> {
        let mut logs_bloom = Bloom::ZERO;
        for receipt in &self.receipts {
            logs_bloom.accrue_bloom(&receipt.bloom());
        }
        Ok(Outcome {
            receipts: self.receipts,
            gas_used: self.gas_used,
            logs_bloom,
            overlay: self.machine.into_database().inner.seal()?,
        })
    }
}

impl words::Reader for Pending {
    type Error = state::Error;

    fn load(&mut self, contract: Address, slot: U256) -> Result<U256, state::Error> {
        self.storage(contract, slot)
    }

    fn keccak(&mut self, bytes: &[u8]) -> Result<B256, state::Error> {
        Ok(keccak256(bytes))
    }
}

impl words::Writer for Pending {
    fn store(&mut self, contract: Address, slot: U256, word: U256) -> Result<(), state::Error> {
        self.set_slot(contract, slot, word);
        Ok(())
    }
}

/// Runs a block that others built.
///
/// # Errors
/// `Err` is fatal; the inner error says why the block is not valid.
pub(crate) fn execute(
    mut execution: Execution,
    transactions: &[Arc<RecoveredTransaction>],
) -> Result<Result<Outcome, InvalidBlock>, state::Error> {
    for (index, transaction) in transactions.iter().enumerate() {
        match execution.run(transaction) {
            Ok(()) => {}
            Err(Refusal::Fatal(error)) => return Err(error),
            Err(Refusal::Invalid(reason)) => {
                return Ok(Err(InvalidBlock::Transaction { index, reason }));
            }
        }
    }
    execution.finish().map(Ok)
}

/// Decodes a block's transactions and recovers their senders, in parallel. `known` gives those that were recovered
/// before, by hash.
pub(crate) fn recover(
    block: &Block,
    signatures: Signatures,
    known: impl Fn(&B256) -> Option<Arc<RecoveredTransaction>> + Sync,
) -> Result<Vec<Arc<RecoveredTransaction>>, InvalidBlock> {
    let recover_one = |(index, bytes): (usize, &Bytes)| {
        let hash = keccak256(bytes);
        if let Some(recovered) = known(&hash) {
            return Ok(recovered);
        }
        recover_exactly(bytes, hash, signatures)
            .map(Arc::new)
            .map_err(|reason| InvalidBlock::Transaction { index, reason })
    };
    block
        .transactions
        .par_iter()
        .enumerate()
        .map(recover_one)
        .collect()
}

/// Whose transactions are taken for whose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signatures {
    /// Chain the signatures are for.
    pub(crate) chain_id: u64,
    /// Whether accounts may be spoken for without their keys.
    pub(crate) development: Development,
}

/// Decodes and recovers a transaction whose bytes are its one canonical encoding. `hash` is keccak-256 of `bytes`.
pub(crate) fn recover_exactly(
    bytes: &[u8],
    hash: B256,
    signatures: Signatures,
) -> Result<RecoveredTransaction, InvalidTransaction> {
    let transaction = Transaction::decode(bytes)?;
    if signatures.development == Development::Yes
        && let Some(sender) = impersonated(&transaction)
    {
        return Ok(RecoveredTransaction {
            transaction,
            hash,
            sender,
            key: SenderKey::Own,
            size: bytes.len(),
        });
    }
    let recovered = transaction.recover(signatures.chain_id)?;
    // Two encodings of one transaction would have two hashes and could be taken for two.
    if recovered.hash != hash {
        return Err(InvalidTransaction::Rules(
            "the encoding is not canonical".into(),
        ));
    }
    Ok(recovered)
}

/// How far a block's timestamp may be ahead of a validator's clock, in milliseconds. Further ahead it stays
/// pending, it does not become invalid.
pub const CLOCK_SKEW_MAX_MS: u64 = 500;

/// What a validator does with a header, before it runs the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderCheck {
    /// It follows from its parent.
    Valid,
    /// It is ahead of this clock; ask again at this time, in milliseconds since the Unix epoch.
    Early {
        /// When to ask again.
        at_ms: u64,
    },
    /// It can never follow its parent.
    Invalid(InvalidBlock),
}

/// Holds a header against its parent and the clock. Roots, gas and validators are seen when the block runs.
#[must_use]
pub fn check_header(parent: &Header, header: &Header, now_ms: u64) -> HeaderCheck {
    if let Err(invalid) = check_succession(parent, header) {
        return HeaderCheck::Invalid(invalid);
    }
    let at_ms = header.timestamp_ms.saturating_sub(CLOCK_SKEW_MAX_MS);
    if at_ms > now_ms {
        HeaderCheck::Early { at_ms }
    } else {
        HeaderCheck::Valid
    }
}

/// Holds a header against its parent alone.
pub(crate) fn check_succession(parent: &Header, header: &Header) -> Result<(), InvalidBlock> {
    expect("parent", &parent.hash(), &header.parent_hash)?;
    expect("height", &parent.number.saturating_add(1), &header.number)?;
    if header.timestamp_ms <= parent.timestamp_ms {
        return Err(InvalidBlock::Timestamp {
            timestamp_ms: header.timestamp_ms,
            parent_ms: parent.timestamp_ms,
        });
    }
    Ok(())
}

/// Refuses a field that is not what it must be.
pub(crate) fn expect<T: PartialEq + ToString>(
    field: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), InvalidBlock> {
    if expected == found {
        return Ok(());
    }
    Err(InvalidBlock::Header {
        field,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

/// Refuses a block over the size limit.
pub(crate) fn check_size(block: &Block) -> Result<(), InvalidBlock> {
    let size = block.encoded_len();
    if size > MAX_BLOCK_BYTES {
        return Err(InvalidBlock::TooLarge {
            size,
            max: MAX_BLOCK_BYTES,
        });
    }
    Ok(())
}
