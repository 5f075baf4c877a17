//! Access receipts: every read and every refusal leaves one before anything is released; batches of them are
//! anchored on the ledger.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use futures::future::BoxFuture;
use rand_core::Rng as _;
use stele_core::{
    abi::audit::IAudit::anchorReceiptsCall,
    crypto::os_rng,
    id::{AUDIT, RecordId},
    receipt::{AccessAction, AccessReceipt, batch_root},
    time::Timestamp,
};
use stele_index::LocalStore;
use stele_vault::custodian::{DurableReceipt, ReceiptLog};

use crate::{
    Service,
    error::{Error, Result},
    network::rules::{AnchoredBatch, Standing},
    session::Actor,
    transactions::Order,
};

/// Receipts anchored in one transaction at most.
const BATCH_MAX: u32 = 4096;

/// Accounts remembered as organisations or not: some megabytes.
const DIRECTORIES_MAX: usize = 65_536;

/// The receipt sequences of the organisations hosted here, as the custodian wants them.
pub(crate) struct Receipts<'a>(pub(crate) &'a LocalStore);

impl ReceiptLog for Receipts<'_> {
    fn append(
        &self,
        receipt: AccessReceipt,
    ) -> BoxFuture<'_, std::result::Result<AccessReceipt, Box<dyn std::error::Error + Send + Sync>>>
    {
        Box::pin(async move {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            self.0.append_then(vec![receipt], move |appended| {
                // The receiver is gone only if the request was dropped; the receipt stands all the same.
                drop(sender.send(appended));
            });
            let appended = receiver.await??;
            appended
                .into_iter()
                .next()
                .map(|one| one.receipt)
                .ok_or_else(|| "the store gave no receipt back".into())
        })
    }
}

impl Standing for Service {
    fn height(&self) -> u64 {
        self.ledger.height()
    }

    fn finalized_at(&self) -> Result<Timestamp> {
        let at_ms = self.ledger.finalized_at_ms();
        at_ms
            .map(Timestamp)
            .map_err(Error::ledger("reading the last block"))
    }

    fn call(&self, what: &'static str, contract: Address, input: Vec<u8>) -> Result<Bytes> {
        self.view(what, contract, input)
    }

    fn batches(&self, organization: Address, from: u64) -> Result<Vec<AnchoredBatch>> {
        let found = self.index.chain().receipt_batches(organization, from);
        let found = found.map_err(Error::index("reading a member's anchored receipts"))?;
        let batches = found.into_iter().map(|batch| AnchoredBatch {
            first: batch.first,
            end: batch.first.saturating_add(u64::from(batch.count)),
            head: batch.head,
        });
        Ok(batches.collect())
    }

    /// As the ledger says it, but asked once a block.
    fn readable_slots(&self, actor: &Actor, log: Address) -> Result<u64> {
        self.readable_slots(actor, log)
    }
}

impl Service {
    /// Whether a log is an organisation's: what stands there is the directory that every member may read.
    pub(crate) fn is_directory(&self, log: Address) -> Result<bool> {
        if log == self.organization.0 {
            return Ok(true);
        }
        if let Some(known) = self.directories.lock().get(&log) {
            return Ok(*known);
        }
        let Some(account) = self.account(log)? else {
            return Ok(false);
        };
        let is = account.kind == 1;
        let mut known = self.directories.lock();
        if known.len() >= DIRECTORIES_MAX {
            known.clear();
        }
        known.insert(log, is);
        Ok(is)
    }

    /// A receipt, not yet written.
    pub(crate) fn receipt(
        &self,
        actor: &Actor,
        log: Address,
        action: AccessAction,
        categories: u64,
        records: &[(RecordId, u32)],
    ) -> AccessReceipt {
        let mut salt = B256::ZERO;
        os_rng().fill_bytes(salt.as_mut_slice());
        AccessReceipt {
            organization: actor.organization.0,
            sequence: 0,
            at_ms: self.clock.now().0,
            actor: actor.account,
            log,
            action: action.code(),
            allowed: true,
            categories,
            purposes: actor.purpose_bits(),
            records: u32::try_from(records.len()).unwrap_or(u32::MAX),
            records_digest: records_digest(records),
            salt,
        }
    }

    /// Writes a receipt and waits until it is durable.
    pub(crate) async fn write_receipt(
        &self,
        receipt: AccessReceipt,
        records: &[(RecordId, u32)],
    ) -> Result<DurableReceipt> {
        let written = DurableReceipt::write(
            &Receipts(self.index.local()),
            receipt,
            records.iter().copied(),
        )
        .await
        .map_err(Error::vault("writing an access receipt"))?;
        self.metrics.receipt(written.receipt().allowed);
        self.receipts_wait.notify_one();
        Ok(written)
    }

    /// Writes the receipt of a refusal.
    pub(crate) async fn refuse(
        &self,
        actor: &Actor,
        log: Address,
        action: AccessAction,
        categories: u64,
        records: &[(RecordId, u32)],
    ) -> Result<()> {
        let mut receipt = self.receipt(actor, log, action, categories, records);
        receipt.allowed = false;
        self.write_receipt(receipt, records).await.map(drop)
    }

    /// Anchors what each hosted organisation's sequence has that the ledger has not. Returns how many receipts
    /// were anchored.
    ///
    /// # Errors
    /// The ledger or the index refuses; nothing is lost, the next call tries again.
    pub async fn anchor_receipts(&self) -> Result<u64> {
        const WHAT: &str = "anchoring access receipts";
        // Two that anchor at once would send the same batch, and the ledger takes it once.
        let _turn = self.anchoring.lock().await;
        let mut anchored = 0_u64;
        for organization in self.hosted_organizations()? {
            loop {
                let (count, head) = self.anchored_head(organization.0)?;
                let batch = self
                    .index
                    .local()
                    .receipts_from(organization.0, count, BATCH_MAX)
                    .map_err(Error::index(WHAT))?;
                let Some(last) = batch.last() else { break };
                let digests: Vec<B256> = batch.iter().map(|one| one.digest).collect();
                let call = anchorReceiptsCall {
                    first: count,
                    count: u32::try_from(batch.len()).unwrap_or(u32::MAX),
                    root: batch_root(&digests),
                    previousHead: head,
                    head: last.head,
                };
                self.transactions
                    .settle(WHAT, organization.0, Order::new(AUDIT, &call, 500_000))
                    .await?;
                anchored = anchored.saturating_add(digests.len() as u64);
            }
        }
        Ok(anchored)
    }

    /// Number of an organisation's receipts on the ledger, and the head of their chain.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn anchored_head(&self, organization: Address) -> Result<(u64, B256)> {
        Standing::anchored_head(self, organization)
    }

    /// Anchors receipts whenever there are some, once a pause of `pause` has let others join the batch. Ends
    /// when the service is dropped.
    pub async fn run_receipt_anchoring(self: Arc<Self>, pause: std::time::Duration) {
        loop {
            self.receipts_wait.notified().await;
            tokio::time::sleep(pause).await;
            if let Err(error) = self.anchor_receipts().await {
                tracing::warn!(error = %error, "access receipts wait to be anchored");
                self.receipts_wait.notify_one();
                tokio::time::sleep(pause.saturating_mul(5)).await;
            }
        }
    }
}

/// Digest over the records of a receipt, in order: keccak-256 over id ‖ version (32 + 4 bytes, big-endian) of each; zero
/// where there are none.
#[must_use]
pub fn records_digest(records: &[(RecordId, u32)]) -> B256 {
    if records.is_empty() {
        return B256::ZERO;
    }
    let mut bytes = Vec::with_capacity(records.len().saturating_mul(36));
    for (record, version) in records {
        bytes.extend_from_slice(record.as_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
    }
    keccak256(&bytes)
}
