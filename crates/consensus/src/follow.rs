//! Taking final blocks from others without a part in the agreement: a member without a seat, or one that is further
//! behind than the engine goes back. Nothing is believed: each run of blocks ends with a certificate of the validators
//! that follow, change by change, from those of the genesis.

use std::{sync::Arc, time::Duration};

use stele_core::{block::Block, certificate::CommitCertificate};
use tokio::sync::{Mutex, watch};

use crate::{Application, Committed, Error, schedule::Schedule};

/// Final blocks in a row, all of one epoch, with the certificate of the last.
#[derive(Clone, Debug)]
pub struct Run {
    /// The blocks, ascending by height without a gap.
    pub blocks: Vec<Block>,
    /// Certificate that names the last of them.
    pub certificate: CommitCertificate,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Blocks were committed; there may be more.
    Took,
    /// Nobody has more, or what was offered was not good.
    Nothing,
}

/// Asks for the blocks after the last committed one, and commits what is proven. Committing is never dropped half way:
/// only asking waits for the network.
pub(crate) async fn step<A: Application>(
    application: &A,
    schedule: &Schedule,
    committed: &watch::Sender<Committed>,
    busy: &Mutex<()>,
) -> Result<Step, Error> {
    let next = committed.borrow().height.saturating_add(1);
    let fetched = application.fetch(next).await;
    if recover(application, schedule).await? {
        return Ok(Step::Took);
    }
    match fetched {
        Some(run) => take(application, schedule, committed, busy, run).await,
        None => Ok(Step::Nothing),
    }
}

/// Begins the next epoch, if others have a document that ended the newest one by hand.
pub(crate) async fn recover<A: Application>(
    application: &A,
    schedule: &Schedule,
) -> Result<bool, Error> {
    let Some(recovery) = application.recovery() else {
        return Ok(false);
    };
    let (epoch, height) = (recovery.epoch, recovery.height);
    let recovered = application.recover(recovery).await;
    if !recovered.map_err(|source| Error::Recovery { epoch, source })? {
        return Ok(false);
    }
    tracing::warn!(
        epoch,
        height,
        "the members ended an epoch by hand: its validators were too few"
    );
    schedule.leapt(application)?;
    Ok(true)
}

/// Commits a run, if it is proven.
pub(crate) async fn take<A: Application>(
    application: &A,
    schedule: &Schedule,
    committed: &watch::Sender<Committed>,
    busy: &Mutex<()>,
    run: Run,
) -> Result<Step, Error> {
    let tip = *committed.borrow();
    if let Err(error) = check(schedule, tip, &run) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            height = tip.height.saturating_add(1),
            "another member offers blocks that are not proven"
        );
        return Ok(Step::Nothing);
    }
    let _busy = busy.lock().await;
    for block in run.blocks {
        let header = block.header.clone();
        let tip = Committed {
            height: header.number,
            digest: block.hash().0,
        };
        application
            .commit(Arc::new(block), run.certificate.clone())
            .await
            .map_err(|source| Error::Application {
                doing: "committing",
                height: header.number,
                source,
            })?;
        schedule.committed(application, &header)?;
        committed.send_replace(tip);
    }
    Ok(Step::Took)
}

/// Whether a run continues the chain and its end is final.
fn check(schedule: &Schedule, tip: Committed, run: &Run) -> Result<(), Error> {
    let gap = |problem| Error::Offered {
        height: tip.height.saturating_add(1),
        problem,
    };
    let (mut height, mut digest) = (tip.height, tip.digest);
    for block in &run.blocks {
        let header = &block.header;
        if height.checked_add(1) != Some(header.number) || header.parent_hash.0 != digest {
            return Err(gap("a block does not stand on the one before"));
        }
        if header.epoch != run.certificate.epoch {
            return Err(gap("a block is of another epoch than its certificate"));
        }
        (height, digest) = (header.number, block.hash().0);
    }
    if run.blocks.is_empty() || run.certificate.block.0 != digest {
        return Err(gap("the certificate is not for the last block"));
    }
    schedule.check(&run.certificate)
}

/// How long a member without a seat waits before it asks again.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
