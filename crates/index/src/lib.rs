//! The only SQL: what screens, searches and interfaces ask, answered from three encrypted files.
//!
//! The files are cut by what they can be rebuilt from:
//! - [`ChainIndex`] (`chain.db`) follows finalized blocks and is rebuilt from the ledger alone;
//! - [`SearchIndex`] (`search.db`) holds the search values of resources this organisation may open, is rebuilt
//!   from the vault, and forgets a record when its key is destroyed;
//! - [`LocalStore`] (`local.db`) holds what exists nowhere else: access receipts not yet anchored, sessions,
//!   clients, outboxes. It is backed up and never dropped.
//!
//! Consent is a predicate on every hop of a search: a match, the target of a chained parameter, the source of a
//! `_has`, an included resource, a sort key and a total count only resources that the [`Viewer`] may read now.
//!
//! This crate must never hold the content of a resource, take a decision that the ledger has not taken, look at a
//! clock, or log a value. It is synchronous; callers on an async runtime use their blocking threads.
//!
//! ```
//! use stele_core::crypto::Secret32;
//! use stele_index::Index;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let index = Index::open(folder.path(), &Secret32::new([7; 32]))?;
//! assert_eq!(index.chain().height()?, None);
//! assert_eq!(index.search().stats()?.resources, 0);
//! # Ok(())
//! # }
//! ```

mod error;
mod follow;
mod index;
mod local;
mod query;
mod search;
mod sqlite;

pub use error::{Error, Result};
pub use follow::{ChainIndex, FinalizedBlock, FinalizedLog, Seated};
pub use index::Index;
pub use local::{LocalStore, notices, outbox, receipts};
pub use query::{Happened, accounts, emergency, grants, network, prescriptions, records};
pub use search::{
    Ended, INCLUDES_MAX, Listing, NewVersion, Page, Placement, ResourceVersion, SearchIndex,
    SearchStats, Viewer,
};
pub use sqlite::readers_at_once;
