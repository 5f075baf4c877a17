//! Writes answered before they are final.

use std::time::Duration;

use serde_json::json;

use super::{Answer, Bed, FHIR, observation};
use crate::node::patient;

const ASYNC: (&str, &str) = ("prefer", "respond-async");

impl Bed {
    /// Asks a status address until the write has ended.
    async fn settled(&self, url: &str) -> Answer {
        for _ in 0..600 {
            let answer = self.get(url).await;
            if answer.status != 202 {
                return answer;
            }
            assert_eq!(answer.header("retry-after"), "1");
            assert_eq!(answer.json()["resourceType"], "OperationOutcome");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{url} never ended");
    }
}

/// S19, LIM-16: a write returns before its block is committed, with a status the client can poll.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_be_answered_before_it_is_final() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let text = observation("o1", "p1", "718-7", 13.5);
    let kept = bed
        .ask("PUT", "Observation/o1", &[FHIR, ASYNC], text.to_string())
        .await
        .is(202);
    let url = kept.header("content-location").to_owned();
    assert!(url.contains("/fhir/r4/_status/"), "{url}");
    let done = bed.settled(&url).await.is(200).json();
    assert_eq!(done["type"], "batch-response");
    assert_eq!(stele_fhir::validate::resource(&done), []);
    assert_eq!(done["entry"][0]["response"]["status"], "201 Created");
    assert_eq!(
        done["entry"][0]["response"]["location"],
        "Observation/o1/_history/1"
    );
    bed.get("Observation/o1").await.is(200);
    assert_eq!(
        bed.get(&url).await.is(200).json()["entry"],
        done["entry"],
        "it can be asked for again"
    );

    // A transaction, a deletion, and a new patient.
    let transaction = json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            { "resource": patient("p2"), "request": { "method": "PUT", "url": "Patient/p2" } },
            { "resource": observation("o2", "p2", "718-7", 1.5), "request": { "method": "PUT", "url": "Observation/o2" } }
        ]
    });
    let kept = bed
        .ask("POST", "/fhir/r4", &[FHIR, ASYNC], transaction.to_string())
        .await
        .is(202);
    let done = bed
        .settled(kept.header("content-location"))
        .await
        .is(200)
        .json();
    assert_eq!(done["entry"].as_array().unwrap().len(), 2, "{done}");
    let kept = bed
        .ask("DELETE", "Observation/o2", &[ASYNC], "")
        .await
        .is(202);
    let done = bed
        .settled(kept.header("content-location"))
        .await
        .is(200)
        .json();
    assert_eq!(done["entry"][0]["response"]["status"], "204 No Content");
    bed.get("Observation/o2").await.problem(410);

    // What can be refused at once is refused at once, and what changes nothing waits for nothing.
    let mut wrong = text.clone();
    wrong["status"] = "excellent".into();
    bed.ask("PUT", "Observation/o1", &[FHIR, ASYNC], wrong.to_string())
        .await
        .problem(422);
    bed.ask("PUT", "Observation/o1", &[FHIR, ASYNC], text.to_string())
        .await
        .is(200);
    bed.get("_status/none").await.problem(404);
    bed.ask("DELETE", &url, &[], "").await.problem(405);

    let doctor = bed.folder.json(&[
        "practitioner",
        "add",
        "Dr Lind",
        "--roles",
        "doctor",
        "--json",
    ]);
    let token = bed
        .folder
        .token("system/*.cruds", doctor["practitioner"].as_str());
    bed.set_token(token);
    bed.get(&url).await.problem(404);
    bed.node.stop();
}

/// A write that has no preference is answered by 202 once it has waited as long as the configuration says.
#[tokio::test(flavor = "multi_thread")]
async fn patience_has_a_bound() {
    let bed = Bed::with("pending_after_ms = 0\n");
    let kept = bed.put(&patient("p1")).await.is(202);
    let url = kept.header("content-location").to_owned();
    bed.settled(&url).await.is(200);
    bed.get("Patient/p1").await.is(200);
    bed.node.stop();
}

/// LIM-16: what was promised is kept over a crash: every write answered by 202 is recorded, new patients included.
#[tokio::test(flavor = "multi_thread")]
async fn a_promise_outlives_a_crash() {
    let mut bed = Bed::new();
    let mut promised = Vec::new();
    for round in 0..4 {
        let writes: Vec<_> = (0..8)
            .map(|n| {
                let id = format!("r{round}n{n}");
                let bundle = json!({
                    "resourceType": "Bundle", "type": "transaction",
                    "entry": [
                        { "resource": patient(&id), "request": { "method": "PUT", "url": format!("Patient/{id}") } },
                        { "resource": observation(&id, &id, "718-7", 1.5),
                          "request": { "method": "PUT", "url": format!("Observation/{id}") } }
                    ]
                });
                let bed = &bed;
                async move {
                    let answer = bed.ask("POST", "/fhir/r4", &[FHIR, ASYNC], bundle.to_string()).await.is(202);
                    (id, answer.header("content-location").rsplit_once('/').unwrap().1.to_owned())
                }
            })
            .collect();
        promised.extend(futures::future::join_all(writes).await);
        bed = bed.crash_and_start();
    }
    for (id, ticket) in &promised {
        let done = bed
            .settled(&format!("_status/{ticket}"))
            .await
            .is(200)
            .json();
        assert_eq!(done["entry"].as_array().unwrap().len(), 2, "{id}: {done}");
        bed.get(&format!("Patient/{id}")).await.is(200);
        assert_eq!(
            bed.found(&format!("Observation?patient={id}")).await.len(),
            1
        );
    }
    bed.node.stop();
}
