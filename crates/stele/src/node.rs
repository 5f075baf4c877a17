//! A running node: opens the stores, starts consensus and the fronts, stops them in order.

mod app;
mod copies;
pub(crate) mod gossip;
pub(crate) mod ledger;
mod members;
mod metrics;
mod network;
mod newcomer;
mod notices;
mod peers;
mod portal;
pub(crate) mod recover;
mod signal;
pub(crate) mod spare;
mod validator;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use axum::Router;
use serde::{Deserialize, Serialize};
use stele_chain::{Chain, ChainOptions, Genesis, Organization, Seat};
use stele_consensus::SignerSeed;
use stele_core::{
    account::AccountKey,
    crypto::{Secret32, os_rng},
    id::{DEFAULT_CHAIN_ID, OrganizationId},
    time::{Clock as _, SystemClock},
};
use stele_gateway::{
    GatewayConfig, TokenKey,
    mllp::{MllpConfig, MllpHandle, Source},
    rpc::{Origins, RpcConfig, RpcHandle},
};
use stele_index::Index;
use stele_portal::PortalConfig;
use stele_service::{Service, network::Sharing, people::Site, ports::Peers};
use stele_vault::{Vault, keys::RootKey};
use tokio::{net::TcpListener, sync::watch};

use crate::config::{self, Config, Listen};
use app::App;
use ledger::NodeLedger;
use members::Others;
use peers::Gateways;

pub(crate) use network::ORGANIZATION_FILE;
pub(crate) use signal::signal;
use spare::Spare;
use validator::signer;
pub(crate) use validator::{NewMember, make_member, new_validator_key, promise, signers};

/// How long receipts wait for others before they are anchored together.
const RECEIPTS_PAUSE: Duration = Duration::from_millis(250);

/// How often new grants of other members' patients are looked for.
const FOREIGN_PAUSE: Duration = Duration::from_millis(250);

/// How often the custody of this member's peppers is looked after.
const CUSTODY_PAUSE: Duration = Duration::from_secs(1);

/// Where a running node is reached; also written to `ready.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Always true.
    pub(crate) ready: bool,
    /// Gateway and portal.
    pub(crate) http: String,
    /// JSON-RPC over HTTP; the same port takes WebSockets.
    pub(crate) rpc: String,
    /// OpenMetrics.
    #[serde(default)]
    pub(crate) metrics: String,
    /// HL7 v2 over MLLP; absent when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mllp: Option<SocketAddr>,
    /// FHIR base.
    pub(crate) fhir: String,
    /// The node's own organisation.
    pub(crate) organization: OrganizationId,
    /// Chain id.
    #[serde(rename = "chainId")]
    pub(crate) chain_id: u64,
}

/// The stores of a data folder, opened together; nothing runs yet.
pub(crate) struct Stores {
    pub(crate) vault: Arc<Vault>,
    pub(crate) index: Arc<Index>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) genesis: Genesis,
    pub(crate) organization: OrganizationId,
    /// Held as long as the stores are open: one process a folder.
    _lock: fs::File,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) ready: Ready,
    pub(crate) service: Arc<Service>,
    vault: Arc<Vault>,
    consensus: stele_consensus::Handle,
    talk: tokio::task::JoinSet<()>,
    foreign: Option<tokio::task::JoinHandle<()>>,
    custody: Option<tokio::task::JoinHandle<()>>,
    replicas: tokio::task::JoinSet<()>,
    introduce: Option<tokio::task::JoinHandle<()>>,
    rpc: RpcHandle,
    stop: watch::Sender<bool>,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    receipts: tokio::task::JoinHandle<()>,
    parameters: tokio::task::JoinHandle<()>,
    metrics: tokio::task::JoinHandle<std::io::Result<()>>,
    mllp: Option<MllpHandle>,
    messages: tokio::task::JoinHandle<()>,
    notices: tokio::task::JoinHandle<()>,
    spare: tokio::task::JoinHandle<()>,
    ready_file: PathBuf,
}

impl Stores {
    /// What a node on these stores says when it is ready.
    fn ready(
        &self,
        http: SocketAddr,
        rpc: SocketAddr,
        metrics: SocketAddr,
        mllp: Option<SocketAddr>,
    ) -> Ready {
        // Passkeys refuse IP addresses as relying parties, so people are sent to a name.
        let base = base_url(http);
        Ready {
            ready: true,
            fhir: format!("{base}/fhir/r4"),
            http: base,
            rpc: format!("http://{rpc}"),
            metrics: format!("http://{metrics}/metrics"),
            mllp,
            organization: self.organization,
            chain_id: self.genesis.chain_id,
        }
    }

    /// Opens a data folder, or makes one with a consortium of one in it.
    pub(crate) async fn open(config: &Config, create: Option<NewConsortium>) -> Result<Self> {
        if create.is_none() && !config.data.join("genesis.json").exists() {
            bail!(
                "{} holds no node; start one with `stele up`",
                config.data.display()
            );
        }
        let unlock = config.unlock(create.is_some())?;
        config::check_format(&config.data)?;
        let lock = lock(&config.data)?;
        let mut vault_config = stele_vault::Config::new(config.data.join("vault"));
        vault_config.reserve_bytes = config.reserve_bytes;
        let vault = Vault::open(&vault_config, &unlock)
            .await
            .context("opening the vault")?;
        let folder = config.data.join("index");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let index =
            Index::open(&folder, &vault.purpose_key("index")).context("opening the index")?;
        let genesis = genesis(&config.data, &vault, create).await?;
        let organization = network::own_organization(&config.data, &genesis, &vault)?;
        let chain = Chain::open(
            &config.data.join("chain"),
            &genesis,
            ChainOptions::default(),
        )
        .context("opening the chain")?;
        Ok(Self {
            vault: Arc::new(vault),
            index: Arc::new(index),
            chain: Arc::new(chain),
            genesis,
            organization,
            _lock: lock,
        })
    }
}

/// How a node starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// `stele up`: a consortium of one, made where there is none.
    Up(NewConsortium),
    /// `stele node`: a member of a consortium that was made before.
    Member,
}

/// What a new consortium of one is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewConsortium {
    /// Any sender may transact and deploy.
    pub(crate) open: bool,
    /// Chain id.
    pub(crate) chain_id: u64,
}

impl Default for NewConsortium {
    fn default() -> Self {
        Self {
            open: false,
            chain_id: DEFAULT_CHAIN_ID,
        }
    }
}

/// One process a data folder.
pub(crate) fn lock(data: &Path) -> Result<fs::File> {
    let path = data.join("lock");
    let file = fs::File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.try_lock()
        .with_context(|| format!("{} is in use by a running node", data.display()))?;
    Ok(file)
}

/// Reads the folder's genesis, or makes that of a consortium of one.
async fn genesis(data: &Path, vault: &Vault, create: Option<NewConsortium>) -> Result<Genesis> {
    let path = data.join("genesis.json");
    if path.exists() {
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let genesis = Genesis::from_json(&text).with_context(|| path.display().to_string())?;
        if create.is_some_and(|new| new.open) && !genesis.open {
            bail!(
                "{} was not made with --open, and that can't be changed later",
                data.display()
            );
        }
        return Ok(genesis);
    }
    let new = create.unwrap_or_default();
    let organization = if new.open {
        development_organization(vault).await?
    } else {
        Service::make_organization_keys(vault).await?
    };
    let genesis = Genesis {
        chain_id: new.chain_id,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: SystemClock.now().0,
        consortium: "Consortium of one".into(),
        open: new.open,
        organizations: vec![Organization {
            address: organization.0,
            kind: 1,
            endpoints_digest: B256::ZERO,
            keys_digest: B256::ZERO,
        }],
        validators: vec![Seat {
            key: B256::from(*signer(vault, 0).public_key().as_bytes()),
            organization: organization.0,
        }],
        parameters: Default::default(),
        deployers: vec![organization.0],
        alloc: Default::default(),
    };
    // Written beside and renamed: a crash leaves a whole file or none.
    let part = data.join("genesis.json.part");
    fs::write(&part, genesis.to_json()?).with_context(|| format!("writing {}", part.display()))?;
    fs::rename(&part, &path).with_context(|| format!("writing {}", path.display()))?;
    Ok(genesis)
}

/// The secret of the organisation of every `--open` network, so that scripts can try the system contracts. Known to
/// everyone: it is the first account of Ethereum's development chains.
const DEVELOPMENT_KEY: [u8; 32] =
    alloy_primitives::hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

async fn development_organization(vault: &Vault) -> Result<OrganizationId> {
    let key = AccountKey::new(Secret32::new(DEVELOPMENT_KEY))?;
    let keys = vault.keys();
    keys.add_signing(key.address(), key.secret()).await?;
    keys.ensure_kem(key.address(), &mut os_rng()).await?;
    keys.add_root(key.address(), &RootKey::random(&mut os_rng()))
        .await?;
    Ok(OrganizationId(key.address()))
}

impl Stores {
    /// Opens the stores of a data folder, which is made if need be, and holds them against the configuration.
    async fn prepare(config: &Config, start: Start) -> Result<Self> {
        fs::create_dir_all(&config.data)
            .with_context(|| format!("making {}", config.data.display()))?;
        let new = match start {
            Start::Up(new) => Some(new),
            Start::Member => None,
        };
        let stores = Self::open(config, new).await?;
        network::check(config, &stores, start)?;
        Ok(stores)
    }
}

impl Node {
    /// Starts everything on a data folder.
    pub(crate) async fn start(config: &Config, start: Start) -> Result<Self> {
        let spare = Arc::new(Spare::new(&config.data, config.reserve_bytes));
        let stores = Stores::prepare(config, start).await?;
        let gateways = gateways(config, &stores)?;
        let token_key = config::token_key(&config.data, &config.unlock(false)?, true)?;
        let (ledger, app, ear) = follow_chain(config, &stores).await?;
        let network = network::of(config, gateways.as_ref());
        let consensus = start_consensus(config, &stores, network, app.clone()).await?;
        let mut talk = talk(&stores, &consensus, app.clone(), ear);
        let service = use_cases(config, &stores, Arc::clone(&ledger))?;
        let introduce = meet_members(config, &stores, &service, gateways.as_ref(), &app)?;
        let joins = newcomer::Joining::of(config, &service, gateways, &ledger, &app);
        joins.map(|joins| talk.spawn(joins.run()));
        settle(config, &service, &stores, &app).await?;
        let rpc_url = Arc::default();
        let (http_addr, http, stop) =
            serve_http(config, &service, &token_key, Arc::clone(&rpc_url)).await?;
        let rpc = serve_rpc(config, &service, &stores.genesis, &token_key).await?;
        if let Some(url) = wallets_url(config, &rpc) {
            // It is set here alone.
            let _ = rpc_url.set(url);
        }
        let (metrics_addr, metrics) = metrics::serve(config, &service, consensus.meter()).await?;
        service
            .apply_parameters()
            .context("putting the consortium's parameters into force")?;
        let parameters = tokio::spawn(Arc::clone(&service).run_parameters());
        let mllp = serve_mllp(config, &service).await?;
        let messages = tokio::spawn(Arc::clone(&service).run_messages(stop.subscribe()));
        let origin = portal::origin(config, http_addr);
        let notices = tokio::spawn(Arc::clone(&service).run_notices(origin, stop.subscribe()));
        let receipts = tokio::spawn(Arc::clone(&service).run_receipt_anchoring(RECEIPTS_PAUSE));
        let foreign = config.network.is_some().then(|| {
            let following = Arc::clone(&service).run_foreign_records(FOREIGN_PAUSE);
            tokio::spawn(following)
        });
        let custody = config
            .network
            .is_some()
            .then(|| tokio::spawn(Arc::clone(&service).run_custody(CUSTODY_PAUSE)));
        let mllp_addr = mllp.as_ref().map(MllpHandle::local_addr);
        let ready = stores.ready(http_addr, rpc.local_addr(), metrics_addr, mllp_addr);
        let ready_file = write_ready(config, &ready)?;
        let vault = Arc::clone(&stores.vault);
        // The stores live as long as the service; the lock as long as the process.
        std::mem::forget(stores);
        Ok(Self {
            ready,
            replicas: copies::run(config, &service),
            service,
            vault,
            consensus,
            talk,
            foreign,
            custody,
            introduce,
            rpc,
            stop,
            http,
            receipts,
            parameters,
            metrics,
            mllp,
            messages,
            notices,
            spare: tokio::spawn(spare.watch()),
            ready_file,
        })
    }

    /// Runs until a signal, or until consensus ends by itself, which is an error.
    pub(crate) async fn run(mut self) -> Result<()> {
        let ended = tokio::select! {
            ended = self.consensus.ended() => Some(ended),
            () = signal() => None,
        };
        if let Some(Err(error)) = &ended {
            // Said at once: whoever ends the process before it has closed down would never learn why.
            tracing::error!(error = error as &dyn std::error::Error, "consensus ended");
        }
        tracing::info!("stopping");
        drop(fs::remove_file(&self.ready_file));
        self.stop.send_replace(true);
        self.receipts.abort();
        self.parameters.abort();
        self.metrics.abort();
        self.spare.abort();
        self.talk.abort_all();
        self.replicas.abort_all();
        let tasks = [&self.foreign, &self.custody, &self.introduce];
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
        self.rpc.stop().await;
        // No message is cut off in the middle: the listener answers the last one, the worker writes it or leaves it.
        let messages = async {
            if let Some(mllp) = self.mllp {
                mllp.stop().await;
            }
            self.messages.await
        };
        if tokio::time::timeout(Duration::from_secs(10), messages)
            .await
            .is_err()
        {
            tracing::warn!("a message under way was cut off; it is written at the next start");
        }
        // What is not sent by now is in its outbox and goes out at the next start.
        self.notices.abort();
        if tokio::time::timeout(Duration::from_secs(10), self.http)
            .await
            .is_err()
        {
            tracing::warn!("requests under way were cut off");
        }
        let ended = match ended {
            Some(ended) => ended.context("consensus stopped"),
            None => self
                .consensus
                .shutdown()
                .await
                .context("stopping consensus"),
        };
        let vault = self.vault;
        let closed = tokio::task::spawn_blocking(move || vault.close()).await?;
        ended.and(closed.context("closing the vault"))
    }
}

/// The ledger with the index brought to it, and the application that consensus drives.
async fn follow_chain(
    config: &Config,
    stores: &Stores,
) -> Result<(Arc<NodeLedger>, App, gossip::Ear)> {
    let keys = signers(&config.data, &stores.vault)?;
    let keys = keys.iter().map(SignerSeed::public_key).collect();
    let (mouth, ear) = gossip::channel(keys);
    let mouth = Arc::new(mouth);
    let ledger = NodeLedger::new(
        Arc::clone(&stores.chain),
        Arc::clone(&stores.index),
        Arc::clone(&stores.vault),
        Arc::clone(&mouth),
    );
    let following = Arc::clone(&ledger);
    tokio::task::spawn_blocking(move || following.catch_up())
        .await?
        .context("bringing the index to the ledger")?;
    let app = App::new(Arc::clone(&stores.chain), Arc::clone(&ledger), mouth);
    app.set_joining(newcomer::is_one(config, &stores.chain, &app.mouth()));
    Ok((ledger, app, ear))
}

fn use_cases(config: &Config, stores: &Stores, ledger: Arc<NodeLedger>) -> Result<Arc<Service>> {
    let service = Service::new(
        ledger,
        Arc::clone(&stores.vault),
        Arc::clone(&stores.index),
        Arc::new(SystemClock),
        stores.organization,
    );
    service.keep_tombstones_in(config.tombstones_file());
    service.keep_upkeep_in(config.upkeep_file());
    if let Some(carrier) = notices::Carrier::new(&config.notices)? {
        service.set_courier(Arc::new(carrier));
    }
    Ok(service)
}

/// Lets the use cases ask the other members: those that the configuration names, and those that were known at the last
/// stop.
fn reach_members(service: &Arc<Service>, gateways: &Arc<Gateways>) {
    service.set_peers(Arc::clone(gateways) as Arc<dyn Peers>);
    gateways.learn(service.read_cards(gateways.kept()));
}

/// As a running node does, for work on stores whose node is stopped: peppers may be shared with other members.
pub(crate) fn reach_members_of(
    config: &Config,
    stores: &Stores,
    service: &Arc<Service>,
) -> Result<()> {
    if let Some(gateways) = gateways(config, stores)? {
        reach_members(service, &gateways);
    }
    Ok(())
}

fn gateways(config: &Config, stores: &Stores) -> Result<Option<Arc<Gateways>>> {
    let Some(network) = &config.network else {
        return Ok(None);
    };
    let chain = Arc::clone(&stores.chain);
    let gateways = Gateways::new(network, &config.data, stores.organization, chain)?;
    Ok(Some(Arc::new(gateways)))
}

/// Makes the other members known to the use cases and to consensus, and this one to them, again and again until the
/// task is dropped.
fn meet_members(
    config: &Config,
    stores: &Stores,
    service: &Arc<Service>,
    gateways: Option<&Arc<Gateways>>,
    app: &App,
) -> Result<Option<tokio::task::JoinHandle<()>>> {
    let (Some(network), Some(gateways)) = (&config.network, gateways) else {
        return Ok(None);
    };
    reach_members(service, gateways);
    service.set_sharing(Sharing {
        custodians: network.custody.custodians,
        threshold: network.custody.threshold,
        period: Duration::from_secs(network.custody.period_s),
    });
    copies::set(network, service);
    let validators = signers(&config.data, &stores.vault)?
        .iter()
        .map(|signer| B256::from(*signer.public_key().as_bytes()))
        .collect();
    if let Some(card) = members::own_card(config, network, service, validators) {
        let signed = service
            .sign_card(&card)
            .context("signing where this member is")?;
        gateways.learn(service.read_cards(vec![signed]));
    }
    app.set_others(Others::new(Arc::clone(service), Arc::clone(gateways)));
    let introduce = members::introduce(Arc::clone(service), Arc::clone(gateways));
    Ok(Some(tokio::spawn(introduce)))
}

/// Talks to the other members until dropped.
fn talk(
    stores: &Stores,
    consensus: &stele_consensus::Handle,
    app: App,
    ear: gossip::Ear,
) -> tokio::task::JoinSet<()> {
    let member = gossip::Member {
        chain: Arc::clone(&stores.chain),
        gossip: consensus.gossip(),
        committed: consensus.committed(),
        work: app.asking(),
        mouth: app.mouth(),
        others: app.others(),
        nudge: Box::new(move || app.nudge()),
    };
    gossip::run(member, ear)
}

fn write_ready(config: &Config, ready: &Ready) -> Result<PathBuf> {
    let path = config.data.join("ready.json");
    fs::write(&path, serde_json::to_string(ready)?)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

async fn start_consensus(
    config: &Config,
    stores: &Stores,
    network: stele_consensus::Network,
    app: App,
) -> Result<stele_consensus::Handle> {
    let mut consensus = stele_consensus::Config::new(
        config.data.join("consensus"),
        stores.genesis.chain_id,
        signer(&stores.vault, 0),
        stores.chain.epoch().set(),
    );
    consensus.signers = signers(&config.data, &stores.vault)?;
    consensus.network = network;
    consensus.timing.heartbeat = Duration::from_millis(config.heartbeat_ms);
    consensus.timing.leader_timeout = Duration::from_millis(config.heartbeat_ms + 1_000);
    stele_consensus::start(consensus, app)
        .await
        .context("starting consensus")
}

/// Everything that has to be done before anything is served.
async fn settle(config: &Config, service: &Arc<Service>, stores: &Stores, app: &App) -> Result<()> {
    service
        .begin_custody()
        .await
        .context("sharing the peppers of new records")?;
    recover::take_back(config, service).await?;
    finish_half_done(service, stores, app).await
}

/// Finishes what a crash cut off. A block that was proposed before the crash may still become final, so the journal
/// is looked at only once a block of this process is: then all earlier ones are decided.
async fn finish_half_done(service: &Arc<Service>, stores: &Stores, app: &App) -> Result<()> {
    let has_unfinished = service.has_unfinished().context("reading the journal")?;
    if has_unfinished && !app.mouth().has_seat(&stores.chain) {
        tracing::warn!("what was cut off is finished once this member has a seat and starts again");
    } else if has_unfinished {
        tracing::info!("waiting for the ledger to finish what was cut off");
        app.nudge();
        app.own_block_is_final()
            .wait_for(|is_final| *is_final)
            .await
            .context("waiting for the ledger")?;
        let done = service
            .reconcile()
            .await
            .context("finishing what a crash cut off")?;
        let erased = service
            .finish_erasures()
            .await
            .context("finishing erasures")?;
        tracing::info!(
            indexed = done.indexed,
            taken_back = done.taken_back,
            erased,
            "finished what was cut off"
        );
    }
    if !stores.index.search().is_complete()? {
        let rebuilt = service
            .rebuild_search(|_, _| {})
            .await
            .context("filling the index")?;
        tracing::info!(versions = rebuilt.versions, "filled the index");
    }
    Ok(())
}

async fn serve_http(
    config: &Config,
    service: &Arc<Service>,
    token_key: &Secret32,
    rpc_url: Arc<OnceLock<String>>,
) -> Result<(
    SocketAddr,
    tokio::task::JoinHandle<std::io::Result<()>>,
    watch::Sender<bool>,
)> {
    let listener = TcpListener::bind(config.http)
        .await
        .with_context(|| format!("listening for HTTP on {}", config.http))?;
    let address = listener.local_addr()?;
    let mut gateway = GatewayConfig::new(base_url(address), TokenKey::new(token_key.clone()));
    gateway.max_body_bytes = config.max_body_bytes;
    gateway.max_binary_bytes = config.max_binary_bytes;
    gateway.default_count = config.default_count;
    gateway.max_count = config.max_count;
    gateway.pending_after = Duration::from_millis(config.pending_after_ms);
    gateway.rate_per_second = config.rate_per_second;
    gateway.rate_burst = config.rate_burst;
    gateway.rpc_url = rpc_url;
    let (stop, mut stopped) = watch::channel(false);
    let mut router = Router::new();
    if config.portal.enabled {
        gateway.home = false;
        let portal = PortalConfig {
            site: Site::new(portal::origin(config, address)),
            language: config.portal.language.into(),
            upload_max_bytes: config.portal.max_upload_bytes,
            stopped: stopped.clone(),
            export: portal::export_writer(service, format!("{}/fhir/r4", base_url(address))),
        };
        router = stele_portal::router(Arc::clone(service), portal);
    }
    let mut router = router.merge(stele_gateway::router(Arc::clone(service), gateway));
    if config.portal.enabled {
        router = stele_portal::with_pages(router, config.portal.language.into());
    }
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        // An error means that the node is gone: stop too.
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    Ok((address, tokio::spawn(serving.into_future()), stop))
}

/// Starts the listener for HL7 v2. Where its port is taken and nobody asked for that port, the node goes on without.
async fn serve_mllp(config: &Config, service: &Arc<Service>) -> Result<Option<MllpHandle>> {
    let Listen::At(address) = config.mllp.address else {
        return Ok(None);
    };
    let hosted = service.hosted_organizations()?;
    let mut mllp = MllpConfig::new(address);
    for source in &config.mllp.sources {
        if !hosted.contains(&source.organization) {
            bail!(
                "mllp.sources: {} ({}) is not an organisation of this node",
                source.organization,
                source.facility
            );
        }
        mllp.sources.push(Source {
            facility: source.facility.clone(),
            application: source.application.clone(),
            organization: source.organization,
        });
    }
    mllp.allow_remote = config.mllp.allow_remote;
    mllp.max_message_bytes = config.mllp.max_message_bytes;
    mllp.max_connections = config.mllp.max_connections;
    mllp.idle_timeout = Duration::from_secs(config.mllp.idle_timeout_s);
    mllp.offset.clone_from(&config.mllp.offset);
    mllp.silence = config.mllp.silence;
    match stele_gateway::mllp::serve(Arc::clone(service), mllp).await {
        Ok(handle) => Ok(Some(handle)),
        Err(error)
            if error.kind() == std::io::ErrorKind::AddrInUse
                && config.mllp == config::Mllp::default() =>
        {
            crate::output::note(format_args!(
                "warning: no HL7 v2: {address} is in use; choose another with --mllp ADDR"
            ));
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("listening for HL7 v2 on {address}")),
    }
}

async fn serve_rpc(
    config: &Config,
    service: &Arc<Service>,
    genesis: &Genesis,
    token_key: &Secret32,
) -> Result<RpcHandle> {
    let origins = if genesis.open {
        Origins::Any
    } else {
        Origins::These(config.rpc_origins.clone())
    };
    let token = (!config.rpc.ip().is_loopback()).then(|| {
        let secret = stele_core::crypto::kdf::derive(token_key.expose(), "stele/rpc-token/1", &[]);
        alloy_primitives::hex::encode(secret.expose()).into()
    });
    let rpc = RpcConfig {
        addr: config.rpc,
        allowed_origins: origins,
        token,
        ipc: config.rpc_ipc.clone(),
        max_connections: config.rpc_connections,
        ..RpcConfig::default()
    };
    stele_gateway::rpc::serve(Arc::clone(service.ledger()), rpc)
        .await
        .with_context(|| format!("serving JSON-RPC on {}", config.rpc))
}

/// Where wallets reach JSON-RPC: as it is configured, or on this machine. Wallets can send no token, so that an address
/// off loopback is of no use to them.
fn wallets_url(config: &Config, rpc: &RpcHandle) -> Option<String> {
    let address = rpc.local_addr();
    let own = address.ip().is_loopback().then(|| base_url(address));
    config.rpc_url.clone().or(own)
}

fn base_url(address: SocketAddr) -> String {
    if address.ip().is_loopback() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}
