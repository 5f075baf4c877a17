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
            }),
        ) => system_holds(system, stored.as_deref()) && (code.is_none() || code == value),
        (
            Value::Token { system, code },
            IndexKind::Token {
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
        (
            Value::Quantity {
                prefix,
                number,
                system,
                code,
            },
            IndexKind::Quantity {
                low,
                high,
                system: stored,
                code: unit_code,
                unit,
            },
        ) => {
            let unit_holds = code.is_none()
                || code == unit_code
                || (*system == SystemMatch::Any && code == unit);
            system_holds(system, stored.as_deref())
                && unit_holds
                && number_holds(*prefix, number, (*low, *high))
        }
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
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::{Handling, Options, extract, parse};

    /// Asks one parameter of one resource.
    fn found(resource: &Json, name: &str, text: &str) -> bool {
        let resource_type = resource["resourceType"].as_str().unwrap();
        let options = Options {
            handling: Handling::Strict,
            now_ms: 0,
            count_max: 100,
            base_url: None,
        };
        let pairs = [(name.to_owned(), text.to_owned())];
        let (query, _) = parse(resource_type, &pairs, &options).unwrap();
        let values = extract(resource_type, resource);
        super::matches(&query.filters[0], &values).unwrap()
    }

    fn check(resource: &Json, yes: &[(&str, &str)], no: &[(&str, &str)]) {
        for (name, text) in yes {
            assert!(found(resource, name, text), "{name}={text} must match");
        }
        for (name, text) in no {
            assert!(!found(resource, name, text), "{name}={text} must not match");
        }
    }

    #[test]
    fn tokens() {
        let o = json!({"resourceType": "Observation", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5",
                     "display": "Body temperature"}, {"code": "local,x"}]}});
        check(
            &o,
            &[
                ("code", "8310-5"),
                ("code", "http://loinc.org|8310-5"),
                ("code", "|local\\,x"),
                ("code", "http://loinc.org|"),
                ("code", "a,8310-5"),
                ("code:not", "a"),
                ("code:text", "body temp"),
                ("status", "http://hl7.org/fhir/observation-status|final"),
                ("category:missing", "true"),
                ("code:missing", "false"),
                ("category:not", "x"),
            ],
            &[
                ("code", "8310-6"),
                ("code", "|8310-5"),
                ("code", "http://x|8310-5"),
                ("code:not", "a,8310-5"),
                ("code:text", "temp"),
                ("code:missing", "true"),
            ],
        );
    }

    #[test]
    fn dates_by_precision_and_prefix() {
        let o = json!({"resourceType": "Observation", "effectiveDateTime": "2013-01-14"});
        check(
            &o,
            &[
                ("date", "2013-01-14"),
                ("date", "2013-01"),
                ("date", "2013"),
                ("date", "ne2014"),
                ("date", "gt2013-01-14T10:00"),
                ("date", "lt2013-01-14T10:00"),
                ("date", "ge2013-01-14"),
                ("date", "le2013-01-14"),
                ("date", "ge2013"),
                ("date", "le2013"),
                ("date", "sa2012"),
                ("date", "eb2014"),
                ("date", "ap2013-01-14T10:00"),
            ],
            &[
                ("date", "2013-01-14T10:00"),
                ("date", "gt2013"),
                ("date", "lt2013-01-14"),
                ("date", "sa2013-01-13T23:00:00-05:00"),
                ("date", "eb2013-01-14"),
            ],
        );
        let open =
            json!({"resourceType": "Observation", "effectivePeriod": {"start": "2013-01-14"}});
        check(
            &open,
            &[("date", "gt2050"), ("date", "sa2012")],
            &[("date", "2013"), ("date", "eb2050")],
        );
    }

    #[test]
    fn quantities_by_written_precision() {
        let o: Json = serde_json::from_str(
            r#"{"resourceType": "Observation", "code": {"coding": [{"code": "k"}]},
                "valueQuantity": {"value": 6.30, "unit": "mmol", "code": "mmol/L",
                "system": "http://unitsofmeasure.org"}}"#,
        )
        .unwrap();
        check(
            &o,
            &[
                ("value-quantity", "6.3"),
                ("value-quantity", "6.30"),
                ("value-quantity", "6"),
                ("value-quantity", "6.30|http://unitsofmeasure.org|mmol/L"),
                ("value-quantity", "6.3||mmol"),
                ("value-quantity", "ge6.30"),
                ("value-quantity", "le6.30"),
                ("value-quantity", "ap6"),
                ("value-quantity", "gt6.29"),
                ("code-value-quantity", "k$gt6"),
            ],
            &[
                ("value-quantity", "6.31"),
                ("value-quantity", "6.300||mg"),
                ("value-quantity", "gt6.3"),
                ("value-quantity", "7"),
                ("value-quantity", "ne6.30"),
                ("value-quantity", "ap5"),
                ("code-value-quantity", "k$lt6"),
                ("code-value-quantity", "j$gt6"),
            ],
        );
        let below = json!({"resourceType": "Observation",
            "valueQuantity": {"value": 5, "comparator": "<"}});
        check(
            &below,
            &[("value-quantity", "lt3")],
            &[("value-quantity", "gt5"), ("value-quantity", "5")],
        );
    }

    #[test]
    fn strings_references_and_uris() {
        let p = json!({"resourceType": "Patient", "name": [{"family": "Dvořák", "given": ["Ann Lee"]}],
            "generalPractitioner": [{"reference": "Practitioner/g"},
                                    {"identifier": {"system": "s", "value": "v"}}],
            "meta": {"profile": ["http://p/a/b|2"]}});
        check(
            &p,
            &[
                ("family", "dvo"),
                ("family:exact", "Dvořák"),
                ("name:contains", "LEE"),
                ("general-practitioner", "g"),
                ("general-practitioner", "Practitioner/g"),
                ("general-practitioner:Practitioner", "g"),
                ("general-practitioner:identifier", "s|v"),
                ("_profile", "http://p/a/b"),
                ("_profile", "http://p/a/b|2"),
                ("_profile:below", "http://p/a"),
                ("_profile:above", "http://p/a/b/c"),
            ],
            &[
                ("family", "rak"),
                ("family:exact", "Dvorak"),
                ("name:contains", "zz"),
                ("general-practitioner", "Organization/g"),
                ("general-practitioner", "h"),
                ("general-practitioner:identifier", "v|s"),
                ("_profile", "http://p/a"),
                ("_profile:below", "http://p/a/bc"),
            ],
        );
    }
}
