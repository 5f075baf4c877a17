//! Availability: a sample of what is held here is read and verified again and again, and what is missing or damaged is
//! fetched from whoever has it; and other members are asked for what they should hold of this one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alloy_primitives::Address;
use cid::Cid;
use rand_core::Rng as _;
use stele_core::{crypto::os_rng, id::OrganizationId};

use super::{copies::in_order, replicas::Replicas};
use crate::{
    Service,
    error::{Error, Result},
};

/// A ciphertext that should be here.
struct Checked {
    log: Address,
    owner: Address,
    cid: Cid,
}

impl Service {
    /// Checks samples as long as this member keeps copies. Runs until dropped.
    pub async fn run_replica_checks(self: Arc<Self>) {
        let Some(replicas) = self.replicas.get().copied() else {
            return;
        };
        loop {
            tokio::time::sleep(replicas.check.max(Duration::from_millis(100))).await;
            if let Err(error) = self.check_sample(replicas).await {
                tracing::warn!(%error, "stored ciphertexts are checked later");
            }
        }
    }

    async fn check_sample(self: &Arc<Self>, replicas: Replicas) -> Result<()> {
        const WHAT: &str = "drawing a sample of ciphertexts";
        let limit = usize::from(replicas.sample);
        let (members, held, own) = self
            .read_blocking(WHAT, move |service| {
                let members = service.active_members()?;
                let held = service.vault.some_parcels(&at_random(), limit);
                let metas = service.vault.some_metas(&at_random(), limit);
                let mut of_others = Vec::new();
                for one in held.map_err(Error::vault(WHAT))? {
                    let copy = service.vault.log_copy(one.log);
                    let copy = copy.map_err(Error::vault(WHAT))?;
                    // What is still being copied need not be here yet.
                    let is_copied = copy.is_some_and(|copy| one.parcel.leaf < copy.next);
                    if let Some(cid) = one.parcel.cid.filter(|_| is_copied) {
                        let owner = service.owner_of(one.log)?;
                        let log = one.log;
                        of_others.push(Checked { log, owner, cid });
                    }
                }
                let mut own = Vec::new();
                for meta in metas.map_err(Error::vault(WHAT))? {
                    let cid = meta.cid().map_err(Error::vault(WHAT))?;
                    let owner = service.owner_of(meta.log)?;
                    let log = meta.log;
                    own.extend(cid.map(|cid| Checked { log, owner, cid }));
                }
                Ok((members, of_others, own))
            })
            .await?;
        let mut missing = 0;
        for one in held.iter().chain(&own) {
            if !self.check_here(one, &members).await? {
                missing += 1;
            }
        }
        self.metrics.replicas_missing(missing);
        let others = usize::from(replicas.copies).saturating_sub(1);
        for one in own {
            if self.is_hosted(OrganizationId(one.owner))? {
                self.check_elsewhere(&one, &members, others).await?;
            }
        }
        Ok(())
    }

    /// Reads a ciphertext here and holds it against its address; fetches it anew if it is not what it should be. Whether
    /// it is then.
    async fn check_here(&self, one: &Checked, members: &BTreeSet<Address>) -> Result<bool> {
        const WHAT: &str = "checking a ciphertext";
        let whole = self.vault.store().is_whole(&one.cid).await;
        let is_whole = whole.map_err(Error::vault(WHAT))?;
        self.metrics.replica_checked(is_whole);
        if is_whole {
            return Ok(true);
        }
        let sources = self.sources(one.log, one.owner, members);
        match self.fetch_anew(&sources, one.cid).await {
            Ok(()) => {
                self.metrics.replica_repaired();
                tracing::warn!(cid = %one.cid, "a missing or damaged ciphertext was fetched from another member");
                Ok(true)
            }
            Err(error @ (Error::Member { .. } | Error::NotPermitted { .. })) => {
                tracing::error!(cid = %one.cid, %error, "a ciphertext is missing or damaged, and no other member gives it");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the members that should hold a copy for its first block.
    async fn check_elsewhere(
        &self,
        one: &Checked,
        members: &BTreeSet<Address>,
        others: usize,
    ) -> Result<()> {
        for holder in in_order(one.log, one.owner, members)
            .into_iter()
            .take(others)
        {
            let given = self.fetch_block(holder, one.cid).await;
            self.metrics.replica_asked(given.is_ok());
            match given {
                Ok(_) => {}
                Err(error @ (Error::Member { .. } | Error::NotPermitted { .. })) => {
                    tracing::debug!(organization = %holder, cid = %one.cid, %error, "a member does not give a copy");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn at_random() -> [u8; 20] {
    let mut at = [0; 20];
    os_rng().fill_bytes(&mut at);
    at
}
