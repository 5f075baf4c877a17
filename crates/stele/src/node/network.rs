//! A node's place among the members of its consortium.

use std::{fs, path::Path, sync::Arc};

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use stele_chain::Genesis;
use stele_consensus::Network;
use stele_core::id::OrganizationId;
use stele_vault::Vault;

use super::{Start, Stores, peers::Gateways, promise, signer};
use crate::config::{Config, NetworkConfig};

/// File in the data folder that names the node's organisation, where the genesis does not know it.
pub(crate) const ORGANIZATION_FILE: &str = "organization";

/// The organisation this node acts for: the one that the data folder names, else the one whose validator it is at
/// genesis, else the first of the genesis whose keys it keeps.
pub(super) fn own_organization(
    data: &Path,
    genesis: &Genesis,
    vault: &Vault,
) -> Result<OrganizationId> {
    let path = data.join(ORGANIZATION_FILE);
    if path.exists() {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let organization = text
            .trim()
            .parse()
            .with_context(|| format!("{} names no account", path.display()))?;
        if vault.keys().signing(organization)?.is_none() {
            bail!(
                "{} names {organization}, whose keys are not in this data folder",
                path.display()
            );
        }
        return Ok(OrganizationId(organization));
    }
    let key = B256::from(*signer(vault, 0).public_key().as_bytes());
    if let Some(seat) = genesis.validators.iter().find(|seat| seat.key == key) {
        return Ok(OrganizationId(seat.organization));
    }
    for organization in &genesis.organizations {
        if vault.keys().signing(organization.address)?.is_some() {
            return Ok(OrganizationId(organization.address));
        }
    }
    bail!(
        "genesis.json names neither this node's validator key {key} nor an organisation whose keys it keeps: \
         it is the genesis of another consortium, or this is another member's data folder"
    )
}

/// Refuses what the member promised not to do, and a configuration that does not go with the genesis, or with the way the
/// node is started.
pub(super) fn check(config: &Config, stores: &Stores, start: Start) -> Result<()> {
    promise::keep(&config.data, &stores.chain)?;
    let genesis = &stores.genesis;
    let members = genesis.validators.len();
    let Some(network) = &config.network else {
        if members > 1 {
            bail!(
                "this data folder belongs to a consortium of {members}; start it with `stele node --config FILE`, \
                 where FILE has the section [network]"
            );
        }
        return Ok(());
    };
    if let Start::Up(_) = start {
        bail!(
            "the configuration has a section [network]: start this member with `stele node`, not `stele up`"
        );
    }
    let hash = genesis.block()?.hash();
    if network.genesis != hash {
        bail!(
            "network.genesis = {}, but genesis.json begins the chain {hash}: every member needs the same genesis.json",
            network.genesis
        );
    }
    for peer in &network.peers {
        if peer.organization.is_none()
            && let Some(key) = peer.key
            && !genesis.validators.iter().any(|seat| seat.key == key)
        {
            bail!(
                "{} is no validator of genesis.json; name the organization it belongs to",
                peer.said()
            );
        }
    }
    named_all(network, genesis)
}

/// How the node reaches the other validators. A member that has a section `[network]` listens for them even while it is
/// the only one: others may join.
pub(super) fn of(config: &Config, gateways: Option<&Arc<Gateways>>) -> Network {
    match (&config.network, gateways) {
        (Some(network), Some(gateways)) => Network::Tcp {
            listen: network.listen,
            peers: gateways.reached(),
        },
        _ => Network::Solitary,
    }
}

/// Where nobody is asked for addresses, at most one validator of the genesis, this node's own, may lack one.
fn named_all(network: &NetworkConfig, genesis: &Genesis) -> Result<()> {
    if network.peers.iter().any(|peer| peer.organization.is_some()) {
        return Ok(());
    }
    let named = |key: &B256| network.peers.iter().any(|peer| peer.key == Some(*key));
    let missing: Vec<String> = genesis
        .validators
        .iter()
        .filter(|seat| !named(&seat.key))
        .map(|seat| seat.key.to_string())
        .collect();
    if missing.len() > 1 {
        bail!(
            "network.peers names no address of {} validators of genesis.json; one of these is this node itself: {}",
            missing.len().saturating_sub(1),
            missing.join(", ")
        );
    }
    Ok(())
}
