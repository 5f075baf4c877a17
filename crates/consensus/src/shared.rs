//! One type for every application: the engine, which is large, is compiled once with this crate instead of with each
//! program that starts it.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use stele_core::{
    block::{Block, Header},
    certificate::{CommitCertificate, ValidatorKey},
    epoch::{Epoch, recovery::Recovery},
};

use crate::{Application, Branch, Committed, Fatal, Run};

/// An [`Application`] behind a pointer. Its futures are boxed, which costs nothing beside executing a block.
#[derive(Clone)]
pub(crate) struct Shared(Arc<dyn Erased>);

impl Shared {
    pub(crate) fn new(application: impl Application) -> Self {
        Self(Arc::new(application))
    }
}

/// [`Application`] as a trait object wants it.
trait Erased: Send + Sync {
    fn genesis(&self) -> Block;
    fn committed(&self) -> Committed;
    fn tip(&self) -> Header;
    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>>;
    fn fetch(&self, from: u64) -> BoxFuture<'_, Option<Run>>;
    fn recovery(&self) -> Option<Recovery>;
    fn recover(&self, recovery: Recovery) -> BoxFuture<'_, Result<bool, Fatal>>;
    fn checkpoint(&self) -> Option<(Block, CommitCertificate)>;
    fn ready(&self) -> BoxFuture<'_, ()>;
    fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> BoxFuture<'_, Result<Option<Block>, Fatal>>;
    fn verify(&self, block: Arc<Block>, branch: Branch) -> BoxFuture<'_, Result<bool, Fatal>>;
    fn commit(
        &self,
        block: Arc<Block>,
        certificate: CommitCertificate,
    ) -> BoxFuture<'_, Result<(), Fatal>>;
    fn heard(&self, from: ValidatorKey, message: Bytes);
}

impl<A: Application> Erased for A {
    fn genesis(&self) -> Block {
        Application::genesis(self)
    }

    fn committed(&self) -> Committed {
        Application::committed(self)
    }

    fn tip(&self) -> Header {
        Application::tip(self)
    }

    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        Application::epochs(self, number)
    }

    fn fetch(&self, from: u64) -> BoxFuture<'_, Option<Run>> {
        Box::pin(Application::fetch(self, from))
    }

    fn recovery(&self) -> Option<Recovery> {
        Application::recovery(self)
    }

    fn recover(&self, recovery: Recovery) -> BoxFuture<'_, Result<bool, Fatal>> {
        Box::pin(Application::recover(self, recovery))
    }

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        Application::checkpoint(self)
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(Application::ready(self))
    }

    fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> BoxFuture<'_, Result<Option<Block>, Fatal>> {
        Box::pin(Application::propose(self, branch, proposer, now_ms))
    }

    fn verify(&self, block: Arc<Block>, branch: Branch) -> BoxFuture<'_, Result<bool, Fatal>> {
        Box::pin(Application::verify(self, block, branch))
    }

    fn commit(
        &self,
        block: Arc<Block>,
        certificate: CommitCertificate,
    ) -> BoxFuture<'_, Result<(), Fatal>> {
        Box::pin(Application::commit(self, block, certificate))
    }

    fn heard(&self, from: ValidatorKey, message: Bytes) {
        Application::heard(self, from, message);
    }
}

impl Application for Shared {
    fn genesis(&self) -> Block {
        self.0.genesis()
    }

    fn committed(&self) -> Committed {
        self.0.committed()
    }

    fn tip(&self) -> Header {
        self.0.tip()
    }

    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        self.0.epochs(number)
    }

    fn fetch(&self, from: u64) -> impl Future<Output = Option<Run>> + Send {
        self.0.fetch(from)
    }

    fn recovery(&self) -> Option<Recovery> {
        self.0.recovery()
    }

    fn recover(&self, recovery: Recovery) -> impl Future<Output = Result<bool, Fatal>> + Send {
        self.0.recover(recovery)
    }

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        self.0.checkpoint()
    }

    fn ready(&self) -> impl Future<Output = ()> + Send {
        self.0.ready()
    }

    fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> impl Future<Output = Result<Option<Block>, Fatal>> + Send {
        self.0.propose(branch, proposer, now_ms)
    }

    fn verify(
        &self,
        block: Arc<Block>,
        branch: Branch,
    ) -> impl Future<Output = Result<bool, Fatal>> + Send {
        self.0.verify(block, branch)
    }

    fn commit(
        &self,
        block: Arc<Block>,
        certificate: CommitCertificate,
    ) -> impl Future<Output = Result<(), Fatal>> + Send {
        self.0.commit(block, certificate)
    }

    fn heard(&self, from: ValidatorKey, message: Bytes) {
        self.0.heard(from, message);
    }
}
