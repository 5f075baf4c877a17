//! Ethereum transactions: the same signed bytes to Stele and to anvil, and what they cost each server in CPU time.

use std::{path::Path, process::Command, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall as _, sol};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;
use stele_core::{
    account::{AccountKey, UnsignedCall},
    crypto::Secret32,
    id::DEFAULT_CHAIN_ID,
};

use crate::{
    Bench,
    load::{self, count},
    process::{Mining, Node, PeerServer, Process},
    report::{Benchmark, Figure},
    rpc::Rpc,
};

sol! {
    function createRecord(uint256 recordId, string name, address patient, string diseases, string contactInfo);
}

/// Connections that send at the same time, each for its own signers.
const CONNECTIONS: usize = 16;

/// Hardhat's network is slow: it gets this part of the load.
const HARDHAT_SHARE: usize = 5;

/// What an operation costs the chain's parts, as `throughput --json` of the chain's examples prints it; µs of CPU.
#[derive(Deserialize)]
struct Costs {
    signature: f64,
    create_record_execution: f64,
    create_record: Cost,
    native_grant: Cost,
    solidity_grant: Cost,
}

#[derive(Deserialize)]
struct Cost {
    admit: f64,
    build: f64,
    commit: f64,
}

impl Cost {
    /// What depends on the contract.
    fn contract(&self) -> f64 {
        self.build + self.commit
    }

    fn all(&self) -> f64 {
        self.admit + self.contract()
    }
}

/// What one server spent on the load.
struct Spent {
    cpu_us: f64,
    rate: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let signers = bench.size(200, 20);
    let rounds = bench.size(50, 5);
    let bytecode = bench.compile(
        "../shared/data/contracts/HealthRecords.sol",
        "HealthRecords",
    )?;
    let load = Load::sign(&bytecode, signers, rounds)?;
    let node = Node::start(&bench.stele, &["--open"])?;
    let stele = load
        .measure(&node.process, &node.rpc)
        .await
        .context("Stele")?;
    let latency = one_by_one(&node.rpc, bench.size(100, 10)).await?;
    drop(node);
    let server = PeerServer::anvil(&bench.peers, DEFAULT_CHAIN_ID, Mining::EverySecond).await?;
    let anvil = load
        .measure(&server.process, &server.url)
        .await
        .context("anvil")?;
    drop(server);
    let short = load.beginning(rounds / HARDHAT_SHARE);
    let server = PeerServer::hardhat(&bench.peers, &bench.path("e2e"), DEFAULT_CHAIN_ID).await?;
    // It would print each request otherwise.
    let silence = json!([false]);
    let asked = Rpc::new(&server.url);
    asked.call("hardhat_setLoggingEnabled", &silence).await?;
    let hardhat = short
        .measure(&server.process, &server.url)
        .await
        .context("Hardhat")?;
    drop(server);
    let costs = costs(&bench.throughput, bench.size(20_000, 400))?;

    let mut figures = speed(&stele, &anvil);
    let beside = Figure::new("the same beside Hardhat 2", 1e6 / stele.cpu_us, "tx/s");
    figures.insert(1, beside.beside("Hardhat", 1e6 / hardhat.cpu_us));
    let one = "one transaction, sent to final, p50";
    figures.push(Figure::new(one, latency.p50_ms(), "ms"));
    figures.extend(twins(&costs));
    figures.extend(parts(&stele, &costs));
    let joules = stele.cpu_us * bench.watts_per_core / 1e6;
    figures.push(Figure::new("energy of one transaction", joules, "J").rows("NFR-ENE, LIM-03"));
    Ok(Benchmark {
        name: "ethereum",
        about: format!(
            "{} signed `createRecord` transactions of {signers} signers over {CONNECTIONS} connections, each receipt \
             read once; the same bytes to both. Stele: executed, proven, final and durable, index included. anvil: in \
             memory and makes a block a second. Hardhat's network: the same, with the first {} of each signer. Energy is CPU time at {} W a \
             core.",
            signers * rounds,
            rounds / HARDHAT_SHARE,
            bench.watts_per_core
        ),
        figures,
    })
}

fn speed(stele: &Spent, anvil: &Spent) -> Vec<Figure> {
    const PEER: &str = "anvil";
    let ratio = anvil.cpu_us / stele.cpu_us;
    let of_servers = "transactions per CPU second of the server";
    let by_clock = "transactions by the clock, client on the same cores";
    vec![
        Figure::new(of_servers, 1e6 / stele.cpu_us, "tx/s").beside(PEER, 1e6 / anvil.cpu_us),
        Figure::new("that as a ratio", ratio, "× anvil")
            .at_least(0.8)
            .rows("NFR-PER"),
        Figure::new(by_clock, stele.rate, "tx/s").beside(PEER, anvil.rate),
    ]
}

/// A grant by the native contract beside the same rule in Solidity.
fn twins(costs: &Costs) -> Vec<Figure> {
    let (native, solidity) = (&costs.native_grant, &costs.solidity_grant);
    let of_contract = solidity.contract() / native.contract();
    let of_all = solidity.all() / native.all();
    vec![
        Figure::new(
            "native grant: execution, state and store",
            of_contract,
            "× its Solidity twin",
        )
        .at_least(1.2),
        Figure::new(
            "native grant: with signature and admission",
            of_all,
            "× its Solidity twin",
        ),
    ]
}

/// What a transaction costs, and where.
fn parts(stele: &Spent, costs: &Costs) -> Vec<Figure> {
    let record = &costs.create_record;
    let known = [
        ("signature: decode and recover", costs.signature),
        ("admission without it", record.admit - costs.signature),
        ("execution", costs.create_record_execution),
        (
            "state keys: tries, roots, block",
            record.build - costs.create_record_execution,
        ),
        ("store, durable", record.commit),
    ];
    let rest = stele.cpu_us - record.all();
    let named = known
        .into_iter()
        .chain([("the rest: HTTP, JSON, consensus, index, receipts", rest)]);
    std::iter::once(Figure::new("CPU of one createRecord", stele.cpu_us, "µs"))
        .chain(named.map(|(what, cost)| Figure::new(format!("· {what}"), cost, "µs")))
        .collect()
}

/// Signed transactions, by signer, in order of their nonces.
struct Load {
    deploy: Bytes,
    signed: Arc<Vec<Vec<Bytes>>>,
}

impl Load {
    fn sign(bytecode: &Bytes, signers: usize, rounds: usize) -> Result<Self> {
        let deployer = key(0)?;
        let contract = deployer.address().create(0);
        let deploy = sign(&deployer, 0, TxKind::Create, bytecode.clone(), 5_000_000)?;
        let signed = (1..=signers).map(|signer| {
            let key = key(signer)?;
            let of_round = (0..rounds).map(|round| {
                let input = record(signer * rounds + round, key.address());
                sign(&key, round, TxKind::Call(contract), input, 300_000)
            });
            of_round.collect::<Result<Vec<_>>>()
        });
        Ok(Self {
            deploy,
            signed: Arc::new(signed.collect::<Result<_>>()?),
        })
    }

    /// The same with only the first transactions of each signer.
    fn beginning(&self, rounds: usize) -> Self {
        let of_signers = self.signed.iter();
        let signed = of_signers.map(|all| all.iter().take(rounds).cloned().collect());
        Self {
            deploy: self.deploy.clone(),
            signed: Arc::new(signed.collect()),
        }
    }

    /// Sends everything and reads every receipt; what it cost the server.
    async fn measure(&self, server: &Process, url: &str) -> Result<Spent> {
        let rpc = Rpc::new(url);
        let hash = rpc.send(&self.deploy).await?;
        rpc.wait(hash).await?;
        let before = server.cpu_s()?;
        let signed = Arc::clone(&self.signed);
        let took = load::run(CONNECTIONS, CONNECTIONS, move |worker| {
            let (rpc, signed) = (rpc.clone(), Arc::clone(&signed));
            async move {
                let mine = || signed.iter().skip(worker).step_by(CONNECTIONS);
                let rounds = mine().map(Vec::len).max().unwrap_or_default();
                for round in 0..rounds {
                    for transaction in mine().filter_map(|of_signer| of_signer.get(round)) {
                        rpc.send(transaction).await?;
                    }
                }
                for transaction in mine().flatten() {
                    rpc.wait(keccak256(transaction)).await?;
                }
                Ok(())
            }
        })
        .await?;
        let sent = count(self.signed.iter().map(Vec::len).sum());
        Ok(Spent {
            cpu_us: (server.cpu_s()? - before) * 1e6 / sent,
            rate: sent / took.wall_s,
        })
    }
}

/// One sender, each transaction sent when the one before is final.
async fn one_by_one(url: &str, transactions: usize) -> Result<load::Took> {
    let rpc = Rpc::new(url);
    let sender = Arc::new(key(999_999)?);
    load::run(transactions, 1, move |nonce| {
        let (rpc, sender) = (rpc.clone(), Arc::clone(&sender));
        async move {
            let to = TxKind::Call(Address::repeat_byte(9));
            let signed = sign(&sender, nonce, to, Bytes::new(), 21_000)?;
            let hash = rpc.send(&signed).await?;
            while rpc.receipt(hash).await?.is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Ok(())
        }
    })
    .await
}

fn costs(throughput: &Path, transactions: usize) -> Result<Costs> {
    let output = Command::new(throughput)
        .args([&transactions.to_string(), "1000", "--json"])
        .output()
        .with_context(|| format!("running {}", throughput.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).context("reading what the chain's parts cost")
}

/// The call that writes a record.
pub(crate) fn record(number: usize, patient: Address) -> Bytes {
    let call = createRecordCall {
        recordId: U256::from(number),
        name: "Jane Example".into(),
        patient,
        diseases: "none known".into(),
        contactInfo: "jane@example.org".into(),
    };
    call.abi_encode().into()
}

/// The key with a number: the same in every run.
pub(crate) fn key(number: usize) -> Result<AccountKey> {
    let secret: B256 = keccak256(format!("stele-bench/{number}"));
    AccountKey::new(Secret32::new(secret.0)).context("making a key")
}

pub(crate) fn sign(
    key: &AccountKey,
    nonce: usize,
    to: TxKind,
    input: Bytes,
    gas_limit: u64,
) -> Result<Bytes> {
    let call = UnsignedCall {
        chain_id: DEFAULT_CHAIN_ID,
        nonce: u64::try_from(nonce).context("a nonce")?,
        gas_limit,
        to,
        input,
    };
    key.sign(call).context("signing a transaction")
}
