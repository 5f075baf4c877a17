//! What a transaction or a call did, step by step, in go-ethereum's forms (`debug_traceTransaction`,
//! `debug_traceCall`): a block's earlier transactions are executed again on the state after its parent, then the one
//! asked for under a watcher. Changes nothing. Calls of native system contracts appear as calls; their steps do not,
//! for they have none.

use std::cell::RefCell;

use alloy_primitives::{Address, B256, U256};
use alloy_rpc_types_trace::geth::{GethDebugTracingOptions, GethTrace};
use revm::{
    bytecode::Bytecode,
    context::{TxEnv, result::ResultAndState},
    database_interface::{Database, DatabaseRef, WrapDatabaseRef},
    state::AccountInfo,
};
use revm_inspectors::tracing::{
    DebugInspector, DebugInspectorError, TraceLimits, TracingInspector, TracingInspectorConfig,
    TransactionContext,
};

use crate::{
    chain::Chain,
    error::QueryError,
    evm::{Cached, Environment, Failure, Machine, Mode, tx_env},
    executor::Refusal,
    query::{CallRequest, allowance},
    rules,
    state::{self, SlotRange},
};

/// A transaction of a traced block with its trace.
#[derive(Clone, Debug)]
pub struct TracedTransaction {
    /// Its hash.
    pub hash: B256,
    /// What it did.
    pub trace: GethTrace,
}

impl Chain {
    /// What a final transaction did; `None` if there is no such transaction.
    ///
    /// # Errors
    /// [`QueryError::StateNotKept`] if the state its block stands on is not kept any more, [`QueryError::Tracer`] for a
    /// tracer that is not there, [`QueryError::TraceTooLarge`], [`QueryError::State`].
    pub fn trace_transaction(
        &self,
        hash: B256,
        options: &GethDebugTracingOptions,
    ) -> Result<Option<GethTrace>, QueryError> {
        let Some(found) = self.transaction(hash)? else {
            return Ok(None);
        };
        let index = usize::try_from(found.index).unwrap_or(usize::MAX);
        let traced = self.trace_from(found.height, index..index.saturating_add(1), options)?;
        Ok(traced
            .into_iter()
            .flatten()
            .next()
            .map(|traced| traced.trace))
    }

    /// What every transaction of a final block did, in order; `None` above the last block.
    ///
    /// # Errors
    /// As [`Chain::trace_transaction`].
    pub fn trace_block(
        &self,
        height: u64,
        options: &GethDebugTracingOptions,
    ) -> Result<Option<Vec<TracedTransaction>>, QueryError> {
        self.trace_from(height, 0..usize::MAX, options)
    }

    /// What a call would do on the state after the final block at `height`.
    ///
    /// # Errors
    /// As [`Chain::trace_transaction`], and [`QueryError::Invalid`] if the call cannot be made at all.
    pub fn trace_call(
        &self,
        request: &CallRequest,
        height: u64,
        options: &GethDebugTracingOptions,
    ) -> Result<GethTrace, QueryError> {
        let at = self.at(height)?;
        let database = Cached {
            inner: WrapDatabaseRef(&at.view),
            code: self.code.clone(),
        };
        let transaction = self.transaction_of_call(request, allowance(request, &at));
        let environment = self.environment_of_call(&at);
        trace(
            database,
            &environment,
            Mode::Query,
            &transaction,
            TransactionContext::default(),
            options,
        )
    }

    /// Slots of an account as they stood before the transaction at `index` of the final block at `height`, or after all
    /// of them: from the hashed key `from` on, at most `max`, and the next hashed key if there is more. `None` above
    /// the last block and for an index that no transaction of the block has.
    ///
    /// # Errors
    /// As [`Chain::trace_transaction`].
    pub fn slots_before(
        &self,
        height: u64,
        index: Option<usize>,
        address: Address,
        from: B256,
        max: usize,
    ) -> Result<Option<SlotRange>, QueryError> {
        let Some(block) = self.final_block(height)? else {
            return Ok(None);
        };
        let Some(index) = index else {
            return Ok(Some(self.view_at(height)?.slots_from(address, from, max)?));
        };
        let included = self.transactions(&block)?;
        // A block without transactions has a first place all the same, as in go-ethereum.
        let (Some(parent), true) = (height.checked_sub(1), index < included.len().max(1)) else {
            return Ok(None);
        };
        let view = self.view_at(parent)?;
        let mut execution = self.execution(view.clone(), &block.block().header);
        execution.seat(self.seating(height).as_ref())?;
        for earlier in included.iter().take(index) {
            execution.run(&earlier.transaction).map_err(refused)?;
        }
        let view = view.with(execution.finish()?.overlay);
        Ok(Some(view.slots_from(address, from, max)?))
    }

    /// Traces the transactions of a block whose places in it are in `wanted`; the others before them just run.
    fn trace_from(
        &self,
        height: u64,
        wanted: std::ops::Range<usize>,
        options: &GethDebugTracingOptions,
    ) -> Result<Option<Vec<TracedTransaction>>, QueryError> {
        let Some(block) = self.final_block(height)? else {
            return Ok(None);
        };
        let Some(parent) = height.checked_sub(1) else {
            // The block at height 0 has no parent, and no transactions.
            return Ok(Some(Vec::new()));
        };
        let header = &block.block().header;
        let mut execution = self.execution(self.view_at(parent)?, header);
        execution.seat(self.seating(height).as_ref())?;
        let environment = Environment::of(header, self.genesis.chain_id);
        let mut traced = Vec::new();
        for (index, included) in self.transactions(&block)?.into_iter().enumerate() {
            if index >= wanted.end {
                break;
            }
            let transaction = included.transaction;
            if wanted.contains(&index) {
                let context = TransactionContext {
                    block_hash: Some(block.hash()),
                    tx_index: Some(index),
                    tx_hash: Some(transaction.hash),
                };
                let trace = trace(
                    execution.database(),
                    &environment,
                    self.mode(),
                    &tx_env(&transaction),
                    context,
                    options,
                )?;
                traced.push(TracedTransaction {
                    hash: transaction.hash,
                    trace,
                });
            }
            // What comes after stands on what it did.
            if index.saturating_add(1) < wanted.end {
                execution.run(&transaction).map_err(refused)?;
            }
        }
        Ok(Some(traced))
    }
}

/// What a final transaction that is executed again cannot be refused for.
fn refused(refusal: Refusal) -> QueryError {
    match refusal {
        Refusal::Fatal(error) => QueryError::State(error),
        // It is final, so it was valid here once.
        Refusal::Invalid(reason) => QueryError::Invalid(reason),
    }
}

/// Runs a transaction under the watcher asked for. What it changed is not kept.
fn trace<DB: Database<Error = state::Error>>(
    database: DB,
    environment: &Environment,
    mode: Mode,
    transaction: &TxEnv,
    context: TransactionContext,
    options: &GethDebugTracingOptions,
) -> Result<GethTrace, QueryError> {
    let mut machine = Machine::watched(database, environment, mode, inspector(options)?);
    let (result, state) = match machine.inspect(transaction.clone()) {
        Ok(done) => done,
        Err(Failure::Invalid(invalid)) => {
            return Err(rules::translate(&invalid, transaction).into());
        }
        Err(Failure::Fatal(error)) => return Err(error.into()),
    };
    let block = machine.block().clone();
    let (mut database, mut inspector) = machine.into_parts();
    if let DebugInspector::Default(tracing, _) | DebugInspector::CallTracer(tracing, _) = &inspector
        && tracing.limit_exceeded()
    {
        return Err(QueryError::TraceTooLarge {
            max: TRACE_BYTES_MAX,
        });
    }
    let done = ResultAndState { result, state };
    let mut before = Frozen(RefCell::new(&mut database));
    inspector
        .get_result(Some(context), transaction, &block, &done, &mut before)
        .map_err(|error| match error {
            DebugInspectorError::Database(error) => QueryError::State(error),
            other => QueryError::Tracer(other.to_string()),
        })
}

/// The watcher asked for, with a limit on what it records.
fn inspector(options: &GethDebugTracingOptions) -> Result<DebugInspector, QueryError> {
    let limits = TraceLimits::default().set_max_recorded_bytes(Some(TRACE_BYTES_MAX));
    let unknown = |error: DebugInspectorError| match error {
        DebugInspectorError::JsTracerNotEnabled | DebugInspectorError::UnsupportedTracer => {
            QueryError::Tracer(format!("there is no such tracer; there are: {TRACERS}"))
        }
        other => QueryError::Tracer(other.to_string()),
    };
    Ok(
        match DebugInspector::new(options.clone()).map_err(unknown)? {
            DebugInspector::Default(tracing, mut config) => {
                // Each step is an object of some 200 bytes and its stack: without a limit, one call of 100 million gas
                // would take the node's memory.
                let steps = config
                    .limit
                    .filter(|limit| *limit != 0)
                    .unwrap_or(STEPS_MAX);
                config.limit = Some(steps.min(STEPS_MAX));
                let settings = TracingInspectorConfig::from_geth_config(&config);
                drop(tracing);
                DebugInspector::Default(TracingInspector::new(settings).with_limits(limits), config)
            }
            DebugInspector::CallTracer(tracing, config) => {
                DebugInspector::CallTracer(tracing.with_limits(limits), config)
            }
            other => other,
        },
    )
}

/// The state before the transaction, for tracers that show it. A database that caches what it reads wants to be
/// changed by a read; the borrow is for one read each.
struct Frozen<'a, DB>(RefCell<&'a mut DB>);

impl<DB: Database<Error = state::Error>> DatabaseRef for Frozen<'_, DB> {
    type Error = state::Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, state::Error> {
        self.0.borrow_mut().basic(address)
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, state::Error> {
        self.0.borrow_mut().code_by_hash(code_hash)
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, state::Error> {
        self.0.borrow_mut().storage(address, index)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, state::Error> {
        self.0.borrow_mut().block_hash(number)
    }
}

/// Bytes of input and memory that one trace records; an answer is at most about twice that, as hexadecimal.
const TRACE_BYTES_MAX: usize = 64 << 20;

/// Steps that one trace records: about 100 MB with their stacks, and more than an answer holds.
const STEPS_MAX: u64 = 200_000;

/// What can be asked for.
const TRACERS: &str = "none (struct logs), callTracer, prestateTracer, 4byteTracer, flatCallTracer, \
                       muxTracer, noopTracer";
