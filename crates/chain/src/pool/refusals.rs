//! Why transactions that were admitted did not come into a block after all, for those who wait for them.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::B256;

use crate::error::InvalidTransaction;

/// The last refusals, by transaction.
#[derive(Default)]
pub(super) struct Refusals {
    reasons: BTreeMap<B256, InvalidTransaction>,
    order: VecDeque<B256>,
}

impl Refusals {
    pub(super) fn get(&self, hash: &B256) -> Option<InvalidTransaction> {
        self.reasons.get(hash).cloned()
    }

    pub(super) fn remember(&mut self, hash: B256, reason: InvalidTransaction) {
        if self.reasons.insert(hash, reason).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > REFUSALS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
    }
}

/// Refusals are rare; this is hours of them, in under a megabyte.
const REFUSALS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut refusals = Refusals::default();
        let hash = |n: usize| B256::from(alloy_primitives::U256::from(n));
        for n in 0..=REFUSALS_MAX {
            refusals.remember(hash(n), InvalidTransaction::NonceMax);
            refusals.remember(hash(n), InvalidTransaction::NonceMax);
        }
        assert_eq!(refusals.get(&hash(0)), None);
        assert_eq!(refusals.get(&hash(1)), Some(InvalidTransaction::NonceMax));
        assert_eq!(
            (refusals.reasons.len(), refusals.order.len()),
            (REFUSALS_MAX, REFUSALS_MAX)
        );
    }
}
