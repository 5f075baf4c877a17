//! Four validators over real, encrypted connections on the loopback interface.

use std::{net::SocketAddr, time::Duration};

use stele_consensus::{Config, Handle, Network, Peer, SignerSeed, start};
use stele_core::certificate::ValidatorSet;
use tokio::{net::TcpListener, time::timeout};

use crate::ledger::{CHAIN_ID, Ledger};

const MEMBERS: u8 = 4;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

fn seed(index: u8) -> SignerSeed {
    SignerSeed::new([index; 32].into())
}

/// Addresses that were free a moment ago.
async fn addresses() -> Vec<SocketAddr> {
    let mut listeners = Vec::new();
    for _ in 0..MEMBERS {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect()
}

async fn until(handle: &Handle, height: u64) {
    let mut committed = handle.committed();
    timeout(DEADLINE, committed.wait_for(|tip| tip.height >= height))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn four_members_agree_and_one_that_was_away_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = addresses().await;
    let set = ValidatorSet::new((0..MEMBERS).map(|i| seed(i).public_key())).unwrap();
    let config = |me: u8| {
        let folder = dir.path().join(me.to_string());
        let mut config = Config::new(folder, CHAIN_ID, seed(me), set.clone());
        let others = (0..MEMBERS).filter(|other| *other != me);
        config.network = Network::Tcp {
            listen: addresses[usize::from(me)],
            peers: others
                .map(|i| Peer {
                    key: seed(i).public_key(),
                    address: addresses[usize::from(i)],
                })
                .collect(),
        };
        config
    };
    let ledgers: Vec<_> = (0..MEMBERS)
        .map(|_| Ledger::new(set.clone()).busy())
        .collect();
    let mut handles = Vec::new();
    for me in 0..MEMBERS {
        handles.push(
            start(config(me), ledgers[usize::from(me)].clone())
                .await
                .unwrap(),
        );
    }
    for handle in &handles {
        until(handle, 5).await;
    }

    handles.pop().unwrap().shutdown().await.unwrap();
    let height = handles[0].committed().borrow().height;
    until(&handles[0], height + 5).await;
    handles.push(start(config(3), ledgers[3].clone()).await.unwrap());
    until(&handles[3], height + 6).await;

    for handle in handles {
        handle.shutdown().await.unwrap();
    }
    let chains: Vec<_> = ledgers.iter().map(Ledger::hashes).collect();
    for chain in &chains {
        let common = chain.len().min(chains[0].len());
        assert_eq!(chain[..common], chains[0][..common]);
    }
}
