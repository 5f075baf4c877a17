//! A store in memory, for tests and tools: same contract as the disk, nothing survives the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use alloy_primitives::Bytes;

use super::{
    Error,
    store::{Batch, Reader, Row, Store, Table},
};

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

/// A [`Store`] in memory. A snapshot shares the rows until the next write.
#[derive(Default)]
pub struct MemoryStore {
    rows: RwLock<Arc<Rows>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Box<dyn Reader> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(MemoryReader(Arc::clone(&rows)))
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let rows = Arc::make_mut(&mut guard);
        for operation in batch.into_operations() {
            let key = (operation.table, operation.key);
            match operation.value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }
}

struct MemoryReader(Arc<Rows>);

impl Reader for MemoryReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from > to {
            return Ok(Vec::new());
        }
        let bounds = (table, from.to_vec())..=(table, to.to_vec());
        let rows = self.0.range(bounds).take(limit);
        Ok(rows
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}
