//! ed25519 signatures (RFC 8032), for receipts and storage acknowledgements between nodes.
//!
//! Ethereum transactions are signed with secp256k1, see [`crate::tx`]; passkeys sign with P-256,
//! see [`super::webauthn`].

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};

use super::{Error, Secret32};

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// An ed25519 signing key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key whose RFC 8032 private key is `seed`.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn from_seed(seed: &Secret32) -> Result<Self, Error> {
        Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map(Self)
            .map_err(|_| Error::Refused {
                what: "an ed25519 seed",
            })
    }

    /// The public key that belongs to it.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn public(&self) -> Result<VerifyingKey, Error> {
        VerifyingKey::from_bytes(self.0.public_key().as_ref())
    }

    /// Signs `message` under a domain, so that a signature for one use is none for another.
    ///
    /// # Errors
    /// [`Error::Refused`] never on valid input.
    pub fn sign(&self, domain: &'static str, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], Error> {
        let signature =
            self.0
                .try_sign(&separated(domain, message))
                .map_err(|_| Error::Refused {
                    what: "signing with ed25519",
                })?;
        <[u8; SIGNATURE_LEN]>::try_from(signature.as_ref()).map_err(|_| Error::Refused {
            what: "signing with ed25519",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// An ed25519 public key. 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Reads a public key from 32 bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length or bytes that are no point of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = Error::Malformed {
            what: "an ed25519 public key",
            problem: "it is not a point of the curve in 32 bytes",
        };
        let key = <[u8; 32]>::try_from(bytes).map_err(|_| malformed.clone())?;
        ParsedPublicKey::new(&ED25519, key).map_err(|_| malformed)?;
        Ok(Self(key))
    }

    /// The key as 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature made by [`SigningKey::sign`] for the same domain and message.
    ///
    /// # Errors
    /// [`Error::Signature`] if it does not match.
    pub fn verify(
        &self,
        domain: &'static str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let wrong = |_| Error::Signature { scheme: "ed25519" };
        ParsedPublicKey::new(&ED25519, self.0)
            .map_err(|_| Error::Signature { scheme: "ed25519" })?
            .verify_sig(&separated(domain, message), signature)
            .map_err(wrong)
    }
}

fn separated(domain: &'static str, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.len() + 1 + message.len());
    bytes.extend_from_slice(domain.as_bytes());
    // Domains are constants without a zero byte, so the separator is unambiguous.
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_belongs_to_key_domain_and_message() {
        let key = SigningKey::from_seed(&Secret32::new([3; 32])).unwrap();
        let public = key.public().unwrap();
        let signature = key.sign("stele/test", b"message").unwrap();
        assert_eq!(public.verify("stele/test", b"message", &signature), Ok(()));
        assert!(public.verify("stele/tes", b"message", &signature).is_err());
        assert!(public.verify("stele/test", b"massage", &signature).is_err());
        assert!(
            public
                .verify("stele/test", b"message", &signature[..63])
                .is_err()
        );
        let other = SigningKey::from_seed(&Secret32::new([4; 32]))
            .unwrap()
            .public()
            .unwrap();
        assert!(other.verify("stele/test", b"message", &signature).is_err());
    }

    /// RFC 8032 §7.1, test 1: the public key of the seed.
    #[test]
    fn agrees_with_rfc_8032() {
        let seed = alloy_primitives::hex!(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        );
        let public = alloy_primitives::hex!(
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let key = SigningKey::from_seed(&Secret32::new(seed)).unwrap();
        assert_eq!(key.public().unwrap().as_bytes(), &public);
    }
}
