//! Final blocks that were asked about lately, read and decoded once.
//!
//! Whoever waits for a block asks for its transactions and receipts one by one; taking the whole block apart for each
//! would cost the square of its size. Senders are recovered when they are asked for: a block just committed has them,
//! one read from disk does not.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{B256, keccak256};
use quick_cache::{Weighter, sync::Cache};
use stele_core::{
    block::{Block, Receipt},
    tx::RecoveredTransaction,
};

use crate::{
    executor::recover_exactly,
    state::{self, StateView},
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
            size_bytes: u64::try_from(block.encode().len()).unwrap_or(u64::MAX),
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

    /// Logs in the block before those of the transaction at `index`.
    pub(crate) fn logs_before(&self, index: usize) -> Option<u32> {
        self.transactions.get(index).map(|found| found.logs_before)
    }

    /// The transaction at `index` with its sender, recovered at the first question.
    pub(crate) fn transaction(
        &self,
        index: usize,
        chain_id: u64,
    ) -> Result<Option<Arc<RecoveredTransaction>>, state::Error> {
        let found = self.transactions.get(index);
        let (Some(found), Some(encoded)) = (found, self.block.transactions.get(index)) else {
            return Ok(None);
        };
        if let Some(known) = found.recovered.get() {
            return Ok(Some(Arc::clone(known)));
        }
        // It was valid when its block became final.
        let recovered = recover_exactly(encoded, found.hash, chain_id).map_err(|_| {
            let height = self.block.header.number;
            state::Error::damaged(height, "a transaction is not readable")
        })?;
        Ok(Some(Arc::clone(
            found.recovered.get_or_init(|| Arc::new(recovered)),
        )))
    }
}

/// The blocks asked about lately, within a limit of memory.
pub(crate) struct RecentBlocks(Cache<u64, Arc<FinalBlock>, BlockWeight>);

#[derive(Clone)]
struct BlockWeight;

impl Weighter<u64, Arc<FinalBlock>> for BlockWeight {
    fn weight(&self, _: &u64, block: &Arc<FinalBlock>) -> u64 {
        // What is encoded is there three times: as bytes, as transactions, and, in logs, about once more. The rest is
        // the structures' own size.
        const OF_BLOCK_BYTES: u64 = 2_048;
        const OF_TRANSACTION_BYTES: u64 = 1_024;
        let transactions = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        OF_BLOCK_BYTES
            .saturating_add(block.size_bytes.saturating_mul(3))
            .saturating_add(transactions.saturating_mul(OF_TRANSACTION_BYTES))
    }
}

impl Default for RecentBlocks {
    fn default() -> Self {
        Self(Cache::with_weighter(
            BLOCKS_EXPECTED,
            BLOCKS_BYTES,
            BlockWeight,
        ))
    }
}

impl RecentBlocks {
    /// Keeps a block that was just committed.
    pub(crate) fn insert(&self, block: Arc<FinalBlock>) {
        self.0.insert(block.block.header.number, block);
    }

    /// The final block at `height`; `None` above the last one.
    pub(crate) fn at(
        &self,
        view: &StateView,
        height: u64,
    ) -> Result<Option<Arc<FinalBlock>>, state::Error> {
        if let Some(known) = self.0.get(&height) {
            return Ok(Some(known));
        }
        let read = FinalBlock::read(view, height)?.map(Arc::new);
        if let Some(read) = &read {
            self.insert(Arc::clone(read));
        }
        Ok(read)
    }
}

/// Memory for blocks asked about: two or three full ones, or thousands of small ones.
const BLOCKS_BYTES: u64 = 24 << 20;
/// Blocks expected in it.
const BLOCKS_EXPECTED: usize = 1_024;
