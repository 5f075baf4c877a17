//! What an operator or the node decides about consensus.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use commonware_utils::Hostname;
use stele_core::{
    certificate::{ValidatorKey, ValidatorSet},
    epoch::recovery::Recovery,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::Error;

/// Everything [`crate::start`] needs beside the application.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the engine's own store: votes, and recent blocks. One running node at a time.
    /// Losing it is like losing the validator's memory of what it voted for: a validator among
    /// others must then not sign again under the same key before the views it voted in are over.
    pub data_dir: PathBuf,
    /// Chain id, part of what every vote signs.
    pub chain_id: u64,
    /// This validator's signing keys, most recent first. It signs with the first that has a seat in the epoch, so a
    /// member that replaces its key has both until the new one is seated.
    pub signers: Vec<SignerSeed>,
    /// How to reach the other validators.
    pub network: Network,
    /// Waiting times.
    pub timing: Timing,
    /// Committed blocks that the engine keeps for members that lag behind, at least. The ledger
    /// keeps them all, so this only has to cover how far a member may lag.
    pub blocks_retained: u64,
}

impl Config {
    /// Settings that suit the number of validators, without a network. Who validates, and when, is for the ledger to
    /// say: see [`crate::Application::epochs`].
    pub fn new(
        data_dir: PathBuf,
        chain_id: u64,
        signer: SignerSeed,
        validators: &ValidatorSet,
    ) -> Self {
        let alone = validators.keys().len() == 1;
        Self {
            data_dir,
            chain_id,
            signers: vec![signer],
            network: Network::Solitary,
            timing: if alone {
                Timing::alone()
            } else {
                Timing::members()
            },
            blocks_retained: if alone { 256 } else { 16_384 },
        }
    }

    /// Refuses what cannot work before anything is opened.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.signers.is_empty() {
            return Err(problem("signers", "there is none"));
        }
        if self.timing.heartbeat.is_zero() || self.timing.heartbeat >= self.timing.leader_timeout {
            return Err(problem(
                "heartbeat_ms",
                "must be above 0 and below leader_timeout_ms",
            ));
        }
        Ok(())
    }
}

/// How a validator reaches the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Network {
    /// The only validator: no port is opened.
    Solitary,
    /// Encrypted connections between members that know each other's keys.
    Tcp {
        /// Address to listen on.
        listen: SocketAddr,
        /// Where validators listen, as far as that is known; more may be learned while the engine runs. One that
        /// nobody knows an address of is let in when it calls.
        peers: watch::Receiver<Vec<Peer>>,
    },
}

/// Where another validator listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key, by which the connection is authenticated.
    pub key: ValidatorKey,
    /// Its address.
    pub address: PeerAddress,
}

/// Where a validator listens, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name, looked up at every connection, and a port.
    Name {
        /// Host name, RFC 1123.
        host: String,
        /// Port.
        port: u16,
    },
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl FromStr for PeerAddress {
    type Err = Error;

    /// Reads `192.0.2.1:7100`, `[2001:db8::1]:7100` or `stele.example.org:7100`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(socket) = text.parse() {
            return Ok(Self::Socket(socket));
        }
        let bad = || {
            problem(
                "peers",
                &format!("{text:?} is no address such as host:7100"),
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        Hostname::new(host).map_err(|_| bad())?;
        Ok(Self::Name {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Waiting times. All validators should use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// An empty block is proposed when nothing was ready for this long. Shorter than
    /// `leader_timeout`, or idle views are given up.
    pub heartbeat: Duration,
    /// How long the others wait for a leader's proposal before they give up its view.
    pub leader_timeout: Duration,
    /// A block whose timestamp is further ahead of the clock than this stays pending.
    pub clock_skew: Duration,
}

impl Timing {
    /// For one validator: nobody waits for it, so a slow heartbeat saves power and disk.
    pub const fn alone() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            leader_timeout: Duration::from_secs(6),
            clock_skew: CLOCK_SKEW,
        }
    }

    /// For several: a crashed leader costs one second.
    pub const fn members() -> Self {
        Self {
            heartbeat: Duration::from_millis(900),
            leader_timeout: Duration::from_secs(1),
            clock_skew: CLOCK_SKEW,
        }
    }
}

/// Seed of an Ed25519 signing key, RFC 8032 §5.1.5. 32 bytes, erased when dropped.
#[derive(Clone)]
pub struct SignerSeed(Zeroizing<[u8; 32]>);

impl SignerSeed {
    /// Takes the seed.
    pub const fn new(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(seed)
    }

    /// The key that others verify this validator's votes with.
    pub fn public_key(&self) -> ValidatorKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.private_key().public_key().as_ref());
        ValidatorKey::new(bytes)
    }

    /// Signs the end of an epoch by hand: 64 bytes, RFC 8032 §5.1.6, over [`Recovery::signed_bytes`]. Whoever calls this
    /// sees to it that the validator signs one such document an epoch and votes in that epoch no more.
    pub fn sign_recovery(&self, recovery: &Recovery) -> [u8; 64] {
        let signature = self
            .private_key()
            .sign(&recovery.domain(), &recovery.payload());
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        bytes
    }

    /// The engine's form, which erases itself too.
    #[expect(
        clippy::expect_used,
        reason = "every 32 bytes are an Ed25519 seed, RFC 8032 §5.1.5"
    )]
    pub(crate) fn private_key(&self) -> PrivateKey {
        PrivateKey::decode(Copying(self.0.as_slice())).expect("32 bytes are a seed")
    }
}

impl fmt::Debug for SignerSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignerSeed(…)")
    }
}

fn problem(key: &'static str, problem: &str) -> Error {
    Error::Config {
        key,
        problem: problem.to_owned(),
    }
}

/// ARCHITECTURE, "Blocks": a block more than 500 ms ahead of a validator's clock stays pending.
const CLOCK_SKEW: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(byte: u8) -> SignerSeed {
        SignerSeed::new(Zeroizing::new([byte; 32]))
    }

    fn config() -> Config {
        let alone = ValidatorSet::new([seed(1).public_key()]).unwrap();
        Config::new("unused".into(), 57831, seed(1), &alone)
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let text = format!("{:?}", seed(0xab));
        assert_eq!(text, "SignerSeed(…)");
    }

    #[test]
    fn public_key_is_that_of_rfc_8032() {
        // RFC 8032 §7.1, test 1.
        let secret = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = SignerSeed::new(Zeroizing::new(secret)).public_key();
        assert_eq!(&key.as_bytes()[..4], &[0xd7, 0x5a, 0x98, 0x01]);
    }

    #[test]
    fn addresses_are_numbers_or_names() {
        for text in [
            "192.0.2.1:7100",
            "[2001:db8::1]:7100",
            "stele.example.org:7100",
        ] {
            let read: PeerAddress = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "7100", "host", "host:", "host:99999", "no spaces:7100"] {
            let error = text.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn refuses_what_cannot_work() {
        assert!(config().check().is_ok());
        let mut slow = config();
        slow.timing.heartbeat = slow.timing.leader_timeout;
        assert!(slow.check().is_err(), "idle views would be given up");
    }
}
