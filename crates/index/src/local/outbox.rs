//! Work for later and work begun: durable queues and the reconcile journal.

use rusqlite::{OptionalExtension as _, params};
use stele_core::time::Timestamp;

use super::{LocalStore, ms};
use crate::error::{Attempt as _, Result};

/// One entry of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// What is to be done, as the service wrote it.
    pub payload: Vec<u8>,
    /// How often it was tried.
    pub attempts: u32,
}

impl LocalStore {
    /// Puts something into an outbox, to be done from a moment on. Durable when this returns.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn push(&self, queue: &str, payload: &[u8], due: Timestamp) -> Result<i64> {
        const WHAT: &str = "putting into an outbox";
        let writer = self.writer.lock();
        let mut statement = writer
            .prepare_cached(
                "INSERT INTO outbox (queue, payload, due_ms, attempts) VALUES (?1, ?2, ?3, 0)",
            )
            .attempt(WHAT)?;
        statement
            .insert(params![queue, payload, ms(due)])
            .attempt(WHAT)
    }

    /// What is due in an outbox, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn due(&self, queue: &str, now: Timestamp, limit: u32) -> Result<Vec<Entry>> {
        const WHAT: &str = "reading an outbox";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT id, payload, attempts FROM outbox WHERE queue = ?1 AND due_ms <= ?2
                 ORDER BY due_ms, id LIMIT ?3",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![queue, ms(now), limit], |row| {
                Ok(Entry {
                    id: row.get(0)?,
                    payload: row.get(1)?,
                    attempts: row.get(2)?,
                })
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Puts an entry off after a failed attempt.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_off(&self, entry: i64, due: Timestamp) -> Result<()> {
        self.write(
            "putting off an outbox entry",
            "UPDATE outbox SET due_ms = ?2, attempts = attempts + 1 WHERE id = ?1",
            params![entry, ms(due)],
        )
        .map(drop)
    }

    /// Names of the outboxes that hold something and begin with a text.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn queues(&self, beginning: &str) -> Result<Vec<String>> {
        const WHAT: &str = "listing outboxes";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT DISTINCT queue FROM outbox WHERE substr(queue, 1, length(?1)) = ?1 ORDER BY queue",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map([beginning], |row| row.get(0))
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// An entry by its number, with the name of its outbox.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn entry(&self, id: i64) -> Result<Option<(String, Entry)>> {
        const WHAT: &str = "reading an outbox entry";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT queue, id, payload, attempts FROM outbox WHERE id = ?1")
            .attempt(WHAT)?;
        statement
            .query_row([id], |row| {
                let entry = Entry {
                    id: row.get(1)?,
                    payload: row.get(2)?,
                    attempts: row.get(3)?,
                };
                Ok((row.get(0)?, entry))
            })
            .optional()
            .attempt(WHAT)
    }

    /// How many entries an outbox holds.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn count(&self, queue: &str) -> Result<u64> {
        const WHAT: &str = "counting an outbox";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT COUNT(*) FROM outbox WHERE queue = ?1")
            .attempt(WHAT)?;
        let count: i64 = statement
            .query_row([queue], |row| row.get(0))
            .attempt(WHAT)?;
        Ok(count.cast_unsigned())
    }

    /// Moves an entry to another outbox with another payload, at once or not at all; its attempts count anew.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn transfer(&self, entry: i64, queue: &str, payload: &[u8]) -> Result<()> {
        self.write(
            "moving an outbox entry",
            "UPDATE outbox SET queue = ?2, payload = ?3, attempts = 0 WHERE id = ?1",
            params![entry, queue, payload],
        )
        .map(drop)
    }

    /// Takes an entry out of its outbox: it is done.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn done(&self, entry: i64) -> Result<()> {
        self.write(
            "finishing an outbox entry",
            "DELETE FROM outbox WHERE id = ?1",
            [entry],
        )
        .map(drop)
    }

    /// Notes that a piece of work has begun. Durable when this returns.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn begin(&self, kind: &str, state: &[u8]) -> Result<i64> {
        const WHAT: &str = "beginning a journal entry";
        let writer = self.writer.lock();
        let mut statement = writer
            .prepare_cached("INSERT INTO journal (kind, state) VALUES (?1, ?2)")
            .attempt(WHAT)?;
        statement.insert(params![kind, state]).attempt(WHAT)
    }

    /// Notes how far a piece of work has come.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn advance(&self, work: i64, state: &[u8]) -> Result<()> {
        self.write(
            "advancing a journal entry",
            "UPDATE journal SET state = ?2 WHERE id = ?1",
            params![work, state],
        )
        .map(drop)
    }

    /// Notes that a piece of work is finished.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn finish(&self, work: i64) -> Result<()> {
        self.write(
            "finishing a journal entry",
            "DELETE FROM journal WHERE id = ?1",
            [work],
        )
        .map(drop)
    }

    /// Work of a kind that was begun and not finished, oldest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn unfinished(&self, kind: &str) -> Result<Vec<(i64, Vec<u8>)>> {
        const WHAT: &str = "listing unfinished work";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT id, state FROM journal WHERE kind = ?1 ORDER BY id")
            .attempt(WHAT)?;
        let rows = statement
            .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }
}
