//! What members tell each other beside the agreement: transactions that came in from outside, and that something
//! waits here for a block. A member without a seat, which proposes nothing, hands its transactions to another member.
//!
//! A transaction that this node signed for an account it keeps stays here until this node proposes it. Shared, it could
//! become final long after a restart had taken its write back. The others are asked instead to take their turns at
//! once, so that this node's comes soon.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use alloy_primitives::Bytes;
use alloy_rlp::Decodable as _;
use stele_chain::Chain;
use stele_consensus::{Committed, GOSSIP_BYTES_MAX, Gossip};
use stele_core::certificate::ValidatorKey;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use super::members::Others;

/// Transactions that wait to be shared; more are proposed by this node alone.
const SHARED: usize = 4_096;
/// Messages of others that wait to be read; more are dropped.
const HEARD: usize = 64;
/// How long transactions gather before they are sent together.
const GATHER: Duration = Duration::from_millis(3);
/// How long after a request for turns the next may follow if nothing became final.
const AGAIN: Duration = Duration::from_millis(300);

/// This node's end: what it shares and what it heard.
#[derive(Debug)]
pub(crate) struct Mouth {
    shared: mpsc::Sender<Bytes>,
    heard: mpsc::Sender<Bytes>,
    /// This node's validator keys.
    keys: Vec<ValidatorKey>,
}

/// What [`run`] works off.
#[derive(Debug)]
pub(crate) struct Ear {
    shared: mpsc::Receiver<Bytes>,
    heard: mpsc::Receiver<Bytes>,
}

/// The two ends, of a node whose validator has these keys. Without any the node counts as seated: it then has no other
/// members.
pub(crate) fn channel(keys: Vec<ValidatorKey>) -> (Mouth, Ear) {
    let (shared, shared_out) = mpsc::channel(SHARED);
    let (heard, heard_out) = mpsc::channel(HEARD);
    let ear = Ear {
        shared: shared_out,
        heard: heard_out,
    };
    let mouth = Mouth {
        shared,
        heard,
        keys,
    };
    (mouth, ear)
}

impl Mouth {
    /// Whether this node validates now.
    pub(crate) fn has_seat(&self, chain: &Chain) -> bool {
        let epoch = chain.epoch();
        self.keys.is_empty() || self.keys.iter().any(|key| epoch.set().keys().contains(key))
    }

    /// Shares a transaction that was admitted here. Lost where too many wait: this node still proposes it.
    pub(crate) fn share(&self, transaction: Bytes) {
        drop(self.shared.try_send(transaction));
    }

    /// Takes a message of another member. Lost where too many wait: its sender still proposes what it holds.
    pub(crate) fn heard(&self, message: Bytes) {
        drop(self.heard.try_send(message));
    }
}

/// What [`run`] needs of the node.
pub(crate) struct Member {
    pub(crate) chain: Arc<Chain>,
    pub(crate) gossip: Gossip,
    pub(crate) committed: watch::Receiver<Committed>,
    /// Told of every transaction that can be put into a block.
    pub(crate) work: Arc<Notify>,
    /// Asks this node's engine to take its turn at once.
    pub(crate) nudge: Box<dyn Fn() + Send + Sync>,
    pub(crate) mouth: Arc<Mouth>,
    /// To whom transactions are handed while this node has no seat.
    pub(crate) others: Arc<OnceLock<Others>>,
}

/// Speaks and listens until dropped.
pub(crate) fn run(member: Member, ear: Ear) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(share(
        ear.shared,
        member.gossip.clone(),
        Arc::clone(&member.chain),
        member.mouth,
        member.others,
    ));
    tasks.spawn(listen(ear.heard, Arc::clone(&member.chain), member.nudge));
    tasks.spawn(ask_for_turns(
        member.chain,
        member.gossip,
        member.committed,
        member.work,
    ));
    tasks
}

async fn share(
    mut shared: mpsc::Receiver<Bytes>,
    gossip: Gossip,
    chain: Arc<Chain>,
    mouth: Arc<Mouth>,
    others: Arc<OnceLock<Others>>,
) {
    while let Some(first) = shared.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut bytes = first.len();
        let mut together = vec![first];
        // A transaction has at most 256 KiB, so that half of the bound leaves room for one more and its framing.
        while bytes < GOSSIP_BYTES_MAX / 2 {
            let Ok(next) = shared.try_recv() else { break };
            bytes = bytes.saturating_add(next.len());
            together.push(next);
        }
        match others.get() {
            Some(others) if !mouth.has_seat(&chain) => others.hand_over(&together).await,
            _ => drop(gossip.send(alloy_rlp::encode(&together).into())),
        }
    }
}

async fn listen(
    mut heard: mpsc::Receiver<Bytes>,
    chain: Arc<Chain>,
    nudge: Box<dyn Fn() + Send + Sync>,
) {
    while let Some(message) = heard.recv().await {
        let Ok(transactions) = Vec::<Bytes>::decode(&mut message.as_ref()) else {
            tracing::warn!("a member sent a message that can't be read");
            continue;
        };
        if transactions.is_empty() {
            nudge();
            continue;
        }
        let chain = Arc::clone(&chain);
        let admitted = tokio::task::spawn_blocking(move || {
            // Refused ones are known already, or will not be executed by anybody.
            let results = chain.submit_all(transactions);
            results.iter().filter(|result| result.is_ok()).count()
        });
        if let Ok(admitted) = admitted.await {
            tracing::debug!(admitted, "heard transactions");
        }
    }
}

async fn ask_for_turns(
    chain: Arc<Chain>,
    gossip: Gossip,
    mut committed: watch::Receiver<Committed>,
    work: Arc<Notify>,
) {
    loop {
        work.notified().await;
        while chain.has_work() {
            gossip.send(alloy_rlp::encode(Vec::<Bytes>::new()).into());
            tokio::select! {
                changed = committed.changed() => {
                    if changed.is_err() {
                        // The engine has ended.
                        return;
                    }
                }
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lists_of_transactions() {
        let sent = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let read = Vec::<Bytes>::decode(&mut alloy_rlp::encode(&sent).as_slice());
        assert_eq!(read, Ok(sent));
        let none = alloy_rlp::encode(Vec::<Bytes>::new());
        assert_eq!(Vec::<Bytes>::decode(&mut none.as_slice()), Ok(Vec::new()));
        assert!(Vec::<Bytes>::decode(&mut b"\xff\xff".as_slice()).is_err());
    }
}
