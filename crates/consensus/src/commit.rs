//! Hands final blocks to the application, in order, each with a certificate, and acknowledges
//! them to the engine only after the application made them durable.

use std::sync::Arc;

use commonware_actor::Feedback;
use commonware_consensus::{
    Heightable as _, Reporter,
    marshal::{Update, core::Mailbox, standard::Standard},
    simplex::scheme::ed25519::Scheme,
    types::Height,
};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_utils::{Acknowledgement as _, acknowledgement::Exact};
use stele_core::certificate::CommitCertificate;
use tokio::sync::{mpsc, watch};

use crate::{
    Application, Error, block::EngineBlock, certificate::from_finalization, engine::Outlets,
    schedule::Schedule,
};

/// The engine's block delivery.
pub(crate) type Marshal = Mailbox<Scheme, Standard<EngineBlock>>;

/// The last block the application has made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its height; 0 is genesis.
    pub height: u64,
    /// Its digest: keccak-256 of the header.
    pub digest: [u8; 32],
}

/// A final block and the right to acknowledge it.
type Delivery = (Digested<EngineBlock>, Exact);

/// The engine's end: takes deliveries without waiting. The engine has at most
/// `max_pending_acks` of them unacknowledged, which bounds the queue.
#[derive(Clone)]
pub(crate) struct Inbox {
    deliveries: mpsc::UnboundedSender<Delivery>,
    tip: watch::Sender<u64>,
}

impl Reporter for Inbox {
    type Activity = Update<EngineBlock>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Tip(_, height, _) => {
                self.tip.send_if_modified(|tip| {
                    let grown = height.get() > *tip;
                    *tip = height.get().max(*tip);
                    grown
                });
                Feedback::Ok
            }
            Update::Block(block, acknowledgement) => {
                match self.deliveries.send((block, acknowledgement)) {
                    Ok(()) => Feedback::Ok,
                    Err(_) => Feedback::Closed,
                }
            }
        }
    }
}

/// The application's end, a task of its own.
pub(crate) struct Committer<A> {
    application: A,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    tip: watch::Receiver<u64>,
    outlets: Outlets,
    schedule: Schedule,
    blocks_retained: u64,
}

impl<A: Application> Committer<A> {
    pub(crate) fn new(
        application: A,
        outlets: Outlets,
        schedule: Schedule,
        blocks_retained: u64,
    ) -> (Inbox, Self) {
        let (deliveries_in, deliveries) = mpsc::unbounded_channel();
        let (tip_in, tip) = watch::channel(0);
        let committer = Self {
            application,
            deliveries,
            tip,
            outlets,
            schedule,
            blocks_retained,
        };
        (
            Inbox {
                deliveries: deliveries_in,
                tip: tip_in,
            },
            committer,
        )
    }

    /// Runs until the engine closes the queue.
    pub(crate) async fn run(mut self, marshal: Marshal) {
        while let Some((block, acknowledgement)) = self.deliveries.recv().await {
            let height = block.height().get();
            // Genesis needs no agreement and has no certificate.
            if height > 0 {
                self.commit(&marshal, &block).await;
            }
            acknowledgement.acknowledge();
            let tip = Committed {
                height,
                digest: block.digest().0,
            };
            self.outlets.committed.send_if_modified(|committed| {
                // Blocks that come again after a restart do not take the ledger back.
                let grown = committed.height < tip.height;
                if grown {
                    *committed = tip;
                }
                grown
            });
            self.prune(&marshal, height);
        }
    }

    async fn commit(&mut self, marshal: &Marshal, block: &Digested<EngineBlock>) {
        let height = block.height().get();
        let certificate = self.certificate(marshal, height).await;
        let busy = self.outlets.busy.lock().await;
        let committed = self
            .application
            .commit(Arc::clone(block.inner().block()), certificate)
            .await;
        drop(busy);
        let noted = match committed {
            // The agreement of the next epoch begins as soon as the last block of this one is in the ledger.
            Ok(()) => self
                .schedule
                .committed(&self.application, &block.inner().block().header),
            Err(source) => Err(Error::Application {
                doing: "committing",
                height,
                source,
            }),
        };
        if let Err(error) = noted {
            self.outlets.faults.raise(error).await
        }
    }

    /// The certificate of the block at this height or of the next descendant that has one: a
    /// block becomes final with any descendant, and the engine then holds no certificate for the
    /// block itself.
    async fn certificate(&mut self, marshal: &Marshal, height: u64) -> CommitCertificate {
        loop {
            let tip = *self.tip.borrow_and_update();
            for candidate in height..=tip.max(height) {
                let Some(finalization) = marshal.get_finalization(Height::new(candidate)).await
                else {
                    continue;
                };
                match from_finalization(&finalization) {
                    Some(certificate) => return certificate,
                    None => {
                        self.outlets
                            .faults
                            .raise(Error::Certificate { height: candidate })
                            .await
                    }
                }
            }
            if self.tip.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn prune(&self, marshal: &Marshal, height: u64) {
        let oldest = height.saturating_sub(self.blocks_retained);
        // The engine drops whole sections of files, so asking for every block gains nothing.
        if oldest > 0 && oldest.is_multiple_of(PRUNE_EVERY) {
            marshal.prune(Height::new(oldest));
        }
    }
}

/// Blocks between two requests to prune.
const PRUNE_EVERY: u64 = 64;
