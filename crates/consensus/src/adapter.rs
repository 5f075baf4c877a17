//! Puts [`Application`] behind the engine's own trait: waits for work or the heartbeat, gathers
//! the uncommitted ancestors, and checks of a proposal what needs no execution.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_consensus::{
    Epochable as _, Heightable as _,
    marshal::ancestry::Ancestry,
    simplex::{scheme::ed25519::Scheme, types::Context},
};
use commonware_cryptography::{Digested, Digestible as _, ed25519::PublicKey};
use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use futures::{StreamExt as _, future};
use rand_core::CryptoRng;
use stele_core::{
    block::{Block, Header, MAX_BLOCK_BYTES},
    certificate::ValidatorKey,
};
use tokio::sync::watch;

use crate::{
    Application, Branch, Committed, Error, Fatal, Timing,
    block::{Digest, EngineBlock},
    engine::{Identity, Outlets},
    fault::Faults,
    schedule::Schedule,
};

#[derive(Clone)]
pub(crate) struct Adapter<A> {
    application: A,
    key: ValidatorKey,
    timing: Timing,
    committed: watch::Receiver<Committed>,
    schedule: Schedule,
    faults: Faults,
}

impl<A: Application> Adapter<A> {
    pub(crate) fn new(application: A, identity: &Identity, outlets: &Outlets) -> Self {
        Self {
            application,
            key: identity.signer.public_key(),
            timing: identity.timing,
            committed: outlets.committed.subscribe(),
            schedule: identity.schedule.clone(),
            faults: outlets.faults.clone(),
        }
    }

    async fn build(
        &self,
        clock: &impl Clock,
        context: &Context<Digest, PublicKey>,
        ancestry: impl Ancestry<EngineBlock>,
    ) -> Option<Digested<EngineBlock>> {
        let parent = ancestry.peek()?.inner().block().header.clone();
        self.schedule.see(&parent);
        if self.schedule.ends(&parent) {
            return None;
        }
        let branch = self.branch(ancestry, parent.number).await?;
        let ready = pin!(self.application.ready());
        let patience = patience(self.timing.heartbeat, parent.timestamp_ms, unix_ms(clock));
        future::select(ready, pin!(clock.sleep(patience))).await;
        let now_ms = unix_ms(clock).max(parent.timestamp_ms.saturating_add(1));
        let height = parent.number.saturating_add(1);
        let block = match self.application.propose(branch, self.key, now_ms).await {
            Ok(block) => EngineBlock::new(block?),
            Err(source) => return self.fail("proposing", height, source).await,
        };
        let problem = fault_of(block.block(), &parent, self.key, context.epoch().get())
            .or((block.encoded_len() > MAX_BLOCK_BYTES).then_some("it is too large"));
        if let Some(problem) = problem {
            return self.faults.raise(Error::Proposal { height, problem }).await;
        }
        self.schedule.see(&block.block().header);
        let digest = block.digest();
        Some(Digested::precomputed(block, digest))
    }

    async fn judge(
        &self,
        clock: &impl Clock,
        context: &Context<Digest, PublicKey>,
        mut ancestry: impl Ancestry<EngineBlock>,
    ) -> bool {
        // The stream ends early only when the engine shuts down; that is no verdict.
        let Some(block) = ancestry.next().await else {
            return future::pending().await;
        };
        let block = Arc::clone(block.inner().block());
        let Some(parent) = next_header(ancestry.clone()).await else {
            return future::pending().await;
        };
        let Ok(leader) = <[u8; 32]>::try_from(context.leader.as_ref()) else {
            return false;
        };
        let epoch = context.epoch().get();
        if let Some(problem) = fault_of(&block, &parent, ValidatorKey::new(leader), epoch) {
            tracing::warn!(height = block.header.number, problem, "refusing a proposal");
            return false;
        }
        self.schedule.see(&parent);
        if self.schedule.ends(&parent) {
            let height = block.header.number;
            tracing::warn!(
                height,
                "refusing a proposal that stands on its epoch's last block"
            );
            return false;
        }
        self.wait_for_clock(clock, block.header.timestamp_ms).await;
        let Some(branch) = self.branch(ancestry, parent.number).await else {
            return future::pending().await;
        };
        let header = block.header.clone();
        let height = header.number;
        match self.application.verify(block, branch).await {
            Ok(valid) => {
                if valid {
                    self.schedule.see(&header);
                }
                valid
            }
            Err(source) => self.fail("verifying", height, source).await,
        }
    }

    /// The chain from the committed tip up to the parent, which the stream yields first.
    async fn branch(
        &self,
        mut ancestry: impl Ancestry<EngineBlock>,
        parent_height: u64,
    ) -> Option<Branch> {
        // A validator that is catching up must not walk, and hold, the whole distance: it waits
        // until committing has brought it near.
        let near = |tip: &Committed| tip.height.saturating_add(BRANCH_MAX) > parent_height;
        let committed = self.committed.clone().wait_for(near).await.ok()?.height;
        let parent = Arc::clone(ancestry.next().await?.inner().block());
        let mut older = Vec::new();
        let mut height = parent_height;
        while height > committed.saturating_add(1) {
            let block = ancestry.next().await?;
            height = block.height().get();
            older.push(Arc::clone(block.inner().block()));
        }
        older.reverse();
        Some(Branch { parent, older })
    }

    async fn wait_for_clock(&self, clock: &impl Clock, timestamp_ms: u64) {
        let skew_ms = u64::try_from(self.timing.clock_skew.as_millis()).unwrap_or(u64::MAX);
        let earliest_ms = timestamp_ms.saturating_sub(skew_ms);
        let wait_ms = earliest_ms.saturating_sub(unix_ms(clock));
        if wait_ms > 0 {
            clock.sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    async fn fail<T>(&self, doing: &'static str, height: u64, source: Fatal) -> T {
        self.faults
            .raise(Error::Application {
                doing,
                height,
                source,
            })
            .await
    }
}

impl<E, A> commonware_consensus::Application<E> for Adapter<A>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng,
    A: Application,
{
    type SigningScheme = Scheme;
    type Context = Context<Digest, PublicKey>;
    type Block = EngineBlock;
    type Input = ();

    async fn propose(
        &mut self,
        (runtime, context): (E, Self::Context),
        ancestry: impl Ancestry<EngineBlock>,
        (): (),
    ) -> Option<Digested<EngineBlock>> {
        self.build(&runtime, &context, ancestry).await
    }

    async fn verify(
        &mut self,
        (runtime, context): (E, Self::Context),
        ancestry: impl Ancestry<EngineBlock>,
    ) -> bool {
        self.judge(&runtime, &context, ancestry).await
    }
}

/// What is wrong with a block, as far as its header tells.
fn fault_of(
    block: &Block,
    parent: &Header,
    proposer: ValidatorKey,
    epoch: u64,
) -> Option<&'static str> {
    let header = &block.header;
    if header.parent_hash != parent.hash() {
        Some("it has another parent")
    } else if parent.number.checked_add(1) != Some(header.number) {
        Some("its height does not follow the parent's")
    } else if header.timestamp_ms <= parent.timestamp_ms {
        Some("its timestamp is not after the parent's")
    } else if header.proposer.0 != *proposer.as_bytes() {
        Some("it names another proposer than the leader")
    } else if header.epoch != epoch {
        Some("it names another epoch")
    } else {
        None
    }
}

/// Header of the next block in a stream.
async fn next_header(mut ancestry: impl Ancestry<EngineBlock>) -> Option<Header> {
    Some(ancestry.next().await?.inner().block().header.clone())
}

pub(crate) fn unix_ms(clock: &impl Clock) -> u64 {
    let since_epoch = clock
        .current()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// How long a proposer waits for work: until the heartbeat after the parent, so that a block comes at once when the last
/// one is old. After a pause nobody reads before there is one, since nobody knows what was revoked.
fn patience(heartbeat: Duration, parent_ms: u64, now_ms: u64) -> Duration {
    let age = Duration::from_millis(now_ms.saturating_sub(parent_ms));
    heartbeat.saturating_sub(age)
}

/// Uncommitted ancestors handed to the application at most. Simplex finalizes within a few views,
/// so a longer branch means that this validator is behind, not that the network is.
const BRANCH_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_parent_is_followed_at_once() {
        let heartbeat = Duration::from_secs(5);
        assert_eq!(patience(heartbeat, 10_000, 10_000), heartbeat);
        assert_eq!(patience(heartbeat, 10_000, 12_000), Duration::from_secs(3));
        assert_eq!(patience(heartbeat, 10_000, 3_600_000), Duration::ZERO);
        // A clock behind the parent's waits no longer than a heartbeat.
        assert_eq!(patience(heartbeat, 10_000, 4_000), heartbeat);
    }
}
