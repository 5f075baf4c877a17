//! The ledger's port over a development chain: everything is answered by the ledger over the chain as it is now, and a
//! transaction that is submitted is mined at once where that is wanted.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use stele_core::block::Header;
use stele_service::ports::{
    AccountProof, BlockRef, BlockView, BoxFuture, Call, ChainFacts, Finalized, Ledger, LedgerError,
    LogFilter, LogView, ReceiptView, SlotQuery, SlotRange, Trace, TraceOptions, Traced,
    TransactionView,
};
use tokio::sync::broadcast;

use super::DevLedger;

impl Ledger for DevLedger {
    fn facts(&self) -> ChainFacts {
        self.ledger().facts()
    }

    fn submit(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>> {
        Box::pin(async move { tokio::task::block_in_place(|| self.take(transaction)) })
    }

    fn wait(&self, hash: B256, timeout_ms: u64) -> BoxFuture<'_, Result<ReceiptView, LedgerError>> {
        Box::pin(async move { self.ledger().wait(hash, timeout_ms).await })
    }

    fn call(&self, call: &Call, at: BlockRef) -> Result<Bytes, LedgerError> {
        self.ledger().call(call, at)
    }

    fn estimate_gas(&self, call: &Call) -> Result<u64, LedgerError> {
        self.ledger().estimate_gas(call)
    }

    fn trace(
        &self,
        what: &Traced,
        options: &TraceOptions,
    ) -> Result<Option<Vec<Trace>>, LedgerError> {
        self.ledger().trace(what, options)
    }

    fn slots(&self, asked: &SlotQuery) -> Result<Option<SlotRange>, LedgerError> {
        self.ledger().slots(asked)
    }

    fn height(&self) -> u64 {
        self.ledger().height()
    }

    fn finalized_at_ms(&self) -> Result<u64, LedgerError> {
        self.ledger().finalized_at_ms()
    }

    fn account(&self, address: Address, at: BlockRef) -> Result<(U256, u64, Bytes), LedgerError> {
        self.ledger().account(address, at)
    }

    fn storage(&self, address: Address, slot: U256, at: BlockRef) -> Result<B256, LedgerError> {
        self.ledger().storage(address, slot, at)
    }

    fn proof(
        &self,
        address: Address,
        slots: &[B256],
        at: BlockRef,
    ) -> Result<AccountProof, LedgerError> {
        self.ledger().proof(address, slots, at)
    }

    fn block(&self, at: BlockRef) -> Result<Option<BlockView>, LedgerError> {
        self.ledger().block(at)
    }

    fn certified_header(&self, height: u64) -> Result<Option<(Header, Bytes)>, LedgerError> {
        self.ledger().certified_header(height)
    }

    fn transaction(&self, hash: B256) -> Result<Option<TransactionView>, LedgerError> {
        self.ledger().transaction(hash)
    }

    fn transactions_of(&self, height: u64) -> Result<Vec<TransactionView>, LedgerError> {
        self.ledger().transactions_of(height)
    }

    fn receipt(&self, hash: B256) -> Result<Option<ReceiptView>, LedgerError> {
        self.ledger().receipt(hash)
    }

    fn receipts_of(&self, height: u64) -> Result<Vec<ReceiptView>, LedgerError> {
        self.ledger().receipts_of(height)
    }

    fn logs(&self, filter: &LogFilter, limit: usize) -> Result<Vec<LogView>, LedgerError> {
        self.ledger().logs(filter, limit)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Finalized>> {
        self.finalized.subscribe()
    }

    fn pool_size(&self) -> (usize, usize) {
        self.ledger().pool_size()
    }
}
