//! Bad JSON-RPC input to the built binary: each gets a clear error, and nothing of it stays.

use std::time::Duration;

use alloy_primitives::{Address, Bytes, TxKind, U256, hex};
use serde_json::{Value, json};
use stele_core::{
    account::{AccountKey, UnsignedCall},
    crypto::Secret32,
    id::DEFAULT_CHAIN_ID,
    tx::{AccountCall, AccountSignature, AccountTransaction, MAX_TX_BYTES, Transaction},
};

use crate::node::{Folder, Running};

const PARSE: i64 = -32700;
const REQUEST: i64 = -32600;
const METHOD: i64 = -32601;
const PARAMS: i64 = -32602;
const REFUSED: i64 = -32000;

/// A node and an account that may send whatever it likes.
struct Bench {
    node: Running,
    http: reqwest::Client,
    key: AccountKey,
}

impl Bench {
    fn new(folder: &Folder) -> Self {
        Self {
            node: folder.start_with(&["--open"]),
            http: reqwest::Client::new(),
            key: AccountKey::new(Secret32::new([0x42; 32])).unwrap(),
        }
    }

    /// Sends bytes as they are; gives the HTTP status and the text of the answer.
    async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let url = self.node.ready["rpc"].as_str().unwrap();
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, text) = self.post(request.to_string()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method}: {error}: {text}"))
    }

    /// The answer is an error with this code, whose message contains all of `words`.
    async fn refuses(&self, method: &str, params: Value, code: i64, words: &[&str]) {
        let answer = self.ask(method, params).await;
        expect_error(method, &answer, code, words);
    }

    async fn nonce(&self, tag: &str) -> u64 {
        let answer = self
            .ask("eth_getTransactionCount", json!([self.key.address(), tag]))
            .await;
        let text = answer["result"].as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(text, 16).unwrap()
    }

    fn call(&self, nonce: u64) -> UnsignedCall {
        UnsignedCall {
            chain_id: DEFAULT_CHAIN_ID,
            nonce,
            gas_limit: 100_000,
            to: TxKind::Call(Address::repeat_byte(9)),
            input: Bytes::new(),
        }
    }

    fn signed(&self, nonce: u64) -> Bytes {
        self.key.sign(self.call(nonce)).unwrap()
    }

    async fn wait_for(&self, hash: &Value) -> Value {
        for _ in 0..600 {
            let answer = self.ask("eth_getTransactionReceipt", json!([hash])).await;
            if answer["result"].is_object() {
                return answer["result"].clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no receipt of {hash}");
    }
}

fn expect_error(what: &str, answer: &Value, code: i64, words: &[&str]) {
    assert_eq!(answer["error"]["code"], code, "{what}: {answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "{what}: no {word:?} in {message:?}");
    }
}

/// NFR-SEC6, NFR-SEC7, LIM-24: transactions that are malformed, cut off, of another chain, out of turn, too large, wrongly
/// signed or sent twice are refused with a reason; the sender's nonce is untouched and the node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn bad_transactions_are_refused_and_leave_nothing() {
    let folder = Folder::new();
    let bench = Bench::new(&folder);
    let good = bench.signed(0);
    let with = |change: &dyn Fn(&mut UnsignedCall)| {
        let mut call = bench.call(0);
        change(&mut call);
        bench.key.sign(call).unwrap()
    };
    let mut trailing = good.to_vec();
    trailing.push(0);
    let unsupported = [&[3_u8], &good[1..]].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", Vec::new(), &["empty"]),
        ("not RLP", vec![0x02, 0xff, 0xff], &[]),
        ("a legacy list of nothing", vec![0xc0], &[]),
        ("cut off", good[..good.len() / 2].to_vec(), &[]),
        ("cut off by one", good[..good.len() - 1].to_vec(), &[]),
        ("bytes after its end", trailing, &["after its end"]),
        ("an unsupported type", unsupported, &["type"]),
        ("an account transaction of nothing", vec![0x5e], &[]),
        (
            "another chain",
            with(&|call| call.chain_id = 1).to_vec(),
            &["chain"],
        ),
        (
            "too much calldata",
            with(&|call| call.input = vec![1; MAX_TX_BYTES].into()).to_vec(),
            &[],
        ),
        (
            "more gas than a block",
            with(&|call| call.gas_limit = u64::MAX / 2).to_vec(),
            &["gas"],
        ),
        (
            "too little gas",
            with(&|call| call.gas_limit = 20_999).to_vec(),
            &["gas"],
        ),
        (
            "far ahead",
            bench.signed(100_000).to_vec(),
            &["nonce too high"],
        ),
        ("a high s", high_s(&good), &[]),
        ("a signature of zeros", zero_signature(&good), &[]),
        (
            "someone else's account",
            for_another_account(&bench.key),
            &[],
        ),
    ];
    for (what, bytes, words) in cases {
        let answer = bench
            .ask(
                "eth_sendRawTransaction",
                json!([hex::encode_prefixed(&bytes)]),
            )
            .await;
        expect_error(what, &answer, REFUSED, words);
        assert!(
            answer["error"]["message"].as_str().unwrap().len() > 5,
            "{what}: {answer}"
        );
    }
    assert_eq!(
        (bench.nonce("latest").await, bench.nonce("pending").await),
        (0, 0)
    );
    let pool = bench.ask("txpool_status", json!([])).await;
    assert_eq!(pool["result"]["pending"], "0x0", "{pool}");

    // The same bytes many times, at once and one after the other: one transaction.
    let text = json!([hex::encode_prefixed(&good)]);
    let sent = bench.ask("eth_sendRawTransaction", text.clone()).await;
    let hash = sent["result"].clone();
    assert!(hash.is_string(), "{sent}");
    bench
        .refuses("eth_sendRawTransaction", text.clone(), REFUSED, &[])
        .await;
    let receipt = bench.wait_for(&hash).await;
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    bench
        .refuses("eth_sendRawTransaction", text, REFUSED, &["nonce too low"])
        .await;
    // Another transaction with a nonce that is used up, or taken: the first one stands.
    let other = bench
        .key
        .sign(UnsignedCall {
            gas_limit: 90_000,
            ..bench.call(0)
        })
        .unwrap();
    bench
        .refuses(
            "eth_sendRawTransaction",
            json!([other]),
            REFUSED,
            &["nonce too low"],
        )
        .await;
    assert_eq!(bench.nonce("latest").await, 1);
    let later = bench
        .ask("eth_sendRawTransaction", json!([bench.signed(2)]))
        .await;
    assert!(
        later["result"].is_string(),
        "a nonce may wait for the one before it: {later}"
    );
    let instead = bench
        .key
        .sign(UnsignedCall {
            gas_limit: 90_000,
            ..bench.call(2)
        })
        .unwrap();
    bench
        .refuses(
            "eth_sendRawTransaction",
            json!([instead]),
            REFUSED,
            &["nonce 2", "taken"],
        )
        .await;
    let between = bench
        .ask("eth_sendRawTransaction", json!([bench.signed(1)]))
        .await;
    bench.wait_for(&between["result"]).await;
    bench.wait_for(&later["result"]).await;
    assert_eq!(bench.nonce("latest").await, 3);
    bench.node.stop();
    assert_eq!(folder.json(&["verify", "chain", "--json"])["ok"], true);
}

/// LIM-24: requests that are not JSON, not JSON-RPC, of unknown methods, with parameters of wrong number or type, too
/// large or nested without end: the code says what kind of error it is and the message names the parameter.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named_and_the_node_goes_on() {
    let folder = Folder::new();
    let bench = Bench::new(&folder);
    let who = Address::repeat_byte(1);
    for (method, params, code, words) in [
        ("eth_noSuchMethod", json!([]), METHOD, &[][..]),
        (
            "eth_sendRawTransaction",
            json!([]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_sendRawTransaction",
            json!([1]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_sendRawTransaction",
            json!(["0x123"]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_sendRawTransaction",
            json!(["zz"]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_sendRawTransaction",
            json!(["0x00", "0x00"]),
            PARAMS,
            &[],
        ),
        ("eth_getBalance", json!(["0x01"]), PARAMS, &["address"]),
        (
            "eth_getBalance",
            json!([who, "yesterday"]),
            PARAMS,
            &["block"],
        ),
        ("eth_getBalance", json!([who, -1]), PARAMS, &["block"]),
        (
            "eth_getBlockByNumber",
            json!(["latest", "yes"]),
            PARAMS,
            &[],
        ),
        (
            "eth_getBlockByNumber",
            json!(["0xfffffffffffffffffffffffff", true]),
            PARAMS,
            &["block"],
        ),
        (
            "eth_getTransactionReceipt",
            json!(["0x1234"]),
            PARAMS,
            &["transactionHash"],
        ),
        (
            "eth_call",
            json!([{ "to": "nobody" }]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_call",
            json!([{ "to": who, "gas": "many" }]),
            PARAMS,
            &["transaction"],
        ),
        (
            "eth_getLogs",
            json!([{ "topics": [["0x01"]] }]),
            PARAMS,
            &["filter"],
        ),
        ("eth_getLogs", json!(["latest"]), PARAMS, &[]),
        (
            "eth_getFilterChanges",
            json!(["0xdead"]),
            REFUSED,
            &["filter"],
        ),
        ("eth_getProof", json!([who, "slots", "latest"]), PARAMS, &[]),
    ] {
        bench.refuses(method, params, code, words).await;
    }

    let call = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let deep_parameter =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{deep}]}}"#);
    for (what, body, codes) in [
        ("not JSON", b"hello".to_vec(), &[PARSE][..]),
        ("nothing", Vec::new(), &[PARSE]),
        ("cut off", call.as_bytes()[..20].to_vec(), &[PARSE]),
        (
            "not UTF-8",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(),
            &[PARSE, REQUEST],
        ),
        ("a string", b"\"eth_chainId\"".to_vec(), &[REQUEST, PARSE]),
        (
            "no method",
            br#"{"jsonrpc":"2.0","id":1}"#.to_vec(),
            &[REQUEST],
        ),
        ("nested", deep.into_bytes(), &[PARSE, REQUEST]),
        (
            "a nested parameter",
            deep_parameter.into_bytes(),
            &[PARSE, PARAMS],
        ),
        ("an empty batch", b"[]".to_vec(), &[REQUEST]),
    ] {
        let (status, text) = bench.post(body).await;
        let answer: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{what}: {status} {error}: {text:?}"));
        // A list is a batch, whatever is in it.
        let answer = answer.get(0).unwrap_or(&answer);
        let code = answer["error"]["code"].as_i64().unwrap_or_default();
        assert!(codes.contains(&code), "{what}: {status} {answer}");
    }
    let batch = format!("[{}]", vec![call; 1001].join(","));
    let (_, text) = bench.post(batch).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    expect_error("too many calls", &answer, -32010, &["too large"]);
    assert!(
        answer["error"]["data"].as_str().unwrap().contains("1000"),
        "{answer}"
    );
    let url = bench.node.ready["rpc"].as_str().unwrap();
    let large = bench
        .http
        .post(url)
        .header("content-type", "application/json");
    // The answer is given before the body was read, so a client that is still sending may miss it.
    if let Ok(answer) = large.body(" ".repeat(33 << 20)).send().await {
        assert_eq!(answer.status().as_u16(), 413, "a body over the limit");
    }
    let mixed = format!(r#"[{call},{{"jsonrpc":"2.0","id":2,"method":"eth_noSuchMethod"}}]"#);
    let (_, text) = bench.post(mixed).await;
    let answers: Value = serde_json::from_str(&text).unwrap();
    assert!(
        answers[0]["result"].is_string(),
        "one bad call spoils no other: {answers}"
    );
    assert_eq!(answers[1]["error"]["code"], METHOD);

    let alive = bench.ask("eth_chainId", json!([])).await;
    assert_eq!(alive["result"], format!("0x{DEFAULT_CHAIN_ID:x}"));
    let ready = bench
        .http
        .get(bench.node.url("/readyz"))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status().as_u16(), 200);
    let sent = bench
        .ask("eth_sendRawTransaction", json!([bench.signed(0)]))
        .await;
    bench.wait_for(&sent["result"]).await;
    bench.node.stop();
}

/// The same transaction with the other of the two signatures that an unchecked recovery takes.
fn high_s(signed: &Bytes) -> Vec<u8> {
    let order = U256::from_be_bytes(hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let mut bytes = signed.to_vec();
    let at = bytes.len() - 32;
    assert_eq!(bytes[at - 1], 0xa0, "s has 32 bytes");
    let s = U256::from_be_slice(&bytes[at..]);
    bytes[at..].copy_from_slice(&(order - s).to_be_bytes::<32>());
    let parity = at - 1 - 33 - 1;
    bytes[parity] = if bytes[parity] == 0x80 { 0x01 } else { 0x80 };
    bytes
}

fn zero_signature(signed: &Bytes) -> Vec<u8> {
    let mut bytes = signed.to_vec();
    let end = bytes.len();
    bytes[end - 32..].fill(0);
    bytes[end - 65..end - 33].fill(0);
    bytes
}

/// An account transaction for an account that the signer's key does not speak for.
fn for_another_account(key: &AccountKey) -> Vec<u8> {
    let call = AccountCall {
        chain_id: DEFAULT_CHAIN_ID,
        account: Address::repeat_byte(0x77),
        nonce: 0,
        gas_limit: 100_000,
        to: Address::repeat_byte(9),
        input: Bytes::new(),
    };
    let signature = key.sign_hash(call.signing_hash()).unwrap();
    let signature = AccountSignature::Secp256k1(signature);
    Transaction::Account(Box::new(AccountTransaction { call, signature }))
        .encode()
        .to_vec()
}
