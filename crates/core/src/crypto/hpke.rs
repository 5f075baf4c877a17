//! HPKE (RFC 9180) with X-Wing, the hybrid of X25519 and ML-KEM-768 (KEM 0x647a).
//!
//! Records are read for decades, so whoever stores traffic today must not be able to read it with
//! tomorrow's quantum computer. Suite: X-Wing, HKDF-SHA256, AES-256-GCM, base mode.
//!
//! One encapsulation may protect many keys: [`Exporter::key`] gives an independent key per context
//! (RFC 9180 §5.3). The context's own message sequence is not used for that, because a sequence
//! can only be opened in order, and one erased envelope would block all after it.

use std::fmt;

use hpke::{
    Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable,
    aead::{AeadCtxR, AeadCtxS, AesGcm256},
    kdf::HkdfSha256,
    kem::XWing,
    setup_receiver, setup_sender_with_rng,
};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::{Error, Secret32};

/// Bytes of an X-Wing public key.
pub const PUBLIC_LEN: usize = 1216;
/// Bytes of an X-Wing encapsulation.
pub const ENCAPSULATION_LEN: usize = 1120;
/// Bytes that [`seal`] adds to a message: the encapsulation and a tag of 16.
pub const OVERHEAD: usize = ENCAPSULATION_LEN + 16;

/// `info` is limited so that the library's own bound of 2¹⁶ is never met.
const INFO_MAX: usize = 4096;

/// An X-Wing private key: the seed of 32 bytes both halves are expanded from.
#[derive(Clone)]
pub struct KemSecret(<XWing as Kem>::PrivateKey);

impl KemSecret {
    /// The key whose X-Wing seed is `seed`. Equal to `importKey('raw', seed)` in `@hpke/core`;
    /// `DeriveKeyPair` is not used, since libraries differ in it.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn from_seed(seed: &Secret32) -> Result<Self, Error> {
        <XWing as Kem>::PrivateKey::from_bytes(seed.expose())
            .map(Self)
            .map_err(|_| Error::Refused {
                what: "an X-Wing seed",
            })
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn random(rng: &mut impl CryptoRng) -> Result<Self, Error> {
        Self::from_seed(&Secret32::random(rng))
    }

    /// The seed, for keeping the key at rest.
    #[must_use]
    pub fn seed(&self) -> Secret32 {
        let mut seed: [u8; 32] = self.0.to_bytes().into();
        let secret = Secret32::new(seed);
        seed.zeroize();
        secret
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> KemPublic {
        KemPublic(XWing::sk_to_pk(&self.0))
    }
}

impl fmt::Debug for KemSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemSecret(…)")
    }
}

/// An X-Wing public key, checked when read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemPublic(<XWing as Kem>::PublicKey);

impl KemPublic {
    /// Reads a public key from exactly [`PUBLIC_LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length or values out of range (FIPS 203 §7.2).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        <XWing as Kem>::PublicKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| Error::Malformed {
                what: "an X-Wing public key",
                problem: "it has a wrong length or values out of range",
            })
    }

    /// The key as [`PUBLIC_LEN`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }
}

/// An X-Wing encapsulation: what the holder of the private key needs to find the same secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Encapsulation(Box<[u8; ENCAPSULATION_LEN]>);

impl Encapsulation {
    /// Reads an encapsulation from exactly [`ENCAPSULATION_LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        <[u8; ENCAPSULATION_LEN]>::try_from(bytes)
            .map(|bytes| Self(Box::new(bytes)))
            .map_err(|_| Error::Malformed {
                what: "an X-Wing encapsulation",
                problem: "it has a wrong length",
            })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; ENCAPSULATION_LEN] {
        &self.0
    }
}

impl fmt::Debug for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encapsulation").field(&self.0.len()).finish()
    }
}

/// The shared secret of one encapsulation, from which independent keys are exported.
pub struct Exporter(Context);

enum Context {
    Sender(Box<AeadCtxS<AesGcm256, HkdfSha256, XWing>>),
    Receiver(Box<AeadCtxR<AesGcm256, HkdfSha256, XWing>>),
}

impl Exporter {
    /// Makes a new secret that only the holder of `to`'s private key can find.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if `info` is above 4 KiB; [`Error::Refused`] never on valid input.
    pub fn send(
        to: &KemPublic,
        info: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Encapsulation, Self), Error> {
        check_info(info)?;
        let (encapsulated, context) =
            setup_sender_with_rng::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &to.0, info, rng)
                .map_err(|_| Error::Refused {
                    what: "an X-Wing encapsulation",
                })?;
        let encapsulation = Encapsulation::from_bytes(&encapsulated.to_bytes())?;
        Ok((encapsulation, Self(Context::Sender(Box::new(context)))))
    }

    /// Finds the secret of an encapsulation. A wrong private key gives a different secret, not an
    /// error (implicit rejection, FIPS 203 §6.3): opening what was wrapped under it will fail.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if `info` is above 4 KiB; [`Error::Refused`] never on valid input.
    pub fn receive(
        secret: &KemSecret,
        encapsulation: &Encapsulation,
        info: &[u8],
    ) -> Result<Self, Error> {
        check_info(info)?;
        let refused = |_: HpkeError| Error::Refused {
            what: "an X-Wing encapsulation",
        };
        let encapsulated =
            <XWing as Kem>::EncappedKey::from_bytes(encapsulation.as_bytes()).map_err(refused)?;
        setup_receiver::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &secret.0,
            &encapsulated,
            info,
        )
        .map(|context| Self(Context::Receiver(Box::new(context))))
        .map_err(refused)
    }

    /// The key of one context: 32 bytes, independent of every other context's.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn key(&self, context: &[u8]) -> Result<Secret32, Error> {
        let mut out = [0; 32];
        match &self.0 {
            Context::Sender(sender) => sender.export(context, &mut out),
            Context::Receiver(receiver) => receiver.export(context, &mut out),
        }
        .map_err(|_| Error::Refused {
            what: "exporting a key",
        })?;
        let key = Secret32::new(out);
        out.zeroize();
        Ok(key)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(…)")
    }
}

/// Seals one message to a public key: `encapsulation(1120) ‖ ciphertext ‖ tag(16)`.
///
/// The same bytes as HPKE's single-shot `SealBase` (RFC 9180 §6.1), so `@hpke/core` opens them.
///
/// # Errors
/// [`Error::TooLarge`] if `info` is above 4 KiB; [`Error::Refused`] never on valid input.
pub fn seal(
    to: &KemPublic,
    info: &[u8],
    context: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    check_info(info)?;
    let refused = |_: HpkeError| Error::Refused {
        what: "sealing to an X-Wing key",
    };
    let (encapsulated, mut sender) =
        setup_sender_with_rng::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &to.0, info, rng)
            .map_err(refused)?;
    let mut out = encapsulated.to_bytes().to_vec();
    out.extend(sender.seal(plaintext, context).map_err(refused)?);
    Ok(out)
}

/// Opens what [`seal`] sealed.
///
/// # Errors
/// [`Error::Malformed`] if too short; [`Error::Authentication`] if key, info, context or bytes
/// differ.
pub fn open(
    secret: &KemSecret,
    info: &[u8],
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    const WHAT: &str = "an X-Wing envelope";
    check_info(info)?;
    let (encapsulation, body) =
        sealed
            .split_at_checked(ENCAPSULATION_LEN)
            .ok_or(Error::Malformed {
                what: WHAT,
                problem: "it is too short",
            })?;
    let wrong = |_: HpkeError| Error::Authentication { what: WHAT };
    let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(encapsulation).map_err(wrong)?;
    let mut receiver = setup_receiver::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        &secret.0,
        &encapsulated,
        info,
    )
    .map_err(wrong)?;
    receiver
        .open(body, context)
        .map(Zeroizing::new)
        .map_err(wrong)
}

fn check_info(info: &[u8]) -> Result<(), Error> {
    if info.len() > INFO_MAX {
        return Err(Error::TooLarge {
            what: "the info of an envelope",
            limit: INFO_MAX as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::os_rng;

    #[test]
    fn one_encapsulation_gives_independent_keys_in_any_order() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let (encapsulation, sender) =
            Exporter::send(&secret.public(), b"info", &mut os_rng()).unwrap();
        let receiver = Exporter::receive(&secret, &encapsulation, b"info").unwrap();
        let keys: Vec<Secret32> = (0..4u8)
            .map(|index| sender.key(&[index]).unwrap())
            .collect();
        for index in [3u8, 0, 2, 1] {
            assert_eq!(receiver.key(&[index]).unwrap(), keys[usize::from(index)]);
        }
        assert_ne!(keys[0], keys[1]);
        let other = Exporter::receive(&secret, &encapsulation, b"other info").unwrap();
        assert_ne!(other.key(&[0]).unwrap(), keys[0]);
    }

    #[test]
    fn opens_only_with_the_same_key_info_and_context() {
        let secret = KemSecret::random(&mut os_rng()).unwrap();
        let public = KemPublic::from_bytes(&secret.public().to_bytes()).unwrap();
        let sealed = seal(&public, b"info", b"ctx", b"message", &mut os_rng()).unwrap();
        assert_eq!(sealed.len(), 7 + OVERHEAD);
        let again = KemSecret::from_seed(&secret.seed()).unwrap();
        assert_eq!(
            &**open(&again, b"info", b"ctx", &sealed).unwrap(),
            b"message"
        );
        assert!(open(&secret, b"inf", b"ctx", &sealed).is_err());
        assert!(open(&secret, b"info", b"ct", &sealed).is_err());
        assert!(
            open(
                &KemSecret::random(&mut os_rng()).unwrap(),
                b"info",
                b"ctx",
                &sealed
            )
            .is_err()
        );
        for (at, cut) in [
            (0, sealed.len()),
            (1119, sealed.len()),
            (1125, sealed.len()),
            (0, 1119),
        ] {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(
                open(&secret, b"info", b"ctx", &bad[..cut]).is_err(),
                "{at} {cut}"
            );
        }
    }

    #[test]
    fn refuses_malformed_keys() {
        assert!(KemPublic::from_bytes(&[0; 3]).is_err());
        assert!(KemPublic::from_bytes(&[0xff; PUBLIC_LEN]).is_err());
        assert!(Encapsulation::from_bytes(&[0; 1119]).is_err());
        assert_eq!(
            format!(
                "{:?}",
                KemSecret::from_seed(&Secret32::new([1; 32])).unwrap()
            ),
            "KemSecret(…)"
        );
    }
}
