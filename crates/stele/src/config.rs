//! Where a node's things are and how it is reached. Flag before `STELE_…` before `stele.toml` before default.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use stele_core::{
    crypto::{Secret32, keystore::Unlock},
    id::OrganizationId,
};
use zeroize::Zeroizing;

mod custody;
mod network;
pub(crate) mod notices;
mod replicas;

pub(crate) use custody::CustodyConfig;
pub(crate) use network::{NetworkConfig, PeerConfig};
use notices::Notices;
pub(crate) use replicas::ReplicasConfig;

/// Version of the layout of a data folder. A newer program migrates an older folder; an older one refuses it.
pub(crate) const FORMAT: u32 = 1;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Data folder.
    pub(crate) data: PathBuf,
    /// Gateway and portal.
    pub(crate) http: SocketAddr,
    /// Ethereum JSON-RPC, HTTP and WebSocket.
    pub(crate) rpc: SocketAddr,
    /// OpenMetrics.
    pub(crate) metrics: SocketAddr,
    /// Key file that unlocks the vault; `<data>.key` when absent. A passphrase in `STELE_PASSPHRASE` or in the file
    /// named by `STELE_PASSPHRASE_FILE` takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// Largest request body in bytes (Binary content is streamed and has a limit of its own).
    pub(crate) max_body_bytes: usize,
    /// Largest Binary in bytes.
    pub(crate) max_binary_bytes: u64,
    /// Page size of a search that names none.
    pub(crate) default_count: u32,
    /// Largest page size.
    pub(crate) max_count: u32,
    /// How long a write that is stored waits for the ledger before its client is told to ask again later, in
    /// milliseconds.
    pub(crate) pending_after_ms: u64,
    /// Web origins that may call JSON-RPC from a browser.
    pub(crate) rpc_origins: Vec<String>,
    /// Address under which wallets reach JSON-RPC, of a reverse proxy that adds the token; `rpc`'s own on loopback when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_url: Option<String>,
    /// Unix socket on which JSON-RPC listens as well; only the node's own user can open it.
    pub(crate) rpc_ipc: Option<PathBuf>,
    /// JSON-RPC connections at once, HTTP and WebSocket together.
    pub(crate) rpc_connections: u32,
    /// Requests a second that one address may send for long; 0 for no limit. Programs on this machine have none.
    pub(crate) rate_per_second: u32,
    /// Requests that one address may send at once.
    pub(crate) rate_burst: u32,
    /// Bytes of disk that stay free: writes are refused before they are used.
    pub(crate) reserve_bytes: u64,
    /// Longest time without a block, in milliseconds.
    pub(crate) heartbeat_ms: u64,
    /// Log format: `text` or `json`.
    pub(crate) log_format: LogFormat,
    /// HL7 v2.
    pub(crate) mllp: Mllp,
    /// The other members of the consortium; absent in a consortium of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkConfig>,
    /// The web portal.
    pub(crate) portal: Portal,
    /// Notices by e-mail and webhook.
    pub(crate) notices: Notices,
}

/// The web portal, at `/` of the HTTP address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Portal {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Origin under which people open it, such as `https://records.example`; passkeys are bound to its host.
    /// The HTTP address's own when absent, which works on this machine only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    /// Language of pages and messages for people who chose none and whose browser asks for none that there is.
    pub(crate) language: Language,
    /// Largest file that a person may add to a record, in bytes.
    pub(crate) max_upload_bytes: u64,
}

/// A language that the portal speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Language {
    #[default]
    #[serde(rename = "en")]
    English,
    #[serde(rename = "de")]
    German,
}

impl From<Language> for stele_portal::Language {
    fn from(language: Language) -> Self {
        match language {
            Language::English => Self::English,
            Language::German => Self::German,
        }
    }
}

impl Default for Portal {
    fn default() -> Self {
        Self {
            enabled: true,
            origin: None,
            language: Language::default(),
            max_upload_bytes: 200 << 20,
        }
    }
}

impl Portal {
    fn check(&self) -> Result<()> {
        if !(1024..=1 << 40).contains(&self.max_upload_bytes) {
            bail!(
                "portal.max_upload_bytes = {}: must be from 1024 to 1099511627776",
                self.max_upload_bytes
            );
        }
        let Some(origin) = &self.origin else {
            return Ok(());
        };
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://localhost").map(|_| "localhost"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            bail!(
                "portal.origin = {origin:?}: must be https://HOST or https://HOST:PORT without a path; browsers give \
                 passkeys to nothing else"
            );
        }
        Ok(())
    }
}

/// HL7 v2 over MLLP: where messages come in, from whom, and how large they may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mllp {
    /// Where the listener opens, or `off`.
    pub(crate) address: Listen,
    /// Whether it may open off loopback. MLLP has no encryption: put a TLS tunnel in front.
    pub(crate) allow_remote: bool,
    /// Largest message in bytes.
    pub(crate) max_message_bytes: usize,
    /// Connections at the same time.
    pub(crate) max_connections: usize,
    /// Seconds that a connection may say nothing.
    pub(crate) idle_timeout_s: u64,
    /// Offset of times that name none, where the message's header names none either: `Z`, `+01:00` and the like.
    pub(crate) offset: String,
    /// Whether senders that ask for no acknowledgement (MSH-15 and MSH-16 `NE`) get none.
    pub(crate) silence: bool,
    /// Senders and the organisations they act for. Without any, every sender acts for the node's own.
    pub(crate) sources: Vec<MllpSource>,
}

/// A sender of HL7 v2 messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MllpSource {
    /// MSH-4, name or universal id.
    pub(crate) facility: String,
    /// MSH-3, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) application: Option<String>,
    /// Account of the organisation, one of this node.
    pub(crate) organization: OrganizationId,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| format!("{text:?} is neither an address such as 127.0.0.1:2575 nor off"))
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Off => "off".into(),
            Listen::At(address) => address.to_string(),
        }
    }
}

impl Default for Mllp {
    fn default() -> Self {
        Self {
            address: Listen::At(SocketAddr::from(([127, 0, 0, 1], 2575))),
            allow_remote: false,
            max_message_bytes: 16 << 20,
            max_connections: 64,
            idle_timeout_s: 300,
            offset: "Z".into(),
            silence: false,
            sources: Vec::new(),
        }
    }
}

impl Mllp {
    fn check(&self) -> Result<()> {
        if !(1024..=1 << 28).contains(&self.max_message_bytes) {
            bail!(
                "mllp.max_message_bytes = {}: must be from 1024 to {}",
                self.max_message_bytes,
                1_u32 << 28
            );
        }
        if !(1..=10_000).contains(&self.max_connections) {
            bail!(
                "mllp.max_connections = {}: must be from 1 to 10000",
                self.max_connections
            );
        }
        if !(1..=86_400).contains(&self.idle_timeout_s) {
            bail!(
                "mllp.idle_timeout_s = {}: must be from 1 to 86400",
                self.idle_timeout_s
            );
        }
        if !is_offset(&self.offset) {
            bail!(
                "mllp.offset = {:?}: must be Z, or an offset from -14:00 to +14:00",
                self.offset
            );
        }
        Ok(())
    }
}

/// `Z`, or hours and minutes as FHIR writes them.
fn is_offset(text: &str) -> bool {
    if text == "Z" {
        return true;
    }
    let Some((hours, minutes)) = text
        .strip_prefix(['+', '-'])
        .and_then(|digits| digits.split_once(':'))
    else {
        return false;
    };
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten();
    match (number(hours), number(minutes)) {
        (Some(14), Some(0)) => true,
        (Some(hours), Some(minutes)) => hours < 14 && minutes < 60,
        _ => false,
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines, one JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "stele-data".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 8480)),
            rpc: SocketAddr::from(([127, 0, 0, 1], 8545)),
            metrics: SocketAddr::from(([127, 0, 0, 1], 9464)),
            key_file: None,
            max_body_bytes: 64 << 20,
            max_binary_bytes: 1 << 30,
            default_count: 20,
            max_count: 1_000,
            pending_after_ms: 10_000,
            rpc_origins: Vec::new(),
            rpc_url: None,
            rpc_ipc: None,
            rpc_connections: 500,
            rate_per_second: 500,
            rate_burst: 2_000,
            reserve_bytes: 64 << 20,
            heartbeat_ms: 5_000,
            log_format: LogFormat::Text,
            mllp: Mllp::default(),
            network: None,
            portal: Portal::default(),
            notices: Notices::default(),
        }
    }
}

impl Config {
    /// Reads a configuration file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("configuration {}", path.display()))?;
        config.stand_in(path.parent().unwrap_or(Path::new("")), &text)?;
        config
            .check()
            .with_context(|| format!("configuration {}", path.display()))?;
        Ok(config)
    }

    /// Reads the paths that the file names from where the file lies, so that a member's folder may be moved whole.
    fn stand_in(&mut self, folder: &Path, text: &str) -> Result<()> {
        let named: toml::Table = toml::from_str(text)?;
        if named.contains_key("data") {
            self.data = folder.join(&self.data);
        }
        if let Some(key_file) = &mut self.key_file {
            *key_file = folder.join(&*key_file);
        }
        self.notices.beside(folder);
        Ok(())
    }

    /// Refuses values that can't work, naming key, value and range.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1024..=1 << 30).contains(&self.max_body_bytes) {
            bail!(
                "max_body_bytes = {}: must be from 1024 to {}",
                self.max_body_bytes,
                1_u32 << 30
            );
        }
        if !(1..=1_000).contains(&self.max_count) {
            bail!("max_count = {}: must be from 1 to 1000", self.max_count);
        }
        if !(1..=self.max_count).contains(&self.default_count) {
            bail!(
                "default_count = {}: must be from 1 to max_count, which is {}",
                self.default_count,
                self.max_count
            );
        }
        if self.pending_after_ms > 240_000 {
            bail!(
                "pending_after_ms = {}: must be from 0 to 240000",
                self.pending_after_ms
            );
        }
        if !(200..=30_000).contains(&self.heartbeat_ms) {
            bail!(
                "heartbeat_ms = {}: must be from 200 to 30000",
                self.heartbeat_ms
            );
        }
        self.check_rpc_url()?;
        self.network.iter().try_for_each(NetworkConfig::check)?;
        self.mllp.check()?;
        self.notices.check()?;
        self.portal.check()
    }

    /// Wallets take no other addresses in.
    fn check_rpc_url(&self) -> Result<()> {
        let is_good = |url: &String| {
            url.starts_with("https://")
                || url.starts_with("http://localhost")
                || url.starts_with("http://127.0.0.1")
        };
        match self.rpc_url.as_ref().filter(|url| !is_good(url)) {
            None => Ok(()),
            Some(url) => bail!(
                "rpc_url = {url:?}: must be https://… or http://localhost…; wallets take no other address"
            ),
        }
    }

    /// The key file in force: beside the data folder, never in it, unless somebody insists.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.key_file
            .clone()
            .unwrap_or_else(|| beside(&self.data, "key"))
    }

    /// List of erased records, kept beside the data folder so that a restore does not bring them back.
    pub(crate) fn tombstones_file(&self) -> PathBuf {
        beside(&self.data, "tombstones")
    }

    /// When the data folder was last backed up and checked, kept beside it.
    pub(crate) fn upkeep_file(&self) -> PathBuf {
        beside(&self.data, "upkeep")
    }

    /// What unlocks the vault: a passphrase from the environment, or the key file, made at the first start.
    pub(crate) fn unlock(&self, create: bool) -> Result<Unlock> {
        if let Some(passphrase) = passphrase()? {
            return Ok(Unlock::Passphrase(passphrase));
        }
        let path = self.key_file();
        if !path.exists() && create && !self.data.join("format").exists() {
            return stele_vault::unlock::create_key_file(&path)
                .with_context(|| format!("making the key file {}", path.display()));
        }
        stele_vault::unlock::read_key_file(&path).with_context(|| {
            format!(
                "reading the key file {}; name another with --key-file, or give the passphrase in STELE_PASSPHRASE_FILE",
                path.display()
            )
        })
    }
}

fn beside(data: &Path, extension: &str) -> PathBuf {
    let mut name = data.file_name().unwrap_or(data.as_os_str()).to_owned();
    name.push(".");
    name.push(extension);
    data.with_file_name(name)
}

fn passphrase() -> Result<Option<Zeroizing<String>>> {
    if let Ok(text) = std::env::var("STELE_PASSPHRASE") {
        return Ok(Some(Zeroizing::new(text)));
    }
    match std::env::var_os("STELE_PASSPHRASE_FILE") {
        None => Ok(None),
        Some(path) => {
            let text = fs::read_to_string(&path).with_context(|| {
                format!("reading the passphrase in {}", Path::new(&path).display())
            })?;
            Ok(Some(Zeroizing::new(
                text.trim_end_matches(['\r', '\n']).to_owned(),
            )))
        }
    }
}

/// Checks the format of a data folder, or notes it in a new one.
///
/// An older folder would be migrated here, one version at a time; format 1 is the first.
pub(crate) fn check_format(data: &Path) -> Result<()> {
    let path = data.join("format");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found: u32 = text.trim().parse().with_context(|| {
                format!(
                    "{} says {:?}, which is no format version",
                    path.display(),
                    text.trim()
                )
            })?;
            if found > FORMAT {
                bail!(
                    "{} has format {found}, this program knows up to {FORMAT}: use the newer program",
                    data.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
            fs::write(&path, FORMAT.to_string())
                .with_context(|| format!("writing {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The secret that access tokens of this node are signed with, kept wrapped in the data folder so that
/// `stele token` can use it while the node runs.
pub(crate) fn token_key(data: &Path, unlock: &Unlock, create: bool) -> Result<Secret32> {
    let path = data.join(TOKEN_KEY);
    if !path.exists() && create {
        let secret = Secret32::random(&mut stele_core::crypto::os_rng());
        write_token_key(data, unlock, &secret)?;
        return Ok(secret);
    }
    let wrapped = fs::read(&path)
        .with_context(|| format!("reading {}; has a node been started there?", path.display()))?;
    let secret = stele_core::crypto::keystore::unwrap(&wrapped, unlock, TOKEN_CONTEXT)
        .with_context(|| format!("opening {}", path.display()))?;
    let bytes: [u8; 32] = secret
        .as_slice()
        .try_into()
        .context("the token key is not 32 bytes")?;
    Ok(Secret32::new(bytes))
}

/// Wraps the token key under what unlocks the vault.
pub(crate) fn write_token_key(data: &Path, unlock: &Unlock, secret: &Secret32) -> Result<()> {
    let path = data.join(TOKEN_KEY);
    let mut rng = stele_core::crypto::os_rng();
    let wrapped =
        stele_core::crypto::keystore::wrap(secret.expose(), unlock, TOKEN_CONTEXT, &mut rng)?;
    fs::write(&path, wrapped).with_context(|| format!("writing {}", path.display()))
}

const TOKEN_KEY: &str = "token.key";
const TOKEN_CONTEXT: &[u8] = b"stele/token-key/1";

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = toml::from_str::<Config>("htpp = \"127.0.0.1:1\"").expect_err("a typo");
        assert!(error.to_string().contains("htpp"), "{error}");
        let config: Config = toml::from_str("heartbeat_ms = 10").expect("parses");
        let error = config.check().expect_err("too short").to_string();
        assert!(
            error.contains("heartbeat_ms = 10") && error.contains("30000"),
            "{error}"
        );
        for (text, says) in [
            ("rpc_url = \"http://rpc.example\"", "rpc_url"),
            ("[mllp]\naddress = \"here\"", "neither an address"),
            ("[mllp]\noffset = \"CET\"", "mllp.offset"),
            ("[mllp]\nmax_connections = 0", "mllp.max_connections"),
            ("[mllp]\nport = 1", "port"),
            (
                "[portal]\norigin = \"http://records.example\"",
                "portal.origin",
            ),
            (
                "[portal]\norigin = \"https://records.example/x\"",
                "portal.origin",
            ),
        ] {
            let read = toml::from_str::<Config>(text).map_err(anyhow::Error::from);
            let error = read.and_then(|config| config.check()).expect_err(text);
            assert!(error.to_string().contains(says), "{error}");
        }
        let off: Config = toml::from_str("[mllp]\naddress = \"off\"").expect("parses");
        assert_eq!(off.mllp.address, Listen::Off);
    }

    /// A member's folder may be moved whole: paths in its file are read from where it lies.
    #[test]
    fn paths_stand_beside_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stele.toml");
        fs::write(&path, "data = \"data\"\nkey_file = \"keys/unlock\"").expect("written");
        let config = Config::read(&path).expect("it reads");
        assert_eq!(config.data, folder.path().join("data"));
        assert_eq!(config.key_file(), folder.path().join("keys/unlock"));
        fs::write(&path, "data = \"/srv/stele\"").expect("written");
        assert_eq!(
            Config::read(&path).expect("it reads").data,
            Path::new("/srv/stele")
        );
        fs::write(&path, "").expect("written");
        assert_eq!(
            Config::read(&path).expect("it reads").data,
            Config::default().data
        );
    }

    #[test]
    fn a_network_that_cannot_work_is_refused() {
        let head = format!(
            "[network]\nlisten = \"127.0.0.1:0\"\ngenesis = \"{}\"\n",
            B256::ZERO
        );
        let key = B256::repeat_byte(1);
        let peer = |address: &str, more: &str| {
            format!(
                "[[network.peers]]\nname = \"B\"\nkey = \"{key}\"\naddress = \"{address}\"\n{more}\n"
            )
        };
        let good = peer("b.example.org:7100", "gateway = \"https://b.example.org\"");
        for (text, says) in [
            (format!("{head}{good}"), None),
            (format!("{head}{}", peer("nowhere", "")), Some("nowhere")),
            (format!("{head}{good}{good}"), Some("twice")),
            (
                format!("{head}{}", peer("b:1", "gateway = \"ftp://b\"")),
                Some("ftp://b"),
            ),
            (
                format!("{head}{}", peer("b:1", "pubkey = 1")),
                Some("pubkey"),
            ),
            (
                "[network]\nlisten = \"127.0.0.1:0\"".into(),
                Some("genesis"),
            ),
            (
                format!("{head}[network.custody]\ncustodians = 5\nthreshold = 3\n{good}"),
                None,
            ),
            (
                format!("{head}[network.custody]\ncustodians = 6"),
                Some("custodians = 6"),
            ),
            (
                format!("{head}[network.custody]\nthreshold = 4"),
                Some("threshold = 4"),
            ),
            (
                format!("{head}[network.custody]\nperiod_s = 0"),
                Some("period_s = 0"),
            ),
            (
                format!("{head}[network.replicas]\ncopies = 1\nsample = 1\n{good}"),
                None,
            ),
            (
                format!("{head}[network.replicas]\ncopies = 0"),
                Some("copies = 0"),
            ),
            (
                format!("{head}[network.replicas]\nrequests = 65"),
                Some("requests = 65"),
            ),
        ] {
            let read = toml::from_str::<Config>(&text).map_err(anyhow::Error::from);
            let checked = read.and_then(|config| config.check());
            match (checked, says) {
                (Ok(()), None) => {}
                (Err(error), Some(says)) => {
                    assert!(format!("{error:#}").contains(says), "{error:#}")
                }
                (checked, says) => panic!("{text}: {checked:?} instead of {says:?}"),
            }
        }
    }

    /// The example is what `stele config show` prints of the defaults, so it can't go stale.
    #[test]
    fn the_example_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../stele.example.toml");
        let text = fs::read_to_string(&path).expect("stele.example.toml");
        let example: Config = toml::from_str(&text).expect("it parses");
        assert_eq!(example, Config::default());
        let shown = toml::to_string_pretty(&Config::default()).expect("it prints");
        for line in shown.lines().filter(|line| !line.is_empty()) {
            assert!(text.contains(line), "stele.example.toml lacks {line}");
        }
    }

    #[test]
    fn secrets_lie_beside_the_data() {
        let config = Config {
            data: "/srv/stele-data".into(),
            ..Config::default()
        };
        assert_eq!(config.key_file(), Path::new("/srv/stele-data.key"));
        assert!(!stele_vault::unlock::is_inside(
            &config.key_file(),
            &config.data
        ));
    }

    #[test]
    fn a_newer_folder_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        check_format(folder.path()).expect("a new folder");
        check_format(folder.path()).expect("the same again");
        fs::write(folder.path().join("format"), "2").expect("written");
        let error = check_format(folder.path()).expect_err("newer").to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
