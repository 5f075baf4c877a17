//! What a node costs that nobody asks anything.

use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{Folder, Running};

/// Time without a block, in the configuration of this test.
const HEARTBEAT_S: u64 = 2;

async fn ask(node: &Running, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let response = reqwest::Client::new()
        .post(node.ready["rpc"].as_str().unwrap())
        .header("content-type", "application/json")
        .body(request.to_string())
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    answer["result"].clone()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// NFR-ENE, LIM-03: an idle node seals no block but its heartbeats: empty, and as far apart as it was told.
#[tokio::test]
async fn an_idle_node_seals_heartbeats_only() {
    let folder = Folder::new();
    let config = folder.beside("stele.toml");
    let text = format!("heartbeat_ms = {}\n", HEARTBEAT_S * 1_000);
    std::fs::write(&config, text).unwrap();
    let node = folder.start_with(&["--config", config.to_str().unwrap()]);
    let first = number(&ask(&node, "eth_blockNumber", json!([])).await) + 1;
    let last = first + 2;
    let waiting = async {
        while number(&ask(&node, "eth_blockNumber", json!([])).await) < last {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("heartbeats");
    let mut times = Vec::new();
    for height in first..=last {
        let at = json!([format!("{height:#x}"), false]);
        let block = ask(&node, "eth_getBlockByNumber", at).await;
        assert_eq!(block["transactions"], json!([]), "block {height}");
        times.push(number(&block["timestamp"]));
    }
    // Timestamps are whole seconds: one may be lost at the ends.
    let apart = times[times.len() - 1] - times[0];
    assert!(apart >= 2 * HEARTBEAT_S - 1, "{times:?}");
    node.stop();
}
