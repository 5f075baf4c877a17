//! Native system contracts: the health rules, in Rust, at reserved addresses with Solidity ABIs.
//!
//! They read and write ordinary storage through the EVM's journal and emit ordinary logs, so that wallets,
//! `eth_getProof` and Solidity contracts see normal contracts. Their gas is part of consensus and follows the
//! EVM's own table. They never read a clock, never iterate over unordered collections and hold no state outside the
//! journal. Specifications: `docs/contracts/*.md`; interfaces: `contracts/interfaces/*.sol`.
//!
//! The `read` modules answer the same questions from any key-value source, for the pool and the executor.

pub mod audit;
pub mod consent;
mod dispatch;
pub(crate) mod emergency;
mod genesis;
pub mod governance;
mod host;
pub mod identity;
pub(crate) mod prescriptions;
pub mod records;
pub(crate) mod seating;
mod signature;
pub(crate) mod storage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use alloy_primitives::{Address, Bytes};
use revm::{
    context::{Cfg, ContextTr},
    handler::{EthPrecompiles, PrecompileProvider},
    interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult},
    primitives::{AddressSet, hardfork::SpecId},
};
use stele_core::id;

use host::{Fail, Host};

pub use genesis::{GenesisError, GenesisOrganization, GenesisSpec, GenesisValidator, genesis};

/// Addresses of the system contracts. At genesis each has nonce 1 and the one byte of code [`SYSTEM_CODE`]: without
/// them EIP-161 clears the accounts and solc's EXTCODESIZE check fails.
pub const ADDRESSES: [Address; 7] = [
    id::IDENTITY,
    id::RECORDS,
    id::CONSENT,
    id::AUDIT,
    id::GOVERNANCE,
    id::PRESCRIPTIONS,
    id::EMERGENCY,
];
/// Code of every system contract: INVALID.
pub const SYSTEM_CODE: Bytes = Bytes::from_static(&[0xfe]);
/// The present version of the ledger's rules. Chains begun by earlier versions keep theirs, so that their blocks mean
/// what they meant: 1 is without Prescriptions and Emergency.
pub const PROTOCOL: u32 = 2;

/// The system contracts that came with protocol 2.
const SECOND: [Address; 2] = [id::PRESCRIPTIONS, id::EMERGENCY];

/// The system contracts that a chain of this protocol version begins with.
pub(crate) fn addresses_of(protocol: u32) -> impl Iterator<Item = Address> {
    ADDRESSES
        .into_iter()
        .filter(move |address| protocol >= 2 || !SECOND.contains(address))
}

/// Whether the address lies in the range kept for system contracts, taken or not: `0x5e1e`, zeros, one byte.
#[must_use]
pub fn is_reserved(address: Address) -> bool {
    let (Some((head, [_])), Some((reserved, [_]))) = (
        address.split_last_chunk::<1>(),
        id::IDENTITY.split_last_chunk::<1>(),
    ) else {
        return false;
    };
    head == reserved
}

/// Ethereum's precompiles and the system contracts.
#[derive(Clone, Debug)]
pub struct SystemContracts {
    ethereum: EthPrecompiles,
    warm: AddressSet,
}

impl SystemContracts {
    /// The contracts beside the precompiles of the given hard fork.
    #[must_use]
    pub fn new(spec: SpecId) -> Self {
        let ethereum = EthPrecompiles::new(spec);
        let warm = warm(&ethereum);
        Self { ethereum, warm }
    }
}

impl<CTX: ContextTr> PrecompileProvider<CTX> for SystemContracts {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: <CTX::Cfg as Cfg>::Spec) -> bool {
        let changed =
            <EthPrecompiles as PrecompileProvider<CTX>>::set_spec(&mut self.ethereum, spec);
        if changed {
            self.warm = warm(&self.ethereum);
        }
        changed
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        let contract = dispatch::Contract::at(inputs.bytecode_address)
            .filter(|contract| contract.is_installed(inputs.known_bytecode.0));
        let Some(contract) = contract else {
            return self.ethereum.run(context, inputs);
        };
        // The calldata is owned before the context is borrowed mutably: it may lie in the caller's memory.
        let input = inputs.input.bytes(context);
        let mut journal = host::ContextJournal(context);
        let mut host = Host::new(&mut journal, inputs);
        let outcome = dispatch::guard(inputs).and_then(|()| contract.run(&mut host, &input));
        let (result, output, keep_gas) = match outcome {
            Ok(output) => (InstructionResult::Return, output, true),
            Err(Fail::Revert(reason)) => (InstructionResult::Revert, reason, true),
            Err(Fail::OutOfGas) => (InstructionResult::PrecompileOOG, Bytes::new(), false),
            // Fatal: the node must stop before it votes on what it could not compute.
            Err(Fail::Fatal(error)) => return Err(error),
        };
        let mut gas = Gas::new(inputs.gas_limit);
        *gas.tracker_mut() = host.into_gas();
        if result != InstructionResult::Return {
            gas.set_refund(0);
        }
        if !keep_gas {
            gas.spend_all();
        }
        Ok(Some(InterpreterResult::new(result, output, gas)))
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

fn warm(ethereum: &EthPrecompiles) -> AddressSet {
    let mut warm = ethereum.warm_addresses().clone();
    // Warmth is gas, and gas is part of blocks: what chains of protocol 1 lack is not warm on any.
    warm.extend(addresses_of(1));
    warm
}
