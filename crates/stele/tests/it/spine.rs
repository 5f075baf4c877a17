//! The main job: import, anchor, search, read, prove, rebuild, back up, erase, restore.

use std::{fs, process::Command};

use serde_json::Value;

use crate::node::{Client, Folder, demo, observation, patient};

/// FR-D06, NFR-INTEROP1, FR-R6, FR-P24, S29, LIM-02: real bundles come in once and only once, are found, read and
/// proven; the proof holds without a node, and no more after one byte of it changed.
#[tokio::test(flavor = "multi_thread")]
async fn real_bundles_are_imported_found_read_and_proven() {
    let folder = Folder::new();
    let node = folder.start();
    let demo = demo();
    let first = folder.json(&["import", demo.to_str().unwrap(), "--json"]);
    assert_eq!(first["failed"], 0, "{first}");
    assert!(first["created"].as_u64().unwrap() > 500, "{first}");
    let again = folder.json(&["import", demo.to_str().unwrap(), "--json"]);
    assert_eq!(
        (again["created"].as_u64(), again["failed"].as_u64()),
        (Some(0), Some(0)),
        "{again}"
    );
    assert_eq!(again["unchanged"], again["resources"], "{again}");

    let client = Client::new(folder.token("system/*.cruds", None));
    let found = client
        .get(&node.fhir("Observation?_count=1&_total=accurate"))
        .await;
    assert_eq!(found.status, 200, "{}", found.text);
    let found = found.json();
    assert!(found["total"].as_u64().unwrap() > 100, "{}", found["total"]);
    let resource = &found["entry"][0]["resource"];
    let id = format!("Observation/{}", resource["id"].as_str().unwrap());
    let subject = resource["subject"]["reference"]
        .as_str()
        .unwrap()
        .to_owned();

    let everything = client
        .get(&node.fhir(&format!("{subject}/$everything")))
        .await
        .json();
    assert!(everything["entry"].as_array().unwrap().len() > 10);

    let proof = folder.beside("proof.json");
    let proof_path = proof.to_str().unwrap();
    let said = folder.json(&["verify", "record", &id, "--out", proof_path, "--json"]);
    assert_eq!(said["ok"], true, "{said}");
    let genesis = folder.path().join("genesis.json");
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("genesis.json");
    fs::copy(&genesis, &copy).unwrap();
    node.stop();

    // No node, another folder: only the proof and the genesis.
    let verify = |file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(["verify", "proof", file, "--json", "--genesis"])
            .arg(&copy)
            .current_dir(elsewhere.path())
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), answer)
    };
    let (code, answer) = verify(proof_path);
    assert_eq!(
        (code, &answer["ok"]),
        (Some(0), &Value::Bool(true)),
        "{answer}"
    );

    let text = fs::read_to_string(&proof).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    let content = changed["disclosure"]["content"].as_str().unwrap();
    let flipped = if content.starts_with('A') { "B" } else { "A" };
    changed["disclosure"]["content"] = format!("{flipped}{}", &content[1..]).into();
    let bad = folder.beside("bad.json");
    fs::write(&bad, changed.to_string()).unwrap();
    let (code, answer) = verify(bad.to_str().unwrap());
    assert_eq!(
        (code, &answer["ok"]),
        (Some(1), &Value::Bool(false)),
        "{answer}"
    );
    assert_eq!(answer["where"], "content");

    let chain = folder.json(&["verify", "chain", "--json"]);
    assert_eq!(chain["ok"], true, "{chain}");
    let vault = folder.json(&["verify", "vault", "--json"]);
    assert_eq!(vault["ok"], true, "{vault}");
}

/// What a client sent comes back as sent: decimals, order of members, unknown extensions. S19: one element is
/// disclosed and no other.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_back_as_sent_and_one_element_is_proven() {
    let folder = Folder::new();
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    let made = client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let sent = observation("p1", "6.30");
    let made = client
        .post_text(&node.fhir("Observation"), sent.clone())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let read = client.get(&node.fhir(&format!("Observation/{id}"))).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let tail = &sent[sent.find("\"status\"").unwrap()..];
    assert!(read.text.ends_with(tail), "{}\n{tail}", read.text);
    assert!(read.text.contains("6.30"));

    let record = format!("Observation/{id}");
    let out = folder.beside("element.json");
    let said = folder.json(&[
        "verify",
        "record",
        &record,
        "--element",
        "/valueQuantity/value",
        "--out",
        out.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(said["disclosed"][0]["value"], "6.30", "{said}");
    let file = fs::read_to_string(&out).unwrap();
    assert!(
        !file.contains("4548-4") && !file.contains("Patient/p1"),
        "nothing else is disclosed"
    );

    let whole = folder.json(&["verify", "patient", "p1", "--json"]);
    assert_eq!(whole["ok"], true, "{whole}");
    assert_eq!(whole["records"], 2, "{whole}");
    node.stop();
}

/// FR-P05, FR-A6, FR-D08, LIM-08: versions, deletion, erasure; a backup made before the erasure does not bring it back.
#[tokio::test(flavor = "multi_thread")]
async fn erased_records_stay_erased_after_a_restore() {
    let folder = Folder::new();
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    for value in ["5.1", "5.2"] {
        let text = observation("p1", value).replacen("{", r#"{"id":"o1","#, 1);
        let text = text.replace(
            r#"{"id":"o1","resourceType":"Observation","#,
            r#"{"resourceType":"Observation","id":"o1","#,
        );
        let done = client.put_text(&node.fhir("Observation/o1"), text).await;
        assert!(done.status < 300, "{}", done.text);
    }
    let history = client
        .get(&node.fhir("Observation/o1/_history"))
        .await
        .json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 2, "{history}");
    node.stop();

    let backup = folder.beside("backup.tar.gz");
    let backup = backup.to_str().unwrap();
    assert_eq!(folder.stele(&["backup", "--out", backup]).0, 0);

    let node = folder.start();
    assert_eq!(folder.stele(&["erase", "Observation/o1", "--yes"]).0, 0);
    let gone = client_of(&folder).get(&node.fhir("Observation/o1")).await;
    assert!(
        matches!(gone.status, 404 | 410),
        "{} {}",
        gone.status,
        gone.text
    );
    let whole = folder.json(&["verify", "patient", "p1", "--json"]);
    assert_eq!(whole["ok"], true, "the chain still verifies: {whole}");
    assert!(whole["erased"].as_u64().unwrap() >= 1, "{whole}");
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
    // What the administrator's page says of it.
    let upkeep = fs::read_to_string(folder.beside("data.upkeep")).unwrap();
    let upkeep: Value = serde_json::from_str(&upkeep).unwrap();
    for (task, is_done) in [
        ("backup", true),
        ("chainCheck", true),
        ("vaultCheck", false),
    ] {
        assert_eq!(upkeep[task]["ok"] == true, is_done, "{upkeep}");
    }

    fs::rename(folder.path(), folder.beside("old")).unwrap();
    let restored = folder.json(&["restore", "--from", backup, "--json"]);
    assert_eq!(restored["erased"], 1, "{restored}");
    let node = folder.start();
    let client = client_of(&folder);
    assert_eq!(client.get(&node.fhir("Patient/p1")).await.status, 200);
    let back = client.get(&node.fhir("Observation/o1")).await;
    assert!(
        matches!(back.status, 404 | 410),
        "{} {}",
        back.status,
        back.text
    );
    node.stop();
}

fn client_of(folder: &Folder) -> Client {
    Client::new(folder.token("system/*.cruds", None))
}

/// The index can be dropped: a rebuilt one gives the same answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_index_gives_the_same_answers() {
    const QUERIES: [&str; 5] = [
        "Observation?_sort=-date&_count=50&_total=accurate",
        "Condition?_sort=_lastUpdated,code&_count=50&_total=accurate",
        "Patient?_sort=family&_total=accurate",
        "Encounter?_summary=count",
        "Observation?code=http://loinc.org|8302-2&_sort=date&_count=50&_total=accurate",
    ];
    let folder = Folder::new();
    let node = folder.start();
    let bundle = demo().join("085e81c0-7a95-ef02-16ef-aa1b4344deed.json.bz2");
    let directory = demo();
    for file in [
        directory.join("0-hospitals.json.bz2"),
        directory.join("0-practitioners.json.bz2"),
        bundle,
    ] {
        assert_eq!(
            folder.json(&["import", file.to_str().unwrap(), "--json"])["failed"],
            0
        );
    }
    let client = client_of(&folder);
    client
        .send("DELETE", &node.fhir(&first_id(&client, &node).await), None)
        .await;
    let mut before = Vec::new();
    for query in QUERIES {
        before.push(answers(&client, &node.fhir(query)).await);
    }
    node.stop();
    let done = folder.json(&["index", "rebuild", "--json"]);
    assert_eq!(done["skipped"], 0, "{done}");
    let node = folder.start();
    let client = client_of(&folder);
    for (query, before) in QUERIES.iter().zip(before) {
        assert_eq!(answers(&client, &node.fhir(query)).await, before, "{query}");
    }
    node.stop();
}

async fn first_id(client: &Client, node: &crate::node::Running) -> String {
    let found = client.get(&node.fhir("Observation?_count=1")).await.json();
    format!(
        "Observation/{}",
        found["entry"][0]["resource"]["id"].as_str().unwrap()
    )
}

/// What a search says, without the parts that depend on the address and the moment.
async fn answers(client: &Client, url: &str) -> (Value, Vec<Value>) {
    let found = client.get(url).await;
    assert_eq!(found.status, 200, "{url}: {}", found.text);
    let found = found.json();
    let entries = found["entry"].as_array().cloned().unwrap_or_default();
    (
        found["total"].clone(),
        entries
            .into_iter()
            .map(|entry| entry["resource"].clone())
            .collect(),
    )
}
