//! Questions to a long chain: `eth_call` at its end, and `eth_getLogs` over all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{Address, Bytes, TxKind, U256, hex, keccak256};
use alloy_sol_types::{SolCall as _, sol};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stele_core::id::DEFAULT_CHAIN_ID;

use crate::{
    Bench,
    ethereum::{key, record, sign},
    load::{self, Took},
    process::{Mining, Node, PeerServer},
    report::{Benchmark, Figure},
    rpc::Rpc,
};

sol! {
    function getRecordOwner(uint256 recordId) returns (address);
}

/// Senders that each wait for their transaction before the next: enough that no block is empty.
const SENDERS: usize = 4;
/// Blocks for each record: so many times it is written, and so many logs a search finds.
const WRITES: usize = 10;
/// So much longer is Stele's chain than anvil's, which makes 20 blocks a second when it has 10,000 and needed more than
/// an hour for 100,000.
const LONGER: usize = 10;
/// Blocks of the short range.
const SHORT: usize = 100;

/// What asking took.
struct Asked {
    call: Took,
    logs: Took,
    logs_of_short: Took,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            call,
            logs,
            logs_of_short,
        } = self;
        write!(
            f,
            "eth_call {:.2} ms, eth_getLogs {:.2} ms and {:.2} ms",
            call.p50_ms(),
            logs.p50_ms(),
            logs_of_short.p50_ms()
        )
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let blocks = bench.size(100_000, 300);
    let questions = bench.size(2_000, 50);
    let bytecode = bench.compile(
        "../shared/data/contracts/HealthRecords.sol",
        "HealthRecords",
    )?;
    let node = Node::start(&bench.stele, &["--open"])?;
    let contract = fill(bench, &node.rpc, &bytecode, blocks)
        .await
        .context("Stele")?;
    let stele = ask(&node.rpc, contract, blocks, questions)
        .await
        .context("Stele")?;
    drop(node);
    bench.doing(&format!("{stele}; the same of anvil"));
    let fewer = (blocks / LONGER).max(SHORT);
    let server = PeerServer::anvil(&bench.peers, DEFAULT_CHAIN_ID, Mining::Instant).await?;
    let contract = fill(bench, &server.url, &bytecode, fewer)
        .await
        .context("anvil")?;
    let anvil = ask(&server.url, contract, fewer, questions)
        .await
        .context("anvil")?;
    drop(server);

    let figure = |what: &str, stele: &Took, anvil: &Took| {
        Figure::new(format!("{what}, p50"), stele.p50_ms(), "ms").beside("anvil", anvil.p50_ms())
    };
    let short = format!("eth_getLogs of a contract, the last {SHORT} blocks");
    Ok(Benchmark {
        name: "history",
        about: format!(
            "{blocks} blocks with `createRecord` transactions of HealthRecords.sol, each record written {WRITES} times or more; \
             then {questions} questions of each kind, one after the other. Stele: final and durable. anvil: in memory, a \
             block for each transaction, without states of old blocks (`--prune-history`), and with {fewer} blocks only."
        ),
        figures: vec![
            figure("eth_call at the last block", &stele.call, &anvil.call).at_most(2.0),
            figure(
                "eth_getLogs of one record, all blocks",
                &stele.logs,
                &anvil.logs,
            )
            .at_most(2.0),
            figure(&short, &stele.logs_of_short, &anvil.logs_of_short),
        ],
    })
}

/// Deploys the contract and writes records until there are so many blocks; the contract's address.
async fn fill(bench: &Bench, url: &str, bytecode: &Bytes, blocks: usize) -> Result<Address> {
    bench.doing("making blocks");
    let rpc = Rpc::new(url);
    let deployer = key(0)?;
    let contract = deployer.address().create(0);
    let deploy = sign(&deployer, 0, TxKind::Create, bytecode.clone(), 5_000_000)?;
    let hash = rpc.send(&deploy).await?;
    rpc.wait(hash).await?;
    let (sent, done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    load::run(SENDERS, SENDERS, move |sender| {
        let (rpc, sent, done) = (rpc.clone(), Arc::clone(&sent), Arc::clone(&done));
        async move {
            let key = key(sender + 1)?;
            for nonce in 0.. {
                if nonce % 50 == 0 && height(&rpc).await? >= blocks {
                    done.store(true, Ordering::Relaxed);
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let number = sent.fetch_add(1, Ordering::Relaxed) % records(blocks);
                let to = TxKind::Call(contract);
                let signed = sign(&key, nonce, to, record(number, key.address()), 300_000)?;
                let hash = rpc.send(&signed).await?;
                while rpc.receipt(hash).await?.is_none() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Ok(())
        }
    })
    .await?;
    Ok(contract)
}

/// Records that so many blocks write.
fn records(blocks: usize) -> usize {
    (blocks / WRITES).max(1)
}

async fn ask(url: &str, contract: Address, blocks: usize, questions: usize) -> Result<Asked> {
    let rpc = Rpc::new(url);
    let last = height(&rpc).await?;
    let event = keccak256("RecordCreated(uint256,address)");
    // Far apart, so that no answer is still warm from the one before.
    let number = move |question: usize| U256::from(question * 7_919 % records(blocks));
    let asker = rpc.clone();
    let call = load::run(questions, 1, move |question| {
        let rpc = asker.clone();
        async move {
            let asked = getRecordOwnerCall {
                recordId: number(question),
            };
            let input = Bytes::from(asked.abi_encode());
            let asked = json!([{"to": contract, "data": input}, "latest"]);
            let owner = rpc.call("eth_call", &asked).await?;
            let owner = owner.as_str().unwrap_or_default();
            ensure!(
                owner.len() == 66 && !owner.ends_with(&"0".repeat(40)),
                "{owner}"
            );
            Ok(())
        }
    })
    .await?;
    let asker = rpc.clone();
    let logs = load::run(questions, 1, move |question| {
        let rpc = asker.clone();
        async move {
            let topics = json!([event, hex::encode_prefixed(number(question).to_be_bytes::<32>())]);
            let filter = json!({"address": contract, "topics": topics, "fromBlock": "0x0", "toBlock": "latest"});
            let found = count(&rpc, filter).await?;
            ensure!((WRITES - 1..=2 * WRITES * SENDERS).contains(&found), "{found} logs of a record");
            Ok(())
        }
    })
    .await?;
    let logs_of_short = load::run(questions, 1, move |question| {
        let rpc = rpc.clone();
        async move {
            let end = last.saturating_sub(question % SHORT);
            let start = end.saturating_sub(SHORT - 1);
            let filter = json!({"address": contract, "fromBlock": format!("{start:#x}"), "toBlock": format!("{end:#x}")});
            let found = count(&rpc, filter).await?;
            ensure!(found > 0, "no log from block {start} to {end}");
            Ok(())
        }
    })
    .await?;
    Ok(Asked {
        call,
        logs,
        logs_of_short,
    })
}

/// Logs that a filter finds.
async fn count(rpc: &Rpc, filter: Value) -> Result<usize> {
    let found = rpc.call("eth_getLogs", &json!([filter])).await?;
    Ok(found.as_array().context("eth_getLogs gave no list")?.len())
}

async fn height(rpc: &Rpc) -> Result<usize> {
    let text: String = serde_json::from_value(rpc.call("eth_blockNumber", &json!([])).await?)?;
    usize::from_str_radix(text.trim_start_matches("0x"), 16).context("eth_blockNumber")
}
