//! Key envelopes: how a record's key is sealed to its patient.
//!
//! ```text
//! k            = 32 random bytes, one a record version
//! content key  = HKDF(k ‖ pepper, "stele/content-key/v1", record, version)
//! wrapped (48) = AES-256-GCM(export("stele/wrap/v1" ‖ record ‖ version); k)
//! export       = HPKE X-Wing context of one encapsulation to (log, slot, generation, epoch)
//! ```
//!
//! A batch shares one encapsulation per place, 1,120 bytes; each record adds 48. A record's wrapped
//! key opens and is destroyed without regard to any other's.

use rand_core::CryptoRng;
use stele_core::{
    crypto::{
        Secret32, aead,
        aead::WRAPPED_LEN,
        hpke::{self, ENCAPSULATION_LEN, Exporter, KemPublic, KemSecret},
        kdf,
    },
    id::{LogId, RecordId},
};
use zeroize::Zeroizing;

use crate::{
    cid::{Digest, sha256},
    codec::Reader,
    custodian::Pepper,
    error::{Error, Result},
    keys::KeyPlace,
};

/// Bytes of an encoded [`Encapsulation`].
pub const ENCODED_LEN: usize = KeyPlace::LEN + ENCAPSULATION_LEN;

/// One shared encapsulation and the place it was made to. Public; kept beside the ciphertexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// Whose key it was made to.
    pub place: KeyPlace,
    kem: hpke::Encapsulation,
}

impl Encapsulation {
    /// Makes an encapsulation to a public key, with the context keys are exported from.
    ///
    /// # Errors
    /// [`Error::Crypto`] never on valid input.
    pub fn new(
        place: KeyPlace,
        to: &KemPublic,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Exporter)> {
        let (kem, exporter) = Exporter::send(to, &info(&place), rng)
            .map_err(Error::crypto("encapsulating to a record key"))?;
        Ok((Self { place, kem }, exporter))
    }

    /// The context, found with the private key of the place. A wrong key is noticed when a key is
    /// unwrapped.
    ///
    /// # Errors
    /// [`Error::Crypto`] never on valid input.
    pub fn open(&self, secret: &KemSecret) -> Result<Exporter> {
        Exporter::receive(secret, &self.kem, &info(&self.place))
            .map_err(Error::crypto("opening an encapsulation"))
    }

    /// SHA-256 of the encoding, under a domain of its own.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&b"stele/encapsulation/v1"[..], &self.encode()].concat())
    }

    /// The encapsulation as [`ENCODED_LEN`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.place.encode()[..], self.kem.as_bytes()].concat()
    }

    /// Reads an encapsulation from all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length, [`Error::Crypto`] never on valid input.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "an encapsulation");
        let place = KeyPlace {
            log: LogId::new(reader.array()?),
            slot: reader.u8()?,
            generation: reader.u32()?,
            epoch: reader.u16()?,
        };
        let kem = hpke::Encapsulation::from_bytes(reader.rest())
            .map_err(Error::crypto("reading an encapsulation"))?;
        Ok(Self { place, kem })
    }
}

/// A record's key, wrapped: its place among the encapsulations, and 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Digest of the [`Encapsulation`].
    pub encapsulation: Digest,
    /// The wrapped key.
    pub wrapped: [u8; WRAPPED_LEN],
}

impl Envelope {
    /// Wraps a new random key for a record version and gives the key.
    ///
    /// # Errors
    /// [`Error::Crypto`] never on valid input.
    pub fn seal(
        encapsulation: Digest,
        exporter: &Exporter,
        record: &RecordId,
        version: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Secret32)> {
        let key = Secret32::random(rng);
        let wrapping = exporter
            .key(&context(record, version))
            .map_err(Error::crypto("deriving a wrapping key"))?;
        let wrapped =
            aead::wrap(&wrapping, &key).map_err(Error::crypto("wrapping a record's key"))?;
        Ok((
            Self {
                encapsulation,
                wrapped,
            },
            key,
        ))
    }

    /// Unwraps the key of a record version.
    ///
    /// # Errors
    /// [`Error::Crypto`] if the context is another's or the bytes were altered.
    pub fn open(&self, exporter: &Exporter, record: &RecordId, version: u32) -> Result<Secret32> {
        let wrapping = exporter
            .key(&context(record, version))
            .map_err(Error::crypto("deriving a wrapping key"))?;
        aead::unwrap(&wrapping, &self.wrapped).map_err(Error::crypto("unwrapping a record's key"))
    }

    /// What a record's leaf says of its envelope: SHA-256 over encapsulation digest, record,
    /// version and wrapped key.
    #[must_use]
    pub fn digest(&self, record: &RecordId, version: u32) -> Digest {
        sha256(
            &[
                &b"stele/envelope/v1"[..],
                &self.encapsulation,
                record.as_bytes(),
                &version.to_be_bytes(),
                &self.wrapped,
            ]
            .concat(),
        )
    }
}

/// The key a record's content is sealed with: from the key in the envelope and the custodian's
/// pepper, so that neither alone opens anything.
#[must_use]
pub fn content_key(key: &Secret32, pepper: &Pepper, record: &RecordId, version: u32) -> Secret32 {
    let mut both = Zeroizing::new([0; 64]);
    for (to, from) in both
        .iter_mut()
        .zip(key.expose().iter().chain(pepper.secret().expose()))
    {
        *to = *from;
    }
    let context: [&[u8]; 2] = [record.as_bytes(), &version.to_be_bytes()];
    kdf::derive(both.as_slice(), "stele/content-key/v1", &context)
}

fn info(place: &KeyPlace) -> Vec<u8> {
    [&b"stele/record-keys/v1"[..], &place.encode()].concat()
}

fn context(record: &RecordId, version: u32) -> Vec<u8> {
    [
        &b"stele/wrap/v1"[..],
        record.as_bytes(),
        &version.to_be_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use proptest::prelude::*;
    use stele_core::crypto::os_rng;

    use super::*;

    fn place() -> KeyPlace {
        KeyPlace {
            log: LogId::repeat_byte(1),
            slot: 3,
            generation: 0,
            epoch: 680,
        }
    }

    #[test]
    fn keys_of_a_batch_open_apart() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (encapsulation, sender) =
            Encapsulation::new(place(), &secret.public(), &mut os_rng()).unwrap();
        let sealed: Vec<_> = (0..5u8)
            .map(|n| {
                let record = RecordId(B256::repeat_byte(n));
                let digest = encapsulation.digest();
                let (envelope, key) =
                    Envelope::seal(digest, &sender, &record, 1, &mut os_rng()).unwrap();
                (record, envelope, key)
            })
            .collect();
        let again = Encapsulation::decode(&encapsulation.encode()).unwrap();
        assert_eq!(again, encapsulation);
        let receiver = again.open(&secret).unwrap();
        for (record, envelope, key) in sealed.iter().rev() {
            assert_eq!(envelope.open(&receiver, record, 1).unwrap(), *key);
            assert!(envelope.open(&receiver, record, 2).is_err());
            assert_ne!(envelope.digest(record, 1), envelope.digest(record, 2));
        }
        assert!(sealed[0].1.open(&receiver, &sealed[1].0, 1).is_err());
        let moved = Encapsulation {
            place: KeyPlace {
                epoch: 681,
                ..place()
            },
            ..encapsulation
        };
        assert!(
            sealed[0]
                .1
                .open(&moved.open(&secret).unwrap(), &sealed[0].0, 1)
                .is_err()
        );
    }

    #[test]
    fn the_content_key_needs_key_and_pepper() {
        let record = RecordId::default();
        let (one, two) = (Secret32::new([1; 32]), Secret32::new([2; 32]));
        let key = content_key(&one, &Pepper::new(two.clone()), &record, 1);
        assert_ne!(
            key,
            content_key(&two, &Pepper::new(one.clone()), &record, 1)
        );
        assert_ne!(key, content_key(&one, &Pepper::new(two), &record, 2));
        assert_ne!(
            key,
            content_key(&one, &Pepper::new(one.clone()), &record, 1)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            if let Ok(encapsulation) = Encapsulation::decode(&bytes) {
                prop_assert_eq!(encapsulation.encode(), bytes);
            }
        }
    }
}
