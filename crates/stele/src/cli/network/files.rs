//! The configuration file of a new member, with what each setting is for.

use std::fmt::Write as _;

use alloy_primitives::B256;
use stele_chain::Seat;

use crate::config::PeerConfig;

/// Where a member lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// From 1.
    pub(super) number: u16,
    /// Host by which the others reach it; `None` for this machine.
    pub(super) host: Option<String>,
    /// The first of its ports.
    pub(super) first: u16,
}

impl Place {
    /// Its folder and what people call it.
    pub(super) fn name(&self) -> String {
        format!("member-{}", self.number)
    }

    /// Base URL of its gateway.
    pub(super) fn gateway(&self) -> String {
        match &self.host {
            // The gateway itself speaks HTTP on loopback; TLS ends in front of it.
            Some(host) => format!("https://{host}"),
            None => format!("http://127.0.0.1:{}", self.first),
        }
    }

    fn port(&self, offset: u16) -> u16 {
        self.first.saturating_add(offset)
    }

    fn peer_address(&self) -> String {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        format!("{host}:{}", self.port(1))
    }

    /// How this member is named in another's configuration, once its validator is known.
    pub(super) fn peer(&self, seat: &Seat) -> PeerConfig {
        PeerConfig {
            name: self.name(),
            organization: None,
            key: Some(seat.key),
            address: Some(self.peer_address()),
            gateway: Some(self.gateway()),
        }
    }

    /// The text of a `stele.toml` for this place. `data` is read from where the file lies.
    pub(super) fn config(
        &self,
        name: &str,
        data: &str,
        consortium: (&str, B256),
        peers: &[PeerConfig],
    ) -> String {
        let listen = if self.host.is_some() {
            "0.0.0.0"
        } else {
            "127.0.0.1"
        };
        let (consortium, hash) = consortium;
        let mut text = format!(
            r#"# {name} of the consortium {consortium:?}. Start it with: stele node --config stele.toml
# Paths are read from this file's folder. `stele config show --config stele.toml` prints every setting there is.

# Data folder. {data}.key beside it unlocks everything: keep a copy of it apart, and no copy of it in a backup.
data = {data:?}

# Gateway: FHIR, SMART, IPFS, the operator's interface. It speaks plain HTTP: let a proxy in front of it end TLS.
http = "127.0.0.1:{http}"

# Ethereum JSON-RPC. Off loopback a bearer token is required.
rpc = "127.0.0.1:{rpc}"

# OpenMetrics. It has no access control: keep it on loopback or in a network of your own.
metrics = "127.0.0.1:{metrics}"

# Longest time without a block, in milliseconds. The same at every member: a leader that says nothing for a second
# longer is passed over.
heartbeat_ms = 900

[mllp]
# HL7 v2; "off" for none. It has neither encryption nor sign-in.
address = "127.0.0.1:{mllp}"

[network]
# Where this member's validator listens for the others. Encrypted; only validators of the consortium are let in.
listen = "{listen}:{port}"

# Where the others reach it, and this member's gateway. Members tell each other, also those that join later.
address = "{address}"
gateway = "{gateway}"

# Digest of the first block: genesis.json in the data folder has to give it, the same at every member.
genesis = "{hash}"

# A member that joins a ledger of at least so many blocks takes the state of a recent one from the others, proven by its
# certificate, instead of executing all of them; 0 for never. Of no effect once there are blocks here.
snapshot_blocks = 1000

[network.custody]
# Members that share the peppers of what is written here, this one among them, and how many of them it takes to open a
# record. Until there are as many members, this one keeps its peppers alone.
custodians = 3
threshold = 2

# After this time, at most twice it, this member alone can no longer open what it wrote.
period_s = 60

[network.replicas]
# Members that keep a copy of each record, the one that wrote it among them. Others hold what they can't open.
copies = 3

# How often a sample of what is held is checked, in seconds, and how many ciphertexts are in it.
check_s = 60
sample = 64
"#,
            http = self.port(0),
            rpc = self.port(2),
            metrics = self.port(3),
            mllp = self.port(4),
            port = self.port(1),
            address = self.peer_address(),
            gateway = self.gateway(),
        );
        for peer in peers {
            text.push_str(&peer_text(peer));
        }
        text
    }
}

/// The section of another member.
fn peer_text(peer: &PeerConfig) -> String {
    let mut text = format!("\n[[network.peers]]\nname = {:?}\n", peer.name);
    // Writing into a string can't fail.
    if let Some(organization) = peer.organization {
        let _ = writeln!(
            text,
            "# Its organisation's account.\norganization = \"{organization}\""
        );
    }
    if let Some(key) = peer.key {
        let _ = writeln!(
            text,
            "# Its validator's key, and where its validator listens.\nkey = \"{key}\""
        );
    }
    if let Some(address) = &peer.address {
        let _ = writeln!(text, "address = {address:?}");
    }
    if let Some(gateway) = &peer.gateway {
        let _ = writeln!(
            text,
            "# Its gateway, from which blocks are fetched, and records and keys that patients let this member read.\n\
             gateway = {gateway:?}"
        );
    }
    text
}
