//! Limits that keep one caller from taking the node from the others, and web pages from taking anything.

use std::fs;

use crate::node::{Client, Folder, observation, patient};

/// NFR-SEC7: an address that asks too much is refused with 429, an OperationOutcome and the time to wait, while others
/// are served; a body over the limit is refused with 413 and its limit.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_the_node_from_the_others() {
    let folder = Folder::new();
    let config = folder.beside("stele.toml");
    fs::write(
        &config,
        "rate_per_second = 1\nrate_burst = 5\nmax_body_bytes = 2048\n",
    )
    .unwrap();
    let node = folder.start_with(&["--config", config.to_str().unwrap()]);
    let client = Client::new(folder.token("system/*.cruds", None));
    // The test is on the node's own machine, as a reverse proxy would be: it says for whom it asks.
    let http = reqwest::Client::new();
    let ask = |address: &'static str| {
        let request = http
            .get(node.fhir("metadata"))
            .header("x-forwarded-for", address);
        async move { request.send().await.unwrap() }
    };
    let mut refused = 0;
    for _ in 0..60 {
        let answer = ask("203.0.113.7").await;
        if answer.status().as_u16() == 429 {
            refused += 1;
            let wait: u64 = answer.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(wait >= 1);
            let text = answer.text().await.unwrap();
            assert!(
                text.contains("OperationOutcome") && text.contains("throttled"),
                "{text}"
            );
        } else {
            assert_eq!(answer.status().as_u16(), 200);
        }
    }
    assert!(refused > 0, "sixty requests at once are more than five");
    assert_eq!(
        ask("203.0.113.8").await.status().as_u16(),
        200,
        "another address"
    );
    for _ in 0..20 {
        assert_eq!(
            client.get(&node.fhir("metadata")).await.status,
            200,
            "this machine"
        );
    }

    let made = client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let large = observation("p1", "6.3").replace('%', &"%".repeat(3000));
    let refused = client.post_text(&node.fhir("Observation"), large).await;
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert_eq!(
        refused.json()["issue"][0]["code"],
        "too-long",
        "{}",
        refused.text
    );
    assert!(refused.text.contains("2048"), "{}", refused.text);
    node.stop();
}

/// A web page that reaches a node on its reader's machine gets nothing: neither under the node's own name, nor under one
/// of its own that it points here (DNS rebinding), for records or for the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_reads_nothing_from_a_local_node() {
    let folder = Folder::new();
    let node = folder.start();
    let client = Client::new(folder.token("system/*.cruds", None));
    client
        .put_text(&node.fhir("Patient/p1"), patient("p1").to_string())
        .await;
    let http = reqwest::Client::new();
    for host in [None, Some("evil.example")] {
        for path in [
            "/fhir/r4/Patient/p1",
            "/fhir/r4/Patient",
            "/admin/organizations",
        ] {
            for method in ["GET", "POST", "OPTIONS"] {
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                let mut request = http
                    .request(method.clone(), node.url(path))
                    .header("origin", "https://evil.example");
                if let Some(host) = host {
                    request = request.header("host", host);
                }
                let answer = request.send().await.unwrap();
                assert!(
                    answer.status().is_client_error(),
                    "{method} {path}: {}",
                    answer.status()
                );
                assert!(
                    answer
                        .headers()
                        .get("access-control-allow-origin")
                        .is_none(),
                    "{method} {path}: a browser would hand the answer to the page"
                );
            }
        }
    }
    let rpc = node.ready["rpc"].as_str().unwrap();
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let answer = http
            .post(rpc)
            .header(name, value)
            .header("content-type", "application/json")
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 403, "{name}");
    }
    node.stop();
}
