//! A part of a patient's record as it is handed to the patient's browser: sealed, many entries at once, under one receipt.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
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
    /// Places in the log of all entries as they stand, the last recorded first; empty where one or some were asked for.
    pub leaves: Vec<u64>,
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
    /// What the patient's key opens; absent in a part of a list where it is too large for that, without its ciphertext
    /// where that comes apart ([`Service::hand_out_ciphertext`]).
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
    /// What a look at the patient's own record begins with: the places of all entries, and of those recorded after `above`
    /// (of all, without) the last `count`, sealed, with the peppers the custodian releases for them and the proof of each
    /// leaf.
    ///
    /// One receipt is written first. It names what is handed out, and with `above` every entry: a browser that asks so
    /// kept what was recorded before and is about to show it, and a look is a look wherever the content lies.
    ///
    /// # Errors
    /// The actor is no patient; an entry that does not match the ledger; as for [`Service::own_record`].
    pub async fn hand_out(
        self: &Arc<Self>,
        actor: &Actor,
        above: Option<u64>,
        count: usize,
    ) -> Result<HandedPage> {
        let found = self.listed(actor).await?;
        let leaves: Vec<u64> = found.iter().map(|one| one.placement.leaf).collect();
        let is_new = |one: &&ResourceVersion| above.is_none_or(|leaf| one.placement.leaf > leaf);
        let part: Vec<ResourceVersion> = found
            .iter()
            .filter(is_new)
            .take(count.clamp(1, HANDED_MAX))
            .cloned()
            .collect();
        let shown = if above.is_some() { found } else { part.clone() };
        let mut page = self
            .handed(actor, AccessAction::Search, &shown, part)
            .await?;
        page.leaves = leaves;
        Ok(page)
    }

    /// The entries at these places of the log, as [`Service::hand_out`]. Places where nothing current stands are left out.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than 250 places; as for [`Service::hand_out`].
    pub async fn hand_out_at(
        self: &Arc<Self>,
        actor: &Actor,
        leaves: &BTreeSet<u64>,
    ) -> Result<HandedPage> {
        if leaves.len() > HANDED_MAX {
            return Err(Error::TooLarge {
                message: format!("at most {HANDED_MAX} entries are handed out at once"),
            });
        }
        let mut found = self.listed(actor).await?;
        found.retain(|one| leaves.contains(&one.placement.leaf));
        let shown = found.clone();
        self.handed(actor, AccessAction::Search, &shown, found)
            .await
    }

    /// One entry of the patient's own record, as it stands or in a version, as [`Service::hand_out`].
    ///
    /// # Errors
    /// As for [`Service::own_record`].
    pub async fn hand_out_one(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
    ) -> Result<HandedPage> {
        let found = self.own_version(actor, resource_type, id, version).await?;
        let shown = [found.clone()];
        self.handed(actor, AccessAction::Read, &shown, vec![found])
            .await
    }

    /// An entry of the patient's own as it stands, or as it stood in a version.
    async fn own_version(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
    ) -> Result<ResourceVersion> {
        let patient = own(actor)?;
        let found = self
            .index
            .search()
            .read(
                resource_type,
                id,
                version,
                &actor.viewer(),
                self.clock.now(),
            )
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
        Ok(found)
    }

    /// The ciphertext of one entry of the patient's own record, piece by piece, and its length. It opens with what
    /// [`Service::hand_out_one`] gives, which leaves the receipt.
    ///
    /// # Errors
    /// As for [`Service::own_record`].
    pub async fn hand_out_ciphertext(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes>> + Send + use<>)> {
        let found = self.own_version(actor, resource_type, id, None).await?;
        let meta = self.checked_meta(&found)?;
        let failed = |error| read_error(&found, error);
        let length = self.vault.ciphertext_bytes(&meta).map_err(failed)?;
        let pieces = self.vault.ciphertext(&meta).map_err(failed)?;
        Ok((
            length,
            pieces.map(move |piece| piece.map_err(|error| read_error(&found, error))),
        ))
    }

    /// All entries as they stand, the last recorded first.
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
                found.sort_by_key(|version| std::cmp::Reverse(version.placement.leaf));
                return Ok(found);
            }
        }
    }

    /// Hands out `found` under one receipt that names what is shown, which `found` is a part of.
    async fn handed(
        self: &Arc<Self>,
        actor: &Actor,
        action: AccessAction,
        shown: &[ResourceVersion],
        found: Vec<ResourceVersion>,
    ) -> Result<HandedPage> {
        const WHAT: &str = "handing out own records";
        let mut page = HandedPage {
            organization: self.organization,
            leaves: Vec::new(),
            log: None,
            entries: Vec::with_capacity(found.len()),
        };
        if shown.is_empty() {
            return Ok(page);
        }
        let patient = own(actor)?;
        let records: Vec<_> = shown
            .iter()
            .map(|version| (version.placement.record, version.version))
            .collect();
        let slots = shown.iter().fold(0_u64, |slots, version| {
            let slot = u32::from(version.placement.category_slot);
            slots | 1_u64.checked_shl(slot).unwrap_or(0)
        });
        let receipt = self.receipt(actor, patient.0, action, slots, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        if found.is_empty() {
            return Ok(page);
        }
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
            // The ciphertext of a large file comes apart, as a stream.
            Some(pepper) if is_apart(version.resource_type, meta.size_bytes) => Some(
                self.vault
                    .sealed_apart(meta, pepper)
                    .map_err(|error| read_error(version, error))?,
            ),
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

/// Whether an entry's ciphertext is not handed out with the rest: a file's own bytes, unless they are few.
fn is_apart(resource_type: &str, size_bytes: u64) -> bool {
    resource_type == "Binary" && size_bytes > LISTED_BYTES_MAX
}
