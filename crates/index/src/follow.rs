//! Following the chain: one SQL transaction for each batch of finalized blocks.
//!
//! Owns `chain.db` and its writing. What it holds is a function of the blocks followed: the same blocks give the
//! same rows, whether followed one by one, in batches, twice, or again from the start. It decides nothing; the
//! contracts have decided.

mod consent;
mod emergency;
mod identity;
mod network;
mod prescriptions;
mod records;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use consent::{DECLINED, GRANTED};

use std::path::Path;

use alloy_primitives::{Address, B256, Log};
use alloy_sol_types::SolEventInterface;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use stele_core::{
    abi::{
        audit::IAudit::IAuditEvents, consent::IConsent::IConsentEvents,
        emergency::IEmergency::IEmergencyEvents, governance::IGovernance::IGovernanceEvents,
        identity::IIdentity::IIdentityEvents, prescriptions::IPrescriptions::IPrescriptionsEvents,
        records::IRecords::IRecordsEvents,
    },
    block::Validator,
    crypto::Secret32,
    id,
    time::Timestamp,
};

use crate::{
    error::{Attempt as _, Error, Result},
    sqlite::{Durability, File},
};

/// A block that is final, with what its transactions logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// Height; the first block has 0.
    pub height: u64,
    /// Digest of the header.
    pub hash: B256,
    /// Time of the header.
    pub timestamp: Timestamp,
    /// What the block changed before its transactions, if it is the first after an epoch that was ended by hand.
    pub seating: Option<Seated>,
    /// All logs, in order.
    pub logs: Vec<FinalizedLog>,
}

/// The seats of validators from a block on, whatever they were before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// Exactly these have seats.
    pub validators: Vec<Validator>,
    /// Organisations that are suspended with it.
    pub suspended: Vec<Address>,
}

/// One log of a finalized block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedLog {
    /// Hash of the transaction.
    pub tx_hash: B256,
    /// Position of the transaction in the block.
    pub tx_index: u64,
    /// Position of the log in the block.
    pub log_index: u64,
    /// The log.
    pub log: Log,
}

/// What the ledger says: `chain.db`.
#[derive(Debug)]
pub struct ChainIndex {
    file: File,
    writer: Mutex<Connection>,
}

impl ChainIndex {
    /// Opens or creates `chain.db`.
    ///
    /// # Errors
    /// As [`crate::Index::open`].
    pub fn open(folder: &Path, key: &Secret32) -> Result<Self> {
        let (file, writer) =
            File::open(folder, "chain.db", key, Durability::Rebuildable, MIGRATIONS)?;
        Ok(Self {
            file,
            writer: Mutex::new(writer),
        })
    }

    /// Follows one block. A block already followed changes nothing.
    ///
    /// # Errors
    /// [`Error::Gap`] if a block was left out, [`Error::Diverged`] if another block was followed at its height,
    /// [`Error::Event`] for a log that its contract's interface does not know, [`Error::Sql`]. Then nothing of the
    /// block is written.
    pub fn apply(&self, block: &FinalizedBlock) -> Result<()> {
        self.apply_all(std::slice::from_ref(block))
    }

    /// Follows blocks in order, all or none, in one transaction.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_all(&self, blocks: &[FinalizedBlock]) -> Result<()> {
        const WHAT: &str = "following the chain";
        let mut writer = self.writer.lock();
        // A transaction that reads before it writes is refused at once where another connection holds the file's
        // lock; one that takes the lock first waits for it.
        let step = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .attempt(WHAT)?;
        let mut head = followed(&step)?;
        for block in blocks {
            match head {
                Some((height, known)) if block.height == height && block.hash != known => {
                    return Err(Error::Diverged {
                        height,
                        known,
                        found: block.hash,
                    });
                }
                Some((height, _)) if block.height <= height => continue,
                Some((height, _)) if block.height > height + 1 => {
                    return Err(Error::Gap {
                        expected: height + 1,
                        found: block.height,
                    });
                }
                // The genesis block has no logs; a ledger may hand on the first one after it.
                None if block.height > 1 => {
                    return Err(Error::Gap {
                        expected: 0,
                        found: block.height,
                    });
                }
                _ => {}
            }
            Block {
                db: &step,
                block,
                tx: None,
            }
            .apply()?;
            head = Some((block.height, block.hash));
        }
        step.commit().attempt(WHAT)
    }

    /// Height of the last block followed.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn height(&self) -> Result<Option<u64>> {
        Ok(followed(&*self.file.reader()?)?.map(|(height, _)| height))
    }

    /// Empties the file, to follow the chain again from its start.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn clear(&self) -> Result<()> {
        const WHAT: &str = "emptying the chain index";
        let mut writer = self.writer.lock();
        let step = writer.transaction().attempt(WHAT)?;
        let tables: Vec<String> = step
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
            )
            .and_then(|mut tables| tables.query_map([], |row| row.get(0))?.collect())
            .attempt(WHAT)?;
        for table in tables {
            step.execute(&format!("DELETE FROM {table}"), [])
                .attempt(WHAT)?;
        }
        step.commit().attempt(WHAT)
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

/// Height and hash of the last block followed.
fn followed(db: &Connection) -> Result<Option<(u64, B256)>> {
    db.query_row("SELECT height, hash FROM followed", [], |row| {
        Ok((
            row.get::<_, i64>(0)?.cast_unsigned(),
            B256::from(row.get::<_, [u8; 32]>(1)?),
        ))
    })
    .optional()
    .attempt("reading how far the chain is followed")
}

/// One block being written.
struct Block<'a> {
    db: &'a Connection,
    block: &'a FinalizedBlock,
    /// Hash and row of the transaction whose logs are being written.
    tx: Option<(B256, i64)>,
}

impl Block<'_> {
    fn apply(mut self) -> Result<()> {
        if let Some(seated) = &self.block.seating {
            self.seat(seated)?;
        }
        for entry in &self.block.logs {
            let log = &entry.log;
            match log.address {
                id::IDENTITY => {
                    let event = self.decode::<IIdentityEvents>("Identity", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.identity(&event, tx)?;
                }
                id::RECORDS => {
                    let event = self.decode::<IRecordsEvents>("Records", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.records(&event, tx)?;
                }
                id::CONSENT => {
                    let event = self.decode::<IConsentEvents>("Consent", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.consent(&event, tx)?;
                }
                id::AUDIT => {
                    let event = self.decode::<IAuditEvents>("Audit", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.audit(&event, tx)?;
                }
                id::PRESCRIPTIONS => {
                    let event = self.decode::<IPrescriptionsEvents>("Prescriptions", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.prescriptions(&event, tx)?;
                }
                id::EMERGENCY => {
                    let event = self.decode::<IEmergencyEvents>("Emergency", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.emergency(&event, tx)?;
                }
                id::GOVERNANCE => {
                    let event = self.decode::<IGovernanceEvents>("Governance", log)?;
                    let tx = self.transaction(entry.tx_hash)?;
                    self.governance(&event, tx)?;
                }
                // Other contracts' logs are for JSON-RPC, which reads the receipts.
                _ => {}
            }
        }
        self.run(
            "REPLACE INTO followed (one, height, hash, time_ms) VALUES (1, ?1, ?2, ?3)",
            params![
                number(self.block.height),
                self.block.hash.as_slice(),
                number(self.block.timestamp.0)
            ],
        )
    }

    fn decode<E: SolEventInterface>(&self, contract: &'static str, log: &Log) -> Result<E> {
        E::decode_raw_log(log.topics(), &log.data.data).map_err(|source| Error::Event {
            height: self.block.height,
            contract,
            source,
        })
    }

    /// Row of a transaction, written when its first event is.
    fn transaction(&mut self, hash: B256) -> Result<i64> {
        if let Some((known, row)) = self.tx
            && known == hash
        {
            return Ok(row);
        }
        let row = self
            .db
            .prepare_cached("INSERT INTO transactions (hash, height, time_ms) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| {
                statement.insert(params![
                    hash.as_slice(),
                    number(self.block.height),
                    number(self.block.timestamp.0)
                ])
            })
            .attempt(WRITING)?;
        self.tx = Some((hash, row));
        Ok(row)
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        self.db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map(drop)
            .attempt(WRITING)
    }
}

/// A number of the ledger as SQLite stores it. Heights, indexes and times stay far below 2⁶³.
const fn number(value: u64) -> i64 {
    value.cast_signed()
}

/// An address as it is stored.
fn bytes(account: &Address) -> &[u8] {
    account.as_slice()
}

const WRITING: &str = "writing an event of the chain";

const MIGRATIONS: &[&str] = &[
    include_str!("schema/chain_0001.sql"),
    include_str!("schema/chain_0002.sql"),
    include_str!("schema/chain_0003.sql"),
    include_str!("schema/chain_0004.sql"),
];
