//! Members that come and go: processes of their own on the loopback interface.

use serde_json::Value;

use crate::{consortium::Consortium, node::patient};

/// S15, FR-A3, NFR-GOV1, NFR-GOV2, LIM-13, NFR-INT4: a fifth member joins a running network and validates, a member gives
/// up its seat and follows, a third replaces its validator key; nothing is lost, all agree, and a proof of a record holds
/// through all of these changes for somebody who knows the genesis alone.
#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let mut consortium = Consortium::running(4);
    let client = consortium.client(1, "system/*.cruds", None);
    let url = |consortium: &Consortium, id: &str| consortium.fhir(1, &format!("Patient/{id}"));
    let before = url(&consortium, "before");
    let answer = client
        .put_text(&before, patient("before").to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);

    // Nobody who was not admitted is told anything.
    let fifth = consortium.join();
    consortium.start(fifth);
    let (account, key) = (consortium.organization(fifth), consortium.validator(fifth));
    assert_eq!(consortium.height(fifth).await, 0);
    consortium.decide(&[1, 2, 3], &["admit", &account]).await;
    let height = consortium.height(1).await;
    consortium.until(fifth, height).await;

    consortium
        .decide(
            &[1, 2, 3, 4],
            &["validator", &key, "seat", "--of", &account],
        )
        .await;
    let validators = consortium.epoch(fifth, 1).await;
    assert_eq!(validators.len(), 5);
    assert!(validators.contains(&key), "{validators:?}");
    // Four of five are a quorum, and the new one is among them.
    consortium.kill(4);
    let during = url(&consortium, "five");
    let answer = client.put_text(&during, patient("five").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    consortium.start(4);

    let (second, of) = (consortium.validator(2), consortium.organization(2));
    let unseat = ["validator", &second, "unseat", "--of", &of];
    consortium.decide(&[1, 3, 4, fifth], &unseat).await;
    assert_eq!(consortium.epoch(1, 2).await.len(), 4);
    let height = consortium.height(1).await;
    consortium.until(2, height + 3).await;

    consortium.stop(3);
    let data = consortium.data(3);
    let data = data.to_str().unwrap();
    let made = consortium.json(3, &["network", "new-key", "--data", data, "--json"]);
    let new = made["validator"].as_str().unwrap().to_owned();
    let (old, of) = (consortium.validator(3), consortium.organization(3));
    consortium.start(3);
    consortium
        .decide(&[1, 3, 4, fifth], &["validator", &new, "seat", "--of", &of])
        .await;
    consortium
        .decide(
            &[1, 3, 4, fifth],
            &["validator", &old, "unseat", "--of", &of],
        )
        .await;
    let mut epoch = 3;
    let validators = loop {
        let validators = consortium.epoch(3, epoch).await;
        if !validators.contains(&old) {
            break validators;
        }
        epoch += 1;
    };
    assert!(validators.contains(&new), "{validators:?}");
    // Three of four are a quorum, and the one with the new key is among them.
    consortium.kill(4);
    let after = url(&consortium, "after");
    let answer = client.put_text(&after, patient("after").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    consortium.start(4);
    let height = consortium.height(1).await;
    for number in 1..=fifth {
        consortium.until(number, height + 2).await;
    }
    consortium.agree(&[1, 2, 3, 4, fifth]).await;
    for id in ["before", "five", "after"] {
        assert_eq!(client.get(&url(&consortium, id)).await.status, 200, "{id}");
    }
    proofs_hold(&consortium);
    for number in [1, fifth] {
        consortium.stop(number);
        let checked = consortium.json(number, &["verify", "chain", "--json"]);
        assert_eq!(checked["ok"], true, "{checked}");
    }
}

/// A proof file of a record verifies with the genesis alone, and not when a change of validators is cut out of it.
fn proofs_hold(consortium: &Consortium) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proof.json");
    let path = file.to_str().unwrap();
    let record = ["verify", "record", "Patient/after", "--out", path, "--json"];
    let made = consortium.json(1, &record);
    assert_eq!(made["ok"], true, "{made}");
    let genesis = consortium.data(1).join("genesis.json");
    let genesis = genesis.to_str().unwrap();
    let verify = ["verify", "proof", path, "--genesis", genesis, "--json"];
    let checked = consortium.json(5, &verify);
    assert_eq!(checked["ok"], true, "{checked}");

    let mut proof: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let changes = proof["log"]["changes"].as_array_mut().unwrap();
    assert!(changes.len() >= 3, "every change is in it");
    changes.remove(1);
    std::fs::write(&file, proof.to_string()).unwrap();
    let (ok, said) = consortium.try_command(5, &verify);
    assert!(!ok && said.contains("changes"), "{said}");
}

/// NFR-GOV2, LIM-13: a consortium of one, made by `stele up`, grows into several without losing anything, and whoever
/// is suspended is not answered from that block on and loses its seat at the next boundary.
#[tokio::test(flavor = "multi_thread")]
async fn a_consortium_of_one_grows() {
    let mut consortium = Consortium::of_one();
    consortium.start(1);
    let client = consortium.client(1, "system/*.cruds", None);
    let url = consortium.fhir(1, "Patient/alone");
    let answer = client.put_text(&url, patient("alone").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    for number in 2..=3 {
        assert_eq!(consortium.join(), number);
        consortium.start(number);
        let voters: Vec<usize> = (1..number).collect();
        let account = consortium.organization(number);
        consortium.decide(&voters, &["admit", &account]).await;
        let height = consortium.height(1).await;
        consortium.until(number, height).await;
        // The newcomer has a vote since it was admitted, and casts it although it has no seat yet.
        let voters: Vec<usize> = (1..=number).collect();
        let key = consortium.validator(number);
        let seat = ["validator", &key, "seat", "--of", &account];
        consortium.decide(&voters, &seat).await;
        let epoch = u64::try_from(number - 1).unwrap();
        assert_eq!(consortium.epoch(number, epoch).await.len(), number);
        assert_eq!(consortium.epoch(1, epoch).await.len(), number);
    }
    assert_eq!(client.get(&url).await.status, 200);

    // What it kept alone is shared now, and the tree that gave it is destroyed at the next start.
    let shared = async {
        while consortium.measured(1, "stele_custody_custodians").await < 3
            || consortium.custody_of(1)["before"] != "shared"
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), shared)
        .await
        .expect("older peppers are shared, too");
    let alone = "stele_custody_kept_alone";
    assert_eq!(consortium.measured(1, alone).await, 1);
    consortium.stop(1);
    consortium.start(1);
    assert_eq!(consortium.measured(1, alone).await, 0);
    let read = client.get(&url).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let third = consortium.client(3, "system/*.cruds", None);
    let theirs = consortium.fhir(3, "Patient/theirs");
    let answer = third.put_text(&theirs, patient("theirs").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);

    // Suspended, it is told nothing more, from that block on; at the next boundary its seat is gone as well.
    let account = consortium.organization(3);
    consortium.decide(&[1, 2, 3], &["suspend", &account]).await;
    assert_eq!(consortium.epoch(1, 3).await.len(), 2);
    let height = consortium.height(1).await;
    consortium.until(2, height + 3).await;
    let answer = client.put_text(&url, patient("alone").to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let height = consortium.height(2).await;
    consortium.until(1, height).await;
    assert!(consortium.height(3).await < height, "it follows no more");
    consortium.agree(&[1, 2]).await;
}
