//! What people do from the command line: patients with their own key file, patients whose keys the organisation
//! manages, those who ask them for access, and members of the consortium who decide.

use std::path::PathBuf;

use alloy_primitives::{Address, Bytes, TxKind, hex};
use alloy_sol_types::{SolCall as _, SolError as _};
use serde_json::{Value, json};
use stele_core::{
    abi::{
        consent::IConsent::openCategoriesCall,
        governance::IGovernance::{proposeCall, voteCall},
        records::IRecords::{Entry, NotPermitted, anchorCall},
    },
    account::{AccountKey, UnsignedCall},
    crypto::keystore::Unlock,
    id::{CONSENT, GOVERNANCE, RECORDS},
};
use stele_vault::keys::key_file::PatientKeys;
use zeroize::Zeroizing;

use crate::node::{Client, Folder, Running, observation, patient};

const PASSPHRASE: &str = "a long enough passphrase";

/// A patient's key file and the flags that name it.
struct KeyFile {
    file: PathBuf,
    passphrase: PathBuf,
}

impl KeyFile {
    fn new(folder: &Folder, name: &str) -> Self {
        let passphrase = folder.beside(&format!("{name}.txt"));
        std::fs::write(&passphrase, format!("{PASSPHRASE}\n")).unwrap();
        Self {
            file: folder.beside(&format!("{name}.key")),
            passphrase,
        }
    }

    fn made(folder: &Folder, name: &str) -> Self {
        let key = Self::new(folder, name);
        let made = folder.json(&[
            "keys",
            "patient",
            "--out",
            key.file.to_str().unwrap(),
            "--passphrase-file",
            key.passphrase.to_str().unwrap(),
            "--json",
        ]);
        assert!(made["account"].is_string(), "{made}");
        key
    }

    fn flags(&self) -> [&str; 4] {
        [
            "--key-file-of-patient",
            self.file.to_str().unwrap(),
            "--passphrase-file",
            self.passphrase.to_str().unwrap(),
        ]
    }

    fn open(&self) -> PatientKeys {
        let unlock = Unlock::Passphrase(Zeroizing::new(PASSPHRASE.to_owned()));
        PatientKeys::unwrap(&std::fs::read(&self.file).unwrap(), &unlock).unwrap()
    }
}

/// A command with the flags of a key file, answered in JSON.
fn with_key(folder: &Folder, key: &KeyFile, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(key.flags());
    all.push("--json");
    folder.json(&all)
}

fn add_own_patient(folder: &Folder, key: &KeyFile, id: &str) -> Value {
    let file = folder.beside(&format!("{id}.json"));
    std::fs::write(&file, patient(id).to_string()).unwrap();
    with_key(folder, key, &["patient", "add", file.to_str().unwrap()])
}

/// Another organisation with a doctor.
fn other_hospital(folder: &Folder) -> (String, String) {
    let organization = folder.json(&["org", "add", "Kos Heart Centre", "--json"]);
    let organization = organization["organization"].as_str().unwrap().to_owned();
    let doctor = folder.json(&[
        "practitioner",
        "add",
        "Dr Lind",
        "--org",
        &organization,
        "--json",
    ]);
    let doctor = doctor["practitioner"].as_str().unwrap().to_owned();
    (organization, doctor)
}

async fn observe(client: &Client, node: &Running, patient: &str, value: &str) -> String {
    let made = client
        .post_text(&node.fhir("Observation"), observation(patient, value))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn rpc(node: &Running, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let url = node.ready["rpc"].as_str().unwrap();
    let answer = reqwest::Client::new().post(url).json(&body).send().await;
    answer.unwrap().json().await.unwrap()
}

/// Slots that the ledger opens to somebody now: what the custodian asks before it releases a pepper.
async fn open_slots(node: &Running, patient: Address, who: &str) -> u64 {
    let call = openCategoriesCall {
        patient,
        who: who.parse().unwrap(),
        permission: 1,
        purpose: 1,
    };
    let asked = json!([
        { "to": CONSENT, "data": hex::encode_prefixed(call.abi_encode()) },
        "latest"
    ]);
    let answer = rpc(node, "eth_call", asked).await;
    let output: Bytes = answer["result"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .parse()
        .unwrap();
    openCategoriesCall::abi_decode_returns(&output).unwrap()
}

/// FR-P10, FR-P11, FR-P13, FR-P14, FR-D04, FR-D05: a patient who keeps their own keys is asked, approves, declines,
/// revokes, reads and looks at the trail, all with the key file; nobody else decides for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_with_a_key_file_decides_alone() {
    let folder = Folder::new();
    let node = folder.start();
    let key = KeyFile::made(&folder, "own1");
    let added = add_own_patient(&folder, &key, "own1");
    assert_eq!(added["id"], "own1", "{added}");
    let account = key.open().account;
    let home = Client::new(folder.token("system/*.cruds", None));
    let first = observe(&home, &node, "own1", "6.30").await;
    let url = node.fhir(&format!("Observation/{first}"));
    assert_eq!(home.get(&url).await.status, 200, "the default grant holds");

    let list = with_key(&folder, &key, &["record", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let record = format!("Observation/{first}");
    let shown = with_key(&folder, &key, &["record", "show", &record]);
    assert_eq!(shown["valueQuantity"]["value"].to_string(), "6.30");

    let (_, doctor) = other_hospital(&folder);
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));
    assert_eq!(away.get(&url).await.status, 404);
    let flags = ["--to", &doctor, "--categories", "laboratory"];
    let staff = folder.stele(&[&["grant", "own1"][..], &flags[..]].concat());
    assert_eq!(
        staff.0, 2,
        "staff can't decide for this patient: {}",
        staff.1
    );

    let ask = |reason| {
        folder.json(&[
            "request", "own1", "--as", &doctor, "--reason", reason, "--json",
        ])["request"]
            .as_u64()
            .unwrap()
            .to_string()
    };
    let (yes, no) = (ask("second opinion"), ask("curiosity"));
    let requests = with_key(&folder, &key, &["requests", "own1"]);
    assert_eq!(requests[0]["asks"]["reason"], "curiosity", "{requests}");
    assert_eq!(requests[1]["asks"]["reason"], "second opinion");
    with_key(&folder, &key, &["decline", "own1", &no]);
    let granted = with_key(
        &folder,
        &key,
        &["approve", "own1", &yes, "--category", "laboratory"],
    );
    let requests = with_key(&folder, &key, &["requests", "own1"]);
    assert_eq!(requests[0]["status"], "declined", "{requests}");
    assert_eq!(requests[1]["status"], "approved");
    let mut again = vec!["approve", "own1", no.as_str(), "--category", "all"];
    again.extend(key.flags());
    assert_eq!(
        folder.stele(&again).0,
        2,
        "a declined request stays declined"
    );

    let read = away.get(&url).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let edit = away.put_text(&url, read.text.replace("6.30", "9.99")).await;
    assert_eq!(edit.status, 403, "read is not write: {}", edit.text);
    assert_eq!(
        away.get(&node.fhir("Patient/own1")).await.status,
        404,
        "only the laboratory was granted"
    );

    let id = granted["id"].as_u64().unwrap().to_string();
    assert_ne!(open_slots(&node, account, &doctor).await, 0);
    let revoke = ["revoke", "own1", "--from", &doctor, "--id", &id];
    let revoked = with_key(&folder, &key, &revoke);
    assert!(revoked["height"].as_u64().is_some(), "{revoked}");
    assert_eq!(
        open_slots(&node, account, &doctor).await,
        0,
        "the custodian is refused once the revocation's block is final"
    );
    assert_eq!(away.get(&url).await.status, 404, "and so is the gateway");
    let later = observe(&home, &node, "own1", "6.4").await;
    let later_url = node.fhir(&format!("Observation/{later}"));
    assert_eq!(
        home.get(&later_url).await.status,
        200,
        "who remains has the new keys"
    );
    assert_eq!(away.get(&later_url).await.status, 404);
    let record = format!("Observation/{later}");
    let shown = with_key(&folder, &key, &["record", "show", &record]);
    assert_eq!(shown["valueQuantity"]["value"].to_string(), "6.4");

    let trail = with_key(&folder, &key, &["audit", "own1", "--count", "500"]);
    let count = |who: &str, outcome: &str| {
        let events = trail["entry"].as_array().unwrap();
        events
            .iter()
            .filter(|event| {
                event["resource"]["agent"][0]["who"]["identifier"]["value"]
                    .as_str()
                    .is_some_and(|found| found.eq_ignore_ascii_case(who))
                    && event["resource"]["outcome"] == outcome
            })
            .count()
    };
    assert!(count(&account.to_string(), "0") >= 3, "own reads: {trail}");
    assert!(count(&doctor, "0") >= 1 && count(&doctor, "4") >= 3);
    node.stop();
}

/// The node of a patient with a key file can't open a record by itself, and a sign-in works once, for its gateway,
/// with the right key.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_file_opens_and_signs_in() {
    let folder = Folder::new();
    let node = folder.start();
    let key = KeyFile::made(&folder, "own1");
    add_own_patient(&folder, &key, "own1");
    let home = Client::new(folder.token("system/*.cruds", None));
    let id = observe(&home, &node, "own1", "6.3").await;
    let keys = key.open();
    let signing = AccountKey::new(keys.signing.clone()).unwrap();
    let chain_id = node.ready["chainId"].as_u64().unwrap();
    let audience = node.ready["http"].as_str().unwrap().to_owned();
    let issued = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let sign_in = |audience: &str, account: Address, issued: u64, random: u8| {
        use alloy_sol_types::SolStruct as _;
        let id = alloy_primitives::B256::repeat_byte(random);
        let typed = stele_core::abi::typed::SignIn {
            account,
            audience: audience.to_owned(),
            id,
            issued: alloy_primitives::aliases::U40::from(issued),
        };
        let domain = stele_core::abi::typed::sign_in_domain(chain_id);
        let signature = signing
            .sign_hash(typed.eip712_signing_hash(&domain))
            .unwrap();
        json!({
            "account": account, "audience": audience, "id": id, "issued": issued,
            "signature": hex::encode_prefixed(signature.as_bytes())
        })
    };
    let post = async |body: Value| {
        let http = reqwest::Client::new();
        let answer = http.post(node.url("/auth/key")).json(&body).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let good = sign_in(&audience, keys.account, issued, 1);
    let (status, text) = post(good.clone()).await;
    assert_eq!(status, 200, "{text}");
    let token: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(post(good).await.0, 403, "a sign-in works once");
    let other = sign_in("http://elsewhere.example", keys.account, issued, 2);
    assert_eq!(post(other).await.0, 403, "it is for another gateway");
    let old = sign_in(&audience, keys.account, issued - 3600, 3);
    assert_eq!(post(old).await.0, 403, "it is old");
    let stranger = sign_in(&audience, Address::repeat_byte(9), issued, 4);
    assert_eq!(post(stranger).await.0, 403, "the key is not that account's");

    let own = Client::new(token["access_token"].as_str().unwrap().to_owned());
    let read = own.get(&node.fhir(&format!("Observation/{id}"))).await;
    assert_eq!(
        read.status, 404,
        "the node has no key for it: {}",
        read.text
    );
    let sealed = own
        .get(&node.url(&format!("/own/records/Observation/{id}")))
        .await;
    assert_eq!(sealed.status, 200, "{}", sealed.text);
    assert!(!sealed.text.contains("4548-4") && !sealed.text.contains("6.3,"));
    let desk = home
        .get(&node.url(&format!("/own/records/Observation/{id}")))
        .await;
    assert_eq!(desk.status, 403, "{}", desk.text);
    node.stop();
}

/// FR-P10, FR-P13, FR-D04: for a managed patient staff record the decision; months, purposes, permissions and the
/// end are as the flags say.
#[tokio::test(flavor = "multi_thread")]
async fn a_managed_patients_decisions_say_what_the_flags_say() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    home.put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    let id = observe(&home, &node, "p1", "6.3").await;
    let url = node.fhir(&format!("Observation/{id}"));
    let (_, doctor) = other_hospital(&folder);
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));

    let grant = |flags: &[&str]| {
        let mut all = vec!["grant", "p1", "--to", &doctor, "--category", "laboratory"];
        all.extend(flags);
        all.push("--json");
        folder.json(&all)
    };
    grant(&["--months", "1970-01..1970-02"]);
    assert_eq!(away.get(&url).await.status, 404, "another month's records");
    grant(&["--purpose", "HRESCH", "--until", "2099-12-31"]);
    assert_eq!(away.get(&url).await.status, 404, "another purpose");
    let full = grant(&["--permission", "read,write", "--until", "2099-12-31"]);
    let sentence = full["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("see and add to") && sentence.contains("until 31 December 2099"),
        "{sentence}"
    );
    let read = away.get(&url).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let edit = away.put_text(&url, read.text.replace("6.3", "6.5")).await;
    assert_eq!(
        edit.status, 200,
        "FR-D05: update by permission: {}",
        edit.text
    );

    let listed = folder.json(&["grants", "p1", "--json"]);
    let lines: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["grantee"] == doctor.as_str())
        .collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(lines.iter().all(|line| line["live"] == true));
    assert_eq!(lines[0]["categories"], json!(["laboratory"]));

    let (_, nurse) = other_hospital(&folder);
    let number = |flags: &[&str]| {
        let mut all = vec!["request", "p1", "--as", &nurse, "--reason", "care"];
        all.extend(flags);
        all.push("--json");
        folder.json(&all)["request"].as_u64().unwrap().to_string()
    };
    let (yes, no) = (number(&["--category", "laboratory"]), number(&[]));
    let asked = folder.json(&["requests", "p1", "--json"]);
    assert_eq!(asked[1]["asks"]["categories"], json!(["laboratory"]));
    folder.json(&["approve", "p1", &yes, "--category", "laboratory", "--json"]);
    folder.json(&["decline", "p1", &no, "--json"]);
    let nurse = Client::new(folder.token("system/*.cruds", Some(&nurse)));
    assert_eq!(nurse.get(&url).await.status, 200);
    for wrong in [
        &["grant", "p1", "--to", &doctor, "--category", "hart"][..],
        &[
            "grant",
            "p1",
            "--to",
            &doctor,
            "--category",
            "all",
            "--months",
            "soon",
        ],
        &[
            "grant",
            "p1",
            "--to",
            &doctor,
            "--category",
            "all",
            "--until",
            "1999-01-01",
        ],
        &["approve", "p1", "77", "--category", "all"],
        &["decline", "p1", "77"],
        &["requests", "nobody"],
    ] {
        assert_eq!(folder.stele(wrong).0, 2, "{wrong:?}");
    }
    node.stop();
}

/// A managed patient takes the account over: the organisation's key no longer speaks, what it was granted stays
/// open, what is written later is sealed to keys it never had, and the patient's key file opens both.
#[tokio::test(flavor = "multi_thread")]
async fn a_managed_patient_takes_the_account_over() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    home.put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    let before = observe(&home, &node, "p1", "5.1").await;
    let (_, doctor) = other_hospital(&folder);
    let key = KeyFile::new(&folder, "p1");
    let claimed = with_key(&folder, &key, &["patient", "claim", "p1"]);
    let keys = key.open();
    assert_eq!(
        claimed["account"]
            .as_str()
            .unwrap()
            .parse::<Address>()
            .unwrap(),
        keys.account
    );
    let signing = AccountKey::new(keys.signing.clone()).unwrap();
    assert_ne!(signing.address(), keys.account, "a new key speaks");

    let after = observe(&home, &node, "p1", "5.2").await;
    for (id, value) in [(&before, "5.1"), (&after, "5.2")] {
        let record = format!("Observation/{id}");
        let shown = with_key(&folder, &key, &["record", "show", &record]);
        assert_eq!(shown["valueQuantity"]["value"].to_string(), value);
        let read = home.get(&node.fhir(&record)).await;
        assert_eq!(read.status, 200, "the grant goes on: {}", read.text);
    }
    let staff = ["grant", "p1", "--to", &doctor, "--category", "laboratory"];
    assert_eq!(folder.stele(&staff).0, 2, "staff decide no more");
    let again = [&["patient", "claim", "p1"][..], &key.flags()].concat();
    assert_eq!(folder.stele(&again).0, 2, "nothing is taken over twice");

    let asked = folder.json(&[
        "request", "p1", "--as", &doctor, "--reason", "care", "--json",
    ]);
    let number = asked["request"].as_u64().unwrap().to_string();
    // The account's transactions are signed by a key that is not its address.
    with_key(&folder, &key, &["decline", "p1", &number]);
    let granted = with_key(
        &folder,
        &key,
        &["grant", "p1", "--to", &doctor, "--category", "laboratory"],
    );
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));
    for id in [&before, &after] {
        let url = node.fhir(&format!("Observation/{id}"));
        assert_eq!(away.get(&url).await.status, 200);
    }
    let id = granted["id"].as_u64().unwrap().to_string();
    let revoke = ["revoke", "p1", "--from", &doctor, "--id", &id];
    with_key(&folder, &key, &revoke);
    let url = node.fhir(&format!("Observation/{after}"));
    assert_eq!(away.get(&url).await.status, 404);
    node.stop();

    // The organisation's copies are gone from the vault, and the record is whole after a restart.
    let node = folder.start();
    let shown = with_key(
        &folder,
        &key,
        &["record", "show", &format!("Observation/{after}")],
    );
    assert_eq!(shown["valueQuantity"]["value"].to_string(), "5.2");
    node.stop();
}

/// FR-A4: members decide by vote; a consortium of one decides alone, two decide together, and nobody else can
/// propose, vote or deploy.
#[tokio::test(flavor = "multi_thread")]
async fn members_decide_and_nobody_else_does() {
    let folder = Folder::new();
    let node = folder.start();
    let shown = folder.json(&["governance", "show", "--json"]);
    assert_eq!(shown["parameters"]["staleness_ms"], 60_000, "{shown}");
    let alone = folder.json(&[
        "governance",
        "propose",
        "parameter",
        "staleness_ms",
        "45000",
        "--json",
    ]);
    assert_eq!(alone["executed"], true, "{alone}");
    let shown = folder.json(&["governance", "show", "--json"]);
    assert_eq!(shown["parameters"]["staleness_ms"], 45_000, "{shown}");
    for wrong in [
        ["governance", "propose", "parameter", "staleness_ms", "1"],
        ["governance", "propose", "parameter", "no_such_thing", "1"],
    ] {
        assert_eq!(folder.stele(&wrong).0, 2, "{wrong:?}");
    }

    let (other, doctor) = other_hospital(&folder);
    let as_doctor = [
        "governance",
        "propose",
        "parameter",
        "max_leaves",
        "64",
        "--as",
        &doctor,
    ];
    assert_eq!(folder.stele(&as_doctor).0, 2, "staff are no members");
    let both = folder.json(&[
        "governance",
        "propose",
        "parameter",
        "max_leaves",
        "512",
        "--json",
    ]);
    assert_eq!(both["executed"], false, "two decide together: {both}");
    let number = both["proposal"].as_u64().unwrap().to_string();
    let shown = folder.json(&["governance", "show", "--json"]);
    assert_eq!(shown["proposals"][0]["status"], "open", "{shown}");
    assert_eq!(shown["proposals"][0]["what"]["name"], "max_leaves");
    let vote = ["governance", "vote", &number, "yes"];
    assert_eq!(folder.stele(&vote).0, 2, "one organisation has one vote");
    let as_doctor = [&vote[..], &["--as", &doctor]].concat();
    assert_eq!(folder.stele(&as_doctor).0, 2, "staff have none");
    let voted = folder.json(&[&vote[..], &["--as", &other, "--json"]].concat());
    assert_eq!(voted["executed"], true, "{voted}");
    let shown = folder.json(&["governance", "show", "--json"]);
    assert_eq!(shown["parameters"]["max_leaves"], 512, "{shown}");

    // Third parties over JSON-RPC: a patient with a key of their own is registered and no member.
    let key = KeyFile::made(&folder, "own1");
    add_own_patient(&folder, &key, "own1");
    let signing = AccountKey::new(key.open().signing).unwrap();
    let chain_id = node.ready["chainId"].as_u64().unwrap();
    let nonce = async || {
        let asked = json!([signing.address(), "latest"]);
        let answer = rpc(&node, "eth_getTransactionCount", asked).await;
        let text = answer["result"].as_str().unwrap().to_owned();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    };
    let send = async |to: TxKind, input: Vec<u8>| {
        let signed = signing
            .sign(UnsignedCall {
                chain_id,
                nonce: nonce().await,
                gas_limit: 2_000_000,
                to,
                input: input.into(),
            })
            .unwrap();
        rpc(&node, "eth_sendRawTransaction", json!([signed])).await
    };
    let propose = proposeCall {
        kind: 2,
        payload: alloy_primitives::B256::left_padding_from(
            other.parse::<Address>().unwrap().as_slice(),
        )
        .to_vec()
        .into(),
    };
    for call in [
        propose.abi_encode(),
        voteCall {
            id: 1,
            support: true,
        }
        .abi_encode(),
    ] {
        let asked = json!([{ "from": signing.address(), "to": GOVERNANCE, "data": hex::encode_prefixed(&call) }, "latest"]);
        let answer = rpc(&node, "eth_call", asked).await;
        assert!(answer["error"].is_object(), "NotAMember: {answer}");
    }
    // Init code of a contract with one byte of code, 0xfe.
    let init = hex!("60fe60005360016000f3").to_vec();
    let refused = send(TxKind::Create, init.clone()).await;
    assert!(refused["error"].is_object(), "may not deploy: {refused}");
    let account = signing.address().to_string();
    let allow = folder.json(&[
        "governance",
        "propose",
        "deployer",
        &account,
        "allow",
        "--json",
    ]);
    let number = allow["proposal"].as_u64().unwrap().to_string();
    folder.json(&[
        "governance",
        "vote",
        &number,
        "yes",
        "--as",
        &other,
        "--json",
    ]);
    let accepted = send(TxKind::Create, init).await;
    assert!(accepted["result"].is_string(), "{accepted}");
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
}

/// LIM-26: what the published prototype contract allowed can't be done here: nobody writes over another's record,
/// and nobody reads from the ledger what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_overwrites_or_reads_anothers_record() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    home.put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    let id = observe(&home, &node, "p1", "6.3").await;
    let url = node.fhir(&format!("Observation/{id}"));
    let text = home.get(&url).await.text;
    let grants = folder.json(&["grants", "p1", "--json"]);
    let (other, doctor) = other_hospital(&folder);
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));
    let edit = away.put_text(&url, text.replace("6.3", "9.9")).await;
    assert!(matches!(edit.status, 403 | 404), "{}", edit.text);
    assert_eq!(
        home.get(&url).await.text,
        text,
        "the record stands as it was"
    );

    let whole = folder.json(&["verify", "patient", "p1", "--json"]);
    let log: Address = whole["proven"]["log"].as_str().unwrap().parse().unwrap();
    assert!(!grants.as_array().unwrap().is_empty());
    let by: Address = other.parse().unwrap();
    let anchor = anchorCall {
        entries: vec![Entry {
            log,
            categories: vec![7].into(),
            leaves: vec![alloy_primitives::B256::repeat_byte(1)],
        }],
        author: by,
        custodian: by,
        storageSignature: Bytes::new(),
    };
    let asked = json!([{
        "from": by, "to": RECORDS, "data": hex::encode_prefixed(anchor.abi_encode())
    }, "latest"]);
    let answer = rpc(&node, "eth_call", asked).await;
    let data = answer["error"]["data"].as_str().unwrap_or_default();
    let refused = hex::encode_prefixed(NotPermitted::SELECTOR);
    assert!(data.starts_with(&refused), "{answer}");
    let all = rpc(
        &node,
        "eth_getLogs",
        json!([{ "fromBlock": "0x0", "toBlock": "latest" }]),
    )
    .await;
    let logs = all["result"].to_string();
    assert!(
        logs.contains(&hex::encode(log)),
        "the patient's log is there"
    );
    for clear in ["4548-4", "Testfamily", "1970-01-02"] {
        assert!(!logs.contains(clear) && !logs.contains(&hex::encode(clear)));
    }
    let after = folder.json(&["verify", "patient", "p1", "--json"]);
    assert_eq!(after["records"], whole["records"], "nothing was added");
    node.stop();
}

/// Metrics are served where `ready.json` says, under the documented names, and name nobody.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_and_name_nobody() {
    let folder = Folder::new();
    let node = folder.start();
    let home = Client::new(folder.token("system/*.cruds", None));
    home.put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    assert_eq!(home.get(&node.fhir("Patient/p1")).await.status, 200);
    let (_, doctor) = other_hospital(&folder);
    let away = Client::new(folder.token("system/*.cruds", Some(&doctor)));
    assert_eq!(away.get(&node.fhir("Patient/p1")).await.status, 404);
    let answer = reqwest::get(node.ready["metrics"].as_str().unwrap()).await;
    let answer = answer.unwrap();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    let value = |line: &str| {
        let found = text.lines().find_map(|one| one.strip_prefix(line));
        let found = found.unwrap_or_else(|| panic!("{line} is not in\n{text}"));
        found.trim().parse::<f64>().unwrap()
    };
    assert!(value(r#"stele_http_requests_total{class="Read",status="200"}"#) >= 1.0);
    assert!(value("stele_audit_refusals_total") >= 1.0);
    assert!(value("stele_audit_receipts_total") >= 2.0);
    assert!(value("stele_ledger_height") >= 1.0);
    assert!(value("stele_vault_blobs") >= 1.0);
    assert!(text.ends_with("# EOF\n"));
    for name in ["0x", "p1", "Patient", &doctor] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
    let document = include_str!("../../../../docs/METRICS.md");
    for name in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = name.split('`').next().unwrap();
        // Those of consensus have an address of their own.
        if !name.starts_with("stele_") {
            continue;
        }
        assert!(
            text.contains(&format!("# TYPE {name} ")),
            "{name} is not served"
        );
    }
    node.stop();
}
