//! Versions: read, listed, told apart, and who made them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Bed, observation};
use crate::node::patient;

/// FR-P05, LIM-09: an amendment is a new version; all versions can be read, their difference is told element by
/// element, and each has a Provenance that names the one it amends.
#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_is_a_new_version_with_its_provenance() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.put(&observation("o1", "p1", "718-7", 13.5))
        .await
        .is(201);
    let mut amended = observation("o1", "p1", "718-7", 15.25);
    amended["status"] = "amended".into();
    amended["note"] = json!([{ "text": "dilution corrected" }]);
    bed.put(&amended).await.is(200);

    let first = bed.get("Observation/o1/_history/1").await.is(200).json();
    assert_eq!(first["valueQuantity"]["value"], 13.5);
    let second = bed.get("Observation/o1/_history/2").await.is(200).json();
    assert_eq!(second["valueQuantity"]["value"], 15.25);
    bed.get("Observation/o1/_history/3").await.problem(404);
    bed.get("Observation/o1/_history/x").await.problem(404);

    let told = bed.get("Observation/o1/$diff").await.is(200).json();
    assert_eq!(stele_fhir::validate::resource(&told), []);
    let operations: Vec<Vec<String>> = told["parameter"]
        .as_array()
        .unwrap()
        .iter()
        .map(parts)
        .collect();
    assert_eq!(
        operations,
        [
            vec!["replace", "Observation.status", "\"final\"", "\"amended\""],
            vec![
                "replace",
                "Observation.valueQuantity.value",
                "13.5",
                "15.25"
            ],
            vec![
                "insert",
                "Observation.note[0].text",
                "\"dilution corrected\""
            ],
        ]
    );
    let back = "Observation/o1/$diff?fromVersion=2&toVersion=1";
    assert_eq!(
        bed.get(back).await.is(200).json()["parameter"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let same = bed
        .get("Observation/o1/$diff?fromVersion=2&toVersion=2")
        .await
        .is(200)
        .json();
    assert!(same.get("parameter").is_none());
    bed.get("Observation/o1/$diff?fromVersion=9")
        .await
        .problem(404);
    bed.get("Patient/p1/$diff").await.problem(404);
    bed.get("Observation/o1/$diff?since=1").await.problem(400);

    let provenance = bed
        .get("Provenance?target=Observation/o1")
        .await
        .is(200)
        .json();
    let newest = &provenance["entry"][0]["resource"];
    assert_eq!(
        newest["target"][0]["reference"],
        "Observation/o1/_history/2"
    );
    assert_eq!(newest["activity"]["coding"][0]["code"], "UPDATE");
    assert_eq!(newest["entity"][0]["role"], "revision");
    assert_eq!(
        newest["entity"][0]["what"]["reference"],
        "Observation/o1/_history/1"
    );
    bed.node.stop();
}

fn parts(operation: &Value) -> Vec<String> {
    let parts = operation["part"].as_array().unwrap();
    let value = |part: &Value| {
        let members = part.as_object().unwrap();
        let (kind, value) = members
            .iter()
            .find(|(name, _)| name.starts_with("value"))
            .unwrap();
        match kind.as_str() {
            "valueCode" => value.as_str().unwrap().to_owned(),
            "valueString" if part["name"] == "path" => value.as_str().unwrap().to_owned(),
            _ => value.to_string(),
        }
    };
    parts.iter().map(value).collect()
}

/// Deletion is a version: 410 afterwards, in the history for ever, and undone by writing again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_gone_and_stays_in_the_history() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let text = observation("o1", "p1", "718-7", 13.5);
    bed.put(&text).await.is(201);
    bed.ask("DELETE", "Observation/o1", &[], "").await.is(204);
    bed.get("Observation/o1").await.problem(410);
    bed.get("Observation/o1/_history/2").await.problem(410);
    bed.get("Observation/o1/_history/1").await.is(200);
    assert!(bed.found("Observation?code=718-7").await.is_empty());
    bed.ask("DELETE", "Observation/o1", &[], "").await.is(204);
    bed.ask("DELETE", "Observation/never", &[], "")
        .await
        .problem(404);
    let history = bed.get("Observation/o1/_history").await.is(200).json();
    assert_eq!(history["type"], "history");
    let methods: Vec<&Value> = history["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["request"]["method"])
        .collect();
    assert_eq!(methods, ["DELETE", "POST"]);
    assert_eq!(stele_fhir::validate::resource(&history), []);
    let back = bed.put(&text).await;
    assert!(matches!(back.status, 200 | 201), "{}", back.text);
    assert_eq!(back.header("etag"), "W/\"3\"");
    bed.get("Observation/o1").await.is(200);
    bed.get("Observation/never/_history").await.problem(404);
    bed.node.stop();
}

/// Histories of a resource and of a type in pages: every version once, newest first.
#[tokio::test(flavor = "multi_thread")]
async fn histories_are_paged_to_the_end() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    for value in 0..7_u8 {
        bed.put(&observation("o1", "p1", "718-7", value.into()))
            .await;
    }
    for n in 2..6_u8 {
        bed.put(&observation(&format!("o{n}"), "p1", "718-7", n.into()))
            .await
            .is(201);
    }
    let versions = bed.all_pages("Observation/o1/_history?_count=2").await;
    let tags: Vec<&str> = versions
        .iter()
        .map(|entry| entry["response"]["etag"].as_str().unwrap())
        .collect();
    assert_eq!(
        tags,
        [
            "W/\"7\"", "W/\"6\"", "W/\"5\"", "W/\"4\"", "W/\"3\"", "W/\"2\"", "W/\"1\""
        ]
    );
    let all = bed.all_pages("Observation/_history?_count=3").await;
    let named: BTreeSet<String> = all
        .iter()
        .map(|entry| format!("{} {}", entry["fullUrl"], entry["response"]["etag"]))
        .collect();
    assert_eq!((all.len(), named.len()), (11, 11));
    let times: Vec<&str> = all
        .iter()
        .map(|entry| entry["response"]["lastModified"].as_str().unwrap())
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
    bed.get("Observation/_history?_cursor=nonsense")
        .await
        .problem(400);
    bed.get("Observation/_history?_count=many")
        .await
        .problem(400);
    bed.node.stop();
}
