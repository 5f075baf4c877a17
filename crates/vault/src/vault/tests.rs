use alloy_primitives::{Address, B256};
use futures::TryStreamExt;
use stele_core::{
    crypto::os_rng, element::ElementTree, id::LogId, leaf::LeafKind, time::Timestamp,
};

use super::*;
use crate::{
    keys::{Directory, RootKey},
    seal::{Content, NewRecord},
};

/// 2026-11: month 682 since January 1970.
const NOW: Timestamp = Timestamp(1_793_500_000_000);
const OBSERVATION: &str =
    r#"{"resourceType":"Observation","status":"final","valueQuantity":{"value":6.30}}"#;

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret32::new([1; 32]))
}

fn patient() -> LogId {
    LogId::repeat_byte(0xaa)
}

fn id(byte: u8) -> RecordId {
    RecordId(B256::repeat_byte(byte))
}

async fn open(folder: &Path) -> Vault {
    Vault::open(
        &Config {
            reserve_bytes: 0,
            ..Config::new(folder)
        },
        &unlock(),
    )
    .await
    .unwrap()
}

async fn with_patient(folder: &Path) -> Vault {
    let vault = open(folder).await;
    vault
        .keys()
        .add_root(patient(), &RootKey::random(&mut os_rng()))
        .await
        .unwrap();
    vault
}

fn new_record(record: RecordId, content: Content<'_>) -> NewRecord<'_> {
    NewRecord {
        log: patient(),
        record,
        version: 1,
        kind: LeafKind::Create,
        category: 5,
        author: Address::repeat_byte(3),
        previous: B256::ZERO,
        content,
    }
}

async fn store(vault: &Vault, records: &[NewRecord<'_>]) -> Vec<RecordMeta> {
    let batch = vault.seal_batch(records, NOW, &mut os_rng()).unwrap();
    vault.commit(batch).await.unwrap()
}

fn read(vault: &Vault, meta: &RecordMeta, holder: Holder) -> Result<String> {
    let pepper = vault.custodian.pepper(&meta.record(), meta.version())?;
    let content = vault.open_record(meta, holder, &pepper)?;
    Ok(String::from_utf8(content.to_vec()).unwrap())
}

/// A record's content with the shares that this vault has, all of them while it may write.
fn read_shared(vault: &Vault, meta: &RecordMeta) -> Result<String> {
    let shared = meta.shared.as_ref().unwrap();
    let of = crate::custody::ShareOf {
        log: meta.log,
        slot: meta.preimage.category_slot,
        record: &meta.record(),
        version: meta.version(),
    };
    let shares = vault.custodian.shares(shared.custody, shared.period, &of)?;
    let pepper = shared.pepper(&meta.record(), meta.version(), &shares);
    let content = vault.open_record(meta, Holder::Root, &pepper)?;
    Ok(String::from_utf8(content.to_vec()).unwrap())
}

/// LIM-13: peppers from before there were other custodians are shared as well, without sealing anything again; their own
/// tree is destroyed at the next start, and nothing that was erased comes back.
#[tokio::test(flavor = "multi_thread")]
async fn peppers_that_were_kept_alone_are_shared_anew() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Arc::new(with_patient(folder.path()).await);
    let one = |byte| new_record(id(byte), Content::Json(OBSERVATION));
    let before: Vec<_> = (0..100).map(one).collect();
    let metas = store(&vault, &before).await;
    vault.erase(&[id(7)], NOW).await.unwrap();
    assert!(metas.iter().all(|meta| meta.shared.is_none()));
    vault
        .custodian
        .found(crate::custody::Custody {
            id: alloy_primitives::B128::repeat_byte(1),
            owner: Address::repeat_byte(1),
            threshold: 2,
            custodians: (1..4).map(Address::repeat_byte).collect(),
        })
        .unwrap();
    let later = store(&vault, &[one(200)]).await;
    assert!(later[0].shared.as_ref().unwrap().mask.is_none());
    let sharing = Arc::clone(&vault);
    let done = tokio::task::spawn_blocking(move || sharing.share_anew());
    assert_eq!(done.await.unwrap().unwrap(), 99);
    assert!(vault.custodian.keeps_alone(), "until the next start");
    for meta in vault.all_metas() {
        let meta = meta.unwrap();
        assert_eq!(read_shared(&vault, &meta).unwrap(), OBSERVATION);
        assert_eq!(
            meta.shared.unwrap().mask.is_some(),
            meta.preimage.record != id(200)
        );
    }
    let alone = read(&vault, &metas[3], Holder::Root).unwrap();
    assert_eq!(alone, OBSERVATION, "as yet");
    vault.close().unwrap();
    drop(vault);
    let vault = open(folder.path()).await;
    assert!(!vault.custodian.keeps_alone());
    assert!(
        read(&vault, &metas[3], Holder::Root).is_err(),
        "not alone any more"
    );
    let meta = vault.meta(&id(3), 1).unwrap().unwrap();
    assert_eq!(meta.leaf(), metas[3].leaf());
    assert_eq!(read_shared(&vault, &meta).unwrap(), OBSERVATION);
    assert!(matches!(vault.meta(&id(7), 1), Err(Error::Erased { .. })));
}

fn raw_files(folder: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(raw_files(&path));
        } else {
            // The journal is preallocated: passing over its empty pages makes searching quick.
            let bytes = std::fs::read(&path).unwrap();
            out.extend(
                bytes
                    .chunks(4096)
                    .filter(|page| **page != [0; 4096][..page.len()])
                    .flatten(),
            );
        }
    }
    out
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[tokio::test]
async fn what_is_sealed_opens_after_reopening_and_its_leaf_holds() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let long = OBSERVATION.to_owned() + &" ".repeat(3_000);
    let records = [
        new_record(id(1), Content::Json(OBSERVATION)),
        new_record(id(2), Content::Json(&long)),
        new_record(id(3), Content::Opaque(b"bytes")),
        new_record(id(4), Content::None),
    ];
    let metas = store(&vault, &records).await;
    drop(vault);
    let vault = open(folder.path()).await;
    for (meta, text) in metas.iter().zip([OBSERVATION, &long, "bytes"]) {
        let kept = vault.meta(&meta.record(), 1).unwrap().unwrap();
        assert_eq!((&kept, kept.leaf()), (meta, meta.leaf()));
        assert_eq!(read(&vault, &kept, Holder::Root).unwrap(), text);
    }
    assert!(matches!(
        read(&vault, &metas[3], Holder::Root),
        Err(Error::MissingRecord { .. })
    ));
    let tree = ElementTree::new(OBSERVATION, &metas[0].element_salt).unwrap();
    assert_eq!(tree.root(), metas[0].preimage.element_root);
    assert_eq!(vault.all_metas().count(), 4);
    assert!(vault.meta(&id(9), 1).unwrap().is_none());
    // One encapsulation serves the whole batch.
    assert_eq!(vault.store.scan(Table::Encapsulations, &[]).count(), 1);
}

#[tokio::test]
async fn a_version_is_sealed_once() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let record = new_record(id(1), Content::Json(OBSERVATION));
    let first = vault.seal_batch(&[record], NOW, &mut os_rng()).unwrap();
    let second = vault.seal_batch(&[record], NOW, &mut os_rng()).unwrap();
    vault.commit(first).await.unwrap();
    assert!(matches!(
        vault.commit(second).await,
        Err(Error::Exists { .. })
    ));
    let third = vault.seal_batch(&[record], NOW, &mut os_rng());
    assert!(matches!(third, Err(Error::Exists { .. })));
    vault.discard(&id(1), 1).await.unwrap();
    store(&vault, &[record]).await;
    let next = NewRecord {
        version: 2,
        kind: LeafKind::Amend,
        ..record
    };
    store(&vault, &[next]).await;
    assert_eq!(vault.versions(&id(1)).unwrap().len(), 2);
}

#[tokio::test]
async fn refuses_to_seal_for_a_log_without_keys_or_json_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let stranger = NewRecord {
        log: LogId::ZERO,
        ..new_record(id(1), Content::Json(OBSERVATION))
    };
    let refused = vault.seal_batch(&[stranger], NOW, &mut os_rng());
    assert!(matches!(refused, Err(Error::UnknownLog { .. })));
    let broken = new_record(id(1), Content::Json("{"));
    let refused = vault.seal_batch(&[broken], NOW, &mut os_rng());
    assert!(matches!(refused, Err(Error::Element { .. })));
    let category = NewRecord {
        category: 64,
        ..new_record(id(1), Content::Opaque(b""))
    };
    let refused = vault.seal_batch(&[category], NOW, &mut os_rng());
    assert!(matches!(refused, Err(Error::OutOfRange { .. })));
}

/// A grantee opens what was granted; the next generation and other months stay closed to it.
#[tokio::test]
async fn a_grant_opens_its_category_until_the_next_generation() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let doctor = Address::repeat_byte(7);
    let public = vault
        .keys()
        .ensure_kem(doctor, &mut os_rng())
        .await
        .unwrap();
    assert_eq!(
        vault
            .keys()
            .ensure_kem(doctor, &mut os_rng())
            .await
            .unwrap(),
        public
    );
    let month = NOW.month();
    let before = store(&vault, &[new_record(id(1), Content::Json(OBSERVATION))])
        .await
        .remove(0);
    let holder = Holder::Grantee(doctor);
    assert!(matches!(
        read(&vault, &before, holder),
        Err(Error::NoKey { .. })
    ));
    let grants = vault
        .keys()
        .seal_grants(
            patient(),
            &[5],
            &(month..=month),
            (doctor, &public),
            &mut os_rng(),
        )
        .unwrap();
    vault.keys().add_grants(doctor, &grants).await.unwrap();
    assert_eq!(read(&vault, &before, holder).unwrap(), OBSERVATION);
    let other = NewRecord {
        category: 6,
        ..new_record(id(2), Content::Opaque(b"other"))
    };
    let other = store(&vault, &[other]).await.remove(0);
    assert!(matches!(
        read(&vault, &other, holder),
        Err(Error::NoKey { .. })
    ));
    assert_eq!(vault.keys().next_generation(patient(), 5).await.unwrap(), 1);
    let after = store(&vault, &[new_record(id(3), Content::Opaque(b"after"))])
        .await
        .remove(0);
    assert!(matches!(
        read(&vault, &after, holder),
        Err(Error::NoKey { .. })
    ));
    assert_eq!(read(&vault, &after, Holder::Root).unwrap(), "after");
    vault
        .keys()
        .remove_grants(doctor, patient(), before.preimage.category_slot)
        .await
        .unwrap();
    vault.clear_cached_keys();
    assert!(matches!(
        read(&vault, &before, holder),
        Err(Error::NoKey { .. })
    ));
}

/// A patient who holds the root: the organisation writes with the directory and reads nothing.
#[tokio::test]
async fn a_directory_lets_write_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path()).await;
    let root = RootKey::random(&mut os_rng());
    let directory = Directory::derive(&root, patient(), &[(5, 0)], NOW.month(), 2).unwrap();
    vault.keys().add_directory(&directory).await.unwrap();
    let meta = store(&vault, &[new_record(id(1), Content::Json(OBSERVATION))])
        .await
        .remove(0);
    assert_eq!(meta.preimage.category_slot, root.slot_of(5).unwrap());
    assert!(matches!(
        read(&vault, &meta, Holder::Root),
        Err(Error::NoKey { .. })
    ));
    vault.keys().add_root(patient(), &root).await.unwrap();
    assert_eq!(read(&vault, &meta, Holder::Root).unwrap(), OBSERVATION);
    vault.keys().remove_root(patient()).await.unwrap();
    vault.clear_cached_keys();
    assert!(matches!(
        read(&vault, &meta, Holder::Root),
        Err(Error::NoKey { .. })
    ));
    assert!(!vault.keys().manages(patient()).unwrap());
    vault.keys().add_root(patient(), &root).await.unwrap();
    assert_eq!(read(&vault, &meta, Holder::Root).unwrap(), OBSERVATION);
}

/// Requirements FR-D08, LIM-08: after erasure nothing opens the record, also from the raw files of
/// before, and restoring a backup of them does not bring it back once the tombstone is applied.
#[tokio::test]
async fn an_erased_record_is_gone_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let records = [
        new_record(id(1), Content::Json(OBSERVATION)),
        new_record(id(2), Content::Opaque(b"kept")),
    ];
    let metas = store(&vault, &records).await;
    let sealed = vault
        .store
        .value(Table::Meta, &meta::table_key(&id(1), 1))
        .unwrap()
        .unwrap();
    drop(vault);
    let backup = tempfile::tempdir().unwrap();
    copy(folder.path(), backup.path());

    let vault = open(folder.path()).await;
    vault.erase(&[id(1)], NOW).await.unwrap();
    vault.erase(&[id(1)], NOW).await.unwrap();
    assert!(matches!(vault.meta(&id(1), 1), Err(Error::Erased { .. })));
    assert!(matches!(
        read(&vault, &metas[0], Holder::Root),
        Err(Error::Erased { .. })
    ));
    let cid = metas[0].cid().unwrap().unwrap();
    assert!(!vault.store().has_block(&cid).unwrap());
    let again = vault.seal_batch(&records[..1], NOW, &mut os_rng());
    assert!(matches!(again, Err(Error::Erased { .. })));
    assert_eq!(read(&vault, &metas[1], Holder::Root).unwrap(), "kept");
    assert_eq!(vault.tombstones().unwrap(), [(id(1), NOW)]);
    // The old meta may linger in the journal; even so, this vault can no longer open it.
    assert!(matches!(
        RecordMeta::open(&vault.records, id(1), 1, &sealed),
        Err(Error::Erased { .. })
    ));
    drop(vault);

    // The key files of before are put back beside the newer database: opening cures them.
    for name in ["records.shred", "custodian.shred"] {
        std::fs::copy(backup.path().join(name), folder.path().join(name)).unwrap();
    }
    let vault = open(folder.path()).await;
    assert!(matches!(
        RecordMeta::open(&vault.records, id(1), 1, &sealed),
        Err(Error::Erased { .. })
    ));
    assert!(vault.custodian.pepper(&id(1), 1).is_err());
    drop(vault);

    // A whole restored backup knows nothing of the erasure until the ledger's tombstones come.
    let restored = open(backup.path()).await;
    assert!(restored.meta(&id(1), 1).unwrap().is_some());
    restored.erase(&[id(1)], NOW).await.unwrap();
    assert!(matches!(
        restored.meta(&id(1), 1),
        Err(Error::Erased { .. })
    ));
    assert!(matches!(
        read(&restored, &metas[0], Holder::Root),
        Err(Error::Erased { .. })
    ));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target)
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// Requirements NFR-SEC1, NFR-SEC2: the files of a vault hold no plaintext, salt, root or signing
/// key as they are.
#[tokio::test]
async fn the_files_hold_no_plaintext_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path()).await;
    let root = RootKey::random(&mut os_rng());
    let signing = Secret32::random(&mut os_rng());
    vault.keys().add_root(patient(), &root).await.unwrap();
    vault.keys().add_signing(patient(), &signing).await.unwrap();
    assert_eq!(
        vault.keys().signing(patient()).unwrap(),
        Some(signing.clone())
    );
    let again = vault.keys().add_signing(patient(), &signing).await;
    assert!(matches!(again, Err(Error::KeyExists { .. })));
    let metas = store(&vault, &[new_record(id(1), Content::Json(OBSERVATION))]).await;
    let master = vault.master.clone();
    drop(vault);
    let raw = raw_files(folder.path());
    let secrets = [
        root.secret().expose().as_slice(),
        signing.expose(),
        metas[0].element_salt.expose(),
        &metas[0].leaf_salt,
        master.expose(),
        b"Observation",
    ];
    for secret in secrets {
        assert!(!contains(&raw, secret));
    }
    let stored = metas[0].cid().unwrap().unwrap();
    assert!(
        contains(&raw, stored.hash().digest()),
        "the files read are the vault's"
    );
    let wrong = Unlock::KeyFile(Secret32::new([2; 32]));
    let refused = Vault::open(&Config::new(folder.path()), &wrong).await;
    assert!(matches!(refused, Err(Error::Crypto { .. })));
}

/// Large content streams in and out, byte for byte, whole or in parts, and is erased as well.
#[tokio::test]
async fn large_content_streams_in_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let content: Vec<u8> = (0..5_000_003u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
        .collect();
    let mut metas = Vec::new();
    for (byte, length) in [(1, 0), (2, 1_000), (3, 262_000), (4, content.len())] {
        let record = new_record(id(byte), Content::None);
        let mut stream = vault.seal_stream(&record, NOW, &mut os_rng()).unwrap();
        for piece in content[..length].chunks(77_777) {
            stream.push(piece).await.unwrap();
        }
        metas.extend(vault.commit(stream.finish().await.unwrap()).await.unwrap());
    }
    for meta in &metas {
        let size = meta.size_bytes;
        let pepper = vault.custodian.pepper(&meta.record(), 1).unwrap();
        for range in [
            0..size,
            0..10,
            65_530..65_540,
            size.saturating_sub(7)..size + 5,
        ] {
            let parts: Vec<_> = vault
                .open_stream(meta, Holder::Root, &pepper, range.clone())
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap();
            let [start, end] =
                [range.start, range.end].map(|at| usize::try_from(at.min(size)).unwrap());
            assert!(parts.concat() == content[start..end], "{size} {range:?}");
        }
    }
    let cid = metas[3].cid().unwrap().unwrap();
    assert!(vault.store().has_block(&cid).unwrap());
    assert!(
        vault
            .store()
            .verify_all(|_| ())
            .await
            .unwrap()
            .bad
            .is_empty()
    );
    vault.erase(&[id(4)], NOW).await.unwrap();
    assert!(!vault.store().has_block(&cid).unwrap());
    let objects = raw_files(&folder.path().join("objects"));
    assert!(objects.len() < 1_000_000, "the large object is gone");
}

/// Requirement NFR-INT1: an altered blob withholds its record by name; the rest is served.
#[tokio::test]
async fn an_altered_blob_withholds_its_record_only() {
    let folder = tempfile::tempdir().unwrap();
    let vault = with_patient(folder.path()).await;
    let records = [
        new_record(id(1), Content::Json(OBSERVATION)),
        new_record(id(2), Content::Opaque(b"kept")),
    ];
    let metas = store(&vault, &records).await;
    let cid = metas[0].cid().unwrap().unwrap();
    let digest = crate::cid::digest_of(&cid).unwrap();
    let mut bytes = vault.store.blob(&digest).unwrap().unwrap().to_vec();
    bytes[100] ^= 1;
    let mut writes = crate::store::Writes::default();
    writes.put(Table::Blobs, digest.to_vec(), bytes);
    vault.store.commit(writes).await.unwrap();
    let refused = read(&vault, &metas[0], Holder::Root);
    assert!(matches!(refused, Err(Error::Mismatch { cid: named }) if named == cid));
    assert_eq!(read(&vault, &metas[1], Holder::Root).unwrap(), "kept");
}

/// Two vaults may share an object store: opening one sweeps only its own part.
#[tokio::test]
async fn vaults_that_share_a_store_leave_each_other_alone() {
    let shared: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = |at: usize| Config {
        objects: Some(Arc::clone(&shared)),
        reserve_bytes: 0,
        ..Config::new(folders[at].path())
    };
    let mut kept = Vec::new();
    for at in [0, 1] {
        let vault = Vault::open(&config(at), &unlock()).await.unwrap();
        vault
            .keys()
            .add_root(patient(), &RootKey::random(&mut os_rng()))
            .await
            .unwrap();
        let record = new_record(id(1), Content::None);
        let mut stream = vault.seal_stream(&record, NOW, &mut os_rng()).unwrap();
        stream.push(&[7; 700_000]).await.unwrap();
        kept.extend(vault.commit(stream.finish().await.unwrap()).await.unwrap());
    }
    for at in [0, 1] {
        let vault = Vault::open(&config(at), &unlock()).await.unwrap();
        let cid = kept[at].cid().unwrap().unwrap();
        assert!(vault.store().block(&cid).await.unwrap().is_some());
        assert_eq!(vault.store().verify_all(|_| ()).await.unwrap().bad, []);
    }
}
