//! The key-value store under the chain: what the state needs from a disk, and nothing more.

use alloy_primitives::Bytes;

use super::Error;

/// One table of the store. Keys are compared as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `head` → format version, height, digest, state root, genesis digest; `validators/` ‖ hash → a set of
    /// validators; `recovery/` ‖ epoch (8 bytes, big endian) → the change of validators that ended it by hand.
    Meta,
    /// Path of a node of the account trie → its RLP.
    AccountNodes,
    /// Address (20 bytes) ‖ path of a node of the account's storage trie → its RLP.
    StorageNodes,
    /// Code hash → bytecode.
    Code,
    /// Height (8 bytes, big endian) → header.
    Headers,
    /// Height → transactions.
    Bodies,
    /// Height → receipts.
    Receipts,
    /// Height → commit certificate.
    Certificates,
    /// Block digest → height.
    Heights,
    /// Transaction hash → height (8 bytes) ‖ index (4 bytes).
    Transactions,
    /// Term (8 bytes, hash of an address or topic) ‖ height → nothing.
    Logs,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Meta,
        Self::AccountNodes,
        Self::StorageNodes,
        Self::Code,
        Self::Headers,
        Self::Bodies,
        Self::Receipts,
        Self::Certificates,
        Self::Heights,
        Self::Transactions,
        Self::Logs,
    ];

    /// Name of the table on disk. Part of the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::AccountNodes => "account-nodes",
            Self::StorageNodes => "storage-nodes",
            Self::Code => "code",
            Self::Headers => "headers",
            Self::Bodies => "bodies",
            Self::Receipts => "receipts",
            Self::Certificates => "certificates",
            Self::Heights => "heights",
            Self::Transactions => "transactions",
            Self::Logs => "logs",
        }
    }
}

/// Writes that become visible and durable together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

/// One write of a [`Batch`]: a value to set, or `None` to remove the key.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; `None` removes the key.
    pub value: Option<Bytes>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.operations.push(Operation {
            table,
            key: key.into(),
            value: Some(value.into()),
        });
    }

    /// Removes a key.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.operations.push(Operation {
            table,
            key: key.into(),
            value: None,
        });
    }

    /// The writes, in order.
    #[must_use]
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// Number of writes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// A row: key and value.
pub type Row = (Vec<u8>, Bytes);

/// A view of the store at one moment, untouched by later batches.
pub trait Reader: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Store`] if the store could not be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// The first `limit` rows with keys from `from` to `to`, both included, in ascending order.
    ///
    /// # Errors
    /// [`Error::Store`] if the store could not be read.
    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error>;
}

/// A transactional key-value store.
pub trait Store: Send + Sync {
    /// A view of the store as it is now. Short-lived: old data is kept while it exists.
    fn snapshot(&self) -> Box<dyn Reader>;

    /// Writes a batch atomically and returns when it is on stable storage.
    ///
    /// # Errors
    /// [`Error::Store`]; the store is then as before the call, or complete, but never in between.
    fn write(&self, batch: Batch) -> Result<(), Error>;
}
