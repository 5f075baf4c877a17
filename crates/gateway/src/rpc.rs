//! JSON-RPC over HTTP and WebSocket on one port, as Ethereum's tools expect it, over the port
//! [`Ledger`]. `docs/rpc.md` lists the methods, the limits and the error codes.
//!
//! What is here only translates: it holds no state but filters and subscriptions, decides nothing about
//! the ledger, and never logs a parameter or a result. Only finalized state is shown, so `latest`,
//! `safe` and `finalized` are one block and no log is ever removed. A web page reads nothing unless its
//! origin is listed: see [`RpcConfig::allowed_origins`].

mod arguments;
mod context;
mod conversation;
mod error;
mod filters;
mod guard;
mod ipc;
mod methods;
mod response;
mod sockets;
mod subscriptions;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jsonrpsee::RpcModule;
use jsonrpsee::server::{
    BatchRequestConfig, Server, ServerConfig, ServerConfigBuilder, ServerHandle,
};
use secrecy::SecretString;
use stele_service::{development::Development, ports::Ledger};
use tokio::sync::{Semaphore, watch};

use self::{
    context::Context, conversation::Limits, guard::GuardLayer, ipc::IpcHandle, sockets::Sockets,
};

/// How the front listens, whom it answers, and its limits.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// Where to listen; port 0 picks a free one.
    pub addr: SocketAddr,
    /// Unix socket to listen on as well, for whoever may open the file.
    pub ipc: Option<PathBuf>,
    /// Values of the `Host` header that are answered besides `localhost` and IP addresses: `name`
    /// (any port), `name:port`, or `*`. A DNS name that is not listed is refused, because a web page
    /// could have pointed it here (DNS rebinding).
    pub allowed_hosts: Vec<String>,
    /// Web pages that may call.
    pub allowed_origins: Origins,
    /// Bearer token that every request must carry. Required when listening off loopback.
    pub token: Option<SecretString>,
    /// Open connections at once, HTTP and WebSocket together.
    pub max_connections: u32,
    /// Largest request in bytes: body, or message over WebSocket or IPC.
    pub max_request_bytes: u32,
    /// Largest response in bytes.
    pub max_response_bytes: u32,
    /// Calls in one batch.
    pub max_batch: u32,
    /// Subscriptions on one WebSocket connection.
    pub max_subscriptions: u32,
    /// Filters on the whole server.
    pub max_filters: usize,
    /// How long a filter lives without being asked.
    pub filter_idle: Duration,
    /// Logs in one answer.
    pub log_limit: usize,
    /// What `web3_clientVersion` answers; the program's own name and version if it is not given.
    pub client_version: Option<String>,
}

impl Default for RpcConfig {
    /// Loopback, no web page, and limits that a full block stays under.
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8545)),
            ipc: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Origins::These(Vec::new()),
            token: None,
            max_connections: 500,
            max_request_bytes: 32 << 20,
            max_response_bytes: 32 << 20,
            max_batch: 1_000,
            max_subscriptions: 128,
            max_filters: 1_024,
            filter_idle: Duration::from_secs(300),
            log_limit: 10_000,
            client_version: None,
        }
    }
}

/// Web pages that may call, by the `Origin` header their browser sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any page: for development only.
    Any,
    /// These, written as browsers send them: `https://remix.ethereum.org`.
    These(Vec<String>),
}

/// Why the front could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Anyone on the network could call.
    #[error("listening for JSON-RPC on {addr}: off loopback a bearer token is required")]
    TokenRequired {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address is taken, or not this machine's.
    #[error("listening for JSON-RPC on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The socket is taken, or cannot be made.
    #[error("listening for JSON-RPC on the socket {}", path.display())]
    Ipc {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Two methods have one name.
    #[error("registering JSON-RPC methods")]
    Register(#[from] jsonrpsee::server::RegisterMethodError),
}

/// A front that listens. Dropping it stops it too.
#[derive(Debug)]
pub struct RpcHandle {
    local_addr: SocketAddr,
    server: ServerHandle,
    ipc: Option<IpcHandle>,
    /// WebSockets end when this is dropped.
    sockets: watch::Sender<()>,
    /// Taken by requests and WebSockets while they last.
    places: Arc<Semaphore>,
    places_max: u32,
}

impl RpcHandle {
    /// The address it listens on, with the port that was picked.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more requests, finishes those under way, and closes all connections.
    pub async fn stop(self) {
        drop(self.ipc);
        drop(self.sockets);
        if self.server.stop().is_err() {
            return;
        }
        // A client that does not read its answer must not keep the node from stopping.
        let _ = tokio::time::timeout(STOP_TIMEOUT, async {
            self.server.stopped().await;
            let _ = self.places.acquire_many(self.places_max).await;
        })
        .await;
    }
}

/// Listens, and answers until the handle is stopped or dropped.
///
/// # Errors
/// No token off loopback, or an address that cannot be listened on.
pub async fn serve(ledger: Arc<dyn Ledger>, config: RpcConfig) -> Result<RpcHandle, Error> {
    listen(methods::all(Context::new(ledger, &config))?, config).await
}

/// As [`serve`], over a development chain: with the methods that edit its state and move its clock.
///
/// # Errors
/// As [`serve`].
pub async fn serve_development(
    ledger: Arc<dyn Ledger>,
    chain: Arc<dyn Development>,
    config: RpcConfig,
) -> Result<RpcHandle, Error> {
    let context = Context::new(ledger, &config).with_development(chain);
    listen(methods::with_development(context)?, config).await
}

async fn listen(methods: RpcModule<Context>, config: RpcConfig) -> Result<RpcHandle, Error> {
    let addr = config.addr;
    if !addr.ip().to_canonical().is_loopback() && config.token.is_none() {
        return Err(Error::TokenRequired { addr });
    }
    let refused = |source| Error::Listen { addr, source };
    let methods = jsonrpsee::Methods::from(methods);
    let ipc = match &config.ipc {
        None => None,
        Some(path) => {
            let refused = |source| Error::Ipc {
                path: path.clone(),
                source,
            };
            Some(ipc::listen(path, methods.clone(), &config).map_err(refused)?)
        }
    };
    let (sockets, ending) = watch::channel(());
    let places_max = config.max_connections;
    let places = Arc::new(Semaphore::new(
        usize::try_from(places_max).unwrap_or(Semaphore::MAX_PERMITS),
    ));
    let upgrades = Sockets::new(methods.clone(), Limits::new(&config), ending);
    let limits = limits(&config);
    let guard = GuardLayer::new(config, Arc::clone(&places), upgrades);
    let server = Server::builder()
        .set_config(limits)
        .set_http_middleware(tower::ServiceBuilder::new().layer(guard))
        .build(addr)
        .await
        .map_err(refused)?;
    let local_addr = server.local_addr().map_err(refused)?;
    tracing::info!(%local_addr, "rpc.listening");
    Ok(RpcHandle {
        local_addr,
        server: server.start(methods),
        ipc,
        sockets,
        places,
        places_max,
    })
}

/// Limits of requests over HTTP; the guard counts connections, and WebSockets are its own.
fn limits(config: &RpcConfig) -> ServerConfig {
    ServerConfigBuilder::new()
        .http_only()
        .max_connections(config.max_connections)
        .max_request_body_size(config.max_request_bytes)
        .max_response_body_size(config.max_response_bytes)
        .set_batch_request_config(BatchRequestConfig::Limit(config.max_batch))
        .build()
}

/// The methods without a server: for whoever wants answers in the same process, such as a fuzzer. Hosts, origins,
/// tokens, batches and limits are the server's, and not looked at here.
pub struct Methods(RpcModule<Context>);

impl Methods {
    /// The methods over a ledger.
    ///
    /// # Errors
    /// Two methods have one name.
    pub fn new(ledger: Arc<dyn Ledger>, config: &RpcConfig) -> Result<Self, Error> {
        Ok(Self(methods::all(Context::new(ledger, config))?))
    }

    /// The answer to one request, both as JSON.
    ///
    /// # Errors
    /// The request is not a JSON-RPC request.
    pub async fn answer(&self, request: &str) -> Result<String, serde_json::Error> {
        // A subscription has nobody to notify here; one place in its queue is enough.
        let (answer, _) = self.0.raw_json_request(request, 1).await?;
        Ok(answer.get().to_owned())
    }
}

const STOP_TIMEOUT: Duration = Duration::from_secs(5);
