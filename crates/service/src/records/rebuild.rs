//! Filling the search index anew from the vault and the ledger.

use std::{
    collections::{BTreeMap, HashMap},
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
use stele_vault::RecordMeta;

use super::write::{JournalVersion, LeafPlace};
use crate::{
    Service,
    error::{Error, Result},
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

impl Service {
    /// Empties the search index and fills it from the vault, log by log, with one maintenance receipt a log. The
    /// chain index must be complete.
    ///
    /// # Errors
    /// The vault, the ledger or the index fails; the index then says that it is not complete.
    pub async fn rebuild_search(
        self: &Arc<Self>,
        progress: impl Fn(u64, u64) + Send,
    ) -> Result<Rebuilt> {
        const WHAT: &str = "rebuilding the search index";
        self.index.search().clear().map_err(Error::index(WHAT))?;
        let mut logs: BTreeMap<Address, BTreeMap<RecordId, Vec<RecordMeta>>> = BTreeMap::new();
        let mut total = 0_u64;
        for meta in self.vault.all_metas() {
            let meta = match meta {
                Ok(meta) => meta,
                Err(error) => {
                    tracing::warn!(error = %error, "a record's meta can't be read");
                    continue;
                }
            };
            total = total.saturating_add(1);
            logs.entry(meta.log)
                .or_default()
                .entry(meta.record())
                .or_default()
                .push(meta);
        }
        let mut done = Rebuilt::default();
        for (log, records) in logs {
            self.rebuild_log(log, records, &mut done).await?;
            done.logs = done.logs.saturating_add(1);
            progress(done.versions.saturating_add(done.skipped), total);
        }
        self.index
            .search()
            .mark_complete()
            .map_err(Error::index(WHAT))?;
        Ok(done)
    }

    async fn rebuild_log(
        self: &Arc<Self>,
        log: Address,
        records: BTreeMap<RecordId, Vec<RecordMeta>>,
        done: &mut Rebuilt,
    ) -> Result<()> {
        let leaves = self.leaves_by_value(log)?;
        let actor = self.maintenance(log);
        let covered: Vec<(RecordId, u32)> = records
            .values()
            .flatten()
            .map(|meta| (meta.record(), meta.version()))
            .collect();
        let receipt = self.receipt(&actor, log, AccessAction::Maintenance, u64::MAX, &covered);
        let receipt = self.write_receipt(receipt, &covered).await?;
        let patient = (!self.is_directory(log)?).then_some(PatientId(log));
        for versions in records.into_values() {
            let mut last: Option<JournalVersion> = None;
            for meta in versions {
                let Some(place) = leaves.get(&meta.leaf()).copied() else {
                    done.skipped = done.skipped.saturating_add(1);
                    continue;
                };
                let opened = self
                    .open_maintained(actor.clone(), meta.clone(), receipt.clone())
                    .await;
                let version = match opened {
                    Ok(text) => described(&text, &meta, patient, last.as_ref()),
                    Err(error) => {
                        tracing::warn!(record = %meta.record(), error = %error,
                            "a record can't be indexed");
                        None
                    }
                };
                let Some(version) = version else {
                    done.skipped = done.skipped.saturating_add(1);
                    continue;
                };
                last = Some(version.clone());
                self.index_again(vec![(version, meta, place)]).await?;
                done.versions = done.versions.saturating_add(1);
            }
        }
        Ok(())
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
fn described(
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
