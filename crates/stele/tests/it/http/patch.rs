//! JSON Patch.

use serde_json::json;

use super::{Bed, observation};
use crate::node::patient;

const PATCH: (&str, &str) = ("content-type", "application/json-patch+json");

/// A patch applies whole or not at all, touches what it names and nothing else, and leaves a valid resource.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_applies_whole_or_not_at_all() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.put(&observation("o1", "p1", "718-7", 13.5))
        .await
        .is(201);
    let patch = |operations: serde_json::Value| {
        let bed = &bed;
        async move {
            bed.ask("PATCH", "Observation/o1", &[PATCH], operations.to_string())
                .await
        }
    };
    let status = |op: &str, value: &str| json!({ "op": op, "path": "/status", "value": value });
    let changed = patch(json!([
        status("test", "final"),
        status("replace", "amended")
    ]))
    .await
    .is(200);
    assert_eq!(changed.header("etag"), "W/\"2\"");
    assert_eq!(changed.json()["status"], "amended");
    assert!(changed.text.contains(r#""value":13.5"#), "{}", changed.text);

    let failing_test = json!([status("replace", "final"), status("test", "preliminary")]);
    let outcome = patch(failing_test).await.problem(422).to_string();
    assert!(outcome.contains("Operation 1"), "{outcome}");
    let bad_path = json!([{ "op": "remove", "path": "/component/3" }]);
    let outcome = patch(bad_path).await.problem(422).to_string();
    assert!(outcome.contains("Operation 0"), "{outcome}");
    let bad_code = json!([status("replace", "excellent")]);
    let outcome = patch(bad_code).await.problem(422).to_string();
    assert!(outcome.contains("Observation.status"), "{outcome}");
    let other_id = json!([{ "op": "replace", "path": "/id", "value": "o2" }]);
    patch(other_id).await.problem(422);
    let other_patient =
        json!([{ "op": "replace", "path": "/subject/reference", "value": "Patient/p2" }]);
    bed.put(&patient("p2")).await.is(201);
    patch(other_patient).await.problem(422);
    patch(json!({ "op": "remove" })).await.problem(422);
    bed.ask("PATCH", "Observation/o1", &[PATCH], "[{")
        .await
        .problem(422);
    let wrong_kind = bed
        .ask("PATCH", "Observation/o1", &[super::FHIR], "[]")
        .await
        .is(415);
    assert_eq!(
        wrong_kind.header("accept-patch"),
        "application/json-patch+json"
    );
    bed.ask("PATCH", "Observation/none", &[PATCH], "[]")
        .await
        .problem(404);
    let stale = [PATCH, ("if-match", "W/\"1\"")];
    bed.ask("PATCH", "Observation/o1", &stale, "[]")
        .await
        .problem(412);

    let now = bed.get("Observation/o1").await.is(200);
    assert_eq!(now.text, changed.text, "nothing of all that was written");
    let by_condition = json!([status("replace", "corrected")]).to_string();
    let found = bed
        .ask("PATCH", "Observation?code=718-7", &[PATCH], by_condition)
        .await
        .is(200);
    assert_eq!(found.json()["status"], "corrected");
    bed.node.stop();
}

/// Patches that name no version wait for each other: none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn patches_meet_without_loss() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let one = |n: usize| {
        let patch =
            json!([{ "op": "add", "path": "/name/0/given/-", "value": format!("Given{n}") }]);
        bed.ask("PATCH", "Patient/p1", &[PATCH], patch.to_string())
    };
    for answer in futures::future::join_all([one(0), one(1)]).await {
        answer.is(200);
    }
    let given = bed.get("Patient/p1").await.json()["name"][0]["given"].to_string();
    assert!(
        given.contains("Given0") && given.contains("Given1"),
        "{given}"
    );
    bed.node.stop();
}
