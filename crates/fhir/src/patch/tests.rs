use proptest::prelude::*;
use serde_json::json;

use super::*;

const TEXT: &str = r#"{ "resourceType":"Observation", "id":"1","status":"final" , "valueQuantity":{"value":6.30},"note":[{"text":"a"},{"text":"b"}] }"#;

fn patch(patch: &Value) -> Result<String, Vec<Issue>> {
    let resource = parse::resource(TEXT.as_bytes(), &Limits::default()).unwrap();
    json_patch(&resource, patch.to_string().as_bytes())
}

/// NFR-INT1: a patch leaves what it does not name byte for byte.
#[test]
fn changes_only_what_it_names() {
    let cases = [
        (
            json!([{ "op": "replace", "path": "/status", "value": "amended" }]),
            TEXT.replace("\"final\"", "\"amended\""),
        ),
        (
            json!([{ "op": "add", "path": "/issued", "value": "x" }]),
            TEXT.replace("\"b\"}]", "\"b\"}],\"issued\":\"x\""),
        ),
        (
            json!([{ "op": "remove", "path": "/note" }]),
            TEXT.replace(",\"note\":[{\"text\":\"a\"},{\"text\":\"b\"}]", ""),
        ),
        (
            json!([{ "op": "remove", "path": "/note/0" }]),
            TEXT.replace("{\"text\":\"a\"},", ""),
        ),
        (
            json!([{ "op": "add", "path": "/note/1", "value": { "text": "c" } }]),
            TEXT.replace("{\"text\":\"b\"}", "{\"text\":\"c\"},{\"text\":\"b\"}"),
        ),
        (
            json!([{ "op": "add", "path": "/note/-", "value": { "text": "c" } }]),
            TEXT.replace("{\"text\":\"b\"}", "{\"text\":\"b\"},{\"text\":\"c\"}"),
        ),
        (
            json!([{ "op": "copy", "from": "/note/0", "path": "/note/-" }]),
            TEXT.replace("{\"text\":\"b\"}", "{\"text\":\"b\"},{\"text\":\"a\"}"),
        ),
        (
            json!([{ "op": "move", "from": "/note/0", "path": "/note/1" }]),
            TEXT.replace(
                "{\"text\":\"a\"},{\"text\":\"b\"}",
                "{\"text\":\"b\"},{\"text\":\"a\"}",
            ),
        ),
        (
            json!([{ "op": "test", "path": "/note/0", "value": { "text": "a" } }]),
            TEXT.to_owned(),
        ),
        (json!([]), TEXT.to_owned()),
    ];
    for (operations, expected) in cases {
        assert_eq!(patch(&operations).unwrap(), expected, "{operations}");
    }
}

#[test]
fn compares_numbers_by_value_and_keeps_their_text() {
    let resource = parse::resource(TEXT.as_bytes(), &Limits::default()).unwrap();
    for literal in ["6.3", "6.300", "63e-1", "0.63E1"] {
        let patch = format!(
            r#"[{{"op":"test","path":"/valueQuantity/value","value":{literal}}},{{"op":"replace","path":"/valueQuantity/value","value":7.00}}]"#
        );
        let text = json_patch(&resource, patch.as_bytes()).unwrap();
        assert_eq!(text, TEXT.replace("6.30", "7.00"));
    }
    assert_eq!(decimal("-0.0"), decimal("0"));
    assert_ne!(decimal("10"), decimal("1"));
    assert_ne!(decimal("-1"), decimal("1"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn refuses_what_does_not_fit_and_says_which_operation() {
    let cases = [
        (
            json!([{ "op": "remove", "path": "/x" }]),
            IssueCode::Processing,
            "Operation 0",
        ),
        (
            json!([{ "op": "replace", "path": "/note/2", "value": 1 }]),
            IssueCode::Processing,
            "nothing",
        ),
        (
            json!([{ "op": "add", "path": "/note/3", "value": 1 }]),
            IssueCode::Processing,
            "beyond",
        ),
        (
            json!([{ "op": "add", "path": "/note/01", "value": 1 }]),
            IssueCode::Processing,
            "index",
        ),
        (
            json!([{ "op": "add", "path": "/status/x", "value": 1 }]),
            IssueCode::Processing,
            "neither",
        ),
        (
            json!([{ "op": "add", "path": "status", "value": 1 }]),
            IssueCode::Processing,
            "begins with /",
        ),
        (
            json!([{ "op": "add", "path": "/status" }]),
            IssueCode::Processing,
            "no value",
        ),
        (
            json!([{ "op": "move", "path": "/status" }]),
            IssueCode::Processing,
            "no from",
        ),
        (
            json!([{ "op": "move", "path": "/note/0/x", "from": "/note" }]),
            IssueCode::Processing,
            "into itself",
        ),
        (
            json!([{ "op": "remove", "path": "" }]),
            IssueCode::Processing,
            "whole",
        ),
        (
            json!([{ "op": "test", "path": "/status", "value": "x" }]),
            IssueCode::Processing,
            "another",
        ),
        (
            json!([{ "op": "add", "path": "/b", "value": 1 }, { "op": "remove", "path": "/c" }]),
            IssueCode::Processing,
            "Operation 1",
        ),
        (
            json!([{ "op": "erase", "path": "/x" }]),
            IssueCode::Structure,
            "unreadable",
        ),
        (
            json!({ "op": "remove" }),
            IssueCode::Structure,
            "unreadable",
        ),
        (
            json!([{ "op": "replace", "path": "/id", "value": "2" }]),
            IssueCode::BusinessRule,
            "resourceType or id",
        ),
        (
            json!([{ "op": "replace", "path": "/resourceType", "value": "Patient" }]),
            IssueCode::BusinessRule,
            "resourceType or id",
        ),
        (
            json!([{ "op": "replace", "path": "", "value": 7 }]),
            IssueCode::Structure,
            "JSON object",
        ),
    ];
    for (operations, code, says) in cases {
        let issues = patch(&operations).unwrap_err();
        assert_eq!(issues[0].code, code, "{operations} {issues:?}");
        assert!(
            issues[0].diagnostics.contains(says),
            "{operations} {issues:?}"
        );
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        "[a-z/~\"]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab/~\"]", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn pointer() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof!["a", "b", "~0", "~1", "\"", "0", "1", "2", "-"],
        1..4,
    )
    .prop_map(|steps| format!("/x/{}", steps.join("/")))
}

fn operation() -> impl Strategy<Value = Value> {
    (pointer(), pointer(), tree(), 0..6).prop_map(|(path, from, value, op)| match op {
        0 => json!({ "op": "add", "path": path, "value": value }),
        1 => json!({ "op": "remove", "path": path }),
        2 => json!({ "op": "replace", "path": path, "value": value }),
        3 => json!({ "op": "move", "path": path, "from": from }),
        4 => json!({ "op": "copy", "path": path, "from": from }),
        _ => json!({ "op": "test", "path": path, "value": value }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The text after a patch reads as the tree that an independent implementation makes.
    #[test]
    fn agrees_with_another_implementation(
        tree in tree(),
        operations in prop::collection::vec(operation(), 1..3),
        pretty: bool,
    ) {
        let mut value = json!({ "resourceType": "Basic", "x": tree });
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let resource = parse::resource(text.as_bytes(), &Limits::default()).unwrap();
        let operations = Value::from(operations);
        let ours = json_patch(&resource, operations.to_string().as_bytes());
        let theirs = serde_json::from_value::<json_patch::Patch>(operations)
            .is_ok_and(|patch| json_patch::patch_unsafe(&mut value, &patch).is_ok());
        prop_assert_eq!(ours.is_ok(), theirs, "{:?}", ours);
        if let Ok(text) = ours {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
