//! A node's place among the members of its consortium.

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use stele_chain::Genesis;
use stele_consensus::{Network, Peer};
use stele_core::{certificate::ValidatorKey, id::OrganizationId};
use stele_vault::Vault;

use super::{Start, signer};
use crate::config::{Config, NetworkConfig};

/// The organisation this node acts for: the one whose validator it is, else the first whose keys it keeps.
pub(super) fn own_organization(genesis: &Genesis, vault: &Vault) -> Result<OrganizationId> {
    let key = B256::from(*signer(vault).public_key().as_bytes());
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

/// How this node reaches the others, once the configuration and the genesis agree on who they are.
pub(super) fn of(config: &Config, genesis: &Genesis, start: Start) -> Result<Network> {
    let members = genesis.validators.len();
    let Some(network) = &config.network else {
        if members > 1 {
            bail!(
                "this data folder belongs to a consortium of {members}; start it with `stele node --config FILE`, \
                 where FILE has the section [network]"
            );
        }
        return Ok(Network::Solitary);
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
    let peers = network
        .peers
        .iter()
        .map(|peer| {
            if !genesis.validators.iter().any(|seat| seat.key == peer.key) {
                bail!(
                    "network.peers: {} is no validator of genesis.json ({})",
                    peer.key,
                    peer.name
                );
            }
            Ok(Peer {
                key: ValidatorKey::new(peer.key.0),
                address: peer
                    .address
                    .parse()
                    .with_context(|| format!("network.peers: the address of {}", peer.name))?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    named_all(network, genesis)?;
    if members == 1 {
        return Ok(Network::Solitary);
    }
    Ok(Network::Tcp {
        listen: network.listen,
        peers,
    })
}

/// At most one validator of the genesis, this node's own, may lack an address.
fn named_all(network: &NetworkConfig, genesis: &Genesis) -> Result<()> {
    let named = |key: &B256| network.peers.iter().any(|peer| peer.key == *key);
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
