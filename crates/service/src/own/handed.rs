//! A part of a patient's record as it is handed to the patient's browser: sealed, many entries at once, under one receipt.

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::{Address, B256};
use serde::Serialize;
use stele_core::{
    id::OrganizationId, leaf::LeafPreimage, mmr, proof::LogProof, receipt::AccessAction,
    time::Timestamp,
};
use stele_fhir::category::Category;
use stele_index::ResourceVersion;
use stele_vault::{RecordMeta, SealedRecord, custodian::Pepper};

use super::own;
use crate::{
    Service,
    error::{Error, Result},
    network::rules::LiveConsent,
    records::{COUNT_MAX, index_error, read_error, read_request},
    session::Actor,
};

/// Most entries handed out at once.
const HANDED_MAX: usize = 250;
/// Longest content that travels in a part of a list, in bytes; a larger entry is handed out by itself.
const LISTED_BYTES_MAX: u64 = 256 * 1024;
/// Most entries of a record that are listed; a longer one shows those recorded last.
const LISTED_MAX: usize = 100_000;

/// Entries of a patient's record, sealed, the last recorded first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedPage {
    /// The organisation that assigned the resources' ids.
    pub organization: OrganizationId,
    /// Entries there are.
    pub total: usize,
    /// Where the next part begins; absent at the end.
    pub next: Option<usize>,
    /// State of the log, with all its peaks, proven against a certified block; absent where there is no entry.
    pub log: Option<LogProof>,
    /// The entries.
    pub entries: Vec<HandedEntry>,
}

/// One entry.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedEntry {
    /// FHIR resource type.
    pub resource_type: String,
    /// FHIR logical id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// When it changed last.
    pub last_updated: Timestamp,
    /// Part of the record it belongs to.
    pub category: &'static str,
    /// Number of the record in the patient's log, from 1.
    pub number: u64,
    /// Who wrote this version.
    pub author: Address,
    /// When it became final.
    pub at: Timestamp,
    /// What the patient's key opens; absent in a part of a list where it is too large for that.
    pub sealed: Option<SealedRecord>,
    /// What the leaf commits to.
    pub leaf: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: B256,
    /// Position of the leaf in the log.
    pub index: u64,
    /// Siblings from the leaf up to its peak.
    pub path: Vec<B256>,
}

impl Service {
    /// A part of the patient's own record, sealed, with the peppers the custodian releases for it and the proof of each
    /// leaf. One receipt that names every entry is written first.
    ///
    /// # Errors
    /// The actor is no patient; an entry that does not match the ledger; as for [`Service::own_record`].
    pub async fn hand_out(
        self: &Arc<Self>,
        actor: &Actor,
        from: usize,
        count: usize,
    ) -> Result<HandedPage> {
        let mut found = self.listed(actor).await?;
        let total = found.len();
        found.sort_by_key(|version| std::cmp::Reverse(version.placement.leaf));
        let count = count.clamp(1, HANDED_MAX);
        let part: Vec<ResourceVersion> = found.into_iter().skip(from).take(count).collect();
        let end = from.saturating_add(part.len());
        let mut page = self.handed(actor, AccessAction::Search, part).await?;
        page.total = total;
        page.next = (end < total).then_some(end);
        Ok(page)
    }

    /// One entry of the patient's own record, as [`Service::hand_out`].
    ///
    /// # Errors
    /// As for [`Service::own_record`].
    pub async fn hand_out_one(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<HandedPage> {
        let patient = own(actor)?;
        let found = self
            .index
            .search()
            .read(resource_type, id, None, &actor.viewer(), self.clock.now())
            .map_err(Error::index("handing out an own record"))?
            .filter(|found| found.placement.log == patient.0);
        let Some(found) = found else {
            self.refuse_hidden(actor, resource_type, id).await?;
            return Err(Error::not_found(resource_type, id));
        };
        if found.deleted {
            return Err(Error::Gone {
                resource: format!("{resource_type}/{id}"),
            });
        }
        self.handed(actor, AccessAction::Read, vec![found]).await
    }

    async fn listed(self: &Arc<Self>, actor: &Actor) -> Result<Vec<ResourceVersion>> {
        const WHAT: &str = "listing own records";
        let patient = own(actor)?;
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let (viewer, from) = (actor.viewer(), cursor.take());
            let page = self
                .read_blocking(WHAT, move |service| {
                    let now = service.clock.now();
                    service
                        .index
                        .search()
                        .everything(patient, None, from.as_deref(), COUNT_MAX, &viewer, now)
                        .map_err(index_error(WHAT))
                })
                .await?;
            found.extend(page.matches);
            cursor = page.next;
            if cursor.is_none() || found.len() >= LISTED_MAX {
                return Ok(found);
            }
        }
    }

    async fn handed(
        self: &Arc<Self>,
        actor: &Actor,
        action: AccessAction,
        found: Vec<ResourceVersion>,
    ) -> Result<HandedPage> {
        const WHAT: &str = "handing out own records";
        let mut page = HandedPage {
            organization: self.organization,
            total: found.len(),
            next: None,
            log: None,
            entries: Vec::with_capacity(found.len()),
        };
        if found.is_empty() {
            return Ok(page);
        }
        let patient = own(actor)?;
        let records: Vec<_> = found
            .iter()
            .map(|version| (version.placement.record, version.version))
            .collect();
        let slots = found.iter().fold(0_u64, |slots, version| {
            let slot = u32::from(version.placement.category_slot);
            slots | 1_u64.checked_shl(slot).unwrap_or(0)
        });
        let receipt = self.receipt(actor, patient.0, action, slots, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let reader = actor.clone();
        let is_list = action == AccessAction::Search;
        let released = self
            .read_blocking(WHAT, move |service| {
                let consent = LiveConsent::new(&**service, &reader)?;
                found
                    .into_iter()
                    .map(|version| {
                        let meta = service.checked_meta(&version)?;
                        if is_list && meta.size_bytes > LISTED_BYTES_MAX {
                            return Ok((version, meta, None));
                        }
                        let request = read_request(&reader, &meta);
                        let pepper = service
                            .vault
                            .custodian()
                            .release(&request, &consent, &receipt, service.clock.now())
                            .map_err(|error| read_error(&version, error))?;
                        Ok((version, meta, Some(pepper)))
                    })
                    .collect::<Result<Vec<_>>>()
            })
            .await?;
        let (log, leaves) = self
            .read_blocking(WHAT, move |service| service.log_proof(patient.0, None))
            .await?;
        let paths = mmr::Paths::new(&leaves);
        page.log = Some(log);
        let mut numbers = HashMap::new();
        for (version, meta, pepper) in released {
            let path = paths
                .of(version.placement.leaf)
                .ok_or_else(|| Error::internal(WHAT, "a leaf is beyond its log"))?;
            let entry = self
                .handed_entry(&version, &meta, pepper.as_ref(), path, &mut numbers)
                .await?;
            page.entries.push(entry);
        }
        Ok(page)
    }

    async fn handed_entry(
        &self,
        version: &ResourceVersion,
        meta: &RecordMeta,
        pepper: Option<&Pepper>,
        path: Vec<B256>,
        numbers: &mut HashMap<B256, u64>,
    ) -> Result<HandedEntry> {
        const WHAT: &str = "handing out an own record";
        let place = &version.placement;
        let sealed = match pepper {
            Some(pepper) => Some(
                self.vault
                    .sealed_record(meta, pepper)
                    .await
                    .map_err(|error| read_error(version, error))?,
            ),
            None => None,
        };
        let number = match numbers.get(&place.record.0) {
            Some(number) => *number,
            None => {
                let first = self
                    .index
                    .search()
                    .leaf_of(place.record, 1)
                    .map_err(Error::index(WHAT))?;
                let number = first
                    .map_or(place.leaf, |(_, index)| index)
                    .saturating_add(1);
                numbers.insert(place.record.0, number);
                number
            }
        };
        let leaf = self
            .index
            .chain()
            .leaf(place.log, place.leaf)
            .map_err(Error::index(WHAT))?
            .ok_or_else(|| Error::internal(WHAT, "the ledger has no such leaf"))?;
        Ok(HandedEntry {
            resource_type: version.resource_type.to_owned(),
            id: version.id.clone(),
            version: version.version,
            last_updated: version.last_updated,
            category: Category::from_number(place.category).map_or("other", Category::name),
            number,
            author: leaf.author,
            at: leaf.anchored.at,
            sealed,
            leaf: meta.preimage.clone(),
            leaf_salt: meta.leaf_salt.into(),
            index: place.leaf,
            path,
        })
    }
}
