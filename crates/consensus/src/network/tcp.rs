//! Encrypted, authenticated connections between the validators of an epoch.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use commonware_cryptography::{
    ChaCha20Poly1305, Signer as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    Address, AddressableManager as _, Channel, Ingress,
    authenticated::lookup::{self, Oracle},
};
use commonware_runtime::{Quota, Spawner as _, Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, ordered::Map};
use stele_core::{
    certificate::{ValidatorKey, ValidatorSet},
    epoch::VALIDATORS_MAX,
};
use tokio::sync::watch;

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
    book: watch::Receiver<Vec<Peer>>,
    validators: usize,
) -> Result<Links<Sender, Receiver, Oracle<PublicKey>, Oracle<PublicKey>>, Error> {
    // The engine takes a taken port for a defect of its own; here it gets a name.
    std::net::TcpListener::bind(listen).map_err(|source| Error::Listen {
        address: listen,
        source,
    })?;
    for peer in book.borrow().iter() {
        engine_key(&peer.key)?;
        reached_at(&peer.address)?;
    }
    let me = signer.public_key();
    let watching = runtime.child("book");
    // Inboxes grow with the room, so it is little, but there is some for newcomers.
    let room = validators.saturating_mul(2).max(ROOM_MIN);
    let slots = NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN);
    let (mut network, oracle) =
        lookup::Network::new(runtime, config(signer, namespace, listen, slots));
    let circle = Arc::new(Mutex::new(Circle {
        oracle: oracle.clone(),
        me: (me, listen),
        book: book.clone(),
        validators: None,
        sets: 0,
    }));
    watching.spawn({
        let circle = Arc::clone(&circle);
        |_| follow_book(book, circle)
    });
    let mut link = |channel: Channel| network.register(channel, QUOTA);
    let links = Links {
        votes: link(0),
        certificates: link(1),
        resolver: link(2),
        backfill: link(3),
        blocks: link(4),
        gossip: link(5),
        notices: link(6),
        peers: oracle.clone(),
        blocker: oracle,
        room,
        meet: Box::new(move |epoch| {
            let mut circle = circle.lock().unwrap_or_else(PoisonError::into_inner);
            circle.validators = Some(epoch.set().clone());
            circle.meet();
        }),
    };
    network.start();
    Ok(links)
}

/// Who is let in, and where they are.
struct Circle {
    oracle: Oracle<PublicKey>,
    me: (PublicKey, SocketAddr),
    book: watch::Receiver<Vec<Peer>>,
    /// The validators of the epoch; `None` before the first.
    validators: Option<ValidatorSet>,
    /// Sets handed to the network so far.
    sets: u64,
}

impl Circle {
    /// Hands the validators and their addresses to the network.
    fn meet(&mut self) {
        let Some(validators) = &self.validators else {
            return;
        };
        let book = self.book.borrow_and_update().clone();
        let mut addresses = Vec::new();
        for validator in validators.keys() {
            let Ok(key) = engine_key(validator) else {
                continue;
            };
            let address = if key == self.me.0 {
                Address::Symmetric(self.me.1)
            } else {
                address_of(&book, validator)
            };
            addresses.push((key, address));
        }
        // Keys of a set are there once.
        let Ok(addresses) = Map::try_from(addresses) else {
            return;
        };
        self.oracle.track(self.sets, addresses);
        self.sets = self.sets.saturating_add(1);
    }
}

/// Hands addresses that were learned later to the network.
async fn follow_book(mut book: watch::Receiver<Vec<Peer>>, circle: Arc<Mutex<Circle>>) {
    while book.changed().await.is_ok() {
        circle.lock().unwrap_or_else(PoisonError::into_inner).meet();
    }
    // Nobody learns addresses any more: the network goes on with those it has.
    std::future::pending::<()>().await;
}

/// Where a validator is called. One that nobody knows an address of is let in when it calls.
fn address_of(book: &[Peer], validator: &ValidatorKey) -> Address {
    let known = book.iter().find(|peer| peer.key == *validator);
    known
        .and_then(|peer| reached_at(&peer.address).ok())
        .unwrap_or(Address::Symmetric(NOWHERE))
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
    slots: NonZeroUsize,
) -> lookup::Config<Handshake> {
    let sake = Sake {
        signer,
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    let mut config = lookup::Config::recommended(
        Cups::new(sake, cups::Version::V1),
        namespace,
        listen,
        slots,
        message_bytes_max(VALIDATORS_MAX),
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
    // Whoever has lost its seat is cut off at once.
    config.tracked_peer_sets = NZUsize!(1);
    config
}

/// Validators that there is room for at least.
const ROOM_MIN: usize = 8;

/// A port that nobody listens at: the discard service of RFC 863.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// Messages a peer may send on one channel. Inboxes hold a second's worth of every peer, so memory
/// grows with it: 256 and 8 peers came to 46 MB a node.
const QUOTA: Quota = Quota::per_second(NZU32!(256));
