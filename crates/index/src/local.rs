//! What exists nowhere else: access receipts, clients, passkeys, sessions, answers, outboxes, the reconcile journal.
//!
//! Owns `local.db`. Every commit is synced before it returns, and no rebuild touches the file. Documents are bytes
//! that the service writes and reads; this module gives them a durable place and an end.

mod desk;
pub mod notices;
mod orders;
pub mod outbox;
mod passkeys;
pub mod receipts;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Params, params};
use stele_core::{crypto::Secret32, time::Timestamp};

use crate::{
    error::{Attempt as _, Result},
    sqlite::{Durability, File},
};
use receipts::ReceiptWriter;

/// The local store: `local.db`.
#[derive(Debug)]
pub struct LocalStore {
    file: File,
    writer: Arc<Mutex<Connection>>,
    receipts: ReceiptWriter,
}

impl LocalStore {
    /// Opens or creates `local.db` and starts the writer of receipts.
    ///
    /// # Errors
    /// As [`crate::Index::open`].
    pub fn open(folder: &Path, key: &Secret32) -> Result<Self> {
        let (file, writer) =
            File::open(folder, "local.db", key, Durability::EveryCommit, MIGRATIONS)?;
        let writer = Arc::new(Mutex::new(writer));
        let receipts = ReceiptWriter::start(Arc::clone(&writer))?;
        Ok(Self {
            file,
            writer,
            receipts,
        })
    }

    /// Keeps a SMART client's registration, in place of an earlier one.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_client(&self, id: &str, document: &[u8]) -> Result<()> {
        self.write(
            "keeping a client",
            "REPLACE INTO clients (id, document) VALUES (?1, ?2)",
            params![id, document],
        )
        .map(drop)
    }

    /// A SMART client's registration.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn client(&self, id: &str) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading a client",
            "SELECT document FROM clients WHERE id = ?1",
            [id],
        )
    }

    /// All SMART clients by id.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn clients(&self) -> Result<Vec<(String, Vec<u8>)>> {
        const WHAT: &str = "listing clients";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached("SELECT id, document FROM clients ORDER BY id")
            .attempt(WHAT)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Forgets a SMART client. True if there was one.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn remove_client(&self, id: &str) -> Result<bool> {
        self.write(
            "forgetting a client",
            "DELETE FROM clients WHERE id = ?1",
            [id],
        )
        .map(|n| n > 0)
    }

    /// Marks an assertion's id as used. False if it was used before: then it must be refused. Ids that have expired
    /// are forgotten, so an assertion must be refused for its expiry first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn use_assertion(
        &self,
        issuer: &str,
        jti: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<bool> {
        const WHAT: &str = "marking an assertion as used";
        self.write(
            WHAT,
            "DELETE FROM used_assertions WHERE expires_ms < ?1",
            [ms(now)],
        )?;
        self.write(
            WHAT,
            "INSERT OR IGNORE INTO used_assertions (issuer, jti, expires_ms) VALUES (?1, ?2, ?3)",
            params![issuer, jti, ms(expires)],
        )
        .map(|written| written == 1)
    }

    /// Keeps a session or a draft until it expires, in place of an earlier one. `id` is a digest of its secret.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_session(&self, id: &[u8; 32], document: &[u8], expires: Timestamp) -> Result<()> {
        self.write(
            "keeping a session",
            "REPLACE INTO sessions (id, document, expires_ms) VALUES (?1, ?2, ?3)",
            params![id, document, ms(expires)],
        )
        .map(drop)
    }

    /// As [`Self::put_session`], for a session of somebody who is signed in.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn put_session_of(
        &self,
        account: Address,
        id: &[u8; 32],
        document: &[u8],
        expires: Timestamp,
    ) -> Result<()> {
        self.write(
            "keeping a session",
            "REPLACE INTO sessions (id, document, expires_ms, account) VALUES (?1, ?2, ?3, ?4)",
            params![id, document, ms(expires), account.as_slice()],
        )
        .map(drop)
    }

    /// Sessions of an account that have not expired: ids and documents.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn sessions_of(&self, account: Address, now: Timestamp) -> Result<Vec<(B256, Vec<u8>)>> {
        const WHAT: &str = "listing sessions";
        let reader = self.file.reader()?;
        let mut statement = reader
            .prepare_cached(
                "SELECT id, document FROM sessions WHERE account = ?1 AND expires_ms > ?2",
            )
            .attempt(WHAT)?;
        let rows = statement
            .query_map(params![account.as_slice(), ms(now)], |row| {
                Ok((B256::from(row.get::<_, [u8; 32]>(0)?), row.get(1)?))
            })
            .attempt(WHAT)?;
        rows.collect::<rusqlite::Result<_>>().attempt(WHAT)
    }

    /// Ends all sessions of an account but one. Gives the number ended.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn end_sessions_of(&self, account: Address, but: &[u8; 32]) -> Result<usize> {
        self.write(
            "ending sessions",
            "DELETE FROM sessions WHERE account = ?1 AND id <> ?2",
            params![account.as_slice(), but],
        )
    }

    /// A session or draft that has not expired.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn session(&self, id: &[u8; 32], now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading a session",
            "SELECT document FROM sessions WHERE id = ?1 AND expires_ms > ?2",
            params![id, ms(now)],
        )
    }

    /// Ends a session or draft.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn end_session(&self, id: &[u8; 32]) -> Result<()> {
        self.write(
            "ending a session",
            "DELETE FROM sessions WHERE id = ?1",
            [id],
        )
        .map(drop)
    }

    /// Remembers the answer to a request that may be repeated. An answer already there stays: the first counts.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn remember_answer(
        &self,
        scope: &str,
        key: &str,
        answer: &[u8],
        expires: Timestamp,
    ) -> Result<()> {
        self.write(
            "remembering an answer",
            "INSERT OR IGNORE INTO answers (scope, key, answer, expires_ms) VALUES (?1, ?2, ?3, ?4)",
            params![scope, key, answer, ms(expires)],
        )
        .map(drop)
    }

    /// The answer given to a request before, if it has not expired.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn answer(&self, scope: &str, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.one(
            "reading an answer",
            "SELECT answer FROM answers WHERE scope = ?1 AND key = ?2 AND expires_ms > ?3",
            params![scope, key, ms(now)],
        )
    }

    /// Forgets an answer, so that the same request is carried out again.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn forget_answer(&self, scope: &str, key: &str) -> Result<()> {
        self.write(
            "forgetting an answer",
            "DELETE FROM answers WHERE scope = ?1 AND key = ?2",
            params![scope, key],
        )
        .map(drop)
    }

    /// Forgets what has expired. Gives the number of rows.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn forget_expired(&self, now: Timestamp) -> Result<usize> {
        const WHAT: &str = "forgetting what has expired";
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM sessions WHERE expires_ms <= ?1",
            "DELETE FROM answers WHERE expires_ms <= ?1",
            "DELETE FROM used_assertions WHERE expires_ms < ?1",
            "DELETE FROM applications WHERE expires_ms <= ?1",
            "DELETE FROM drafts WHERE expires_ms <= ?1",
        ] {
            forgotten += self.write(WHAT, sql, [ms(now)])?;
        }
        Ok(forgotten)
    }

    /// Writes a consistent copy, encrypted under the same key. It opens when it is named `local.db` again.
    ///
    /// # Errors
    /// [`crate::Error::Sql`], also when the file exists.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let path = path.to_string_lossy();
        self.write("copying the local store", "VACUUM INTO ?1", [path.as_ref()])
            .map(drop)
    }

    fn write(&self, what: &'static str, sql: &str, values: impl Params) -> Result<usize> {
        let writer = self.writer.lock();
        let mut statement = writer.prepare_cached(sql).attempt(what)?;
        statement.execute(values).attempt(what)
    }

    fn one(&self, what: &'static str, sql: &str, values: impl Params) -> Result<Option<Vec<u8>>> {
        let reader = self.file.reader()?;
        let mut statement = reader.prepare_cached(sql).attempt(what)?;
        statement
            .query_row(values, |row| row.get(0))
            .optional()
            .attempt(what)
    }
}

const fn ms(time: Timestamp) -> i64 {
    time.0.cast_signed()
}

const MIGRATIONS: &[&str] = &[
    include_str!("schema/local_0001.sql"),
    include_str!("schema/local_0002.sql"),
    include_str!("schema/local_0003.sql"),
    include_str!("schema/local_0004.sql"),
    include_str!("schema/local_0005.sql"),
    include_str!("schema/local_0006.sql"),
];
