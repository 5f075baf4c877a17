//! Names of accounts for a while: the directory is read once a minute for each, not at every row.

use std::collections::HashMap;

use alloy_primitives::Address;
use parking_lot::Mutex;
use stele_core::time::Timestamp;
use stele_service::people::Named;

/// How long a name is taken for granted, in milliseconds.
const KEEP_MS: u64 = 60_000;
/// Most names kept.
const NAMES_MAX: usize = 10_000;

/// Names known for now.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<Address, (Timestamp, Named)>>);

impl Names {
    /// A name that was kept less than a minute ago.
    pub(crate) fn known(&self, account: Address, now: Timestamp) -> Option<Named> {
        let kept = self.0.lock();
        let (at, named) = kept.get(&account)?;
        (now.0.saturating_sub(at.0) < KEEP_MS).then(|| named.clone())
    }

    /// Keeps a name.
    pub(crate) fn keep(&self, named: Named, now: Timestamp) {
        let mut kept = self.0.lock();
        if kept.len() >= NAMES_MAX {
            kept.clear();
        }
        kept.insert(named.account, (now, named));
    }
}
