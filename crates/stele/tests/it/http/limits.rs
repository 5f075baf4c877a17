//! Bodies that are too large, too deep, cut off or not text.

use serde_json::json;

use super::{Bed, FHIR, observation};
use crate::node::patient;

/// A body over the limit is refused by 413, before it is read where its length is told; the limit is configurable.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused() {
    let bed = Bed::with("max_body_bytes = 4096\nmax_binary_bytes = 10000\n");
    bed.put(&patient("p1")).await.is(201);
    let mut large = observation("o1", "p1", "718-7", 1.0);
    large["note"] = json!([{ "text": "x".repeat(5000) }]);
    let outcome = bed.put(&large).await.problem(413).to_string();
    assert!(outcome.contains("4096"), "{outcome}");
    // Without a length: refused once the limit is passed, which the last piece does. Whoever goes on sending may find
    // the connection closed before the answer is read.
    let stream = in_pieces(5, 1000);
    bed.ask("POST", "Observation", &[FHIR], stream)
        .await
        .problem(413);
    let octets = [("content-type", "application/dicom")];
    bed.ask("POST", "Binary", &octets, vec![7; 10_001])
        .await
        .problem(413);
    let stream = in_pieces(11, 1000);
    bed.ask("POST", "Binary", &octets, stream)
        .await
        .problem(413);
    assert!(
        bed.found("Binary").await.is_empty(),
        "nothing of it was kept"
    );
    bed.ask("POST", "Binary", &octets, vec![7; 10_000])
        .await
        .is(201);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    bed.ask("POST", "Observation/_search", &form, in_pieces(17, 65_536))
        .await
        .problem(413);
    bed.node.stop();
}

/// A body of so many pieces that does not tell its length.
fn in_pieces(count: usize, size: usize) -> reqwest::Body {
    let pieces = (0..count).map(move |_| Ok::<_, std::io::Error>("y".repeat(size)));
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}

/// Deep, cut off, wrong and foreign bodies each get a clear refusal; nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_bodies_are_refused() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let whole = observation("o1", "p1", "718-7", 1.0).to_string();
    let deep = format!(
        r#"{{"resourceType":"Basic","code":{{"text":"x"}},"extension":{}{}}}"#,
        r#"[{"url":"a:b","extension":"#.repeat(2000),
        "[]".to_owned() + &"}]".repeat(2000)
    );
    let mut not_text = whole.clone().into_bytes();
    let at = whole.find("final").unwrap();
    not_text[at] = 0xff;
    let twice = whole.replacen(r#""status":"#, r#""status":"final","status":"#, 1);
    for (what, body) in [
        ("deeply nested", deep.into_bytes()),
        ("cut off", whole.as_bytes()[..whole.len() - 20].to_vec()),
        ("not UTF-8", not_text),
        ("empty", Vec::new()),
        (
            "more than one document",
            format!("{whole}{whole}").into_bytes(),
        ),
        ("a member twice", twice.into_bytes()),
        ("a list", format!("[{whole}]").into_bytes()),
        (
            "no type",
            whole
                .replacen("resourceType", "resourcetype", 1)
                .into_bytes(),
        ),
        ("another type", patient("o1").to_string().into_bytes()),
        ("another id", whole.replacen("o1", "o2", 1).into_bytes()),
    ] {
        let refused = bed.ask("PUT", "Observation/o1", &[FHIR], body).await;
        assert!(
            matches!(refused.status, 400 | 422),
            "{what}: {} {}",
            refused.status,
            refused.text
        );
        assert_eq!(refused.json()["resourceType"], "OperationOutcome", "{what}");
    }
    bed.get("Observation/o1").await.problem(404);
    let odd_id = bed.ask("PUT", "Observation/a%20b", &[FHIR], whole).await;
    odd_id.problem(400);
    bed.ask("GET", "Observation/%ff", &[], "")
        .await
        .problem(400);
    bed.node.stop();
}
