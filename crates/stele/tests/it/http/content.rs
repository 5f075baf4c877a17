//! What is taken in, what is refused, and that it comes back as it was sent.

use serde_json::{Value, json};

use super::{Bed, FHIR, observation};
use crate::node::patient;

/// Decimals, the order of members and extensions nobody knows come back as sent, alone and inside Bundles.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_comes_back() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let tail = r#""valueQuantity":{"unit":"%","value":1.10,"extension":[{"valueDecimal":0.000,"url":"urn:example:odd"}]},"code":{"text":"\u00e9\t\"q\" 🙂"},"subject":{"reference":"Patient/p1"},"extension":[{"url":"https://example.org/unknown","valueString":"kept"}],"status":"final"}"#;
    let sent = format!(r#"{{"resourceType":"Observation","id":"o1",{tail}"#);
    bed.ask("PUT", "Observation/o1", &[FHIR], sent)
        .await
        .is(201);
    let read = bed.get("Observation/o1").await.is(200);
    assert!(read.text.ends_with(tail), "{}", read.text);
    for path in [
        "Observation?_id=o1",
        "Observation/o1/_history",
        "Patient/p1/$everything",
    ] {
        let bundle = bed.get(path).await.is(200);
        assert!(bundle.text.contains(tail), "{path}: {}", bundle.text);
    }
    bed.node.stop();
}

/// A record larger than a block of the store comes back whole, and one value of it is proven alone (S19).
#[tokio::test(flavor = "multi_thread")]
async fn large_resources_have_element_proofs_too() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let mut large = observation("o1", "p1", "718-7", 13.5);
    let parts: Vec<Value> = (0..4000)
        .map(|n| json!({ "code": { "text": format!("part {n}") }, "valueInteger": n, "interpretation": [{ "text": "as expected" }] }))
        .collect();
    large["component"] = parts.into();
    assert!(large.to_string().len() > 300_000);
    bed.put(&large).await.is(201);
    let read = bed.get("Observation/o1").await.is(200).json();
    assert_eq!(read["component"], large["component"]);
    let out = bed.folder.beside("element.json");
    let said = bed.folder.json(&[
        "verify",
        "record",
        "Observation/o1",
        "--element",
        "/component/3999/valueInteger",
        "--out",
        out.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(said["ok"], true, "{said}");
    assert_eq!(said["disclosed"][0]["value"], "3999", "{said}");
    let file = std::fs::read_to_string(&out).unwrap();
    assert!(!file.contains("part 1"), "nothing else is disclosed");
    bed.node.stop();
}

/// FR-D06: every kind of record that care needs is taken, found by its patient, and part of the patient's record.
#[tokio::test(flavor = "multi_thread")]
async fn every_clinical_type_is_taken_and_found() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let subject = json!({ "reference": "Patient/p1" });
    let text = |words: &str| json!({ "text": words });
    let coded = |system: &str, code: &str| json!({ "coding": [{ "system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code }] });
    let all = [
        (
            "patient",
            json!({ "resourceType": "Condition", "subject": subject, "code": text("asthma"), "clinicalStatus": coded("condition-clinical", "active") }),
        ),
        (
            "patient",
            json!({ "resourceType": "FamilyMemberHistory", "patient": subject, "status": "completed", "relationship": text("mother") }),
        ),
        (
            "patient",
            json!({ "resourceType": "MedicationRequest", "subject": subject, "status": "active", "intent": "order", "medicationCodeableConcept": text("salbutamol") }),
        ),
        (
            "patient",
            json!({ "resourceType": "MedicationStatement", "subject": subject, "status": "active", "medicationCodeableConcept": text("aspirin") }),
        ),
        (
            "patient",
            json!({ "resourceType": "MedicationDispense", "subject": subject, "status": "completed", "medicationCodeableConcept": text("aspirin") }),
        ),
        (
            "patient",
            json!({ "resourceType": "MedicationAdministration", "subject": subject, "status": "completed", "medicationCodeableConcept": text("aspirin"), "effectiveDateTime": "2026-01-01" }),
        ),
        (
            "patient",
            json!({ "resourceType": "AllergyIntolerance", "patient": subject, "code": text("penicillin"), "clinicalStatus": coded("allergyintolerance-clinical", "active") }),
        ),
        (
            "patient",
            json!({ "resourceType": "Immunization", "patient": subject, "status": "completed", "vaccineCode": text("measles"), "occurrenceDateTime": "2020-05" }),
        ),
        (
            "patient",
            json!({ "resourceType": "CarePlan", "subject": subject, "status": "active", "intent": "plan", "title": "breathing" }),
        ),
        (
            "patient",
            json!({ "resourceType": "CareTeam", "subject": subject, "status": "active" }),
        ),
        (
            "patient",
            json!({ "resourceType": "Goal", "subject": subject, "lifecycleStatus": "active", "description": text("walk") }),
        ),
        (
            "patient",
            json!({ "resourceType": "Procedure", "subject": subject, "status": "completed", "code": text("spirometry") }),
        ),
        ("patient", observation("x", "p1", "718-7", 13.5)),
        (
            "patient",
            json!({ "resourceType": "DiagnosticReport", "subject": subject, "status": "final", "code": text("blood count") }),
        ),
        (
            "patient",
            json!({ "resourceType": "Specimen", "subject": subject, "status": "available" }),
        ),
        (
            "patient",
            json!({ "resourceType": "ServiceRequest", "subject": subject, "status": "active", "intent": "order", "code": text("x-ray") }),
        ),
        (
            "patient",
            json!({ "resourceType": "ImagingStudy", "subject": subject, "status": "available", "started": "2026-02-03" }),
        ),
        (
            "patient",
            json!({ "resourceType": "Media", "subject": subject, "status": "completed", "content": { "contentType": "image/png", "url": "Binary/x" } }),
        ),
        (
            "patient",
            json!({ "resourceType": "DocumentReference", "subject": subject, "status": "current", "content": [{ "attachment": { "contentType": "text/plain", "data": "aGk=" } }] }),
        ),
        (
            "patient",
            json!({ "resourceType": "Encounter", "subject": subject, "status": "finished", "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" } }),
        ),
        (
            "patient",
            json!({ "resourceType": "Consent", "patient": subject, "status": "active", "scope": coded("consentscope", "patient-privacy"), "category": [coded("v3-ActCode", "INFA")], "policyRule": text("opt-in") }),
        ),
        (
            "patient",
            json!({ "resourceType": "Coverage", "beneficiary": subject, "status": "active", "payor": [subject] }),
        ),
        (
            "patient",
            json!({ "resourceType": "RelatedPerson", "patient": subject, "active": true }),
        ),
    ];
    let mut written = Vec::new();
    for (parameter, mut resource) in all {
        resource.as_object_mut().unwrap().remove("id");
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        let made = bed.post(&kind, &resource).await;
        assert_eq!(made.status, 201, "{kind}: {}", made.text);
        let name = format!("{kind}/{}", made.id());
        assert_eq!(
            bed.found(&format!("{kind}?{parameter}=p1")).await,
            std::slice::from_ref(&name),
            "{kind}"
        );
        let read = bed.get(&name).await.is(200).json();
        for (member, value) in resource.as_object().unwrap() {
            assert_eq!(read[member], *value, "{kind}.{member}");
        }
        written.push(name);
    }
    let record: Vec<String> = bed
        .all_pages("Patient/p1/$everything")
        .await
        .iter()
        .filter_map(super::name)
        .collect();
    for name in &written {
        assert!(record.contains(name), "{name} is part of the record");
    }
    bed.node.stop();
}

/// NFR-INT2: wrong codes, missing elements, wrong types and dates are refused with the path of each, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_entry_are_refused_with_their_paths() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let good = observation("x", "p1", "718-7", 13.5);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut resource = good.clone();
        resource.as_object_mut().unwrap().remove("id");
        change(&mut resource);
        resource
    };
    let missing =
        |name: &'static str| move |r: &mut Value| drop(r.as_object_mut().unwrap().remove(name));
    let set = |path: &'static str, value: Value| {
        move |r: &mut Value| *r.pointer_mut(path).unwrap() = value.clone()
    };
    let add = |name: &'static str, value: Value| move |r: &mut Value| r[name] = value.clone();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, &str); 11] = [
        (&missing("status"), "element status is missing"),
        (&missing("code"), "element code is missing"),
        (&set("/status", json!("excellent")), "Observation.status"),
        (&set("/status", json!(["final"])), "Observation.status"),
        (
            &set("/valueQuantity/value", json!("13.5")),
            "Observation.valueQuantity.value",
        ),
        (
            &set("/effectiveDateTime", json!("2026-13-01")),
            "Observation.effectiveDateTime",
        ),
        (
            &set("/effectiveDateTime", json!("yesterday")),
            "Observation.effectiveDateTime",
        ),
        (&add("colour", json!("red")), "Observation.colour"),
        (&add("valueString", json!("both")), "Observation.value"),
        (
            &set("/subject", json!({ "reference": "Spaceship/1" })),
            "Observation.subject",
        ),
        (
            &set("/code/coding", json!({ "code": "718-7" })),
            "Observation.code.coding",
        ),
    ];
    for (change, path) in cases {
        let resource = with(change);
        let outcome = bed.post("Observation", &resource).await.problem(422);
        assert!(outcome.to_string().contains(path), "{path}: {outcome}");
        let checked = bed
            .post("Observation/$validate", &resource)
            .await
            .is(200)
            .json();
        assert!(checked.to_string().contains(path), "{path}: {checked}");
    }
    let two = with(&|r| {
        r["status"] = "excellent".into();
        r["colour"] = "red".into();
    });
    let outcome = bed.post("Observation", &two).await.problem(422);
    assert_eq!(
        outcome["issue"].as_array().unwrap().len(),
        2,
        "all at once: {outcome}"
    );
    let of_nobody = with(&set("/subject/reference", json!("Patient/nobody")));
    bed.post("Observation", &of_nobody).await.problem(422);
    assert!(
        bed.found("Observation").await.is_empty(),
        "nothing was written"
    );
    let good = with(&|_| {});
    let checked = bed
        .post("Observation/$validate", &good)
        .await
        .is(200)
        .json();
    assert_eq!(checked["issue"][0]["severity"], "information", "{checked}");
    assert!(
        bed.found("Observation").await.is_empty(),
        "checking writes nothing"
    );
    bed.node.stop();
}
