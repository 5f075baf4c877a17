//! Two engines with one key: a validator that says one thing to some and another to the rest. Each engine is honest by
//! itself and hears one side of the network only, so together they propose two blocks and vote for both.

use std::{collections::BTreeSet, sync::Arc};

use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::engine::ChannelPair;
use commonware_p2p::{
    Recipients,
    simulated::{Receiver, SplitForwarder, SplitOrigin, SplitSender, SplitTarget},
};
use commonware_runtime::{Supervisor as _, deterministic::Context};
use rand_core::Rng as _;

/// A channel of one of the two engines.
pub(super) type Half<F> = (SplitSender<PublicKey, Context, F>, Receiver<PublicKey>);

/// Divides channels between two engines. Without a twin the first has all of them, and the second hears nobody. Which
/// side a peer is on is drawn anew at each start.
pub(super) fn split(
    context: &mut Context,
    channels: Vec<ChannelPair<PublicKey>>,
    everyone: Vec<PublicKey>,
    has_twin: bool,
) -> [Vec<Half<impl SplitForwarder<PublicKey> + use<>>>; 2] {
    let mut second_side = BTreeSet::new();
    if has_twin {
        let drawn = context.next_u64();
        let bits = (0..u64::BITS).map(|bit| drawn.checked_shr(bit).unwrap_or(0) & 1 == 1);
        let on_it = everyone.iter().zip(bits).filter(|(_, bit)| *bit);
        second_side.extend(on_it.map(|(peer, _)| peer.clone()));
    }
    let second_side = Arc::new(second_side);
    let everyone: Arc<[PublicKey]> = everyone.into();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (number, (sender, receiver)) in channels.into_iter().enumerate() {
        let side = Arc::clone(&second_side);
        let routing = context.child("side").with_attribute("channel", number);
        let (ours, theirs) = receiver.split_with(routing, move |(from, _)| {
            if side.contains(from) {
                SplitTarget::Secondary
            } else {
                SplitTarget::Primary
            }
        });
        let (near, far) =
            sender.split_with(forwarder(Arc::clone(&second_side), Arc::clone(&everyone)));
        first.push((near, ours));
        second.push((far, theirs));
    }
    [first, second]
}

/// Lets a message through to the peers on the side of the engine that sends it.
fn forwarder(
    second_side: Arc<BTreeSet<PublicKey>>,
    everyone: Arc<[PublicKey]>,
) -> impl SplitForwarder<PublicKey> {
    move |origin, recipients: &Recipients<PublicKey>, _: &_| {
        let is_second = origin == SplitOrigin::Secondary;
        if second_side.is_empty() && !is_second {
            return Some(recipients.clone());
        }
        let named: Vec<&PublicKey> = match recipients {
            Recipients::All => everyone.iter().collect(),
            Recipients::Some(peers) => peers.iter().collect(),
            Recipients::One(peer) => vec![peer],
        };
        let reached = named
            .into_iter()
            .filter(|peer| second_side.contains(peer) == is_second);
        let reached: Vec<PublicKey> = reached.cloned().collect();
        (!reached.is_empty()).then_some(Recipients::Some(reached))
    }
}
