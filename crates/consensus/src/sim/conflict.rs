//! A validator that contradicts itself: it signs every proposal it hears of and another one for the same view, votes to
//! finalize both, and to give the view up as well.

use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::simplex::{
    scheme::ed25519::Scheme,
    types::{Finalize, Notarize, Nullify, Proposal, Vote},
};
use commonware_cryptography::{ed25519::PublicKey, sha256};
use commonware_p2p::{Receiver, Recipients, Sender, utils::mux::Muxer};
use commonware_runtime::{Supervisor as _, deterministic::Context};
use rand_core::Rng as _;
use stele_core::certificate::ValidatorKey;

use crate::{block::Digest, schedule::Schedule};

type AnyVote = Vote<Scheme, Digest>;

/// Votes in every epoch in which it has a seat, until the network ends. `me` is not answered.
pub(super) async fn vote_twice<S, R>(
    mut context: Context,
    schedule: Schedule,
    me: ValidatorKey,
    votes: (S, R),
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (mux, mut channels) = Muxer::new(context.child("votes"), votes.0, votes.1);
    mux.start();
    let mut newest = schedule.newest();
    loop {
        let number = *newest.borrow_and_update();
        let Some(seat) = schedule.seat() else {
            if newest.changed().await.is_err() {
                return;
            }
            continue;
        };
        let Ok((mut sender, mut receiver)) = channels.register(number).await else {
            return;
        };
        loop {
            let heard = tokio::select! {
                biased;
                changed = newest.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                heard = receiver.recv() => heard,
            };
            let Ok((from, message)) = heard else { return };
            let Ok(vote) = AnyVote::decode(message) else {
                continue;
            };
            if from.as_ref() == me.as_bytes() {
                continue;
            }
            let mut made_up = [0; 32];
            context.fill_bytes(&mut made_up);
            for vote in contradictions(&seat.scheme, vote, sha256::Digest(made_up)) {
                sender.send(Recipients::All, vote.encode(), true);
            }
        }
    }
}

/// What it says to a vote of another: the same, the opposite, and that there was nothing.
fn contradictions(scheme: &Scheme, vote: AnyVote, made_up: Digest) -> Vec<AnyVote> {
    let (proposal, is_final) = match vote {
        Vote::Notarize(vote) => (vote.proposal, false),
        Vote::Finalize(vote) => (vote.proposal, true),
        Vote::Nullify(_) => return Vec::new(),
    };
    let other = Proposal::new(proposal.round, proposal.parent, made_up);
    let nothing = Nullify::sign::<Digest>(scheme, proposal.round).map(Vote::Nullify);
    let both = [other, proposal].into_iter().map(|proposal| {
        if is_final {
            Finalize::sign(scheme, proposal).map(Vote::Finalize)
        } else {
            Notarize::sign(scheme, proposal).map(Vote::Notarize)
        }
    });
    both.chain([nothing]).flatten().collect()
}
