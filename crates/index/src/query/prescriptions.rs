//! Prescriptions: what was dispensed, and what was ended.

use alloy_primitives::Address;

use super::{Happened, address};
use crate::{ChainIndex, error::Result};

/// A dispensing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispensing {
    /// The prescription.
    pub id: Address,
    /// Its number among the prescription's dispensings, from 0.
    pub sequence: u16,
    /// Who dispensed.
    pub dispenser: Address,
    /// Portions dispensed.
    pub portions: u16,
    /// Portions that were left after it.
    pub left: u16,
    /// When.
    pub at: Happened,
}

impl ChainIndex {
    /// Dispensings of a prescription, in order.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn dispensings_of(&self, id: Address) -> Result<Vec<Dispensing>> {
        self.list(
            "listing dispensings",
            "SELECT d.id, d.sequence, d.dispenser, d.portions, d.remaining, t.hash, t.height, t.time_ms
             FROM dispensings d JOIN transactions t ON t.id = d.tx WHERE d.id = ?1 ORDER BY d.sequence",
            [id.as_slice()],
            read,
        )
    }

    /// Dispensings of a pharmacist, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn dispensings_by(&self, dispenser: Address, limit: u32) -> Result<Vec<Dispensing>> {
        self.list(
            "listing dispensings",
            "SELECT d.id, d.sequence, d.dispenser, d.portions, d.remaining, t.hash, t.height, t.time_ms
             FROM dispensings d JOIN transactions t ON t.id = d.tx WHERE d.dispenser = ?1 ORDER BY d.tx DESC LIMIT ?2",
            (dispenser.as_slice(), limit),
            read,
        )
    }

    /// Who ended a prescription, and when; nobody where it stands.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn cancellation_of(&self, id: Address) -> Result<Option<(Address, Happened)>> {
        let mut found = self.list(
            "reading a cancellation",
            "SELECT p.cancelled_by, t.hash, t.height, t.time_ms
             FROM prescriptions p JOIN transactions t ON t.id = p.cancelled_tx WHERE p.id = ?1",
            [id.as_slice()],
            |row| Ok((address(row, 0)?, Happened::read(row, 1)?)),
        )?;
        Ok(found.pop())
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Dispensing> {
    Ok(Dispensing {
        id: address(row, 0)?,
        sequence: row.get(1)?,
        dispenser: address(row, 2)?,
        portions: row.get(3)?,
        left: row.get(4)?,
        at: Happened::read(row, 5)?,
    })
}
