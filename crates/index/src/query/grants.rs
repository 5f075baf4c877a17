//! Who may do what with whose records, and who has asked to.

use alloy_primitives::{Address, B256};
use rusqlite::Row;
use stele_core::{
    consent::{Period, Permissions, Purpose, Terms},
    id::PatientId,
    time::Timestamp,
};

use super::{Happened, address, hash, unsigned};
use crate::{ChainIndex, error::Result};

/// A grant, live or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who gave it.
    pub patient: PatientId,
    /// Who holds it.
    pub grantee: Address,
    /// Its number, unique for the two.
    pub id: u32,
    /// What it says.
    pub terms: Terms,
    /// Digest of the key envelope handed over off chain.
    pub envelope_digest: B256,
    /// The request it answered, or 0.
    pub request: u32,
    /// When it was given.
    pub granted: Happened,
    /// When it was revoked.
    pub revoked: Option<Happened>,
}

impl Grant {
    /// Whether it holds at a moment.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        let now = now.seconds();
        self.revoked.is_none()
            && self.terms.period.from.seconds() <= now
            && now < self.terms.period.until.seconds()
    }
}

/// State of a request for access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStatus {
    /// Waits for the patient, unless it has expired.
    Open,
    /// Answered by a grant.
    Granted,
    /// Declined.
    Declined,
}

/// A request for access. What is asked is off chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    /// Who is asked.
    pub patient: PatientId,
    /// Its number, unique for the patient.
    pub id: u32,
    /// Who asks.
    pub requester: Address,
    /// Digest of what is asked.
    pub details_digest: B256,
    /// When it lapses.
    pub expires: Timestamp,
    /// Its state.
    pub status: RequestStatus,
    /// When it was made.
    pub requested: Happened,
    /// When it was answered.
    pub closed: Option<Happened>,
}

impl ChainIndex {
    /// All grants a patient ever gave, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn grants_of(&self, patient: PatientId) -> Result<Vec<Grant>> {
        let sql = format!("{GRANTS} WHERE g.patient = ?1 ORDER BY g.tx DESC, g.grantee, g.id DESC");
        self.list(
            "listing a patient's grants",
            &sql,
            [patient.as_bytes()],
            read_grant,
        )
    }

    /// All grants an account ever held, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn grants_to(&self, grantee: Address) -> Result<Vec<Grant>> {
        let sql = format!("{GRANTS} WHERE g.grantee = ?1 ORDER BY g.tx DESC, g.patient, g.id DESC");
        self.list(
            "listing an account's grants",
            &sql,
            [grantee.as_slice()],
            read_grant,
        )
    }

    /// Grants that were not revoked and ended in a period: their records' search values are to be purged.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn grants_expired(&self, since: Timestamp, until: Timestamp) -> Result<Vec<Grant>> {
        let sql = format!(
            "{GRANTS} WHERE g.revoked_tx IS NULL AND g.expires > ?1 AND g.expires <= ?2 ORDER BY g.expires"
        );
        let values = [since.seconds().cast_signed(), until.seconds().cast_signed()];
        self.list("listing expired grants", &sql, values, read_grant)
    }

    /// Category slots of a patient's records of a month that any of these accounts may use now for a permission
    /// and all purposes, as a bit set. A patient may do everything with its own.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn open_categories(
        &self,
        patient: PatientId,
        principals: &[Address],
        permission: Permissions,
        purposes: u16,
        month: u16,
        now: Timestamp,
    ) -> Result<u64> {
        if principals.contains(&patient.0) {
            return Ok(u64::MAX);
        }
        let mut open = 0;
        for grantee in principals {
            let sql = format!("{GRANTS} WHERE g.patient = ?1 AND g.grantee = ?2");
            let values = (patient.as_bytes(), grantee.as_slice());
            for grant in self.list("reading open categories", &sql, values, read_grant)? {
                let terms = &grant.terms;
                if grant.is_live(now)
                    && terms.permissions.contains(permission)
                    && terms.purpose_bits() & purposes == purposes
                    && (terms.records_from..=terms.records_to).contains(&month)
                {
                    open |= terms.categories;
                }
            }
        }
        Ok(open)
    }

    /// Patients who, by a grant of a transaction after `after`, let an account of another organisation than their own add to
    /// their record, ended grants included; and the last transaction with a grant, to go on from.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn writers_elsewhere(&self, after: i64) -> Result<(Vec<PatientId>, i64)> {
        const WHAT: &str = "listing patients others write for";
        // The organisations of the first block are no rows of accounts: such a grantee acts for itself.
        let sql = "SELECT DISTINCT g.patient FROM grants g JOIN accounts p ON p.address = g.patient
             LEFT JOIN accounts w ON w.address = g.grantee
             WHERE g.permissions & 2 AND g.tx > ?1 AND g.tx <= ?2
             AND coalesce(CASE WHEN w.kind = 1 THEN w.address ELSE w.sponsor END, g.grantee) <> p.sponsor";
        let last = "SELECT coalesce(max(tx), ?1) FROM grants WHERE permissions & 2 AND tx > ?1";
        let last = self.list(WHAT, last, [after], |row| row.get::<_, i64>(0))?;
        let last = last.first().copied().unwrap_or(after);
        let read = |row: &Row<'_>| address(row, 0).map(PatientId);
        Ok((self.list(WHAT, sql, [after, last], read)?, last))
    }

    /// All requests made to a patient, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn requests_of(&self, patient: PatientId) -> Result<Vec<AccessRequest>> {
        let sql = format!("{REQUESTS} WHERE q.patient = ?1 ORDER BY q.id DESC");
        self.list(
            "listing requests to a patient",
            &sql,
            [patient.as_bytes()],
            read_request,
        )
    }

    /// All requests an account made, newest first.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn requests_by(&self, requester: Address) -> Result<Vec<AccessRequest>> {
        let sql = format!("{REQUESTS} WHERE q.requester = ?1 ORDER BY q.tx DESC, q.id DESC");
        self.list(
            "listing an account's requests",
            &sql,
            [requester.as_slice()],
            read_request,
        )
    }

    /// Root of a patient's published directory of keys.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn directory_root(&self, patient: PatientId) -> Result<Option<B256>> {
        let sql = "SELECT root FROM directories WHERE patient = ?1";
        let mut found = self.list(
            "reading a key directory's root",
            sql,
            [patient.as_bytes()],
            |row| hash(row, 0),
        )?;
        Ok(found.pop())
    }
}

fn read_grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    let purposes: u16 = row.get(5)?;
    Ok(Grant {
        patient: PatientId(address(row, 0)?),
        grantee: address(row, 1)?,
        id: row.get(2)?,
        terms: Terms {
            categories: unsigned(row, 3)?,
            permissions: Permissions(row.get(4)?),
            purposes: Purpose::ALL
                .into_iter()
                .filter(|purpose| purposes & purpose.bit() != 0)
                .collect(),
            period: Period {
                from: Timestamp::from_seconds(unsigned(row, 6)?),
                until: Timestamp::from_seconds(unsigned(row, 7)?),
            },
            records_from: row.get(8)?,
            records_to: row.get(9)?,
        },
        envelope_digest: hash(row, 10)?,
        request: row.get(11)?,
        granted: Happened::read(row, 12)?,
        revoked: Happened::read_optional(row, 15)?,
    })
}

fn read_request(row: &Row<'_>) -> rusqlite::Result<AccessRequest> {
    use crate::follow::{DECLINED, GRANTED};
    let status: u8 = row.get(5)?;
    Ok(AccessRequest {
        patient: PatientId(address(row, 0)?),
        id: row.get(1)?,
        requester: address(row, 2)?,
        details_digest: hash(row, 3)?,
        expires: Timestamp::from_seconds(unsigned(row, 4)?),
        status: match status {
            GRANTED => RequestStatus::Granted,
            DECLINED => RequestStatus::Declined,
            _ => RequestStatus::Open,
        },
        requested: Happened::read(row, 6)?,
        closed: Happened::read_optional(row, 9)?,
    })
}

const GRANTS: &str = "SELECT g.patient, g.grantee, g.id, g.categories, g.permissions, g.purposes, g.not_before,
    g.expires, g.records_from, g.records_to, g.envelope, g.request, t.hash, t.height, t.time_ms,
    e.hash, e.height, e.time_ms
    FROM grants g JOIN transactions t ON t.id = g.tx LEFT JOIN transactions e ON e.id = g.revoked_tx";

const REQUESTS: &str = "SELECT q.patient, q.id, q.requester, q.details, q.expires, q.status,
    t.hash, t.height, t.time_ms, e.hash, e.height, e.time_ms
    FROM requests q JOIN transactions t ON t.id = q.tx LEFT JOIN transactions e ON e.id = q.closed_tx";
