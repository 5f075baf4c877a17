//! The application that consensus agrees on: the chain, with the index following it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alloy_primitives::B256;
use stele_chain::{Chain, Committed as ChainCommitted, Verdict};
use stele_consensus::{Application, Branch, Committed, Fatal};
use stele_core::{
    block::Block,
    certificate::{CommitCertificate, ValidatorKey},
};
use tokio::sync::Notify;

use super::ledger::NodeLedger;

/// How long transactions are put into one block, so that a proposal is not late.
const BUILD_MS: u64 = 400;

/// The chain as consensus drives it.
#[derive(Clone)]
pub(crate) struct App {
    chain: Arc<Chain>,
    ledger: Arc<NodeLedger>,
    work: Arc<Notify>,
    nudged: Arc<AtomicBool>,
}

impl App {
    pub(crate) fn new(chain: Arc<Chain>, ledger: Arc<NodeLedger>) -> Self {
        let work = Arc::new(Notify::new());
        let notify = Arc::clone(&work);
        chain.on_ready(move || notify.notify_one());
        Self {
            chain,
            ledger,
            work,
            nudged: Arc::default(),
        }
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

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        let (header, hash) = self.chain.finalized();
        let view = self.chain.view();
        let block = view.block(header.number).ok().flatten()?;
        let bytes = view.certificate(header.number).ok().flatten()?;
        let certificate = CommitCertificate::decode(&bytes).ok()?;
        (certificate.block == hash).then_some((block, certificate))
    }

    async fn ready(&self) {
        while !self.chain.has_work() && !self.nudged.swap(false, Ordering::Relaxed) {
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
        let done = tokio::task::spawn_blocking(move || {
            match chain.commit(&block, &certificate.encode()) {
                Ok(ChainCommitted::New {
                    block,
                    transactions,
                    receipts,
                }) => ledger
                    .publish(&block, &transactions, &receipts)
                    .map_err(Fatal::new),
                Ok(ChainCommitted::Again) => Ok(()),
                Err(error) => Err(Fatal::new(error)),
            }
        });
        done.await.map_err(Fatal::new)?
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
