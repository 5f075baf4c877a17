use proptest::prelude::*;

use super::*;

fn check(bytes: &[u8], code: IssueCode, says: &str) {
    let issues = resource(bytes, &Limits::default()).unwrap_err();
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].code, code, "{issues:?}");
    assert!(issues[0].diagnostics.contains(says), "{issues:?}");
    assert!(issues[0].is_error());
}

#[test]
fn refuses_bad_input_with_a_clear_message() {
    use IssueCode::{Required, Structure, Value};
    let cases: [(&[u8], IssueCode, &str); 17] = [
        (b"", Structure, "not valid JSON"),
        (
            b"{\"resourceType\":\"Patient\"",
            Structure,
            "line 1 column 25",
        ),
        (b"{\"resourceType\":\"Patient\"}x", Structure, "trailing"),
        (
            b"{\"resourceType\":\n \"Pat\xff\"}",
            Structure,
            "not UTF-8 at line 2 column 6",
        ),
        (
            b"\xef\xbb\xbf{\"resourceType\":\"Patient\"}",
            Structure,
            "byte order mark",
        ),
        (b"[]", Structure, "JSON object"),
        (b"null", Structure, "JSON object"),
        (b"{}", Required, "resourceType is missing"),
        (b"{\"resourceType\":7}", Structure, "not a string"),
        (
            b"{\"resourceType\":\"Patiens\"}",
            Value,
            "not a resource type",
        ),
        (
            b"{\"resourceType\":\"DomainResource\"}",
            Value,
            "not a resource type",
        ),
        (
            b"{\"resourceType\":\"Patient\",\"id\":\"a b\"}",
            Value,
            "1 to 64",
        ),
        (b"{\"resourceType\":\"Patient\",\"id\":7}", Value, "1 to 64"),
        (
            b"{\"resourceType\":\"Patient\",\"a\":1,\n\"\\u0061\":2}",
            Structure,
            "line 2 column 1",
        ),
        (
            b"{\"resourceType\":\"Patient\",\"a\":01}",
            Structure,
            "invalid number",
        ),
        (
            b"{\"resourceType\":\"Patient\",\"a\":1,}",
            Structure,
            "trailing comma",
        ),
        (
            b"{\"resourceType\":\"Patient\",\"a\":{\"$serde_json::private::Number\":\"1\"}}",
            Structure,
            "reserved",
        ),
    ];
    for (bytes, code, says) in cases {
        check(bytes, code, says);
    }
}

#[test]
fn keeps_to_the_limits() {
    let limits = Limits {
        max_bytes: 200,
        max_depth: 4,
        max_elements: 10,
    };
    let deep = r#"{"resourceType":"Basic","a":[[[[1]]]]}"#;
    let issues = resource(deep.as_bytes(), &limits).unwrap_err();
    assert!(
        issues[0].diagnostics.contains("deeper than 4"),
        "{issues:?}"
    );
    let many = format!(r#"{{"resourceType":"Basic","a":[{}1]}}"#, "1,".repeat(20));
    let issues = resource(many.as_bytes(), &limits).unwrap_err();
    assert_eq!(issues[0].code, IssueCode::TooLong);
    let long = format!(r#"{{"resourceType":"Basic","a":"{}"}}"#, "x".repeat(200));
    let issues = resource(long.as_bytes(), &limits).unwrap_err();
    assert_eq!(issues[0].code, IssueCode::TooLong);
}

#[test]
fn survives_a_million_brackets() {
    for bracket in ["[", "{\"a\":"] {
        let text = format!(
            "{{\"resourceType\":\"Basic\",\"a\":{}",
            bracket.repeat(1_000_000)
        );
        check(text.as_bytes(), IssueCode::Structure, "deeper than 64");
    }
}

/// NFR-INT1: numbers and member order survive reading.
#[test]
fn keeps_numbers_and_order() {
    let text = r#"{"resourceType":"Basic","z":6.30,"id":"x.1-A","a":[1e400,0.10,-0]}"#;
    let read = resource(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(read.value.to_string(), text.replace("1e400", "1e+400"));
    assert_eq!(read.text, text);
    assert_eq!(read.id.as_deref(), Some("x.1-A"));
    assert_eq!(read.resource_type, "Basic");
}

#[test]
fn finds_duplicates_among_many_members() {
    let members: Vec<String> = (0..60).map(|n| format!("\"m{n}\":1")).collect();
    let good = format!("{{\"resourceType\":\"Basic\",{}}}", members.join(","));
    assert!(resource(good.as_bytes(), &Limits::default()).is_ok());
    for again in ["m3", "m59"] {
        let bad = format!(
            "{{\"resourceType\":\"Basic\",{},\"{again}\":2}}",
            members.join(",")
        );
        check(bad.as_bytes(), IssueCode::Structure, "twice");
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = resource(&bytes, &Limits::default());
    }

    #[test]
    fn never_panics_on_near_json(text in "[{}\\[\\]\",:a0.eE\\\\u-]{0,40}") {
        let text = format!("{{\"resourceType\":\"Basic\",\"x\":{text}}}");
        let _ = resource(text.as_bytes(), &Limits::default());
    }
}
