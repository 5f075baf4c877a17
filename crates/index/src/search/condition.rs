//! Filters as conditions on a row of `resources`.

use rusqlite::Connection;
use stele_core::time::Timestamp;
use stele_fhir::search::{
    ast::{ChainTarget, Filter, Modifier, ParamType, Prefix, TextScope, Value},
    catalogue::SearchParam,
};

use super::{
    compile::Sql,
    keys::{param_key, type_number},
    value::{Columns, NEVER, Table, compare, date},
    viewer::{BoundViewer, Viewer},
};
use crate::error::Result;

/// Turns filters into SQL for one statement.
pub(crate) struct Compiler<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) sql: Sql,
    pub(crate) viewer: BoundViewer,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(db: &'a Connection, viewer: &Viewer, now: Timestamp) -> Self {
        let mut sql = Sql::default();
        let viewer = BoundViewer::bind(&mut sql, viewer, now);
        Self { db, sql, viewer }
    }

    /// True for a row `r` of `resources` that meets the filter. `r` is of the type.
    pub(crate) fn condition(
        &mut self,
        r: &str,
        resource_type: &str,
        filter: &Filter,
    ) -> Result<String> {
        match filter {
            Filter::Values {
                param,
                modifier,
                values,
            } => self.values(r, resource_type, param, *modifier, values),
            Filter::Missing { param, missing } => self.missing(r, resource_type, param, *missing),
            Filter::Chain { param, targets } => {
                let pt = self.pt(resource_type, param)?;
                let mut alternatives = Vec::new();
                for target in targets {
                    alternatives.push(self.chain(r, &pt, target)?);
                }
                Ok(any(&alternatives))
            }
            Filter::Has {
                source_type,
                reference,
                filter,
            } => {
                let pt = self.pt(source_type, reference)?;
                let kind = type_number(source_type)?;
                let (f, s) = (self.sql.alias('f'), self.sql.alias('s'));
                let met = self.condition(&s, source_type, filter)?;
                let kind = self.sql.bind(kind);
                Ok(format!(
                    "EXISTS (SELECT 1 FROM refs {f} CROSS JOIN resources {s} ON {s}.id = {f}.resource
                     WHERE {f}.target = {r}.id AND {f}.pt = {pt} AND {s}.type = {kind} AND {s}.is_deleted = 0
                     AND {met} AND {})",
                    self.viewer.sees(&s)
                ))
            }
            Filter::FullText { scope, words } => {
                Ok(format!("{r}.id IN ({})", self.full_text(*scope, words)))
            }
        }
    }

    fn chain(&mut self, r: &str, pt: &str, target: &ChainTarget) -> Result<String> {
        let (f, t) = (self.sql.alias('f'), self.sql.alias('t'));
        let met = self.condition(&t, target.resource_type, &target.filter)?;
        let kind = type_number(target.resource_type)?;
        let kind = self.sql.bind(kind);
        Ok(format!(
            "EXISTS (SELECT 1 FROM refs {f} CROSS JOIN resources {t} ON {t}.id = {f}.target
             WHERE {f}.resource = {r}.id AND {f}.pt = {pt} AND {t}.type = {kind} AND {t}.is_deleted = 0
             AND {met} AND {})",
            self.viewer.sees(&t)
        ))
    }

    fn values(
        &mut self,
        r: &str,
        resource_type: &str,
        param: &SearchParam,
        modifier: Option<Modifier>,
        values: &[Value],
    ) -> Result<String> {
        if let Some(condition) = self.own_column(r, param, values) {
            return Ok(if modifier == Some(Modifier::Not) {
                format!("NOT {condition}")
            } else {
                condition
            });
        }
        let Some(table) = Table::of(param.param_type, modifier) else {
            return Ok(NEVER.to_owned());
        };
        let pt = self.pt(resource_type, param)?;
        let t = self.sql.alias('t');
        let met = self.any_value(table, &t, modifier, values)?;
        let not = if modifier == Some(Modifier::Not) {
            "NOT "
        } else {
            ""
        };
        Ok(format!(
            "{not}EXISTS (SELECT 1 FROM {} {t} WHERE {t}.resource = {r}.id AND {t}.pt = {pt} AND {met})",
            table.name()
        ))
    }

    /// True for a row `t` of a value table that equals one of the alternatives.
    pub(crate) fn any_value(
        &mut self,
        table: Table,
        t: &str,
        modifier: Option<Modifier>,
        values: &[Value],
    ) -> Result<String> {
        let mut alternatives = Vec::new();
        for value in values {
            let met = match value {
                Value::Composite(parts) => {
                    let mut all = Vec::new();
                    for (at, part) in parts.iter().enumerate() {
                        let columns = Columns::component(t, at);
                        all.push(compare(self.db, &mut self.sql, None, part, &columns)?);
                    }
                    format!("({})", all.join(" AND "))
                }
                value => {
                    let columns = Columns::of(table, t);
                    compare(self.db, &mut self.sql, modifier, value, &columns)?
                }
            };
            alternatives.push(met);
        }
        Ok(any(&alternatives))
    }

    fn missing(
        &mut self,
        r: &str,
        resource_type: &str,
        param: &SearchParam,
        missing: bool,
    ) -> Result<String> {
        if matches!(param.code, "_id" | "_lastUpdated") {
            return Ok(if missing { NEVER } else { "1" }.to_owned());
        }
        let pt = self.pt(resource_type, param)?;
        let tables: &[Table] = match param.param_type {
            // A logical reference is a token; a link is not.
            ParamType::Reference => &[Table::Refs, Table::Tokens],
            kind => match Table::of(kind, None) {
                Some(Table::Tokens) => &[Table::Tokens],
                Some(Table::Refs) => &[Table::Refs],
                Some(Table::Strings) => &[Table::Strings],
                Some(Table::Ranges) => &[Table::Ranges],
                Some(Table::Composites) => &[Table::Composites],
                None => &[],
            },
        };
        let present: Vec<String> = tables
            .iter()
            .map(|table| {
                let t = self.sql.alias('t');
                let name = table.name();
                format!("EXISTS (SELECT 1 FROM {name} {t} WHERE {t}.resource = {r}.id AND {t}.pt = {pt})")
            })
            .collect();
        let present = any(&present);
        Ok(if missing {
            format!("NOT {present}")
        } else {
            present
        })
    }

    /// `_id` and `_lastUpdated`, which are columns of the resource.
    fn own_column(&mut self, r: &str, param: &SearchParam, values: &[Value]) -> Option<String> {
        match param.code {
            "_id" => {
                let ids: Vec<String> = values.iter().filter_map(logical_id).collect();
                if ids.is_empty() {
                    return Some(NEVER.to_owned());
                }
                let n = self.sql.alias('n');
                let ids = self.sql.bind_all(ids);
                Some(format!(
                    "{r}.id IN (SELECT {n}.id FROM names {n} WHERE {n}.logical IN ({ids}))"
                ))
            }
            "_lastUpdated" => {
                let columns = Columns {
                    value: String::new(),
                    exact: String::new(),
                    low: format!("{r}.updated_ms"),
                    high: format!("({r}.updated_ms + 1)"),
                };
                let met: Vec<String> = values
                    .iter()
                    .map(|value| match value {
                        Value::Date {
                            prefix,
                            start_ms,
                            end_ms,
                        } => date(&mut self.sql, *prefix, *start_ms, *end_ms, &columns),
                        _ => NEVER.to_owned(),
                    })
                    .collect();
                Some(any(&met))
            }
            _ => None,
        }
    }

    /// Ids of the resources whose texts have all the words.
    pub(crate) fn full_text(&mut self, scope: TextScope, words: &[String]) -> String {
        let column = match scope {
            TextScope::Narrative => "narrative",
            TextScope::Content => "content",
        };
        // Each word is quoted, so that none is read as an operator.
        let quoted: Vec<String> = words
            .iter()
            .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
            .collect();
        if quoted.is_empty() {
            return "SELECT 0 WHERE 0".to_owned();
        }
        let asked = self
            .sql
            .bind(format!("{{{column}}} : ({})", quoted.join(" AND ")));
        format!("SELECT rowid AS resource FROM texts WHERE texts MATCH {asked}")
    }

    pub(crate) fn pt(&mut self, resource_type: &str, param: &SearchParam) -> Result<String> {
        let key = param_key(type_number(resource_type)?, param.id);
        Ok(self.sql.bind(key))
    }
}

/// The logical id that a value of `_id` asks for.
pub(crate) fn logical_id(value: &Value) -> Option<String> {
    match value {
        Value::Token { code, .. } => code.clone(),
        Value::String { exact, .. } => Some(exact.clone()),
        _ => None,
    }
}

/// Whether a comparison may be answered from the index by value.
pub(crate) fn is_selective(value: &Value) -> bool {
    match value {
        Value::Date { prefix, .. }
        | Value::Number { prefix, .. }
        | Value::Quantity { prefix, .. } => {
            matches!(prefix, Prefix::Eq | Prefix::Ap)
        }
        Value::Composite(parts) => parts.first().is_some_and(is_selective),
        Value::Token { .. }
        | Value::TokenText(_)
        | Value::Reference(_)
        | Value::String { .. }
        | Value::Uri(_) => true,
    }
}

/// One of the conditions holds.
pub(crate) fn any(alternatives: &[String]) -> String {
    match alternatives {
        [] => NEVER.to_owned(),
        [one] => one.clone(),
        several => format!("({})", several.join(" OR ")),
    }
}
