//! A chain in memory for the contracts' tests: real transactions through the EVM, one after the other.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_consensus::crypto::secp256k1;
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolError, SolEvent, SolInterface};
use revm::{
    Context, ExecuteCommitEvm as _, ExecuteEvm as _, MainContext as _,
    bytecode::Bytecode,
    context::{Evm, FrameStack, TxEnv, result::ExecutionResult},
    database::InMemoryDB,
    handler::{EthFrame, MainnetContext, instructions::EthInstructions},
    interpreter::interpreter::EthInterpreter,
    primitives::hardfork::SpecId,
    state::AccountInfo,
};
use stele_core::id::DEFAULT_CHAIN_ID;

use super::{
    ADDRESSES, GenesisOrganization, GenesisSpec, GenesisValidator, SystemContracts, genesis,
};

type Machine = Evm<
    MainnetContext<InMemoryDB>,
    (),
    EthInstructions<EthInterpreter, MainnetContext<InMemoryDB>>,
    SystemContracts,
    EthFrame<EthInterpreter>,
>;

/// A chain whose next transaction runs at `now_s`.
pub(crate) struct Sandbox {
    machine: Machine,
    pub(crate) now_s: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) outcome: Result<Bytes, Refusal>,
    pub(crate) logs: Vec<Log>,
    pub(crate) gas_used: u64,
}

/// How a transaction failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Revert(Bytes),
    Halt,
}

impl Receipt {
    /// The decoded result; the transaction must have succeeded.
    pub(crate) fn returned<C: SolCall>(&self) -> C::Return {
        C::abi_decode_returns(self.outcome.as_ref().unwrap()).unwrap()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.outcome.is_ok(), "{:?}", self.outcome);
        self
    }

    /// The typed error it was refused with.
    #[track_caller]
    pub(crate) fn refused<E: SolError>(&self) -> E {
        let Err(Refusal::Revert(data)) = &self.outcome else {
            panic!("{:?}", self.outcome)
        };
        E::abi_decode(data)
            .unwrap_or_else(|_| panic!("{data} is not {} {:x?}", E::SIGNATURE, E::SELECTOR))
    }

    /// All events of one kind.
    pub(crate) fn events<E: SolEvent>(&self) -> Vec<E> {
        self.logs
            .iter()
            .filter_map(|log| E::decode_log_data(&log.data).ok())
            .collect()
    }
}

impl Sandbox {
    /// A consortium of these organisations.
    pub(crate) fn new(organizations: &[Address]) -> Self {
        let spec = GenesisSpec {
            organizations: organizations.iter().map(|who| organization(*who)).collect(),
            validators: vec![GenesisValidator {
                key: keccak256("first validator"),
                organization: organizations[0],
            }],
            ..GenesisSpec::default()
        };
        Self::from_genesis(&spec)
    }

    pub(crate) fn from_genesis(spec: &GenesisSpec) -> Self {
        let mut db = InMemoryDB::default();
        for address in ADDRESSES {
            let code = Bytecode::new_raw(Bytes::from_static(&[0xfe]));
            db.insert_account_info(
                address,
                AccountInfo::default().with_code(code).with_nonce(1),
            );
        }
        for (address, words) in genesis(spec).unwrap() {
            for (slot, word) in words {
                db.insert_account_storage(address, slot, word).unwrap();
            }
        }
        let mut context = Context::mainnet().with_db(db);
        context.cfg.chain_id = DEFAULT_CHAIN_ID;
        context.cfg.disable_nonce_check = true;
        context.cfg.tx_gas_limit_cap = Some(u64::MAX);
        context.block.gas_limit = u64::MAX;
        let machine = Evm {
            ctx: context,
            inspector: (),
            instruction: EthInstructions::new_mainnet_with_spec(SpecId::OSAKA),
            precompiles: SystemContracts::new(SpecId::OSAKA),
            frame_stack: FrameStack::new_prealloc(8),
        };
        Self {
            machine,
            now_s: 1_800_000_000,
        }
    }

    fn prepare(
        &mut self,
        from: Address,
        to: Address,
        input: Bytes,
        gas: u64,
        value: U256,
    ) -> TxEnv {
        self.machine.ctx.block.timestamp = U256::from(self.now_s);
        TxEnv::builder()
            .caller(from)
            .kind(TxKind::Call(to))
            .data(input)
            .gas_limit(gas)
            .value(value)
            .chain_id(Some(DEFAULT_CHAIN_ID))
            .build()
            .unwrap()
    }

    /// Runs a transaction with any calldata, gas and value.
    pub(crate) fn transact(
        &mut self,
        from: Address,
        to: Address,
        input: Bytes,
        gas: u64,
        value: U256,
    ) -> Receipt {
        self.attempt(from, to, input, gas, value).unwrap()
    }

    /// As [`Self::transact`]; `None` when the transaction is invalid and does not run at all.
    pub(crate) fn attempt(
        &mut self,
        from: Address,
        to: Address,
        input: Bytes,
        gas: u64,
        value: U256,
    ) -> Option<Receipt> {
        let transaction = self.prepare(from, to, input, gas, value);
        self.machine.transact_commit(transaction).ok().map(receipt)
    }

    /// Runs a transaction that calls a contract.
    pub(crate) fn send(&mut self, from: Address, to: Address, call: &impl SolCall) -> Receipt {
        self.transact(from, to, call.abi_encode().into(), GAS, U256::ZERO)
    }

    /// Asks a contract without changing anything.
    pub(crate) fn ask<C: SolCall>(&mut self, to: Address, call: &C) -> C::Return {
        let transaction =
            self.prepare(Address::ZERO, to, call.abi_encode().into(), GAS, U256::ZERO);
        receipt(self.machine.transact(transaction).unwrap().result).returned::<C>()
    }

    /// The word at a slot.
    pub(crate) fn word(&self, contract: Address, slot: U256) -> U256 {
        self.words(contract).get(&slot).copied().unwrap_or_default()
    }

    /// All words of a contract that are not zero.
    pub(crate) fn words(&self, contract: Address) -> BTreeMap<U256, U256> {
        let db = &self.machine.ctx.journaled_state.database;
        db.cache
            .accounts
            .get(&contract)
            .map_or_else(BTreeMap::new, |account| {
                account
                    .storage
                    .iter()
                    .filter(|(_, w)| !w.is_zero())
                    .map(|(s, w)| (*s, *w))
                    .collect()
            })
    }

    /// The storage of all contracts.
    pub(crate) fn state(&self) -> Vec<BTreeMap<U256, U256>> {
        ADDRESSES
            .iter()
            .map(|contract| self.words(*contract))
            .collect()
    }

    /// Puts code and coin at an address.
    pub(crate) fn place(&mut self, address: Address, code: Vec<u8>, balance: U256) {
        let info = AccountInfo::from_balance(balance).with_code(Bytecode::new_raw(code.into()));
        self.machine
            .ctx
            .journaled_state
            .database
            .insert_account_info(address, info);
    }

    /// Every function of the interface is in `calls` and is answered: with a result or a typed error, never as unknown.
    pub(crate) fn check_selectors<I: SolInterface>(&mut self, to: Address, calls: &[Vec<u8>]) {
        let given: std::collections::BTreeSet<[u8; 4]> = calls
            .iter()
            .map(|call| call[..4].try_into().unwrap())
            .collect();
        assert_eq!(given, I::selectors().collect());
        for call in calls {
            let receipt = self.transact(person(99), to, call.clone().into(), GAS, U256::ZERO);
            assert_ne!(
                receipt.outcome,
                Err(Refusal::Revert(Bytes::new())),
                "{:x?}",
                &call[..4]
            );
            assert_ne!(receipt.outcome, Err(Refusal::Halt), "{:x?}", &call[..4]);
        }
    }
}

fn receipt(result: ExecutionResult) -> Receipt {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { logs, output, .. } => Receipt {
            outcome: Ok(output.into_data()),
            logs,
            gas_used,
        },
        ExecutionResult::Revert { output, .. } => Receipt {
            outcome: Err(Refusal::Revert(output)),
            logs: Vec::new(),
            gas_used,
        },
        ExecutionResult::Halt { .. } => Receipt {
            outcome: Err(Refusal::Halt),
            logs: Vec::new(),
            gas_used,
        },
    }
}

/// An organisation as genesis takes it.
pub(crate) fn organization(who: Address) -> GenesisOrganization {
    GenesisOrganization {
        address: who,
        kind: 7,
        endpoints_digest: keccak256(who),
        keys_digest: keccak256(keccak256(who)),
    }
}

/// Address number `n`, below 128: of an account with a key.
pub(crate) fn person(n: u64) -> Address {
    static PEOPLE: LazyLock<Vec<Address>> = LazyLock::new(|| (0..128).map(address).collect());
    PEOPLE[usize::try_from(n).unwrap()]
}

fn address(n: u64) -> Address {
    let probe = keccak256("probe");
    secp256k1::recover_signer(&secp256k1::sign_message(secret(n), probe).unwrap(), probe).unwrap()
}

/// Signs with the key of [`person`]`(n)`: r ‖ s ‖ v.
pub(crate) fn sign(n: u64, hash: B256) -> Bytes {
    secp256k1::sign_message(secret(n), hash)
        .unwrap()
        .as_bytes()
        .into()
}

fn secret(n: u64) -> B256 {
    keccak256(n.to_be_bytes())
}

/// Slot of a mapping's entry as solc lays it out.
pub(crate) fn slot(key: impl Into<B256>, of: U256) -> U256 {
    keccak256([key.into().0, of.to_be_bytes()].concat()).into()
}

/// A word as a number.
pub(crate) fn word_of(word: B256) -> U256 {
    U256::from_be_bytes(word.0)
}

/// Gas that is enough for any call of the tests.
pub(crate) const GAS: u64 = 100_000_000;
