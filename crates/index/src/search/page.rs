//! One page of a search: matches in order, what they include, the number of all.

use std::collections::HashSet;

use rusqlite::{Connection, types::Value as SqlValue};
use stele_core::time::Timestamp;
use stele_fhir::search::ast::{Direction, Include, ParamType, Query, Sort, Summary, Total};

use super::{
    SearchIndex,
    condition::Compiler,
    cursor::Cursor,
    driver::choose,
    keys::{param_key, type_number},
    row::{ResourceVersion, SELECT_NEWEST, read_version},
    viewer::Viewer,
};
use crate::error::{Attempt as _, Error, Result};

/// Answer to a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Resources that match, in order.
    pub matches: Vec<ResourceVersion>,
    /// Resources that `_include` and `_revinclude` add; none of them a match of this page.
    pub includes: Vec<ResourceVersion>,
    /// Whether more than [`INCLUDES_MAX`] would have been added.
    pub includes_cut: bool,
    /// Number of all matches, where it was asked for.
    pub total: Option<u64>,
    /// Cursor of the next page, if there is one. Safe in a link: it is sealed.
    pub next: Option<String>,
}

impl SearchIndex {
    /// Answers a search with what the viewer may see at this moment.
    ///
    /// Without `_sort` the order is the server's own and does not change, so that paging neither skips nor repeats
    /// a resource that is there all the while. Resources without a sort key come last in both directions.
    ///
    /// # Errors
    /// [`Error::Cursor`] for a cursor of another search, [`Error::ResourceType`], [`Error::Sql`].
    pub fn search(&self, query: &Query, viewer: &Viewer, now: Timestamp) -> Result<Page> {
        const WHAT: &str = "searching";
        let reader = self.file.reader()?;
        // One snapshot for all statements; it ends with this function.
        let snapshot = reader.unchecked_transaction().attempt(WHAT)?;
        let viewer = &viewer.active(&snapshot)?;
        let search = Search {
            db: &snapshot,
            query,
            viewer,
            now,
        };
        let driver = choose(&snapshot, query.resource_type, &query.filters, viewer, now)?;
        let mut page = Page::default();
        let wanted = query.count.unwrap_or(COUNT_DEFAULT);
        let only_total = query.summary == Summary::Count || wanted == 0;
        if only_total || matches!(query.total, Some(Total::Estimate | Total::Accurate)) {
            page.total = Some(search.total(driver)?);
        }
        if only_total {
            return Ok(page);
        }
        let context = context(query);
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(Cursor::open(text, &self.cursor_key, &context)?),
        };
        let mut found = search.matches(driver, after.as_ref(), wanted)?;
        let is_more = found.len() > usize::try_from(wanted).unwrap_or(usize::MAX);
        found.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        if is_more && let Some(last) = found.last() {
            page.next = Some(last.seal(&self.cursor_key, &context)?);
        }
        let ids: Vec<i64> = found.iter().map(|cursor| cursor.id).collect();
        let (includes, includes_cut) = search.includes(&ids)?;
        page.matches = load(&snapshot, &ids)?;
        page.includes = load(&snapshot, &includes)?;
        page.includes_cut = includes_cut;
        Ok(page)
    }
}

/// What a cursor belongs to: the type and the order, which give its keys their meaning.
fn context(query: &Query) -> Vec<u8> {
    let mut context = query.resource_type.as_bytes().to_vec();
    for sort in &query.sort {
        context.push(if sort.direction == Direction::Ascending {
            b'+'
        } else {
            b'-'
        });
        context.extend_from_slice(sort.param.code.as_bytes());
    }
    context
}

struct Search<'a> {
    db: &'a Connection,
    query: &'a Query,
    viewer: &'a Viewer,
    now: Timestamp,
}

impl Search<'_> {
    /// `FROM … WHERE …` of the matches, as rows `r`.
    fn source(&self, compiler: &mut Compiler<'_>, driver: Option<usize>) -> Result<Rows> {
        let kind = self.query.resource_type;
        let chosen = driver.and_then(|at| self.query.filters.get(at));
        let start = match chosen {
            Some(filter) => compiler.driver(kind, filter)?,
            None => None,
        };
        // The start gives ids in order more often than not; the planner sees that only if the order is asked of it.
        let (from, id) = match start {
            None => ("resources r".to_owned(), "r.id"),
            Some(start) => {
                let from = format!("({start}) d CROSS JOIN resources r ON r.id = d.resource");
                (from, "d.resource")
            }
        };
        let number = compiler.sql.bind(type_number(kind)?);
        let mut met = vec![format!("r.type = {number} AND r.is_deleted = 0")];
        for (at, filter) in self.query.filters.iter().enumerate() {
            if driver != Some(at) {
                met.push(compiler.condition("r", kind, filter)?);
            }
        }
        met.push(compiler.viewer.sees("r"));
        Ok(Rows {
            id,
            text: format!("FROM {from} WHERE {}", met.join(" AND ")),
        })
    }

    fn total(&self, driver: Option<usize>) -> Result<u64> {
        const WHAT: &str = "counting matches";
        let mut compiler = Compiler::new(self.db, self.viewer, self.now);
        let rest = self.source(&mut compiler, driver)?;
        let counted =
            compiler
                .sql
                .numbers(WHAT, self.db, &format!("SELECT count(*) {}", rest.text))?;
        Ok(counted.first().map_or(0, |count| count.cast_unsigned()))
    }

    /// Ids and sort keys of a page and one more.
    fn matches(
        &self,
        driver: Option<usize>,
        after: Option<&Cursor>,
        wanted: u32,
    ) -> Result<Vec<Cursor>> {
        const WHAT: &str = "finding matches";
        let mut compiler = Compiler::new(self.db, self.viewer, self.now);
        let rest = self.source(&mut compiler, driver)?;
        let limit = compiler.sql.bind(i64::from(wanted) + 1);
        let text = if self.query.sort.is_empty() {
            let after = compiler
                .sql
                .bind(after.map_or(i64::MIN, |cursor| cursor.id));
            let Rows { id, text } = rest;
            format!("SELECT {id} {text} AND {id} > {after} ORDER BY {id} LIMIT {limit}")
        } else {
            self.sorted(&mut compiler, &rest.text, after, &limit)?
        };
        let keys = self.query.sort.len();
        compiler.sql.rows(WHAT, self.db, &text, |row| {
            let keys = (1..=keys)
                .map(|at| row.get(at))
                .collect::<rusqlite::Result<_>>();
            Ok(Cursor {
                id: row.get(0).attempt(WHAT)?,
                keys: keys.attempt(WHAT)?,
            })
        })
    }

    fn sorted(
        &self,
        compiler: &mut Compiler<'_>,
        rest: &str,
        after: Option<&Cursor>,
        limit: &str,
    ) -> Result<String> {
        let mut columns = String::new();
        let mut order = String::new();
        let mut names = String::new();
        for (at, sort) in self.query.sort.iter().enumerate() {
            let key = sort_key(compiler, self.query.resource_type, sort)?;
            let direction = if sort.direction == Direction::Ascending {
                ""
            } else {
                " DESC"
            };
            columns.push_str(&format!(", {key} AS k{at}"));
            names.push_str(&format!(", k{at}"));
            order.push_str(&format!("k{at} IS NULL, k{at}{direction}, "));
        }
        let after = match after {
            None => "1".to_owned(),
            Some(cursor) => self.after(compiler, cursor)?,
        };
        Ok(format!(
            "WITH m AS MATERIALIZED (SELECT r.id AS id{columns} {rest})
             SELECT id{names} FROM m WHERE {after} ORDER BY {order}id LIMIT {limit}"
        ))
    }

    /// True for rows that stand after the cursor in the order.
    fn after(&self, compiler: &mut Compiler<'_>, cursor: &Cursor) -> Result<String> {
        if cursor.keys.len() != self.query.sort.len() {
            return Err(Error::Cursor);
        }
        let id = compiler.sql.bind(cursor.id);
        let mut met = format!("id > {id}");
        for (at, (sort, key)) in self.query.sort.iter().zip(&cursor.keys).enumerate().rev() {
            met = if *key == SqlValue::Null {
                format!("(k{at} IS NULL AND {met})")
            } else {
                let key = compiler.sql.bind(key.clone());
                let beyond = if sort.direction == Direction::Ascending {
                    ">"
                } else {
                    "<"
                };
                format!("(k{at} {beyond} {key} OR k{at} IS NULL OR (k{at} = {key} AND {met}))")
            };
        }
        Ok(met)
    }

    /// Ids of what the matches include, in order of type and id, and whether there were too many.
    fn includes(&self, matches: &[i64]) -> Result<(Vec<i64>, bool)> {
        let mut found: Vec<i64> = Vec::new();
        let mut known: HashSet<i64> = matches.iter().copied().collect();
        let includes = self
            .query
            .include
            .iter()
            .map(|include| (include, Side::Target));
        let reverse = self
            .query
            .revinclude
            .iter()
            .map(|include| (include, Side::Source));
        for (include, side) in includes.chain(reverse) {
            if matches.is_empty()
                || (side == Side::Target && include.source_type != self.query.resource_type)
            {
                continue;
            }
            for id in self.included(matches, include, side)? {
                if known.insert(id) {
                    found.push(id);
                }
            }
            if found.len() > INCLUDES_MAX {
                found.truncate(INCLUDES_MAX);
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    fn included(&self, matches: &[i64], include: &Include, side: Side) -> Result<Vec<i64>> {
        const WHAT: &str = "finding included resources";
        let mut compiler = Compiler::new(self.db, self.viewer, self.now);
        let source = type_number(include.source_type)?;
        let params: Vec<i64> = include
            .params
            .iter()
            .map(|param| param_key(source, param.id))
            .collect();
        if params.is_empty() {
            return Ok(Vec::new());
        }
        let params = compiler.sql.bind_all(params);
        let ids: Vec<String> = matches.iter().map(i64::to_string).collect();
        let ids = compiler.sql.bind(format!("[{}]", ids.join(",")));
        let (from, to) = match side {
            Side::Target => ("resource", "target"),
            Side::Source => ("target", "resource"),
        };
        // For `_revinclude` the type names what the reference points at, which is the match.
        let of_type = match (include.target_type, side) {
            (Some(name), Side::Target) => {
                format!("AND o.type = {}", compiler.sql.bind(type_number(name)?))
            }
            (Some(name), Side::Source) if name != self.query.resource_type => "AND 0".to_owned(),
            _ => String::new(),
        };
        let limit = compiler
            .sql
            .bind(i64::try_from(INCLUDES_MAX).unwrap_or(i64::MAX) + 1);
        let text = format!(
            "SELECT DISTINCT o.id FROM json_each({ids}) m CROSS JOIN refs f ON f.{from} = m.value
             CROSS JOIN resources o ON o.id = f.{to}
             WHERE f.pt IN ({params}) AND o.is_deleted = 0 {of_type} AND {} ORDER BY o.id LIMIT {limit}",
            compiler.viewer.sees("o")
        );
        compiler.sql.numbers(WHAT, self.db, &text)
    }
}

/// `FROM … WHERE …` of the matches and the column with their ids.
struct Rows {
    id: &'static str,
    text: String,
}

/// Which end of a reference is added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Target,
    Source,
}

/// Expression for the value of a resource `r` that orders it: the smallest or the largest, by direction.
fn sort_key(compiler: &mut Compiler<'_>, resource_type: &str, sort: &Sort) -> Result<String> {
    match sort.param.code {
        "_id" => return Ok("(SELECT n.logical FROM names n WHERE n.id = r.id)".to_owned()),
        "_lastUpdated" => return Ok("r.updated_ms".to_owned()),
        _ => {}
    }
    let (table, value) = match sort.param.param_type {
        ParamType::Token => ("tokens t JOIN concepts c ON c.id = t.concept", "c.code"),
        ParamType::Reference | ParamType::Uri => {
            ("refs t JOIN names c ON c.id = t.target", "c.logical")
        }
        ParamType::String => ("strings t", "t.value"),
        ParamType::Date | ParamType::Number | ParamType::Quantity => ("ranges t", "t.low"),
        ParamType::Composite | ParamType::Special => return Ok("NULL".to_owned()),
    };
    let pt = compiler.pt(resource_type, sort.param)?;
    let aggregate = if sort.direction == Direction::Ascending {
        "min"
    } else {
        "max"
    };
    Ok(format!(
        "(SELECT {aggregate}({value}) FROM {table} WHERE t.resource = r.id AND t.pt = {pt})"
    ))
}

/// Newest versions by id, in the order given.
pub(crate) fn load(db: &Connection, ids: &[i64]) -> Result<Vec<ResourceVersion>> {
    const WHAT: &str = "reading found resources";
    let mut statement = db
        .prepare_cached(&format!("{SELECT_NEWEST} WHERE r.id = ?1"))
        .attempt(WHAT)?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let mut rows = statement.query([id]).attempt(WHAT)?;
        if let Some(row) = rows.next().attempt(WHAT)? {
            found.push(read_version(row)?);
        }
    }
    Ok(found)
}

/// Page size where a request names none.
const COUNT_DEFAULT: u32 = 50;

/// Resources that one page includes at most.
pub const INCLUDES_MAX: usize = 1_000;
