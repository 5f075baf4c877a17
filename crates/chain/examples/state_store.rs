//! Measures the state store: what a written key costs, durably, on a large state; reads, proofs and log searches.
//!
//! `cargo run --release -p stele-chain --example state_store -- [keys] [blocks with logs]`

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement looks at the clock"
)]

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bytes, Log, LogData, U256, keccak256};
use stele_chain::state::{LogFilter, Pending, State, StateOptions};
use stele_core::block::{Block, Header, Receipt, receipts_root};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The contract whose storage is written.
const CONTRACT: Address = Address::repeat_byte(0x5e);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let blocks: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let state = State::open(folder.path(), StateOptions::default())?;
    let mut bench = Bench {
        state,
        parent: B256::ZERO,
    };
    let start = Instant::now();
    let mut next = 0;
    while next < keys {
        let end = (next + 25_000).min(keys);
        bench.block(&mut (next..end).map(|key| (key, key + 1)), &[])?;
        next = end;
    }
    println!(
        "filled {keys} keys in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    for size in [200, 2_000, 10_000] {
        bench.written(keys, size)?;
    }
    bench.reads(keys)?;
    bench.logs(blocks)?;
    drop(bench);
    let start = Instant::now();
    let state = State::open(folder.path(), StateOptions::default())?;
    println!("reopened in {:.0} ms", ms(start.elapsed()));
    let start = Instant::now();
    let verified = state.latest().verify(&mut |_| {})?;
    println!(
        "verified {verified:?} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Bench {
    state: State,
    parent: B256,
}

impl Bench {
    /// Executes and commits a block; tells how long root and commit took.
    fn block(
        &mut self,
        writes: &mut dyn Iterator<Item = (u64, u64)>,
        receipts: &[Receipt],
    ) -> Outcome<(Duration, Duration)> {
        let mut pending = Pending::new(self.state.view_on(self.parent)?);
        pending.set_account(CONTRACT, 1, U256::ZERO, &Bytes::from_static(&[0xfe]));
        for (key, value) in writes {
            pending.set_slot(CONTRACT, slot(key), U256::from(value));
        }
        let start = Instant::now();
        let overlay = pending.seal()?;
        let sealed = start.elapsed();
        let mut header = Header {
            parent_hash: self.parent,
            number: overlay.height(),
            state_root: overlay.root(),
            receipts_root: receipts_root(receipts),
            ..Header::default()
        };
        for receipt in receipts {
            header.logs_bloom |= receipt.bloom();
        }
        let transactions: Vec<_> = (0..receipts.len())
            .map(|index| Bytes::from([self.parent.as_slice(), &index.to_be_bytes()].concat()))
            .collect();
        header.transactions_root = stele_core::block::transactions_root(&transactions);
        let block = Block {
            header,
            transactions,
        };
        self.parent = block.hash();
        self.state.insert(self.parent, Arc::new(overlay));
        let start = Instant::now();
        self.state.commit(&block, receipts, &[])?;
        Ok((sealed, start.elapsed()))
    }

    /// Blocks of `size` keys, half of them new, spread over the whole state.
    fn written(&mut self, keys: u64, size: u64) -> Outcome<()> {
        let rounds = 12;
        let (mut roots, mut commits, mut walls) = (Vec::new(), Vec::new(), Vec::new());
        let cpu = cpu_ms()?;
        for round in 0..rounds {
            let seed = round * 7_919 + size * 104_729;
            let writes = (0..size).map(|index| {
                let mixed = (seed + index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                let key = if index % 2 == 0 {
                    mixed % keys
                } else {
                    keys + mixed
                };
                (key, seed + index + 1)
            });
            let (root, commit) = self.block(&mut writes.collect::<Vec<_>>().into_iter(), &[])?;
            roots.push(ms(root));
            commits.push(ms(commit));
            walls.push(ms(root + commit));
        }
        let cpu = (cpu_ms()? - cpu) / f64::from(u32::try_from(rounds)?);
        let per_key = |ms: f64| ms * 1000.0 / f64::from(u32::try_from(size).unwrap_or(1));
        let wall = median(&mut walls);
        println!(
            "{size} keys a block: root {:.1} ms, commit {:.1} ms, wall {wall:.1} ms, {:.1} µs a key; CPU {cpu:.1} ms, {:.1} µs a key",
            median(&mut roots),
            median(&mut commits),
            per_key(wall),
            per_key(cpu),
        );
        Ok(())
    }

    fn reads(&self, keys: u64) -> Outcome<()> {
        let view = self.state.latest();
        let picks: Vec<_> = (0..20_000_u64).map(|n| slot(n * 48_271 % keys)).collect();
        for temperature in ["cold", "again", "warm"] {
            let start = thread_cpu_us()?;
            for pick in &picks {
                black_box(view.slot(CONTRACT, *pick)?);
            }
            println!(
                "read ({temperature}): {:.2} µs CPU",
                (thread_cpu_us()? - start) / 20_000.0
            );
        }
        let start = thread_cpu_us()?;
        for pick in picks.iter().take(2_000) {
            black_box(view.proof(CONTRACT, &[*pick])?);
        }
        println!("proof: {:.1} µs CPU", (thread_cpu_us()? - start) / 2_000.0);
        Ok(())
    }

    /// Blocks of two logs each, then searches for a rare and a common term.
    fn logs(&mut self, blocks: u64) -> Outcome<()> {
        let start = Instant::now();
        for number in 0..blocks {
            let rare = B256::from(U256::from(number % 5_000));
            let data = LogData::new(
                vec![B256::repeat_byte(7), rare],
                Bytes::from_static(b"data"),
            );
            let data = data.ok_or("too many topics")?;
            let logs = vec![
                Log {
                    address: CONTRACT,
                    data
                };
                2
            ];
            let receipt = Receipt {
                tx_type: 2,
                success: true,
                cumulative_gas_used: 1,
                logs,
            };
            self.block(
                &mut std::iter::once((number % 1000, number + 1)),
                &[receipt],
            )?;
        }
        println!(
            "{blocks} small blocks in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        let view = self.state.latest();
        let (mut times, mut found) = (Vec::new(), 0);
        for number in 0..200_u64 {
            let rare = B256::from(U256::from(number * 25));
            let filter = LogFilter {
                addresses: vec![CONTRACT],
                topics: vec![vec![B256::repeat_byte(7)], vec![rare]],
            };
            let start = Instant::now();
            found += view
                .logs(&filter, 0, u64::MAX, 10_000, |_| None)?
                .logs
                .len();
            times.push(ms(start.elapsed()));
        }
        println!(
            "getLogs over {blocks} blocks: p50 {:.3} ms, {found} found",
            median(&mut times)
        );
        Ok(())
    }
}

/// A slot as a mapping has it.
fn slot(key: u64) -> U256 {
    keccak256(key.to_be_bytes()).into()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU time of this thread in microseconds (Linux).
fn thread_cpu_us() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse::<f64>()? / 1000.0)
}

/// CPU time of this process in milliseconds (Linux: clock ticks of 10 ms).
fn cpu_ms() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .ok_or("no CPU time")?
            .parse::<f64>()
            .map_err(Box::<dyn Error>::from)
    };
    Ok((ticks(11)? + ticks(12)?) * 10.0)
}
