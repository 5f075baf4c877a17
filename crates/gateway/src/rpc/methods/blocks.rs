//! Blocks.

use alloy_primitives::{B256, U64};
use jsonrpsee::{
    RpcModule,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use stele_service::ports::{BlockRef, BlockView, Ledger, LedgerError};

use crate::rpc::{
    arguments::{Arguments, BlockTag, Quantity},
    context::Context,
    error::{self, RpcResult, invalid_params, not_found},
    response::{BlockJson, FeeHistoryJson, ReceiptJson},
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_method("eth_blockNumber", |_, context, _| {
        RpcResult::Ok(U64::from(context.ledger.height()))
    })?;
    module.register_async_method("eth_getBlockByNumber", |params, context, _| async move {
        by_reference(&context, &params, by_number).await
    })?;
    module.register_async_method("eth_getBlockByHash", |params, context, _| async move {
        by_reference(&context, &params, by_hash).await
    })?;
    module.register_method(
        "eth_getBlockTransactionCountByNumber",
        |params, context, _| transaction_count(context, &params, by_number),
    )?;
    module.register_method(
        "eth_getBlockTransactionCountByHash",
        |params, context, _| transaction_count(context, &params, by_hash),
    )?;
    module.register_method("eth_getUncleCountByBlockNumber", |params, context, _| {
        uncle_count(context, &params, by_number)
    })?;
    module.register_method("eth_getUncleCountByBlockHash", |params, context, _| {
        uncle_count(context, &params, by_hash)
    })?;
    module.register_method("eth_getUncleByBlockNumberAndIndex", |_, _, _| None::<B256>)?;
    module.register_method("eth_getUncleByBlockHashAndIndex", |_, _, _| None::<B256>)?;
    module.register_async_method("eth_getBlockReceipts", |params, context, _| async move {
        receipts(&context, &params).await
    })?;
    module.register_async_method("eth_feeHistory", |params, context, _| async move {
        fee_history(&context, &params).await
    })?;
    Ok(())
}

/// How a method names the block it asks for.
type Reference = fn(&mut Arguments<'_>) -> RpcResult<BlockRef>;

fn by_number(arguments: &mut Arguments<'_>) -> RpcResult<BlockRef> {
    Ok(arguments.required::<BlockTag>("block")?.0)
}

fn by_hash(arguments: &mut Arguments<'_>) -> RpcResult<BlockRef> {
    Ok(BlockRef::Hash(arguments.required("blockHash")?))
}

/// The block of a reference; the pool is no block, so `pending` is the latest.
pub(super) fn block(ledger: &dyn Ledger, at: BlockRef) -> Result<Option<BlockView>, LedgerError> {
    ledger.block(match at {
        BlockRef::Pending => BlockRef::Latest,
        other => other,
    })
}

async fn by_reference(
    context: &Context,
    params: &Params<'_>,
    reference: Reference,
) -> RpcResult<Option<BlockJson>> {
    let mut arguments = Arguments::read(params)?;
    let at = reference(&mut arguments)?;
    let full = arguments
        .optional::<bool>("fullTransactions")?
        .unwrap_or_default();
    arguments.end()?;
    if !full {
        let found = block(&*context.ledger, at).map_err(error::ledger)?;
        return Ok(found.map(BlockJson::with_hashes));
    }
    context
        .heavy(move |ledger| {
            let Some(block) = block(ledger, at)? else {
                return Ok(None);
            };
            let transactions = ledger.transactions_of(block.header.number)?;
            Ok(Some(BlockJson::with_transactions(block, &transactions)))
        })
        .await
}

fn transaction_count(
    context: &Context,
    params: &Params<'_>,
    reference: Reference,
) -> RpcResult<Option<U64>> {
    let mut arguments = Arguments::read(params)?;
    let at = reference(&mut arguments)?;
    arguments.end()?;
    let found = block(&*context.ledger, at).map_err(error::ledger)?;
    Ok(found.map(|block| U64::from(block.transactions.len())))
}

fn uncle_count(
    context: &Context,
    params: &Params<'_>,
    reference: Reference,
) -> RpcResult<Option<U64>> {
    Ok(transaction_count(context, params, reference)?.map(|_| U64::ZERO))
}

async fn receipts(context: &Context, params: &Params<'_>) -> RpcResult<Option<Vec<ReceiptJson>>> {
    let mut arguments = Arguments::read(params)?;
    let at = by_number_or_hash(&mut arguments)?;
    arguments.end()?;
    context
        .heavy(move |ledger| {
            let Some(block) = block(ledger, at)? else {
                return Ok(None);
            };
            let receipts = ledger.receipts_of(block.header.number)?;
            Ok(Some(receipts.into_iter().map(ReceiptJson::new).collect()))
        })
        .await
}

/// A tag, a number, or a bare hash, which geth takes as well.
fn by_number_or_hash(arguments: &mut Arguments<'_>) -> RpcResult<BlockRef> {
    let given: &RawValue = arguments.required("block")?;
    if let Ok(hash) = serde_json::from_str::<B256>(given.get()) {
        return Ok(BlockRef::Hash(hash));
    }
    BlockTag::deserialize(&mut serde_json::Deserializer::from_str(given.get()))
        .map(|tag| tag.0)
        .map_err(|problem| invalid_params(format!("invalid argument 0 `block`: {problem}")))
}

async fn fee_history(context: &Context, params: &Params<'_>) -> RpcResult<FeeHistoryJson> {
    let mut arguments = Arguments::read(params)?;
    let count = arguments
        .required::<Quantity>("blockCount")?
        .0
        .min(FEE_HISTORY_BLOCKS_MAX);
    let newest = arguments.required::<BlockTag>("newestBlock")?.0;
    let percentiles = arguments.optional::<Vec<f64>>("rewardPercentiles")?;
    arguments.end()?;
    if let Some(percentiles) = &percentiles {
        check_percentiles(percentiles)?;
    }
    let rewards = percentiles.map(|percentiles| vec![U64::ZERO; percentiles.len()]);
    context
        .heavy(move |ledger| {
            let Some(newest) = block(ledger, newest)? else {
                return Ok(None);
            };
            let end = newest.header.number.saturating_add(1);
            let first = end.saturating_sub(count);
            let mut ratios = Vec::new();
            for height in first..end {
                let Some(block) = ledger.block(BlockRef::Number(height))? else {
                    return Ok(None);
                };
                ratios.push(ratio(block.header.gas_used, block.header.gas_limit));
            }
            Ok(Some(FeeHistoryJson {
                oldest_block: U64::from(first),
                base_fee_per_gas: vec![U64::ZERO; ratios.len().saturating_add(1)],
                reward: rewards.map(|rewards| vec![rewards; ratios.len()]),
                gas_used_ratio: ratios,
            }))
        })
        .await?
        .ok_or_else(unknown_block)
}

fn check_percentiles(percentiles: &[f64]) -> RpcResult<()> {
    let ordered = percentiles.is_sorted();
    if ordered
        && percentiles.len() <= PERCENTILES_MAX
        && percentiles
            .iter()
            .all(|percentile| (0.0..=100.0).contains(percentile))
    {
        return Ok(());
    }
    Err(invalid_params(format!(
        "invalid argument 2 `rewardPercentiles`: at most {PERCENTILES_MAX} ascending numbers from 0 to 100"
    )))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share for display; gas stays far below 2^52"
)]
fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 {
        0.0
    } else {
        used as f64 / limit as f64
    }
}

pub(super) fn unknown_block() -> ErrorObjectOwned {
    not_found("unknown block")
}

/// As many as geth gives.
const FEE_HISTORY_BLOCKS_MAX: u64 = 1_024;
/// As many as geth takes.
const PERCENTILES_MAX: usize = 100;
