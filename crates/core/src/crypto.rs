//! Cryptography: thin, typed faces of sound libraries.
//!
//! Owns the formats that other programs must be able to read (the sealed stream, the X-Wing
//! envelope, the key at rest) and nothing that is a primitive: AES-256-GCM, ed25519 and P-256 are
//! `aws-lc-rs`, HPKE and X-Wing are `hpke`, the passphrase function is `argon2`. Secrets live in
//! [`Secret32`], which is wiped when dropped and does not print. Nothing here does I/O.

pub mod aead;
pub mod hpke;
pub mod jws;
pub mod kdf;
pub mod keystore;
pub mod pad;
pub mod secret;
pub mod sign;
pub mod stream;
pub mod webauthn;

pub use secret::{Secret32, os_rng};

/// Why a cryptographic operation was refused.
///
/// No variant tells more than what was attempted: a failed decryption does not say which byte was
/// wrong, and no variant carries plaintext or key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The authentication tag does not match: wrong key, wrong context, or altered bytes.
    #[error("opening {what}: the key, the context or the bytes do not match")]
    Authentication {
        /// What was being opened.
        what: &'static str,
    },
    /// The bytes have not the shape of what they should be.
    #[error("reading {what}: {problem}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More was asked of a format than it can hold.
    #[error("{what} is limited to {limit}")]
    TooLarge {
        /// What was exceeded.
        what: &'static str,
        /// The largest value allowed.
        limit: u64,
    },
    /// A signature does not belong to the message and key.
    #[error("the {scheme} signature does not match the message and key")]
    Signature {
        /// The signature scheme.
        scheme: &'static str,
    },
    /// The library refused a key or an operation that valid input never makes it refuse.
    #[error("{what} was refused by the cryptographic library")]
    Refused {
        /// What was attempted.
        what: &'static str,
    },
}

/// Reads `N` bytes from the front of `bytes` and moves past them.
pub(crate) fn take<'a, const N: usize>(
    bytes: &mut &'a [u8],
    what: &'static str,
) -> Result<&'a [u8; N], Error> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Error::Malformed {
        what,
        problem: "it ends too early",
    })?;
    *bytes = rest;
    Ok(head)
}
