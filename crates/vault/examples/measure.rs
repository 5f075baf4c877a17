//! What sealing, storing and opening cost: `cargo run --release -p stele-vault --example measure`.
//!
//! Over synthetic resources of about 2 kB, every figure a median of five runs. Records are given in
//! CPU time of the whole process, which other work on the machine disturbs little; streams in
//! elapsed time as well as CPU time.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement prints, reads the clock and stops at the first failure"
)]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use alloy_primitives::{Address, B256, keccak256};
use futures::TryStreamExt;
use stele_core::{
    crypto::{Secret32, keystore::Unlock, os_rng},
    element,
    id::{LogId, RecordId},
    leaf::LeafKind,
    time::Timestamp,
};
use stele_vault::{
    Config, Content, NewRecord, RecordMeta, Vault,
    custodian::{Denied, DurableReceipt, Permission, Permit, ReadRequest, ReceiptLog},
    keys::{Holder, RootKey},
};

const NOW: Timestamp = Timestamp(1_793_500_000_000);
const BATCH: u32 = 256;
const BATCHES: u32 = 20;
const STREAM_LEN: usize = 200_000_000;

/// CPU time and elapsed time since a moment.
#[derive(Clone, Copy)]
struct Started(Duration, Instant);

impl Started {
    fn now() -> Self {
        Self(cpu(), Instant::now())
    }

    fn cpu(self) -> Duration {
        cpu() - self.0
    }
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).expect("CPU time is not negative")
}

struct Yes;

impl Permission for Yes {
    fn check(&self, _: &ReadRequest, now: Timestamp) -> Result<Permit, Denied> {
        Ok(Permit { finalized_at: now })
    }
}

impl ReceiptLog for Yes {
    fn append(
        &self,
        receipt: stele_core::receipt::AccessReceipt,
    ) -> futures::future::BoxFuture<
        '_,
        Result<stele_core::receipt::AccessReceipt, Box<dyn std::error::Error + Send + Sync>>,
    > {
        Box::pin(async move { Ok(receipt) })
    }
}

#[tokio::main]
async fn main() {
    let mut figures = Vec::new();
    for run in 0..5u8 {
        figures.push(measure(run).await);
    }
    for (at, name) in ["element root", "seal", "commit (fsynced)", "meta", "open"]
        .iter()
        .enumerate()
    {
        let mut values: Vec<f64> = figures
            .iter()
            .filter_map(|run| run.0.get(at).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        println!(
            "{name:18} {:8.1} µs a record (spread {:.1} to {:.1})",
            values[2], values[0], values[4]
        );
    }
    for (at, name) in ["stream in", "stream out", "in, CPU", "out, CPU"]
        .iter()
        .enumerate()
    {
        let mut values: Vec<f64> = figures
            .iter()
            .filter_map(|run| run.1.get(at).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        println!(
            "{name:18} {:8.0} MB/s (spread {:.0} to {:.0})",
            values[2], values[0], values[4]
        );
    }
}

async fn measure(run: u8) -> ([f64; 5], [f64; 4]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
    let vault = Vault::open(&Config::new(folder.path()), &unlock)
        .await
        .expect("a vault");
    let log = LogId::repeat_byte(run);
    vault
        .keys()
        .add_root(log, &RootKey::random(&mut os_rng()))
        .await
        .expect("a root");
    let texts: Vec<String> = (0..BATCH).map(resource).collect();
    let [mut root, mut seal, mut commit, mut meta, mut open] = [Duration::ZERO; 5];
    let salt = Secret32::new([2; 32]);
    let start = Started::now();
    for text in &texts {
        element::root(text, &salt).expect("a root");
    }
    root += start.cpu() * BATCHES;
    let mut metas = Vec::new();
    for batch in 0..BATCHES {
        let records: Vec<_> = texts
            .iter()
            .zip(0..)
            .map(|(text, at)| new_record(log, batch, at, text))
            .collect();
        let start = Started::now();
        let sealed = vault
            .seal_batch(&records, NOW, &mut os_rng())
            .expect("sealed");
        seal += start.cpu();
        let start = Started::now();
        metas.extend(vault.commit(sealed).await.expect("committed"));
        commit += start.cpu();
    }
    for kept in &metas {
        let start = Started::now();
        let found = vault.meta(&kept.record(), 1).expect("read").expect("here");
        meta += start.cpu();
        open += opened(&vault, &found).await.0;
    }
    let count = f64::from(BATCH * BATCHES);
    let micros = [root, seal, commit, meta, open].map(|time| time.as_secs_f64() * 1e6 / count);
    (micros, stream(&vault, log).await)
}

async fn opened(vault: &Vault, meta: &RecordMeta) -> (Duration, Duration) {
    let receipt = stele_core::receipt::AccessReceipt {
        log: meta.log,
        allowed: true,
        ..Default::default()
    };
    let at = (meta.record(), 1);
    let receipt = DurableReceipt::write(&Yes, receipt, [at])
        .await
        .expect("a receipt");
    let start = Started::now();
    let request = ReadRequest {
        log: meta.log,
        record: meta.record(),
        version: 1,
        slot: meta.preimage.category_slot,
        actor: Address::ZERO,
        purposes: 1,
    };
    let pepper = vault
        .custodian()
        .release(&request, &Yes, &receipt, NOW)
        .expect("a pepper");
    if meta
        .cid()
        .expect("a CID")
        .is_some_and(|cid| cid.codec() == stele_vault::cid::RAW)
    {
        vault
            .open_record(meta, Holder::Root, &pepper)
            .expect("opened");
    } else {
        let parts = vault
            .open_stream(meta, Holder::Root, &pepper, 0..meta.size_bytes)
            .await;
        let total = parts
            .expect("opened")
            .try_fold(0, |total, part| async move { Ok(total + part.len()) })
            .await
            .expect("read");
        assert_eq!(total as u64, meta.size_bytes);
    }
    (start.cpu(), start.1.elapsed())
}

async fn stream(vault: &Vault, log: LogId) -> [f64; 4] {
    let piece = vec![7; 1 << 20];
    let start = Started::now();
    let record = new_record(log, u32::MAX, 0, "");
    let mut stream = vault
        .seal_stream(&record, NOW, &mut os_rng())
        .expect("a stream");
    for _ in 0..STREAM_LEN >> 20 {
        stream.push(&piece).await.expect("sealed");
    }
    let sealed = stream.finish().await.expect("sealed");
    let metas = vault.commit(sealed).await.expect("committed");
    let written = (start.cpu(), start.1.elapsed());
    let read = opened(vault, &metas[0]).await;
    [written.1, read.1, written.0, read.0].map(|time| STREAM_LEN as f64 / 1e6 / time.as_secs_f64())
}

fn new_record(log: LogId, batch: u32, at: u32, text: &str) -> NewRecord<'_> {
    NewRecord {
        log,
        record: RecordId(keccak256([batch.to_be_bytes(), at.to_be_bytes()].concat())),
        version: 1,
        kind: LeafKind::Create,
        category: (at % 8).to_le_bytes()[0],
        author: Address::ZERO,
        previous: B256::ZERO,
        content: Content::Json(text),
    }
}

/// A laboratory result as Synthea writes them, about 2 kB.
fn resource(at: u32) -> String {
    let component = |n: u32| {
        format!(
            r#"{{"code":{{"coding":[{{"system":"http://loinc.org","code":"{}-4","display":"Component {n}"}}],"text":"Component {n}"}},"valueQuantity":{{"value":{}.{n}0,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}}}"#,
            8480 + n + at,
            100 + at,
        )
    };
    let components: Vec<String> = (0..7).map(component).collect();
    format!(
        r#"{{"resourceType":"Observation","id":"{at}","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}}]}}],"subject":{{"reference":"Patient/{at}"}},"effectiveDateTime":"2021-03-01T10:11:12+01:00","component":[{}]}}"#,
        components.join(",")
    )
}
