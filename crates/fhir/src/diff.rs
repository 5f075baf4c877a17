//! What changed between two versions of a resource, element by element.
//!
//! Compares what was written: `6.30` and `6.3` differ, members in another order do not. Lists are compared in
//! place, after what both begin and end with is set aside, so that one entry put in or taken out is one change and
//! not a change of all that follow.

use serde_json::{Value, json};

/// One element that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, by the names JSON has: `Observation.valueQuantity.value`, `Patient.name[1].given[0]`. An insertion is
    /// named by its place in the later version, everything else by its place in the earlier one.
    pub path: String,
    /// The value before; nothing for an insertion.
    pub previous: Option<Value>,
    /// The value after; nothing for a deletion.
    pub value: Option<Value>,
}

impl Change {
    /// Name of the operation in FHIR Patch: `insert`, `delete` or `replace`.
    pub fn operation(&self) -> &'static str {
        match (&self.previous, &self.value) {
            (None, _) => "insert",
            (Some(_), None) => "delete",
            (Some(_), Some(_)) => "replace",
        }
    }
}

/// The elements in which two versions differ, primitive by primitive, in the order of the earlier version and then
/// of what was added. `meta.versionId` and `meta.lastUpdated`, which differ by nature, are left out.
pub fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let name = from.get("resourceType").or_else(|| to.get("resourceType"));
    let mut found = Vec::new();
    compare(
        name.and_then(Value::as_str).unwrap_or("Resource"),
        from,
        to,
        &mut found,
    );
    found.retain(|change| {
        let path = change.path.split_once('.').map_or("", |(_, path)| path);
        !matches!(path, "meta.versionId" | "meta.lastUpdated")
    });
    found
}

/// Changes as the `Parameters` resource of FHIR Patch (`fhirpatch.html`), each with `previousValue` beside it.
pub fn to_parameters(changes: &[Change]) -> Value {
    let operations: Vec<Value> = changes
        .iter()
        .map(|change| {
            let mut parts = vec![
                json!({ "name": "type", "valueCode": change.operation() }),
                json!({ "name": "path", "valueString": change.path }),
            ];
            parts.extend(part("previousValue", change.previous.as_ref()));
            parts.extend(part("value", change.value.as_ref()));
            json!({ "name": "operation", "part": parts })
        })
        .collect();
    if operations.is_empty() {
        json!({ "resourceType": "Parameters" })
    } else {
        json!({ "resourceType": "Parameters", "parameter": operations })
    }
}

fn part(name: &str, value: Option<&Value>) -> Option<Value> {
    let value = value?;
    let kind = match value {
        Value::Bool(_) => "valueBoolean",
        Value::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
            "valueInteger"
        }
        Value::Number(_) => "valueDecimal",
        Value::String(_) => "valueString",
        // Holes of lists of primitives, and what is empty, have no value to show.
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(json!({ "name": name, kind: value }))
}

fn compare(path: &str, from: &Value, to: &Value, found: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let path = format!("{path}.{name}");
                match after.get(name) {
                    Some(now) => compare(&path, value, now, found),
                    None => all(&path, value, found, &gone),
                }
            }
            for (name, value) in after {
                if !before.contains_key(name) {
                    all(&format!("{path}.{name}"), value, found, &added);
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => lists(path, before, after, found),
        (from, to) if from == to => {}
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => {
            all(path, from, found, &gone);
            all(path, to, found, &added);
        }
        (from, to) => found.push(Change {
            path: path.to_owned(),
            previous: Some(from.clone()),
            value: Some(to.clone()),
        }),
    }
}

fn lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<Change>) {
    let same = |(a, b): &(&Value, &Value)| a == b;
    let start = before.iter().zip(after).take_while(same).count();
    let (before, after) = (
        before.get(start..).unwrap_or_default(),
        after.get(start..).unwrap_or_default(),
    );
    let end = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(same)
        .count();
    let before = before
        .get(..before.len().saturating_sub(end))
        .unwrap_or_default();
    let after = after
        .get(..after.len().saturating_sub(end))
        .unwrap_or_default();
    let at = |index: usize| format!("{path}[{}]", start.saturating_add(index));
    for index in 0..before.len().max(after.len()) {
        match (before.get(index), after.get(index)) {
            (Some(from), Some(to)) => compare(&at(index), from, to, found),
            (Some(from), None) => all(&at(index), from, found, &gone),
            (None, Some(to)) => all(&at(index), to, found, &added),
            (None, None) => {}
        }
    }
}

/// Every primitive at and below a path as a change of one kind.
fn all(
    path: &str,
    value: &Value,
    found: &mut Vec<Change>,
    change: &dyn Fn(&str, &Value) -> Change,
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                all(&format!("{path}.{name}"), value, found, change);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                all(&format!("{path}[{index}]"), value, found, change);
            }
        }
        Value::Null => {}
        primitive => found.push(change(path, primitive)),
    }
}

fn gone(path: &str, value: &Value) -> Change {
    Change {
        path: path.to_owned(),
        previous: Some(value.clone()),
        value: None,
    }
}

fn added(path: &str, value: &Value) -> Change {
    Change {
        path: path.to_owned(),
        previous: None,
        value: Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, expected: &[(&str, &str, &str, &str)]) {
        let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let shown = |value: &Option<Value>| value.as_ref().map_or(String::new(), Value::to_string);
        let found: Vec<(String, String, String, String)> = changes(&read(from), &read(to))
            .iter()
            .map(|change| {
                (
                    change.operation().to_owned(),
                    change.path.clone(),
                    shown(&change.previous),
                    shown(&change.value),
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b, c, d)| (a.to_string(), b.to_string(), c.to_string(), d.to_string()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_differs_is_named_element_by_element() {
        check(
            r#"{"resourceType":"Observation","meta":{"versionId":"1"},"status":"preliminary","valueQuantity":{"value":6.30,"unit":"%"}}"#,
            r#"{"resourceType":"Observation","meta":{"versionId":"2"},"valueQuantity":{"unit":"%","value":6.3},"note":[{"text":"x"}],"status":"preliminary"}"#,
            &[
                ("replace", "Observation.valueQuantity.value", "6.30", "6.3"),
                ("insert", "Observation.note[0].text", "", "\"x\""),
            ],
        );
    }

    #[test]
    fn one_entry_put_in_or_taken_out_is_one_change() {
        let with =
            |given: &str| format!(r#"{{"resourceType":"Patient","name":[{{"given":[{given}]}}]}}"#);
        check(
            &with(r#""A","C""#),
            &with(r#""A","B","C""#),
            &[("insert", "Patient.name[0].given[1]", "", "\"B\"")],
        );
        check(
            &with(r#""A","B","C""#),
            &with(r#""A","C""#),
            &[("delete", "Patient.name[0].given[1]", "\"B\"", "")],
        );
        check(&with(r#""A""#), &with(r#""A""#), &[]);
    }

    #[test]
    fn another_choice_of_type_is_a_deletion_and_an_insertion() {
        check(
            r#"{"resourceType":"Observation","valueInteger":4}"#,
            r#"{"resourceType":"Observation","valueQuantity":{"value":4}}"#,
            &[
                ("delete", "Observation.valueInteger", "4", ""),
                ("insert", "Observation.valueQuantity.value", "", "4"),
            ],
        );
    }

    /// The answer is itself valid R4, and a decimal keeps its digits.
    #[test]
    fn changes_are_told_as_parameters() {
        let from: Value =
            serde_json::from_str(r#"{"resourceType":"Basic","x":1.10,"y":true}"#).unwrap();
        let to: Value =
            serde_json::from_str(r#"{"resourceType":"Basic","x":1.1,"z":70000000000}"#).unwrap();
        let told = to_parameters(&changes(&from, &to));
        assert!(
            told.to_string().contains(r#""valueDecimal":1.10"#),
            "{told}"
        );
        assert_eq!(crate::validate::resource(&told), []);
        assert_eq!(crate::validate::resource(&to_parameters(&[])), []);
    }
}
