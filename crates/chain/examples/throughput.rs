//! What a transaction costs, in CPU time of this process: signature, execution, state, store.
//!
//! `cargo run --release -p stele-chain --example throughput -- [TRANSACTIONS] [PATIENTS] [--json]`: everything on disk,
//! blocks durable, one after the other as a consortium of one makes them. Signing is not counted. With `--json` one
//! line for machines: `cargo xtask bench` reads it.
#![expect(
    clippy::print_stdout,
    reason = "a program that reports on its standard output"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool: it may stop at once"
)]

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::{SolCall, sol};
use rayon::prelude::*;
use stele_chain::{CallRequest, Chain, ChainOptions, Genesis, Organization, PoolLimits, Seat};
use stele_core::{
    abi::{consent::IConsent, identity::IIdentity, records::IRecords},
    account::{AccountKey, UnsignedCall},
    crypto::Secret32,
    id::{CONSENT, DEFAULT_CHAIN_ID, IDENTITY, RECORDS},
    tx::Transaction,
};

sol! {
    struct TwinTerms {
        uint64 categories;
        uint8 permissions;
        uint16 purposes;
        uint40 notBefore;
        uint40 expires;
        uint16 recordsFrom;
        uint16 recordsTo;
    }
    function register(address who, uint8 kind);
    function grant(address grantee, TwinTerms terms, bytes32 envelopeDigest, uint32 request);
    function createRecord(uint256 recordId, string name, address patient, string diseases, string contactInfo);
}

const START_MS: u64 = 1_767_225_600_000;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let transactions: usize = arguments.next().unwrap_or(20_000);
    let patients: usize = arguments.next().unwrap_or(1_000);
    let as_json = std::env::args().any(|argument| argument == "--json");
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), patients, !as_json);
    let signature = bench.signatures(transactions);
    bench.register();
    let native_grant = bench.native_grants(transactions);
    let solidity = bench.solidity(transactions);
    if as_json {
        println!(
            r#"{{"signature":{signature:.2},"create_record_execution":{:.2},"create_record":{},"native_grant":{},"solidity_grant":{}}}"#,
            solidity.execution,
            solidity.create_record.json(),
            native_grant.json(),
            solidity.grant.json(),
        );
        return;
    }
    bench.anchor(transactions);
    bench.views();
}

/// CPU time of one transaction in µs, by the chain's parts.
struct Cost {
    admit: f64,
    build: f64,
    commit: f64,
}

impl Cost {
    fn json(&self) -> String {
        let Self {
            admit,
            build,
            commit,
        } = self;
        format!(r#"{{"admit":{admit:.2},"build":{build:.2},"commit":{commit:.2}}}"#)
    }
}

/// What the Solidity contracts cost.
struct Solidity {
    grant: Cost,
    create_record: Cost,
    /// Of `createRecord` alone, without signature and state.
    execution: f64,
}

struct Bench {
    chain: Chain,
    hospital: AccountKey,
    hospital_nonce: u64,
    talks: bool,
    patients: Vec<(AccountKey, Cell<u64>)>,
    now_ms: u64,
}

impl Bench {
    fn new(folder: &std::path::Path, patients: usize, talks: bool) -> Self {
        let hospital = key(0);
        let genesis = Genesis {
            chain_id: DEFAULT_CHAIN_ID,
            protocol: stele_chain::PROTOCOL,
            timestamp_ms: START_MS,
            consortium: "Throughput".into(),
            open: true,
            organizations: vec![Organization {
                address: hospital.address(),
                kind: 1,
                endpoints_digest: B256::ZERO,
                keys_digest: B256::ZERO,
            }],
            validators: vec![Seat {
                key: B256::repeat_byte(1),
                organization: hospital.address(),
            }],
            parameters: [("block_gas_limit".into(), 1_000_000_000)].into(),
            deployers: Vec::new(),
            alloc: Default::default(),
        };
        let pool = PoolLimits {
            transactions: 1 << 20,
            bytes: 1 << 30,
            per_sender: 1 << 20,
            per_organization: 1 << 20,
            nonce_gap: 1 << 20,
        };
        let options = ChainOptions {
            pool,
            ..ChainOptions::default()
        };
        let chain = Chain::open(folder, &genesis, options).unwrap();
        let patients: Vec<_> = (1..=patients)
            .into_par_iter()
            .map(|seed| key(seed as u64))
            .collect();
        let patients = patients
            .into_iter()
            .map(|key| (key, Cell::new(0)))
            .collect();
        Self {
            chain,
            hospital,
            hospital_nonce: 0,
            talks,
            patients,
            now_ms: START_MS,
        }
    }

    fn signatures(&self, count: usize) -> f64 {
        let signed: Vec<_> = (0..count.min(5_000))
            .map(|nonce| {
                sign(
                    &self.patients[0].0,
                    nonce as u64,
                    Address::ZERO,
                    Bytes::new(),
                )
            })
            .collect();
        let cpu = cpu_time();
        for bytes in &signed {
            Transaction::decode(bytes)
                .unwrap()
                .recover(DEFAULT_CHAIN_ID)
                .unwrap();
        }
        let each = per(cpu_time() - cpu, signed.len());
        if self.talks {
            println!("{:<28}{each:>8.1} µs", "decode and recover");
        }
        each
    }

    fn hospital_signs(&mut self, to: Address, input: &impl SolCall) -> Bytes {
        let nonce = self.hospital_nonce;
        self.hospital_nonce += 1;
        sign(&self.hospital, nonce, to, input.abi_encode().into())
    }

    fn register(&mut self) {
        let addresses: Vec<_> = self.patients.iter().map(|(key, _)| key.address()).collect();
        let signed = addresses
            .into_iter()
            .map(|patient| {
                let directory_root = B256::repeat_byte(1);
                self.hospital_signs(
                    IDENTITY,
                    &IIdentity::registerPatientCall {
                        patient,
                        directoryRoot: directory_root,
                    },
                )
            })
            .collect();
        self.measure("native registration", signed, 0);
    }

    fn native_grants(&mut self, count: usize) -> Cost {
        let signed = self.patients_sign(count, |index| {
            let (patient, grantee) = self.pair(index);
            let terms = IConsent::Terms {
                categories: 0xff,
                permissions: 1,
                purposes: 1,
                notBefore: alloy_primitives::aliases::U40::ZERO,
                expires: alloy_primitives::aliases::U40::from(4_000_000_000_u64),
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
            (patient, CONSENT, call.abi_encode().into())
        });
        self.measure("native grant", signed, 0)
    }

    fn solidity(&mut self, count: usize) -> Solidity {
        let twin = self.deploy(include_str!("../tests/fixtures/GrantTwin.hex"));
        let addresses: Vec<_> = self.patients.iter().map(|(key, _)| key.address()).collect();
        let register = addresses
            .into_iter()
            .map(|who| self.hospital_signs(twin, &registerCall { who, kind: 3 }))
            .collect();
        self.measure("Solidity registration", register, 0);
        let signed = self.patients_sign(count, |index| {
            let (patient, grantee) = self.pair(index);
            let terms = TwinTerms {
                categories: 0xff,
                permissions: 1,
                purposes: 1,
                notBefore: alloy_primitives::aliases::U40::ZERO,
                expires: alloy_primitives::aliases::U40::from(4_000_000_000_u64),
                recordsFrom: 0,
                recordsTo: 1_000,
            };
            let call = grantCall {
                grantee,
                terms,
                envelopeDigest: B256::repeat_byte(2),
                request: 0,
            };
            (patient, twin, call.abi_encode().into())
        });
        let grant = self.measure("Solidity grant", signed, 0);
        let records = self.deploy(include_str!("../tests/fixtures/HealthRecords.hex"));
        let signed = self.patients_sign(count, |index| {
            let patient = index % self.patients.len();
            (patient, records, create_record(index).into())
        });
        let create_record = self.measure("Solidity createRecord", signed, 0);
        Solidity {
            grant,
            create_record,
            execution: self.execution(records, count),
        }
    }

    /// Executes `createRecord` without signature, block or state: what the machine itself costs.
    fn execution(&self, records: Address, count: usize) -> f64 {
        let requests: Vec<_> = (0..count)
            .map(|index| CallRequest {
                to: Some(records),
                input: create_record(count + index).into(),
                ..CallRequest::default()
            })
            .collect();
        let cpu = cpu_time();
        for request in &requests {
            self.chain.call(request).unwrap();
        }
        per(cpu_time() - cpu, count)
    }

    fn anchor(&mut self, count: usize) {
        const LEAVES: usize = 256;
        let addresses: Vec<_> = self.patients.iter().map(|(key, _)| key.address()).collect();
        let hospital = self.hospital.address();
        // The organisation may write for the patients who let it.
        let signed = self.patients_sign(addresses.len(), |index| {
            let terms = IConsent::Terms {
                categories: 0xff,
                permissions: 2,
                purposes: 1,
                notBefore: alloy_primitives::aliases::U40::ZERO,
                expires: alloy_primitives::aliases::U40::from(4_000_000_000_u64),
                recordsFrom: 0,
                recordsTo: 1_000,
            };
            let digest = B256::repeat_byte(2);
            let call = IConsent::grantCall {
                grantee: hospital,
                terms,
                envelopeDigest: digest,
                request: 0,
            };
            (index, CONSENT, call.abi_encode().into())
        });
        self.measure("native grant to write", signed, 0);
        let batches = (count / 20).max(1);
        let signed = (0..batches)
            .map(|batch| {
                let entries = (0..16_usize)
                    .map(|entry| IRecords::Entry {
                        log: addresses[(batch * 16 + entry) % addresses.len()],
                        categories: vec![1; LEAVES / 16].into(),
                        leaves: (0..LEAVES / 16)
                            .map(|leaf| {
                                B256::from(alloy_primitives::U256::from(
                                    batch << 20 | entry << 10 | leaf,
                                ))
                            })
                            .collect(),
                    })
                    .collect();
                let call = IRecords::anchorCall {
                    entries,
                    author: hospital,
                    custodian: hospital,
                    storageSignature: Bytes::new(),
                };
                self.hospital_signs(RECORDS, &call)
            })
            .collect();
        self.measure("batch of 256 leaves", signed, LEAVES);
    }

    fn views(&self) {
        let (patient, grantee) = (self.patients[0].0.address(), self.hospital.address());
        let can = IConsent::canCall {
            patient,
            who: grantee,
            category: 1,
            permission: 2,
            purpose: 1,
        };
        let request = CallRequest {
            to: Some(CONSENT),
            input: can.abi_encode().into(),
            ..CallRequest::default()
        };
        let rounds = 20_000;
        let cpu = cpu_time();
        for _ in 0..rounds {
            self.chain.call(&request).unwrap();
        }
        println!(
            "{:<28}{:>8.1} µs",
            "eth_call of Consent.can",
            per(cpu_time() - cpu, rounds)
        );
    }

    fn pair(&self, index: usize) -> (usize, Address) {
        let count = self.patients.len();
        let patient = index % count;
        // Never oneself; another grantee in every round.
        let grantee = (patient + 1 + index / count) % count;
        (patient, self.patients[grantee].0.address())
    }

    fn patients_sign(
        &self,
        count: usize,
        call: impl Fn(usize) -> (usize, Address, Bytes),
    ) -> Vec<Bytes> {
        (0..count)
            .map(|index| {
                let (patient, to, input) = call(index);
                let (key, nonce) = &self.patients[patient];
                sign(key, nonce.replace(nonce.get() + 1), to, input)
            })
            .collect()
    }

    fn deploy(&mut self, hex: &str) -> Address {
        let nonce = self.hospital_nonce;
        self.hospital_nonce += 1;
        let input = alloy_primitives::hex::decode(hex.trim()).unwrap().into();
        let call = UnsignedCall {
            chain_id: DEFAULT_CHAIN_ID,
            nonce,
            gas_limit: 10_000_000,
            to: TxKind::Create,
            input,
        };
        let hash = self
            .chain
            .submit(self.hospital.sign(call).unwrap())
            .unwrap()
            .recovered
            .hash;
        self.block();
        self.chain.receipt(hash).unwrap().unwrap().contract.unwrap()
    }

    /// Makes one block final; yields the CPU times of building and of committing it.
    fn block(&mut self) -> (usize, u64, Duration, Duration) {
        self.now_ms += 1_000;
        let height = self.chain.finalized().0.number;
        let parent = Arc::new(self.chain.view().block(height).unwrap().unwrap());
        let cpu = cpu_time();
        let taken = Cell::new(0);
        let in_time = || taken.replace(taken.get() + 1) < 2_000;
        let block = self
            .chain
            .propose(&parent, &[], B256::repeat_byte(1), self.now_ms, &in_time)
            .unwrap()
            .unwrap();
        let built = cpu_time();
        let (count, gas) = (block.transactions.len(), block.header.gas_used);
        self.chain.commit(&Arc::new(block), b"").unwrap();
        (count, gas, built - cpu, cpu_time() - built)
    }

    fn measure(&mut self, what: &str, signed: Vec<Bytes>, leaves: usize) -> Cost {
        let (count, bytes) = (
            signed.len(),
            signed.iter().map(|tx| tx.len()).sum::<usize>(),
        );
        let last = alloy_primitives::keccak256(signed.last().unwrap());
        let start = Instant::now();
        let cpu = cpu_time();
        for result in self.chain.submit_all(signed) {
            result.unwrap();
        }
        let admitted = cpu_time() - cpu;
        let (mut build, mut commit, mut done, mut gas, mut blocks) =
            (Duration::ZERO, Duration::ZERO, 0, 0, 0);
        while done < count {
            let (transactions, used, built, committed) = self.block();
            assert!(transactions > 0, "the rest cannot be executed");
            done += transactions;
            gas += used;
            blocks += 1;
            build += built;
            commit += committed;
        }
        let (wall, all) = (start.elapsed(), cpu_time() - cpu);
        assert!(
            self.chain.receipt(last).unwrap().unwrap().receipt.success,
            "{what} fails"
        );
        let cost = Cost {
            admit: per(admitted, count),
            build: per(build, count),
            commit: per(commit, count),
        };
        if !self.talks {
            return cost;
        }
        println!(
            "{what:<28}{:>8.1} µs CPU: admit {:.1}, build with roots {:.1}, commit {:.1}; {:.0}/s wall, \
             {:.0} per CPU second; {} gas, {} bytes, {blocks} blocks",
            per(all, count),
            cost.admit,
            cost.build,
            cost.commit,
            count as f64 / wall.as_secs_f64(),
            count as f64 / all.as_secs_f64(),
            gas / count as u64,
            bytes / count,
        );
        if leaves > 0 {
            println!(
                "{:<28}{:>8.0} records/s wall, {:.0} per CPU second, {} bytes a record",
                "",
                (count * leaves) as f64 / wall.as_secs_f64(),
                (count * leaves) as f64 / all.as_secs_f64(),
                bytes / count / leaves,
            );
        }
        cost
    }
}

fn create_record(number: usize) -> Vec<u8> {
    let call = createRecordCall {
        recordId: alloy_primitives::U256::from(number),
        name: "Jane Example".into(),
        patient: Address::repeat_byte(1),
        diseases: "none known".into(),
        contactInfo: "jane@example.org".into(),
    };
    call.abi_encode()
}

fn key(seed: u64) -> AccountKey {
    let secret = alloy_primitives::keccak256(seed.to_be_bytes());
    AccountKey::new(Secret32::new(secret.0)).unwrap()
}

fn sign(key: &AccountKey, nonce: u64, to: Address, input: Bytes) -> Bytes {
    let gas_limit = 40_000 + 120 * input.len() as u64 + 400_000;
    let to = TxKind::Call(to);
    key.sign(UnsignedCall {
        chain_id: DEFAULT_CHAIN_ID,
        nonce,
        gas_limit,
        to,
        input,
    })
    .unwrap()
}

fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// CPU time of all threads of this process, from Linux's `schedstat`, which counts nanoseconds. Threads that ended are
/// not in it; the pool's live as long as the process.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let spent = threads.map(|thread| {
        let schedstat = thread.unwrap().path().join("schedstat");
        // A thread may end between the two reads.
        let text = std::fs::read_to_string(schedstat).unwrap_or_default();
        text.split(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap_or_default()
    });
    Duration::from_nanos(spent.sum())
}
