//! Four validators over real, encrypted connections on the loopback interface.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use stele_consensus::{Application as _, Config, Handle, Network, Peer, SignerSeed, Timing, start};
use stele_core::certificate::ValidatorSet;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::ledger::{CHAIN_ID, Disk, Ledger};

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

/// Where these are, known from the start.
fn book(members: impl Iterator<Item = u8>, addresses: &[SocketAddr]) -> watch::Receiver<Vec<Peer>> {
    let peers = members.map(|i| Peer {
        key: seed(i).public_key(),
        address: addresses[usize::from(i)].into(),
    });
    watch::channel(peers.collect()).1
}

async fn until(handle: &Handle, height: u64) {
    let mut committed = handle.committed();
    timeout(DEADLINE, committed.wait_for(|tip| tip.height >= height))
        .await
        .unwrap()
        .unwrap();
}

/// Whoever is no member gets no connection: nobody hears it, and it hears nobody.
#[tokio::test]
async fn only_members_are_heard() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = addresses().await;
    let set = ValidatorSet::new((0..MEMBERS).map(|i| seed(i).public_key())).unwrap();
    // The last one is a stranger that knows everything but has no seat: three members and it.
    let seats = ValidatorSet::new((0..MEMBERS - 1).map(|i| seed(i).public_key())).unwrap();
    let mut members = Vec::new();
    for me in 0..MEMBERS {
        let is_member = me + 1 < MEMBERS;
        let known = if is_member { &seats } else { &set };
        let folder = dir.path().join(me.to_string());
        let mut config = Config::new(folder, CHAIN_ID, seed(me), known);
        let others =
            (0..MEMBERS).filter(|other| *other != me && (!is_member || *other + 1 < MEMBERS));
        config.network = Network::Tcp {
            listen: addresses[usize::from(me)],
            peers: book(others, &addresses),
        };
        let ledger = Ledger::new(seats.clone()).claiming(known).busy();
        members.push((start(config, ledger.clone()).await.unwrap(), ledger));
    }
    until(&members[0].0, 3).await;
    let say_all = || {
        for (index, (handle, _)) in members.iter().enumerate() {
            assert!(
                handle
                    .gossip()
                    .send(vec![u8::try_from(index).unwrap()].into())
            );
        }
    };
    let heard = |index: usize| members[index].1.heard();
    let from = |index: u8| (seed(index).public_key(), vec![index]);
    // Messages may be lost while connections are made, so they are said again.
    let all_members_heard = async {
        while !(heard(0).contains(&from(1))
            && heard(1).contains(&from(2))
            && heard(2).contains(&from(0)))
        {
            say_all();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEADLINE, all_members_heard).await.unwrap();
    let height = members[0].0.committed().borrow().height;
    until(&members[0].0, height + 20).await;
    say_all();
    until(&members[0].0, height + 40).await;
    assert_eq!(heard(3), [], "the stranger hears nobody");
    for index in 0..3 {
        assert!(!heard(index).contains(&from(3)), "the stranger is heard");
    }
    assert_eq!(members[3].0.committed().borrow().height, 0);
    for (handle, _) in members {
        handle.shutdown().await.unwrap();
    }
}

/// Names are looked up; a port that is taken is an error with its number.
#[tokio::test]
async fn a_taken_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let set = ValidatorSet::new((0..2).map(|i| seed(i).public_key())).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(dir.path().join("0"), CHAIN_ID, seed(0), &set);
    config.network = Network::Tcp {
        listen: taken.local_addr().unwrap(),
        peers: watch::channel(vec![Peer {
            key: seed(1).public_key(),
            address: "localhost:1".parse().unwrap(),
        }])
        .1,
    };
    let error = start(config, Ledger::new(set)).await.unwrap_err();
    let port = taken.local_addr().unwrap().to_string();
    assert!(error.to_string().contains(&port), "{error}");
    assert_eq!(error.code(), "consensus_listen");
}

#[tokio::test]
async fn four_members_agree_and_one_that_was_away_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = addresses().await;
    let set = ValidatorSet::new((0..MEMBERS).map(|i| seed(i).public_key())).unwrap();
    let config = |me: u8| {
        let folder = dir.path().join(me.to_string());
        let mut config = Config::new(folder, CHAIN_ID, seed(me), &set);
        let others = (0..MEMBERS).filter(|other| *other != me);
        config.network = Network::Tcp {
            listen: addresses[usize::from(me)],
            peers: book(others, &addresses),
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

/// S15 at the engine: a fifth validator that was never started takes a seat, another leaves its own, and a third
/// changes its key, on real connections. The fifth one's address is known to one of the others only: it calls them.
#[tokio::test]
async fn validators_join_and_leave() {
    let dir = tempfile::tempdir().unwrap();
    let mut addresses = addresses().await;
    let more = TcpListener::bind("127.0.0.1:0").await.unwrap();
    addresses.push(more.local_addr().unwrap());
    drop(more);
    let set = ValidatorSet::new((0..MEMBERS).map(|i| seed(i).public_key())).unwrap();
    let config = |me: u8, knows: u8| {
        let folder = dir.path().join(me.to_string());
        let mut config = Config::new(folder, CHAIN_ID, seed(me), &set);
        config.timing = Timing::members();
        config.network = Network::Tcp {
            listen: addresses[usize::from(me)],
            peers: book((0..knows).filter(|other| *other != me), &addresses),
        };
        config
    };
    let disks: Vec<Arc<Mutex<Disk>>> = (0..5).map(|_| Arc::default()).collect();
    let ledger = |me: usize| {
        let others = (0..5).filter(|other| *other != me);
        let others = others.map(|other| Arc::clone(&disks[other])).collect();
        Ledger::over(Arc::clone(&disks[me]), set.clone())
            .beside(others)
            .busy()
    };
    let first = ledger(0);
    let mut handles = vec![start(config(0, 5), first.clone()).await.unwrap()];
    for me in 1..MEMBERS {
        let started = start(config(me, 4), ledger(usize::from(me))).await;
        handles.push(started.unwrap());
    }
    // It has no seat yet, so it follows.
    handles.push(start(config(4, 5), ledger(4)).await.unwrap());
    until(&handles[4], 3).await;
    // A decision takes effect after 64 blocks at most.
    let height = handles[0].committed().borrow().height;
    first.submit(b"seats 0 1 2 3 4");
    let seats = |handle: usize| ledger(handle).epochs(0).last().unwrap().set().keys().len();
    for handle in &handles {
        until(handle, height + 80).await;
    }
    assert_eq!((seats(0), seats(4)), (5, 5));
    // Four of five are a quorum, and one of them is the new one.
    handles.remove(1).shutdown().await.unwrap();
    let height = handles[0].committed().borrow().height;
    until(&handles[0], height + 10).await;
    let height = handles[0].committed().borrow().height;
    first.submit(b"seats 0 2 4");
    for handle in &handles {
        until(handle, height + 80).await;
    }
    assert_eq!(seats(0), 3);
    for handle in handles {
        handle.shutdown().await.unwrap();
    }
    let chains: Vec<_> = (0..5).map(|me| ledger(me).hashes()).collect();
    for chain in &chains {
        let common = chain.len().min(chains[0].len());
        assert_eq!(chain[..common], chains[0][..common]);
    }
    let proposers: BTreeSet<_> = disks[0].lock().unwrap().chain[80..]
        .iter()
        .map(|(block, _)| block.header.proposer.0)
        .collect();
    assert!(proposers.contains(seed(4).public_key().as_bytes()));
}
