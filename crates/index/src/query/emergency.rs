//! Emergencies: records opened without leave.

use alloy_primitives::{Address, B256};
use rusqlite::{Row, types::ValueRef};
use stele_core::{id::PatientId, time::Timestamp};

use super::{Happened, address, hash, unsigned};
use crate::{ChainIndex, error::Result};

/// A record opened in an emergency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its number on the ledger, from 1.
    pub number: u64,
    /// Whose record.
    pub patient: PatientId,
    /// Who opened it.
    pub clinician: Address,
    /// Number of the grant in Consent.
    pub grant: u32,
    /// 1 the patient can't answer, 2 danger to life, 3 danger to another person, 4 other.
    pub reason: u8,
    /// Digest of the words.
    pub details: B256,
    /// When it ends by itself.
    pub until: Timestamp,
    /// When it was opened.
    pub opened: Happened,
    /// How it was judged; nothing while it waits.
    pub review: Option<Review>,
}

/// How an opening was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// 1 justified, 2 not justified.
    pub verdict: u8,
    /// Who judged.
    pub reviewer: Address,
    /// Digest of the words.
    pub details: B256,
    /// When.
    pub at: Happened,
}

const COLUMNS: &str = "SELECT o.number, o.patient, o.clinician, o.grant_id, o.reason, o.details, o.until,
     t.hash, t.height, t.time_ms, o.verdict, o.reviewer, o.review_details, r.hash, r.height, r.time_ms
     FROM openings o JOIN transactions t ON t.id = o.tx LEFT JOIN transactions r ON r.id = o.review_tx";

impl ChainIndex {
    /// Openings of a patient's record, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn openings_of(&self, patient: PatientId, limit: u32) -> Result<Vec<Opening>> {
        self.list(
            "listing emergencies",
            &format!("{COLUMNS} WHERE o.patient = ?1 ORDER BY o.number DESC LIMIT ?2"),
            (patient.0.as_slice(), limit),
            read,
        )
    }

    /// Openings by clinicians of an organisation, those that wait for a review first, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn openings_by_staff_of(&self, organization: Address, limit: u32) -> Result<Vec<Opening>> {
        self.list(
            "listing emergencies",
            &format!(
                "{COLUMNS} JOIN accounts a ON a.address = o.clinician WHERE a.sponsor = ?1
                 ORDER BY o.verdict = 0 DESC, o.number DESC LIMIT ?2"
            ),
            (organization.as_slice(), limit),
            read,
        )
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Opening> {
    let is_reviewed = row.get_ref(11)? != ValueRef::Null;
    let review = match (is_reviewed, Happened::read_optional(row, 13)?) {
        (true, Some(at)) => Some(Review {
            verdict: row.get(10)?,
            reviewer: address(row, 11)?,
            details: hash(row, 12)?,
            at,
        }),
        _ => None,
    };
    Ok(Opening {
        number: unsigned(row, 0)?,
        patient: PatientId(address(row, 1)?),
        clinician: address(row, 2)?,
        grant: row.get(3)?,
        reason: row.get(4)?,
        details: hash(row, 5)?,
        until: Timestamp::from_seconds(unsigned(row, 6)?),
        opened: Happened::read(row, 7)?,
        review,
    })
}
