//! Bytecode that was analysed once is kept: finding the jump destinations of a large contract costs more than
//! most calls to it.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, map::AddressMap};
use quick_cache::sync::Cache;
use revm::{
    bytecode::Bytecode,
    database_interface::{Database, DatabaseCommit},
    state::{Account, AccountInfo},
};

use crate::state;

/// Analysed bytecode by hash. Shared by everything that executes; an entry never goes stale.
#[derive(Clone)]
pub(crate) struct CodeCache(Arc<Cache<B256, Bytecode>>);

impl Default for CodeCache {
    fn default() -> Self {
        Self(Arc::new(Cache::new(CONTRACTS_REMEMBERED)))
    }
}

/// At 24 KiB, the largest contract, this is at most some 30 MB.
const CONTRACTS_REMEMBERED: usize = 1024;

/// A database whose code comes from the cache where it can.
pub(crate) struct Cached<D> {
    pub(crate) inner: D,
    pub(crate) code: CodeCache,
}

impl<D: Database<Error = state::Error>> Database for Cached<D> {
    type Error = state::Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, state::Error> {
        self.inner.basic(address)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, state::Error> {
        if let Some(code) = self.code.0.get(&code_hash) {
            return Ok(code);
        }
        let code = self.inner.code_by_hash(code_hash)?;
        self.code.0.insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, state::Error> {
        self.inner.storage(address, key)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, state::Error> {
        self.inner.block_hash(number)
    }
}

impl<D: DatabaseCommit> DatabaseCommit for Cached<D> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        self.inner.commit(changes);
    }
}
