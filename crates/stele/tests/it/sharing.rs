//! One hospital's patient lets a doctor of another hospital read: across members, as processes of their own.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use stele_core::{
    account::AccountKey,
    crypto::{jws, os_rng},
    time::{Clock as _, SystemClock},
};

use crate::{
    consortium::{Consortium, free_ports},
    node::{Client, Reply, observation, patient},
};

/// A consortium in which `p1`, a patient of the first member, has two observations; the second is of several blocks.
async fn with_patient() -> (Consortium, Client) {
    let consortium = Consortium::running(4);
    let home = write_patient(&consortium).await;
    (consortium, home)
}

/// Writes that patient; gives a client of the first member.
pub(crate) async fn write_patient(consortium: &Consortium) -> Client {
    let home = consortium.client(1, "system/*.cruds", None);
    let url = consortium.fhir(1, "Patient/p1");
    let made = home.put_text(&url, patient("p1").to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut small: Value = serde_json::from_str(&observation("p1", "6.30")).unwrap();
    small["id"] = json!("small");
    let mut large = small.clone();
    large["id"] = json!("large");
    large["note"] = json!([{ "text": "word ".repeat(120_000) }]);
    for (id, resource) in [("small", small), ("large", large)] {
        let url = consortium.fhir(1, &format!("Observation/{id}"));
        let made = home.put_text(&url, resource.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    home
}

pub(crate) fn doctor(consortium: &Consortium, number: usize) -> String {
    let made = consortium.json(
        number,
        &[
            "practitioner",
            "add",
            "Dr Lind",
            "--roles",
            "doctor",
            "--json",
        ],
    );
    made["practitioner"].as_str().unwrap().to_owned()
}

pub(crate) fn grant(consortium: &Consortium, to: &str) -> String {
    grant_to(consortium, to, "read")
}

fn grant_to(consortium: &Consortium, to: &str, permissions: &str) -> String {
    let command = [
        ["grant", "p1"],
        ["--to", to],
        ["--categories", "laboratory"],
        ["--permissions", permissions],
        ["--days", "30"],
    ];
    let granted = consortium.json(1, &[command.as_flattened(), &["--json"]].concat());
    granted["id"].as_u64().unwrap().to_string()
}

/// Asks until the answer has this status: what a grant or its end brings comes a moment after its block.
pub(crate) async fn until(client: &Client, url: &str, status: u16) -> Reply {
    let asking = async {
        loop {
            let answer = client.get(url).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("{url} never answers {status}"))
}

/// Accesses of somebody in a patient's trail at the first member, as pairs of action and outcome.
async fn accesses(consortium: &Consortium, home: &Client, who: &str) -> Vec<(String, String)> {
    let url = consortium.fhir(1, "AuditEvent?patient=p1&_count=500");
    let trail = home.get(&url).await.json();
    let events = trail["entry"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .map(|event| &event["resource"])
        .filter(|event| {
            event["agent"][0]["who"]["identifier"]["value"]
                .as_str()
                .is_some_and(|found| found.eq_ignore_ascii_case(who))
        })
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["subtype"][0]["code"]), text(&event["outcome"]))
        })
        .collect()
}

/// FR-P16, FR-P18, NFR-SEC5: a patient of one hospital lets a cardiologist of another read the laboratory's results for
/// treatment. That hospital finds, fetches, opens and serves them; the patient sees each access; nobody else of it, and
/// no other category, opens; after the end of the grant it reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_of_another_member_reads_by_grant_only() {
    let (consortium, home) = with_patient().await;
    let doctor_account = doctor(&consortium, 2);
    let doctor = consortium.client(2, "system/*.cruds", Some(&doctor_account));
    let colleague = consortium.client(2, "system/*.cruds", None);
    let small = consortium.fhir(2, "Observation/small");
    assert_eq!(doctor.get(&small).await.status, 404, "nothing was granted");

    let granted = grant(&consortium, &doctor_account);
    let read = until(&doctor, &small, 200).await;
    let at_home = home.get(&consortium.fhir(1, "Observation/small")).await;
    assert_eq!(read.text, at_home.text, "byte for byte");
    assert!(read.text.contains("6.30"), "{}", read.text);
    let large = until(&doctor, &consortium.fhir(2, "Observation/large"), 200).await;
    let at_home = home.get(&consortium.fhir(1, "Observation/large")).await;
    assert_eq!(
        large.text, at_home.text,
        "several blocks, fetched and verified"
    );
    let search = consortium.fhir(2, "Observation?code=4548-4&patient=p1&_total=accurate");
    let found = doctor.get(&search).await.json();
    assert_eq!(found["total"], 2, "{found}");
    let other_category = consortium.fhir(2, "Patient/p1");
    assert_eq!(doctor.get(&other_category).await.status, 404);
    assert_eq!(colleague.get(&small).await.status, 404, "not the doctor");
    let edited = doctor
        .put_text(&small, read.text.replace("6.30", "9.9"))
        .await;
    assert_eq!(
        edited.status, 409,
        "it is changed where it is kept: {}",
        edited.text
    );

    // A later record of the patient comes, too.
    let url = consortium.fhir(1, "Observation/later");
    let mut later: Value = serde_json::from_str(&observation("p1", "7.1")).unwrap();
    later["id"] = json!("later");
    assert_eq!(home.put_text(&url, later.to_string()).await.status, 201);
    until(&doctor, &consortium.fhir(2, "Observation/later"), 200).await;

    let seen = accesses(&consortium, &home, &doctor_account).await;
    let reads = seen.iter().filter(|one| one.0 == "read" && one.1 == "0");
    assert!(reads.count() >= 2, "the patient sees who read: {seen:?}");

    let ended = consortium.try_command(
        1,
        &["revoke", "p1", "--from", &doctor_account, "--id", &granted],
    );
    assert!(ended.0, "{}", ended.1);
    consortium.until(2, consortium.height(1).await).await;
    assert_eq!(
        doctor.get(&small).await.status,
        404,
        "refused from the block on"
    );
    let found = doctor.get(&search).await.json();
    assert_eq!(found["total"], 0, "{found}");

    grant(&consortium, &doctor_account);
    let again = until(&doctor, &small, 200).await;
    assert_eq!(again.text, read.text, "a new grant opens it again");
}

/// FR-P16, FR-L1, S15: a laboratory of another member adds a result to the patient's record and can't read it back, nor any
/// other. The patient's hospital finds and serves it byte for byte, and so does a third member whose doctor may read. After the
/// end of the grant nothing can be added, and what was never opened to adding never could.
#[tokio::test(flavor = "multi_thread")]
async fn a_laboratory_of_another_member_adds_and_cannot_read_back() {
    let (consortium, home) = with_patient().await;
    let laboratory = doctor(&consortium, 2);
    let technician = consortium.client(2, "system/*.cruds", Some(&laboratory));
    let reader_account = doctor(&consortium, 3);
    let reader = consortium.client(3, "system/*.cruds", Some(&reader_account));
    let invited = consortium.json(1, &["portal", "invite", "p1", "--json"]);
    let account = invited["account"].as_str().unwrap();
    let about =
        json!({ "identifier": { "system": "https://stele.health/account", "value": account } });
    let mut result: Value = serde_json::from_str(&observation("p1", "8.88")).unwrap();
    result["subject"] = about.clone();
    let named = |id: &str| {
        let mut named = result.clone();
        named["id"] = json!(id);
        (
            consortium.fhir(2, &format!("Observation/{id}")),
            named.to_string(),
        )
    };

    let (url, early) = named("early");
    let refused = technician.put_text(&url, early).await;
    assert_eq!(refused.status, 403, "nothing was granted: {}", refused.text);

    grant(&consortium, &reader_account);
    let granted = grant_to(&consortium, &laboratory, "write");
    consortium.until(2, consortium.height(1).await).await;
    let (url, text) = named("hba1c");
    let made = technician.put_text(&url, text).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(technician.get(&url).await.status, 404, "not read back");
    for query in ["Observation/small", "Patient/p1"] {
        let url = consortium.fhir(2, query);
        assert_eq!(technician.get(&url).await.status, 404, "{query}");
    }
    let search = technician
        .get(&consortium.fhir(2, "Observation?code=4548-4"))
        .await;
    assert!(!search.text.contains("8.88"), "{}", search.text);
    let condition =
        json!({ "resourceType": "Condition", "subject": about, "code": { "text": "Asthma" } });
    let other = technician
        .post(&consortium.fhir(2, "Condition"), &condition)
        .await;
    assert_eq!(other.status, 403, "another category: {}", other.text);

    let at_home = until(&home, &consortium.fhir(1, "Observation/hba1c"), 200).await;
    assert!(at_home.text.contains("8.88"), "{}", at_home.text);
    let search = consortium.fhir(
        1,
        "Observation?patient=p1&value-quantity=8.88&_total=accurate",
    );
    let found = home.get(&search).await.json();
    assert_eq!(found["total"], 1, "found by the patient: {found}");
    let elsewhere = until(&reader, &consortium.fhir(3, "Observation/hba1c"), 200).await;
    assert_eq!(elsewhere.text, at_home.text, "byte for byte");

    let ended = consortium.try_command(
        1,
        &["revoke", "p1", "--from", &laboratory, "--id", &granted],
    );
    assert!(ended.0, "{}", ended.1);
    consortium.until(2, consortium.height(1).await).await;
    let (url, late) = named("late");
    let refused = technician.put_text(&url, late).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}

/// FR-P18, NFR-SEC5: a hospital that does not know, or does not want to know, that a grant has ended asks the custodian
/// directly and is refused; while the custodian is away it says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_custodian_refuses_after_the_end_of_a_grant() {
    let (mut consortium, home) = with_patient().await;
    let doctor_account = doctor(&consortium, 2);
    let granted = grant(&consortium, &doctor_account);
    let doctor = consortium.client(2, "system/*.cruds", Some(&doctor_account));
    until(&doctor, &consortium.fhir(2, "Observation/small"), 200).await;

    // Cut off from the agreement of the others, while its gateway still reaches theirs.
    consortium.stop(2);
    let config = fs::read_to_string(consortium.config(2)).unwrap();
    let dead = free_ports(4);
    let mut port = dead;
    let cut: Vec<String> = config
        .lines()
        .map(|line| {
            let key = line.split(" = ").next().unwrap();
            let in_network =
                key == "listen" || (key == "address" && !line.contains(&mllp(&config)));
            if !in_network {
                return line.to_owned();
            }
            port += 1;
            format!("{key} = \"127.0.0.1:{}\"", port - 1)
        })
        .collect();
    fs::write(consortium.config(2), cut.join("\n")).unwrap();
    consortium.start(2);
    let small = consortium.fhir(2, "Observation/small");
    let read = doctor.get(&small).await;
    assert_eq!(read.status, 200, "the grant lives: {}", read.text);
    let height = consortium.height(2).await;

    let ended = consortium.try_command(
        1,
        &["revoke", "p1", "--from", &doctor_account, "--id", &granted],
    );
    assert!(ended.0, "{}", ended.1);
    assert_eq!(consortium.height(2).await, height, "it has not heard of it");
    let heard = consortium.height(1).await;
    for number in 3..=4 {
        consortium.until(number, heard).await;
    }
    let refused = doctor.get(&small).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    let seen = accesses(&consortium, &home, &doctor_account).await;
    assert!(
        seen.contains(&("read".into(), "4".into())),
        "the patient sees the refusal: {seen:?}"
    );

    let members = (1..=4).map(|number| consortium.organization(number));
    let custodians = consortium.custodians_of(1);
    let refusing = members
        .zip(1..)
        .filter(|(_, number)| *number != 2 && (*number == 1 || custodians.contains(number)));
    for (organization, number) in refusing {
        let told = async {
            while !observed(&consortium, &home, &doctor_account, &organization).await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told)
            .await
            .unwrap_or_else(|_| panic!("the patient never sees that member-{number} refused"));
    }

    consortium.kill(1);
    let refused = doctor.get(&small).await;
    assert_eq!(refused.status, 404, "the others refuse: {}", refused.text);
}

/// Whether the patient's trail has a refusal of somebody's reading by a custodian of an organisation.
async fn observed(consortium: &Consortium, home: &Client, who: &str, organization: &str) -> bool {
    let url = consortium.fhir(1, "AuditEvent?patient=p1&_count=500");
    let trail = home.get(&url).await.json();
    let events = trail["entry"].as_array().cloned().unwrap_or_default();
    let is = |value: &Value, account: &str| {
        let found = value["identifier"]["value"].as_str();
        found.is_some_and(|found| found.eq_ignore_ascii_case(account))
    };
    events.iter().map(|event| &event["resource"]).any(|event| {
        event["outcome"] == "4"
            && is(&event["agent"][0]["who"], who)
            && is(&event["source"]["observer"], organization)
    })
}

/// NFR-REL1, FR-P18, LIM-13: the patient's hospital is killed, and the doctor of another one goes on reading with the
/// peppers of the remaining custodians. Once it is back the patient sees what was read meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_while_their_member_is_away() {
    let mut consortium = Consortium::with_short_periods(4);
    for number in 1..=4 {
        consortium.start(number);
    }
    let home = write_patient(&consortium).await;
    assert_eq!(consortium.custodians_of(1).len(), 2, "two others");
    consortium.until_none(1, UNDEALT).await;
    let doctor_account = doctor(&consortium, 2);
    grant(&consortium, &doctor_account);
    let doctor = consortium.client(2, "system/*.cruds", Some(&doctor_account));
    let small = consortium.fhir(2, "Observation/small");
    let large = consortium.fhir(2, "Observation/large");
    let read = until(&doctor, &small, 200).await;
    until(&doctor, &large, 200).await;
    let searches = |seen: &[(String, String)]| seen.iter().any(|one| one.0 == "search-type");
    let seen = accesses(&consortium, &home, &doctor_account).await;
    assert!(!searches(&seen), "it has only read: {seen:?}");

    consortium.kill(1);
    let again = doctor.get(&small).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.text, read.text);
    assert_eq!(doctor.get(&large).await.status, 200);
    let search = consortium.fhir(2, "Observation?code=4548-4&patient=p1");
    let found = doctor.get(&search).await.json();
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(2), "{found}");

    consortium.start(1);
    let told = async {
        while !searches(&accesses(&consortium, &home, &doctor_account).await) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .expect("the patient sees what was read while the hospital was away");

    // What this member can't open alone any longer it opens for its own index, too, with the node stopped.
    consortium.stop(1);
    let config = consortium.config(1);
    let rebuild = ["index", "rebuild", "--json", "--config"];
    let rebuilt = consortium.json(1, &[&rebuild[..], &[config.to_str().unwrap()]].concat());
    assert!(rebuilt["versions"].as_u64().unwrap() >= 3, "{rebuilt}");
    assert_eq!(rebuilt["skipped"], 0, "{rebuilt}");
    let unnamed = consortium.try_command(1, &["index", "rebuild"]);
    assert!(
        !unnamed.0 && unnamed.1.contains("--config"),
        "{}",
        unnamed.1
    );
}

/// FR-A3, NFR-GOV1, LIM-13: the patient's hospital leaves for good: its seat is taken by vote, then it is suspended, then its
/// machine is gone. Whom its patient let read reads on, with the peppers of the custodians that remain, and what others
/// write from then on is shared without it. Its place among the custodians is taken by another member, so that one more of
/// them may be away.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_after_their_member_has_left() {
    let mut consortium = Consortium::with_short_periods(4);
    for number in 1..=4 {
        consortium.start(number);
    }
    write_patient(&consortium).await;
    consortium.until_none(1, UNDEALT).await;
    let doctor_account = doctor(&consortium, 2);
    grant(&consortium, &doctor_account);
    let doctor = consortium.client(2, "system/*.cruds", Some(&doctor_account));
    let small = consortium.fhir(2, "Observation/small");
    let large = consortium.fhir(2, "Observation/large");
    let read = until(&doctor, &small, 200).await;
    until(&doctor, &large, 200).await;
    let at_first = read.text.clone();
    // What the third member writes is shared with the first, until that leaves.
    let theirs = consortium.client(3, "system/*.cruds", None);
    let url = consortium.fhir(3, "Patient/p3");
    let made = theirs.put_text(&url, patient("p3").to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    consortium.until_none(3, UNDEALT).await;
    let first = consortium.organization(1);
    let (key, others) = (consortium.validator(1), [2, 3, 4]);
    let remaining = consortium.custodians_of(1);
    let left = others.into_iter().find(|one| !remaining.contains(one));
    let successor = left.expect("one of four is no custodian");
    let custody = consortium.custody_of(1)["custody"]["id"].clone();

    let unseat = ["validator", &key, "unseat", "--of", &first];
    consortium.decide(&others, &unseat).await;
    assert_eq!(consortium.epoch(2, 1).await.len(), 3);
    consortium.decide(&others, &["suspend", &first]).await;
    consortium.stop(1);

    let again = doctor.get(&small).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.text, read.text);
    assert_eq!(doctor.get(&large).await.status, 200);
    let search = consortium.fhir(2, "Observation?code=4548-4&patient=p1");
    let found = doctor.get(&search).await.json();
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(2), "{found}");
    let read = theirs.get(&url).await;
    assert_eq!(read.status, 200, "{}", read.text);
    let without_it = async {
        while consortium.custodians_of(3).contains(&1) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), without_it)
        .await
        .expect("what is written from now on is shared without it");
    let made = theirs
        .put_text(&consortium.fhir(3, "Patient/p4"), patient("p4").to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);

    let id = custody.as_str().unwrap();
    let handed_over = async {
        let knows = |number| {
            let known = consortium.known_custody(number, id);
            known.is_some_and(|one| names(&one, &consortium.organization(successor)))
        };
        while !(knows(2) && consortium.trees_of(successor, id) == 2) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), handed_over)
        .await
        .expect("the successor holds what the one that left held");
    // What the one that left holds of others' it destroys, and says so; its own ledger may not have heard of the vote.
    let data = consortium.data(1);
    let leave = [
        "network",
        "leave",
        "--data",
        data.to_str().unwrap(),
        "--yes",
        "--json",
    ];
    let left = consortium.json(1, &leave);
    assert!(left["trees"].as_u64().unwrap() >= 2, "{left}");
    assert_eq!(consortium.json(1, &leave)["trees"], 0);
    let still = consortium.data(2);
    consortium.stop(2);
    let stays = ["network", "leave", "--data", still.to_str().unwrap()];
    let refused = consortium.try_command(2, &stays);
    assert!(
        !refused.0 && refused.1.contains("active member"),
        "{}",
        refused.1
    );
    consortium.start(2);
    let away = remaining.into_iter().find(|one| *one != 2).unwrap();
    consortium.kill(away);
    let again = until(&doctor, &small, 200).await;
    assert_eq!(again.text, at_first, "the successor helps");
}

fn names(custody: &Value, organization: &str) -> bool {
    let custodians = custody["custodians"].as_array().unwrap().iter();
    custodians
        .filter_map(Value::as_str)
        .any(|one| one.eq_ignore_ascii_case(organization))
}

/// LIM-13, NFR-REL1: a custodian that is not there costs no write and loses nothing: what it is to hold stays with the
/// owner over a kill and is dealt later. From then on any two open, and the owner alone does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dealt_late_is_dealt_whole() {
    let mut consortium = Consortium::with_short_periods(4);
    consortium.start(1);
    let [late, other] = consortium.custodians_of(1)[..] else {
        panic!("two other custodians");
    };
    let last = (2..=4)
        .find(|number| ![late, other].contains(number))
        .unwrap();
    consortium.start(other);
    consortium.start(last);
    let home = write_patient(&consortium).await;
    assert!(consortium.measured(1, UNDEALT).await >= 2);
    consortium.kill(1);
    consortium.start(1);
    assert!(consortium.measured(1, UNDEALT).await >= 2, "it is kept");
    consortium.start(late);
    consortium.until_none(1, UNDEALT).await;

    let small = consortium.fhir(1, "Observation/small");
    consortium.kill(other);
    let opened = until(&home, &small, 200).await;
    consortium.kill(late);
    let alone = async {
        loop {
            let answer = home.get(&small).await;
            if answer.status == 503 && answer.text.contains("can't be reached") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), alone)
        .await
        .expect("the owner alone opens nothing once its periods have ended");
    consortium.start(late);
    let again = until(&home, &small, 200).await;
    assert_eq!(again.text, opened.text);

    // An erasure is complete once every custodian has destroyed its shares, also one that was away.
    let erased = consortium.try_command(1, &["erase", "Observation/large", "--yes"]);
    assert!(erased.0, "{}", erased.1);
    assert!(consortium.measured(1, UNTOLD).await > 0);
    consortium.start(other);
    consortium.until_none(1, UNTOLD).await;
    assert_eq!(home.get(&small).await.status, 200, "and no other record's");
}

const UNDEALT: &str = "stele_custody_undealt_trees";
const UNTOLD: &str = "stele_custody_untold_erasures";

/// The line of the HL7 v2 listener, the only other one that is called an address.
fn mllp(config: &str) -> String {
    let section = config.split("[mllp]").nth(1).unwrap();
    let line = section.lines().find(|line| line.starts_with("address"));
    line.unwrap().to_owned()
}

/// Questions that no member signed are refused before anything is looked up.
#[tokio::test(flavor = "multi_thread")]
async fn only_members_are_answered() {
    let consortium = Consortium::running(2);
    let http = reqwest::Client::new();
    let url = consortium.url(1, "/network/ask");
    let stranger = AccountKey::random(&mut os_rng()).unwrap();
    let to = consortium.organization(1);
    let member = consortium.organization(2);
    let question = |from: &str| {
        json!({
            "from": from, "to": to, "genesis": consortium.made["genesis"],
            "nonce": format!("0x{}", "11".repeat(32)), "replyTo": "",
            "ask": { "what": "key", "account": to }
        })
        .to_string()
    };
    let own = question(&stranger.address().to_string());
    let sign = |account, body: &str| {
        jws::sign(&stranger, account, SystemClock.now(), body.as_bytes()).unwrap()
    };
    let as_member = question(&member);
    for (signature, body, status, says) in [
        (None, own.clone(), 400, "stele-signature"),
        (Some("e30..AAAA".to_owned()), own.clone(), 403, "not signed"),
        (
            Some(sign(stranger.address(), &own)),
            own.clone(),
            403,
            "no active organisation",
        ),
        (
            Some(sign(stranger.address(), &own)),
            own + " ",
            403,
            "not signed",
        ),
        (
            Some(sign(stranger.address(), &as_member)),
            as_member.clone(),
            403,
            "somebody else",
        ),
        (
            Some(sign(member.parse().unwrap(), &as_member)),
            as_member,
            403,
            "somebody else",
        ),
    ] {
        let mut request = http.post(&url).body(body);
        if let Some(signature) = signature {
            request = request.header("stele-signature", signature);
        }
        let answer = request.send().await.unwrap();
        let found = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert_eq!(found, status, "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
}
