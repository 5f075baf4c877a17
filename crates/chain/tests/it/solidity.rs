//! Ordinary Solidity contracts, compiled by solc, deployed and called like anywhere else.

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use stele_chain::{CallOutcome, CallRequest, Estimate, QueryError, state::LogFilter};
use stele_core::account::AccountKey;

use crate::support::{
    HEALTH_RECORDS, call, chain, compiled, deploy, execute, genesis, hospital, key, signed, step,
};

sol! {
    event RecordCreated(uint256 indexed recordId, address indexed patientAddress);
    event RecordTransferred(uint256 indexed recordId, address indexed from, address indexed to);
    function createRecord(uint256 recordId, string name, address patient, string diseases, string contactInfo);
    function transferRecord(uint256 recordId, address newOwner);
    function getRecordData(uint256 recordId) returns (string, address, string, string);
    function getRecordOwner(uint256 recordId) returns (address);
    error Error(string reason);
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "calls are written where they are passed"
)]
fn view(chain: &stele_chain::Chain, to: Address, input: impl SolCall) -> CallOutcome {
    let input = input.abi_encode().into();
    chain
        .call(&CallRequest {
            to: Some(to),
            input,
            ..CallRequest::default()
        })
        .unwrap()
}

fn output(outcome: CallOutcome) -> Bytes {
    match outcome {
        CallOutcome::Success { output, .. } => output,
        other => panic!("{other:?}"),
    }
}

/// A foreign contract runs unchanged: all its functions, its events and its refusals.
#[test]
fn health_records_runs_unchanged() {
    let chain = chain(true);
    let (owner, other) = (key(20), key(21));
    let contract = deploy(&chain, &owner, HEALTH_RECORDS);
    assert!(
        !chain
            .view()
            .account(contract)
            .unwrap()
            .unwrap()
            .code_hash
            .is_zero()
    );

    let create = createRecordCall {
        recordId: U256::from(7),
        name: "A rather long name that takes more than one slot".into(),
        patient: owner.address(),
        diseases: "none".into(),
        contactInfo: String::new(),
    };
    let receipt = execute(&chain, call(&owner, 1, contract, create));
    assert!(receipt.receipt.success);
    let log = RecordCreated::decode_log(&receipt.receipt.logs[0]).unwrap();
    assert_eq!(
        (log.recordId, log.patientAddress),
        (U256::from(7), owner.address())
    );

    let owner_call = getRecordOwnerCall {
        recordId: U256::from(7),
    };
    let found = output(view(&chain, contract, owner_call));
    assert_eq!(
        getRecordOwnerCall::abi_decode_returns(&found).unwrap(),
        owner.address()
    );
    let data = output(view(
        &chain,
        contract,
        getRecordDataCall {
            recordId: U256::from(7),
        },
    ));
    let data = getRecordDataCall::abi_decode_returns(&data).unwrap();
    assert_eq!(data._0, "A rather long name that takes more than one slot");

    let transaction = transfers(&chain, contract, &owner, &other);
    finds_the_transfer(&chain, contract, transaction);
}

/// Only the owner transfers; yields the hash of the transaction that did.
fn transfers(
    chain: &stele_chain::Chain,
    contract: Address,
    owner: &AccountKey,
    other: &AccountKey,
) -> B256 {
    let transfer = || transferRecordCall {
        recordId: U256::from(7),
        newOwner: other.address(),
    };
    let refused = view(chain, contract, transfer());
    let CallOutcome::Revert { output: reason, .. } = refused else {
        panic!("{refused:?}")
    };
    assert!(String::from_utf8_lossy(&reason).contains("Only contract owner can call this"));
    let receipt = execute(chain, call(other, 0, contract, transfer()));
    assert!(!receipt.receipt.success);
    assert!(receipt.receipt.logs.is_empty());
    let receipt = execute(chain, call(owner, 2, contract, transfer()));
    assert!(receipt.receipt.success);
    assert!(RecordTransferred::decode_log(&receipt.receipt.logs[0]).is_ok());
    let found = output(view(
        chain,
        contract,
        getRecordOwnerCall {
            recordId: U256::from(7),
        },
    ));
    assert_eq!(
        getRecordOwnerCall::abi_decode_returns(&found).unwrap(),
        other.address()
    );
    receipt.included.transaction.hash
}

fn finds_the_transfer(chain: &stele_chain::Chain, contract: Address, transaction: B256) {
    let filter = LogFilter {
        addresses: vec![contract],
        topics: vec![vec![RecordTransferred::SIGNATURE_HASH]],
    };
    let height = chain.finalized().0.number;
    let found = chain.logs(&filter, 0, height, 1_000, 10).unwrap();
    assert_eq!(found.logs.len(), 1);
    assert_eq!(found.logs[0].transaction_hash, transaction);
    // What is kept of the newest blocks says the same as what is stored.
    let all = LogFilter::default();
    let kept = chain.logs(&all, 0, height, 1_000, 1_000).unwrap();
    let stored = chain.view().logs(&all, 0, height, usize::MAX, |_| None);
    assert!(kept.logs.len() > 1);
    assert_eq!(kept.logs, stored.unwrap().logs);
    assert!(matches!(
        chain.logs(&LogFilter::default(), 0, height, 1_000, 1),
        Err(QueryError::TooManyLogs { max: 1 })
    ));
    assert!(matches!(
        chain.logs(&filter, 0, 9, 5, 10),
        Err(QueryError::Range { .. })
    ));
}

#[test]
fn an_estimate_is_enough_and_little_more() {
    let chain = chain(true);
    let owner = key(20);
    let contract = deploy(&chain, &owner, HEALTH_RECORDS);
    let create = createRecordCall {
        recordId: U256::from(1),
        name: "x".repeat(200),
        patient: owner.address(),
        diseases: "y".repeat(40),
        contactInfo: "z".into(),
    };
    let input = Bytes::from(create.abi_encode());
    let request = CallRequest {
        from: owner.address(),
        to: Some(contract),
        input: input.clone(),
        ..CallRequest::default()
    };
    let Estimate::Gas(gas) = chain.estimate_gas(&request).unwrap() else {
        panic!("fails")
    };
    let allowance = CallRequest {
        gas: Some(gas / 2),
        ..request
    };
    let short = chain.estimate_gas(&allowance);
    assert!(matches!(
        short,
        Err(QueryError::OutOfAllowance { .. } | QueryError::Invalid(_))
    ));
    let receipt = execute(
        &chain,
        signed(&owner, 1, TxKind::Call(contract), input, gas),
    );
    assert!(receipt.receipt.success);
    assert!(
        receipt.gas_used * 65 >= gas * 63,
        "{gas} estimated, {} used",
        receipt.gas_used
    );

    let transfer = CallRequest {
        to: Some(Address::repeat_byte(5)),
        ..CallRequest::default()
    };
    assert_eq!(
        chain.estimate_gas(&transfer).unwrap(),
        Estimate::Gas(21_000)
    );
    let refused = transferRecordCall {
        recordId: U256::from(1),
        newOwner: Address::ZERO,
    };
    let refused = CallRequest {
        to: Some(contract),
        input: refused.abi_encode().into(),
        ..CallRequest::default()
    };
    assert!(matches!(
        chain.estimate_gas(&refused).unwrap(),
        Estimate::Fails(CallOutcome::Revert { .. })
    ));
}

/// Slots that a transaction writes are there for the later transactions of the same block, and for later blocks.
#[test]
fn a_slot_written_twice_in_a_block_keeps_the_second_value() {
    let chain = chain(true);
    // calldata[0..32] is added to slot 0: SLOAD(0) + CALLDATALOAD(0) → SSTORE(0).
    let runtime = [0x5f, 0x35, 0x5f, 0x54, 0x01, 0x5f, 0x55, 0x00];
    let mut creation = vec![0x67];
    creation.extend_from_slice(&runtime);
    creation.extend_from_slice(&[0x5f, 0x52, 0x60, 8, 0x60, 24, 0xf3]);
    let owner = key(20);
    let receipt = execute(
        &chain,
        signed(&owner, 0, TxKind::Create, creation.into(), 1_000_000),
    );
    let adder = receipt.contract.unwrap();
    for round in 0..3_u64 {
        for seed in 20..25 {
            let key = key(seed);
            let nonce = chain.pending_nonce(key.address()).unwrap();
            let input = U256::from(seed).to_be_bytes::<32>().into();
            chain
                .submit(signed(&key, nonce, TxKind::Call(adder), input, 100_000))
                .unwrap();
        }
        let block = step(&chain);
        assert_eq!(block.transactions.len(), 5);
        let sum = U256::from((20 + 21 + 22 + 23 + 24) * (round + 1));
        assert_eq!(chain.view().slot(adder, U256::ZERO).unwrap(), sum);
    }
}

/// Gas is a limit, never a price: a sender without money offers a price and pays nothing, and nobody is paid.
#[test]
fn no_price_is_paid() {
    use alloy_consensus::{SignableTransaction as _, TxLegacy};
    use alloy_eips::Encodable2718 as _;

    let chain = chain(true);
    let key = key(30);
    let transaction = TxLegacy {
        chain_id: Some(crate::support::CHAIN_ID),
        gas_price: 1_000_000_000,
        gas_limit: 50_000,
        to: TxKind::Call(Address::repeat_byte(3)),
        ..TxLegacy::default()
    };
    let signature = key.sign_hash(transaction.signature_hash()).unwrap();
    let receipt = execute(
        &chain,
        transaction.into_signed(signature).encoded_2718().into(),
    );
    assert!(receipt.receipt.success);
    assert_eq!(receipt.gas_used, 21_000);
    let view = chain.view();
    assert_eq!(
        view.account(key.address()).unwrap().unwrap().balance,
        U256::ZERO
    );
    assert!(view.account(Address::ZERO).unwrap().is_none());
}

/// Contracts may be deployed by those whom governance lets, unless the network is open.
#[test]
fn deploying_needs_permission() {
    let mut closed = genesis(false);
    let creation = || {
        signed(
            &hospital(),
            0,
            TxKind::Create,
            compiled(HEALTH_RECORDS),
            5_000_000,
        )
    };
    let chain = crate::support::chain_with(&closed, Default::default());
    let error = chain.submit(creation()).unwrap_err();
    assert!(error.to_string().contains("may not deploy"), "{error}");
    closed.deployers.push(hospital().address());
    let chain = crate::support::chain_with(&closed, Default::default());
    assert!(execute(&chain, creation()).receipt.success);
}

#[test]
fn code_is_what_was_deployed() {
    let chain = chain(true);
    let contract = deploy(&chain, &key(20), HEALTH_RECORDS);
    let view = chain.view();
    let account = view.account(contract).unwrap().unwrap();
    let code = view.code(account.code_hash).unwrap();
    assert_eq!(keccak256(&code), account.code_hash);
    assert!(
        compiled(HEALTH_RECORDS)
            .windows(code.len())
            .any(|window| window == code.as_ref())
    );
}
