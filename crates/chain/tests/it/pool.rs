//! Admission: what is refused, in which words, and in which order the rest comes out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use alloy_primitives::{Address, Bytes, TxKind, U256};
use stele_chain::{Chain, PoolLimits, RejectionKind};

use crate::support::{
    CHAIN_ID, chain, chain_with, execute, genesis, key, ping, propose, propose_on, signed, step,
};

fn refused(chain: &Chain, transaction: Bytes) -> (String, RejectionKind) {
    let error = chain.submit(transaction).unwrap_err();
    (error.to_string(), error.kind())
}

#[test]
fn refusals_read_as_in_other_clients() {
    let chain = chain(true);
    let key = key(60);
    execute(&chain, ping(&key, 0));
    chain.submit(ping(&key, 1)).unwrap();
    let to = TxKind::Call(Address::repeat_byte(1));
    let cases = [
        (
            ping(&key, 0),
            "nonce too low: next nonce 1, tx nonce 0",
            RejectionKind::Invalid,
        ),
        (ping(&key, 1), "already known", RejectionKind::Known),
        (
            signed(&key, 1, to, Bytes::new(), 30_000),
            "replacement transaction underpriced",
            RejectionKind::Known,
        ),
        (ping(&key, 2_000), "nonce too high", RejectionKind::Invalid),
        (
            ping(&key, u64::MAX),
            "nonce has max value",
            RejectionKind::Invalid,
        ),
        (
            signed(&key, 2, to, Bytes::new(), 20_999),
            "intrinsic gas too low",
            RejectionKind::Invalid,
        ),
        (
            signed(&key, 2, to, Bytes::new(), u64::MAX),
            "exceeds block gas limit",
            RejectionKind::Invalid,
        ),
        (
            signed(&key, 2, TxKind::Create, vec![0; 49_153].into(), 25_000_000),
            "max initcode size exceeded",
            RejectionKind::Invalid,
        ),
        (
            vec![0; 300_000].into(),
            "over the limit of",
            RejectionKind::Malformed,
        ),
        (
            Bytes::new(),
            "malformed transaction",
            RejectionKind::Malformed,
        ),
        (
            vec![0x03, 0xc0].into(),
            "is not supported",
            RejectionKind::Malformed,
        ),
        (
            vec![0xf8, 0xff].into(),
            "malformed transaction",
            RejectionKind::Malformed,
        ),
    ];
    for (transaction, text, kind) in cases {
        let (found, found_kind) = refused(&chain, transaction);
        assert!(found.contains(text), "{found:?} should say {text:?}");
        assert_eq!(found_kind, kind, "{found}");
    }
}

#[test]
fn another_chains_transactions_are_refused() {
    let chain = chain(true);
    let call = stele_core::account::UnsignedCall {
        chain_id: CHAIN_ID + 1,
        nonce: 0,
        gas_limit: 21_000,
        to: TxKind::Call(Address::ZERO),
        input: Bytes::new(),
    };
    let (text, kind) = refused(&chain, key(61).sign(call).unwrap());
    assert!(text.contains("this is chain"), "{text}");
    assert_eq!(kind, RejectionKind::Malformed);
}

#[test]
fn value_needs_a_balance() {
    use alloy_consensus::{SignableTransaction as _, TxLegacy};
    use alloy_eips::Encodable2718 as _;

    let mut genesis = genesis(true);
    let (rich, poor) = (key(62), key(63));
    let balance = U256::from(10);
    genesis.alloc.insert(
        rich.address(),
        stele_chain::Allocation {
            balance,
            ..Default::default()
        },
    );
    let chain = chain_with(&genesis, PoolLimits::default());
    let send = |key: &stele_core::account::AccountKey| -> Bytes {
        let transaction = TxLegacy {
            chain_id: Some(CHAIN_ID),
            gas_limit: 21_000,
            to: TxKind::Call(Address::repeat_byte(4)),
            value: U256::from(7),
            ..TxLegacy::default()
        };
        let signature = key.sign_hash(transaction.signature_hash()).unwrap();
        transaction.into_signed(signature).encoded_2718().into()
    };
    let (text, _) = refused(&chain, send(&poor));
    assert!(text.contains("insufficient funds"), "{text}");
    assert!(execute(&chain, send(&rich)).receipt.success);
    let received = chain
        .view()
        .account(Address::repeat_byte(4))
        .unwrap()
        .unwrap();
    assert_eq!(received.balance, U256::from(7));
}

#[test]
fn every_limit_holds_and_is_given_back() {
    let unlimited = PoolLimits::default();
    let one = ping(&key(64), 0).len();
    let cases = [
        (
            "number of transactions",
            PoolLimits {
                transactions: 3,
                ..unlimited
            },
        ),
        (
            "number of bytes",
            PoolLimits {
                bytes: 3 * one + one / 2,
                ..unlimited
            },
        ),
        (
            "sender's share",
            PoolLimits {
                per_sender: 3,
                ..unlimited
            },
        ),
        (
            "organisation's share",
            PoolLimits {
                per_organization: 3,
                ..unlimited
            },
        ),
    ];
    for (what, limits) in cases {
        let chain = chain_with(&genesis(true), limits);
        for nonce in 0..3 {
            chain.submit(ping(&key(64), nonce)).unwrap();
        }
        let error = chain.submit(ping(&key(64), 3)).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.is_retryable());
        step(&chain);
        assert_eq!(chain.pool_status(), Default::default());
        chain.submit(ping(&key(64), 3)).unwrap();
    }
}

#[test]
fn order_is_by_arrival_and_within_a_sender_by_nonce() {
    let chain = chain(true);
    let (a, b) = (key(65), key(66));
    // b's second transaction comes first, but waits for its first.
    for transaction in [
        ping(&b, 1),
        ping(&a, 0),
        ping(&b, 0),
        ping(&a, 1),
        ping(&a, 3),
    ] {
        chain.submit(transaction).unwrap();
    }
    assert_eq!(chain.pending_nonce(a.address()).unwrap(), 2);
    assert_eq!(chain.pending_nonce(b.address()).unwrap(), 2);
    let block = step(&chain);
    let expected = [ping(&a, 0), ping(&b, 0), ping(&b, 1), ping(&a, 1)];
    assert_eq!(block.transactions, expected);
    // The gap is filled: what waited follows.
    assert_eq!(chain.pool_status().transactions, 1);
    chain.submit(ping(&a, 2)).unwrap();
    assert_eq!(step(&chain).transactions, [ping(&a, 2), ping(&a, 3)]);
}

#[test]
fn work_is_announced_once_it_can_be_done() {
    let chain = chain(true);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    chain.on_ready(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let a = key(67);
    assert!(!chain.has_work());
    chain.submit(ping(&a, 1)).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert!(!chain.has_work());
    chain.submit(ping(&a, 0)).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(chain.has_work());
    let block = propose(&chain);
    assert!(
        !chain.has_work(),
        "it is all in a block that waits to become final"
    );
    chain.submit(ping(&a, 2)).unwrap();
    assert!(chain.has_work());
    // A block on the one that waits takes the rest only.
    let next = propose_on(&chain, &block, &[]);
    assert_eq!(next.transactions, [ping(&a, 2)]);
    chain.commit(&block, b"").unwrap();
    chain.commit(&next, b"").unwrap();
    assert_eq!(chain.pool_status().transactions, 0);
}

#[test]
fn many_are_admitted_at_once() {
    let chain = chain(true);
    let transactions: Vec<_> = (0..40).map(|nonce| ping(&key(68), nonce)).collect();
    let results = chain.submit_all(transactions.clone());
    assert!(results.iter().all(Result::is_ok));
    assert!(chain.submit_all(transactions).iter().all(Result::is_err));
    assert_eq!(step(&chain).transactions.len(), 40);
}
