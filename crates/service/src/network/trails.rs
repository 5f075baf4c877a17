//! What other members' custodians released of this node's patients' records: their receipts, brought here so that the
//! patient sees every access, also those made while this node was away.
//!
//! A receipt is believed only as part of a batch whose root the ledger has. Accesses by the asker's own people are left
//! out: its own sequence has them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use stele_core::{
    id::OrganizationId,
    receipt::{AccessReceipt, batch_root},
};
use zeroize::Zeroizing;

use super::{AccessesAnchored, AccessesPage, Ask};
use crate::{
    Service,
    error::{Error, Result},
};

/// Batches looked at for one answer.
const BATCHES: usize = 64;
/// Digests in one answer at most, beside those of its first batch: half a megabyte.
const DIGESTS: usize = 8_192;

impl Service {
    /// Brings here what this member's custodians released since it was last asked; `seen` is the next receipt of each.
    pub(super) async fn bring_accesses(&self, seen: &mut BTreeMap<Address, u64>) {
        for who in self.vault.custodian().partners() {
            if who != self.organization.0
                && let Err(error) = self.bring_accesses_of(who, seen).await
            {
                tracing::debug!(organization = %who, %error, "a custodian's accesses are brought later");
            }
        }
    }

    async fn bring_accesses_of(
        &self,
        who: Address,
        seen: &mut BTreeMap<Address, u64>,
    ) -> Result<()> {
        const WHAT: &str = "bringing accesses here";
        let local = self.index.local();
        let mut from = match seen.get(&who) {
            Some(from) => *from,
            // The last one that is kept here; what is looked at twice is kept once.
            None => local.receipt_head(who).map_err(Error::index(WHAT))?.0,
        };
        loop {
            let head = self.index.chain().audit_head(who);
            if head.map_err(Error::index(WHAT))?.0 <= from {
                seen.insert(who, from);
                return Ok(());
            }
            let asked = self.ask(
                self.organization,
                OrganizationId(who),
                Ask::Accesses { from },
            );
            let answer = asked.await?;
            let unreadable = || Error::Member {
                message: format!("the accesses of organisation {who} can't be read"),
            };
            let page: AccessesPage = serde_json::from_slice(&answer).map_err(|_| unreadable())?;
            let mut receipts = Vec::new();
            for batch in page.batches {
                receipts.extend(self.checked_accesses(who, batch)?);
            }
            local.keep_receipts(&receipts).map_err(Error::index(WHAT))?;
            if page.next <= from {
                return Err(unreadable());
            }
            from = page.next;
            seen.insert(who, from);
        }
    }

    /// The receipts of a batch, if it is the one on the ledger.
    fn checked_accesses(
        &self,
        who: Address,
        given: AccessesAnchored,
    ) -> Result<Vec<AccessReceipt>> {
        const WHAT: &str = "checking a member's accesses";
        let batches = self.index.chain().receipt_batches(who, given.first);
        let batches = batches.map_err(Error::index(WHAT))?;
        let is_anchored = batches.first().is_some_and(|batch| {
            batch.first == given.first
                && usize::try_from(batch.count).ok() == Some(given.digests.len())
                && batch.root == batch_root(&given.digests)
        });
        let is_in = |receipt: &AccessReceipt| {
            let place = receipt.sequence.checked_sub(given.first);
            let place = place.and_then(|place| usize::try_from(place).ok());
            let digest = place.and_then(|place| given.digests.get(place));
            receipt.organization == who && digest == Some(&receipt.digest())
        };
        if !is_anchored || !given.receipts.iter().all(is_in) {
            tracing::error!(organization = %who, first = given.first, "a member shows other accesses than it anchored");
            return Err(Error::Member {
                message: format!("the accesses of organisation {who} are not the anchored ones"),
            });
        }
        let mut receipts = given.receipts;
        let mut kept = Vec::with_capacity(receipts.len());
        for receipt in receipts.drain(..) {
            // Nobody fills this node's store with accesses to others' patients.
            if self.is_hosted(OrganizationId(self.organization_hosting(receipt.log)))? {
                kept.push(receipt);
            }
        }
        Ok(kept)
    }

    /// Gives another member the accesses to its patients in a sequence of this node.
    pub(super) async fn give_accesses(
        self: &Arc<Self>,
        asker: OrganizationId,
        asked: OrganizationId,
        from: u64,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "listing accesses for a member";
        let page = self
            .read_blocking(WHAT, move |service| {
                service.accesses_page(asker, asked, from)
            })
            .await?;
        let bytes = serde_json::to_vec(&page).map_err(|error| Error::internal(WHAT, error))?;
        Ok(Zeroizing::new(bytes))
    }

    fn accesses_page(
        &self,
        asker: OrganizationId,
        asked: OrganizationId,
        from: u64,
    ) -> Result<AccessesPage> {
        const WHAT: &str = "listing accesses for a member";
        let batches = self.index.chain().receipt_batches(asked.0, from);
        let mut page = AccessesPage {
            batches: Vec::new(),
            next: from,
        };
        let mut digests = 0_usize;
        let mut hosts: HashMap<Address, Address> = HashMap::new();
        for batch in batches
            .map_err(Error::index(WHAT))?
            .into_iter()
            .take(BATCHES)
        {
            let found = self
                .index
                .local()
                .receipts_from(asked.0, batch.first, batch.count)
                .map_err(Error::index(WHAT))?;
            if found.len() as u64 != u64::from(batch.count) {
                // Lost with a disk: without all digests nobody can check the rest.
                page.next = batch.first.saturating_add(u64::from(batch.count));
                continue;
            }
            let mut receipts = Vec::new();
            for one in found.iter().filter(|one| one.receipt.sequence >= from) {
                let receipt = &one.receipt;
                let log = self.host_of(receipt.log, &mut hosts)?;
                if log == asker.0 && self.host_of(receipt.actor, &mut hosts)? != asker.0 {
                    receipts.push(receipt.clone());
                }
            }
            if !receipts.is_empty() {
                let all: Vec<B256> = found.iter().map(|one| one.digest).collect();
                digests = digests.saturating_add(all.len());
                if digests > DIGESTS && !page.batches.is_empty() {
                    break;
                }
                page.batches.push(AccessesAnchored {
                    first: batch.first,
                    digests: all,
                    receipts,
                });
            }
            page.next = batch.first.saturating_add(u64::from(batch.count));
        }
        Ok(page)
    }

    fn host_of(&self, account: Address, known: &mut HashMap<Address, Address>) -> Result<Address> {
        match known.entry(account) {
            Entry::Occupied(found) => Ok(*found.get()),
            Entry::Vacant(free) => {
                let host = if self.is_directory(account)? {
                    account
                } else {
                    self.organization_of(account)?.0
                };
                Ok(*free.insert(host))
            }
        }
    }
}
