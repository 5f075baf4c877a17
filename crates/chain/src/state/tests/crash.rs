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
        acknowledged = run_and_kill(folder.path(), 1 + (round * 7) % 5).or(acknowledged);
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

/// Runs the writer until it has acknowledged `blocks` blocks and kills it in the middle of what it does next.
fn run_and_kill(folder: &Path, blocks: u32) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "state::tests::crash::writer",
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
    for _ in 0..blocks {
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
