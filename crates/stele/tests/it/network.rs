//! Consortia of several members, as processes of their own on the loopback interface.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    consortium::{Consortium, free_ports, quantity, stele},
    node::{Client, patient},
};

/// S15, NFR-CON, NFR-REL1: four members agree on every block and state root; a write given to one is seen by all; the
/// crash of one stops nobody, the crash of two stops writing and no reading, and whoever comes back catches up.
#[tokio::test(flavor = "multi_thread")]
async fn four_members_agree_through_crashes() {
    let mut consortium = Consortium::running(4);
    let client = consortium.client(1, "system/*.cruds", None);
    let write = |id: &'static str| {
        let (client, url) = (&client, consortium.fhir(1, &format!("Patient/{id}")));
        async move { client.put_text(&url, patient(id).to_string()).await }
    };
    assert_eq!(write("all-up").await.status, 201);
    let height = consortium.height(1).await;
    let mut seen = Vec::new();
    for number in 1..=4 {
        consortium.until(number, height).await;
        let mut transactions = Vec::new();
        for at in 1..=height {
            let block = consortium.block(number, at).await;
            transactions.extend(block["transactions"].as_array().unwrap().clone());
        }
        seen.push(transactions);
    }
    assert!(!seen[0].is_empty(), "the write left transactions");
    assert!(
        seen.iter().all(|list| *list == seen[0]),
        "all members have them"
    );
    for hash in &seen[0] {
        let receipt = consortium
            .rpc(3, "eth_getTransactionReceipt", json!([hash]))
            .await;
        assert_eq!(quantity(&receipt["status"]), 1, "{receipt}");
    }

    consortium.kill(4);
    let client_url = consortium.fhir(1, "Patient/one-down");
    let answer = client
        .put_text(&client_url, patient("one-down").to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);

    consortium.kill(3);
    let before = consortium.height(1).await;
    let read = client.get(&consortium.fhir(1, "Patient/one-down")).await;
    assert_eq!(read.status, 200, "reading needs no quorum");
    // It is stored and promised, and waits for a block; see `pending_after_ms`.
    let url = consortium.fhir(1, "Patient/two-down");
    let waits = client.put_text(&url, patient("two-down").to_string()).await;
    assert_eq!(waits.status, 202, "{}", waits.text);
    // Two of four are no quorum, so that at most the block under way has become final.
    assert!(consortium.height(1).await <= before + 1);

    consortium.start(3);
    consortium.start(4);
    let before = consortium.height(1).await;
    for number in 1..=4 {
        consortium.until(number, before + 5).await;
    }
    let read = client.get(&consortium.fhir(1, "Patient/two-down")).await;
    assert_eq!(
        read.status, 200,
        "what was promised is there: {}",
        read.text
    );
    assert!(consortium.agree(&[1, 2, 3, 4]).await >= before);
    for number in 1..=4 {
        consortium.stop(number);
    }
    let checked = consortium.json(4, &["verify", "chain", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
}

/// S15, NFR-SEC5: four members that made their keys apart run as one consortium; what founds it was made from public halves
/// alone. A card that was altered, one that is there twice, a genesis with a stranger in it and one that leaves somebody
/// out are refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_made_their_keys_apart_run_together() {
    let mut consortium = Consortium::from_cards(4);
    let made = consortium.folder(1).join("../../made");
    let secrets = ["data", "data.key", "card.json"];
    for number in 1..=4 {
        let folder = made.join(format!("member-{number}"));
        let names = fs::read_dir(&folder).unwrap();
        let names: Vec<_> = names.map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, ["stele.toml"], "and none of {secrets:?}");
    }
    for number in 1..=4 {
        consortium.start(number);
    }
    let client = consortium.client(1, "system/*.cruds", None);
    let url = consortium.fhir(1, "Patient/apart");
    let answer = client.put_text(&url, patient("apart").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let height = consortium.height(1).await;
    for number in 2..=4 {
        consortium.until(number, height).await;
    }
    consortium.agree(&[1, 2, 3, 4]).await;

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let card = |number: usize| consortium.folder(number).join("card.json");
    let refused = |arguments: &[&str]| {
        let output = stele(&[&["network"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = fs::read_to_string(card(1)).unwrap();
    let altered = path("altered.json");
    fs::write(&altered, text.replace("Hospital 1", "Hospital 9")).unwrap();
    let second = card(2).to_str().unwrap().to_owned();
    let (out, genesis) = (path("out"), made.join("genesis.json"));
    let init = |cards: &str| refused(&["init", "--cards", cards, "--out", &out]);
    let said = init(&format!("{altered},{second}"));
    assert!(
        said.contains("altered.json") && said.contains("signed"),
        "{said}"
    );
    let said = init(&format!("{second},{second}"));
    assert!(said.contains("the same organisation"), "{said}");
    assert!(
        !folder.path().join("out").exists(),
        "nothing is left behind"
    );

    let stranger = path("stranger");
    let new = [
        "network",
        "new-member",
        "--out",
        &stranger,
        "--name",
        "Stranger",
    ];
    assert!(stele(&new).status.success());
    let config = made.join("member-1/stele.toml");
    let adopt = |member: &str, cards: &str| {
        refused(&[
            "adopt",
            "--member",
            member,
            "--genesis",
            genesis.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
            "--cards",
            cards,
        ])
    };
    let said = adopt(&stranger, &second);
    assert!(said.contains("does not seat this member"), "{said}");
    let first = consortium.folder(1);
    let said = adopt(first.to_str().unwrap(), &second);
    assert!(said.contains("of which no card was given"), "{said}");
    let all = [2, 3, 4].map(|number| card(number).to_str().unwrap().to_owned());
    let said = adopt(
        first.to_str().unwrap(),
        &format!("{},{stranger}/card.json", all.join(",")),
    );
    assert!(said.contains("\"Stranger\""), "{said}");
    let said = adopt(first.to_str().unwrap(), &all.join(","));
    assert!(said.contains("exists already"), "{said}");
}

/// A member whose write was cut off by a crash takes it back, or finishes it, while the others go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_cut_off_at_one_member_is_whole_or_gone() {
    let mut consortium = Consortium::running(4);
    let client = consortium.client(2, "system/*.cruds", None);
    for round in 0..3 {
        let id = format!("cut{round}");
        let url = consortium.fhir(2, &format!("Patient/{id}"));
        let body = patient(&id).to_string();
        let writing = {
            let token = consortium.client(2, "system/*.cruds", None);
            tokio::spawn(async move { token.try_put(&url, body).await })
        };
        tokio::time::sleep(std::time::Duration::from_millis(20 + 40 * round)).await;
        consortium.kill(2);
        let acknowledged = writing.await.unwrap().is_some_and(|status| status == 201);
        consortium.start(2);
        let read = client
            .get(&consortium.fhir(2, &format!("Patient/{id}")))
            .await;
        assert!([200, 404].contains(&read.status), "{}", read.text);
        assert!(
            !acknowledged || read.status == 200,
            "it was acknowledged and is lost"
        );
        let count = client
            .get(&consortium.fhir(2, &format!("Patient?_id={id}&_summary=count")))
            .await;
        let whole = u64::from(read.status == 200);
        assert_eq!(
            count.json()["total"].as_u64(),
            Some(whole),
            "{}",
            count.text
        );
    }
    consortium.agree(&[1, 2, 3, 4]).await;
    consortium.stop(2);
    let checked = consortium.json(2, &["verify", "vault", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
}

/// What is wrong with a member's files is said by name, before anything runs.
#[test]
fn a_member_that_cannot_work_says_why() {
    let consortium = Consortium::new(4);
    let good = fs::read_to_string(consortium.config(1)).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(consortium.config(1), good.replacen(from, to, 1)).unwrap();
        consortium.refusal(1)
    };
    let said = with("[network]", "[network]\npeeers = 1");
    assert!(
        said.contains("peeers") && said.contains("stele.toml"),
        "{said}"
    );

    let hash = consortium.made["genesis"].as_str().unwrap();
    let said = with(hash, &format!("0x{}", "ab".repeat(32)));
    assert!(said.contains("abab") && said.contains(hash), "{said}");

    let second = consortium.made["members"][1]["validator"].as_str().unwrap();
    let said = with(second, &format!("0x{}", "cd".repeat(32)));
    assert!(
        said.contains("cdcd") && said.contains("no validator"),
        "{said}"
    );

    let cut = good.split("[[network.peers]]").take(3).collect::<Vec<_>>();
    fs::write(consortium.config(1), cut.join("[[network.peers]]")).unwrap();
    let said = consortium.refusal(1);
    let fourth = consortium.made["members"][3]["validator"].as_str().unwrap();
    assert!(said.contains(fourth), "{said}");

    let alone = good.split("[network]").next().unwrap();
    fs::write(consortium.config(1), alone).unwrap();
    let said = consortium.refusal(1);
    assert!(said.contains("consortium of 4"), "{said}");
    fs::write(consortium.config(1), &good).unwrap();

    let listen = good
        .lines()
        .find_map(|line| line.strip_prefix("listen = \""))
        .unwrap()
        .trim_end_matches('"');
    let taken = TcpListener::bind(listen).unwrap();
    let said = consortium.refusal(1);
    assert!(said.contains(listen) && said.contains("in use"), "{said}");
    drop(taken);

    let data = consortium.data(1);
    let output = stele(&["up", "--data", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("stele node"),
        "{said}"
    );
    let output = stele(&["up", "--config", consortium.config(1).to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("stele node"),
        "{said}"
    );

    // Another consortium's genesis, and another member's data folder.
    let other = Consortium::new(2);
    fs::copy(
        other.data(1).join("genesis.json"),
        data.join("genesis.json"),
    )
    .unwrap();
    let said = consortium.refusal(1);
    assert!(said.contains("another consortium"), "{said}");
}

/// `init` names what it can't do and leaves nothing behind.
#[test]
fn a_consortium_that_cannot_be_made_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("net");
    let out = out.to_str().unwrap();
    for (arguments, says) in [
        (&["--members", "0"][..], "0"),
        (&["--members", "51"], "51"),
        (&["--members", "2", "--host", "a.example.org"], "--host"),
        (&["--members", "1", "--host", "not a host"], "not a host"),
        (&["--members", "1", "--host", "0.0.0.0"], "0.0.0.0"),
        (&["--members", "50", "--port", "65500"], "65500"),
    ] {
        let output = stele(&[&["network", "init", "--out", out], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{arguments:?}"
        );
    }
    let made = stele(&["network", "init", "--members", "1", "--out", out]);
    assert!(made.status.success());
    let again = stele(&["network", "init", "--members", "1", "--out", out]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        !again.status.success() && said.contains("exists already"),
        "{said}"
    );
}

/// `stele up --members`: one command starts processes, logs and a page that shows them; stopping it stops all.
#[tokio::test(flavor = "multi_thread")]
async fn one_command_starts_a_consortium_with_its_demonstration() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("net");
    let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["up", "--members", "2", "--demo", "--page", "127.0.0.1:0"])
        .args(["--port", &free_ports(10).to_string(), "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let members = ready["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "{ready}");
    let page = reqwest::get(ready["page"].as_str().unwrap()).await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("have the state root 0x"), "{page}");
    assert!(
        page.contains(members[1]["http"].as_str().unwrap()),
        "{page}"
    );
    for member in members {
        let log = fs::read_to_string(member["log"].as_str().unwrap()).unwrap();
        assert!(!log.is_empty(), "each has a log of its own");
    }
    let cast: Value =
        serde_json::from_str(&fs::read_to_string(data.join("demo.json")).unwrap()).unwrap();
    let doctor = cast["members"][1]["account"].as_str().unwrap();
    let token = stele(&[
        "token",
        "--data",
        members[1]["data"].as_str().unwrap(),
        "--scope",
        "system/*.rs",
        "--as",
        doctor,
    ]);
    let client = Client::new(String::from_utf8(token.stdout).unwrap().trim().to_owned());
    let url = format!(
        "{}/fhir/r4/Observation?patient={}&_summary=count",
        members[1]["http"].as_str().unwrap(),
        cast["patient"].as_str().unwrap()
    );
    let shared = async {
        while client.get(&url).await.json()["total"].as_u64() == Some(0) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), shared)
        .await
        .expect("the second hospital's doctor reads what the first one's patient shares");
    let asked = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    assert!(child.wait().unwrap().success());
    for member in members {
        let data = std::path::Path::new(member["data"].as_str().unwrap());
        assert!(!data.join("ready.json").exists(), "it stopped in order");
    }
    let open = stele(&["up", "--members", "2", "--open", "--data", "unused"]);
    let said = String::from_utf8_lossy(&open.stderr);
    assert!(!open.status.success() && said.contains("--open"), "{said}");
}
