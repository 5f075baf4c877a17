//! The vault over a real S3-compatible service, named by `STELE_TEST_S3_ENDPOINT` (for example
//! `http://127.0.0.1:5555`, as `moto_server -p 5555` of PyPI `moto[s3,server]` gives it). Built with
//! feature `s3` only, and fails where no service answers.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use alloy_primitives::{Address, B256};
use stele_core::{
    crypto::{Secret32, keystore::Unlock, os_rng},
    id::{LogId, RecordId},
    leaf::LeafKind,
    time::Timestamp,
};
use stele_vault::{
    Config, Content, NewRecord, Vault,
    keys::RootKey,
    store::s3::{S3Config, s3},
};
use zeroize::Zeroizing;

/// Creates a bucket by hand: the vault never does, an operator does.
fn create_bucket(endpoint: &str, bucket: &str) {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    let request = format!(
        "PUT /{bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A large record goes to the bucket, comes back block by block, verified, and is gone when erased.
#[tokio::test]
async fn a_large_record_lives_in_a_bucket() {
    let endpoint = std::env::var("STELE_TEST_S3_ENDPOINT").unwrap();
    create_bucket(&endpoint, "stele");
    let objects = s3(&S3Config {
        endpoint,
        bucket: "stele".into(),
        region: "us-east-1".into(),
        access_key_id: "test".into(),
        secret_access_key: Zeroizing::new("test".into()),
        allow_http: true,
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        objects: Some(objects),
        reserve_bytes: 0,
        ..Config::new(folder.path())
    };
    let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
    let vault = Vault::open(&config, &unlock).await.unwrap();
    let log = LogId::repeat_byte(1);
    vault
        .keys()
        .add_root(log, &RootKey::random(&mut os_rng()))
        .await
        .unwrap();
    let record = NewRecord {
        log,
        record: RecordId(B256::repeat_byte(2)),
        version: 1,
        kind: LeafKind::Create,
        category: 3,
        author: Address::repeat_byte(4),
        previous: B256::ZERO,
        content: Content::None,
    };
    let mut stream = vault
        .seal_stream(&record, Timestamp(1_793_500_000_000), &mut os_rng())
        .unwrap();
    stream.push(&vec![7; 12_000_000]).await.unwrap();
    let metas = vault.commit(stream.finish().await.unwrap()).await.unwrap();
    drop(vault);
    let vault = Vault::open(&config, &unlock).await.unwrap();
    let report = vault.store().verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad, []);
    assert!(report.checked.bytes > 12_000_000);
    let cid = metas[0].cid().unwrap().unwrap();
    vault.erase(&[record.record], Timestamp(0)).await.unwrap();
    assert!(!vault.store().has_block(&cid).unwrap());
    assert_eq!(vault.store().sweep().await.unwrap(), 0);
}
