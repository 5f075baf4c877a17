//! More than a third of the validators are lost for good, and those who are left go on by a document that they sign:
//! processes of their own on the loopback interface.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{consortium::Consortium, node::patient};

/// LIM-13, NFR-REL2, NFR-INT4, FR-A3: two of five are lost and nothing becomes final any more; the three that are left sign
/// the end of the epoch, each of them only once, and write on; a newcomer takes a seat; one that was lost is found again and
/// told; proofs of records from before and after hold for somebody who knows the genesis alone.
#[tokio::test(flavor = "multi_thread")]
async fn three_of_five_go_on() {
    let mut consortium = Consortium::running(5);
    let (left, [gone, found]) = losing(&consortium);
    let client = consortium.client(1, "system/*.cruds", None);
    let before = consortium.fhir(1, "Patient/before");
    let answer = client
        .put_text(&before, patient("before").to_string())
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    consortium.kill(found);
    consortium.kill(gone);
    std::fs::remove_dir_all(consortium.data(gone)).unwrap();
    let height = standing_still(&consortium, left).await;
    for number in left {
        consortium.stop(number);
    }
    let folder = tempfile::tempdir().unwrap();
    agree(&consortium, folder.path(), left, height);

    for number in left {
        consortium.start(number);
    }
    let client = consortium.client(1, "system/*.cruds", None);
    let after = consortium.fhir(1, "Patient/after");
    let answer = client.put_text(&after, patient("after").to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let before = consortium.fhir(1, "Patient/before");
    assert_eq!(client.get(&before).await.status, 200);
    assert_eq!(consortium.epoch(left[1], 1).await.len(), 3);

    // Who was lost and comes back makes nothing final, hears of the end of its epoch and is given nothing after it.
    consortium.start(found);
    let seated = consortium.epoch(found, 1).await;
    let own = consortium.validator(found);
    assert!(!seated.contains(&own), "{seated:?}");
    assert_eq!(consortium.height(found).await, height);
    consortium.stop(found);

    let sixth = consortium.join();
    consortium.start(sixth);
    let (account, key) = (consortium.organization(sixth), consortium.validator(sixth));
    consortium.decide(&left, &["admit", &account]).await;
    let height = consortium.height(1).await;
    consortium.until(sixth, height).await;
    let seat = ["validator", &key, "seat", "--of", &account];
    // Three of the four that are active are more than two thirds.
    consortium.decide(&left, &seat).await;
    let validators = consortium.epoch(sixth, 2).await;
    assert!(
        validators.len() == 4 && validators.contains(&key),
        "{validators:?}"
    );
    let [one, second, third] = left;
    consortium.agree(&[one, second, third, sixth]).await;
    proofs_hold(&consortium, folder.path(), left[1]);
    consortium.stop(sixth);
    let checked = consortium.json(sixth, &["verify", "chain", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
}

/// Three that are left, the first member among them, and two that are lost: not those who share the first one's peppers,
/// which are the next two by account.
fn losing(consortium: &Consortium) -> ([usize; 3], [usize; 2]) {
    let mut order: Vec<usize> = (1..=5).collect();
    order.sort_by_key(|number| consortium.organization(*number).to_lowercase());
    let first = order.iter().position(|number| *number == 1).unwrap();
    order.rotate_left(first);
    ([order[0], order[1], order[2]], [order[3], order[4]])
}

/// Waits until all of these have the same last block and stay there.
async fn standing_still(consortium: &Consortium, members: [usize; 3]) -> u64 {
    let mut before = [0; 3];
    for _ in 0..60 {
        let mut now = [0; 3];
        for (height, number) in now.iter_mut().zip(members) {
            *height = consortium.height(number).await;
        }
        if now == before && now == [now[0]; 3] {
            return now[0];
        }
        before = now;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    panic!("{members:?} never stand still: {before:?}");
}

/// The three members propose, sign and put into force; what people get wrong on the way is refused.
fn agree(consortium: &Consortium, folder: &Path, left: [usize; 3], height: u64) {
    let (_, lost) = losing(consortium);
    let key = consortium.validator(lost[1]);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (file, copy, other) = (path("one.json"), path("copy.json"), path("other.json"));
    let lost = lost.map(|number| consortium.organization(number));
    let [one, second, third] = left;
    let recover = |number: usize, arguments: &[&str]| {
        let arguments = [&["network", "recover"], arguments, &["--json"]].concat();
        consortium.try_command(number, &arguments)
    };
    let one_lost = ["propose", "--lost", &lost[0], "--out", &file];
    let (ok, said) = recover(one, &one_lost);
    assert!(!ok && said.contains("goes on by itself"), "{said}");
    let three = consortium.organization(third);
    let too_many = [
        "propose", "--lost", &lost[0], "--lost", &lost[1], "--lost", &three,
    ];
    let (ok, said) = recover(one, &[&too_many[..], &["--out", &file]].concat());
    assert!(!ok && said.contains("3 have to sign"), "{said}");

    let propose = ["propose", "--lost", &lost[0], "--lost", &lost[1], "--out"];
    let (ok, said) = recover(one, &[&propose[..], &[&file]].concat());
    assert!(ok, "{said}");
    let made: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (made["height"].as_u64(), made["needed"].as_u64()),
        (Some(height), Some(3))
    );
    std::fs::copy(&file, &copy).unwrap();
    std::fs::write(&other, "{\"chainId\": 1").unwrap();
    let (ok, said) = recover(one, &["sign", &other]);
    assert!(!ok && said.contains("is no recovery"), "{said}");
    std::fs::remove_file(&other).unwrap();
    for number in [one, second] {
        let (ok, said) = recover(number, &["sign", &file]);
        assert!(ok, "{said}");
    }
    // Whoever signed votes no more in the epoch, and signs nothing else for it.
    let said = consortium.refusal(one);
    assert!(said.contains("signed the end of epoch 0"), "{said}");
    let again = ["propose", "--lost", &lost[0], "--lost", &key, "--seat"];
    let seat = format!("{key}={}", lost[1]);
    let (ok, said) = recover(one, &[&again[..], &[&seat, "--out", &other]].concat());
    assert!(ok, "{said}");
    let (ok, said) = recover(one, &["sign", &other]);
    assert!(!ok && said.contains("signed another document"), "{said}");

    let (ok, said) = recover(one, &["apply", &file]);
    assert!(
        !ok && said.contains("2 signatures where 3 are needed"),
        "{said}"
    );
    let (ok, said) = recover(third, &["sign", &copy]);
    assert!(ok, "{said}");
    let (ok, said) = recover(third, &["apply", &copy, &other]);
    assert!(!ok && said.contains("say different things"), "{said}");
    for number in left {
        let (ok, said) = recover(number, &["apply", &file, &copy]);
        assert!(ok && said.contains("in force"), "{said}");
    }
}

/// Proof files of records from before and after verify with the genesis alone, and not without the signatures.
fn proofs_hold(consortium: &Consortium, folder: &Path, other: usize) {
    let genesis = consortium.data(1).join("genesis.json");
    let genesis = genesis.to_str().unwrap();
    for record in ["Patient/before", "Patient/after"] {
        let file = folder.join("proof.json");
        let path = file.to_str().unwrap();
        let asked = ["verify", "record", record, "--out", path, "--json"];
        let made = consortium.json(1, &asked);
        assert_eq!(made["ok"], true, "{made}");
        let verify = ["verify", "proof", path, "--genesis", genesis, "--json"];
        let checked = consortium.json(other, &verify);
        assert_eq!(checked["ok"], true, "{checked}");

        let mut proof: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let changes = proof["log"]["changes"].as_array_mut().unwrap();
        assert_eq!(changes.len(), 2, "the end by hand, and the newcomer's seat");
        let signatures = changes[0]["signatures"].as_array_mut().unwrap();
        signatures.pop().unwrap();
        std::fs::write(&file, proof.to_string()).unwrap();
        let (ok, said) = consortium.try_command(other, &verify);
        assert!(!ok && said.contains("changes"), "{said}");
    }
}
