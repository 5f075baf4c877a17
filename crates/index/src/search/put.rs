//! Writing: versions of resources with their search values.

use alloy_primitives::Address;
use rusqlite::{Connection, OptionalExtension as _, params};
use stele_core::{
    id::{PatientId, RecordId},
    time::Timestamp,
};
use stele_fhir::search::{
    FullText,
    ast::{IndexKind, IndexValue, ReferenceValue},
    catalogue::Catalogue,
};

use super::{
    SearchIndex,
    dictionary::Dictionary,
    forget::forget_values,
    keys::{URI, known_type, param_key, type_number},
};
use crate::error::{Attempt as _, Error, Result};

/// Where a version stands on the ledger and under which consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The record.
    pub record: RecordId,
    /// The log with the version's leaf: the patient's own, or an organisation's.
    pub log: Address,
    /// Index of the leaf in the log.
    pub leaf: u64,
    /// The patient whose resource it is; then `log` is the patient's. `None` for directory resources.
    pub patient: Option<PatientId>,
    /// Category slot on chain, 0 to 63, under the patient's permutation.
    pub category_slot: u8,
    /// Category in plain, as the published rules assign it.
    pub category: u8,
    /// Month of sealing since January 1970.
    pub month: u16,
}

/// One version of a resource to be indexed. `Debug` shows nothing clinical.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// FHIR resource type.
    pub resource_type: String,
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
    /// Whether the version says that the resource was deleted. Such a version has no values.
    pub deleted: bool,
    /// What it is found by.
    pub values: Vec<IndexValue>,
    /// Its texts, for `_text` and `_content`.
    pub text: FullText,
}

impl SearchIndex {
    /// Indexes versions, all or none, in one transaction. A version already there is replaced, so a batch may be
    /// given again after a crash. Versions may come in any order; only the newest is searched.
    ///
    /// # Errors
    /// [`Error::ResourceType`], [`Error::Version`] for one that cannot be, [`Error::Sql`].
    pub fn put(&self, batch: &[NewVersion]) -> Result<()> {
        const WHAT: &str = "indexing a batch of resources";
        for version in batch {
            check(version)?;
        }
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let step = writer.connection.transaction().attempt(WHAT)?;
        let written = batch
            .iter()
            .try_for_each(|version| put_one(&step, &mut writer.dictionary, version))
            .and_then(|()| step.commit().attempt(WHAT));
        if written.is_err() {
            writer.dictionary.forget();
        }
        written
    }
}

fn check(version: &NewVersion) -> Result<()> {
    let at = &version.placement;
    let problem = if version.version == 0 {
        "versions begin with 1"
    } else if at.category_slot >= stele_core::consent::SLOTS {
        "category slots are 0 to 63"
    } else if at.patient.is_some_and(|patient| patient.0 != at.log) {
        "a patient's resource stands in the patient's log"
    } else if i64::try_from(at.leaf).is_err() || i64::try_from(version.last_updated.0).is_err() {
        "a number is out of range"
    } else {
        return Ok(());
    };
    Err(Error::Version {
        resource_type: version.resource_type.chars().take(64).collect(),
        version: version.version,
        problem,
    })
}

fn put_one(db: &Connection, dictionary: &mut Dictionary, new: &NewVersion) -> Result<()> {
    const WHAT: &str = "indexing a resource";
    let kind = type_number(&new.resource_type)?;
    let resource = dictionary.name(db, kind, &new.id)?;
    let log = dictionary.account(db, new.placement.log)?;
    let at = &new.placement;
    db.prepare_cached(
        "INSERT INTO versions (resource, version, log, leaf, is_patients, slot, category, month, updated_ms,
            clinical_ms, is_deleted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (resource, version) DO UPDATE SET log = ?3, leaf = ?4, is_patients = ?5, slot = ?6,
            category = ?7, month = ?8, updated_ms = ?9, clinical_ms = ?10, is_deleted = ?11",
    )
    .attempt(WHAT)?
    .execute(params![
        resource,
        new.version,
        log,
        at.leaf.cast_signed(),
        at.patient.is_some(),
        at.category_slot,
        at.category,
        at.month,
        new.last_updated.0.cast_signed(),
        new.clinical_ms,
        new.deleted
    ])
    .attempt(WHAT)?;
    let newest: Option<u32> = db
        .prepare_cached("SELECT version FROM resources WHERE id = ?1")
        .attempt(WHAT)?
        .query_row([resource], |row| row.get(0))
        .optional()
        .attempt(WHAT)?;
    match newest {
        Some(newest) if newest > new.version => return Ok(()),
        Some(_) => forget_values(db, resource)?,
        None => {}
    }
    db.prepare_cached(
        "REPLACE INTO resources (id, type, version, record, log, leaf, is_patients, slot, category, month, updated_ms,
            clinical_ms, is_deleted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )
    .attempt(WHAT)?
    .execute(params![
        resource,
        kind,
        new.version,
        at.record.as_bytes(),
        log,
        at.leaf.cast_signed(),
        at.patient.is_some(),
        at.category_slot,
        at.category,
        at.month,
        new.last_updated.0.cast_signed(),
        new.clinical_ms,
        new.deleted
    ])
    .attempt(WHAT)?;
    if new.deleted {
        return Ok(());
    }
    Values {
        db,
        dictionary,
        resource,
        kind,
    }
    .write(new)
}

/// Writes the search values of one resource.
struct Values<'a> {
    db: &'a Connection,
    dictionary: &'a mut Dictionary,
    resource: i64,
    kind: i64,
}

impl Values<'_> {
    fn write(&mut self, new: &NewVersion) -> Result<()> {
        let [id, last_updated] = own_params();
        let mut instance = 0;
        for value in &new.values {
            // These two are columns of the resource itself.
            if Some(value.param) == id || Some(value.param) == last_updated {
                continue;
            }
            let pt = param_key(self.kind, value.param);
            match &value.kind {
                IndexKind::Composite(parts) => {
                    self.composite(pt, instance, parts)?;
                    instance += 1;
                }
                kind => self.one(pt, kind)?,
            }
        }
        if new.text.narrative.is_empty() && new.text.content.is_empty() {
            return Ok(());
        }
        self.insert(
            "INSERT INTO texts (rowid, narrative, content) VALUES (?1, ?2, ?3)",
            params![self.resource, new.text.narrative, new.text.content],
        )
    }

    fn one(&mut self, pt: i64, kind: &IndexKind) -> Result<()> {
        match kind {
            IndexKind::Token { .. } | IndexKind::Reference(ReferenceValue::Identifier { .. }) => {
                let concept = self.number(kind)?;
                self.insert(
                    "INSERT OR IGNORE INTO tokens (resource, pt, concept) VALUES (?1, ?2, ?3)",
                    params![self.resource, pt, concept],
                )
            }
            IndexKind::Reference(_) | IndexKind::Uri(_) => {
                let target = self.number(kind)?;
                self.insert(
                    "INSERT OR IGNORE INTO refs (resource, pt, target) VALUES (?1, ?2, ?3)",
                    params![self.resource, pt, target],
                )
            }
            IndexKind::String { value, exact } => self.insert(
                "INSERT OR IGNORE INTO strings (resource, pt, value, exact) VALUES (?1, ?2, ?3, ?4)",
                params![self.resource, pt, value, exact],
            ),
            IndexKind::Date { start_ms, end_ms } => self.insert(RANGE, params![self.resource, pt, start_ms, end_ms, 0]),
            IndexKind::Number { low, high } => self.insert(RANGE, params![self.resource, pt, low, high, 0]),
            IndexKind::Quantity { low, high, .. } => {
                let concept = self.number(kind)?;
                self.insert(RANGE, params![self.resource, pt, low, high, concept])
            }
            // Composites do not nest in FHIR.
            IndexKind::Composite(_) => Ok(()),
        }
    }

    fn composite(&mut self, pt: i64, instance: i64, parts: &[IndexKind]) -> Result<()> {
        use rusqlite::types::Value as SqlValue;
        let mut columns: Vec<SqlValue> = vec![self.resource.into(), pt.into(), instance.into()];
        for part in parts.iter().take(COMPONENTS) {
            let (low, high) = match part {
                IndexKind::Date { start_ms, end_ms } => ((*start_ms).into(), (*end_ms).into()),
                IndexKind::Number { low, high } | IndexKind::Quantity { low, high, .. } => {
                    ((*low).into(), (*high).into())
                }
                _ => (SqlValue::Null, SqlValue::Null),
            };
            let value = match part {
                IndexKind::String { value, .. } => value.clone().into(),
                IndexKind::Date { .. } | IndexKind::Number { .. } | IndexKind::Composite(_) => {
                    SqlValue::Null
                }
                kind => self.number(kind)?.into(),
            };
            columns.extend([value, low, high]);
        }
        columns.resize(3 + 3 * COMPONENTS, SqlValue::Null);
        self.insert(
            "INSERT INTO composites (resource, pt, instance, v0, l0, h0, v1, l1, h1, v2, l2, h2)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            rusqlite::params_from_iter(columns),
        )
    }

    /// Number of a value's text in the dictionary it belongs to; 0 for what has none.
    fn number(&mut self, kind: &IndexKind) -> Result<i64> {
        let (db, dictionary) = (self.db, &mut *self.dictionary);
        match kind {
            IndexKind::Token {
                system,
                code,
                text: words,
            } => dictionary.concept(db, or_empty(system), or_empty(code), or_empty(words)),
            IndexKind::Quantity {
                system: None,
                code: None,
                unit: None,
                ..
            } => Ok(0),
            IndexKind::Quantity {
                system, code, unit, ..
            } => dictionary.concept(db, or_empty(system), or_empty(code), or_empty(unit)),
            IndexKind::Reference(ReferenceValue::Identifier { system, value }) => {
                dictionary.concept(db, or_empty(system), or_empty(value), "")
            }
            IndexKind::Reference(ReferenceValue::Local {
                target_type,
                target_id,
            }) => match known_type(target_type) {
                Some(kind) => dictionary.name(db, kind, target_id),
                None => dictionary.name(db, URI, &format!("{target_type}/{target_id}")),
            },
            IndexKind::Reference(ReferenceValue::Absolute(uri)) | IndexKind::Uri(uri) => {
                dictionary.name(db, URI, uri)
            }
            IndexKind::String { .. }
            | IndexKind::Date { .. }
            | IndexKind::Number { .. }
            | IndexKind::Composite(_) => Ok(0),
        }
    }

    fn insert(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        const WHAT: &str = "writing search values";
        self.db
            .prepare_cached(sql)
            .attempt(WHAT)?
            .execute(values)
            .map(drop)
            .attempt(WHAT)
    }
}

fn or_empty(part: &Option<String>) -> &str {
    part.as_deref().unwrap_or_default()
}

/// Parameters answered from columns of the resource itself.
fn own_params() -> [Option<stele_fhir::search::ast::ParamId>; 2] {
    let catalogue = Catalogue::r4();
    [catalogue.id("_id"), catalogue.id("_lastUpdated")]
}

const RANGE: &str =
    "INSERT OR IGNORE INTO ranges (resource, pt, low, high, concept) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Components of a composite that have columns.
pub(crate) const COMPONENTS: usize = 3;
