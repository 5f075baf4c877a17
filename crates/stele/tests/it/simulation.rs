//! The real chain in the seeded simulation: consortia whose members crash, are cut off from each other, lose messages,
//! say nothing, propose invalid blocks, contradict themselves or tell some one thing and others another, and whose
//! validators change by vote meanwhile; and whose custodians decide who reads ([`custodians`]). `STELE_SIM_SEEDS` says how many seeds, 40 by default (the test command runs 1,000),
//! and `STELE_SIM_FROM` the first; `cargo xtask sim --seeds N --from S` does it longer. What fails names its seed, which
//! replays it.

mod custodians;
mod lost;
mod witness;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_primitives::{B256, TxKind};
use alloy_sol_types::{SolCall, SolEvent as _, SolValue as _};
use stele_chain::{
    Chain, Committed as ChainCommitted, Genesis, Organization, PoolLimits, Seat, state::State,
};
use stele_consensus::{
    Application, Branch, Committed, Fatal, Run,
    sim::{CHAIN_ID, Crashes, Event, Simulation},
};
use stele_core::{
    abi::governance::IGovernance::{Proposed, proposeCall, voteCall},
    account::{AccountKey, UnsignedCall},
    block::{Block, Header, Validator},
    certificate::{CommitCertificate, ValidatorKey},
    crypto::Secret32,
    epoch::{Epoch, recovery::Recovery},
    id::GOVERNANCE,
};

use crate::{faults::number, random::Random};
use custodians::{BOUND_MS, Custodian, Fault, Story};
use witness::{Counts, Followed, World};

/// Blocks that every member has to reach.
const BLOCKS: u64 = 20;
/// The same where validators change, which takes 33 to 64 blocks.
const BLOCKS_CHANGING: u64 = 110;
/// Between two wakes of a custodian.
const PAUSE: Duration = Duration::from_millis(100);
/// Transactions that each member's organisation sends after each start.
const SENT: u64 = 12;

/// What survives a crash: final blocks with their certificates, and what ended an epoch by hand.
#[derive(Default)]
struct Disk(Vec<(Arc<Block>, Vec<u8>)>, Option<Recovery>);

impl Disk {
    /// Executes everything again.
    fn replay(&self, genesis: &Genesis) -> (Chain, usize, Followed) {
        let chain =
            Chain::over(State::in_memory().unwrap(), genesis, PoolLimits::default()).unwrap();
        let recover = |chain: &Chain| {
            let (head, _) = chain.finalized();
            if let Some(ended) = self.1.as_ref().filter(|one| one.height == head.number) {
                chain.recover(ended).unwrap();
            }
        };
        let mut proposed = 0;
        let mut followed = Followed::default();
        for (block, certificate) in &self.0 {
            recover(&chain);
            let committed = chain.commit(block, certificate).unwrap();
            proposed += proposals(&committed).len();
            followed.follow(&committed);
        }
        recover(&chain);
        (chain, proposed, followed)
    }
}

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Honest,
    /// Proposes blocks whose state root is not theirs.
    Lies,
    /// Never proposes.
    Silent,
    /// Signs two proposals in every view, and votes for nothing as well.
    Conflicts,
    /// Runs two engines with one key: some hear of one block, the others of another.
    Twin,
}

/// A member over the real chain.
#[derive(Clone)]
struct Member {
    chain: Arc<Chain>,
    disk: Arc<Mutex<Disk>>,
    conduct: Conduct,
    /// Its place among the members.
    index: usize,
    /// Everybody's disk, from which one without a seat takes its blocks.
    all: Arc<Vec<Arc<Mutex<Disk>>>>,
    /// What its people agreed on.
    people: Arc<lost::People>,
    followed: Arc<Mutex<Followed>>,
    /// How far its clock is off.
    skew_ms: i64,
}

/// A validator gets or gives up its seat: proposed by the first member, voted for by all others.
#[derive(Clone, Copy, Debug)]
struct Change {
    validator: usize,
    seated: bool,
}

fn key(index: usize) -> AccountKey {
    let byte = u8::try_from(index + 1).unwrap();
    AccountKey::new(Secret32::new([byte; 32])).unwrap()
}

/// The first `seated` of the members validate.
fn genesis(simulation: &Simulation, seated: usize) -> Genesis {
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
            .take(seated)
            .enumerate()
            .map(|(index, validator)| Seat {
                key: B256::from(*validator.as_bytes()),
                organization: key(index).address(),
            })
            .collect(),
        parameters: [("staleness_ms".into(), BOUND_MS)].into(),
        deployers: Vec::new(),
        alloc: Default::default(),
    }
}

impl Member {
    /// Starts over what survived on disk `number`: everything else is executed again.
    fn start(
        genesis: &Genesis,
        all: &Arc<Vec<Arc<Mutex<Disk>>>>,
        number: usize,
        index: usize,
        conduct: Conduct,
        changes: &[(Change, B256)],
        people: &Arc<lost::People>,
    ) -> Self {
        let disk = Arc::clone(&all[number]);
        let (chain, proposed, followed) = disk.lock().unwrap().replay(genesis);
        let sender = key(index);
        let first = chain.pending_nonce(sender.address()).unwrap();
        for nonce in first..first + SENT {
            let signed = sender.sign(UnsignedCall {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 50_000,
                to: TxKind::Call(sender.address()),
                // Twins have different things to say.
                input: vec![1; number / all.len().div_ceil(2)].into(),
            });
            chain.submit(signed.unwrap()).unwrap();
        }
        let member = Self {
            chain: Arc::new(chain),
            disk,
            conduct,
            index,
            all: Arc::clone(all),
            people: Arc::clone(people),
            followed: Arc::new(Mutex::new(followed)),
            skew_ms: 0,
        };
        if index == 0 && proposed == 0 {
            for (change, validator) in changes {
                let organization = key(change.validator).address();
                let payload = (*validator, organization, change.seated).abi_encode_params();
                member.govern(&proposeCall {
                    kind: 6,
                    payload: payload.into(),
                });
            }
        }
        for id in 1..=proposed {
            member.vote(u32::try_from(id).unwrap());
        }
        member
    }

    /// Sends a call of Governance.
    fn govern<C: SolCall>(&self, call: &C) {
        let sender = key(self.index);
        let signed = sender.sign(UnsignedCall {
            chain_id: CHAIN_ID,
            nonce: self.chain.pending_nonce(sender.address()).unwrap(),
            gas_limit: 2_000_000,
            to: TxKind::Call(GOVERNANCE),
            input: call.abi_encode().into(),
        });
        // A pool that is full takes no vote: then the others decide, or nobody.
        drop(self.chain.submit(signed.unwrap()));
    }

    fn vote(&self, id: u32) {
        if self.index != 0 {
            self.govern(&voteCall { id, support: true });
        }
    }
}

/// Proposals that a block brought.
fn proposals(committed: &ChainCommitted) -> Vec<u32> {
    let ChainCommitted::New { receipts, .. } = committed else {
        return Vec::new();
    };
    let logs = receipts.iter().flat_map(|receipt| &receipt.logs);
    logs.filter(|log| log.address == GOVERNANCE)
        .filter_map(|log| Proposed::decode_log_data(&log.data).ok())
        .map(|event| event.id)
        .collect()
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

    fn tip(&self) -> Header {
        self.chain.finalized().0
    }

    fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        self.chain.epochs(number)
    }

    async fn fetch(&self, from: u64) -> Option<Run> {
        // Only one without a seat may look at another's disk: validators talk over the network.
        let seats = self.chain.epoch();
        let is_mine = |seat: &Validator| seat.organization == key(self.index).address();
        let is_seated = seats.validators().iter().any(is_mine);
        if is_seated && self.conduct != Conduct::Conflicts {
            return None;
        }
        let from = usize::try_from(from).ok()?;
        for disk in self.all.iter() {
            let mut blocks = Vec::new();
            for (block, certificate) in disk.lock().unwrap().0.iter().skip(from - 1) {
                let certificate = CommitCertificate::decode(certificate).ok()?;
                blocks.push(Block::clone(block));
                if certificate.block == block.hash() {
                    return Some(Run {
                        blocks,
                        certificate,
                    });
                }
            }
        }
        None
    }

    fn recovery(&self) -> Option<Recovery> {
        let ended = self.people.document()?;
        self.chain.concerns(&ended).then_some(ended)
    }

    async fn recover(&self, recovery: Recovery) -> Result<bool, Fatal> {
        match self.chain.recover(&recovery) {
            Ok(_) => {
                self.disk.lock().unwrap().1 = Some(recovery);
                Ok(true)
            }
            // A node stops here and says so. The simulation would take that for a failure, so this one just stands still.
            Err(refused) if refused.is_left_behind() => {
                self.people.told(self.index);
                std::future::pending().await
            }
            Err(refused) => Err(Fatal::new(refused)),
        }
    }

    fn checkpoint(&self) -> Option<(Block, CommitCertificate)> {
        let disk = self.disk.lock().unwrap();
        let (block, certificate) = disk.0.last()?;
        let certificate = CommitCertificate::decode(certificate).ok()?;
        (certificate.block == block.hash()).then(|| (Block::clone(block), certificate))
    }

    async fn ready(&self) {
        if !self.chain.has_work() && !self.chain.validators_change() {
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
        let now_ms = now_ms.saturating_add_signed(self.skew_ms);
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
        let committed = self
            .chain
            .commit(&block, &certificate)
            .map_err(Fatal::new)?;
        for id in proposals(&committed) {
            self.vote(id);
        }
        if let ChainCommitted::New { .. } = committed {
            self.followed.lock().unwrap().follow(&committed);
            self.disk.lock().unwrap().0.push((block, certificate));
        }
        Ok(())
    }
}

/// What a seed does to its consortium.
struct Scenario {
    simulation: Simulation,
    conduct: Vec<Conduct>,
    /// Who validates from the start: the first so many.
    seated: usize,
    changes: Vec<Change>,
    story: Story,
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
        let kinds = [
            Conduct::Lies,
            Conduct::Silent,
            Conduct::Conflicts,
            Conduct::Twin,
        ];
        let kind = kinds[usize::try_from(random.below(4)).unwrap()];
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
    let mut scenario = Scenario {
        simulation,
        conduct,
        seated: count,
        changes: Vec::new(),
        // Drawn below, by choices of its own.
        story: Story::cut_off(count, None),
    };
    if random.below(4) == 0 {
        change_validators(&mut scenario, &mut random);
    }
    let mut random = Random::new(seed ^ 0x57a1e);
    // What a silent or a lying member is asked to propose never becomes final.
    let is_honest = |one: &Conduct| *one == Conduct::Honest;
    let home = scenario.conduct.iter().position(is_honest).unwrap();
    let story = Story::new(count, home, &mut random);
    if random.below(3) == 0 {
        // The grantee and a custodian are cut off from all others for longer than a release may wait for news.
        let side = 1 << story.grantee | 1 << story.custodians[1];
        let begins = Duration::from_millis(1_000 + random.below(1_500));
        let ends = begins + Duration::from_millis(BOUND_MS + random.below(4_000));
        if let Crashes::Schedule(events) = &mut scenario.simulation.crashes {
            events.push((begins, 0, Event::Split(side)));
            events.push((ends, 0, Event::Heal));
            events.sort_by_key(|event| event.0);
        }
    }
    scenario.story = story;
    scenario
}

/// Seven honest members; one that was granted and a custodian are cut off from the others while the patient revokes.
fn cut_off(seed: u64, fault: Option<Fault>) -> Scenario {
    let members = 7_u8;
    let mut simulation = Simulation::new(members, seed);
    // More than there are before the cut, so that the run goes on until those cut off have caught up.
    simulation.blocks = 4 * BLOCKS;
    let story = Story::cut_off(members.into(), fault);
    let side = 1 << story.grantee | 1 << story.custodians[2];
    let at = Duration::from_millis;
    simulation.crashes = Crashes::Schedule(vec![
        (at(6_000), 0, Event::Split(side)),
        (at(16_000), 0, Event::Heal),
    ]);
    Scenario {
        simulation,
        conduct: vec![Conduct::Honest; members.into()],
        seated: members.into(),
        changes: Vec::new(),
        story,
    }
}

/// The last member joins, leaves, or joins while the one before it leaves. Whoever comes or goes is honest: of the
/// others fewer than a third are not, before and after.
fn change_validators(scenario: &mut Scenario, random: &mut Random) {
    let count = scenario.conduct.len();
    let last = count - 1;
    let seat = |validator, seated| Change { validator, seated };
    let (seated, changes) = match random.below(3) {
        0 => (last, vec![seat(last, true)]),
        1 => (count, vec![seat(last, false)]),
        _ => (last, vec![seat(last, true), seat(last - 1, false)]),
    };
    let faulty = seated.min(count - changes.len()).saturating_sub(1) / 3;
    let mut left = faulty;
    for (index, conduct) in scenario.conduct.iter_mut().enumerate() {
        if *conduct != Conduct::Honest && (left == 0 || index >= last - 1 || index == 0) {
            *conduct = Conduct::Honest;
        } else if *conduct != Conduct::Honest {
            left -= 1;
        }
    }
    scenario.simulation.blocks = BLOCKS_CHANGING;
    (scenario.seated, scenario.changes) = (seated, changes);
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    trace: String,
    /// Transactions that became final.
    transactions: usize,
    /// Changes of validators.
    epochs: u64,
    custodians: Counts,
}

/// Runs a seed.
fn run(seed: u64) -> Result<Done, String> {
    play(scenario(seed))
}

fn play(scenario: Scenario) -> Result<Done, String> {
    let Scenario {
        simulation,
        conduct,
        seated,
        changes,
        story,
    } = scenario;
    let seed = simulation.seed;
    let world = World::new(story, seed);
    let mut simulation = simulation;
    let behaves = &conduct;
    let who = |wanted| move |index: &usize| behaves[*index] == wanted;
    let members = conduct.len();
    simulation.conflicting = (0..members).filter(who(Conduct::Conflicts)).collect();
    simulation.twins = (0..members).filter(who(Conduct::Twin)).collect();
    let blocks = simulation.blocks;
    let genesis = genesis(&simulation, seated);
    let keys = simulation.validator_keys();
    let changes: Vec<_> = changes
        .into_iter()
        .map(|change| (change, B256::from(*keys[change.validator].as_bytes())))
        .collect();
    // A twin writes to a disk of its own.
    let disks: Arc<Vec<Arc<Mutex<Disk>>>> =
        Arc::new((0..2 * members).map(|_| Arc::default()).collect());
    let start = {
        let disks = Arc::clone(&disks);
        let world = Arc::clone(&world);
        let people = Arc::default();
        move |number: usize| {
            let index = number % members;
            let conduct = conduct[index];
            let mut member =
                Member::start(&genesis, &disks, number, index, conduct, &changes, &people);
            member.skew_ms = world.skew_ms(index);
            // The second engine of a twin stands for no custodian.
            let custodian = Custodian::new(index, &world, &member, number < members);
            (member, custodian)
        }
    };
    let outcome = simulation.run_beside(PAUSE, start)?;
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
    let is_reached = u64::try_from(longest.0.len()).is_ok_and(|reached| reached >= blocks);
    if !is_reached {
        return Err(format!("seed {seed}: it stopped at {}", longest.0.len()));
    }
    let transactions = longest.0.iter().map(|(block, _)| block.transactions.len());
    let custodians = world
        .check()
        .map_err(|problem| format!("seed {seed}: {problem}"))?;
    Ok(Done {
        custodians,
        trace: outcome.trace,
        transactions: transactions.sum(),
        epochs: longest.0.last().map_or(0, |(block, _)| block.header.epoch),
    })
}

/// NFR-CON, NFR-REL2, LIM-13: whatever crashes, is cut off, lies or is silent, below one third, and whoever joins or
/// leaves meanwhile: no two members differ in a block or a state root, no invalid block becomes final, nothing final is
/// lost, and the chain goes on. Custodians release to nobody whose grant ended longer ago than the staleness bound, to
/// nobody who shows another receipt than it anchored, and never without a receipt of their own.
#[test]
fn members_agree_whatever_the_seed_does() {
    let from = u64::try_from(number("STELE_SIM_FROM", 0)).unwrap();
    let seeds = u64::try_from(number("STELE_SIM_SEEDS", 40)).unwrap();
    let next = Arc::new(Mutex::new(from..from + seeds));
    let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, Into::into))
        .map(|_| {
            let next = Arc::clone(&next);
            std::thread::spawn(move || {
                let (mut failed, mut transactions, mut epochs) = (Vec::new(), 0, 0);
                let mut custodians = Counts::default();
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        return (failed, transactions, epochs, custodians);
                    };
                    match run(seed) {
                        Ok(done) => {
                            transactions += done.transactions;
                            epochs += done.epochs;
                            custodians = custodians.and(done.custodians);
                        }
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
    let epochs: u64 = done.iter().map(|one| one.2).sum();
    assert!(epochs > 0 || seeds < 20, "validators changed");
    let custodians = done
        .iter()
        .fold(Counts::default(), |all, one| all.and(one.3));
    let Counts {
        reads,
        refused,
        stale,
        unreceipted,
    } = custodians;
    assert!(
        seeds < 20 || (reads > 0 && refused > 0 && stale > 0 && unreceipted > 0),
        "everything that custodians decide happened: {custodians:?}"
    );
    println!(
        "{seeds} seeds from {from}: {transactions} transactions are final, validators changed {epochs} times, nobody \
         differs; {reads} reads, custodians refused {refused} times for want of consent, {stale} for old state, \
         {unreceipted} for a receipt"
    );
}

/// A seed replays: the same crashes, messages and blocks.
#[test]
fn a_seed_replays() {
    let first = run(7).unwrap();
    assert_eq!(first, run(7).unwrap());
    assert_ne!(first.trace, run(8).unwrap().trace);
}

/// Custodians that are cut off together with one who asks: they go on for the staleness bound and no longer, and what
/// they release without it, or without a look at the asker's anchored receipts, does not go unnoticed.
#[test]
fn what_custodians_leave_out_is_noticed() {
    for seed in 0..2 {
        let done = play(cut_off(seed, None)).unwrap();
        let counts = done.custodians;
        assert!(counts.reads > 0 && counts.stale > 0, "{counts:?}");
        let error = play(cut_off(seed, Some(Fault::NoBound))).unwrap_err();
        assert!(error.contains("without a live grant"), "{error}");
        let error = play(cut_off(seed, Some(Fault::NoSequence))).unwrap_err();
        assert!(error.contains("not the anchored one"), "{error}");
    }
}
