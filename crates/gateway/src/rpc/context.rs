//! What every method sees.

use std::{num::NonZero, sync::Arc};

use stele_service::{
    development::Development,
    ports::{ChainFacts, Ledger, LedgerError},
};
use tokio::sync::Semaphore;

use super::{
    RpcConfig,
    error::{self, RpcResult},
    filters::Filters,
};

/// The ledger, and what this front keeps itself.
pub(crate) struct Context {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) facts: ChainFacts,
    pub(crate) filters: Filters,
    pub(crate) log_limit: usize,
    pub(crate) client_version: Option<String>,
    development: Option<Arc<dyn Development>>,
    heavy: Semaphore,
}

impl Context {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, config: &RpcConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self {
            facts: ledger.facts(),
            ledger,
            filters: Filters::new(config.max_filters, config.filter_idle),
            log_limit: config.log_limit,
            client_version: config.client_version.clone(),
            development: None,
            heavy: Semaphore::new(cores),
        }
    }

    /// The same, over a development chain.
    pub(crate) fn with_development(self, chain: Arc<dyn Development>) -> Self {
        Self {
            development: Some(chain),
            ..self
        }
    }

    /// The development chain, if it is one.
    pub(crate) const fn development(&self) -> Option<&Arc<dyn Development>> {
        self.development.as_ref()
    }

    /// Acts on a development chain, on a thread that may block.
    pub(crate) async fn develop<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Development) -> Result<T, LedgerError> + Send + 'static,
    ) -> RpcResult<T> {
        let chain = self
            .development
            .clone()
            .ok_or_else(error::not_development)?;
        tokio::task::spawn_blocking(move || act(&*chain))
            .await
            .map_err(|panicked| error::internal(&panicked))?
            .map_err(error::ledger)
    }

    /// Runs a question that may take long on a thread where it holds nobody up. As many run at once as
    /// there are cores, so that callers cannot starve consensus; the others wait.
    pub(crate) async fn heavy<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> RpcResult<T> {
        let _permit = self
            .heavy
            .acquire()
            .await
            .map_err(|closed| error::internal(&closed))?;
        let ledger = Arc::clone(&self.ledger);
        tokio::task::spawn_blocking(move || question(&*ledger))
            .await
            .map_err(|panicked| error::internal(&panicked))?
            .map_err(error::ledger)
    }
}
