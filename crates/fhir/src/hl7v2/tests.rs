//! Messages the whole way to Bundles.

use serde_json::{Value as Json, json};

use super::{map::Context, *};
use crate::{bundle, outcome::Issue, validate};

fn context() -> Context {
    Context::new("2026-01-01T00:00:00Z")
}

fn taken(text: &str) -> Taken {
    take(text.as_bytes(), &context()).unwrap_or_else(|(_, problems)| panic!("{problems:?}"))
}

fn refused(text: &str) -> Vec<String> {
    match take(text.as_bytes(), &context()) {
        Ok(taken) => panic!("taken: {}", taken.bundle.text),
        Err((_, problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// The resources of a type; all of the Bundle have to be valid.
fn resources(taken: &Taken, resource_type: &str) -> Vec<Json> {
    let plan = bundle::parse(taken.bundle.clone()).unwrap_or_else(|issues| panic!("{issues:?}"));
    let all: Vec<Json> = plan
        .entries
        .into_iter()
        .map(|entry| entry.resource.expect("a resource").value)
        .collect();
    for one in &all {
        let issues = validate::resource(one);
        assert!(!issues.iter().any(Issue::is_error), "{one}: {issues:?}");
    }
    all.into_iter()
        .filter(|one| one["resourceType"] == resource_type)
        .collect()
}

const HEAD: &str = "MSH|^~\\&|LAB|HOSP^1.2.3^ISO|EHR|US|20240301101500+0100||";

fn message(kind: &str, rest: &str) -> String {
    format!("{HEAD}{kind}|C1|P|2.5.1\rPID|1||77^^^HOSP&1.2.3&ISO^MR||Doe^Jane||19800102|F\r{rest}")
}

fn observation(obx: &str) -> (Json, Taken) {
    let text = message(
        "ORU^R01",
        &format!("OBR|1|P1|F1|2345-7^Glucose^LN|||202403010800|||||||||||||||||F\r{obx}"),
    );
    let taken = taken(&text);
    let mut found = resources(&taken, "Observation");
    assert_eq!(found.len(), 1, "{obx}");
    (found.remove(0), taken)
}

/// NFR-INTEROP1: every type of OBX-2 has a place, and numbers keep their digits.
#[test]
fn values_by_their_type() {
    for (obx, member, expected) in [
        (
            "OBX|1|NM|a^A^LN||6.30|mg/dL^^UCUM||||F",
            "valueQuantity",
            r#"{"value":6.30,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}"#,
        ),
        (
            "OBX|1|NM|a^A^LN||<0.50|x",
            "valueQuantity",
            r#"{"value":0.50,"comparator":"<","unit":"x"}"#,
        ),
        ("OBX|1|NM|a^A^LN||60~120|x", "valueString", r#""60\n120""#),
        ("OBX|1|NM|a^A^LN||negative", "valueString", r#""negative""#),
        (
            "OBX|1|SN|a^A^LN||>=^10.0",
            "valueQuantity",
            r#"{"value":10.0,"comparator":">="}"#,
        ),
        (
            "OBX|1|SN|a^A^LN||^1^-^2.50",
            "valueRange",
            r#"{"low":{"value":1},"high":{"value":2.50}}"#,
        ),
        (
            "OBX|1|SN|a^A^LN||^1^:^128",
            "valueRatio",
            r#"{"numerator":{"value":1},"denominator":{"value":128}}"#,
        ),
        ("OBX|1|SN|a^A^LN||^2^+", "valueString", r#""2+""#),
        (
            "OBX|1|CWE|a^A^LN||260373001^Detected^SCT",
            "valueCodeableConcept",
            r#"{"coding":[{"system":"http://snomed.info/sct","code":"260373001","display":"Detected"}],"text":"Detected"}"#,
        ),
        ("OBX|1|ST|a^A^LN||a\\F\\b~c", "valueString", r#""a|b\nc""#),
        (
            "OBX|1|FT|a^A^LN||one\\.br\\two",
            "valueString",
            r#""one\ntwo""#,
        ),
        ("OBX|1|DT|a^A^LN||202402", "valueDateTime", r#""2024-02""#),
        (
            "OBX|1|TS|a^A^LN||202402031530",
            "valueDateTime",
            r#""2024-02-03T15:30:00+01:00""#,
        ),
        ("OBX|1|TM|a^A^LN||1530", "valueTime", r#""15:30:00""#),
        (
            "OBX|1|HD|a^A^LN||x^1.2^ISO",
            "valueString",
            r#""x 1.2 ISO""#,
        ),
        ("OBX|1||a^A^LN||x", "valueString", r#""x""#),
    ] {
        let (found, taken) = observation(obx);
        assert_eq!(found[member].to_string(), expected, "{obx}: {found}");
        // What became text although it says to be something else is told of.
        let is_plain = obx.contains("|ST|") || obx.contains("|FT|") || obx.contains("2^+");
        let is_told = taken.problems.iter().any(|p| p.weight == Weight::Warning);
        assert_eq!(
            is_told,
            member == "valueString" && !is_plain,
            "{obx}: {:?}",
            taken.problems
        );
    }
}

/// NFR-INTEROP1: documents inside results keep their bytes.
#[test]
fn encapsulated_data_becomes_media() {
    let text = message(
        "ORU^R01",
        "OBR|1|P1|F1|11502-2^Report^LN\rOBX|1|ED|pdf^Report^L||LAB^AP^PDF^Base64^JVBERi0x\\.br\\LjQ=||||||F",
    );
    let taken = taken(&text);
    let media = resources(&taken, "Media");
    assert_eq!(media[0]["content"]["data"], "JVBERi0xLjQ=");
    assert_eq!(media[0]["content"]["contentType"], "application/pdf");
    let report = &resources(&taken, "DiagnosticReport")[0];
    assert_eq!(
        report["media"][0]["link"],
        resources(&taken, "Observation")[0]["derivedFrom"][0]
    );
}

/// NFR-INTEROP1: nothing is dropped in silence: what has no place is named by segment and field, without content.
#[test]
fn what_stays_in_the_original_only_is_told() {
    let text = message(
        "ADT^A08",
        "ZPI|secret\rPV1|1|I|WARD^1^2||||||||||||||||V1\rGT1|1|x",
    );
    let text = text.replace("|F\rZPI", "|F||2106-3^White^HL70005\rZPI");
    let taken = taken(&text);
    let told: Vec<String> = taken.problems.iter().map(ToString::to_string).collect();
    for expected in ["ZPI: the segment", "GT1: the segment", "PID: fields 10 "] {
        assert!(told.iter().any(|one| one.starts_with(expected)), "{told:?}");
    }
    assert!(
        !told
            .iter()
            .any(|one| one.contains("secret") || one.contains("White"))
    );
    let kept = &resources(&taken, "Binary")[0];
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(kept["data"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes, text.as_bytes());
    let provenance = &resources(&taken, "Provenance")[0];
    assert_eq!(provenance["entity"][0]["what"]["reference"], "Binary/hl7v2");
    assert_eq!(provenance["target"].as_array().unwrap().len(), 2);
}

#[test]
fn visits_follow_their_events() {
    for (event, class, rest, expected) in [
        ("A01", "I", "", "in-progress"),
        ("A03", "I", "", "finished"),
        ("A05", "P", "", "planned"),
        ("A11", "I", "", "cancelled"),
        ("A13", "I", "", "in-progress"),
        (
            "A08",
            "O",
            "|||||||||||||||||||||||||20240301|20240302",
            "finished",
        ),
    ] {
        let visit = format!("PV1|1|{class}|W|||||||||||||||||V1{rest}");
        let taken = taken(&message(&format!("ADT^{event}"), &visit));
        let encounter = &resources(&taken, "Encounter")[0];
        assert_eq!(encounter["status"], expected, "{event}");
    }
}

#[test]
fn merged_patients_point_at_each_other() {
    let taken = taken(&message("ADT^A40", "MRG|66^^^HOSP&1.2.3&ISO^MR"));
    let patients = resources(&taken, "Patient");
    assert_eq!(patients.len(), 2);
    assert_eq!(patients[0]["link"][0]["type"], "replaces");
    assert_eq!(patients[1]["link"][0]["type"], "replaced-by");
    assert_eq!(patients[1]["active"], false);
    let provenance = &resources(&taken, "Provenance")[0];
    assert_eq!(provenance["target"].as_array().unwrap().len(), 1);
    let same = refused(&message("ADT^A40", "MRG|77^^^HOSP&1.2.3&ISO^MR"));
    assert!(same[0].starts_with("MRG-1"), "{same:?}");
}

#[test]
fn an_order_and_its_result_meet() {
    let order = taken(&message(
        "ORM^O01",
        "ORC|NW|P1|||SC\rOBR|1|P1||2345-7^Glucose^LN",
    ));
    let result = taken(&message(
        "ORU^R01",
        "ORC|RE|P1|F1\rOBR|1|P1|F1|2345-7^Glucose^LN|||2024||||||||||||||||||F",
    ));
    let entry = |taken: &Taken, resource_type: &str| {
        let plan = bundle::parse(taken.bundle.clone()).unwrap();
        let found = plan
            .entries
            .into_iter()
            .find(|entry| entry.resource.as_ref().unwrap().resource_type == resource_type);
        found.unwrap().request.unwrap()
    };
    let ordered = entry(&order, "ServiceRequest").url;
    let answered = entry(&result, "ServiceRequest").if_none_exist.unwrap();
    assert_eq!(ordered, format!("ServiceRequest?{answered}"));
    assert_eq!(resources(&order, "ServiceRequest")[0]["status"], "active");
}

#[test]
fn what_can_t_be_taken_is_refused_with_its_place() {
    for (text, place, rejected) in [
        (message("SIU^S12", "SCH|1"), "MSH-9", true),
        (message("ADT^A29", ""), "MSH-9", true),
        (message("ORU^R01", ""), "OBR-4", false),
        (message("VXU^V04", ""), "RXA-5", false),
        (message("MDM^T02", ""), "TXA-12", false),
        (message("ADT^A40", ""), "MRG-1", false),
        (format!("{HEAD}ADT^A01|C1|P|2.5.1\rEVN|A01"), "PID-3", false),
        (
            format!("{HEAD}ADT^A01|C1|P|2.5.1\rPID|1||^^^X"),
            "PID-3",
            false,
        ),
        (format!("{HEAD}ADT^A01|C1|P|3.0\rPID|1||1"), "MSH-12", true),
        (format!("{HEAD}ADT^A01|C1|X|2.5\rPID|1||1"), "MSH-11", true),
        (format!("{HEAD}ADT^A01||P|2.5\rPID|1||1"), "MSH-10", false),
    ] {
        let problems = refused(&text);
        assert!(
            problems.iter().any(|one| one.starts_with(place)),
            "{text}: {problems:?}"
        );
        let Err((header, problems)) = take(text.as_bytes(), &context()) else {
            unreachable!()
        };
        assert_eq!(problems[0].is_rejection(), rejected, "{text}");
        assert!(header.is_some(), "the sender gets an answer it recognises");
    }
}

#[test]
fn a_patient_is_laid_over_the_one_that_is_there() {
    let current = json!({
        "resourceType": "Patient", "id": "p", "meta": { "versionId": "1", "lastUpdated": "2024" },
        "identifier": [{ "system": "a", "value": "1" }, { "system": "b", "value": "2" }],
        "deceasedBoolean": false, "photo": [{ "title": "x" }], "gender": "female"
    });
    let new = json!({
        "resourceType": "Patient", "identifier": [{ "system": "a", "value": "1", "use": "usual" }],
        "deceasedDateTime": "2024", "gender": "male"
    });
    assert_eq!(
        map::overlay(&current, &new),
        json!({
            "resourceType": "Patient",
            "identifier": [{ "system": "a", "value": "1", "use": "usual" }, { "system": "b", "value": "2" }],
            "photo": [{ "title": "x" }], "gender": "male", "deceasedDateTime": "2024"
        })
    );
}

/// One pass over hostile bytes: frames, messages, mapping and acknowledgement must hold whatever comes, and a Bundle
/// that is made must be valid. The fuzz target does the same.
fn check_hostile(data: &[u8]) {
    let mut framer = frame::Framer::new(1 << 16);
    framer.push(data);
    let mut messages = vec![data.to_vec()];
    while let Some(event) = framer.next_event() {
        if let frame::Event::Message(bytes) = event {
            messages.push(bytes);
        }
    }
    let context = Context::new("2026-01-01T00:00:00Z");
    for bytes in messages {
        match take(&bytes, &context) {
            Ok(taken) => {
                let plan = bundle::parse(taken.bundle);
                let entries = plan.map(|plan| plan.entries).unwrap_or_default();
                assert!(!entries.is_empty(), "the Bundle can't be taken apart");
                for entry in entries {
                    let resource = entry.resource.map(|resource| resource.value);
                    let issues = validate::resource(&resource.unwrap_or_default());
                    assert!(
                        !issues.iter().any(Issue::is_error),
                        "a mapped resource is not valid: {issues:?}"
                    );
                }
            }
            Err((header, problems)) => {
                assert!(!problems.is_empty(), "refused without a reason");
                let answer = ack::write(
                    header.as_deref(),
                    ack::Code::ApplicationReject,
                    &problems,
                    "1",
                    "2026",
                );
                assert!(Message::parse(&answer).is_ok(), "an answer can't be read");
            }
        }
    }
}

proptest::proptest! {
    /// Whatever comes, the answer is a valid Bundle or a reason.
    #[test]
    fn damaged_messages_do_no_harm(
        kind in proptest::sample::select(vec!["ADT^A01", "ORU^R01", "ORM^O01", "VXU^V04", "RDE^O11", "MDM^T02", "OUL^R22"]),
        lines in proptest::collection::vec(
            ("(PV1|OBR|OBX|ORC|SPM|NTE|AL1|DG1|IN1|PR1|RXA|RXE|RXO|RXD|RXR|TXA|TQ1|NK1|MRG|PD1)", "[|^~&\\\\ A-Z0-9.<+-]{0,80}"), 0..6),
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4),
    ) {
        let rest: Vec<String> = lines.iter().map(|(name, fields)| format!("{name}|{fields}")).collect();
        let mut bytes = message(kind, &rest.join("\r")).into_bytes();
        bytes.extend(noise);
        check_hostile(&bytes);
    }
}
