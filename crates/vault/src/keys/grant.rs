//! Grants of keys: tree nodes sealed to a grantee.
//!
//! ```text
//! version 1 · log (20) · slot · generation (u32) · first epoch (u16) · last epoch (u16)
//! · HPKE X-Wing envelope of: category · seeds of the covering nodes (32 each)
//! ```
//!
//! The first 30 bytes and the grantee's account are bound into the envelope. One grant is at most
//! 2,127 bytes, whatever the number of records it opens. It says *which records* may be opened; the
//! ledger's consent says *when*, and the custodian holds to that.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256};
use rand_core::CryptoRng;
use stele_core::{
    crypto::{
        Secret32,
        hpke::{self, KemPublic, KemSecret},
    },
    id::LogId,
};
use zeroize::Zeroizing;

use super::tree::{KeyPlace, RootKey, cover_nodes, covered_leaf};
use crate::{
    cid::sha256,
    codec::Reader,
    error::{Error, Result},
};

const VERSION: u8 = 1;
const HEADER_LEN: usize = 30;
const INFO: &[u8] = b"stele/grant/v1";
const WHAT: &str = "a grant of keys";

/// A sealed grant: what may travel and be kept anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The log whose records it opens.
    pub log: LogId,
    /// The category slot.
    pub slot: u8,
    /// The key generation.
    pub generation: u32,
    /// The months of sealing it opens, since January 1970.
    pub epochs: RangeInclusive<u16>,
    envelope: Vec<u8>,
}

impl Grant {
    /// Seals the keys of one category and generation, for records sealed in `epochs`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a category of 64 or more, or a range that ends before it starts.
    pub fn seal(
        root: &RootKey,
        log: LogId,
        category: u8,
        generation: u32,
        epochs: RangeInclusive<u16>,
        grantee: (Address, &KemPublic),
        rng: &mut impl CryptoRng,
    ) -> Result<Self> {
        if epochs.is_empty() {
            return Err(Error::OutOfRange {
                what: "the first epoch of a grant",
                limit: u64::from(*epochs.end()),
            });
        }
        let slot = root.slot_of(category)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(1 + 30 * 32));
        plain.push(category);
        for seed in root.category(category, generation).cover(epochs.clone()) {
            plain.extend_from_slice(seed.expose());
        }
        let mut grant = Self {
            log,
            slot,
            generation,
            epochs,
            envelope: Vec::new(),
        };
        let (account, public) = grantee;
        grant.envelope = hpke::seal(public, INFO, &grant.context(account), &plain, rng)
            .map_err(Error::crypto("sealing a grant of keys"))?;
        Ok(grant)
    }

    /// Opens the grant with the grantee's key.
    ///
    /// # Errors
    /// [`Error::Crypto`] if it was sealed to someone else or altered; [`Error::Malformed`] if it
    /// holds another number of seeds than its range needs.
    pub fn open(&self, grantee: Address, secret: &KemSecret) -> Result<GrantKeys> {
        let plain = hpke::open(secret, INFO, &self.context(grantee), &self.envelope)
            .map_err(Error::crypto("opening a grant of keys"))?;
        let mut reader = Reader::new(&plain, WHAT);
        let category = reader.u8()?;
        let (seeds, left) = reader.rest().as_chunks::<32>();
        if !left.is_empty() || seeds.len() != cover_nodes(&self.epochs).len() {
            return Err(Error::Malformed {
                what: WHAT,
                problem: "it has a wrong number of seeds",
            });
        }
        Ok(GrantKeys {
            log: self.log,
            category,
            slot: self.slot,
            generation: self.generation,
            epochs: self.epochs.clone(),
            seeds: seeds.iter().map(|seed| Secret32::new(*seed)).collect(),
        })
    }

    /// The grant as bytes, at most 2,127.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.header().to_vec();
        out.extend_from_slice(&self.envelope);
        out
    }

    /// Reads a grant from all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it has not the shape of one.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.u8()? != VERSION {
            return Err(reader.error("its version is unknown"));
        }
        let log = LogId::new(reader.array()?);
        let (slot, generation) = (reader.u8()?, reader.u32()?);
        let epochs = reader.u16()?..=reader.u16()?;
        if epochs.is_empty() || slot >= stele_core::consent::SLOTS {
            return Err(reader.error("its slot or epochs are out of range"));
        }
        Ok(Self {
            log,
            slot,
            generation,
            epochs,
            envelope: reader.rest().to_vec(),
        })
    }

    /// SHA-256 of the bytes: what the consent on the ledger names.
    #[must_use]
    pub fn digest(&self) -> B256 {
        B256::new(sha256(&self.encode()))
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let mut out = [VERSION; HEADER_LEN];
        let fields = self
            .log
            .iter()
            .copied()
            .chain([self.slot])
            .chain(self.generation.to_be_bytes())
            .chain(self.epochs.start().to_be_bytes())
            .chain(self.epochs.end().to_be_bytes());
        for (to, from) in out.iter_mut().skip(1).zip(fields) {
            *to = from;
        }
        out
    }

    fn context(&self, grantee: Address) -> Vec<u8> {
        [&self.header()[..], grantee.as_slice()].concat()
    }
}

/// An opened grant: it derives the key of every epoch it covers, and of no other.
#[derive(Clone, Debug)]
pub struct GrantKeys {
    /// The log whose records it opens.
    pub log: LogId,
    /// The category, as the patient's root key names it.
    pub category: u8,
    /// The slot it is shown as.
    pub slot: u8,
    /// The key generation.
    pub generation: u32,
    /// The months of sealing it opens.
    pub epochs: RangeInclusive<u16>,
    seeds: Vec<Secret32>,
}

impl GrantKeys {
    /// The key of a place.
    ///
    /// # Errors
    /// [`Error::NoKey`] if the grant does not cover it.
    pub fn secret(&self, place: &KeyPlace) -> Result<KemSecret> {
        if (place.log, place.slot, place.generation) != (self.log, self.slot, self.generation) {
            return Err(place.no_key());
        }
        covered_leaf(&self.seeds, &self.epochs, place.epoch)?.ok_or_else(|| place.no_key())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stele_core::crypto::os_rng;

    use super::*;

    fn grant(epochs: RangeInclusive<u16>, secret: &KemSecret) -> (RootKey, Grant) {
        let root = RootKey::new(Secret32::new([1; 32]));
        let to = (Address::repeat_byte(2), &secret.public());
        let log = LogId::repeat_byte(3);
        let grant = Grant::seal(&root, log, 9, 4, epochs, to, &mut os_rng()).unwrap();
        (root, grant)
    }

    /// The widest cover there is: 30 nodes.
    #[test]
    fn the_largest_grant_is_2127_bytes() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (_, grant) = grant(1..=65_534, &secret);
        assert_eq!(grant.encode().len(), 2_127);
    }

    #[test]
    fn opens_what_was_granted_and_nothing_else() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (root, grant) = grant(600..=650, &secret);
        let keys = Grant::decode(&grant.encode()).unwrap();
        assert_eq!(keys, grant);
        let keys = keys.open(Address::repeat_byte(2), &secret).unwrap();
        let place = KeyPlace {
            log: grant.log,
            slot: grant.slot,
            generation: 4,
            epoch: 620,
        };
        assert_eq!(
            keys.secret(&place).unwrap().seed(),
            root.category(9, 4).leaf(620).unwrap().seed()
        );
        for other in [
            KeyPlace {
                epoch: 651,
                ..place
            },
            KeyPlace {
                epoch: 599,
                ..place
            },
            KeyPlace {
                generation: 5,
                ..place
            },
            KeyPlace {
                slot: grant.slot ^ 1,
                ..place
            },
            KeyPlace {
                log: LogId::ZERO,
                ..place
            },
        ] {
            assert!(
                matches!(keys.secret(&other), Err(Error::NoKey { .. })),
                "{other:?}"
            );
        }
        assert!(grant.open(Address::ZERO, &secret).is_err());
        let stranger = KemSecret::random(&mut os_rng()).unwrap();
        assert!(grant.open(Address::repeat_byte(2), &stranger).is_err());
        // Widening the range in the header does not widen what opens.
        let wider = Grant {
            epochs: 600..=700,
            ..grant
        };
        assert!(wider.open(Address::repeat_byte(2), &secret).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            if let Ok(grant) = Grant::decode(&bytes) {
                let secret = KemSecret::from_seed(&Secret32::new([1; 32])).unwrap();
                prop_assert!(grant.open(Address::ZERO, &secret).is_err());
            }
        }
    }
}
