//! Why the engine did not start, or stopped.

use std::path::PathBuf;

use stele_core::certificate::CertificateError;

/// An error after which the application cannot go on: a failed disk, a broken invariant.
#[derive(Debug, thiserror::Error)]
#[error("the ledger cannot go on")]
pub struct Fatal(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl Fatal {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Why the engine did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that cannot work.
    #[error("consensus setting {key}: {problem}")]
    Config {
        /// Name of the setting.
        key: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The validator set is invalid.
    #[error("the configured validators are not a set")]
    Validators(#[from] CertificateError),
    /// The data folder could not be made.
    #[error("making the data folder of consensus {path}")]
    DataDir {
        /// Folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The port for other members can't be opened.
    #[error("listening for other members on {address}")]
    Listen {
        /// Address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The engine's thread could not be started.
    #[error("starting the consensus thread")]
    Thread(#[source] std::io::Error),
    /// The engine's own store could not be opened.
    #[error("opening the consensus store {store}")]
    Store {
        /// Which of its stores.
        store: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The application met a fatal error while it was asked to do something.
    #[error("{doing} block {height}")]
    Application {
        /// "proposing", "verifying" or "committing".
        doing: &'static str,
        /// Height of the block.
        height: u64,
        /// The error.
        #[source]
        source: Fatal,
    },
    /// The members ended an epoch by hand, and this node can't go on with them.
    #[error("the members ended epoch {epoch} by hand")]
    Recovery {
        /// The epoch.
        epoch: u64,
        /// Why it can't.
        #[source]
        source: Fatal,
    },
    /// The application proposed a block that the others must refuse.
    #[error("the proposed block {height} is invalid: {problem}")]
    Proposal {
        /// Height of the block.
        height: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate the engine holds names a validator that does not exist.
    #[error("the engine's certificate for block {height} cannot be read")]
    Certificate {
        /// Height of the block.
        height: u64,
    },
    /// The ledger has fewer blocks than it once acknowledged: it was replaced by an older copy.
    #[error("the ledger ends at block {ledger} but had committed block {processed}")]
    LedgerBehind {
        /// Height of the ledger.
        ledger: u64,
        /// Height the engine remembers.
        processed: u64,
    },
    /// The engine's store lacks the ledger's last block, and the ledger has no certificate for
    /// exactly that block to begin anew from.
    #[error("the consensus store lacks block {ledger} and the ledger has no certificate for it")]
    NoCheckpoint {
        /// Height of the ledger.
        ledger: u64,
    },
    /// A certificate that another member sent does not hold.
    #[error("a certificate from another member does not hold")]
    Fetched(#[source] CertificateError),
    /// Blocks that another member sent are not those after the last committed one.
    #[error("blocks from another member from height {height}: {problem}")]
    Offered {
        /// Height that was asked for.
        height: u64,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The engine stopped by itself: a corrupt store or a defect.
    #[error("the consensus engine stopped: {0}")]
    Engine(String),
}

impl Error {
    /// Stable name for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "consensus_config",
            Self::Validators(_) => "consensus_validators",
            Self::DataDir { .. } => "consensus_data_dir",
            Self::Listen { .. } => "consensus_listen",
            Self::Thread(_) => "consensus_thread",
            Self::Store { .. } => "consensus_store",
            Self::Application { .. } => "consensus_application",
            Self::Recovery { .. } => "consensus_recovery",
            Self::Proposal { .. } => "consensus_proposal",
            Self::Certificate { .. } => "consensus_certificate",
            Self::LedgerBehind { .. } => "consensus_ledger_behind",
            Self::NoCheckpoint { .. } => "consensus_no_checkpoint",
            Self::Fetched(_) => "consensus_fetched",
            Self::Offered { .. } => "consensus_offered",
            Self::Engine(_) => "consensus_engine",
        }
    }
}
