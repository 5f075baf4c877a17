//! What a filter means, said once in plain code.
//!
//! An index answers filters in its own way and must agree with this; its tests compare. It also
//! serves where one resource at hand is tested and no index is needed.

use super::ast::{
    Filter, IndexKind, IndexValue, Modifier, NumberRange, Prefix, ReferenceMatch, ReferenceValue,
    SystemMatch, Value,
};

/// Whether a resource with these values meets the filter.
///
/// `None` for filters that other resources or texts decide: chains, `_has` and full text.
pub fn matches(filter: &Filter, values: &[IndexValue]) -> Option<bool> {
    match filter {
        Filter::Values {
            param,
            modifier,
            values: wanted,
        } => {
            let mut own = values.iter().filter(|value| value.param == param.id);
            let found =
                own.any(|value| wanted.iter().any(|one| holds(one, *modifier, &value.kind)));
            Some(found != (*modifier == Some(Modifier::Not)))
        }
        Filter::Missing { param, missing } => {
            Some(values.iter().any(|value| value.param == param.id) != *missing)
        }
        Filter::Chain { .. } | Filter::Has { .. } | Filter::FullText { .. } => None,
    }
}

fn holds(wanted: &Value, modifier: Option<Modifier>, stored: &IndexKind) -> bool {
    match (wanted, stored) {
        (
            Value::Token { system, code },
            IndexKind::Reference(ReferenceValue::Identifier {
                system: stored,
                value,
            })
            | IndexKind::Token {
                system: stored,
                code: value,
                ..
            },
        ) => system_holds(system, stored.as_deref()) && (code.is_none() || code == value),
        (Value::TokenText(wanted), IndexKind::Token { text, .. }) => text
            .as_ref()
            .is_some_and(|text| text.starts_with(wanted.as_str())),
        (Value::Reference(wanted), IndexKind::Reference(stored)) => points_at(wanted, stored),
        (
            Value::Date {
                prefix,
                start_ms,
                end_ms,
            },
            IndexKind::Date {
                start_ms: stored_start,
                end_ms: stored_end,
            },
        ) => date_holds(*prefix, (*start_ms, *end_ms), (*stored_start, *stored_end)),
        (
            Value::String { value, exact },
            IndexKind::String {
                value: stored,
                exact: written,
            },
        ) => match modifier {
            Some(Modifier::Exact) => exact == written,
            Some(Modifier::Contains) => stored.contains(value.as_str()),
            _ => stored.starts_with(value.as_str()),
        },
        (Value::Quantity { .. }, IndexKind::Quantity { .. }) => quantity_holds(wanted, stored),
        (Value::Number { prefix, number }, IndexKind::Number { low, high }) => {
            number_holds(*prefix, number, (*low, *high))
        }
        (Value::Uri(wanted), IndexKind::Uri(stored)) => match modifier {
            Some(Modifier::Below) => is_below(stored, wanted),
            Some(Modifier::Above) => is_below(wanted, stored),
            _ => wanted == stored,
        },
        (Value::Composite(wanted), IndexKind::Composite(stored)) => {
            wanted.len() == stored.len()
                && wanted
                    .iter()
                    .zip(stored)
                    .all(|(one, value)| holds(one, None, value))
        }
        _ => false,
    }
}

/// Unit and number; a unit asked without a system is also compared with the one shown to people.
fn quantity_holds(wanted: &Value, stored: &IndexKind) -> bool {
    let (
        Value::Quantity {
            prefix,
            number,
            system,
            code,
        },
        IndexKind::Quantity {
            low,
            high,
            system: stored_system,
            code: stored_code,
            unit,
        },
    ) = (wanted, stored)
    else {
        return false;
    };
    let any_system = *system == SystemMatch::Any;
    let unit_holds = code.is_none() || code == stored_code || (any_system && code == unit);
    unit_holds
        && system_holds(system, stored_system.as_deref())
        && number_holds(*prefix, number, (*low, *high))
}

fn system_holds(wanted: &SystemMatch, stored: Option<&str>) -> bool {
    match wanted {
        SystemMatch::Any => true,
        SystemMatch::Absent => stored.is_none(),
        SystemMatch::Is(system) => stored == Some(system.as_str()),
    }
}

fn points_at(wanted: &ReferenceMatch, stored: &ReferenceValue) -> bool {
    match (wanted, stored) {
        (
            ReferenceMatch::Local {
                target_type,
                target_id,
            },
            ReferenceValue::Local {
                target_type: stored_type,
                target_id: stored_id,
            },
        ) => target_id == stored_id && target_type.is_none_or(|wanted| wanted == stored_type),
        (ReferenceMatch::Absolute(wanted), ReferenceValue::Absolute(stored)) => wanted == stored,
        _ => false,
    }
}

/// Half-open spans: what is asked, what is stored.
fn date_holds(prefix: Prefix, asked: (i64, i64), stored: (i64, i64)) -> bool {
    let within = asked.0 <= stored.0 && stored.1 <= asked.1;
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => stored.1 > asked.1,
        Prefix::Lt => stored.0 < asked.0,
        Prefix::Ge => stored.1 > asked.1 || within,
        Prefix::Le => stored.0 < asked.0 || within,
        Prefix::Sa => stored.0 >= asked.1,
        Prefix::Eb => stored.1 <= asked.0,
        Prefix::Ap => stored.0 < asked.1 && asked.0 < stored.1,
    }
}

/// The stored interval is closed; all prefixes but `eq`, `ne` and `ap` take the number asked as
/// exact (FHIR R4, Search §3.1.1.4.6).
fn number_holds(prefix: Prefix, asked: &NumberRange, stored: (f64, f64)) -> bool {
    let within = asked.low <= stored.0 && (stored.1 < asked.high || stored.1 <= asked.value);
    match prefix {
        Prefix::Eq => within,
        Prefix::Ne => !within,
        Prefix::Gt => stored.1 > asked.value,
        Prefix::Lt => stored.0 < asked.value,
        Prefix::Ge => stored.1 >= asked.value,
        Prefix::Le => stored.0 <= asked.value,
        Prefix::Sa => stored.0 > asked.value,
        Prefix::Eb => stored.1 < asked.value,
        Prefix::Ap => stored.0 <= asked.high && asked.low <= stored.1,
    }
}

/// Whether a URI is another one or a path below it.
fn is_below(uri: &str, other: &str) -> bool {
    let other = other.trim_end_matches('/');
    uri.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
