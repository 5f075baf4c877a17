//! What a node logs, of everything it does and at every level.

use std::fs;

use serde_json::{Value, json};

use crate::{
    mllp::Sender,
    node::{Client, Folder, demo, observation, patient},
};

/// In every text that is sent below and is nobody's business.
const MARK: &str = "zzyzx";

/// Texts of a resource that say who somebody is or what somebody has.
fn telling(value: &Value, found: &mut Vec<String>) {
    const NAMES: &[&str] = &["family", "line", "text", "given"];
    match value {
        Value::Array(items) => items.iter().for_each(|item| telling(item, found)),
        Value::Object(members) => {
            for (name, inner) in members {
                match inner {
                    Value::String(text) if NAMES.contains(&name.as_str()) => {
                        found.push(text.clone());
                    }
                    Value::Array(items) if NAMES.contains(&name.as_str()) => {
                        found.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => telling(inner, found),
                }
            }
        }
        _ => {}
    }
}

/// NFR-SEC5, NFR-PRI1: a full run, of what goes well and what is refused, over FHIR, HL7 v2 and the command line, at the
/// most talkative level, leaves no name, no clinical value, no text of a request and no secret in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_leaves_nothing_clinical_in_the_log() {
    let folder = Folder::new().logging("trace,hyper=debug,h2=debug,mio=debug,polling=debug");
    let node = folder.start();
    let mut secret = Vec::new();
    for file in fs::read_dir(demo()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "bz2") {
            let packed = fs::File::open(path).unwrap();
            let bundle = serde_json::from_reader(bzip2::read::MultiBzDecoder::new(packed));
            telling(&bundle.unwrap(), &mut secret);
        }
    }
    // Short ones are parts of other words.
    secret.retain(|text| text.len() >= 7);
    assert!(secret.len() > 100, "{} texts to look for", secret.len());
    let imported = folder.json(&["import", demo().to_str().unwrap(), "--json"]);
    assert_eq!(imported["failed"], 0, "{imported}");

    let token = folder.token("admin system/*.cruds", None);
    secret.push(token.rsplit('.').next().unwrap().to_owned());
    secret.push(MARK.to_owned());
    let client = Client::new(token);
    let mut person = patient("p1");
    person["name"] = json!([{ "family": format!("{MARK}name") }]);
    let said = client
        .put_text(&node.fhir("Patient/p1"), person.to_string())
        .await;
    assert_eq!(said.status, 201, "{}", said.text);
    let mut result: Value = serde_json::from_str(&observation("p1", "6.30")).unwrap();
    result["id"] = json!("o1");
    result["note"] = json!([{ "text": format!("{MARK} note") }]);
    let url = node.fhir("Observation/o1");
    assert_eq!(client.put_text(&url, result.to_string()).await.status, 201);
    let good = [
        "Patient?family=zzyzxname",
        "Patient/p1/$everything",
        "Observation/o1",
        "Observation/o1/_history",
        "Observation?patient=p1&_content=zzyzx",
        "AuditEvent?patient=p1",
        "Observation?zzyzxparameter=1",
    ];
    for query in good {
        let answer = client.get(&node.fhir(query)).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    }
    let bad = [
        ("Patient?birthdate=zzyzx", 400),
        ("Patient/zzyzx", 404),
        ("Zzyzx/1", 404),
    ];
    for (query, status) in bad {
        let answer = client.get(&node.fhir(query)).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
    }
    let wrong = [
        (format!("{{\"resourceType\":\"Observation\",\"{MARK}"), 400),
        (
            json!({ "resourceType": "Observation", "zzyzx": 1 }).to_string(),
            400,
        ),
        (
            json!({ "resourceType": "Observation", "status": "zzyzx", "code": { "text": "zzyzx" },
                    "subject": { "reference": "Patient/zzyzx" } })
            .to_string(),
            400,
        ),
    ];
    for (body, status) in wrong {
        let answer = client.post_text(&node.fhir("Observation"), body).await;
        assert!((status..500).contains(&answer.status), "{}", answer.text);
    }
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        { "resource": result, "request": { "method": "PUT", "url": "Observation/zzyzx" } },
        { "resource": result, "request": { "method": "ZZYZX", "url": "Observation" } }
    ]});
    let answer = client.post(&node.url("/fhir/r4"), &bundle).await;
    assert!((400..500).contains(&answer.status), "{}", answer.text);
    let stranger = Client::new(format!("{MARK}.{MARK}.{MARK}"));
    assert_eq!(stranger.get(&url).await.status, 401);

    let mut sender = Sender::to(&node);
    let head =
        "MSH|^~\\&|LAB|HOSP^1.2.3^ISO|EHR|US|20240301101500+0100||ADT^A01^ADT_A01|C1|P|2.5.1\r";
    let admitted =
        format!("{head}EVN|A01|20240301\rPID|1||77^^^HOSP&1.2.3&ISO^MR||{MARK}^Jane||19800102|F\r");
    sender.accepted(&admitted);
    let unknown = admitted.replace("ADT^A01^ADT_A01|C1", "ADT^Z99^ADT_Z99|C2");
    assert!(!sender.send(unknown.as_bytes()).contains("MSA|AA"));
    assert!(
        !sender
            .send(format!("{MARK}|no message").as_bytes())
            .contains("MSA|AA")
    );

    let doctor = folder.json(&[
        "practitioner",
        "add",
        "Dr Zzyzx",
        "--roles",
        "doctor",
        "--json",
    ]);
    let account = doctor["practitioner"].as_str().unwrap();
    folder.json(&[
        "grant",
        "p1",
        "--to",
        account,
        "--categories",
        "laboratory",
        "--json",
    ]);
    let asked = [
        "request",
        "p1",
        "--as",
        account,
        "--reason",
        "zzyzx reason",
        "--json",
    ];
    folder.json(&[&asked[..], &["--categories", "medicines"]].concat());
    folder.json(&[
        "erase",
        "Observation/o1",
        "--reason",
        "2",
        "--yes",
        "--json",
    ]);
    assert_eq!(client.get(&url).await.status, 404);
    let log = node.stopped().to_lowercase();
    assert!(log.lines().count() > 200, "it said nothing: {log}");
    for text in &secret {
        let at = log.find(&text.to_lowercase());
        let around = at.map(|at| {
            log[at.saturating_sub(200)..]
                .chars()
                .take(400)
                .collect::<String>()
        });
        assert_eq!(around, None, "{text:?} stands in the log");
    }
}
