//! What Stele costs and how fast it is: real processes over HTTP and JSON-RPC, with a peer under the same load in the
//! same run. `cargo xtask bench` builds and installs what it needs and starts it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it reports to a terminal"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod anchoring;
mod caliper;
mod consortium;
mod ethereum;
mod fhir;
mod helios;
mod history;
mod idle;
mod load;
mod process;
#[expect(dead_code, reason = "only tests cut a relay")]
#[path = "../../crates/stele/tests/it/relay.rs"]
mod relay;
mod report;
mod rpc;
mod share;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use alloy_primitives::{Bytes, hex};
use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde_json::Value;

use report::{Benchmark, Machine, Report};

/// Measure a `stele` binary beside its peers.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Bench {
    /// What to measure: idle, ethereum, caliper, anchoring, fhir, share, consortium, history [default: all
    /// but history, which takes a quarter of an hour].
    names: Vec<String>,
    /// The `stele` binary.
    #[arg(long)]
    stele: PathBuf,
    /// The chain's example `throughput`, which says what the parts of a transaction cost.
    #[arg(long)]
    throughput: PathBuf,
    /// Folder with the installed npm peers.
    #[arg(long)]
    peers: PathBuf,
    /// Helios FHIR Server's binary.
    #[arg(long, value_name = "FILE")]
    helios: Option<PathBuf>,
    /// The project's root, beside which the shared data lies.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Folder of the report.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Folder with PostgreSQL's programs; without it, the newest under /usr/lib/postgresql.
    #[arg(long)]
    postgres: Option<PathBuf>,
    /// A few hundred operations, to see that every figure comes out and that answers are right.
    #[arg(long)]
    smoke: bool,
    /// Watts of one busy core, for estimates of energy: a server's share of a core, memory and losses included.
    #[arg(long, default_value_t = 10.0)]
    watts_per_core: f64,
    /// When this run began.
    #[arg(skip = Instant::now())]
    started: Instant,
}

const ALL: [&str; 7] = [
    "idle",
    "ethereum",
    "caliper",
    "anchoring",
    "fhir",
    "share",
    "consortium",
];

impl Bench {
    /// A size: the full one, or that of the fast mode.
    const fn size(&self, full: usize, smoke: usize) -> usize {
        if self.smoke { smoke } else { full }
    }

    /// Tells whoever waits what is being done.
    fn doing(&self, what: &str) {
        eprintln!("  {:>5.0} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// A file of the project or beside it.
    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Creation bytecode of a Solidity contract, from the official compiler.
    fn compile(&self, source: &str, contract: &str) -> Result<Bytes> {
        let source = std::fs::canonicalize(self.path(source)).with_context(|| source.to_owned())?;
        let output = Command::new("node")
            .arg("compile.mjs")
            .arg(source)
            .current_dir(&self.peers)
            .output()
            .context("running the Solidity compiler")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let compiled: Value = serde_json::from_str(&text).with_context(|| {
            format!(
                "compiling {contract}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        let bytecode = compiled.get(contract).and_then(Value::as_str);
        let bytecode = bytecode.with_context(|| format!("there is no {contract}"))?;
        Ok(hex::decode(bytecode).context("bytecode")?.into())
    }

    async fn run(&self, name: &str) -> Result<Benchmark> {
        match name {
            "idle" => idle::run(self).await,
            "ethereum" => ethereum::run(self).await,
            "history" => history::run(self).await,
            "caliper" => caliper::run(self).await,
            "anchoring" => anchoring::run(self).await,
            "fhir" => fhir::run(self).await,
            "share" => share::run(self).await,
            "consortium" => consortium::run(self).await,
            other => bail!(
                "there is no benchmark {other:?}; there are {}",
                ALL.join(", ")
            ),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let bench = Bench::parse();
    let names: Vec<&str> = match bench.names.is_empty() {
        true => ALL.to_vec(),
        false => bench.names.iter().map(String::as_str).collect(),
    };
    let mut report = Report {
        machine: Machine::here(),
        smoke: bench.smoke,
        benchmarks: Vec::new(),
    };
    for name in names {
        bench.doing(name);
        let done = bench.run(name).await.with_context(|| name.to_owned())?;
        report.benchmarks.push(done);
        // After each, so that what stands is not lost with what fails.
        report.write(&bench.out)?;
    }
    println!("{}", report.markdown());
    let where_ = Path::new(&bench.out).join("report.html");
    println!(
        "{} targets missed; the report is {}",
        report.misses(),
        where_.display()
    );
    Ok(())
}
