//! Peppers shared among custodians by threshold: replicated secret sharing on trees of destroyable keys.
//!
//! A *custody* names `n` custodians and a threshold `t`. Each subset of `n − t + 1` of them has a random tree of its own
//! (Ito, Saito, Nishizeki 1987), and a pepper is made of one leaf of every tree (pseudorandom secret sharing: Cramer,
//! Damgård, Ishai, TCC 2005):
//!
//! ```text
//! share i = HKDF(leaf of tree i at (period, record), "stele/pepper-share/v1", custody, i, log, slot, version)
//! check i = first 16 bytes of HKDF(share i, "stele/pepper-share-check/v1"), kept in the record's meta
//! pepper  = HKDF(share 0 ‖ … ‖ share m − 1, "stele/pepper/v2", custody, record, version)
//! ```
//!
//! Any `t` custodians meet every subset, so they hold every tree; of any `t − 1` there is a subset that they are not in.
//! A share is bound to log and slot: who names another log or slot than the record's gets a share of nothing, so a
//! custodian needs to know no record. Trees are dealt once, whole; nothing is dealt for a record.
//!
//! The owner of a custody writes with all its trees. Those of subsets that it is not in it keeps only as far as it still
//! needs them: until their custodians have confirmed them durably, and from then on for the periods to come
//! (`Custodies::forget`); what it wrote before it can no more open alone than anybody else.

mod succession;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use alloy_primitives::{Address, B128};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use stele_core::{
    crypto::{Secret32, kdf},
    id::{LogId, RecordId},
};
use zeroize::Zeroizing;

use crate::{
    custodian::Pepper,
    error::{Error, Result},
    shred::{ShredTree, replace_file},
};

pub use succession::replaced;

/// Most custodians of a pepper: five with a threshold of three have ten trees.
pub const CUSTODIANS_MAX: usize = 5;
/// Custodies of one owner that are kept at most: each is made anew only when the members change.
const CUSTODIES_MAX: usize = 64;
/// Periods whose trees the owner keeps for writing: the one under way, and the one before, for what is being sealed.
const KEPT_PERIODS: u8 = 2;
/// Bytes of a share's check.
pub(crate) const CHECK_LEN: usize = 16;
const WHAT: &str = "a custody";

/// Who keeps the peppers of some records, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Custody {
    /// Random.
    pub id: B128,
    /// The organisation that writes under it.
    pub owner: Address,
    /// Custodians that have to release before a pepper is known: 1 to their number.
    pub threshold: u8,
    /// Organisations, at most [`CUSTODIANS_MAX`], none twice.
    pub custodians: Vec<Address>,
}

impl Custody {
    /// Refuses what no vault makes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn check(&self) -> Result<()> {
        let problem = |problem| {
            Err(Error::Malformed {
                what: WHAT,
                problem,
            })
        };
        let count = self.custodians.len();
        if count == 0 || count > CUSTODIANS_MAX {
            return problem("it has none or too many custodians");
        }
        let threshold = usize::from(self.threshold);
        if threshold == 0 || threshold > count {
            return problem("its threshold is not between 1 and its custodians");
        }
        let mut sorted = self.custodians.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != count {
            return problem("it names a custodian twice");
        }
        Ok(())
    }

    /// The subsets that have a tree each, as bit sets over [`Self::custodians`], ascending.
    #[must_use]
    pub fn subsets(&self) -> Vec<u8> {
        let count = self.custodians.len().min(CUSTODIANS_MAX);
        let size = (count + 1).saturating_sub(usize::from(self.threshold));
        (0..1_u8 << count)
            .filter(|subset| subset.count_ones() as usize == size)
            .collect()
    }

    /// The trees that a custodian holds, as a bit set over [`Self::subsets`]; 0 for anybody else.
    #[must_use]
    pub fn held_by(&self, who: Address) -> u16 {
        let Some(place) = self.place_of(who) else {
            return 0;
        };
        let subsets = self.subsets();
        let held = subsets.iter().zip(0_u32..);
        held.filter(|(subset, _)| *subset >> place & 1 == 1)
            .fold(0, |all, (_, index)| all | 1 << index)
    }

    /// All trees, as a bit set.
    #[must_use]
    pub fn all_trees(&self) -> u16 {
        let count = self.subsets().len();
        (0..count).fold(0, |all, index| all | 1 << index)
    }

    pub(crate) fn place_of(&self, who: Address) -> Option<usize> {
        self.custodians.iter().position(|one| *one == who)
    }
}

/// Where the shares of a record version's pepper lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPepper {
    /// The custody.
    pub custody: B128,
    /// Period of its trees.
    pub period: u32,
    /// What tells a share from a wrong one, tree by tree.
    pub checks: Vec<[u8; CHECK_LEN]>,
    /// For a record that was sealed when one custodian kept its pepper: that pepper, XOR what the shares give. It says
    /// nothing to whoever has not both.
    pub mask: Option<[u8; 32]>,
}

impl SharedPepper {
    /// Of the shares of all trees, in order.
    #[must_use]
    pub fn new(custody: B128, period: u32, shares: &[Secret32]) -> Self {
        Self {
            custody,
            period,
            checks: shares.iter().map(check_of).collect(),
            mask: None,
        }
    }

    /// The same shares for a record that is sealed with another pepper.
    pub(crate) fn masked(mut self, shared: &Pepper, pepper: &Pepper) -> Self {
        let pairs = shared
            .secret()
            .expose()
            .iter()
            .zip(pepper.secret().expose());
        let mut mask = [0; 32];
        for (to, (one, other)) in mask.iter_mut().zip(pairs) {
            *to = one ^ other;
        }
        self.mask = Some(mask);
        self
    }

    /// Whether this is the share of a tree.
    #[must_use]
    pub fn is_share(&self, tree: u8, share: &Secret32) -> bool {
        self.checks.get(usize::from(tree)) == Some(&check_of(share))
    }

    /// The pepper of a record version from the shares of all trees, in order.
    #[must_use]
    pub fn pepper(&self, record: &RecordId, version: u32, shares: &[Secret32]) -> Pepper {
        let shared = combine(self.custody, record, version, shares);
        let Some(mask) = self.mask else {
            return shared;
        };
        let mut pepper = Zeroizing::new(*shared.secret().expose());
        for (byte, mask) in pepper.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        Pepper::new(Secret32::new(*pepper))
    }
}

/// A record version as its shares are derived.
#[derive(Clone, Copy, Debug)]
pub struct ShareOf<'a> {
    /// The log its leaf stands in.
    pub log: LogId,
    /// Its category slot.
    pub slot: u8,
    /// The record.
    pub record: &'a RecordId,
    /// Its version.
    pub version: u32,
}

/// A tree that one of its custodians has not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undealt {
    /// The custody.
    pub custody: Custody,
    /// Place of the tree among its subsets.
    pub tree: u8,
    /// The custodian.
    pub to: Address,
}

/// What a custody's file says beside the trees. Nothing in it is secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    custody: Custody,
    /// Whether this vault seals new records under it.
    writing: bool,
    /// Period that new records are sealed in.
    period: u32,
    /// Custodians that confirmed, tree by tree, as bit sets.
    confirmed: Vec<u8>,
    /// What has become of the peppers that this vault's custodian kept alone before.
    #[serde(default)]
    before: Before,
    /// Trees that this vault hands over once more, and to whom, until they are confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    handing: Vec<(u8, Address)>,
}

/// Peppers that were kept alone before they were shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Before {
    /// They are to be shared.
    #[default]
    Alone,
    /// All that were found have been; the next start makes sure.
    Shared,
    /// Their tree is destroyed.
    Gone,
}

impl State {
    /// Whether this vault founded it: its owner is the first to confirm. One that was learned or dealt is another's.
    fn is_own(&self) -> bool {
        self.confirmed.iter().any(|confirmed| *confirmed != 0)
    }
}

struct Kept {
    custody: Custody,
    state: Mutex<State>,
    trees: RwLock<Vec<Option<Arc<ShredTree>>>>,
    /// Periods that have still to end until what was sealed is in none of the last two.
    to_end: AtomicU8,
}

impl Kept {
    fn tree(&self, index: usize) -> Option<Arc<ShredTree>> {
        self.trees.read().get(index).cloned().flatten()
    }
}

/// All custodies that this vault has a part in, or knows of.
pub(crate) struct Custodies {
    folder: PathBuf,
    master: Secret32,
    kept: RwLock<BTreeMap<B128, Arc<Kept>>>,
    /// One change of the files at a time.
    changing: Mutex<()>,
}

impl Custodies {
    /// Opens what a folder holds; it need not exist.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] and [`Error::Crypto`] for files that this vault did not write.
    pub(crate) fn open(folder: &Path, master: Secret32) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("creating the folder", folder))?;
        let custodies = Self {
            folder: folder.to_owned(),
            master,
            kept: RwLock::default(),
            changing: Mutex::new(()),
        };
        let entries = fs::read_dir(folder).map_err(Error::io("listing", folder))?;
        for entry in entries {
            let path = entry.map_err(Error::io("listing", folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = fs::read(&path).map_err(Error::io("reading", &path))?;
            let state: State = serde_json::from_slice(&text).map_err(|_| Error::Malformed {
                what: WHAT,
                problem: "its file can't be read",
            })?;
            custodies.load(state)?;
        }
        Ok(custodies)
    }

    fn load(&self, state: State) -> Result<()> {
        state.custody.check()?;
        let id = state.custody.id;
        let trees = (0..state.custody.subsets().len()).map(|index| {
            let (path, at_rest) = self.tree_file(id, index);
            Ok(ShredTree::open_periods(&path, at_rest)?.map(Arc::new))
        });
        let kept = Kept {
            custody: state.custody.clone(),
            trees: RwLock::new(trees.collect::<Result<_>>()?),
            // A period may have been used before the last stop.
            to_end: AtomicU8::new(if state.writing { KEPT_PERIODS } else { 0 }),
            state: Mutex::new(state),
        };
        self.kept.write().insert(id, Arc::new(kept));
        Ok(())
    }

    fn tree_file(&self, id: B128, index: usize) -> (PathBuf, Secret32) {
        let name = format!("{id:x}-{index}.shred");
        let at_rest = kdf::derive(
            self.master.expose(),
            "stele/vault/custody/v1",
            &[name.as_bytes()],
        );
        (self.folder.join(name), at_rest)
    }

    fn write(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(|_| Error::Malformed {
            what: WHAT,
            problem: "it can't be written",
        })?;
        let path = self.folder.join(format!("{:x}.json", state.custody.id));
        replace_file(&path, &text)
    }

    fn find(&self, id: B128) -> Option<Arc<Kept>> {
        self.kept.read().get(&id).cloned()
    }

    fn all(&self) -> Vec<Arc<Kept>> {
        self.kept.read().values().cloned().collect()
    }

    fn writing(&self) -> Option<Arc<Kept>> {
        let kept = self.kept.read();
        let found = kept.values().find(|one| one.state.lock().writing);
        found.cloned()
    }

    /// A custody, if it is known here.
    pub(crate) fn custody(&self, id: B128) -> Option<Custody> {
        self.find(id).map(|kept| kept.custody.clone())
    }

    /// All custodies of an owner that are known here.
    pub(crate) fn of_owner(&self, owner: Address) -> Vec<Custody> {
        let all = self.all().into_iter();
        let custodies = all.map(|kept| kept.custody.clone());
        custodies.filter(|custody| custody.owner == owner).collect()
    }

    /// The custody that new records are sealed under; `None` where this vault's custodian is the only one.
    pub(crate) fn current(&self) -> Option<Custody> {
        self.writing().map(|kept| kept.custody.clone())
    }

    /// What has become of the peppers kept alone before; `None` where all still are.
    pub(crate) fn before(&self) -> Option<Before> {
        self.writing().map(|kept| kept.state.lock().before)
    }

    /// Notes it.
    pub(crate) fn set_before(&self, before: Before) -> Result<()> {
        let _one_at_a_time = self.changing.lock();
        let Some(kept) = self.writing() else {
            return Ok(());
        };
        let mut next = kept.state.lock().clone();
        next.before = before;
        self.write(&next)?;
        *kept.state.lock() = next;
        Ok(())
    }

    /// The custodians of all custodies that this vault founded.
    pub(crate) fn partners(&self) -> BTreeSet<Address> {
        let own = self
            .all()
            .into_iter()
            .filter(|kept| kept.state.lock().is_own());
        own.flat_map(|kept| kept.custody.custodians.clone())
            .collect()
    }

    /// Makes the trees of a new custody, and seals new records under it from now on. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a custody that is none; [`Error::Io`].
    pub(crate) fn found(&self, custody: Custody) -> Result<()> {
        custody.check()?;
        let _one_at_a_time = self.changing.lock();
        let subsets = custody.subsets();
        for index in 0..subsets.len() {
            let (path, at_rest) = self.tree_file(custody.id, index);
            ShredTree::create_periods(&path, at_rest)?;
        }
        let owner = custody.place_of(custody.owner);
        let own = owner.map_or(0, |place| 1_u8 << place);
        let state = State {
            confirmed: subsets.iter().map(|subset| subset & own).collect(),
            writing: true,
            period: 0,
            before: self.before().unwrap_or_default(),
            handing: Vec::new(),
            custody,
        };
        // On disk the one before ends first, so that a crash leaves none instead of two; in memory there is always one.
        let before = self.writing();
        if let Some(before) = &before {
            let mut ended = before.state.lock().clone();
            ended.writing = false;
            self.write(&ended)?;
        }
        self.write(&state)?;
        self.load(state)?;
        if let Some(before) = before {
            before.state.lock().writing = false;
        }
        Ok(())
    }

    /// Takes note of a custody whose records this node reads.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that is none, or another than is known under its id; [`Error::Io`].
    pub(crate) fn learn(&self, custody: &Custody) -> Result<()> {
        custody.check()?;
        let _one_at_a_time = self.changing.lock();
        self.learn_in_turn(custody)
    }

    fn learn_in_turn(&self, custody: &Custody) -> Result<()> {
        if let Some(known) = self.find(custody.id) {
            return if known.custody == *custody {
                Ok(())
            } else {
                Err(Error::Malformed {
                    what: WHAT,
                    problem: "another one has its id",
                })
            };
        }
        let of_owner = |kept: &&Arc<Kept>| kept.custody.owner == custody.owner;
        if self.kept.read().values().filter(of_owner).count() >= CUSTODIES_MAX {
            return Err(Error::OutOfRange {
                what: "the number of custodies of one organisation",
                limit: CUSTODIES_MAX as u64,
            });
        }
        let state = State {
            confirmed: vec![0; custody.subsets().len()],
            writing: false,
            period: 0,
            before: Before::Gone,
            handing: Vec::new(),
            custody: custody.clone(),
        };
        self.write(&state)?;
        self.load(state)
    }

    /// Keeps a tree that its owner deals to `own`, one of its custodians. One that is kept already stays as it is.
    /// Durable when it returns.
    ///
    /// # Errors
    /// As [`Self::learn`]; [`Error::Malformed`] for a tree of a subset that `own` is not in, or bytes that are none.
    pub(crate) fn take(
        &self,
        custody: &Custody,
        tree: u8,
        own: Address,
        nodes: &[u8],
    ) -> Result<()> {
        custody.check()?;
        if custody.held_by(own).checked_shr(tree.into()).unwrap_or(0) & 1 == 0 {
            return Err(Error::Malformed {
                what: WHAT,
                problem: "the tree is not for this custodian",
            });
        }
        let _one_at_a_time = self.changing.lock();
        self.learn_in_turn(custody)?;
        let index = usize::from(tree);
        let Some(kept) = self
            .find(custody.id)
            .filter(|kept| kept.tree(index).is_none())
        else {
            return Ok(());
        };
        let (path, at_rest) = self.tree_file(custody.id, index);
        let adopted = ShredTree::adopt_periods(&path, at_rest, nodes)?;
        if let Some(slot) = kept.trees.write().get_mut(index) {
            *slot = Some(Arc::new(adopted));
        }
        Ok(())
    }

    /// Trees that a custodian has not confirmed yet: of this vault's own custodies, and those it hands over.
    pub(crate) fn undealt(&self) -> Vec<Undealt> {
        let mut undealt = Vec::new();
        for kept in self.all() {
            let state = kept.state.lock();
            undealt.extend(state.handing.iter().map(|(tree, to)| Undealt {
                custody: kept.custody.clone(),
                tree: *tree,
                to: *to,
            }));
            if !state.is_own() {
                continue;
            }
            let subsets = kept.custody.subsets();
            for ((tree, subset), confirmed) in (0_u8..).zip(subsets).zip(&state.confirmed) {
                for (place, to) in kept.custody.custodians.iter().enumerate() {
                    if (subset & !confirmed) >> place & 1 == 1 {
                        undealt.push(Undealt {
                            custody: kept.custody.clone(),
                            tree,
                            to: *to,
                        });
                    }
                }
            }
        }
        undealt
    }

    /// A tree in the clear, to be sealed to a custodian. `None` if it is not here.
    pub(crate) fn nodes(&self, id: B128, tree: u8) -> Option<Zeroizing<Vec<u8>>> {
        Some(self.find(id)?.tree(tree.into())?.nodes())
    }

    /// Notes that a custodian keeps a tree durably.
    ///
    /// # Errors
    /// [`Error::Io`]; then it is dealt once more.
    pub(crate) fn confirm(&self, id: B128, tree: u8, by: Address) -> Result<()> {
        let _one_at_a_time = self.changing.lock();
        let Some(kept) = self.find(id) else {
            return Ok(());
        };
        let mut next = kept.state.lock().clone();
        next.handing.retain(|one| *one != (tree, by));
        let is_own = next.is_own();
        if let (true, Some(confirmed), Some(place)) = (
            is_own,
            next.confirmed.get_mut(usize::from(tree)),
            kept.custody.place_of(by),
        ) {
            *confirmed |= 1 << place;
        }
        self.write(&next)?;
        *kept.state.lock() = next;
        Ok(())
    }

    /// The pepper of a record version to be sealed now, and where its shares lie. `None` where this vault's custodian is
    /// the only one.
    ///
    /// # Errors
    /// [`Error::Erased`] if the record was erased in this very period.
    pub(crate) fn seal(&self, of: &ShareOf<'_>) -> Result<Option<(Pepper, SharedPepper)>> {
        let Some(kept) = self.writing() else {
            return Ok(None);
        };
        let period = kept.state.lock().period;
        kept.to_end.store(KEPT_PERIODS, Ordering::Relaxed);
        let trees = kept.trees.read().clone();
        let mut shares = Vec::with_capacity(trees.len());
        for (index, tree) in (0_u8..).zip(&trees) {
            let tree = tree.as_ref().ok_or(Error::Malformed {
                what: WHAT,
                problem: "a tree that records are sealed with is gone",
            })?;
            shares.push(share(tree, kept.custody.id, index, period, of)?);
        }
        let place = SharedPepper::new(kept.custody.id, period, &shares);
        let pepper = place.pepper(of.record, of.version, &shares);
        Ok(Some((pepper, place)))
    }

    /// The shares of a record version from those `wanted` trees that are here.
    ///
    /// # Errors
    /// [`Error::Erased`] if one of them was destroyed.
    pub(crate) fn shares(
        &self,
        id: B128,
        period: u32,
        wanted: u16,
        of: &ShareOf<'_>,
    ) -> Result<Vec<(u8, Secret32)>> {
        let Some(kept) = self.find(id) else {
            return Ok(Vec::new());
        };
        // What the owner still has of trees that are not its own is for writing; it opens nothing by itself where
        // these have been forgotten.
        let is_own = kept.state.lock().is_own();
        let held = if is_own {
            kept.custody.held_by(kept.custody.owner)
        } else {
            u16::MAX
        };
        let trees = kept.trees.read().clone();
        let mut shares = Vec::new();
        for (index, tree) in (0_u8..).zip(&trees) {
            let Some(tree) = tree.as_ref().filter(|_| wanted >> index & 1 == 1) else {
                continue;
            };
            match share(tree, id, index, period, of) {
                Ok(share) => shares.push((index, share)),
                Err(Error::Erased { .. }) if held >> index & 1 == 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(shares)
    }

    /// Destroys the shares of records in all trees that are here, durably.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again until it succeeds.
    pub(crate) fn destroy(&self, places: &[ErasedPlace]) -> Result<()> {
        let mut by_custody: BTreeMap<B128, Vec<(u32, [u8; 32])>> = BTreeMap::new();
        for place in places {
            let ids = by_custody.entry(place.custody).or_default();
            ids.push((place.period, place.record.0.0));
        }
        for (id, ids) in by_custody {
            let Some(kept) = self.find(id) else { continue };
            let trees = kept.trees.read().clone();
            for tree in trees.iter().flatten() {
                tree.puncture_in(&ids)?;
            }
        }
        Ok(())
    }

    /// Ends the period under way, if something was sealed in it or in the one before.
    ///
    /// # Errors
    /// [`Error::Io`]; then the period goes on.
    pub(crate) fn end_period(&self) -> Result<()> {
        let _one_at_a_time = self.changing.lock();
        let Some(kept) = self.writing() else {
            return Ok(());
        };
        let fewer = |left: u8| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if kept.to_end.fetch_update(order, order, fewer).is_err() {
            return Ok(());
        }
        let mut next = kept.state.lock().clone();
        next.period = next.period.saturating_add(1);
        let written = self.write(&next);
        if written.is_err() {
            kept.to_end.store(KEPT_PERIODS, order);
            return written;
        }
        *kept.state.lock() = next;
        Ok(())
    }

    /// Forgets what the owner of a custody need not have any longer of the trees of others: all periods but the one
    /// under way and the one before, all of a custody that nothing is written under any more; never what a custodian has
    /// not confirmed, and never a period that is `in_use`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again.
    pub(crate) fn forget(&self, in_use: &[(B128, u32)]) -> Result<()> {
        for kept in self.all() {
            let state = kept.state.lock().clone();
            if !state.is_own() {
                continue;
            }
            let id = kept.custody.id;
            let used = in_use.iter().filter(|one| one.0 == id).map(|one| one.1);
            let first = if state.writing {
                state.period.saturating_sub(u32::from(KEPT_PERIODS) - 1)
            } else {
                u32::MAX
            };
            let first = used.fold(first, u32::min);
            let held = kept.custody.held_by(kept.custody.owner);
            let subsets = kept.custody.subsets();
            for (index, (subset, confirmed)) in subsets.iter().zip(&state.confirmed).enumerate() {
                if held >> index & 1 == 1 || confirmed != subset {
                    continue;
                }
                if let Some(tree) = kept.tree(index) {
                    tree.forget_before(first)?;
                }
            }
        }
        Ok(())
    }
}

/// A record whose shares are destroyed, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErasedPlace {
    /// The record.
    pub record: RecordId,
    /// The custody.
    pub custody: B128,
    /// Period of its trees.
    pub period: u32,
}

fn share(
    tree: &ShredTree,
    custody: B128,
    index: u8,
    period: u32,
    of: &ShareOf<'_>,
) -> Result<Secret32> {
    let context: [&[u8]; 5] = [
        custody.as_slice(),
        &[index],
        of.log.as_slice(),
        &[of.slot],
        &of.version.to_be_bytes(),
    ];
    tree.key_in(period, &of.record.0.0, "stele/pepper-share/v1", &context)
        .ok_or(Error::Erased { record: *of.record })
}

fn check_of(share: &Secret32) -> [u8; CHECK_LEN] {
    let derived = kdf::derive(share.expose(), "stele/pepper-share-check/v1", &[]);
    derived.expose().first_chunk().copied().unwrap_or_default()
}

fn combine(custody: B128, record: &RecordId, version: u32, shares: &[Secret32]) -> Pepper {
    let mut all = Zeroizing::new(Vec::with_capacity(shares.len() * 32));
    for share in shares {
        all.extend_from_slice(share.expose());
    }
    let context: [&[u8]; 3] = [
        custody.as_slice(),
        record.as_bytes(),
        &version.to_be_bytes(),
    ];
    Pepper::new(kdf::derive(&all, "stele/pepper/v2", &context))
}

#[cfg(test)]
mod tests;
