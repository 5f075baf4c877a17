use stele_core::{leaf::LeafKind, time::Timestamp};

use super::*;
use crate::{
    Config,
    keys::{GrantSealer, RootKey},
    seal::{Content, NewRecord},
};
use stele_core::crypto::keystore::Unlock;

const NOW: Timestamp = Timestamp(1_793_500_000_000);
const TEXT: &str = r#"{"resourceType":"Observation","status":"final"}"#;

fn log() -> LogId {
    LogId::repeat_byte(0xaa)
}

fn record() -> RecordId {
    RecordId(B256::repeat_byte(7))
}

async fn open(folder: &std::path::Path) -> Vault {
    let config = Config {
        reserve_bytes: 0,
        ..Config::new(folder)
    };
    let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
    Vault::open(&config, &unlock).await.unwrap()
}

async fn owner(folder: &std::path::Path) -> Vault {
    let vault = open(folder).await;
    let root = RootKey::random(&mut os_rng());
    vault.keys().add_root(log(), &root).await.unwrap();
    write(&vault).await;
    vault
}

async fn write(vault: &Vault) {
    let new = NewRecord {
        log: log(),
        record: record(),
        version: 1,
        kind: LeafKind::Create,
        category: 5,
        author: Address::repeat_byte(3),
        previous: B256::ZERO,
        content: Content::Json(TEXT),
    };
    let batch = vault.seal_batch(&[new], NOW, &mut os_rng()).unwrap();
    vault.commit(batch).await.unwrap();
}

fn parcel_of(vault: &Vault) -> Parcel {
    let described = |_: &RecordMeta| Zeroizing::new(b"described".to_vec());
    vault
        .parcel((4, &record(), 1), Holder::Root, described)
        .unwrap()
        .unwrap()
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let beside = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &beside);
        } else {
            std::fs::copy(entry.path(), beside).unwrap();
        }
    }
}

/// NFR-REL2: what was written after a backup comes back from a parcel, byte for byte; keys that were made after it, too.
#[tokio::test]
async fn a_parcel_gives_back_what_an_older_backup_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let (live, old) = (folder.path().join("live"), folder.path().join("old"));
    let vault = open(&live).await;
    vault.close().unwrap();
    drop(vault);
    copy_folder(&live, &old);
    let vault = owner(&live).await;
    let parcel = parcel_of(&vault);
    let keys = vault.sealed_keys(log()).unwrap();
    let meta = vault.meta(&record(), 1).unwrap().unwrap();
    let root = vault.keys().root(log()).unwrap().unwrap();

    let restored = open(&old).await;
    assert_eq!(restored.take_back_keys(log(), &keys).await.unwrap(), 1);
    assert_eq!(restored.take_back_keys(log(), &keys).await.unwrap(), 0);
    let found = restored.open_parcel(log(), &parcel).unwrap().unwrap();
    assert_eq!(found.meta, meta);
    restored.take_back(&[found]).await.unwrap();
    assert_eq!(restored.meta(&record(), 1).unwrap().unwrap(), meta);
    let again = restored.keys().root(log()).unwrap().unwrap();
    assert_eq!(again.secret().expose(), root.secret().expose());

    let moved = Parcel { leaf: 5, ..parcel };
    assert!(
        restored.open_parcel(log(), &moved).is_err(),
        "another leaf's"
    );
    let other = open(&folder.path().join("other")).await;
    assert!(other.open_parcel(log(), &moved).is_err(), "another vault's");
    assert!(other.take_back_keys(log(), &keys).await.is_err());
}

/// A copy that outlives an erasure brings nothing back, not even where the list of erased records is lost but the tree is
/// the present one.
#[tokio::test]
async fn a_parcel_brings_no_erased_record_back() {
    let folder = tempfile::tempdir().unwrap();
    let vault = owner(folder.path()).await;
    let parcel = parcel_of(&vault);
    let keys = vault.sealed_keys(log()).unwrap();
    vault.erase(&[record()], NOW).await.unwrap();
    assert!(vault.open_parcel(log(), &parcel).unwrap().is_none());
    assert!(matches!(
        RecordMeta::open(&vault.records, record(), 1, &[0; 64]),
        Err(Error::Erased { .. })
    ));
    vault.keys().remove_root(log()).await.unwrap();
    assert_eq!(vault.take_back_keys(log(), &keys).await.unwrap(), 0);
    assert!(vault.keys().root(log()).unwrap().is_none());
}

/// LIM-13: readers open what a parcel says of a record with the keys they were granted, and nobody else does.
#[tokio::test]
async fn readers_open_their_part_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let vault = owner(&folder.path().join("owner")).await;
    let parcel = parcel_of(&vault);
    let reader = Address::repeat_byte(9);
    let elsewhere = open(&folder.path().join("reader")).await;
    let public = elsewhere
        .keys()
        .ensure_kem(reader, &mut os_rng())
        .await
        .unwrap();
    let digest = parcel.encapsulation.unwrap();
    let encapsulation = vault.encapsulation(&digest).unwrap();
    elsewhere
        .keep_encapsulations(&[encapsulation])
        .await
        .unwrap();
    let opened = elsewhere.open_shared(reader, log(), &parcel).unwrap();
    assert!(opened.is_none(), "nothing was granted");

    let root = vault.keys().root(log()).unwrap().unwrap();
    let sealer = GrantSealer::new(reader, &public, &mut os_rng()).unwrap();
    let grant = |category| {
        sealer
            .seal(&root, log(), category, 0, 0..=u16::MAX, &mut os_rng())
            .unwrap()
    };
    let wrong = [grant(6)];
    elsewhere.keys().add_grants(reader, &wrong).await.unwrap();
    let opened = elsewhere.open_shared(reader, log(), &parcel).unwrap();
    assert!(opened.is_none(), "another category");
    let right = [grant(5)];
    elsewhere.keys().add_grants(reader, &right).await.unwrap();
    let opened = elsewhere.open_shared(reader, log(), &parcel).unwrap();
    assert_eq!(opened.unwrap().as_slice(), b"described");
    let altered = Parcel { leaf: 5, ..parcel };
    let opened = elsewhere.open_shared(reader, log(), &altered).unwrap();
    assert!(opened.is_none(), "moved to another leaf");
}

/// Parcels are held by log in order, and one goes with the ciphertext that came for it, but not with one that was there.
#[tokio::test]
async fn parcels_are_kept_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let vault = owner(&folder.path().join("owner")).await;
    let made = parcel_of(&vault);
    let holder = open(&folder.path().join("holder")).await;
    let cid = made.cid.unwrap();
    let block = vault.store().block(&cid).await.unwrap().unwrap();
    let mut writer = holder.store().object_writer();
    writer.push(&block).await.unwrap();
    writer.finish_fetched(&cid).await.unwrap();
    let mut copy = LogCopy::new(Address::repeat_byte(1));
    copy.next = 9;
    copy.as_of = 4;
    copy.keys = vec![(log(), vec![1, 2, 3])];
    let held = |leaf, is_blob_ours| Held {
        log: log(),
        parcel: Parcel {
            leaf,
            ..made.clone()
        },
        is_blob_ours,
    };
    let all = [held(2, false), held(8, true)];
    holder.keep_parcels(log(), &copy, &all).await.unwrap();
    let other = LogId::repeat_byte(0xab);
    holder
        .keep_parcels(other, &LogCopy::new(Address::ZERO), &[])
        .await
        .unwrap();
    assert_eq!(holder.log_copy(log()).unwrap().unwrap(), copy);
    let leaves = |from, limit| {
        let found = holder.parcels(log(), from, limit).unwrap();
        found.iter().map(|one| one.leaf).collect::<Vec<_>>()
    };
    assert_eq!(leaves(0, 10), [2, 8]);
    assert_eq!(leaves(3, 10), [8]);
    assert_eq!(leaves(0, 1), [2]);
    let some = holder.some_parcels(&[0xff; 20], 10).unwrap();
    assert_eq!(some, all, "from the beginning after the end");

    assert!(holder.store().is_whole(&cid).await.unwrap());
    assert!(holder.drop_parcel(log(), 2).await.unwrap());
    assert!(holder.store().is_whole(&cid).await.unwrap());
    assert!(holder.drop_parcel(log(), 8).await.unwrap());
    assert!(!holder.store().is_whole(&cid).await.unwrap());
    assert!(!holder.drop_parcel(log(), 8).await.unwrap());
    assert!(leaves(0, 10).is_empty());
}

/// Bytes of a copy that is none give an error.
#[test]
fn altered_rows_are_refused() {
    let copy = LogCopy::new(Address::repeat_byte(1)).encode().unwrap();
    for length in 0..copy.len() {
        assert!(LogCopy::decode(&copy[..length]).is_err(), "{length}");
    }
    let held = Held {
        log: log(),
        parcel: Parcel {
            leaf: 1,
            cid: None,
            encapsulation: None,
            sealed: vec![1],
            shared: Vec::new(),
        },
        is_blob_ours: false,
    };
    let (key, value) = (Held::key(log(), 1), held.encode());
    assert_eq!(Held::decode(&key, &value).unwrap(), held);
    for length in 0..value.len() {
        assert!(Held::decode(&key, &value[..length]).is_err(), "{length}");
    }
}
