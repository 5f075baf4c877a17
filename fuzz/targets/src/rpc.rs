//! JSON-RPC requests against a ledger in memory.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use stele_gateway::rpc::{Methods, RpcConfig};
use tokio::runtime::Runtime;

#[path = "../../../crates/gateway/tests/it/rpc/ledger.rs"]
mod ledger;

struct Bench {
    methods: Methods,
    runtime: Runtime,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench {
        methods: Methods::new(
            Arc::new(ledger::MemoryLedger::default()),
            &RpcConfig::default(),
        )
        .unwrap(),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    })
}

/// Answers one request. Every answer is JSON-RPC 2.0 with either a result or an error that has a code and a message,
/// and no fault of the node (-32603) can be caused by what a caller sends.
pub fn rpc(data: &[u8]) {
    let Ok(request) = std::str::from_utf8(data) else {
        return;
    };
    let bench = bench();
    let Ok(answer) = bench.runtime.block_on(bench.methods.answer(request)) else {
        return;
    };
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    let error = &answer["error"];
    if error.is_null() {
        assert!(answer.get("result").is_some(), "{answer}");
        return;
    }
    let message = error["message"].as_str().unwrap();
    assert!(!message.is_empty());
    let told_to_fail = request.to_ascii_lowercase().contains("dddddddddddddddd");
    assert!(
        error["code"] != -32603 || told_to_fail,
        "a request made the node fail: {answer}"
    );
}
