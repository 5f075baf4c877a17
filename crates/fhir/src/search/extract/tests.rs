//! Extraction: one table a kind of parameter, and the real Synthea bundles.

use std::io::Read as _;
use std::path::Path as FilePath;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Values of one parameter in a short notation.
fn values(resource: &Value, code: &str) -> Vec<String> {
    let catalogue = Catalogue::r4();
    let id = catalogue.id(code).unwrap();
    let resource_type = resource["resourceType"].as_str().unwrap();
    let all = extract(resource_type, resource);
    all.iter()
        .filter(|value| value.param == id)
        .map(|value| show(&value.kind))
        .collect()
}

fn show(kind: &IndexKind) -> String {
    let opt = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    match kind {
        IndexKind::Token { system, code, text } => {
            format!("{}|{}|{}", opt(system), opt(code), opt(text))
        }
        IndexKind::Reference(ReferenceValue::Local {
            target_type,
            target_id,
        }) => {
            format!("{target_type}/{target_id}")
        }
        IndexKind::Reference(ReferenceValue::Absolute(url)) => url.clone(),
        IndexKind::Reference(ReferenceValue::Identifier { system, value }) => {
            format!("id {}|{}", opt(system), opt(value))
        }
        IndexKind::Date { start_ms, end_ms } => format!("{start_ms}..{end_ms}"),
        IndexKind::String { value, exact } => format!("{value}={exact}"),
        IndexKind::Quantity {
            low,
            high,
            system,
            code,
            unit,
        } => {
            format!("{low}..{high} {}|{}|{}", opt(system), opt(code), opt(unit))
        }
        IndexKind::Number { low, high } => format!("{low}..{high}"),
        IndexKind::Uri(uri) => uri.clone(),
        IndexKind::Composite(parts) => parts.iter().map(show).collect::<Vec<_>>().join(" $ "),
    }
}

fn check(resource: &Value, code: &str, expected: &[&str]) {
    assert_eq!(values(resource, code), expected, "{code}");
}

fn observation() -> Value {
    serde_json::from_str(
        r##"{
        "resourceType": "Observation", "id": "o1",
        "meta": {"lastUpdated": "1970-01-01T00:00:01.000Z", "profile": ["http://p|1"],
                 "tag": [{"system": "http://t", "code": "x"}], "source": "urn:s"},
        "status": "final",
        "category": [{"coding": [{"system": "http://c", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5", "display": "Body Température"},
                            {"code": "local"}], "text": "Temp"},
        "subject": {"reference": "Patient/p1/_history/3", "identifier": {"system": "http://i", "value": "7"}},
        "focus": [{"reference": "#inner"}, {"reference": "Patient?identifier=1"},
                  {"reference": "http://else.where/Patient/2"}, {"reference": "urn:uuid:1"}],
        "effectivePeriod": {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01"},
        "valueQuantity": {"value": 6.30, "unit": "degC", "system": "http://unitsofmeasure.org", "code": "Cel"},
        "component": [
            {"code": {"coding": [{"code": "a"}]}, "valueQuantity": {"value": 5, "comparator": "<", "unit": "mg"}},
            {"code": {"coding": [{"code": "b"}]}, "valueCodeableConcept": {"text": "Yes"}}]
    }"##,
    )
    .unwrap()
}

#[test]
fn observation_gives_every_kind() {
    let o = observation();
    check(&o, "_id", &["-|o1|-"]);
    check(&o, "_lastUpdated", &["1000..1001"]);
    check(&o, "_profile", &["http://p|1", "http://p"]);
    check(&o, "_tag", &["http://t|x|-"]);
    check(&o, "_source", &["urn:s"]);
    check(
        &o,
        "status",
        &["http://hl7.org/fhir/observation-status|final|-"],
    );
    check(
        &o,
        "code",
        &[
            "http://loinc.org|8310-5|body temperature",
            "-|local|-",
            "-|-|temp",
        ],
    );
    check(&o, "subject", &["Patient/p1", "id http://i|7"]);
    check(&o, "patient", &["Patient/p1", "id http://i|7"]);
    check(&o, "focus", &["http://else.where/Patient/2", "urn:uuid:1"]);
    check(&o, "date", &["0..86400000"]);
    check(
        &o,
        "value-quantity",
        &["6.3..6.3 http://unitsofmeasure.org|Cel|degC"],
    );
    check(&o, "component-value-quantity", &["-inf..5 -|-|mg"]);
    check(
        &o,
        "combo-code",
        &[
            "http://loinc.org|8310-5|body temperature",
            "-|local|-",
            "-|-|temp",
            "-|a|-",
            "-|b|-",
        ],
    );
    check(
        &o,
        "component-code-value-quantity",
        &["-|a|- $ -inf..5 -|-|mg"],
    );
    check(
        &o,
        "code-value-quantity",
        &[
            "http://loinc.org|8310-5|body temperature $ 6.3..6.3 http://unitsofmeasure.org|Cel|degC",
            "-|local|- $ 6.3..6.3 http://unitsofmeasure.org|Cel|degC",
            "-|-|temp $ 6.3..6.3 http://unitsofmeasure.org|Cel|degC",
        ],
    );
    check(&o, "value-string", &[]);
}

#[test]
fn patient_names_contacts_and_death() {
    let mut patient = json!({
        "resourceType": "Patient",
        "identifier": [{"system": "http://mrn", "value": "12", "type": {"text": "MRN"}}, {"value": "x"}],
        "active": true,
        "name": [{"family": "Dvořák", "given": ["Ann", null, "B"], "prefix": ["Ms."]}],
        "telecom": [{"system": "phone", "value": "555"}, {"system": "email", "value": "a@b"}],
        "gender": "female", "birthDate": "1970",
        "address": [{"line": ["1 Main St"], "city": "Ghent", "country": "BE"}],
        "communication": [{"language": {"coding": [{"code": "nl"}]}}],
    });
    check(&patient, "identifier", &["http://mrn|12|mrn", "-|x|-"]);
    check(&patient, "active", &["-|true|-"]);
    check(
        &patient,
        "name",
        &["dvorak=Dvořák", "ann=Ann", "b=B", "ms.=Ms."],
    );
    check(&patient, "family", &["dvorak=Dvořák"]);
    check(&patient, "given", &["ann=Ann", "b=B"]);
    check(&patient, "phone", &["phone|555|-"]);
    check(&patient, "email", &["email|a@b|-"]);
    check(&patient, "telecom", &["phone|555|-", "email|a@b|-"]);
    check(
        &patient,
        "gender",
        &["http://hl7.org/fhir/administrative-gender|female|-"],
    );
    check(&patient, "birthdate", &["0..31536000000"]);
    check(
        &patient,
        "address",
        &["1 main st=1 Main St", "ghent=Ghent", "be=BE"],
    );
    check(&patient, "language", &["-|nl|-"]);
    check(&patient, "deceased", &["-|false|-"]);
    patient["deceasedBoolean"] = json!(false);
    check(&patient, "deceased", &["-|false|-"]);
    patient["deceasedBoolean"] = json!(true);
    check(&patient, "deceased", &["-|true|-"]);
    patient["deceasedDateTime"] = json!("1970-01-01T00:00:00Z");
    check(&patient, "deceased", &["-|true|-"]);
    check(&patient, "death-date", &["0..1000"]);
}

#[test]
fn rarer_types_of_elements() {
    let invoice =
        json!({"resourceType": "Invoice", "totalGross": {"value": 10.50, "currency": "EUR"}});
    check(
        &invoice,
        "totalgross",
        &["10.5..10.5 urn:iso:std:iso:4217|EUR|-"],
    );
    let condition = json!({"resourceType": "Condition",
        "onsetRange": {"low": {"value": 3, "code": "a"}, "high": {"value": 5}},
        "abatementString": "Last spring"});
    check(&condition, "onset-age", &["3..5 -|a|-"]);
    check(&condition, "abatement-string", &["last spring=Last spring"]);
    let open =
        json!({"resourceType": "Condition", "onsetPeriod": {"start": "1970-01-01T00:00:00Z"}});
    check(&open, "onset-date", &["0..9223372036854775807"]);
    let order = json!({"resourceType": "ServiceRequest", "occurrenceTiming": {
        "event": ["1970-01-02", "1970-01-01"], "repeat": {"boundsPeriod": {"end": "1970-01-05"}}}});
    check(&order, "occurrence", &["-9223372036854775808..432000000"]);
    let library = json!({"resourceType": "Library", "url": "http://l",
        "relatedArtifact": [{"type": "depends-on", "resource": "http://m|2"},
                            {"type": "successor", "resource": "http://n"}]});
    check(&library, "url", &["http://l"]);
    check(&library, "depends-on", &["http://m"]);
    check(&library, "successor", &["http://n"]);
    let bundle = json!({"resourceType": "Bundle", "entry": [
        {"resource": {"resourceType": "Composition", "id": "c"}},
        {"resource": {"resourceType": "Patient", "id": "p"}}]});
    check(&bundle, "composition", &["Composition/c"]);
    let document = json!({"resourceType": "DocumentReference", "relatesTo": [
        {"code": "replaces", "target": {"reference": "DocumentReference/d"}}]});
    check(
        &document,
        "relationship",
        &["http://hl7.org/fhir/document-relationship-type|replaces|- $ DocumentReference/d"],
    );
    let risk = json!({"resourceType": "RiskAssessment", "prediction": [
        {"probabilityDecimal": 0.25}, {"probabilityRange": {"low": {"value": 0.5}}}]});
    check(&risk, "probability", &["0.25..0.25", "0.5..inf"]);
    let sampled = json!({"resourceType": "Observation", "valueSampledData": {
        "origin": {"value": 10, "code": "mV"}, "factor": 2, "data": "1 E -3 4"}});
    check(&sampled, "value-quantity", &["4..18 -|mV|-"]);
    let sequence = json!({"resourceType": "MolecularSequence",
        "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]}, "windowStart": 4, "windowEnd": 9},
        "variant": [{"start": 5, "end": 6}, {"start": 7, "end": 8}]});
    check(
        &sequence,
        "chromosome-variant-coordinate",
        &["-|1|- $ 5..5 $ 6..6", "-|1|- $ 7..7 $ 8..8"],
    );
}

#[test]
fn combinations_are_bounded() {
    let many: Vec<Value> = (0..100).map(|n| json!({"code": n.to_string()})).collect();
    let o = json!({"resourceType": "Observation",
        "code": {"coding": many}, "valueCodeableConcept": {"coding": many}});
    assert_eq!(values(&o, "code-value-concept").len(), COMPOSITES_MAX);
}

/// Every resource of the real bundles is found by its status, subject, code and dates, wherever
/// it has them.
#[test]
fn synthea_resources_are_found_by_what_they_hold() {
    let mut resources = 0_usize;
    for resource in synthea(3) {
        let name = resource["resourceType"].as_str().unwrap();
        let all = extract(name, &resource);
        resources += 1;
        let catalogue = Catalogue::r4();
        let has = |code: &str| {
            catalogue
                .id(code)
                .is_some_and(|id| all.iter().any(|value| value.param == id))
        };
        assert!(has("_id"), "{name}");
        for (member, code) in [
            ("subject", "subject"),
            ("patient", "patient"),
            ("encounter", "encounter"),
            ("code", "code"),
            ("effectiveDateTime", "date"),
            ("authoredOn", "authoredon"),
            ("birthDate", "birthdate"),
            ("valueQuantity", "value-quantity"),
            ("identifier", "identifier"),
        ] {
            let searchable = catalogue.param(name, code).is_some();
            let held = resource.get(member).is_some();
            assert!(!(searchable && held) || has(code), "{name}.{member}");
        }
    }
    assert!(resources > 500, "{resources}");
}

/// Measured by hand with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn extraction_time() {
    let all = synthea(12);
    for name in [
        "Observation",
        "Patient",
        "Claim",
        "ExplanationOfBenefit",
        "",
    ] {
        let chosen: Vec<&Value> = all
            .iter()
            .filter(|r| name.is_empty() || r["resourceType"] == name)
            .collect();
        let start = std::time::Instant::now();
        let mut values = 0;
        for resource in &chosen {
            values += extract(resource["resourceType"].as_str().unwrap(), resource).len();
        }
        let each = start.elapsed() / u32::try_from(chosen.len()).unwrap();
        println!(
            "{name:20} {} resources, {values} values, {each:?} each",
            chosen.len()
        );
    }
}

fn synthea(files: usize) -> Vec<Value> {
    let folder =
        FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fhir/synthea");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut resources = Vec::new();
    for name in names.iter().take(files) {
        let file = std::fs::File::open(name).unwrap();
        let mut text = String::new();
        bzip2::read::BzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        let bundle: Value = serde_json::from_str(&text).unwrap();
        let entries = bundle["entry"].as_array().unwrap();
        resources.extend(entries.iter().map(|entry| entry["resource"].clone()));
    }
    resources
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        "[a-zA-Z0-9:/|#?.-]{0,12}".prop_map(Value::String),
    ];
    let members = [
        "code",
        "coding",
        "subject",
        "reference",
        "component",
        "valueQuantity",
        "value",
        "system",
        "effectivePeriod",
        "start",
        "identifier",
        "meta",
        "tag",
        "low",
        "event",
        "origin",
        "data",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((prop::sample::select(members.to_vec()), inner), 0..6).prop_map(
                |members| {
                    Value::Object(
                        members
                            .into_iter()
                            .map(|(k, v)| (k.to_owned(), v))
                            .collect(),
                    )
                }
            ),
        ]
    })
}

proptest! {
    /// Whatever the JSON is, extraction ends without a panic and its ranges are in order.
    #[test]
    fn any_json_is_survived(resource in any_json()) {
        for name in ["Observation", "Patient", "ServiceRequest", "Bundle", "Nonsense"] {
            for value in extract(name, &resource) {
                match value.kind {
                    IndexKind::Date { .. } | IndexKind::Token { .. } => {}
                    IndexKind::Number { low, high } => prop_assert!(!low.is_nan() && !high.is_nan()),
                    _ => {}
                }
            }
        }
    }
}
