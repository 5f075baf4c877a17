//! Builds the block to propose: what waits in the pool, as far as gas, size and time allow.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use stele_core::{
    block::{Block, Header, MAX_BLOCK_BYTES, receipts_root, transactions_root},
    tx::RecoveredTransaction,
};

use crate::{
    error::InvalidTransaction,
    executor::{Execution, Outcome, Refusal},
    pool::{Pool, Pooled},
    state,
};

/// A built block and what came of it.
pub(crate) struct Built {
    pub(crate) block: Block,
    pub(crate) transactions: Vec<Arc<RecoveredTransaction>>,
    pub(crate) outcome: Outcome,
    /// Transactions that can not be executed any more, and why.
    pub(crate) refused: Vec<(Arc<Pooled>, InvalidTransaction)>,
}

/// Fills a block. `header` gives what is known before; `executed` are the transactions of ancestors that are not
/// final yet; `in_time` says whether there is time for another transaction.
///
/// # Errors
/// Unreadable or damaged state.
pub(crate) fn build(
    mut execution: Execution,
    header: &Header,
    pool: &Pool,
    executed: &BTreeSet<B256>,
    in_time: &dyn Fn() -> bool,
) -> Result<Built, state::Error> {
    let mut encoded: Vec<Bytes> = Vec::new();
    let mut transactions = Vec::new();
    let mut refused = Vec::new();
    // Senders of whom a transaction was left out: their later ones cannot be executed in this block.
    let mut skipped: BTreeSet<Address> = BTreeSet::new();
    for pooled in pool.candidates(executed, BODY_BYTES_MAX) {
        if !in_time() || execution.gas_left() < GAS_MIN {
            break;
        }
        if skipped.contains(&pooled.recovered.sender) {
            continue;
        }
        match execution.run(&pooled.recovered) {
            Ok(()) => {
                encoded.push(pooled.encoded.clone());
                transactions.push(Arc::clone(&pooled.recovered));
            }
            Err(Refusal::Fatal(error)) => return Err(error),
            Err(Refusal::Invalid(reason)) => {
                skipped.insert(pooled.recovered.sender);
                let waits_for_another_block = matches!(reason, InvalidTransaction::GasLimit { limit, .. } if limit <= header.gas_limit);
                if !waits_for_another_block {
                    refused.push((pooled, reason));
                }
            }
        }
    }
    let outcome = execution.finish()?;
    let header = Header {
        transactions_root: transactions_root(&encoded),
        receipts_root: receipts_root(&outcome.receipts),
        state_root: outcome.overlay.root(),
        logs_bloom: outcome.logs_bloom,
        gas_used: outcome.gas_used,
        ..header.clone()
    };
    Ok(Built {
        block: Block {
            header,
            transactions: encoded,
        },
        transactions,
        outcome,
        refused,
    })
}

/// Bytes of transactions in a block: room is left for the header and for RLP's length prefixes, of which a
/// transaction has at most four bytes while the smallest transaction has about a hundred.
const BODY_BYTES_MAX: usize = MAX_BLOCK_BYTES / 100 * 95;

/// The cheapest transaction: a plain transfer.
const GAS_MIN: u64 = 21_000;
