//! HL7 v2 messages: kept before they are acknowledged, then written in the order in which their sender sent them.
//!
//! A message waits in `local.db` (encrypted, synced) in an outbox of its sender. One worker takes the oldest of each,
//! maps it again and writes it as a transaction Bundle like any client's. What can't be written now is tried again
//! and holds up its sender only; what never can is parked with the reason, for the operator. The same bytes from the
//! same sender are taken once. Reasons and log lines name segments and fields, never content.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stele_core::{consent::Purpose, id::OrganizationId, time::Timestamp};
use stele_fhir::{
    bundle::{self, Method, Plan, Target},
    hl7v2::{ErrorCode, Header, Problem, map, take},
    parse,
};
use stele_index::outbox::Entry;
use tokio::sync::watch;

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// Outboxes of senders begin with it; organisation and sender follow.
const WAITING: &str = "hl7v2/in/";
/// Messages that can't be written until somebody does something.
const PARKED: &str = "hl7v2/parked";
/// Scope of the digests of messages that were taken or parked.
const SEEN: &str = "hl7v2/seen";
/// How long a message is known again: longer than senders keep what was not acknowledged.
const SEEN_MS: u64 = 30 * 86_400_000;
/// A faulty interface must not fill the disk with what nobody can map.
const PARKED_MAX: u64 = 10_000;
/// Messages of one sender that are taken before the others have their turn.
const STEP: u32 = 32;
/// Failures that may pass, before a message is parked. A full disk is waited for without end.
const ATTEMPTS_MAX: u32 = 12;
/// The first pause after a failure; each further one is twice as long, up to a minute.
const PAUSE_MS: u64 = 500;
const PAUSE_MAX_MS: u64 = 60_000;

/// A message as it came, and whom its sender acts for.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message without its frame.
    pub bytes: Vec<u8>,
    /// The organisation that the sender belongs to.
    pub organization: OrganizationId,
    /// Offset of times that name none: `Z`, `+hh:mm` or `-hh:mm`.
    pub offset: String,
}

/// What is answered to the sender.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The message's header, as far as it could be read.
    pub header: Option<Header>,
    /// Findings; an error among them says that the message was not taken.
    pub problems: Vec<Problem>,
    /// Whether the same message was taken before.
    pub is_duplicate: bool,
}

/// A waiting or parked message, as the operator sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its number.
    pub id: i64,
    /// `waiting` or `parked`.
    pub state: &'static str,
    /// Facility and application it came from.
    pub sender: String,
    /// Message type and event, such as `ADT^A01`.
    pub kind: String,
    /// MSH-10.
    pub control_id: String,
    /// The organisation that its sender acts for.
    pub organization: OrganizationId,
    /// When it came: a FHIR `instant`.
    pub received: String,
    /// How often writing it was tried.
    pub attempts: u32,
    /// Why it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an entry's payload begins with, as one line of JSON; the message follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Label {
    organization: OrganizationId,
    sender: String,
    kind: String,
    control_id: String,
    received: Timestamp,
    offset: String,
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Why a message was not written.
enum Failure {
    /// It may be later.
    Later(Error),
    /// It never will be as things are.
    Never(String),
}

impl Service {
    /// Takes a message in. When this returns without an error among the problems, the message is durable.
    ///
    /// Waits for the disk: not to be called on a thread that serves others.
    #[must_use]
    pub fn accept_message(&self, incoming: &Incoming) -> Acceptance {
        let received = self.clock.now();
        let digest = digest_of(incoming);
        let context = context(received, &incoming.offset, &digest);
        let taken = take(&incoming.bytes, &context);
        let (header, problems) = match taken {
            Ok(taken) => (Some(taken.header), taken.problems),
            Err((header, problems)) => (header.map(|header| *header), problems),
        };
        let mut acceptance = Acceptance {
            header,
            problems,
            is_duplicate: false,
        };
        let label = Label {
            organization: incoming.organization,
            sender: acceptance
                .header
                .as_ref()
                .map(Header::sender)
                .unwrap_or_default(),
            kind: acceptance
                .header
                .as_ref()
                .map(Header::kind)
                .unwrap_or_default(),
            control_id: acceptance
                .header
                .as_ref()
                .map(|header| header.control_id.clone())
                .unwrap_or_default(),
            received,
            offset: incoming.offset.clone(),
            digest,
            reason: None,
        };
        if let Err(error) = self.keep(incoming, label, &mut acceptance) {
            tracing::error!(error = &error as &dyn std::error::Error, "hl7.keep");
            acceptance.problems = vec![Problem::error(
                ErrorCode::Internal,
                "the message could not be stored; send it again later",
            )];
        }
        acceptance
    }

    /// Puts a message where it belongs: with its sender's, or with those that can't be written.
    fn keep(
        &self,
        incoming: &Incoming,
        mut label: Label,
        acceptance: &mut Acceptance,
    ) -> Result<()> {
        const WHAT: &str = "keeping a message";
        let refusal = acceptance
            .problems
            .iter()
            .find(|problem| problem.is_error());
        if refusal.is_some_and(Problem::is_rejection) {
            return Ok(());
        }
        let local = self.index.local();
        let seen = local
            .answer(SEEN, &label.digest, label.received)
            .map_err(Error::index(WHAT))?;
        if seen.is_some() {
            acceptance.is_duplicate = true;
            return Ok(());
        }
        let queue = match refusal {
            None => format!("{WAITING}{}/{}", label.organization, label.sender),
            Some(refusal) => {
                if local.count(PARKED).map_err(Error::index(WHAT))? >= PARKED_MAX {
                    tracing::warn!("hl7: too many parked messages; another one was not kept");
                    return Ok(());
                }
                label.reason = Some(refusal.to_string());
                PARKED.to_owned()
            }
        };
        let payload = label.before(&incoming.bytes)?;
        // All entries are due at once: so they stay in the order of their numbers, which is that of their coming.
        local
            .push(&queue, &payload, Timestamp(0))
            .map_err(Error::index(WHAT))?;
        local
            .remember_answer(SEEN, &label.digest, b"", label.received.plus_ms(SEEN_MS))
            .map_err(Error::index(WHAT))?;
        self.messages_wait.notify_one();
        Ok(())
    }

    /// Writes waiting messages until it is told to stop, which it does between two messages.
    pub async fn run_messages(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut paused: HashMap<String, Timestamp> = HashMap::new();
        while !*stop.borrow() {
            let now = self.clock.now();
            paused.retain(|_, until| *until > now);
            let done = match self.write_waiting(&mut paused, &stop).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "hl7.outbox");
                    0
                }
            };
            if done > 0 {
                continue;
            }
            let next = paused.values().min().copied();
            let pause = next.map_or(PAUSE_MAX_MS, |next| next.0.saturating_sub(now.0).max(1));
            tokio::select! {
                () = self.messages_wait.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                // An error means that the node is gone: stop too.
                _ = stop.changed() => {}
            }
        }
    }

    /// One round over all senders. Gives the number of messages that left their outboxes.
    async fn write_waiting(
        self: &Arc<Self>,
        paused: &mut HashMap<String, Timestamp>,
        stop: &watch::Receiver<bool>,
    ) -> Result<u64> {
        const WHAT: &str = "reading waiting messages";
        let mut done = 0_u64;
        let queues = self
            .index
            .local()
            .queues(WAITING)
            .map_err(Error::index(WHAT))?;
        for queue in queues {
            if paused.contains_key(&queue) {
                continue;
            }
            let entries = self
                .index
                .local()
                .due(&queue, Timestamp(0), STEP)
                .map_err(Error::index(WHAT))?;
            for entry in entries {
                if *stop.borrow() {
                    return Ok(done);
                }
                let attempts = entry.attempts;
                if self.write_one(entry).await? {
                    done = done.saturating_add(1);
                } else {
                    let pause = PAUSE_MS
                        .saturating_mul(1_u64.checked_shl(attempts).unwrap_or(u64::MAX))
                        .min(PAUSE_MAX_MS);
                    paused.insert(queue.clone(), self.clock.now().plus_ms(pause));
                    break;
                }
            }
        }
        Ok(done)
    }

    /// Writes a message. False if it has to wait.
    async fn write_one(self: &Arc<Self>, entry: Entry) -> Result<bool> {
        const WHAT: &str = "finishing a message";
        let (label, message) = Label::split(&entry.payload)?;
        let outcome = self.write_message(&label, message).await;
        let local = self.index.local();
        match outcome {
            Ok(resources) => {
                local.done(entry.id).map_err(Error::index(WHAT))?;
                tracing::info!(
                    sender = label.sender,
                    kind = label.kind,
                    control_id = label.control_id,
                    resources,
                    "hl7.written"
                );
                Ok(true)
            }
            Err(Failure::Later(error))
                if entry.attempts < ATTEMPTS_MAX || matches!(error, Error::StorageFull { .. }) =>
            {
                tracing::warn!(
                    sender = label.sender,
                    control_id = label.control_id,
                    attempts = entry.attempts,
                    error = &error as &dyn std::error::Error,
                    "hl7.waits"
                );
                local
                    .put_off(entry.id, Timestamp(0))
                    .map_err(Error::index(WHAT))?;
                Ok(false)
            }
            Err(failure) => {
                let reason = match failure {
                    Failure::Later(error) => error.public_message(),
                    Failure::Never(reason) => reason,
                };
                tracing::warn!(
                    sender = label.sender,
                    kind = label.kind,
                    control_id = label.control_id,
                    id = entry.id,
                    reason,
                    "hl7.parked"
                );
                let parked = Label {
                    reason: Some(reason),
                    ..label.clone()
                };
                let payload = parked.before(message)?;
                local
                    .transfer(entry.id, PARKED, &payload)
                    .map_err(Error::index(WHAT))?;
                Ok(true)
            }
        }
    }

    async fn write_message(
        self: &Arc<Self>,
        label: &Label,
        message: &[u8],
    ) -> std::result::Result<usize, Failure> {
        let context = context(label.received, &label.offset, &label.digest);
        let taken = take(message, &context).map_err(|(_, problems)| {
            let error = problems.iter().find(|problem| problem.is_error());
            Failure::Never(error.map(ToString::to_string).unwrap_or_default())
        })?;
        let mut plan = bundle::parse(taken.bundle).map_err(|issues| {
            Failure::of(Error::Invalid {
                issues,
                unreadable: false,
            })
        })?;
        let actor = Actor::system(label.organization, Purpose::Treat, "hl7v2");
        self.lay_over(&actor, &mut plan)
            .await
            .map_err(Failure::of)?;
        let results = self.bundle(&actor, plan).await.map_err(Failure::of)?;
        Ok(results.len())
    }

    /// A message speaks of a part of a patient or a visit; the rest of what is known stays.
    async fn lay_over(self: &Arc<Self>, actor: &Actor, plan: &mut Plan) -> Result<()> {
        for entry in &mut plan.entries {
            let (Some(request), Some(resource)) = (&entry.request, &mut entry.resource) else {
                continue;
            };
            let Target::Conditional {
                resource_type,
                query,
            } = &request.target
            else {
                continue;
            };
            if request.method != Method::Put
                || !matches!(resource_type.as_str(), "Patient" | "Encounter")
            {
                continue;
            }
            let Some(id) = self.matching(actor, resource_type, query)? else {
                continue;
            };
            let current = self.read(actor, resource_type, &id).await?;
            let unreadable = |issues| Error::Invalid {
                issues,
                unreadable: false,
            };
            let current = parse::edited(current.text.to_string()).map_err(unreadable)?;
            let merged = map::overlay(&current.value, &resource.value);
            *resource = parse::edited(merged.to_string()).map_err(unreadable)?;
        }
        Ok(())
    }

    /// Messages that wait or are parked, oldest first; at most so many of each sender.
    ///
    /// # Errors
    /// The index fails.
    pub fn messages(&self, limit: u32) -> Result<Vec<Waiting>> {
        const WHAT: &str = "listing messages";
        let local = self.index.local();
        let mut queues = local.queues(WAITING).map_err(Error::index(WHAT))?;
        queues.push(PARKED.to_owned());
        let mut found = Vec::new();
        for queue in queues {
            let entries = local
                .due(&queue, Timestamp(0), limit)
                .map_err(Error::index(WHAT))?;
            for entry in entries {
                let (label, _) = Label::split(&entry.payload)?;
                found.push(Waiting {
                    id: entry.id,
                    state: if queue == PARKED { "parked" } else { "waiting" },
                    sender: label.sender,
                    kind: label.kind,
                    control_id: label.control_id,
                    organization: label.organization,
                    received: label.received.to_instant(),
                    attempts: entry.attempts,
                    reason: label.reason,
                });
            }
        }
        found.sort_by_key(|message| message.id);
        Ok(found)
    }

    /// Puts a parked message back among its sender's. Its number is old, so it is next.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none is parked under the number.
    pub fn retry_message(&self, id: i64) -> Result<()> {
        let entry = self.parked(id)?;
        let (label, message) = Label::split(&entry.payload)?;
        let queue = format!("{WAITING}{}/{}", label.organization, label.sender);
        let label = Label {
            reason: None,
            ..label
        };
        self.index
            .local()
            .transfer(id, &queue, &label.before(message)?)
            .map_err(Error::index("retrying a message"))?;
        self.messages_wait.notify_one();
        Ok(())
    }

    /// Throws a parked message away. Its sender may send it again.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none is parked under the number.
    pub fn drop_message(&self, id: i64) -> Result<()> {
        const WHAT: &str = "dropping a message";
        let entry = self.parked(id)?;
        let (label, _) = Label::split(&entry.payload)?;
        let local = self.index.local();
        local
            .forget_answer(SEEN, &label.digest)
            .map_err(Error::index(WHAT))?;
        local.done(id).map_err(Error::index(WHAT))
    }

    fn parked(&self, id: i64) -> Result<Entry> {
        let found = self
            .index
            .local()
            .entry(id)
            .map_err(Error::index("finding a message"))?;
        found
            .filter(|(queue, _)| queue == PARKED)
            .map(|(_, entry)| entry)
            .ok_or_else(|| Error::NotFound {
                resource: format!("a parked message {id}"),
            })
    }
}

impl Label {
    /// The payload: the label as one line, then the message as it came.
    fn before(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut payload = serde_json::to_vec(self)
            .map_err(|error| Error::internal("labelling a message", error))?;
        payload.push(b'\n');
        payload.extend_from_slice(message);
        Ok(payload)
    }

    fn split(payload: &[u8]) -> Result<(Self, &[u8])> {
        const WHAT: &str = "reading a message's label";
        let end = payload
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| Error::internal(WHAT, "it has no end"))?;
        let (label, message) = payload.split_at(end);
        let label = serde_json::from_slice(label).map_err(|error| Error::internal(WHAT, error))?;
        Ok((label, message.get(1..).unwrap_or_default()))
    }
}

impl Failure {
    fn of(error: Error) -> Self {
        if error.is_retryable() {
            return Self::Later(error);
        }
        let place = match &error {
            Error::Invalid { issues, .. } => issues
                .iter()
                .find(|issue| issue.is_error())
                .and_then(|issue| issue.expression.first())
                .map(|place| format!(" at {place}")),
            _ => None,
        };
        Self::Never(format!(
            "{}{}",
            error.public_message(),
            place.unwrap_or_default()
        ))
    }
}

/// What a message is known by: its bytes, and for whom they came.
fn digest_of(incoming: &Incoming) -> String {
    let mut hasher = Sha256::new();
    hasher.update(incoming.organization.0);
    hasher.update(&incoming.bytes);
    alloy_primitives::hex::encode(hasher.finalize())
}

fn context(received: Timestamp, offset: &str, digest: &str) -> map::Context {
    let short = digest.get(..40).unwrap_or(digest);
    map::Context {
        received: received.to_instant(),
        offset: offset.to_owned(),
        id: format!("hl7v2-{short}"),
    }
}
