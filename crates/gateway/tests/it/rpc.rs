//! JSON-RPC over a real socket, with a ledger in memory behind it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod client;
mod ledger;
mod methods;
mod security;
mod subscriptions;

use std::sync::Arc;

use serde_json::Value;
use stele_gateway::rpc::{RpcConfig, RpcHandle, serve};

use self::{client::Http, ledger::MemoryLedger};

/// A server with its ledger and a client.
struct Server {
    ledger: Arc<MemoryLedger>,
    handle: RpcHandle,
    http: Http,
}

impl Server {
    async fn start() -> Self {
        Self::with(RpcConfig::default()).await
    }

    async fn with(config: RpcConfig) -> Self {
        let ledger = Arc::new(MemoryLedger::default());
        let config = RpcConfig {
            addr: ([127, 0, 0, 1], 0).into(),
            ..config
        };
        let handle = serve(ledger.clone(), config).await.unwrap();
        let http = Http::new(handle.local_addr());
        Self {
            ledger,
            handle,
            http,
        }
    }

    /// The result of a call that succeeds.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.http.call(method, params.clone()).await;
        match answer.get("result") {
            Some(result) => result.clone(),
            None => panic!("{method} {params}: {answer}"),
        }
    }

    /// Code and message of a call that fails.
    async fn refused(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.http.call(method, params.clone()).await;
        let error = answer
            .get("error")
            .unwrap_or_else(|| panic!("{method} {params}: {answer}"));
        (
            error["code"].as_i64().unwrap(),
            error["message"].as_str().unwrap().to_owned(),
        )
    }
}
