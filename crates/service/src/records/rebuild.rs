//! Filling the search index anew from the vault and the ledger.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use serde_json::Value;
use stele_core::{
    id::{PatientId, RecordId},
    leaf::LeafKind,
    receipt::AccessAction,
    time::Timestamp,
};
use stele_fhir::category;
use stele_vault::{RecordMeta, custodian::DurableReceipt};

use super::{pending::JournalVersion, write::LeafPlace};
use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// What a rebuild did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// Logs read.
    pub logs: u64,
    /// Versions indexed.
    pub versions: u64,
    /// Versions in the vault that can't be opened: withheld, erased, or without a grant any more.
    pub skipped: u64,
}

/// A version in the vault with its place on the ledger.
struct Found {
    meta: RecordMeta,
    place: LeafPlace,
}

/// Versions indexed in one SQL transaction.
const STEP: usize = 256;

impl Service {
    /// Empties the search index and fills it from the vault in the order of the ledger, with one maintenance receipt
    /// a log. The chain index must be complete.
    ///
    /// # Errors
    /// The vault, the ledger or the index fails; the index then says that it is not complete.
    pub async fn rebuild_search(
        self: &Arc<Self>,
        progress: impl Fn(u64, u64) + Send,
    ) -> Result<Rebuilt> {
        const WHAT: &str = "rebuilding the search index";
        self.index.search().clear().map_err(Error::index(WHAT))?;
        let mut done = Rebuilt::default();
        let found = self.found(&mut done)?;
        let receipts = self.maintenance_receipts(&found).await?;
        done.logs = receipts.len() as u64;
        let total = found.len() as u64;
        let mut before: HashMap<RecordId, JournalVersion> = HashMap::new();
        let mut batch = Vec::with_capacity(STEP);
        for Found { meta, place } in found {
            let Some((actor, receipt)) = receipts.get(&meta.log).cloned() else {
                continue;
            };
            let patient = (!self.is_directory(meta.log)?).then_some(PatientId(meta.log));
            let opened = match self.open_maintained(actor, meta.clone(), receipt).await {
                Ok(text) => {
                    described(&text, &meta, patient, before.get(&meta.record())).zip(Some(text))
                }
                Err(error) => {
                    tracing::warn!(record = %meta.record(), %error, "a record can't be indexed");
                    None
                }
            };
            let Some((version, text)) = opened else {
                done.skipped = done.skipped.saturating_add(1);
                continue;
            };
            before.insert(meta.record(), version.clone());
            batch.push((version, meta, place, text));
            done.versions = done.versions.saturating_add(1);
            if batch.len() == STEP {
                self.index_opened(std::mem::take(&mut batch)).await?;
                progress(done.versions.saturating_add(done.skipped), total);
            }
        }
        self.index_opened(batch).await?;
        self.index
            .search()
            .mark_complete()
            .map_err(Error::index(WHAT))?;
        Ok(done)
    }

    /// Everything in the vault that stands on the ledger, in the ledger's order: resources get the numbers again
    /// that decide between equals in a sorted answer.
    fn found(&self, done: &mut Rebuilt) -> Result<Vec<Found>> {
        let mut leaves: HashMap<Address, HashMap<B256, LeafPlace>> = HashMap::new();
        let mut found = Vec::new();
        for meta in self.vault.all_metas() {
            let meta = match meta {
                Ok(meta) => meta,
                Err(error) => {
                    tracing::warn!(%error, "a record's meta can't be read");
                    done.skipped = done.skipped.saturating_add(1);
                    continue;
                }
            };
            let log = match leaves.entry(meta.log) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.leaves_by_value(meta.log)?),
            };
            match log.get(&meta.leaf()) {
                Some(place) => found.push(Found {
                    place: *place,
                    meta,
                }),
                None => done.skipped = done.skipped.saturating_add(1),
            }
        }
        found.sort_by_key(|one| (one.place.height, one.meta.log, one.place.index));
        Ok(found)
    }

    async fn maintenance_receipts(
        &self,
        found: &[Found],
    ) -> Result<BTreeMap<Address, (Actor, DurableReceipt)>> {
        let mut covered: BTreeMap<Address, Vec<(RecordId, u32)>> = BTreeMap::new();
        for Found { meta, .. } in found {
            covered
                .entry(meta.log)
                .or_default()
                .push((meta.record(), meta.version()));
        }
        let mut receipts = BTreeMap::new();
        for (log, records) in covered {
            let actor = self.maintenance(log);
            let receipt = self.receipt(&actor, log, AccessAction::Maintenance, u64::MAX, &records);
            let receipt = self.write_receipt(receipt, &records).await?;
            receipts.insert(log, (actor, receipt));
        }
        Ok(receipts)
    }

    fn leaves_by_value(&self, log: Address) -> Result<HashMap<B256, LeafPlace>> {
        const WHAT: &str = "listing a log's leaves";
        let chain = self.index.chain();
        let size = chain.log_size(log).map_err(Error::index(WHAT))?;
        let mut all = HashMap::new();
        let mut from = 0;
        while from < size {
            let part = chain
                .leaves_of(log, from, 4096)
                .map_err(Error::index(WHAT))?;
            let Some(last) = part.last() else { break };
            from = last.index.saturating_add(1);
            all.extend(part.into_iter().map(|leaf| {
                (
                    leaf.leaf,
                    LeafPlace {
                        index: leaf.index,
                        height: leaf.anchored.height,
                    },
                )
            }));
        }
        Ok(all)
    }
}

/// What the text of a version says of itself: type, id and when it was written.
/// A deletion has the category of the version before.
pub(crate) fn described(
    text: &str,
    meta: &RecordMeta,
    patient: Option<PatientId>,
    before: Option<&JournalVersion>,
) -> Option<JournalVersion> {
    let value: Value = serde_json::from_str(text).ok()?;
    let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let updated = value
        .get("meta")
        .and_then(|m| m.get("lastUpdated"))
        .and_then(Value::as_str)?;
    Some(JournalVersion {
        record: meta.record(),
        version: meta.version(),
        resource_type: member("resourceType")?,
        id: member("id")?,
        patient,
        category: match (meta.preimage.kind, before) {
            (LeafKind::Tombstone, Some(before)) => before.category,
            _ => category::assign(&value).number(),
        },
        last_updated: parse_instant(updated)?,
    })
}

fn parse_instant(text: &str) -> Option<Timestamp> {
    let parsed =
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(parsed.unix_timestamp_nanos().checked_div(1_000_000)?)
        .ok()
        .map(Timestamp)
}
