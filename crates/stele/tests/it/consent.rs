//! The patient decides: grant, read, revoke, over real tokens, with the trail that is left.

use crate::node::{Client, Folder, observation, patient};

/// FR-P10, FR-P11, FR-P13, FR-P14, FR-D04, FR-D05, NFR-SEC3: another organisation sees nothing until it is granted,
/// then what is granted and no more, and nothing again once the grant ended; every step is in the trail.
#[tokio::test(flavor = "multi_thread")]
async fn another_hospital_reads_by_grant_only() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    home.put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    let made = home
        .post_text(&node.fhir("Observation"), observation("p1", "6.3"))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let url = node.fhir(&format!("Observation/{id}"));

    let other = folder.json(&[
        "org",
        "add",
        "Kos Heart Centre",
        "--kind",
        "hospital",
        "--json",
    ]);
    let other = other["organization"].as_str().unwrap().to_owned();
    let doctor = folder.json(&[
        "practitioner",
        "add",
        "Dr Lind",
        "--org",
        &other,
        "--roles",
        "doctor",
        "--json",
    ]);
    let doctor = doctor["practitioner"].as_str().unwrap().to_owned();
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));

    assert_eq!(
        away.get(&url).await.status,
        404,
        "what may not be disclosed does not exist"
    );
    let searched = away
        .get(&node.fhir("Observation?code=4548-4&_total=accurate"))
        .await
        .json();
    assert_eq!(searched["total"], 0, "{searched}");
    let chained = away
        .get(&node.fhir("Patient?_has:Observation:patient:code=4548-4&_total=accurate"))
        .await;
    assert_eq!(chained.json()["total"], 0, "no guessing through joins");

    let request = folder.json(&[
        "request", "p1", "--as", &doctor, "--reason", "referral", "--json",
    ]);
    let number = request["request"].as_u64().unwrap().to_string();
    let granted = folder.json(&[
        "grant",
        "p1",
        "--to",
        &doctor,
        "--categories",
        "laboratory",
        "--days",
        "30",
        "--request",
        &number,
        "--json",
    ]);
    let grant = granted["id"].as_u64().unwrap().to_string();

    let read = away.get(&url).await;
    assert_eq!(read.status, 200, "{}", read.text);
    assert_eq!(
        away.get(&node.fhir("Patient/p1")).await.status,
        404,
        "only the laboratory was granted"
    );
    let edit = away.put_text(&url, read.text.replace("6.3", "9.9")).await;
    assert_eq!(edit.status, 403, "read is not write: {}", edit.text);
    let research = folder.json(&[
        "grant",
        "p1",
        "--to",
        &other,
        "--categories",
        "demographics",
        "--purposes",
        "HRESCH",
        "--json",
    ]);
    assert!(
        research["sentence"]
            .as_str()
            .unwrap()
            .contains("for research"),
        "{research}"
    );
    assert_eq!(
        away.get(&node.fhir("Patient/p1")).await.status,
        404,
        "another purpose is another grant"
    );

    assert_eq!(
        folder
            .stele(&["revoke", "p1", "--from", &doctor, "--id", &grant])
            .0,
        0
    );
    assert_eq!(
        away.get(&url).await.status,
        404,
        "refused from the block on"
    );
    let searched = away
        .get(&node.fhir("Observation?code=4548-4&_total=accurate"))
        .await
        .json();
    assert_eq!(searched["total"], 0, "{searched}");
    assert_eq!(
        home.get(&url).await.status,
        200,
        "the patient's own hospital still reads"
    );

    // What is written after the end is sealed to a new generation, which those who remain can open.
    let later = home
        .post_text(&node.fhir("Observation"), observation("p1", "6.4"))
        .await;
    assert_eq!(later.status, 201, "{}", later.text);
    let later_id = later.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        home.get(&node.fhir(&format!("Observation/{later_id}")))
            .await
            .status,
        200
    );

    let trail = home
        .get(&node.fhir("AuditEvent?patient=p1&_count=200"))
        .await;
    assert_eq!(trail.status, 200, "{}", trail.text);
    let trail = trail.json();
    let events = trail["entry"].as_array().unwrap();
    let by_doctor = |outcome: &str| {
        events
            .iter()
            .filter(|event| {
                event["resource"]["agent"][0]["who"]["identifier"]["value"]
                    .as_str()
                    .is_some_and(|who| who.eq_ignore_ascii_case(&doctor))
                    && event["resource"]["outcome"] == outcome
            })
            .count()
    };
    assert!(by_doctor("0") >= 1, "the allowed read is in the trail");
    assert!(by_doctor("4") >= 2, "refused attempts are too");
    node.stop();
}

/// FR-P02, FR-P03, NFR-PRI2: nothing on the ledger says who or what; only pseudonyms, commitments and bit sets.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_files_hold_no_clear_identifier() {
    let folder = Folder::new();
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    client
        .post_text(&node.fhir("Observation"), observation("p1", "6.3"))
        .await;
    node.stop();
    for needle in ["Testfamily", "1970-01-02", "4548-4", "valueQuantity"] {
        let found = files_with(&folder.path(), needle.as_bytes());
        assert!(
            found.is_empty(),
            "{needle} stands in {found:?} (LIM-23: a stolen disk yields ciphertext only)"
        );
    }
}

fn files_with(folder: &std::path::Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(needle.len())
            .any(|part| part == needle)
        {
            found.push(path);
        }
    }
    found
}
