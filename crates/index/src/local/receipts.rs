//! Access receipts: each organisation's hash-chained sequence, durable before a read is answered.
//!
//! One thread writes. It takes whatever waits, writes it in one transaction and syncs once, so that many readers
//! share the wait for the disk. Sequence numbers and heads are given there and nowhere else.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use alloy_primitives::{Address, B256};
use alloy_rlp::Decodable as _;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use stele_core::receipt::{AccessReceipt, next_head};

use super::LocalStore;
use crate::error::{Attempt as _, Error, Result};

/// A receipt in its sequence, on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The receipt, with its sequence number.
    pub receipt: AccessReceipt,
    /// Its digest.
    pub digest: B256,
    /// Head of the organisation's hash chain after it.
    pub head: B256,
}

/// What is called when receipts are durable, or could not be made so.
type Done = Box<dyn FnOnce(Result<Vec<Appended>>) + Send>;

struct Request {
    receipts: Vec<AccessReceipt>,
    done: Done,
}

/// The thread that writes receipts.
pub(crate) struct ReceiptWriter {
    requests: Option<mpsc::SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl ReceiptWriter {
    pub(crate) fn start(connection: Arc<Mutex<Connection>>) -> Result<Self> {
        let (requests, waiting) = mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("stele-receipts".to_owned())
            .spawn(move || write_all(&connection, &waiting))
            .map_err(|_| Error::Closed)?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    fn send(&self, request: Request) {
        let refused = match &self.requests {
            Some(requests) => requests.send(request).err().map(|refused| refused.0),
            None => Some(request),
        };
        if let Some(request) = refused {
            (request.done)(Err(Error::Closed));
        }
    }
}

impl Drop for ReceiptWriter {
    /// Writes what waits and ends the thread.
    fn drop(&mut self) {
        self.requests = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A callback may own the last handle of the store; the thread can't wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the writer of access receipts has panicked");
        }
    }
}

impl std::fmt::Debug for ReceiptWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptWriter")
    }
}

impl LocalStore {
    /// Appends receipts to their organisations' sequences and returns when they are on disk. `sequence` is given
    /// here, whatever the receipts say.
    ///
    /// # Errors
    /// [`Error::Append`] or [`Error::Closed`]: none of them is written.
    pub fn append(&self, receipts: Vec<AccessReceipt>) -> Result<Vec<Appended>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.append_then(receipts, move |result| {
            // The receiver is gone only if this caller is.
            drop(sender.send(result));
        });
        receiver.recv().unwrap_or(Err(Error::Closed))
    }

    /// As [`Self::append`], calling back from the writing thread instead of blocking: for callers on an async
    /// runtime. The callback must be quick. Blocks only while very many wait.
    pub fn append_then(
        &self,
        receipts: Vec<AccessReceipt>,
        done: impl FnOnce(Result<Vec<Appended>>) + Send + 'static,
    ) {
        self.receipts.send(Request {
            receipts,
            done: Box::new(done),
        });
    }

    /// Next sequence number of an organisation and the head of its hash chain; zeros before the first.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn receipt_head(&self, organization: Address) -> Result<(u64, B256)> {
        read_head(&*self.file.reader()?, organization)
    }

    /// Goes on with an organisation's sequence after a head that the ledger has, if receipts up to there are lost here;
    /// gives how many. To be called before anything is appended.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn resume_receipts(&self, organization: Address, next: u64, head: B256) -> Result<u64> {
        const WHAT: &str = "going on with a receipt sequence";
        let connection = self.writer.lock();
        let (here, _) = read_head(&connection, organization)?;
        if here >= next {
            return Ok(0);
        }
        connection
            .execute(
                "INSERT OR REPLACE INTO receipt_heads (organization, sequence, head) VALUES (?1, ?2, ?3)",
                params![organization.as_slice(), next.cast_signed(), head.as_slice()],
            )
            .attempt(WHAT)?;
        Ok(next - here)
    }

    /// An organisation's receipts in order, from a sequence number on.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Corrupt`].
    pub fn receipts_from(
        &self,
        organization: Address,
        first: u64,
        limit: u32,
    ) -> Result<Vec<Appended>> {
        self.receipts(
            "SELECT receipt, head FROM receipts WHERE organization = ?1 AND sequence >= ?2
             ORDER BY sequence LIMIT ?3",
            params![organization.as_slice(), first.cast_signed(), limit],
        )
    }

    /// An organisation's receipts backwards, below a sequence number.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Corrupt`].
    pub fn receipts_below(
        &self,
        organization: Address,
        below: u64,
        limit: u32,
    ) -> Result<Vec<Appended>> {
        let below = below.min(i64::MAX.unsigned_abs()).cast_signed();
        self.receipts(
            "SELECT receipt, head FROM receipts WHERE organization = ?1 AND sequence < ?2
             ORDER BY sequence DESC LIMIT ?3",
            params![organization.as_slice(), below, limit],
        )
    }

    /// Receipts about a patient's (or an organisation's) log, newest first; `before` continues after the last receipt
    /// of an earlier list. Organisation and sequence number tell receipts of one millisecond apart, so that a list
    /// in parts neither repeats nor misses one.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Corrupt`].
    pub fn receipts_about(
        &self,
        log: Address,
        before: Option<&AccessReceipt>,
        limit: u32,
    ) -> Result<Vec<Appended>> {
        let (at_ms, organization, sequence) =
            before.map_or((i64::MAX, Address::repeat_byte(0xff), i64::MAX), |last| {
                (
                    last.at_ms.cast_signed(),
                    last.organization,
                    last.sequence.cast_signed(),
                )
            });
        self.receipts(
            "SELECT receipt, head FROM receipts WHERE log = ?1 AND (at_ms, organization, sequence) < (?2, ?3, ?4)
             ORDER BY at_ms DESC, organization DESC, sequence DESC LIMIT ?5",
            params![log.as_slice(), at_ms, organization.as_slice(), sequence, limit],
        )
    }

    /// Keeps receipts out of another organisation's sequence, which has its own heads and need not be whole here. Those
    /// that are kept already are passed over.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn keep_receipts(&self, receipts: &[AccessReceipt]) -> Result<()> {
        const WHAT: &str = "keeping access receipts of another member";
        let mut connection = self.writer.lock();
        let step = connection.transaction().attempt(WHAT)?;
        {
            let mut statement = step
                .prepare_cached(
                    "INSERT OR IGNORE INTO receipts (organization, sequence, receipt, head, log, at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )
                .attempt(WHAT)?;
            for receipt in receipts {
                statement
                    .execute(params![
                        receipt.organization.as_slice(),
                        receipt.sequence.cast_signed(),
                        alloy_rlp::encode(receipt),
                        B256::ZERO.as_slice(),
                        receipt.log.as_slice(),
                        receipt.at_ms.cast_signed()
                    ])
                    .attempt(WHAT)?;
            }
        }
        step.commit().attempt(WHAT)
    }

    fn receipts(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Appended>> {
        const WHAT: &str = "reading access receipts";
        let reader = self.file.reader()?;
        let mut statement = reader.prepare_cached(sql).attempt(WHAT)?;
        let mut rows = statement.query(values).attempt(WHAT)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().attempt(WHAT)? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

/// Writes requests until all senders are gone and none waits.
fn write_all(connection: &Mutex<Connection>, waiting: &mpsc::Receiver<Request>) {
    while let Ok(first) = waiting.recv() {
        let mut requests = vec![first];
        requests.extend(waiting.try_iter().take(WAITING));
        let receipts: Vec<&AccessReceipt> = requests
            .iter()
            .flat_map(|request| &request.receipts)
            .collect();
        match write_group(&mut connection.lock(), &receipts) {
            Ok(appended) => {
                let mut appended = appended.into_iter();
                for request in requests {
                    let own = appended.by_ref().take(request.receipts.len()).collect();
                    (request.done)(Ok(own));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for request in requests {
                    (request.done)(Err(Error::Append(Arc::clone(&error))));
                }
            }
        }
    }
}

fn write_group(connection: &mut Connection, receipts: &[&AccessReceipt]) -> Result<Vec<Appended>> {
    const WHAT: &str = "appending access receipts";
    let step = connection.transaction().attempt(WHAT)?;
    let mut heads: HashMap<Address, (u64, B256)> = HashMap::new();
    let mut appended = Vec::with_capacity(receipts.len());
    {
        let mut statement = step
            .prepare_cached(
                "INSERT INTO receipts (organization, sequence, receipt, head, log, at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .attempt(WHAT)?;
        for receipt in receipts {
            let (next, head) = match heads.get(&receipt.organization) {
                Some(known) => *known,
                None => read_head(&step, receipt.organization)?,
            };
            let receipt = AccessReceipt {
                sequence: next,
                ..(*receipt).clone()
            };
            let digest = receipt.digest();
            let head = next_head(head, digest);
            statement
                .execute(params![
                    receipt.organization.as_slice(),
                    next.cast_signed(),
                    alloy_rlp::encode(&receipt),
                    head.as_slice(),
                    receipt.log.as_slice(),
                    receipt.at_ms.cast_signed()
                ])
                .attempt(WHAT)?;
            heads.insert(receipt.organization, (next + 1, head));
            appended.push(Appended {
                receipt,
                digest,
                head,
            });
        }
    }
    step.commit().attempt(WHAT)?;
    Ok(appended)
}

fn read_head(db: &Connection, organization: Address) -> Result<(u64, B256)> {
    const WHAT: &str = "reading the head of a receipt sequence";
    let found = db
        .prepare_cached(
            "SELECT * FROM (SELECT sequence + 1 AS next, head FROM receipts WHERE organization = ?1
                 ORDER BY sequence DESC LIMIT 1)
             UNION ALL SELECT sequence, head FROM receipt_heads WHERE organization = ?1
             ORDER BY next DESC LIMIT 1",
        )
        .attempt(WHAT)?
        .query_row([organization.as_slice()], |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                B256::from(row.get::<_, [u8; 32]>(1)?),
            ))
        })
        .optional()
        .attempt(WHAT)?;
    Ok(found.unwrap_or_default())
}

fn read(row: &Row<'_>) -> Result<Appended> {
    const WHAT: &str = "reading an access receipt";
    let bytes: Vec<u8> = row.get(0).attempt(WHAT)?;
    let head: [u8; 32] = row.get(1).attempt(WHAT)?;
    let receipt =
        AccessReceipt::decode(&mut bytes.as_slice()).map_err(|problem| Error::Corrupt {
            what: WHAT,
            problem: problem.to_string(),
        })?;
    Ok(Appended {
        digest: receipt.digest(),
        receipt,
        head: head.into(),
    })
}

/// Requests that may wait before those who ask are made to.
const WAITING: usize = 4_096;
