//! Which filter a search starts from.
//!
//! SQLite plans without statistics of our data, so the choice is made here: each filter that an index by value can
//! answer is asked how many resources it gives, up to a bound, and the search starts from the fewest. The others
//! are then tested resource by resource.

use stele_core::time::Timestamp;
use stele_fhir::search::{
    ast::{ChainTarget, Filter, Modifier, ParamType, Value},
    catalogue::SearchParam,
};

use super::{
    condition::{Compiler, is_selective, logical_id},
    keys::type_number,
    value::Table,
    viewer::Viewer,
};
use crate::error::Result;

impl Compiler<'_> {
    /// A statement that gives, as `resource`, the ids of all resources that meet a filter; or nothing, where that
    /// would mean reading all.
    pub(crate) fn driver(
        &mut self,
        resource_type: &str,
        filter: &Filter,
    ) -> Result<Option<String>> {
        match filter {
            Filter::Values {
                param,
                modifier,
                values,
            } => self.values_driver(resource_type, param, *modifier, values),
            Filter::Missing { .. } => Ok(None),
            Filter::Chain { param, targets } => self.chain_driver(resource_type, param, targets),
            Filter::Has {
                source_type,
                reference,
                filter,
            } => {
                let pt = self.pt(source_type, reference)?;
                let Some(inner) = self.driver(source_type, filter)? else {
                    return Ok(None);
                };
                let (d, s) = (self.sql.alias('d'), self.sql.alias('s'));
                let f = self.sql.alias('f');
                let sees = self.viewer.sees(&s);
                Ok(Some(format!(
                    "SELECT DISTINCT {f}.target AS resource FROM ({inner}) {d}
                     CROSS JOIN resources {s} ON {s}.id = {d}.resource AND {s}.is_deleted = 0 AND {sees}
                     CROSS JOIN refs {f} ON {f}.resource = {s}.id AND {f}.pt = {pt}"
                )))
            }
            Filter::FullText { scope, words } => Ok(Some(self.full_text(*scope, words))),
        }
    }

    fn values_driver(
        &mut self,
        resource_type: &str,
        param: &SearchParam,
        modifier: Option<Modifier>,
        values: &[Value],
    ) -> Result<Option<String>> {
        if param.code == "_id" && modifier.is_none() {
            let ids: Vec<String> = values.iter().filter_map(logical_id).collect();
            let kind = type_number(resource_type)?;
            let (kind, ids) = (self.sql.bind(kind), self.sql.bind_all(ids));
            return Ok(Some(format!(
                "SELECT id AS resource FROM names WHERE logical IN ({ids}) AND type = {kind}"
            )));
        }
        let Some(table) = Table::of(param.param_type, modifier) else {
            return Ok(None);
        };
        let scans = matches!(modifier, Some(Modifier::Not | Modifier::Contains))
            || !values.iter().all(is_selective);
        if scans || matches!(param.code, "_id" | "_lastUpdated") {
            return Ok(None);
        }
        let pt = self.pt(resource_type, param)?;
        let t = self.sql.alias('t');
        let met = self.any_value(table, &t, modifier, values)?;
        // A row is unique by parameter, value and resource: one value needs no DISTINCT, which would sort.
        let is_one = matches!(table, Table::Tokens | Table::Refs)
            && !met.contains(" IN (")
            && !met.contains(" OR ");
        let distinct = if is_one { "" } else { "DISTINCT " };
        Ok(Some(format!(
            "SELECT {distinct}{t}.resource AS resource FROM {} {t} WHERE {t}.pt = {pt} AND {met}",
            table.name()
        )))
    }

    fn chain_driver(
        &mut self,
        resource_type: &str,
        param: &SearchParam,
        targets: &[ChainTarget],
    ) -> Result<Option<String>> {
        let pt = self.pt(resource_type, param)?;
        let mut parts = Vec::new();
        for target in targets {
            let Some(inner) = self.driver(target.resource_type, &target.filter)? else {
                return Ok(None);
            };
            let (d, t) = (self.sql.alias('d'), self.sql.alias('t'));
            let f = self.sql.alias('f');
            let sees = self.viewer.sees(&t);
            // DISTINCT, because a resource may point at several of them.
            parts.push(format!(
                "SELECT DISTINCT {f}.resource AS resource FROM ({inner}) {d}
                 CROSS JOIN resources {t} ON {t}.id = {d}.resource AND {t}.is_deleted = 0 AND {sees}
                 CROSS JOIN refs {f} ON {f}.target = {t}.id AND {f}.pt = {pt}"
            ));
        }
        Ok((!parts.is_empty()).then(|| parts.join(" UNION ")))
    }
}

/// Position of the filter to start from.
pub(crate) fn choose(
    db: &rusqlite::Connection,
    resource_type: &str,
    filters: &[Filter],
    viewer: &Viewer,
    now: Timestamp,
) -> Result<Option<usize>> {
    const WHAT: &str = "choosing where a search starts";
    let mut order: Vec<usize> = (0..filters.len()).collect();
    order.sort_by_key(|at| filters.get(*at).map_or(u8::MAX, promise));
    let mut best: Option<(usize, i64)> = None;
    for at in order {
        let Some(filter) = filters.get(at) else {
            continue;
        };
        let mut compiler = Compiler::new(db, viewer, now);
        let Some(driver) = compiler.driver(resource_type, filter)? else {
            continue;
        };
        if filters.len() == 1 {
            return Ok(Some(at));
        }
        // No further than the best so far: more would not be chosen.
        let bound = best.map_or(COUNT_MAX, |(_, count)| count);
        let text = format!(
            "SELECT count(*) FROM (SELECT 1 FROM ({driver}) LIMIT {})",
            compiler.sql.bind(bound)
        );
        let count = compiler
            .sql
            .numbers(WHAT, db, &text)?
            .pop()
            .unwrap_or_default();
        if best.is_none_or(|(_, least)| count < least) {
            best = Some((at, count));
        }
        if count <= FEW {
            break;
        }
    }
    Ok(best.map(|(at, _)| at))
}

/// What is likely to give few resources is asked first.
fn promise(filter: &Filter) -> u8 {
    match filter {
        Filter::Values { param, .. } if param.code == "_id" => 0,
        Filter::Values { param, .. } => match param.param_type {
            ParamType::Reference => 1,
            ParamType::Token | ParamType::Uri => 2,
            ParamType::Composite | ParamType::String => 3,
            ParamType::Date | ParamType::Number | ParamType::Quantity | ParamType::Special => 4,
        },
        Filter::FullText { .. } => 5,
        Filter::Chain { .. } | Filter::Has { .. } => 6,
        Filter::Missing { .. } => 7,
    }
}

/// Resources counted at most for one filter: about 200 µs.
const COUNT_MAX: i64 = 1_000;

/// So few that looking for fewer costs more than it saves.
const FEW: i64 = 32;
