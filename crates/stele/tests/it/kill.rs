//! `kill -9` at random moments of an import. What was acknowledged is there afterwards, nothing is half there, and the
//! import goes on. `STELE_KILLS` says how often, 50 by default; `cargo xtask kill --rounds N` does it longer. The seed is
//! printed, and `STELE_SEED` repeats the delays of a run.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    faults::number,
    node::{Client, Folder, Running, demo, patient},
    random::Random,
};

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
    let kills = number("STELE_KILLS", 50);
    let mut random = Random::from_environment("kills");
    let folder = Folder::new();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut tried: Vec<String> = Vec::new();
    for round in 0..kills {
        let node = folder.start();
        let client = Client::new(folder.token("system/*.cruds", None));
        check(&client, &node, &acknowledged, &tried, round + 1 == kills).await;
        // From before the first bundle arrives to after several were answered.
        let delay = Duration::from_millis(random.below(180));
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
    the_index_equals_the_ledger(&folder, node).await;
}

/// LIM-09: `stele import` is cut off again and again, and goes on: in the end every resource is there once.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_cut_off_goes_on() {
    let folder = Folder::new();
    let mut random = Random::from_environment("cut-off imports");
    let bundles = demo();
    let bundles = bundles.to_str().unwrap();
    for _ in 0..number("STELE_KILLS", 50).div_ceil(10) {
        let node = folder.start();
        let mut import = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(["import", bundles, "--json"])
            .env("STELE_DATA", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100 + random.below(2_000))).await;
        node.kill();
        import.kill().unwrap();
        import.wait().unwrap();
    }
    let node = folder.start();
    let done = folder.json(&["import", bundles, "--json"]);
    assert_eq!(done["failed"], 0, "{done}");
    let again = folder.json(&["import", bundles, "--json"]);
    assert_eq!(again["created"], 0, "{again}");
    assert_eq!(again["unchanged"], again["resources"], "{again}");
    the_index_equals_the_ledger(&folder, node).await;
}

/// Chain and vault verify, and an index that is made anew from them gives the answers that the one before gave.
async fn the_index_equals_the_ledger(folder: &Folder, node: Running) {
    const QUERIES: [&str; 4] = [
        "Patient?_sort=_id&_count=1000&_total=accurate&_elements=id",
        "Observation?_sort=_id&_count=1000&_total=accurate&_elements=id",
        "Encounter?_summary=count",
        "Condition?_sort=code,_id&_count=500&_total=accurate&_elements=id",
    ];
    let before = answers(folder, &node, &QUERIES).await;
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
    assert_eq!(folder.json(&["index", "rebuild", "--json"])["skipped"], 0);
    let node = folder.start();
    assert_eq!(answers(folder, &node, &QUERIES).await, before);
    node.stop();
}

/// Totals and ids, page by page as they come.
async fn answers(folder: &Folder, node: &Running, queries: &[&str]) -> Vec<(u64, Vec<String>)> {
    let client = Client::new(folder.token("system/*.cruds", None));
    let mut found = Vec::new();
    for query in queries {
        let page = client.get(&node.fhir(query)).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        let page = page.json();
        let ids = page["entry"].as_array().cloned().unwrap_or_default();
        let ids = ids
            .iter()
            .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
            .collect();
        found.push((page["total"].as_u64().unwrap(), ids));
    }
    found
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
