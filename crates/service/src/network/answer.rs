//! What this node tells other members about the accounts and records it keeps.

use std::sync::Arc;

use alloy_primitives::Address;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use stele_core::{
    consent::Permissions,
    crypto::{jws, os_rng},
    id::OrganizationId,
    receipt::AccessAction,
};
use stele_vault::RecordMeta;

use super::{KeyCard, RecordsPage, SharedRecord, rules::acting_for};
use crate::{
    Service,
    error::{Error, Result},
    session::{Actor, ActorKind},
};

/// Leaves looked at for one answer.
const LEAVES: u64 = 256;
/// For how long a record that is not here yet is waited for.
const ON_ITS_WAY_MS: u64 = 3_600_000;

impl Service {
    /// The public key of an account of this node, signed by the account.
    pub(super) async fn key_card(&self, account: Address) -> Result<KeyCard> {
        const WHAT: &str = "giving out a public key";
        let key = self
            .transactions
            .key(account)
            .map_err(|_| Error::not_found("account", &account.to_string()))?;
        let keys = self.vault.keys();
        let public = keys
            .ensure_kem(account, &mut os_rng())
            .await
            .map_err(Error::vault(WHAT))?
            .to_bytes();
        let signed = self.signed_card(account, &public);
        Ok(KeyCard {
            signature: jws::sign(&key, account, self.clock.now(), &signed)
                .map_err(|error| Error::internal(WHAT, error))?,
            public: STANDARD.encode(public),
        })
    }

    /// An account of another member as an actor here. Its accesses go into the sequence of the organisation that
    /// hosts the log.
    pub(super) fn reader(
        &self,
        asker: OrganizationId,
        account: Address,
        purposes: u16,
        log: Address,
    ) -> Result<Actor> {
        let host = OrganizationId(self.organization_hosting(log));
        if !self.is_hosted(host)? {
            return Err(Error::not_found("patient account", &log.to_string()));
        }
        let actor = acting_for(self, asker, account, purposes, host)?;
        if actor.kind == ActorKind::Patient {
            return Err(Error::NotPermitted {
                message: format!("{account} is nobody of organisation {asker}"),
            });
        }
        Ok(actor)
    }

    /// The records of a log, from a leaf on, whose categories are open to a reader now; and the reader's keys.
    pub(super) async fn share_records(
        self: &Arc<Self>,
        asker: OrganizationId,
        actor: &Actor,
        log: Address,
        from: u64,
    ) -> Result<RecordsPage> {
        const WHAT: &str = "listing records for a member";
        let open = self.open_slots(actor, log, Permissions::READ)?;
        if open == 0 || actor.purposes.is_empty() {
            self.refuse(actor, log, AccessAction::Maintenance, u64::MAX, &[])
                .await?;
            return Err(Error::NotPermitted {
                message: "no live grant opens this patient's records for this purpose".into(),
            });
        }
        let page = self
            .read_blocking(WHAT, {
                let reader = actor.account;
                move |service| service.page(asker, reader, log, open, from)
            })
            .await?;
        let records: Vec<_> = page
            .records
            .iter()
            .map(|one| (one.record, one.version))
            .collect();
        if !records.is_empty() {
            // Whoever learns what there is leaves a trace, before the answer is given.
            let receipt = self.receipt(actor, log, AccessAction::Maintenance, open, &records);
            self.write_receipt(receipt, &records).await?;
        }
        Ok(page)
    }

    fn page(
        &self,
        asker: OrganizationId,
        reader: Address,
        log: Address,
        open: u64,
        from: u64,
    ) -> Result<RecordsPage> {
        const WHAT: &str = "listing records for a member";
        let size = self
            .index
            .chain()
            .log_size(log)
            .map_err(Error::index(WHAT))?;
        let end = from.saturating_add(LEAVES).min(size);
        let mut page = RecordsPage {
            next: (end < size).then_some(end),
            ..RecordsPage::default()
        };
        let grants = self.vault.keys().grants(reader, log);
        for grant in grants.map_err(Error::vault(WHAT))? {
            page.grants.push(STANDARD.encode(grant.encode()));
        }
        for leaf in from..end {
            let is_open = |slot: u8| open >> slot & 1 == 1;
            let is_here = self.add_record(&mut page, log, leaf, asker, is_open)?;
            if !is_here && page.pending.is_none() && self.is_on_its_way(log, leaf)? {
                page.pending = Some(leaf);
            }
        }
        Ok(page)
    }

    /// Whether a leaf was anchored a short while ago and its record is not found here yet, as it is brought from another
    /// member.
    fn is_on_its_way(&self, log: Address, leaf: u64) -> Result<bool> {
        const WHAT: &str = "listing records for a member";
        let anchored = self.index.chain().leaf(log, leaf);
        Ok(anchored.map_err(Error::index(WHAT))?.is_some_and(|leaf| {
            let age_ms = self.clock.now().0.saturating_sub(leaf.anchored.at.0);
            leaf.category_slot.is_some() && age_ms < ON_ITS_WAY_MS
        }))
    }

    /// Adds the record at a leaf to a page, if it is kept here, its category is open, and the asker does not keep it
    /// itself; and what opening it takes. Whether there is one here at all.
    pub(super) fn add_record(
        &self,
        page: &mut RecordsPage,
        log: Address,
        leaf: u64,
        asker: OrganizationId,
        is_open: impl Fn(u8) -> bool,
    ) -> Result<bool> {
        const WHAT: &str = "listing records for a member";
        let found = self.index.search().at_leaf(log, leaf);
        let Some(version) = found.map_err(Error::index(WHAT))? else {
            return Ok(false);
        };
        let place = &version.placement;
        if !is_open(place.category_slot) {
            return Ok(true);
        }
        let Ok(Some(meta)) = self.vault.meta(&place.record, version.version) else {
            return Ok(true);
        };
        if meta.custodian == Some(asker.0) {
            return Ok(true);
        }
        if let Some(envelope) = &meta.envelope {
            let encapsulation = self.vault.encapsulation(&envelope.encapsulation);
            let bytes = encapsulation.map_err(Error::vault(WHAT))?.encode();
            let text = STANDARD.encode(bytes);
            if !page.encapsulations.contains(&text) {
                page.encapsulations.push(text);
            }
        }
        if let Some(shared) = &meta.shared
            && page.custodies.iter().all(|one| one.id != shared.custody)
        {
            page.custodies
                .extend(self.vault.custodian().custody(shared.custody));
        }
        page.records.push(SharedRecord {
            resource_type: version.resource_type.to_owned(),
            id: version.id,
            version: version.version,
            record: place.record,
            category: place.category,
            last_updated_ms: version.last_updated.0,
            leaf,
            meta: STANDARD.encode(&*RecordMeta::to_bytes(&meta)),
            custodian: meta.custodian,
        });
        Ok(true)
    }
}
