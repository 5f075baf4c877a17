//! A member that joins takes the state of a recent block from the others: processes of their own on the loopback
//! interface.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    consortium::{Consortium, quantity},
    node::patient,
};

/// From how many blocks on the newcomer of these tests takes a snapshot.
const BLOCKS_MIN: u64 = 60;

impl Consortium {
    /// Lets a member that has not been started take a snapshot of a ledger as short as that of a test.
    fn takes_snapshots(&self, number: usize) {
        let path = self.config(number);
        let text = fs::read_to_string(&path).unwrap();
        let short = text.replace(
            "snapshot_blocks = 1000",
            &format!("snapshot_blocks = {BLOCKS_MIN}"),
        );
        assert_ne!(text, short);
        fs::write(&path, short).unwrap();
    }
}

/// S15, FR-A3, NFR-SCA3, NFR-INT4, LIM-17: a fifth member joins a ledger of some hundred blocks with changes of validators
/// in it from a verified snapshot, killed again and again while it comes in; its blocks, receipts, logs and state roots
/// are those of the others, a proof it makes holds for somebody who knows the genesis alone, the check that executes
/// everything again passes, and it validates.
#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_member_joins_from_a_snapshot() {
    let mut consortium = Consortium::running(4);
    let client = consortium.client(1, "system/*.cruds", None);
    let before = consortium.fhir(1, "Patient/before");
    let answer = client
        .put_text(&before, patient("before").to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let (fourth, of) = (consortium.validator(4), consortium.organization(4));
    for (epoch, what, seats) in [(1, "unseat", 3), (2, "seat", 4)] {
        let change = ["validator", &fourth, what, "--of", &of];
        consortium.decide(&[1, 2, 3], &change).await;
        assert_eq!(consortium.epoch(1, epoch).await.len(), seats);
    }

    let fifth = consortium.join();
    consortium.takes_snapshots(fifth);
    let (account, key) = (consortium.organization(fifth), consortium.validator(fifth));
    consortium.start(fifth);
    assert_eq!(consortium.height(fifth).await, 0, "it is not admitted");
    consortium.decide(&[1, 2, 3], &["admit", &account]).await;
    for round in 0..6_u64 {
        tokio::time::sleep(Duration::from_millis(150 + 130 * round)).await;
        consortium.kill(fifth);
        consortium.start(fifth);
    }
    let height = consortium.height(1).await;
    consortium.until(fifth, height).await;
    let refused = "stele_snapshot_refused_total";
    assert_eq!(consortium.measured(fifth, refused).await, 0);
    let chain = consortium.data(fifth).join("chain");
    assert!(chain.join("CURRENT").exists(), "it took no snapshot");
    consortium.agree(&[1, 2, 3, 4, fifth]).await;
    answers_alike(&consortium, fifth).await;

    let seat = ["validator", &key, "seat", "--of", &account];
    consortium.decide(&[1, 2, 3, fifth], &seat).await;
    assert!(consortium.epoch(fifth, 3).await.contains(&key));
    // Four of five are a quorum, and the new one is among them.
    consortium.kill(4);
    let during = consortium.fhir(1, "Patient/five");
    let answer = client.put_text(&during, patient("five").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    consortium.start(4);
    let own = consortium.client(fifth, "system/*.cruds", None);
    let theirs = consortium.fhir(fifth, "Patient/theirs");
    let answer = own.put_text(&theirs, patient("theirs").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    proof_holds(&consortium, fifth);
    consortium.stop(fifth);
    let checked = consortium.json(fifth, &["verify", "chain", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
    consortium.start(fifth);
    let height = consortium.height(1).await;
    consortium.until(fifth, height).await;
    assert!(!chain.join("store").exists(), "what it began with is gone");
}

/// What happened before the snapshot is answered as by the first member: transactions, receipts, logs.
async fn answers_alike(consortium: &Consortium, number: usize) {
    let mut seen = 0;
    for height in 1..=BLOCKS_MIN {
        let block = consortium.block(1, height).await;
        for hash in block["transactions"].as_array().unwrap() {
            let ask = |number| consortium.rpc(number, "eth_getTransactionReceipt", json!([hash]));
            assert_eq!(ask(number).await, ask(1).await);
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen} transactions");
    let all = json!([{ "fromBlock": "0x0", "toBlock": format!("{BLOCKS_MIN:#x}") }]);
    let logs = consortium.rpc(1, "eth_getLogs", all.clone()).await;
    assert!(logs.as_array().unwrap().len() > 3);
    assert_eq!(consortium.rpc(number, "eth_getLogs", all).await, logs);
    let height = consortium.rpc(number, "eth_blockNumber", json!([])).await;
    assert!(quantity(&height) > BLOCKS_MIN);
}

/// A proof of a record of this member verifies at another with the genesis alone.
fn proof_holds(consortium: &Consortium, number: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proof.json");
    let path = file.to_str().unwrap();
    let record = [
        "verify",
        "record",
        "Patient/theirs",
        "--out",
        path,
        "--json",
    ];
    let made = consortium.json(number, &record);
    assert_eq!(made["ok"], true, "{made}");
    let genesis = consortium.data(1).join("genesis.json");
    let verify = [
        "verify",
        "proof",
        path,
        "--genesis",
        genesis.to_str().unwrap(),
        "--json",
    ];
    let checked = consortium.json(1, &verify);
    assert_eq!(checked["ok"], true, "{checked}");
}
