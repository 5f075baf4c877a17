//! Final blocks that were asked about lately, read and decoded once.
//!
//! Whoever waits for a block asks for its transactions and receipts one by one; taking the whole block apart for each
//! would cost the square of its size. Senders are recovered when they are asked for: a block just committed has them,
//! one read from disk does not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use alloy_primitives::{B256, keccak256};
use stele_core::{
    block::{Block, Receipt},
    tx::RecoveredTransaction,
};

use crate::{
    executor::{Signatures, recover_exactly},
    state::{self, FoundLog, LogFilter, StateView},
};

/// A final block, taken apart for questions.
#[derive(Debug)]
pub struct FinalBlock {
    block: Arc<Block>,
    hash: B256,
    size_bytes: u64,
    transactions: Vec<Transaction>,
    receipts: Arc<Vec<Receipt>>,
}

#[derive(Debug)]
struct Transaction {
    hash: B256,
    recovered: OnceLock<Arc<RecoveredTransaction>>,
    /// Logs in the block before its own.
    logs_before: u32,
}

impl FinalBlock {
    /// A block with the digest that consensus knows it by. `recovered` has its transactions with their senders, or
    /// nothing.
    pub(crate) fn new(
        block: Arc<Block>,
        hash: B256,
        receipts: Arc<Vec<Receipt>>,
        recovered: &[Arc<RecoveredTransaction>],
    ) -> Self {
        let mut logs = 0_u32;
        let mut transactions = Vec::new();
        for (index, encoded) in block.transactions.iter().enumerate() {
            let known = recovered.get(index);
            transactions.push(Transaction {
                hash: known.map_or_else(|| keccak256(encoded), |known| known.hash),
                recovered: known.cloned().map_or_else(OnceLock::new, OnceLock::from),
                logs_before: logs,
            });
            let own = receipts.get(index).map_or(0, |receipt| receipt.logs.len());
            logs = logs.saturating_add(u32::try_from(own).unwrap_or(u32::MAX));
        }
        Self {
            size_bytes: u64::try_from(block.encoded_len()).unwrap_or(u64::MAX),
            block,
            hash,
            transactions,
            receipts,
        }
    }

    /// Reads one; `None` above the last final block.
    fn read(view: &StateView, height: u64) -> Result<Option<Self>, state::Error> {
        let (Some(block), Some(receipts)) = (view.block(height)?, view.receipts(height)?) else {
            return Ok(None);
        };
        if receipts.len() != block.transactions.len() {
            return Err(state::Error::damaged(height, "receipts are missing"));
        }
        let hash = block.hash();
        Ok(Some(Self::new(
            Arc::new(block),
            hash,
            Arc::new(receipts),
            &[],
        )))
    }

    /// The block.
    #[must_use]
    pub const fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Its digest.
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Bytes of its encoding.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Hashes of its transactions, in order.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = B256> {
        self.transactions.iter().map(|transaction| transaction.hash)
    }

    /// Receipts of its transactions, in order.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// About how much memory it takes: what is encoded is there as bytes, as transactions and, in logs, about once
    /// more; the rest is the structures' own size.
    fn memory_bytes(&self) -> u64 {
        const OF_BLOCK: u64 = 2_048;
        const OF_TRANSACTION: u64 = 1_024;
        let transactions = u64::try_from(self.transactions.len()).unwrap_or(u64::MAX);
        OF_BLOCK
            .saturating_add(self.size_bytes.saturating_mul(3))
            .saturating_add(transactions.saturating_mul(OF_TRANSACTION))
    }

    /// Its logs that pass a filter.
    pub(crate) fn logs(&self, filter: &LogFilter) -> Vec<FoundLog> {
        let mut found = Vec::new();
        let transactions = self.transactions.iter().zip(self.receipts.iter());
        for (transaction_index, (transaction, receipt)) in (0_u32..).zip(transactions) {
            for (log_index, log) in (transaction.logs_before..).zip(&receipt.logs) {
                if filter.accepts(log) {
                    found.push(FoundLog {
                        height: self.block.header.number,
                        block_hash: self.hash,
                        transaction_hash: transaction.hash,
                        transaction_index,
                        log_index,
                        log: log.clone(),
                    });
                }
            }
        }
        found
    }

    /// Logs in the block before those of the transaction at `index`.
    pub(crate) fn logs_before(&self, index: usize) -> Option<u32> {
        self.transactions.get(index).map(|found| found.logs_before)
    }

    /// The transaction at `index` with its sender, recovered at the first question.
    pub(crate) fn transaction(
        &self,
        index: usize,
        signatures: Signatures,
    ) -> Result<Option<Arc<RecoveredTransaction>>, state::Error> {
        let found = self.transactions.get(index);
        let (Some(found), Some(encoded)) = (found, self.block.transactions.get(index)) else {
            return Ok(None);
        };
        if let Some(known) = found.recovered.get() {
            return Ok(Some(Arc::clone(known)));
        }
        // It was valid when its block became final.
        let recovered = recover_exactly(encoded, found.hash, signatures).map_err(|_| {
            let height = self.block.header.number;
            state::Error::damaged(height, "a transaction is not readable")
        })?;
        Ok(Some(Arc::clone(
            found.recovered.get_or_init(|| Arc::new(recovered)),
        )))
    }
}

/// The blocks asked about lately, within a limit of memory. The one used longest ago goes first.
#[derive(Default)]
pub(crate) struct RecentBlocks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    blocks: BTreeMap<u64, Used>,
    bytes: u64,
    uses: u64,
}

struct Used {
    block: Arc<FinalBlock>,
    /// Number of the last use.
    at: u64,
}

impl RecentBlocks {
    /// Keeps a block that was just committed.
    pub(crate) fn insert(&self, block: Arc<FinalBlock>) {
        let mut kept = self.kept();
        let height = block.block.header.number;
        kept.uses = kept.uses.saturating_add(1);
        kept.bytes = kept.bytes.saturating_add(block.memory_bytes());
        let at = kept.uses;
        if let Some(replaced) = kept.blocks.insert(height, Used { block, at }) {
            kept.bytes = kept.bytes.saturating_sub(replaced.block.memory_bytes());
        }
        // The last one stays, however large it is.
        while kept.blocks.len() > 1
            && (kept.bytes > BLOCKS_BYTES_MAX || kept.blocks.len() > BLOCKS_MAX)
        {
            let oldest = kept.blocks.iter().min_by_key(|(_, used)| used.at);
            let Some(oldest) = oldest.map(|(height, _)| *height) else {
                break;
            };
            if let Some(gone) = kept.blocks.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(gone.block.memory_bytes());
            }
        }
    }

    /// The final block at `height`; `None` above the last one.
    pub(crate) fn at(
        &self,
        view: &StateView,
        height: u64,
    ) -> Result<Option<Arc<FinalBlock>>, state::Error> {
        if let Some(known) = self.known(height) {
            return Ok(Some(known));
        }
        let read = FinalBlock::read(view, height)?.map(Arc::new);
        if let Some(read) = &read {
            self.insert(Arc::clone(read));
        }
        Ok(read)
    }

    /// The block, if it is kept.
    pub(crate) fn known(&self, height: u64) -> Option<Arc<FinalBlock>> {
        let mut kept = self.kept();
        kept.uses = kept.uses.saturating_add(1);
        let at = kept.uses;
        let used = kept.blocks.get_mut(&height)?;
        used.at = at;
        Some(Arc::clone(&used.block))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // At worst the bytes are counted wrongly after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for blocks asked about: a few full ones, or hundreds of small ones.
const BLOCKS_BYTES_MAX: u64 = 32 << 20;
/// Blocks kept at most: finding the one used longest ago looks at each.
const BLOCKS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    fn block(number: u64, body_bytes: usize) -> Arc<FinalBlock> {
        let mut block = Block::default();
        block.header.number = number;
        block.transactions = vec![vec![7; body_bytes].into()];
        let hash = block.hash();
        let receipts = Arc::new(vec![Receipt::default()]);
        Arc::new(FinalBlock::new(Arc::new(block), hash, receipts, &[]))
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_last_one_stays() {
        let recent = RecentBlocks::default();
        for height in 1..=3 {
            recent.insert(block(height, 3 << 20));
        }
        assert!(recent.known(1).is_some(), "used again");
        recent.insert(block(4, 3 << 20));
        assert!(recent.known(2).is_none());
        assert!(recent.known(1).is_some() && recent.known(4).is_some());
        recent.insert(block(5, 64 << 20));
        assert!(recent.known(5).is_some());
        assert_eq!(recent.kept().blocks.len(), 1);
        for height in 10..10 + 2 * BLOCKS_MAX as u64 {
            recent.insert(block(height, 10));
        }
        let kept = recent.kept();
        assert!(kept.blocks.len() <= BLOCKS_MAX && kept.bytes <= BLOCKS_BYTES_MAX);
    }

    #[test]
    fn there_is_nothing_above_the_last_block() {
        let view = State::in_memory().unwrap().latest();
        assert!(RecentBlocks::default().at(&view, 9).unwrap().is_none());
    }
}
