//! A patient's directory of public keys: what others need to write, published off chain.
//!
//! One directory covers some categories of one log, from a first month on, usually 24 months ahead;
//! after its last month the last key serves. Its root is a commitment for the ledger. Handing a
//! directory to a writer tells the writer which slot a category has, and nobody else.

use alloy_primitives::B256;
use stele_core::{crypto::hpke::KemPublic, crypto::hpke::PUBLIC_LEN, id::LogId};

use super::tree::{KeyPlace, RootKey};
use crate::{
    cid::sha256,
    codec::Reader,
    error::{Error, Result},
};

/// Months published ahead.
pub const MONTHS_AHEAD: u16 = 24;
const VERSION: u8 = 1;
const WHAT: &str = "a directory of public keys";

/// Public keys of one category.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    category: u8,
    slot: u8,
    generation: u32,
    /// X-Wing public keys, one a month.
    keys: Vec<Vec<u8>>,
}

/// Public keys of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    log: LogId,
    first_epoch: u16,
    entries: Vec<Entry>,
}

impl Directory {
    /// Derives the public keys of some categories (each with its generation) from a root key.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a category of 64 or more.
    pub fn derive(
        root: &RootKey,
        log: LogId,
        categories: &[(u8, u32)],
        first_epoch: u16,
        months: u16,
    ) -> Result<Self> {
        let mut entries = categories
            .iter()
            .map(|&(category, generation)| {
                let tree = root.category(category, generation);
                let last = first_epoch.saturating_add(months.max(1) - 1);
                let keys = (first_epoch..=last)
                    .map(|epoch| Ok(tree.leaf(epoch)?.public().to_bytes()))
                    .collect::<Result<_>>()?;
                Ok(Entry {
                    category,
                    slot: root.slot_of(category)?,
                    generation,
                    keys,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        entries.sort_by_key(|entry| entry.slot);
        Ok(Self {
            log,
            first_epoch,
            entries,
        })
    }

    /// The categories of `newer` in place of this directory's own, and those of this one that it lacks. Only `newer` where
    /// the two are of different logs or begin at different months.
    #[must_use]
    pub fn renewed(self, newer: Self) -> Self {
        if (self.log, self.first_epoch) != (newer.log, newer.first_epoch) {
            return newer;
        }
        let mut entries = newer.entries;
        let kept = self.entries.into_iter();
        let kept: Vec<Entry> = kept
            .filter(|old| entries.iter().all(|new| new.category != old.category))
            .collect();
        entries.extend(kept);
        entries.sort_by_key(|entry| entry.slot);
        Self { entries, ..newer }
    }

    /// The log it is for.
    #[must_use]
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// The key generation that new records of a category are sealed to; `None` if the category is not in it.
    #[must_use]
    pub fn generation(&self, category: u8) -> Option<u32> {
        self.entries
            .iter()
            .find(|entry| entry.category == category)
            .map(|entry| entry.generation)
    }

    /// The slot that a category is shown as on the ledger; `None` if the category is not in it.
    #[must_use]
    pub fn slot_of(&self, category: u8) -> Option<u8> {
        self.entries
            .iter()
            .find(|entry| entry.category == category)
            .map(|entry| entry.slot)
    }

    /// The key to write a category with in a month: that month's, or the nearest published one.
    ///
    /// # Errors
    /// [`Error::UnknownLog`] if the category is not in the directory.
    pub fn writing_key(&self, category: u8, epoch: u16) -> Result<(KeyPlace, KemPublic)> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.category == category)
            .ok_or(Error::UnknownLog { log: self.log })?;
        let last = u16::try_from(entry.keys.len().saturating_sub(1)).unwrap_or(u16::MAX);
        let index = epoch.saturating_sub(self.first_epoch).min(last);
        let key = entry
            .keys
            .get(usize::from(index))
            .ok_or(Error::UnknownLog { log: self.log })?;
        let place = KeyPlace {
            log: self.log,
            slot: entry.slot,
            generation: entry.generation,
            epoch: self.first_epoch.saturating_add(index),
        };
        let public = KemPublic::from_bytes(key).map_err(Error::crypto("reading a public key"))?;
        Ok((place, public))
    }

    /// Commitment to the directory: SHA-256 over log, first month and the digest of every slot.
    #[must_use]
    pub fn root(&self) -> B256 {
        let mut bytes = b"stele/directory/v1".to_vec();
        bytes.extend_from_slice(self.log.as_slice());
        bytes.extend_from_slice(&self.first_epoch.to_be_bytes());
        for entry in &self.entries {
            bytes.push(entry.slot);
            bytes.extend_from_slice(&entry.generation.to_be_bytes());
            bytes.extend_from_slice(&sha256(&entry.keys.concat()));
        }
        B256::new(sha256(&bytes))
    }

    /// The directory as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.log.as_slice());
        out.extend_from_slice(&self.first_epoch.to_be_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&[entry.category, entry.slot]);
            out.extend_from_slice(&entry.generation.to_be_bytes());
            crate::codec::put_bytes(&mut out, &entry.keys.concat());
        }
        out
    }

    /// Reads a directory from all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it has not the shape of one.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.u8()? != VERSION {
            return Err(reader.error("its version is unknown"));
        }
        let (log, first_epoch) = (LogId::new(reader.array()?), reader.u16()?);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            let (category, slot, generation) = (reader.u8()?, reader.u8()?, reader.u32()?);
            let (keys, left) = reader.bytes()?.as_chunks::<PUBLIC_LEN>();
            if keys.is_empty() || !left.is_empty() {
                return Err(reader.error("a category has no whole keys"));
            }
            let keys = keys.iter().map(|key| key.to_vec()).collect();
            entries.push(Entry {
                category,
                slot,
                generation,
                keys,
            });
        }
        Ok(Self {
            log,
            first_epoch,
            entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stele_core::crypto::Secret32;

    use super::*;

    #[test]
    fn gives_the_months_key_and_the_last_one_after_it_ends() {
        let root = RootKey::new(Secret32::new([1; 32]));
        let directory =
            Directory::derive(&root, LogId::repeat_byte(1), &[(3, 0), (5, 2)], 680, 3).unwrap();
        let directory = Directory::decode(&directory.encode()).unwrap();
        for (epoch, serves) in [(680, 680), (681, 681), (682, 682), (900, 682), (1, 680)] {
            let (place, key) = directory.writing_key(5, epoch).unwrap();
            assert_eq!((place.epoch, place.generation), (serves, 2));
            assert_eq!(place.slot, root.slot_of(5).unwrap());
            assert_eq!(key, root.category(5, 2).leaf(serves).unwrap().public());
        }
        assert!(matches!(
            directory.writing_key(4, 680),
            Err(Error::UnknownLog { .. })
        ));
        let other =
            Directory::derive(&root, LogId::repeat_byte(1), &[(3, 0), (5, 3)], 680, 3).unwrap();
        assert_ne!(directory.root(), other.root());
    }

    #[test]
    fn a_newer_directory_keeps_what_it_does_not_name() {
        let root = RootKey::new(Secret32::new([1; 32]));
        let log = LogId::repeat_byte(1);
        let of = |categories: &[(u8, u32)], month| {
            Directory::derive(&root, log, categories, month, 1).unwrap()
        };
        let both = of(&[(3, 0), (5, 2)], 680).renewed(of(&[(5, 3), (7, 0)], 680));
        assert_eq!(both, of(&[(3, 0), (5, 3), (7, 0)], 680));
        assert_eq!(both.renewed(of(&[(5, 4)], 681)), of(&[(5, 4)], 681));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1400)) {
            let mut framed = vec![VERSION];
            framed.extend_from_slice(&bytes);
            if let Ok(directory) = Directory::decode(&framed) {
                prop_assert_eq!(directory.encode(), framed);
            }
        }
    }
}
