//! Writes on their way: each has a journal entry, and may have a ticket by which its client asks later what became
//! of it.
//!
//! A ticket is given out once the write is sealed and durable. What was promised is kept: after a crash `reconcile`
//! carries such a write forward, where it takes back others that nobody was told of.

use std::sync::Arc;

use alloy_primitives::Address;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stele_core::{id::PatientId, id::RecordId, leaf::LeafKind, time::Timestamp};
use stele_index::Index;
use tokio::sync::oneshot;

use super::{Effect, Written, place::Placed};
use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
    transactions::Order,
};

/// Name of the journal entries of this module.
pub(crate) const JOURNAL: &str = "write";
/// Under which the outcomes are kept among the answers.
const OUTCOMES: &str = "write-outcome";
/// How long an outcome can be asked for: a client that comes back on the next working day finds it.
const OUTCOME_KEPT_MS: u64 = 4 * 86_400_000;

/// What a front wants to be told of a write before it ends.
#[derive(Debug, Default)]
pub struct Watch {
    promised: bool,
    durable: Option<oneshot::Sender<Ticket>>,
}

impl Watch {
    /// A watch, and where its ticket arrives once the write is durable. No ticket arrives for a write that ends
    /// before: refused, or found to change nothing. With `promised` the outcome is kept from the start, without it
    /// only from [`Ticket::promise`] on.
    #[must_use]
    pub fn new(promised: bool) -> (Self, oneshot::Receiver<Ticket>) {
        let (sender, receiver) = oneshot::channel();
        let watch = Self {
            promised,
            durable: Some(sender),
        };
        (watch, receiver)
    }
}

/// A claim to a write's outcome.
#[derive(Clone, Debug)]
pub struct Ticket {
    id: String,
    work: Arc<Work>,
}

impl Ticket {
    /// What [`Service::outcome`] takes. 36 characters, not to be guessed.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn entry(&self) -> JournalEntry {
        self.work.entry()
    }

    /// Promises, durably, that the outcome can be asked for. False if the write has ended meanwhile: its own answer
    /// says what became of it.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn promise(&self) -> Result<bool> {
        let mut state = self.work.state.lock();
        if state.ended {
            return Ok(false);
        }
        if state.entry.promise.is_none() {
            state.entry.promise = Some(Promise {
                ticket: self.id.clone(),
                owner: state.owner.clone(),
            });
            let bytes = encode(&state.entry)?;
            self.work
                .index
                .local()
                .advance(self.work.journal, &bytes)
                .map_err(Error::index("promising an outcome"))?;
        }
        Ok(true)
    }
}

/// What the journal keeps of a batch: enough to finish it from the vault alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    pub(crate) author: Address,
    pub(crate) sender: Address,
    pub(crate) versions: Vec<JournalVersion>,
    /// What registers the batch's new patients.
    #[serde(default)]
    pub(crate) orders: Vec<Order>,
    /// Whom the outcome was promised to.
    #[serde(default)]
    pub(crate) promise: Option<Promise>,
}

/// Who may ask for an outcome, and by what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Promise {
    ticket: String,
    owner: String,
}

/// One version of a batch in the journal. Ids and types, no content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JournalVersion {
    pub(crate) record: RecordId,
    pub(crate) version: u32,
    pub(crate) resource_type: String,
    pub(crate) id: String,
    pub(crate) patient: Option<PatientId>,
    pub(crate) category: u8,
    pub(crate) last_updated: Timestamp,
}

impl JournalVersion {
    pub(crate) fn of(placed: &Placed) -> Self {
        Self {
            record: placed.record,
            version: placed.version,
            resource_type: placed.resource_type.clone(),
            id: placed.id.clone(),
            patient: placed.patient,
            category: placed.category,
            last_updated: placed.last_updated,
        }
    }

    /// What can be said of the version without its content: type, id, number and time, as a resource for the index.
    pub(crate) fn outline(&self) -> String {
        json!({
            "resourceType": self.resource_type,
            "id": self.id,
            "meta": {
                "versionId": self.version.to_string(),
                "lastUpdated": self.last_updated.to_instant(),
            },
        })
        .to_string()
    }
}

/// A batch between its journal entry and its end.
#[derive(Debug)]
pub(crate) struct Work {
    index: Arc<Index>,
    journal: i64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entry: JournalEntry,
    owner: String,
    ended: bool,
}

impl Work {
    pub(crate) fn entry(&self) -> JournalEntry {
        self.state.lock().entry.clone()
    }

    /// Closes the journal entry; an outcome that was promised is kept first.
    fn end(&self, outcome: &Kept, now: Timestamp) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(promise) = &state.entry.promise {
            keep(&self.index, promise, outcome, now)?;
        }
        self.index
            .local()
            .finish(self.journal)
            .map_err(Error::index("closing a journal entry"))?;
        state.ended = true;
        Ok(())
    }
}

/// One resource that a promised write has recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
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
    /// Height of the block that anchored it.
    pub height: u64,
}

impl Recorded {
    pub(crate) fn of(written: &Written) -> Self {
        Self {
            resource_type: written.resource_type.clone(),
            id: written.id.clone(),
            version: written.version,
            last_updated: written.last_updated,
            effect: written.effect,
            height: written.height,
        }
    }

    pub(crate) fn again(version: &JournalVersion, kind: LeafKind, height: u64) -> Self {
        Self {
            resource_type: version.resource_type.clone(),
            id: version.id.clone(),
            version: version.version,
            last_updated: version.last_updated,
            effect: Effect::of(kind),
            height,
        }
    }
}

/// What became of a promised write.
#[derive(Debug)]
pub enum Outcome {
    /// It is durable and waits for the ledger.
    Waiting,
    /// It is final, anchored and findable.
    Recorded(Vec<Recorded>),
    /// It was not recorded; nothing of it is left.
    Refused(Error),
}

/// An [`Outcome`] as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Kept {
    Recorded(Vec<Recorded>),
    Refused { code: String, message: String },
}

impl Kept {
    pub(crate) fn refused(error: &Error) -> Self {
        Self::Refused {
            code: error.code().to_owned(),
            message: error.public_message(),
        }
    }

    fn into_outcome(self) -> Outcome {
        match self {
            Self::Recorded(recorded) => Outcome::Recorded(recorded),
            Self::Refused { code, message } => Outcome::Refused(match code.as_str() {
                "not-permitted" => Error::NotPermitted { message },
                "storage-full" => Error::StorageFull { message },
                _ => Error::Conflict { message },
            }),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Owned {
    owner: String,
    kept: Kept,
}

impl Service {
    /// What became of a write whose outcome was promised to this actor and client.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a ticket of nobody or of somebody else, and for one that is too old.
    pub fn outcome(&self, actor: &Actor, ticket: &str) -> Result<Outcome> {
        let owner = owner_of(actor);
        if let Some(kept) = self.kept_outcome(&owner, ticket)? {
            return Ok(kept.into_outcome());
        }
        const WHAT: &str = "looking for a write";
        for (_, state) in self
            .index
            .local()
            .unfinished(JOURNAL)
            .map_err(Error::index(WHAT))?
        {
            let entry: JournalEntry =
                serde_json::from_slice(&state).map_err(|error| Error::internal(WHAT, error))?;
            if entry
                .promise
                .is_some_and(|promise| promise.ticket == ticket && promise.owner == owner)
            {
                return Ok(Outcome::Waiting);
            }
        }
        // It may have ended between the two looks.
        self.kept_outcome(&owner, ticket)?
            .map(Kept::into_outcome)
            .ok_or_else(|| Error::NotFound {
                resource: "a write with this status address".into(),
            })
    }

    fn kept_outcome(&self, owner: &str, ticket: &str) -> Result<Option<Kept>> {
        const WHAT: &str = "looking for a write's outcome";
        let found = self
            .index
            .local()
            .answer(OUTCOMES, ticket, self.clock.now())
            .map_err(Error::index(WHAT))?;
        let Some(bytes) = found else { return Ok(None) };
        let owned: Owned =
            serde_json::from_slice(&bytes).map_err(|error| Error::internal(WHAT, error))?;
        Ok((owned.owner == owner).then_some(owned.kept))
    }

    /// Opens a batch's journal entry.
    pub(crate) fn begin(
        &self,
        actor: &Actor,
        entry: JournalEntry,
        watch: &Watch,
    ) -> Result<Ticket> {
        let id = super::place::new_id();
        let owner = owner_of(actor);
        let mut entry = entry;
        entry.promise = watch.promised.then(|| Promise {
            ticket: id.clone(),
            owner: owner.clone(),
        });
        let journal = self
            .index
            .local()
            .begin(JOURNAL, &encode(&entry)?)
            .map_err(Error::index("opening a journal entry"))?;
        let work = Arc::new(Work {
            index: Arc::clone(&self.index),
            journal,
            state: Mutex::new(State {
                entry,
                owner,
                ended: false,
            }),
        });
        Ok(Ticket { id, work })
    }

    /// Closes the journal entry of a batch that is recorded.
    pub(crate) fn finish(&self, ticket: &Ticket, recorded: Vec<Recorded>) -> Result<()> {
        ticket.work.end(&Kept::Recorded(recorded), self.clock.now())
    }

    /// Takes back what was stored for a batch that is not to be recorded.
    pub(crate) async fn discard(&self, ticket: &Ticket, why: &Error) -> Result<()> {
        self.take_back(&ticket.work.entry().versions).await?;
        ticket.work.end(&Kept::refused(why), self.clock.now())
    }

    pub(crate) async fn take_back(&self, versions: &[JournalVersion]) -> Result<()> {
        for version in versions {
            self.vault
                .discard(&version.record, version.version)
                .await
                .map_err(Error::vault("taking back a record"))?;
        }
        Ok(())
    }

    /// Keeps the outcome of a batch that the reconciler ended, if it was promised.
    pub(crate) fn keep_outcome(&self, entry: &JournalEntry, outcome: &Kept) -> Result<()> {
        match &entry.promise {
            Some(promise) => keep(&self.index, promise, outcome, self.clock.now()),
            None => Ok(()),
        }
    }
}

/// Tells whoever watches that the batch is durable.
pub(crate) fn tell(watch: Watch, ticket: &Ticket) {
    if let Some(durable) = watch.durable {
        // Whoever watched may have gone; the write goes on all the same.
        drop(durable.send(ticket.clone()));
    }
}

fn keep(index: &Index, promise: &Promise, outcome: &Kept, now: Timestamp) -> Result<()> {
    const WHAT: &str = "keeping a write's outcome";
    let bytes = serde_json::to_vec(&Owned {
        owner: promise.owner.clone(),
        kept: outcome.clone(),
    })
    .map_err(|error| Error::internal(WHAT, error))?;
    let local = index.local();
    local.forget_expired(now).map_err(Error::index(WHAT))?;
    local
        .remember_answer(
            OUTCOMES,
            &promise.ticket,
            &bytes,
            now.plus_ms(OUTCOME_KEPT_MS),
        )
        .map_err(Error::index(WHAT))
}

fn encode(entry: &JournalEntry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|error| Error::internal("writing a journal entry", error))
}

/// Account and client: another client of the same organisation does not see what this one sent.
fn owner_of(actor: &Actor) -> String {
    format!("{}/{}", actor.account, actor.client)
}
