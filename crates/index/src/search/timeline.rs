//! A patient's record in the order in which people read it: newest first by clinical date, a page at a time, without
//! opening anything. Gives places only; who lists them opens what is shown, with a receipt.

use rusqlite::{Connection, types::Value as SqlValue};
use stele_core::{id::PatientId, time::Timestamp};
use stele_fhir::search::{catalogue::Catalogue, normalise};

use super::{
    SearchIndex,
    compile::Sql,
    cursor::Cursor,
    keys::{known_type, param_key, type_number},
    page::{Page, load},
    viewer::{BoundViewer, Viewer},
};
use crate::error::{Attempt as _, Error, Result};

/// Which entries of a patient's record are listed, and how. Every condition must be met; deleted ones are never there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Whose record.
    pub patient: PatientId,
    /// Numbers of the categories listed; empty for all of them.
    pub categories: Vec<u8>,
    /// FHIR resource types left out.
    pub without: Vec<&'static str>,
    /// What the entry's name may hold. The index knows most names, not all: a few entries may be listed whose name holds
    /// it not, and none is left out whose name does. Empty for every name.
    pub named: String,
    /// Type and id of an entry: those of the same type and code are listed, itself too.
    pub alike: Option<(String, String)>,
    /// First moment listed, in milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// First moment not listed any more, in milliseconds since the epoch.
    pub until_ms: Option<i64>,
    /// Where problems, allergies and medicines stand that ended or were withdrawn.
    pub ended: Ended,
    /// Whether of entries with the same codes only the newest is listed.
    pub once: bool,
    /// Whether the total is counted.
    pub counted: bool,
    /// Cursor of the page before.
    pub after: Option<String>,
    /// Most entries of the page. 0 lists none, for who wants the total.
    pub limit: u32,
}

/// Where problems, allergies and medicines stand that ended or were withdrawn. Other entries neither last nor end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// At their date, among the others.
    #[default]
    Among,
    /// After those that last.
    Last,
    /// Nowhere, nor anything that neither lasts nor ends.
    LeftOut,
}

impl Listing {
    /// A patient's whole record, newest first, some entries a page.
    #[must_use]
    pub const fn of(patient: PatientId, limit: u32) -> Self {
        Self {
            patient,
            categories: Vec::new(),
            without: Vec::new(),
            named: String::new(),
            alike: None,
            from_ms: None,
            until_ms: None,
            ended: Ended::Among,
            once: false,
            counted: false,
            after: None,
            limit,
        }
    }

    /// What a cursor belongs to: everything that decides what is listed and in which order.
    fn context(&self) -> Vec<u8> {
        let whole = Self {
            counted: false,
            after: None,
            limit: 0,
            ..self.clone()
        };
        format!("timeline {whole:?}").into_bytes()
    }
}

/// One listed entry: what the order goes by.
struct Line {
    id: i64,
    has_ended: i64,
    when_ms: i64,
    codes: Option<String>,
}

impl SearchIndex {
    /// A page of a patient's record as far as the viewer may see it, newest first by clinical date, by that of recording
    /// where there is none. Included are the encounters that the entries belong to.
    ///
    /// An entry that is there all the while is listed once over all pages, if its date does not change meanwhile.
    ///
    /// # Errors
    /// [`Error::Cursor`] for a cursor of another listing, [`Error::ResourceType`], [`Error::Sql`].
    pub fn list(&self, listing: &Listing, viewer: &Viewer, now: Timestamp) -> Result<Page> {
        const WHAT: &str = "listing a record by date";
        let context = listing.context();
        let after = match &listing.after {
            None => None,
            Some(text) => Some(Cursor::open(text, &self.cursor_key, &context)?),
        };
        let reader = self.file.reader()?;
        let snapshot = reader.unchecked_transaction().attempt(WHAT)?;
        let viewer = &viewer.active(&snapshot)?;
        let mut page = Page::default();
        if listing.counted && !listing.once {
            page.total = Some(count(&snapshot, listing, viewer, now)?);
        }
        if listing.limit == 0 && !listing.once {
            return Ok(page);
        }
        let mut lines = lines(&snapshot, listing, after.as_ref(), viewer, now)?;
        if listing.once {
            only_newest(&mut lines);
            page.total = Some(lines.len() as u64);
        }
        let limit = usize::try_from(listing.limit).unwrap_or(usize::MAX);
        let is_more = lines.len() > limit;
        lines.truncate(limit);
        if is_more
            && !listing.once
            && let Some(last) = lines.last()
        {
            let cursor = Cursor {
                keys: vec![last.has_ended.into(), last.when_ms.into()],
                id: last.id,
            };
            page.next = Some(cursor.seal(&self.cursor_key, &context)?);
        }
        let ids: Vec<i64> = lines.iter().map(|line| line.id).collect();
        let encounters = encounters_of(&snapshot, &ids, listing, viewer, now)?;
        page.matches = load(&snapshot, &ids)?;
        page.includes = load(&snapshot, &encounters)?;
        Ok(page)
    }
}

/// Of entries with the same codes leaves the first. One without a code is like no other.
fn only_newest(lines: &mut Vec<Line>) {
    let mut seen = std::collections::BTreeSet::new();
    lines.retain(|line| match &line.codes {
        Some(codes) => seen.insert(codes.clone()),
        None => true,
    });
}

fn count(db: &Connection, listing: &Listing, viewer: &Viewer, now: Timestamp) -> Result<u64> {
    let mut sql = Sql::default();
    let source = source(&mut sql, listing, viewer, now)?;
    let counted = sql.numbers(
        "counting a record's entries",
        db,
        &format!("SELECT count(*) {source}"),
    )?;
    Ok(counted.first().map_or(0, |count| count.cast_unsigned()))
}

/// Entries in order from the cursor on: one more than the page holds, or all where only the newest of each are listed.
fn lines(
    db: &Connection,
    listing: &Listing,
    after: Option<&Cursor>,
    viewer: &Viewer,
    now: Timestamp,
) -> Result<Vec<Line>> {
    const WHAT: &str = "listing a record by date";
    let mut sql = Sql::default();
    let source = source(&mut sql, listing, viewer, now)?;
    let has_ended = match listing.ended {
        Ended::Last => format!("(NOT {})", lasts(&mut sql)?),
        Ended::Among | Ended::LeftOut => "0".to_owned(),
    };
    let codes = if listing.once {
        format!(
            "(SELECT group_concat(t.concept) FROM (SELECT concept FROM tokens WHERE resource = r.id
              AND (pt & 65535) IN ({}) ORDER BY concept) t)",
            sql.bind_all(naming_params())
        )
    } else {
        "NULL".to_owned()
    };
    let beyond = match after {
        None => "1".to_owned(),
        Some(cursor) => beyond(&mut sql, &has_ended, cursor)?,
    };
    let limit = if listing.once {
        "-1".to_owned()
    } else {
        sql.bind(i64::from(listing.limit) + 1)
    };
    // A constant is no order, and with it the index would not give the rows in theirs.
    let order = match listing.ended {
        Ended::Last => format!("{has_ended}, "),
        Ended::Among | Ended::LeftOut => String::new(),
    };
    let text = format!(
        "SELECT r.id, {has_ended}, {WHEN}, {codes} {source} AND {beyond}
         ORDER BY {order}{WHEN} DESC, r.id DESC LIMIT {limit}"
    );
    sql.rows(WHAT, db, &text, |row| {
        Ok(Line {
            id: row.get(0).attempt(WHAT)?,
            has_ended: row.get(1).attempt(WHAT)?,
            when_ms: row.get(2).attempt(WHAT)?,
            codes: row.get(3).attempt(WHAT)?,
        })
    })
}

/// True for rows that stand after the cursor in the order.
fn beyond(sql: &mut Sql, has_ended: &str, cursor: &Cursor) -> Result<String> {
    let [SqlValue::Integer(ended), SqlValue::Integer(when)] = cursor.keys.as_slice() else {
        return Err(Error::Cursor);
    };
    let (when, id) = (sql.bind(*when), sql.bind(cursor.id));
    let older = format!("({WHEN} <= {when} AND ({WHEN} < {when} OR r.id < {id}))");
    if has_ended == "0" {
        return Ok(older);
    }
    let ended = sql.bind(*ended);
    Ok(format!(
        "({has_ended} > {ended} OR ({has_ended} = {ended} AND {older}))"
    ))
}

/// `FROM … WHERE …` of the entries listed, as rows `r`.
fn source(sql: &mut Sql, listing: &Listing, viewer: &Viewer, now: Timestamp) -> Result<String> {
    let bound = BoundViewer::bind(sql, viewer, now);
    let log = sql.bind(listing.patient.as_bytes().to_vec());
    let mut met = vec![format!(
        "r.log = (SELECT id FROM accounts WHERE address = {log}) AND r.is_patients = 1 AND r.is_deleted = 0"
    )];
    if !listing.categories.is_empty() {
        let categories = listing.categories.iter().copied().map(i64::from);
        met.push(format!("r.category IN ({})", sql.bind_all(categories)));
    }
    if !listing.without.is_empty() {
        let types = listing.without.iter().filter_map(|name| known_type(name));
        met.push(format!("r.type NOT IN ({})", sql.bind_all(types)));
    }
    if let Some(from) = listing.from_ms {
        met.push(format!("{WHEN} >= {}", sql.bind(from)));
    }
    if let Some(until) = listing.until_ms {
        met.push(format!("{WHEN} < {}", sql.bind(until)));
    }
    if listing.ended == Ended::LeftOut {
        met.push(lasts(sql)?);
    }
    if !listing.named.is_empty() {
        met.push(may_be_named(sql, &listing.named));
    }
    if let Some((resource_type, id)) = &listing.alike {
        met.push(is_alike(sql, resource_type, id)?);
    }
    met.push(bound.sees("r"));
    Ok(format!("FROM resources r WHERE {}", met.join(" AND ")))
}

/// True for a problem or an allergy that neither ended nor was withdrawn, and for an active medicine.
fn lasts(sql: &mut Sql) -> Result<String> {
    const TOLD: &str = "EXISTS (SELECT 1 FROM tokens t JOIN concepts c ON c.id = t.concept WHERE t.resource = r.id AND t.pt IN";
    let medicines = ["MedicationRequest", "MedicationStatement"];
    let others = ["Condition", "AllergyIntolerance"];
    let medicine_types = types(sql, &medicines)?;
    let status = params(sql, &medicines, &["status"])?;
    let other_types = types(sql, &others)?;
    let states = params(sql, &others, &["clinical-status", "verification-status"])?;
    Ok(format!(
        "((r.type IN ({medicine_types}) AND {TOLD} ({status}) AND c.code = 'active'))
          OR (r.type IN ({other_types}) AND NOT {TOLD} ({states})
              AND c.code IN ('entered-in-error', 'resolved', 'inactive', 'remission'))))"
    ))
}

/// True for rows whose name may hold these words: one of their codes does, or the index does not know their name.
fn may_be_named(sql: &mut Sql, words: &str) -> String {
    let text = sql.bind(normalise(words));
    let code = sql.bind(words.to_lowercase());
    let naming = sql.bind_all(naming_params());
    format!(
        "(NOT EXISTS (SELECT 1 FROM tokens t WHERE t.resource = r.id AND (t.pt & 65535) IN ({naming}))
          OR EXISTS (SELECT 1 FROM tokens t JOIN concepts c ON c.id = t.concept
            WHERE t.resource = r.id AND (t.pt & 65535) IN ({naming})
            AND (instr(c.text, {text}) > 0 OR instr(lower(c.code), {code}) > 0)))"
    )
}

/// True for rows of a type that share a code with an entry.
fn is_alike(sql: &mut Sql, resource_type: &str, id: &str) -> Result<String> {
    let kind = sql.bind(type_number(resource_type)?);
    let id = sql.bind(id.to_owned());
    let naming = sql.bind_all(naming_params());
    Ok(format!(
        "r.type = {kind} AND EXISTS (SELECT 1 FROM names n JOIN tokens o ON o.resource = n.id
          JOIN tokens t ON t.resource = r.id AND t.pt = o.pt AND t.concept = o.concept
          WHERE n.logical = {id} AND n.type = {kind} AND (o.pt & 65535) IN ({naming}))"
    ))
}

/// Ids of the encounters of the same patient that some entries point at.
fn encounters_of(
    db: &Connection,
    entries: &[i64],
    listing: &Listing,
    viewer: &Viewer,
    now: Timestamp,
) -> Result<Vec<i64>> {
    let mut sql = Sql::default();
    let bound = BoundViewer::bind(&mut sql, viewer, now);
    let ids: Vec<String> = entries.iter().map(i64::to_string).collect();
    let ids = sql.bind(format!("[{}]", ids.join(",")));
    let kind = sql.bind(type_number("Encounter")?);
    let log = sql.bind(listing.patient.as_bytes().to_vec());
    let text = format!(
        "SELECT DISTINCT o.id FROM json_each({ids}) m CROSS JOIN refs f ON f.resource = m.value
         CROSS JOIN resources o ON o.id = f.target
         WHERE o.type = {kind} AND o.is_deleted = 0 AND o.is_patients = 1
         AND o.log = (SELECT id FROM accounts WHERE address = {log}) AND {} ORDER BY o.id",
        bound.sees("o")
    );
    sql.numbers("finding the encounters of entries", db, &text)
}

fn types(sql: &mut Sql, names: &[&str]) -> Result<String> {
    let numbers: Result<Vec<i64>> = names.iter().map(|name| type_number(name)).collect();
    Ok(sql.bind_all(numbers?))
}

/// Keys of some parameters of some types.
fn params(sql: &mut Sql, types: &[&str], codes: &[&str]) -> Result<String> {
    let mut keys = Vec::new();
    for name in types {
        let kind = type_number(name)?;
        let ids = codes.iter().filter_map(|code| Catalogue::r4().id(code));
        keys.extend(ids.map(|id| param_key(kind, id)));
    }
    Ok(sql.bind_all(keys))
}

/// Parameters, whatever the type, whose codes an entry is named by.
fn naming_params() -> impl Iterator<Item = i64> {
    const NAMING: [&str; 5] = ["code", "vaccine-code", "type", "service-type", "class"];
    NAMING
        .into_iter()
        .filter_map(|code| Catalogue::r4().id(code))
        .map(|id| i64::from(id.0))
}

/// When an entry was, as the order has it; the same expression as in the index `resources_when`.
const WHEN: &str = "coalesce(r.clinical_ms, r.updated_ms)";
