//! Comparisons of stored values with those asked.

use rusqlite::Connection;
use stele_fhir::search::ast::{
    Modifier, NumberRange, ParamType, Prefix, ReferenceMatch, SystemMatch, Value,
};

use super::{
    compile::Sql,
    keys::{URI, known_type},
};
use crate::error::Result;

/// Columns that hold one stored value.
pub(crate) struct Columns {
    /// Id of a concept or a name, or a normalised text.
    pub(crate) value: String,
    /// As written; strings only.
    pub(crate) exact: String,
    /// Lower bound.
    pub(crate) low: String,
    /// Upper bound.
    pub(crate) high: String,
}

impl Columns {
    /// Columns of a value table under an alias.
    pub(crate) fn of(table: Table, alias: &str) -> Self {
        let value = match table {
            Table::Tokens | Table::Ranges => "concept",
            Table::Refs => "target",
            Table::Strings => "value",
            Table::Composites => "v0",
        };
        Self {
            value: format!("{alias}.{value}"),
            exact: format!("{alias}.exact"),
            low: format!("{alias}.low"),
            high: format!("{alias}.high"),
        }
    }

    /// Columns of one component of a composite.
    pub(crate) fn component(alias: &str, at: usize) -> Self {
        Self {
            value: format!("{alias}.v{at}"),
            exact: format!("{alias}.v{at}"),
            low: format!("{alias}.l{at}"),
            high: format!("{alias}.h{at}"),
        }
    }
}

/// A table of search values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Tokens,
    Refs,
    Strings,
    Ranges,
    Composites,
}

impl Table {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Refs => "refs",
            Self::Strings => "strings",
            Self::Ranges => "ranges",
            Self::Composites => "composites",
        }
    }

    /// Where a parameter's values are; nothing for parameters with rules of their own.
    pub(crate) const fn of(kind: ParamType, modifier: Option<Modifier>) -> Option<Self> {
        Some(match (kind, modifier) {
            (ParamType::Reference, Some(Modifier::Identifier)) | (ParamType::Token, _) => {
                Self::Tokens
            }
            (ParamType::Reference | ParamType::Uri, _) => Self::Refs,
            (ParamType::String, _) => Self::Strings,
            (ParamType::Date | ParamType::Number | ParamType::Quantity, _) => Self::Ranges,
            (ParamType::Composite, _) => Self::Composites,
            (ParamType::Special, _) => return None,
        })
    }
}

/// Comparison of one alternative with the stored value in `columns`.
pub(crate) fn compare(
    db: &Connection,
    sql: &mut Sql,
    modifier: Option<Modifier>,
    value: &Value,
    columns: &Columns,
) -> Result<String> {
    Ok(match value {
        Value::Token { system, code } => token(db, sql, system, code.as_deref(), &columns.value)?,
        Value::TokenText(words) => among(db, sql, &columns.value, &|sql| {
            let (from, to) = (sql.bind(words.clone()), sql.bind(after_prefix(words)));
            format!("SELECT id FROM concepts WHERE text >= {from} AND text < {to}")
        })?,
        Value::Reference(asked) => reference(db, sql, asked, &columns.value)?,
        Value::Date {
            prefix,
            start_ms,
            end_ms,
        } => date(sql, *prefix, *start_ms, *end_ms, columns),
        Value::String { value, exact } => string(sql, modifier, value, exact, columns),
        Value::Number { prefix, number } => number_range(sql, *prefix, number, columns),
        Value::Quantity {
            prefix,
            number,
            system,
            code,
        } => {
            let amount = number_range(sql, *prefix, number, columns);
            match (code, system) {
                (None, SystemMatch::Any) => amount,
                (code, system) => {
                    let unit = unit(db, sql, system, code.as_deref(), &columns.value)?;
                    format!("({unit} AND {amount})")
                }
            }
        }
        Value::Uri(asked) => uri(db, sql, modifier, asked, &columns.value)?,
        // A composite inside a composite does not exist; one at the top is taken apart by the caller.
        Value::Composite(_) => NEVER.to_owned(),
    })
}

fn token(
    db: &Connection,
    sql: &mut Sql,
    system: &SystemMatch,
    code: Option<&str>,
    column: &str,
) -> Result<String> {
    among(db, sql, column, &|sql| {
        let mut parts = Vec::new();
        if let Some(code) = code {
            parts.push(format!("code = {}", sql.bind(code.to_owned())));
        }
        match system {
            SystemMatch::Any if code.is_none() => parts.push("1".to_owned()),
            SystemMatch::Any => {}
            SystemMatch::Absent => parts.push("system = ''".to_owned()),
            SystemMatch::Is(system) => parts.push(format!("system = {}", sql.bind(system.clone()))),
        }
        format!("SELECT id FROM concepts WHERE {}", parts.join(" AND "))
    })
}

/// The unit's code and system; asked without a system, the unit shown to people counts too.
fn unit(
    db: &Connection,
    sql: &mut Sql,
    system: &SystemMatch,
    code: Option<&str>,
    column: &str,
) -> Result<String> {
    let met = match (system, code) {
        (SystemMatch::Any, Some(code)) => among(db, sql, column, &|sql| {
            let code = sql.bind(code.to_owned());
            format!("SELECT id FROM concepts WHERE code = {code} OR text = {code}")
        })?,
        (system, code) => token(db, sql, system, code, column)?,
    };
    // Amounts without any unit have concept 0, which is in no dictionary.
    let without = *system == SystemMatch::Absent && code.is_none();
    Ok(if without {
        format!("({met} OR {column} = 0)")
    } else {
        met
    })
}

fn reference(
    db: &Connection,
    sql: &mut Sql,
    asked: &ReferenceMatch,
    column: &str,
) -> Result<String> {
    among(db, sql, column, &|sql| match asked {
        ReferenceMatch::Local {
            target_type,
            target_id,
        } => {
            let logical = sql.bind(target_id.clone());
            match target_type {
                None => format!("SELECT id FROM names WHERE logical = {logical} AND type != {URI}"),
                Some(name) => {
                    let kind = sql.bind(known_type(name).unwrap_or(-1));
                    format!("SELECT id FROM names WHERE logical = {logical} AND type = {kind}")
                }
            }
        }
        ReferenceMatch::Absolute(uri) => {
            let uri = sql.bind(uri.clone());
            format!("SELECT id FROM names WHERE logical = {uri} AND type = {URI}")
        }
    })
}

fn uri(
    db: &Connection,
    sql: &mut Sql,
    modifier: Option<Modifier>,
    asked: &str,
    column: &str,
) -> Result<String> {
    among(db, sql, column, &|sql| {
        let wanted = match modifier {
            Some(Modifier::Below) => {
                let asked = asked.trim_end_matches('/');
                let equal = sql.bind(asked.to_owned());
                // The character after the slash ends what begins with the value and a slash.
                let (from, to) = (sql.bind(format!("{asked}/")), sql.bind(format!("{asked}0")));
                format!("(logical = {equal} OR (logical >= {from} AND logical < {to}))")
            }
            Some(Modifier::Above) => {
                let ends = asked
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .chain([asked.len()]);
                let paths = ends.filter_map(|end| asked.get(..end));
                let paths = paths.flat_map(|path| [path.to_owned(), format!("{path}/")]);
                let paths: Vec<String> = paths.collect();
                format!("logical IN ({})", sql.bind_all(paths))
            }
            _ => format!("logical = {}", sql.bind(asked.to_owned())),
        };
        format!("SELECT id FROM names WHERE {wanted} AND type = {URI}")
    })
}

fn string(
    sql: &mut Sql,
    modifier: Option<Modifier>,
    value: &str,
    exact: &str,
    columns: &Columns,
) -> String {
    match modifier {
        // What is equal as written is equal when normalised, and that is what the index is by.
        Some(Modifier::Exact) => format!(
            "({} = {} AND {} = {})",
            columns.value,
            sql.bind(value.to_owned()),
            columns.exact,
            sql.bind(exact.to_owned())
        ),
        Some(Modifier::Contains) => {
            format!(
                "instr({}, {}) > 0",
                columns.value,
                sql.bind(value.to_owned())
            )
        }
        _ => {
            let (from, to) = (sql.bind(value.to_owned()), sql.bind(after_prefix(value)));
            format!("({0} >= {from} AND {0} < {to})", columns.value)
        }
    }
}

/// Stored `[low, high)` against asked `[start, end)` (FHIR R4, Search §3.1.1.4.4). The second bound on `low` says
/// nothing new; it lets an index stop.
pub(crate) fn date(
    sql: &mut Sql,
    prefix: Prefix,
    start_ms: i64,
    end_ms: i64,
    columns: &Columns,
) -> String {
    let Columns { low, high, .. } = columns;
    let (start, end) = (sql.bind(start_ms), sql.bind(end_ms));
    let within = format!("({low} >= {start} AND {low} <= {end} AND {high} <= {end})");
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => format!("NOT {within}"),
        Prefix::Gt => format!("{high} > {end}"),
        Prefix::Lt => format!("{low} < {start}"),
        Prefix::Ge => format!("({high} > {end} OR {within})"),
        Prefix::Le => format!("({low} < {start} OR {within})"),
        Prefix::Sa => format!("{low} >= {end}"),
        Prefix::Eb => format!("{high} <= {start}"),
        Prefix::Ap => format!("({low} < {end} AND {high} > {start})"),
    }
}

/// Stored closed `[low, high]` against the number asked with its half-open interval.
fn number_range(sql: &mut Sql, prefix: Prefix, asked: &NumberRange, columns: &Columns) -> String {
    let Columns { low, high, .. } = columns;
    let (from, value, to) = (
        sql.bind(asked.low),
        sql.bind(asked.value),
        sql.bind(asked.high),
    );
    // The first bound on the upper end says nothing new; it lets an index stop.
    let within =
        format!("({low} >= {from} AND {low} <= {to} AND ({high} < {to} OR {high} <= {value}))");
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => format!("NOT {within}"),
        Prefix::Gt => format!("{high} > {value}"),
        Prefix::Lt => format!("{low} < {value}"),
        Prefix::Ge => format!("{high} >= {value}"),
        Prefix::Le => format!("{low} <= {value}"),
        Prefix::Sa => format!("{low} > {value}"),
        Prefix::Eb => format!("{high} < {value}"),
        Prefix::Ap => format!("({low} <= {to} AND {high} >= {from})"),
    }
}

/// `column` is one of the ids that a statement on a dictionary gives. Few ids are looked up at once and bound, so
/// that the planner sees plain equality; many stay a subquery.
fn among(
    db: &Connection,
    sql: &mut Sql,
    column: &str,
    select: &dyn Fn(&mut Sql) -> String,
) -> Result<String> {
    const WHAT: &str = "looking up searched values";
    let mut own = Sql::default();
    let text = format!("{} LIMIT {}", select(&mut own), IDS_BOUND + 1);
    let mut ids = own.numbers(WHAT, db, &text)?;
    match ids.as_slice() {
        [] => Ok(NEVER.to_owned()),
        [id] => Ok(format!("{column} = {}", sql.bind(*id))),
        [.., last] if ids.len() <= IDS_BOUND => {
            // Lists of a few lengths only, so that few shapes of statements are prepared.
            ids.resize(ids.len().next_power_of_two(), *last);
            Ok(format!("{column} IN ({})", sql.bind_all(ids)))
        }
        _ => Ok(format!("{column} IN ({})", select(sql))),
    }
}

/// First text, in binary order, after all those that begin so.
pub(crate) fn after_prefix(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// True of nothing.
pub(crate) const NEVER: &str = "0";

/// Ids of a dictionary that are bound one by one.
const IDS_BOUND: usize = 64;
