//! Filters that clients poll. They are kept in memory, expire when nobody asks, and are the caller's who
//! knows their id: 16 random bytes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::B128;
use stele_service::ports::LogFilter;
use tokio::time::Instant;

use super::error::{RpcResult, internal, limit_exceeded, not_found};

/// What a filter looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Logs; the heights are the range the caller set, not what is still to be told.
    Logs(LogFilter),
    /// Hashes of blocks.
    Blocks,
    /// Hashes of transactions.
    Transactions,
}

/// All filters of the server.
pub(crate) struct Filters {
    entries: Mutex<HashMap<B128, Filter>>,
    max: usize,
    idle: Duration,
}

struct Filter {
    watched: Watched,
    /// First height that was not told yet.
    next: u64,
    asked: Instant,
}

impl Filters {
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        Self {
            entries: Mutex::default(),
            max,
            idle,
        }
    }

    /// Keeps a filter that tells of heights from `next` on, and names it.
    ///
    /// # Errors
    /// Too many filters.
    pub(crate) fn insert(&self, watched: Watched, next: u64) -> RpcResult<B128> {
        let mut id = B128::ZERO;
        getrandom::fill(id.as_mut_slice()).map_err(|error| internal(&error))?;
        let mut entries = self.live();
        if entries.len() >= self.max {
            return Err(limit_exceeded(format!(
                "the node keeps at most {} filters; uninstall some, or subscribe by WebSocket",
                self.max
            )));
        }
        entries.insert(
            id,
            Filter {
                watched,
                next,
                asked: Instant::now(),
            },
        );
        Ok(id)
    }

    /// What the filter looks for.
    ///
    /// # Errors
    /// No such filter, or none any more.
    pub(crate) fn watched(&self, id: B128) -> RpcResult<Watched> {
        let mut entries = self.live();
        let filter = entries.get_mut(&id).ok_or_else(unknown)?;
        filter.asked = Instant::now();
        Ok(filter.watched.clone())
    }

    /// Takes the heights that are to be told now, up to `height`, at most `max`; `None` when there are none.
    ///
    /// # Errors
    /// No such filter, or none any more.
    pub(crate) fn take(
        &self,
        id: B128,
        height: u64,
        max: u64,
    ) -> RpcResult<(Watched, Option<(u64, u64)>)> {
        let mut entries = self.live();
        let filter = entries.get_mut(&id).ok_or_else(unknown)?;
        filter.asked = Instant::now();
        let first = filter.next;
        let end = match &filter.watched {
            Watched::Logs(LogFilter { to: Some(to), .. }) => height.min(*to),
            Watched::Logs(_) | Watched::Blocks | Watched::Transactions => height,
        };
        if first > end {
            return Ok((filter.watched.clone(), None));
        }
        let last = end.min(first.saturating_add(max.saturating_sub(1)));
        filter.next = last.saturating_add(1);
        Ok((filter.watched.clone(), Some((first, last))))
    }

    /// Puts heights back that were taken but not told.
    pub(crate) fn put_back(&self, id: B128, first: u64) {
        if let Some(filter) = self.live().get_mut(&id) {
            filter.next = filter.next.min(first);
        }
    }

    /// Forgets a filter; false when there was none.
    pub(crate) fn remove(&self, id: B128) -> bool {
        self.live().remove(&id).is_some()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<B128, Filter>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.retain(|_, filter| now.saturating_duration_since(filter.asked) < self.idle);
        entries
    }
}

fn unknown() -> jsonrpsee::types::ErrorObjectOwned {
    not_found("filter not found")
}

#[cfg(test)]
mod tests;
