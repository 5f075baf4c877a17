use serde_json::json;

use super::*;

fn check(value: &Value, code: IssueCode, location: &str) {
    let issues = resource(value);
    assert_eq!(issues.len(), 1, "{location}: {issues:?}");
    assert_eq!(issues[0].code, code, "{issues:?}");
    assert_eq!(issues[0].expression, [location]);
    assert!(issues[0].is_error());
}

fn good() -> Value {
    json!({
        "resourceType": "Observation",
        "id": "o1",
        "contained": [{ "resourceType": "Device", "id": "d" }],
        "status": "final",
        "_status": { "id": "s" },
        "code": { "coding": [{ "system": "http://loinc.org", "code": "8302-2" }] },
        "subject": { "reference": "Patient/1" },
        "device": { "reference": "#d" },
        "effectiveDateTime": "2024-01-01",
        "valueQuantity": { "value": 6.30, "unit": "cm" },
        "extension": [{ "url": "http://x", "valueString": "y" }],
    })
}

fn with(edit: impl FnOnce(&mut Value)) -> Value {
    let mut value = good();
    edit(&mut value);
    value
}

#[test]
fn accepts_what_is_right() {
    assert_eq!(resource(&good()), []);
    let names = json!({
        "resourceType": "Patient",
        "name": [{ "given": ["A", null], "_given": [null, { "extension": [
            { "url": "http://x", "valueCode": "masked" }] }] }],
        "_birthDate": { "extension": [{ "url": "http://x", "valueDateTime": "2024" }] },
        "contact": [{ "relationship": [{ "text": "mother" }] }],
        "generalPractitioner": [{ "display": "Dr A" }, { "identifier": { "value": "1" } },
            { "reference": "Practitioner?identifier=http://x|1" }],
    });
    assert_eq!(resource(&names), []);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn tells_each_kind_of_mistake_and_where() {
    use IssueCode::{CodeInvalid, Extension, Invariant, NotFound, Required, Structure, Value};
    check(
        &with(|o| o["colour"] = json!("x")),
        Structure,
        "Observation.colour",
    );
    check(
        &with(|o| o["value"] = json!("x")),
        Structure,
        "Observation.value",
    );
    check(
        &with(|o| o["valueQuantity"]["value"] = json!("6")),
        Structure,
        "Observation.valueQuantity.value",
    );
    check(
        &with(|o| o["valueQuantity"]["volume"] = json!(6)),
        Structure,
        "Observation.valueQuantity.volume",
    );
    check(
        &with(|o| o["valueString"] = json!("x")),
        Structure,
        "Observation.valueString",
    );
    check(
        &with(|o| drop(o.as_object_mut().unwrap().remove("code"))),
        Required,
        "Observation",
    );
    check(
        &with(|o| o["code"] = json!({})),
        Structure,
        "Observation.code",
    );
    check(
        &with(|o| o["code"] = json!([{ "text": "x" }])),
        Structure,
        "Observation.code",
    );
    check(
        &with(|o| o["category"] = json!({ "text": "x" })),
        Structure,
        "Observation.category",
    );
    check(
        &with(|o| o["category"] = json!([])),
        Structure,
        "Observation.category",
    );
    check(
        &with(|o| o["category"] = json!([null])),
        Structure,
        "Observation.category[0]",
    );
    check(
        &with(|o| o["status"] = json!("done")),
        CodeInvalid,
        "Observation.status",
    );
    check(
        &with(|o| o["status"] = json!(null)),
        Structure,
        "Observation.status",
    );
    check(
        &with(|o| o["effectiveDateTime"] = json!("2024-02-30")),
        Value,
        "Observation.effectiveDateTime",
    );
    check(
        &with(|o| o["issued"] = json!("2024")),
        Value,
        "Observation.issued",
    );
    check(
        &with(|o| o["_code"] = json!({ "id": "x" })),
        Structure,
        "Observation._code",
    );
    check(
        &with(|o| o["_status"] = json!({ "value": "x" })),
        Structure,
        "Observation._status.value",
    );
    check(
        &with(|o| o["_status"] = json!({})),
        Structure,
        "Observation._status",
    );
    check(
        &with(|o| o["subject"]["reference"] = json!("Practitioner/1")),
        Value,
        "Observation.subject",
    );
    check(
        &with(|o| o["subject"]["reference"] = json!("1")),
        Value,
        "Observation.subject.reference",
    );
    check(
        &with(|o| o["subject"] = json!({ "type": "Patient" })),
        Required,
        "Observation.subject",
    );
    check(
        &with(|o| o["device"]["reference"] = json!("#e")),
        NotFound,
        "Observation.device",
    );
    check(
        &with(|o| o["extension"] = json!([{ "valueString": "y" }])),
        Required,
        "Observation.extension[0]",
    );
    check(
        &with(|o| o["extension"] = json!([{ "url": "http://x" }])),
        Extension,
        "Observation.extension[0]",
    );
    check(
        &with(|o| o["extension"][0]["extension"] = json!([{ "url": "a", "valueCode": "b" }])),
        Extension,
        "Observation.extension[0]",
    );
    check(
        &with(|o| o["extension"][0]["valueCode"] = json!("b")),
        Structure,
        "Observation.extension[0].valueCode",
    );
    check(
        &with(|o| o["contained"][0] = json!({ "id": "d" })),
        Required,
        "Observation.contained[0]",
    );
    check(
        &with(|o| o["contained"][0]["resourceType"] = json!("Devise")),
        Value,
        "Observation.contained[0]",
    );
    check(
        &with(|o| {
            o["contained"][0]["contained"] = json!([{ "resourceType": "Device", "id": "x" }])
        }),
        Invariant,
        "Observation.contained[0]",
    );
    check(
        &with(|o| o["referenceRange"] = json!([{ "low": { "value": true } }])),
        Structure,
        "Observation.referenceRange[0].low.value",
    );
    check(
        &with(|o| {
            o["component"] = json!([{ "code": { "text": "x" }, "referenceRange": [{ "age": 1 }] }])
        }),
        Structure,
        "Observation.component[0].referenceRange[0].age",
    );
}

#[test]
fn checks_required_concepts_by_system() {
    let allergy = |system: &str| {
        json!({
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": { "coding": [{ "system": system, "code": "active" }] },
            "patient": { "reference": "Patient/1" },
        })
    };
    let right = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
    assert_eq!(resource(&allergy(right)), []);
    check(
        &allergy("http://x"),
        IssueCode::CodeInvalid,
        "AllergyIntolerance.clinicalStatus",
    );
}

#[test]
fn locates_inside_bundles() {
    let entry = json!({
        "resource": { "resourceType": "Observation", "status": "final", "code": { "text": "x" },
            "subject": { "reference": "#p" } },
        "request": { "method": "POST", "url": "Observation" },
    });
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [entry] });
    check(
        &bundle,
        IssueCode::NotFound,
        "Bundle.entry[0].resource.subject",
    );
}

#[test]
fn stops_reporting_after_a_hundred() {
    let members: Map<String, Value> = (0..500).map(|n| (format!("x{n}"), json!(1))).collect();
    let mut members = members;
    members.insert("resourceType".to_owned(), json!("Patient"));
    assert_eq!(resource(&Value::Object(members)).len(), 100);
}

#[test]
fn never_quotes_content() {
    let secret = "Zorgamfield";
    let issues = resource(&json!({
        "resourceType": "Patient", "gender": secret, "birthDate": secret,
        "link": [{ "other": { "reference": secret }, "type": secret }],
        "identifier": secret, "photo": [{ "data": secret }],
    }));
    assert!(issues.len() >= 6, "{issues:?}");
    for issue in issues {
        assert!(!issue.diagnostics.contains(secret), "{issue:?}");
    }
}
