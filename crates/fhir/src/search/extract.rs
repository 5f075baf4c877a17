//! Takes out of a resource everything it can be found by.

use serde_json::Value;

use super::ast::{DATE_MAX_MS, DATE_MIN_MS, IndexKind, IndexValue, ParamType, ReferenceValue};
use super::catalogue::{Catalogue, Group, SearchParam};
use super::path::{DataType, Path};
use super::text::normalise;
use super::{date, number};

/// All search values of a resource, parameter by parameter; empty for an unknown type.
///
/// Works on any JSON: what is not of the expected form gives no value, because a resource is
/// validated elsewhere and a search must not fail on one bad element. Give it the resource as
/// stored, with `id` and `meta`, so that `_id` and `_lastUpdated` have their values. Contained
/// resources give none of their own.
pub fn extract(resource_type: &str, resource: &Value) -> Vec<IndexValue> {
    let mut values = Vec::with_capacity(32);
    let mut kinds = Vec::new();
    for param in Catalogue::r4().params(resource_type) {
        param_values(param, resource, &mut kinds);
        values.extend(kinds.drain(..).map(|kind| IndexValue {
            param: param.id,
            kind,
        }));
    }
    values
}

fn param_values(param: &SearchParam, resource: &Value, out: &mut Vec<IndexKind>) {
    for path in &param.paths {
        if path.data_type == DataType::Present {
            out.push(boolean(path.members.iter().any(|member| {
                resource
                    .get(member)
                    .is_some_and(|value| *value != Value::Bool(false))
            })));
            continue;
        }
        path.walk(resource, &mut |element| {
            convert(param.param_type, path, element, out)
        });
    }
    for group in &param.groups {
        group.root.walk(resource, &mut |part| {
            composites(param, group, resource, part, out)
        });
    }
}

/// Every combination of the components' values below one element.
fn composites(
    param: &SearchParam,
    group: &Group,
    resource: &Value,
    part: &Value,
    out: &mut Vec<IndexKind>,
) {
    let mut combinations: Vec<Vec<IndexKind>> = vec![Vec::new()];
    for (component, paths) in param.components.iter().zip(&group.parts) {
        let mut kinds = Vec::new();
        for path in paths {
            let from = if path.from_resource { resource } else { part };
            path.walk(from, &mut |element| {
                convert(component.param_type, path, element, &mut kinds);
            });
        }
        combinations = combinations
            .iter()
            .flat_map(|start| kinds.iter().map(move |kind| joined(start, kind)))
            .take(COMPOSITES_MAX)
            .collect();
    }
    out.extend(combinations.into_iter().map(IndexKind::Composite));
}

fn joined(start: &[IndexKind], kind: &IndexKind) -> Vec<IndexKind> {
    let mut all = Vec::with_capacity(start.len() + 1);
    all.extend_from_slice(start);
    all.push(kind.clone());
    all
}

/// Values of one element, as the kind of parameter reads its data type.
fn convert(kind: ParamType, path: &Path, element: &Value, out: &mut Vec<IndexKind>) {
    match kind {
        ParamType::Token => token(path, element, out),
        ParamType::Reference => reference(path.data_type, element, out),
        ParamType::Date => out.extend(span(path.data_type, element)),
        ParamType::String => string(path.data_type, element, out),
        ParamType::Quantity => out.extend(quantity(path.data_type, element)),
        ParamType::Number => out.extend(plain_number(path.data_type, element)),
        ParamType::Uri => uri(path.data_type, element, out),
        ParamType::Composite | ParamType::Special => {}
    }
}

fn token(path: &Path, element: &Value, out: &mut Vec<IndexKind>) {
    match path.data_type {
        DataType::Boolean => out.extend(element.as_bool().map(boolean)),
        DataType::Coding => out.extend(coding(element)),
        DataType::CodeableConcept => {
            let codings = element.get("coding").and_then(Value::as_array);
            out.extend(codings.into_iter().flatten().filter_map(coding));
            out.extend(text(element, "text").map(|text| IndexKind::Token {
                system: None,
                code: None,
                text: Some(normalise(text)),
            }));
        }
        DataType::Identifier => {
            let (system, code) = (owned(element, "system"), owned(element, "value"));
            let of_type = element.get("type").and_then(|kind| text(kind, "text"));
            if system.is_some() || code.is_some() {
                out.push(IndexKind::Token {
                    system,
                    code,
                    text: of_type.map(normalise),
                });
            }
        }
        DataType::ContactPoint => out.extend(text(element, "value").map(|value| {
            let system = owned(element, "system");
            IndexKind::Token {
                system,
                code: Some(value.to_owned()),
                text: None,
            }
        })),
        _ => out.extend(element.as_str().map(|code| IndexKind::Token {
            system: path.system.map(str::to_owned),
            code: Some(code.to_owned()),
            text: None,
        })),
    }
}

fn coding(element: &Value) -> Option<IndexKind> {
    let (system, code) = (owned(element, "system"), owned(element, "code"));
    let display = text(element, "display");
    (system.is_some() || code.is_some() || display.is_some()).then(|| IndexKind::Token {
        system,
        code,
        text: display.map(normalise),
    })
}

fn boolean(value: bool) -> IndexKind {
    let code = Some(if value { "true" } else { "false" }.to_owned());
    IndexKind::Token {
        system: None,
        code,
        text: None,
    }
}

fn reference(data_type: DataType, element: &Value, out: &mut Vec<IndexKind>) {
    match data_type {
        DataType::Reference => {
            let url = text(element, "reference");
            out.extend(url.and_then(link).map(IndexKind::Reference));
            if let Some(identifier) = element.get("identifier") {
                let system = owned(identifier, "system");
                let value = owned(identifier, "value");
                if system.is_some() || value.is_some() {
                    let value = ReferenceValue::Identifier { system, value };
                    out.push(IndexKind::Reference(value));
                }
            }
        }
        DataType::Resource => {
            if let (Some(target_type), Some(target_id)) =
                (owned(element, "resourceType"), owned(element, "id"))
            {
                let value = ReferenceValue::Local {
                    target_type,
                    target_id,
                };
                out.push(IndexKind::Reference(value));
            }
        }
        _ => out.extend(element.as_str().and_then(link).map(IndexKind::Reference)),
    }
}

/// Reads a reference's URL. References into the resource itself (`#x`) and conditional ones
/// (`Patient?identifier=x`) point at nothing that could be found.
fn link(url: &str) -> Option<ReferenceValue> {
    if url.is_empty() || url.starts_with('#') {
        return None;
    }
    if url.contains(':') {
        let canonical = url.split_once('|').map_or(url, |(canonical, _)| canonical);
        return Some(ReferenceValue::Absolute(canonical.to_owned()));
    }
    let mut parts = url.split('/');
    let (target_type, target_id) = (parts.next()?, parts.next()?);
    let rest = (parts.next(), parts.next(), parts.next());
    let proper = matches!(rest, (None, ..) | (Some("_history"), Some(_), None));
    (proper && !target_type.contains('?') && !target_id.is_empty()).then(|| ReferenceValue::Local {
        target_type: target_type.to_owned(),
        target_id: target_id.to_owned(),
    })
}

/// The URI as written; a canonical with a version is found without it too.
fn uri(data_type: DataType, element: &Value, out: &mut Vec<IndexKind>) {
    let Some(uri) = element.as_str() else { return };
    out.push(IndexKind::Uri(uri.to_owned()));
    if data_type == DataType::Canonical
        && let Some((canonical, _version)) = uri.split_once('|')
    {
        out.push(IndexKind::Uri(canonical.to_owned()));
    }
}

fn span(data_type: DataType, element: &Value) -> Option<IndexKind> {
    let (start_ms, end_ms) = match data_type {
        DataType::Date => bounds(element.as_str())?,
        DataType::Period => period(element)?,
        DataType::Timing => timing(element)?,
        _ => return None,
    };
    Some(IndexKind::Date { start_ms, end_ms })
}

fn bounds(text: Option<&str>) -> Option<(i64, i64)> {
    date::parse(text?).map(|span| (span.start_ms, span.end_ms))
}

/// From the start's first moment to the end's last; a missing side is open.
fn period(element: &Value) -> Option<(i64, i64)> {
    let start = bounds(text(element, "start"));
    let end = bounds(text(element, "end"));
    (start.is_some() || end.is_some()).then(|| {
        let start_ms = start.map_or(DATE_MIN_MS, |(start_ms, _)| start_ms);
        (start_ms, end.map_or(DATE_MAX_MS, |(_, end_ms)| end_ms))
    })
}

/// The outer limits of a schedule: its events and its bounding period.
fn timing(element: &Value) -> Option<(i64, i64)> {
    let events = element
        .get("event")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let events = events.filter_map(|event| bounds(event.as_str()));
    let repeat = element
        .get("repeat")
        .and_then(|repeat| repeat.get("boundsPeriod"));
    events
        .chain(repeat.and_then(period))
        .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
}

fn string(data_type: DataType, element: &Value, out: &mut Vec<IndexKind>) {
    let members: &[&str] = match data_type {
        DataType::HumanName => &["text", "family", "given", "prefix", "suffix"],
        DataType::Address => &[
            "text",
            "line",
            "city",
            "district",
            "state",
            "postalCode",
            "country",
        ],
        _ => {
            out.extend(element.as_str().map(string_value));
            return;
        }
    };
    for member in members {
        match element.get(member) {
            Some(Value::Array(parts)) => {
                out.extend(parts.iter().filter_map(Value::as_str).map(string_value));
            }
            other => out.extend(other.and_then(Value::as_str).map(string_value)),
        }
    }
}

fn string_value(text: &str) -> IndexKind {
    IndexKind::String {
        value: normalise(text),
        exact: text.to_owned(),
    }
}

fn quantity(data_type: DataType, element: &Value) -> Option<IndexKind> {
    let (low, high, unit_of) = match data_type {
        DataType::Quantity => {
            let (low, high) = compared(element)?;
            (low, high, element)
        }
        DataType::Money => {
            let value = number::of_json(element.get("value")?)?;
            let code = owned(element, "currency");
            let system = code.as_ref().map(|_| CURRENCIES.to_owned());
            return Some(IndexKind::Quantity {
                low: value,
                high: value,
                system,
                code,
                unit: None,
            });
        }
        DataType::Range => {
            let (low, high) = range(element)?;
            (
                low,
                high,
                element.get("low").or_else(|| element.get("high"))?,
            )
        }
        DataType::SampledData => {
            let (low, high) = samples(element)?;
            (low, high, element.get("origin")?)
        }
        _ => return None,
    };
    Some(IndexKind::Quantity {
        low,
        high,
        system: owned(unit_of, "system"),
        code: owned(unit_of, "code"),
        unit: owned(unit_of, "unit"),
    })
}

fn plain_number(data_type: DataType, element: &Value) -> Option<IndexKind> {
    let (low, high) = match data_type {
        DataType::Range => range(element)?,
        _ => {
            let value = number::of_json(element)?;
            (value, value)
        }
    };
    Some(IndexKind::Number { low, high })
}

/// A quantity's interval: one point, or open on the side its comparator says. Whether the bound
/// itself belongs to it (`<` or `<=`) is not told apart.
fn compared(quantity: &Value) -> Option<(f64, f64)> {
    let value = number::of_json(quantity.get("value")?)?;
    Some(match text(quantity, "comparator") {
        Some("<" | "<=") => (f64::NEG_INFINITY, value),
        Some(">" | ">=") => (value, f64::INFINITY),
        _ => (value, value),
    })
}

fn range(element: &Value) -> Option<(f64, f64)> {
    let low = element.get("low").and_then(compared);
    let high = element.get("high").and_then(compared);
    (low.is_some() || high.is_some()).then(|| {
        let low = low.map_or(f64::NEG_INFINITY, |(low, _)| low);
        (low, high.map_or(f64::INFINITY, |(_, high)| high))
    })
}

/// Lowest and highest of a series of samples; marks for errors and limits are passed over.
fn samples(element: &Value) -> Option<(f64, f64)> {
    let origin = element
        .get("origin")?
        .get("value")
        .and_then(number::of_json)?;
    let factor = element
        .get("factor")
        .and_then(number::of_json)
        .unwrap_or(1.0);
    let data = text(element, "data")?.split_ascii_whitespace();
    data.filter_map(number::point)
        .map(|sample| sample * factor + origin)
        .map(|sample| (sample, sample))
        .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
}

fn text<'v>(element: &'v Value, member: &str) -> Option<&'v str> {
    element.get(member).and_then(Value::as_str)
}

fn owned(element: &Value, member: &str) -> Option<String> {
    text(element, member).map(str::to_owned)
}

/// Combinations taken from one element, so that a crafted resource cannot multiply: four codings
/// against four are 16, and real data stays below that.
const COMPOSITES_MAX: usize = 256;

/// System of currency codes (FHIR R4, Money).
const CURRENCIES: &str = "urn:iso:std:iso:4217";

#[cfg(test)]
mod tests;
