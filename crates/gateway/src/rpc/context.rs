//! What every method sees.

use std::{num::NonZero, sync::Arc};

use stele_service::ports::{ChainFacts, Ledger, LedgerError};
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
            heavy: Semaphore::new(cores),
        }
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
