//! Leaves of the logs: what was anchored, where, by whom, when.

use std::collections::HashMap;

use alloy_primitives::{Address, B256};
use rusqlite::Row;

use super::{Happened, address, hash, unsigned};
use crate::{
    ChainIndex,
    error::{Error, Result},
};

/// One leaf of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The log.
    pub log: Address,
    /// Its index there.
    pub index: u64,
    /// The commitment.
    pub leaf: B256,
    /// Category slot; nothing for a tombstone, whose event does not name it.
    pub category_slot: Option<u8>,
    /// Who wrote it.
    pub author: Address,
    /// When it was anchored.
    pub anchored: Happened,
}

/// Erasure of the record whose leaf stands at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The log.
    pub log: Address,
    /// Index of the leaf that no longer stands for anything.
    pub index: u64,
    /// Index of the tombstone's own leaf.
    pub at: u64,
    /// Coded reason.
    pub reason: u8,
    /// Who erased.
    pub author: Address,
    /// The tombstone's own leaf.
    pub leaf: B256,
    /// When.
    pub anchored: Happened,
}

impl ChainIndex {
    /// One leaf of a log.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Corrupt`].
    pub fn leaf(&self, log: Address, index: u64) -> Result<Option<Leaf>> {
        let batch = self.batch_before(log, index)?;
        if let Some(found) = batch.and_then(|batch| batch.leaf(index)) {
            return Ok(Some(found));
        }
        let sql = format!("{TOMBSTONES} WHERE c.log = ?1 AND c.at = ?2");
        let values = (log.as_slice(), index.cast_signed());
        Ok(self
            .list(READING, &sql, values, read_tombstone)?
            .pop()
            .map(Tombstone::into_leaf))
    }

    /// The commitments that stand at some places of a log, by place; what is not there is left out. As
    /// [`Self::leaf`] for each, but a batch is read once for all that lie in it.
    ///
    /// # Errors
    /// As [`Self::leaf`].
    pub fn commitments(&self, log: Address, places: &[u64]) -> Result<HashMap<u64, B256>> {
        let mut places = places.to_vec();
        places.sort_unstable();
        let mut found = HashMap::with_capacity(places.len());
        let mut batch: Option<Batch> = None;
        for place in places {
            let mut leaf = batch.as_ref().and_then(|batch| batch.leaf(place));
            if leaf.is_none() {
                batch = self.batch_before(log, place)?;
                leaf = batch.as_ref().and_then(|batch| batch.leaf(place));
            }
            if leaf.is_none() {
                leaf = self.leaf(log, place)?;
            }
            found.extend(leaf.map(|leaf| (place, leaf.leaf)));
        }
        Ok(found)
    }

    /// The last batch that begins at a place or before it.
    fn batch_before(&self, log: Address, place: u64) -> Result<Option<Batch>> {
        let sql =
            format!("{ANCHORS} WHERE c.log = ?1 AND c.first <= ?2 ORDER BY c.first DESC LIMIT 1");
        let values = (log.as_slice(), place.cast_signed());
        let mut batches = self.list(READING, &sql, values, |row| Batch::read(row, log))?;
        let batch = batches.pop();
        batch
            .as_ref()
            .map(|batch| batch.check(READING))
            .transpose()?;
        Ok(batch)
    }

    /// All leaves of a log in order, tombstones included, from an index on and at most so many.
    ///
    /// # Errors
    /// As [`Self::leaf`].
    pub fn leaves_of(&self, log: Address, from: u64, limit: usize) -> Result<Vec<Leaf>> {
        const WHAT: &str = "listing a log's leaves";
        // The batch that `from` lies in begins before it.
        let sql = format!(
            "{ANCHORS} WHERE c.log = ?1 AND c.first >= coalesce(
                (SELECT max(first) FROM anchors WHERE log = ?1 AND first <= ?2), 0)
             ORDER BY c.first LIMIT ?3"
        );
        let batches_max = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let values = (log.as_slice(), from.cast_signed(), batches_max);
        let mut leaves = Vec::new();
        for batch in self.list(WHAT, &sql, values, |row| Batch::read(row, log))? {
            leaves.extend(batch.leaves(WHAT)?);
        }
        let sql = format!("{TOMBSTONES} WHERE c.log = ?1 AND c.at >= ?2 ORDER BY c.at LIMIT ?3");
        let tombstones = self.list(WHAT, &sql, values, read_tombstone)?;
        leaves.extend(tombstones.into_iter().map(Tombstone::into_leaf));
        leaves.retain(|leaf| leaf.index >= from);
        leaves.sort_by_key(|leaf| leaf.index);
        leaves.dedup_by_key(|leaf| leaf.index);
        leaves.truncate(limit);
        Ok(leaves)
    }

    /// Number of leaves of a log.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn log_size(&self, log: Address) -> Result<u64> {
        let sql = "SELECT max(
                coalesce((SELECT first + length(slots) FROM anchors WHERE log = ?1 ORDER BY first DESC LIMIT 1), 0),
                coalesce((SELECT max(at) + 1 FROM tombstones WHERE log = ?1), 0))";
        let mut found = self.list("reading a log's size", sql, [log.as_slice()], |row| {
            unsigned(row, 0)
        })?;
        Ok(found.pop().unwrap_or_default())
    }

    /// All logs with their sizes as anchored, in order of address: what a rebuild goes through.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn logs(&self) -> Result<Vec<Address>> {
        let sql = "SELECT DISTINCT log FROM anchors ORDER BY log";
        self.list("listing logs", sql, [], |row| address(row, 0))
    }

    /// Tombstones of a log, in order of the leaves they cover.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn tombstones_of(&self, log: Address) -> Result<Vec<Tombstone>> {
        let sql = format!("{TOMBSTONES} WHERE c.log = ?1 ORDER BY c.leaf");
        self.list(
            "listing a log's tombstones",
            &sql,
            [log.as_slice()],
            read_tombstone,
        )
    }

    /// Every tombstone: what a restored backup must apply before it serves.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn tombstones(&self) -> Result<Vec<Tombstone>> {
        let sql = format!("{TOMBSTONES} ORDER BY c.log, c.leaf");
        self.list("listing tombstones", &sql, [], read_tombstone)
    }

    /// Organisation that holds a log's ciphertexts, where custody was transferred.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn custodian_of(&self, log: Address) -> Result<Option<Address>> {
        let sql = "SELECT custodian FROM custody WHERE log = ?1";
        Ok(self
            .list("reading a log's custodian", sql, [log.as_slice()], |row| {
                address(row, 0)
            })?
            .pop())
    }

    /// Disputes raised about a log's leaves: index, who, coded reason, when.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn disputes_of(&self, log: Address) -> Result<Vec<(u64, Address, u8, Happened)>> {
        let sql = "SELECT c.leaf, c.by, c.reason, t.hash, t.height, t.time_ms
            FROM disputes c JOIN transactions t ON t.id = c.tx WHERE c.log = ?1 ORDER BY c.leaf, c.tx";
        self.list("listing a log's disputes", sql, [log.as_slice()], |row| {
            Ok((
                unsigned(row, 0)?,
                address(row, 1)?,
                row.get(2)?,
                Happened::read(row, 3)?,
            ))
        })
    }
}

/// One row of `anchors`.
struct Batch {
    log: Address,
    first: u64,
    author: Address,
    slots: Vec<u8>,
    leaves: Vec<u8>,
    anchored: Happened,
}

impl Batch {
    fn read(row: &Row<'_>, log: Address) -> rusqlite::Result<Self> {
        Ok(Self {
            log,
            first: unsigned(row, 0)?,
            author: address(row, 1)?,
            slots: row.get(2)?,
            leaves: row.get(3)?,
            anchored: Happened::read(row, 4)?,
        })
    }

    /// Refuses a batch whose columns do not fit each other.
    fn check(&self, what: &'static str) -> Result<()> {
        let (leaves, rest) = self.leaves.as_chunks::<32>();
        if rest.is_empty() && leaves.len() == self.slots.len() {
            return Ok(());
        }
        let problem = format!(
            "a batch of {} slots and {} bytes",
            self.slots.len(),
            self.leaves.len()
        );
        Err(Error::Corrupt { what, problem })
    }

    /// The leaf at a place of the log, if it lies in this batch.
    fn leaf(&self, index: u64) -> Option<Leaf> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let leaf = self.leaves.as_chunks::<32>().0.get(place)?;
        Some(Leaf {
            log: self.log,
            index,
            leaf: B256::from(*leaf),
            category_slot: Some(*self.slots.get(place)?),
            author: self.author,
            anchored: self.anchored,
        })
    }

    fn leaves(&self, what: &'static str) -> Result<impl Iterator<Item = Leaf>> {
        self.check(what)?;
        let end = self.first.saturating_add(self.slots.len() as u64);
        Ok((self.first..end).filter_map(|index| self.leaf(index)))
    }
}

impl Tombstone {
    const fn into_leaf(self) -> Leaf {
        Leaf {
            log: self.log,
            index: self.at,
            leaf: self.leaf,
            category_slot: None,
            author: self.author,
            anchored: self.anchored,
        }
    }
}

fn read_tombstone(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    Ok(Tombstone {
        log: address(row, 0)?,
        index: unsigned(row, 1)?,
        at: unsigned(row, 2)?,
        reason: row.get(3)?,
        author: address(row, 4)?,
        leaf: hash(row, 5)?,
        anchored: Happened::read(row, 6)?,
    })
}

const READING: &str = "reading a leaf";

const ANCHORS: &str = "SELECT c.first, c.author, c.slots, c.leaves, t.hash, t.height, t.time_ms
    FROM anchors c JOIN transactions t ON t.id = c.tx";

const TOMBSTONES: &str =
    "SELECT c.log, c.leaf, c.at, c.reason, c.author, c.hash, t.hash, t.height, t.time_ms
    FROM tombstones c JOIN transactions t ON t.id = c.tx";
