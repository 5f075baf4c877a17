//! What can go wrong in the index.

use std::{path::PathBuf, sync::Arc};

use alloy_primitives::B256;

/// Why the index could not do what was asked. No variant carries a clinical value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or prepared.
    #[error("opening {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is not a database under this key: another key, or damaged from the first page on.
    #[error("{} does not open with this key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version of the program.
    #[error("{} has format {found}; this version of Stele knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// Newest format this program knows.
        known: u32,
    },
    /// A statement failed.
    #[error("{what}")]
    Sql {
        /// What was attempted.
        what: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Blocks were left out.
    #[error("following the chain: block {expected} comes next, not {found}")]
    Gap {
        /// Height that comes next.
        expected: u64,
        /// Height given.
        found: u64,
    },
    /// The index has followed another chain.
    #[error("following the chain: block {height} is {found}, the index has followed {known}")]
    Diverged {
        /// Height.
        height: u64,
        /// Hash that the index has seen there.
        known: B256,
        /// Hash given.
        found: B256,
    },
    /// A system contract's log does not fit its published event.
    #[error("block {height}: a log of {contract} is not one of its events")]
    Event {
        /// Height of the block.
        height: u64,
        /// Name of the contract.
        contract: &'static str,
        /// What the decoder said.
        #[source]
        source: alloy_sol_types::Error,
    },
    /// A version was given that cannot be: see the text.
    #[error("indexing version {version} of a {resource_type}: {problem}")]
    Version {
        /// FHIR resource type.
        resource_type: String,
        /// Version number.
        version: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// The resource type is none of FHIR R4.
    #[error("{0:?} is not a FHIR R4 resource type")]
    ResourceType(String),
    /// A paging cursor was not made by this index for this query.
    #[error("the page cursor is not one of this search")]
    Cursor,
    /// A stored value has not the form it was written in.
    #[error("{what}: the index holds {problem}")]
    Corrupt {
        /// What was attempted.
        what: &'static str,
        /// What was found.
        problem: String,
    },
    /// A group of access receipts was not written.
    #[error("appending an access receipt")]
    Append(#[source] Arc<Self>),
    /// The writer of access receipts has ended; nothing was written.
    #[error("appending an access receipt: the writer has ended")]
    Closed,
}

impl Error {
    /// Stable code for logs and interfaces.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "index-open",
            Self::Key { .. } => "index-key",
            Self::Newer { .. } => "index-newer",
            Self::Sql { .. } => "index-sql",
            Self::Gap { .. } => "index-gap",
            Self::Diverged { .. } => "index-diverged",
            Self::Event { .. } => "index-event",
            Self::Version { .. } => "index-version",
            Self::ResourceType(_) => "index-type",
            Self::Cursor => "index-cursor",
            Self::Corrupt { .. } => "index-corrupt",
            Self::Append(_) => "index-append",
            Self::Closed => "index-closed",
        }
    }

    /// Whether the same call may succeed later without anyone acting: a busy or full disk.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory};
        let source = match self {
            Self::Sql { source, .. } | Self::Open { source, .. } => source,
            Self::Append(source) => return source.is_retryable(),
            _ => return false,
        };
        matches!(
            source.sqlite_error_code(),
            Some(DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory)
        )
    }

    /// What a person outside may be told.
    #[must_use]
    pub const fn public_message(&self) -> &'static str {
        match self {
            Self::Cursor => "This page link is not valid for this search. Start the search again.",
            Self::ResourceType(_) => "This is not a FHIR R4 resource type.",
            Self::Open { .. }
            | Self::Key { .. }
            | Self::Newer { .. }
            | Self::Sql { .. }
            | Self::Gap { .. }
            | Self::Diverged { .. }
            | Self::Event { .. }
            | Self::Version { .. }
            | Self::Corrupt { .. }
            | Self::Append(_)
            | Self::Closed => {
                "The index cannot answer now. Try again; if it persists, tell the operator."
            }
        }
    }
}

/// Result with the index's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was attempted when a statement fails.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: &'static str) -> Result<T>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::Sql { what, source })
    }
}
