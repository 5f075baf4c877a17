//! Forgetting: values of superseded versions, erased records, revoked access.

use alloy_primitives::Address;
use rusqlite::{Connection, OptionalExtension as _, params};
use stele_core::id::{PatientId, RecordId};

use super::SearchIndex;
use crate::{
    error::{Attempt as _, Result},
    sqlite::checkpoint,
};

impl SearchIndex {
    /// Forgets records altogether, all versions and values, when their keys are destroyed. What is deleted is
    /// overwritten in the file. Gives the number of records that were there.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn erase(&self, records: &[RecordId]) -> Result<u64> {
        const WHAT: &str = "erasing records from the search index";
        self.forget(WHAT, |db| {
            let mut found = Vec::new();
            for record in records {
                let id: Option<i64> = db
                    .query_row(
                        "SELECT id FROM resources WHERE record = ?1",
                        [record.as_bytes()],
                        |row| row.get(0),
                    )
                    .optional()
                    .attempt(WHAT)?;
                found.extend(id);
            }
            Ok(found)
        })
    }

    /// Forgets a patient's resources in these category slots (a bit set), when this organisation may no longer
    /// open them: after revocation and expiry. Gives the number of resources forgotten.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn purge(&self, patient: PatientId, categories: u64) -> Result<u64> {
        const WHAT: &str = "purging a patient's search values";
        self.forget(WHAT, |db| {
            let log: Address = patient.0;
            let mut statement = db
                .prepare_cached(
                    "SELECT r.id FROM resources r JOIN accounts a ON a.id = r.log
                     WHERE a.address = ?1 AND r.is_patients = 1 AND ((?2 >> r.slot) & 1) = 1",
                )
                .attempt(WHAT)?;
            let rows = statement
                .query_map(params![log.as_slice(), categories.cast_signed()], |row| {
                    row.get(0)
                })
                .attempt(WHAT)?;
            rows.collect::<rusqlite::Result<Vec<i64>>>().attempt(WHAT)
        })
    }

    fn forget(
        &self,
        what: &'static str,
        select: impl FnOnce(&Connection) -> Result<Vec<i64>>,
    ) -> Result<u64> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let step = writer.connection.transaction().attempt(what)?;
        let found = select(&step)?;
        for resource in &found {
            forget_values(&step, *resource)?;
            step.execute("DELETE FROM versions WHERE resource = ?1", [resource])
                .attempt(what)?;
            step.execute("DELETE FROM resources WHERE id = ?1", [resource])
                .attempt(what)?;
        }
        if !found.is_empty() {
            sweep(&step)?;
        }
        step.commit().attempt(what)?;
        writer.dictionary.forget();
        if !found.is_empty() {
            checkpoint(&writer.connection)?;
        }
        Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
    }
}

/// Deletes the search values of one resource.
pub(crate) fn forget_values(db: &Connection, resource: i64) -> Result<()> {
    const WHAT: &str = "forgetting search values";
    for sql in [
        "DELETE FROM tokens WHERE resource = ?1",
        "DELETE FROM refs WHERE resource = ?1",
        "DELETE FROM strings WHERE resource = ?1",
        "DELETE FROM ranges WHERE resource = ?1",
        "DELETE FROM composites WHERE resource = ?1",
        "DELETE FROM texts WHERE rowid = ?1",
    ] {
        db.prepare_cached(sql)
            .attempt(WHAT)?
            .execute([resource])
            .attempt(WHAT)?;
    }
    Ok(())
}

/// Deletes dictionary entries that nothing refers to any more: an identifier or a logical id may itself be
/// personal. It reads the value tables once, which is little beside how seldom anything is erased.
fn sweep(db: &Connection) -> Result<()> {
    const WHAT: &str = "sweeping the dictionaries";
    db.execute_batch(
        "DELETE FROM concepts WHERE id NOT IN (
            SELECT concept FROM tokens UNION SELECT concept FROM ranges
            UNION SELECT v0 FROM composites WHERE typeof(v0) = 'integer'
            UNION SELECT v1 FROM composites WHERE typeof(v1) = 'integer'
            UNION SELECT v2 FROM composites WHERE typeof(v2) = 'integer');
         DELETE FROM names WHERE id NOT IN (
            SELECT id FROM resources UNION SELECT resource FROM versions UNION SELECT target FROM refs
            UNION SELECT v0 FROM composites WHERE typeof(v0) = 'integer'
            UNION SELECT v1 FROM composites WHERE typeof(v1) = 'integer'
            UNION SELECT v2 FROM composites WHERE typeof(v2) = 'integer');
         DELETE FROM accounts WHERE id NOT IN (SELECT log FROM versions);",
    )
    .attempt(WHAT)?;
    // Deleting from the full-text index only marks its entries; merging it into one segment drops them.
    db.execute("INSERT INTO texts (texts) VALUES ('optimize')", [])
        .map(drop)
        .attempt(WHAT)
}
