//! A consortium of one without consensus: blocks are proposed, verified and committed by hand.

use std::{path::Path, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::SolCall;
use stele_chain::{
    Chain, ChainOptions, Committed, Genesis, IncludedReceipt, Organization, PoolLimits, Seat,
    state::State,
};
use stele_core::{
    abi::identity::IIdentity,
    account::{AccountKey, UnsignedCall},
    block::Block,
    crypto::Secret32,
    id::{DEFAULT_CHAIN_ID, IDENTITY},
};

/// When the chains of these tests begin.
pub(crate) const START_MS: u64 = 1_767_225_600_000;
pub(crate) const CHAIN_ID: u64 = DEFAULT_CHAIN_ID;

/// A key that is the same in every run.
pub(crate) fn key(seed: u8) -> AccountKey {
    AccountKey::new(Secret32::new([seed; 32])).unwrap()
}

/// The only organisation's key.
pub(crate) fn hospital() -> AccountKey {
    key(1)
}

pub(crate) fn genesis(open: bool) -> Genesis {
    Genesis {
        chain_id: CHAIN_ID,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: START_MS,
        consortium: "Test".into(),
        open,
        organizations: vec![Organization {
            address: hospital().address(),
            kind: 1,
            endpoints_digest: B256::ZERO,
            keys_digest: B256::ZERO,
        }],
        validators: vec![Seat {
            key: B256::repeat_byte(9),
            organization: hospital().address(),
        }],
        parameters: Default::default(),
        deployers: Vec::new(),
        alloc: Default::default(),
    }
}

pub(crate) fn chain(open: bool) -> Chain {
    chain_with(&genesis(open), PoolLimits::default())
}

pub(crate) fn chain_with(genesis: &Genesis, limits: PoolLimits) -> Chain {
    Chain::over(State::in_memory().unwrap(), genesis, limits).unwrap()
}

pub(crate) fn chain_in(folder: &Path) -> Chain {
    Chain::open(folder, &genesis(true), ChainOptions::default()).unwrap()
}

/// The last final block.
pub(crate) fn head(chain: &Chain) -> Arc<Block> {
    let height = chain.finalized().0.number;
    Arc::new(chain.view().block(height).unwrap().unwrap())
}

/// A block on the last final one, a second later, not committed.
pub(crate) fn propose(chain: &Chain) -> Arc<Block> {
    propose_on(chain, &head(chain), &[])
}

pub(crate) fn propose_on(chain: &Chain, parent: &Arc<Block>, older: &[Arc<Block>]) -> Arc<Block> {
    let now_ms = parent.header.timestamp_ms + 1_000;
    let proposer = B256::repeat_byte(9);
    Arc::new(
        chain
            .propose(parent, older, proposer, now_ms, &|| true)
            .unwrap()
            .unwrap(),
    )
}

/// Makes what waits final.
pub(crate) fn step(chain: &Chain) -> Arc<Block> {
    let block = propose(chain);
    let Committed::New { .. } = chain.commit(&block, b"").unwrap() else {
        panic!("known")
    };
    block
}

/// A signed call with plenty of gas.
#[expect(
    clippy::needless_pass_by_value,
    reason = "calls are written where they are passed"
)]
pub(crate) fn call(key: &AccountKey, nonce: u64, to: Address, input: impl SolCall) -> Bytes {
    signed(
        key,
        nonce,
        TxKind::Call(to),
        input.abi_encode().into(),
        1_000_000,
    )
}

pub(crate) fn signed(
    key: &AccountKey,
    nonce: u64,
    to: TxKind,
    input: Bytes,
    gas_limit: u64,
) -> Bytes {
    key.sign(UnsignedCall {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit,
        to,
        input,
    })
    .unwrap()
}

/// A plain transfer of nothing.
pub(crate) fn ping(key: &AccountKey, nonce: u64) -> Bytes {
    signed(
        key,
        nonce,
        TxKind::Call(Address::repeat_byte(0x77)),
        Bytes::new(),
        21_000,
    )
}

/// Submits, makes final, and returns the receipt.
pub(crate) fn execute(chain: &Chain, transaction: Bytes) -> IncludedReceipt {
    let hash = chain.submit(transaction).unwrap().recovered.hash;
    step(chain);
    chain.receipt(hash).unwrap().unwrap()
}

/// The hospital registers a patient.
pub(crate) fn register_patient(chain: &Chain, patient: Address) {
    let nonce = chain.pending_nonce(hospital().address()).unwrap();
    let register = IIdentity::registerPatientCall {
        patient,
        directoryRoot: B256::repeat_byte(1),
    };
    let receipt = execute(chain, call(&hospital(), nonce, IDENTITY, register));
    assert!(receipt.receipt.success);
}

/// A compiled contract of `tests/fixtures`.
pub(crate) fn compiled(hex: &str) -> Bytes {
    alloy_primitives::hex::decode(hex.trim()).unwrap().into()
}

pub(crate) const HEALTH_RECORDS: &str = include_str!("../fixtures/HealthRecords.hex");

/// Deploys a contract and returns its address.
pub(crate) fn deploy(chain: &Chain, key: &AccountKey, hex: &str) -> Address {
    let nonce = chain.pending_nonce(key.address()).unwrap();
    let creation = signed(key, nonce, TxKind::Create, compiled(hex), 5_000_000);
    let receipt = execute(chain, creation);
    assert!(receipt.receipt.success);
    receipt.contract.unwrap()
}
