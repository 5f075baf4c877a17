//! Formats, methods, addresses and preferences.

use super::{Bed, FHIR, observation};
use crate::node::patient;

/// JSON by whatever name it is asked for; 406 for what is not offered, 415 for what is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn formats_are_negotiated() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    for (accept, path, status) in [
        ("application/fhir+json", "Patient/p1", 200),
        ("application/json;q=0.9, text/html", "Patient/p1", 200),
        ("*/*", "Patient/p1", 200),
        ("application/fhir+xml", "Patient/p1", 406),
        ("application/fhir+xml", "Patient/p1?_format=json", 200),
        ("application/json", "Patient/p1?_format=xml", 406),
        (
            "application/json",
            "Patient/p1?_format=application/fhir%2Bjson",
            200,
        ),
        ("text/turtle", "metadata", 406),
        ("application/fhir+xml", "Patient?_id=p1", 406),
        ("application/fhir+xml", "Patient/p1/_history", 406),
    ] {
        let answer = bed.ask("GET", path, &[("accept", accept)], "").await;
        assert_eq!(answer.status, status, "{accept} {path}: {}", answer.text);
        assert!(
            answer
                .header("content-type")
                .starts_with("application/fhir+json"),
            "{accept} {path}"
        );
    }
    let body = patient("p1").to_string();
    for (kind, status) in [
        ("application/json", 200),
        ("application/fhir+json; charset=utf-8", 200),
        ("application/fhir+json; charset=latin1", 415),
        ("application/fhir+xml", 415),
        ("text/plain", 415),
    ] {
        let answer = bed
            .ask("PUT", "Patient/p1", &[("content-type", kind)], body.clone())
            .await;
        assert_eq!(answer.status, status, "{kind}: {}", answer.text);
    }
    let plain = [("content-type", "text/plain")];
    bed.ask("POST", "Patient/_search", &plain, "_id=p1")
        .await
        .problem(415);
    bed.ask("POST", "/fhir/r4", &plain, "{}").await.problem(415);
    let pretty = bed.get("Patient/p1?_pretty=true").await.is(200);
    assert!(
        pretty.text.contains("\n  \"active\": true"),
        "{}",
        pretty.text
    );
    bed.node.stop();
}

/// Addresses that are not there, methods that are not offered, and HEAD.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_methods_are_told_apart() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.get("Spaceship").await.problem(404);
    bed.get("Spaceship/1").await.problem(404);
    bed.ask("POST", "Spaceship", &[FHIR], "{}")
        .await
        .problem(404);
    bed.get("Patient/p1/$fly").await.problem(404);
    bed.get("/fhir/r4/Patient/p1/a/b/c/d").await.problem(404);
    bed.get("/nowhere").await.problem(404);
    for (method, path, allow) in [
        ("DELETE", "Patient/p1/_history", "GET"),
        ("PUT", "metadata", "GET"),
        ("POST", "Patient/p1", "GET"),
        ("GET", "Patient/_search", "POST"),
    ] {
        let refused = bed.ask(method, path, &[FHIR], "{}").await;
        assert!(
            refused.header("allow").contains(allow),
            "{method} {path}: {:?}",
            refused.headers
        );
        refused.problem(405);
    }
    let read = bed.get("Patient/p1").await.is(200);
    let head = bed.ask("HEAD", "Patient/p1", &[], "").await.is(200);
    assert!(head.text.is_empty());
    assert_eq!(head.header("etag"), read.header("etag"));
    assert_eq!(head.header("content-length"), read.text.len().to_string());
    bed.ask("HEAD", "Patient/none", &[], "").await.is(404);
    let id = bed
        .ask("GET", "Patient/p1", &[("x-request-id", "abc-1")], "")
        .await
        .is(200);
    assert_eq!(id.header("x-request-id"), "abc-1");
    assert_eq!(id.header("cache-control"), "no-store");
    let nobody = reqwest::get(bed.url("Patient/p1")).await.unwrap();
    assert_eq!(nobody.status(), 401);
    assert!(
        nobody.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer")
    );
    bed.node.stop();
}

/// `Prefer`: what a write answers with, and what becomes of search parameters that are not known.
#[tokio::test(flavor = "multi_thread")]
async fn preferences_are_heeded() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let mut value = 1.0;
    for (preference, expected) in [
        ("return=minimal", ""),
        ("return=representation", "Observation"),
        ("return=OperationOutcome", "OperationOutcome"),
        ("return=nonsense", "Observation"),
    ] {
        value += 1.0;
        let text = observation("o1", "p1", "718-7", value).to_string();
        let answer = bed
            .ask(
                "PUT",
                "Observation/o1",
                &[FHIR, ("prefer", preference)],
                text,
            )
            .await;
        assert!(
            matches!(answer.status, 200 | 201),
            "{preference}: {}",
            answer.text
        );
        assert!(answer.header("etag").starts_with("W/"), "{preference}");
        if expected.is_empty() {
            assert!(answer.text.is_empty(), "{}", answer.text);
        } else {
            assert_eq!(answer.json()["resourceType"], expected, "{preference}");
        }
    }
    let told = [("prefer", "return=OperationOutcome")];
    let deleted = bed.ask("DELETE", "Observation/o1", &told, "").await.is(200);
    assert_eq!(deleted.json()["resourceType"], "OperationOutcome");
    let odd = "Patient?shoe-size=44&_id=p1";
    let strict = [("prefer", "handling=strict")];
    let refused = bed
        .ask("GET", odd, &strict, "")
        .await
        .problem(400)
        .to_string();
    assert!(refused.contains("shoe-size"), "{refused}");
    let lenient = bed
        .ask("GET", odd, &[("prefer", "handling=lenient")], "")
        .await
        .is(200)
        .json();
    let entries = lenient["entry"].as_array().unwrap();
    assert_eq!(
        entries.len(),
        2,
        "the match, and what was ignored: {lenient}"
    );
    assert_eq!(entries[1]["search"]["mode"], "outcome");
    let itself = super::link(&lenient, "self").unwrap();
    assert!(
        itself.contains("_id=p1") && !itself.contains("shoe-size"),
        "{itself}"
    );
    bed.node.stop();
}
