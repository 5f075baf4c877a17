//! The three files together.

use std::path::Path;

use stele_core::crypto::Secret32;

use crate::{ChainIndex, LocalStore, Result, SearchIndex};

/// All three stores of one node.
#[derive(Debug)]
pub struct Index {
    chain: ChainIndex,
    search: SearchIndex,
    local: LocalStore,
}

impl Index {
    /// Opens or creates the three files in a folder that exists, all under keys derived from one.
    ///
    /// # Errors
    /// [`crate::Error::Key`] for another key, [`crate::Error::Newer`] for files of a newer program,
    /// [`crate::Error::Open`] when the file system refuses.
    pub fn open(folder: &Path, key: &Secret32) -> Result<Self> {
        let chain = ChainIndex::open(folder, key)?;
        let search = SearchIndex::open(folder, key, &chain)?;
        let local = LocalStore::open(folder, key)?;
        Ok(Self {
            chain,
            search,
            local,
        })
    }

    /// What the ledger says.
    #[must_use]
    pub const fn chain(&self) -> &ChainIndex {
        &self.chain
    }

    /// What resources are found by.
    #[must_use]
    pub const fn search(&self) -> &SearchIndex {
        &self.search
    }

    /// What exists nowhere else.
    #[must_use]
    pub const fn local(&self) -> &LocalStore {
        &self.local
    }
}
