//! One validator as `stele up` runs it: its own thread, no port, real disk.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stele_consensus::{Application as _, Config, Error, Handle, SignerSeed, start};
use stele_core::certificate::{CommitCertificate, ValidatorSet, namespace};
use tokio::time::timeout;

use crate::ledger::{CHAIN_ID, Ledger};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn seed() -> SignerSeed {
    SignerSeed::new([1; 32].into())
}

fn validators() -> ValidatorSet {
    ValidatorSet::new([seed().public_key()]).unwrap()
}

fn config(data_dir: &Path) -> Config {
    Config::new(data_dir.to_owned(), CHAIN_ID, seed(), &validators())
}

async fn until(handle: &Handle, height: u64) {
    let mut committed = handle.committed();
    timeout(DEADLINE, committed.wait_for(|tip| tip.height >= height))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_transaction_is_final_at_once_and_certified() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(validators());
    let handle = start(config(dir.path()), ledger.clone()).await.unwrap();
    ledger.submit(b"first");
    until(&handle, 1).await;
    ledger.submit(b"second");
    until(&handle, 2).await;
    assert!(handle.meter().read().await.contains("finalized"));
    handle.shutdown().await.unwrap();

    let namespace = namespace(CHAIN_ID, &ledger.genesis().hash());
    let disk = ledger.disk.lock().unwrap();
    let (block, certificate) = &disk.chain[0];
    assert_eq!(block.transactions, vec![b"first".to_vec()]);
    assert_eq!(certificate.block, block.hash());
    certificate
        .verify(&block.hash(), &validators(), &namespace)
        .unwrap();
}

#[tokio::test]
async fn an_idle_validator_keeps_its_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(validators());
    let mut config = config(dir.path());
    config.timing.heartbeat = Duration::from_millis(100);
    config.timing.leader_timeout = Duration::from_secs(30);
    let handle = start(config, ledger.clone()).await.unwrap();
    until(&handle, 5).await;
    handle.shutdown().await.unwrap();
    let disk = ledger.disk.lock().unwrap();
    assert!(
        disk.chain
            .iter()
            .all(|(block, _)| block.transactions.is_empty())
    );
    // One view a block: no view was given up while waiting.
    assert!(
        disk.chain
            .iter()
            .all(|(block, c)| c.view == block.header.number)
    );
}

#[tokio::test]
async fn resumes_where_it_was_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = Ledger::new(validators()).busy();
    let handle = start(config(dir.path()), before.clone()).await.unwrap();
    until(&handle, 50).await;
    handle.shutdown().await.unwrap();
    let known = before.hashes();
    assert!(known.len() >= 50);

    let after = Ledger::over(Arc::clone(&before.disk), validators());
    let handle = start(config(dir.path()), after.clone()).await.unwrap();
    after.submit(b"after the restart");
    // A block that was under way at the shutdown comes first.
    let transactions = || {
        let disk = after.disk.lock().unwrap();
        disk.chain
            .iter()
            .map(|(block, _)| block.transactions.len())
            .sum::<usize>()
    };
    let mut committed = handle.committed();
    timeout(DEADLINE, committed.wait_for(|_| transactions() == 1))
        .await
        .unwrap()
        .unwrap();
    handle.shutdown().await.unwrap();
    assert_eq!(after.hashes()[..known.len()], known);
}

#[tokio::test]
async fn a_failed_commit_stops_the_engine_and_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(validators()).busy();
    ledger.fail_at.store(10, Ordering::Relaxed);
    let mut handle = start(config(dir.path()), ledger.clone()).await.unwrap();
    let error = timeout(DEADLINE, handle.ended())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Application {
            doing: "committing",
            height: 10,
            ..
        }
    ));
    assert_eq!(ledger.hashes().len(), 9);

    // The block was final before the disk failed, so it comes again.
    ledger.fail_at.store(0, Ordering::Relaxed);
    let handle = start(config(dir.path()), ledger.clone()).await.unwrap();
    until(&handle, 12).await;
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn refuses_a_ledger_older_than_its_own_memory() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(validators()).busy();
    let handle = start(config(dir.path()), ledger.clone()).await.unwrap();
    until(&handle, 20).await;
    handle.shutdown().await.unwrap();
    ledger.disk.lock().unwrap().chain.truncate(3);
    let error = start(config(dir.path()), ledger).await.unwrap_err();
    assert!(matches!(error, Error::LedgerBehind { ledger: 3, processed } if processed > 3));
}

#[tokio::test]
async fn a_second_node_on_the_same_folder_is_refused_or_waits() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(config(dir.path()), Ledger::new(validators()))
        .await
        .unwrap();
    let second = start(config(dir.path()), Ledger::new(validators()));
    let second = timeout(Duration::from_secs(3), second).await;
    assert!(
        !matches!(second, Ok(Ok(_))),
        "two engines vote with one key"
    );
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn shutdown_is_prompt_while_idle_and_while_busy() {
    for busy in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(validators());
        let ledger = if busy { ledger.busy() } else { ledger };
        let handle = start(config(dir.path()), ledger).await.unwrap();
        if busy {
            until(&handle, 5).await;
        }
        // The heartbeat is five seconds away: nothing waits for it.
        timeout(Duration::from_secs(3), handle.shutdown())
            .await
            .unwrap()
            .unwrap();
    }
}

/// A ledger restored from a backup has no engine store beside it.
#[tokio::test]
async fn begins_anew_from_the_ledger_when_its_store_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let before = Ledger::new(validators()).busy();
    let handle = start(config(dir.path()), before.clone()).await.unwrap();
    until(&handle, 20).await;
    handle.shutdown().await.unwrap();
    let known = before.hashes();

    for _ in 0..2 {
        let empty = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let after = Ledger::over(Arc::clone(&before.disk), validators());
            let height = after.hashes().len() as u64;
            let handle = start(config(empty.path()), after.clone()).await.unwrap();
            after.submit(b"after the loss");
            until(&handle, height + 1).await;
            handle.shutdown().await.unwrap();
        }
    }
    assert_eq!(before.hashes()[..known.len()], known);
    assert!(before.hashes().len() >= known.len() + 4);
}

#[tokio::test]
async fn a_changed_certificate_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(validators());
    let handle = start(config(dir.path()), ledger.clone()).await.unwrap();
    ledger.submit(b"one");
    until(&handle, 1).await;
    handle.shutdown().await.unwrap();
    let (block, certificate) = ledger.disk.lock().unwrap().chain[0].clone();
    let namespace = namespace(CHAIN_ID, &ledger.genesis().hash());
    let bytes = certificate.encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let verdict = CommitCertificate::decode(&changed)
            .and_then(|read| read.verify(&block.hash(), &validators(), &namespace));
        assert!(verdict.is_err(), "byte {at} may be changed");
    }
}

/// NFR-INT4: a member without a seat takes blocks that the validators of their epoch finalized, and no others, whoever
/// offers them.
#[tokio::test]
async fn forged_blocks_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let honest = Ledger::new(validators()).busy();
    let handle = start(config(&dir.path().join("0")), honest.clone())
        .await
        .unwrap();
    until(&handle, 12).await;
    handle.shutdown().await.unwrap();
    let forged = Arc::new(std::sync::Mutex::new(crate::ledger::Disk::default()));
    let follower = |others: Vec<_>| Ledger::new(validators()).beside(others);
    for change in 0..4 {
        let mut chain = honest.disk.lock().unwrap().chain.clone();
        match change {
            // Another transaction in a block, a certificate of another block, a block left out, a signature changed.
            0 => {
                let mut block = stele_core::block::Block::clone(&chain[0].0);
                block.header.timestamp_ms += 1;
                chain[0].0 = Arc::new(block);
            }
            1 => {
                let mut other = chain[1].1.clone();
                other.block = chain[0].0.hash();
                chain[0].1 = other;
            }
            2 => drop(chain.remove(0)),
            _ => {
                for (_, certificate) in &mut chain {
                    certificate.signatures[0].signature.0[5] ^= 1;
                }
            }
        }
        forged.lock().unwrap().chain = chain;
        let stranger = SignerSeed::new([9; 32].into());
        let folder = dir.path().join(format!("forged-{change}"));
        let config = Config::new(folder, CHAIN_ID, stranger, &validators());
        let ledger = follower(vec![Arc::clone(&forged)]);
        let handle = start(config, ledger.clone()).await.unwrap();
        let offered = handle.committed();
        assert_eq!(offered.borrow().height, 0, "change {change}");
        handle.shutdown().await.unwrap();
        assert_eq!(ledger.hashes(), Vec::<[u8; 32]>::new(), "change {change}");
    }
    let stranger = SignerSeed::new([9; 32].into());
    let config = Config::new(dir.path().join("good"), CHAIN_ID, stranger, &validators());
    let ledger = follower(vec![Arc::clone(&honest.disk)]);
    let handle = start(config, ledger.clone()).await.unwrap();
    let all = u64::try_from(honest.hashes().len()).unwrap();
    until(&handle, all).await;
    handle.shutdown().await.unwrap();
    assert_eq!(ledger.hashes(), honest.hashes());
}
