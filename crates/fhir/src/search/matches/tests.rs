//! Filters asked of single resources, from the request's text to the answer.

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
    let open = json!({"resourceType": "Observation", "effectivePeriod": {"start": "2013-01-14"}});
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
