//! Keys at rest: a secret wrapped under a passphrase or a key file.
//!
//! ```text
//! magic "STELEKEY" (8) · version 1 · kind (1: passphrase, 2: key file) · salt (16)
//! · memory in KiB (u32) · passes (u32) · lanes (u32) · nonce (12) · ciphertext · tag (16)
//! ```
//!
//! The first 38 bytes and the caller's context are authenticated. A passphrase goes through
//! Argon2id (RFC 9106); a key file holds 32 random bytes, which need no stretching. Integers are
//! big-endian.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::{Error, Secret32, aead, kdf, take};

const MAGIC: &[u8; 8] = b"STELEKEY";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 38;
const WHAT: &str = "a wrapped key file";

/// RFC 9106 §4, second recommended option: 64 MiB, three passes, four lanes.
const DEFAULT_COST: Cost = Cost {
    memory_kib: 65_536,
    passes: 3,
    lanes: 4,
};
/// What a file may ask of its reader: 1 GiB and 16 passes, so that a forged file cannot stall it.
const COST_MAX: Cost = Cost {
    memory_kib: 1_048_576,
    passes: 16,
    lanes: 16,
};

/// What opens a key at rest.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase typed by a person.
    Passphrase(Zeroizing<String>),
    /// The 32 random bytes of a key file.
    KeyFile(Secret32),
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::KeyFile(_) => "KeyFile(…)",
        })
    }
}

/// What one guess of a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Wraps a secret so that it opens only with `unlock` and the same `context`.
///
/// # Errors
/// [`Error::Refused`] if the memory for Argon2 cannot be had.
pub fn wrap(
    secret: &[u8],
    unlock: &Unlock,
    context: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    let (kind, cost) = match unlock {
        Unlock::Passphrase(_) => (1, DEFAULT_COST),
        Unlock::KeyFile(_) => (
            2,
            Cost {
                memory_kib: 0,
                passes: 0,
                lanes: 0,
            },
        ),
    };
    let mut out = Vec::with_capacity(HEADER_LEN + secret.len() + aead::OVERHEAD);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&salt);
    for number in [cost.memory_kib, cost.passes, cost.lanes] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let key = wrapping_key(unlock, &salt, cost)?;
    let sealed = aead::seal(&key, &authenticated(&out, context), secret, rng)?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens what [`wrap`] wrapped.
///
/// # Errors
/// [`Error::Malformed`] if it is no such file or was made for the other kind of key;
/// [`Error::TooLarge`] if it asks for more work than any of ours does;
/// [`Error::Authentication`] for a wrong passphrase, key file, context or byte.
pub fn unwrap(file: &[u8], unlock: &Unlock, context: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let malformed = |problem| Error::Malformed {
        what: WHAT,
        problem,
    };
    let header = file.get(..HEADER_LEN).ok_or(malformed("it is too short"))?;
    let mut rest = file;
    if take::<8>(&mut rest, WHAT)? != MAGIC {
        return Err(malformed("it does not start with STELEKEY"));
    }
    let [version, kind] = *take::<2>(&mut rest, WHAT)?;
    let salt = *take::<16>(&mut rest, WHAT)?;
    let memory_kib = u32::from_be_bytes(*take::<4>(&mut rest, WHAT)?);
    let passes = u32::from_be_bytes(*take::<4>(&mut rest, WHAT)?);
    let lanes = u32::from_be_bytes(*take::<4>(&mut rest, WHAT)?);
    if version != VERSION {
        return Err(malformed("its version is unknown"));
    }
    match (kind, unlock) {
        (1, Unlock::Passphrase(_)) | (2, Unlock::KeyFile(_)) => {}
        (1, Unlock::KeyFile(_)) => return Err(malformed("it opens with a passphrase")),
        (2, Unlock::Passphrase(_)) => return Err(malformed("it opens with a key file")),
        _ => return Err(malformed("its kind is unknown")),
    }
    let (most, cost) = (
        COST_MAX,
        Cost {
            memory_kib,
            passes,
            lanes,
        },
    );
    if memory_kib > most.memory_kib || passes > most.passes || lanes > most.lanes {
        return Err(Error::TooLarge {
            what: "the memory a key file asks for, in KiB,",
            limit: u64::from(most.memory_kib),
        });
    }
    let key = wrapping_key(unlock, &salt, cost)?;
    aead::open(&key, &authenticated(header, context), rest)
        .map_err(|_| Error::Authentication { what: WHAT })
}

fn wrapping_key(unlock: &Unlock, salt: &[u8; 16], cost: Cost) -> Result<Secret32, Error> {
    match unlock {
        Unlock::KeyFile(secret) => Ok(kdf::derive(secret.expose(), "stele/key-file/v1", &[salt])),
        Unlock::Passphrase(passphrase) => {
            let refused = |_| Error::Refused {
                what: "the cost of a passphrase",
            };
            let params =
                Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(refused)?;
            let mut out = [0; 32];
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(passphrase.as_bytes(), salt, &mut out)
                .map_err(refused)?;
            let key = Secret32::new(out);
            out.zeroize();
            Ok(key)
        }
    }
}

fn authenticated(header: &[u8], context: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(context);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::os_rng;

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn opens_with_the_right_passphrase_only() {
        let file = wrap(
            b"secret",
            &passphrase("correct horse"),
            b"ctx",
            &mut os_rng(),
        )
        .unwrap();
        assert_eq!(
            &**unwrap(&file, &passphrase("correct horse"), b"ctx").unwrap(),
            b"secret"
        );
        assert!(matches!(
            unwrap(&file, &passphrase("correct hearse"), b"ctx"),
            Err(Error::Authentication { .. })
        ));
        let key_file = Unlock::KeyFile(Secret32::new([1; 32]));
        assert!(matches!(
            unwrap(&file, &key_file, b"ctx"),
            Err(Error::Malformed { .. })
        ));
        let mut greedy = file;
        greedy[26..30].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            unwrap(&greedy, &passphrase("correct horse"), b"ctx"),
            Err(Error::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn key_files_open_only_what_they_wrapped(
            secret in proptest::collection::vec(any::<u8>(), 0..80),
            at in any::<proptest::sample::Index>(),
        ) {
            let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
            let file = wrap(&secret, &unlock, b"ctx", &mut os_rng()).unwrap();
            prop_assert_eq!(&*unwrap(&file, &unlock, b"ctx").unwrap(), &secret);
            prop_assert!(unwrap(&file, &unlock, b"other").is_err());
            prop_assert!(unwrap(&file, &Unlock::KeyFile(Secret32::new([2; 32])), b"ctx").is_err());
            let at = at.index(file.len());
            let mut bad = file.clone();
            bad[at] ^= 1;
            prop_assert!(unwrap(&bad, &unlock, b"ctx").is_err());
            prop_assert!(unwrap(&file[..at], &unlock, b"ctx").is_err());
        }
    }
}
