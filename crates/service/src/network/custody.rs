//! Who shares this member's peppers: chosen from the members, dealt their trees, told of erasures.
//!
//! Nothing here is waited for by a write. What a custodian has not confirmed the owner keeps and deals again, over any
//! number of restarts on either side.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{Address, B128};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand_core::Rng as _;
use stele_core::{
    crypto::{
        hpke::{self, KemPublic},
        os_rng,
    },
    id::{OrganizationId, RecordId},
};
use stele_vault::custody::{Custody, ErasedPlace, Undealt};
use zeroize::Zeroizing;

use super::Ask;
use crate::{
    Service,
    error::{Error, Result},
};

const INFO: &[u8] = b"stele/custody-tree/v1";
/// Erasures told in one question at most.
const ERASED_MAX: usize = 1_000;
/// Rounds of the background work between two looks for erasures and accesses.
const SELDOM: u64 = 5;

/// How many custodians share this member's peppers, and how many of them it takes to open a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Custodians, this member among them: at most [`stele_vault::custody::CUSTODIANS_MAX`].
    pub custodians: u8,
    /// Custodians that have to release: 1 to all.
    pub threshold: u8,
    /// For how long this member alone can open what it has just written; at most twice that.
    pub period: Duration,
}

impl Service {
    /// Shares the peppers of what is written from now on, as soon as there are enough members. Only the first call has
    /// an effect.
    pub fn set_sharing(&self, sharing: Sharing) {
        let _ = self.sharing.set(sharing);
    }

    /// Founds the custody of this member's peppers, if there are enough members: to be called before anything is served,
    /// so that nothing is written without it.
    ///
    /// # Errors
    /// The vault or the index fails.
    pub async fn begin_custody(self: &Arc<Self>) -> Result<()> {
        match self.sharing.get() {
            Some(sharing) => self.found_custody(*sharing).await,
            None => Ok(()),
        }
    }

    /// Keeps the custody of this member's peppers in order, every `pause`: founds it, deals its trees, ends its periods,
    /// tells of erasures, and brings here what its custodians released. Runs until dropped.
    pub async fn run_custody(self: Arc<Self>, pause: Duration) {
        let Some(sharing) = self.sharing.get().copied() else {
            return;
        };
        let rounds = sharing.period.as_millis().checked_div(pause.as_millis());
        let rounds = rounds.and_then(|rounds| u64::try_from(rounds).ok());
        let rounds = rounds.unwrap_or(1).max(1);
        let mut seen = BTreeMap::new();
        let mut is_anew = false;
        let mut height = None;
        for round in 0_u64.. {
            tokio::time::sleep(pause).await;
            let now = self.ledger.height();
            if height != Some(now) {
                height = Some(now);
                warn_of(self.found_custody(sharing).await, "a custody is founded");
                warn_of(
                    self.appoint_successors().await,
                    "a custodian that is gone has a successor",
                );
            }
            if !is_anew && self.vault.custodian().current().is_some() {
                is_anew = true;
                tokio::spawn(Arc::clone(&self).share_anew());
            }
            self.deal().await;
            if round % rounds == 0 {
                warn_of(self.end_period().await, "a period of peppers ends");
            }
            if round % SELDOM == 0 {
                warn_of(
                    self.tell_erasures().await,
                    "custodians are told of erasures",
                );
                self.bring_accesses(&mut seen).await;
                warn_of(
                    self.go_on_asking().await,
                    "others are asked what was dealt and erased since the backup",
                );
            }
        }
    }

    /// Founds a custody where there is none, or where the present one is no longer of members or not as it should be.
    async fn found_custody(self: &Arc<Self>, sharing: Sharing) -> Result<()> {
        const WHAT: &str = "founding a custody";
        let count = usize::from(sharing.custodians);
        let current = self.vault.custodian().current();
        if count <= 1 && current.is_none() {
            return Ok(());
        }
        let members = self.members_in_order()?;
        let fits = current.is_some_and(|custody| {
            custody.threshold == sharing.threshold
                && custody.custodians.len() == count
                && custody.custodians.iter().all(|one| members.contains(one))
        });
        let Some(custodians) = members.get(..count).filter(|_| !fits) else {
            return Ok(());
        };
        let mut id = B128::ZERO;
        os_rng().fill_bytes(id.as_mut_slice());
        let custody = Custody {
            id,
            owner: self.organization.0,
            threshold: sharing.threshold,
            custodians: custodians.to_vec(),
        };
        self.read_blocking(WHAT, move |service| {
            let founded = service.vault.custodian().found(custody);
            founded.map_err(Error::vault(WHAT))
        })
        .await?;
        tracing::info!(
            custodians = count,
            threshold = sharing.threshold,
            "peppers of new records are shared among members from now on"
        );
        Ok(())
    }

    /// This member, then the others that act now: validators first, by account, beginning after this one, so that not
    /// all choose the same.
    fn members_in_order(&self) -> Result<Vec<Address>> {
        let own = self.organization.0;
        let hosted = self.hosted_organizations()?;
        let mut active = BTreeSet::new();
        for who in self.all_organizations()? {
            let is_other = who != own && !hosted.contains(&OrganizationId(who));
            if is_other && self.account(who)?.is_some_and(|account| account.active) {
                active.insert(who);
            }
        }
        let epoch = self.ledger.epoch();
        let seats = epoch.iter().flat_map(|epoch| epoch.validators());
        let seated: BTreeSet<Address> = seats
            .map(|seat| seat.organization)
            .filter(|who| active.contains(who))
            .collect();
        let rest: BTreeSet<Address> = active.difference(&seated).copied().collect();
        let mut order = vec![own];
        for group in [seated, rest] {
            order.extend(group.range(own..));
            order.extend(group.range(..own));
        }
        Ok(order)
    }

    /// Deals every tree that is not confirmed. A custodian that does not answer is asked again in the next round.
    async fn deal(&self) {
        let mut away = BTreeSet::new();
        for undealt in self.vault.custodian().undealt() {
            if away.contains(&undealt.to) {
                continue;
            }
            if let Err(error) = self.deal_one(&undealt).await {
                tracing::debug!(organization = %undealt.to, %error, "a custodian takes no tree now");
                away.insert(undealt.to);
            }
        }
    }

    async fn deal_one(&self, undealt: &Undealt) -> Result<()> {
        const WHAT: &str = "dealing a tree of pepper shares";
        let Undealt { custody, tree, to } = undealt;
        let custodian = self.vault.custodian();
        let holders = custodian.holders(undealt);
        let sealed = if holders.is_empty() {
            let nodes = custodian
                .dealt_nodes(custody.id, *tree)
                .ok_or_else(|| Error::internal(WHAT, "the tree is gone"))?;
            let public = self.public_key_of(*to).await?;
            seal_tree(&public, custody, *tree, *to, &nodes)?
        } else {
            self.ask_tree(undealt, holders).await?
        };
        let ask = Ask::Tree {
            custody: custody.clone(),
            tree: *tree,
            sealed: STANDARD.encode(sealed),
        };
        self.ask(self.organization, OrganizationId(*to), ask)
            .await?;
        custodian
            .confirm(custody.id, *tree, *to)
            .map_err(Error::vault(WHAT))?;
        tracing::info!(organization = %to, tree, "a custodian holds a tree of pepper shares");
        Ok(())
    }

    /// Keeps a tree that its owner, or who hands over for it, deals to an organisation of this node.
    pub(super) async fn take_tree(
        self: &Arc<Self>,
        asker: OrganizationId,
        asked: OrganizationId,
        custody: Custody,
        tree: u8,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "taking a tree of pepper shares";
        let conflict = |message: &str| Error::Conflict {
            message: message.to_owned(),
        };
        self.check_coordinates(asker, &custody)?;
        self.accept_custody(&custody).await?;
        let keys = self.vault.keys();
        let secret = keys
            .kem(asked.0)
            .map_err(Error::vault(WHAT))?
            .ok_or_else(|| Error::internal(WHAT, "the organisation has no key to open it with"))?;
        let sealed = STANDARD
            .decode(sealed)
            .map_err(|_| conflict("the tree is not base64"))?;
        let bound = bound(&custody, tree, asked.0);
        let nodes = hpke::open(&secret, INFO, &bound, &sealed)
            .map_err(|_| conflict("the tree does not open with this organisation's key"))?;
        self.read_blocking(WHAT, move |service| {
            let taken = service
                .vault
                .custodian()
                .take(&custody, tree, asked.0, &nodes);
            taken.map_err(|error| match error {
                stele_vault::Error::Malformed { .. } | stele_vault::Error::OutOfRange { .. } => {
                    Error::Conflict {
                        message: error.to_string(),
                    }
                }
                error => Error::vault(WHAT)(error),
            })
        })
        .await?;
        Ok(Zeroizing::new(b"{}".to_vec()))
    }

    /// Shares the peppers that this member kept alone before there were others, once.
    async fn share_anew(self: Arc<Self>) {
        let shared = tokio::task::spawn_blocking(move || self.vault.share_anew());
        match shared.await {
            Ok(Ok(0)) => {}
            Ok(Ok(versions)) => {
                tracing::info!(
                    versions,
                    "peppers that were kept alone are shared; their tree goes at the next start"
                );
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "peppers that were kept alone are shared after the next start");
            }
            Err(error) => tracing::error!(%error, "sharing peppers anew has panicked"),
        }
    }

    async fn end_period(self: &Arc<Self>) -> Result<()> {
        const WHAT: &str = "ending a period of peppers";
        self.read_blocking(WHAT, move |service| {
            let in_use = service.periods_in_use()?;
            let ended = service.vault.custodian().end_period(&in_use);
            ended.map_err(Error::vault(WHAT))
        })
        .await
    }

    /// Tells the other custodians of erased records until each has destroyed its shares.
    async fn tell_erasures(self: &Arc<Self>) -> Result<()> {
        const WHAT: &str = "telling custodians of erasures";
        let untold = self.vault.untold_erasures().map_err(Error::vault(WHAT))?;
        let mut by_custodian: BTreeMap<Address, Vec<ErasedPlace>> = BTreeMap::new();
        for (place, pending) in untold {
            for who in pending {
                by_custodian.entry(who).or_default().push(place);
            }
        }
        for (who, places) in by_custodian {
            for part in places.chunks(ERASED_MAX) {
                let ask = Ask::Erased {
                    places: part
                        .iter()
                        .map(|one| (one.record, one.custody, one.period))
                        .collect(),
                };
                match self.ask(self.organization, OrganizationId(who), ask).await {
                    Ok(_) => self
                        .vault
                        .told_erasures(part, who)
                        .await
                        .map_err(Error::vault(WHAT))?,
                    Err(error) => {
                        tracing::debug!(organization = %who, %error, "a custodian was not told of erasures");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Destroys shares of records that the owner of their custody has erased.
    pub(super) async fn destroy_shares(
        self: &Arc<Self>,
        asker: OrganizationId,
        places: &[(RecordId, B128, u32)],
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "destroying shares of peppers";
        if places.len() > ERASED_MAX {
            return Err(Error::Conflict {
                message: format!("at most {ERASED_MAX} erasures are told in one question"),
            });
        }
        let places: Vec<ErasedPlace> = places
            .iter()
            .map(|(record, custody, period)| ErasedPlace {
                record: *record,
                custody: *custody,
                period: *period,
            })
            .collect();
        self.read_blocking(WHAT, move |service| {
            let destroyed = service.vault.custodian().destroy_shares(asker.0, &places);
            destroyed.map_err(Error::vault(WHAT))
        })
        .await?;
        Ok(Zeroizing::new(b"{}".to_vec()))
    }
}

/// What a sealed tree is bound to: custody, tree, custodian.
fn bound(custody: &Custody, tree: u8, to: Address) -> Vec<u8> {
    [custody.id.as_slice(), &[tree], to.as_slice()].concat()
}

/// Seals a tree to one of its custodians.
pub(super) fn seal_tree(
    public: &KemPublic,
    custody: &Custody,
    tree: u8,
    to: Address,
    nodes: &[u8],
) -> Result<Vec<u8>> {
    let bound = bound(custody, tree, to);
    hpke::seal(public, INFO, &bound, nodes, &mut os_rng())
        .map_err(|error| Error::internal("dealing a tree of pepper shares", error))
}

pub(super) fn warn_of(done: Result<()>, what: &str) {
    if let Err(error) = done {
        tracing::warn!(%error, what, "work for the custody of peppers is tried again");
    }
}
