//! Subscriptions over WebSocket.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use stele_gateway::rpc::RpcConfig;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use super::{
    Server,
    ledger::TOPIC,
    methods::{key, transfer},
};

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(server: &Server) -> Self {
        let addr = server.handle.local_addr();
        let stream = TcpStream::connect(addr).await.unwrap();
        let (socket, _) = client_async(format!("ws://{addr}"), stream).await.unwrap();
        Self(socket)
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.say(&request.to_string()).await
    }

    async fn say(&mut self, text: &str) -> Value {
        self.0.send(Message::text(text)).await.unwrap();
        self.next().await
    }

    /// Waits until the other side has ended the connection.
    async fn closed(&mut self) {
        let end = async {
            while let Some(Ok(message)) = self.0.next().await {
                assert!(!message.is_text(), "{message:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(20), end)
            .await
            .unwrap();
    }

    async fn subscribe(&mut self, params: Value) -> Value {
        self.call("eth_subscribe", params).await["result"].clone()
    }

    async fn next(&mut self) -> Value {
        loop {
            let received = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await;
            if let Message::Text(text) = received.unwrap().unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next thing a subscription tells.
    async fn told(&mut self, subscription: &Value) -> Value {
        let message = self.next().await;
        assert_eq!(message["method"], "eth_subscription");
        assert_eq!(&message["params"]["subscription"], subscription);
        message["params"]["result"].clone()
    }
}

/// Who gets no close frame back takes the connection for broken and comes back (RFC 6455 §7.1.5), as web3.js does.
#[tokio::test]
async fn a_farewell_is_answered() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let heads = client.subscribe(json!(["newHeads"])).await;
    assert!(heads.is_string());
    client.0.close(None).await.unwrap();
    let mut answered = false;
    let farewell = async {
        while let Some(received) = client.0.next().await {
            answered |= matches!(received, Ok(Message::Close(_)));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), farewell)
        .await
        .unwrap();
    assert!(answered);
}

#[tokio::test]
async fn heads_come_in_order_and_none_is_missing() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let heads = client.subscribe(json!(["newHeads"])).await;
    assert_eq!(heads.as_str().unwrap().len(), 34);
    assert!(heads.as_str().unwrap().starts_with("0x"));
    // Many more than the ledger's channel holds, at once: the server reads the missed ones again.
    for _ in 0..50 {
        server.ledger.finalize(&[]);
    }
    for height in 1..=50 {
        let head = client.told(&heads).await;
        assert_eq!(head["number"], format!("{height:#x}"));
        let block = server
            .ask("eth_getBlockByNumber", json!([head["number"], false]))
            .await;
        assert_eq!(head["hash"], block["hash"]);
        assert!(head.get("transactions").is_none());
    }
    assert_eq!(
        client.call("eth_unsubscribe", json!([heads])).await["result"],
        true
    );
    server.ledger.finalize(&[]);
    // What comes next is the answer, not another head.
    assert_eq!(
        client.call("eth_blockNumber", json!([])).await["result"],
        "0x33"
    );
    assert_eq!(
        client.call("eth_unsubscribe", json!([heads])).await["result"],
        false
    );
}

#[tokio::test]
async fn logs_are_filtered() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let mine = json!([TOPIC, key().address().into_word()]);
    let logs = client.subscribe(json!(["logs", {"topics": mine}])).await;
    let mut other = Client::connect(&server).await;
    let nothing = json!({"topics": [key().address().into_word()]});
    other.subscribe(json!(["logs", nothing])).await;
    let hash = server
        .ask("eth_sendRawTransaction", json!([transfer(0, b"\x05")]))
        .await;
    let log = client.told(&logs).await;
    assert_eq!(log["transactionHash"], hash);
    assert_eq!(log["topics"], mine);
    assert_eq!(
        (&log["data"], &log["logIndex"]),
        (&json!("0x05"), &json!("0x0"))
    );
    assert_eq!(
        other.call("eth_chainId", json!([])).await["result"],
        "0xe1e7"
    );
}

#[tokio::test]
async fn transactions_are_told_by_hash() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    let transactions = client.subscribe(json!(["newPendingTransactions"])).await;
    let hash = server
        .ask("eth_sendRawTransaction", json!([transfer(0, b"")]))
        .await;
    assert_eq!(client.told(&transactions).await, hash);
}

#[tokio::test]
async fn subscriptions_are_checked_and_limited() {
    let server = Server::with(RpcConfig {
        max_subscriptions: 1,
        ..RpcConfig::default()
    })
    .await;
    let mut client = Client::connect(&server).await;
    let refused = client.call("eth_subscribe", json!(["gossip"])).await;
    assert_eq!(refused["error"]["code"], -32602);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("`subscription`")
    );
    let heads = client.subscribe(json!(["newHeads"])).await;
    let refused = client.call("eth_subscribe", json!(["newHeads"])).await;
    assert_eq!(refused["error"]["code"], -32006);
    assert_eq!(
        client.call("eth_unsubscribe", json!([heads])).await["result"],
        true
    );
    assert!(client.subscribe(json!(["newHeads"])).await.is_string());
}

#[tokio::test]
async fn batches_and_limits_are_those_of_http() {
    let server = Server::with(RpcConfig {
        max_batch: 2,
        max_request_bytes: 2_000,
        max_response_bytes: 300,
        ..RpcConfig::default()
    })
    .await;
    let mut client = Client::connect(&server).await;
    let call =
        |method: &str| json!({"jsonrpc": "2.0", "id": method, "method": method, "params": []});
    let (chain, version) = (call("eth_chainId"), call("net_version"));
    let answers = client.say(&json!([chain, version]).to_string()).await;
    assert_eq!(answers[0]["id"], "eth_chainId");
    assert_eq!(answers[1]["id"], "net_version");
    let head = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", false]});
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_mine"});
    for (said, code) in [
        (json!([chain, version, chain]).to_string(), -32010),
        ("[]".into(), -32600),
        ("{\"jsonrpc\": 2}".into(), -32600),
        ("{".into(), -32700),
        (head.to_string(), -32008),
        (unknown.to_string(), -32601),
    ] {
        let answer = client.say(&said).await;
        assert_eq!(answer["error"]["code"], code, "{said}: {answer}");
    }
    let long = format!("{chain}{}", " ".repeat(2_000));
    assert_eq!(client.say(&long).await["error"]["code"], -32007);
    // Where the next message begins is not known, so that was the last one.
    client.closed().await;
}

#[tokio::test]
async fn many_answers_of_a_batch_are_too_large_together() {
    let server = Server::with(RpcConfig {
        max_response_bytes: 300,
        ..RpcConfig::default()
    })
    .await;
    let mut client = Client::connect(&server).await;
    let calls: Vec<_> = (0..50)
        .map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "eth_chainId"}))
        .collect();
    let answer = client.say(&json!(calls).to_string()).await;
    assert_eq!(answer["error"]["code"], -32011);
}

#[tokio::test]
async fn sockets_and_requests_share_the_places() {
    let server = Server::with(RpcConfig {
        max_connections: 1,
        ..RpcConfig::default()
    })
    .await;
    let mut client = Client::connect(&server).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    let localhost = [("host", "localhost")];
    assert_eq!(server.http.post(call, &localhost).await.status, 429);
    assert!(client.call("eth_chainId", json!([])).await["result"].is_string());
    client.0.close(None).await.unwrap();
    client.closed().await;
    // The place is free as soon as the server has seen the end too.
    let free = async {
        while server.http.post(call, &localhost).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stopped_server_ends_its_sockets() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.subscribe(json!(["newHeads"])).await;
    server.handle.stop().await;
    client.closed().await;
}

#[tokio::test]
async fn a_silent_socket_is_ended() {
    let server = Server::start().await;
    let mut client = Client::connect(&server).await;
    client.subscribe(json!(["newHeads"])).await;
    // From here on nobody answers pings.
    let mut stream = client.0.into_inner();
    tokio::time::pause();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).await.unwrap();
    let empty_ping = [0x89, 0];
    assert_eq!(told, empty_ping.repeat(3));
}

#[tokio::test]
async fn a_socket_needs_the_token_too() {
    let server = Server::with(RpcConfig {
        token: Some("secret".into()),
        ..RpcConfig::default()
    })
    .await;
    let addr = server.handle.local_addr();
    for (token, expected) in [
        (None, false),
        (Some("Bearer other"), false),
        (Some("Bearer secret"), true),
    ] {
        let stream = TcpStream::connect(addr).await.unwrap();
        let mut request = format!("ws://{addr}").into_client_request().unwrap();
        if let Some(token) = token {
            let token = HeaderValue::from_static(token);
            request.headers_mut().insert("authorization", token);
        }
        let opened = client_async(request, stream).await;
        assert_eq!(opened.is_ok(), expected, "{token:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_not_listed_gets_no_socket() {
    let server = Server::start().await;
    let addr = server.handle.local_addr();
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut request = format!("ws://{addr}").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("origin", HeaderValue::from_static("https://evil.example"));
    assert!(client_async(request, stream).await.is_err());
}
