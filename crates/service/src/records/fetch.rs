//! Opening records: receipt first, then pepper, then content, then the ledger's word on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use futures::TryStreamExt as _;
use stele_core::{id::RecordId, leaf::content_digest, receipt::AccessAction};
use stele_fhir::outcome::{Issue, IssueCode};
use stele_index::ResourceVersion;
use stele_vault::{
    RecordMeta,
    custodian::{DurableReceipt, Pepper, Permission, ReadRequest},
    keys::Holder,
};
use zeroize::Zeroizing;

use super::{Stored, Verification};
use crate::{
    Service,
    error::{Error, Result},
    network::Keeper,
    network::rules::LiveConsent,
    own::sealing::TEXT_MAX,
    session::Actor,
};

/// A record version about to be opened: its meta, held against the ledger, and with whose keys it opens.
struct Prepared {
    version: ResourceVersion,
    ready: Result<(RecordMeta, Holder)>,
}

/// What one thread opens.
enum Part {
    Found(Vec<ResourceVersion>),
    Prepared(Vec<Prepared>),
}

const READING_META: &str = "reading a record's meta";

impl Service {
    /// Opens what the index found. One receipt a log; what does not match is withheld and named.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        actor: &Actor,
        action: AccessAction,
        found: Vec<ResourceVersion>,
    ) -> Result<(Vec<Stored>, Vec<Issue>)> {
        const WHAT: &str = "opening records";
        if found.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let receipts = self.receipts_for(actor, action, &found);
        let (receipts, parts) = if found.len() == 1 {
            // Handing one record to a thread twice costs more than it saves.
            (receipts.await?, vec![Part::Found(found)])
        } else {
            // What gives nothing away is read while the receipts become durable.
            let preparing = in_parts(found.clone()).into_iter().map(|part| {
                let actor = actor.clone();
                self.read_blocking(WHAT, move |service| service.prepare(&actor, part))
            });
            let preparing = futures::future::try_join_all(preparing);
            let (receipts, parts) = futures::future::try_join(receipts, preparing).await?;
            (receipts, parts.into_iter().map(Part::Prepared).collect())
        };
        let receipts = Arc::new(receipts);
        self.ask_keepers(actor, self.keepers_of(&parts), &receipts)
            .await?;
        let opening = parts.into_iter().map(|part| {
            let (actor, receipts) = (actor.clone(), Arc::clone(&receipts));
            self.read_blocking(WHAT, move |service| {
                let prepared = match part {
                    Part::Found(found) => service.prepare(&actor, found)?,
                    Part::Prepared(prepared) => prepared,
                };
                service.open_all(&actor, prepared, &receipts)
            })
        });
        let parts = futures::future::try_join_all(opening).await;
        self.released.forget(receipts.values());
        let (opened, issues): (Vec<_>, Vec<_>) = parts?.into_iter().unzip();
        Ok((
            opened.into_iter().flatten().collect(),
            issues.into_iter().flatten().collect(),
        ))
    }

    async fn receipts_for(
        &self,
        actor: &Actor,
        action: AccessAction,
        found: &[ResourceVersion],
    ) -> Result<BTreeMap<Address, DurableReceipt>> {
        let mut logs: BTreeMap<Address, (u64, Vec<(RecordId, u32)>)> = BTreeMap::new();
        for version in found {
            let (slots, records) = logs.entry(version.placement.log).or_default();
            *slots |= 1_u64
                .checked_shl(version.placement.category_slot.into())
                .unwrap_or(0);
            records.push((version.placement.record, version.version));
        }
        let written = logs.into_iter().map(|(log, (slots, records))| async move {
            let receipt = self.receipt(actor, log, action, slots, &records);
            self.write_receipt(receipt, &records)
                .await
                .map(|receipt| (log, receipt))
        });
        futures::future::try_join_all(written)
            .await
            .map(|all| all.into_iter().collect())
    }

    /// Reads metas, holds them against the ledger, and unwraps the keys their envelopes share: all that can be done
    /// before the receipt is durable. Content needs the custodian's pepper, which is released for a receipt only.
    fn prepare(&self, actor: &Actor, found: Vec<ResourceVersion>) -> Result<Vec<Prepared>> {
        let commitments = self.commitments(&found)?;
        let mut holders = HashMap::new();
        let mut prepared = Vec::with_capacity(found.len());
        for version in found {
            let place = (version.placement.log, version.placement.leaf);
            let anchored = commitments.get(&place).copied();
            let ready = self.meta_of(&version, anchored).and_then(|meta| {
                let holder = match holders.entry(meta.log) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(free) => *free.insert(
                        self.holder(actor, meta.log)
                            .map_err(|error| read_error(&version, error))?,
                    ),
                };
                // What goes wrong is named when the record is opened.
                drop(self.vault.unwrap_ahead(&meta, holder));
                Ok((meta, holder))
            });
            prepared.push(Prepared { version, ready });
        }
        Ok(prepared)
    }

    /// Who has to be asked for peppers of what was found, with the log. None when there are no other members.
    fn keepers_of(&self, parts: &[Part]) -> BTreeSet<(Address, Keeper)> {
        if self.peers.get().is_none() {
            return BTreeSet::new();
        }
        let of = |meta: &RecordMeta| Keeper::of(meta).map(|keeper| (meta.log, keeper));
        let mut keepers = BTreeSet::new();
        for part in parts {
            match part {
                Part::Prepared(prepared) => {
                    let metas = prepared.iter().filter_map(|one| one.ready.as_ref().ok());
                    keepers.extend(metas.filter_map(|(meta, _)| of(meta)));
                }
                // What can't be read is named when it is opened.
                Part::Found(found) => keepers.extend(found.iter().filter_map(|version| {
                    let meta = self.vault.meta(&version.placement.record, version.version);
                    of(&meta.ok()??)
                })),
            }
        }
        keepers
    }

    fn open_all(
        &self,
        actor: &Actor,
        prepared: Vec<Prepared>,
        receipts: &BTreeMap<Address, DurableReceipt>,
    ) -> Result<(Vec<Stored>, Vec<Issue>)> {
        let consent = LiveConsent::new(self, actor)?;
        let mut opened = Vec::with_capacity(prepared.len());
        let mut issues = Vec::new();
        for Prepared { version, ready } in prepared {
            let receipt = receipts
                .get(&version.placement.log)
                .ok_or_else(|| Error::internal("opening records", "a receipt is missing"))?;
            let text = ready.and_then(|(meta, holder)| {
                if version.deleted {
                    return Ok(Arc::from(""));
                }
                self.open_with(actor, &meta, holder, &consent, receipt)
                    .map(|text| Arc::from(text.as_str()))
                    .map_err(|error| read_error(&version, error))
            });
            match text {
                Ok(text) => opened.push(stored(version, text, Verification::Verified)),
                Err(Error::DoesNotMatch { .. }) => {
                    tracing::error!(record = %version.placement.record, version = version.version,
                        "a stored record does not match what was anchored");
                    issues.push(Issue::error(
                        IssueCode::Exception,
                        format!(
                            "{}/{}/_history/{} does not match what was recorded and is withheld",
                            version.resource_type, version.id, version.version
                        ),
                    ));
                    opened.push(stored(version, Arc::from(""), Verification::DoesNotMatch));
                }
                // Revoked or erased between the search and now: it does not exist for this caller.
                Err(Error::NotFound { .. } | Error::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((opened, issues))
    }

    /// Opens one record version with the actor's keys, once the custodian released its pepper. A streamed Binary
    /// gives its head, without the content. To be called on a thread that may block.
    pub(crate) fn open_meta(
        &self,
        actor: &Actor,
        meta: &RecordMeta,
        consent: &dyn Permission,
        receipt: &DurableReceipt,
    ) -> stele_vault::Result<Zeroizing<String>> {
        let holder = self.holder(actor, meta.log)?;
        self.open_with(actor, meta, holder, consent, receipt)
    }

    fn open_with(
        &self,
        actor: &Actor,
        meta: &RecordMeta,
        holder: Holder,
        consent: &dyn Permission,
        receipt: &DurableReceipt,
    ) -> stele_vault::Result<Zeroizing<String>> {
        let pepper = self.pepper_of(actor, meta, consent, receipt)?;
        let large = meta.size_bytes > super::write::CONTENT_MAX as u64;
        let text = if large || meta.preimage.element_root.is_zero() {
            tokio::runtime::Handle::current().block_on(self.open_streamed(meta, holder, &pepper))?
        } else {
            text_of(meta, self.vault.open_record(meta, holder, &pepper)?)?
        };
        if self.is_what_it_says(meta, &text) {
            return Ok(text);
        }
        Err(mismatch(meta))
    }

    async fn open_streamed(
        &self,
        meta: &RecordMeta,
        holder: Holder,
        pepper: &Pepper,
    ) -> stele_vault::Result<Zeroizing<String>> {
        if let Some((head, _)) = self.frame_of(meta, holder, pepper).await? {
            return Ok(Zeroizing::new(head));
        }
        // A patient's own file has a head. What has none is held in memory here, so it must not be of any size.
        if meta.preimage.author == meta.log && meta.size_bytes > TEXT_MAX {
            return Err(mismatch(meta));
        }
        let stream = self
            .vault
            .open_stream(meta, holder, pepper, 0..meta.size_bytes)
            .await?;
        let parts: Vec<bytes::Bytes> = stream.try_collect().await?;
        let content = Zeroizing::new(parts.concat());
        if content_digest(meta.element_salt.expose(), &content) != meta.preimage.content {
            return Err(mismatch(meta));
        }
        text_of(meta, content)
    }

    /// A record's meta, if the leaf it makes is the one the ledger has at that place.
    pub(crate) fn checked_meta(&self, version: &ResourceVersion) -> Result<RecordMeta> {
        let anchored = self.commitments(std::slice::from_ref(version))?;
        self.meta_of(version, anchored.into_values().next())
    }

    /// What the ledger has at the places of some versions.
    fn commitments(&self, found: &[ResourceVersion]) -> Result<HashMap<(Address, u64), B256>> {
        let mut logs: BTreeMap<Address, Vec<u64>> = BTreeMap::new();
        for version in found {
            let place = &version.placement;
            logs.entry(place.log).or_default().push(place.leaf);
        }
        let mut all = HashMap::with_capacity(found.len());
        for (log, places) in logs {
            let found = self.index.chain().commitments(log, &places);
            let found = found.map_err(Error::index(READING_META))?;
            all.extend(found.into_iter().map(|(place, leaf)| ((log, place), leaf)));
        }
        Ok(all)
    }

    fn meta_of(&self, version: &ResourceVersion, anchored: Option<B256>) -> Result<RecordMeta> {
        let mismatch = || Error::DoesNotMatch {
            resource: format!("{}/{}", version.resource_type, version.id),
        };
        let meta = match self.vault.meta(&version.placement.record, version.version) {
            Ok(Some(meta)) => meta,
            Ok(None) => return Err(mismatch()),
            Err(error) => return Err(read_error(version, error)),
        };
        if anchored == Some(meta.leaf()) {
            Ok(meta)
        } else {
            Err(mismatch())
        }
    }

    /// With whose keys the actor opens records of a log: its own or its organisation's grants; the log's own
    /// root where the actor is the patient or the log is a directory.
    pub(crate) fn holder(&self, actor: &Actor, log: Address) -> stele_vault::Result<Holder> {
        if actor.is_patient(log) || self.is_directory(log).unwrap_or(false) {
            return Ok(Holder::Root);
        }
        let principals = actor.principals();
        if principals == [actor.account] {
            return Ok(Holder::Grantee(actor.account));
        }
        for principal in principals {
            if !self.vault.keys().grants(principal, log)?.is_empty() {
                return Ok(Holder::Grantee(principal));
            }
        }
        Ok(Holder::Grantee(actor.account))
    }
}

/// Cuts a long page into parts that are opened side by side, in order: as many as there are readers at once, but none so
/// small that handing it to a thread costs more than opening it.
fn in_parts(mut found: Vec<ResourceVersion>) -> Vec<Vec<ResourceVersion>> {
    const LEAST: usize = 32;
    let size = found
        .len()
        .div_ceil(stele_index::readers_at_once())
        .max(LEAST);
    let mut parts = Vec::with_capacity(found.len().div_ceil(size));
    while found.len() > size {
        let rest = found.split_off(size);
        parts.push(std::mem::replace(&mut found, rest));
    }
    parts.push(found);
    parts
}

/// What the custodian is asked for one record version.
pub(crate) fn read_request(actor: &Actor, meta: &RecordMeta) -> ReadRequest {
    ReadRequest {
        log: meta.log,
        record: meta.record(),
        version: meta.version(),
        slot: meta.preimage.category_slot,
        actor: actor.account,
        purposes: actor.purpose_bits(),
    }
}

fn text_of(
    meta: &RecordMeta,
    mut content: Zeroizing<Vec<u8>>,
) -> stele_vault::Result<Zeroizing<String>> {
    String::from_utf8(std::mem::take(&mut content))
        .map(Zeroizing::new)
        .map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            mismatch(meta)
        })
}

fn mismatch(meta: &RecordMeta) -> stele_vault::Error {
    stele_vault::Error::RecordMismatch {
        record: meta.record(),
        version: meta.version(),
    }
}

fn stored(version: ResourceVersion, text: Arc<str>, state: Verification) -> Stored {
    Stored {
        resource_type: version.resource_type.to_owned(),
        id: version.id,
        version: version.version,
        last_updated: version.last_updated,
        deleted: version.deleted,
        text,
        state,
    }
}

/// What a vault's refusal means to the one who reads.
pub(crate) fn read_error(version: &ResourceVersion, error: stele_vault::Error) -> Error {
    use stele_vault::Error as Vault;
    let resource = format!("{}/{}", version.resource_type, version.id);
    match error {
        Vault::Refused { .. } | Vault::NoKey { .. } => Error::NotFound { resource },
        Vault::Erased { .. } => Error::Gone { resource },
        Vault::Mismatch { .. }
        | Vault::RecordMismatch { .. }
        | Vault::MissingBlob { .. }
        | Vault::Malformed { .. }
        | Vault::Damaged { .. }
        | Vault::Expand { .. }
        | Vault::Crypto { .. } => Error::DoesNotMatch { resource },
        Vault::CustodianAway { .. } => Error::Member {
            message: error.public_message().into(),
        },
        source => Error::Vault {
            what: "opening a record",
            source: Box::new(source),
        },
    }
}
