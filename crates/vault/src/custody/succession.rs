//! Who takes the place of a custodian that is gone, and what a custodian lacks that was made from a backup: the trees it
//! should hold are handed over once more, by whoever has them.
//!
//! A successor stands in the place of the one before, so subsets, trees and checks stay as they are, and every record
//! of the custody opens with its share. Whoever hands over remembers it until the successor has confirmed.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use alloy_primitives::Address;
use parking_lot::{Mutex, RwLock};

use super::{Custodies, Custody, Kept, State, Undealt, WHAT};
use crate::{
    error::{Error, Result},
    shred::replace_file,
};

/// File that lists the members which still have to be asked what was dealt and erased since the backup.
const ASKING: &str = "asking";

/// The places of a custody that name somebody else in another version of it: who, and who instead. `None` if it is not
/// the same custody.
#[must_use]
pub fn replaced(known: &Custody, other: &Custody) -> Option<Vec<(Address, Address)>> {
    let is_same = known.id == other.id
        && known.owner == other.owner
        && known.threshold == other.threshold
        && known.custodians.len() == other.custodians.len();
    let pairs = known.custodians.iter().zip(&other.custodians);
    let differ = pairs.filter(|(one, other)| one != other);
    is_same.then(|| differ.map(|(one, other)| (*one, *other)).collect())
}

impl Custodies {
    /// All custodies that are known here and that nothing is written under any more, or by another member.
    pub(crate) fn standing(&self) -> Vec<Custody> {
        let all = self.all().into_iter();
        let others = all.filter(|kept| !kept.state.lock().writing);
        others.map(|kept| kept.custody.clone()).collect()
    }

    /// Takes over who stands in the places of a custody. `hands_over` remembers every tree of a new one until it has
    /// confirmed it. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that is none, another than is known under its id, or the one under which records are
    /// being sealed; [`Error::Io`].
    pub(crate) fn succeed(&self, custody: &Custody, hands_over: bool) -> Result<()> {
        custody.check()?;
        let malformed = |problem| Error::Malformed {
            what: WHAT,
            problem,
        };
        let _one_at_a_time = self.changing.lock();
        let Some(kept) = self.find(custody.id) else {
            return self.learn_in_turn(custody);
        };
        let replaced =
            replaced(&kept.custody, custody).ok_or_else(|| malformed("another one has its id"))?;
        if replaced.is_empty() {
            return Ok(());
        }
        let mut next = kept.state.lock().clone();
        if next.writing {
            return Err(malformed("records are being sealed under it"));
        }
        if hands_over {
            for (_, new) in &replaced {
                next.hand_over(custody, *new);
            }
        }
        next.custody = custody.clone();
        self.write(&next)?;
        let successor = Kept {
            custody: custody.clone(),
            state: Mutex::new(next),
            trees: RwLock::new(kept.trees.read().clone()),
            to_end: AtomicU8::new(kept.to_end.load(Ordering::Relaxed)),
        };
        self.kept.write().insert(custody.id, Arc::new(successor));
        Ok(())
    }

    /// Remembers to deal a custodian once more all it should hold of this vault's own custodies.
    ///
    /// # Errors
    /// [`Error::Io`]; to be called again.
    pub(crate) fn deal_again(&self, to: Address) -> Result<()> {
        let _one_at_a_time = self.changing.lock();
        for kept in self.all() {
            let mut next = kept.state.lock().clone();
            if !next.is_own() || kept.custody.owner == to {
                continue;
            }
            let before = next.handing.len();
            next.hand_over(&kept.custody, to);
            if next.handing.len() != before {
                self.write(&next)?;
                *kept.state.lock() = next;
            }
        }
        Ok(())
    }

    /// Who else can give a tree that is to be dealt; empty if it is here as whole as anywhere.
    pub(crate) fn holders(&self, undealt: &Undealt) -> Vec<Address> {
        let Some(kept) = self.find(undealt.custody.id) else {
            return Vec::new();
        };
        let state = kept.state.lock();
        let index = usize::from(undealt.tree);
        let custody = &kept.custody;
        let subset = custody.subsets().get(index).copied().unwrap_or(0);
        let held = custody
            .held_by(custody.owner)
            .checked_shr(undealt.tree.into());
        // The owner forgets a tree that is not its own once all of its custodians have confirmed.
        let may_be_forgotten = state.is_own()
            && held.unwrap_or(0) & 1 == 0
            && state.confirmed.get(index) == Some(&subset);
        if kept.tree(index).is_some() && !may_be_forgotten {
            return Vec::new();
        }
        let members = (0..).zip(&custody.custodians);
        let others = members.filter(|(place, who)| subset >> place & 1 == 1 && **who != undealt.to);
        others.map(|(_, who)| *who).collect()
    }

    /// Destroys every tree of a custody that this vault did not found. Gives how many. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again.
    pub(crate) fn destroy_others(&self) -> Result<usize> {
        let _one_at_a_time = self.changing.lock();
        let mut destroyed = 0;
        for kept in self.all() {
            if kept.state.lock().is_own() {
                continue;
            }
            for (index, slot) in kept.trees.write().iter_mut().enumerate() {
                let Some(tree) = slot.take() else { continue };
                // Whoever still has it open finds nothing in it.
                tree.renew()?;
                let (path, _) = self.tree_file(kept.custody.id, index);
                fs::remove_file(&path).map_err(Error::io("removing", &path))?;
                destroyed += 1;
            }
        }
        Ok(destroyed)
    }

    /// Notes who has to be asked what was dealt and erased since the backup that this vault was made from.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn ask_again(&self, members: &BTreeSet<Address>) -> Result<()> {
        let text = serde_json::to_vec(members).map_err(|_| Error::Malformed {
            what: "the list of members to be asked",
            problem: "it can't be written",
        })?;
        replace_file(&self.folder.join(ASKING), &text)
    }

    /// Those of them that have not answered yet.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`].
    pub(crate) fn asking(&self) -> Result<BTreeSet<Address>> {
        let path = self.folder.join(ASKING);
        if !path.exists() {
            return Ok(BTreeSet::new());
        }
        let text = fs::read(&path).map_err(Error::io("reading", &path))?;
        serde_json::from_slice(&text).map_err(|_| Error::Malformed {
            what: "the list of members to be asked",
            problem: "it can't be read",
        })
    }
}

impl State {
    /// Notes every tree that a custodian should hold and has, or had, confirmed.
    fn hand_over(&mut self, custody: &Custody, to: Address) {
        let held = custody.held_by(to);
        let place = custody.place_of(to).unwrap_or_default();
        let is_own = self.is_own();
        for (tree, confirmed) in (0_u8..).zip(&self.confirmed) {
            // A tree of this vault's own that was never confirmed for this place is undealt anyway.
            let is_waiting = is_own && confirmed >> place & 1 == 0;
            let is_its = held.checked_shr(tree.into()).unwrap_or(0) & 1 == 1;
            if is_its && !is_waiting && !self.handing.contains(&(tree, to)) {
                self.handing.push((tree, to));
            }
        }
    }
}
