//! Table-driven tests of request parsing.

use proptest::prelude::*;

use super::super::ast::{Prefix, ReferenceMatch, SystemMatch, Value};
use super::*;

fn options(handling: Handling) -> Options<'static> {
    Options {
        handling,
        now_ms: 0,
        count_max: 50,
        base_url: Some("https://here/fhir/r4"),
    }
}

/// Parses `a=b&c=d` on a type. The tests write no `&` or `=` in values.
fn ask(
    resource_type: &str,
    request: &str,
    handling: Handling,
) -> Result<(Query, Vec<Issue>), Vec<Issue>> {
    let pairs: Vec<(String, String)> = request
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    parse(resource_type, &pairs, &options(handling))
}

fn query(resource_type: &str, request: &str) -> Query {
    let (query, warnings) = ask(resource_type, request, Handling::Strict).unwrap();
    assert_eq!(warnings, []);
    query
}

/// The only alternative of the only filter.
fn value(resource_type: &str, request: &str) -> Value {
    match query(resource_type, request).filters.as_slice() {
        [Filter::Values { values, .. }] if values.len() == 1 => values[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// Refused whatever the handling, with this code; the value is never repeated.
fn check_refused(resource_type: &str, request: &str, code: IssueCode) {
    for handling in [Handling::Strict, Handling::Lenient] {
        let issues = ask(resource_type, request, handling).expect_err(request);
        assert_eq!(issues[0].code, code, "{request}: {issues:?}");
        assert!(issues[0].expression[0].starts_with("http."), "{issues:?}");
        assert!(!issues[0].diagnostics.contains("S3CRET"), "{issues:?}");
    }
}

#[test]
fn values_of_every_kind() {
    let token = |system, code: &str| Value::Token {
        system,
        code: Some(code.to_owned()),
    };
    assert!(value("Patient", "gender=male") == token(SystemMatch::Any, "male"));
    assert!(value("Patient", "identifier=|a\\|b\\\\") == token(SystemMatch::Absent, "a|b\\"));
    assert!(value("Patient", "identifier=s|v") == token(SystemMatch::Is("s".to_owned()), "v"));
    let Value::Date {
        prefix,
        start_ms,
        end_ms,
    } = value("Patient", "birthdate=ge1970")
    else {
        panic!("not a date")
    };
    assert_eq!(
        (prefix, start_ms, end_ms),
        (Prefix::Ge, 0, 365 * 86_400_000)
    );
    let Value::Date {
        start_ms, end_ms, ..
    } = value("Patient", "birthdate=ap1970-01-11")
    else {
        panic!("not a date")
    };
    assert_eq!((start_ms, end_ms), (9 * 86_400_000, 12 * 86_400_000));
    let Value::Quantity {
        prefix,
        number,
        system,
        code,
    } = value("Observation", "value-quantity=le5.40||mg")
    else {
        panic!("not a quantity")
    };
    assert_eq!((prefix, number.value, number.low), (Prefix::Le, 5.4, 5.395));
    assert_eq!((system, code.as_deref()), (SystemMatch::Any, Some("mg")));
    assert!(
        value("Patient", "name=José\\, A")
            == Value::String {
                value: "jose, a".to_owned(),
                exact: "José, A".to_owned()
            }
    );
    assert!(value("ValueSet", "url=http://x/y") == Value::Uri("http://x/y".to_owned()));
    let Value::Composite(parts) = value("Observation", "code-value-quantity=s|a$gt5||mg") else {
        panic!("not a composite")
    };
    assert_eq!(parts.len(), 2);
}

#[test]
fn references_in_all_their_forms() {
    let local = |target_type, id: &str| {
        Value::Reference(ReferenceMatch::Local {
            target_type,
            target_id: id.to_owned(),
        })
    };
    assert!(value("Observation", "subject=1") == local(None, "1"));
    assert!(value("Observation", "patient=1") == local(Some("Patient"), "1"));
    assert!(value("Observation", "subject=Patient/1/_history/2") == local(Some("Patient"), "1"));
    assert!(value("Observation", "subject:Group=1") == local(Some("Group"), "1"));
    let own = "subject=https://here/fhir/r4/Patient/1";
    assert!(value("Observation", own) == local(Some("Patient"), "1"));
    let other = value("Observation", "subject=https://there/Patient/1");
    assert!(
        other
            == Value::Reference(ReferenceMatch::Absolute(
                "https://there/Patient/1".to_owned()
            ))
    );
    let identifier = value("Observation", "subject:identifier=s|v");
    assert!(matches!(identifier, Value::Token { .. }));
}

#[test]
fn chains_and_has() {
    let chained = query(
        "Observation",
        "subject:Patient.name:exact=X&patient.identifier=s|1",
    );
    let [
        Filter::Chain { targets, .. },
        Filter::Chain {
            param,
            targets: second,
        },
    ] = chained.filters.as_slice()
    else {
        panic!("{chained:?}")
    };
    assert_eq!(targets[0].resource_type, "Patient");
    assert!(matches!(
        targets[0].filter,
        Filter::Values {
            modifier: Some(Modifier::Exact),
            ..
        }
    ));
    assert_eq!((param.code, second.len()), ("patient", 1));
    let open = query("Observation", "subject.identifier=1");
    let [Filter::Chain { targets, .. }] = open.filters.as_slice() else {
        panic!("{open:?}")
    };
    let types: Vec<&str> = targets.iter().map(|target| target.resource_type).collect();
    assert_eq!(types, ["Device", "Group", "Location", "Patient"]);

    let has = query("Patient", "_has:Observation:patient:code=1234-5,6");
    let [
        Filter::Has {
            source_type,
            reference,
            filter,
        },
    ] = has.filters.as_slice()
    else {
        panic!("{has:?}")
    };
    assert_eq!((*source_type, reference.code), ("Observation", "patient"));
    assert!(matches!(filter.as_ref(), Filter::Values { values, .. } if values.len() == 2));
}

#[test]
fn shape_of_the_answer() {
    let q = query(
        "Observation",
        "_sort=-date,code&_count=999&_summary=data&_total=accurate&_elements=code,Observation.value\
         &_cursor=abc&_format=json&_include=Observation:subject:Patient&_include=*\
         &_revinclude=Provenance:target",
    );
    let keys: Vec<(&str, Direction)> = q.sort.iter().map(|s| (s.param.code, s.direction)).collect();
    assert_eq!(
        keys,
        [
            ("date", Direction::Descending),
            ("code", Direction::Ascending)
        ]
    );
    assert_eq!(
        (q.count, q.summary, q.total),
        (Some(50), Summary::Data, Some(Total::Accurate))
    );
    assert_eq!(
        (q.elements.as_slice(), q.cursor.as_deref()),
        (&["code".to_owned(), "value".to_owned()][..], Some("abc"))
    );
    assert_eq!(
        (q.include[0].params[0].code, q.include[0].target_type),
        ("subject", Some("Patient"))
    );
    assert!(q.include[1].params.len() > 8);
    assert_eq!(
        (q.revinclude[0].source_type, q.revinclude[0].target_type),
        ("Provenance", Some("Observation"))
    );
    assert_eq!(
        query("Patient", "_count=0&_summary=true").summary,
        Summary::Count
    );
    let text = query("Patient", "_text=Heart Failure");
    assert!(
        matches!(&text.filters[0], Filter::FullText { scope: TextScope::Narrative, words }
        if words == &["heart", "failure"])
    );
}

/// Unknown parameters: refused or left out, by the client's preference.
#[test]
fn handling_decides_over_unknown_parameters() {
    for request in [
        "nonsense=S3CRET",
        "_list=x",
        "_query=x",
        "_sort=nonsense",
        "name=",
        "subject.name=x",
        "organization.nonsense=x",
        "_has:Observation:nonsense:code=x",
        "_filter=x",
    ] {
        let issues = ask("Patient", request, Handling::Strict).expect_err(request);
        assert!(issues[0].is_error() && !issues[0].diagnostics.contains("S3CRET"));
        let (query, warnings) = ask("Patient", request, Handling::Lenient).unwrap();
        assert!(query.filters.is_empty() && warnings.len() == 1, "{request}");
        assert!(!warnings[0].is_error() && warnings[0].diagnostics.ends_with("it was ignored"));
    }
    assert!(ask("Location", "near=1|2", Handling::Strict).is_err());
    assert!(ask("Nonsense", "_id=1", Handling::Lenient).is_err());
}

/// Known parameters that cannot be understood are refused: ignoring them would answer another
/// question.
#[test]
fn what_cannot_be_answered_is_refused() {
    for request in [
        "name:nonsense=S3CRET",
        "code:in=S3CRET",
        "birthdate:exact=1970",
        "identifier:of-type=a|b|c",
        "_include:iterate=Observation:subject",
        "_revinclude:iterate=Observation:subject",
        "_revinclude=*",
        "_has:Observation:patient:_has:Provenance:target:_id=1",
        "_has:Observation:patient:subject.name=x",
        "organization.partof.name=x",
        "general-practitioner:above=1",
    ] {
        let kind = if request.starts_with("code") {
            "Observation"
        } else {
            "Patient"
        };
        check_refused(kind, request, IssueCode::NotSupported);
    }
    for request in [
        "birthdate=S3CRET",
        "birthdate=2020-13",
        "birthdate=xx2020",
        "identifier=a|b|c",
        "identifier=|",
        "general-practitioner=S3CRET/1",
        "general-practitioner=a/b/c",
        "general-practitioner:Patient=1",
        "general-practitioner:Organization=Practitioner/1",
        "name=a,,b",
        "name= ",
        "name:missing=maybe",
        "_count=-1",
        "_count=many",
        "_summary=some",
        "_total=all",
        "_elements=a$b",
        "_sort=-birthdate&_sort=name",
        "_include=Observation:subject",
        "_include=Patient",
        "_include=Patient:name",
        "_include=Patient:link:Device",
        "_revinclude=Observation:encounter",
        "_revinclude=Observation:subject:Group",
        "_has:Observation:code=1",
        "_has:Observation:encounter:code=1",
        "_has:Observation:code:code=1",
        "birthdate.name=x",
        "_text=..",
    ] {
        check_refused("Patient", request, IssueCode::Invalid);
    }
    check_refused("Observation", "code-value-quantity=a", IssueCode::Invalid);
    check_refused("Observation", "value-quantity=5|mg", IssueCode::Invalid);
    check_refused("Observation", "value-quantity=gtS3CRET", IssueCode::Invalid);
    let long = format!("name={}", "x".repeat(TEXT_MAX + 1));
    check_refused("Patient", &long, IssueCode::TooLong);
    let many = vec!["x"; 300].join(",");
    check_refused("Patient", &format!("name={many}"), IssueCode::Invalid);
    let pairs = vec![("name".to_owned(), "x".to_owned()); PAIRS_MAX + 1];
    let issues = parse("Patient", &pairs, &options(Handling::Lenient)).unwrap_err();
    assert_eq!(issues[0].code, IssueCode::TooCostly);
}

#[test]
fn all_refusals_are_told_at_once() {
    let issues = ask(
        "Patient",
        "birthdate=x&name:y=1&_count=z&gender=male",
        Handling::Lenient,
    );
    assert_eq!(issues.unwrap_err().len(), 3);
}

proptest! {
    /// Whatever a client sends, the parser answers.
    #[test]
    fn any_request_is_survived(
        name in prop_oneof![
            "\\PC{0,20}",
            "(_has:|_include|_sort|name|subject|birthdate|value-quantity)[:.A-Za-z_-]{0,24}",
        ],
        text in prop_oneof!["\\PC{0,40}", "[a-z0-9|$,\\\\:./-]{0,40}"],
    ) {
        for kind in ["Patient", "Observation"] {
            for handling in [Handling::Strict, Handling::Lenient] {
                let _ = parse(kind, &[(name.clone(), text.clone())], &options(handling));
            }
        }
    }

    /// A text with every separator escaped is one alternative with that text.
    #[test]
    fn escapes_round_trip(text in "[a-z,|$\\\\]{1,20}") {
        let mut escaped = String::new();
        for c in text.chars() {
            if matches!(c, ',' | '|' | '$' | '\\') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        let pairs = [("family".to_owned(), escaped)];
        let (query, _) = parse("Patient", &pairs, &options(Handling::Strict)).unwrap();
        let [Filter::Values { values, .. }] = query.filters.as_slice() else {
            return Err(TestCaseError::fail("one filter"));
        };
        prop_assert_eq!(values.len(), 1);
        let same = matches!(&values[0], Value::String { exact, .. } if *exact == text);
        prop_assert!(same);
    }
}
