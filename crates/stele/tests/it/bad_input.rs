//! Bad input is refused clearly, with nothing half-written.

use serde_json::json;

use crate::node::{Client, Folder, observation, patient};

/// Truncated, deeply nested, wrong-typed, non-UTF-8 JSON; wrong tokens and scopes; a transaction with one bad entry.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_writes_nothing() {
    let folder = Folder::new();
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;

    let nested = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    for (what, body) in [
        (
            "truncated",
            r#"{"resourceType":"Observation","status":"#.to_owned(),
        ),
        (
            "nested",
            format!(r#"{{"resourceType":"Basic","extension":{nested}}}"#),
        ),
        ("not an object", "[1]".to_owned()),
        ("unknown type", r#"{"resourceType":"Spaceship"}"#.to_owned()),
    ] {
        let reply = client.post_text(&node.fhir("Observation"), body).await;
        assert!(
            matches!(reply.status, 400 | 422),
            "{what}: {} {}",
            reply.status,
            reply.text
        );
        assert_eq!(reply.json()["resourceType"], "OperationOutcome", "{what}");
    }
    let wrong = observation("p1", "\"high\"");
    let reply = client.post_text(&node.fhir("Observation"), wrong).await;
    assert_eq!(reply.status, 422, "{}", reply.text);
    assert!(
        reply.text.contains("Observation.value"),
        "the path is named: {}",
        reply.text
    );

    let transaction = json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            { "resource": patient("p2"), "request": { "method": "PUT", "url": "Patient/p2" } },
            { "resource": { "resourceType": "Observation", "status": "wrong-code" },
              "request": { "method": "POST", "url": "Observation" } }
        ]
    });
    let reply = client.post(&node.url("/fhir/r4"), &transaction).await;
    assert!(
        matches!(reply.status, 400 | 422),
        "{} {}",
        reply.status,
        reply.text
    );
    assert!(reply.text.contains("Bundle.entry[1]"), "{}", reply.text);
    assert_eq!(
        client.get(&node.fhir("Patient/p2")).await.status,
        404,
        "nothing was written"
    );

    let mut batch = transaction;
    batch["type"] = "batch".into();
    let reply = client.post(&node.url("/fhir/r4"), &batch).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(
        client.get(&node.fhir("Patient/p2")).await.status,
        200,
        "the rest of a batch is written"
    );

    let nobody = Client::new("not-a-token".into());
    assert_eq!(nobody.get(&node.fhir("Patient/p1")).await.status, 401);
    let reader = Client::new(folder.token("system/Observation.rs", None));
    assert_eq!(
        reader.get(&node.fhir("Patient/p1")).await.status,
        403,
        "scope"
    );
    assert_eq!(
        reader.get(&node.url("/admin/organizations")).await.status,
        403,
        "not an operator"
    );
    node.stop();
}
