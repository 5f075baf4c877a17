//! Events of Prescriptions.

use rusqlite::params;
use stele_core::abi::prescriptions::IPrescriptions::IPrescriptionsEvents as Event;

use super::{Block, bytes};
use crate::error::Result;

impl Block<'_> {
    pub(super) fn prescriptions(&self, event: &Event, tx: i64) -> Result<()> {
        match event {
            Event::Issued(e) => self.run(
                "REPLACE INTO prescriptions (id, prescriber, tx) VALUES (?1, ?2, ?3)",
                params![bytes(&e.id), bytes(&e.prescriber), tx],
            ),
            Event::Dispensed(e) => self.run(
                "REPLACE INTO dispensings (id, sequence, dispenser, portions, remaining, tx) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![bytes(&e.id), e.sequence, bytes(&e.dispenser), e.portions, e.left, tx],
            ),
            Event::Cancelled(e) => self.run(
                "UPDATE prescriptions SET cancelled_by = ?2, cancelled_tx = ?3 WHERE id = ?1",
                params![bytes(&e.id), bytes(&e.by), tx],
            ),
        }
    }
}
