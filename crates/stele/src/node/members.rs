//! The other members as this node asks them beside the agreement.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy_primitives::{B256, Bytes};
use stele_consensus::Run;
use stele_core::{
    block::Block, certificate::CommitCertificate, epoch::recovery::Recovery, id::OrganizationId,
};
use stele_service::{Service, network::MemberCard, ports::FinalBlocks};
use tokio::runtime::Handle;

use super::peers::Gateways;
use crate::config::{Config, NetworkConfig};

/// From whom final blocks are fetched.
pub(crate) struct Others {
    service: Arc<Service>,
    gateways: Arc<Gateways>,
    /// The node's own runtime: connections outlive an engine that begins anew.
    runtime: Handle,
    /// Whose turn it is to be asked.
    turn: AtomicUsize,
}

/// What another member gave.
pub(crate) struct Fetched {
    /// Blocks, if it has any from that height on.
    pub(crate) run: Option<Run>,
    /// Documents that ended epochs by hand, unchecked.
    pub(crate) recoveries: Vec<Recovery>,
}

impl Others {
    /// Of the members that are known. To be called on the node's runtime.
    pub(super) fn new(service: Arc<Service>, gateways: Arc<Gateways>) -> Self {
        Self {
            service,
            gateways,
            runtime: Handle::current(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Hands transactions to the first member that takes them.
    pub(crate) async fn hand_over(&self, transactions: &[Bytes]) {
        for member in self.gateways.organizations() {
            match self.service.hand_over(member, transactions).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(organization = %member, %error, "a member takes no transactions");
                }
            }
        }
        tracing::warn!("no other member takes this node's transactions");
    }

    /// Final blocks from a height on, of one member, and documents that ended epochs by hand: each time another's turn, and
    /// that of the next where one does not answer.
    pub(crate) async fn blocks(&self, from: u64) -> Option<Fetched> {
        let members = self.gateways.organizations();
        for _ in members.iter().take(ASKED_AT_ONCE) {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let asked = *members.get(turn.checked_rem(members.len())?)?;
            let service = Arc::clone(&self.service);
            let fetched = self
                .runtime
                .spawn(async move { service.fetch_blocks(asked, from).await });
            match fetched.await {
                Ok(Ok(found)) => return found.map(|found| read(asked, found)),
                Ok(Err(error)) => {
                    tracing::debug!(organization = %asked, %error, "a member gave no blocks");
                }
                Err(_) => return None,
            }
        }
        None
    }
}

/// What a member gave, as far as it can be read.
fn read(asked: OrganizationId, found: FinalBlocks) -> Fetched {
    let run = read_run(&found);
    if run.is_none() && !found.blocks.is_empty() {
        tracing::warn!(organization = %asked, "a member sent blocks that can't be read");
    }
    Fetched {
        run,
        recoveries: found.recoveries,
    }
}

/// What this node says of where it is; nothing where its addresses are of no use to others.
pub(super) fn own_card(
    config: &Config,
    network: &NetworkConfig,
    service: &Service,
    validators: Vec<B256>,
) -> Option<MemberCard> {
    let usable = |address: SocketAddr| {
        (!address.ip().is_unspecified() && address.port() != 0).then(|| address.to_string())
    };
    let address = network.address.clone().or_else(|| usable(network.listen))?;
    let gateway = network
        .gateway
        .clone()
        .or_else(|| usable(config.http).map(|address| format!("http://{address}")))?;
    Some(MemberCard {
        organization: service.organization(),
        validators,
        address,
        gateway,
    })
}

/// Tells the other members where this one is, and learns where they are: soon at the start, then now and then.
pub(super) async fn introduce(service: Arc<Service>, gateways: Arc<Gateways>) {
    let mut greeted = BTreeSet::new();
    loop {
        let members = gateways.organizations();
        let next = members.iter().find(|member| !greeted.contains(*member));
        let Some(next) = next.copied() else {
            tokio::time::sleep(AGAIN).await;
            greeted.clear();
            continue;
        };
        match service.exchange_cards(next).await {
            Ok(()) => {
                greeted.insert(next);
            }
            Err(error) => {
                tracing::debug!(organization = %next, %error, "a member was not greeted");
                greeted.insert(next);
                tokio::time::sleep(RETRY).await;
                if members.iter().all(|member| greeted.contains(member)) {
                    greeted.clear();
                }
            }
        }
        gateways.refresh();
    }
}

/// Members that are asked for the same before a pause, while they don't answer.
const ASKED_AT_ONCE: usize = 3;
/// Pause after all members have been greeted.
const AGAIN: Duration = Duration::from_secs(30);
/// Pause after one that does not answer, or does not know this member yet.
const RETRY: Duration = Duration::from_secs(2);

fn read_run(found: &FinalBlocks) -> Option<Run> {
    if found.blocks.is_empty() {
        return None;
    }
    let blocks = found.blocks.iter().map(|bytes| Block::decode(bytes).ok());
    Some(Run {
        blocks: blocks.collect::<Option<_>>()?,
        certificate: CommitCertificate::decode(&found.certificate).ok()?,
    })
}
