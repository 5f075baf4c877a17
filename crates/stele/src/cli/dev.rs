//! `stele dev`: a local chain for developing contracts.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use stele_core::time::{Clock as _, SystemClock};
use stele_gateway::rpc::{self, Origins, RpcConfig};
use stele_service::development::{Development as _, Mining};
use tokio::net::TcpListener;

use super::Answer;
use crate::{
    dev::{self, DevLedger, MNEMONIC},
    output,
};

/// A local chain for developing contracts, in memory: ten known accounts, blocks at once, state you can edit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele dev
  stele dev --block-time 5
  stele dev --rpc 127.0.0.1:0 --chain-id 1337 --json

  It takes no data folder: nothing is kept, and no consortium can be opened with it. The accounts' keys are public.
  Prints one JSON line when it is ready: {\"ready\":true,\"rpc\":…,\"page\":…,\"chainId\":…,\"accounts\":[…]}.")]
pub(crate) struct Dev {
    /// Ethereum JSON-RPC, HTTP and WebSocket; loopback only, port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545")]
    rpc: SocketAddr,
    /// Unix socket for JSON-RPC as well.
    #[arg(long, value_name = "PATH")]
    ipc: Option<PathBuf>,
    /// Chain id. The default is what Hardhat and anvil have.
    #[arg(long, default_value_t = 31_337)]
    chain_id: u64,
    /// Make a block every so many seconds instead of at once.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    block_time: Option<u64>,
    /// Make blocks only when asked for (`evm_mine`).
    #[arg(long, conflicts_with = "block_time")]
    no_mining: bool,
    /// Name the node gives itself (`web3_clientVersion`), for tools that look for a development chain by name, such as
    /// `anvil/v1` or `HardhatNetwork`.
    #[arg(long, value_name = "TEXT")]
    client_version: Option<String>,
    /// Page that shows accounts, blocks, transactions, code and storage; loopback only, port 0 picks a free one
    /// [default: 127.0.0.1:8546, or a free port where that is taken].
    #[arg(long, value_name = "ADDR", conflicts_with = "no_page")]
    page: Option<SocketAddr>,
    /// Serve no page.
    #[arg(long)]
    no_page: bool,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

/// Where the chain is reached.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    rpc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    #[serde(rename = "chainId")]
    chain_id: u64,
    accounts: Vec<Address>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<Answer> {
        let accounts = dev::accounts()?;
        let keys: Vec<_> = accounts.iter().map(|(key, _)| key.clone()).collect();
        let genesis = dev::genesis(self.chain_id, &keys, SystemClock.now().0)?;
        let ledger = Arc::new(DevLedger::new(&genesis, keys, self.mining())?);
        let config = RpcConfig {
            addr: self.rpc,
            ipc: self.ipc.clone(),
            // Whoever is on this machine may do everything anyway, and contracts are developed from web pages.
            allowed_origins: Origins::Any,
            client_version: self.client_version.clone(),
            ..RpcConfig::default()
        };
        let front =
            rpc::serve_development(Arc::clone(&ledger) as _, Arc::clone(&ledger) as _, config)
                .await
                .context("starting JSON-RPC")?;
        if !self.json {
            output::line("A development chain: in memory, with keys that everybody knows.\n");
            for (key, text) in &accounts {
                output::line(format_args!("{}  0x{text}", key.address()));
            }
            output::line(format_args!("\nMnemonic: {MNEMONIC}\n"));
        }
        let rpc = format!("http://{}", front.local_addr());
        let listener = self.listen().await?;
        let page = match &listener {
            Some(listener) => Some(format!("http://{}", listener.local_addr()?)),
            None => None,
        };
        if let (false, Some(page)) = (self.json, &page) {
            output::line(format_args!("Look at it: {page}\n"));
        }
        let pages = serve_pages(listener, &ledger, rpc.clone());
        output::json(&Ready {
            ready: true,
            rpc,
            page,
            chain_id: self.chain_id,
            accounts: ledger.accounts(),
        });
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => stopped.context("waiting for Ctrl-C")?,
            failed = ledger.mine_on_time() => failed?,
            failed = pages => failed?,
        }
        front.stop().await;
        Ok(Answer::Yes)
    }

    /// Where the page is served, if it is.
    async fn listen(&self) -> Result<Option<TcpListener>> {
        if self.no_page {
            return Ok(None);
        }
        let address = self.page.unwrap_or(PAGE);
        if !address.ip().is_loopback() {
            bail!("--page {address}: only loopback, whose programs may do everything here anyway");
        }
        match TcpListener::bind(address).await {
            // Several chains run side by side; nobody asked for this port.
            Err(error) if error.kind() == ErrorKind::AddrInUse && self.page.is_none() => Ok(Some(
                TcpListener::bind(SocketAddr::new(address.ip(), 0)).await?,
            )),
            bound => bound
                .map(Some)
                .with_context(|| format!("listening for the page on {address}")),
        }
    }

    fn mining(&self) -> Mining {
        match self.block_time {
            Some(seconds) => Mining::Interval(seconds.saturating_mul(1_000)),
            None if self.no_mining => Mining::Manual,
            None => Mining::Instant,
        }
    }
}

/// Serves the page for as long as it is polled.
async fn serve_pages(
    listener: Option<TcpListener>,
    ledger: &Arc<DevLedger>,
    rpc: String,
) -> Result<()> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let pages = stele_portal::development(Arc::clone(ledger) as _, Arc::clone(ledger) as _, rpc);
    axum::serve(listener, pages)
        .await
        .context("serving the page")
}

/// Beside JSON-RPC's port.
const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8546);
