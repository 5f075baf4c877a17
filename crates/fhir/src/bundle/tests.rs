use serde_json::json;

use super::*;
use crate::parse::Limits;

fn read(bundle: &Value) -> Result<Plan, Vec<Issue>> {
    parse(parse::resource(bundle.to_string().as_bytes(), &Limits::default()).unwrap())
}

fn post(full_url: &str, resource: &Value) -> Value {
    let resource_type = resource["resourceType"].as_str().unwrap();
    json!({ "fullUrl": full_url, "resource": resource,
        "request": { "method": "POST", "url": resource_type } })
}

fn observation(subject: &str) -> Value {
    json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" },
        "subject": { "reference": subject },
        "performer": [{ "reference": "Practitioner?identifier=http://x|1" }] })
}

fn transaction(entries: &[Value]) -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

#[test]
fn resolves_links_between_entries_in_the_text() {
    let patient = json!({ "resourceType": "Patient" });
    let bundle = transaction(&[
        post("urn:uuid:p", &patient),
        post("urn:uuid:o", &observation("urn:uuid:p")),
        post("http://h/fhir/Patient/7", &patient),
        post("http://h/fhir/Observation/8", &observation("Patient/7")),
        post(
            "http://h/fhir/Observation/9",
            &observation("http://h/fhir/Patient/7"),
        ),
        post("http://other/Observation/9", &observation("Patient/7")),
    ]);
    let plan = read(&bundle).unwrap();
    let conditional = plan.conditional_references();
    assert_eq!(conditional.len(), 1);
    assert_eq!(conditional[0].entry, 1);
    assert_eq!(conditional[0].query, "identifier=http://x|1");
    let found = HashMap::from([(
        conditional[0].reference.clone(),
        "Practitioner/q".to_owned(),
    )]);
    let assigned = (0..6).map(|n| (n, format!("Some/{n}"))).collect();
    let links = plan.links(&assigned);
    for (index, subject) in [
        (1, "Some/0"),
        (3, "Some/2"),
        (4, "Some/2"),
        (5, "Patient/7"),
    ] {
        let text = plan.resolve(index, &links, &found).unwrap();
        let mut expected = bundle["entry"][index]["resource"].clone();
        expected["subject"]["reference"] = json!(subject);
        expected["performer"][0]["reference"] = json!("Practitioner/q");
        assert_eq!(text, expected.to_string());
    }
    let issues = plan.resolve(1, &links, &HashMap::new()).unwrap_err();
    assert_eq!(issues[0].expression, ["Bundle.entry[1].resource"]);
}

#[test]
fn names_the_entry_of_a_dangling_reference() {
    let plan = read(&transaction(&[post(
        "urn:uuid:o",
        &observation("urn:uuid:nobody"),
    )]))
    .unwrap();
    let found = HashMap::from([(
        "Practitioner?identifier=http://x|1".to_owned(),
        "Practitioner/1".to_owned(),
    )]);
    let issues = plan.resolve(0, &Links::default(), &found).unwrap_err();
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].code, IssueCode::NotFound);
    assert_eq!(issues[0].expression, ["Bundle.entry[0].resource"]);
}

#[test]
fn works_in_the_order_of_the_specification() {
    let request = |method: &str, url: &str| json!({ "request": { "method": method, "url": url } });
    let mut put = request("PUT", "Patient/1");
    put["resource"] = json!({ "resourceType": "Patient", "id": "1" });
    let plan = read(&transaction(&[
        request("GET", "Patient?name=x"),
        put,
        post("urn:uuid:a", &json!({ "resourceType": "Patient" })),
        request("DELETE", "Patient/2"),
        post("urn:uuid:b", &json!({ "resourceType": "Patient" })),
        request("DELETE", "Patient?identifier=x"),
    ]))
    .unwrap();
    assert_eq!(plan.processing_order(), [3, 5, 2, 4, 1, 0]);
    assert!(matches!(
        plan.entries[5].request.as_ref().unwrap().target,
        Target::Conditional { .. }
    ));
}

#[test]
fn refuses_a_transaction_with_a_wrong_entry() {
    let patient = json!({ "resourceType": "Patient" });
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut entry = post("urn:uuid:a", &patient);
        edit(&mut entry);
        transaction(&[post("urn:uuid:b", &patient), entry])
    };
    let cases: [(Value, &str); 10] = [
        (
            with(&|e| e["fullUrl"] = json!("urn:uuid:b")),
            "Bundle.entry[1].fullUrl",
        ),
        (
            with(&|e| e["request"]["method"] = json!("PULL")),
            "Bundle.entry[1].request.method",
        ),
        (
            with(&|e| e["request"]["url"] = json!("Observation")),
            "Bundle.entry[1].request.url",
        ),
        (
            with(&|e| e["request"]["method"] = json!("PUT")),
            "Bundle.entry[1].request.url",
        ),
        (
            with(&|e| e["request"] = json!({ "method": "PUT", "url": "Patient/1" })),
            "Bundle.entry[1].request.url",
        ),
        (
            with(&|e| e["request"] = json!({ "method": "DELETE", "url": "Patient" })),
            "Bundle.entry[1].request.url",
        ),
        (
            with(&|e| drop(e.as_object_mut().unwrap().remove("request"))),
            "Bundle.entry[1].request",
        ),
        (
            with(&|e| drop(e.as_object_mut().unwrap().remove("resource"))),
            "Bundle.entry[1].resource",
        ),
        (
            with(&|e| e["resource"] = json!({ "resourceType": "Patiens" })),
            "Bundle.entry[1].resource",
        ),
        (
            with(&|e| e["colour"] = json!("red")),
            "Bundle.entry[1].colour",
        ),
    ];
    for (bundle, location) in cases {
        let issues = read(&bundle).unwrap_err();
        assert_eq!(issues.len(), 1, "{location} {issues:?}");
        assert_eq!(issues[0].expression.last().unwrap(), location);
        let mut batch = bundle;
        batch["type"] = json!("batch");
        let plan = read(&batch).unwrap();
        assert!(
            plan.entries[0].issues.is_empty(),
            "the good entry of a batch stays good"
        );
        assert_eq!(
            plan.entries[1].issues, issues,
            "the bad entry of a batch says the same"
        );
    }
}

#[test]
fn refuses_two_writes_to_one_resource() {
    let delete = json!({ "request": { "method": "DELETE", "url": "Patient/1" } });
    let issues = read(&transaction(&[delete.clone(), delete])).unwrap_err();
    assert_eq!(issues[0].code, IssueCode::Duplicate);
    assert_eq!(issues[0].expression, ["Bundle.entry[1].request.url"]);
}

#[test]
fn refuses_a_bundle_without_a_type() {
    for bundle in [
        json!({ "resourceType": "Bundle" }),
        json!({ "resourceType": "Bundle", "type": "x" }),
    ] {
        assert!(!read(&bundle).unwrap_err().is_empty());
    }
    assert!(read(&json!({ "resourceType": "Patient" })).is_err());
}
