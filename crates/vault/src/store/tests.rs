use std::sync::Arc;

use futures::StreamExt;
use object_store::{ObjectStore, local::LocalFileSystem};
use proptest::prelude::*;

use super::*;
use crate::{
    cid::{DAG_PB, import},
    ipfs,
};

fn try_open(folder: &Path) -> Result<Store> {
    try_open_with(folder, 0)
}

fn open_with(folder: &Path, reserve_bytes: u64) -> Store {
    try_open_with(folder, reserve_bytes).unwrap()
}

fn try_open_with(folder: &Path, reserve_bytes: u64) -> Result<Store> {
    std::fs::create_dir_all(folder.join("objects")).unwrap();
    let objects = LocalFileSystem::new_with_prefix(folder.join("objects")).unwrap();
    let objects: Arc<dyn ObjectStore> = Arc::new(objects);
    Store::open(&StoreConfig {
        folder: &folder.join("db"),
        objects,
        reserve_bytes,
        cache_bytes: 1 << 20,
    })
}

fn open(folder: &Path) -> Store {
    open_with(folder, 0)
}

/// A store whose tables are described wrongly is refused with what is wrong.
#[test]
fn a_damaged_description_of_a_table_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let described = folder.path().join("db/keyspaces/1/v0");
    let mut bytes = std::fs::read(&described).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        bytes[at] ^= 0x80;
        std::fs::write(&described, &bytes).unwrap();
        match try_open(folder.path()) {
            Ok(store) => drop(store),
            Err(Error::Unreadable(damaged)) => {
                assert!(damaged.to_string().contains("v0 is damaged"), "{damaged}");
                refused += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
        bytes[at] ^= 0x80;
    }
    assert_eq!(refused, bytes.len());
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|at| {
            (at + seed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()[7]
        })
        .collect()
}

async fn put(store: &Store, bytes: &[u8]) -> Cid {
    let mut writer = store.object_writer();
    for piece in bytes.chunks(100_000) {
        writer.push(piece).await.unwrap();
    }
    let mut writes = Writes::default();
    let imported = writer.finish(&mut writes).await.unwrap();
    store.commit(writes).await.unwrap();
    assert_eq!(imported, import(bytes).unwrap());
    imported.cid
}

/// Every file under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path))
        } else {
            out.push(path)
        }
    }
    out
}

#[tokio::test]
async fn blobs_of_every_size_come_back_block_by_block() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for length in [
        0,
        1,
        4_000,
        LEAF_LEN,
        LEAF_LEN + 1,
        3 * LEAF_LEN + 17,
        6_000_000,
    ] {
        let bytes = pattern(length, length);
        let cid = put(&store, &bytes).await;
        assert!(store.has_block(&cid).unwrap());
        let mut found = Vec::new();
        let mut blocks = vec![cid];
        while let Some(next) = blocks.pop() {
            let block = store.block(&next).await.unwrap().unwrap();
            if next.codec() == DAG_PB {
                blocks.extend(crate::cid::links(&block).unwrap().into_iter().rev());
            } else {
                found.extend_from_slice(&block);
            }
        }
        assert!(found == bytes, "{length}");
    }
    let report = store.verify_all(|_| ()).await.unwrap();
    assert!(report.bad.is_empty(), "{:?}", report.bad);
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let small = put(&store, b"small").await;
    let large = put(&store, &pattern(400_000, 1)).await;
    drop(store);
    let store = open(folder.path());
    assert_eq!(&store.block(&small).await.unwrap().unwrap()[..], b"small");
    assert!(store.block(&large).await.unwrap().is_some());
    assert!(
        store
            .block(&import(b"other").unwrap().cid)
            .await
            .unwrap()
            .is_none()
    );
}

/// Requirement NFR-INT1: one flipped byte in a stored object is detected and the blob is named;
/// other blobs are served.
#[tokio::test]
async fn one_flipped_byte_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let good = put(&store, b"good").await;
    let cid = put(&store, &pattern(600_000, 2)).await;
    let [path] = &files(&folder.path().join("objects"))[..] else {
        panic!("one object")
    };
    let mut bytes = std::fs::read(path).unwrap();
    bytes[300_000] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let report = store.verify_all(|_| ()).await.unwrap();
    assert_eq!(
        report.bad.iter().map(|bad| bad.cid).collect::<Vec<_>>(),
        [cid]
    );
    let second = import(&pattern(600_000, 2)).unwrap().leaves[1];
    let refused = store.block(&cid_of(RAW, &second).unwrap()).await;
    assert!(matches!(refused, Err(Error::Mismatch { .. })));
    assert_eq!(&store.block(&good).await.unwrap().unwrap()[..], b"good");
    bytes.truncate(500_000);
    std::fs::write(path, &bytes).unwrap();
    let report = store.verify_all(|_| ()).await.unwrap();
    assert_eq!(
        report.bad.iter().map(|bad| bad.cid).collect::<Vec<_>>(),
        [cid]
    );
    std::fs::remove_file(path).unwrap();
    let report = store.verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad.len(), 1);
}

/// The same for a small blob: a byte is flipped in a value of the database.
#[tokio::test]
async fn an_altered_small_blob_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let imported = import(b"a small blob").unwrap();
    let mut writes = Writes::default();
    writes.put(
        Table::Blobs,
        imported.leaves[0].to_vec(),
        b"a small blub".to_vec(),
    );
    store.commit(writes).await.unwrap();
    let refused = store.block(&imported.cid).await;
    assert!(matches!(refused, Err(Error::Mismatch { cid }) if cid == imported.cid));
    let report = store.verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad[0].cid, imported.cid);
}

/// A disk without room: writes are refused by name, reads go on, and writes work again after.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let cid = put(&store, b"before").await;
    drop(store);
    let full = open_with(folder.path(), u64::MAX / 2);
    let mut writes = Writes::default();
    writes.put(Table::Blobs, vec![1; 32], vec![1]);
    assert!(matches!(
        full.commit(writes).await,
        Err(Error::DiskFull { .. })
    ));
    assert_eq!(&full.block(&cid).await.unwrap().unwrap()[..], b"before");
    let mut upload = full.object_writer();
    assert!(matches!(
        upload.push(&[0; 1000]).await,
        Err(Error::DiskFull { .. })
    ));
    drop(upload);
    let mut erasure = Writes::default();
    erasure.put(Table::Tombstones, vec![2; 32], vec![1]);
    erasure.remove(Table::Blobs, digest_of(&cid).unwrap().to_vec());
    full.commit(erasure).await.unwrap();
    assert_eq!(full.block(&cid).await.unwrap(), None, "erasing goes on");
    drop(full);
    put(&open(folder.path()), b"after").await;
}

/// A store that ended well needs no journal, so a damaged one costs nothing, and a damaged blob costs itself.
#[tokio::test]
async fn after_a_clean_end_nothing_is_read_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let small: Vec<Cid> = [pattern(300, 1), pattern(300, 2), pattern(5000, 3)]
        .iter()
        .map(|bytes| futures::executor::block_on(put(&store, bytes)))
        .collect();
    store.close().unwrap();
    let late = Writes::default();
    assert!(matches!(store.commit(late).await, Err(Error::Closed)));
    assert!(
        store.block(&small[0]).await.unwrap().is_some(),
        "reading goes on"
    );
    drop(store);
    let db = folder.path().join("db");
    let files = |extension: Option<&str>| {
        let mut found = Vec::new();
        let mut folders = vec![db.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().and_then(|e| e.to_str()) == extension {
                    found.push(path);
                }
            }
        }
        found
    };
    for journal in files(Some("jnl")) {
        let mut bytes = std::fs::read(&journal).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&journal, bytes).unwrap();
    }
    let needle = pattern(300, 2);
    let mut flipped = 0;
    for file in files(None) {
        let mut bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(300).position(|window| window == needle) {
            bytes[at + 100] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let store = open(folder.path());
    assert!(store.block(&small[0]).await.unwrap().is_some());
    assert!(matches!(
        store.block(&small[1]).await,
        Err(Error::Damaged { table: "blobs", .. })
    ));
    assert!(store.block(&small[2]).await.unwrap().is_some());
    let report = store.verify_all(|_| ()).await.unwrap();
    let bad: Vec<Cid> = report.bad.iter().map(|bad| bad.cid).collect();
    assert_eq!((bad, report.checked.checked), (vec![small[1]], 3));
    let again = put(&store, b"later").await;
    drop(store);
    assert!(open(folder.path()).block(&again).await.unwrap().is_some());
}

#[tokio::test]
async fn concurrent_commits_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let tasks = (0..200u32).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut writes = Writes::default();
            writes.put(Table::Keys, n.to_be_bytes().to_vec(), vec![1]);
            // All write this one too: a key may stand in a database batch only once.
            writes.put(Table::Keys, b"shared".to_vec(), n.to_be_bytes().to_vec());
            store.commit(writes).await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.scan(Table::Keys, &[]).count(), 201);
}

#[tokio::test]
async fn of_two_commits_of_one_record_version_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let writes = |value: u8| {
        let mut writes = Writes::default();
        let key = crate::meta::table_key(&stele_core::id::RecordId::default(), 7);
        writes.require_new_record(key.clone());
        writes.put(Table::Meta, key, vec![value]);
        writes
    };
    let (first, second) = tokio::join!(store.commit(writes(1)), store.commit(writes(2)));
    assert!(first.is_ok() != second.is_ok());
    assert!(matches!(
        store.commit(writes(3)).await,
        Err(Error::Exists { version: 7, .. })
    ));
}

#[tokio::test]
async fn unreferenced_objects_are_swept_and_removed_blobs_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = put(&store, &pattern(300_000, 1)).await;
    let mut writer = store.object_writer();
    writer.push(&pattern(300_000, 2)).await.unwrap();
    writer.finish(&mut Writes::default()).await.unwrap();
    assert_eq!(files(&folder.path().join("objects")).len(), 2);
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert!(store.block(&kept).await.unwrap().is_some());
    let mut writes = Writes::default();
    let object = store.remove(&kept, &mut writes).unwrap().unwrap();
    store.commit(writes).await.unwrap();
    store.delete_object(&object).await.unwrap();
    store.delete_object(&object).await.unwrap();
    assert!(store.block(&kept).await.unwrap().is_none());
    for table in [Table::Nodes, Table::Leaves, Table::Objects] {
        assert_eq!(store.scan(table, &[]).count(), 0);
    }
    assert!(files(&folder.path().join("objects")).is_empty());
}

/// A CAR file holds its root in the header and every block, each matching its CID.
#[tokio::test]
async fn a_car_holds_every_block_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = pattern(900_000, 3);
    let root = put(&store, &bytes).await;
    let frames: Vec<_> = ipfs::car(&store, root, ipfs::Scope::All).collect().await;
    let car = frames
        .into_iter()
        .collect::<Result<Vec<_>>>()
        .unwrap()
        .concat();
    let mut rest = car.as_slice();
    let take = |rest: &mut &[u8]| {
        let length = crate::codec::take_varint(rest).unwrap();
        let (frame, left) = rest.split_at(usize::try_from(length).unwrap());
        *rest = left;
        frame.to_vec()
    };
    let header = take(&mut rest);
    assert!(header.windows(36).any(|window| window == root.to_bytes()));
    let mut content = Vec::new();
    let mut blocks = 0;
    while !rest.is_empty() {
        let frame = take(&mut rest);
        let cid = Cid::try_from(&frame[..36]).unwrap();
        crate::cid::verify(&cid, &frame[36..]).unwrap();
        blocks += 1;
        if cid.codec() == RAW {
            content.extend_from_slice(&frame[36..]);
        }
    }
    assert_eq!(blocks, 5);
    assert!(content == bytes);
    let one: Vec<_> = ipfs::car(&store, root, ipfs::Scope::Block).collect().await;
    assert_eq!(one.len(), 1);
    let absent = import(b"absent").unwrap().cid;
    let none: Vec<_> = ipfs::car(&store, absent, ipfs::Scope::All).collect().await;
    assert!(matches!(none[..], [Err(Error::MissingBlob { .. })]));
}

proptest! {
    #[test]
    fn arbitrary_descriptions_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = vec![1];
        framed.extend_from_slice(&bytes);
        if let Ok(object) = Object::decode(&framed) {
            prop_assert_eq!(object.encode(), framed);
        }
    }
}
