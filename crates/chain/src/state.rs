//! The chain's state.
mod disk;
mod error;
mod memory;
mod nodes;
mod store;
mod trie;
mod walk;

pub use disk::{DiskOptions, DiskStore};
pub use error::Error;
pub use memory::MemoryStore;
pub use store::{Batch, Operation, Reader, Row, Store, Table};
