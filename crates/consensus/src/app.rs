//! What the ledger does for the engine. Implemented by the node over the chain.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use stele_core::{
    block::{Block, Header},
    certificate::{CommitCertificate, ValidatorKey},
    epoch::{Epoch, recovery::Recovery},
};

use crate::{Committed, Fatal, Run};

/// The deterministic application whose blocks the validators agree on.
///
/// The engine calls these methods from its own threads. Long computations belong on a blocking
/// thread (`tokio::task::spawn_blocking` works here, except in the simulation); otherwise votes
/// wait for them. A future may be dropped at any await point when the engine no longer needs its
/// answer, with the exception of [`Application::commit`], which is dropped only if the node is
/// killed or a shutdown has waited for it in vain.
pub trait Application: Clone + Send + Sync + 'static {
    /// The block at height 0. Every validator must give the same, at every start: the signing
    /// domain of all votes contains its digest.
    fn genesis(&self) -> Block;

    /// The last block that [`Application::commit`] made durable, genesis before the first. Asked at the start, and
    /// after each [`Application::fetch`] while this validator takes no part in the agreement: then the application may
    /// have gone ahead by itself, to the end of a snapshot that it verified.
    fn committed(&self) -> Committed;

    /// Header of that block. Asked when that is.
    fn tip(&self) -> Header;

    /// The epochs from `number` on that are known from committed blocks, ascending. Epoch 0 always is; the newest is
    /// that of the block after the last committed one. Asked at the start, and after each block that ends an epoch.
    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>>;

    /// Asks other members for final blocks from height `from` on, over a way of the application's own. `None` if
    /// nobody has them, or nobody can be asked. What comes is checked before it is committed.
    ///
    /// Asked at the start, again and again while this validator has no seat, and when nothing has been committed for
    /// long although it has one.
    fn fetch(&self, from: u64) -> impl Future<Output = Option<Run>> + Send {
        let _ = from;
        std::future::ready(None)
    }

    /// A document that ends the newest epoch by hand, as [`Application::fetch`] came by it. Whether it holds is for
    /// [`Application::recover`] to say.
    fn recovery(&self) -> Option<Recovery> {
        None
    }

    /// Puts a document into force that ends the newest epoch by hand, if it holds; durable when it returns. False if it
    /// does not. From then on [`Application::epochs`] knows the next epoch. Asked only while this validator takes no
    /// part in the agreement.
    ///
    /// # Errors
    /// A fatal error stops the node: blocks are final here that the document leaves behind.
    fn recover(&self, recovery: Recovery) -> impl Future<Output = Result<bool, Fatal>> + Send {
        let _ = recovery;
        std::future::ready(Ok(false))
    }

    /// The block of [`Application::committed`] with a certificate of its own, if it has one.
    ///
    /// Asked only if the engine's store lacks that block: it was lost, or is older than the
    /// ledger. The engine then begins anew from here.
    fn checkpoint(&self) -> Option<(Block, CommitCertificate)>;

    /// Resolves when there is something to put into a block. The engine proposes as soon as it
    /// does, or at the heartbeat if it does not.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Builds a block on the tip of `branch`, at `now_ms` (milliseconds since the Unix epoch,
    /// greater than the parent's). `proposer` goes into the header. `None` skips the turn: the
    /// validators then wait for the leader timeout, so an empty block is the better answer.
    ///
    /// # Errors
    /// A fatal error stops the node before it votes.
    fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> impl Future<Output = Result<Option<Block>, Fatal>> + Send;

    /// Re-executes `block` on the tip of `branch` and says whether it is what its header claims.
    /// Parent, height, timestamp, proposer and the transactions root have been checked. `false`
    /// is final: it must never stand for data that is missing here; in that case stay pending.
    ///
    /// # Errors
    /// A fatal error stops the node before it votes.
    fn verify(
        &self,
        block: Arc<Block>,
        branch: Branch,
    ) -> impl Future<Output = Result<bool, Fatal>> + Send;

    /// Makes a final block part of the ledger; durable when it returns.
    ///
    /// Called in order of height, at least once: after a restart the last blocks may come again
    /// and must change nothing. `certificate` finalizes the block or a descendant of it, see
    /// [`CommitCertificate::block`].
    ///
    /// # Errors
    /// A fatal error stops the node; the block is delivered again at the next start.
    fn commit(
        &self,
        block: Arc<Block>,
        certificate: CommitCertificate,
    ) -> impl Future<Output = Result<(), Fatal>> + Send;

    /// Takes a message that another validator sent with [`crate::Gossip`]. Must return at once: the next message
    /// waits for it. The connection says who sent it; what it says is for the application to judge.
    fn heard(&self, from: ValidatorKey, message: Bytes) {
        let _ = (from, message);
    }
}

/// The chain of blocks that a proposal stands on, down to what is already committed.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The parent of the proposal.
    pub parent: Arc<Block>,
    /// Ancestors of the parent that were not committed when the question was asked, oldest first.
    /// Whoever lacks their states, as after a restart, re-executes them in this order, then the
    /// parent.
    pub older: Vec<Arc<Block>>,
}
