//! The use cases: one public function is one thing a person can do.
//!
//! Owns the order in which the vault, the ledger and the index are asked, so that nothing is read without consent
//! and a durable receipt, and nothing is acknowledged before it is encrypted, stored, final and findable. Knows no
//! HTTP, HTML, SQL text or EVM; the ledger is behind [`ports::Ledger`].

pub mod audit;
pub mod blobs;
pub mod bundle;
pub mod clients;
mod consents;
pub mod development;
pub mod directory;
pub mod emergency;
pub mod erase;
pub mod export;
pub mod governance;
pub mod grants;
pub mod metrics;
pub mod network;
pub mod notices;
pub mod operator;
pub mod outbox;
pub mod own;
pub mod people;
pub mod ports;
pub mod prescriptions;
pub mod proofs;
pub mod records;
pub mod session;
pub mod trail;
pub mod transactions;
pub mod upkeep;

mod error;
mod turns;

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::Address;
use stele_core::{id::OrganizationId, time::Clock};
use stele_index::Index;
use stele_vault::Vault;
use tokio::sync::Semaphore;

pub use error::{Error, Result};
pub use records::{
    Effect, Outcome, Recorded, SearchPage, Stored, Ticket, Verification, Watch, Write, Written,
};

use ports::Ledger;
use transactions::Transactions;

/// All use cases of one node, over its ledger, vault and index. Shared as `Arc<Service>`.
pub struct Service {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) index: Arc<Index>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) organization: OrganizationId,
    pub(crate) transactions: Transactions,
    pub(crate) turns: turns::Turns,
    pub(crate) sealing: own::sealing::Sealing,
    /// Accounts of which it is known whether they are organisations, which never changes.
    pub(crate) directories: parking_lot::Mutex<HashMap<Address, bool>>,
    pub(crate) consents: consents::Consents,
    reading: Arc<Semaphore>,
    pub(crate) receipts_wait: tokio::sync::Notify,
    pub(crate) anchoring: tokio::sync::Mutex<()>,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) messages_wait: tokio::sync::Notify,
    pub(crate) notices_wait: tokio::sync::Notify,
    pub(crate) courier: std::sync::OnceLock<Arc<dyn ports::Courier>>,
    pub(crate) interpreter: std::sync::OnceLock<Arc<dyn ports::Interpreter>>,
    pub(crate) tombstones_file: std::sync::OnceLock<std::path::PathBuf>,
    pub(crate) upkeep_file: std::sync::OnceLock<std::path::PathBuf>,
    pub(crate) peers: std::sync::OnceLock<Arc<dyn ports::Peers>>,
    pub(crate) released: network::Released,
    /// Held while a patient's public keys are asked of another member and kept.
    pub(crate) writing_keys: tokio::sync::Mutex<()>,
    pub(crate) down: network::Down,
    pub(crate) sharing: std::sync::OnceLock<network::Sharing>,
    pub(crate) replicas: std::sync::OnceLock<network::Replicas>,
}

impl Service {
    /// Puts the parts together. `organization` is the node's own, whose keys the vault holds.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        vault: Arc<Vault>,
        index: Arc<Index>,
        clock: Arc<dyn Clock>,
        organization: OrganizationId,
    ) -> Arc<Self> {
        let transactions = Transactions::new(Arc::clone(&ledger), Arc::clone(&vault));
        Arc::new(Self {
            ledger,
            vault,
            index,
            clock,
            organization,
            transactions,
            turns: turns::Turns::default(),
            sealing: own::sealing::Sealing::default(),
            directories: parking_lot::Mutex::default(),
            consents: consents::Consents::default(),
            reading: Arc::new(Semaphore::new(stele_index::readers_at_once())),
            receipts_wait: tokio::sync::Notify::new(),
            anchoring: tokio::sync::Mutex::default(),
            metrics: metrics::Metrics::default(),
            messages_wait: tokio::sync::Notify::new(),
            notices_wait: tokio::sync::Notify::new(),
            courier: std::sync::OnceLock::new(),
            interpreter: std::sync::OnceLock::new(),
            tombstones_file: std::sync::OnceLock::new(),
            upkeep_file: std::sync::OnceLock::new(),
            peers: std::sync::OnceLock::new(),
            released: network::Released::default(),
            writing_keys: tokio::sync::Mutex::default(),
            down: network::Down::default(),
            sharing: std::sync::OnceLock::new(),
            replicas: std::sync::OnceLock::new(),
        })
    }

    /// The node's own organisation.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// The ledger, for fronts that speak its own language (JSON-RPC).
    #[must_use]
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// The present, as the node sees it.
    #[must_use]
    pub fn now(&self) -> stele_core::time::Timestamp {
        self.clock.now()
    }

    /// Runs work that reads the index and the vault on a thread that may block. As many run at once as the index keeps
    /// connections for; more would wait for the processor anyway, and each would open files of its own.
    pub(crate) async fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.reading)
            .acquire_owned()
            .await
            .map_err(|error| Error::internal(what, error))?;
        let service = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work, not by the request: a request given up goes on using its connection.
            let _permit = permit;
            work(&service)
        });
        done.await.map_err(|error| Error::internal(what, error))?
    }

    /// Organisation that hosts an account: itself for an organisation of this node, else the node's own.
    pub(crate) fn organization_hosting(&self, account: Address) -> Address {
        if self.is_directory(account).unwrap_or(false) {
            return account;
        }
        self.organization_of(account)
            .ok()
            .filter(|organization| !organization.0.is_zero())
            .map_or(self.organization.0, |organization| organization.0)
    }
}
