//! Logs, and filters that are polled.

use alloy_primitives::{B128, B256};
use jsonrpsee::{RpcModule, server::RegisterMethodError, types::Params};
use serde::Serialize;
use stele_service::ports::{BlockRef, Ledger, LedgerError, LogFilter};

use super::blocks::{block, unknown_block};
use crate::rpc::{
    arguments::{Arguments, FilterRequest, Range},
    context::Context,
    error::{self, RpcResult, invalid_params, not_found},
    filters::Watched,
    response::LogJson,
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    module.register_async_method("eth_getLogs", |params, context, _| async move {
        logs(&context, &params).await
    })?;
    module.register_method("eth_newFilter", |params, context, _| {
        new_filter(context, &params)
    })?;
    module.register_method("eth_newBlockFilter", |_, context, _| {
        context
            .filters
            .insert(Watched::Blocks, context.ledger.height().saturating_add(1))
    })?;
    module.register_method("eth_newPendingTransactionFilter", |_, context, _| {
        context.filters.insert(
            Watched::Transactions,
            context.ledger.height().saturating_add(1),
        )
    })?;
    module.register_async_method("eth_getFilterChanges", |params, context, _| async move {
        changes(&context, &params).await
    })?;
    module.register_async_method("eth_getFilterLogs", |params, context, _| async move {
        filter_logs(&context, &params).await
    })?;
    module.register_method("eth_uninstallFilter", |params, context, _| {
        filter_id(&params).map(|id| context.filters.remove(id))
    })?;
    Ok(())
}

async fn logs(context: &Context, params: &Params<'_>) -> RpcResult<Vec<LogJson>> {
    let mut arguments = Arguments::read(params)?;
    let request: FilterRequest = arguments.required("filter")?;
    arguments.end()?;
    let (range, filter) = request.parse()?;
    let Some(filter) = over(context, range, filter)? else {
        return Ok(Vec::new());
    };
    query(context, filter).await
}

async fn query(context: &Context, filter: LogFilter) -> RpcResult<Vec<LogJson>> {
    let limit = context.log_limit;
    let found = context
        .heavy(move |ledger| ledger.logs(&filter, limit))
        .await?;
    Ok(found.into_iter().map(LogJson::new).collect())
}

/// The filter with its heights; `None` when there are no such blocks yet.
fn over(context: &Context, range: Range, filter: LogFilter) -> RpcResult<Option<LogFilter>> {
    let latest = context.ledger.height();
    let (from, to) = match range {
        Range::Hash(hash) => {
            let found = block(&*context.ledger, BlockRef::Hash(hash)).map_err(error::ledger)?;
            let height = found.ok_or_else(unknown_block)?.header.number;
            (height, height)
        }
        Range::Between(from, to) => (
            height_of(context, from, latest)?,
            height_of(context, to, latest)?,
        ),
    };
    if from > to && from <= latest {
        return Err(invalid_params(format!(
            "invalid argument 0 `filter`: fromBlock {from} is after toBlock {to}"
        )));
    }
    let to = to.min(latest);
    Ok((from <= to).then_some(LogFilter {
        from,
        to: Some(to),
        ..filter
    }))
}

fn height_of(context: &Context, at: BlockRef, latest: u64) -> RpcResult<u64> {
    match at {
        BlockRef::Latest | BlockRef::Pending => Ok(latest),
        BlockRef::Number(height) => Ok(height),
        BlockRef::Hash(_) => {
            let found = block(&*context.ledger, at).map_err(error::ledger)?;
            Ok(found.ok_or_else(unknown_block)?.header.number)
        }
    }
}

fn new_filter(context: &Context, params: &Params<'_>) -> RpcResult<B128> {
    let mut arguments = Arguments::read(params)?;
    let request: FilterRequest = arguments.required("filter")?;
    arguments.end()?;
    let (range, filter) = request.parse()?;
    let Range::Between(from, to) = range else {
        return Err(invalid_params(
            "invalid argument 0 `filter`: one block never changes; ask eth_getLogs for a blockHash",
        ));
    };
    let latest = context.ledger.height();
    let from = height_of(context, from, latest)?;
    // `latest` as an end means whatever will be the latest.
    let to = match to {
        BlockRef::Latest | BlockRef::Pending => None,
        fixed => Some(height_of(context, fixed, latest)?),
    };
    let next = latest.saturating_add(1).max(from);
    context
        .filters
        .insert(Watched::Logs(LogFilter { from, to, ..filter }), next)
}

fn filter_id(params: &Params<'_>) -> RpcResult<B128> {
    let mut arguments = Arguments::read(params)?;
    let id: String = arguments.required("filterId")?;
    arguments.end()?;
    // Whatever is no id of ours names no filter.
    id.parse().map_err(|_| not_found("filter not found"))
}

/// What a filter has to tell.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Changes {
    Hashes(Vec<B256>),
    Logs(Vec<LogJson>),
}

async fn changes(context: &Context, params: &Params<'_>) -> RpcResult<Changes> {
    let id = filter_id(params)?;
    let (watched, heights) = context
        .filters
        .take(id, context.ledger.height(), HEIGHTS_MAX)?;
    let Some((first, last)) = heights else {
        return Ok(match watched {
            Watched::Logs(_) => Changes::Logs(Vec::new()),
            Watched::Blocks | Watched::Transactions => Changes::Hashes(Vec::new()),
        });
    };
    let limit = context.log_limit;
    let told = context
        .heavy(move |ledger| tell(ledger, watched, first, last, limit))
        .await;
    match told {
        Ok((changes, told_to)) => {
            if told_to < last {
                context.filters.put_back(id, told_to.saturating_add(1));
            }
            Ok(changes)
        }
        Err(failed) => {
            context.filters.put_back(id, first);
            Err(failed)
        }
    }
}

/// What happened at the heights, and the last height that is told of: when there are too many logs for one
/// answer, the rest comes with the next one.
fn tell(
    ledger: &dyn Ledger,
    watched: Watched,
    first: u64,
    last: u64,
    limit: usize,
) -> Result<(Changes, u64), LedgerError> {
    let Watched::Logs(filter) = watched else {
        let mut hashes = Vec::new();
        for height in first..=last {
            let Some(block) = ledger.block(BlockRef::Number(height))? else {
                continue;
            };
            match watched {
                Watched::Blocks => hashes.push(block.hash),
                Watched::Transactions => hashes.extend(block.transactions),
                Watched::Logs(_) => {}
            }
        }
        return Ok((Changes::Hashes(hashes), last));
    };
    let mut filter = LogFilter {
        from: first,
        to: Some(last),
        ..filter
    };
    let mut end = last;
    loop {
        // One block is never split, so its logs are given whatever their number.
        let limit = if end == first { usize::MAX } else { limit };
        match ledger.logs(&filter, limit) {
            Ok(found) => {
                return Ok((
                    Changes::Logs(found.into_iter().map(LogJson::new).collect()),
                    end,
                ));
            }
            Err(LedgerError::Limit { .. }) if end > first => {
                end = first.saturating_add(end.saturating_sub(first) / 2);
                filter.to = Some(end);
            }
            Err(failed) => return Err(failed),
        }
    }
}

async fn filter_logs(context: &Context, params: &Params<'_>) -> RpcResult<Vec<LogJson>> {
    let Watched::Logs(filter) = context.filters.watched(filter_id(params)?)? else {
        return Err(not_found("filter not found: it is not a filter of logs"));
    };
    let latest = context.ledger.height();
    let to = filter.to.map_or(latest, |to| to.min(latest));
    if filter.from > to {
        return Ok(Vec::new());
    }
    query(
        context,
        LogFilter {
            to: Some(to),
            ..filter
        },
    )
    .await
}

/// Heights told of in one answer.
const HEIGHTS_MAX: u64 = 10_000;
