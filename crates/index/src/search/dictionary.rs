//! Names, concepts and accounts by number: texts that occur often are stored once.

use std::collections::HashMap;

use alloy_primitives::Address;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params};

use crate::error::{Attempt as _, Result};

/// Numbers that the writer has looked up or given lately.
#[derive(Default)]
pub(crate) struct Dictionary {
    names: HashMap<Box<[u8]>, i64>,
    concepts: HashMap<Box<[u8]>, i64>,
    accounts: HashMap<Address, i64>,
    key: Vec<u8>,
}

impl Dictionary {
    /// Forgets everything: after a transaction that was not committed, numbers may never have been given.
    pub(crate) fn forget(&mut self) {
        self.names.clear();
        self.concepts.clear();
        self.accounts.clear();
    }

    /// Number of a resource (or, with type 0, of a URI).
    pub(crate) fn name(&mut self, db: &Connection, kind: i64, logical: &str) -> Result<i64> {
        self.key.clear();
        self.key.extend_from_slice(&kind.to_be_bytes());
        self.key.extend_from_slice(logical.as_bytes());
        if let Some(number) = self.names.get(self.key.as_slice()) {
            return Ok(*number);
        }
        let number = find_or_add(
            db,
            "SELECT id FROM names WHERE logical = ?1 AND type = ?2",
            "INSERT INTO names (logical, type) VALUES (?1, ?2)",
            (logical, kind),
        )?;
        remember(&mut self.names, &self.key, number);
        Ok(number)
    }

    /// Number of a code with its system and words.
    pub(crate) fn concept(
        &mut self,
        db: &Connection,
        system: &str,
        code: &str,
        text: &str,
    ) -> Result<i64> {
        self.key.clear();
        for part in [system, code] {
            self.key.extend_from_slice(&part.len().to_be_bytes());
            self.key.extend_from_slice(part.as_bytes());
        }
        self.key.extend_from_slice(text.as_bytes());
        if let Some(number) = self.concepts.get(self.key.as_slice()) {
            return Ok(*number);
        }
        let number = find_or_add(
            db,
            "SELECT id FROM concepts WHERE code = ?1 AND system = ?2 AND text = ?3",
            "INSERT INTO concepts (code, system, text) VALUES (?1, ?2, ?3)",
            (code, system, text),
        )?;
        remember(&mut self.concepts, &self.key, number);
        Ok(number)
    }

    /// Number of a log's account.
    pub(crate) fn account(&mut self, db: &Connection, account: Address) -> Result<i64> {
        if let Some(number) = self.accounts.get(&account) {
            return Ok(*number);
        }
        let number = find_or_add(
            db,
            "SELECT id FROM accounts WHERE address = ?1",
            "INSERT INTO accounts (address) VALUES (?1)",
            [account.as_slice()],
        )?;
        if self.accounts.len() >= REMEMBERED {
            self.accounts.clear();
        }
        self.accounts.insert(account, number);
        Ok(number)
    }
}

fn remember(map: &mut HashMap<Box<[u8]>, i64>, key: &[u8], number: i64) {
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map.insert(key.into(), number);
}

fn find_or_add(db: &Connection, find: &str, add: &str, key: impl Params + Copy) -> Result<i64> {
    const WHAT: &str = "looking up a number in a dictionary";
    let mut find: CachedStatement<'_> = db.prepare_cached(find).attempt(WHAT)?;
    if let Some(number) = find
        .query_row(key, |row| row.get(0))
        .optional()
        .attempt(WHAT)?
    {
        return Ok(number);
    }
    db.prepare_cached(add)
        .attempt(WHAT)?
        .insert(key)
        .attempt(WHAT)
}

/// Entries of each kind kept in memory: about 20 MB at 100 bytes each, and 50,000 resources fit.
const REMEMBERED: usize = 100_000;
