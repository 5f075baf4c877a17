//! Final blocks for members that are far behind, or have no seat among the validators. They are sealed like every
//! answer, so that only organisations of the consortium read the ledger; what they are worth shows their certificate.

use alloy_primitives::{Address, Bytes};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use stele_core::{epoch::recovery::Recovery, id::OrganizationId};
use zeroize::Zeroizing;

use super::Ask;
use crate::{
    Service,
    error::{Error, Result},
    ports::{FinalBlocks, LedgerError},
};

/// Blocks in a row with the certificate of the last, in base64; nothing where the asked member has no more.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlocksPage {
    blocks: Vec<String>,
    certificate: String,
    /// Documents that ended epochs by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recoveries: Vec<Recovery>,
}

/// A document that ended an epoch by hand is told to whoever asks for blocks up to so many above its own: also to a member
/// that was lost, came back and has final blocks that nobody else has.
const RECOVERY_TOLD_BLOCKS: u64 = 4_096;
/// Transactions of one question.
const TRANSACTIONS_MAX: usize = 4_096;

impl Service {
    /// Puts another member's transactions into the pool, from where all validators get them.
    pub(super) async fn take_transactions(&self, transactions: &[String]) -> Result<()> {
        for transaction in transactions.iter().take(TRANSACTIONS_MAX) {
            let bytes = STANDARD.decode(transaction).map_err(|_| Error::Conflict {
                message: "a transaction is not in base64".into(),
            })?;
            match self.ledger.submit(bytes.into()).await {
                // A refused one would not be executed by anybody, and a known one is there.
                Ok(_) | Err(LedgerError::Refused { .. }) => {}
                Err(source) => return Err(Error::ledger("taking a transaction")(source)),
            }
        }
        Ok(())
    }

    /// Hands transactions to another member.
    ///
    /// # Errors
    /// [`Error::Member`] if it does not take them.
    pub async fn hand_over(&self, to: OrganizationId, transactions: &[Bytes]) -> Result<()> {
        let transactions = transactions
            .iter()
            .map(|bytes| STANDARD.encode(bytes))
            .collect();
        let ask = Ask::Transactions { transactions };
        self.ask(self.organization, to, ask).await.map(drop)
    }

    /// Whether a question is answered although its organisation is suspended: one that lost its seat when an epoch was
    /// ended by hand is told so, up to where it was a member.
    pub(super) fn is_told_of_recovery(&self, asker: Address, ask: &Ask) -> bool {
        matches!(ask, Ask::Blocks { .. }) && self.ledger.left_behind(asker).is_some()
    }

    pub(super) fn give_blocks(
        &self,
        asker: OrganizationId,
        from: u64,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "giving out blocks";
        let until = self.ledger.left_behind(asker.0);
        let found = if self.is_member(asker)? || until.is_some_and(|until| from <= until) {
            let found = self.ledger.final_blocks(from);
            found.map_err(Error::ledger(WHAT))?.unwrap_or_default()
        } else {
            FinalBlocks::default()
        };
        let mut recoveries = self.ledger.recoveries();
        recoveries.retain(|recovery| recovery.height.saturating_add(RECOVERY_TOLD_BLOCKS) >= from);
        let page = BlocksPage {
            recoveries,
            blocks: found
                .blocks
                .iter()
                .map(|block| STANDARD.encode(block))
                .collect(),
            certificate: STANDARD.encode(found.certificate),
        };
        let page = serde_json::to_vec(&page).map_err(|error| Error::internal(WHAT, error))?;
        Ok(Zeroizing::new(page))
    }

    /// Asks another member for final blocks from a height on, and for documents that ended epochs by hand. `None` if it
    /// has neither. Nothing of them is checked.
    ///
    /// # Errors
    /// [`Error::Member`] if it does not answer, or with something else.
    pub async fn fetch_blocks(&self, of: OrganizationId, from: u64) -> Result<Option<FinalBlocks>> {
        let answer = self
            .ask(self.organization, of, Ask::Blocks { from })
            .await?;
        let wrong = || Error::Member {
            message: format!("organisation {of} gave blocks that can't be read"),
        };
        let page: BlocksPage = serde_json::from_slice(&answer).map_err(|_| wrong())?;
        let bytes = |text: &String| STANDARD.decode(text).map(Bytes::from).map_err(|_| wrong());
        if page.blocks.is_empty() && page.recoveries.is_empty() {
            return Ok(None);
        }
        Ok(Some(FinalBlocks {
            blocks: page.blocks.iter().map(bytes).collect::<Result<_>>()?,
            certificate: bytes(&page.certificate)?,
            recoveries: page.recoveries,
        }))
    }
}
