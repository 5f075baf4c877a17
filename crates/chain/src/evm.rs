//! One execution context: revm at Ethereum's Osaka rules with the system contracts, and no money.
//!
//! Gas is a limit here, never a price: whatever price a transaction offers, it pays nothing, and nobody is
//! rewarded. Everything else is Ethereum's, so that compilers, wallets and tools need not know the difference.
//! Deterministic: no clock, no floats, nothing that depends on the order of a hash map.

mod code;

use alloy_primitives::{Address, B256, U256};
use revm::{
    Context, Inspector, Journal,
    context::{
        BlockEnv, CfgEnv, ContextSetters, ContextTr as _, Evm, JournalTr as _, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    context_interface::block::BlobExcessGasAndPrice,
    database_interface::Database,
    handler::{
        EthFrame, EvmTr, EvmTrError, FrameResult, FrameTr, Handler, instructions::EthInstructions,
    },
    inspector::InspectorHandler,
    interpreter::{interpreter::EthInterpreter, interpreter_action::FrameInit},
    primitives::hardfork::SpecId,
    state::EvmState,
};
use stele_core::{
    block::Header,
    tx::{RecoveredTransaction, Transaction},
};

pub(crate) use code::{Cached, CodeCache};

use crate::{contracts::SystemContracts, state};

/// Ethereum's rules that contracts run under.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// What a block tells the code that runs in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    pub(crate) chain_id: u64,
    pub(crate) number: u64,
    pub(crate) timestamp_seconds: u64,
    pub(crate) gas_limit: u64,
    /// Answers PREVRANDAO: the parent's digest, which anyone can know beforehand.
    pub(crate) parent_hash: B256,
}

impl Environment {
    pub(crate) const fn of(header: &Header, chain_id: u64) -> Self {
        Self {
            chain_id,
            number: header.number,
            timestamp_seconds: header.timestamp_seconds(),
            gas_limit: header.gas_limit,
            parent_hash: header.parent_hash,
        }
    }
}

/// Whether the sender's nonce and code are held against the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A transaction of a block.
    Block,
    /// A transaction of a block of a development chain, where a contract may send one too.
    Development,
    /// A question: any sender, any nonce.
    Query,
}

/// Why a transaction did not run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may not stand in a block; nothing changed.
    Invalid(InvalidTransaction),
    /// The state could not be read, or an invariant broke.
    Fatal(state::Error),
}

impl From<state::Error> for Failure {
    fn from(error: state::Error) -> Self {
        Self::Fatal(error)
    }
}

pub(crate) type EvmContext<DB> = Context<BlockEnv, TxEnv, CfgEnv, DB, Journal<DB>, ()>;
type EvmOver<DB, I> = Evm<
    EvmContext<DB>,
    I,
    EthInstructions<EthInterpreter, EvmContext<DB>>,
    SystemContracts,
    EthFrame<EthInterpreter>,
>;

/// The machine that runs the transactions of one block, or one question, over a database. `I` watches it, or is `()`.
pub(crate) struct Machine<DB: Database<Error = state::Error>, I = ()> {
    evm: EvmOver<DB, I>,
}

impl<DB: Database<Error = state::Error>> Machine<DB> {
    pub(crate) fn new(database: DB, environment: &Environment, mode: Mode) -> Self {
        Self::watched(database, environment, mode, ())
    }
}

impl<DB: Database<Error = state::Error>, I> Machine<DB, I> {
    /// A machine with somebody who watches what [`Machine::inspect`] runs.
    pub(crate) fn watched(
        database: DB,
        environment: &Environment,
        mode: Mode,
        inspector: I,
    ) -> Self {
        let mut context: EvmContext<DB> = Context::new(database, SPEC);
        context.cfg.chain_id = environment.chain_id;
        // EIP-7825's cap protects the throughput of many small blocks; here the block's limit is the only one.
        context.cfg.tx_gas_limit_cap = Some(u64::MAX);
        context.cfg.disable_nonce_check = mode == Mode::Query;
        context.cfg.disable_eip3607 = mode != Mode::Block;
        context.block = BlockEnv {
            number: U256::from(environment.number),
            beneficiary: Address::ZERO,
            timestamp: U256::from(environment.timestamp_seconds),
            gas_limit: environment.gas_limit,
            basefee: 0,
            difficulty: U256::ZERO,
            prevrandao: Some(environment.parent_hash),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
                excess_blob_gas: 0,
                blob_gasprice: 1,
            }),
            slot_num: environment.number,
        };
        let instructions = EthInstructions::new_mainnet_with_spec(SPEC);
        Self {
            evm: Evm::new_with_inspector(
                context,
                inspector,
                instructions,
                SystemContracts::new(SPEC),
            ),
        }
    }

    pub(crate) fn database(&mut self) -> &mut DB {
        self.evm.ctx.db_mut()
    }

    pub(crate) fn into_database(self) -> DB {
        self.evm.ctx.journaled_state.database
    }

    /// Runs a transaction; its changes are yielded, not kept.
    pub(crate) fn transact(
        &mut self,
        transaction: TxEnv,
    ) -> Result<(ExecutionResult, EvmState), Failure> {
        self.evm.ctx.set_tx(transaction);
        let outcome = Moneyless::default().run(&mut self.evm);
        self.ended(outcome)
    }

    fn ended(
        &mut self,
        outcome: Result<ExecutionResult, EVMError<state::Error>>,
    ) -> Result<(ExecutionResult, EvmState), Failure> {
        let changes = self.evm.ctx.journal_mut().finalize();
        match outcome {
            Ok(result) => Ok((result, changes)),
            Err(EVMError::Transaction(invalid)) => Err(Failure::Invalid(invalid)),
            Err(EVMError::Database(error)) => Err(Failure::Fatal(error)),
            Err(EVMError::Header(_)) => Err(Failure::Fatal(state::Error::Invariant(
                "the machine was given an incomplete block",
            ))),
            // A system contract met an unreadable state and says so in words.
            Err(EVMError::Custom(text)) => Err(Failure::Fatal(state::Error::store(
                "running a contract",
                text.into(),
            ))),
            Err(EVMError::CustomAny(error)) => {
                let text = error.to_string();
                Err(Failure::Fatal(state::Error::store(
                    "running a contract",
                    text.into(),
                )))
            }
        }
    }
}

impl<DB, I> Machine<DB, I>
where
    DB: Database<Error = state::Error>,
    I: Inspector<EvmContext<DB>>,
{
    /// As [`Machine::transact`], watched. Slower: only for whoever asks what happened.
    pub(crate) fn inspect(
        &mut self,
        transaction: TxEnv,
    ) -> Result<(ExecutionResult, EvmState), Failure> {
        self.evm.ctx.set_tx(transaction);
        let outcome = Moneyless::default().inspect_run(&mut self.evm);
        self.ended(outcome)
    }

    /// What it told the code about its block.
    pub(crate) const fn block(&self) -> &BlockEnv {
        &self.evm.ctx.block
    }

    /// The database and the watcher, after the run.
    pub(crate) fn into_parts(self) -> (DB, I) {
        (self.evm.ctx.journaled_state.database, self.evm.inspector)
    }
}

/// Ethereum's handler without its two payments: nobody paid, so nobody is reimbursed or rewarded, and the
/// accounts of both are not touched.
struct Moneyless<EVM, ERROR, FRAME>(std::marker::PhantomData<(EVM, ERROR, FRAME)>);

impl<EVM, ERROR, FRAME> Default for Moneyless<EVM, ERROR, FRAME> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<DB: Database<Error = state::Error>, I> Handler
    for Moneyless<EvmOver<DB, I>, EVMError<state::Error>, EthFrame<EthInterpreter>>
where
    EvmOver<DB, I>: EvmTr<Context = EvmContext<DB>, Frame = EthFrame<EthInterpreter>>,
    EVMError<state::Error>: EvmTrError<EvmOver<DB, I>>,
    EthFrame<EthInterpreter>: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
{
    type Evm = EvmOver<DB, I>;
    type Error = EVMError<state::Error>;
    type HaltReason = HaltReason;

    fn reimburse_caller(&self, _: &mut Self::Evm, _: &mut FrameResult) -> Result<(), Self::Error> {
        Ok(())
    }

    fn reward_beneficiary(
        &self,
        _: &mut Self::Evm,
        _: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<DB, I> InspectorHandler
    for Moneyless<EvmOver<DB, I>, EVMError<state::Error>, EthFrame<EthInterpreter>>
where
    DB: Database<Error = state::Error>,
    I: Inspector<EvmContext<DB>>,
{
    type IT = EthInterpreter;
}

/// The transaction as the machine wants it: price zero, access list kept.
pub(crate) fn tx_env(recovered: &RecoveredTransaction) -> TxEnv {
    let transaction = &recovered.transaction;
    let (tx_type, access_list) = match transaction {
        Transaction::Ethereum(tx) => {
            use alloy_consensus::Transaction as _;
            match tx.access_list() {
                Some(list) => (1, list.clone()),
                None => (0, Default::default()),
            }
        }
        Transaction::Account(_) => (0, Default::default()),
    };
    TxEnv {
        tx_type,
        caller: recovered.sender,
        gas_limit: transaction.gas_limit(),
        gas_price: 0,
        kind: transaction.to(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list,
        gas_priority_fee: None,
        ..TxEnv::default()
    }
}
