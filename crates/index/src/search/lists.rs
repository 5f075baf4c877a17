//! Single resources, histories and whole records.

use alloy_primitives::Address;
use rusqlite::{Connection, OptionalExtension as _, params};
use stele_core::{
    id::{PatientId, RecordId},
    time::Timestamp,
};

use super::{
    SearchIndex,
    compile::Sql,
    cursor::Cursor,
    keys::type_number,
    page::{INCLUDES_MAX, Page, load},
    row::{ResourceVersion, SELECT_VERSION, read_version},
    viewer::{BoundViewer, Viewer},
};
use crate::error::{Attempt as _, Result};

impl SearchIndex {
    /// One version of a resource (the newest without a number), if the viewer may see it. A deletion is a version.
    ///
    /// # Errors
    /// [`crate::Error::ResourceType`], [`crate::Error::Sql`].
    pub fn read(
        &self,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
        viewer: &Viewer,
        now: Timestamp,
    ) -> Result<Option<ResourceVersion>> {
        let reader = self.file.reader()?;
        let mut sql = Sql::default();
        let viewer = BoundViewer::bind(&mut sql, &viewer.active(&reader)?, now);
        let named = named(&mut sql, resource_type, id)?;
        let version = match version {
            Some(version) => sql.bind(i64::from(version)),
            None => "r.version".to_owned(),
        };
        let text = format!(
            "{SELECT_VERSION} WHERE {named} AND v.version = {version} AND {}",
            viewer.sees("v")
        );
        Ok(versions(&reader, &text, &sql)?.pop())
    }

    /// Versions of one resource that the viewer may see, newest first; `before` continues an earlier list.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn history(
        &self,
        resource_type: &str,
        id: &str,
        before: Option<u32>,
        limit: u32,
        viewer: &Viewer,
        now: Timestamp,
    ) -> Result<Vec<ResourceVersion>> {
        let reader = self.file.reader()?;
        let mut sql = Sql::default();
        let viewer = BoundViewer::bind(&mut sql, &viewer.active(&reader)?, now);
        let named = named(&mut sql, resource_type, id)?;
        let before = sql.bind(i64::from(before.unwrap_or(u32::MAX)));
        let limit = sql.bind(i64::from(limit));
        let text = format!(
            "{SELECT_VERSION} WHERE {named} AND v.version < {before} AND {} ORDER BY v.version DESC LIMIT {limit}",
            viewer.sees("v")
        );
        versions(&reader, &text, &sql)
    }

    /// Versions of all resources of a type that the viewer may see, newest first, from a moment on. `before`
    /// continues after the last version of an earlier list.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn history_type(
        &self,
        resource_type: &str,
        since: Timestamp,
        before: Option<&ResourceVersion>,
        limit: u32,
        viewer: &Viewer,
        now: Timestamp,
    ) -> Result<Vec<ResourceVersion>> {
        let reader = self.file.reader()?;
        let mut sql = Sql::default();
        let viewer = BoundViewer::bind(&mut sql, &viewer.active(&reader)?, now);
        let kind = sql.bind(type_number(resource_type)?);
        let since = sql.bind(since.0.cast_signed());
        let before = match before {
            None => "1".to_owned(),
            Some(last) => {
                let updated = sql.bind(last.last_updated.0.cast_signed());
                let (id, version) = (sql.bind(last.id.clone()), sql.bind(i64::from(last.version)));
                format!("(v.updated_ms, n.logical, v.version) < ({updated}, {id}, {version})")
            }
        };
        let limit = sql.bind(i64::from(limit));
        let text = format!(
            "{SELECT_VERSION} WHERE r.type = {kind} AND v.updated_ms >= {since} AND {before} AND {}
             ORDER BY v.updated_ms DESC, n.logical DESC, v.version DESC LIMIT {limit}",
            viewer.sees("v")
        );
        versions(&reader, &text, &sql)
    }

    /// A patient's whole record as far as the viewer may see it, and the directory resources it points at.
    ///
    /// # Errors
    /// [`crate::Error::Cursor`], [`crate::Error::Sql`].
    pub fn everything(
        &self,
        patient: PatientId,
        since: Option<Timestamp>,
        cursor: Option<&str>,
        limit: u32,
        viewer: &Viewer,
        now: Timestamp,
    ) -> Result<Page> {
        const WHAT: &str = "listing a patient's record";
        let context = [b"$everything".as_slice(), patient.as_bytes()].concat();
        let after = match cursor {
            None => i64::MIN,
            Some(text) => Cursor::open(text, &self.cursor_key, &context)?.id,
        };
        let reader = self.file.reader()?;
        let snapshot = reader.unchecked_transaction().attempt(WHAT)?;
        let viewer = &viewer.active(&snapshot)?;
        let mut sql = Sql::default();
        let bound = BoundViewer::bind(&mut sql, viewer, now);
        let log = sql.bind(patient.as_bytes().to_vec());
        let since = sql.bind(since.map_or(0, |since| since.0.cast_signed()));
        let (after, count) = (sql.bind(after), sql.bind(i64::from(limit) + 1));
        let text = format!(
            "SELECT r.id FROM resources r WHERE r.log = (SELECT id FROM accounts WHERE address = {log})
             AND r.is_patients = 1 AND r.is_deleted = 0 AND r.updated_ms >= {since} AND r.id > {after} AND {}
             ORDER BY r.id LIMIT {count}",
            bound.sees("r")
        );
        let mut found = sql.numbers(WHAT, &snapshot, &text)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_more = found.len() > limit;
        found.truncate(limit);
        let mut page = Page {
            matches: load(&snapshot, &found)?,
            ..Page::default()
        };
        if is_more && let Some(last) = found.last() {
            let cursor = Cursor {
                keys: Vec::new(),
                id: *last,
            };
            page.next = Some(cursor.seal(&self.cursor_key, &context)?);
        }
        let mut directory = directory_of(&snapshot, &found, viewer, now)?;
        page.includes_cut = directory.len() > INCLUDES_MAX;
        directory.truncate(INCLUDES_MAX);
        page.includes = load(&snapshot, &directory)?;
        Ok(page)
    }

    /// The newest version of a resource, **whoever asks**: for writes, which check their own permission. Must
    /// never decide what a caller is shown.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn locate(&self, resource_type: &str, id: &str) -> Result<Option<ResourceVersion>> {
        let mut sql = Sql::default();
        let named = named(&mut sql, resource_type, id)?;
        let text = format!("{SELECT_VERSION} WHERE {named} AND v.version = r.version");
        Ok(versions(&*self.file.reader()?, &text, &sql)?.pop())
    }

    /// Logical id of the Patient whose log this is, **whoever asks**.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn patient_named(&self, patient: PatientId) -> Result<Option<String>> {
        self.file
            .reader()?
            .query_row(
                "SELECT n.logical FROM resources r JOIN names n ON n.id = r.id
                 WHERE r.log = (SELECT id FROM accounts WHERE address = ?1) AND r.type = ?2 LIMIT 1",
                params![patient.as_bytes(), type_number("Patient")?],
                |row| row.get(0),
            )
            .optional()
            .attempt("finding a patient's name")
    }

    /// The version whose leaf stands at this place of a log, whoever asks: for proofs and for reconciling the
    /// index with the ledger.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn at_leaf(&self, log: Address, leaf: u64) -> Result<Option<ResourceVersion>> {
        let mut sql = Sql::default();
        let (log, leaf) = (sql.bind(log.to_vec()), sql.bind(leaf.cast_signed()));
        let text = format!("{SELECT_VERSION} WHERE a.address = {log} AND v.leaf = {leaf}");
        Ok(versions(&*self.file.reader()?, &text, &sql)?.pop())
    }

    /// Where a version of a record stands: its log and the index of its leaf there.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn leaf_of(&self, record: RecordId, version: u32) -> Result<Option<(Address, u64)>> {
        const WHAT: &str = "finding a record's leaf";
        self.file
            .reader()?
            .query_row(
                "SELECT a.address, v.leaf FROM resources r JOIN versions v ON v.resource = r.id
                 JOIN accounts a ON a.id = v.log WHERE r.record = ?1 AND v.version = ?2",
                params![record.as_bytes(), version],
                |row| Ok((row.get::<_, [u8; 20]>(0)?, row.get::<_, i64>(1)?)),
            )
            .optional()
            .map(|found| found.map(|(log, leaf)| (log.into(), leaf.cast_unsigned())))
            .attempt(WHAT)
    }

    /// Number of a log's leaves whose versions are in the index.
    ///
    /// # Errors
    /// [`crate::Error::Sql`].
    pub fn leaves_indexed(&self, log: Address) -> Result<u64> {
        self.file
            .reader()?
            .query_row(
                "SELECT count(*) FROM versions WHERE log = (SELECT id FROM accounts WHERE address = ?1)",
                [log.as_slice()],
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .attempt("counting a log's indexed leaves")
    }
}

fn named(sql: &mut Sql, resource_type: &str, id: &str) -> Result<String> {
    let (kind, id) = (
        sql.bind(type_number(resource_type)?),
        sql.bind(id.to_owned()),
    );
    Ok(format!("n.logical = {id} AND n.type = {kind}"))
}

fn directory_of(
    db: &Connection,
    resources: &[i64],
    viewer: &Viewer,
    now: Timestamp,
) -> Result<Vec<i64>> {
    let mut sql = Sql::default();
    let bound = BoundViewer::bind(&mut sql, viewer, now);
    let ids: Vec<String> = resources.iter().map(i64::to_string).collect();
    let ids = sql.bind(format!("[{}]", ids.join(",")));
    let limit = sql.bind(i64::try_from(INCLUDES_MAX).unwrap_or(i64::MAX) + 1);
    let text = format!(
        "SELECT DISTINCT o.id FROM json_each({ids}) m CROSS JOIN refs f ON f.resource = m.value
         CROSS JOIN resources o ON o.id = f.target
         WHERE o.is_patients = 0 AND o.is_deleted = 0 AND {} ORDER BY o.id LIMIT {limit}",
        bound.sees("o")
    );
    sql.numbers("listing a record's directory", db, &text)
}

fn versions(db: &Connection, text: &str, sql: &Sql) -> Result<Vec<ResourceVersion>> {
    sql.rows("reading versions of resources", db, text, read_version)
}
