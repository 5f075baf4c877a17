//! `eth_subscribe` over WebSocket. A subscriber is told of every block from its subscription on, in order and
//! once: what the ledger's channel had to skip for a slow reader is read again from the ledger, which holds
//! every finalized block.

use std::{fmt::Write as _, sync::Arc};

use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionSink,
    core::traits::IdProvider,
    types::{Params, SubscriptionId},
};
use serde::Serialize;
use stele_service::ports::{BlockRef, Finalized, Ledger, LedgerError, LogFilter, LogView};
use tokio::sync::broadcast::error::RecvError;

use super::{
    arguments::{Arguments, FilterRequest},
    context::Context,
    error::{RpcResult, invalid_params},
    response::{HeadJson, LogJson},
};

/// Subscription ids as geth writes them: `0x` and 32 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let mut bytes = [0; 16];
        // An id names a subscription within its own connection only. Should the system have no randomness,
        // ids may collide there, and nowhere else.
        let _ = getrandom::fill(&mut bytes);
        let mut id = String::with_capacity(34);
        id.push_str("0x");
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        id.into()
    }
}

/// What is subscribed to.
enum Topic {
    Heads,
    Logs(LogFilter),
    Transactions,
}

impl Topic {
    fn read(params: &Params<'_>) -> RpcResult<Self> {
        let mut arguments = Arguments::read(params)?;
        let name: String = arguments.required("subscription")?;
        match name.as_str() {
            "newHeads" => Ok(Self::Heads),
            "logs" => {
                let request: Option<FilterRequest> = arguments.optional("filter")?;
                // The range of blocks means nothing here: only what comes is told.
                let (_, filter) = request.unwrap_or_default().parse()?;
                Ok(Self::Logs(filter))
            }
            "newPendingTransactions" => Ok(Self::Transactions),
            other => Err(invalid_params(format!(
                "invalid argument 0 `subscription`: `{other}` is none of newHeads, logs, newPendingTransactions"
            ))),
        }
    }
}

/// Serves one subscription until its client goes.
pub(crate) async fn subscribe(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
) {
    let topic = match Topic::read(&params) {
        Ok(topic) => topic,
        Err(refusal) => return pending.reject(refusal).await,
    };
    // In this order a block that is finalized in between comes by the channel.
    let mut blocks = context.ledger.subscribe();
    let mut next = context.ledger.height().saturating_add(1);
    let Ok(sink) = pending.accept().await else {
        return;
    };
    loop {
        let received = tokio::select! {
            () = sink.closed() => return,
            received = blocks.recv() => received,
        };
        let told = match received {
            Ok(block) => {
                let height = block.block.header.number;
                if height < next {
                    continue;
                }
                let missed = tell_between(&context, &sink, &topic, next, height).await;
                next = height.saturating_add(1);
                match missed {
                    Ok(()) => tell(&sink, &topic, &block).await,
                    gone => gone,
                }
            }
            Err(RecvError::Lagged(_)) => {
                let end = context.ledger.height().saturating_add(1);
                let missed = tell_between(&context, &sink, &topic, next, end).await;
                next = next.max(end);
                missed
            }
            Err(RecvError::Closed) => return,
        };
        if told.is_err() {
            return;
        }
    }
}

/// The client went, or blocks it must be told of cannot be read: either way the subscription ends, because
/// going on would leave a gap the client cannot see.
struct Ended;

/// Tells of the heights from `first` up to but without `end`.
async fn tell_between(
    context: &Context,
    sink: &SubscriptionSink,
    topic: &Topic,
    first: u64,
    end: u64,
) -> Result<(), Ended> {
    for height in first..end {
        let block = context
            .heavy(move |ledger| finalized(ledger, height))
            .await
            .map_err(|_| Ended)?
            .ok_or(Ended)?;
        tell(sink, topic, &block).await?;
    }
    Ok(())
}

fn finalized(ledger: &dyn Ledger, height: u64) -> Result<Option<Finalized>, LedgerError> {
    let Some(block) = ledger.block(BlockRef::Number(height))? else {
        return Ok(None);
    };
    Ok(Some(Finalized {
        block,
        receipts: ledger.receipts_of(height)?,
    }))
}

async fn tell(sink: &SubscriptionSink, topic: &Topic, block: &Finalized) -> Result<(), Ended> {
    match topic {
        Topic::Heads => send(sink, &HeadJson::new(block.block.hash, &block.block.header)).await,
        Topic::Transactions => {
            for hash in &block.block.transactions {
                send(sink, hash).await?;
            }
            Ok(())
        }
        Topic::Logs(filter) => {
            for log in matching(block, filter) {
                send(sink, &LogJson::new(log)).await?;
            }
            Ok(())
        }
    }
}

fn matching<'a>(
    block: &'a Finalized,
    filter: &'a LogFilter,
) -> impl Iterator<Item = LogView> + Send + 'a {
    block.receipts.iter().flat_map(move |receipt| {
        receipt
            .receipt
            .logs
            .iter()
            .zip(receipt.first_log_index..)
            .filter(move |(log, _)| filter.matches(log))
            .map(move |(log, log_index)| LogView {
                log: log.clone(),
                tx_hash: receipt.hash,
                position: receipt.position,
                log_index,
            })
    })
}

async fn send(sink: &SubscriptionSink, message: &(impl Serialize + Sync)) -> Result<(), Ended> {
    let message = serde_json::value::to_raw_value(message).map_err(|_| Ended)?;
    sink.send(message).await.map_err(|_| Ended)
}
