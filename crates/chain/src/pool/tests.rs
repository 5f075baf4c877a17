use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction as _, TxLegacy};
use alloy_primitives::Signature;
use proptest::prelude::*;
use stele_core::tx::{SenderKey, Transaction};

use super::*;

/// A transaction whose signature nobody looks at any more.
fn pooled(sender: u8, nonce: u64) -> Pooled {
    let transaction = TxLegacy {
        nonce,
        ..TxLegacy::default()
    };
    let transaction = transaction.into_signed(Signature::test_signature());
    let mut hash = [sender; 32];
    hash[..8].copy_from_slice(&nonce.to_be_bytes());
    let recovered = RecoveredTransaction {
        transaction: Transaction::Ethereum(transaction.into()),
        hash: hash.into(),
        sender: Address::repeat_byte(sender),
        key: SenderKey::Own,
        size: 100,
    };
    Pooled {
        recovered: Arc::new(recovered),
        encoded: vec![0; 100].into(),
        organization: Address::repeat_byte(sender % 2),
        arrival: 0,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u64),
    Remove(u8, u64),
    Advance(u8, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let (sender, nonce) = (0..4_u8, 0..12_u64);
    prop_oneof![
        6 => (sender.clone(), nonce.clone()).prop_map(|(s, n)| Step::Insert(s, n)),
        1 => (sender.clone(), nonce.clone()).prop_map(|(s, n)| Step::Remove(s, n)),
        1 => (sender, nonce).prop_map(|(s, n)| Step::Advance(s, n)),
    ]
}

/// The same rules, in the simplest form: what waits by sender and nonce with its arrival, and the final nonces.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<(u8, u64), u64>,
    nonces: BTreeMap<u8, u64>,
    arrivals: u64,
}

impl Model {
    fn next(&self, sender: u8) -> u64 {
        self.nonces.get(&sender).copied().unwrap_or(0)
    }

    fn in_order(&self) -> Vec<(u8, u64)> {
        let mut at: BTreeMap<u8, u64> = (0..4).map(|s| (s, self.next(s))).collect();
        let mut order = Vec::new();
        loop {
            let candidates = at.iter().filter_map(|(sender, nonce)| {
                self.waiting
                    .get(&(*sender, *nonce))
                    .map(|arrival| (*arrival, *sender, *nonce))
            });
            let Some((_, sender, nonce)) = candidates.min() else {
                return order;
            };
            order.push((sender, nonce));
            at.insert(sender, nonce + 1);
        }
    }
}

proptest! {
    #[test]
    fn the_queue_does_as_the_model(steps in prop::collection::vec(any_step(), 0..80)) {
        let limits = PoolLimits { transactions: 20, per_organization: 12, ..PoolLimits::default() };
        let (mut queue, mut model) = (Queue::default(), Model::default());
        for step in steps {
            match step {
                Step::Insert(sender, nonce) => {
                    let next = model.next(sender);
                    if nonce < next {
                        continue;
                    }
                    let of_organization =
                        model.waiting.keys().filter(|(s, _)| s % 2 == sender % 2).count();
                    let fits = model.waiting.len() < 20 && of_organization < 12;
                    let free = !model.waiting.contains_key(&(sender, nonce));
                    let inserted = queue.insert(pooled(sender, nonce), next, &limits);
                    prop_assert_eq!(inserted.is_ok(), fits && free);
                    if let Ok((_, executable)) = inserted {
                        model.waiting.insert((sender, nonce), model.arrivals);
                        model.arrivals += 1;
                        prop_assert_eq!(executable, model.in_order().contains(&(sender, nonce)));
                    }
                }
                Step::Remove(sender, nonce) => {
                    queue.remove(&pooled(sender, nonce).recovered.hash);
                    model.waiting.remove(&(sender, nonce));
                }
                Step::Advance(sender, nonce) => {
                    queue.advance(Address::repeat_byte(sender), nonce);
                    let nonce = nonce.max(model.next(sender));
                    model.nonces.insert(sender, nonce);
                    model.waiting.retain(|(s, n), _| *s != sender || *n >= nonce);
                }
            }
            let found: Vec<_> = queue
                .in_order()
                .map(|pooled| (pooled.recovered.sender[0], pooled.recovered.transaction.nonce()))
                .collect();
            prop_assert_eq!(found, model.in_order());
            let (transactions, bytes) = (model.waiting.len(), model.waiting.len() * 100);
            prop_assert_eq!(queue.status(), PoolStatus { transactions, bytes });
        }
    }
}
