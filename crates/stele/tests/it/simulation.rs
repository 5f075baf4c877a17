//! The real chain in the seeded simulation: consortia whose members crash, are cut off from each other, lose messages,
//! say nothing or propose invalid blocks. `STELE_SIM_SEEDS` says how many seeds, 40 by default, and `STELE_SIM_FROM` the
//! first; `cargo xtask sim --seeds N --from S` does it longer. What fails names its seed, which replays it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_primitives::{B256, Bytes, TxKind};
use stele_chain::{
    Chain, Committed as ChainCommitted, Genesis, Organization, PoolLimits, Seat, state::State,
};
use stele_consensus::{
    Application, Branch, Committed, Fatal,
    sim::{CHAIN_ID, Crashes, Event, Simulation},
};
use stele_core::{
    account::{AccountKey, UnsignedCall},
    block::Block,
    certificate::{CommitCertificate, ValidatorKey},
    crypto::Secret32,
};

use crate::{faults::number, random::Random};

/// Blocks that every member has to reach.
const BLOCKS: u64 = 20;
/// Transactions that each member's organisation sends after each start.
const SENT: u64 = 12;

/// What survives a crash: final blocks with their certificates.
#[derive(Default)]
struct Disk(Vec<(Arc<Block>, Vec<u8>)>);

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Honest,
    /// Proposes blocks whose state root is not theirs.
    Lies,
    /// Never proposes.
    Silent,
}

/// A member over the real chain.
#[derive(Clone)]
struct Member {
    chain: Arc<Chain>,
    disk: Arc<Mutex<Disk>>,
    conduct: Conduct,
}

fn key(index: usize) -> AccountKey {
    let byte = u8::try_from(index + 1).unwrap();
    AccountKey::new(Secret32::new([byte; 32])).unwrap()
}

fn genesis(simulation: &Simulation) -> Genesis {
    let keys = simulation.validator_keys();
    Genesis {
        chain_id: CHAIN_ID,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: 0,
        consortium: "simulated".into(),
        open: false,
        organizations: (0..keys.len())
            .map(|index| Organization {
                address: key(index).address(),
                kind: 1,
                endpoints_digest: B256::ZERO,
                keys_digest: B256::ZERO,
            })
            .collect(),
        validators: keys
            .iter()
            .enumerate()
            .map(|(index, validator)| Seat {
                key: B256::from(*validator.as_bytes()),
                organization: key(index).address(),
            })
            .collect(),
        parameters: Default::default(),
        deployers: Vec::new(),
        alloc: Default::default(),
    }
}

impl Member {
    /// Starts over what survived: everything else is executed again.
    fn start(genesis: &Genesis, disk: Arc<Mutex<Disk>>, index: usize, conduct: Conduct) -> Self {
        let chain =
            Chain::over(State::in_memory().unwrap(), genesis, PoolLimits::default()).unwrap();
        for (block, certificate) in &disk.lock().unwrap().0 {
            chain.commit(block, certificate).unwrap();
        }
        let sender = key(index);
        let first = chain.pending_nonce(sender.address()).unwrap();
        for nonce in first..first + SENT {
            let signed = sender.sign(UnsignedCall {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 50_000,
                to: TxKind::Call(sender.address()),
                input: Bytes::new(),
            });
            chain.submit(signed.unwrap()).unwrap();
        }
        Self {
            chain: Arc::new(chain),
            disk,
            conduct,
        }
    }
}

impl Application for Member {
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
        let disk = self.disk.lock().unwrap();
        let (block, certificate) = disk.0.last()?;
        let certificate = CommitCertificate::decode(certificate).ok()?;
        (certificate.block == block.hash()).then(|| (Block::clone(block), certificate))
    }

    async fn ready(&self) {
        if !self.chain.has_work() {
            std::future::pending::<()>().await;
        }
    }

    async fn propose(
        &self,
        branch: Branch,
        proposer: ValidatorKey,
        now_ms: u64,
    ) -> Result<Option<Block>, Fatal> {
        if self.conduct == Conduct::Silent {
            return Ok(None);
        }
        let proposer = B256::from(*proposer.as_bytes());
        let built = self
            .chain
            .propose(&branch.parent, &branch.older, proposer, now_ms, &|| true);
        let mut built = built.map_err(Fatal::new)?;
        if let (Some(block), Conduct::Lies) = (&mut built, self.conduct) {
            block.header.state_root = B256::repeat_byte(0xee);
        }
        Ok(built)
    }

    async fn verify(&self, block: Arc<Block>, branch: Branch) -> Result<bool, Fatal> {
        let mut ancestors = branch.older;
        ancestors.push(branch.parent);
        let verdict = self.chain.verify(&block, &ancestors).map_err(Fatal::new)?;
        Ok(verdict.is_valid())
    }

    async fn commit(&self, block: Arc<Block>, certificate: CommitCertificate) -> Result<(), Fatal> {
        let certificate = certificate.encode();
        if let ChainCommitted::New { .. } = self
            .chain
            .commit(&block, &certificate)
            .map_err(Fatal::new)?
        {
            self.disk.lock().unwrap().0.push((block, certificate));
        }
        Ok(())
    }
}

/// What a seed does to its consortium.
struct Scenario {
    simulation: Simulation,
    conduct: Vec<Conduct>,
}

fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let validators = [4, 4, 4, 5, 7][usize::try_from(random.below(5)).unwrap()];
    let mut simulation = Simulation::new(validators, seed);
    simulation.blocks = BLOCKS;
    simulation.latency_ms = 5 + random.below(60);
    simulation.jitter_ms = random.below(40);
    simulation.loss_permille = random.below(120);
    let count = usize::from(validators);
    let mut conduct = vec![Conduct::Honest; count];
    // Fewer than a third.
    for _ in 0..random.below(u64::from(validators).div_ceil(3)) {
        let kind = [Conduct::Lies, Conduct::Silent][usize::try_from(random.below(2)).unwrap()];
        conduct[usize::try_from(random.below(u64::from(validators))).unwrap()] = kind;
    }
    let mut events = Vec::new();
    let mut at = Duration::from_millis(200);
    for _ in 0..random.below(6) {
        at += Duration::from_millis(50 + random.below(2_500));
        let who = usize::try_from(random.below(u64::from(validators))).unwrap();
        let (begins, ends) = match random.below(3) {
            0 => (Event::Split(random.below(1 << validators)), Event::Heal),
            _ => (Event::Crash, Event::Restart),
        };
        events.push((at, who, begins));
        at += Duration::from_millis(50 + random.below(4_000));
        events.push((at, who, ends));
    }
    simulation.crashes = Crashes::Schedule(events);
    Scenario {
        simulation,
        conduct,
    }
}

/// Runs a seed and gives its trace and the number of transactions that became final.
fn run(seed: u64) -> Result<(String, usize), String> {
    let Scenario {
        simulation,
        conduct,
    } = scenario(seed);
    let genesis = genesis(&simulation);
    let disks: Vec<Arc<Mutex<Disk>>> = conduct.iter().map(|_| Arc::default()).collect();
    let start = {
        let disks = disks.clone();
        move |index: usize| {
            Member::start(&genesis, Arc::clone(&disks[index]), index, conduct[index])
        }
    };
    let outcome = simulation.run(start)?;
    let disks: Vec<_> = disks.iter().map(|disk| disk.lock().unwrap()).collect();
    let longest = disks.iter().max_by_key(|disk| disk.0.len()).unwrap();
    for disk in &disks {
        for ((block, _), (other, _)) in disk.0.iter().zip(&longest.0) {
            let height = block.header.number;
            if block.hash() != other.hash() {
                return Err(format!(
                    "seed {seed}: two members differ at height {height}"
                ));
            }
            if block.header.state_root == B256::repeat_byte(0xee) {
                return Err(format!(
                    "seed {seed}: an invalid block is final at {height}"
                ));
            }
        }
    }
    let is_reached = u64::try_from(longest.0.len()).is_ok_and(|reached| reached >= BLOCKS);
    if !is_reached {
        return Err(format!("seed {seed}: it stopped at {}", longest.0.len()));
    }
    let transactions = longest.0.iter().map(|(block, _)| block.transactions.len());
    Ok((outcome.trace, transactions.sum()))
}

/// NFR-CON, NFR-REL2, LIM-13: whatever crashes, is cut off, lies or is silent, below one third: no two members differ
/// in a block or a state root, no invalid block becomes final, nothing final is lost, and the chain goes on.
#[test]
fn members_agree_whatever_the_seed_does() {
    let from = u64::try_from(number("STELE_SIM_FROM", 0)).unwrap();
    let seeds = u64::try_from(number("STELE_SIM_SEEDS", 40)).unwrap();
    let next = Arc::new(Mutex::new(from..from + seeds));
    let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, Into::into))
        .map(|_| {
            let next = Arc::clone(&next);
            std::thread::spawn(move || {
                let (mut failed, mut transactions) = (Vec::new(), 0);
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        return (failed, transactions);
                    };
                    match run(seed) {
                        Ok((_, count)) => transactions += count,
                        Err(error) => failed.push(error),
                    }
                }
            })
        })
        .collect();
    let done: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    let failed: Vec<String> = done.iter().flat_map(|one| one.0.clone()).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds:\n{}",
        failed.len(),
        failed.join("\n")
    );
    let transactions: usize = done.iter().map(|one| one.1).sum();
    assert!(transactions > 0, "blocks with something in them");
    println!("{seeds} seeds from {from}: {transactions} transactions are final, nobody differs");
}

/// A seed replays: the same crashes, messages and blocks.
#[test]
fn a_seed_replays() {
    let first = run(7).unwrap();
    assert_eq!(first, run(7).unwrap());
    assert_ne!(first.0, run(8).unwrap().0);
}
