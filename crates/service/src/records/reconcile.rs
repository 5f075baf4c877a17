//! Finishing what a crash cut off: every journal entry is carried forward or taken back, so that no half record
//! is left and nothing acknowledged is lost.

use std::sync::Arc;

use alloy_primitives::B128;
use stele_core::{consent::Purpose, id::OrganizationId, receipt::AccessAction};
use stele_vault::{RecordMeta, custodian::DurableReceipt};

use super::{
    pending::{JOURNAL, JournalEntry, JournalVersion, Kept, Recorded},
    place::Placed,
    write::LeafPlace,
};
use crate::{
    Service,
    error::{Error, Result},
    network::rules::LiveConsent,
    ports::{LedgerError, RefusalKind},
    session::{Actor, ActorKind},
};

/// What a start found to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reconciled {
    /// Versions that were anchored but not indexed, now found again.
    pub indexed: u64,
    /// Versions that were never anchored and were taken back.
    pub taken_back: u64,
}

impl Service {
    /// Finishes the journal. To be called at start, once the index follows the ledger, before anything is served.
    ///
    /// # Errors
    /// The vault, the ledger or the index fails; the journal keeps what is left.
    pub async fn reconcile(self: &Arc<Self>) -> Result<Reconciled> {
        const WHAT: &str = "reading the journal";
        let mut done = Reconciled::default();
        for (journal, state) in self
            .index
            .local()
            .unfinished(JOURNAL)
            .map_err(Error::index(WHAT))?
        {
            let entry: JournalEntry =
                serde_json::from_slice(&state).map_err(|error| Error::internal(WHAT, error))?;
            let ended = self.end_entry(&entry).await?;
            done.taken_back = done.taken_back.saturating_add(ended.taken_back);
            done.indexed = done.indexed.saturating_add(ended.indexed);
            self.index
                .local()
                .finish(journal)
                .map_err(Error::index("closing a journal entry"))?;
        }
        Ok(done)
    }

    /// Carries one entry forward or takes it back, and keeps its outcome if that was promised.
    async fn end_entry(self: &Arc<Self>, entry: &JournalEntry) -> Result<Reconciled> {
        let (mut anchored, missing) = self.sort_out(entry)?;
        let is_whole = anchored.len().saturating_add(missing.len()) == entry.versions.len();
        // A batch of several transactions of which some are final is finished, and so is one whose client was told
        // that it would be. Others were not acknowledged: refused, or never sent.
        let goes_on = !anchored.is_empty() || (entry.promise.is_some() && is_whole);
        let mut done = Reconciled::default();
        let mut refused = None;
        if !missing.is_empty() && goes_on {
            let metas: Vec<RecordMeta> = missing.iter().map(|(_, meta)| meta.clone()).collect();
            if anchored.is_empty() {
                self.register_again(entry).await?;
            }
            match self.anchor(entry.author, entry.sender, &metas).await {
                Ok(places) => anchored.extend(
                    missing
                        .into_iter()
                        .zip(places)
                        .map(|((version, meta), place)| (version, meta, place)),
                ),
                // What was granted when it was accepted may have been revoked since.
                Err(error) if anchored.is_empty() && is_refusal(&error) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        if anchored.is_empty() {
            self.take_back(&entry.versions).await?;
            done.taken_back = entry.versions.len() as u64;
            let why = refused.unwrap_or_else(|| Error::Conflict {
                message: "the node stopped before the write was recorded; send it again".into(),
            });
            self.keep_outcome(entry, &Kept::refused(&why))?;
            return Ok(done);
        }
        let recorded = anchored
            .iter()
            .map(|(version, meta, place)| {
                Recorded::again(version, meta.preimage.kind, place.height)
            })
            .collect();
        done.indexed = self.index_again(anchored).await?;
        self.keep_outcome(entry, &Kept::Recorded(recorded))?;
        Ok(done)
    }

    /// Sends what registers a batch's new patients once more. What is refused stands already, or the anchoring will
    /// be refused for the lack of it.
    async fn register_again(&self, entry: &JournalEntry) -> Result<()> {
        for order in &entry.orders {
            let sent = self
                .transactions
                .settle("registering patients", entry.sender, order.clone())
                .await;
            if let Err(error @ Error::Ledger { .. }) = sent {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Which versions of an entry stand on the ledger.
    #[expect(
        clippy::type_complexity,
        reason = "two lists, named where they are taken apart"
    )]
    fn sort_out(
        &self,
        entry: &JournalEntry,
    ) -> Result<(
        Vec<(JournalVersion, RecordMeta, LeafPlace)>,
        Vec<(JournalVersion, RecordMeta)>,
    )> {
        let mut anchored = Vec::new();
        let mut missing = Vec::new();
        for version in &entry.versions {
            let meta = self
                .vault
                .meta(&version.record, version.version)
                .map_err(Error::vault("reading a record's meta"))?;
            let Some(meta) = meta else { continue };
            match self.find_leaf(&meta)? {
                Some(place) => anchored.push((version.clone(), meta, place)),
                None => missing.push((version.clone(), meta)),
            }
        }
        Ok((anchored, missing))
    }

    /// Looks a record's leaf up among the leaves of its log, newest first.
    pub(crate) fn find_leaf(&self, meta: &RecordMeta) -> Result<Option<LeafPlace>> {
        const WHAT: &str = "looking for a leaf";
        const STEP: u64 = 1024;
        let chain = self.index.chain();
        let leaf = meta.leaf();
        let mut end = chain.log_size(meta.log).map_err(Error::index(WHAT))?;
        while end > 0 {
            let from = end.saturating_sub(STEP);
            let part = chain
                .leaves_of(meta.log, from, 1024)
                .map_err(Error::index(WHAT))?;
            let found = part.iter().find(|one| one.index < end && one.leaf == leaf);
            if let Some(found) = found {
                return Ok(Some(LeafPlace {
                    index: found.index,
                    height: found.anchored.height,
                }));
            }
            end = from;
        }
        Ok(None)
    }

    /// Opens anchored versions with the organisation's own keys and indexes them.
    pub(crate) async fn index_again(
        self: &Arc<Self>,
        versions: Vec<(JournalVersion, RecordMeta, LeafPlace)>,
    ) -> Result<u64> {
        let mut opened = Vec::with_capacity(versions.len());
        for (version, meta, place) in versions {
            let host = OrganizationId(self.organization_hosting(meta.log));
            let text = if self.is_hosted(host)? {
                self.text_for_index(&version, &meta).await?
            } else {
                // Written into the record of another member's patient, whose keys are there.
                version.outline()
            };
            opened.push((version, meta, place, text));
        }
        let count = opened.len() as u64;
        self.index_opened(opened).await?;
        Ok(count)
    }

    /// Indexes versions whose texts were opened, in one transaction.
    pub(crate) async fn index_opened(
        &self,
        opened: Vec<(JournalVersion, RecordMeta, LeafPlace, String)>,
    ) -> Result<()> {
        let (mut placed, mut metas, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (version, meta, place, text) in opened {
            let mut value = serde_json::from_str(&text)
                .map_err(|error| Error::internal("indexing a record", error))?;
            self.name_patient(&mut value, version.patient)?;
            placed.push(Placed {
                value,
                resource_type: version.resource_type,
                id: version.id,
                version: version.version,
                record: version.record,
                log: meta.log,
                patient: version.patient,
                category: version.category,
                kind: meta.preimage.kind,
                previous: meta.preimage.previous,
                last_updated: version.last_updated,
                text,
            });
            metas.push(meta);
            places.push(place);
        }
        if placed.is_empty() {
            return Ok(());
        }
        self.index_versions(&placed, &metas, &places).await
    }

    /// A record's text for the index, with a receipt of maintenance.
    pub(crate) async fn open_for_index(
        self: &Arc<Self>,
        version: &JournalVersion,
        meta: &RecordMeta,
    ) -> Result<String> {
        let actor = self.maintenance(meta.log);
        let records = [(version.record, version.version)];
        let slot = 1_u64
            .checked_shl(meta.preimage.category_slot.into())
            .unwrap_or(0);
        let receipt = self.receipt(&actor, meta.log, AccessAction::Maintenance, slot, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        self.open_maintained(actor, meta.clone(), receipt).await
    }

    /// Opens a record on a thread that may block, for maintenance.
    pub(crate) async fn open_maintained(
        self: &Arc<Self>,
        actor: Actor,
        meta: RecordMeta,
        receipt: DurableReceipt,
    ) -> Result<String> {
        const WHAT: &str = "opening a record for the index";
        let service = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let consent = LiveConsent::new(&*service, &actor)?;
            service
                .open_meta(&actor, &meta, &consent, &receipt)
                .map(|text| text.to_string())
                .map_err(Error::vault(WHAT))
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))?
    }

    /// The organisation that hosts a log, as the actor of maintenance. It reads with its own grants like anyone.
    pub(crate) fn maintenance(&self, log: alloy_primitives::Address) -> Actor {
        let hosting = OrganizationId(self.organization_hosting(log));
        Actor {
            kind: ActorKind::System,
            account: hosting.0,
            organization: hosting,
            purposes: vec![Purpose::Treat],
            client: "maintenance".into(),
        }
    }
}

/// Whether the ledger said no, rather than nothing.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::NotPermitted { .. } | Error::Conflict { .. } => true,
        Error::Ledger { source, .. } => {
            matches!(
                source,
                LedgerError::Refused { kind, .. } if *kind != RefusalKind::PoolFull
            ) || matches!(source, LedgerError::Reverted { .. })
        }
        _ => false,
    }
}

impl Service {
    /// Where the peppers of writes under way lie: to finish one after a crash it must be opened.
    pub(crate) fn periods_in_use(&self) -> Result<Vec<(B128, u32)>> {
        const WHAT: &str = "reading the journal";
        let entries = self.index.local().unfinished(JOURNAL);
        let mut in_use = Vec::new();
        for (_, state) in entries.map_err(Error::index(WHAT))? {
            let entry: JournalEntry =
                serde_json::from_slice(&state).map_err(|error| Error::internal(WHAT, error))?;
            for version in &entry.versions {
                let meta = self.vault.meta(&version.record, version.version);
                // What can't be read can't be finished either.
                let shared = meta.ok().flatten().and_then(|meta| meta.shared);
                in_use.extend(shared.map(|shared| (shared.custody, shared.period)));
            }
        }
        Ok(in_use)
    }

    /// Whether a crash left work to finish.
    ///
    /// # Errors
    /// The index fails.
    pub fn has_unfinished(&self) -> Result<bool> {
        const WHAT: &str = "reading the journal";
        let local = self.index.local();
        Ok(!local
            .unfinished(JOURNAL)
            .map_err(Error::index(WHAT))?
            .is_empty()
            || !local
                .unfinished(crate::erase::JOURNAL)
                .map_err(Error::index(WHAT))?
                .is_empty())
    }
}
