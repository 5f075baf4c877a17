//! The application that consensus agrees on: the chain, with the index following it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_primitives::B256;
use stele_chain::{Chain, Committed as ChainCommitted, RecoveryRefused, Verdict};
use stele_consensus::{Application, Branch, Committed, Fatal, Run};
use stele_core::{
    block::{Block, Header},
    certificate::{CommitCertificate, ValidatorKey},
    epoch::{Epoch, recovery::Recovery},
};
use tokio::sync::{Notify, watch};

use super::{gossip::Mouth, ledger::NodeLedger, members::Others};

/// How long transactions are put into one block, so that a proposal is not late.
const BUILD_MS: u64 = 400;

/// The chain as consensus drives it.
#[derive(Clone)]
pub(crate) struct App {
    chain: Arc<Chain>,
    ledger: Arc<NodeLedger>,
    work: Arc<Notify>,
    nudged: Arc<AtomicBool>,
    /// Told of work, too, for those who ask the other members for turns.
    asking: Arc<Notify>,
    mouth: Arc<Mouth>,
    own: Arc<OwnProposals>,
    /// The other members, once they can be asked.
    others: Arc<OnceLock<Others>>,
    /// Whether a snapshot is on its way, so that no block is executed that it makes needless.
    joining: Arc<AtomicBool>,
    /// Documents that ended epochs by hand, as other members gave them last.
    recoveries: Arc<Mutex<Vec<Recovery>>>,
}

/// Blocks that this process proposed: once one of them is final, whatever was proposed before the process started is
/// either an ancestor of it or will never be final.
struct OwnProposals {
    open: Mutex<BTreeMap<u64, B256>>,
    is_final: watch::Sender<bool>,
}

impl App {
    pub(crate) fn new(chain: Arc<Chain>, ledger: Arc<NodeLedger>, mouth: Arc<Mouth>) -> Self {
        let work = Arc::new(Notify::new());
        let asking = Arc::new(Notify::new());
        let (notify, ask) = (Arc::clone(&work), Arc::clone(&asking));
        chain.on_ready(move || {
            notify.notify_one();
            ask.notify_one();
        });
        Self {
            asking,
            mouth,
            own: Arc::new(OwnProposals {
                open: Mutex::default(),
                is_final: watch::channel(false).0,
            }),
            chain,
            ledger,
            work,
            nudged: Arc::default(),
            others: Arc::default(),
            joining: Arc::default(),
            recoveries: Arc::default(),
        }
    }

    fn recoveries(&self) -> MutexGuard<'_, Vec<Recovery>> {
        self.recoveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether a snapshot is on its way; until it is not, no blocks are fetched from others.
    pub(crate) fn set_joining(&self, joining: bool) {
        self.joining.store(joining, Ordering::Release);
    }

    /// Names the other members, from whom final blocks are fetched. Only the first call has an effect.
    pub(crate) fn set_others(&self, others: Others) {
        drop(self.others.set(others));
    }

    /// Whether a snapshot is on its way.
    pub(crate) fn is_joining(&self) -> bool {
        self.joining.load(Ordering::Acquire)
    }

    /// The other members, once they are named.
    pub(crate) fn others(&self) -> Arc<OnceLock<Others>> {
        Arc::clone(&self.others)
    }

    /// What this node says to others.
    pub(crate) fn mouth(&self) -> Arc<Mouth> {
        Arc::clone(&self.mouth)
    }

    /// Told of every transaction that can be put into a block.
    pub(crate) fn asking(&self) -> Arc<Notify> {
        Arc::clone(&self.asking)
    }

    /// Becomes true once a block is final that this process proposed.
    pub(crate) fn own_block_is_final(&self) -> watch::Receiver<bool> {
        self.own.is_final.subscribe()
    }

    /// Asks for a block although nothing waits for one.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::Relaxed);
        self.work.notify_one();
    }
}

/// Runs a computation on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, stele_chain::Error> + Send + 'static,
) -> Result<T, Fatal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Fatal::new),
        Err(error) => Err(Fatal::new(error)),
    }
}

impl Application for App {
    fn genesis(&self) -> Block {
        Block::clone(self.chain.genesis_block())
    }

    fn committed(&self) -> Committed {
        let (header, hash) = self.chain.finalized();
        Committed {
            height: header.number,
            digest: hash.0,
        }
    }

    fn tip(&self) -> Header {
        self.chain.finalized().0
    }

    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        self.chain.epochs(number)
    }

    async fn fetch(&self, from: u64) -> Option<Run> {
        if self.is_joining() {
            return None;
        }
        let fetched = self.others.get()?.blocks(from).await?;
        *self.recoveries() = fetched.recoveries;
        fetched.run
    }

    fn recovery(&self) -> Option<Recovery> {
        let known = self.recoveries();
        let mut known = known.iter();
        known.find(|known| self.chain.concerns(known)).cloned()
    }

    async fn recover(&self, recovery: Recovery) -> Result<bool, Fatal> {
        let chain = Arc::clone(&self.chain);
        let (epoch, height) = (recovery.epoch, recovery.height);
        let recovered = tokio::task::spawn_blocking(move || chain.recover(&recovery));
        match recovered.await.map_err(Fatal::new)? {
            Ok(_) => Ok(true),
            Err(refused @ RecoveryRefused::Chain(_)) => Err(Fatal::new(refused)),
            Err(refused) if refused.is_left_behind() => Err(Fatal::new(refused)),
            Err(refused) => {
                tracing::warn!(epoch, height, %refused, "a member gave a recovery that does not fit");
                self.recoveries().clear();
                Ok(false)
            }
        }
    }

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        let (header, hash) = self.chain.finalized();
        let view = self.chain.view();
        let block = view.block(header.number).ok().flatten()?;
        let bytes = view.certificate(header.number).ok().flatten()?;
        let certificate = CommitCertificate::decode(&bytes).ok()?;
        (certificate.block == hash).then_some((block, certificate))
    }

    async fn ready(&self) {
        // A change of validators comes at a height, and nobody should wait for that longer than need be.
        while !self.chain.has_work()
            && !self.chain.validators_change()
            && !self.nudged.swap(false, Ordering::Relaxed)
        {
            self.work.notified().await;
        }
    }

    async fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> Result<Option<Block>, Fatal> {
        let (chain, ledger) = (Arc::clone(&self.chain), Arc::clone(&self.ledger));
        let own = Arc::clone(&self.own);
        let deadline = deadline_in(BUILD_MS);
        blocking(move || {
            let proposed = chain.propose(
                &branch.parent,
                &branch.older,
                B256::from(*proposer.as_bytes()),
                now_ms,
                &|| !deadline.passed(),
            );
            // Building is when the pool finds out what cannot be executed.
            ledger.answer_refused();
            if let Ok(Some(block)) = &proposed {
                own.proposed(block);
            }
            proposed
        })
        .await
    }

    async fn verify(&self, block: Arc<Block>, branch: Branch) -> Result<bool, Fatal> {
        let chain = Arc::clone(&self.chain);
        let mut ancestors = branch.older;
        ancestors.push(branch.parent);
        let height = block.header.number;
        let verdict = blocking(move || chain.verify(&block, &ancestors)).await?;
        if let Verdict::Invalid(reason) = &verdict {
            tracing::warn!(height, %reason, "a proposed block is not valid");
        }
        Ok(verdict.is_valid())
    }

    async fn commit(&self, block: Arc<Block>, certificate: CommitCertificate) -> Result<(), Fatal> {
        let chain = Arc::clone(&self.chain);
        let ledger = Arc::clone(&self.ledger);
        let own = Arc::clone(&self.own);
        let work = Arc::clone(&self.work);
        let done = tokio::task::spawn_blocking(move || {
            match chain.commit(&block, &certificate.encode()) {
                Ok(ChainCommitted::New {
                    block,
                    transactions,
                    receipts,
                }) => {
                    own.committed(block.header.number, &block.hash());
                    if chain.validators_change() {
                        work.notify_one();
                    }
                    ledger
                        .publish(&block, &transactions, &receipts)
                        .map_err(Fatal::new)
                }
                Ok(ChainCommitted::Again) => Ok(()),
                Err(error) => Err(Fatal::new(error)),
            }
        });
        done.await.map_err(Fatal::new)?
    }

    fn heard(&self, _: ValidatorKey, message: alloy_primitives::bytes::Bytes) {
        self.mouth.heard(message.into());
    }
}

impl OwnProposals {
    fn proposed(&self, block: &Block) {
        if !*self.is_final.borrow() {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.insert(block.header.number, block.hash());
        }
    }

    fn committed(&self, height: u64, hash: &B256) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&height) == Some(hash) {
            open.clear();
            self.is_final.send_replace(true);
        } else {
            open.retain(|other, _| *other > height);
        }
    }
}

/// A moment after which no transaction is added to a block.
struct Deadline(std::time::Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "bounds the work of one proposal; no result depends on it"
)]
fn deadline_in(ms: u64) -> Deadline {
    Deadline(std::time::Instant::now() + std::time::Duration::from_millis(ms))
}

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "as above")]
    fn passed(&self) -> bool {
        std::time::Instant::now() >= self.0
    }
}
