//! Getting back what a lost disk took: after an older backup was put in place, what this member wrote since comes from
//! the copies that other members keep.
//!
//! To be done once the ledger has caught up and before anything is served, so that no version is written a second time.
//! Every record is held against the leaf that the ledger has of it, so a copy needs no trust.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use serde::Serialize;
use stele_core::{
    id::{OrganizationId, PatientId, RecordId},
    receipt::AccessAction,
};
use stele_vault::replica::{OwnParcel, Parcel};

use super::copies::Copies;
use crate::{
    Service,
    error::{Error, Result},
    records::{JournalVersion, LeafPlace, described},
};

/// Blocks that others may have more without this member counting as behind: a new one may be coming.
const NEAR: u64 = 3;
/// Pause between two looks at whether the ledger has caught up.
const PAUSE: Duration = Duration::from_millis(500);

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// Record versions.
    pub versions: u64,
    /// Rows of the key table.
    pub keys: u64,
    /// Records that were erased after the backup and are erased again.
    pub erased: u64,
    /// Access receipts of this member that stay lost; the ledger has their digests only.
    pub receipts_lost: u64,
    /// Record versions that stand on the ledger and that no member gave.
    pub missing: u64,
}

impl Service {
    /// Brings back what this member wrote after the backup that its data folder was made from. Waits until the ledger has
    /// caught up with the other members that answer, and at least half of them do.
    ///
    /// # Errors
    /// The vault, the ledger or the index fails; to be called again.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovered> {
        const WHAT: &str = "listing this member's logs";
        self.catch_up().await?;
        let mut done = Recovered::default();
        for organization in self.hosted_organizations()? {
            let (count, head) = self.anchored_head(organization.0)?;
            let resumed = self
                .index
                .local()
                .resume_receipts(organization.0, count, head);
            let lost = resumed.map_err(Error::index("going on with the receipts"))?;
            done.receipts_lost = done.receipts_lost.saturating_add(lost);
        }
        let members = self.active_members()?;
        let logs = self
            .read_blocking(WHAT, |service| {
                let mut own = Vec::new();
                for log in service.index.chain().logs().map_err(Error::index(WHAT))? {
                    if service.is_hosted(OrganizationId(service.owner_of(log)?))? {
                        own.push(log);
                    }
                }
                Ok(own)
            })
            .await?;
        // The organisation's own first: beside it lie the keys of its staff.
        let (first, rest): (Vec<_>, Vec<_>) = logs
            .into_iter()
            .partition(|log| self.is_directory(*log).unwrap_or(false));
        for log in first.into_iter().chain(rest) {
            self.recover_log(log, &members, &mut done).await?;
        }
        Ok(done)
    }

    /// Waits until no member that answers is ahead.
    async fn catch_up(&self) -> Result<()> {
        let mut told = false;
        loop {
            let others: Vec<_> = self
                .active_members()?
                .into_iter()
                .map(OrganizationId)
                .filter(|one| *one != self.organization)
                .collect();
            let (mut heard, mut is_behind) = (0_usize, false);
            for member in &others {
                let from = self.ledger.height().saturating_add(NEAR);
                match self.fetch_blocks(*member, from).await {
                    Ok(None) => heard = heard.saturating_add(1),
                    Ok(Some(_)) => is_behind = true,
                    Err(error) => {
                        tracing::debug!(organization = %member, %error, "a member can't be asked")
                    }
                }
            }
            if !is_behind && heard.saturating_mul(2) >= others.len() {
                return Ok(());
            }
            if !told {
                told = true;
                tracing::info!("waiting for the ledger and at least half of the other members");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn recover_log(
        self: &Arc<Self>,
        log: Address,
        members: &BTreeSet<Address>,
        done: &mut Recovered,
    ) -> Result<()> {
        const WHAT: &str = "looking for what a log lacks here";
        let erased = self.erase_tombstoned(log).await?;
        done.erased = done.erased.saturating_add(erased);
        let owner = self.owner_of(log)?;
        let mut missing = self
            .read_blocking(WHAT, move |service| service.missing_leaves(log))
            .await?;
        let sources = self.sources(log, owner, members);
        let copies = self.replicas.get().map_or(1, |replicas| replicas.copies);
        let mut answered = 0_u8;
        for source in &sources {
            let mut from = missing.first().copied().unwrap_or_default();
            let mut is_first = true;
            // Keys may have been handed over although nothing was written: one page at least is looked at.
            while is_first || missing.range(from..).next().is_some() {
                let page = match self.ask_copies(*source, log, from).await {
                    Ok(page) => page,
                    Err(error) => {
                        tracing::debug!(organization = %source, %log, %error, "a member gives no copies of a log");
                        break;
                    }
                };
                let Some(copies) = page.read() else { break };
                if is_first {
                    self.take_back_beside(log, &copies, &page.custodies, done)
                        .await?;
                }
                is_first = false;
                let versions = self
                    .take_back_parcels(log, &copies, &mut missing, &sources)
                    .await?;
                done.versions = done.versions.saturating_add(versions);
                if page.next <= from {
                    break;
                }
                from = page.next;
            }
            answered = answered.saturating_add(u8::from(!is_first));
            // Each that should have keys is asked for them: one may have been away when they were handed over.
            if missing.is_empty() && answered.saturating_add(1) >= copies {
                break;
            }
        }
        if !missing.is_empty() {
            tracing::error!(%log, leaves = missing.len(), "no member gave some records of a log that stand on the ledger");
        }
        done.missing = done.missing.saturating_add(missing.len() as u64);
        Ok(())
    }

    /// Leaves of a log that stand for something of this member's and are not in the index. What others wrote for its
    /// patients is brought from them, as ever.
    fn missing_leaves(&self, log: Address) -> Result<BTreeSet<u64>> {
        const WHAT: &str = "looking for what a log lacks here";
        let size = self
            .index
            .chain()
            .log_size(log)
            .map_err(Error::index(WHAT))?;
        let gone = self.erased_leaves(log)?;
        let mut missing = BTreeSet::new();
        for leaf in (0..size).filter(|leaf| !gone.contains(leaf)) {
            let found = self.index.search().at_leaf(log, leaf);
            if found.map_err(Error::index(WHAT))?.is_some() {
                continue;
            }
            let anchored = self.index.chain().leaf(log, leaf);
            if let Some(anchored) = anchored.map_err(Error::index(WHAT))? {
                let writer = self.organization_acting(anchored.author)?;
                if writer.0.is_zero() || self.is_hosted(writer)? {
                    missing.insert(leaf);
                }
            }
        }
        Ok(missing)
    }

    /// Erases records whose leaves the ledger says to stand for nothing, if they are here; gives how many.
    pub(super) async fn erase_tombstoned(&self, log: Address) -> Result<u64> {
        const WHAT: &str = "erasing what the ledger says is erased";
        let tombstones = self.index.chain().tombstones_of(log);
        let mut records = BTreeSet::new();
        for tombstone in tombstones.map_err(Error::index(WHAT))? {
            let found = self.index.search().at_leaf(log, tombstone.index);
            let found = found.map_err(Error::index(WHAT))?;
            records.extend(found.map(|version| version.placement.record));
        }
        if records.is_empty() {
            return Ok(0);
        }
        let records: Vec<RecordId> = records.into_iter().collect();
        let erased = self.vault.erase(&records, self.clock.now()).await;
        erased.map_err(Error::vault(WHAT))?;
        let gone = self.index.search().erase(&records);
        gone.map_err(Error::index(WHAT))?;
        Ok(records.len() as u64)
    }

    /// Keys that lie beside a log, keys granted over it, and who shares its peppers.
    async fn take_back_beside(
        self: &Arc<Self>,
        log: Address,
        copies: &Copies,
        custodies: &[stele_vault::custody::Custody],
        done: &mut Recovered,
    ) -> Result<()> {
        const WHAT: &str = "taking keys back";
        let mut rows: BTreeMap<Address, Vec<Vec<u8>>> = BTreeMap::new();
        for (account, row) in &copies.keys {
            rows.entry(*account).or_default().push(row.clone());
        }
        for (account, rows) in rows {
            match self.vault.take_back_keys(account, &rows).await {
                Ok(count) => done.keys = done.keys.saturating_add(count),
                Err(
                    error @ (stele_vault::Error::Crypto { .. }
                    | stele_vault::Error::Malformed { .. }),
                ) => {
                    tracing::error!(%account, %error, "a copy of keys is not what this member made");
                }
                Err(error) => return Err(Error::vault(WHAT)(error)),
            }
        }
        for (grantee, grant) in copies.grants.iter().filter(|(_, grant)| grant.log == log) {
            let kept = self
                .vault
                .keys()
                .keep_grants(*grantee, std::slice::from_ref(grant));
            kept.await.map_err(Error::vault(WHAT))?;
        }
        for custody in custodies {
            if let Err(error) = self.accept_custody(custody).await {
                tracing::error!(%error, "a copy names a custody that is none");
            }
        }
        let kept = self.vault.keep_encapsulations(&copies.encapsulations).await;
        kept.map_err(Error::vault(WHAT))
    }

    /// Puts the records of a page back that are missing here; gives how many versions.
    async fn take_back_parcels(
        self: &Arc<Self>,
        log: Address,
        copies: &Copies,
        missing: &mut BTreeSet<u64>,
        sources: &[OrganizationId],
    ) -> Result<u64> {
        const WHAT: &str = "taking a record back";
        let kept = self.vault.keep_encapsulations(&copies.encapsulations).await;
        kept.map_err(Error::vault(WHAT))?;
        let mut found = Vec::new();
        for parcel in copies
            .parcels
            .iter()
            .filter(|one| missing.contains(&one.leaf))
        {
            let Some(own) = self.checked_parcel(log, parcel)? else {
                continue;
            };
            if let Some(cid) = parcel.cid
                && let Err(error) = self.fetch_ciphertext(sources, cid).await
            {
                tracing::warn!(%cid, %error, "a ciphertext can't be taken back from this copy");
                continue;
            }
            found.push((parcel.leaf, own));
        }
        let (leaves, own): (Vec<u64>, Vec<OwnParcel>) = found.into_iter().unzip();
        let taken = self.vault.take_back(&own).await;
        taken.map_err(Error::vault(WHAT))?;
        self.index_taken_back(log, leaves.iter().copied().zip(&own), missing)
            .await
    }

    /// What the owner finds in a parcel, if it is what the ledger has at that leaf.
    fn checked_parcel(&self, log: Address, parcel: &Parcel) -> Result<Option<OwnParcel>> {
        const WHAT: &str = "checking a copy";
        let leaf = self.index.chain().leaf(log, parcel.leaf);
        let leaf = leaf.map_err(Error::index(WHAT))?.map(|leaf| leaf.leaf);
        let opened = match self.vault.open_parcel(log, parcel) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%log, leaf = parcel.leaf, %error, "a copy is not what this member made");
                return Ok(None);
            }
        };
        let opened = opened.filter(|own| {
            Some(own.meta.leaf()) == leaf
                && own.meta.log == log
                && parcel.cid == own.meta.cid().ok().flatten()
        });
        Ok(opened)
    }

    /// Opens what was taken back with this member's own keys and puts it into the index.
    async fn index_taken_back(
        self: &Arc<Self>,
        log: Address,
        taken: impl Iterator<Item = (u64, &OwnParcel)>,
        missing: &mut BTreeSet<u64>,
    ) -> Result<u64> {
        const WHAT: &str = "indexing what was taken back";
        let taken: Vec<_> = taken.map(|(leaf, own)| (leaf, own.meta.clone())).collect();
        if taken.is_empty() {
            return Ok(0);
        }
        let records: Vec<_> = taken
            .iter()
            .map(|(_, meta)| (meta.record(), meta.version()))
            .collect();
        let actor = self.maintenance(log);
        let receipt = self.receipt(&actor, log, AccessAction::Maintenance, u64::MAX, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let patient = (!self.is_directory(log)?).then_some(PatientId(log));
        let mut before: BTreeMap<RecordId, JournalVersion> = BTreeMap::new();
        let mut opened = Vec::with_capacity(taken.len());
        for (leaf, meta) in taken {
            let anchored = self
                .index
                .chain()
                .leaf(log, leaf)
                .map_err(Error::index(WHAT))?;
            let text = self
                .open_maintained(actor.clone(), meta.clone(), receipt.clone())
                .await?;
            let version = described(&text, &meta, patient, before.get(&meta.record()));
            let (Some(version), Some(anchored)) = (version, anchored) else {
                tracing::error!(record = %meta.record(), "a record that was taken back can't be indexed");
                continue;
            };
            before.insert(meta.record(), version.clone());
            let place = LeafPlace {
                index: leaf,
                height: anchored.anchored.height,
            };
            missing.remove(&leaf);
            opened.push((version, meta, place, text));
        }
        self.released.forget(std::iter::once(&receipt));
        let count = opened.len() as u64;
        self.index_opened(opened).await?;
        Ok(count)
    }
}
