//! Hyperledger Caliper, unmodified: the papers' contract at Stele and at anvil, and the system contracts. Caliper's own
//! reports are kept beside ours.

use std::{fs, path::Path, process::Command};

use alloy_primitives::hex;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use stele_core::id::DEFAULT_CHAIN_ID;

use crate::{
    Bench,
    anchoring::ORGANIZATION,
    load::count,
    process::{Mining, Node, PeerServer, Process},
    report::{Benchmark, Figure},
};

/// One round, as `e2e/caliper/rounds.mjs` prints it.
#[derive(Deserialize)]
struct Round {
    name: String,
    succeeded: usize,
    failed: usize,
    /// Seconds, in hundredths.
    mean_s: f64,
    throughput_per_s: f64,
}

/// A set of rounds at one server.
struct Set {
    rounds: Vec<Round>,
    /// CPU time of the server for one request, setting up included.
    cpu_us: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let transactions = bench.size(1_000, 20);
    let rate = bench.size(200, 20);
    let measure = |server: &Process, url: &str, set: &str, report: &str| {
        measure(bench, server, url, [set, report], [transactions, rate])
            .with_context(|| report.to_owned())
    };
    let node = Node::start(&bench.stele, &["--open"])?;
    let stele = measure(&node.process, &node.rpc, "solidity", "caliper-stele.html")?;
    let system = measure(
        &node.process,
        &node.rpc,
        "native",
        "caliper-stele-system-contracts.html",
    )?;
    drop(node);
    let server = PeerServer::anvil(&bench.peers, DEFAULT_CHAIN_ID, Mining::Instant).await?;
    let anvil = measure(
        &server.process,
        &server.url,
        "solidity",
        "caliper-anvil.html",
    )?;
    drop(server);

    let mut figures = Vec::new();
    for (round, peer) in stele.rounds.iter().zip(&anvil.rounds) {
        let name = &round.name;
        let throughput = Figure::new(
            format!("{name}: throughput"),
            round.throughput_per_s,
            "a second",
        );
        figures.push(throughput.beside("anvil", peer.throughput_per_s));
        let latency = Figure::new(format!("{name}: mean latency"), round.mean_s, "s");
        // Hundredths of a second: a query often takes less than the smallest, and nothing can be divided by that.
        figures.push(match peer.mean_s > 0.0 {
            true => latency.beside("anvil", peer.mean_s),
            false => latency,
        });
    }
    for round in &system.rounds {
        let name = &round.name;
        figures.push(Figure::new(
            format!("{name}: throughput"),
            round.throughput_per_s,
            "a second",
        ));
        figures.push(Figure::new(
            format!("{name}: mean latency"),
            round.mean_s,
            "s",
        ));
    }
    figures.push(
        Figure::new(
            "CPU of the server for a request (HealthRecords.sol)",
            stele.cpu_us,
            "µs",
        )
        .beside("anvil", anvil.cpu_us),
    );
    let of_system = "CPU of the server for a request (system contracts)";
    figures.push(Figure::new(of_system, system.cpu_us, "µs"));
    Ok(Benchmark {
        name: "caliper",
        about: format!(
            "Hyperledger Caliper 0.6 with its Ethereum connector over WebSocket: two workers, {transactions} transactions \
             a round at {rate} a second, twice that for queries. anvil mines a block for each transaction. Caliper's own \
             reports: caliper-stele.html, caliper-stele-system-contracts.html, caliper-anvil.html."
        ),
        figures,
    })
}

/// Runs one set of rounds; every request must succeed.
fn measure(
    bench: &Bench,
    server: &Process,
    url: &str,
    [set, report]: [&str; 2],
    [transactions, rate]: [usize; 2],
) -> Result<Set> {
    bench.doing(report);
    fs::create_dir_all(&bench.out).context("making the report's folder")?;
    let out = fs::canonicalize(&bench.out).context("finding the report's folder")?;
    let before = server.cpu_s()?;
    let output = Command::new("node")
        .arg(Path::new("caliper").join("rounds.mjs"))
        .args([url, set, &transactions.to_string(), &rate.to_string()])
        .arg(out.join(report))
        .env("STELE_ORGANIZATION_KEY", hex::encode_prefixed(ORGANIZATION))
        .current_dir(bench.path("e2e"))
        .output()
        .context("running Caliper")?;
    let cpu_s = server.cpu_s()? - before;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let rounds: Vec<Round> =
        serde_json::from_slice(&output.stdout).context("reading Caliper's rounds")?;
    if let Some(round) = rounds.iter().find(|round| round.failed > 0) {
        bail!("{}: {} requests failed", round.name, round.failed);
    }
    let requests: usize = rounds.iter().map(|round| round.succeeded).sum();
    let cpu_us = cpu_s * 1e6 / count(requests);
    Ok(Set { rounds, cpu_us })
}
