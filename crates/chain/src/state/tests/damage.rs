//! Bytes flipped in the files of a closed store.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, Bytes, U256};
use stele_core::block::Block;

use super::{
    super::{DiskOptions, Error, LogFilter, State, StateOptions},
    Model, fill, genesis, log, model,
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
        slots: (0..70)
            .map(|slot| view.slot(who, U256::from(slot)))
            .collect::<Result<_, _>>()?,
        logs: format!("{:?}", view.logs(&filter, 0, 99, 1000, |_| None)?),
    };
    view.verify(&mut |_| {})?;
    Ok(answers)
}

fn build(folder: &Path, options: StateOptions) {
    let state = State::open(folder, options).unwrap();
    let mut model = Model::default();
    let mut block = genesis(&state, &fill(30), &mut model);
    state.commit(&block, &[], b"genesis").unwrap();
    for height in 1..8_u64 {
        let receipts = vec![model::receipt(vec![log(9, &[1])])];
        let transactions = vec![Bytes::from(format!("transaction {height}").into_bytes())];
        let parent = block.hash();
        let steps = fill(height * 9);
        block = model::block_with(&state, parent, &steps, &mut model, transactions, &receipts);
        state
            .commit(
                &block,
                &receipts,
                format!("certificate {height}").as_bytes(),
            )
            .unwrap();
    }
}

/// A file of the store, without the zeros a journal is filled up with.
struct Image {
    name: PathBuf,
    used: Vec<u8>,
    length: u64,
}

fn images(root: &Path) -> Vec<Image> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut used = std::fs::read(&path).unwrap();
            let length = used.len() as u64;
            while used.ends_with(&[0; 4096]) {
                used.truncate(used.len() - 4096);
            }
            used.truncate(
                used.iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1),
            );
            found.push(Image {
                name: path.strip_prefix(root).unwrap().to_path_buf(),
                used,
                length,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Writes the files into a fresh folder, sparse.
fn restore(images: &[Image]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for image in images {
        let target = folder.path().join(&image.name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(&target, &image.used).unwrap();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&target)
            .unwrap();
        file.set_len(image.length).unwrap();
    }
    folder
}

/// Flips single bits over every file and holds all answers against the undamaged ones: NFR-INT1. Every flip is an
/// error that names a height, or harmless; no answer is ever wrong.
#[test]
fn a_flipped_byte_is_detected_or_harmless() {
    check(StateOptions::default(), 120);
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
        60,
    );
}

/// The same for every byte of the two files that describe a table.
#[test]
fn every_byte_that_describes_a_table_is_detected() {
    let options = StateOptions::default();
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), options);
    let mut images = images(folder.path());
    let describing: Vec<usize> = (0..images.len())
        .filter(|at| images[*at].name.starts_with("store/keyspaces/4"))
        .filter(|at| !images[*at].name.iter().any(|part| part == "tables"))
        .collect();
    assert_eq!(describing.len(), 2, "a description and its checksum");
    for file in describing {
        for at in 0..images[file].used.len() {
            images[file].used[at] ^= 0x80;
            let error = ask(restore(&images).path(), options).unwrap_err();
            assert!(error.to_string().contains("height"), "byte {at}: {error}");
            images[file].used[at] ^= 0x80;
        }
    }
}

fn check(options: StateOptions, flips_max: usize) {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), options);
    let mut images = images(folder.path());
    if options.disk.node_buffer_bytes == 1 {
        let in_table = |image: &Image| image.name.iter().any(|part| part == "tables");
        assert!(images.iter().any(in_table), "nothing reached a table file");
    }
    let expected = ask(restore(&images).path(), options).unwrap();

    let (mut detected, mut harmless) = (0, 0);
    for file in 0..images.len() {
        let bits = images[file].used.len() * 8;
        // Many in the files that hold data, a few in each of the many small ones that describe them.
        let count = (bits / 4096).clamp(4, flips_max).min(bits);
        for flip in 0..count {
            // Spread evenly, and over all bits of a byte.
            let bit = (flip * bits / count + flip % 8).min(bits - 1);
            images[file].used[bit / 8] ^= 1 << (bit % 8);
            match ask(restore(&images).path(), options) {
                Ok(answers) => {
                    let name = images[file].name.display();
                    assert_eq!(answers, expected, "wrong answer: bit {bit} of {name}");
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
            images[file].used[bit / 8] ^= 1 << (bit % 8);
        }
    }
    println!("{detected} flips detected, {harmless} harmless, no wrong answer");
    assert!(
        detected > harmless / 4,
        "{detected} detected, {harmless} harmless"
    );
}
