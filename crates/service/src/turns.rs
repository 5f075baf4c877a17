//! Turns: changes of one resource wait for each other, changes of different ones do not.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// More than enough for the writers of one node; two resources that share a turn only wait a little.
const TURNS: usize = 256;

pub(crate) struct Turns {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            locks: std::iter::repeat_with(Mutex::default).take(TURNS).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Turns {
    /// Waits for the turns of all resources named. Taken in one order, so that batches never wait in a circle.
    pub(crate) async fn take<'a>(
        &self,
        resources: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let turns = u64::try_from(TURNS).unwrap_or(1);
        let mut wanted: Vec<usize> = resources
            .map(|resource| {
                self.hasher
                    .hash_one(resource)
                    .checked_rem(turns)
                    .unwrap_or(0)
            })
            .filter_map(|turn| usize::try_from(turn).ok())
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut held = Vec::with_capacity(wanted.len());
        for turn in wanted {
            if let Some(lock) = self.locks.get(turn) {
                held.push(lock.lock().await);
            }
        }
        held
    }
}
