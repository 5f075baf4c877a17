//! Real resources through the public API: keys, sealing, release, opening, proofs, erasure.

use alloy_primitives::{Address, B256, keccak256};
use futures::future::BoxFuture;
use stele_core::{
    crypto::{Secret32, keystore::Unlock, os_rng},
    element::ElementTree,
    id::{LogId, RecordId},
    leaf::LeafKind,
    receipt::AccessReceipt,
    time::Timestamp,
};
use stele_vault::{
    Config, Content, Error, NewRecord, RecordMeta, Result, Vault,
    custodian::{Denied, DurableReceipt, Permission, Permit, ReadRequest, ReceiptLog},
    keys::{Holder, RootKey},
};

use crate::bundles::synthea;

const NOW: Timestamp = Timestamp(1_793_500_000_000);
const ACTOR: Address = Address::repeat_byte(7);

struct Allowed;

impl Permission for Allowed {
    fn check(&self, _: &ReadRequest, now: Timestamp) -> Result<Permit, Denied> {
        Ok(Permit { finalized_at: now })
    }
}

struct Receipts;

impl ReceiptLog for Receipts {
    fn append(
        &self,
        receipt: AccessReceipt,
    ) -> BoxFuture<'_, Result<AccessReceipt, Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async move { Ok(receipt) })
    }
}

fn log(bundle: usize) -> LogId {
    LogId::left_padding_from(&bundle.to_be_bytes())
}

fn record(bundle: usize, at: usize) -> RecordId {
    RecordId(keccak256([bundle.to_be_bytes(), at.to_be_bytes()].concat()))
}

async fn open_vault(folder: &std::path::Path) -> Vault {
    let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
    Vault::open(
        &Config {
            reserve_bytes: 0,
            ..Config::new(folder)
        },
        &unlock,
    )
    .await
    .unwrap()
}

async fn store(vault: &Vault, bundle: usize, texts: &[String]) -> Vec<RecordMeta> {
    vault
        .keys()
        .add_root(log(bundle), &RootKey::random(&mut os_rng()))
        .await
        .unwrap();
    let records: Vec<NewRecord<'_>> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| NewRecord {
            log: log(bundle),
            record: record(bundle, at),
            version: 1,
            kind: LeafKind::Create,
            category: u8::try_from(text.len() % 8).unwrap(),
            author: ACTOR,
            previous: B256::ZERO,
            content: Content::Json(text),
        })
        .collect();
    let mut metas = Vec::new();
    for batch in records.chunks(256) {
        let sealed = vault.seal_batch(batch, NOW, &mut os_rng()).unwrap();
        metas.extend(vault.commit(sealed).await.unwrap());
    }
    metas
}

async fn read(vault: &Vault, meta: &RecordMeta, holder: Holder) -> Result<String> {
    let receipt = AccessReceipt {
        actor: ACTOR,
        log: meta.log,
        allowed: true,
        ..AccessReceipt::default()
    };
    let read = (meta.record(), meta.version());
    let receipt = DurableReceipt::write(&Receipts, receipt, [read]).await?;
    let request = ReadRequest {
        log: meta.log,
        record: meta.record(),
        version: meta.version(),
        slot: meta.preimage.category_slot,
        actor: ACTOR,
        purposes: 1,
    };
    let pepper = vault
        .custodian()
        .release(&request, &Allowed, &receipt, NOW)?;
    let content = vault.open_record(meta, holder, &pepper)?;
    Ok(String::from_utf8(content.to_vec()).unwrap())
}

/// Requirements FR-L2, NFR-INT1, NFR-SEC1: real resources come back byte for byte after a restart,
/// each leaf is what was to be anchored, and every stored blob matches its address.
#[tokio::test]
async fn real_records_come_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let bundles = synthea(4);
    let vault = open_vault(folder.path()).await;
    let mut stored = Vec::new();
    for (bundle, texts) in bundles.iter().enumerate() {
        stored.push(store(&vault, bundle, texts).await);
    }
    drop(vault);
    let vault = open_vault(folder.path()).await;
    let mut leaves = std::collections::BTreeSet::new();
    for (texts, metas) in bundles.iter().zip(&stored) {
        assert_eq!(texts.len(), metas.len());
        for (text, meta) in texts.iter().zip(metas) {
            let kept = vault.meta(&meta.record(), 1).unwrap().unwrap();
            assert_eq!(&kept, meta);
            assert!(read(&vault, &kept, Holder::Root).await.unwrap() == *text);
            assert!(leaves.insert(kept.leaf()));
        }
    }
    let report = vault.store().verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad, []);
    assert_eq!(report.checked.checked, leaves.len() as u64);
}

/// Requirements S19, FR-P24: one value of a real Observation is proven against its record's leaf,
/// and the proof shows no other value.
#[tokio::test]
async fn one_value_of_a_real_observation_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let texts = synthea(3).remove(2);
    let vault = open_vault(folder.path()).await;
    let metas = store(&vault, 0, &texts).await;
    let at = texts
        .iter()
        .position(|text| {
            text.contains(r#""resourceType": "Observation""#) && text.contains("valueQuantity")
        })
        .unwrap();
    let text = read(&vault, &metas[at], Holder::Root).await.unwrap();
    let tree = ElementTree::new(&text, &metas[at].element_salt).unwrap();
    let proof = tree.prove(&["/valueQuantity/value"]).unwrap();
    proof.verify(&metas[at].preimage.element_root).unwrap();
    assert_eq!(
        metas[at].leaf(),
        metas[at].preimage.commit(&metas[at].leaf_salt)
    );
    assert!(!serde_json::to_string(&proof).unwrap().contains("loinc"));
    let mut flipped = proof;
    flipped.elements[0].literal.push('1');
    assert_eq!(
        flipped
            .verify(&metas[at].preimage.element_root)
            .unwrap_err()
            .to_string(),
        r#"the element at "/valueQuantity/value" is not what was anchored"#
    );
}

/// Requirements FR-D08, LIM-08: an erased record cannot be released, opened or stored again; the
/// rest of the patient's records can.
#[tokio::test]
async fn an_erased_record_stays_erased() {
    let folder = tempfile::tempdir().unwrap();
    let texts = synthea(1).remove(0);
    let vault = open_vault(folder.path()).await;
    let metas = store(&vault, 0, &texts).await;
    let erased: Vec<RecordId> = metas.iter().step_by(5).map(RecordMeta::record).collect();
    vault.erase(&erased, NOW).await.unwrap();
    drop(vault);
    let vault = open_vault(folder.path()).await;
    for (text, meta) in texts.iter().zip(&metas) {
        match read(&vault, meta, Holder::Root).await {
            Ok(found) => assert!(found == *text && !erased.contains(&meta.record())),
            Err(Error::Erased { record }) => assert!(erased.contains(&record)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(vault.tombstones().unwrap().len(), erased.len());
}
