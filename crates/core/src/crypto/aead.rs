//! AES-256-GCM for one message at a time (NIST SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{Error, Secret32, take};

/// Bytes that [`seal`] adds: a nonce of 12 and a tag of 16.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Bytes of a key wrapped by [`wrap`]: 32 and a tag of 16.
pub const WRAPPED_LEN: usize = 48;

pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;

/// Seals a message under a key that seals many: `nonce(12) ‖ ciphertext ‖ tag(16)`, random nonce.
///
/// A key must not seal more than 2³² messages (SP 800-38D §8.3); derive one per purpose.
///
/// # Errors
/// [`Error::Refused`] above the library's limit of about 64 GiB.
pub fn seal(
    key: &Secret32,
    context: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    let mut aead_nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut aead_nonce);
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD);
    out.extend_from_slice(&aead_nonce);
    out.extend_from_slice(plaintext);
    let body = out.get_mut(NONCE_LEN..).unwrap_or_default();
    let tag = bound(key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(aead_nonce),
            Aad::from(context),
            body,
        )
        .map_err(|_| Error::Refused {
            what: "sealing a message",
        })?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens what [`seal`] sealed under the same key and context.
///
/// # Errors
/// [`Error::Malformed`] if too short; [`Error::Authentication`] if key, context or bytes differ.
pub fn open(key: &Secret32, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut rest = sealed;
    let aead_nonce = *take::<NONCE_LEN>(&mut rest, "a sealed message")?;
    let mut body = Zeroizing::new(rest.to_vec());
    let length = bound(key)?
        .open_in_place(
            Nonce::assume_unique_for_key(aead_nonce),
            Aad::from(context),
            &mut body,
        )
        .map_err(|_| Error::Authentication {
            what: "a sealed message",
        })?
        .len();
    body.truncate(length);
    Ok(body)
}

/// Wraps 32 secret bytes under a key that wraps nothing else, ever: ciphertext and tag, nonce zero.
///
/// # Errors
/// [`Error::Refused`] never on valid input.
pub fn wrap(key: &Secret32, secret: &Secret32) -> Result<[u8; WRAPPED_LEN], Error> {
    let mut out = [0; WRAPPED_LEN];
    let Some((body, tag_out)) = out.split_first_chunk_mut::<32>() else {
        return Err(Error::Refused {
            what: "wrapping a key",
        });
    };
    body.copy_from_slice(secret.expose());
    let tag = bound(key)?
        .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), body)
        .map_err(|_| Error::Refused {
            what: "wrapping a key",
        })?;
    tag_out.copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens what [`wrap`] wrapped.
///
/// # Errors
/// [`Error::Authentication`] if key or bytes differ.
pub fn unwrap(key: &Secret32, wrapped: &[u8; WRAPPED_LEN]) -> Result<Secret32, Error> {
    const WHAT: Error = Error::Authentication {
        what: "a wrapped key",
    };
    let mut body = Zeroizing::new(*wrapped);
    let plain = bound(key)?
        .open_in_place(zero_nonce(), Aad::empty(), body.as_mut_slice())
        .map_err(|_| WHAT)?;
    <[u8; 32]>::try_from(&*plain)
        .map(Secret32::new)
        .map_err(|_| WHAT)
}

pub(crate) fn bound(key: &Secret32) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, key.expose())
        .map(LessSafeKey::new)
        .map_err(|_| Error::Refused {
            what: "an AES-256-GCM key",
        })
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::os_rng;

    proptest! {
        #[test]
        fn opens_only_what_was_sealed(
            plaintext in proptest::collection::vec(any::<u8>(), 0..300),
            flip in any::<proptest::sample::Index>(),
        ) {
            let key = Secret32::new([7; 32]);
            let sealed = seal(&key, b"ctx", &plaintext, &mut os_rng()).unwrap();
            prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(&*open(&key, b"ctx", &sealed).unwrap(), &plaintext);
            prop_assert!(open(&key, b"other", &sealed).is_err());
            prop_assert!(open(&Secret32::new([8; 32]), b"ctx", &sealed).is_err());
            let mut bad = sealed.clone();
            bad[flip.index(sealed.len())] ^= 1;
            prop_assert!(open(&key, b"ctx", &bad).is_err());
            prop_assert!(open(&key, b"ctx", &sealed[..flip.index(sealed.len())]).is_err());
        }

        #[test]
        fn wraps(key: [u8; 32], secret: [u8; 32], flip in 0usize..WRAPPED_LEN) {
            let (key, secret) = (Secret32::new(key), Secret32::new(secret));
            let mut wrapped = wrap(&key, &secret).unwrap();
            prop_assert_eq!(unwrap(&key, &wrapped).unwrap(), secret);
            wrapped[flip] ^= 0x80;
            prop_assert!(unwrap(&key, &wrapped).is_err());
        }
    }

    /// NIST GCM test case 14 (McGrew and Viega, appendix B): key 0, nonce 0, 16 zero bytes.
    #[test]
    fn agrees_with_the_gcm_test_vector() {
        let wrapped = wrap(&Secret32::new([0; 32]), &Secret32::new([0; 32])).unwrap();
        assert_eq!(
            wrapped[..16],
            alloy_primitives::hex!("cea7403d4d606b6e074ec5d3baf39d18")
        );
    }
}
