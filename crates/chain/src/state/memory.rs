//! A store in memory, for tests and development chains: same contract as the disk, nothing survives the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use alloy_primitives::Bytes;

use super::{
    Error,
    store::{Batch, Reader, Row, Store, Table},
};

/// A [`Store`] in memory. A row keeps those of its values that a snapshot can still see.
#[derive(Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared(RwLock<Versions>);

/// Rows with their values by the batch that wrote them.
#[derive(Default)]
struct Versions {
    rows: BTreeMap<(Table, Vec<u8>), Vec<Value>>,
    /// Number of the last batch.
    last: u64,
    /// How many snapshots there are of the state after a batch.
    readers: BTreeMap<u64, usize>,
}

#[derive(Clone)]
struct Value {
    batch: u64,
    value: Option<Bytes>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that begins with what a snapshot of another sees.
    pub(crate) fn copy_of(snapshot: &MemoryReader) -> Self {
        let versions = snapshot.shared.read();
        let seen = |(key, values): (&(Table, Vec<u8>), &Vec<Value>)| {
            let value = visible(values, snapshot.batch)?.clone();
            let first = Value {
                batch: 0,
                value: Some(value),
            };
            Some((key.clone(), vec![first]))
        };
        let copied = Versions {
            rows: versions.rows.iter().filter_map(seen).collect(),
            ..Versions::default()
        };
        drop(versions);
        Self {
            shared: Arc::new(Shared(RwLock::new(copied))),
        }
    }

    /// A snapshot.
    pub(crate) fn reader(&self) -> MemoryReader {
        let mut versions = self.shared.write();
        let batch = versions.last;
        let readers = versions.readers.entry(batch).or_default();
        *readers = readers.saturating_add(1);
        drop(versions);
        MemoryReader {
            shared: Arc::clone(&self.shared),
            batch,
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Versions> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Versions> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Box<dyn Reader> {
        Box::new(self.reader())
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut guard = self.shared.write();
        let versions = &mut *guard;
        versions.last = versions.last.saturating_add(1);
        let number = versions.last;
        let oldest = versions.readers.keys().next().copied().unwrap_or(number);
        for operation in batch.into_operations() {
            let key = (operation.table, operation.key);
            let values = versions.rows.entry(key.clone()).or_default();
            // A key written twice in one batch has the value written last.
            values.retain(|value| value.batch != number);
            values.push(Value {
                batch: number,
                value: operation.value,
            });
            // What the oldest snapshot sees is the last value not newer than it; nobody sees those before.
            let seen = values.partition_point(|value| value.batch <= oldest);
            values.drain(..seen.saturating_sub(1));
            if let [
                Value {
                    batch: written,
                    value: None,
                },
            ] = values.as_slice()
                && *written <= oldest
            {
                versions.rows.remove(&key);
            }
        }
        Ok(())
    }
}

/// The value that a snapshot of the state after `batch` sees.
fn visible(values: &[Value], batch: u64) -> Option<&Bytes> {
    let older = values.iter().rev().find(|value| value.batch <= batch)?;
    older.value.as_ref()
}

/// A snapshot of a [`MemoryStore`].
pub(crate) struct MemoryReader {
    shared: Arc<Shared>,
    batch: u64,
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        let mut versions = self.shared.write();
        if let Some(readers) = versions.readers.get_mut(&self.batch) {
            *readers = readers.saturating_sub(1);
            if *readers == 0 {
                versions.readers.remove(&self.batch);
            }
        }
    }
}

impl Reader for MemoryReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let versions = self.shared.read();
        let values = versions.rows.get(&(table, key.to_vec()));
        Ok(values
            .and_then(|values| visible(values, self.batch))
            .cloned())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from > to {
            return Ok(Vec::new());
        }
        let bounds = (table, from.to_vec())..=(table, to.to_vec());
        let versions = self.shared.read();
        let rows = versions.rows.range(bounds);
        let seen = rows.filter_map(|((_, key), values)| {
            let value = visible(values, self.batch)?;
            Some((key.clone(), value.clone()))
        });
        Ok(seen.take(limit).collect())
    }
}
