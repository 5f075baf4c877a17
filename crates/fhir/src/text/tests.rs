use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const NOW: &str = "2026-03-01T10:00:00.000Z";

fn stamp(text: &str) -> String {
    set_id_and_meta(text, "a1", "2", NOW).unwrap()
}

/// NFR-INT1: what a client sent comes back as sent, apart from `id` and `meta`.
#[test]
fn stamps_and_leaves_every_other_byte() {
    let cases = [
        (
            r#"{"resourceType":"Basic","code":{"x":6.30}}"#,
            r#"{"resourceType":"Basic","id":"a1","meta":{"versionId":"2","lastUpdated":"2026-03-01T10:00:00.000Z"},"code":{"x":6.30}}"#,
        ),
        (
            r#"{"meta" : {"tag":[ ]} , "id":"old","n":1e5,"resourceType":"Basic" }"#,
            r#"{"meta" : {"versionId":"2","lastUpdated":"2026-03-01T10:00:00.000Z","tag":[ ]} , "id":"a1","n":1e5,"resourceType":"Basic" }"#,
        ),
        (
            r#"{"resourceType":"Basic","id":"old","meta":{"lastUpdated":"1999","versionId":"1"}}"#,
            r#"{"resourceType":"Basic","id":"a1","meta":{"lastUpdated":"2026-03-01T10:00:00.000Z","versionId":"2"}}"#,
        ),
        (
            "{\n  \"resourceType\": \"Basic\",\n  \"n\": 1.0\n}",
            "{\n  \"resourceType\": \"Basic\",\n  \"id\": \"a1\",\n  \"meta\": {\n    \"versionId\": \"2\",\n    \"lastUpdated\": \"2026-03-01T10:00:00.000Z\"\n  },\n  \"n\": 1.0\n}",
        ),
        (
            r#"{"a":1}"#,
            r#"{"id":"a1","meta":{"versionId":"2","lastUpdated":"2026-03-01T10:00:00.000Z"},"a":1}"#,
        ),
        (
            "{}",
            r#"{"id":"a1","meta":{"versionId":"2","lastUpdated":"2026-03-01T10:00:00.000Z"}}"#,
        ),
        (
            r#"{"resourceType":"Basic","contained":[{"id":"c","meta":{}}]}"#,
            r#"{"resourceType":"Basic","id":"a1","meta":{"versionId":"2","lastUpdated":"2026-03-01T10:00:00.000Z"},"contained":[{"id":"c","meta":{}}]}"#,
        ),
    ];
    for (before, after) in cases {
        assert_eq!(stamp(before), after);
        assert_eq!(stamp(after), after, "stamping twice changes nothing");
    }
}

#[test]
fn refuses_what_is_no_object() {
    for text in ["", "[]", "1", "{\"a\"", "\"x\""] {
        assert!(matches!(
            set_id_and_meta(text, "a", "1", NOW),
            Err(Error::Malformed { .. })
        ));
    }
    let error = set_id_and_meta(r#"{"meta":[]}"#, "a", "1", NOW).unwrap_err();
    assert!(matches!(
        error,
        Error::WrongType {
            element: "meta",
            ..
        }
    ));
}

#[test]
fn rewrites_only_links() {
    let text = r#"{"subject":{"reference":"urn:uuid:1"} ,"identifier":[{"system":"urn:ietf:rfc3986","value":"urn:uuid:1"}],"content":[{"attachment":{"url":"urn:uuid:1"}}],"text":{"div":"<a href=\"urn:uuid:1\">x</a>"},"performer":[{"reference":"Practitioner?identifier=a\u007cb"}],"n":6.30}"#;
    let out = rewrite_references(text, &|target| match target {
        "urn:uuid:1" => Some("Patient/p".to_owned()),
        "Practitioner?identifier=a|b" => Some("Practitioner/q".to_owned()),
        _ => None,
    })
    .unwrap();
    assert_eq!(
        out,
        r#"{"subject":{"reference":"Patient/p"} ,"identifier":[{"system":"urn:ietf:rfc3986","value":"urn:uuid:1"}],"content":[{"attachment":{"url":"Patient/p"}}],"text":{"div":"<a href=\"urn:uuid:1\">x</a>"},"performer":[{"reference":"Practitioner/q"}],"n":6.30}"#
    );
}

/// JSON values as FHIR uses them, with keys that the edits look for mixed in.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?"
            .prop_map(|n| serde_json::from_str(&n).unwrap()),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("urn:uuid:1")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("id".to_owned()),
        Just("versionId".to_owned()),
        Just("reference".to_owned()),
        Just("resourceType".to_owned()),
        "[a-z\"\\\\é]{1,6}",
    ]
}

fn write(value: &Value, pretty: bool) -> String {
    if pretty {
        serde_json::to_string_pretty(value).unwrap()
    } else {
        value.to_string()
    }
}

fn rewritten(value: &mut Value, key: &str) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                rewritten(value, key);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewritten(item, key)),
        Value::String(text) if key == "reference" && text == "urn:uuid:1" => {
            *text = "Patient/p".to_owned();
        }
        _ => {}
    }
}

/// The raw text of all members that stamping must not touch, in order.
fn others(text: &str) -> Vec<String> {
    let root = scan::value_at(text, 0).unwrap();
    let mut found = Vec::new();
    for member in scan::members(text, &root).unwrap() {
        let key = scan::unquote(text, &member.key).unwrap();
        match &*key {
            "id" => {}
            "meta" => {
                let inner = scan::members(text, &member.value).unwrap();
                let kept = inner.iter().filter(|member| {
                    let key = scan::unquote(text, &member.key).unwrap();
                    key != "versionId" && key != "lastUpdated"
                });
                found.extend(kept.map(|m| text[m.key.start..m.value.end].to_owned()));
            }
            _ => found.push(text[member.key.start..member.value.end].to_owned()),
        }
    }
    found
}

proptest! {
    /// NFR-INT1: the edited text reads as the edited value, and every member that is not
    /// the server's keeps its bytes and its place.
    #[test]
    fn stamping_equals_editing_the_value(
        members in prop::collection::vec((key(), value()), 0..6),
        meta in prop::option::of(prop::collection::vec((key(), value()), 0..4)),
        pretty: bool,
    ) {
        let mut resource: Map<String, Value> = members.into_iter().collect();
        if let Some(meta) = meta {
            resource.insert("meta".to_owned(), Value::Object(meta.into_iter().collect()));
        }
        let before = write(&Value::Object(resource.clone()), pretty);
        let after = stamp(&before);
        resource.insert("id".to_owned(), json!("a1"));
        let meta = resource.entry("meta").or_insert_with(|| json!({}));
        meta["versionId"] = json!("2");
        meta["lastUpdated"] = json!(NOW);
        let parsed: Value = serde_json::from_str(&after).unwrap();
        prop_assert_eq!(&parsed, &Value::Object(resource));
        prop_assert_eq!(others(&before), others(&after));
    }

    #[test]
    fn rewriting_equals_editing_the_value(value in value(), pretty: bool) {
        let before = write(&value, pretty);
        let after = rewrite_references(&before, &|target| {
            (target == "urn:uuid:1").then(|| "Patient/p".to_owned())
        }).unwrap();
        let mut expected = value;
        rewritten(&mut expected, "");
        let parsed: Value = serde_json::from_str(&after).unwrap();
        prop_assert_eq!(&parsed, &expected);
        prop_assert_eq!(after, write(&expected, pretty));
    }
}
