//! The pool's book-keeping: who waits with which nonce, in which order, and how much of each limit is used.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use alloy_primitives::{Address, B256};

use super::{PoolLimits, PoolStatus, Pooled};
use crate::error::{InvalidTransaction, Rejected};

/// Transactions by sender and nonce.
#[derive(Default)]
pub(super) struct Queue {
    senders: BTreeMap<Address, Sender>,
    by_hash: BTreeMap<B256, (Address, u64)>,
    /// Senders whose next transaction is here, by that transaction's arrival.
    heads: BTreeMap<u64, Address>,
    /// Number of transactions that count against an account.
    organizations: BTreeMap<Address, usize>,
    bytes: usize,
    arrivals: u64,
}

/// What waits of one sender. Never without a transaction.
struct Sender {
    /// Nonce in the final state.
    next_nonce: u64,
    transactions: BTreeMap<u64, Arc<Pooled>>,
}

impl Sender {
    fn head(&self) -> Option<&Arc<Pooled>> {
        self.transactions.get(&self.next_nonce)
    }

    /// The first nonce from `next_nonce` on that no transaction has.
    fn gap(&self) -> u64 {
        let mut nonce = self.next_nonce;
        for (taken, _) in self.transactions.range(nonce..) {
            if *taken != nonce {
                break;
            }
            nonce = nonce.saturating_add(1);
        }
        nonce
    }
}

impl Queue {
    pub(super) fn senders(&self) -> Vec<Address> {
        self.senders.keys().copied().collect()
    }

    pub(super) fn get(&self, hash: &B256) -> Option<Arc<Pooled>> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        self.senders.get(sender)?.transactions.get(nonce).cloned()
    }

    /// Takes a transaction in; tells whether it can be executed after those that wait.
    pub(super) fn insert(
        &mut self,
        mut pooled: Pooled,
        next_nonce: u64,
        limits: &PoolLimits,
    ) -> Result<(Arc<Pooled>, bool), Rejected> {
        let sender = pooled.recovered.sender;
        let nonce = pooled.recovered.transaction.nonce();
        self.check(&pooled, limits)?;
        self.advance(sender, next_nonce);
        pooled.arrival = self.arrivals;
        self.arrivals = self.arrivals.saturating_add(1);
        let pooled = Arc::new(pooled);
        let queue = self.senders.entry(sender).or_insert_with(|| Sender {
            next_nonce,
            transactions: BTreeMap::new(),
        });
        // A block may have become final since the state was read.
        let known_nonce = queue.next_nonce;
        if nonce < known_nonce {
            return Err(InvalidTransaction::NonceTooLow {
                next: known_nonce,
                given: nonce,
            }
            .into());
        }
        queue.transactions.insert(nonce, Arc::clone(&pooled));
        let executable = nonce < queue.gap();
        if nonce == known_nonce {
            self.heads.insert(pooled.arrival, sender);
        }
        self.by_hash.insert(pooled.recovered.hash, (sender, nonce));
        self.bytes = self.bytes.saturating_add(pooled.encoded.len());
        let count = self.organizations.entry(pooled.organization).or_default();
        *count = count.saturating_add(1);
        Ok((pooled, executable))
    }

    fn check(&self, pooled: &Pooled, limits: &PoolLimits) -> Result<(), Rejected> {
        let recovered = &pooled.recovered;
        let nonce = recovered.transaction.nonce();
        if self.by_hash.contains_key(&recovered.hash) {
            return Err(Rejected::AlreadyKnown);
        }
        let queue = self.senders.get(&recovered.sender);
        if let Some(pending) = queue.and_then(|queue| queue.transactions.get(&nonce)) {
            let pending = pending.recovered.hash;
            return Err(Rejected::NonceTaken {
                sender: recovered.sender,
                nonce,
                pending,
            });
        }
        let full = |what, used: usize, limit: usize| {
            if used >= limit {
                Err(Rejected::Full { what, limit })
            } else {
                Ok(())
            }
        };
        full(
            "the number of transactions",
            self.by_hash.len(),
            limits.transactions,
        )?;
        // The transaction itself counts: a byte limit is reached by what would be over it.
        let bytes = self.bytes.saturating_add(pooled.encoded.len());
        full("the number of bytes", bytes, limits.bytes.saturating_add(1))?;
        let of_sender = queue.map_or(0, |queue| queue.transactions.len());
        full("the sender's share", of_sender, limits.per_sender)?;
        let of_organization = self.organizations.get(&pooled.organization).copied();
        full(
            "the organisation's share",
            of_organization.unwrap_or(0),
            limits.per_organization,
        )
    }

    pub(super) fn remove(&mut self, hash: &B256) {
        let Some((sender, nonce)) = self.by_hash.remove(hash) else {
            return;
        };
        let Some(queue) = self.senders.get_mut(&sender) else {
            return;
        };
        if let Some(pooled) = queue.transactions.remove(&nonce) {
            let is_empty = queue.transactions.is_empty();
            self.release(&pooled);
            if is_empty {
                self.senders.remove(&sender);
            }
        }
    }

    /// Forgets what a removed transaction used.
    fn release(&mut self, pooled: &Pooled) {
        self.by_hash.remove(&pooled.recovered.hash);
        self.heads.remove(&pooled.arrival);
        self.bytes = self.bytes.saturating_sub(pooled.encoded.len());
        if let Some(count) = self.organizations.get_mut(&pooled.organization) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.organizations.remove(&pooled.organization);
            }
        }
    }

    pub(super) fn advance(&mut self, sender: Address, next_nonce: u64) {
        let Some(queue) = self.senders.get_mut(&sender) else {
            return;
        };
        if next_nonce <= queue.next_nonce {
            return;
        }
        let later = queue.transactions.split_off(&next_nonce);
        let done = std::mem::replace(&mut queue.transactions, later);
        queue.next_nonce = next_nonce;
        let head = queue.head().map(|pooled| pooled.arrival);
        let is_empty = queue.transactions.is_empty();
        for pooled in done.values() {
            self.release(pooled);
        }
        if let Some(arrival) = head {
            self.heads.insert(arrival, sender);
        }
        if is_empty {
            self.senders.remove(&sender);
        }
    }

    pub(super) fn next_nonce(&self, sender: Address, state_nonce: u64) -> u64 {
        self.senders
            .get(&sender)
            .map_or(state_nonce, |queue| queue.gap().max(state_nonce))
    }

    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            transactions: self.by_hash.len(),
            bytes: self.bytes,
        }
    }

    /// Every transaction that can be executed: by arrival across senders, by nonce within one.
    pub(super) fn in_order(&self) -> InOrder<'_> {
        let heads = self
            .heads
            .iter()
            .map(|(arrival, sender)| Reverse((*arrival, *sender, None)));
        InOrder {
            queue: self,
            next: heads.collect(),
        }
    }
}

/// Iterator of [`Queue::in_order`].
pub(super) struct InOrder<'a> {
    queue: &'a Queue,
    /// Arrival, sender and nonce (`None` for the sender's first) of what may come next.
    next: BinaryHeap<Reverse<(u64, Address, Option<u64>)>>,
}

impl Iterator for InOrder<'_> {
    type Item = Arc<Pooled>;

    fn next(&mut self) -> Option<Arc<Pooled>> {
        loop {
            let Reverse((_, address, nonce)) = self.next.pop()?;
            let Some(sender) = self.queue.senders.get(&address) else {
                continue;
            };
            let nonce = nonce.unwrap_or(sender.next_nonce);
            let Some(pooled) = sender.transactions.get(&nonce) else {
                continue;
            };
            let following = nonce.saturating_add(1);
            if let Some(later) = sender.transactions.get(&following) {
                self.next
                    .push(Reverse((later.arrival, address, Some(following))));
            }
            return Some(Arc::clone(pooled));
        }
    }
}
