//! Conditions in place of ids, and versions in headers.

use serde_json::json;

use super::{Bed, FHIR, names, observation};
use crate::node::patient;

fn with_identifier(value: &str) -> serde_json::Value {
    json!({
        "resourceType": "Patient", "active": true, "gender": "female",
        "identifier": [{ "system": "urn:example:mrn", "value": value }]
    })
}

/// Conditional create, update and delete: one match, none, several.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_means_one_resource() {
    let bed = Bed::new();
    let text = with_identifier("7").to_string();
    let condition = ("if-none-exist", "identifier=urn:example:mrn|7");
    let create = || async {
        bed.ask("POST", "Patient", &[FHIR, condition], text.clone())
            .await
    };
    let first = create().await.is(201);
    let again = create().await.is(200);
    assert_eq!(first.id(), again.id());
    assert_eq!(again.header("etag"), "W/\"1\"");
    // Several at once see each other: one is created.
    let many: Vec<_> = (0..6)
        .map(|_| async {
            let condition = ("if-none-exist", "identifier=urn:example:mrn|8");
            let text = with_identifier("8").to_string();
            bed.ask("POST", "Patient", &[FHIR, condition], text).await
        })
        .collect();
    let mut statuses = Vec::new();
    for answer in futures::future::join_all(many).await {
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 201]);

    let update = |value: &str, gender: &str| {
        let mut changed = with_identifier(value);
        changed["gender"] = gender.into();
        let path = format!("Patient?identifier=urn:example:mrn|{value}");
        let text = changed.to_string();
        let bed = &bed;
        async move { bed.ask("PUT", &path, &[FHIR], text).await }
    };
    let updated = update("7", "other").await.is(200);
    assert_eq!(updated.id(), first.id());
    assert_eq!(updated.header("etag"), "W/\"2\"");
    assert_eq!(updated.json()["gender"], "other");
    update("9", "male").await.is(201);

    // A second patient with the number 7: the condition is no longer one resource.
    let twin = bed.post("Patient", &with_identifier("7")).await.is(201);
    create().await.problem(412);
    update("7", "male").await.problem(412);
    let seven = "Patient?identifier=urn:example:mrn|7";
    bed.ask("DELETE", seven, &[], "").await.problem(412);
    assert_eq!(bed.found(seven).await.len(), 2, "nothing was deleted");
    bed.ask("DELETE", &format!("Patient/{}", twin.id()), &[], "")
        .await
        .is(204);
    bed.ask("DELETE", seven, &[], "").await.is(204);
    bed.ask("DELETE", seven, &[], "").await.is(204);
    bed.get(&format!("Patient/{}", first.id()))
        .await
        .problem(410);
    bed.ask("DELETE", "Patient", &[], "").await.problem(412);
    let unknown = ("if-none-exist", "shoe-size=44");
    let refused = bed
        .ask("POST", "Patient", &[FHIR, unknown], text.clone())
        .await;
    assert!(matches!(refused.status, 400 | 422), "{}", refused.text);
    bed.node.stop();
}

/// References by condition are resolved when a transaction is written, and refuse it where they mean nothing or
/// too much.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_may_be_a_condition() {
    let bed = Bed::new();
    let made = bed.post("Patient", &with_identifier("7")).await.is(201);
    let transaction = |value: &str| {
        let mut resource = observation("x", "x", "718-7", 1.0);
        resource["subject"]["reference"] =
            format!("Patient?identifier=urn:example:mrn|{value}").into();
        json!({
            "resourceType": "Bundle", "type": "transaction",
            "entry": [{ "resource": resource, "request": { "method": "POST", "url": "Observation" } }]
        })
    };
    bed.post("/fhir/r4", &transaction("7")).await.is(200);
    let found = bed.get("Observation?code=718-7").await.is(200).json();
    assert_eq!(
        found["entry"][0]["resource"]["subject"]["reference"],
        format!("Patient/{}", made.id())
    );
    let refused = bed.post("/fhir/r4", &transaction("none")).await;
    let outcome = refused.problem(422).to_string();
    assert!(outcome.contains("Bundle.entry[0]"), "{outcome}");
    bed.post("Patient", &with_identifier("7")).await.is(201);
    bed.post("/fhir/r4", &transaction("7")).await.problem(412);
    assert_eq!(bed.found("Observation?code=718-7").await.len(), 1);
    bed.node.stop();
}

/// `ETag`, `Last-Modified`, `If-Match` and `If-None-Match`.
#[tokio::test(flavor = "multi_thread")]
async fn versions_travel_in_headers() {
    let bed = Bed::new();
    let made = bed.put(&patient("p1")).await.is(201);
    assert_eq!(made.header("etag"), "W/\"1\"");
    assert!(
        made.header("location")
            .ends_with("/fhir/r4/Patient/p1/_history/1")
    );
    assert!(made.header("last-modified").ends_with(" GMT"));
    let put = |tag: &'static str, text: String| {
        let bed = &bed;
        async move {
            bed.ask("PUT", "Patient/p1", &[FHIR, ("if-match", tag)], text)
                .await
        }
    };
    let mut changed = patient("p1");
    changed["gender"] = "female".into();
    put("W/\"2\"", changed.to_string()).await.problem(412);
    put("two", changed.to_string()).await.problem(400);
    let updated = put("W/\"1\"", changed.to_string()).await.is(200);
    assert_eq!(updated.header("etag"), "W/\"2\"");
    put("W/\"1\"", patient("p1").to_string()).await.problem(412);
    let same = put("W/\"2\"", changed.to_string()).await.is(200);
    assert_eq!(
        same.header("etag"),
        "W/\"2\"",
        "what changes nothing makes no version"
    );

    let read = |tag: &'static str| {
        let bed = &bed;
        async move {
            bed.ask("GET", "Patient/p1", &[("if-none-match", tag)], "")
                .await
        }
    };
    let known = read("W/\"2\"").await.is(304);
    assert!(known.text.is_empty());
    assert_eq!(read("W/\"1\"").await.is(200).header("etag"), "W/\"2\"");
    let old = bed.get("Patient/p1/_history/1").await.is(200);
    assert_eq!(old.header("etag"), "W/\"1\"");
    assert_eq!(old.header("last-modified"), made.header("last-modified"));

    let stale = [("if-match", "W/\"1\"")];
    bed.ask("DELETE", "Patient/p1", &stale, "")
        .await
        .problem(412);
    let ids = names(&bed.get("Patient?_id=p1").await.is(200).json());
    assert_eq!(ids, ["Patient/p1"]);
    bed.ask("DELETE", "Patient/p1", &[("if-match", "W/\"2\"")], "")
        .await
        .is(204);
    bed.node.stop();
}
