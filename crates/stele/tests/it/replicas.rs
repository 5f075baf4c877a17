//! Copies of records among members, as processes of their own: read while their member is away, repaired, taken back after
//! the loss of a disk.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use stele_core::time::{Clock as _, SystemClock};

use crate::{
    consortium::Consortium,
    node::{Client, observation, patient},
    sharing::{doctor, grant, until, write_patient},
};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Folders of four members with so many copies of each record, checked every second; none runs yet.
fn with_copies(copies: u8) -> Consortium {
    let consortium = Consortium::with_short_periods(4);
    for number in 1..=4 {
        let path = consortium.config(number);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("copies = 3") && text.contains("check_s = 60"));
        let text = text
            .replace("copies = 3", &format!("copies = {copies}"))
            .replace("check_s = 60", "check_s = 1");
        fs::write(&path, text).unwrap();
    }
    consortium
}

fn start_all(consortium: &mut Consortium) {
    for number in 1..=4 {
        consortium.start(number);
    }
}

/// Waits until some members have copied everything up to the present block of one of them.
async fn copied(consortium: &Consortium, source: usize, members: &[usize]) {
    let height = consortium.height(source).await;
    for number in members {
        let reached = async {
            while consortium.measured(*number, "stele_replica_height").await < height {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached)
            .await
            .unwrap_or_else(|_| panic!("member-{number} never has its copies"));
        assert_eq!(
            consortium.measured(*number, "stele_replica_backlog").await,
            0
        );
    }
}

/// Waits until a check says yes.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// Files of a member's large ciphertexts.
fn objects(consortium: &Consortium, number: usize) -> Vec<PathBuf> {
    fn all(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    all(&consortium.data(number).join("vault/objects"), &mut found);
    found
}

async fn write(consortium: &Consortium, home: &Client, id: &str, of: &str, value: &str) {
    write_noted(consortium, home, (id, of, value), "").await;
}

async fn write_noted(
    consortium: &Consortium,
    home: &Client,
    (id, of, value): (&str, &str, &str),
    note: &str,
) {
    let mut resource: Value = serde_json::from_str(&observation(of, value)).unwrap();
    resource["id"] = json!(id);
    if !note.is_empty() {
        resource["note"] = json!([{ "text": note }]);
    }
    let url = consortium.fhir(1, &format!("Observation/{id}"));
    let made = home.put_text(&url, resource.to_string()).await;
    assert!([200, 201].contains(&made.status), "{}", made.text);
}

/// NFR-REL1, FR-P18, S39, LIM-14: a patient lets a doctor of another hospital read. That hospital is down while the patient's
/// own one writes, and when it is back the patient's has been killed. The doctor finds and reads all of it all the same,
/// from copies that other members keep.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_read_before_is_read_from_copies() {
    let mut consortium = with_copies(4);
    start_all(&mut consortium);
    let doctor_account = doctor(&consortium, 2);
    let home = consortium.client(1, "system/*.cruds", None);
    let url = consortium.fhir(1, "Patient/p1");
    let made = home.put_text(&url, patient("p1").to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    grant(&consortium, &doctor_account);
    consortium
        .until_none(1, "stele_custody_undealt_trees")
        .await;
    consortium.stop(2);
    write(&consortium, &home, "small", "p1", "6.30").await;
    let words = "word ".repeat(120_000);
    write_noted(&consortium, &home, ("large", "p1", "6.30"), &words).await;
    write(&consortium, &home, "later", "p1", "7.1").await;
    let mut at_home = Vec::new();
    for id in ["small", "large", "later"] {
        let read = home
            .get(&consortium.fhir(1, &format!("Observation/{id}")))
            .await;
        assert_eq!(read.status, 200, "{}", read.text);
        at_home.push((id, read.text));
    }
    copied(&consortium, 1, &[3, 4]).await;
    consortium.kill(1);

    consortium.start(2);
    let doctor = consortium.client(2, "system/*.cruds", Some(&doctor_account));
    for (id, text) in &at_home {
        let url = consortium.fhir(2, &format!("Observation/{id}"));
        let read = until(&doctor, &url, 200).await;
        assert_eq!(read.text, *text, "byte for byte");
    }
    let search = consortium.fhir(2, "Observation?code=4548-4&patient=p1&_total=accurate");
    let found = doctor.get(&search).await.json();
    assert_eq!(found["total"], 3, "{found}");
    let other_category = consortium.fhir(2, "Patient/p1");
    assert_eq!(doctor.get(&other_category).await.status, 404);
    let colleague = consortium.client(2, "system/*.cruds", None);
    let small = consortium.fhir(2, "Observation/small");
    assert_eq!(colleague.get(&small).await.status, 404, "not the doctor");
}

/// NFR-REL1, LIM-14: a copy that is gone and an original that was altered are found by the checks and fetched from others,
/// byte for byte; what is erased is gone everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_or_altered_is_repaired_from_others() {
    let mut consortium = with_copies(4);
    start_all(&mut consortium);
    let home = write_patient(&consortium).await;
    copied(&consortium, 1, &[2, 3, 4]).await;
    let [original] = &objects(&consortium, 1)[..] else {
        panic!("one large ciphertext");
    };
    let bytes = fs::read(original).unwrap();
    let repaired = "stele_replica_repaired_total";
    for number in [1, 3] {
        assert_eq!(consortium.measured(number, repaired).await, 0);
    }

    let [copy] = &objects(&consortium, 3)[..] else {
        panic!("one copy");
    };
    assert_eq!(fs::read(copy).unwrap(), bytes);
    fs::remove_file(copy).unwrap();
    eventually("the copy is back", async || {
        consortium.measured(3, repaired).await > 0
    })
    .await;
    let [copy] = &objects(&consortium, 3)[..] else {
        panic!("one copy again");
    };
    assert_eq!(fs::read(copy).unwrap(), bytes);

    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    fs::write(original, altered).unwrap();
    eventually("the original is whole again", async || {
        consortium.measured(1, repaired).await > 0
    })
    .await;
    let [original] = &objects(&consortium, 1)[..] else {
        panic!("one large ciphertext again");
    };
    assert_eq!(fs::read(original).unwrap(), bytes);
    let read = home.get(&consortium.fhir(1, "Observation/large")).await;
    assert_eq!(read.status, 200, "{}", read.text);
    for number in [1, 3] {
        assert!(
            consortium
                .measured(number, "stele_replica_checked_total")
                .await
                > 0
        );
        assert!(
            consortium
                .measured(number, "stele_replica_failed_total")
                .await
                > 0
        );
        assert_eq!(
            consortium.measured(number, "stele_replica_missing").await,
            0
        );
    }
    assert!(consortium.measured(1, "stele_replica_asked_total").await > 0);

    let erased = consortium.try_command(1, &["erase", "Observation/large", "--yes"]);
    assert!(erased.0, "{}", erased.1);
    for number in 1..=4 {
        eventually("an erased record's copies are dropped", async || {
            objects(&consortium, number).is_empty()
        })
        .await;
    }
}

/// NFR-GOV2, NFR-SCA3: when the member that holds the only copy is no longer one, the next in the order takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_member_takes_the_place_of_one_that_left() {
    let mut consortium = with_copies(2);
    start_all(&mut consortium);
    write_patient(&consortium).await;
    copied(&consortium, 1, &[2, 3, 4]).await;
    let has_copy = |number: &usize| !objects(&consortium, *number).is_empty();
    let holders: Vec<usize> = (2..=4).filter(has_copy).collect();
    let [holder] = holders[..] else {
        panic!("one copy beside the original: {holders:?}");
    };
    let others: Vec<usize> = (2..=4).filter(|number| *number != holder).collect();
    let voting = [&[1][..], &others].concat();
    let account = consortium.organization(holder);
    consortium.decide(&voting, &["suspend", &account]).await;
    eventually("another member has a copy", async || {
        others.iter().any(has_copy)
    })
    .await;
    copied(&consortium, 1, &others).await;
    assert_eq!(others.iter().filter(|number| has_copy(number)).count(), 1);
}

/// Removes from the first member what another one dealt it, as though that was after the backup. Gives the custody's id.
fn lose_a_custody(consortium: &Consortium) -> String {
    let owner = (2..=4).find(|number| consortium.custodians_of(*number).contains(&1));
    let custody = consortium.custody_of(owner.unwrap());
    let id = custody["custody"]["id"].as_str().unwrap().to_owned();
    let folder = consortium.data(1).join("vault/custody");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(id.trim_start_matches("0x")) {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(consortium.trees_of(1, &id), 0);
    id
}

/// NFR-REL2: a member's data folder is destroyed; from an older backup and the other members everything that was ever
/// acknowledged comes back, byte for byte: also what was written, registered, amended and deleted after the backup, and the
/// keys that were made since. What was erased stays erased. Trees of pepper shares that others dealt it are dealt again.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_folder_comes_back_from_an_older_backup_and_the_others() {
    let mut consortium = with_copies(3);
    start_all(&mut consortium);
    let home = write_patient(&consortium).await;
    write(&consortium, &home, "erased", "p1", "5.5").await;
    consortium
        .until_none(1, "stele_custody_undealt_trees")
        .await;
    consortium.stop(1);
    let config = consortium.config(1);
    let config = config.to_str().unwrap();
    let backup = consortium.folder(1).join("backup.tar.gz");
    let backup = backup.to_str().unwrap();
    consortium.json(
        1,
        &["backup", "--config", config, "--out", backup, "--json"],
    );
    consortium.start(1);

    // From here on nothing is in the backup.
    let home = consortium.client(1, "system/*.cruds", None);
    let url = consortium.fhir(1, "Patient/p2");
    assert_eq!(
        home.put_text(&url, patient("p2").to_string()).await.status,
        201
    );
    write(&consortium, &home, "new", "p2", "4.4").await;
    write(&consortium, &home, "after", "p1", "8.8").await;
    write(&consortium, &home, "small", "p1", "6.31").await;
    write(&consortium, &home, "deleted", "p1", "1.1").await;
    let deleted = consortium.fhir(1, "Observation/deleted");
    assert!([200, 204].contains(&home.send("DELETE", &deleted, None).await.status));
    let own_doctor = doctor(&consortium, 1);
    let granted = [
        "grant",
        "p2",
        "--to",
        &own_doctor,
        "--categories",
        "laboratory",
        "--days",
        "3",
    ];
    let granted = consortium.try_command(1, &granted);
    assert!(granted.0, "{}", granted.1);
    let erased = consortium.try_command(1, &["erase", "Observation/erased", "--yes"]);
    assert!(erased.0, "{}", erased.1);
    let paths = [
        "Patient/p1",
        "Patient/p2",
        "Observation/small",
        "Observation/small/_history/1",
        "Observation/small/_history/2",
        "Observation/large",
        "Observation/new",
        "Observation/after",
        "Observation/deleted/_history/1",
    ];
    let mut before = Vec::new();
    for path in paths {
        let read = home.get(&consortium.fhir(1, path)).await;
        assert_eq!(read.status, 200, "{path}: {}", read.text);
        before.push((path, read.text));
    }
    copied(&consortium, 1, &[2, 3, 4]).await;
    consortium.kill(1);
    fs::remove_dir_all(consortium.data(1)).unwrap();

    let began = SystemClock.now();
    consortium.json(
        1,
        &["restore", "--config", config, "--from", backup, "--json"],
    );
    let dealt = lose_a_custody(&consortium);
    consortium.start(1);
    let took_ms = SystemClock.now().0 - began.0;
    println!("restored and brought up to date in {took_ms} ms");
    let home = consortium.client(1, "system/*.cruds", None);
    for (path, text) in &before {
        let read = home.get(&consortium.fhir(1, path)).await;
        assert_eq!(read.status, 200, "{path}: {}", read.text);
        assert_eq!(read.text, *text, "{path}, byte for byte");
    }
    assert_eq!(
        home.get(&consortium.fhir(1, "Observation/deleted"))
            .await
            .status,
        410
    );
    let gone = home.get(&consortium.fhir(1, "Observation/erased")).await;
    assert!([404, 410].contains(&gone.status), "{}", gone.text);
    let search = consortium.fhir(1, "Observation?patient=p1&_total=accurate");
    assert_eq!(
        home.get(&search).await.json()["total"],
        3,
        "small, large, after"
    );

    let as_doctor = consortium.client(1, "system/*.cruds", Some(&own_doctor));
    let new = as_doctor.get(&consortium.fhir(1, "Observation/new")).await;
    assert_eq!(
        new.status, 200,
        "a grant made after the backup opens: {}",
        new.text
    );
    let dealt_again = async {
        let asking = consortium.data(1).join("vault/custody/asking");
        while consortium.trees_of(1, &dealt) < 2
            || fs::read_to_string(&asking).unwrap_or_default() != "[]"
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dealt_again)
        .await
        .expect("what others had dealt to it after the backup is dealt again");
    write(&consortium, &home, "afterwards", "p2", "3.3").await;
    write(&consortium, &home, "small", "p1", "6.32").await;
    let newest = home
        .get(&consortium.fhir(1, "Observation/small"))
        .await
        .json();
    assert_eq!(newest["meta"]["versionId"], "3", "{newest}");
    consortium
        .until_none(1, "stele_audit_unanchored_receipts")
        .await;
    consortium.stop(1);
    let checked = consortium.json(1, &["verify", "vault", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
    assert!(
        !consortium.data(1).join("restored").exists(),
        "nothing is lacking"
    );
}
