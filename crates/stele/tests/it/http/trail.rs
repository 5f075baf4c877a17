//! AuditEvent and Provenance, which the ledger answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Bed, name, names, observation};
use crate::node::patient;

/// S31, FR-R4: every version has a Provenance that says who, when, in which transaction and block, and where its
/// proof is; what it says is what `stele verify` proves.
#[tokio::test(flavor = "multi_thread")]
async fn provenance_says_what_verify_proves() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.put(&observation("o1", "p1", "718-7", 13.5))
        .await
        .is(201);
    bed.put(&observation("o1", "p1", "718-7", 14.5))
        .await
        .is(200);
    let found = bed
        .get("Provenance?target=Observation/o1")
        .await
        .is(200)
        .json();
    assert_eq!(names(&found).len(), 2, "{found}");
    let entry = &found["entry"][0];
    let provenance = &entry["resource"];
    assert_eq!(
        stele_fhir::validate::resource(provenance),
        [],
        "{provenance}"
    );
    let read = bed.get(&name(entry).unwrap()).await.is(200);
    assert_eq!(read.json(), *provenance, "read by id is what was found");
    bed.get(&format!("{}/_history/1", name(entry).unwrap()))
        .await
        .is(200);
    bed.get(&format!("{}/_history/2", name(entry).unwrap()))
        .await
        .problem(404);

    let anchor = |part: &str| {
        let parts = provenance["extension"][0]["extension"].as_array().unwrap();
        let part = parts.iter().find(|one| one["url"] == part).unwrap();
        let value = part.get("valueString").or_else(|| part.get("valueUri"));
        value.unwrap().as_str().unwrap().to_owned()
    };
    let out = bed.folder.beside("proof.json");
    let out = out.to_str().unwrap();
    let said = bed
        .folder
        .json(&["verify", "record", "Observation/o1", "--out", out, "--json"]);
    assert_eq!(said["ok"], true, "{said}");
    let proof: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let by_url = bed.get(&anchor("proof")).await.is(200).json();
    for key in ["index", "leaf", "leafSalt"] {
        assert_eq!(proof[key], by_url[key], "{key}");
    }
    assert_eq!(proof["index"].to_string(), anchor("index"));
    assert_eq!(
        proof["log"]["log"].as_str().unwrap().to_lowercase(),
        anchor("log").to_lowercase()
    );
    assert_eq!(
        proof["leaf"]["author"].as_str().unwrap().to_lowercase(),
        provenance["agent"][0]["who"]["identifier"]["value"]
            .as_str()
            .unwrap()
            .to_lowercase()
    );

    // The transaction and the block are those that Ethereum's tools see.
    let rpc = bed.node.ready["rpc"].as_str().unwrap();
    let ask = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionReceipt", "params": [anchor("transaction")]
    });
    let receipt: Value = reqwest::Client::new()
        .post(rpc)
        .json(&ask)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let receipt = &receipt["result"];
    assert_eq!(receipt["blockHash"], anchor("block"), "{receipt}");
    let height = u64::from_str_radix(
        receipt["blockNumber"]
            .as_str()
            .unwrap()
            .trim_start_matches("0x"),
        16,
    );
    assert_eq!(height.unwrap().to_string(), anchor("height"));
    let leaf = anchor("leaf");
    assert!(
        receipt["logs"]
            .to_string()
            .contains(leaf.trim_start_matches("0x")),
        "{receipt}"
    );

    // The chain of custody beside the record, as clients ask for it.
    let with = bed
        .get("Observation?_id=o1&_revinclude=Provenance:target")
        .await
        .is(200)
        .json();
    let kinds: Vec<&str> = with["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["search"]["mode"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["match", "include", "include"]);

    // Nobody writes in the ledger's place.
    let mut forged = provenance.clone();
    forged["agent"][0]["who"]["identifier"]["value"] =
        "0x0000000000000000000000000000000000000001".into();
    bed.put(&forged).await.problem(405);
    bed.ask("DELETE", &name(entry).unwrap(), &[], "")
        .await
        .problem(405);
    let batch = serde_json::json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": [{ "resource": forged, "request": { "method": "PUT", "url": name(entry).unwrap() } }]
    });
    bed.post("/fhir/r4", &batch).await.problem(405);
    assert_eq!(bed.get(&name(entry).unwrap()).await.json(), *provenance);
    // What clients know beside it has ids of its own.
    let mut own = forged;
    own.as_object_mut().unwrap().remove("id");
    own.as_object_mut().unwrap().remove("extension");
    bed.post("Provenance", &own).await.is(201);
    assert_eq!(bed.found("Provenance?target=Observation/o1").await.len(), 3);
    bed.node.stop();
}

/// Accesses come in pages by their place in the organisation's sequence: none twice, none missing, though many fall
/// into one millisecond; each can be read by its id, by nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn accesses_are_paged_and_read_by_id() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.put(&patient("p2")).await.is(201);
    let reads: Vec<_> = (0..40).map(|_| bed.get("Patient/p1")).collect();
    for read in futures::future::join_all(reads).await {
        read.is(200);
    }
    bed.get("Patient/p2").await.is(200);
    let events = bed
        .all_pages("AuditEvent?patient=Patient/p1&_count=7")
        .await;
    let ids: BTreeSet<String> = events.iter().filter_map(name).collect();
    assert_eq!((events.len(), ids.len()), (40, 40));
    let numbers: Vec<u64> = ids
        .iter()
        .map(|id| id.rsplit_once('-').unwrap().1.parse().unwrap())
        .collect();
    let (first, last) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
    assert_eq!(last - first, 39, "the sequence has no hole");

    for entry in [&events[0], &events[39]] {
        let read = bed.get(&name(entry).unwrap()).await.is(200);
        assert_eq!(read.json(), entry["resource"]);
        assert_eq!(stele_fhir::validate::resource(&read.json()), []);
        assert_eq!(
            entry["resource"]["entity"][0]["what"]["reference"],
            "Patient/p1"
        );
    }
    let url = name(&events[0]).unwrap();
    bed.get("AuditEvent/none").await.problem(404);
    bed.get(&format!("{}999", url)).await.problem(404);
    bed.get("AuditEvent?patient=Patient/p1&_cursor=x-1")
        .await
        .problem(400);
    bed.get("AuditEvent").await.problem(400);
    bed.ask(
        "PUT",
        &url,
        &[super::FHIR],
        events[0]["resource"].to_string(),
    )
    .await
    .problem(405);
    let strict = [("prefer", "handling=strict")];
    let odd = "AuditEvent?patient=Patient/p1&shoe-size=44";
    bed.ask("GET", odd, &strict, "").await.problem(400);
    bed.get(odd).await.is(200);

    let other = bed.folder.json(&[
        "org",
        "add",
        "Kos Heart Centre",
        "--kind",
        "hospital",
        "--json",
    ]);
    let doctor = bed.folder.json(&[
        "practitioner",
        "add",
        "Dr Lind",
        "--org",
        other["organization"].as_str().unwrap(),
        "--roles",
        "doctor",
        "--json",
    ]);
    let token = bed
        .folder
        .token("system/*.cruds", doctor["practitioner"].as_str());
    bed.set_token(token);
    bed.get(&url).await.problem(404);
    bed.get("AuditEvent?patient=Patient/p1").await.problem(404);
    bed.node.stop();
}
