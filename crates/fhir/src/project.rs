//! Partial views of a resource: `_summary` and `_elements`.
//!
//! A view is marked with the tag `SUBSETTED`, so that nobody takes it for the whole resource
//! and writes it back. Numbers keep their text; the view is a new text all the same, and no
//! proof is made over it.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#summary>, `#elements`.

use serde_json::{Map, Value, json};

use crate::definitions::{Definitions, FieldKind, TypeDefinition};

/// The values of `_summary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// Elements marked as summary in the definitions, and mandatory ones.
    True,
    /// Narrative, id, meta and mandatory elements.
    Text,
    /// Everything but the narrative.
    Data,
    /// No resources at all, only their number: the caller leaves them out.
    Count,
    /// The whole resource.
    False,
}

impl Summary {
    /// The mode with this code (`true`, `text`, `data`, `count`, `false`).
    pub fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "true" => Self::True,
            "text" => Self::Text,
            "data" => Self::Data,
            "count" => Self::Count,
            "false" => Self::False,
            _ => return None,
        })
    }
}

/// The resource as `_summary` wants it; `None` when no resource is to be shown at all.
pub fn summary(resource: &Value, mode: Summary) -> Option<Value> {
    let definition = definition(resource);
    let view = match (mode, resource.as_object(), definition) {
        (Summary::Count, _, _) => return None,
        (Summary::False, _, _) | (_, None, _) | (_, _, None) => return Some(resource.clone()),
        (Summary::True, Some(members), Some(definition)) => summarized(members, definition),
        (Summary::Text, Some(members), Some(definition)) => {
            kept(members, definition, |name| name == "text")
        }
        (Summary::Data, Some(members), Some(_)) => {
            let without = members.iter().filter(|(name, _)| *name != "text");
            without
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        }
    };
    Some(marked(view))
}

/// The resource with the named top-level elements only, and what must always be there:
/// `resourceType`, `id`, `meta` and mandatory elements. A choice is named without its type
/// (`value` for `valueQuantity`); names that do not exist match nothing.
pub fn elements(resource: &Value, names: &[&str]) -> Value {
    let (Some(members), Some(definition)) = (resource.as_object(), definition(resource)) else {
        return resource.clone();
    };
    let wanted = |name: &str| {
        let choice = definition
            .field(name)
            .and_then(|field| field.choice.as_deref());
        let stem = choice.and_then(|choice| choice.strip_suffix("[x]"));
        names
            .iter()
            .any(|wanted| *wanted == name || Some(*wanted) == stem)
    };
    marked(kept(members, definition, wanted))
}

fn definition(resource: &Value) -> Option<&'static TypeDefinition> {
    Definitions::load().resource(resource.get("resourceType")?.as_str()?)
}

/// Members that `wanted` names, and those that are always kept.
fn kept(
    members: &Map<String, Value>,
    definition: &TypeDefinition,
    wanted: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let keep = |name: &str| {
        let element = name.strip_prefix('_').unwrap_or(name);
        matches!(element, "resourceType" | "id" | "meta")
            || definition
                .field(element)
                .is_some_and(|field| field.is_required)
            || wanted(element)
    };
    let kept = members.iter().filter(|(name, _)| keep(name));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Summary members, and inside backbone elements theirs; data types are kept whole.
fn summarized(members: &Map<String, Value>, definition: &TypeDefinition) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in members {
        if name == "resourceType" {
            out.insert(name.clone(), value.clone());
            continue;
        }
        let element = name.strip_prefix('_').unwrap_or(name);
        let Some(field) = definition.field(element) else {
            continue;
        };
        if !field.in_summary && !field.is_required && element != "id" {
            continue;
        }
        let backbone = match field.kind {
            FieldKind::Complex(id) => Definitions::load()
                .get(id)
                .filter(|inner| inner.name.contains('.')),
            FieldKind::Primitive(_) | FieldKind::Reference(_) | FieldKind::Resource => None,
        };
        let value = match (backbone, value) {
            (Some(inner), Value::Object(members)) => Value::Object(summarized(members, inner)),
            (Some(inner), Value::Array(items)) => {
                let summarize = |item: &Value| match item {
                    Value::Object(members) => Value::Object(summarized(members, inner)),
                    other => other.clone(),
                };
                items.iter().map(summarize).collect()
            }
            (_, value) => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    out
}

/// Adds the tag SUBSETTED once, keeping other tags.
fn marked(mut view: Map<String, Value>) -> Value {
    let tag = json!({ "system": TAG_SYSTEM, "code": "SUBSETTED" });
    let meta = view.entry("meta").or_insert_with(|| json!({}));
    if let Value::Object(meta) = meta
        && let Value::Array(tags) = meta.entry("tag").or_insert_with(|| json!([]))
        && !tags.contains(&tag)
    {
        tags.push(tag);
    }
    Value::Object(view)
}

/// FHIR R4 "Resource.meta.tag", code system `v3-ObservationValue`.
const TAG_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

#[cfg(test)]
mod tests {
    use super::*;

    fn patient() -> Value {
        json!({
            "resourceType": "Patient",
            "id": "1",
            "meta": { "versionId": "2" },
            "text": { "status": "generated", "div": "<div>x</div>" },
            "name": [{ "family": "A" }],
            "birthDate": "1980",
            "_birthDate": { "id": "b" },
            "maritalStatus": { "text": "x" },
            "communication": [{ "language": { "text": "en" } }],
            "link": [{ "other": { "reference": "Patient/2" }, "type": "seealso" }],
        })
    }

    fn names(value: &Value) -> Vec<&str> {
        value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn summarizes_after_the_definitions() {
        let view = summary(&patient(), Summary::True).unwrap();
        assert_eq!(
            names(&view),
            [
                "resourceType",
                "id",
                "meta",
                "name",
                "birthDate",
                "_birthDate",
                "link"
            ]
        );
        assert_eq!(view["link"], patient()["link"]);
        assert_eq!(view["meta"]["versionId"], "2");
        assert_eq!(view["meta"]["tag"][0]["code"], "SUBSETTED");
        let text = summary(&patient(), Summary::Text).unwrap();
        assert_eq!(names(&text), ["resourceType", "id", "meta", "text"]);
        let data = summary(&patient(), Summary::Data).unwrap();
        assert!(data.get("text").is_none() && data.get("maritalStatus").is_some());
        assert_eq!(summary(&patient(), Summary::False), Some(patient()));
        assert_eq!(summary(&patient(), Summary::Count), None);
    }

    #[test]
    fn keeps_mandatory_elements_and_number_text() {
        let text = r#"{"resourceType":"Observation","id":"1","status":"final","code":{"text":"x"},"issued":"2024-01-01T00:00:00Z","valueQuantity":{"value":6.30},"note":[{"text":"n"}]}"#;
        let observation: Value = serde_json::from_str(text).unwrap();
        let view = elements(&observation, &["value", "nonsense"]);
        assert_eq!(
            names(&view),
            [
                "resourceType",
                "id",
                "status",
                "code",
                "valueQuantity",
                "meta"
            ]
        );
        assert!(view.to_string().contains("6.30"));
        let again = elements(&view, &["value"]);
        assert_eq!(view, again, "marked once only");
    }
}
