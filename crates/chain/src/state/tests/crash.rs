//! A process that is killed while it commits.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use alloy_primitives::{Address, Bytes, U256, keccak256};

use super::{
    super::{State, StateOptions, TransactionLocation},
    Model, fill, model,
};

/// Names the folder to the child process.
const FOLDER: &str = "STELE_TEST_CRASH_FOLDER";

/// Commits blocks until it is killed and says which are durable.
#[test]
#[ignore = "runs as the child of a_killed_process_leaves_whole_blocks"]
fn writer() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("started by its parent"));
    let state = State::open(&folder, StateOptions::default()).unwrap();
    let mut parent = state.head().map_or_else(Default::default, |head| head.hash);
    let mut out = std::io::stdout();
    for round in 0_u64.. {
        let height = state.head().map_or(0, |head| head.height + 1);
        let receipts = vec![model::receipt(vec![super::log(9, &[1])])];
        let transactions = vec![Bytes::from(height.to_be_bytes())];
        // The model is not compared here: the parent only needs the roots in the headers.
        let mut ignored = Model::default();
        let steps = fill(10 + (height + round) % 40);
        let block = model::block_with(
            &state,
            parent,
            &steps,
            &mut ignored,
            transactions,
            &receipts,
        );
        state.commit(&block, &receipts, b"certificate").unwrap();
        parent = block.hash();
        writeln!(out, "\nacknowledged {height}").unwrap();
        out.flush().unwrap();
    }
}

/// After `kill -9` at any moment nothing acknowledged is lost and no half block is there (NFR-INT1).
#[test]
fn a_killed_process_leaves_whole_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = None;
    for round in 0..10_u32 {
        acknowledged = run_and_kill("writer", folder.path(), 1 + (round * 7) % 5).or(acknowledged);
        let state = State::open(folder.path(), StateOptions::default()).unwrap();
        let view = state.latest();
        let head = view.head().unwrap();
        assert!(
            Some(head.height) >= acknowledged,
            "{head:?} after {acknowledged:?}"
        );
        let verified = view.verify(&mut |_| {}).unwrap();
        assert_eq!(verified.blocks, head.height + 1);
        assert_eq!(verified.transactions, head.height + 1);
        let last = keccak256(head.height.to_be_bytes());
        let place = TransactionLocation {
            height: head.height,
            index: 0,
        };
        assert_eq!(view.transaction_location(last).unwrap(), Some(place));
        assert_eq!(
            view.slot(Address::repeat_byte(1), U256::from(3)).unwrap(),
            U256::from(4)
        );
    }
}

/// Takes the state and blocks of another folder in small steps until it is killed, and says how many steps are durable.
#[test]
#[ignore = "runs as the child of a_killed_newcomer_goes_on_where_it_was"]
fn taker() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("started by its parent"));
    let giver = State::open(&folder.join("giver"), StateOptions::default()).unwrap();
    let taker = State::open(&folder.join("taker"), StateOptions::default()).unwrap();
    let view = giver.latest();
    let first = view.block(0).unwrap().unwrap();
    if taker.head().is_none() {
        let mut ignored = Model::default();
        assert_eq!(model::genesis(&taker, &[], &mut ignored), first);
        taker.commit(&first, &[], b"").unwrap();
    }
    let mut out = std::io::stdout();
    let mut steps = 0_u64;
    let mut acknowledge = || {
        steps += 1;
        writeln!(out, "\nacknowledged {steps}").unwrap();
        out.flush().unwrap();
    };
    let mut incoming = taker.incoming().unwrap();
    if incoming.offer().is_none() {
        let head = view.head().unwrap();
        drop(incoming);
        taker.discard_incoming().unwrap();
        incoming = taker.incoming().unwrap();
        incoming
            .begin(Bytes::new(), head, &first, &[], None)
            .unwrap();
    }
    while let Some(wants) = incoming.wants() {
        let parts = super::parts::parts(&view, &wants, 600);
        incoming.take_parts(&parts).unwrap().unwrap();
        acknowledge();
    }
    for height in incoming.next_block().0..=view.head().unwrap().height {
        let block = view.block(height).unwrap().unwrap();
        let receipts = view.receipts(height).unwrap().unwrap();
        incoming.take_blocks(&[(block, receipts)], b"c").unwrap();
        acknowledge();
    }
    taker.adopt(incoming).unwrap();
}

/// After `kill -9` at any moment of a snapshot nothing that was taken has to be taken again, and the chain is either at
/// its beginning or has all of it.
#[test]
fn a_killed_newcomer_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let giver = State::open(&folder.path().join("giver"), StateOptions::default()).unwrap();
    let mut model = Model::default();
    let mut block = model::genesis(&giver, &[], &mut model);
    giver.commit(&block, &[], b"").unwrap();
    for slots in [300, 10, 400] {
        block = model::next_block(&giver, block.hash(), &fill(slots), &mut model);
        giver.commit(&block, &[], b"c").unwrap();
    }
    let verified = giver.latest().verify(&mut |_| {}).unwrap();
    let head = giver.head();
    drop(giver);
    let open = || State::open(&folder.path().join("taker"), StateOptions::default()).unwrap();
    let (mut taken, mut kills) = (0, 0);
    loop {
        run_and_kill("taker", folder.path(), 1 + kills % 4);
        kills += 1;
        let state = open();
        if state.head() == head {
            break;
        }
        assert!(state.head().is_none_or(|head| head.height == 0));
        if state.head().is_some() {
            let incoming = state.incoming().unwrap();
            let now = incoming.bytes() + incoming.next_block().0;
            assert!(now >= taken, "{now} after {taken}");
            taken = now;
        }
    }
    assert!(kills > 5, "it was killed {kills} times only");
    let view = open().latest();
    assert_eq!(view.verify(&mut |_| {}).unwrap(), verified);
    let who = Address::repeat_byte(1);
    let last = view.slot(who, U256::from(399)).unwrap();
    assert_eq!(last, U256::from(400));
}

/// Runs a child until it has acknowledged `steps` steps and kills it in the middle of what it does next.
fn run_and_kill(child: &str, folder: &Path, steps: u32) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            &format!("state::tests::crash::{child}"),
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = None;
    for _ in 0..steps {
        last = lines.by_ref().find_map(|line| {
            line.unwrap()
                .strip_prefix("acknowledged ")
                .map(|height| height.parse().unwrap())
        });
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still managed to say before it was killed counts too.
    let rest = lines.map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("acknowledged ")
            .and_then(|height| height.parse().ok())
    });
    rest.max().or(last)
}
