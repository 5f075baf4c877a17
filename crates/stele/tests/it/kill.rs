//! `kill -9` at random moments of an import. What was acknowledged is there afterwards, nothing is half there, and the
//! import goes on. `STELE_KILLS` says how often; 50 by default.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::node::{Client, Folder, Running, patient};

/// A transaction of one patient with ten observations.
fn bundle(round: usize, n: usize) -> serde_json::Value {
    let id = format!("k{round}x{n}");
    let mut entry = vec![json!({
        "resource": patient(&id), "request": { "method": "PUT", "url": format!("Patient/{id}") }
    })];
    for i in 0..10 {
        entry.push(json!({
            "resource": {
                "resourceType": "Observation", "id": format!("{id}-{i}"), "status": "final",
                "code": { "text": "a value" }, "subject": { "reference": format!("Patient/{id}") },
                "valueInteger": i
            },
            "request": { "method": "PUT", "url": format!("Observation/{id}-{i}") }
        }));
    }
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entry })
}

/// LIM-09, NFR-INT1: fifty crashes lose nothing acknowledged and leave no half bundle.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_nothing_acknowledged_is_lost() {
    let kills: usize = std::env::var("STELE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50);
    let folder = Folder::new();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut tried: Vec<String> = Vec::new();
    for round in 0..kills {
        let node = folder.start();
        let client = Client::new(folder.token("system/*.cruds", None));
        check(&client, &node, &acknowledged, &tried, round + 1 == kills).await;
        // A delay that walks through the life of a bundle, from before it arrives to after it is answered.
        let delay = Duration::from_millis((round as u64 * 37) % 180);
        let url = node.url("/fhir/r4");
        let token = folder.token("system/*.cruds", None);
        let writer = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut done = Vec::new();
            let mut tried = Vec::new();
            for n in 0..1000 {
                tried.push(format!("k{round}x{n}"));
                let sent = client
                    .post(&url)
                    .bearer_auth(&token)
                    .header("content-type", "application/fhir+json")
                    .body(bundle(round, n).to_string())
                    .send()
                    .await;
                let Ok(answer) = sent else { break };
                let good = answer.status().is_success();
                // An answer counts only when all of it arrived.
                if answer.bytes().await.is_err() {
                    break;
                }
                assert!(good, "a bundle was refused");
                done.push(format!("k{round}x{n}"));
            }
            (done, tried)
        });
        tokio::time::sleep(delay).await;
        node.kill();
        let (done, more) = writer.await.unwrap();
        acknowledged.extend(done);
        tried.extend(more);
    }
    assert!(!acknowledged.is_empty(), "some bundles were acknowledged");
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    check(&client, &node, &acknowledged, &tried, true).await;
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
}

/// Every acknowledged bundle is there; every other is there whole or not at all.
async fn check(
    client: &Client,
    node: &Running,
    acknowledged: &[String],
    tried: &[String],
    all: bool,
) {
    let recent = if all {
        0
    } else {
        tried.len().saturating_sub(12)
    };
    for id in &tried[recent..] {
        let found = client
            .get(&node.fhir(&format!("Observation?patient={id}&_summary=count")))
            .await
            .json();
        let count = found["total"].as_u64().unwrap();
        let whole = client
            .get(&node.fhir(&format!("Patient/{id}")))
            .await
            .status
            == 200;
        let expected = if whole { 10 } else { 0 };
        assert_eq!(count, expected, "{id} is half there");
        if acknowledged.contains(id) {
            assert!(whole, "{id} was acknowledged and is lost");
        }
    }
}

/// One process a folder; an older program refuses a newer folder's format.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_and_a_newer_folder_are_refused() {
    let folder = Folder::new();
    let node = folder.start();
    let second = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args([
            "up",
            "--http",
            "127.0.0.1:0",
            "--rpc",
            "127.0.0.1:0",
            "--mllp",
            "off",
            "--data",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use"), "{said}");
    node.stop();
    fs::write(folder.path().join("format"), "999").unwrap();
    let (code, _) = folder.stele(&["verify", "vault"]);
    assert_eq!(code, 2, "an older program refuses a newer folder");
}
