//! A patient's key tree.
//!
//! ```text
//! category root = HKDF(root key, "stele/tree/v1", category, generation)
//! node          = SHA-256(bit ‖ parent)                      16 levels, most significant bit first
//! X-Wing seed   = HKDF(leaf, "stele/xwing/v1")
//! ```
//!
//! Epochs are months since January 1970, 0 to 65 535. On the ledger a category is shown as one of
//! 64 slots under a permutation that only the root key gives, so that a slot number tells nobody
//! which clinic it stands for.

use std::ops::RangeInclusive;

use rand_core::CryptoRng;
use stele_core::{
    consent::SLOTS,
    crypto::{Secret32, hpke::KemSecret, kdf},
    id::LogId,
};

use crate::{
    error::{Error, Result},
    ggm,
};

/// Levels of a category's tree.
pub const DEPTH: u32 = 16;

/// Where a record's key is sealed to. Public: it stands beside the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPlace {
    /// The patient's log, or an organisation's.
    pub log: LogId,
    /// Category slot, 0 to 63.
    pub slot: u8,
    /// Key generation of the category, from 0.
    pub generation: u32,
    /// Month of sealing, since January 1970.
    pub epoch: u16,
}

impl KeyPlace {
    /// Bytes of an encoded place.
    pub(crate) const LEN: usize = 27;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let fields = self
            .log
            .iter()
            .copied()
            .chain([self.slot])
            .chain(self.generation.to_be_bytes())
            .chain(self.epoch.to_be_bytes());
        for (to, from) in out.iter_mut().zip(fields) {
            *to = from;
        }
        out
    }

    pub(crate) fn no_key(&self) -> Error {
        Error::NoKey {
            log: self.log,
            slot: self.slot,
            generation: self.generation,
            epoch: self.epoch,
        }
    }
}

/// The secret all of a patient's record keys come from: 32 bytes, and 32 more where the patient took the account
/// over from an organisation that had managed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKey {
    secret: Secret32,
    own: Option<OwnRoot>,
}

/// A secret that no organisation ever had, and the first key generation that comes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoot {
    /// The secret. 32 bytes.
    pub secret: Secret32,
    /// First generation of every category that is derived from it.
    pub from_generation: u32,
}

impl RootKey {
    /// A new random root key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self::new(Secret32::random(rng))
    }

    /// Takes an existing root key.
    #[must_use]
    pub const fn new(secret: Secret32) -> Self {
        Self { secret, own: None }
    }

    /// This root key, with later generations derived from a secret of the patient's own: whoever managed the
    /// account before can open earlier records and no later one. Slots stay what they are.
    #[must_use]
    pub fn taken_over(self, own: OwnRoot) -> Self {
        Self {
            own: Some(own),
            ..self
        }
    }

    /// The secret, for wrapping it.
    #[must_use]
    pub const fn secret(&self) -> &Secret32 {
        &self.secret
    }

    /// The patient's own secret, where the account was taken over.
    #[must_use]
    pub const fn own(&self) -> Option<&OwnRoot> {
        self.own.as_ref()
    }

    /// The slot a category is shown as on the ledger.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a category of 64 or more.
    pub fn slot_of(&self, category: u8) -> Result<u8> {
        self.permutation()
            .get(usize::from(category))
            .copied()
            .ok_or(out_of_range())
    }

    /// The category a slot stands for.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a slot of 64 or more.
    pub fn category_of(&self, slot: u8) -> Result<u8> {
        self.permutation()
            .iter()
            .zip(0..)
            .find(|(shown, _)| **shown == slot)
            .map(|(_, category)| category)
            .ok_or(out_of_range())
    }

    /// The key tree of one category and generation.
    #[must_use]
    pub fn category(&self, category: u8, generation: u32) -> CategoryTree {
        let context: [&[u8]; 2] = [&[category], &generation.to_be_bytes()];
        let secret = match &self.own {
            Some(own) if generation >= own.from_generation => &own.secret,
            _ => &self.secret,
        };
        CategoryTree(kdf::derive(secret.expose(), "stele/tree/v1", &context))
    }

    /// Fisher and Yates' shuffle, fed with bytes derived from the root key; a byte that would bias
    /// the choice is skipped.
    fn permutation(&self) -> [u8; SLOTS as usize] {
        let mut slots = [0; SLOTS as usize];
        for (to, from) in slots.iter_mut().zip(0..) {
            *to = from;
        }
        let mut bytes = (0u32..).flat_map(|block| {
            *kdf::derive(
                self.secret.expose(),
                "stele/slots/v1",
                &[&block.to_be_bytes()],
            )
            .expose()
        });
        for last in (1..slots.len()).rev() {
            let choices = last + 1;
            let fair = 256 - 256 % choices;
            let choice = bytes.by_ref().map(usize::from).find(|byte| *byte < fair);
            slots.swap(last, choice.unwrap_or_default() % choices);
        }
        slots
    }
}

/// The root of one category's tree in one generation.
#[derive(Clone, Debug)]
pub struct CategoryTree(Secret32);

impl CategoryTree {
    /// The X-Wing key of one epoch.
    ///
    /// # Errors
    /// [`Error::Crypto`] never on valid input.
    pub fn leaf(&self, epoch: u16) -> Result<KemSecret> {
        kem_secret(&ggm::descend(&self.0, u128::from(epoch), DEPTH))
    }

    /// Seeds of the fewest nodes that cover the epochs and no other, in order; at most 30.
    #[must_use]
    pub fn cover(&self, epochs: RangeInclusive<u16>) -> Vec<Secret32> {
        cover_nodes(&epochs)
            .into_iter()
            .map(|(depth, index)| ggm::descend(&self.0, u128::from(index), depth))
            .collect()
    }
}

/// The key of `epoch` from the seeds [`CategoryTree::cover`] gave for `epochs`. `None` if the epoch
/// is not covered.
pub(crate) fn covered_leaf(
    seeds: &[Secret32],
    epochs: &RangeInclusive<u16>,
    epoch: u16,
) -> Result<Option<KemSecret>> {
    let nodes = cover_nodes(epochs);
    let found = nodes.iter().zip(seeds).find(|((depth, index), _)| {
        u32::from(epoch).checked_shr(DEPTH - depth).unwrap_or(0) == *index
    });
    let Some(((depth, _), seed)) = found else {
        return Ok(None);
    };
    let below = DEPTH - depth;
    let path = u128::from(epoch) & ((1u128 << below) - 1);
    kem_secret(&ggm::descend(seed, path, below)).map(Some)
}

/// Depth and index of the fewest nodes covering a range of leaves. They follow from the range, so
/// a grant need not say them.
pub(crate) fn cover_nodes(epochs: &RangeInclusive<u16>) -> Vec<(u32, u32)> {
    let (mut next, end) = (u32::from(*epochs.start()), u32::from(*epochs.end()));
    let mut out = Vec::new();
    while next <= end {
        // The largest aligned block that starts here and does not reach past the end.
        let mut below = next.trailing_zeros().min(DEPTH);
        while next + (1 << below) - 1 > end {
            below -= 1;
        }
        out.push((DEPTH - below, next >> below));
        next += 1 << below;
    }
    out
}

fn kem_secret(leaf: &Secret32) -> Result<KemSecret> {
    KemSecret::from_seed(&kdf::derive(leaf.expose(), "stele/xwing/v1", &[]))
        .map_err(Error::crypto("deriving an X-Wing key"))
}

const fn out_of_range() -> Error {
    Error::OutOfRange {
        what: "a category or slot",
        limit: SLOTS as u64 - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(byte: u8) -> RootKey {
        RootKey::new(Secret32::new([byte; 32]))
    }

    #[test]
    fn slots_are_a_permutation_that_differs_between_patients() {
        let mut slots: Vec<u8> = (0..64).map(|c| root(1).slot_of(c).unwrap()).collect();
        assert!((0..64).all(|c| root(1).category_of(root(1).slot_of(c).unwrap()).unwrap() == c));
        assert_ne!(
            slots,
            (0..64)
                .map(|c| root(2).slot_of(c).unwrap())
                .collect::<Vec<_>>()
        );
        slots.sort_unstable();
        assert_eq!(slots, (0..64).collect::<Vec<u8>>());
        assert!(root(1).slot_of(64).is_err());
        assert!(root(1).category_of(64).is_err());
    }

    #[test]
    fn categories_generations_and_epochs_have_keys_of_their_own() {
        let key = |category, generation, epoch| {
            root(1)
                .category(category, generation)
                .leaf(epoch)
                .unwrap()
                .seed()
        };
        assert_eq!(key(1, 0, 650), key(1, 0, 650));
        for other in [key(2, 0, 650), key(1, 1, 650), key(1, 0, 651)] {
            assert_ne!(key(1, 0, 650), other);
        }
    }

    #[test]
    fn after_a_takeover_only_later_generations_change() {
        let own = OwnRoot {
            secret: Secret32::new([9; 32]),
            from_generation: 2,
        };
        let taken = root(1).taken_over(own);
        let key =
            |root: &RootKey, generation| root.category(4, generation).leaf(650).unwrap().seed();
        assert_eq!(taken.slot_of(4).unwrap(), root(1).slot_of(4).unwrap());
        assert_eq!(key(&taken, 1), key(&root(1), 1));
        assert_ne!(key(&taken, 2), key(&root(1), 2));
        assert_eq!(key(&taken, 2), key(&root(9), 2));
    }

    proptest! {
        #[test]
        fn a_cover_opens_its_epochs_and_no_other(start: u16, length in 0u16..2000, probe: u16) {
            let epochs = start..=start.saturating_add(length);
            let tree = root(3).category(7, 2);
            let seeds = tree.cover(epochs.clone());
            prop_assert!(seeds.len() <= 30);
            for epoch in [*epochs.start(), *epochs.end(), probe] {
                let found = covered_leaf(&seeds, &epochs, epoch).unwrap();
                let expected = epochs.contains(&epoch).then(|| tree.leaf(epoch).unwrap().seed());
                prop_assert_eq!(found.map(|key| key.seed()), expected);
            }
        }

        #[test]
        fn covers_are_exact(a: u16, b: u16) {
            let epochs = a.min(b)..=a.max(b);
            let mut next = u32::from(*epochs.start());
            for (depth, index) in cover_nodes(&epochs) {
                prop_assert_eq!(index << (DEPTH - depth), next);
                next += 1 << (DEPTH - depth);
            }
            prop_assert_eq!(next, u32::from(*epochs.end()) + 1);
            prop_assert!(cover_nodes(&epochs).len() <= 30);
        }
    }
}
