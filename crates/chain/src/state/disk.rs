//! The store on disk, over fjall.
//!
//! Fjall checks a checksum for every block it reads from a table file and for every batch it replays from its
//! journal, but not the batch's sequence number nor whether its tail was cut. What the chain reads is therefore
//! checked again one level up: trie nodes by their hash, rows by a checksum, the last height by the head marker.

use std::path::Path;

use alloy_primitives::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{
    Error,
    store::{Batch, Reader, Row, Store, Table},
};

/// Size limits of the store, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Cache of blocks read from disk.
    pub cache_bytes: u64,
    /// Writes kept in memory before they go to a table file, for each of the two node tables.
    pub node_buffer_bytes: u64,
    /// The same for every other table.
    pub row_buffer_bytes: u64,
}

impl Default for DiskOptions {
    /// Small enough for a node to stay under 300 MB, large enough for 2,000 keys a block.
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            node_buffer_bytes: 32 << 20,
            row_buffer_bytes: 8 << 20,
        }
    }
}

/// A [`Store`] in a folder.
pub struct DiskStore {
    database: Database,
    tables: Tables,
}

#[derive(Clone)]
struct Tables(Vec<Keyspace>);

impl Tables {
    fn keyspace(&self, table: Table) -> Result<&Keyspace, Error> {
        self.0
            .get(table as usize)
            .ok_or(Error::Invariant("a table of the store was not opened"))
    }
}

impl DiskStore {
    /// Opens the store in `folder`, creating it if there is none.
    ///
    /// # Errors
    /// [`Error::Store`] if it is locked or can't be reached, [`Error::Unreadable`] if it is damaged.
    pub fn open(folder: &Path, options: DiskOptions) -> Result<Self, Error> {
        stele_disk::open(folder, |folder| Self::open_tables(folder, options)).map_err(|error| {
            match error {
                stele_disk::Error::Engine(error) => failed("opening", error),
                source => Error::Unreadable {
                    action: "opening",
                    source: Box::new(source),
                },
            }
        })
    }

    fn open_tables(folder: &Path, options: DiskOptions) -> Result<Self, fjall::Error> {
        let database = Database::builder(folder)
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNALS_MAX_BYTES)
            .open()?;
        let mut tables = Vec::new();
        for table in Table::ALL {
            let (buffer, always_found) = match table {
                Table::AccountNodes | Table::StorageNodes => (options.node_buffer_bytes, true),
                Table::Transactions | Table::Heights => (options.row_buffer_bytes, false),
                Table::Meta
                | Table::Code
                | Table::Headers
                | Table::Bodies
                | Table::Receipts
                | Table::Certificates
                | Table::Logs => (options.row_buffer_bytes, true),
            };
            let create = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(buffer)
                    .expect_point_read_hits(always_found)
            };
            tables.push(database.keyspace(table.name(), create)?);
        }
        Ok(Self {
            database,
            tables: Tables(tables),
        })
    }
}

impl Store for DiskStore {
    fn snapshot(&self) -> Box<dyn Reader> {
        Box::new(DiskReader {
            snapshot: self.database.snapshot(),
            tables: self.tables.clone(),
        })
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncAll));
        for operation in batch.into_operations() {
            let keyspace = self.tables.keyspace(operation.table)?;
            match operation.value {
                Some(value) => writes.insert(keyspace, operation.key, value.as_ref()),
                None => writes.remove(keyspace, operation.key),
            }
        }
        writes.commit().map_err(|error| failed("writing", error))
    }
}

struct DiskReader {
    snapshot: Snapshot,
    tables: Tables,
}

impl Reader for DiskReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self
            .snapshot
            .get(self.tables.keyspace(table)?, key)
            .map_err(|error| failed(table.name(), error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from > to {
            return Ok(Vec::new());
        }
        let rows = self
            .snapshot
            .range(self.tables.keyspace(table)?, from..=to)
            .take(limit);
        rows.map(|row| {
            let (key, value) = row
                .into_inner()
                .map_err(|error| failed(table.name(), error))?;
            Ok((key.to_vec(), Bytes::copy_from_slice(&value)))
        })
        .collect()
    }
}

/// Journals are replayed when the store is opened: this many bytes take well under a second.
const JOURNALS_MAX_BYTES: u64 = 128 << 20;

/// Tells damage from a store that could not be reached.
fn failed(action: &'static str, error: fjall::Error) -> Error {
    use fjall::{Error as Fjall, LsmError as Lsm};
    use std::io::ErrorKind::{InvalidInput, NotFound};
    match &error {
        // A decoder's own complaint carries no code of the system's. A damaged length leads to a place that no file
        // has, a damaged name to no file: the disk did its part.
        Fjall::Io(io) | Fjall::Storage(Lsm::Io(io))
            if io.raw_os_error().is_none() || matches!(io.kind(), InvalidInput | NotFound) =>
        {
            Error::Unreadable {
                action,
                source: error.into(),
            }
        }
        Fjall::Io(_)
        | Fjall::Storage(Lsm::Io(_))
        | Fjall::Poisoned
        | Fjall::KeyspaceDeleted
        | Fjall::Locked => Error::store(action, error.into()),
        _ => Error::Unreadable {
            action,
            source: error.into(),
        },
    }
}
