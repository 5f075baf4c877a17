//! Encrypted SQLite files: how they are opened, migrated and read by many at once.
//!
//! Every file, its write-ahead log included, is encrypted and authenticated page by page with AEGIS-256
//! (SQLite3 Multiple Ciphers) under a key derived from the index's key and the file's name. There is one writing
//! connection for each file, owned by its store, and as many reading ones as there are readers.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use stele_core::crypto::{Secret32, kdf};
use zeroize::Zeroizing;

use crate::error::{Attempt as _, Error, Result};

/// One database file and the connections that read it.
pub(crate) struct File {
    path: PathBuf,
    key: Secret32,
    durability: Durability,
    attached: Option<Attached>,
    idle: Mutex<Vec<Connection>>,
}

/// Another file that the readers of this one see under a name.
#[derive(Clone)]
pub(crate) struct Attached {
    pub(crate) schema: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) key: Secret32,
}

/// When a commit counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// At once: what cannot be rebuilt.
    EveryCommit,
    /// When the log is next synced. A crash of the process loses nothing, a power failure the last commits,
    /// which are then taken again from the chain or the vault.
    Rebuildable,
}

impl File {
    /// Opens or creates a file and brings it to the newest format.
    pub(crate) fn open(
        folder: &Path,
        name: &'static str,
        index_key: &Secret32,
        durability: Durability,
        migrations: &[&str],
    ) -> Result<(Self, Connection)> {
        let file = Self {
            path: folder.join(name),
            key: kdf::derive(index_key.expose(), "stele/index/file/1", &[name.as_bytes()]),
            durability,
            attached: None,
            idle: Mutex::new(Vec::new()),
        };
        let mut writer =
            file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        file.migrate(&mut writer, migrations)?;
        Ok((file, writer))
    }

    /// As readers of another file attach this one.
    pub(crate) fn as_attached(&self, schema: &'static str) -> Attached {
        Attached {
            schema,
            path: self.path.clone(),
            key: self.key.clone(),
        }
    }

    /// Lets this file's readers see another one.
    pub(crate) fn attach(&mut self, other: Attached) {
        self.attached = Some(other);
    }

    /// A connection for reading; given back when dropped.
    pub(crate) fn reader(&self) -> Result<Reader<'_>> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.new_reader()?,
        };
        Ok(Reader {
            file: self,
            connection: Some(connection),
        })
    }

    /// Attaches the other file to a connection, so that its statements may name both.
    pub(crate) fn attach_to(&self, connection: &Connection) -> Result<()> {
        let Some(other) = &self.attached else {
            return Ok(());
        };
        let statement = Zeroizing::new(format!(
            "ATTACH DATABASE ?1 AS {} KEY 'raw:{}'",
            other.schema,
            *hex_of(&other.key)
        ));
        let path = other.path.to_string_lossy();
        connection
            .execute(&statement, [path.as_ref()])
            .map(drop)
            .map_err(|source| opening(&other.path, source))
    }

    fn new_reader(&self) -> Result<Connection> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        self.attach_to(&connection)?;
        connection
            .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -16384;")
            .attempt("preparing a reader")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    fn connect(&self, flags: OpenFlags) -> Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = |source| opening(&self.path, source);
        let connection = Connection::open_with_flags(&self.path, flags).map_err(fail)?;
        let key = Zeroizing::new(format!(
            "PRAGMA cipher = 'aegis'; PRAGMA aegis_algorithm = 'aegis-256'; PRAGMA key = 'raw:{}';",
            *hex_of(&self.key)
        ));
        connection.execute_batch(&key).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        // Plans that look at bound values are made again for each value, which costs more than most of our questions.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(fail)?;
        let synchronous = match self.durability {
            Durability::EveryCommit => "FULL",
            Durability::Rebuildable => "NORMAL",
        };
        // The first statement that reads a page is the one that finds a wrong key.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -65536;
                 PRAGMA wal_autocheckpoint = 8192;
                 PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;"
            ))
            .map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// Runs the migrations that the file has not seen, each with its number in one transaction.
    fn migrate(&self, writer: &mut Connection, migrations: &[&str]) -> Result<()> {
        const WHAT: &str = "bringing the file to the newest format";
        let found: u32 = writer
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|source| opening(&self.path, source))?;
        let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
        if found > known {
            return Err(Error::Newer {
                path: self.path.clone(),
                found,
                known,
            });
        }
        for (number, migration) in (1_u32..)
            .zip(migrations)
            .filter(|(number, _)| *number > found)
        {
            let step = writer.transaction().attempt(WHAT)?;
            step.execute_batch(migration).attempt(WHAT)?;
            step.pragma_update(None, "user_version", number)
                .attempt(WHAT)?;
            step.commit().attempt(WHAT)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A connection on loan from a [`File`].
pub(crate) struct Reader<'a> {
    file: &'a File,
    connection: Option<Connection>,
}

impl Deref for Reader<'_> {
    type Target = Connection;

    #[expect(
        clippy::expect_used,
        reason = "the connection is taken only when the loan is dropped"
    )]
    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("a loan holds its connection")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut idle = self.file.idle.lock();
        // Some questions are asked without waiting for a turn; theirs are kept as well.
        if idle.len() < readers_at_once().saturating_mul(2) {
            idle.extend(self.connection.take());
        }
    }
}

/// Moves everything of the write-ahead log into the file, overwriting what was deleted. Of the connection's own file
/// only: the log of an attached one is in use by whoever writes that.
pub(crate) fn checkpoint(writer: &Connection) -> Result<()> {
    writer
        .query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .attempt("moving the write-ahead log into the file")
}

fn opening(path: &Path, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::Key {
            path: path.to_owned(),
        },
        _ => Error::Open {
            path: path.to_owned(),
            source,
        },
    }
}

fn hex_of(key: &Secret32) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(key.expose()))
}

/// How long a statement waits for another one's lock. Only the reset of a log by a checkpoint makes it wait.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// Reading connections kept open between searches, and so how many readers there should be at once. Each holds at
/// most 16 MiB of pages, decrypted.
#[must_use]
pub fn readers_at_once() -> usize {
    /// Twice the processors keeps them busy while some readers wait for the disk.
    const LEAST: usize = 4;
    /// Asked once: the answer is read from the control groups' files, which costs more than a small question.
    static READERS: LazyLock<usize> = LazyLock::new(|| {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        processors.saturating_mul(2).max(LEAST)
    });
    *READERS
}

/// Prepared statements kept by each connection: the shapes of searches seen lately.
const STATEMENTS: usize = 256;
