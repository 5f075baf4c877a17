//! Who may transact, and with which key.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;
use stele_chain::{Chain, InvalidTransaction, Rejected, RejectionKind};
use stele_core::{
    abi::identity::IIdentity,
    account::AccountKey,
    id::IDENTITY,
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};

use crate::support::{CHAIN_ID, call, chain, execute, hospital, key, ping, register_patient};

/// A call of `account` signed by some key.
pub(crate) fn account_call(account: Address, nonce: u64, to: Address, input: Bytes) -> AccountCall {
    AccountCall {
        chain_id: CHAIN_ID,
        account,
        nonce,
        gas_limit: 1_000_000,
        to,
        input,
    }
}

fn spoken(key: &AccountKey, call: AccountCall) -> Bytes {
    let signature = AccountSignature::Secp256k1(key.sign_hash(call.signing_hash()).unwrap());
    Transaction::Account(Box::new(AccountTransaction { call, signature })).encode()
}

fn refusal(chain: &Chain, transaction: Bytes) -> InvalidTransaction {
    match chain.submit(transaction) {
        Err(Rejected::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_registered_accounts_transact() {
    let chain = chain(false);
    let stranger = key(40);
    let refused = refusal(&chain, ping(&stranger, 0));
    assert_eq!(
        refused,
        InvalidTransaction::NotRegistered {
            sender: stranger.address()
        }
    );
    assert_eq!(refused.kind(), RejectionKind::NotPermitted);
    register_patient(&chain, stranger.address());
    assert!(execute(&chain, ping(&stranger, 0)).receipt.success);
}

#[test]
fn a_suspended_member_is_refused_from_the_next_block_on() {
    let chain = chain(false);
    let nurse = key(41);
    let (roles, licence) = (1, B256::ZERO);
    let register = IIdentity::registerMemberCall {
        member: nurse.address(),
        roles,
        licence,
    };
    assert!(
        execute(&chain, call(&hospital(), 0, IDENTITY, register))
            .receipt
            .success
    );
    assert!(execute(&chain, ping(&nurse, 0)).receipt.success);
    // Admitted while active, suspended before it is executed: it is not part of the block.
    let suspend = IIdentity::updateMemberCall {
        member: nurse.address(),
        status: 2,
        roles,
        licence,
    };
    chain
        .submit(call(&hospital(), 1, IDENTITY, suspend))
        .unwrap();
    let late = chain.submit(ping(&nurse, 1)).unwrap().recovered.hash;
    let block = crate::support::step(&chain);
    assert_eq!(block.transactions.len(), 1);
    assert!(chain.pending(&late).is_none());
    assert!(matches!(
        chain.refusal(&late),
        Some(InvalidTransaction::NotActive { .. })
    ));
    assert_eq!(
        refusal(&chain, ping(&nurse, 1)),
        InvalidTransaction::NotActive {
            sender: nurse.address(),
            organization: hospital().address()
        }
    );
}

/// A lost key is replaced without losing the account.
#[test]
fn an_added_key_speaks_for_the_account_and_a_removed_one_does_not() {
    let chain = chain(false);
    let (patient, phone) = (key(42), key(43));
    register_patient(&chain, patient.address());
    let ping_identity = |nonce| {
        let input = IIdentity::isActiveCall {
            who: patient.address(),
        }
        .abi_encode()
        .into();
        account_call(patient.address(), nonce, IDENTITY, input)
    };
    assert_eq!(
        refusal(&chain, spoken(&phone, ping_identity(0))),
        InvalidTransaction::KeyRefused {
            account: patient.address()
        }
    );
    let phone_id = phone.address().into_word();
    let add = IIdentity::addKeyCall {
        keyId: phone_id,
        kind: 0,
        rpIdHash: B256::ZERO,
    };
    assert!(
        execute(&chain, call(&patient, 0, IDENTITY, add))
            .receipt
            .success
    );
    let receipt = execute(&chain, spoken(&phone, ping_identity(1)));
    assert!(receipt.receipt.success);
    assert_eq!(receipt.receipt.tx_type, 0x5e);
    assert_eq!(receipt.included.transaction.sender, patient.address());

    let own_id = patient.address().into_word();
    let remove = IIdentity::removeKeyCall { keyId: own_id }
        .abi_encode()
        .into();
    let remove = account_call(patient.address(), 2, IDENTITY, remove);
    assert!(execute(&chain, spoken(&phone, remove)).receipt.success);
    let refused = InvalidTransaction::KeyRefused {
        account: patient.address(),
    };
    assert_eq!(refusal(&chain, ping(&patient, 3)), refused);
    assert_eq!(refusal(&chain, spoken(&patient, ping_identity(3))), refused);
    assert!(
        execute(&chain, spoken(&phone, ping_identity(3)))
            .receipt
            .success
    );
}

/// A key that was removed says nothing in an open network either.
#[test]
fn an_open_network_admits_anyone_but_checks_keys() {
    let chain = chain(true);
    let stranger = key(44);
    assert!(execute(&chain, ping(&stranger, 0)).receipt.success);
    let call = account_call(stranger.address(), 1, Address::repeat_byte(7), Bytes::new());
    assert_eq!(
        refusal(&chain, spoken(&key(45), call)),
        InvalidTransaction::KeyRefused {
            account: stranger.address()
        }
    );
}
