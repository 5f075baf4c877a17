//! The consortium that a member belongs to.

use std::net::SocketAddr;

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use stele_consensus::PeerAddress;
use stele_core::id::OrganizationId;

use super::{CustodyConfig, ReplicasConfig};

/// The consortium that a member belongs to, and how it meets the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Where this member listens for the others. Encrypted and authenticated by the validators' keys.
    pub(crate) listen: SocketAddr,
    /// Digest of the first block, which `genesis.json` in the data folder has to give.
    pub(crate) genesis: B256,
    /// Where the others reach this member's validator: host and port. `listen` when absent, unless that is no address
    /// that others could use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Base URL at which the others reach this member's gateway. `http` when absent, unless that is no address that
    /// others could use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    /// A member that joins a ledger of at least so many blocks takes the state of a recent one from the others, proven by
    /// its certificate, instead of executing all of them; 0 for never.
    #[serde(default = "snapshot_blocks")]
    pub(crate) snapshot_blocks: u64,
    /// Who shares the peppers of what is written here.
    #[serde(default)]
    pub(crate) custody: CustodyConfig,
    /// Copies of records among the members.
    #[serde(default)]
    pub(crate) replicas: ReplicasConfig,
    /// The other members, as far as they do not say themselves where they are; a newcomer needs to know one gateway.
    #[serde(default)]
    pub(crate) peers: Vec<PeerConfig>,
}

/// Executing a thousand blocks takes seconds; below, a snapshot would save nothing.
const fn snapshot_blocks() -> u64 {
    1_000
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerConfig {
    /// What people call it.
    #[serde(default)]
    pub(crate) name: String,
    /// Its organisation; that of the validator with this key at genesis when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) organization: Option<OrganizationId>,
    /// Its validator's ed25519 key: 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<B256>,
    /// Where its validator listens: host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Base URL of its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
}

impl NetworkConfig {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(address) = &self.address {
            address.parse::<PeerAddress>().context("network.address")?;
        }
        if let Some(gateway) = &self.gateway {
            check_gateway(gateway).context("network")?;
        }
        self.custody.check()?;
        self.replicas.check()?;
        for (position, peer) in self.peers.iter().enumerate() {
            let said = peer.said();
            if peer.organization.is_none() && peer.key.is_none() {
                bail!("{said}: it needs a key, an organization, or both");
            }
            if let Some(address) = &peer.address {
                address
                    .parse::<PeerAddress>()
                    .with_context(|| format!("{said}: address"))?;
            }
            let is_same = |other: &PeerConfig| {
                (other.key.is_some() && other.key == peer.key)
                    || (other.organization.is_some() && other.organization == peer.organization)
            };
            let later = self.peers.iter().skip(position.saturating_add(1));
            if later.into_iter().any(is_same) {
                bail!("{said} is there twice");
            }
            if let Some(gateway) = &peer.gateway {
                check_gateway(gateway).with_context(|| said.clone())?;
            }
        }
        Ok(())
    }
}

impl PeerConfig {
    /// How messages call it.
    pub(crate) fn said(&self) -> String {
        let key = self.key.map(|key| key.to_string());
        let organization = self
            .organization
            .map(|organization| organization.to_string());
        let who = key.or(organization).unwrap_or_default();
        format!("network.peers: {} ({who})", self.name)
    }
}

fn check_gateway(gateway: &str) -> Result<()> {
    let url: reqwest::Url = gateway
        .parse()
        .with_context(|| format!("gateway = {gateway:?}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("gateway = {gateway:?}: must begin with https:// or http://");
    }
    Ok(())
}
