//! Events of Emergency. The grant of an opening is Consent's event.

use rusqlite::params;
use stele_core::abi::emergency::IEmergency::IEmergencyEvents as Event;

use super::{Block, bytes, number};
use crate::error::Result;

impl Block<'_> {
    pub(super) fn emergency(&self, event: &Event, tx: i64) -> Result<()> {
        match event {
            Event::Opened(e) => self.run(
                "REPLACE INTO openings (number, patient, clinician, grant_id, reason, details, until, tx)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    number(e.number),
                    bytes(&e.patient),
                    bytes(&e.clinician),
                    e.grantId,
                    e.reason,
                    e.detailsDigest.as_slice(),
                    number(e.until.to()),
                    tx
                ],
            ),
            Event::Reviewed(e) => self.run(
                "UPDATE openings SET verdict = ?2, reviewer = ?3, review_details = ?4, review_tx = ?5 WHERE number = ?1",
                params![
                    number(e.number),
                    e.verdict,
                    bytes(&e.reviewer),
                    e.detailsDigest.as_slice(),
                    tx
                ],
            ),
        }
    }
}
