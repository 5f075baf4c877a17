//! The committed corpora and seeded mutations of them, on the stable toolchain without instrumentation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests say what went wrong by panicking"
)]

use std::{fs, panic, path::Path};

use stele_fuzz_targets::TARGETS;

/// Cases made of a corpus in one run of the test; `STELE_FUZZ_CASES` makes it more.
const CASES: u64 = 3_000;
/// A failing case of another seed is repeated with `STELE_SEED`.
const SEED: u64 = 0x5e1e;

/// LIM-24, NFR-TEST: what was once interesting to a parser stays good.
#[test]
fn every_committed_case_holds() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 10, "{name} has {} cases", corpus.len());
        for (file, bytes) in corpus {
            let outcome = panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name}: {file} broke a rule");
        }
    }
}

/// LIM-24, NFR-TEST: so do thousands of cases that are near it.
#[test]
fn seeded_mutations_hold() {
    let cases = number("STELE_FUZZ_CASES", CASES);
    let seed = number("STELE_SEED", SEED);
    println!("STELE_SEED={seed}");
    for (name, target) in TARGETS {
        let corpus: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
        for case in 0..cases {
            let mut random = Random(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let bytes = mutated(&corpus, &mut random);
            if panic::catch_unwind(|| target(&bytes)).is_err() {
                let file = std::env::temp_dir().join(format!("{name}-{seed}-{case}"));
                fs::write(&file, &bytes).unwrap();
                panic!(
                    "{name}: case {case} of seed {seed} broke a rule; it is in {}",
                    file.display()
                );
            }
        }
    }
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.display().to_string(), fs::read(&file).unwrap()))
        .collect()
}

/// One case of the corpus with one to eight changes, as libFuzzer makes them.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0'];
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(32)).min(bytes.len());
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = INTERESTING[random.below(8)],
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => bytes.truncate(at),
            _ => bytes.insert(at, INTERESTING[random.below(8)]),
        }
    }
    bytes
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}
