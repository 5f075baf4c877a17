//! Search values of the resources this organisation may open, and the searches over them.
//!
//! Owns `search.db`. It is filled by [`SearchIndex::put`] after a record is anchored, and holds nothing that the
//! vault does not: it can be emptied and filled again with the same answers. One writer at a time; readers run
//! beside it on connections of their own and see `chain.db` attached as `chain`, where the grants are.

mod compile;
mod condition;
mod cursor;
mod dictionary;
mod driver;
mod forget;
mod keys;
mod lists;
mod page;
mod put;
mod row;
mod timeline;
mod value;
mod viewer;

#[cfg(test)]
mod tests;

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::Connection;
use stele_core::crypto::{Secret32, kdf};
use stele_fhir::search::catalogue::Catalogue;

pub use page::{INCLUDES_MAX, Page};
pub use put::{NewVersion, Placement};
pub use row::ResourceVersion;
pub use timeline::{Ended, Listing};
pub use viewer::Viewer;

use crate::{
    ChainIndex,
    error::{Attempt as _, Result},
    sqlite::{Durability, File, checkpoint},
};
use dictionary::Dictionary;

/// The search index.
pub struct SearchIndex {
    file: File,
    writer: Mutex<Writer>,
    cursor_key: Secret32,
}

/// The writing connection and what it remembers of the dictionaries.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) dictionary: Dictionary,
}

/// How much the index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Resources whose newest version is not deleted.
    pub resources: u64,
    /// Versions of all resources.
    pub versions: u64,
}

impl SearchIndex {
    /// Opens or creates `search.db`. Consent is read from `chain`'s file.
    ///
    /// An index made with another table of search parameters is emptied, because its parameter numbers mean
    /// something else; [`Self::is_complete`] then says that it must be filled again.
    ///
    /// # Errors
    /// As [`crate::Index::open`].
    pub fn open(folder: &Path, key: &Secret32, chain: &ChainIndex) -> Result<Self> {
        let (mut file, connection) = File::open(
            folder,
            "search.db",
            key,
            Durability::Rebuildable,
            MIGRATIONS,
        )?;
        file.attach(chain.file().as_attached("chain"));
        file.attach_to(&connection)?;
        let index = Self {
            file,
            writer: Mutex::new(Writer {
                connection,
                dictionary: Dictionary::default(),
            }),
            cursor_key: kdf::derive(key.expose(), "stele/index/cursor/1", &[]),
        };
        if index.meta("catalogue")? != Some(catalogue_number()) {
            index.clear()?;
        }
        Ok(index)
    }

    /// Whether the index was filled to the end: false after [`Self::clear`] until [`Self::mark_complete`].
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn is_complete(&self) -> Result<bool> {
        Ok(self.meta("complete")? == Some(1))
    }

    /// Says that the index has been filled from the vault.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn mark_complete(&self) -> Result<()> {
        self.writer
            .lock()
            .connection
            .execute("REPLACE INTO meta (key, value) VALUES ('complete', 1)", [])
            .map(drop)
            .attempt("marking the search index complete")
    }

    /// Empties the index, to be filled again from the vault.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn clear(&self) -> Result<()> {
        const WHAT: &str = "emptying the search index";
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        writer.dictionary.forget();
        let step = writer.connection.transaction().attempt(WHAT)?;
        for table in TABLES {
            step.execute(&format!("DELETE FROM {table}"), [])
                .attempt(WHAT)?;
        }
        // A contentless table is emptied by its own command.
        step.execute("INSERT INTO texts (texts) VALUES ('delete-all')", [])
            .attempt(WHAT)?;
        step.execute(
            "INSERT INTO meta (key, value) VALUES ('catalogue', ?1), ('complete', 0)",
            [catalogue_number()],
        )
        .attempt(WHAT)?;
        step.commit().attempt(WHAT)?;
        checkpoint(&writer.connection)
    }

    /// How much the index holds.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn stats(&self) -> Result<SearchStats> {
        const WHAT: &str = "counting resources";
        let reader = self.file.reader()?;
        let count = |sql: &str| -> Result<u64> {
            reader
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map(i64::cast_unsigned)
                .attempt(WHAT)
        };
        Ok(SearchStats {
            resources: count("SELECT count(*) FROM resources WHERE is_deleted = 0")?,
            versions: count("SELECT count(*) FROM versions")?,
        })
    }

    fn meta(&self, key: &str) -> Result<Option<i64>> {
        use rusqlite::OptionalExtension as _;
        let writer = self.writer.lock();
        writer
            .connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
            .attempt("reading the state of the search index")
    }
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchIndex")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Fingerprint of the table of search parameters, as SQLite stores numbers.
fn catalogue_number() -> i64 {
    Catalogue::r4().fingerprint().cast_signed()
}

const MIGRATIONS: &[&str] = &[
    include_str!("schema/search_0001.sql"),
    include_str!("schema/search_0002.sql"),
];

/// Every table but the full-text one.
const TABLES: [&str; 11] = [
    "meta",
    "accounts",
    "names",
    "concepts",
    "resources",
    "versions",
    "tokens",
    "refs",
    "strings",
    "ranges",
    "composites",
];
