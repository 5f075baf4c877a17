//! The clock of a development chain: the system's, moved by whoever tests what time does.

use std::sync::{Mutex, PoisonError};

use stele_core::time::{Clock as _, SystemClock};

/// A clock that can be moved ahead, and told what time the next block has.
#[derive(Debug, Default)]
pub(super) struct DevClock(Mutex<Offset>);

/// How the clock differs from the system's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offset {
    /// Seconds it is ahead; behind if negative.
    ahead_s: i64,
    /// What the next block's time is, in Unix seconds.
    next_s: Option<u64>,
}

impl DevClock {
    /// The next block's time, in milliseconds since the Unix epoch. A time that was set is used up by this.
    pub(super) fn next_ms(&self) -> u64 {
        let now_ms = SystemClock.now().0;
        let mut offset = self.lock();
        if let Some(next_s) = offset.next_s.take() {
            offset.ahead_s = signed(next_s).saturating_sub(signed(now_ms / 1_000));
            return next_s.saturating_mul(1_000);
        }
        now_ms.saturating_add_signed(offset.ahead_s.saturating_mul(1_000))
    }

    /// Moves it ahead; yields by how much it is ahead now, in seconds.
    pub(super) fn increase(&self, seconds: u64) -> u64 {
        let mut offset = self.lock();
        offset.ahead_s = offset.ahead_s.saturating_add(signed(seconds));
        u64::try_from(offset.ahead_s).unwrap_or(0)
    }

    /// Sets the next block's time; the clock goes on from there.
    pub(super) fn set_next(&self, seconds: u64) {
        self.lock().next_s = Some(seconds);
    }

    pub(super) fn offset(&self) -> Offset {
        *self.lock()
    }

    pub(super) fn set(&self, offset: Offset) {
        *self.lock() = offset;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Offset> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
