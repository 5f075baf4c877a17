//! Content of any size, in and out, and its ciphertext by CID.

use futures::StreamExt as _;
use serde_json::json;

use super::{Bed, FHIR};
use crate::node::patient;

const MIB: usize = 1 << 20;
const SIZE: usize = 200 * MIB;
const PIECE: usize = 64 * 1024;

/// A piece of content that no other piece of the file equals and that does not compress.
fn piece(index: usize) -> Vec<u8> {
    let mut state = u64::try_from(index)
        .unwrap()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        | 1;
    let mut bytes = Vec::with_capacity(PIECE);
    while bytes.len() < PIECE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Peak of a process's resident memory in bytes, as Linux counts it.
fn peak_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// FR-L2 (large images off chain, encrypted): 200 MB go in and come out byte for byte while the node never holds
/// more than 300 MB of memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_binary_streams_in_and_out() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let pieces =
        futures::stream::iter((0..SIZE / PIECE).map(|index| Ok::<_, std::io::Error>(piece(index))));
    let headers = [
        ("content-type", "application/dicom"),
        ("x-security-context", "Patient/p1"),
    ];
    let made = bed
        .ask(
            "POST",
            "Binary",
            &headers,
            reqwest::Body::wrap_stream(pieces),
        )
        .await
        .is(201);
    let location = made.header("location").to_owned();
    let id = location
        .split("/_history/")
        .next()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let token = bed.folder.token("system/*.r", None);
    let response = reqwest::Client::new()
        .get(bed.url(&format!("Binary/{id}")))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/dicom");
    assert_eq!(
        response.content_length(),
        Some(u64::try_from(SIZE).unwrap())
    );
    let mut body = response.bytes_stream();
    let (mut expected, mut next, mut read) = (piece(0), 1, 0_usize);
    let mut at = 0;
    while let Some(part) = body.next().await {
        for byte in part.unwrap() {
            if at == PIECE {
                (expected, next, at) = (piece(next), next + 1, 0);
            }
            assert_eq!(byte, expected[at], "byte {read}");
            at += 1;
            read += 1;
        }
    }
    assert_eq!(read, SIZE);
    let peak = peak_memory(bed.node.pid());
    assert!(peak < 300 * MIB, "the node held {} MiB", peak / MIB);
    bed.node.stop();
}

/// A Binary is content or a resource, whichever is asked for; content is never run by a browser.
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_has_two_faces() {
    let bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let headers = [
        ("content-type", "text/html"),
        ("x-security-context", "Patient/p1"),
    ];
    let made = bed
        .ask("POST", "Binary", &headers, "<b>seen</b>")
        .await
        .is(201);
    let id = made
        .header("location")
        .split('/')
        .nth_back(2)
        .unwrap()
        .to_owned();
    let path = format!("Binary/{id}");
    let raw = bed.get(&path).await.is(200);
    assert_eq!(
        (raw.text.as_str(), raw.header("content-type")),
        ("<b>seen</b>", "text/html")
    );
    assert_eq!(raw.header("content-disposition"), "attachment");
    assert!(raw.header("content-security-policy").contains("sandbox"));
    let fhir = bed
        .ask("GET", &path, &[("accept", "application/fhir+json")], "")
        .await
        .is(200)
        .json();
    assert_eq!(fhir["data"], "PGI+c2VlbjwvYj4=");
    assert_eq!(fhir["securityContext"]["reference"], "Patient/p1");
    bed.ask("GET", &path, &[("if-none-match", "W/\"1\"")], "")
        .await
        .is(304);

    let resource = json!({ "resourceType": "Binary", "id": "b2", "contentType": "text/plain", "data": "aGVsbG8=" });
    bed.put(&resource).await.is(201);
    assert_eq!(bed.get("Binary/b2").await.is(200).text, "hello");
    let unknown = [
        ("content-type", "text/plain"),
        ("x-security-context", "Patient/nobody"),
    ];
    bed.ask("POST", "Binary", &unknown, "x").await.problem(422);
    bed.ask("PUT", "Binary/b2", &[("content-type", "text/plain")], "x")
        .await
        .problem(415);
    bed.ask("DELETE", "Binary/b2", &[], "").await.is(204);
    bed.get("Binary/b2").await.problem(410);
    let cut = reqwest::Body::wrap_stream(futures::stream::iter([
        Ok(vec![1_u8; 100_000]),
        Err(std::io::Error::other("the client is gone")),
    ]));
    let sent = reqwest::Client::new()
        .post(bed.url("Binary"))
        .bearer_auth(bed.folder.token("system/*.c", None))
        .header("content-type", "application/dicom")
        .body(cut)
        .send()
        .await;
    assert!(sent.is_err());
    assert_eq!(
        bed.found("Binary?_total=accurate").await.len(),
        1,
        "half an upload is nothing"
    );
    bed.ask("POST", "Binary", &[FHIR], resource.to_string())
        .await
        .is(201);
    bed.node.stop();
}

/// FR-L2: the ciphertext behind a record is served by its CID, block by block and as a CAR, to anyone and to no use.
#[tokio::test(flavor = "multi_thread")]
async fn ciphertext_is_served_by_cid() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let provenance = bed.get("Provenance?target=Patient/p1").await.is(200).json();
    let entity = &provenance["entry"][0]["resource"]["entity"][0];
    let uri = entity["what"]["identifier"]["value"].as_str().unwrap();
    let cid = uri.strip_prefix("ipfs://").unwrap().to_owned();
    bed.set_token(String::new());
    let url = bed.url(&format!("/ipfs/{cid}?format=raw"));
    let block = reqwest::get(&url).await.unwrap();
    assert_eq!(block.status(), 200);
    assert_eq!(block.headers()["content-type"], "application/vnd.ipld.raw");
    let etag = block.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = block.bytes().await.unwrap();
    assert!(
        !bytes.windows(10).any(|part| part == b"Testfamily"),
        "it is ciphertext"
    );
    bed.ask(
        "GET",
        &format!("/ipfs/{cid}?format=raw"),
        &[("if-none-match", &etag)],
        "",
    )
    .await
    .is(304);
    let car = [("accept", "application/vnd.ipld.car")];
    let car = bed
        .ask("HEAD", &format!("/ipfs/{cid}"), &car, "")
        .await
        .is(200);
    assert!(
        car.header("content-type")
            .starts_with("application/vnd.ipld.car")
    );
    bed.get(&format!("/ipfs/{cid}")).await.problem(406);
    bed.get("/ipfs/nonsense?format=raw").await.problem(400);
    let absent = "/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=raw";
    bed.get(absent).await.problem(404);
    bed.ask("PUT", &format!("/ipfs/{cid}"), &[], "x")
        .await
        .problem(405);
    bed.node.stop();
}
