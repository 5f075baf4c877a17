//! A node that nobody asks anything.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::{
    Bench,
    process::{Node, bytes_on_disk},
    report::{Benchmark, Figure},
    rpc::Rpc,
};

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let seconds = u64::try_from(bench.size(30, 3))?;
    let node = Node::start(&bench.stele, &[])?;
    let rpc = Rpc::new(&node.rpc);
    // What starting left to do is not idling.
    tokio::time::sleep(Duration::from_secs(seconds.min(3))).await;
    let (blocks, cpu, started) = (height(&rpc).await?, node.process.cpu_s()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (wall_s, cpu_s) = (started.elapsed().as_secs_f64(), node.process.cpu_s()? - cpu);
    let blocks = height(&rpc).await? - blocks;
    let memory_mb = node.process.memory_mb()?;
    let bytes = bytes_on_disk(&node.data())?;
    Ok(Benchmark {
        name: "idle",
        about: format!(
            "An empty node for {seconds} s: nothing but heartbeats. Watts are CPU time at {} W a core.",
            bench.watts_per_core
        ),
        figures: vec![
            Figure::new("CPU of one core", cpu_s / wall_s * 100.0, "%")
                .at_most(2.0)
                .rows("NFR-ENE, LIM-03"),
            Figure::new("power", cpu_s / wall_s * bench.watts_per_core, "W")
                .rows("NFR-ENE, LIM-03"),
            Figure::new("memory", memory_mb, "MB")
                .at_most(300.0)
                .rows("NFR-COST"),
            Figure::new("blocks a minute", blocks * 60.0 / wall_s, "blocks").rows("NFR-ENE"),
            Figure::new("data folder", bytes as f64 / 1e6, "MB"),
        ],
    })
}

async fn height(rpc: &Rpc) -> Result<f64> {
    let text: String = serde_json::from_value(rpc.call("eth_blockNumber", &json!([])).await?)?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)? as f64)
}
