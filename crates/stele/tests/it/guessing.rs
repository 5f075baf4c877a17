//! Guessing: what a caller may not read can't be told from what does not exist, by any hop of any interaction.

use serde_json::Value;

use crate::node::{Client, Folder, Running, observation, patient};

/// NFR-SEC3: searches, chains, `_has`, includes, histories, proofs and conditional writes of a caller who was granted one
/// category answer alike for what exists behind the wall and for what does not exist at all.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_cannot_be_told_from_what_is_not_there() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    for (path, text) in [
        ("Patient/p1", patient("p1").to_string()),
        (
            "Condition/c1",
            r#"{"resourceType":"Condition","id":"c1","code":{"coding":[{"system":"http://snomed.info/sct","code":"86406008"}]},"subject":{"reference":"Patient/p1"},"onsetDateTime":"2019-04-05"}"#.to_owned(),
        ),
        (
            "Observation/o1",
            observation("p1", "6.3").replacen(r#""status""#, r#""id":"o1","status""#, 1),
        ),
    ] {
        let made = home.put_text(&node.fhir(path), text).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
    }
    let other = folder.json(&[
        "org",
        "add",
        "Kos Heart Centre",
        "--kind",
        "hospital",
        "--json",
    ]);
    let other = other["organization"].as_str().unwrap();
    folder.json(&[
        "grant",
        "p1",
        "--to",
        other,
        "--categories",
        "laboratory",
        "--days",
        "30",
        "--json",
    ]);
    let away = Client::new(folder.token("system/*.cruds", Some(other)));
    assert_eq!(away.get(&node.fhir("Observation/o1")).await.status, 200);

    // (address with a value that is there behind the wall, the same with one that is nowhere)
    for (hidden, nowhere) in [
        ("Condition/c1", "Condition/c2"),
        ("Condition/c1/_history", "Condition/c2/_history"),
        ("Condition/c1/_history/1", "Condition/c2/_history/1"),
        ("Condition/c1/$proof", "Condition/c2/$proof"),
        ("Patient/p1", "Patient/p2"),
        ("Patient/p1/_history", "Patient/p2/_history"),
        ("Patient/p1/$log-proof", "Patient/p2/$log-proof"),
        (
            "Condition?_id=c1&_total=accurate",
            "Condition?_id=c2&_total=accurate",
        ),
        (
            "Condition?code=86406008&_summary=count",
            "Condition?code=1&_summary=count",
        ),
        (
            "Condition?code:not=1&_total=accurate",
            "Condition?code=1&_total=accurate",
        ),
        (
            "Condition?onset-date=2019&_sort=onset-date&_total=accurate",
            "Condition?onset-date=1919&_sort=onset-date&_total=accurate",
        ),
        (
            "Condition?patient=Patient/p1&_total=accurate",
            "Condition?patient=Patient/p2&_total=accurate",
        ),
        (
            "Condition?patient.birthdate=1970-01-02&_total=accurate",
            "Condition?patient.birthdate=1999-01-02&_total=accurate",
        ),
        (
            "Patient?family=Testfamily&_total=accurate",
            "Patient?family=Nobody&_total=accurate",
        ),
        (
            "Patient?birthdate:missing=false&_total=accurate",
            "Patient?family=Nobody&_total=accurate",
        ),
        (
            "Patient?_has:Condition:patient:code=86406008&_total=accurate",
            "Patient?_has:Condition:patient:code=1&_total=accurate",
        ),
        (
            "Patient?_has:Observation:patient:code=4548-4&_total=accurate",
            "Patient?_has:Observation:patient:code=1&_total=accurate",
        ),
        (
            "Observation?patient.family=Testfamily&_total=accurate",
            "Observation?patient.family=Nobody&_total=accurate",
        ),
        (
            "Observation?subject:Patient.birthdate=1970-01-02&_total=accurate",
            "Observation?subject:Patient.birthdate=1999-01-02&_total=accurate",
        ),
        (
            "Observation?patient._has:Condition:patient:code=86406008&_total=accurate",
            "Observation?patient._has:Condition:patient:code=1&_total=accurate",
        ),
        (
            "Observation?_include=Observation:subject&code=4548-4",
            "Observation?code=4548-4",
        ),
        (
            "Patient?_id=p1&_revinclude=Condition:patient&_total=accurate",
            "Patient?_id=p2&_revinclude=Condition:patient&_total=accurate",
        ),
        ("Condition/_history", "Procedure/_history"),
        ("AuditEvent?patient=p1", "AuditEvent?patient=p2"),
        (
            "Provenance?target=Condition/c1",
            "Provenance?target=Condition/c2",
        ),
    ] {
        let seen = probe(&away, &node, "GET", hidden, None).await;
        let unseen = probe(&away, &node, "GET", nowhere, None).await;
        assert_eq!(seen, unseen, "{hidden} is told from {nowhere}");
    }

    let condition = |id: &str| {
        format!(
            r#"{{"resourceType":"Condition","id":"{id}","code":{{"text":"x"}},"subject":{{"reference":"Patient/p1"}}}}"#
        )
    };
    for (method, hidden, nowhere) in [
        ("DELETE", "Condition/c1", "Condition/c2"),
        ("DELETE", "Condition?code=86406008", "Condition?code=1"),
        ("PUT", "Condition?code=86406008", "Condition?code=1"),
    ] {
        let body = (method == "PUT").then(|| condition("c9"));
        let seen = probe(&away, &node, method, hidden, body.clone()).await;
        let unseen = probe(&away, &node, method, nowhere, body).await;
        assert_eq!(seen, unseen, "{method} {hidden} is told from {nowhere}");
    }
    assert_eq!(
        home.get(&node.fhir("Condition/c1")).await.status,
        200,
        "and nothing happened to it"
    );
    let everything = away.get(&node.fhir("Patient/p1/$everything")).await;
    assert!(
        !everything.text.contains("Condition"),
        "{}",
        everything.text
    );
    assert!(
        !everything.text.contains("Testfamily"),
        "{}",
        everything.text
    );
    node.stop();
}

/// Status, total and shown resources: all that an answer discloses apart from the words of the question.
async fn probe(
    client: &Client,
    node: &Running,
    method: &str,
    path: &str,
    body: Option<String>,
) -> (u16, Option<u64>, Vec<String>) {
    let body = body.map(|body| ("application/fhir+json", body));
    let answer = client.send(method, &node.fhir(path), body).await;
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let shown = value["entry"].as_array().into_iter().flatten();
    let shown = shown
        .filter_map(|entry| entry["resource"]["id"].as_str())
        .map(str::to_owned)
        .collect();
    (answer.status, value["total"].as_u64(), shown)
}
