//! Notices: what people were told and how they want to be told, and how far the ledger has been followed for them.

use alloy_primitives::Address;
use rusqlite::{OptionalExtension as _, params};
use stele_core::time::Timestamp;

use super::{LocalStore, ms};
use crate::error::{Attempt as _, Result};

/// A notice as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number; later ones are higher.
    pub id: i64,
    /// What it came of.
    pub source: String,
    /// The notice, as the service wrote it.
    pub document: Vec<u8>,
}

impl LocalStore {
    /// Keeps how a person wants to be told, in place of what was kept before.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_notice_settings(&self, account: Address, document: &[u8]) -> Result<()> {
        self.write(
            "keeping notice settings",
            "REPLACE INTO notice_settings (account, document) VALUES (?1, ?2)",
            params![account.as_slice(), document],
        )
        .map(drop)
    }

    /// How a person wants to be told.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn notice_settings(&self, account: Address) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading notice settings",
            "SELECT document FROM notice_settings WHERE account = ?1",
            [account.as_slice()],
        )
    }

    /// Keeps a notice and puts what is to be sent of it into outboxes, both or neither: queue, payload, due. False if
    /// there is one of the same source already; then nothing is done.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn add_notice(
        &self,
        account: Address,
        source: &str,
        document: &[u8],
        at: Timestamp,
        sent: &[(&str, Vec<u8>, Timestamp)],
    ) -> Result<bool> {
        const WHAT: &str = "keeping a notice";
        let mut writer = self.writer.lock();
        let transaction = writer.transaction().attempt(WHAT)?;
        let added = transaction
            .execute(
                "INSERT OR IGNORE INTO notices (account, source, document, at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![account.as_slice(), source, document, ms(at)],
            )
            .attempt(WHAT)?;
        if added == 1 {
            for (queue, payload, due) in sent {
                transaction
                    .execute(
                        "INSERT INTO outbox (queue, payload, due_ms, attempts) VALUES (?1, ?2, ?3, 0)",
                        params![queue, payload, ms(*due)],
                    )
                    .attempt(WHAT)?;
            }
        }
        transaction.commit().attempt(WHAT)?;
        Ok(added == 1)
    }

    /// A person's notices, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn notices_of(&self, account: Address, limit: u32) -> Result<Vec<Kept>> {
        const WHAT: &str = "listing notices";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT id, source, document FROM notices WHERE account = ?1 ORDER BY at_ms DESC, id DESC LIMIT ?2",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![account.as_slice(), limit], |row| {
                Ok(Kept {
                    id: row.get(0)?,
                    source: row.get(1)?,
                    document: row.get(2)?,
                })
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Number of a person's notices whose source begins so.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn count_notices(&self, account: Address, beginning: &str) -> Result<u64> {
        const WHAT: &str = "counting notices";
        let reader = self.file.reader()?;
        let count: i64 = reader
            .query_row(
                "SELECT count(*) FROM notices WHERE account = ?1 AND substr(source, 1, length(?2)) = ?2",
                params![account.as_slice(), beginning],
                |row| row.get(0),
            )
            .attempt(WHAT)?;
        Ok(count.cast_unsigned())
    }

    /// Forgets notices older than a moment. Gives their number.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn forget_notices(&self, before: Timestamp) -> Result<usize> {
        self.write(
            "forgetting notices",
            "DELETE FROM notices WHERE at_ms < ?1",
            [ms(before)],
        )
    }

    /// How far something has been followed.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn mark(&self, name: &str) -> Result<Option<u64>> {
        const WHAT: &str = "reading a mark";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT number FROM marks WHERE name = ?1")
            .attempt(WHAT)?;
        let number: Option<i64> = statement
            .query_row([name], |row| row.get(0))
            .optional()
            .attempt(WHAT)?;
        Ok(number.map(i64::cast_unsigned))
    }

    /// Keeps how far something has been followed.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_mark(&self, name: &str, number: u64) -> Result<()> {
        self.write(
            "keeping a mark",
            "REPLACE INTO marks (name, number) VALUES (?1, ?2)",
            params![name, number.cast_signed()],
        )
        .map(drop)
    }
}
