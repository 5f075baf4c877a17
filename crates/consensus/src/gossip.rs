//! Messages of the application beside the agreement: whoever is connected gets them, nobody has to.
//!
//! They carry no weight in the agreement. A message is lost when its receiver is away or too slow, so whatever must
//! arrive goes into a block.

use std::sync::Arc;

use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use stele_core::certificate::ValidatorKey;
use tokio::sync::{Mutex, mpsc};

use crate::Application;

/// Longest message in bytes. Longer ones are not sent.
pub const GOSSIP_BYTES_MAX: usize = 1 << 20;

/// Messages that wait to be sent; more are dropped.
const OUTBOX: usize = 256;

/// Sends messages to the other validators. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gossip(mpsc::Sender<Bytes>);

impl Gossip {
    /// The sending end and what the engine takes messages from.
    pub(crate) fn new() -> (Self, Said) {
        let (sender, receiver) = mpsc::channel(OUTBOX);
        (Self(sender), Arc::new(Mutex::new(receiver)))
    }

    /// Sends a message to every validator that is connected now. False if it was dropped: it is longer than
    /// [`GOSSIP_BYTES_MAX`], too many wait, or the engine has ended.
    pub fn send(&self, message: Bytes) -> bool {
        message.len() <= GOSSIP_BYTES_MAX && self.0.try_send(message).is_ok()
    }
}

/// What the application said and is not sent yet. It outlives the engine that sends it.
pub(crate) type Said = Arc<Mutex<mpsc::Receiver<Bytes>>>;

/// Passes on what the application says.
pub(crate) async fn speak<S: Sender<PublicKey = PublicKey>>(said: Said, mut sender: S) {
    let mut outbox = said.lock().await;
    while let Some(message) = outbox.recv().await {
        sender.send(Recipients::All, message, false);
    }
    // Every sending end is gone: the engine goes on without.
    std::future::pending().await
}

/// Tells the application what others say.
pub(crate) async fn listen<A: Application, R: Receiver<PublicKey = PublicKey>>(
    application: A,
    mut receiver: R,
) {
    while let Ok((peer, message)) = receiver.recv().await {
        let Ok(key) = <[u8; 32]>::try_from(peer.as_ref()) else {
            continue;
        };
        if message.len() <= GOSSIP_BYTES_MAX {
            application.heard(
                ValidatorKey::new(key),
                Bytes::copy_from_slice(message.as_ref()),
            );
        }
    }
}
