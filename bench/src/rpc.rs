//! Ethereum JSON-RPC, as a client that keeps its connections.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, hex};
use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// How long a transaction may take to become final.
const FINAL_S: u64 = 60;

/// A node's JSON-RPC.
#[derive(Clone)]
pub(crate) struct Rpc {
    http: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Rpc {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
        }
    }

    /// Calls a method with parameters that are JSON already; the result's text.
    async fn ask(&self, method: &str, params: &str) -> Result<String> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json");
        let response = request
            .body(body)
            .send()
            .await
            .with_context(|| method.to_owned())?;
        let text = response.text().await.with_context(|| method.to_owned())?;
        let answer: Answer<'_> = serde_json::from_str(&text).with_context(|| method.to_owned())?;
        match (answer.result, answer.error) {
            (_, Some(error)) => Err(anyhow!("{method}: {error}")),
            (Some(result), None) => Ok(result.get().to_owned()),
            // `"result": null` is read as none.
            (None, None) => Ok("null".into()),
        }
    }

    /// Calls a method.
    pub(crate) async fn call(&self, method: &str, params: &Value) -> Result<Value> {
        let text = self.ask(method, &params.to_string()).await?;
        serde_json::from_str(&text).with_context(|| method.to_owned())
    }

    /// Sends a signed transaction.
    pub(crate) async fn send(&self, transaction: &Bytes) -> Result<B256> {
        let params = format!(r#"["{}"]"#, hex::encode_prefixed(transaction));
        let text = self.ask("eth_sendRawTransaction", &params).await?;
        serde_json::from_str(&text).context("eth_sendRawTransaction")
    }

    /// The receipt of a transaction, if it is in a block; an error if it failed there.
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Value>> {
        let found = self
            .ask("eth_getTransactionReceipt", &format!(r#"["{hash}"]"#))
            .await?;
        let found: Value = serde_json::from_str(&found).context("a receipt")?;
        match found.get("status").and_then(Value::as_str) {
            None => Ok(None),
            Some("0x1") => Ok(Some(found)),
            Some(status) => bail!("transaction {hash} failed with status {status}"),
        }
    }

    /// Waits until a transaction is in a block; its receipt.
    pub(crate) async fn wait(&self, hash: B256) -> Result<Value> {
        let started = Instant::now();
        loop {
            if let Some(receipt) = self.receipt(hash).await? {
                return Ok(receipt);
            }
            if started.elapsed().as_secs() > FINAL_S {
                bail!("transaction {hash} is in no block after {FINAL_S} s");
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    /// Transactions of an account that are in a block.
    pub(crate) async fn nonce(&self, account: Address) -> Result<u64> {
        let count = self
            .call("eth_getTransactionCount", &json!([account, "latest"]))
            .await?;
        let text = count.as_str().and_then(|text| text.strip_prefix("0x"));
        let nonce = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        nonce.context("eth_getTransactionCount gave no number")
    }
}

/// Between two looks at whether something has become final, at Stele as at its peers.
const POLL_MS: u64 = 20;
