//! The network of the only validator: nobody to send to, nothing ever received, no port.

use std::{convert::Infallible, future::pending, num::NonZeroUsize, sync::Arc, time::SystemTime};

use commonware_actor::{Feedback, Unreliable};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, LimitedSender, Message, PeerSetSubscription,
    PeerSetUpdate, Provider, Receiver, Recipients, TrackedPeers,
};
use commonware_runtime::IoBufs;
use commonware_utils::{
    NZUsize,
    channel::{mpsc, ring},
    ordered::Set,
    sync::Mutex,
};

use crate::engine::Links;

/// All links of a validator that is alone.
pub(crate) fn links(me: PublicKey) -> Links<Nobody, Silence, Alone, Alone> {
    let link = || (Nobody, Silence);
    let alone = Alone {
        me,
        subscriptions: Arc::default(),
    };
    Links {
        votes: link(),
        certificates: link(),
        resolver: link(),
        backfill: link(),
        blocks: link(),
        gossip: link(),
        notices: link(),
        peers: alone.clone(),
        blocker: alone,
        room: 1,
        meet: Box::new(|_| {}),
    }
}

/// Sends to nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nobody;

impl LimitedSender for Nobody {
    type PublicKey = PublicKey;
    type Checked<'a> = Self;

    fn check(&mut self, _: Recipients<PublicKey>) -> Result<Self, SystemTime> {
        Ok(Self)
    }
}

impl CheckedSender for Nobody {
    type PublicKey = PublicKey;

    fn recipients(&self) -> Vec<PublicKey> {
        Vec::new()
    }

    fn send(self, _: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
        Unreliable::new(Feedback::Ok)
    }
}

/// Receives nothing, for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence;

impl Receiver for Silence {
    type Error = Infallible;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Infallible> {
        pending().await
    }

    fn capacity(&self) -> NonZeroUsize {
        NZUsize!(1)
    }
}

/// A peer set of one, and nobody to block.
#[derive(Clone, Debug)]
pub(crate) struct Alone {
    me: PublicKey,
    subscriptions: Arc<Mutex<Vec<mpsc::UnboundedSender<PeerSetUpdate<PublicKey>>>>>,
}

impl Alone {
    fn tracked(&self) -> TrackedPeers<PublicKey> {
        TrackedPeers::primary(Set::from_iter_dedup([self.me.clone()]))
    }
}

impl Provider for Alone {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, _: u64) -> Option<TrackedPeers<PublicKey>> {
        Some(self.tracked())
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let update = PeerSetUpdate {
            index: 0,
            latest: self.tracked(),
            all: self.tracked(),
        };
        // The receiver is in hand, so this cannot fail.
        let _ = sender.send(update);
        // The engine takes a closed subscription for the end of the network, so it stays open for
        // as long as anybody holds this network.
        self.subscriptions.lock().push(sender);
        receiver
    }
}

impl Blocker for Alone {
    type PublicKey = PublicKey;

    fn block(&mut self, _: PublicKey) -> Feedback {
        Feedback::Ok
    }

    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        ring::channel(NZUsize!(1)).1
    }
}
