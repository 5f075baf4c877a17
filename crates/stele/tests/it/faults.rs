//! Damage and want: flipped bytes in blobs and in the chain's files, a full disk, wrong keys.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    node::{Client, Folder, Running, observation, patient},
    random::Random,
    small_disk::until,
};

/// NFR-INT1, S04: one flipped byte in a stored blob, small or large: that record is named and withheld wherever it would
/// be shown, everything else is served, and `stele verify vault` names it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_costs_one_record_and_names_it() {
    let folder = Folder::new();
    let node = folder.start();
    let client = client_of(&folder);
    fill_with_observations(&client, &node, 6).await;
    let large = "0123456789abcdef".repeat(40_000);
    let text = format!(
        r#"{{"resourceType":"DocumentReference","id":"d1","status":"current","subject":{{"reference":"Patient/p1"}},"content":[{{"attachment":{{"title":"{large}"}}}}]}}"#
    );
    let made = client
        .put_text(&node.fhir("DocumentReference/d1"), text)
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut places = Vec::new();
    for record in ["Observation/o3", "DocumentReference/d1"] {
        places.push((record, ciphertext(&client, &node, record).await));
    }
    node.stop();

    for (record, bytes) in &places {
        let (file, at) = find(&folder.path().join("vault"), bytes);
        flip(&file, at + 7);
        let node = folder.start();
        let client = client_of(&folder);
        only_this_is_withheld(&client, &node, record).await;
        node.stop();
        let (code, said) = folder.stele(&["verify", "vault", "--json"]);
        assert_eq!(code, 1, "{said}");
        let said: Value = serde_json::from_str(said.trim()).unwrap();
        let named: Vec<&str> = said["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["resource"].as_str().unwrap())
            .collect();
        assert_eq!(named, [*record], "{said}");
        flip(&file, at + 7);
    }
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
}

/// Reads, searches and `$everything` leave out `record`, say so, and show all others.
async fn only_this_is_withheld(client: &Client, node: &Running, record: &str) {
    let all = ["Patient/p1", "DocumentReference/d1"].map(str::to_owned);
    let all = all
        .into_iter()
        .chain((0..6).map(|n| format!("Observation/o{n}")));
    for one in all {
        let read = client.get(&node.fhir(&one)).await;
        if one == record {
            assert_eq!(read.status, 500, "{one}: {}", read.text);
            assert_eq!(read.json()["resourceType"], "OperationOutcome");
            assert!(
                read.text.contains(record) && read.text.contains("does not match"),
                "{}",
                read.text
            );
        } else {
            assert_eq!(read.status, 200, "{one}: {}", read.text);
        }
    }
    let kind = record.split('/').next().unwrap();
    let others = if kind == "Observation" { 5 } else { 0 };
    for (query, shown) in [
        (format!("{kind}?patient=p1&_count=50"), others),
        ("Patient/p1/$everything?_count=50".to_owned(), 7),
    ] {
        let found = client.get(&node.fhir(&query)).await;
        assert_eq!(found.status, 200, "{query}: {}", found.text);
        let found = found.json();
        let entries = found["entry"].as_array().unwrap();
        let names: Vec<String> = entries
            .iter()
            .map(|entry| &entry["resource"])
            .filter(|resource| resource["resourceType"] != "OperationOutcome")
            .map(|resource| {
                format!(
                    "{}/{}",
                    resource["resourceType"].as_str().unwrap(),
                    resource["id"].as_str().unwrap()
                )
            })
            .collect();
        assert!(
            !names.iter().any(|name| name == record),
            "{query}: {names:?}"
        );
        assert_eq!(names.len(), shown, "{query}: {names:?}");
        let outcome = entries
            .iter()
            .find(|entry| entry["resource"]["resourceType"] == "OperationOutcome")
            .unwrap_or_else(|| panic!("{query} says nothing of what it withholds: {found}"));
        assert!(outcome.to_string().contains(record), "{outcome}");
    }
}

/// NFR-INT1: one flipped byte anywhere in the chain's files is either in bytes that nothing is read from, or it is found:
/// `stele verify chain` says no and names the height, and a node refuses to start or serves what was there before.
/// `STELE_FLIPS` says how many bytes; the seed is printed and `STELE_SEED` repeats a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_chains_files_is_never_served_as_good() {
    let flips: usize = number("STELE_FLIPS", 60);
    let folder = Folder::new();
    let node = folder.start();
    let client = client_of(&folder);
    fill_with_observations(&client, &node, 4).await;
    let before = blocks(&node).await;
    node.stop();
    let good = folder.json(&["verify", "chain", "--json"]);
    let whole = folder.beside("whole");
    copy(&folder.path(), &whole);
    let mut files = Vec::new();
    for part in ["chain", "consensus"] {
        list(&whole.join(part), &mut files);
    }
    files.retain(|file| used_bytes(file) > 0);
    assert!(files.len() > 5, "{files:?}");

    let mut random = Random::from_environment("flipped bytes");
    let (mut detected, mut harmless, mut started) = (0, 0, 0);
    for round in 0..flips {
        fs::remove_dir_all(folder.path()).unwrap();
        copy(&whole, &folder.path());
        // Every file has its turn, then again at other places.
        let file = &files[round % files.len()];
        let at = random.below(used_bytes(file));
        let name = file.strip_prefix(&whole).unwrap();
        flip_bit(&folder.path().join(name), at, random.below(8));
        let context = format!("{} byte {at}", name.display());
        let (code, said) = folder.stele(&["verify", "chain", "--json"]);
        let said: Value = serde_json::from_str(said.trim())
            .unwrap_or_else(|error| panic!("{context}: exit code {code}, {said:?}: {error}"));
        if code == 0 {
            assert!(
                name.starts_with("consensus") || said["height"].as_u64() >= good["height"].as_u64(),
                "{context}: {said}"
            );
            for part in ["height", "hash", "stateRoot"] {
                assert_eq!(said[part], good[part], "{context}: {said}");
            }
            harmless += 1;
        } else {
            assert_eq!(code, 1, "{context}: {said}");
            let what = said["what"].as_str().unwrap();
            assert!(
                what.contains("height") || what.contains("block"),
                "{context}: no height in {what:?}"
            );
            detected += 1;
        }
        // Starting takes longer than verifying: a part of the rounds, and always those with consensus' own files.
        if round % 4 == 0 || name.starts_with("consensus") {
            started += usize::from(serves_the_same(&folder, &before, &context).await);
        }
    }
    println!("{detected} flips detected, {harmless} harmless, {started} starts");
    assert!(detected > flips / 4, "{detected} of {flips} detected");
}

/// Starts a node: it may refuse, naming a reason, but what it serves is what was there before.
async fn serves_the_same(folder: &Folder, before: &[Value], context: &str) -> bool {
    let node = match folder.try_start(&[]) {
        Ok(node) => node,
        Err(said) => {
            assert!(said.contains("error"), "{context}: {said:?}");
            return false;
        }
    };
    for (height, expected) in before.iter().enumerate() {
        let asked = json!([format!("0x{height:x}"), true]);
        // A node that finds the damage while it runs stops, and then answers nothing.
        let Ok(answer) = try_rpc(&node, "eth_getBlockByNumber", asked).await else {
            node.kill();
            return false;
        };
        if answer.get("error").is_none() {
            assert_eq!(&answer["result"], expected, "{context}: block {height}");
        }
    }
    node.kill();
    true
}

/// All blocks of a node with their transactions.
async fn blocks(node: &Running) -> Vec<Value> {
    let head = rpc(node, "eth_blockNumber", json!([])).await;
    let head = head["result"].as_str().unwrap().trim_start_matches("0x");
    let head = u64::from_str_radix(head, 16).unwrap();
    let mut blocks = Vec::new();
    for height in 0..=head {
        let answer = rpc(
            node,
            "eth_getBlockByNumber",
            json!([format!("0x{height:x}"), true]),
        )
        .await;
        assert!(answer["result"].is_object(), "{answer}");
        blocks.push(answer["result"].clone());
    }
    blocks
}

/// A disk that is full for real: writes are refused with a reason, reads go on with their receipts, blocks follow, what
/// was allowed can be revoked and what was recorded erased, a node that is killed starts again, and everything goes on
/// once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let folder = Folder::on_small_disk(192);
    let disk = folder.disk();
    let config = folder.beside("stele.toml");
    fs::write(&config, "reserve_bytes = 33554432\nheartbeat_ms = 1000\n").unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let node = folder.start_with(&config);
    let client = client_of(&folder);
    fill_with_observations(&client, &node, 3).await;
    let other = folder.json(&[
        "org",
        "add",
        "Kos Heart Centre",
        "--kind",
        "hospital",
        "--json",
    ]);
    let other = other["organization"].as_str().unwrap();
    let granted = folder.json(&[
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
    let grant = granted["id"].as_u64().unwrap().to_string();
    let away = Client::new(folder.token("system/*.rs", Some(other)));
    assert_eq!(away.get(&node.fhir("Observation/o1")).await.status, 200);
    assert!(disk.path("spare").exists());

    disk.fill();
    until("the spare file is given back", async || {
        !disk.path("spare").exists()
    })
    .await;
    for body in [observation("p1", "7.7"), patient("p2").to_string()] {
        let kind = if body.contains("Testfamily") {
            "Patient"
        } else {
            "Observation"
        };
        let refused = client.post_text(&node.fhir(kind), body).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        let outcome = refused.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        assert_eq!(outcome["issue"][0]["code"], "no-store", "{outcome}");
    }
    let upload = client
        .send(
            "POST",
            &node.fhir("Binary"),
            Some(("application/octet-stream", "x".repeat(3 << 20))),
        )
        .await;
    assert_eq!(upload.status, 503, "{}", upload.text);
    assert_eq!(upload.json()["issue"][0]["code"], "no-store");
    reads_go_on(&client, &node).await;
    let height = height(&node).await;
    until("blocks follow", async || {
        self::height(&node).await > height + 1
    })
    .await;
    assert_eq!(
        folder
            .stele(&["revoke", "p1", "--from", other, "--id", &grant])
            .0,
        0,
        "a full disk keeps nobody from ending access"
    );
    assert_eq!(away.get(&node.fhir("Observation/o1")).await.status, 404);
    assert_eq!(
        folder.stele(&["erase", "Observation/o2", "--yes"]).0,
        0,
        "nor from erasing"
    );

    node.kill();
    let node = folder.start_with(&config);
    let client = client_of(&folder);
    reads_go_on(&client, &node).await;
    let erased = client.get(&node.fhir("Observation/o2")).await.status;
    assert!(matches!(erased, 404 | 410), "{erased}");

    disk.empty();
    until("writes are taken again", async || {
        let made = client
            .post_text(&node.fhir("Observation"), observation("p1", "8.8"))
            .await;
        assert!(matches!(made.status, 201 | 503), "{}", made.text);
        made.status == 201
    })
    .await;
    until("the spare file is there again", async || {
        disk.path("spare").exists()
    })
    .await;
    let found = client
        .get(&node.fhir("Observation?patient=p1&_total=accurate"))
        .await
        .json();
    assert_eq!(
        found["total"], 3,
        "the refused ones are not half there: {found}"
    );
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
}

async fn reads_go_on(client: &Client, node: &Running) {
    for _ in 0..20 {
        for path in [
            "Observation/o0",
            "Patient/p1",
            "Observation?patient=p1",
            "Patient/p1/$everything",
        ] {
            let read = client.get(&node.fhir(path)).await;
            assert_eq!(read.status, 200, "{path}: {}", read.text);
        }
    }
}

/// NFR-SEC2: the data folder opens with its key file only, and a rotated key file opens it instead of the old one. A
/// passphrase in the key file's place is refused as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_opens_with_its_key_only_and_the_key_can_be_changed() {
    let folder = Folder::new();
    let node = folder.start();
    let client = client_of(&folder);
    fill_with_observations(&client, &node, 1).await;
    node.stop();
    let key = folder.beside("data.key");
    let wrong = folder.beside("wrong.key");
    fs::write(&wrong, [7; 32]).unwrap();
    let short = folder.beside("short.key");
    fs::write(&short, [7; 31]).unwrap();
    for file in [&wrong, &short, &folder.beside("absent.key")] {
        let said = folder
            .try_start(&["--key-file", file.to_str().unwrap()])
            .err()
            .expect("a node started with a wrong key");
        assert!(said.contains("key"), "{said}");
        let (code, _) = folder.stele(&["verify", "vault", "--key-file", file.to_str().unwrap()]);
        assert_eq!(code, 2, "{}", file.display());
    }
    let passphrase = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["verify", "vault"])
        .env("STELE_DATA", folder.path())
        .env("STELE_PASSPHRASE", "correct horse battery staple")
        .output()
        .unwrap();
    assert_eq!(passphrase.status.code(), Some(2));

    let new = folder.beside("new.key");
    assert_eq!(
        folder
            .stele(&["keys", "rotate", "--to", new.to_str().unwrap()])
            .0,
        0
    );
    assert!(
        folder.try_start(&[]).is_err(),
        "the old key opens nothing any more"
    );
    fs::rename(&new, &key).unwrap();
    let node = folder.start();
    let client = client_of(&folder);
    assert_eq!(client.get(&node.fhir("Observation/o0")).await.status, 200);
    node.stop();
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
}

fn client_of(folder: &Folder) -> Client {
    Client::new(folder.token("system/*.cruds", None))
}

/// One patient, `p1`, with observations `o0`, `o1` and so on.
async fn fill_with_observations(client: &Client, node: &Running, count: usize) {
    let made = client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    for n in 0..count {
        let text = observation("p1", &format!("6.{n}")).replacen(
            r#""status""#,
            &format!(r#""id":"o{n}","status""#),
            1,
        );
        let made = client
            .put_text(&node.fhir(&format!("Observation/o{n}")), text)
            .await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
}

/// The first bytes of what is stored for a record, as IPFS serves them.
async fn ciphertext(client: &Client, node: &Running, record: &str) -> Vec<u8> {
    let proof = client.get(&node.fhir(&format!("{record}/$proof"))).await;
    assert_eq!(proof.status, 200, "{}", proof.text);
    let text = proof.json()["leaf"]["cid"].as_str().unwrap().to_owned();
    let bytes: alloy_primitives::Bytes = text.parse().unwrap();
    let cid = cid::Cid::try_from(bytes.as_ref()).unwrap();
    let car = client
        .bytes(&node.url(&format!("/ipfs/{cid}?format=car")))
        .await;
    // The last block of a CAR in depth-first order is a leaf: its end is ciphertext and nothing else.
    car[car.len() - 48..].to_vec()
}

/// The one place in a folder's files where bytes stand. A journal is not looked at: after a clean end nothing is read
/// from it any more.
fn find(folder: &Path, bytes: &[u8]) -> (PathBuf, u64) {
    let mut files = Vec::new();
    list(folder, &mut files);
    files.retain(|file| file.extension().is_none_or(|extension| extension != "jnl"));
    let mut found = Vec::new();
    for file in files {
        let content = fs::read(&file).unwrap();
        for (at, window) in content.windows(bytes.len()).enumerate() {
            if window == bytes {
                found.push((file.clone(), at as u64));
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Length of a file without the zeros that a journal is filled up with.
fn used_bytes(file: &Path) -> u64 {
    let content = fs::read(file).unwrap();
    let last = content.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last as u64 + 1)
}

fn flip(file: &Path, at: u64) {
    flip_bit(file, at, 0);
}

fn flip_bit(file: &Path, at: u64, bit: u64) {
    let mut content = fs::read(file).unwrap();
    content[usize::try_from(at).unwrap()] ^= 1 << bit;
    fs::write(file, content).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .args(["--recursive", "--sparse=always"])
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success());
}

async fn height(node: &Running) -> u64 {
    let answer = rpc(node, "eth_blockNumber", json!([])).await;
    let text = answer["result"]
        .as_str()
        .unwrap()
        .trim_start_matches("0x")
        .to_owned();
    u64::from_str_radix(&text, 16).unwrap()
}

pub(crate) async fn rpc(node: &Running, method: &str, params: Value) -> Value {
    try_rpc(node, method, params).await.unwrap()
}

/// The same, of a node that may end.
async fn try_rpc(node: &Running, method: &str, params: Value) -> reqwest::Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let url = node.ready["rpc"].as_str().unwrap();
    let answer = reqwest::Client::new()
        .post(url)
        .json(&request)
        .send()
        .await?;
    answer.json().await
}

pub(crate) fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}: {error}"))
    })
}
