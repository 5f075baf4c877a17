//! What can go wrong in the vault.

use std::{path::PathBuf, sync::Arc};

use cid::Cid;
use stele_core::{
    crypto, element,
    id::{LogId, RecordId},
};

/// Result of a vault operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a vault operation failed. No variant carries plaintext or key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The database refused. Shared by all writes of one commit.
    #[error("{attempt} in the vault's database")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: Arc<fjall::Error>,
    },
    /// The database's own files are damaged, so that it cannot be opened.
    #[error("the vault's files cannot be read")]
    Unreadable(#[source] stele_disk::Error),
    /// Bytes of the database are not what was written: a checksum or a frame of its own is wrong.
    #[error("the vault's table of {table} is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        #[source]
        source: Arc<fjall::Error>,
    },
    /// The object store refused.
    #[error("{attempt} in the object store")]
    Objects {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: object_store::Error,
    },
    /// There is too little room to write safely. Reads go on.
    #[error(
        "the disk under {path} has {available_bytes} bytes left, less than the reserve of {reserve_bytes}"
    )]
    DiskFull {
        /// The vault's folder.
        path: PathBuf,
        /// Bytes left.
        available_bytes: u64,
        /// Bytes that must stay free.
        reserve_bytes: u64,
    },
    /// The vault is being closed.
    #[error("the vault is closed")]
    Closed,
    /// Stored bytes are not what their address says.
    #[error("the stored blob {cid} does not match its address")]
    Mismatch {
        /// The address.
        cid: Cid,
    },
    /// A blob is not here.
    #[error("the blob {cid} is not stored here")]
    MissingBlob {
        /// The address.
        cid: Cid,
    },
    /// A record's content is not what its leaf commits to.
    #[error("record {record} version {version} does not match what was anchored")]
    RecordMismatch {
        /// The record.
        record: RecordId,
        /// Its version.
        version: u32,
    },
    /// A record version is not here.
    #[error("record {record} version {version} is not stored here")]
    MissingRecord {
        /// The record.
        record: RecordId,
        /// Its version.
        version: u32,
    },
    /// A record version exists already; records are never written over.
    #[error("record {record} version {version} is already stored")]
    Exists {
        /// The record.
        record: RecordId,
        /// Its version.
        version: u32,
    },
    /// The record's keys were destroyed.
    #[error("record {record} was erased")]
    Erased {
        /// The record.
        record: RecordId,
    },
    /// The reader holds no key for the place a record was sealed to.
    #[error("no key is held for log {log}, slot {slot}, generation {generation}, epoch {epoch}")]
    NoKey {
        /// The log.
        log: LogId,
        /// The category slot.
        slot: u8,
        /// The key generation.
        generation: u32,
        /// The epoch, months since January 1970.
        epoch: u16,
    },
    /// No root key or directory of this log is known, so nothing can be sealed for it.
    #[error("no keys are known for log {log}")]
    UnknownLog {
        /// The log.
        log: LogId,
    },
    /// A key that must not be replaced exists already.
    #[error("a key for {owner} is already kept")]
    KeyExists {
        /// Whose.
        owner: alloy_primitives::Address,
    },
    /// A category or epoch is out of range.
    #[error("{what} is limited to {limit}")]
    OutOfRange {
        /// What.
        what: &'static str,
        /// The largest value.
        limit: u64,
    },
    /// The custodian refused: there is no live consent.
    #[error("releasing record {record}: {reason}")]
    Refused {
        /// The record.
        record: RecordId,
        /// Why, in the words of the one who judged.
        reason: String,
    },
    /// The custodian refused: no durable receipt covers this access.
    #[error("releasing record {record}: no durable access receipt covers it")]
    NoReceipt {
        /// The record.
        record: RecordId,
    },
    /// The custodian refused: its view of the ledger is too old.
    #[error("the last finalized block is {age_ms} ms old, more than the allowed {limit_ms} ms")]
    Stale {
        /// Age of the last finalized block.
        age_ms: u64,
        /// The bound.
        limit_ms: u64,
    },
    /// Another member's custodian keeps the pepper and can't be asked now.
    #[error("the custodian of {custodian} can't be asked: {problem}")]
    CustodianAway {
        /// The organisation that keeps it.
        custodian: alloy_primitives::Address,
        /// Why not.
        problem: String,
    },
    /// The access receipt could not be made durable, so nothing was released.
    #[error("writing the access receipt")]
    Receipt {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A cryptographic operation failed.
    #[error("{attempt}")]
    Crypto {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        source: crypto::Error,
    },
    /// A resource is no JSON that an element tree can be built over.
    #[error("building the element tree of record {record}")]
    Element {
        /// The record.
        record: RecordId,
        /// Why it failed.
        #[source]
        source: element::Error,
    },
    /// Stored or received bytes have not the shape they should have.
    #[error("reading {what}: {problem}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Compressed content could not be expanded, or expands beyond its limit.
    #[error("expanding record {record} version {version}")]
    Expand {
        /// The record.
        record: RecordId,
        /// Its version.
        version: u32,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Stable code of the error, for logs and front ends.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "vault-io",
            Self::Database { .. } => "vault-database",
            Self::Unreadable(_) => "vault-unreadable",
            Self::Damaged { .. } => "vault-damaged",
            Self::Objects { .. } => "vault-objects",
            Self::DiskFull { .. } => "vault-disk-full",
            Self::Closed => "vault-closed",
            Self::Mismatch { .. } => "vault-blob-mismatch",
            Self::MissingBlob { .. } => "vault-blob-missing",
            Self::RecordMismatch { .. } => "vault-record-mismatch",
            Self::MissingRecord { .. } => "vault-record-missing",
            Self::Exists { .. } => "vault-record-exists",
            Self::Erased { .. } => "vault-record-erased",
            Self::NoKey { .. } => "vault-no-key",
            Self::UnknownLog { .. } => "vault-unknown-log",
            Self::KeyExists { .. } => "vault-key-exists",
            Self::OutOfRange { .. } => "vault-out-of-range",
            Self::Refused { .. } => "vault-refused",
            Self::NoReceipt { .. } => "vault-no-receipt",
            Self::Stale { .. } => "vault-stale",
            Self::CustodianAway { .. } => "vault-custodian-away",
            Self::Receipt { .. } => "vault-receipt",
            Self::Crypto { .. } => "vault-crypto",
            Self::Element { .. } => "vault-element",
            Self::Malformed { .. } => "vault-malformed",
            Self::Expand { .. } => "vault-expand",
        }
    }

    /// Whether the same call may succeed later without anything being changed by the caller.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. }
                | Self::Closed
                | Self::Stale { .. }
                | Self::CustodianAway { .. }
                | Self::Objects { .. }
        )
    }

    /// What a caller may be told: no identifiers, no internals, and what to do next.
    #[must_use]
    pub const fn public_message(&self) -> &'static str {
        match self {
            Self::DiskFull { .. } => {
                "The store is full. Reading goes on; ask the operator for room."
            }
            Self::Mismatch { .. }
            | Self::RecordMismatch { .. }
            | Self::Damaged { .. }
            | Self::Expand { .. } => {
                "The stored bytes do not match what was anchored; the record is withheld."
            }
            Self::MissingBlob { .. } | Self::MissingRecord { .. } => {
                "The record is not stored here."
            }
            Self::Exists { .. } => "This version of the record exists already.",
            Self::Erased { .. } => "The record was erased.",
            Self::NoKey { .. } | Self::Refused { .. } | Self::NoReceipt { .. } => {
                "The record may not be read. Ask the patient for access."
            }
            Self::Stale { .. } => {
                "The ledger has not been heard of for too long. Try again shortly."
            }
            Self::CustodianAway { .. } => {
                "The hospital that keeps this record can't be reached. Try again shortly."
            }
            Self::Element { .. } => "The resource is not valid JSON.",
            Self::Io { .. }
            | Self::Unreadable(_)
            | Self::Database { .. }
            | Self::Objects { .. }
            | Self::Closed
            | Self::UnknownLog { .. }
            | Self::KeyExists { .. }
            | Self::OutOfRange { .. }
            | Self::Receipt { .. }
            | Self::Crypto { .. }
            | Self::Malformed { .. } => "The vault could not do this. Ask the operator.",
        }
    }

    /// For `map_err` on database calls.
    pub(crate) fn database(attempt: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Database {
            attempt,
            source: Arc::new(source),
        }
    }

    /// For `map_err` on reads of a table: tells damage from a database that could not be reached.
    pub(crate) fn reading(table: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        use fjall::{Error as Fjall, LsmError as Lsm};
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        move |error| {
            let is_damage = match &error {
                Fjall::Io(error) | Fjall::Storage(Lsm::Io(error)) => {
                    matches!(error.kind(), InvalidData | UnexpectedEof)
                }
                Fjall::Poisoned | Fjall::KeyspaceDeleted | Fjall::Locked => false,
                _ => true,
            };
            let source = Arc::new(error);
            if is_damage {
                Self::Damaged { table, source }
            } else {
                Self::Database {
                    attempt: "reading",
                    source,
                }
            }
        }
    }

    /// For `map_err` on object store calls.
    pub(crate) fn objects(attempt: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Objects { attempt, source }
    }

    /// For `map_err` on cryptographic calls.
    pub(crate) fn crypto(attempt: &'static str) -> impl FnOnce(crypto::Error) -> Self {
        move |source| Self::Crypto { attempt, source }
    }

    /// For `map_err` on file calls.
    pub(crate) fn io(
        attempt: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }
}
