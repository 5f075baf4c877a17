//! Events of Records.

use rusqlite::params;
use stele_core::abi::records::IRecords::IRecordsEvents as Event;

use super::{Block, bytes, number};
use crate::error::Result;

impl Block<'_> {
    pub(super) fn records(&self, event: &Event, tx: i64) -> Result<()> {
        match event {
            Event::Anchored(e) => self.run(
                "REPLACE INTO anchors (log, first, root, author, slots, leaves, tx) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    bytes(&e.log),
                    number(e.first),
                    e.root.as_slice(),
                    bytes(&e.author),
                    e.categories.as_ref(),
                    e.leaves.as_flattened_bytes(),
                    tx
                ],
            ),
            Event::Tombstoned(e) => self.run(
                "REPLACE INTO tombstones (log, leaf, at, reason, author, hash, tx) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    bytes(&e.log),
                    number(e.index),
                    number(e.at),
                    e.reason,
                    bytes(&e.author),
                    e.leaf.as_slice(),
                    tx
                ],
            ),
            Event::Disputed(e) => self.run(
                "INSERT INTO disputes (log, leaf, by, reason, tx) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![bytes(&e.log), number(e.index), bytes(&e.by), e.reason, tx],
            ),
            Event::CustodyTransferred(e) => self.run(
                "REPLACE INTO custody (log, custodian, tx) VALUES (?1, ?2, ?3)",
                params![bytes(&e.log), bytes(&e.to), tx],
            ),
        }
    }
}

/// Leaves one after another, 32 bytes each.
trait AsFlattenedBytes {
    fn as_flattened_bytes(&self) -> Vec<u8>;
}

impl AsFlattenedBytes for Vec<alloy_primitives::B256> {
    fn as_flattened_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|leaf| leaf.0).collect()
    }
}
