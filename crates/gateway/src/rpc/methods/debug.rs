//! What transactions and calls did, step by step, as go-ethereum's `debug` methods tell it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use serde::{Deserialize, Deserializer, Serialize, de};
use stele_service::ports::{BlockRef, GethTrace, SlotQuery, Trace, TraceOptions, Traced};

use crate::rpc::{
    arguments::{Arguments, BlockOrHash, BlockTag, CallRequest, Count},
    context::Context,
    error::{RpcResult, not_found},
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_async_method("debug_traceTransaction", |params, context, _| async move {
        transaction(&context, &params).await
    })?;
    module.register_async_method("debug_traceCall", |params, context, _| async move {
        call(&context, &params).await
    })?;
    module.register_async_method(
        "debug_traceBlockByNumber",
        |params, context, _| async move {
            block(&context, &params, |arguments| {
                Ok(arguments.required::<BlockTag>("block")?.0)
            })
            .await
        },
    )?;
    module.register_async_method("debug_traceBlockByHash", |params, context, _| async move {
        block(&context, &params, |arguments| {
            Ok(BlockRef::Hash(arguments.required("blockHash")?))
        })
        .await
    })?;
    module.register_async_method("debug_storageRangeAt", |params, context, _| async move {
        storage_range(&context, &params).await
    })?;
    Ok(())
}

async fn transaction(context: &Context, params: &Params<'_>) -> RpcResult<GethTrace> {
    let mut arguments = Arguments::read(params)?;
    let hash: B256 = arguments.required("transactionHash")?;
    let options = options(&mut arguments)?;
    arguments.end()?;
    let traced = run(context, Traced::Transaction(hash), options).await?;
    one(traced).ok_or_else(|| not_found("transaction not found"))
}

async fn call(context: &Context, params: &Params<'_>) -> RpcResult<GethTrace> {
    let mut arguments = Arguments::read(params)?;
    let request: CallRequest = arguments.required("transaction")?;
    let at = arguments.state_block()?;
    let options = options(&mut arguments)?;
    arguments.end()?;
    let call = request.into_call(context.facts.chain_id)?;
    let traced = run(context, Traced::Call(call, at), options).await?;
    one(traced).ok_or_else(|| not_found("block not found"))
}

async fn block(
    context: &Context,
    params: &Params<'_>,
    reference: fn(&mut Arguments<'_>) -> RpcResult<BlockRef>,
) -> RpcResult<Vec<TraceJson>> {
    let mut arguments = Arguments::read(params)?;
    let at = reference(&mut arguments)?;
    let options = options(&mut arguments)?;
    arguments.end()?;
    let traced = run(context, Traced::Block(at), options).await?;
    let traced = traced.ok_or_else(|| not_found("block not found"))?;
    Ok(traced.into_iter().map(TraceJson::new).collect())
}

/// Slots of a contract as they stood before a transaction, in the order of their hashed keys.
async fn storage_range(context: &Context, params: &Params<'_>) -> RpcResult<StorageRangeJson> {
    let mut arguments = Arguments::read(params)?;
    let at: BlockOrHash = arguments.required("block")?;
    let Count(index) = arguments.required("transactionIndex")?;
    let address: Address = arguments.required("contract")?;
    let from: Start = arguments.required("keyStart")?;
    let Count(max) = arguments.required("maxResult")?;
    arguments.end()?;
    let asked = SlotQuery {
        address,
        at: at.0,
        before: Some(usize::try_from(index).unwrap_or(usize::MAX)),
        from: from.0,
        max: usize::try_from(max).unwrap_or(usize::MAX).min(SLOTS_MAX),
    };
    let found = context.heavy(move |ledger| ledger.slots(&asked)).await?;
    let range = found.ok_or_else(|| not_found("block not found, or it has no such transaction"))?;
    let slot = |(hashed, value)| {
        let value = B256::from(value);
        (hashed, SlotJson { key: None, value })
    };
    Ok(StorageRangeJson {
        storage: range.slots.into_iter().map(slot).collect(),
        next_key: range.next,
    })
}

/// A hashed key to begin at: up to 32 bytes, filled up with zeros on the right as go-ethereum does.
struct Start(B256);

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        if bytes.len() > 32 {
            return Err(de::Error::custom("at most 32 bytes are expected"));
        }
        Ok(Self(B256::right_padding_from(&bytes)))
    }
}

/// Answer of `debug_storageRangeAt`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageRangeJson {
    storage: BTreeMap<B256, SlotJson>,
    next_key: Option<B256>,
}

/// A slot; its key is not known, only the key's hash.
#[derive(Clone, Debug, Serialize)]
struct SlotJson {
    key: Option<B256>,
    value: B256,
}

/// Slots of one answer; a debugger asks for some hundred.
const SLOTS_MAX: usize = 1_024;

fn options(arguments: &mut Arguments<'_>) -> RpcResult<TraceOptions> {
    Ok(arguments.optional("options")?.unwrap_or_default())
}

async fn run(
    context: &Context,
    what: Traced,
    options: TraceOptions,
) -> RpcResult<Option<Vec<Trace>>> {
    context
        .heavy(move |ledger| ledger.trace(&what, &options))
        .await
}

fn one(traced: Option<Vec<Trace>>) -> Option<GethTrace> {
    Some(traced?.into_iter().next()?.trace)
}

/// A transaction of a traced block, as go-ethereum writes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceJson {
    tx_hash: B256,
    result: GethTrace,
}

impl TraceJson {
    fn new(traced: Trace) -> Self {
        Self {
            tx_hash: traced.hash,
            result: traced.trace,
        }
    }
}
