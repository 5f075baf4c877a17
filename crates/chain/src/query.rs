//! Questions about the last final state: calls that change nothing, estimates of gas, transactions and receipts
//! with their place in the chain. Blocks, logs, accounts, slots and proofs are read from [`StateView`] directly.

use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use rayon::prelude::*;
use revm::{
    context::{
        TxEnv,
        result::{ExecutionResult, HaltReason, OutOfGasError},
    },
    database_interface::WrapDatabaseRef,
};
use stele_core::{
    block::{Block, Receipt},
    tx::RecoveredTransaction,
};

use crate::{
    chain::{Chain, Latest},
    error::QueryError,
    evm::{Cached, Environment, Failure, Machine, Mode},
    executor::recover_exactly,
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
    pub transaction: RecoveredTransaction,
    /// Digest of its block.
    pub block_hash: B256,
    /// Height of its block.
    pub height: u64,
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
        let latest = self.latest();
        let gas = allowance(request, &latest);
        self.run(&latest, request, gas).map(|(outcome, _)| outcome)
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
        let environment = Environment {
            gas_limit: latest.next_gas_limit,
            ..Environment::of(&latest.header, self.genesis.chain_id)
        };
        let database = Cached {
            inner: WrapDatabaseRef(&latest.view),
            code: self.code.clone(),
        };
        let transaction = TxEnv {
            caller: request.from,
            kind: request.to.map_or(TxKind::Create, TxKind::Call),
            data: request.input.clone(),
            value: request.value,
            gas_limit: gas,
            chain_id: Some(self.genesis.chain_id),
            ..TxEnv::default()
        };
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

    /// The height a question names, if the state after it is kept.
    ///
    /// # Errors
    /// [`QueryError::StateNotKept`] for any block but the last final one.
    pub fn require_latest(&self, height: u64) -> Result<(), QueryError> {
        let latest = self.latest().header.number;
        if height == latest {
            return Ok(());
        }
        Err(QueryError::StateNotKept {
            asked: height,
            latest,
        })
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
        let found = self
            .view()
            .logs(filter, from, to, logs_max.saturating_add(1))?;
        if found.logs.len() > logs_max {
            return Err(QueryError::TooManyLogs { max: logs_max });
        }
        Ok(found)
    }

    /// A transaction of a final block by its hash.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn transaction(&self, hash: B256) -> Result<Option<IncludedTransaction>, state::Error> {
        let view = self.view();
        let Some(location) = view.transaction_location(hash)? else {
            return Ok(None);
        };
        let height = location.height;
        let damaged = || state::Error::damaged(height, "a transaction is not where the index says");
        let transactions = view.transactions(height)?.ok_or_else(damaged)?;
        let index = usize::try_from(location.index).map_err(|_| damaged())?;
        let encoded = transactions.get(index).ok_or_else(damaged)?;
        let transaction = self.reread(encoded, height)?;
        let block_hash = view.block_hash(height)?.ok_or_else(damaged)?;
        if transaction.hash != hash {
            return Err(damaged());
        }
        Ok(Some(IncludedTransaction {
            transaction,
            block_hash,
            height,
            index: location.index,
        }))
    }

    /// All transactions of a block with their senders, recovered in parallel.
    ///
    /// # Errors
    /// [`state::Error::Damaged`] if one is not a valid transaction.
    pub fn transactions(&self, block: &Block) -> Result<Vec<RecoveredTransaction>, state::Error> {
        let height = block.header.number;
        block
            .transactions
            .par_iter()
            .map(|encoded| self.reread(encoded, height))
            .collect()
    }

    /// The receipt of a transaction of a final block.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn receipt(&self, hash: B256) -> Result<Option<IncludedReceipt>, state::Error> {
        let Some(included) = self.transaction(hash)? else {
            return Ok(None);
        };
        let height = included.height;
        let receipts = self.view().receipts(height)?.unwrap_or_default();
        let index = included.index;
        locate_receipt(included, &receipts)
            .map(Some)
            .ok_or_else(|| state::Error::damaged(height, format!("receipt {index} is missing")))
    }

    /// All receipts of a block, with their transactions.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn receipts(&self, height: u64) -> Result<Option<Vec<IncludedReceipt>>, state::Error> {
        let view = self.view();
        let (Some(block), Some(receipts)) = (view.block(height)?, view.receipts(height)?) else {
            return Ok(None);
        };
        let block_hash = block.hash();
        let located = (0_u32..)
            .zip(self.transactions(&block)?)
            .map(|(index, transaction)| {
                let included = IncludedTransaction {
                    transaction,
                    block_hash,
                    height,
                    index,
                };
                locate_receipt(included, &receipts).ok_or_else(|| {
                    state::Error::damaged(height, format!("receipt {index} is missing"))
                })
            });
        located.collect::<Result<_, _>>().map(Some)
    }

    /// A transaction that was valid when its block became final.
    fn reread(&self, encoded: &Bytes, height: u64) -> Result<RecoveredTransaction, state::Error> {
        recover_exactly(encoded, keccak256(encoded), self.genesis.chain_id)
            .map_err(|_| state::Error::damaged(height, "a transaction is not readable"))
    }
}

/// A receipt with what depends on those before it.
fn locate_receipt(included: IncludedTransaction, receipts: &[Receipt]) -> Option<IncludedReceipt> {
    let index = usize::try_from(included.index).ok()?;
    let before = receipts.get(..index)?;
    let receipt = receipts.get(index)?.clone();
    let gas_before = before
        .last()
        .map_or(0, |receipt| receipt.cumulative_gas_used);
    let gas_used = receipt.cumulative_gas_used.saturating_sub(gas_before);
    let logs_before: usize = before.iter().map(|receipt| receipt.logs.len()).sum();
    let first_log_index = u32::try_from(logs_before).ok()?;
    let transaction = &included.transaction;
    let contract = (receipt.success && transaction.transaction.to().is_create())
        .then(|| transaction.sender.create(transaction.transaction.nonce()));
    Some(IncludedReceipt {
        included,
        receipt,
        gas_used,
        first_log_index,
        contract,
    })
}

/// Gas a call may use.
fn allowance(request: &CallRequest, latest: &Latest) -> u64 {
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
