//! State: accounts, storage, proofs and calls.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use stele_service::ports::{BlockRef, Call};

use crate::rpc::{
    arguments::{Arguments, CallRequest, NoOverrides, Slot},
    context::Context,
    error::{self, RpcResult, limit_exceeded},
    response::ProofJson,
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_method("eth_getBalance", |params, context, _| {
        account(context, &params).map(|(balance, _, _)| balance)
    })?;
    module.register_method("eth_getCode", |params, context, _| {
        account(context, &params).map(|(_, _, code)| code)
    })?;
    module.register_method("eth_getTransactionCount", |params, context, _| {
        nonce(context, &params)
    })?;
    module.register_method("eth_getStorageAt", |params, context, _| {
        storage(context, &params)
    })?;
    module.register_async_method("eth_getProof", |params, context, _| async move {
        proof(&context, &params).await
    })?;
    module.register_async_method("eth_call", |params, context, _| async move {
        call(&context, &params).await
    })?;
    module.register_async_method("eth_estimateGas", |params, context, _| async move {
        estimate_gas(&context, &params).await
    })?;
    Ok(())
}

fn account(context: &Context, params: &Params<'_>) -> RpcResult<(U256, u64, Bytes)> {
    let mut arguments = Arguments::read(params)?;
    let address: Address = arguments.required("address")?;
    let at = arguments.state_block()?;
    arguments.end()?;
    context.ledger.account(address, at).map_err(error::ledger)
}

/// The only question about the pool that has an answer: the nonce a next transaction needs.
fn nonce(context: &Context, params: &Params<'_>) -> RpcResult<U64> {
    let mut arguments = Arguments::read(params)?;
    let address: Address = arguments.required("address")?;
    let at = arguments.block()?;
    arguments.end()?;
    let (_, nonce, _) = context.ledger.account(address, at).map_err(error::ledger)?;
    Ok(U64::from(nonce))
}

fn storage(context: &Context, params: &Params<'_>) -> RpcResult<B256> {
    let mut arguments = Arguments::read(params)?;
    let address: Address = arguments.required("address")?;
    let slot: Slot = arguments.required("slot")?;
    let at = arguments.state_block()?;
    arguments.end()?;
    context
        .ledger
        .storage(address, slot.key.into(), at)
        .map_err(error::ledger)
}

async fn proof(context: &Context, params: &Params<'_>) -> RpcResult<ProofJson> {
    let mut arguments = Arguments::read(params)?;
    let address: Address = arguments.required("address")?;
    let slots: Vec<Slot> = arguments.optional("storageKeys")?.unwrap_or_default();
    let at = arguments.state_block()?;
    arguments.end()?;
    if slots.len() > PROOF_SLOTS_MAX {
        return Err(limit_exceeded(format!(
            "{} storage keys were asked for, at most {PROOF_SLOTS_MAX} are proved at once",
            slots.len()
        )));
    }
    let keys: Vec<B256> = slots.iter().map(|slot| slot.key).collect();
    let proof = context
        .heavy(move |ledger| ledger.proof(address, &keys, at))
        .await?;
    Ok(ProofJson::new(proof, slots))
}

async fn call(context: &Context, params: &Params<'_>) -> RpcResult<Bytes> {
    let (call, at) = question(context, params)?;
    context.heavy(move |ledger| ledger.call(&call, at)).await
}

async fn estimate_gas(context: &Context, params: &Params<'_>) -> RpcResult<U64> {
    // Estimates are for a transaction to come, so they are made on the latest state whatever block is named.
    let (call, _) = question(context, params)?;
    context
        .heavy(move |ledger| ledger.estimate_gas(&call))
        .await
        .map(U64::from)
}

fn question(context: &Context, params: &Params<'_>) -> RpcResult<(Call, BlockRef)> {
    let mut arguments = Arguments::read(params)?;
    let request: CallRequest = arguments.required("transaction")?;
    let at = arguments.state_block()?;
    let _: Option<NoOverrides> = arguments.optional("stateOverrides")?;
    let _: Option<NoOverrides> = arguments.optional("blockOverrides")?;
    arguments.end()?;
    Ok((request.into_call(context.facts.chain_id)?, at))
}

/// As many as geth proves at once.
const PROOF_SLOTS_MAX: usize = 1_024;
