//! The gateways of the other members, over HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::{B256, Bytes};
use anyhow::{Context as _, Result};
use cid::Cid;
use reqwest::{Client, Response};
use stele_chain::{Chain, Genesis, contracts::governance};
use stele_consensus::{Peer, PeerAddress};
use stele_core::{certificate::ValidatorKey, id::OrganizationId};
use stele_service::{
    network::{KnownCard, SignedCard},
    ports::{BoxFuture, PeerError, Peers},
};
use tokio::sync::watch;

use crate::config::{NetworkConfig, PeerConfig};

/// How long a member may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes: a page of records, or one block.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What a refusal says is passed on up to this length, in bytes.
const WORDS_MAX: usize = 400;

/// The file in the data folder in which members' cards are kept.
const FILE: &str = "members.json";

/// The other members: as the configuration names them, and as they say themselves where they are. The configuration
/// takes precedence.
pub(super) struct Gateways {
    http: Client,
    file: PathBuf,
    own: OrganizationId,
    chain: Arc<Chain>,
    configured: Vec<Configured>,
    cards: Mutex<BTreeMap<OrganizationId, KnownCard>>,
    reached: watch::Sender<Vec<Peer>>,
}

/// A member of the configuration.
struct Configured {
    organization: Option<OrganizationId>,
    key: Option<B256>,
    address: Option<PeerAddress>,
    gateway: Option<String>,
}

impl Gateways {
    /// Of the members that the configuration names.
    pub(super) fn new(
        network: &NetworkConfig,
        data: &Path,
        own: OrganizationId,
        chain: Arc<Chain>,
    ) -> Result<Self> {
        let configured = network
            .peers
            .iter()
            .map(|peer| configured(peer, chain.genesis()))
            .collect::<Result<_>>()?;
        let http = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making a client for the other members")?;
        let gateways = Self {
            http,
            file: data.join(FILE),
            own,
            chain,
            configured,
            cards: Mutex::default(),
            reached: watch::channel(Vec::new()).0,
        };
        gateways.refresh();
        Ok(gateways)
    }

    /// The cards that were kept at the last stop, unchecked.
    pub(super) fn kept(&self) -> Vec<SignedCard> {
        let text = fs::read(&self.file).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Where validators listen, as far as that is known now, and whenever more is learned.
    pub(super) fn reached(&self) -> watch::Receiver<Vec<Peer>> {
        self.reached.subscribe()
    }

    /// The members that can be asked.
    pub(super) fn organizations(&self) -> Vec<OrganizationId> {
        let configured = self.configured.iter();
        let mut known: BTreeSet<_> = configured
            .filter(|peer| peer.gateway.is_some())
            .filter_map(|peer| peer.organization)
            .collect();
        known.extend(self.cards().keys().copied());
        known.remove(&self.own);
        known.into_iter().collect()
    }

    fn cards(&self) -> MutexGuard<'_, BTreeMap<OrganizationId, KnownCard>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the network where validators are. A card speaks for a validator unless the ledger says that it is another
    /// organisation's.
    pub(super) fn refresh(&self) {
        let view = self.chain.view();
        let seats = governance::read::validators(|address, slot| view.slot(address, slot));
        let seats = seats.unwrap_or_default();
        let mut peers = BTreeMap::new();
        for known in self.cards().values() {
            let card = &known.card;
            let Ok(address) = card.address.parse::<PeerAddress>() else {
                continue;
            };
            for key in &card.validators {
                let owner = seats.iter().find(|seat| seat.key == *key);
                let is_own = owner.is_none_or(|seat| seat.organization == card.organization.0);
                if card.organization != self.own && is_own {
                    peers.insert(*key, address.clone());
                }
            }
        }
        for peer in &self.configured {
            if let (Some(key), Some(address)) = (peer.key, &peer.address) {
                peers.insert(key, address.clone());
            }
        }
        let peers: Vec<Peer> = peers
            .into_iter()
            .map(|(key, address)| Peer {
                key: ValidatorKey::new(key.0),
                address,
            })
            .collect();
        self.reached.send_if_modified(|known| {
            let is_new = *known != peers;
            *known = peers;
            is_new
        });
    }

    fn base(&self, organization: OrganizationId) -> Result<String, PeerError> {
        let configured = self
            .configured
            .iter()
            .find(|peer| peer.organization == Some(organization))
            .and_then(|peer| peer.gateway.clone());
        let said = || {
            let cards = self.cards();
            let known = cards.get(&organization)?;
            Some(known.card.gateway.trim_end_matches('/').to_owned())
        };
        configured.or_else(said).ok_or(PeerError::Unknown)
    }
}

fn configured(peer: &PeerConfig, genesis: &Genesis) -> Result<Configured> {
    let seat = |key: B256| genesis.validators.iter().find(|seat| seat.key == key);
    let organization = peer.organization.or_else(|| {
        let seat = seat(peer.key?)?;
        Some(OrganizationId(seat.organization))
    });
    let address = peer.address.as_deref().map(str::parse).transpose();
    Ok(Configured {
        organization,
        key: peer.key,
        address: address.with_context(|| format!("network.peers: the address of {}", peer.name))?,
        gateway: peer
            .gateway
            .as_deref()
            .map(|base| base.trim_end_matches('/').to_owned()),
    })
}

impl Peers for Gateways {
    fn cards(&self) -> Vec<SignedCard> {
        let cards = Self::cards(self);
        cards.values().map(|known| known.signed.clone()).collect()
    }

    fn learn(&self, cards: Vec<KnownCard>) {
        let mut known = Self::cards(self);
        let mut is_new = false;
        for card in cards {
            let organization = card.card.organization;
            let newer = known
                .get(&organization)
                .is_none_or(|before| before.card != card.card && before.at < card.at);
            if newer {
                is_new = true;
                known.insert(organization, card);
            }
        }
        let all: Vec<_> = known.values().map(|known| known.signed.clone()).collect();
        drop(known);
        if !is_new {
            return;
        }
        self.refresh();
        // Written beside and renamed: a crash leaves a whole file. Lost, it is learned again.
        let part = self.file.with_extension("part");
        let written = serde_json::to_vec(&all)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::write(&part, text))
            .and_then(|()| fs::rename(&part, &self.file));
        if let Err(error) = written {
            tracing::warn!(%error, "where the other members are can't be kept");
        }
    }

    fn ask(
        &self,
        to: OrganizationId,
        signature: String,
        question: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let request = self
                .http
                .post(format!("{}/network/ask", self.base(to)?))
                .header("stele-signature", signature)
                .header("content-type", "application/json")
                .body(question.0);
            read(request.send().await.map_err(unreachable)?).await
        })
    }

    fn block(&self, of: OrganizationId, cid: Cid) -> BoxFuture<'_, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let url = format!("{}/ipfs/{cid}?format=raw", self.base(of)?);
            read(self.http.get(url).send().await.map_err(unreachable)?).await
        })
    }
}

/// The body of a good answer, or the refusal in words.
async fn read(mut response: Response) -> Result<Bytes, PeerError> {
    let status = response.status();
    let limit = if status.is_success() {
        ANSWER_BYTES_MAX
    } else {
        WORDS_MAX
    };
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&part);
        if body.len() > limit {
            if status.is_success() {
                return Err(PeerError::Unreachable {
                    reason: format!("its answer is longer than {limit} bytes"),
                });
            }
            body.truncate(limit);
            break;
        }
    }
    if status.is_success() {
        return Ok(body.into());
    }
    Err(PeerError::Refused {
        status: status.as_u16(),
        message: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands errors over")]
fn unreachable(error: reqwest::Error) -> PeerError {
    // The address is in the configuration; the words of the cause are what helps.
    let mut reason = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(next) = cause {
        reason = next.to_string();
        cause = next.source();
    }
    if error.is_timeout() {
        reason = format!("no answer within {} s", TIMEOUT.as_secs());
    }
    PeerError::Unreachable { reason }
}
