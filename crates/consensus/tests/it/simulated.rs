//! Consortia in the seeded simulation.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use stele_consensus::{
    Application as _,
    sim::{Crashes, Event, Outcome, Simulation},
};
use stele_core::certificate::ValidatorSet;

use crate::ledger::{Disk, Ledger};

/// Runs it over fresh disks and checks that what is final anywhere is the same everywhere.
fn run(simulation: &Simulation) -> (Outcome, Vec<Arc<Mutex<Disk>>>) {
    let disks: Vec<Arc<Mutex<Disk>>> = (0..simulation.validators).map(|_| Arc::default()).collect();
    let validators = simulation.validator_set().unwrap();
    let start = {
        let disks = disks.clone();
        move |index: usize| Ledger::over(Arc::clone(&disks[index]), validators.clone()).busy()
    };
    let outcome = simulation.run(start).unwrap();
    let chains: Vec<Vec<_>> = disks
        .iter()
        .map(|disk| {
            disk.lock()
                .unwrap()
                .chain
                .iter()
                .map(|(block, _)| block.hash())
                .collect()
        })
        .collect();
    let longest = chains.iter().max_by_key(|chain| chain.len()).unwrap();
    for chain in &chains {
        assert_eq!(chain[..], longest[..chain.len()], "two validators disagree");
    }
    assert!(longest.len() as u64 >= simulation.blocks);
    (outcome, disks)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = run(&Simulation::new(4, 1)).0;
    assert_eq!(first, run(&Simulation::new(4, 1)).0);
    assert_ne!(first.trace, run(&Simulation::new(4, 2)).0.trace);
}

#[test]
fn one_validator_needs_no_other() {
    run(&Simulation::new(1, 7));
}

/// The consensus part of NFR-REL1: a crash of one of four at any moment, ten per cent of the messages lost.
#[test]
fn survives_crashes_and_loss() {
    let mut crashes = 0;
    for seed in 0..3 {
        let mut simulation = Simulation::new(4, seed);
        simulation.latency_ms = 30;
        simulation.jitter_ms = 30;
        simulation.loss_permille = 100;
        simulation.blocks = 40;
        simulation.crashes = Crashes::Random {
            every: Duration::from_secs(2),
            down: Duration::from_millis(500),
        };
        crashes += run(&simulation).0.crashes;
    }
    assert!(crashes >= 3, "only {crashes} crashes");
}

#[test]
fn halts_without_a_quorum_and_goes_on_with_it() {
    let mut simulation = Simulation::new(4, 3);
    simulation.blocks = 60;
    simulation.crashes = Crashes::Schedule(vec![
        (Duration::from_secs(1), 0, Event::Crash),
        (Duration::from_secs(1), 1, Event::Crash),
        (Duration::from_secs(20), 0, Event::Restart),
        (Duration::from_secs(20), 1, Event::Restart),
    ]);
    let (outcome, _) = run(&simulation);
    assert_eq!(outcome.crashes, 2);
}

#[test]
fn a_lone_validator_resumes_where_it_was() {
    let mut simulation = Simulation::new(1, 5);
    simulation.blocks = 200;
    simulation.crashes = Crashes::Schedule(
        (1..=8)
            .flat_map(|i| {
                let at = Duration::from_millis(i * 37);
                [
                    (at, 0, Event::Crash),
                    (at + Duration::from_millis(10), 0, Event::Restart),
                ]
            })
            .collect(),
    );
    let (outcome, _) = run(&simulation);
    assert!(outcome.crashes > 0);
}

/// What becomes of a consortium whose validators change while this and that happens to it.
struct Changing {
    simulation: Simulation,
    /// How many have a seat from the start.
    first: u8,
    /// Decisions: by the validator with this number, once its ledger has reached this height.
    decisions: Vec<(usize, u64, &'static [u8])>,
    /// Who can fetch final blocks from the others' disks.
    fetching: Vec<usize>,
}

/// Runs it, and checks that nobody differs and that every certificate is of the validators of its epoch.
fn change(case: &Changing) -> Vec<Arc<Mutex<Disk>>> {
    let simulation = &case.simulation;
    let disks: Vec<Arc<Mutex<Disk>>> = (0..simulation.validators).map(|_| Arc::default()).collect();
    let keys = simulation.validator_keys();
    let first = ValidatorSet::new(keys[..usize::from(case.first)].to_vec()).unwrap();
    let start = {
        let disks = disks.clone();
        let (decisions, fetching) = (case.decisions.clone(), case.fetching.clone());
        move |index: usize| {
            let mut ledger = Ledger::over(Arc::clone(&disks[index]), first.clone()).busy();
            if fetching.contains(&index) {
                ledger = ledger.beside(disks.clone());
            }
            for (who, height, decision) in &decisions {
                if *who == index {
                    ledger.decide(*height, decision);
                }
            }
            ledger
        }
    };
    simulation.run(start).unwrap();
    let longest = disks
        .iter()
        .map(|disk| disk.lock().unwrap().chain.clone())
        .max_by_key(Vec::len)
        .unwrap();
    for disk in &disks {
        let chain = &disk.lock().unwrap().chain;
        for ((block, _), (other, _)) in chain.iter().zip(&longest) {
            assert_eq!(block.hash(), other.hash(), "two validators disagree");
        }
    }
    disks
}

fn epochs(disk: &Arc<Mutex<Disk>>, case: &Changing) -> Vec<usize> {
    let keys = case.simulation.validator_keys();
    let first = ValidatorSet::new(keys[..usize::from(case.first)].to_vec()).unwrap();
    let ledger = Ledger::over(Arc::clone(disk), first);
    let epochs = ledger.epochs(0);
    let sizes = epochs.iter().map(|epoch| epoch.set().keys().len());
    sizes.collect()
}

/// LIM-13, NFR-GOV2: a validator joins, one leaves, one is replaced, with loss and delay.
#[test]
fn validators_change_at_boundaries() {
    let mut simulation = Simulation::new(6, 11);
    simulation.loss_permille = 50;
    simulation.blocks = 250;
    let case = Changing {
        simulation,
        first: 4,
        decisions: vec![
            (0, 3, b"seats 0 1 2 3 4"),
            (1, 70, b"seats 0 1 2 4"),
            (2, 140, b"seats 0 1 2 5"),
        ],
        fetching: vec![3, 4, 5],
    };
    let disks = change(&case);
    for disk in &disks {
        assert_eq!(epochs(disk, &case), [4, 5, 4, 4]);
    }
}

/// LIM-13: whoever was away while validators changed comes back, learns of it from the others and takes part.
#[test]
fn a_validator_comes_back_after_a_boundary() {
    let mut simulation = Simulation::new(5, 12);
    simulation.blocks = 200;
    simulation.crashes = Crashes::Schedule(vec![
        (Duration::from_millis(300), 3, Event::Crash),
        (Duration::from_secs(20), 3, Event::Restart),
        (Duration::from_secs(21), 2, Event::Crash),
        (Duration::from_secs(40), 2, Event::Restart),
    ]);
    let case = Changing {
        simulation,
        first: 4,
        decisions: vec![(0, 3, b"seats 0 1 2 3 4"), (0, 100, b"seats 0 1 2 3")],
        fetching: vec![4],
    };
    let disks = change(&case);
    assert_eq!(epochs(&disks[3], &case), [4, 5, 4]);
}

/// LIM-13: one validator grows into four.
#[test]
fn a_consortium_of_one_grows() {
    let mut simulation = Simulation::new(4, 13);
    simulation.blocks = 120;
    let case = Changing {
        simulation,
        first: 1,
        decisions: vec![(0, 3, b"seats 0 1 2 3")],
        fetching: vec![1, 2, 3],
    };
    let disks = change(&case);
    for disk in &disks {
        assert_eq!(epochs(disk, &case), [1, 4]);
    }
}

/// LIM-13, NFR-REL2: validators change again and again while some of them crash, are cut off and lose messages.
#[test]
fn validators_change_whatever_happens() {
    for seed in 0..12_u64 {
        let mut simulation = Simulation::new(6, 1000 + seed);
        simulation.latency_ms = 5 + seed * 4;
        simulation.jitter_ms = 2 * seed;
        simulation.loss_permille = 8 * seed;
        simulation.blocks = 200;
        let (who, other) = (
            usize::try_from(seed % 5).unwrap(),
            usize::try_from((seed + 2) % 5).unwrap(),
        );
        let at = |ms: u64| Duration::from_millis(ms);
        simulation.crashes = Crashes::Schedule(vec![
            (at(100 + 150 * seed), who, Event::Crash),
            (at(2_500 + 300 * seed), who, Event::Restart),
            (at(6_000), 0, Event::Split(0b000_011)),
            (at(8_000 + 200 * seed), 0, Event::Heal),
            (at(11_000 + 100 * seed), other, Event::Crash),
            (at(14_000), other, Event::Restart),
        ]);
        let case = Changing {
            simulation,
            first: 5,
            decisions: vec![
                (0, 3, b"seats 0 1 2 3 4 5"),
                (1, 60, b"seats 0 1 2 3 4"),
                (2, 120, b"seats 0 1 2 3 4 5"),
            ],
            fetching: vec![5],
        };
        let disks = change(&case);
        assert!(epochs(&disks[0], &case).len() >= 3, "seed {seed}");
    }
}

/// NFR-REL2: one of four signs two proposals in every view, votes to finalize both and to give the view up, while
/// messages are lost and validators change: the others agree, and go on.
#[test]
fn a_validator_that_contradicts_itself_decides_nothing() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(5, 2000 + seed);
        simulation.loss_permille = 20 * seed;
        simulation.blocks = 100;
        simulation.conflicting = vec![1];
        let case = Changing {
            simulation,
            first: 4,
            decisions: vec![(0, 3, b"seats 0 1 2 3 4")],
            fetching: vec![1, 4],
        };
        let disks = change(&case);
        assert_eq!(epochs(&disks[0], &case), [4, 5], "seed {seed}");
    }
}
