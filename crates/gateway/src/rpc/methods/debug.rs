//! What transactions and calls did, step by step, as go-ethereum's `debug` methods tell it.

use alloy_primitives::B256;
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use serde::Serialize;
use stele_service::ports::{BlockRef, GethTrace, Trace, TraceOptions, Traced};

use crate::rpc::{
    arguments::{Arguments, BlockTag, CallRequest},
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
