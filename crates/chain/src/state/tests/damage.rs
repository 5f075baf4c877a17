//! Bytes flipped in the files of a closed store.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, Bytes, U256};
use stele_core::block::Block;

use super::{
    super::{DiskOptions, Error, LogFilter, State, StateOptions},
    Model, fill, genesis, log, model, next_block,
};

/// What a reader asks of the chain; two answers are equal or one is wrong.
#[derive(Debug, PartialEq)]
struct Answers {
    blocks: Vec<Option<Block>>,
    certificates: Vec<Option<Bytes>>,
    receipts: String,
    slots: Vec<U256>,
    logs: String,
}

fn ask(folder: &Path, options: StateOptions) -> Result<Answers, Error> {
    let state = State::open(folder, options)?;
    let view = state.latest();
    let who = Address::repeat_byte(1);
    let filter = LogFilter {
        addresses: vec![Address::repeat_byte(9)],
        topics: vec![],
    };
    let heights = 0..8;
    let answers = Answers {
        blocks: heights
            .clone()
            .map(|height| view.block(height))
            .collect::<Result<_, _>>()?,
        certificates: heights
            .clone()
            .map(|h| view.certificate(h))
            .collect::<Result<_, _>>()?,
        receipts: format!(
            "{:?}",
            heights
                .map(|height| view.receipts(height))
                .collect::<Result<Vec<_>, _>>()?
        ),
        slots: (0..130)
            .map(|slot| view.slot(who, U256::from(slot)))
            .collect::<Result<_, _>>()?,
        logs: format!("{:?}", view.logs(&filter, 0, 99, 1000)?),
    };
    view.verify(&mut |_| {})?;
    Ok(answers)
}

fn build(folder: &Path, options: StateOptions) {
    let state = State::open(folder, options).unwrap();
    let mut model = Model::default();
    let mut block = genesis(&state, &fill(60), &mut model);
    state.commit(&block, &[], b"genesis").unwrap();
    for height in 1..8_u64 {
        let receipts = vec![model::receipt(vec![log(9, &[1])])];
        let transactions = vec![Bytes::from(format!("transaction {height}").into_bytes())];
        let parent = block.hash();
        let steps = fill(height * 17);
        block = model::block_with(&state, parent, &steps, &mut model, transactions, &receipts);
        state
            .commit(
                &block,
                &receipts,
                format!("certificate {height}").as_bytes(),
            )
            .unwrap();
    }
    let _ = next_block(&state, block.hash(), &[], &mut model);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        // Keep preallocated files sparse: only what is not zero is written.
        let bytes = std::fs::read(&file).unwrap();
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        std::fs::write(&target, &bytes[..used]).unwrap();
        let copied = std::fs::OpenOptions::new()
            .write(true)
            .open(&target)
            .unwrap();
        copied.set_len(bytes.len() as u64).unwrap();
    }
}

/// Flips single bits over every file and holds all answers against the undamaged ones: NFR-INT1. Every flip is an
/// error that names a height, or harmless; no answer is ever wrong.
#[test]
fn a_flipped_byte_is_detected_or_harmless() {
    check(StateOptions::default(), 150);
}

/// The same with everything in table files instead of the journal.
#[test]
fn a_flipped_byte_in_a_table_is_detected_or_harmless() {
    let disk = DiskOptions {
        node_buffer_bytes: 1,
        row_buffer_bytes: 1,
        ..DiskOptions::default()
    };
    check(
        StateOptions {
            disk,
            ..StateOptions::default()
        },
        25,
    );
}

fn check(options: StateOptions, flips_per_file: usize) {
    let original = tempfile::tempdir().unwrap();
    build(original.path(), options);
    let whole = tempfile::tempdir().unwrap();
    copy(original.path(), whole.path());
    let expected = ask(whole.path(), options).unwrap();

    let (mut detected, mut harmless) = (0, 0);
    for file in files(original.path()) {
        let length = used_length(&file);
        let count = flips_per_file.min(length * 8);
        for flip in 0..count {
            // Spread evenly, and over all bits of a byte.
            let bit = flip * length * 8 / count + flip % 8;
            let folder = tempfile::tempdir().unwrap();
            copy(original.path(), folder.path());
            let target = folder
                .path()
                .join(file.strip_prefix(original.path()).unwrap());
            flip_bit(&target, bit.min(length * 8 - 1));
            match ask(folder.path(), options) {
                Ok(answers) => {
                    assert_eq!(
                        answers,
                        expected,
                        "wrong answer: bit {bit} of {}",
                        file.display()
                    );
                    harmless += 1;
                }
                Err(error) => {
                    assert!(
                        error.to_string().contains("height") || !error.is_damage(),
                        "{error}"
                    );
                    detected += 1;
                }
            }
        }
    }
    assert!(
        detected > harmless / 4,
        "{detected} detected, {harmless} harmless"
    );
}

/// Length without the zeros a journal is filled up with.
fn used_length(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn flip_bit(file: &Path, bit: usize) {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let at = SeekFrom::Start((bit / 8) as u64);
    let mut byte = [0];
    file.seek(at).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.seek(at).unwrap();
    file.write_all(&byte).unwrap();
}
