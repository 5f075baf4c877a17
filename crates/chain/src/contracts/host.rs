//! The running transaction as a contract sees it: journal, gas, caller, block. Gas follows the opcodes SLOAD,
//! SSTORE, LOG and KECCAK256 of the EVM's own table, so that native code costs what Solidity would.

use std::fmt::Display;

use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, keccak256};
use alloy_sol_types::{SolError, SolEvent};
use revm::{
    context::{Block as _, Cfg as _, ContextTr, JournalTr as _},
    context_interface::{
        cfg::{GasParams, gas::GasTracker},
        context::{SStoreResult, StateLoad},
    },
    interpreter::CallInputs,
};
use stele_core::abi::system::ISystem;

use super::storage::{Reader, Writer};

/// How a call fails.
#[derive(Debug)]
pub(crate) enum Fail {
    /// Refused: the ABI encoding of a typed error, or empty for calldata that is no call of the contract.
    Revert(Bytes),
    /// The gas ran out: all of it is spent.
    OutOfGas,
    /// The database failed: the node stops.
    Fatal(String),
}

impl<E: SolError> From<E> for Fail {
    fn from(error: E) -> Self {
        Self::Revert(error.abi_encode().into())
    }
}

/// Result of a rule.
pub(crate) type Outcome<T> = Result<T, Fail>;

/// The part of the EVM's journal that contracts use, without the EVM's type parameters.
pub(crate) trait Journal {
    fn load(&mut self, contract: Address, slot: U256) -> Result<StateLoad<U256>, String>;
    fn store(
        &mut self,
        contract: Address,
        slot: U256,
        word: U256,
    ) -> Result<StateLoad<SStoreResult>, String>;
    fn log(&mut self, log: Log);
    fn gas_params(&self) -> GasParams;
    fn chain_id(&self) -> u64;
    fn timestamp_s(&self) -> u64;
}

/// The journal of an EVM context.
pub(crate) struct ContextJournal<'a, CTX>(pub(crate) &'a mut CTX);

impl<CTX: ContextTr> Journal for ContextJournal<'_, CTX> {
    fn load(&mut self, contract: Address, slot: U256) -> Result<StateLoad<U256>, String> {
        let journal = self.0.journal_mut();
        // The journal reads slots of loaded accounts only, and a contract may read another that was not called.
        journal
            .load_account(contract)
            .map_err(|error| error.to_string())?;
        journal
            .sload(contract, slot)
            .map_err(|error| error.to_string())
    }

    fn store(
        &mut self,
        contract: Address,
        slot: U256,
        word: U256,
    ) -> Result<StateLoad<SStoreResult>, String> {
        let journal = self.0.journal_mut();
        journal
            .load_account(contract)
            .map_err(|error| error.to_string())?;
        let stored = journal
            .sstore(contract, slot, word)
            .map_err(|error| error.to_string())?;
        // A contract that was not itself called is committed only when it is touched.
        journal.touch_account(contract);
        Ok(stored)
    }

    fn log(&mut self, log: Log) {
        self.0.journal_mut().log(log);
    }

    fn gas_params(&self) -> GasParams {
        self.0.cfg().gas_params().clone()
    }

    fn chain_id(&self) -> u64 {
        self.0.cfg().chain_id()
    }

    fn timestamp_s(&self) -> u64 {
        self.0.block().timestamp().saturating_to()
    }
}

/// A running call.
pub(crate) struct Host<'a> {
    journal: &'a mut dyn Journal,
    gas: GasTracker,
    params: GasParams,
    caller: Address,
    is_static: bool,
}

impl<'a> Host<'a> {
    pub(crate) fn new(journal: &'a mut dyn Journal, inputs: &CallInputs) -> Self {
        Self {
            params: journal.gas_params(),
            journal,
            gas: GasTracker::new(inputs.gas_limit, inputs.gas_limit, inputs.reservoir),
            caller: inputs.caller,
            is_static: inputs.is_static,
        }
    }

    /// Who called.
    pub(crate) fn caller(&self) -> Address {
        self.caller
    }

    /// Chain id.
    pub(crate) fn chain_id(&self) -> u64 {
        self.journal.chain_id()
    }

    /// The block's time in Unix seconds.
    pub(crate) fn now_s(&self) -> u64 {
        self.journal.timestamp_s()
    }

    /// What is left and refunded.
    pub(crate) fn into_gas(self) -> GasTracker {
        self.gas
    }

    /// Spends gas.
    pub(crate) fn charge(&mut self, gas: u64) -> Outcome<()> {
        if self.gas.record_regular_cost(gas) {
            Ok(())
        } else {
            Err(Fail::OutOfGas)
        }
    }

    /// Spends the gas of hashing `count` inputs of `length` bytes.
    pub(crate) fn charge_hashes(&mut self, count: u64, length: usize) -> Outcome<()> {
        let each = KECCAK256_GAS.saturating_add(self.params.keccak256_cost(length));
        self.charge(each.saturating_mul(count))
    }

    /// Emits an event of a contract.
    pub(crate) fn emit(&mut self, contract: Address, event: &impl SolEvent) -> Outcome<()> {
        self.log(contract, event.encode_log_data())
    }

    fn log(&mut self, contract: Address, data: LogData) -> Outcome<()> {
        self.refuse_static()?;
        let topics = u8::try_from(data.topics().len()).map_err(fatal)?;
        let length = u64::try_from(data.data.len()).map_err(fatal)?;
        self.charge(LOG_GAS.saturating_add(self.params.log_cost(topics, length)))?;
        self.journal.log(Log {
            address: contract,
            data,
        });
        Ok(())
    }

    fn refuse_static(&self) -> Outcome<()> {
        if self.is_static {
            Err(ISystem::StaticCallNotAllowed {}.into())
        } else {
            Ok(())
        }
    }
}

impl Reader for Host<'_> {
    type Error = Fail;

    fn load(&mut self, contract: Address, slot: U256) -> Outcome<U256> {
        self.charge(self.params.warm_storage_read_cost())?;
        let loaded = self.journal.load(contract, slot).map_err(Fail::Fatal)?;
        if loaded.is_cold {
            self.charge(self.params.cold_storage_additional_cost())?;
        }
        Ok(loaded.data)
    }

    fn keccak(&mut self, bytes: &[u8]) -> Outcome<B256> {
        self.charge_hashes(1, bytes.len())?;
        Ok(keccak256(bytes))
    }
}

impl Writer for Host<'_> {
    fn store(&mut self, contract: Address, slot: U256, word: U256) -> Outcome<()> {
        self.refuse_static()?;
        // EIP-2200: a call with no more than the stipend left must not write.
        if self.gas.remaining() <= self.params.call_stipend() {
            return Err(Fail::OutOfGas);
        }
        self.charge(self.params.sstore_static_gas())?;
        let stored = self
            .journal
            .store(contract, slot, word)
            .map_err(Fail::Fatal)?;
        self.charge(
            self.params
                .sstore_dynamic_gas(true, &stored.data, stored.is_cold),
        )?;
        self.gas
            .record_refund(self.params.sstore_refund(true, &stored.data));
        Ok(())
    }
}

/// A failure that no input can cause: the node stops.
pub(crate) fn fatal(error: impl Display) -> Fail {
    Fail::Fatal(error.to_string())
}

/// Static gas of KECCAK256 (Yellow Paper, appendix G).
const KECCAK256_GAS: u64 = 30;
/// Static gas of LOG0 to LOG4 (Yellow Paper, appendix G).
const LOG_GAS: u64 = 375;
