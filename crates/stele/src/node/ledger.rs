//! The ledger port over the chain in this process.

mod follow;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use anyhow::Context as _;
use stele_chain::{
    CallOutcome, CallRequest, Chain, Estimate, FinalBlock, IncludedReceipt, IncludedTransaction,
    Pooled, QueryError, Rejected, RejectionKind, Seating, TracedTransaction, state,
};
use stele_core::{
    block::{Block, Header, Receipt, Validator},
    epoch::{Change, Epoch, recovery::Recovery},
    id::{AUDIT, GOVERNANCE},
    tx::{RecoveredTransaction, Transaction},
};
use stele_index::{FinalizedBlock, FinalizedLog, Index, Seated};
use stele_service::ports::{
    AccountProof, BlockRef, BlockView, BoxFuture, Call, ChainFacts, FinalBlocks, Finalized, Ledger,
    LedgerError, LogFilter, LogView, Position, ReceiptView, RefusalKind, SlotProof, SlotQuery,
    SlotRange, Trace, TraceOptions, Traced, TransactionView,
};
use stele_vault::Vault;
use tokio::sync::{broadcast, oneshot};

use super::gossip::Mouth;

/// Finalized blocks that a subscriber may lag behind.
pub(crate) const SUBSCRIBERS_LAG: usize = 256;
/// Blocks that one log filter may span: any. The number of logs in an answer is bounded instead.
const LOG_BLOCKS_MAX: u64 = u64::MAX;

/// The chain of this node behind the service's port.
pub(crate) struct NodeLedger {
    chain: Arc<Chain>,
    followers: Option<Followers>,
    finalized: broadcast::Sender<Arc<Finalized>>,
    waiting: Mutex<Waiting>,
    /// Tells other members of transactions; a development chain has none.
    mouth: Option<Arc<Mouth>>,
}

/// What follows the chain before anybody is told of a block. A development chain has none.
struct Followers {
    index: Arc<Index>,
    vault: Arc<Vault>,
}

/// Whoever waits for transactions, by their hashes.
type Waiting = HashMap<B256, Vec<oneshot::Sender<Result<ReceiptView, LedgerError>>>>;

impl NodeLedger {
    pub(crate) fn new(
        chain: Arc<Chain>,
        index: Arc<Index>,
        vault: Arc<Vault>,
        mouth: Arc<Mouth>,
    ) -> Arc<Self> {
        let (finalized, _) = broadcast::channel(SUBSCRIBERS_LAG);
        Arc::new(Self {
            chain,
            followers: Some(Followers { index, vault }),
            finalized,
            waiting: Mutex::default(),
            mouth: Some(mouth),
        })
    }

    /// A ledger that nothing follows but its subscribers.
    pub(crate) fn alone(
        chain: Arc<Chain>,
        finalized: broadcast::Sender<Arc<Finalized>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            chain,
            followers: None,
            finalized,
            waiting: Mutex::default(),
            mouth: None,
        })
    }

    /// The chain behind it.
    pub(crate) fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.chain)
    }

    /// Admits a signed transaction.
    pub(crate) fn admit(&self, transaction: Bytes) -> Result<Arc<Pooled>, LedgerError> {
        self.chain
            .submit(transaction)
            .map_err(|rejected| refused(&rejected))
    }

    /// Admits what a member without a seat may have proposed by others: votes, and receipts of accesses.
    fn admit_for_others(&self, encoded: Bytes) -> Result<Arc<Pooled>, LedgerError> {
        let to = Transaction::decode(&encoded).map(|transaction| transaction.to());
        let is_theirs =
            to.is_ok_and(|to| to == TxKind::Call(GOVERNANCE) || to == TxKind::Call(AUDIT));
        if !is_theirs {
            return Err(LedgerError::Refused {
                kind: RefusalKind::NotPermitted,
                message: "this member's validator has no seat: until it has one, it reads, votes and leaves receipts"
                    .into(),
            });
        }
        self.admit(encoded)
    }

    /// Lets the index follow a block that was just committed, then tells those who wait and subscribers.
    pub(crate) fn publish(
        &self,
        block: &Block,
        transactions: &[Arc<RecoveredTransaction>],
        receipts: &[Receipt],
    ) -> anyhow::Result<()> {
        let hashes: Vec<B256> = transactions.iter().map(|tx| tx.hash).collect();
        if let Some(Followers { index, vault }) = &self.followers {
            let seating = self.chain.seating(block.header.number);
            index
                .chain()
                .apply(&followed(block, &hashes, receipts, seating))?;
            // A revoked grantee's unwrapped keys must not outlive the block.
            vault.clear_cached_keys();
        }
        let waited_for: Vec<B256> = {
            let waiting = self.waiting();
            let known = |hash: &B256| waiting.contains_key(hash);
            hashes.into_iter().filter(known).collect()
        };
        for hash in waited_for {
            let found = self.receipt(hash).and_then(|found| {
                found.ok_or_else(|| LedgerError::Unavailable {
                    message: format!("the receipt of {hash} is missing"),
                })
            });
            answer(&mut self.waiting(), hash, &found);
        }
        self.tell_subscribers(block.header.number)
    }

    fn tell_subscribers(&self, height: u64) -> anyhow::Result<()> {
        // Every receipt of a block is much, and mostly nobody listens.
        if self.finalized.receiver_count() > 0 {
            let finalized = Finalized {
                block: self
                    .block(BlockRef::Number(height))?
                    .context("the block just committed is missing")?,
                receipts: self.receipts_of(height)?,
            };
            // The last listener may have gone meanwhile.
            drop(self.finalized.send(Arc::new(finalized)));
        }
        Ok(())
    }

    /// Tells those who wait for transactions that will never be final, once some were dropped.
    pub(crate) fn answer_refused(&self) {
        let waited_for: Vec<B256> = self.waiting().keys().copied().collect();
        for hash in waited_for {
            if let Some(refused) = self.refusal(hash) {
                answer(&mut self.waiting(), hash, &Err(refused));
            }
        }
    }

    /// Why a transaction that was admitted will not be final; `None` while it may be, and once it is.
    pub(crate) fn refusal(&self, hash: B256) -> Option<LedgerError> {
        if self.chain.pending(&hash).is_some() {
            return None;
        }
        // What is neither waiting nor final was dropped, and what is final left the pool after it had become so.
        match self.chain.view().transaction_location(hash) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return None,
        }
        Some(match self.chain.refusal(&hash) {
            Some(reason) => refused(&Rejected::Invalid(reason)),
            None => LedgerError::Refused {
                kind: RefusalKind::Nonce,
                message: "it was dropped: another transaction of its sender has its nonce".into(),
            },
        })
    }

    /// Forgets who gave up waiting for a transaction.
    fn forget_gone(&self, hash: B256) {
        let mut waiting = self.waiting();
        if let Some(waiters) = waiting.get_mut(&hash) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&hash);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one insertion or removal; a panic leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, at: BlockRef) -> Result<u64, LedgerError> {
        match at {
            BlockRef::Latest | BlockRef::Pending => Ok(self.chain.finalized().0.number),
            BlockRef::Number(number) => Ok(number),
            BlockRef::Hash(hash) => self
                .chain
                .view()
                .height_of(hash)
                .map_err(unavailable)?
                .ok_or_else(|| LedgerError::NotAvailable {
                    what: format!("block {hash}"),
                    reason: "there is none".into(),
                }),
        }
    }

    /// The state a question is about.
    fn view(&self, at: BlockRef) -> Result<state::StateView, LedgerError> {
        match at {
            BlockRef::Latest | BlockRef::Pending => Ok(self.chain.view()),
            other => self.chain.view_at(self.number(other)?).map_err(query),
        }
    }
}

impl Ledger for NodeLedger {
    fn facts(&self) -> ChainFacts {
        let genesis = self.chain.genesis();
        ChainFacts {
            chain_id: genesis.chain_id,
            genesis_hash: self.chain.genesis_block().hash(),
            block_gas_limit: self.chain.finalized().0.gas_limit,
            open: genesis.open,
            validators: genesis
                .validators
                .iter()
                .map(|seat| Validator {
                    key: seat.key,
                    organization: seat.organization,
                })
                .collect(),
        }
    }

    fn submit(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>> {
        Box::pin(async move {
            let pooled = self.admit(transaction)?;
            if let Some(mouth) = &self.mouth {
                mouth.share(pooled.encoded.clone());
            }
            Ok(pooled.recovered.hash)
        })
    }

    fn submit_own(&self, transaction: Bytes) -> BoxFuture<'_, Result<B256, LedgerError>> {
        Box::pin(async move {
            let Some(mouth) = self
                .mouth
                .as_ref()
                .filter(|mouth| !mouth.has_seat(&self.chain))
            else {
                let admitted = self.admit(transaction);
                return admitted.map(|pooled| pooled.recovered.hash);
            };
            // Without a seat nothing is proposed here. What a restart can't contradict is handed to another member;
            // anything else could become final long after its write was taken back.
            let pooled = self.admit_for_others(transaction)?;
            mouth.share(pooled.encoded.clone());
            Ok(pooled.recovered.hash)
        })
    }

    fn wait(&self, hash: B256, timeout_ms: u64) -> BoxFuture<'_, Result<ReceiptView, LedgerError>> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            self.waiting().entry(hash).or_default().push(sender);
            // It may have become final, or have been dropped, before the waiter was registered; the index follows
            // before waiters are told, so what is both final and followed is done.
            let known = match self.receipt(hash)? {
                Some(receipt) if self.followed(receipt.position.height)? => Some(Ok(receipt)),
                Some(_) => None,
                None => self.refusal(hash).map(Err),
            };
            let answered = match known {
                Some(known) => {
                    drop(receiver);
                    known
                }
                None => told(receiver, hash, timeout_ms).await,
            };
            self.forget_gone(hash);
            answered
        })
    }

    fn call(&self, call: &Call, at: BlockRef) -> Result<Bytes, LedgerError> {
        let request = request(call);
        let called = match at {
            BlockRef::Latest | BlockRef::Pending => self.chain.call(&request),
            other => self.chain.call_at(&request, self.number(other)?),
        };
        outcome(called.map_err(query)?)
    }

    fn estimate_gas(&self, call: &Call) -> Result<u64, LedgerError> {
        match self.chain.estimate_gas(&request(call)).map_err(query)? {
            Estimate::Gas(gas) => Ok(gas),
            Estimate::Fails(failed) => outcome(failed).map(|_| 0),
        }
    }

    fn trace(
        &self,
        what: &Traced,
        options: &TraceOptions,
    ) -> Result<Option<Vec<Trace>>, LedgerError> {
        let one = |hash, trace| vec![Trace { hash, trace }];
        match what {
            Traced::Transaction(hash) => {
                let trace = self.chain.trace_transaction(*hash, options);
                Ok(trace.map_err(query)?.map(|trace| one(*hash, trace)))
            }
            Traced::Block(at) => {
                let height = self.number(*at)?;
                let traced = self.chain.trace_block(height, options).map_err(query)?;
                let trace = |traced: TracedTransaction| Trace {
                    hash: traced.hash,
                    trace: traced.trace,
                };
                Ok(traced.map(|traced| traced.into_iter().map(trace).collect()))
            }
            Traced::Call(call, at) => {
                let height = self.number(*at)?;
                let trace = self.chain.trace_call(&request(call), height, options);
                Ok(Some(one(B256::ZERO, trace.map_err(query)?)))
            }
        }
    }

    fn slots(&self, asked: &SlotQuery) -> Result<Option<SlotRange>, LedgerError> {
        let SlotQuery {
            address,
            at,
            before,
            from,
            max,
        } = *asked;
        let height = self.number(at)?;
        let found = self
            .chain
            .slots_before(height, before, address, from, max)
            .map_err(query)?;
        Ok(found.map(|(slots, next)| SlotRange { slots, next }))
    }

    fn height(&self) -> u64 {
        self.chain.finalized().0.number
    }

    fn finalized_at_ms(&self) -> Result<u64, LedgerError> {
        Ok(self.chain.finalized().0.timestamp_ms)
    }

    fn account(&self, address: Address, at: BlockRef) -> Result<(U256, u64, Bytes), LedgerError> {
        let view = self.view(at)?;
        let account = view
            .account(address)
            .map_err(unavailable)?
            .unwrap_or_default();
        let nonce = match at {
            BlockRef::Pending => self.chain.pending_nonce(address).map_err(unavailable)?,
            _ => account.nonce,
        };
        let code = view.code(account.code_hash).map_err(unavailable)?;
        Ok((account.balance, nonce, code))
    }

    fn storage(&self, address: Address, slot: U256, at: BlockRef) -> Result<B256, LedgerError> {
        self.view(at)?
            .slot(address, slot)
            .map(B256::from)
            .map_err(unavailable)
    }

    fn proof(
        &self,
        address: Address,
        slots: &[B256],
        at: BlockRef,
    ) -> Result<AccountProof, LedgerError> {
        let view = self.view(at)?;
        let height = view.head().map_or(0, |head| head.height);
        let keys: Vec<U256> = slots
            .iter()
            .map(|slot| U256::from_be_bytes(slot.0))
            .collect();
        let proof = view.proof(address, &keys).map_err(unavailable)?;
        let account = proof.account.unwrap_or_default();
        Ok(AccountProof {
            address,
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
            storage_root: account.storage_root,
            proof: proof.proof,
            storage: proof
                .storage
                .into_iter()
                .map(|slot| SlotProof {
                    key: B256::from(slot.slot),
                    value: slot.value,
                    proof: slot.proof,
                })
                .collect(),
            height,
        })
    }

    fn block(&self, at: BlockRef) -> Result<Option<BlockView>, LedgerError> {
        let number = match at {
            BlockRef::Hash(hash) => match self.chain.view().height_of(hash).map_err(unavailable)? {
                Some(number) => number,
                None => return Ok(None),
            },
            other => self.number(other)?,
        };
        let block = self.chain.final_block(number).map_err(unavailable)?;
        Ok(block.as_deref().map(block_view))
    }

    fn certified_header(&self, height: u64) -> Result<Option<(Header, Bytes)>, LedgerError> {
        let view = self.chain.view();
        let header = view.header(height).map_err(unavailable)?;
        let certificate = view.certificate(height).map_err(unavailable)?;
        Ok(header.zip(certificate))
    }

    fn epoch(&self) -> Option<Arc<Epoch>> {
        Some(self.chain.epoch())
    }

    fn validator_changes(&self) -> Result<Vec<Change>, LedgerError> {
        self.chain.validator_changes().map_err(unavailable)
    }

    fn final_blocks(&self, from: u64) -> Result<Option<FinalBlocks>, LedgerError> {
        let run = self.chain.final_run(from).map_err(unavailable)?;
        Ok(run.map(|(blocks, certificate)| FinalBlocks {
            blocks,
            certificate,
            recoveries: Vec::new(),
        }))
    }

    fn recoveries(&self) -> Vec<Recovery> {
        self.chain.recoveries()
    }

    fn left_behind(&self, organization: Address) -> Option<u64> {
        let ended = self.chain.recoveries().into_iter().rev();
        let mut heights = ended.map(|recovery| recovery.height);
        heights.find(|height| {
            let seating = self.chain.seating(height.saturating_add(1));
            seating.is_some_and(|seating| seating.suspended.contains(&organization))
        })
    }

    fn snapshot_offer(&self, to: Address) -> Result<Option<Bytes>, LedgerError> {
        let offer = self.chain.offer_snapshot(to).map_err(unavailable)?;
        let text = offer.map(|offer| serde_json::to_vec(&offer)).transpose();
        let text = text.map_err(|error| LedgerError::Unavailable {
            message: error.to_string(),
        })?;
        Ok(text.map(Bytes::from))
    }

    fn state_parts(
        &self,
        to: Address,
        height: u64,
        wants: &[u8],
    ) -> Result<Option<Vec<Bytes>>, LedgerError> {
        self.chain.state_parts(to, height, wants).map_err(query)
    }

    fn receipts_run(&self, from: u64, to: u64) -> Result<Vec<Bytes>, LedgerError> {
        self.chain.receipts_run(from, to).map_err(unavailable)
    }

    fn transaction(&self, hash: B256) -> Result<Option<TransactionView>, LedgerError> {
        if let Some(found) = self.chain.transaction(hash).map_err(unavailable)? {
            return Ok(Some(transaction_view(&found)));
        }
        Ok(self.chain.pending(&hash).map(|pooled| TransactionView {
            hash,
            sender: pooled.recovered.sender,
            transaction: pooled.recovered.transaction.clone(),
            position: None,
        }))
    }

    fn transactions_of(&self, height: u64) -> Result<Vec<TransactionView>, LedgerError> {
        let Some(block) = self.chain.final_block(height).map_err(unavailable)? else {
            return Ok(Vec::new());
        };
        let transactions = self.chain.transactions(&block).map_err(unavailable)?;
        Ok(transactions.iter().map(transaction_view).collect())
    }

    fn receipt(&self, hash: B256) -> Result<Option<ReceiptView>, LedgerError> {
        let found = self.chain.receipt(hash).map_err(unavailable)?;
        Ok(found.map(receipt_view))
    }

    fn receipts_of(&self, height: u64) -> Result<Vec<ReceiptView>, LedgerError> {
        let found = self.chain.receipts(height).map_err(unavailable)?;
        let views = found.into_iter().flatten().map(receipt_view);
        Ok(views.collect())
    }

    fn logs(&self, filter: &LogFilter, limit: usize) -> Result<Vec<LogView>, LedgerError> {
        let view = self.chain.view();
        let to = filter
            .to
            .unwrap_or_else(|| self.height())
            .min(self.height());
        if filter.from > to {
            return Ok(Vec::new());
        }
        let asked = state::LogFilter {
            addresses: filter.addresses.clone(),
            topics: filter.topics.clone(),
        };
        let found = self
            .chain
            .logs(&asked, filter.from, to, LOG_BLOCKS_MAX, limit)
            .map_err(query)?;
        let mut times: HashMap<u64, u64> = HashMap::new();
        let mut logs = Vec::with_capacity(found.logs.len());
        for one in found.logs {
            let timestamp_ms = match times.get(&one.height) {
                Some(time) => *time,
                None => {
                    let header = view.header(one.height).map_err(unavailable)?;
                    let time = header.map_or(0, |header| header.timestamp_ms);
                    times.insert(one.height, time);
                    time
                }
            };
            logs.push(LogView {
                tx_hash: one.transaction_hash,
                position: Position {
                    block_hash: one.block_hash,
                    height: one.height,
                    timestamp_ms,
                    index: one.transaction_index,
                },
                log_index: one.log_index,
                log: one.log,
            });
        }
        Ok(logs)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Finalized>> {
        self.finalized.subscribe()
    }

    fn pool_size(&self) -> (usize, usize) {
        let status = self.chain.pool_status();
        (status.transactions, 0)
    }
}

impl NodeLedger {
    fn followed(&self, height: u64) -> Result<bool, LedgerError> {
        let Some(Followers { index, .. }) = &self.followers else {
            return Ok(true);
        };
        let followed = index
            .chain()
            .height()
            .map_err(|error| LedgerError::Unavailable {
                message: error.to_string(),
            })?;
        Ok(followed.is_some_and(|followed| followed >= height))
    }
}

/// What a waiter is told.
async fn told(
    receiver: oneshot::Receiver<Result<ReceiptView, LedgerError>>,
    hash: B256,
    timeout_ms: u64,
) -> Result<ReceiptView, LedgerError> {
    match tokio::time::timeout(Duration::from_millis(timeout_ms), receiver).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(LedgerError::Unavailable {
            message: "the node stops".into(),
        }),
        Err(_) => Err(LedgerError::Pending {
            hash,
            waited_ms: timeout_ms,
        }),
    }
}

/// Tells all who wait for a transaction.
fn answer(waiting: &mut Waiting, hash: B256, answer: &Result<ReceiptView, LedgerError>) {
    for waiter in waiting.remove(&hash).unwrap_or_default() {
        // A waiter that gave up is gone.
        drop(waiter.send(answer.clone()));
    }
}

fn request(call: &Call) -> CallRequest {
    CallRequest {
        from: call.from,
        to: call.to,
        input: call.input.clone(),
        gas: call.gas,
        value: call.value,
    }
}

fn outcome(outcome: CallOutcome) -> Result<Bytes, LedgerError> {
    match outcome {
        CallOutcome::Success { output, .. } => Ok(output),
        CallOutcome::Revert { output, .. } => Err(LedgerError::Reverted { output }),
        CallOutcome::Halt { reason, .. } => Err(LedgerError::Halted { reason }),
    }
}

fn query(error: QueryError) -> LedgerError {
    match error {
        QueryError::StateNotKept { asked, .. } => LedgerError::NotAvailable {
            what: format!("state at block {asked}"),
            reason: error.to_string(),
        },
        QueryError::TooManyLogs { .. }
        | QueryError::Range { .. }
        | QueryError::TraceTooLarge { .. } => LedgerError::Limit {
            message: error.to_string(),
        },
        QueryError::Tracer(message) => LedgerError::Question { message },
        QueryError::Wants => LedgerError::Question {
            message: error.to_string(),
        },
        QueryError::Invalid(_) | QueryError::OutOfAllowance { .. } => LedgerError::Halted {
            reason: error.to_string(),
        },
        QueryError::State(source) => unavailable(source),
        other => LedgerError::Unavailable {
            message: other.to_string(),
        },
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands errors over")]
fn unavailable(error: state::Error) -> LedgerError {
    LedgerError::Unavailable {
        message: error.to_string(),
    }
}

fn refused(rejected: &Rejected) -> LedgerError {
    let kind = match rejected {
        Rejected::Invalid(stele_chain::InvalidTransaction::NonceTooLow { .. })
        | Rejected::Invalid(stele_chain::InvalidTransaction::NonceTooHigh { .. })
        | Rejected::NonceGap { .. } => RefusalKind::Nonce,
        other => match other.kind() {
            RejectionKind::Malformed => RefusalKind::Malformed,
            RejectionKind::Invalid => RefusalKind::Gas,
            RejectionKind::NotPermitted => RefusalKind::NotPermitted,
            RejectionKind::Known => RefusalKind::Known,
            RejectionKind::Limit => RefusalKind::PoolFull,
            RejectionKind::Internal => {
                return LedgerError::Unavailable {
                    message: rejected.to_string(),
                };
            }
        },
    };
    LedgerError::Refused {
        kind,
        message: rejected.to_string(),
    }
}

fn followed(
    block: &Block,
    hashes: &[B256],
    receipts: &[Receipt],
    seating: Option<Seating>,
) -> FinalizedBlock {
    let mut logs = Vec::new();
    for ((tx_index, hash), receipt) in (0_u64..).zip(hashes).zip(receipts) {
        for log in &receipt.logs {
            logs.push(FinalizedLog {
                tx_hash: *hash,
                tx_index,
                log_index: logs.len() as u64,
                log: log.clone(),
            });
        }
    }
    FinalizedBlock {
        height: block.header.number,
        hash: block.hash(),
        timestamp: stele_core::time::Timestamp(block.header.timestamp_ms),
        seating: seating.map(|seating| Seated {
            validators: seating.validators,
            suspended: seating.suspended,
        }),
        logs,
    }
}

fn block_view(block: &FinalBlock) -> BlockView {
    BlockView {
        hash: block.hash(),
        header: block.block().header.clone(),
        transactions: block.hashes().collect(),
        size_bytes: block.size_bytes(),
    }
}

fn position(included: &IncludedTransaction) -> Position {
    Position {
        block_hash: included.block_hash,
        height: included.height,
        timestamp_ms: included.timestamp_ms,
        index: included.index,
    }
}

fn transaction_view(included: &IncludedTransaction) -> TransactionView {
    TransactionView {
        hash: included.transaction.hash,
        sender: included.transaction.sender,
        transaction: included.transaction.transaction.clone(),
        position: Some(position(included)),
    }
}

fn receipt_view(found: IncludedReceipt) -> ReceiptView {
    let included = found.included;
    ReceiptView {
        hash: included.transaction.hash,
        sender: included.transaction.sender,
        to: included.transaction.transaction.to().to().copied(),
        created: found.contract,
        position: position(&included),
        gas_used: found.gas_used,
        first_log_index: found.first_log_index,
        receipt: found.receipt,
    }
}

#[cfg(test)]
mod tests;
