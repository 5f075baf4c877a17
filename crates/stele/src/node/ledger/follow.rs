//! The index following the chain outside the ordinary course, where one block is published after the other.

use alloy_primitives::{B256, keccak256};
use stele_index::FinalizedBlock;
use stele_service::ports::Ledger as _;

use super::{Followers, NodeLedger, answer, followed};

impl NodeLedger {
    /// Brings the index to the last committed block: after a crash between the two, or after a rebuild.
    pub(crate) fn catch_up(&self) -> anyhow::Result<u64> {
        const STEP: usize = 512;
        let Some(Followers { index, .. }) = &self.followers else {
            return Ok(0);
        };
        let (head, _) = self.chain.finalized();
        let mut next = index
            .chain()
            .height()?
            .map_or(0, |height| height.saturating_add(1));
        let mut batch = Vec::with_capacity(STEP);
        let mut followed = 0_u64;
        while next <= head.number {
            batch.push(self.finalized_block(next)?);
            next = next.saturating_add(1);
            if batch.len() == STEP || next > head.number {
                index.chain().apply_all(&batch)?;
                followed = followed.saturating_add(batch.len() as u64);
                batch.clear();
            }
        }
        Ok(followed)
    }

    fn finalized_block(&self, height: u64) -> anyhow::Result<FinalizedBlock> {
        let view = self.chain.view();
        let missing = || anyhow::anyhow!("block {height} is missing from the chain");
        let block = view.block(height)?.ok_or_else(missing)?;
        let receipts = view.receipts(height)?.ok_or_else(missing)?;
        let hashes: Vec<B256> = block.transactions.iter().map(keccak256).collect();
        let seating = self.chain.seating(height);
        Ok(followed(&block, &hashes, &receipts, seating))
    }

    /// Lets the index follow blocks that the chain has and did not execute, then tells those who wait and subscribers
    /// of the last of them.
    pub(crate) fn leapt(&self) -> anyhow::Result<()> {
        self.catch_up()?;
        let waited_for: Vec<B256> = self.waiting().keys().copied().collect();
        for hash in waited_for {
            if let Some(receipt) = self.receipt(hash)? {
                answer(&mut self.waiting(), hash, &Ok(receipt));
            }
        }
        self.tell_subscribers(self.height())
    }
}
