//! Questions about the ledger, one file a subject. All answers come from `chain.db` and so from finalized blocks.

pub mod accounts;
pub mod emergency;
pub mod grants;
pub mod network;
pub mod prescriptions;
pub mod records;

use alloy_primitives::{Address, B256};
use rusqlite::{Params, Row};
use stele_core::time::Timestamp;

use crate::{
    ChainIndex,
    error::{Attempt as _, Result},
};

/// When and by which transaction something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Transaction.
    pub tx: B256,
    /// Height of its block.
    pub height: u64,
    /// Time of its block.
    pub at: Timestamp,
}

impl Happened {
    /// From three columns `hash, height, time_ms` of `transactions`, beginning at a position.
    pub(crate) fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            tx: hash(row, from)?,
            height: unsigned(row, from + 1)?,
            at: Timestamp(unsigned(row, from + 2)?),
        })
    }

    /// As [`Self::read`], where an outer join may have given nothing.
    pub(crate) fn read_optional(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<Self>> {
        let missing = row.get_ref(from)? == rusqlite::types::ValueRef::Null;
        if missing {
            Ok(None)
        } else {
            Self::read(row, from).map(Some)
        }
    }
}

impl ChainIndex {
    pub(crate) fn list<T>(
        &self,
        what: &'static str,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let reader = self.file().reader()?;
        let mut statement = reader.prepare_cached(sql).attempt(what)?;
        let rows = statement.query_map(values, read).attempt(what)?;
        rows.collect::<rusqlite::Result<_>>().attempt(what)
    }
}

pub(crate) fn hash(row: &Row<'_>, at: usize) -> rusqlite::Result<B256> {
    row.get::<_, [u8; 32]>(at).map(B256::from)
}

pub(crate) fn address(row: &Row<'_>, at: usize) -> rusqlite::Result<Address> {
    row.get::<_, [u8; 20]>(at).map(Address::from)
}

pub(crate) fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}
