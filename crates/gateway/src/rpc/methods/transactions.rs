//! Transactions and their receipts.

use alloy_primitives::{B256, Bytes};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use stele_service::ports::{BlockRef, TransactionView};

use super::blocks;
use crate::rpc::{
    arguments::{Arguments, BlockTag, Quantity},
    context::Context,
    error::{self, RpcResult},
    response::{ReceiptJson, TransactionJson},
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_async_method("eth_sendRawTransaction", |params, context, _| async move {
        send_raw(&context, &params).await
    })?;
    module.register_method("eth_getTransactionByHash", |params, context, _| {
        by_hash(context, &params).map(|found| found.as_ref().map(TransactionJson::new))
    })?;
    module.register_method("eth_getRawTransactionByHash", |params, context, _| {
        by_hash(context, &params).map(|found| found.map(|view| view.transaction.encode()))
    })?;
    module.register_method(
        "eth_getTransactionByBlockNumberAndIndex",
        |params, context, _| {
            let mut arguments = Arguments::read(&params)?;
            let at = arguments.required::<BlockTag>("block")?.0;
            by_index(context, at, arguments)
        },
    )?;
    module.register_method(
        "eth_getTransactionByBlockHashAndIndex",
        |params, context, _| {
            let mut arguments = Arguments::read(&params)?;
            let at = BlockRef::Hash(arguments.required("blockHash")?);
            by_index(context, at, arguments)
        },
    )?;
    module.register_method("eth_getTransactionReceipt", |params, context, _| {
        receipt(context, &params)
    })?;
    Ok(())
}

async fn send_raw(context: &Context, params: &Params<'_>) -> RpcResult<B256> {
    let mut arguments = Arguments::read(params)?;
    let transaction: Bytes = arguments.required("transaction")?;
    arguments.end()?;
    context
        .ledger
        .submit(transaction)
        .await
        .map_err(error::ledger)
}

fn by_hash(context: &Context, params: &Params<'_>) -> RpcResult<Option<TransactionView>> {
    let mut arguments = Arguments::read(params)?;
    let hash: B256 = arguments.required("transactionHash")?;
    arguments.end()?;
    context.ledger.transaction(hash).map_err(error::ledger)
}

fn by_index(
    context: &Context,
    at: BlockRef,
    mut arguments: Arguments<'_>,
) -> RpcResult<Option<TransactionJson>> {
    let Quantity(index) = arguments.required("index")?;
    arguments.end()?;
    let Some(block) = blocks::block(&*context.ledger, at).map_err(error::ledger)? else {
        return Ok(None);
    };
    let hash = usize::try_from(index)
        .ok()
        .and_then(|index| block.transactions.get(index));
    let Some(hash) = hash else { return Ok(None) };
    let found = context.ledger.transaction(*hash).map_err(error::ledger)?;
    Ok(found.as_ref().map(TransactionJson::new))
}

fn receipt(context: &Context, params: &Params<'_>) -> RpcResult<Option<ReceiptJson>> {
    let mut arguments = Arguments::read(params)?;
    let hash: B256 = arguments.required("transactionHash")?;
    arguments.end()?;
    Ok(context
        .ledger
        .receipt(hash)
        .map_err(error::ledger)?
        .map(ReceiptJson::new))
}
