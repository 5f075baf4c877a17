//! More than a third of the validators are lost for good, and the others go on by a document that they sign. The lost ones
//! may come back later, together, with whatever they had.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use alloy_primitives::{B256, B512};
use aws_lc_rs::signature::Ed25519KeyPair;
use stele_chain::Genesis;
use stele_consensus::{
    SignerSeed,
    sim::{CHAIN_ID, Crashes, Event, Simulation},
};
use stele_core::{
    block::Validator,
    certificate::{CommitCertificate, ValidatorSignature, namespace},
    epoch::{self, recovery::Recovery},
};

use super::{Conduct, Disk, Member, genesis, key};
use crate::{faults::number, random::Random};

/// Blocks that everybody who goes on has to reach: beyond the next heights at which validators can change, where the lost
/// ones must not get their seats back.
const BLOCKS: u64 = 80;

/// What the people behind the members know and agree on.
#[derive(Default)]
pub(super) struct People(Mutex<Known>);

#[derive(Default)]
struct Known {
    document: Option<Recovery>,
    /// Who came back with final blocks that the others left behind, and was told so.
    told: BTreeSet<usize>,
    /// How often each member was started.
    starts: Vec<usize>,
    /// Blocks that a member had when it was lost.
    had: Vec<Vec<B256>>,
    /// Blocks that those who went on had when they signed.
    kept: Vec<B256>,
}

impl People {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    pub(super) fn document(&self) -> Option<Recovery> {
        self.known().document.clone()
    }

    pub(super) fn told(&self, member: usize) {
        self.known().told.insert(member);
    }
}

/// What a seed does.
#[derive(Clone)]
struct Loss {
    simulation: Simulation,
    /// Who validates at first: the first so many. One more follows.
    seated: usize,
    lost: Vec<usize>,
    /// Whether the one that follows gets a seat with the document.
    seats_newcomer: bool,
    /// Whether one that was lost comes back with a final block that nobody else has.
    hides: bool,
    /// At which of its starts those who are left have signed.
    signs_at_start: usize,
}

fn loss(seed: u64) -> Loss {
    let mut random = Random::new(seed ^ 0x5eed);
    let (seated, count) = [(5, 2), (6, 2), (7, 3)][usize::try_from(random.below(3)).unwrap()];
    let mut simulation = Simulation::new(u8::try_from(seated + 1).unwrap(), seed);
    simulation.blocks = BLOCKS;
    simulation.latency_ms = 5 + random.below(60);
    simulation.jitter_ms = random.below(40);
    simulation.loss_permille = random.below(100);
    let mut left: Vec<usize> = (0..seated).collect();
    let lost: Vec<usize> = (0..count)
        .map(|_| left.remove(usize::try_from(random.below(left.len() as u64)).unwrap()))
        .collect();
    let mut events = Vec::new();
    let mut at = Duration::from_millis(3_000 + random.below(6_000));
    // The others fail first, for a moment: what they voted for may become final at the lost ones only.
    let all_fail = random.below(2) == 0;
    if all_fail {
        for member in &left {
            events.push((at, *member, Event::Crash));
            events.push((at + Duration::from_millis(2_500), *member, Event::Restart));
        }
        at += Duration::from_millis(200);
    }
    for member in &lost {
        events.push((at, *member, Event::Crash));
        at += Duration::from_millis(random.below(700));
    }
    // Nothing becomes final any more; people telephone, and stop what is left.
    at += Duration::from_secs(10);
    for member in &left {
        events.push((at, *member, Event::Crash));
    }
    at += Duration::from_secs(1);
    for member in &left {
        events.push((at, *member, Event::Restart));
        at += Duration::from_millis(random.below(300));
    }
    // The run ends only when everybody is up again: the lost ones soon, or long after.
    at += match random.below(3) {
        0 => Duration::from_secs(60),
        _ => Duration::from_millis(random.below(9_000)),
    };
    for member in &lost {
        events.push((at, *member, Event::Restart));
    }
    events.sort_by_key(|event: &(Duration, usize, Event)| event.0);
    simulation.crashes = Crashes::Schedule(events);
    simulation.abandoned.clone_from(&lost);
    Loss {
        signs_at_start: if all_fail { 3 } else { 2 },
        simulation,
        seated,
        lost,
        seats_newcomer: random.below(2) == 0,
        hides: random.below(2) == 0,
    }
}

impl Loss {
    /// What people do before they start a member. All who are left are down when the first of them starts again.
    fn before_start(
        &self,
        genesis: &Genesis,
        people: &People,
        disks: &[Arc<Mutex<Disk>>],
        index: usize,
    ) {
        let mut known = people.known();
        let members = self.seated + 1;
        known.starts.resize(members, 0);
        known.had.resize(members, Vec::new());
        known.starts[index] += 1;
        let is_lost = self.lost.contains(&index);
        if is_lost && known.starts[index] > 1 {
            if self.hides && self.lost.first() == Some(&index) {
                self.hide_a_block(genesis, disks, index);
            }
            known.had[index] = hashes(&disks[index].lock().unwrap());
        }
        let signs = known.starts[index] >= self.signs_at_start;
        if signs && !is_lost && known.document.is_none() {
            let signed = self.sign(genesis, disks);
            known.kept = hashes(&disks[index].lock().unwrap());
            known.document = Some(signed);
        }
    }

    /// What the others voted for in the moment of the loss has become final at this member, and nowhere else.
    fn hide_a_block(&self, genesis: &Genesis, disks: &[Arc<Mutex<Disk>>], index: usize) {
        let kept = disks[survivor(self)].lock().unwrap();
        let base = usize::try_from(kept.1.as_ref().unwrap().height).unwrap();
        let mut disk = disks[index].lock().unwrap();
        let missing = kept.0.iter().take(base).skip(disk.0.len());
        disk.0.extend(missing.cloned());
        let (chain, ..) = disk.replay(genesis);
        let (head, _) = chain.finalized();
        let parent = Arc::clone(&disk.0.last().unwrap().0);
        let ended = chain.epoch();
        let proposer = ended.validators()[0].key;
        let block = chain.propose(&parent, &[], proposer, head.timestamp_ms + 1, &|| true);
        let block = block.unwrap().unwrap();
        let mut certificate = CommitCertificate {
            epoch: ended.number(),
            view: 100_000,
            parent_view: 99_999,
            block: block.hash(),
            signatures: Vec::new(),
        };
        let domain = namespace(CHAIN_ID, &chain.genesis_block().hash());
        let bytes = certificate.signed_bytes(&domain);
        for (validator, key) in (0_u16..).zip(ended.set().keys()).take(ended.set().quorum()) {
            let member = (0..self.seated).find(|member| signer(*member).public_key() == *key);
            let seed = [u8::try_from(member.unwrap()).unwrap(); 32];
            let signature = Ed25519KeyPair::from_seed_unchecked(&seed)
                .unwrap()
                .sign(&bytes);
            certificate.signatures.push(ValidatorSignature {
                validator,
                signature: B512::from_slice(signature.as_ref()),
            });
        }
        disk.0.push((Arc::new(block), certificate.encode()));
    }

    /// Those who are left bring each other to the same block, sign, and put the document into force.
    fn sign(&self, genesis: &Genesis, disks: &[Arc<Mutex<Disk>>]) -> Recovery {
        let left: Vec<usize> = (0..self.seated)
            .filter(|member| !self.lost.contains(member))
            .collect();
        let length = |member: &usize| disks[*member].lock().unwrap().0.len();
        let furthest = left.iter().copied().max_by_key(length).unwrap();
        let all = disks[furthest].lock().unwrap().0.clone();
        let (chain, ..) = disks[furthest].lock().unwrap().replay(genesis);
        let ended = chain.epoch();
        let is_lost = |seat: &Validator| {
            let lost = self.lost.iter();
            lost.map(|member| key(*member).address())
                .any(|account| account == seat.organization)
        };
        let mut validators: Vec<Validator> = ended.validators().to_vec();
        validators.retain(|seat| !is_lost(seat));
        if self.seats_newcomer {
            validators.push(Validator {
                key: B256::from(*signer(self.seated).public_key().as_bytes()),
                organization: key(self.seated).address(),
            });
        }
        let mut recovery = chain.draft_recovery(validators).unwrap();
        for member in &left {
            let own = signer(*member).public_key();
            let position = ended.set().keys().iter().position(|key| *key == own);
            assert!(
                chain.recover(&recovery).is_err(),
                "in force with {} signatures",
                recovery.signatures.len()
            );
            recovery.add(ValidatorSignature {
                validator: u16::try_from(position.unwrap()).unwrap(),
                signature: B512::from(signer(*member).sign_recovery(&recovery)),
            });
            if recovery.signatures.len() == ended.set().majority() {
                break;
            }
        }
        for member in left {
            let mut disk = disks[member].lock().unwrap();
            let missing = all.iter().skip(disk.0.len()).cloned().collect::<Vec<_>>();
            disk.0.extend(missing);
            disk.1 = Some(recovery.clone());
        }
        recovery
    }
}

fn signer(index: usize) -> SignerSeed {
    SignerSeed::new([u8::try_from(index).unwrap(); 32].into())
}

fn hashes(disk: &Disk) -> Vec<B256> {
    disk.0.iter().map(|(block, _)| block.hash()).collect()
}

/// Runs a seed; how many came back with blocks that were left behind.
fn run(seed: u64) -> Result<usize, String> {
    let loss = loss(seed);
    let members = loss.seated + 1;
    let genesis = genesis(&loss.simulation, loss.seated);
    let disks: Arc<Vec<Arc<Mutex<Disk>>>> =
        Arc::new((0..2 * members).map(|_| Arc::default()).collect());
    let people: Arc<People> = Arc::default();
    let start = {
        let (loss, genesis) = (loss.clone(), genesis.clone());
        let (disks, people) = (Arc::clone(&disks), Arc::clone(&people));
        move |index: usize| {
            loss.before_start(&genesis, &people, &disks, index);
            Member::start(
                &genesis,
                &disks,
                index,
                index,
                Conduct::Honest,
                &[],
                &people,
            )
        }
    };
    let ran = loss.simulation.run(start);
    let known = people.known();
    let lengths: Vec<usize> = disks
        .iter()
        .take(members)
        .map(|disk| disk.lock().unwrap().0.len())
        .collect();
    ran.map_err(|error| {
        let height = known.document.as_ref().map(|ended| ended.height);
        format!(
            "{error}: blocks {lengths:?}, ended at {height:?}, lost {:?}",
            loss.lost
        )
    })?;
    let fail = |what: String| Err(format!("seed {seed}: {what}"));
    let Some(document) = &known.document else {
        return fail("nobody signed".into());
    };
    let on: Vec<usize> = (0..members)
        .filter(|member| !loss.lost.contains(member))
        .collect();
    let longest = on
        .iter()
        .map(|member| disks[*member].lock().unwrap())
        .max_by_key(|disk| disk.0.len())
        .map(|disk| hashes(&disk))
        .unwrap();
    if !longest.starts_with(&known.kept) {
        return fail("a block that was final at the signing is lost".into());
    }
    for member in on {
        let own = hashes(&disks[member].lock().unwrap());
        if !longest.starts_with(&own) || (own.len() as u64) < BLOCKS {
            return fail(format!(
                "member {member} has another chain, or too little of it"
            ));
        }
    }
    let base = usize::try_from(document.height).unwrap();
    for member in &loss.lost {
        let own = hashes(&disks[*member].lock().unwrap());
        // Alone they make nothing final: what differs was there when they were lost.
        let mut had = loss.lost.iter().map(|lost| &known.had[*lost]);
        let is_old = had.any(|had| had.starts_with(&own));
        if !is_old && !longest.starts_with(&own) {
            return fail(format!("member {member} made blocks final by itself"));
        }
        let is_ahead = known.starts[*member] > 1 && known.had[*member].len() > base;
        if is_ahead != known.told.contains(member) {
            return fail(format!(
                "member {member} was not told what it lost, or was told wrong"
            ));
        }
    }
    verify(&genesis, &disks[survivor(&loss)].lock().unwrap(), document)?;
    Ok(known.told.len())
}

fn survivor(loss: &Loss) -> usize {
    (0..loss.seated)
        .find(|member| !loss.lost.contains(member))
        .unwrap()
}

/// Everything is executed again, and whoever knows the genesis alone believes the last certificate.
fn verify(genesis: &Genesis, disk: &Disk, document: &Recovery) -> Result<(), String> {
    let (chain, ..) = disk.replay(genesis);
    let (head, hash) = chain.finalized();
    let changes = chain.validator_changes().unwrap();
    let domain = namespace(CHAIN_ID, &chain.genesis_block().hash());
    let first = genesis.validator_set().unwrap();
    let set = epoch::walk(&first, &domain, &changes).map_err(|error| error.to_string())?;
    let (_, certificate) = disk.0.last().unwrap();
    let certificate = CommitCertificate::decode(certificate).unwrap();
    if certificate.block == hash {
        certificate
            .verify_in(head.epoch, &hash, &set, &domain)
            .map_err(|error| error.to_string())?;
    }
    assert_eq!(
        chain.epoch().number(),
        document.epoch + 1,
        "no seat came back"
    );
    assert_eq!(chain.epoch().validators(), document.validators);
    assert!(!chain.validators_change(), "the ledger seats the same ones");
    let seating = chain.seating(document.height + 1).unwrap();
    assert!(!seating.suspended.is_empty());
    Ok(())
}

/// LIM-13, NFR-REL2: more than a third of the validators are lost at any moment, more than half sign, and the ledger goes
/// on: no block that one of them had is lost, nobody who goes on differs, a newcomer follows and may get a seat, and the
/// lost ones, come back with what they had, make nothing final and are told what they lost.
#[test]
fn those_who_are_left_go_on_after_a_lost_third() {
    let from = u64::try_from(number("STELE_SIM_FROM", 0)).unwrap();
    let seeds = u64::try_from(number("STELE_SIM_SEEDS", 40) / 20)
        .unwrap()
        .max(8);
    let next = Arc::new(Mutex::new(from..from + seeds));
    let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, Into::into))
        .map(|_| {
            let next = Arc::clone(&next);
            std::thread::spawn(move || {
                let (mut failed, mut told) = (Vec::new(), 0);
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        return (failed, told);
                    };
                    match run(seed) {
                        Ok(count) => told += count,
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
        "of {seeds} seeds:\n{}",
        failed.join("\n")
    );
    let told: usize = done.iter().map(|one| one.1).sum();
    assert!(told > 0, "somebody came back with more than the others had");
    println!(
        "{seeds} seeds from {from}: all went on; {told} came back and were told what they lost"
    );
}
