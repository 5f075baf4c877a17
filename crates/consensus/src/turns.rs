//! One agreement an epoch: when the last block of an epoch is committed, its agreement is stopped and that of the next
//! begins with that epoch's validators, on the same connections.
//!
//! Messages carry the number of their epoch. A validator that hears of another epoch than its own either lags behind,
//! and then asks for the last block of its epoch, or is ahead, and then tells the other where that epoch ended.

use std::{collections::BTreeMap, future::pending};

use bytes::Bytes;
use commonware_consensus::{
    simplex::{Floor, scheme::ed25519::Scheme},
    types::{Epoch as EngineEpoch, Epocher as _, Height},
};
use commonware_cryptography::{ed25519::PublicKey, sha256};
use commonware_p2p::{
    Channel, Message, Receiver, Recipients, Sender,
    utils::mux::{Builder as _, MuxHandle, Muxer, SubReceiver, SubSender},
};
use commonware_runtime::{Handle, Metrics, Spawner};
use commonware_utils::vec::NonEmptyVec;
use stele_core::{certificate::ValidatorKey, epoch::Epoch};
use tokio::sync::{mpsc, oneshot};

use crate::{
    block::Digest,
    commit::Marshal,
    engine::Meet,
    schedule::{Schedule, Seat},
};

/// A channel of one epoch.
pub(crate) type Link<S> = (SubSender<S>, SubReceiver<PublicKey>);

/// The channels of one epoch's agreement.
pub(crate) struct EpochLinks<S: Sender> {
    pub(crate) votes: Link<S>,
    pub(crate) certificates: Link<S>,
    pub(crate) resolver: Link<S>,
}

/// Messages of epochs that have no agreement here.
type Strays = mpsc::Receiver<(Channel, Message<PublicKey>)>;

/// The channels, each split by epoch.
pub(crate) struct Split<S: Sender> {
    votes: MuxHandle<S>,
    stray_votes: Strays,
    certificates: MuxHandle<S>,
    stray_certificates: Strays,
    resolver: MuxHandle<S>,
}

impl<S: Sender<PublicKey = PublicKey>> Split<S> {
    /// Begins to sort messages by epoch.
    pub(crate) fn start<E, R>(
        runtime: &E,
        votes: (S, R),
        certificates: (S, R),
        resolver: (S, R),
    ) -> Self
    where
        E: Spawner + Metrics,
        R: Receiver<PublicKey = PublicKey>,
    {
        let (mux, votes, stray_votes) = Muxer::builder(runtime.child("votes"), votes.0, votes.1)
            .with_backup()
            .build();
        mux.start();
        let (mux, certificates, stray_certificates) = Muxer::builder(
            runtime.child("certificates"),
            certificates.0,
            certificates.1,
        )
        .with_backup()
        .build();
        mux.start();
        let (mux, resolver) = Muxer::new(runtime.child("resolver"), resolver.0, resolver.1);
        mux.start();
        Self {
            votes,
            stray_votes,
            certificates,
            stray_certificates,
            resolver,
        }
    }

    /// The channels of an epoch. `None` if the network has ended.
    async fn of(&mut self, epoch: u64) -> Option<EpochLinks<S>> {
        Some(EpochLinks {
            votes: self.votes.register(epoch).await.ok()?,
            certificates: self.certificates.register(epoch).await.ok()?,
            resolver: self.resolver.register(epoch).await.ok()?,
        })
    }
}

/// An agreement under way; it ends when this is dropped.
struct Agreement(Handle<()>);

impl Drop for Agreement {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one agreement after the other.
pub(crate) struct Turns<S: Sender, R, F> {
    pub(crate) schedule: Schedule,
    pub(crate) marshal: Marshal,
    pub(crate) split: Split<S>,
    /// Where validators tell each other at which height an epoch ended.
    pub(crate) notices: (S, R),
    /// The key by which the others know this validator.
    pub(crate) key: ValidatorKey,
    /// Validators that can meet.
    pub(crate) room: usize,
    /// Connects to the validators of an epoch.
    pub(crate) meet: Meet,
    /// Starts an agreement.
    pub(crate) begin: F,
    /// Told when this engine can't go on; see [`crate::engine::Running::done`].
    pub(crate) done: oneshot::Sender<()>,
}

impl<S, R, F> Turns<S, R, F>
where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    F: FnMut(Seat, Floor<Scheme, Digest>, EpochLinks<S>) -> Handle<()>,
{
    /// Runs until the network or an agreement ends by itself, which must stop the node. `floor` is where the first
    /// agreement stands.
    pub(crate) async fn run(mut self, floor: Floor<Scheme, Digest>) {
        let mut newest = self.schedule.newest();
        let mut floor = Some(floor);
        loop {
            newest.borrow_and_update();
            let seat = self.schedule.seat().filter(|seat| self.fits(seat));
            let Some(seat) = seat else {
                // Whoever waits for this ends all tasks. It may have gone already.
                let _ = self.done.send(());
                return pending().await;
            };
            let epoch = Epoch::clone(&seat.epoch);
            tracing::info!(
                epoch = epoch.number(),
                first = epoch.first(),
                validators = epoch.validators().len(),
                "an epoch begins"
            );
            (self.meet)(&epoch);
            let Some(links) = self.split.of(epoch.number()).await else {
                return;
            };
            let floor = floor.take().unwrap_or_else(|| base(&epoch));
            let mut agreement = Agreement((self.begin)(seat, floor, links));
            let mut told = BTreeMap::new();
            loop {
                tokio::select! {
                    biased;
                    changed = newest.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                    Some((theirs, (from, _))) = self.split.stray_votes.recv() => {
                        self.met(epoch.number(), theirs, from);
                    }
                    Some((theirs, (from, _))) = self.split.stray_certificates.recv() => {
                        self.met(epoch.number(), theirs, from);
                    }
                    message = self.notices.1.recv() => {
                        let Ok((from, message)) = message else { return };
                        self.hear(epoch.number(), from, message.as_ref(), &mut told);
                    }
                    _ = &mut agreement.0 => return,
                }
            }
        }
    }

    /// Whether the epoch can be agreed on over these channels.
    fn fits(&self, seat: &Seat) -> bool {
        seat.epoch.validators().len() <= self.room && seat.signer.public_key() == self.key
    }

    /// A message of another epoch came from this validator.
    fn met(&mut self, ours: u64, theirs: u64, from: PublicKey) {
        if theirs < ours {
            if let Some(last) = self.schedule.last(EngineEpoch::new(theirs)) {
                let notice = notice(theirs, last.get());
                self.notices.0.send(Recipients::One(from), notice, false);
            }
        } else if let Some(last) = self.schedule.end() {
            self.marshal
                .hint_finalized(Height::new(last), NonEmptyVec::new(from));
        }
    }

    /// This validator says where an epoch ended. It is asked for the proof; one answer an epoch is enough, so that a
    /// liar can't keep this node asking.
    fn hear(
        &self,
        ours: u64,
        from: PublicKey,
        message: &[u8],
        told: &mut BTreeMap<PublicKey, u64>,
    ) {
        let Some((epoch, height)) = read_notice(message) else {
            return;
        };
        if epoch == ours && *told.entry(from.clone()).or_insert(height) == height {
            self.marshal
                .hint_finalized(Height::new(height), NonEmptyVec::new(from));
        }
    }
}

/// The floor of an epoch from its beginning.
pub(crate) fn base(epoch: &Epoch) -> Floor<Scheme, Digest> {
    Floor::Genesis(sha256::Digest(epoch.base().0))
}

/// Epoch and height, eight bytes each, big-endian.
fn notice(epoch: u64, height: u64) -> Bytes {
    let mut bytes = epoch.to_be_bytes().to_vec();
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.into()
}

fn read_notice(bytes: &[u8]) -> Option<(u64, u64)> {
    let (epoch, height) = bytes.split_first_chunk::<8>()?;
    let height = <[u8; 8]>::try_from(height).ok()?;
    Some((u64::from_be_bytes(*epoch), u64::from_be_bytes(height)))
}

/// Length of a notice in bytes.
pub(crate) const NOTICE_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_as_they_were_written() {
        let bytes = notice(7, u64::MAX - 1);
        assert_eq!(bytes.len(), NOTICE_BYTES);
        assert_eq!(read_notice(&bytes), Some((7, u64::MAX - 1)));
        for bad in [&bytes[..15], &[], &[0; 17]] {
            assert_eq!(read_notice(bad), None);
        }
    }
}
