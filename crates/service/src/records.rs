//! Records: writing resources so that they are encrypted, durable, anchored and found; reading them back with
//! consent, receipt and verification.

mod fetch;
mod inspect;
mod pending;
mod place;
mod read;
mod rebuild;
mod reconcile;
mod stream;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stele_core::{leaf::LeafKind, time::Timestamp};
use stele_fhir::{outcome::Issue, parse::Resource};

pub(crate) use fetch::{read_error, read_request};
pub use inspect::Damaged;
pub(crate) use pending::{JournalEntry, JournalVersion};
pub use pending::{Outcome, Recorded, Ticket, Watch};
pub use place::ACCOUNT_SYSTEM;
pub(crate) use place::new_id;
pub(crate) use place::{NewPatients, Placement};
pub use read::COUNT_MAX;
pub(crate) use read::{bad_cursor, index_error};
pub use rebuild::Rebuilt;
pub(crate) use rebuild::described;
pub use reconcile::Reconciled;
pub use stream::BinaryInfo;
pub(crate) use write::{LeafPlace, gas_of, is_unsettled, not_allowed, places_of, sender_of};

/// One change to one resource. Resources were parsed and validated by the front.
#[derive(Debug)]
pub enum Write {
    /// A new resource; the service assigns its id.
    Create {
        /// What the client sent.
        resource: Resource,
    },
    /// A new version of a resource, or a new resource under an id the client chose.
    Update {
        /// What the client sent.
        resource: Resource,
        /// The logical id.
        id: String,
        /// Version the client believes to be current.
        if_match: Option<u32>,
    },
    /// The resource is deleted: a tombstone is anchored, earlier versions stay.
    Delete {
        /// FHIR resource type.
        resource_type: String,
        /// The logical id.
        id: String,
        /// Version the client believes to be current.
        if_match: Option<u32>,
    },
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A resource is there that was not.
    Created,
    /// There is a new version.
    Updated,
    /// The content was the current version's: nothing was written.
    Unchanged,
    /// The resource is deleted, or was not there.
    Deleted,
}

impl Effect {
    const fn of(kind: LeafKind) -> Self {
        match kind {
            LeafKind::Create => Self::Created,
            LeafKind::Amend => Self::Updated,
            LeafKind::Tombstone => Self::Deleted,
        }
    }
}

/// A change that is durable, final, anchored and findable.
#[derive(Clone, Debug)]
pub struct Written {
    /// FHIR resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// Version after the change.
    pub version: u32,
    /// `meta.lastUpdated`.
    pub last_updated: Timestamp,
    /// What the change did.
    pub effect: Effect,
    /// The resource as stored; absent after a deletion.
    pub text: Option<Arc<str>>,
    /// Height of the block that anchored it; 0 when nothing was written.
    pub height: u64,
}

/// What the service found when it held content against the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The bytes are those that were anchored.
    Verified,
    /// They are not; the content is withheld.
    DoesNotMatch,
}

/// One version of a resource as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// FHIR resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// `meta.lastUpdated`.
    pub last_updated: Timestamp,
    /// Whether this version says that the resource was deleted.
    pub deleted: bool,
    /// The text as stored; empty for a deletion.
    pub text: Arc<str>,
    /// Outcome of the verification; always [`Verification::Verified`] where there is a text.
    pub state: Verification,
}

/// Answer to a search, a history or `$everything`.
#[derive(Clone, Debug, Default)]
pub struct SearchPage {
    /// Resources that match, in order.
    pub matches: Vec<Stored>,
    /// Resources that `_include` and `_revinclude` add.
    pub included: Vec<Stored>,
    /// What the caller should know: resources withheld, includes cut.
    pub outcomes: Vec<Issue>,
    /// Number of all matches, where it was asked for.
    pub total: Option<u64>,
    /// Cursor of the next page.
    pub next: Option<String>,
}
