//! A small ledger: its state is a hash chain over its transactions, kept where a crash of the node
//! does not reach it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use stele_consensus::{Application, Branch, Committed, Fatal};
use stele_core::{
    block::{Block, Header, transactions_root},
    certificate::{CommitCertificate, ValidatorKey, ValidatorSet, namespace},
};
use tokio::sync::Notify;

pub(crate) const CHAIN_ID: u64 = 57831;

/// What survives a crash.
#[derive(Default)]
pub(crate) struct Disk {
    /// Blocks from height 1.
    pub(crate) chain: Vec<(Arc<Block>, CommitCertificate)>,
    /// Commits of blocks that were there already.
    pub(crate) repeated: u64,
}

/// Who said what.
type Heard = Vec<(ValidatorKey, Vec<u8>)>;

#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) disk: Arc<Mutex<Disk>>,
    validators: ValidatorSet,
    queue: Arc<Queue>,
    /// Height whose commit fails; 0 for none.
    pub(crate) fail_at: Arc<AtomicU64>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Vec<u8>>>,
    added: Notify,
    /// There is always something to propose.
    busy: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(validators: ValidatorSet) -> Self {
        Self::over(Arc::default(), validators)
    }

    /// A ledger after a restart: the disk is there, everything else is not.
    pub(crate) fn over(disk: Arc<Mutex<Disk>>, validators: ValidatorSet) -> Self {
        Self {
            disk,
            validators,
            queue: Arc::default(),
            fail_at: Arc::default(),
            heard: Arc::default(),
        }
    }

    pub(crate) fn busy(self) -> Self {
        self.queue.busy.store(true, Ordering::Relaxed);
        self
    }

    pub(crate) fn submit(&self, transaction: &[u8]) {
        self.queue
            .waiting
            .lock()
            .unwrap()
            .push(transaction.to_vec());
        self.queue.added.notify_one();
    }

    /// What other validators said, and who.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn hashes(&self) -> Vec<[u8; 32]> {
        self.disk
            .lock()
            .unwrap()
            .chain
            .iter()
            .map(|(block, _)| block.hash().0)
            .collect()
    }

    fn finish(&self, parent: &Header, mut block: Block) -> Block {
        block.header.transactions_root = transactions_root(&block.transactions);
        block.header.state_root = state_root(parent, &block).into();
        block
    }
}

impl Application for Ledger {
    fn genesis(&self) -> Block {
        genesis()
    }

    fn committed(&self) -> Committed {
        match self.disk.lock().unwrap().chain.last() {
            Some((block, _)) => Committed {
                height: block.header.number,
                digest: block.hash().0,
            },
            None => Committed {
                height: 0,
                digest: self.genesis().hash().0,
            },
        }
    }

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        let disk = self.disk.lock().unwrap();
        disk.chain
            .last()
            .map(|(block, certificate)| (Block::clone(block), certificate.clone()))
    }

    fn heard(&self, from: ValidatorKey, message: bytes::Bytes) {
        self.heard.lock().unwrap().push((from, message.to_vec()));
    }

    async fn ready(&self) {
        while !self.queue.busy.load(Ordering::Relaxed)
            && self.queue.waiting.lock().unwrap().is_empty()
        {
            self.queue.added.notified().await;
        }
    }

    async fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> Result<Option<Block>, Fatal> {
        self.check(&branch);
        let parent = &branch.parent.header;
        let waiting = std::mem::take(&mut *self.queue.waiting.lock().unwrap());
        let header = Header {
            parent_hash: parent.hash(),
            number: parent.number + 1,
            timestamp_ms: now_ms,
            proposer: (*proposer.as_bytes()).into(),
            ..Header::default()
        };
        let transactions = waiting.into_iter().map(Into::into).collect();
        Ok(Some(self.finish(
            parent,
            Block {
                header,
                transactions,
            },
        )))
    }

    async fn verify(&self, block: Arc<Block>, branch: Branch) -> Result<bool, Fatal> {
        self.check(&branch);
        Ok(block.header.state_root.0 == state_root(&branch.parent.header, &block))
    }

    async fn commit(&self, block: Arc<Block>, certificate: CommitCertificate) -> Result<(), Fatal> {
        if self.fail_at.load(Ordering::Relaxed) == block.header.number {
            return Err(Fatal::new("the disk is full"));
        }
        let namespace = namespace(CHAIN_ID, &self.genesis().hash());
        let certified = certificate.block;
        certificate
            .verify(&certified, &self.validators, &namespace)
            .map_err(Fatal::new)?;
        let mut disk = self.disk.lock().unwrap();
        let height = usize::try_from(block.header.number).unwrap();
        match disk.chain.get(height - 1) {
            Some((known, _)) if known.hash() == block.hash() => disk.repeated += 1,
            Some(_) => return Err(Fatal::new("another block was final at this height")),
            None if disk.chain.len() == height - 1 => disk.chain.push((block, certificate)),
            None => return Err(Fatal::new("a block is missing before this one")),
        }
        Ok(())
    }
}

impl Ledger {
    /// A branch must reach from a committed block to the parent without a gap.
    fn check(&self, branch: &Branch) {
        let disk = self.disk.lock().unwrap();
        let committed: BTreeSet<_> = disk
            .chain
            .iter()
            .map(|(block, _)| block.hash())
            .chain([self.genesis().hash()])
            .collect();
        let mut below = None;
        for block in branch.older.iter().chain([&branch.parent]) {
            match below {
                None => assert!(
                    committed.contains(&block.hash())
                        || committed.contains(&block.header.parent_hash)
                ),
                Some(hash) => assert_eq!(block.header.parent_hash, hash),
            }
            below = Some(block.hash());
        }
    }
}

pub(crate) fn genesis() -> Block {
    let header = Header {
        transactions_root: transactions_root(&[]),
        ..Header::default()
    };
    Block {
        header,
        transactions: Vec::new(),
    }
}

/// Commits to everything that was executed up to and with this block.
fn state_root(parent: &Header, block: &Block) -> [u8; 32] {
    let parts = [parent.state_root, transactions_root(&block.transactions)];
    transactions_root(&parts.map(|part| part.to_vec().into())).0
}
