//! The chain as the node sees it: proposes, verifies and commits blocks, and answers questions about what is final.
//!
//! Executed blocks that are not final stay in memory, by digest; after a restart they are executed again from the
//! blocks the engine hands over. Every method takes `&self`: questions run beside execution and see the last final
//! block only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use alloy_primitives::{Address, B256, Bytes};
use rayon::prelude::*;
use stele_core::{
    block::{Block, Header, Receipt, receipts_root},
    tx::RecoveredTransaction,
};

use crate::{
    builder::{self, Built},
    contracts::governance,
    epochs::{Epochs, Turn},
    error::{Error, InvalidBlock, InvalidTransaction, QueryError, Rejected},
    evm::{CodeCache, Environment, Mode},
    executor::{self, Execution, Outcome, Signatures, check_size, check_succession, expect},
    genesis::Genesis,
    pool::{Admission, Pool, PoolLimits, PoolStatus, Pooled},
    recent::{FinalBlock, RecentBlocks},
    snapshot::Pins,
    state::{self, Incoming, State, StateOptions, StateView},
};

/// Limits of a chain on this node; none of them is part of consensus.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainOptions {
    /// Limits of the state store.
    pub state: StateOptions,
    /// Limits of the pool.
    pub pool: PoolLimits,
}

/// Whether accounts may be spoken for without their keys: on a [`DevChain`](crate::dev::DevChain) alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Development {
    No,
    Yes,
}

/// The ledger of one consortium.
pub struct Chain {
    pub(crate) genesis: Genesis,
    development: Development,
    genesis_block: Arc<Block>,
    state: State,
    pool: Pool,
    pub(crate) code: CodeCache,
    pub(crate) recent: RecentBlocks,
    pub(crate) epochs: Epochs,
    latest: RwLock<Arc<Latest>>,
    /// The last final blocks since this was opened, oldest first: at most [`HISTORY_BLOCKS`].
    history: RwLock<VecDeque<Arc<Latest>>>,
    executed: Mutex<Executed>,
    /// States that newcomers are given.
    pub(crate) pinned: Mutex<Pins>,
}

/// Final blocks whose state can be asked for: as many as go-ethereum keeps. A snapshot of the store costs nothing but
/// the nodes that were written over since.
pub const HISTORY_BLOCKS: usize = 128;

/// A final block with the state after it.
pub(crate) struct Latest {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) view: StateView,
    pub(crate) next_gas_limit: u64,
}

/// Blocks that were executed and are not final.
#[derive(Default)]
struct Executed {
    blocks: BTreeMap<B256, Arc<ExecutedBlock>>,
    /// The block executed last: what stands on its branch needs no other block.
    tip: B256,
}

struct ExecutedBlock {
    block: Arc<Block>,
    transactions: Vec<Arc<RecoveredTransaction>>,
    receipts: Arc<Vec<Receipt>>,
}

/// What came of verifying a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what its header claims.
    Valid,
    /// It is not, for every validator alike.
    Invalid(InvalidBlock),
}

impl Verdict {
    /// Whether the block may be voted for.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }
}

/// What a commit did.
#[derive(Clone, Debug)]
pub enum Committed {
    /// The block is now part of the ledger, durably.
    New {
        /// The block.
        block: Arc<Block>,
        /// Its transactions with their senders, in order.
        transactions: Vec<Arc<RecoveredTransaction>>,
        /// Their receipts, in order.
        receipts: Arc<Vec<Receipt>>,
    },
    /// It was before.
    Again,
}

impl Chain {
    /// Opens the chain in `folder`, or begins it there.
    ///
    /// # Errors
    /// [`Error::Genesis`] for an unusable genesis, [`Error::OtherGenesis`] if the folder holds another chain,
    /// [`Error::State`] if its files cannot be used.
    pub fn open(folder: &Path, genesis: &Genesis, options: ChainOptions) -> Result<Self, Error> {
        Self::over(State::open(folder, options.state)?, genesis, options.pool)
    }

    /// A chain over any state.
    ///
    /// # Errors
    /// As [`Chain::open`].
    pub fn over(state: State, genesis: &Genesis, pool: PoolLimits) -> Result<Self, Error> {
        Self::begin(state, genesis, pool, Development::No)
    }

    /// As [`Chain::over`], and for development if that is wanted.
    pub(crate) fn begin(
        state: State,
        genesis: &Genesis,
        pool: PoolLimits,
        development: Development,
    ) -> Result<Self, Error> {
        let genesis_block = Arc::new(genesis.begin(&state)?);
        let latest = Arc::new(Latest::of(&state, &genesis_block)?);
        let epochs = Epochs::load(genesis, &genesis_block, &latest.view)?;
        Ok(Self {
            epochs,
            genesis: genesis.clone(),
            development,
            genesis_block,
            executed: Mutex::new(Executed {
                blocks: BTreeMap::new(),
                tip: latest.hash,
            }),
            history: RwLock::new(VecDeque::from([Arc::clone(&latest)])),
            latest: RwLock::new(latest),
            state,
            pool: Pool::new(pool),
            code: CodeCache::default(),
            recent: RecentBlocks::default(),
            pinned: Mutex::default(),
        })
    }

    /// The block at height 0.
    #[must_use]
    pub const fn genesis_block(&self) -> &Arc<Block> {
        &self.genesis_block
    }

    /// The genesis the chain began with.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Header and digest of the last final block.
    #[must_use]
    pub fn finalized(&self) -> (Header, B256) {
        let latest = self.latest();
        (latest.header.clone(), latest.hash)
    }

    /// The state and the blocks up to the last final one. Hold it for one question, not for long.
    #[must_use]
    pub fn view(&self) -> StateView {
        self.latest().view.clone()
    }

    pub(crate) fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The final block at `height` with the state after it.
    ///
    /// # Errors
    /// [`QueryError::StateNotKept`] if it is older than the last [`HISTORY_BLOCKS`], older than this process, or not
    /// final yet.
    pub(crate) fn at(&self, height: u64) -> Result<Arc<Latest>, QueryError> {
        let latest = self.latest();
        if height == latest.header.number {
            return Ok(latest);
        }
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = history.front().map_or(0, |kept| kept.header.number);
        let kept = height
            .checked_sub(oldest)
            .and_then(|place| usize::try_from(place).ok())
            .and_then(|place| history.get(place));
        kept.cloned().ok_or(QueryError::StateNotKept {
            asked: height,
            oldest,
            latest: latest.header.number,
        })
    }

    /// The state after the final block at `height`, while it is kept. Hold it for one question, not for long.
    ///
    /// # Errors
    /// [`QueryError::StateNotKept`] for a block that is older than the last [`HISTORY_BLOCKS`], was final before this
    /// was opened, or is not final yet.
    pub fn view_at(&self, height: u64) -> Result<StateView, QueryError> {
        self.at(height).map(|kept| kept.view.clone())
    }

    /// Goes on from the end of a chain that came in whole.
    pub(crate) fn leap(&self, incoming: Incoming) -> Result<(), Error> {
        let head = self.state.adopt(incoming)?;
        let latest = Arc::new(Latest::of(&self.state, &self.genesis_block)?);
        let epochs = Epochs::load(&self.genesis, &self.genesis_block, &latest.view)?;
        self.epochs.replace(epochs);
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        *history = VecDeque::from([Arc::clone(&latest)]);
        drop(history);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&latest);
        self.forget_executed(head.height, head.hash);
        for sender in self.pool.senders() {
            let nonce = latest.view.account(sender)?.map_or(0, |found| found.nonce);
            self.pool.advance(sender, nonce);
        }
        Ok(())
    }

    /// Reads anew where the chain ends, and forgets every block executed above it.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        let latest = Arc::new(Latest::of(&self.state, &self.genesis_block)?);
        let hash = latest.hash;
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = latest;
        self.forget_executed(u64::MAX, hash);
        Ok(())
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Final blocks whose state is kept, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<Latest>> {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        history.iter().cloned().collect()
    }

    fn remember(&self, latest: &Arc<Latest>) {
        let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
        history.push_back(Arc::clone(latest));
        while history.len() > HISTORY_BLOCKS {
            history.pop_front();
        }
    }

    /// Builds a block on `parent`, for height `parent + 1`. `ancestors` are the parent's own ancestors that are not
    /// final, oldest first; those not executed here yet are. `proposer` is this validator's ed25519 key; `in_time`
    /// says before each transaction whether there is time for it. `None` if another block than one on `parent` has
    /// become final meanwhile, or the parent ends its epoch and is not final: there is nothing to propose.
    ///
    /// # Errors
    /// [`Error::UnknownParent`] if an ancestor is missing, [`Error::FinalButInvalid`] if one is not valid here,
    /// [`Error::State`].
    pub fn propose(
        &self,
        parent: &Arc<Block>,
        ancestors: &[Arc<Block>],
        proposer: B256,
        now_ms: u64,
        in_time: &dyn Fn() -> bool,
    ) -> Result<Option<Block>, Error> {
        let parent_hash = self.execute_branch(ancestors, parent)?;
        let view = match self.state.view_on(parent_hash) {
            Ok(view) => view,
            Err(state::Error::UnknownBlock { .. })
                if self.latest().header.number >= parent.header.number =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(turn) = self.epochs.turn(&parent.header, &view)? else {
            return Ok(None);
        };
        let header = Header {
            parent_hash,
            number: parent.header.number.saturating_add(1),
            timestamp_ms: now_ms.max(parent.header.timestamp_ms.saturating_add(1)),
            proposer,
            gas_limit: gas_limit(&view)?,
            epoch: turn.epoch,
            next_validators_hash: turn.next_validators_hash,
            ..Header::default()
        };
        let mut execution = self.execution(view, &header);
        execution.seat(turn.seating.as_ref())?;
        let above = self.executed().transactions_on(parent_hash);
        let built = builder::build(execution, &header, &self.pool, &above, in_time)?;
        let Built {
            block,
            transactions,
            mut outcome,
            refused,
        } = built;
        outcome.overlay.validators = turn.announced;
        self.drop_refused(refused)?;
        let block = Arc::new(block);
        self.keep(Arc::clone(&block), transactions, outcome);
        Ok(Some(Arc::unwrap_or_clone(block)))
    }

    /// Executes a block and says whether it is what its header claims. `ancestors` as for [`Chain::propose`], the
    /// parent last. How far its time may be ahead of a clock is for the caller to judge: see
    /// [`check_header`](crate::check_header).
    ///
    /// # Errors
    /// As [`Chain::propose`]. Never `Invalid` for something that is missing here.
    pub fn verify(&self, block: &Arc<Block>, ancestors: &[Arc<Block>]) -> Result<Verdict, Error> {
        let hash = block.hash();
        let latest = self.latest();
        let height = block.header.number;
        if height <= latest.header.number {
            let stored = latest.view.block_hash(height)?.unwrap_or_default();
            return Ok(
                match expect("the final block at its height", &stored, &hash) {
                    Ok(()) => Verdict::Valid,
                    Err(invalid) => Verdict::Invalid(invalid),
                },
            );
        }
        if let Some((parent, older)) = ancestors.split_last() {
            self.execute_branch(older, parent)?;
        }
        match self.execute(block, hash)? {
            Ok(()) => Ok(Verdict::Valid),
            Err(invalid) => Ok(Verdict::Invalid(invalid)),
        }
    }

    /// Makes a final block part of the ledger; it is durable when this returns. Blocks come in order of height and
    /// may come again. `certificate` is stored as it is.
    ///
    /// # Errors
    /// [`Error::FinalButInvalid`] if the block is not valid here, [`Error::State`] if it could not be written or
    /// contradicts what is final.
    pub fn commit(&self, block: &Arc<Block>, certificate: &[u8]) -> Result<Committed, Error> {
        let hash = block.hash();
        let height = block.header.number;
        if height <= self.latest().header.number {
            // The store refuses another block at this height.
            self.state.commit(block, &[], certificate)?;
            return Ok(Committed::Again);
        }
        if let Err(reason) = self.execute(block, hash)? {
            return Err(Error::FinalButInvalid {
                block: hash,
                height,
                reason,
            });
        }
        let executed = self.executed().blocks.get(&hash).cloned();
        let executed = executed.ok_or(Error::State(state::Error::UnknownBlock { digest: hash }))?;
        self.state.commit(block, &executed.receipts, certificate)?;
        let latest = Arc::new(Latest::of(&self.state, block)?);
        self.epochs
            .committed(&block.header, &executed.receipts, &latest.view)?;
        self.recent.insert(Arc::new(FinalBlock::new(
            Arc::clone(block),
            hash,
            Arc::clone(&executed.receipts),
            &executed.transactions,
        )));
        self.remember(&latest);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&latest);
        self.forget_executed(height, hash);
        self.unpin(height);
        self.clear_pool(&executed.transactions, &latest.view)?;
        Ok(Committed::New {
            block: Arc::clone(block),
            transactions: executed.transactions.clone(),
            receipts: Arc::clone(&executed.receipts),
        })
    }

    /// Executes what is not yet executed of `older` and `parent`; yields the parent's digest.
    fn execute_branch(&self, older: &[Arc<Block>], parent: &Arc<Block>) -> Result<B256, Error> {
        let final_height = self.latest().header.number;
        let mut hash = B256::ZERO;
        for block in older.iter().chain(std::iter::once(parent)) {
            hash = block.hash();
            if block.header.number <= final_height {
                continue;
            }
            match self.execute(block, hash)? {
                // It became final since the height was asked for, and its effect is the state itself now.
                Ok(()) | Err(InvalidBlock::Overtaken { .. }) => {}
                Err(reason) => {
                    return Err(Error::FinalButInvalid {
                        block: hash,
                        height: block.header.number,
                        reason,
                    });
                }
            }
        }
        Ok(hash)
    }

    /// Executes a block on its parent, unless that was done before, and keeps the result.
    fn execute(&self, block: &Arc<Block>, hash: B256) -> Result<Result<(), InvalidBlock>, Error> {
        if self.executed().blocks.contains_key(&hash) {
            return Ok(Ok(()));
        }
        let Some((parent, view)) = self.parent_of(block, hash)? else {
            return Ok(Err(InvalidBlock::Overtaken {
                height: self.latest().header.number,
            }));
        };
        let turn = self.epochs.turn(&parent, &view)?;
        let checked = check_succession(&parent, &block.header)
            .and_then(|()| check_turn(turn.as_ref(), &block.header))
            .and_then(|()| check_size(block));
        if let Err(invalid) = checked {
            return Ok(Err(invalid));
        }
        if let Err(invalid) = expect("gas limit", &gas_limit(&view)?, &block.header.gas_limit) {
            return Ok(Err(invalid));
        }
        let known = |hash: &B256| self.pool.get(hash).map(|p| Arc::clone(&p.recovered));
        let transactions = match executor::recover(block, self.signatures(), known) {
            Ok(transactions) => transactions,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let mut execution = self.execution(view, &block.header);
        execution.seat(turn.as_ref().and_then(|turn| turn.seating.as_ref()))?;
        let mut outcome = match executor::execute(execution, &transactions)? {
            Ok(outcome) => outcome,
            Err(invalid) => return Ok(Err(invalid)),
        };
        if let Err(invalid) = check_outcome(&block.header, &outcome) {
            return Ok(Err(invalid));
        }
        outcome.overlay.validators = turn.and_then(|turn| turn.announced);
        self.keep(Arc::clone(block), transactions, outcome);
        Ok(Ok(()))
    }

    /// The parent of a block and the state after it; `None` if what is final rules the block out. Blocks may become
    /// final while this looks, so it looks again until nothing has.
    fn parent_of(&self, block: &Block, hash: B256) -> Result<Option<(Header, StateView)>, Error> {
        let (parent, height) = (block.header.parent_hash, block.header.number);
        loop {
            let latest = self.latest();
            let header = if parent == latest.hash {
                Some(latest.header.clone())
            } else {
                self.executed()
                    .blocks
                    .get(&parent)
                    .map(|found| found.block.header.clone())
            };
            if let (Some(header), Ok(view)) = (header, self.state.view_on(parent)) {
                return Ok(Some((header, view)));
            }
            if self.latest().hash != latest.hash {
                continue;
            }
            // The parent of the next block is the last final one, and earlier blocks are decided.
            if height <= latest.header.number.saturating_add(1) {
                return Ok(None);
            }
            return Err(Error::UnknownParent {
                block: hash,
                height,
                parent,
            });
        }
    }

    pub(crate) fn execution(&self, view: StateView, header: &Header) -> Execution {
        let environment = Environment::of(header, self.genesis.chain_id);
        let (code, open) = (self.code.clone(), self.genesis.open);
        Execution::new(view, &environment, code, open, self.mode())
    }

    /// How the transactions of blocks run.
    pub(crate) const fn mode(&self) -> Mode {
        match self.development {
            Development::No => Mode::Block,
            Development::Yes => Mode::Development,
        }
    }

    /// Whose transactions are taken for whose.
    pub(crate) const fn signatures(&self) -> Signatures {
        Signatures {
            chain_id: self.genesis.chain_id,
            development: self.development,
        }
    }

    pub(crate) fn keep(
        &self,
        block: Arc<Block>,
        transactions: Vec<Arc<RecoveredTransaction>>,
        outcome: Outcome,
    ) {
        let hash = block.hash();
        self.state.insert(hash, Arc::new(outcome.overlay));
        let receipts = Arc::new(outcome.receipts);
        let mut executed = self.executed();
        executed.blocks.insert(
            hash,
            Arc::new(ExecutedBlock {
                block,
                transactions,
                receipts,
            }),
        );
        executed.tip = hash;
    }

    fn forget_executed(&self, final_height: u64, final_hash: B256) {
        let mut executed = self.executed();
        executed
            .blocks
            .retain(|_, kept| kept.block.header.number > final_height);
        if !executed.blocks.contains_key(&executed.tip) {
            executed.tip = final_hash;
        }
    }

    fn executed(&self) -> MutexGuard<'_, Executed> {
        // Every change is one insertion or removal; a panic leaves nothing half done.
        self.executed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool.
impl Chain {
    /// Admits a signed transaction in its EIP-2718 encoding. Blocking work of some 50 µs, safe to call from many
    /// threads.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn submit(&self, encoded: Bytes) -> Result<Arc<Pooled>, Rejected> {
        let latest = self.latest();
        self.admit(encoded, &latest)
    }

    /// As [`Chain::submit`], many at once on all cores. The results come in order.
    pub fn submit_all(&self, encoded: Vec<Bytes>) -> Vec<Result<Arc<Pooled>, Rejected>> {
        let latest = self.latest();
        encoded
            .into_par_iter()
            .map(|bytes| self.admit(bytes, &latest))
            .collect()
    }

    fn admit(&self, encoded: Bytes, seen: &Latest) -> Result<Arc<Pooled>, Rejected> {
        let pooled = self.pool.admit(encoded, &self.admission(seen))?;
        let latest = self.latest();
        if latest.hash != seen.hash {
            // A block became final meanwhile, and may have cleared the pool before this transaction was in it: held
            // against the older nonce, it would wait for one that is used already.
            let sender = pooled.recovered.sender;
            let account = latest.view.account(sender)?;
            self.pool
                .catch_up(sender, account.map_or(0, |account| account.nonce));
        }
        Ok(pooled)
    }

    /// Has `notify` called whenever there is a new transaction to put into a block, from the admitting thread. Only
    /// the first call of this function has an effect.
    pub fn on_ready(&self, notify: impl Fn() + Send + Sync + 'static) {
        self.pool.on_ready(Box::new(notify));
    }

    /// Whether transactions wait that the block executed last, and its ancestors, do not contain. Ask before waiting
    /// for [`Chain::on_ready`]'s call, and again after each commit: a lost proposal gives its transactions back.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let executed = self.executed();
        let above = executed.transactions_on(executed.tip);
        drop(executed);
        self.pool.has_work(&above)
    }

    /// A waiting transaction.
    #[must_use]
    pub fn pending(&self, hash: &B256) -> Option<Arc<Pooled>> {
        self.pool.get(hash)
    }

    /// Why a transaction that was admitted was dropped later, if that was not long ago: whoever waits for it need not
    /// wait longer.
    #[must_use]
    pub fn refusal(&self, hash: &B256) -> Option<InvalidTransaction> {
        self.pool.refusal(hash)
    }

    /// How much waits.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.pool.status()
    }

    /// The account's nonce after its waiting transactions: what `eth_getTransactionCount` calls `pending`.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub fn pending_nonce(&self, account: Address) -> Result<u64, state::Error> {
        let final_nonce = self
            .latest()
            .view
            .account(account)?
            .map_or(0, |account| account.nonce);
        Ok(self.pool.next_nonce(account, final_nonce))
    }

    const fn admission<'a>(&self, latest: &'a Latest) -> Admission<'a> {
        Admission {
            view: &latest.view,
            signatures: self.signatures(),
            open: self.genesis.open,
            block_gas_limit: latest.next_gas_limit,
        }
    }

    fn clear_pool(
        &self,
        transactions: &[Arc<RecoveredTransaction>],
        view: &StateView,
    ) -> Result<(), state::Error> {
        let senders: BTreeSet<Address> = transactions.iter().map(|tx| tx.sender).collect();
        for sender in senders {
            let nonce = view.account(sender)?.map_or(0, |account| account.nonce);
            self.pool.advance(sender, nonce);
        }
        Ok(())
    }

    /// Drops what cannot be executed any more. Nonces are judged by what is final: an ancestor of the proposal that
    /// used one may yet lose to another block.
    fn drop_refused(
        &self,
        refused: Vec<(Arc<Pooled>, InvalidTransaction)>,
    ) -> Result<(), state::Error> {
        let latest = self.latest();
        for (pooled, reason) in refused {
            let sender = pooled.recovered.sender;
            match reason {
                InvalidTransaction::NonceTooLow { .. }
                | InvalidTransaction::NonceTooHigh { .. } => {
                    let nonce = latest
                        .view
                        .account(sender)?
                        .map_or(0, |account| account.nonce);
                    self.pool.advance(sender, nonce);
                }
                reason => self.pool.refuse(pooled.recovered.hash, reason),
            }
        }
        Ok(())
    }
}

impl Latest {
    fn of(state: &State, last: &Block) -> Result<Self, state::Error> {
        let view = state.latest();
        let head = view
            .head()
            .ok_or(state::Error::Invariant("a chain without its first block"))?;
        let header = if head.height == last.header.number {
            last.header.clone()
        } else {
            view.header(head.height)?
                .ok_or(state::Error::Invariant("a chain without its last block"))?
        };
        let next_gas_limit = gas_limit(&view)?;
        Ok(Self {
            header,
            hash: head.hash,
            view,
            next_gas_limit,
        })
    }
}

impl Executed {
    /// Hashes of the transactions in the block `tip` and its ancestors that are not final.
    fn transactions_on(&self, tip: B256) -> BTreeSet<B256> {
        let mut hashes = BTreeSet::new();
        let mut at = tip;
        while let Some(executed) = self.blocks.get(&at) {
            hashes.extend(executed.transactions.iter().map(|tx| tx.hash));
            at = executed.block.header.parent_hash;
        }
        hashes
    }
}

/// Gas limit of a block on this state: a parameter of governance.
pub(crate) fn gas_limit(view: &StateView) -> Result<u64, state::Error> {
    governance::read::parameter(
        |address, key| view.slot(address, key),
        governance::Parameter::BlockGasLimit,
    )
}

/// Nothing may stand on the last block of an epoch before it is final; then it is another epoch's base.
fn check_turn(turn: Option<&Turn>, header: &Header) -> Result<(), InvalidBlock> {
    match turn {
        Some(turn) => turn.check(header),
        None => Err(InvalidBlock::Header {
            field: "parent",
            expected: "a final block, for it ends its epoch".to_owned(),
            found: header.parent_hash.to_string(),
        }),
    }
}

/// Holds what came of a block against what its header claims.
fn check_outcome(header: &Header, outcome: &Outcome) -> Result<(), InvalidBlock> {
    expect("gas used", &outcome.gas_used, &header.gas_used)?;
    expect(
        "receipts root",
        &receipts_root(&outcome.receipts),
        &header.receipts_root,
    )?;
    expect("logs bloom", &outcome.logs_bloom, &header.logs_bloom)?;
    expect("state root", &outcome.overlay.root(), &header.state_root)
}
