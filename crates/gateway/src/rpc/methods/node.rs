//! About the node and the chain as such.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, U64, keccak256};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use serde::Serialize;

use crate::rpc::{arguments::Arguments, context::Context, error::RpcResult};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_method("eth_chainId", |_, context, _| {
        answer(U64::from(context.facts.chain_id))
    })?;
    module.register_method("net_version", |_, context, _| {
        context.facts.chain_id.to_string()
    })?;
    module.register_method("net_listening", |_, _, _| true)?;
    module.register_method("net_peerCount", |_, context, _| {
        answer(U64::from(context.facts.validators.len().saturating_sub(1)))
    })?;
    module.register_method("eth_syncing", |_, _, _| false)?;
    module.register_method("eth_accounts", |_, context, _| {
        let accounts = context.development().map(|chain| chain.accounts());
        accounts.unwrap_or_default()
    })?;
    module.register_method("eth_gasPrice", |_, _, _| answer(U64::ZERO))?;
    module.register_method("eth_maxPriorityFeePerGas", |_, _, _| answer(U64::ZERO))?;
    module.register_method("web3_clientVersion", |_, context, _| {
        context
            .client_version
            .clone()
            .unwrap_or_else(client_version)
    })?;
    module.register_method("web3_sha3", |params, _, _| sha3(&params))?;
    module.register_method("txpool_status", |_, context, _| {
        answer(PoolJson::of(context))
    })?;
    module.register_method("rpc_modules", |_, _, _| answer(modules()))?;
    Ok(())
}

/// An answer that cannot fail.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the server takes results only for types that are not its own"
)]
fn answer<T>(value: T) -> RpcResult<T> {
    Ok(value)
}

fn client_version() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("Stele/v{}/{os}-{arch}", env!("CARGO_PKG_VERSION"))
}

fn sha3(params: &Params<'_>) -> RpcResult<B256> {
    let mut arguments = Arguments::read(params)?;
    let data: Bytes = arguments.required("data")?;
    arguments.end()?;
    Ok(keccak256(data))
}

/// Transactions that wait: those that can be executed, and those whose nonce is ahead.
#[derive(Clone, Debug, Serialize)]
struct PoolJson {
    pending: U64,
    queued: U64,
}

impl PoolJson {
    fn of(context: &Context) -> Self {
        let (ready, waiting) = context.ledger.pool_size();
        Self {
            pending: U64::from(ready),
            queued: U64::from(waiting),
        }
    }
}

fn modules() -> BTreeMap<&'static str, &'static str> {
    ["debug", "eth", "net", "rpc", "txpool", "web3"]
        .into_iter()
        .map(|name| (name, "1.0"))
        .collect()
}
