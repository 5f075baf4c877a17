//! HL7 v2 over MLLP into the real binary: kept, acknowledged, written, found over FHIR; and everything that can be wrong
//! with a message or a line.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use stele_fhir::hl7v2::{batch, map::Context, take};

use crate::node::{Client, Folder, Running};

/// A sender on one connection.
pub(crate) struct Sender(TcpStream);

impl Sender {
    pub(crate) fn to(node: &Running) -> Self {
        let stream = TcpStream::connect(node.ready["mllp"].as_str().unwrap()).unwrap();
        // A deadline, so that a missing answer fails the test instead of hanging it.
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self(stream)
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next acknowledgement.
    fn answer(&mut self) -> String {
        let mut frame = Vec::new();
        let mut byte = [0];
        while !frame.ends_with(b"\x1c\r") {
            self.0.read_exact(&mut byte).expect("an acknowledgement");
            frame.push(byte[0]);
        }
        assert_eq!(frame[0], 0x0b);
        String::from_utf8(frame[1..frame.len() - 2].to_vec()).unwrap()
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> String {
        self.raw(&[b"\x0b", message, b"\x1c\r"].concat());
        self.answer()
    }

    /// Sends a message that has to be taken.
    pub(crate) fn accepted(&mut self, message: &str) {
        let answer = self.send(message.as_bytes());
        let control_id = message.split('|').nth(9).unwrap();
        assert!(
            answer.contains(&format!("\rMSA|AA|{control_id}\r")),
            "{message}\n{answer}"
        );
    }
}

fn head(kind: &str, control_id: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|HOSP^1.2.3^ISO|EHR|US|20240301101500+0100||{kind}|{control_id}|P|2.5.1\r"
    )
}

fn person(id: &str) -> String {
    format!("PID|1||{id}^^^HOSP&1.2.3&ISO^MR||Doe^Jane||19800102|F\r")
}

fn admission(control_id: &str, id: &str) -> String {
    let head = head("ADT^A01^ADT_A01", control_id);
    let person = person(id);
    format!(
        "{head}EVN|A01|20240301\r{person}PV1|1|I|WARD^12^A||||||||||||||||V{id}^^^HOSP&1.2.3&ISO^VN|||||||||||||||||||||||||20240301080000\rAL1|1|DA|7980^Penicillin^RXNORM|SV|rash\rZZZ|local\r"
    )
}

fn order(control_id: &str, id: &str) -> String {
    let (head, person) = (head("ORM^O01^ORM_O01", control_id), person(id));
    format!("{head}{person}ORC|NW|P{id}^EHR|||SC\rOBR|1|P{id}^EHR||2345-7^Glucose^LN\r")
}

fn result(control_id: &str, id: &str, value: &str, status: &str) -> String {
    let (head, person) = (head("ORU^R01^ORU_R01", control_id), person(id));
    format!(
        "{head}{person}ORC|RE|P{id}^EHR|F{id}^LAB\rOBR|1|P{id}^EHR|F{id}^LAB|2345-7^Glucose^LN|||202403010800|||||||||||||||||CH|{status}\rOBX|1|NM|2345-7^Glucose^LN||{value}|mmol/L^^UCUM|3.9-5.6|H|||{status}\rNTE|1||fasting\r"
    )
}

/// What waits and what is parked, once nothing waits any more.
async fn settled(client: &Client, node: &Running) -> Vec<Value> {
    for _ in 0..3_000 {
        let messages = client.get(&node.url("/admin/messages")).await.json();
        let messages = messages.as_array().unwrap().clone();
        if messages.iter().all(|message| message["state"] == "parked") {
            return messages;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("messages are still waiting");
}

fn operator(folder: &Folder) -> Client {
    Client::new(folder.token("admin system/*.cruds", None))
}

async fn found(client: &Client, node: &Running, query: &str) -> Vec<Value> {
    let answer = client.get(&node.fhir(query)).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let entries = answer.json()["entry"].as_array().cloned();
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|entry| entry["resource"].clone())
        .filter(|resource| resource["resourceType"] != "OperationOutcome")
        .collect()
}

/// NFR-INTEROP1, S11, FR-D18: what another vendor's system sends as HL7 v2 is read back as FHIR, with the values as
/// written, its origin, and a proof; a correction is a new version, and the same message again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_as_fhir_with_origin_and_proof() {
    let folder = Folder::new();
    let node = folder.start();
    let client = operator(&folder);
    let mut sender = Sender::to(&node);
    let sent = result("C3", "77", "6.30", "F");
    for message in [&admission("C1", "77"), &order("C2", "77"), &sent] {
        sender.accepted(message);
    }
    assert_eq!(settled(&client, &node).await, Vec::<Value>::new());

    let patients = found(&client, &node, "Patient?identifier=urn:oid:1.2.3|77").await;
    assert_eq!(patients.len(), 1);
    assert_eq!(patients[0]["name"][0]["family"], "Doe");
    let patient = patients[0]["id"].as_str().unwrap();
    for (query, count) in [
        (format!("Encounter?patient={patient}&status=in-progress"), 1),
        (
            format!("AllergyIntolerance?patient={patient}&criticality=high"),
            1,
        ),
        (
            format!("ServiceRequest?patient={patient}&identifier=F77"),
            0,
        ),
        (
            format!("ServiceRequest?patient={patient}&identifier=P77&status=active"),
            1,
        ),
        (
            format!("DiagnosticReport?patient={patient}&identifier=F77&status=final"),
            1,
        ),
    ] {
        assert_eq!(found(&client, &node, &query).await.len(), count, "{query}");
    }
    let by_code = format!("Observation?patient={patient}&code=http://loinc.org|2345-7");
    let results = found(&client, &node, &by_code).await;
    assert_eq!(results.len(), 1);
    let id = format!("Observation/{}", results[0]["id"].as_str().unwrap());
    let read = client.get(&node.fhir(&id)).await;
    assert!(
        read.text.contains(r#""valueQuantity":{"value":6.30,"#),
        "{}",
        read.text
    );
    let read = read.json();
    assert_eq!(read["effectiveDateTime"], "2024-03-01T08:00:00+01:00");
    assert_eq!(read["note"][0]["text"], "fasting");

    let origins = found(&client, &node, &format!("Provenance?target={id}")).await;
    let source = origins
        .iter()
        .find_map(|origin| origin["entity"][0]["what"]["reference"].as_str())
        .unwrap_or_else(|| panic!("{origins:?}"));
    let original = client
        .get(&node.fhir(&format!("{source}?_format=json")))
        .await;
    let data = original.json()["data"].as_str().unwrap().to_owned();
    assert_eq!(STANDARD.decode(data).unwrap(), sent.as_bytes());

    // The same again: the same answer, and nothing new.
    sender.accepted(&sent);
    sender.accepted(&admission("C1", "77"));
    // Corrected: another message, the same record.
    sender.accepted(&result("C4", "77", "6.40", "C"));
    assert_eq!(settled(&client, &node).await, Vec::<Value>::new());
    let history = client
        .get(&node.fhir(&format!("{id}/_history")))
        .await
        .json();
    let values: Vec<String> = history["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["valueQuantity"]["value"].to_string())
        .collect();
    assert_eq!(values, ["6.40", "6.30"]);
    assert_eq!(found(&client, &node, &by_code).await.len(), 1);
    let patients = client
        .get(&node.fhir(&format!("Patient/{patient}/_history")))
        .await;
    assert_eq!(patients.json()["entry"].as_array().unwrap().len(), 1);

    let proof = folder.json(&["verify", "record", &id, "--json"]);
    assert_eq!(proof["ok"], true, "{proof}");
    let whole = folder.json(&["verify", "patient", patient, "--json"]);
    assert_eq!(whole["ok"], true, "{whole}");
    node.stop();
}

/// NFR-INTEROP1: each kind of bad input is answered with the place at fault, nothing of it is written, and the line
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_and_the_line_goes_on() {
    let folder = Folder::new();
    let config = folder.beside("stele.toml");
    fs::write(&config, "[mllp]\nmax_message_bytes = 4096\n").unwrap();
    let node = folder.start_with(&["--config", config.to_str().unwrap()]);
    let client = operator(&folder);
    let mut sender = Sender::to(&node);
    let huge = format!("{}NTE|1||{}", admission("B1", "1"), "x".repeat(5_000));
    let latin = [admission("B2", "1").as_bytes(), b"NTE|1||Jos\xe9"].concat();
    let cases: [(Vec<u8>, &str, &str); 7] = [
        (huge.into_bytes(), "MSA|AR|B1\r", "larger than 4096 bytes"),
        (latin, "MSA|AE|B2\r", "ERR||MSH^1^18|102^"),
        (
            b"PID|1||77".to_vec(),
            "MSA|AE|",
            "begins with the segment MSH",
        ),
        (
            admission("B3", "1")
                .replace("|2.5.1\r", "|3.1\r")
                .into_bytes(),
            "MSA|AR|B3\r",
            "ERR||MSH^1^12|203^Unsupported version id^HL70357|E",
        ),
        (
            admission("B4", "1")
                .replace("ADT^A01^ADT_A01", "SIU^S12")
                .into_bytes(),
            "MSA|AR|B4\r",
            "ERR||MSH^1^9|200^",
        ),
        (
            admission("B5", "1")
                .replace("PID|1||1^^^HOSP&1.2.3&ISO^MR|", "PID|1|||")
                .into_bytes(),
            "MSA|AE|B5\r",
            "ERR||PID^1^3|101^",
        ),
        (
            admission("B6", "1")
                .replace("AL1|", "no segment|")
                .into_bytes(),
            "MSA|AE|B6\r",
            "line 5 is no segment",
        ),
    ];
    for (message, verdict, reason) in cases {
        let answer = sender.send(&message);
        assert!(
            answer.contains(verdict) && answer.contains(reason),
            "{verdict}: {answer}"
        );
    }
    // An empty frame keeps a line open; garbage, then one that breaks off, then a good one on the same line.
    sender.raw(b"\x0b\x1c\rGET / HTTP/1.1\r\n\r\n\x0bMSH|^~\\&|broken");
    sender.accepted(&admission("B7", "2"));
    // A connection that ends in the middle of a message leaves nothing behind.
    Sender::to(&node).raw(b"\x0bMSH|^~\\&|half");

    // What could not be mapped is kept for the operator; what nobody takes is not.
    let parked = settled(&client, &node).await;
    let ids: Vec<&str> = parked
        .iter()
        .map(|m| m["controlId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["B2", "", "B5", "B6"], "{parked:?}");
    assert!(parked[2]["reason"].as_str().unwrap().starts_with("PID-3"));
    // The same again is the same refusal, and is kept once.
    let again = admission("B5", "1").replace("PID|1||1^^^HOSP&1.2.3&ISO^MR|", "PID|1|||");
    assert!(sender.send(again.as_bytes()).contains("MSA|AE|B5\r"));
    let listed = folder.json(&["mllp", "list", "--json"]);
    assert_eq!(listed["messages"].as_array().unwrap().len(), 4);
    let id = parked[2]["id"].to_string();
    assert_eq!(
        folder.json(&["mllp", "retry", &id, "--json"])["state"],
        "waiting"
    );
    assert_eq!(
        settled(&client, &node).await.len(),
        4,
        "it can't be written now either"
    );
    assert_eq!(
        folder.stele(&["mllp", "drop", &id]).0,
        2,
        "it has to be meant"
    );
    assert_eq!(
        folder.json(&["mllp", "drop", &id, "--yes", "--json"])["state"],
        "dropped"
    );
    assert_eq!(settled(&client, &node).await.len(), 3);
    assert_eq!(folder.stele(&["mllp", "retry", &id]).0, 2, "it is gone");
    assert_eq!(
        found(&client, &node, "Patient?_summary=false").await.len(),
        1,
        "B7's only"
    );
    node.stop();
}

/// LIM-09, NFR-INT1: what was acknowledged is there after `kill -9`, once, and in the order in which it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_acknowledgement_nothing_is_lost() {
    const ROUNDS: usize = 6;
    let folder = Folder::new();
    let mut sent: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let node = folder.start();
        let mut sender = Sender::to(&node);
        // The last one is acknowledged and at best begun when the process dies.
        for n in 0..=round * 2 {
            let id = format!("{round}x{n}");
            sender.accepted(&result(&format!("K{id}a"), &id, "5.10", "P"));
            sender.accepted(&result(&format!("K{id}b"), &id, "5.20", "F"));
            sent.push(id);
        }
        node.kill();
    }
    let node = folder.start();
    let client = operator(&folder);
    assert_eq!(settled(&client, &node).await, Vec::<Value>::new());
    for id in &sent {
        let report = format!("DiagnosticReport?identifier=F{id}");
        assert_eq!(found(&client, &node, &report).await.len(), 1, "{id}");
        let query = format!("Observation?patient:Patient.identifier=urn:oid:1.2.3|{id}");
        let results = found(&client, &node, &query).await;
        assert_eq!(results.len(), 1, "{id}");
        assert_eq!(
            results[0]["status"], "final",
            "{id}: the later message counts"
        );
        assert_eq!(
            results[0]["meta"]["versionId"], "2",
            "{id}: both were written"
        );
    }
    // Sent again by a cautious sender: known, and not written twice.
    let mut sender = Sender::to(&node);
    sender.accepted(&result("K0x0a", "0x0", "5.10", "P"));
    assert_eq!(settled(&client, &node).await, Vec::<Value>::new());
    let results = found(
        &client,
        &node,
        "Observation?patient:Patient.identifier=urn:oid:1.2.3|0x0",
    )
    .await;
    assert_eq!(results[0]["meta"]["versionId"], "2");
    node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
}

/// Whom a sender acts for is configured; one that is not known is refused; and the listener opens off loopback only
/// when it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn senders_act_for_their_own_organisation() {
    let folder = Folder::new();
    let node = folder.start();
    let added = folder.json(&["org", "add", "Laboratory", "--kind", "laboratory", "--json"]);
    let organization = added["organization"].as_str().unwrap().to_owned();
    node.stop();
    let config = folder.beside("stele.toml");
    fs::write(
        &config,
        format!("[[mllp.sources]]\nfacility = \"1.2.3\"\napplication = \"LAB\"\norganization = \"{organization}\"\n"),
    )
    .unwrap();
    let node = folder.start_with(&["--config", config.to_str().unwrap()]);
    let mut sender = Sender::to(&node);
    let stranger = admission("S1", "1").replace("HOSP^1.2.3^ISO", "ELSEWHERE");
    let answer = sender.send(stranger.as_bytes());
    assert!(
        answer.contains("MSA|AR|S1\r") && answer.contains("ERR||MSH^1^4|204^"),
        "{answer}"
    );
    sender.accepted(&admission("S2", "1"));
    assert_eq!(
        settled(&operator(&folder), &node).await,
        Vec::<Value>::new()
    );
    let theirs = Client::new(folder.token("system/*.cruds", Some(&organization)));
    assert_eq!(found(&theirs, &node, "Patient").await.len(), 1);
    assert_eq!(found(&operator(&folder), &node, "Patient").await.len(), 0);
    node.stop();

    let (code, _) = folder.stele(&[
        "up",
        "--http",
        "127.0.0.1:0",
        "--rpc",
        "127.0.0.1:0",
        "--mllp",
        "0.0.0.0:0",
    ]);
    assert_eq!(code, 2, "it does not open off loopback by itself");
}

/// How many different messages in the folders are mapped, and how many have a fault and are kept for the operator: the
/// same one twice is written, or kept, once.
fn distinct(folder: &Path) -> (usize, usize) {
    let context = Context::new("2026-01-01T00:00:00Z");
    let (mut mapped, mut faulty) = (BTreeSet::new(), BTreeSet::new());
    for origin in ["cdc-reportstream", "microsoft-fhir-converter"] {
        for file in fs::read_dir(folder.join(origin)).unwrap() {
            let file = fs::read(file.unwrap().path()).unwrap();
            for message in batch::messages(&file) {
                match take(&message, &context) {
                    Ok(_) => drop(mapped.insert(message)),
                    Err((_, problems)) if !problems[0].is_rejection() => {
                        faulty.insert(message);
                    }
                    Err(_) => {}
                }
            }
        }
    }
    (mapped.len(), faulty.len())
}

/// NFR-INTEROP1: real messages of two origins through the command line: each is taken and written, or refused with the
/// reason; nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn real_messages_are_taken_and_written() {
    let folder = Folder::new();
    let node = folder.start();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/hl7v2");
    let data = data.canonicalize().expect("the real data");
    let (code, text) = folder.stele(&["mllp", "send", data.to_str().unwrap(), "--json"]);
    assert_eq!(code, 1, "some are refused: {text}");
    let sent: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&sent["files"], &sent["messages"], &sent["failed"]),
        (&280.into(), &281.into(), &0.into())
    );
    let client = operator(&folder);
    let parked = settled(&client, &node).await;
    assert_eq!(
        (&sent["accepted"], &sent["refused"]),
        (&120.into(), &161.into()),
        "{sent}"
    );
    // All that was accepted is written: parked are those that were refused as they came, for want of a patient or of
    // what was examined.
    let (mapped, faulty) = distinct(&data);
    assert_eq!(parked.len(), faulty);
    for message in &parked {
        let reason = message["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("PID-3: ") || reason.starts_with("OBR-4: "),
            "{message}"
        );
    }
    let originals = client
        .get(&node.fhir("Provenance?_summary=count"))
        .await
        .json();
    assert_eq!(originals["total"], mapped);
    node.stop();
    assert_eq!(folder.json(&["verify", "vault", "--json"])["ok"], true);
}
