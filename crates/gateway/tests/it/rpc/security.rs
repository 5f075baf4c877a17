//! Who is answered at all.

use secrecy::SecretString;
use serde_json::Value;
use stele_gateway::rpc::{Error, Origins, RpcConfig, serve};

use super::{Server, ledger::MemoryLedger};

const CHAIN_ID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
const PAGE: &str = "https://wallet.example";

#[tokio::test]
async fn a_rebound_name_is_refused() {
    let server = Server::start().await;
    assert_eq!(
        server
            .http
            .post(CHAIN_ID, &[("host", "evil.example")])
            .await
            .status,
        403
    );
    assert_eq!(
        server
            .http
            .post(CHAIN_ID, &[("host", "localhost:8545")])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_web_page_needs_its_origin_listed() {
    let from_page = [("host", "localhost"), ("origin", PAGE)];
    let server = Server::start().await;
    for method in ["POST", "OPTIONS"] {
        let refused = server.http.send(method, CHAIN_ID, &from_page).await;
        assert_eq!(refused.status, 403);
        assert!(
            !refused.head.contains("access-control-allow-origin"),
            "{}",
            refused.head
        );
    }

    let allowed_origins = Origins::These(vec![PAGE.to_owned()]);
    let server = Server::with(RpcConfig {
        allowed_origins,
        ..RpcConfig::default()
    })
    .await;
    let preflight = server.http.send("OPTIONS", "", &from_page).await;
    assert_eq!(preflight.status, 204);
    for line in [
        "access-control-allow-origin: https://wallet.example",
        "access-control-allow-methods: post",
        "access-control-allow-headers: content-type, authorization",
        "vary: origin",
    ] {
        assert!(
            preflight.head.contains(line),
            "{line} in {}",
            preflight.head
        );
    }
    let answer = server.http.post(CHAIN_ID, &from_page).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("access-control-allow-origin: https://wallet.example")
    );
    let other = [("host", "localhost"), ("origin", "https://other.example")];
    assert_eq!(server.http.post(CHAIN_ID, &other).await.status, 403);
}

#[tokio::test]
async fn off_loopback_a_token_is_required() {
    let config = RpcConfig {
        addr: ([0, 0, 0, 0], 0).into(),
        ..RpcConfig::default()
    };
    let ledger = std::sync::Arc::new(MemoryLedger::default());
    let refused = serve(ledger, config).await;
    assert!(matches!(refused, Err(Error::TokenRequired { .. })));

    let token = Some(SecretString::from("a-long-token"));
    let config = RpcConfig {
        token,
        ..RpcConfig::default()
    };
    assert!(!format!("{config:?}").contains("a-long-token"));
    let server = Server::with(config).await;
    let refused = server.http.post(CHAIN_ID, &[("host", "localhost")]).await;
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate: bearer"));
    for (token, status) in [("Bearer a-long-tokem", 401), ("Bearer a-long-token", 200)] {
        let headers = [("host", "localhost"), ("authorization", token)];
        assert_eq!(server.http.post(CHAIN_ID, &headers).await.status, status);
    }
}

#[tokio::test]
async fn large_bodies_and_answers_are_refused() {
    let limits = RpcConfig {
        max_request_bytes: 2_000,
        max_response_bytes: 1_000,
        ..RpcConfig::default()
    };
    let server = Server::with(limits).await;
    let localhost = [("host", "localhost")];
    let large = format!("{CHAIN_ID}{}", " ".repeat(2_000));
    assert_eq!(server.http.post(&large, &localhost).await.status, 413);
    let block = r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest"]}"#;
    let answer = server.http.post(block, &localhost).await;
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["error"]["code"], -32008);
}

#[tokio::test]
async fn filters_are_limited() {
    let server = Server::with(RpcConfig {
        max_filters: 1,
        ..RpcConfig::default()
    })
    .await;
    server
        .ask("eth_newBlockFilter", serde_json::json!([]))
        .await;
    let (code, text) = server
        .refused("eth_newBlockFilter", serde_json::json!([]))
        .await;
    assert_eq!(code, -32005);
    assert!(text.contains("at most 1 filters"), "{text}");
}

#[tokio::test]
async fn a_stopped_server_answers_nobody() {
    let server = Server::start().await;
    let addr = server.handle.local_addr();
    server.handle.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
