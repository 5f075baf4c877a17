//! What can go wrong in the state store. Every error here is fatal for execution: a node that meets one stops
//! before it votes.

use alloy_primitives::B256;
use revm::database_interface::DBErrorMarker;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key-value store refused; a full disk or a failed checksum of the store itself ends here.
    #[error("the chain's store failed ({action})")]
    Store {
        /// What was attempted: an action, or the table that was read.
        action: &'static str,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key-value store found its own files damaged.
    #[error("the chain's files cannot be read ({action})")]
    Unreadable {
        /// What was attempted: an action, or the table that was read.
        action: &'static str,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something read from disk is not what the chain committed to.
    #[error("the chain's files are damaged at height {height}: {what}")]
    Damaged {
        /// Height of the block it belongs to; for state, the height of the state that was read.
        height: u64,
        /// What is damaged, and how that was seen.
        what: String,
    },
    /// The store ends before a block that was already acknowledged.
    #[error(
        "the chain's files are damaged at height {acknowledged}: that block was acknowledged, but the store ends \
         at height {stored:?}"
    )]
    Truncated {
        /// Last height in the store, if it has any block.
        stored: Option<u64>,
        /// Last height written according to the head marker.
        acknowledged: u64,
    },
    /// The folder was written by a newer version of this program.
    #[error("the chain's files have format {found}; this version reads formats up to {supported}")]
    NewerFormat {
        /// Format found.
        found: u32,
        /// Newest format this program knows.
        supported: u32,
    },
    /// The folder was written by a version too old to migrate from.
    #[error("the chain's files have format {found}, from which there is no migration")]
    UnknownFormat {
        /// Format found.
        found: u32,
    },
    /// A view was asked for on a block that is neither the last final one nor executed on top of it.
    #[error("block {digest} is neither the last final block nor executed on top of it")]
    UnknownBlock {
        /// The block's digest.
        digest: B256,
    },
    /// A block was committed out of order.
    #[error("cannot commit height {offered}: the next height is {next}")]
    Gap {
        /// Height that can be committed next.
        next: u64,
        /// Height offered.
        offered: u64,
    },
    /// A block was committed that contradicts the chain.
    #[error("cannot commit block {offered} at height {height}: {expected} was expected as {part}")]
    Conflict {
        /// Height of the block.
        height: u64,
        /// Which part contradicts: `block`, `parent`, `state root`, `receipts root`.
        part: &'static str,
        /// The value of the chain.
        expected: B256,
        /// The value of the block.
        offered: B256,
    },
    /// A broken invariant of this program.
    #[error("broken invariant: {0}")]
    Invariant(&'static str),
}

impl Error {
    pub(crate) const fn store(
        action: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        Self::Store { action, source }
    }

    pub(crate) fn damaged(height: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            height,
            what: what.into(),
        }
    }

    /// Names the height at which files were found unreadable.
    pub(crate) fn at(self, height: u64) -> Self {
        match self {
            Self::Unreadable { action, source } => {
                Self::damaged(height, format!("{action}: {source}"))
            }
            Self::Store { .. }
            | Self::Damaged { .. }
            | Self::Truncated { .. }
            | Self::NewerFormat { .. }
            | Self::UnknownFormat { .. }
            | Self::UnknownBlock { .. }
            | Self::Gap { .. }
            | Self::Conflict { .. }
            | Self::Invariant(_) => self,
        }
    }

    /// Whether the chain's files are not what was written: the operator must restore or synchronise again.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Truncated { .. } | Self::Unreadable { .. }
        )
    }
}

impl DBErrorMarker for Error {}
