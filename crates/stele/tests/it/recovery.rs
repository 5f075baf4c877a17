//! More than a third of the validators are lost for good, and those who are left go on by a document that they sign:
//! processes of their own on the loopback interface.

use std::path::Path;

use serde_json::Value;

use crate::{consortium::Consortium, node::patient};

/// LIM-13, NFR-REL2, NFR-INT4, FR-A3: two of five are lost and nothing becomes final any more; the three that are left sign
/// the end of the epoch, each of them only once, and write on; a newcomer takes a seat; one that was lost is found again and
/// told; proofs of records from before and after hold for somebody who knows the genesis alone.
#[tokio::test(flavor = "multi_thread")]
async fn three_of_five_go_on() {
    let mut consortium = Consortium::running(5);
    let client = consortium.client(1, "system/*.cruds", None);
    let before = consortium.fhir(1, "Patient/before");
    let answer = client
        .put_text(&before, patient("before").to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    consortium.kill(5);
    consortium.kill(4);
    std::fs::remove_dir_all(consortium.folder(4)).unwrap();

    // Those who are left come to the same block, and stay there.
    let height = loop {
        let mut heights = Vec::new();
        for number in 1..=3 {
            heights.push(consortium.height(number).await);
        }
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let mut again = Vec::new();
        for number in 1..=3 {
            again.push(consortium.height(number).await);
        }
        if heights == again && heights.iter().all(|height| *height == heights[0]) {
            break heights[0];
        }
    };
    for number in 1..=3 {
        consortium.stop(number);
    }
    let folder = tempfile::tempdir().unwrap();
    agree(&consortium, folder.path(), height);

    for number in 1..=3 {
        consortium.start(number);
    }
    let client = consortium.client(1, "system/*.cruds", None);
    let before = consortium.fhir(1, "Patient/before");
    assert_eq!(client.get(&before).await.status, 200);
    let after = consortium.fhir(1, "Patient/after");
    let answer = client.put_text(&after, patient("after").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(consortium.epoch(2, 1).await.len(), 3);

    // Who was lost and comes back makes nothing final, hears of the end of its epoch and keeps what it has.
    consortium.start(5);
    let seated = consortium.epoch(5, 1).await;
    assert!(!seated.contains(&consortium.validator(5)), "{seated:?}");
    assert_eq!(consortium.height(5).await, height, "and no further");
    consortium.stop(5);

    let sixth = consortium.join();
    consortium.start(sixth);
    let (account, key) = (consortium.organization(sixth), consortium.validator(sixth));
    consortium.decide(&[1, 2, 3], &["admit", &account]).await;
    let height = consortium.height(1).await;
    consortium.until(sixth, height).await;
    let seat = ["validator", &key, "seat", "--of", &account];
    consortium.decide(&[1, 2, 3, sixth], &seat).await;
    let validators = consortium.epoch(sixth, 2).await;
    assert!(
        validators.len() == 4 && validators.contains(&key),
        "{validators:?}"
    );
    consortium.agree(&[1, 2, 3, sixth]).await;
    proofs_hold(&consortium, folder.path());
    consortium.stop(sixth);
    let checked = consortium.json(sixth, &["verify", "chain", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
}

/// The three members propose, sign and put into force; what people get wrong on the way is refused.
fn agree(consortium: &Consortium, folder: &Path, height: u64) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (file, copy, other) = (path("one.json"), path("copy.json"), path("other.json"));
    let lost = [consortium.organization(4), consortium.organization(5)];
    let recover = |number: usize, arguments: &[&str]| {
        let arguments = [&["network", "recover"], arguments, &["--json"]].concat();
        consortium.try_command(number, &arguments)
    };
    let one_lost = ["propose", "--lost", &lost[0], "--out", &file];
    let (ok, said) = recover(1, &one_lost);
    assert!(!ok && said.contains("goes on by itself"), "{said}");
    let three = consortium.organization(3);
    let too_many = [
        "propose", "--lost", &lost[0], "--lost", &lost[1], "--lost", &three,
    ];
    let (ok, said) = recover(1, &[&too_many[..], &["--out", &file]].concat());
    assert!(!ok && said.contains("3 have to sign"), "{said}");

    let propose = ["propose", "--lost", &lost[0], "--lost", &lost[1], "--out"];
    let (ok, said) = recover(1, &[&propose[..], &[&file]].concat());
    assert!(ok, "{said}");
    let made: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (made["height"].as_u64(), made["needed"].as_u64()),
        (Some(height), Some(3))
    );
    std::fs::copy(&file, &copy).unwrap();
    for number in 1..=2 {
        let (ok, said) = recover(number, &["sign", &file]);
        assert!(ok, "{said}");
    }
    // Whoever signed votes no more in the epoch, and signs nothing else for it.
    let said = consortium.refusal(1);
    assert!(said.contains("signed the end of epoch 0"), "{said}");
    let key = consortium.validator(5);
    let again = ["propose", "--lost", &lost[0], "--lost", &key, "--seat"];
    let seat = format!("{}={}", consortium.validator(5), lost[1]);
    let (ok, said) = recover(1, &[&again[..], &[&seat, "--out", &other]].concat());
    assert!(ok, "{said}");
    let (ok, said) = recover(1, &["sign", &other]);
    assert!(!ok && said.contains("signed another document"), "{said}");

    let (ok, said) = recover(1, &["apply", &file]);
    assert!(
        !ok && said.contains("2 signatures where 3 are needed"),
        "{said}"
    );
    let (ok, said) = recover(3, &["sign", &copy]);
    assert!(ok, "{said}");
    let (ok, said) = recover(3, &["apply", &copy, &other]);
    assert!(!ok && said.contains("say different things"), "{said}");
    for number in 1..=3 {
        let (ok, said) = recover(number, &["apply", &file, &copy]);
        assert!(ok && said.contains("in force"), "{said}");
    }
}

/// Proof files of records from before and after verify with the genesis alone, and not without the signatures.
fn proofs_hold(consortium: &Consortium, folder: &Path) {
    let genesis = consortium.data(1).join("genesis.json");
    let genesis = genesis.to_str().unwrap();
    for record in ["Patient/before", "Patient/after"] {
        let file = folder.join("proof.json");
        let path = file.to_str().unwrap();
        let asked = ["verify", "record", record, "--out", path, "--json"];
        let made = consortium.json(1, &asked);
        assert_eq!(made["ok"], true, "{made}");
        let verify = ["verify", "proof", path, "--genesis", genesis, "--json"];
        let checked = consortium.json(2, &verify);
        assert_eq!(checked["ok"], true, "{checked}");

        let mut proof: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let changes = proof["log"]["changes"].as_array_mut().unwrap();
        assert_eq!(changes.len(), 2, "the end by hand, and the newcomer's seat");
        let signatures = changes[0]["signatures"].as_array_mut().unwrap();
        signatures.pop().unwrap();
        std::fs::write(&file, proof.to_string()).unwrap();
        let (ok, said) = consortium.try_command(2, &verify);
        assert!(!ok && said.contains("changes"), "{said}");
    }
}
