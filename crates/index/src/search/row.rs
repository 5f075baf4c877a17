//! One version of a resource as the index knows it.

use alloy_primitives::Address;
use rusqlite::Row;
use stele_core::{
    id::{PatientId, RecordId},
    time::Timestamp,
};

use super::{keys::type_name, put::Placement};
use crate::error::{Attempt as _, Error, Result};

/// A version of a resource: what it is, where it stands, when it changed. Nothing of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceVersion {
    /// FHIR resource type.
    pub resource_type: &'static str,
    /// Logical id.
    pub id: String,
    /// Version, from 1.
    pub version: u32,
    /// Where it stands.
    pub placement: Placement,
    /// `meta.lastUpdated`.
    pub last_updated: Timestamp,
    /// When it clinically happened, in milliseconds since the epoch.
    pub clinical_ms: Option<i64>,
    /// Whether this version says that the resource was deleted.
    pub deleted: bool,
}

/// Start of every statement that gives versions; `v` is the version, `r` its resource's newest version.
pub(crate) const SELECT_VERSION: &str =
    "SELECT n.type, n.logical, v.version, r.record, a.address, v.leaf,
    v.is_patients, v.slot, v.category, v.month, v.updated_ms, v.clinical_ms, v.is_deleted
    FROM versions v JOIN resources r ON r.id = v.resource JOIN names n ON n.id = v.resource
    JOIN accounts a ON a.id = v.log";

/// As [`SELECT_VERSION`] for newest versions, which needs one table less.
pub(crate) const SELECT_NEWEST: &str =
    "SELECT n.type, n.logical, r.version, r.record, a.address, r.leaf,
    r.is_patients, r.slot, r.category, r.month, r.updated_ms, r.clinical_ms, r.is_deleted
    FROM resources r JOIN names n ON n.id = r.id JOIN accounts a ON a.id = r.log";

/// Reads a row of [`SELECT_VERSION`] or [`SELECT_NEWEST`].
pub(crate) fn read_version(row: &Row<'_>) -> Result<ResourceVersion> {
    const WHAT: &str = "reading a resource's row";
    let corrupt = |problem: &str| Error::Corrupt {
        what: WHAT,
        problem: problem.to_owned(),
    };
    let kind: i64 = row.get(0).attempt(WHAT)?;
    let record: [u8; 32] = row.get(3).attempt(WHAT)?;
    let log: [u8; 20] = row.get(4).attempt(WHAT)?;
    let log = Address::from(log);
    let is_patients: bool = row.get(6).attempt(WHAT)?;
    Ok(ResourceVersion {
        resource_type: type_name(kind).ok_or_else(|| corrupt("an unknown resource type"))?,
        id: row.get(1).attempt(WHAT)?,
        version: row.get(2).attempt(WHAT)?,
        placement: Placement {
            record: RecordId(record.into()),
            log,
            leaf: row.get::<_, i64>(5).attempt(WHAT)?.cast_unsigned(),
            patient: is_patients.then_some(PatientId(log)),
            category_slot: row.get(7).attempt(WHAT)?,
            category: row.get(8).attempt(WHAT)?,
            month: row.get(9).attempt(WHAT)?,
        },
        last_updated: Timestamp(row.get::<_, i64>(10).attempt(WHAT)?.cast_unsigned()),
        clinical_ms: row.get(11).attempt(WHAT)?,
        deleted: row.get(12).attempt(WHAT)?,
    })
}
