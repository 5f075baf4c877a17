//! A member that joins takes the state of a recent block, and all blocks before it, from the others instead of executing
//! the ledger from its beginning. `stele_chain` proves every piece as it comes; here is whom to ask.
//!
//! Each piece is asked of another member in turn. Whoever gives one that is not proven is named in the log, counted, and
//! not asked again for this snapshot. What has come is durable: a node that was killed goes on where it was, as long as
//! somebody still keeps the state of that block; otherwise it begins anew with a later one.

mod givers;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alloy_primitives::Bytes;
use stele_chain::{Chain, Lack, Newcomer, SnapshotError};
use stele_core::id::OrganizationId;
use stele_service::{Error as ServiceError, Service};

use super::{app::App, gossip::Mouth, ledger::NodeLedger, peers::Gateways};
use crate::config::Config;
use givers::{Givers, Others};

/// Whether this node begins as a newcomer: nothing is committed here, it is wanted, and it has no seat from the start.
/// The first validators begin the ledger, so they can't wait for others to have one.
pub(super) fn is_one(config: &Config, chain: &Chain, mouth: &Mouth) -> bool {
    let wanted = config
        .network
        .as_ref()
        .is_some_and(|network| network.snapshot_blocks > 0);
    wanted && chain.finalized().0.number == 0 && !mouth.has_seat(chain)
}

/// A newcomer's way to the ledger.
pub(super) struct Joining {
    taking: Taking,
    ledger: Arc<NodeLedger>,
    service: Arc<Service>,
    app: App,
}

impl Joining {
    /// Of a node that begins as a newcomer, and of no other.
    pub(super) fn of(
        config: &Config,
        service: &Arc<Service>,
        gateways: Option<Arc<Gateways>>,
        ledger: &Arc<NodeLedger>,
        app: &App,
    ) -> Option<Self> {
        if !app.is_joining() {
            return None;
        }
        let others = Others::new(Arc::clone(service), gateways?);
        let blocks_min = config.network.as_ref()?.snapshot_blocks;
        Some(Self {
            taking: Taking::new(ledger.chain(), Arc::new(others), blocks_min),
            ledger: Arc::clone(ledger),
            service: Arc::clone(service),
            app: app.clone(),
        })
    }

    /// Joins, and lets the node follow the ledger from where that ends.
    pub(super) async fn run(mut self) {
        match self.join().await {
            Ok(Some(height)) => tracing::info!(height, "joined from a verified snapshot"),
            Ok(None) => tracing::info!("the ledger is executed from its first block"),
            Err(error) => {
                // Half way between two states nothing is safe but to begin again.
                let error = format_args!("{error:#}");
                tracing::error!(%error, "joining failed; start the node again");
                return;
            }
        }
        self.app.set_joining(false);
    }

    /// The height from which the chain goes on. `None` if the ledger is too short, or nobody gives snapshots.
    async fn join(&mut self) -> anyhow::Result<Option<u64>> {
        let Some(snapshot) = self.taking.take().await? else {
            return Ok(None);
        };
        let height = snapshot.height();
        let chain = Arc::clone(&self.taking.chain);
        let (ledger, service) = (Arc::clone(&self.ledger), Arc::clone(&self.service));
        blocking(move || {
            chain.adopt(snapshot)?;
            ledger.leapt()?;
            service.apply_parameters()?;
            anyhow::Ok(Some(height))
        })
        .await?
    }
}

/// Asking the others for a snapshot until it is whole.
struct Taking {
    chain: Arc<Chain>,
    givers: Arc<dyn Givers>,
    /// Below so many blocks they are executed.
    blocks_min: u64,
    /// Members that gave what was not proven, or do not keep the state.
    passed_over: BTreeSet<OrganizationId>,
    /// Who was asked last.
    last: Option<OrganizationId>,
}

/// What somebody gave.
enum Given {
    Parts(Vec<Bytes>),
    Blocks(Vec<Bytes>, Bytes),
    Receipts(Vec<Bytes>),
}

impl Taking {
    fn new(chain: Arc<Chain>, givers: Arc<dyn Givers>, blocks_min: u64) -> Self {
        Self {
            chain,
            givers,
            blocks_min,
            passed_over: BTreeSet::new(),
            last: None,
        }
    }

    /// A whole snapshot. `None` if the ledger is too short for one, or nobody gives snapshots.
    async fn take(&mut self) -> anyhow::Result<Option<Newcomer>> {
        let chain = Arc::clone(&self.chain);
        let mut under_way = blocking(move || chain.resume_snapshot()).await??;
        if let Some(snapshot) = &under_way {
            let height = snapshot.height();
            tracing::info!(height, "goes on with a snapshot begun before");
        }
        loop {
            let snapshot = match under_way.take() {
                Some(snapshot) => Some(snapshot),
                None => self.begin().await?,
            };
            let Some(snapshot) = snapshot else {
                return Ok(None);
            };
            if let Some(whole) = self.fill(snapshot).await? {
                return Ok(Some(whole));
            }
        }
    }

    /// Asks until somebody offers a snapshot that is proven.
    async fn begin(&mut self) -> anyhow::Result<Option<Newcomer>> {
        let (mut without, mut is_told) = (BTreeSet::new(), false);
        self.passed_over.clear();
        loop {
            let members = self.givers.members();
            if !members.is_empty() && members.iter().all(|member| without.contains(member)) {
                return Ok(None);
            }
            let Some(member) = self.next_member() else {
                // Nobody is known, or nobody honest is left; that may change.
                tokio::time::sleep(PAUSE_AFTER_ALL).await;
                self.passed_over.clear();
                continue;
            };
            let offer = match self.givers.offer(member).await {
                Ok(Some(offer)) => offer,
                // It has no block yet.
                Ok(None) => {
                    without.insert(member);
                    continue;
                }
                Err(error) => {
                    let is_refused = matches!(error, ServiceError::NotPermitted { .. });
                    if is_refused && !std::mem::replace(&mut is_told, true) {
                        tracing::info!(%error, "waits until the members have admitted this one");
                    }
                    tracing::debug!(organization = %member, %error, "a member offers no snapshot");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (chain, blocks_min) = (Arc::clone(&self.chain), self.blocks_min);
            let begun = blocking(move || {
                let is_worth_it = chain.offered_height(&offer)? >= blocks_min;
                let begun = is_worth_it.then(|| chain.begin_snapshot(&offer));
                begun.transpose()
            });
            match begun.await? {
                Ok(Some(snapshot)) => {
                    let height = snapshot.height();
                    tracing::info!(organization = %member, height, "takes a snapshot");
                    return Ok(Some(snapshot));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.refuse(member, error)?,
            }
        }
    }

    /// Asks for what a snapshot lacks until it is whole. `None` if nobody keeps its state any more.
    async fn fill(&mut self, mut snapshot: Newcomer) -> anyhow::Result<Option<Newcomer>> {
        let (mut in_vain, mut told) = (0_usize, 0);
        loop {
            self.tell(&snapshot, &mut told);
            let lack = snapshot.lacks();
            if lack == Lack::Nothing {
                return Ok(Some(snapshot));
            }
            let members = self.givers.members().len();
            let Some(member) = self.next_member() else {
                if members == 0 {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                let height = snapshot.height();
                tracing::warn!(height, "nobody gives this snapshot: another is begun");
                return Ok(None);
            };
            let Some(given) = self.ask(member, lack).await else {
                in_vain = in_vain.saturating_add(1);
                if in_vain >= members {
                    in_vain = 0;
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            };
            in_vain = 0;
            let taken = blocking(move || {
                let taken = match given {
                    Given::Parts(parts) => snapshot.take_parts(&parts),
                    Given::Blocks(blocks, named) => snapshot.take_blocks(&blocks, &named),
                    Given::Receipts(receipts) => snapshot.take_receipts(&receipts),
                };
                (snapshot, taken)
            });
            let (taken_to, taken) = taken.await?;
            snapshot = taken_to;
            if let Err(error) = taken {
                self.refuse(member, error)?;
            }
        }
    }

    /// Asks a member for what comes next. `None` if it gives nothing.
    async fn ask(&mut self, member: OrganizationId, lack: Lack) -> Option<Given> {
        let givers = &self.givers;
        let given = match lack {
            Lack::Parts { height, wants } => {
                let parts = givers.state(member, height, wants).await;
                if parts.as_ref().is_ok_and(Vec::is_empty) {
                    tracing::info!(organization = %member, height, "a member does not keep that state");
                    self.passed_over.insert(member);
                    return None;
                }
                parts.map(|parts| Some(Given::Parts(parts)))
            }
            Lack::Blocks { from } => givers
                .blocks(member, from)
                .await
                .map(|found| found.map(|found| Given::Blocks(found.blocks, found.certificate))),
            Lack::Receipts { from, to } => {
                let receipts = givers.receipts(member, from, to).await;
                receipts.map(|lists| (!lists.is_empty()).then_some(Given::Receipts(lists)))
            }
            Lack::Nothing => return None,
        };
        given.unwrap_or_else(|error| {
            tracing::debug!(organization = %member, %error, "a member gives nothing of a snapshot");
            None
        })
    }

    /// The member after the one asked last, of those that are not passed over.
    fn next_member(&mut self) -> Option<OrganizationId> {
        let mut members = self.givers.members();
        members.retain(|member| !self.passed_over.contains(member));
        members.sort_unstable();
        let after = |last| members.iter().find(|member| **member > last);
        let next = self.last.and_then(after).or_else(|| members.first());
        self.last = next.copied();
        self.last
    }

    /// Remembers who gave what is not proven; stops where the fault is this node's.
    fn refuse(&mut self, member: OrganizationId, error: SnapshotError) -> anyhow::Result<()> {
        if error.is_own() {
            return Err(error.into());
        }
        tracing::warn!(
            organization = %member,
            error = &error as &dyn std::error::Error,
            "a member gives a snapshot that is not proven"
        );
        self.givers.refused();
        self.passed_over.insert(member);
        Ok(())
    }

    /// Measures how far it is, and says so now and then.
    fn tell(&self, snapshot: &Newcomer, told: &mut u64) {
        let (bytes, blocks) = (snapshot.state_bytes(), snapshot.blocks());
        self.givers.progress(bytes, blocks);
        let now = (bytes / TELL_BYTES).saturating_add(blocks / TELL_BLOCKS);
        if now != std::mem::replace(told, now) {
            let height = snapshot.height();
            tracing::info!(height, state_bytes = bytes, blocks, "a snapshot comes in");
        }
    }
}

/// Runs what waits for the disk where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Pause after somebody who did not answer, or does not answer this organisation yet.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause when nobody is left who could be asked.
const PAUSE_AFTER_ALL: Duration = Duration::from_secs(5);
/// Bytes of the state, and blocks, after which the log says how far it is.
const TELL_BYTES: u64 = 64 << 20;
const TELL_BLOCKS: u64 = 10_000;

#[cfg(test)]
mod tests;
