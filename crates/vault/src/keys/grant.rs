//! Grants of keys: tree nodes sealed to a grantee.
//!
//! ```text
//! version 2 · log (20) · slot · generation (u32) · first epoch (u16) · last epoch (u16)
//! · X-Wing encapsulation (1120) · AES-256-GCM under the key exported for this grant, of:
//!   category · seeds of the covering nodes (32 each)
//! ```
//!
//! The first 30 bytes and the grantee's account are the context of the exported key and are bound
//! into the ciphertext. Grants that are made together share one encapsulation ([`GrantSealer`]),
//! since that is nearly all the work of sealing and of opening them; each still stands alone. One
//! grant is at most 2,139 bytes, whatever the number of records it opens. It says *which records*
//! may be opened; the ledger's consent says *when*, and the custodian holds to that.
//!
//! Version 1 has an HPKE envelope of its own; it is still opened, no longer made.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256};
use rand_core::CryptoRng;
use stele_core::{
    crypto::{
        Secret32, aead,
        hpke::{self, ENCAPSULATION_LEN, Encapsulation, Exporter, KemPublic, KemSecret},
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

/// An HPKE envelope of its own.
const VERSION_SINGLE: u8 = 1;
/// One encapsulation may serve several grants.
const VERSION: u8 = 2;
const HEADER_LEN: usize = 30;
const INFO_SINGLE: &[u8] = b"stele/grant/v1";
const INFO: &[u8] = b"stele/grant/v2";
const WHAT: &str = "a grant of keys";
const SEALING: &str = "sealing a grant of keys";
const OPENING: &str = "opening a grant of keys";

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
    version: u8,
    envelope: Vec<u8>,
}

/// Seals several grants to one grantee under one encapsulation.
#[derive(Debug)]
pub struct GrantSealer {
    grantee: Address,
    encapsulation: Encapsulation,
    exporter: Exporter,
}

impl GrantSealer {
    /// Starts a set of grants to an account with the public half of its X-Wing key.
    ///
    /// # Errors
    /// [`Error::Crypto`] never on valid input.
    pub fn new(grantee: Address, public: &KemPublic, rng: &mut impl CryptoRng) -> Result<Self> {
        let (encapsulation, exporter) =
            Exporter::send(public, INFO, rng).map_err(Error::crypto(SEALING))?;
        Ok(Self {
            grantee,
            encapsulation,
            exporter,
        })
    }

    /// Seals the keys of one category and generation, for records sealed in `epochs`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a category of 64 or more, or a range that ends before it starts.
    pub fn seal(
        &self,
        root: &RootKey,
        log: LogId,
        category: u8,
        generation: u32,
        epochs: RangeInclusive<u16>,
        rng: &mut impl CryptoRng,
    ) -> Result<Grant> {
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
        let mut grant = Grant {
            log,
            slot,
            generation,
            epochs,
            version: VERSION,
            envelope: self.encapsulation.as_bytes().to_vec(),
        };
        let context = grant.context(self.grantee);
        let key = self
            .exporter
            .key(&context)
            .map_err(Error::crypto(SEALING))?;
        let sealed = aead::seal(&key, &context, &plain, rng).map_err(Error::crypto(SEALING))?;
        grant.envelope.extend_from_slice(&sealed);
        Ok(grant)
    }
}

/// Opens several grants of one grantee. Those that share an encapsulation need its secret once.
#[derive(Debug)]
pub struct GrantOpener {
    grantee: Address,
    secret: KemSecret,
    last: Option<(Encapsulation, Exporter)>,
}

impl GrantOpener {
    /// Opens with the grantee's X-Wing key.
    #[must_use]
    pub const fn new(grantee: Address, secret: KemSecret) -> Self {
        Self {
            grantee,
            secret,
            last: None,
        }
    }

    /// Opens one grant.
    ///
    /// # Errors
    /// [`Error::Crypto`] if it was sealed to someone else or altered; [`Error::Malformed`] if it
    /// holds another number of seeds than its range needs.
    pub fn open(&mut self, grant: &Grant) -> Result<GrantKeys> {
        let context = grant.context(self.grantee);
        let plain = match grant.version {
            VERSION_SINGLE => hpke::open(&self.secret, INFO_SINGLE, &context, &grant.envelope)
                .map_err(Error::crypto(OPENING))?,
            _ => {
                let (encapsulation, sealed) = grant.parts()?;
                let key = self
                    .exporter(encapsulation)?
                    .key(&context)
                    .map_err(Error::crypto(OPENING))?;
                aead::open(&key, &context, sealed).map_err(Error::crypto(OPENING))?
            }
        };
        grant.keys(&plain)
    }

    fn exporter(&mut self, encapsulation: Encapsulation) -> Result<&Exporter> {
        let found = match self.last.take() {
            Some(found) if found.0 == encapsulation => found,
            _ => {
                let exporter = Exporter::receive(&self.secret, &encapsulation, INFO)
                    .map_err(Error::crypto(OPENING))?;
                (encapsulation, exporter)
            }
        };
        Ok(&self.last.insert(found).1)
    }
}

impl Grant {
    /// Opens the grant with the grantee's key; see [`GrantOpener`] for several.
    ///
    /// # Errors
    /// As [`GrantOpener::open`].
    pub fn open(&self, grantee: Address, secret: &KemSecret) -> Result<GrantKeys> {
        GrantOpener::new(grantee, secret.clone()).open(self)
    }

    /// Whether it opens records sealed at a place.
    #[must_use]
    pub fn covers(&self, place: &KeyPlace) -> bool {
        (self.log, self.slot, self.generation) == (place.log, place.slot, place.generation)
            && self.epochs.contains(&place.epoch)
    }

    fn parts(&self) -> Result<(Encapsulation, &[u8])> {
        let (encapsulation, sealed) =
            self.envelope
                .split_at_checked(ENCAPSULATION_LEN)
                .ok_or(Error::Malformed {
                    what: WHAT,
                    problem: "it is too short",
                })?;
        let encapsulation =
            Encapsulation::from_bytes(encapsulation).map_err(Error::crypto(OPENING))?;
        Ok((encapsulation, sealed))
    }

    fn keys(&self, plain: &[u8]) -> Result<GrantKeys> {
        let mut reader = Reader::new(plain, WHAT);
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

    /// The grant as bytes, at most 2,139.
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
        let version = reader.u8()?;
        if !matches!(version, VERSION_SINGLE | VERSION) {
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
            version,
            envelope: reader.rest().to_vec(),
        })
    }

    /// SHA-256 of the bytes: what the consent on the ledger names.
    #[must_use]
    pub fn digest(&self) -> B256 {
        B256::new(sha256(&self.encode()))
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let mut out = [self.version; HEADER_LEN];
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
        let sealer = GrantSealer::new(to.0, to.1, &mut os_rng()).unwrap();
        let grant = sealer.seal(&root, log, 9, 4, epochs, &mut os_rng());
        (root, grant.unwrap())
    }

    /// The widest cover there is: 30 nodes.
    #[test]
    fn the_largest_grant_is_2139_bytes() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (_, grant) = grant(1..=65_534, &secret);
        assert_eq!(grant.encode().len(), 2_139);
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

    /// What folders and files of earlier versions hold.
    #[test]
    fn opens_grants_with_an_envelope_of_their_own() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (root, mut grant) = grant(600..=650, &secret);
        grant.version = VERSION_SINGLE;
        let account = Address::repeat_byte(2);
        let mut plain = vec![9];
        for seed in root.category(9, 4).cover(600..=650) {
            plain.extend_from_slice(seed.expose());
        }
        let context = grant.context(account);
        let sealed = hpke::seal(
            &secret.public(),
            INFO_SINGLE,
            &context,
            &plain,
            &mut os_rng(),
        );
        grant.envelope = sealed.unwrap();
        let again = Grant::decode(&grant.encode()).unwrap();
        assert_eq!(again, grant);
        let keys = again.open(account, &secret).unwrap();
        let place = KeyPlace {
            log: grant.log,
            slot: grant.slot,
            generation: 4,
            epoch: 600,
        };
        assert_eq!(
            keys.secret(&place).unwrap().seed(),
            root.category(9, 4).leaf(600).unwrap().seed()
        );
        // The version is bound: it opens as what it was sealed as, and as nothing else.
        grant.version = VERSION;
        assert!(grant.open(account, &secret).is_err());
    }

    #[test]
    fn grants_of_one_sealer_open_apart_and_only_as_what_they_are() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let root = RootKey::new(Secret32::new([1; 32]));
        let (account, log) = (Address::repeat_byte(2), LogId::repeat_byte(3));
        let sealer = GrantSealer::new(account, &secret.public(), &mut os_rng()).unwrap();
        let grants: Vec<_> = (0..5)
            .map(|category| {
                let sealed = sealer.seal(&root, log, category, 0, 600..=600, &mut os_rng());
                sealed.unwrap()
            })
            .collect();
        let mut opener = GrantOpener::new(account, secret.clone());
        for grant in grants.iter().rev() {
            let keys = opener.open(grant).unwrap();
            assert_eq!(root.slot_of(keys.category).unwrap(), grant.slot);
            assert_eq!(
                grant.open(account, &secret).unwrap().category,
                keys.category
            );
        }
        let mixed = Grant {
            envelope: grants[1].envelope.clone(),
            ..grants[0].clone()
        };
        assert!(opener.open(&mixed).is_err());
        assert!(opener.open(&grants[0]).is_ok(), "a refusal spoils nothing");
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
