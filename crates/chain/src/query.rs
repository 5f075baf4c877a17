//! Questions about final states: calls that change nothing, estimates of gas, transactions and receipts
//! with their place in the chain. Blocks, logs, accounts, slots and proofs are read from [`StateView`] directly.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256};
use rayon::prelude::*;
use revm::{
    context::{
        TxEnv,
        result::{ExecutionResult, HaltReason, OutOfGasError},
    },
    database_interface::WrapDatabaseRef,
};
use stele_core::{block::Receipt, tx::RecoveredTransaction};

use crate::{
    chain::{Chain, Latest},
    error::QueryError,
    evm::{Cached, Environment, Failure, Machine, Mode},
    recent::FinalBlock,
    rules,
    state::{self, FoundLogs, LogFilter},
};

/// A call as `eth_call` and `eth_estimateGas` ask for it.
#[derive(Clone, Debug, Default)]
pub struct CallRequest {
    /// Who calls; needs neither signature nor registration.
    pub from: Address,
    /// The contract; `None` runs `input` as the code of a creation.
    pub to: Option<Address>,
    /// Calldata or init code.
    pub input: Bytes,
    /// Gas limit; at most, and by default, a block's or 100 million.
    pub gas: Option<u64>,
    /// Value in wei.
    pub value: U256,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It returned.
    Success {
        /// What it returned; of a creation, the code.
        output: Bytes,
        /// Gas used in all.
        gas_used: u64,
        /// Logs it would emit.
        logs: Vec<Log>,
    },
    /// It was refused by the contract.
    Revert {
        /// The ABI-encoded reason.
        output: Bytes,
        /// Gas used in all.
        gas_used: u64,
    },
    /// It could not go on.
    Halt {
        /// Why, in go-ethereum's words where it has some.
        reason: String,
        /// Gas used in all.
        gas_used: u64,
    },
}

/// What a transaction needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// It succeeds with this gas limit and not with much less.
    Gas(u64),
    /// It does not succeed with any.
    Fails(CallOutcome),
}

/// A transaction of a final block.
#[derive(Clone, Debug)]
pub struct IncludedTransaction {
    /// The transaction with its sender.
    pub transaction: Arc<RecoveredTransaction>,
    /// Digest of its block.
    pub block_hash: B256,
    /// Height of its block.
    pub height: u64,
    /// Time of its block, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Its index in the block.
    pub index: u32,
}

/// A transaction of a final block with its receipt.
#[derive(Clone, Debug)]
pub struct IncludedReceipt {
    /// The transaction.
    pub included: IncludedTransaction,
    /// What it did.
    pub receipt: Receipt,
    /// Gas it used itself.
    pub gas_used: u64,
    /// Index in the block of its first log.
    pub first_log_index: u32,
    /// Address of the contract it created, if it did.
    pub contract: Option<Address>,
}

impl Chain {
    /// Calls a contract on the last final state. Changes nothing.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if the call cannot be made at all, [`QueryError::State`].
    pub fn call(&self, request: &CallRequest) -> Result<CallOutcome, QueryError> {
        self.call_on(&self.latest(), request)
    }

    /// As [`Chain::call`], on the state after the final block at `height`.
    ///
    /// # Errors
    /// As [`Chain::call`], and [`QueryError::StateNotKept`].
    pub fn call_at(&self, request: &CallRequest, height: u64) -> Result<CallOutcome, QueryError> {
        let at = self.at(height)?;
        self.call_on(&at, request)
    }

    fn call_on(&self, at: &Latest, request: &CallRequest) -> Result<CallOutcome, QueryError> {
        let gas = allowance(request, at);
        self.run(at, request, gas).map(|(outcome, _)| outcome)
    }

    /// The gas limit a transaction needs. Found by trying: what a call uses, less what it is refunded, can be less
    /// than what it must be given.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if the call cannot be made at all, [`QueryError::OutOfAllowance`] if it needs more gas
    /// than it was given, [`QueryError::State`].
    pub fn estimate_gas(&self, request: &CallRequest) -> Result<Estimate, QueryError> {
        let latest = self.latest();
        let allowance = allowance(request, &latest);
        let (outcome, spent) = self.run(&latest, request, allowance)?;
        let CallOutcome::Success { gas_used, .. } = outcome else {
            let exhausted =
                matches!(&outcome, CallOutcome::Halt { reason, .. } if reason == OUT_OF_GAS);
            return match exhausted {
                true => Err(QueryError::OutOfAllowance { allowance }),
                false => Ok(Estimate::Fails(outcome)),
            };
        };
        let (mut too_little, mut enough) = (gas_used.saturating_sub(1), allowance);
        // What is used is mostly enough, and exactly so for a transfer.
        if let Ok((CallOutcome::Success { .. }, _)) = self.run(&latest, request, gas_used) {
            return Ok(Estimate::Gas(gas_used));
        }
        // A call forwards at most 63/64 of its gas and a transfer's stipend is on top: this is often enough, and then
        // the search is short.
        let likely = spent.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        let mut attempt = likely.clamp(gas_used, allowance);
        while too_little.saturating_add(1) < enough {
            match self.run(&latest, request, attempt) {
                Ok((CallOutcome::Success { .. }, _)) => enough = attempt,
                Ok(_) | Err(QueryError::Invalid(_)) => too_little = attempt,
                Err(error) => return Err(error),
            }
            if enough.saturating_sub(too_little) <= enough / ESTIMATE_PRECISION {
                break;
            }
            attempt = too_little.midpoint(enough);
        }
        Ok(Estimate::Gas(enough))
    }

    /// The outcome, and the gas spent before refunds.
    fn run(
        &self,
        latest: &Latest,
        request: &CallRequest,
        gas: u64,
    ) -> Result<(CallOutcome, u64), QueryError> {
        let environment = self.environment_of_call(latest);
        let database = Cached {
            inner: WrapDatabaseRef(&latest.view),
            code: self.code.clone(),
        };
        let transaction = self.transaction_of_call(request, gas);
        let mut machine = Machine::new(database, &environment, Mode::Query);
        match machine.transact(transaction.clone()) {
            Ok((result, _)) => {
                let spent = result.gas().total_gas_spent();
                Ok((outcome(result), spent))
            }
            Err(Failure::Invalid(invalid)) => Err(rules::translate(&invalid, &transaction).into()),
            Err(Failure::Fatal(error)) => Err(error.into()),
        }
    }

    /// What a call on the state after `at` sees as its block.
    pub(crate) fn environment_of_call(&self, at: &Latest) -> Environment {
        Environment {
            gas_limit: at.next_gas_limit,
            ..Environment::of(&at.header, self.genesis.chain_id)
        }
    }

    /// A call as the machine wants it.
    pub(crate) fn transaction_of_call(&self, request: &CallRequest, gas: u64) -> TxEnv {
        TxEnv {
            caller: request.from,
            kind: request.to.map_or(TxKind::Create, TxKind::Call),
            data: request.input.clone(),
            value: request.value,
            gas_limit: gas,
            chain_id: Some(self.genesis.chain_id),
            ..TxEnv::default()
        }
    }

    /// Logs of final blocks from height `from` to `to`, both included.
    ///
    /// # Errors
    /// [`QueryError::Range`] for a range that is reversed or wider than `blocks_max`, [`QueryError::TooManyLogs`] if
    /// more than `logs_max` match, [`QueryError::State`].
    pub fn logs(
        &self,
        filter: &LogFilter,
        from: u64,
        to: u64,
        blocks_max: u64,
        logs_max: usize,
    ) -> Result<FoundLogs, QueryError> {
        if to < from || to.saturating_sub(from) >= blocks_max {
            return Err(QueryError::Range {
                from,
                to,
                max: blocks_max,
            });
        }
        let memory = |height| Some(self.recent.known(height)?.logs(filter));
        let limit = logs_max.saturating_add(1);
        let found = self.view().logs(filter, from, to, limit, memory)?;
        if found.logs.len() > logs_max {
            return Err(QueryError::TooManyLogs { max: logs_max });
        }
        Ok(found)
    }

    /// The final block at `height`; `None` above the last one.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn final_block(&self, height: u64) -> Result<Option<Arc<FinalBlock>>, state::Error> {
        self.recent.at(&self.latest().view, height)
    }

    /// A transaction of a final block by its hash.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn transaction(&self, hash: B256) -> Result<Option<IncludedTransaction>, state::Error> {
        let found = self.locate(hash)?;
        found
            .map(|(block, index)| self.included(&block, index))
            .transpose()
    }

    /// All transactions of a block with their senders, recovered in parallel.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn transactions(
        &self,
        block: &FinalBlock,
    ) -> Result<Vec<IncludedTransaction>, state::Error> {
        let last = u32::try_from(block.receipts().len()).unwrap_or(u32::MAX);
        (0..last)
            .into_par_iter()
            .map(|index| self.included(block, index))
            .collect()
    }

    /// The receipt of a transaction of a final block.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn receipt(&self, hash: B256) -> Result<Option<IncludedReceipt>, state::Error> {
        let Some((block, index)) = self.locate(hash)? else {
            return Ok(None);
        };
        let included = self.included(&block, index)?;
        with_receipt(included, &block).map(Some)
    }

    /// All receipts of a block, with their transactions.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn receipts(&self, height: u64) -> Result<Option<Vec<IncludedReceipt>>, state::Error> {
        let Some(block) = self.final_block(height)? else {
            return Ok(None);
        };
        let included = self.transactions(&block)?.into_iter();
        included
            .map(|included| with_receipt(included, &block))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The block of a transaction, and its index there.
    fn locate(&self, hash: B256) -> Result<Option<(Arc<FinalBlock>, u32)>, state::Error> {
        let view = self.view();
        let Some(location) = view.transaction_location(hash)? else {
            return Ok(None);
        };
        let height = location.height;
        let damaged = || state::Error::damaged(height, "a transaction is not where the index says");
        let block = self.recent.at(&view, height)?.ok_or_else(damaged)?;
        let there = usize::try_from(location.index)
            .ok()
            .and_then(|index| block.hashes().nth(index));
        if there != Some(hash) {
            return Err(damaged());
        }
        Ok(Some((block, location.index)))
    }

    fn included(
        &self,
        block: &FinalBlock,
        index: u32,
    ) -> Result<IncludedTransaction, state::Error> {
        let header = &block.block().header;
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let transaction = block
            .transaction(at, self.signatures())?
            .ok_or_else(|| state::Error::damaged(header.number, "a transaction is missing"))?;
        Ok(IncludedTransaction {
            transaction,
            block_hash: block.hash(),
            height: header.number,
            timestamp_ms: header.timestamp_ms,
            index,
        })
    }
}

/// A transaction with its receipt, and what depends on the receipts before it.
fn with_receipt(
    included: IncludedTransaction,
    block: &FinalBlock,
) -> Result<IncludedReceipt, state::Error> {
    let (height, index) = (included.height, included.index);
    let missing = || state::Error::damaged(height, format!("receipt {index} is missing"));
    let at = usize::try_from(index).map_err(|_| missing())?;
    let receipt = block.receipts().get(at).cloned().ok_or_else(missing)?;
    let gas_before = at
        .checked_sub(1)
        .and_then(|before| block.receipts().get(before))
        .map_or(0, |before| before.cumulative_gas_used);
    let transaction = &included.transaction;
    let contract = (receipt.success && transaction.transaction.to().is_create())
        .then(|| transaction.sender.create(transaction.transaction.nonce()));
    Ok(IncludedReceipt {
        gas_used: receipt.cumulative_gas_used.saturating_sub(gas_before),
        first_log_index: block.logs_before(at).ok_or_else(missing)?,
        contract,
        receipt,
        included,
    })
}

/// Gas a call may use.
pub(crate) fn allowance(request: &CallRequest, latest: &Latest) -> u64 {
    request
        .gas
        .unwrap_or(u64::MAX)
        .min(latest.next_gas_limit)
        .min(CALL_GAS_MAX)
}

fn outcome(result: ExecutionResult) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { output, logs, .. } => CallOutcome::Success {
            output: output.into_data(),
            gas_used,
            logs,
        },
        ExecutionResult::Revert { output, .. } => CallOutcome::Revert { output, gas_used },
        ExecutionResult::Halt { reason, .. } => CallOutcome::Halt {
            reason: halt_text(&reason),
            gas_used,
        },
    }
}

/// Why a call halted, in go-ethereum's words where clients match on them.
fn halt_text(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(
            OutOfGasError::Basic | OutOfGasError::Memory | OutOfGasError::Precompile,
        )
        | HaltReason::PrecompileError => OUT_OF_GAS.into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
        HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
        other => format!("{other:?}"),
    }
}

/// A question costs a node's time and nobody pays: some tenths of a second at most.
const CALL_GAS_MAX: u64 = 100_000_000;

const OUT_OF_GAS: &str = "out of gas";

/// What a call with value is given on top (Ethereum yellow paper, G_callstipend).
const CALL_STIPEND: u64 = 2_300;

/// An estimate is at most one part in this many too high, as go-ethereum's.
const ESTIMATE_PRECISION: u64 = 64;
