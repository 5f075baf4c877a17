//! What becomes of the shares that a custodian held which is gone, and of one that was made from a backup.
//!
//! A custodian that is no active member any more is replaced by the next member in the order of accounts, in the
//! custodies of the past as well. One member coordinates: the owner of the custody, or where that is the one that is gone,
//! the first custodian that acts. What it holds itself it deals; what it does not, another holder seals to the successor,
//! and the coordinator carries it. Everything is repeated until it is confirmed, over any number of restarts.
//!
//! A custodian that was made from a backup asks every member to deal it again what it should hold, and to tell it again of
//! what was erased.

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::{Address, B128};
use stele_core::id::OrganizationId;
use stele_vault::custody::{Custody, Undealt, replaced};
use zeroize::Zeroizing;

use super::{
    Ask,
    custody::{seal_tree, warn_of},
};
use crate::{
    Service,
    error::{Error, Result},
};

impl Service {
    /// Puts successors in the places of custodians that are no active members any more, where this member coordinates,
    /// and asks the coordinator where another does.
    pub(super) async fn appoint_successors(self: &Arc<Self>) -> Result<()> {
        const WHAT: &str = "appointing the successor of a custodian";
        let standing = self.vault.custodian().standing();
        if standing.is_empty() {
            return Ok(());
        }
        let active = self.active_members()?;
        for custody in standing {
            if custody.custodians.iter().all(|one| active.contains(one)) {
                continue;
            }
            match coordinator(&custody, &active) {
                Some(who) if who == self.organization.0 => {
                    let next = with_successors(&custody, &active);
                    if next != custody {
                        let appointed = next.clone();
                        self.read_blocking(WHAT, move |service| {
                            let done = service.vault.custodian().succeed(&appointed, true);
                            done.map_err(Error::vault(WHAT))
                        })
                        .await?;
                        tell_of(&custody, &next);
                    }
                }
                Some(who) => warn_of(
                    self.follow_custody(who, &custody).await,
                    "who has taken a custodian's place is asked",
                ),
                None => {}
            }
        }
        Ok(())
    }

    /// Takes over who stands in the places of a custody by its coordinator's word.
    async fn follow_custody(self: &Arc<Self>, who: Address, custody: &Custody) -> Result<()> {
        let asked = Ask::Custody { id: custody.id };
        let answer = self
            .ask(self.organization, OrganizationId(who), asked)
            .await?;
        let next: Custody = serde_json::from_slice(&answer).map_err(|_| Error::Member {
            message: format!("the custody that organisation {who} gives can't be read"),
        })?;
        if next.id != custody.id {
            return Err(conflict("another custody was asked for"));
        }
        self.accept_custody(&next).await
    }

    /// Says who the custodians of a custody are.
    pub(super) fn give_custody(&self, id: B128) -> Result<Zeroizing<Vec<u8>>> {
        let custody = self.vault.custodian().custody(id);
        let custody = custody.ok_or_else(|| Error::not_found("custody", &id.to_string()))?;
        serde_json::to_vec(&custody)
            .map(Zeroizing::new)
            .map_err(|error| Error::internal("giving a custody", error))
    }

    /// Takes note of a custody as another member gives it. Who is replaced in one that is known must be no active member
    /// any more, and whoever is new must be one; an older version of it is passed over.
    ///
    /// # Errors
    /// [`Error::Conflict`] for what is not so.
    pub(super) async fn accept_custody(self: &Arc<Self>, custody: &Custody) -> Result<()> {
        const WHAT: &str = "taking note of a custody";
        if let Some(known) = self.vault.custodian().custody(custody.id) {
            let replaced = replaced(&known, custody)
                .ok_or_else(|| conflict("another custody has the id of this one"))?;
            if replaced.is_empty() {
                return Ok(());
            }
            let active = self.active_members()?;
            if replaced.iter().all(|(_, new)| !active.contains(new)) {
                return Ok(());
            }
            let is_right =
                |(old, new): &(Address, Address)| !active.contains(old) && active.contains(new);
            if !replaced.iter().all(is_right) {
                return Err(conflict(
                    "a custodian is replaced only once it is no active member any more, and by one that is",
                ));
            }
        }
        let custody = custody.clone();
        self.read_blocking(WHAT, move |service| {
            let taken = service.vault.custodian().succeed(&custody, false);
            taken.map_err(|error| match error {
                stele_vault::Error::Malformed { .. } | stele_vault::Error::OutOfRange { .. } => {
                    conflict(&error.to_string())
                }
                error => Error::vault(WHAT)(error),
            })
        })
        .await
    }

    /// Whether a member may hand over trees of a custody: its owner, or, where that is gone, a custodian that acts.
    pub(super) fn check_coordinates(&self, asker: OrganizationId, custody: &Custody) -> Result<()> {
        if custody.owner == asker.0 {
            return Ok(());
        }
        let is_gone = !self.is_member(OrganizationId(custody.owner))?;
        if is_gone && custody.custodians.contains(&asker.0) {
            return Ok(());
        }
        Err(conflict(
            "a custody's trees are dealt by its owner, or by a custodian once the owner is gone",
        ))
    }

    /// A tree sealed to its successor by whoever else holds it.
    pub(super) async fn ask_tree(
        &self,
        undealt: &Undealt,
        holders: Vec<Address>,
    ) -> Result<Vec<u8>> {
        let mut failed = conflict("nobody is left who holds the tree");
        for holder in holders {
            if !self.is_member(OrganizationId(holder))? {
                continue;
            }
            let asked = Ask::Pass {
                custody: undealt.custody.clone(),
                tree: undealt.tree,
                to: undealt.to,
            };
            match self
                .ask(self.organization, OrganizationId(holder), asked)
                .await
            {
                Ok(sealed) => return Ok(sealed.to_vec()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Seals a tree that is here to another of its custodians, for the coordinator to carry.
    pub(super) async fn pass_tree(
        self: &Arc<Self>,
        asker: OrganizationId,
        custody: &Custody,
        tree: u8,
        to: Address,
    ) -> Result<Zeroizing<Vec<u8>>> {
        if self.vault.custodian().custody(custody.id).is_none() {
            return Err(Error::not_found("custody", &custody.id.to_string()));
        }
        self.check_coordinates(asker, custody)?;
        self.accept_custody(custody).await?;
        let known = self.vault.custodian().custody(custody.id);
        let held = known.map_or(0, |known| known.held_by(to));
        if held.checked_shr(tree.into()).unwrap_or(0) & 1 == 0
            || !self.is_member(OrganizationId(to))?
        {
            return Err(conflict("the tree is not for this custodian"));
        }
        let nodes = self.vault.custodian().dealt_nodes(custody.id, tree);
        let nodes = nodes.ok_or_else(|| Error::not_found("tree", &tree.to_string()))?;
        let public = self.public_key_of(to).await?;
        let sealed = seal_tree(&public, custody, tree, to, &nodes)?;
        tracing::info!(organization = %to, tree, "a tree of pepper shares is handed on to another custodian");
        Ok(Zeroizing::new(sealed))
    }

    /// Notes that this member was made from a backup, so that every other one is asked what it dealt here and erased
    /// since. Durable when it returns.
    ///
    /// # Errors
    /// The vault or the ledger fails.
    pub async fn ask_again(self: &Arc<Self>) -> Result<()> {
        const WHAT: &str = "noting whom to ask again";
        self.read_blocking(WHAT, |service| {
            let mut members = service.active_members()?;
            members.remove(&service.organization.0);
            let noted = service.vault.custodian().ask_again(&members);
            noted.map_err(Error::vault(WHAT))
        })
        .await
    }

    /// Asks those that were noted by [`Self::ask_again`] and have not answered yet.
    pub(super) async fn go_on_asking(&self) -> Result<()> {
        const WHAT: &str = "asking what was dealt and erased";
        let custodian = self.vault.custodian();
        let mut members = custodian.asking().map_err(Error::vault(WHAT))?;
        for who in members.clone() {
            let is_gone = !self.is_member(OrganizationId(who))?;
            let asked = || self.ask(self.organization, OrganizationId(who), Ask::Again {});
            if is_gone || asked().await.is_ok() {
                members.remove(&who);
                custodian.ask_again(&members).map_err(Error::vault(WHAT))?;
            }
        }
        Ok(())
    }

    /// A custodian was made from a backup: it is dealt all it should hold, and told of all that was erased.
    pub(super) async fn begin_again(
        self: &Arc<Self>,
        asker: OrganizationId,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "dealing to a custodian again";
        self.vault
            .tell_again(asker.0)
            .await
            .map_err(Error::vault(WHAT))?;
        self.read_blocking(WHAT, move |service| {
            let noted = service.vault.custodian().deal_again(asker.0);
            noted.map_err(Error::vault(WHAT))
        })
        .await?;
        tracing::info!(organization = %asker, "a custodian made from a backup is dealt its trees again, and told of erasures");
        Ok(Zeroizing::new(b"{}".to_vec()))
    }
}

/// Who hands over in a custody: its owner, or the first custodian that acts.
fn coordinator(custody: &Custody, active: &BTreeSet<Address>) -> Option<Address> {
    let candidates = [custody.owner];
    let candidates = candidates.iter().chain(&custody.custodians);
    candidates.copied().find(|one| active.contains(one))
}

/// The custody with the next member, in the order of accounts, in each place of one that does not act. A place for which
/// nobody is left stays as it is.
fn with_successors(custody: &Custody, active: &BTreeSet<Address>) -> Custody {
    let mut next = custody.clone();
    for leaver in custody.custodians.iter().copied() {
        if active.contains(&leaver) {
            continue;
        }
        let mut order = active.range(leaver..).chain(active.range(..leaver));
        let successor = order.find(|one| !next.custodians.contains(*one)).copied();
        let place = next.custodians.iter_mut().find(|one| **one == leaver);
        if let (Some(place), Some(successor)) = (place, successor) {
            *place = successor;
        }
    }
    next
}

fn tell_of(custody: &Custody, next: &Custody) {
    for (leaver, successor) in replaced(custody, next).unwrap_or_default() {
        tracing::info!(
            organization = %leaver,
            %successor,
            "a custodian that is no active member any more has a successor for older records"
        );
    }
}

fn conflict(message: &str) -> Error {
    Error::Conflict {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    fn custody(custodians: [u8; 3]) -> Custody {
        Custody {
            id: B128::repeat_byte(9),
            owner: account(custodians[0]),
            threshold: 2,
            custodians: custodians.map(account).to_vec(),
        }
    }

    #[test]
    fn the_next_member_takes_the_place_of_one_that_is_gone() {
        let members = |list: &[u8]| list.iter().copied().map(account).collect::<BTreeSet<_>>();
        let of = custody([1, 3, 5]);
        let check = |active: &[u8], expected: [u8; 3]| {
            let next = with_successors(&of, &members(active));
            assert_eq!(next.custodians, custody(expected).custodians);
            assert_eq!((next.id, next.owner), (of.id, of.owner));
        };
        check(&[1, 3, 5, 7], [1, 3, 5]);
        check(&[1, 2, 5, 7], [1, 7, 5]);
        check(&[1, 2, 3], [1, 3, 2]);
        check(&[3, 5, 7, 8], [7, 3, 5]);
        check(&[1, 7, 8], [1, 7, 8]);
        check(&[1, 5], [1, 3, 5]);
        assert_eq!(coordinator(&of, &members(&[1, 3, 5])), Some(account(1)));
        assert_eq!(coordinator(&of, &members(&[5, 3])), Some(account(3)));
        assert_eq!(coordinator(&of, &members(&[2])), None);
    }
}
