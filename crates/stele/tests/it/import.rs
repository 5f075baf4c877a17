//! `stele import` as people use it: files in any order, of every form, with mistakes in them.

use std::fs;

use serde_json::json;

use crate::node::{Client, Folder, observation};

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p-late","name":[{"family":"Late"}],"birthDate":"1980-02-29"}"#;

/// NFR-INT2: files come in the order of their names, which is not that of their references; what refers to something
/// that comes later is taken in a later round, what stays wrong is named with its file and place, and doing it all
/// again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_any_order_and_mistakes_are_named() {
    let folder = Folder::new();
    let node = folder.start();
    let source = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::write(source.path().join(name), text).expect("a file");
    };
    let good = observation("p-late", "6.30");
    let wrong = observation("p-late", "1").replace("\"final\"", "\"finished\"");
    write("a-observations.ndjson", &format!("{good}\n\n{wrong}\n"));
    write(
        "b-document.json",
        r#"{"resourceType":"Bundle","id":"doc-1","type":"document","identifier":{"system":"urn:x","value":"1"},
            "timestamp":"2026-01-01T00:00:00Z","entry":[{"fullUrl":"urn:uuid:5b5b1c0e-53a5-4b3a-9c0e-0d6d3f1a8a01",
            "resource":{"resourceType":"Composition","status":"final","type":{"text":"Summary"},
            "subject":{"reference":"Patient/p-late"},"date":"2026-01-01","author":[{"display":"A. Author"}],"title":"Summary"}}]}"#,
    );
    write(
        "c-broken.json",
        r#"{"resourceType":"Patient","name":[{"family":"#,
    );
    write("z-patient.json", PATIENT);
    let from = source.path().to_str().expect("a path");
    let first = folder.output(&["import", from, "--json"]);
    let told = String::from_utf8_lossy(&first.stderr);
    assert_eq!(first.status.code(), Some(1), "something failed: {told}");
    let done: serde_json::Value = serde_json::from_slice(&first.stdout).expect("one JSON line");
    assert_eq!(
        (&done["files"], &done["created"], &done["failed"]),
        (&json!(4), &json!(3), &json!(2)),
        "{done} {told}"
    );
    assert!(
        told.contains("a-observations.ndjson entry 2") && told.contains("status"),
        "{told}"
    );
    assert!(told.contains("c-broken.json: it is not a FHIR"), "{told}");
    let again = folder.output(&["import", from, "--json"]);
    let done: serde_json::Value = serde_json::from_slice(&again.stdout).expect("one JSON line");
    assert_eq!(
        (&done["created"], &done["updated"], &done["unchanged"]),
        (&json!(0), &json!(0), &json!(3)),
        "{done}"
    );
    let client = Client::new(folder.token("system/*.cruds", None));
    let found = client
        .get(&node.fhir("Observation?subject=Patient/p-late"))
        .await
        .json();
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1), "{found}");
    node.stop();
}
