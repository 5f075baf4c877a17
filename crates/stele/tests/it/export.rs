//! What is taken out of a node, checked where no node is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::node::{Client, Folder, Running, demo, observation, patient};

/// A folder elsewhere, with nothing but the genesis file.
struct Elsewhere {
    folder: tempfile::TempDir,
}

impl Elsewhere {
    fn new(of: &Folder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(
            of.path().join("genesis.json"),
            folder.path().join("genesis.json"),
        )
        .unwrap();
        Self { folder }
    }

    fn verify(&self, what: &str, file: &Path) -> (Option<i32>, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(["verify", what, "--json", "--genesis", "genesis.json"])
            .arg(file)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{error}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        });
        (output.status.code(), answer)
    }

    /// A changed copy must be refused; gives what was said.
    fn refuses(&self, what: &str, extension: &str, content: &[u8]) -> Value {
        let file = self.folder.path().join(format!("changed.{extension}"));
        fs::write(&file, content).unwrap();
        let (code, answer) = self.verify(what, &file);
        assert_eq!(
            (code, &answer["ok"]),
            (Some(1), &Value::Bool(false)),
            "{answer}"
        );
        assert!(!answer["where"].as_str().unwrap().is_empty(), "{answer}");
        answer
    }
}

/// Every so many bytes one is changed into another letter.
fn changed(content: &[u8], at: usize) -> Vec<u8> {
    let mut content = content.to_vec();
    content[at] = if content[at] == b'A' { b'B' } else { b'A' };
    content
}

async fn a_patient(folder: &Folder, node: &Running) -> Client {
    let home = Client::new(folder.token("system/*.cruds", None));
    let made = home
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    for value in ["6.30", "7.10"] {
        let made = home
            .post_text(&node.fhir("Observation"), observation("p1", value))
            .await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    home
}

/// FR-P08, S12, S29: one signed file holds the whole record, for people and for machines; it is checked without a
/// node, and whatever byte is changed is noticed, in the record by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_taken_out_is_checked_anywhere() {
    let folder = Folder::new();
    let node = folder.start();
    a_patient(&folder, &node).await;
    let out = folder.beside("out");
    let said = folder.json(&["export", "p1", "--out", out.to_str().unwrap(), "--json"]);
    assert_eq!(said["records"], 3, "{said}");
    let (page, bundle) = (
        out.join("health-record.html"),
        out.join("health-record.fhir.json"),
    );
    node.stop();

    let elsewhere = Elsewhere::new(&folder);
    for file in [&page, &bundle] {
        let (code, answer) = elsewhere.verify("export", file);
        assert_eq!(code, Some(0), "{answer}");
        let proven = &answer["proven"];
        assert_eq!(proven["records"], 3, "{answer}");
        assert_eq!(
            (&proven["role"], &proven["logSize"]),
            (&Value::from("organization"), &Value::from(3)),
            "{answer}"
        );
    }
    let text = fs::read_to_string(&bundle).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["resourceType"], "Bundle");
    assert_eq!(parsed["signature"]["sigFormat"], "application/jose");
    assert!(text.contains("6.30"), "numbers stay as they were written");

    let named = elsewhere.refuses("export", "json", text.replace("6.30", "9.30").as_bytes());
    let place = named["where"].as_str().unwrap();
    assert!(
        place.contains("Observation/"),
        "the record is named: {named}"
    );
    let mut without = parsed.clone();
    without["entry"].as_array_mut().unwrap().remove(1);
    let missing = elsewhere.refuses("export", "json", without.to_string().as_bytes());
    assert!(
        missing["what"].as_str().unwrap().contains("taken out"),
        "{missing}"
    );
    let mut other = parsed;
    other["timestamp"] = "2020-01-01T00:00:00.000Z".into();
    let other = elsewhere.refuses("export", "json", other.to_string().as_bytes());
    assert_eq!(other["where"], "signature", "{other}");
    let bytes = text.as_bytes();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        elsewhere.refuses("export", "json", &changed(bytes, at));
    }

    let html = fs::read(&page).unwrap();
    let shown = String::from_utf8(html.clone()).unwrap();
    for wanted in [
        "Given Testfamily",
        "6.30 %",
        "Verified",
        "Content-Security-Policy",
    ] {
        assert!(shown.contains(wanted), "{wanted} is not on the page");
    }
    assert!(!shown.contains("<script") && !shown.contains("src="));
    let title = shown.split("<title>").nth(1).unwrap();
    assert!(
        !title
            .split("</title>")
            .next()
            .unwrap()
            .contains("Testfamily")
    );
    let lie = shown.replace("6.30 %", "5.30 %");
    assert_eq!(
        elsewhere.refuses("export", "html", lie.as_bytes())["where"],
        "page"
    );
    for at in (0..html.len()).step_by(html.len() / 40) {
        elsewhere.refuses("export", "html", &changed(&html, at));
    }

    // Another consortium's genesis vouches for nothing here.
    let stranger = Folder::new();
    stranger.start().stop();
    let (code, answer) = Elsewhere::new(&stranger).verify("export", &bundle);
    assert_eq!(code, Some(1), "{answer}");
}

/// FR-P08: a whole life of the demonstration comes out, with the people and places it names; somebody who was
/// granted a part takes out that part and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_comes_out_whole_and_a_grantee_takes_a_part() {
    let folder = Folder::new();
    let node = folder.start();
    let imported = folder.json(&["import", demo().to_str().unwrap(), "--json"]);
    assert_eq!(imported["failed"], 0, "{imported}");
    let home = Client::new(folder.token("system/*.cruds", None));
    let found = home.get(&node.fhir("Patient?_count=1")).await.json();
    let id = found["entry"][0]["resource"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let whole = folder.beside("whole.json");
    let said = folder.json(&["export", &id, "--out", whole.to_str().unwrap(), "--json"]);
    let count = said["records"].as_u64().unwrap();
    assert!(count > 50, "{said}");

    let doctor = folder.json(&["org", "add", "Kos Heart Centre", "--json"]);
    let doctor = doctor["organization"].as_str().unwrap().to_owned();
    folder.json(&[
        "grant",
        &id,
        "--to",
        &doctor,
        "--categories",
        "demographics,problems",
        "--json",
    ]);
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));
    let part = away
        .get(&node.fhir(&format!("Patient/{id}/$signed-export?format=json")))
        .await;
    assert_eq!(part.status, 200, "{}", part.text);
    let kinds: std::collections::BTreeSet<String> = part.json()["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["resource"]["resourceType"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        kinds.contains("Condition") && !kinds.contains("Observation"),
        "{kinds:?}"
    );
    let file = folder.beside("part.json");
    fs::write(&file, &part.text).unwrap();
    node.stop();
    let elsewhere = Elsewhere::new(&folder);
    let (code, answer) = elsewhere.verify("export", &whole);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["proven"]["records"], count);
    let (code, part) = elsewhere.verify("export", &file);
    assert_eq!(code, Some(0), "{part}");
    assert!(part["proven"]["records"].as_u64().unwrap() < count);
}

/// FR-P08, S12: a patient with a key file takes the record out alone; the patient's own key signs.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_with_a_key_file_signs_the_export() {
    let folder = Folder::new();
    let node = folder.start();
    let (key, passphrase): (PathBuf, PathBuf) = (folder.beside("k"), folder.beside("k.txt"));
    fs::write(&passphrase, "a long enough passphrase").unwrap();
    let flags = [
        "--key-file-of-patient",
        key.to_str().unwrap(),
        "--passphrase-file",
        passphrase.to_str().unwrap(),
    ];
    a_patient(&folder, &node).await;
    let claim = [&["patient", "claim", "p1"][..], &flags, &["--json"]].concat();
    let account = folder.json(&claim)["account"].as_str().unwrap().to_owned();
    let out = folder.beside("own.html");
    let export = [
        &["export", "p1", "--out", out.to_str().unwrap()][..],
        &flags,
    ]
    .concat();
    let said = folder.json(&[&export[..], &["--json"]].concat());
    assert_eq!(said["records"], 3, "{said}");
    node.stop();
    let (code, answer) = Elsewhere::new(&folder).verify("export", &out);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["proven"]["role"], "patient", "{answer}");
    assert!(
        answer["proven"]["signer"]
            .as_str()
            .unwrap()
            .eq_ignore_ascii_case(&account),
        "{answer}"
    );
}

/// FR-R1, FR-P14: the trail comes out as a signed report whose every line stands where the ledger has it; what is
/// changed or left out is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_accesses_is_checked_anywhere() {
    let folder = Folder::new();
    let node = folder.start();
    let home = a_patient(&folder, &node).await;
    let found = home.get(&node.fhir("Observation?patient=p1")).await;
    assert_eq!(found.status, 200, "{}", found.text);
    let other = folder.json(&["org", "add", "Kos Heart Centre", "--json"]);
    let other = other["organization"].as_str().unwrap().to_owned();
    let away = Client::new(folder.token("system/*.cruds", Some(&other)));
    assert_eq!(away.get(&node.fhir("Patient/p1")).await.status, 404);
    let out = folder.beside("accesses");
    let said = folder.json(&["audit", "p1", "--out", out.to_str().unwrap(), "--json"]);
    assert!(said["accesses"].as_u64().unwrap() >= 2, "{said}");
    let trail = home
        .get(&node.fhir("AuditEvent?patient=p1&_count=500"))
        .await
        .json();
    node.stop();

    let file = out.join("accesses.json");
    let text = fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let receipts = report["receipts"].as_array().unwrap();
    assert_eq!(
        receipts.len(),
        trail["entry"].as_array().unwrap().len(),
        "the report and the AuditEvents are the same accesses"
    );
    let elsewhere = Elsewhere::new(&folder);
    let (code, answer) = elsewhere.verify("audit", &file);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["proven"]["accesses"], receipts.len());
    assert!(
        answer["proven"]["refused"].as_u64().unwrap() >= 1,
        "{answer}"
    );

    let position = receipts
        .iter()
        .position(|one| one["allowed"] == false)
        .unwrap();
    let mut lie = report.clone();
    lie["receipts"][position]["allowed"] = true.into();
    let said = elsewhere.refuses("audit", "json", lie.to_string().as_bytes());
    assert_eq!(said["where"], format!("receipts[{position}]"), "{said}");
    let mut lie = report.clone();
    lie["receipts"].as_array_mut().unwrap().remove(position);
    let said = elsewhere.refuses("audit", "json", lie.to_string().as_bytes());
    assert_eq!(said["where"], "signature", "{said}");
    let mut lie = report.clone();
    let digests = lie["sequences"][0]["digests"].as_array_mut().unwrap();
    digests.pop();
    let said = elsewhere.refuses("audit", "json", lie.to_string().as_bytes());
    assert!(
        said["where"].as_str().unwrap().starts_with("sequence"),
        "{said}"
    );
    let bytes = text.as_bytes();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        elsewhere.refuses("audit", "json", &changed(bytes, at));
    }
    let table = fs::read_to_string(out.join("accesses.csv")).unwrap();
    assert_eq!(table.lines().count(), receipts.len() + 1);
    assert!(table.contains(",refused,"), "{table}");
    let page = fs::read_to_string(out.join("accesses.html")).unwrap();
    assert!(page.contains("Refused") && !page.contains("<script"));
}
