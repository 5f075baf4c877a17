//! Encrypted, authenticated connections between members that know each other's addresses.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use commonware_cryptography::{
    ChaCha20Poly1305, Signer as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    Address, AddressableManager as _, Channel, Ingress,
    authenticated::lookup::{self, Oracle},
};
use commonware_runtime::{Quota, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, ordered::Map};

use crate::{
    Error, Peer, PeerAddress,
    certificate::engine_key,
    engine::{Links, message_bytes_max},
};

type Sender = lookup::Sender<PublicKey, Context>;
type Receiver = lookup::Receiver<PublicKey>;

/// Starts the network and gives the engine its links. `namespace` separates this chain's
/// connections from those of others, like its votes.
pub(crate) fn links(
    runtime: Context,
    signer: PrivateKey,
    namespace: &[u8],
    listen: SocketAddr,
    peers: &[Peer],
) -> Result<Links<Sender, Receiver, Oracle<PublicKey>, Oracle<PublicKey>>, Error> {
    // The engine takes a taken port for a defect of its own; here it gets a name.
    std::net::TcpListener::bind(listen).map_err(|source| Error::Listen {
        address: listen,
        source,
    })?;
    let members = peers.len().saturating_add(1);
    let me = signer.public_key();
    let mut addresses = vec![(me, Address::Symmetric(listen))];
    for peer in peers {
        addresses.push((engine_key(&peer.key)?, reached_at(&peer.address)?));
    }
    let addresses: Map<_, _> = addresses.try_into().map_err(|_| Error::Config {
        key: "peers",
        problem: "a key is there twice, or is this validator's own".to_owned(),
    })?;
    let (mut network, mut oracle) =
        lookup::Network::new(runtime, config(signer, namespace, listen, members));
    oracle.track(0, addresses);
    let mut link = |channel: Channel| network.register(channel, QUOTA);
    let links = Links {
        votes: link(0),
        certificates: link(1),
        resolver: link(2),
        backfill: link(3),
        blocks: link(4),
        gossip: link(5),
        peers: oracle.clone(),
        blocker: oracle,
    };
    network.start();
    Ok(links)
}

fn reached_at(address: &PeerAddress) -> Result<Address, Error> {
    Ok(match address {
        PeerAddress::Socket(address) => Address::Symmetric(*address),
        PeerAddress::Name { host, port } => Address::Asymmetric {
            ingress: Ingress::Dns {
                host: Hostname::new(host.as_str()).map_err(|error| Error::Config {
                    key: "peers",
                    problem: format!("{host:?} is no host name: {error}"),
                })?,
                port: *port,
            },
            // Not looked at: members are known by their keys, wherever they call from.
            egress: SocketAddr::from(([0, 0, 0, 0], 0)),
        },
    })
}

type Handshake = Cups<Sake<PrivateKey>, ChaCha20Poly1305>;

fn config(
    signer: PrivateKey,
    namespace: &[u8],
    listen: SocketAddr,
    members: usize,
) -> lookup::Config<Handshake> {
    let sake = Sake {
        signer,
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    let largest = message_bytes_max(u32::try_from(members).unwrap_or(u32::MAX));
    let slots = NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN);
    let mut config = lookup::Config::recommended(
        Cups::new(sake, cups::Version::V1),
        namespace,
        listen,
        slots,
        largest,
        NZUsize!(1024),
    );
    // Hospitals meet on private networks and VPNs, where the recommended public addresses do not
    // exist and a minute's wait before a reconnection would stop a small consortium.
    config.allow_private_ips = true;
    // Keys say who calls. Behind a hospital's address translation an IP address does not.
    config.bypass_ip_check = true;
    config.peer_connection_cooldown = Duration::from_secs(1);
    config.allowed_handshake_rate_per_ip = Quota::per_second(NZU32!(16));
    config.dial_frequency = Duration::from_millis(500);
    config
}

/// Messages a peer may send on one channel. Inboxes hold a second's worth of every peer, so memory
/// grows with it: 256 and 8 peers came to 46 MB a node.
const QUOTA: Quota = Quota::per_second(NZU32!(256));
