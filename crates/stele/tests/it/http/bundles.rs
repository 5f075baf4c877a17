//! Transactions and batches.

use serde_json::{Value, json};

use super::{Bed, FHIR, observation};
use crate::node::patient;

fn entry(method: &str, url: &str, resource: Option<Value>) -> Value {
    let mut entry = json!({ "request": { "method": method, "url": url } });
    if let Some(resource) = resource {
        entry["resource"] = resource;
    }
    entry
}

fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({ "resourceType": "Bundle", "type": kind, "entry": entries })
}

fn status(reply: &Value, index: usize) -> &str {
    let status = reply["entry"][index]["response"]["status"]
        .as_str()
        .unwrap();
    status.split(' ').next().unwrap()
}

/// A transaction is carried out whole: references between its entries are rewritten, and it reads what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_carried_out_whole() {
    let bed = Bed::new();
    bed.put(&patient("p0")).await.is(201);
    bed.put(&observation("gone", "p0", "718-7", 1.0))
        .await
        .is(201);
    let urn = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a";
    let mut of_new = observation("x", "x", "718-7", 2.0);
    of_new["subject"]["reference"] = urn.into();
    let mut new = patient("x");
    new.as_object_mut().unwrap().remove("id");
    let mut created = entry("POST", "Patient", Some(new));
    created["fullUrl"] = urn.into();
    let sent = bundle(
        "transaction",
        &[
            entry("POST", "Observation", Some(of_new)),
            created,
            entry("DELETE", "Observation/gone", None),
            entry(
                "PUT",
                "Observation/o1",
                Some(observation("o1", "p0", "2345-7", 3.0)),
            ),
            entry("GET", "Observation?code=2345-7", None),
            entry("GET", "Patient/p0", None),
        ],
    );
    let reply = bed.post("/fhir/r4", &sent).await.is(200).json();
    assert_eq!(reply["type"], "transaction-response");
    assert_eq!(stele_fhir::validate::resource(&reply), [], "{reply}");
    let statuses: Vec<&str> = (0..6).map(|index| status(&reply, index)).collect();
    assert_eq!(statuses, ["201", "201", "204", "201", "200", "200"]);
    let location = reply["entry"][1]["response"]["location"].as_str().unwrap();
    let patient_id = location.split('/').nth(1).unwrap();
    let found = bed
        .get(&format!("Observation?patient={patient_id}"))
        .await
        .is(200)
        .json();
    assert_eq!(
        found["entry"][0]["resource"]["subject"]["reference"],
        format!("Patient/{patient_id}")
    );
    assert_eq!(
        reply["entry"][4]["resource"]["entry"][0]["resource"]["id"],
        "o1"
    );
    assert_eq!(reply["entry"][5]["resource"]["id"], "p0");
    bed.get("Observation/gone").await.problem(410);

    let whole = ("prefer", "return=representation");
    let again = bundle(
        "transaction",
        &[entry(
            "PUT",
            "Observation/o1",
            Some(observation("o1", "p0", "2345-7", 4.0)),
        )],
    );
    let reply = bed
        .ask("POST", "/fhir/r4", &[FHIR, whole], again.to_string())
        .await
        .is(200)
        .json();
    assert_eq!(reply["entry"][0]["resource"]["valueQuantity"]["value"], 4.0);
    bed.node.stop();
}

/// Whatever goes wrong with one entry, nothing of a transaction is written; the entry is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_fails_writes_nothing() {
    let bed = Bed::new();
    bed.put(&patient("p0")).await.is(201);
    bed.put(&observation("o1", "p0", "718-7", 1.0))
        .await
        .is(201);
    let good = || entry("PUT", "Patient/new", Some(patient("new")));
    let mut missing = observation("x", "p0", "718-7", 1.0);
    missing.as_object_mut().unwrap().remove("status");
    let mut stale = entry(
        "PUT",
        "Observation/o1",
        Some(observation("o1", "p0", "718-7", 2.0)),
    );
    stale["request"]["ifMatch"] = "W/\"7\"".into();
    for (what, bad, expected) in [
        (
            "a required element",
            entry("POST", "Observation", Some(missing)),
            422,
        ),
        (
            "an unknown patient",
            entry(
                "POST",
                "Observation",
                Some(observation("x", "nobody", "1-8", 1.0)),
            ),
            422,
        ),
        ("a stale version", stale, 412),
        (
            "nothing to delete",
            entry("DELETE", "Observation/never", None),
            404,
        ),
        (
            "an unknown type",
            entry(
                "POST",
                "Spaceship",
                Some(json!({ "resourceType": "Spaceship" })),
            ),
            422,
        ),
        ("no resource", entry("PUT", "Patient/other", None), 422),
        ("a method", entry("STEAL", "Patient/p0", None), 422),
        (
            "the ledger's own",
            entry(
                "POST",
                "AuditEvent",
                Some(json!({ "resourceType": "AuditEvent" })),
            ),
            405,
        ),
    ] {
        let sent = bundle("transaction", &[good(), bad]);
        let refused = bed.post("/fhir/r4", &sent).await;
        let near = [expected, 400, 422];
        assert!(
            near.contains(&refused.status),
            "{what}: {} {}",
            refused.status,
            refused.text
        );
        refused.outcome_for(what);
        bed.get("Patient/new").await.problem(404);
    }
    assert_eq!(bed.get("Observation/o1").await.header("etag"), "W/\"1\"");
    bed.post("/fhir/r4", &bundle("document", &[]))
        .await
        .problem(422);
    bed.node.stop();
}

impl super::Answer {
    fn outcome_for(self, what: &str) {
        assert_eq!(self.json()["resourceType"], "OperationOutcome", "{what}");
    }
}

/// Entries of a batch stand each for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_does_what_can_be_done() {
    let bed = Bed::new();
    bed.put(&patient("p0")).await.is(201);
    let sent = bundle(
        "batch",
        &[
            entry(
                "PUT",
                "Observation/o1",
                Some(observation("o1", "p0", "718-7", 1.0)),
            ),
            entry(
                "POST",
                "Observation",
                Some(json!({ "resourceType": "Observation" })),
            ),
            entry("GET", "Patient/nobody", None),
            entry("GET", "Patient/p0", None),
            entry("GET", "Observation?shoe-size=44&_count=1", None),
            entry("DELETE", "Observation/never", None),
            entry("PUT", "Patient/p1", Some(patient("p1"))),
        ],
    );
    let reply = bed.post("/fhir/r4", &sent).await.is(200).json();
    assert_eq!(reply["type"], "batch-response");
    assert_eq!(stele_fhir::validate::resource(&reply), [], "{reply}");
    let statuses: Vec<&str> = (0..7).map(|index| status(&reply, index)).collect();
    assert_eq!(
        statuses,
        ["201", "422", "404", "200", "200", "404", "201"],
        "{reply}"
    );
    let outcome = &reply["entry"][1]["response"]["outcome"];
    assert_eq!(outcome["resourceType"], "OperationOutcome");
    assert!(
        outcome.to_string().contains("element status is missing"),
        "{outcome}"
    );
    bed.get("Observation/o1").await.is(200);
    bed.get("Patient/p1").await.is(200);
    bed.node.stop();
}
