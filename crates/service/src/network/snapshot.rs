//! The state of a recent final block for a member that joins, and the receipts of the blocks before it (the blocks
//! themselves: `blocks`). What is given is opaque here; what it is worth, the newcomer's ledger checks.

use std::sync::Arc;

use alloy_primitives::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use stele_core::id::OrganizationId;
use zeroize::Zeroizing;

use super::Ask;
use crate::{
    Service,
    error::{Error, Result},
    ports::{Ledger, LedgerError},
};

/// What a snapshot is made of, in base64; nothing where the asked member has it not.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parts {
    parts: Vec<String>,
}

impl Service {
    pub(super) async fn offer_snapshot(
        self: &Arc<Self>,
        to: OrganizationId,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.give("offering a snapshot", move |ledger| {
            Ok(ledger.snapshot_offer(to.0)?.into_iter().collect())
        })
        .await
    }

    pub(super) async fn give_state(
        self: &Arc<Self>,
        to: OrganizationId,
        height: u64,
        wants: &str,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let wants = STANDARD.decode(wants).map_err(|_| Error::Conflict {
            message: "what is wanted is not in base64".into(),
        })?;
        self.give("giving out the state", move |ledger| {
            Ok(ledger
                .state_parts(to.0, height, &wants)?
                .unwrap_or_default())
        })
        .await
    }

    pub(super) async fn give_receipts(
        self: &Arc<Self>,
        from: u64,
        to: u64,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.give("giving out receipts", move |ledger| {
            ledger.receipts_run(from, to)
        })
        .await
    }

    /// Reads from the ledger on a thread that may wait for the disk.
    async fn give(
        self: &Arc<Self>,
        what: &'static str,
        read: impl FnOnce(&dyn Ledger) -> std::result::Result<Vec<Bytes>, LedgerError> + Send + 'static,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let service = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || read(&*service.ledger)).await;
        let parts = read
            .map_err(|error| Error::internal(what, error))?
            .map_err(Error::ledger(what))?;
        let parts = Parts {
            parts: parts.iter().map(|part| STANDARD.encode(part)).collect(),
        };
        let text = serde_json::to_vec(&parts).map_err(|error| Error::internal(what, error))?;
        Ok(Zeroizing::new(text))
    }

    /// Asks another member for a final block whose state it gives, in the ledger's own form. `None` if it has none.
    /// Nothing of it is checked.
    ///
    /// # Errors
    /// [`Error::Member`] if it does not answer, or with something else; [`Error::NotPermitted`] if this node's
    /// organisation is not admitted.
    pub async fn fetch_snapshot(&self, of: OrganizationId) -> Result<Option<Bytes>> {
        Ok(self
            .fetch_lists(of, Ask::Snapshot {})
            .await?
            .into_iter()
            .next())
    }

    /// Asks another member for parts of the state after the block at a height; none if it does not keep that state.
    /// Nothing of them is checked.
    ///
    /// # Errors
    /// As [`Service::fetch_snapshot`].
    pub async fn fetch_state(
        &self,
        of: OrganizationId,
        height: u64,
        wants: &Bytes,
    ) -> Result<Vec<Bytes>> {
        let wants = STANDARD.encode(wants);
        self.fetch_lists(of, Ask::State { height, wants }).await
    }

    /// Asks another member for the receipts of final blocks, a list a block. Nothing of them is checked.
    ///
    /// # Errors
    /// As [`Service::fetch_snapshot`].
    pub async fn fetch_receipts(
        &self,
        of: OrganizationId,
        from: u64,
        to: u64,
    ) -> Result<Vec<Bytes>> {
        self.fetch_lists(of, Ask::Receipts { from, to }).await
    }

    async fn fetch_lists(&self, of: OrganizationId, ask: Ask) -> Result<Vec<Bytes>> {
        let answer = self.ask(self.organization, of, ask).await?;
        let wrong = || Error::Member {
            message: format!("organisation {of} gave a snapshot that can't be read"),
        };
        let read: Parts = serde_json::from_slice(&answer).map_err(|_| wrong())?;
        let bytes = |text: &String| STANDARD.decode(text).map(Bytes::from).map_err(|_| wrong());
        read.parts.iter().map(bytes).collect()
    }
}
