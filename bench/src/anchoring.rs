//! Anchoring: batches of leaves for many patients through JSON-RPC, with proofs of samples checked at the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, aliases::U40, hex, keccak256};
use alloy_rlp::Decodable as _;
use alloy_sol_types::SolCall;
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use stele_core::{
    abi::{consent::IConsent, identity::IIdentity, records::IRecords},
    account::AccountKey,
    crypto::Secret32,
    id::{CONSENT, IDENTITY, RECORDS},
    mmr,
    proof::{log_slot, peak_slot},
};

use crate::{
    Bench,
    ethereum::{key, sign},
    load::{self, count},
    process::Node,
    report::{Benchmark, Figure},
    rpc::Rpc,
};

/// Leaves in a batch, the most a batch may have, and patients they are of.
pub(crate) const LEAVES: usize = 256;
const PATIENTS_A_BATCH: usize = 4;
/// Connections that send at the same time.
const CONNECTIONS: usize = 8;
/// How far ahead of what is final the sender goes; the pool takes a thousand.
const AHEAD: u64 = 600;
/// Logs of which a proof is checked.
const SAMPLES: usize = 50;
/// The organisation of every `up --open` network: the first account of Ethereum's development chains.
pub(crate) const ORGANIZATION: [u8; 32] =
    hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let patients = bench.size(1_000, 8);
    let batches = bench.size(2_500, 8);
    let node = Node::start(&bench.stele, &["--open"])?;
    let rpc = Rpc::new(&node.rpc);
    let organization =
        AccountKey::new(Secret32::new(ORGANIZATION)).context("the organisation's key")?;
    let keys = (0..patients).map(key).collect::<Result<Vec<_>>>()?;
    let logs: Vec<Address> = keys.iter().map(AccountKey::address).collect();
    let mut sender = Sender::new(rpc.clone(), organization).await?;
    admit(&mut sender, &keys).await?;
    let leaves = leaves(patients, batches);
    let signed = (0..batches)
        .map(|batch| sender.sign_batch(batch, &logs, &leaves))
        .collect::<Result<Vec<_>>>()?;
    let before = [disk(&node, "chain")?, disk(&node, "consensus")?];
    let (cpu, started) = (node.process.cpu_s()?, Instant::now());
    sender.send_all(signed).await?;
    let wall_s = started.elapsed().as_secs_f64();
    let cpu_s = node.process.cpu_s()? - cpu;
    let memory_mb = node.process.memory_mb()?;
    let verified = verify(&rpc, &logs, &leaves).await?;
    let records = count(batches * LEAVES);
    let after = node.stop(&["chain", "consensus"])?;
    let mut grown = after
        .iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before) as f64 / records);
    Ok(Benchmark {
        name: "anchoring",
        about: format!(
            "{batches} batches of {LEAVES} leaves, {PATIENTS_A_BATCH} patients a batch, {patients} patients with a \
             live grant each, through JSON-RPC until the last receipt. {verified} logs were compared, leaf by leaf and \
             by their Merkle proofs, with what was sent."
        ),
        figures: vec![
            Figure::new(
                "records anchored, final and durable",
                records / wall_s,
                "records/s",
            )
            .at_least(50_000.0)
            .rows("NFR-PER, LIM-04"),
            Figure::new("records per CPU second", records / cpu_s, "records/s"),
            Figure::new(
                "chain on disk for one record",
                grown.next().unwrap_or(f64::NAN),
                "bytes",
            )
            .at_most(200.0)
            .rows("NFR-SCA1, LIM-04"),
            Figure::new(
                "consensus on disk for one record, until it is pruned",
                grown.next().unwrap_or(f64::NAN),
                "bytes",
            ),
            Figure::new("memory after it", memory_mb, "MB"),
        ],
    })
}

/// Registers the patients and lets the organisation write for each of them.
pub(crate) async fn admit(organization: &mut Sender, keys: &[AccountKey]) -> Result<()> {
    let registered = keys
        .iter()
        .map(|key| {
            let (patient, root) = (key.address(), B256::repeat_byte(1));
            organization.sign(
                IDENTITY,
                &IIdentity::registerPatientCall {
                    patient,
                    directoryRoot: root,
                },
            )
        })
        .collect::<Result<Vec<_>>>()?;
    organization.send_all(registered).await?;
    let grantee = organization.key.address();
    let granted = keys
        .iter()
        .map(|key| {
            let terms = IConsent::Terms {
                categories: u64::MAX >> 1,
                permissions: 2,
                purposes: 1,
                notBefore: U40::ZERO,
                expires: U40::from(4_000_000_000_u64),
                recordsFrom: 0,
                recordsTo: 1_000,
            };
            let digest = B256::repeat_byte(2);
            let call = IConsent::grantCall {
                grantee,
                terms,
                envelopeDigest: digest,
                request: 0,
            };
            sign(
                key,
                0,
                TxKind::Call(CONSENT),
                call.abi_encode().into(),
                1_000_000,
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let (rpc, granted) = (organization.rpc.clone(), Arc::new(granted));
    load::run(granted.len(), CONNECTIONS, move |number| {
        let (rpc, granted) = (rpc.clone(), Arc::clone(&granted));
        async move {
            let hash = rpc.send(granted.get(number).context("a grant")?).await?;
            rpc.wait(hash).await.map(drop)
        }
    })
    .await?;
    Ok(())
}

/// The leaves of each patient's log, in order.
pub(crate) fn leaves(patients: usize, batches: usize) -> Vec<Vec<B256>> {
    let mut leaves = vec![Vec::new(); patients];
    for batch in 0..batches {
        for (part, log) in logs_of(batch, patients).enumerate() {
            if let Some(leaves) = leaves.get_mut(log) {
                leaves.extend(
                    (0..LEAVES / PATIENTS_A_BATCH)
                        .map(|leaf| keccak256(format!("{batch}/{part}/{leaf}"))),
                );
            }
        }
    }
    leaves
}

fn logs_of(batch: usize, patients: usize) -> impl Iterator<Item = usize> {
    (0..PATIENTS_A_BATCH).map(move |part| (batch * PATIENTS_A_BATCH + part) % patients)
}

fn batch_of(
    batch: usize,
    logs: &[Address],
    leaves: &[Vec<B256>],
    author: Address,
) -> IRecords::anchorCall {
    const EACH: usize = LEAVES / PATIENTS_A_BATCH;
    let entries = logs_of(batch, logs.len()).filter_map(|log| {
        // How many batches have been to this log before.
        let round = batch * PATIENTS_A_BATCH / logs.len();
        let leaves = leaves
            .get(log)?
            .get(round * EACH..(round + 1) * EACH)?
            .to_vec();
        Some(IRecords::Entry {
            log: *logs.get(log)?,
            categories: vec![1; EACH].into(),
            leaves,
        })
    });
    IRecords::anchorCall {
        entries: entries.collect(),
        author,
        custodian: author,
        storageSignature: Bytes::new(),
    }
}

/// Holds sampled logs against the ledger: their size and peaks in storage, proven against the state root of the last
/// block, and one leaf of each with its path. Returns how many.
async fn verify(rpc: &Rpc, logs: &[Address], leaves: &[Vec<B256>]) -> Result<usize> {
    let step = (logs.len() / SAMPLES).max(1);
    let mut verified = 0;
    for (log, leaves) in logs.iter().zip(leaves).step_by(step) {
        let size = u64::try_from(leaves.len()).context("a log's size")?;
        let words = LogWords::proven(rpc, *log, size)
            .await
            .with_context(|| format!("log {log}"))?;
        ensure!(
            words.peaks == mmr::peaks(leaves),
            "log {log} has other peaks than what was sent"
        );
        let index = size / 3;
        let path = mmr::path(leaves, index).context("a path")?;
        let (height, position) = mmr::locate(size, index).context("a place")?;
        let leaf = usize::try_from(index)
            .ok()
            .and_then(|index| leaves.get(index))
            .context("a leaf")?;
        let at = mmr::peak_heights(size).position(|found| found == height);
        let peak = at.and_then(|at| words.peaks.get(at)).context("a peak")?;
        ensure!(
            mmr::climb(*leaf, position, &path) == *peak,
            "leaf {index} of log {log} is not under its peak"
        );
        verified += 1;
    }
    Ok(verified)
}

/// A log as storage has it.
struct LogWords {
    peaks: Vec<B256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    account_proof: Vec<Bytes>,
    storage_proof: Vec<Word>,
}

#[derive(Deserialize)]
struct Word {
    value: U256,
    proof: Vec<Bytes>,
}

impl LogWords {
    /// Reads and proves them.
    async fn proven(rpc: &Rpc, log: Address, size: u64) -> Result<Self> {
        let slots: Vec<U256> = std::iter::once(log_slot(log))
            .chain(mmr::peak_heights(size).map(|height| peak_slot(log, height)))
            .collect();
        let keys: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
        let block = rpc
            .call("eth_getBlockByNumber", &json!(["latest", false]))
            .await?;
        let root: B256 =
            serde_json::from_value(block.get("stateRoot").cloned().unwrap_or_default())?;
        let proof = rpc
            .call("eth_getProof", &json!([RECORDS, keys, "latest"]))
            .await?;
        let proof: Proof = serde_json::from_value(proof).context("a proof")?;
        let leaf = proof
            .account_proof
            .last()
            .context("a proof without nodes")?;
        let account = account_in(leaf)?;
        let value = alloy_rlp::encode(account);
        verify_proof(
            root,
            Nibbles::unpack(keccak256(RECORDS)),
            Some(value),
            &proof.account_proof,
        )
        .context("the account is not under the state root")?;
        ensure!(
            slots.len() == proof.storage_proof.len(),
            "a word is missing"
        );
        for (slot, word) in slots.iter().zip(&proof.storage_proof) {
            let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            let value = alloy_rlp::encode(word.value);
            verify_proof(account.storage_root, key, Some(value), &word.proof)
                .context("a word is not under the storage root")?;
        }
        let mut words = proof.storage_proof.iter().map(|word| word.value);
        let head = words.next().context("a log without a head")?;
        if head.as_limbs().first() != Some(&size) {
            bail!("it does not have {size} leaves");
        }
        Ok(Self {
            peaks: words.map(B256::from).collect(),
        })
    }
}

/// The account in the leaf that ends its proof: a list of a path and the account's RLP.
fn account_in(leaf: &Bytes) -> Result<TrieAccount> {
    let parts: Vec<Bytes> =
        Vec::decode(&mut leaf.as_ref()).context("a leaf of the account trie")?;
    let value = parts.last().context("a leaf without value")?;
    TrieAccount::decode(&mut value.as_ref()).context("an account")
}

/// Sends the transactions of one account, never further ahead than the pool takes.
pub(crate) struct Sender {
    rpc: Rpc,
    key: AccountKey,
    next: std::cell::Cell<u64>,
}

impl Sender {
    pub(crate) async fn new(rpc: Rpc, key: AccountKey) -> Result<Self> {
        let next = rpc.nonce(key.address()).await?.into();
        Ok(Self { rpc, key, next })
    }

    fn sign(&self, to: Address, call: &impl SolCall) -> Result<Bytes> {
        let nonce = self.next.replace(self.next.get() + 1);
        let nonce = usize::try_from(nonce).context("a nonce")?;
        sign(
            &self.key,
            nonce,
            TxKind::Call(to),
            call.abi_encode().into(),
            20_000_000,
        )
    }

    /// Signs the anchoring of a batch.
    pub(crate) fn sign_batch(
        &self,
        batch: usize,
        logs: &[Address],
        leaves: &[Vec<B256>],
    ) -> Result<Bytes> {
        let call = batch_of(batch, logs, leaves, self.key.address());
        self.sign(RECORDS, &call)
    }

    /// Sends transactions with consecutive nonces, the last of which was signed last, and waits for the last one.
    pub(crate) async fn send_all(&self, signed: Vec<Bytes>) -> Result<()> {
        let first = self.next.get() - u64::try_from(signed.len()).context("a count")?;
        let last = keccak256(signed.last().context("nothing to send")?);
        let finalized = Arc::new(AtomicU64::new(first));
        let following = tokio::spawn({
            let (rpc, account, finalized) =
                (self.rpc.clone(), self.key.address(), Arc::clone(&finalized));
            async move {
                while let Ok(nonce) = rpc.nonce(account).await {
                    finalized.store(nonce, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        let (rpc, jobs, signed) = (self.rpc.clone(), signed.len(), Arc::new(signed));
        load::run(jobs, CONNECTIONS, move |number| {
            let (rpc, signed, finalized) =
                (rpc.clone(), Arc::clone(&signed), Arc::clone(&finalized));
            async move {
                let nonce = first + u64::try_from(number).context("a nonce")?;
                while nonce > finalized.load(Ordering::Relaxed) + AHEAD {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                rpc.send(signed.get(number).context("a transaction")?)
                    .await
                    .map(drop)
            }
        })
        .await?;
        self.rpc.wait(last).await?;
        following.abort();
        Ok(())
    }
}

fn disk(node: &Node, part: &str) -> Result<u64> {
    crate::process::bytes_on_disk(&node.data().join(part))
}
