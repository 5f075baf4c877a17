//! Consortia in the seeded simulation.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use stele_consensus::sim::{Crashes, Event, Outcome, Simulation};

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
