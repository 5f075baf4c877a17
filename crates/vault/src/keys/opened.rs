//! Grants as they were opened since the last block.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use alloy_primitives::Address;
use parking_lot::Mutex;
use stele_core::{crypto::hpke::KemSecret, id::LogId};

use super::{
    grant::{Grant, GrantKeys, GrantOpener},
    tree::KeyPlace,
};
use crate::error::Result;

/// Readers and logs remembered at most; one is some kilobytes.
const CACHED_MAX: usize = 256;

/// What one reader was granted over one log, each grant opened when it is first needed.
pub(crate) struct Granted {
    opener: Mutex<GrantOpener>,
    grants: Vec<(Grant, OnceLock<GrantKeys>)>,
}

impl Granted {
    pub(crate) fn new(grantee: Address, secret: KemSecret, grants: Vec<Grant>) -> Self {
        Self {
            opener: Mutex::new(GrantOpener::new(grantee, secret)),
            grants: grants
                .into_iter()
                .map(|grant| (grant, OnceLock::new()))
                .collect(),
        }
    }

    /// The private key of a place.
    ///
    /// # Errors
    /// [`crate::Error::NoKey`] if no grant covers it; those of [`GrantOpener::open`].
    pub(crate) fn secret(&self, place: &KeyPlace) -> Result<KemSecret> {
        let fitting = self.grants.iter().find(|(grant, _)| grant.covers(place));
        let (grant, opened) = fitting.ok_or_else(|| place.no_key())?;
        if let Some(keys) = opened.get() {
            return keys.secret(place);
        }
        let keys = self.opener.lock().open(grant)?;
        opened.get_or_init(|| keys).secret(place)
    }
}

/// The grants of readers over logs, so that a long page opens them once. Forgotten with every block, and whenever grants
/// change.
#[derive(Default)]
pub(crate) struct OpenedGrants {
    known: Mutex<HashMap<(Address, LogId), Arc<Granted>>>,
}

impl OpenedGrants {
    /// The grants of an account over a log; `find` reads them.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn of(
        &self,
        account: Address,
        log: LogId,
        find: impl FnOnce() -> Result<Granted>,
    ) -> Result<Arc<Granted>> {
        // Held while they are read, so that what is forgotten in the meantime is not put back.
        let mut known = self.known.lock();
        if let Some(found) = known.get(&(account, log)) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(find()?);
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert((account, log), Arc::clone(&found));
        Ok(found)
    }

    pub(crate) fn clear(&self) {
        self.known.lock().clear();
    }
}
