//! A small ledger: its state is a hash chain over its transactions, kept where a crash of the node
//! does not reach it. A transaction `seats 0 1 4` decides that the validators with these numbers have seats.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use stele_consensus::{Application, Branch, Committed, Fatal, Run, SignerSeed};
use stele_core::{
    block::{Block, Header, Validator, transactions_root, validators_hash},
    certificate::{CommitCertificate, ValidatorKey, ValidatorSet, namespace},
    epoch::{Epoch, is_turn},
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
    /// The first validators.
    validators: Vec<Validator>,
    /// Whom it believes to be the first validators, if it lies to itself.
    claimed: Option<Vec<Validator>>,
    /// Where blocks are fetched from.
    others: Vec<Arc<Mutex<Disk>>>,
    queue: Arc<Queue>,
    /// Height whose commit fails; 0 for none.
    pub(crate) fail_at: Arc<AtomicU64>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Vec<u8>>>,
    added: Notify,
    /// Transactions for later, with the height above which they are proposed.
    later: Mutex<Vec<(u64, Vec<u8>)>>,
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
            validators: seats(Vec::from(validators)),
            claimed: None,
            others: Vec::new(),
            queue: Arc::default(),
            fail_at: Arc::default(),
            heard: Arc::default(),
        }
    }

    /// Puts a transaction into the first block of its own above a height.
    pub(crate) fn decide(&self, height: u64, transaction: &[u8]) {
        let later = (height, transaction.to_vec());
        self.queue.later.lock().unwrap().push(later);
    }

    /// It takes these for the validators, whatever its genesis says.
    pub(crate) fn claiming(mut self, validators: &ValidatorSet) -> Self {
        self.claimed = Some(seats(validators.keys().to_vec()));
        self
    }

    /// It can fetch final blocks from these.
    pub(crate) fn beside(mut self, others: Vec<Arc<Mutex<Disk>>>) -> Self {
        self.others = others;
        self
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

impl Ledger {
    /// The epochs that some blocks from height 1 on make known, and the set that the last of them leaves decided.
    fn history<'a>(
        &self,
        blocks: impl Iterator<Item = &'a Block>,
    ) -> (Vec<Arc<Epoch>>, Vec<Validator>) {
        let genesis = self.genesis().hash();
        let mut decided = self.validators.clone();
        let claimed = self.claimed.clone().unwrap_or_else(|| decided.clone());
        let first = Epoch::new(0, 0, genesis, claimed).unwrap();
        let mut epochs = vec![Arc::new(first)];
        let mut known = vec![decided.clone()];
        for block in blocks {
            let header = &block.header;
            for transaction in &block.transactions {
                if let Some(numbers) = transaction.strip_prefix(b"seats ") {
                    decided = decision(numbers);
                    known.push(decided.clone());
                }
            }
            let current = Arc::clone(epochs.last().unwrap());
            if current.last(header) == Some(header.number) {
                let announced = known
                    .iter()
                    .find(|set| validators_hash(set) == header.next_validators_hash);
                let (number, first) = (current.number() + 1, header.number + 1);
                let next = Epoch::new(number, first, block.hash(), announced.unwrap().clone());
                epochs.push(Arc::new(next.unwrap()));
            }
        }
        (epochs, decided)
    }

    /// Epoch and announced set of the block on a branch.
    fn turn(&self, branch: &Branch) -> Header {
        let disk = self.disk.lock().unwrap();
        let tip = disk.chain.len() as u64;
        let above = branch.older.iter().chain([&branch.parent]);
        let above = above.filter(|block| block.header.number > tip);
        let blocks = disk.chain.iter().map(|(block, _)| block).chain(above);
        let below = blocks
            .filter(|block| block.header.number <= branch.parent.header.number)
            .map(|block| &**block);
        let (_, decided) = self.history(below);
        let parent = &branch.parent.header;
        let (epochs, _) = self.history(disk.chain.iter().map(|(block, _)| &**block));
        let next_validators_hash = if is_turn(parent.number) {
            validators_hash(&decided)
        } else {
            parent.next_validators_hash
        };
        Header {
            epoch: epochs.last().unwrap().number(),
            next_validators_hash,
            ..Header::default()
        }
    }
}

/// The seats of some validators.
fn seats(keys: Vec<ValidatorKey>) -> Vec<Validator> {
    let seat = |key: ValidatorKey| Validator {
        key: (*key.as_bytes()).into(),
        organization: Default::default(),
    };
    keys.into_iter().map(seat).collect()
}

fn decision(numbers: &[u8]) -> Vec<Validator> {
    let numbers = std::str::from_utf8(numbers).unwrap().split(' ');
    let keys = numbers.map(|number| {
        let byte: u8 = number.parse().unwrap();
        SignerSeed::new([byte; 32].into()).public_key()
    });
    seats(keys.collect())
}

impl Application for Ledger {
    fn genesis(&self) -> Block {
        let header = Header {
            transactions_root: transactions_root(&[]),
            next_validators_hash: validators_hash(&self.validators),
            ..Header::default()
        };
        Block {
            header,
            transactions: Vec::new(),
        }
    }

    fn tip(&self) -> Header {
        let disk = self.disk.lock().unwrap();
        let last = disk.chain.last().map(|(block, _)| block.header.clone());
        last.unwrap_or_else(|| self.genesis().header)
    }

    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        let disk = self.disk.lock().unwrap();
        let (epochs, _) = self.history(disk.chain.iter().map(|(block, _)| &**block));
        let from = epochs.into_iter().filter(|epoch| epoch.number() >= number);
        from.collect()
    }

    async fn fetch(&self, from: u64) -> Option<Run> {
        for other in &self.others {
            let disk = other.lock().unwrap();
            let mut blocks = Vec::new();
            for (block, certificate) in disk.chain.iter().skip(usize::try_from(from).unwrap() - 1) {
                blocks.push(Block::clone(block));
                if certificate.block == block.hash() {
                    let certificate = certificate.clone();
                    return Some(Run {
                        blocks,
                        certificate,
                    });
                }
            }
        }
        None
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
        let mut waiting = std::mem::take(&mut *self.queue.waiting.lock().unwrap());
        let tip = self.committed().height;
        let known = |transaction: &Vec<u8>| {
            let disk = self.disk.lock().unwrap();
            let mut blocks = disk.chain.iter().map(|(block, _)| block);
            blocks.any(|block| block.transactions.iter().any(|one| one == transaction))
        };
        for (height, transaction) in self.queue.later.lock().unwrap().iter() {
            // Proposed again until it is final, like a transaction of a pool.
            if tip > *height && !known(transaction) {
                waiting.push(transaction.clone());
            }
        }
        let header = Header {
            parent_hash: parent.hash(),
            number: parent.number + 1,
            timestamp_ms: now_ms,
            proposer: (*proposer.as_bytes()).into(),
            ..self.turn(&branch)
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
        let turn = self.turn(&branch);
        let header = &block.header;
        Ok(
            header.state_root.0 == state_root(&branch.parent.header, &block)
                && header.epoch == turn.epoch
                && header.next_validators_hash == turn.next_validators_hash,
        )
    }

    async fn commit(&self, block: Arc<Block>, certificate: CommitCertificate) -> Result<(), Fatal> {
        if self.fail_at.load(Ordering::Relaxed) == block.header.number {
            return Err(Fatal::new("the disk is full"));
        }
        let namespace = namespace(CHAIN_ID, &self.genesis().hash());
        let certified = certificate.block;
        let epochs = self.epochs(0);
        let height = block.header.number;
        let epoch = epochs
            .iter()
            .rfind(|epoch| epoch.first() <= height)
            .unwrap();
        certificate
            .verify_in(epoch.number(), &certified, epoch.set(), &namespace)
            .map_err(Fatal::new)?;
        assert_eq!(block.header.epoch, epoch.number());
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

/// Commits to everything that was executed up to and with this block.
fn state_root(parent: &Header, block: &Block) -> [u8; 32] {
    let parts = [parent.state_root, transactions_root(&block.transactions)];
    transactions_root(&parts.map(|part| part.to_vec().into())).0
}
