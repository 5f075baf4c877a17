//! Slips of tests that were ordered from a laboratory.

use alloy_primitives::Address;
use rusqlite::params;
use stele_core::time::Timestamp;

use super::{LocalStore, ms};
use crate::error::{Attempt as _, Result};

impl LocalStore {
    /// Keeps a slip, in place of an earlier state of it.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_order(
        &self,
        id: &str,
        laboratory: Address,
        document: &[u8],
        is_open: bool,
        at: Timestamp,
    ) -> Result<()> {
        self.write(
            "keeping an order",
            "REPLACE INTO orders (id, laboratory, document, is_open, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, laboratory.as_slice(), document, is_open, ms(at)],
        )
        .map(drop)
    }

    /// A slip.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn order(&self, id: &str) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading an order",
            "SELECT document FROM orders WHERE id = ?1",
            [id],
        )
    }

    /// Slips of a laboratory: those that wait, oldest first, or those that are answered, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn orders_of(
        &self,
        laboratory: Address,
        is_open: bool,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>> {
        const WHAT: &str = "listing orders";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(if is_open {
                "SELECT document FROM orders WHERE laboratory = ?1 AND is_open = 1 ORDER BY at_ms, id LIMIT ?2"
            } else {
                "SELECT document FROM orders WHERE laboratory = ?1 AND is_open = 0 ORDER BY at_ms DESC, id LIMIT ?2"
            })
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![laboratory.as_slice(), limit], |row| row.get(0))
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }
}
