//! Group commit: one thread writes what all callers hand in, with one fsync for all that waited.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use fjall::{Database, PersistMode};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Table, Tables, space::Room};
use crate::{
    error::{Error, Result},
    meta::parse_table_key,
};

/// Bytes gathered into one commit before it is written; the first caller's always are.
const GATHER_MAX_BYTES: usize = 32 << 20;

/// Changes that become durable together.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// Keys of the meta table that must not exist yet.
    new_records: Vec<Vec<u8>>,
    bytes: usize,
}

impl Writes {
    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes = self
            .bytes
            .saturating_add(key.len())
            .saturating_add(value.len());
        self.changes.push((table, key, Some(value)));
    }

    pub(crate) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(key.len());
        self.changes.push((table, key, None));
    }

    /// Makes the whole commit fail if a record version exists when its turn comes.
    pub(crate) fn require_new_record(&mut self, meta_key: Vec<u8>) {
        self.new_records.push(meta_key);
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.new_records.extend(other.new_records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

type Answer = Result<(), Failure>;

/// Why a commit failed, told to everyone who was part of it.
#[derive(Clone)]
enum Failure {
    Database(Arc<fjall::Error>),
    Full { available_bytes: u64 },
    Exists { meta_key: Vec<u8> },
}

struct Request {
    writes: Writes,
    answer: oneshot::Sender<Answer>,
}

/// Hands writes to the committing thread, which ends when this is dropped.
pub(super) struct Committer {
    requests: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<Database>>>,
    room: Arc<Room>,
}

impl Committer {
    pub(super) fn start(db: Database, tables: Tables, room: Room) -> Result<Self> {
        let (sender, receiver) = channel();
        let room = Arc::new(room);
        let watched = Arc::clone(&room);
        let thread = std::thread::Builder::new()
            .name("vault-commit".into())
            .spawn(move || {
                run(&db, &tables, &watched, &receiver);
                db
            })
            .map_err(Error::io(
                "starting the committing thread for",
                room.folder(),
            ))?;
        Ok(Self {
            requests: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            room,
        })
    }

    pub(super) async fn commit(&self, writes: Writes) -> Result<()> {
        let answer = self.hand_in(writes)?.await;
        self.judge(answer.map_err(|_| Error::Closed)?)
    }

    pub(super) fn commit_blocking(&self, writes: Writes) -> Result<()> {
        let answer = self.hand_in(writes)?.blocking_recv();
        self.judge(answer.map_err(|_| Error::Closed)?)
    }

    fn hand_in(&self, writes: Writes) -> Result<oneshot::Receiver<Answer>> {
        let (answer, receiver) = oneshot::channel();
        let requests = self.requests.lock();
        requests
            .as_ref()
            .and_then(|sender| sender.send(Request { writes, answer }).ok())
            .ok_or(Error::Closed)?;
        Ok(receiver)
    }

    /// Refuses bytes that would come to lie beside the database where its reserve is.
    pub(super) fn require_room(&self, bytes: u64) -> Result<()> {
        self.room
            .check(bytes)
            .map_err(|available_bytes| self.room.full(available_bytes))
    }

    pub(super) fn room(&self) -> Option<(u64, u64)> {
        self.room.left()
    }

    fn judge(&self, answer: Answer) -> Result<()> {
        answer.map_err(|failure| match failure {
            Failure::Database(source) => Error::Database {
                attempt: "writing",
                source,
            },
            Failure::Full { available_bytes } => self.room.full(available_bytes),
            Failure::Exists { meta_key } => match parse_table_key(&meta_key) {
                Ok((record, version)) => Error::Exists { record, version },
                Err(error) => error,
            },
        })
    }
}

impl Committer {
    /// Writes what waits and takes nothing more. Gives the database, whose own threads end when it is dropped.
    pub(super) fn stop(&self) -> Option<Database> {
        drop(self.requests.lock().take());
        let ended = self.thread.lock().take()?.join();
        if ended.is_err() {
            tracing::error!("the vault's committing thread ended with a panic");
        }
        ended.ok()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

fn run(db: &Database, tables: &Tables, room: &Room, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut bytes = first.writes.bytes;
        let mut gathered = vec![first];
        while bytes < GATHER_MAX_BYTES
            && let Ok(next) = requests.try_recv()
        {
            bytes = bytes.saturating_add(next.writes.bytes);
            gathered.push(next);
        }
        let mut waiting = Vec::with_capacity(gathered.len());
        // The database gives one sequence number to a batch, so a key may stand in it only once:
        // the last change wins, as it would have done one commit later.
        let mut changes = Changes::new();
        for Request { writes, answer } in gathered {
            if let Some(failure) = first_existing(tables, &changes, &writes.new_records) {
                drop(answer.send(Err(failure)));
                continue;
            }
            waiting.push(answer);
            for (table, key, value) in writes.changes {
                changes.insert((table, key), value);
            }
        }
        if waiting.is_empty() {
            continue;
        }
        let answer = write(db, tables, room, changes, bytes);
        for caller in waiting {
            // A caller that stopped waiting loses only the answer; the write stands.
            drop(caller.send(answer.clone()));
        }
    }
}

type Changes = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// The first of some record versions that exists, on disk or among the changes gathered before.
fn first_existing(tables: &Tables, changes: &Changes, new_records: &[Vec<u8>]) -> Option<Failure> {
    for meta_key in new_records {
        let exists = match changes.get(&(Table::Meta, meta_key.clone())) {
            Some(value) => Ok(value.is_some()),
            None => tables.of(Table::Meta).contains_key(meta_key),
        };
        match exists {
            Ok(false) => {}
            Ok(true) => {
                return Some(Failure::Exists {
                    meta_key: meta_key.clone(),
                });
            }
            Err(error) => return Some(Failure::Database(Arc::new(error))),
        }
    }
    None
}

fn write(db: &Database, tables: &Tables, room: &Room, changes: Changes, bytes: usize) -> Answer {
    // The engine refuses all further writes once one has failed. Looking first keeps a full disk
    // from being such a failure. Only records are refused: a full disk must not keep anybody from
    // erasing, or from ending a grant, which takes a new key.
    let adds = changes
        .iter()
        .any(|((table, _), value)| value.is_some() && table.is_of_records());
    if adds {
        room.check(bytes as u64)
            .map_err(|available_bytes| Failure::Full { available_bytes })?;
    }
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    for ((table, key), value) in changes {
        match value {
            Some(value) => batch.insert(tables.of(table), key, value),
            None => batch.remove(tables.of(table), key),
        }
    }
    batch
        .commit()
        .map_err(|error| Failure::Database(Arc::new(error)))
}
