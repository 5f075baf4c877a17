//! Finishing what a crash cut off: every journal entry is carried forward or taken back, so that no half record
//! is left and nothing acknowledged is lost.

use std::sync::Arc;

use stele_core::{consent::Purpose, id::OrganizationId, receipt::AccessAction};
use stele_vault::{RecordMeta, custodian::DurableReceipt};

use super::{
    place::Placed,
    write::{JOURNAL, JournalEntry, JournalVersion, LeafPlace},
};
use crate::{
    Service,
    audit::LiveConsent,
    error::{Error, Result},
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
            let (mut anchored, missing) = self.sort_out(&entry)?;
            if !missing.is_empty() && !anchored.is_empty() {
                // A batch of several transactions: some are final, so the rest is sent again.
                let metas: Vec<RecordMeta> = missing.iter().map(|(_, meta)| meta.clone()).collect();
                let places = self.anchor(entry.author, entry.sender, &metas).await?;
                for ((version, meta), place) in missing.into_iter().zip(places) {
                    anchored.push((version, meta, place));
                }
            } else {
                // Not acknowledged and not on the ledger: refused, or never sent.
                for (version, _) in &missing {
                    self.vault
                        .discard(&version.record, version.version)
                        .await
                        .map_err(Error::vault("taking back a record"))?;
                }
                done.taken_back = done.taken_back.saturating_add(missing.len() as u64);
            }
            done.indexed = done
                .indexed
                .saturating_add(self.index_again(anchored).await?);
            self.index
                .local()
                .finish(journal)
                .map_err(Error::index("closing a journal entry"))?;
        }
        Ok(done)
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
            let text = self.open_for_index(&version, &meta).await?;
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
            placed.push(Placed {
                value: serde_json::from_str(&text)
                    .map_err(|error| Error::internal("indexing a record", error))?,
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
    async fn open_for_index(
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
            let consent = LiveConsent::new(&service, &actor)?;
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

impl Service {
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
