//! The key file of a patient who holds their own keys, for the command line.
//!
//! The format is `stele_core::crypto::keystore` with context `stele/patient/v1`, around
//! `account (20) ‖ root key (32) ‖ secp256k1 secret of the account (32)`: 84 bytes; where the patient took the
//! account over, `‖ own secret (32) ‖ its first generation (u32, big-endian)`: 120 bytes. No copy of it is
//! kept by any organisation; who loses the file and the guardians loses the record.

use alloy_primitives::Address;
use rand_core::CryptoRng;
use stele_core::crypto::{Secret32, keystore, keystore::Unlock};
use zeroize::Zeroizing;

use super::tree::{OwnRoot, RootKey};
use crate::{
    codec::Reader,
    error::{Error, Result},
};

const CONTEXT: &[u8] = b"stele/patient/v1";

/// What a self-custody patient's key file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientKeys {
    /// The patient's account.
    pub account: Address,
    /// The root of all record keys.
    pub root: RootKey,
    /// The secp256k1 secret that speaks for the account.
    pub signing: Secret32,
}

impl PatientKeys {
    /// Wraps the keys for a file.
    ///
    /// # Errors
    /// [`Error::Crypto`] if the memory for the passphrase function cannot be had.
    pub fn wrap(&self, unlock: &Unlock, rng: &mut impl CryptoRng) -> Result<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(120));
        plain.extend_from_slice(self.account.as_slice());
        plain.extend_from_slice(self.root.secret().expose());
        plain.extend_from_slice(self.signing.expose());
        if let Some(own) = self.root.own() {
            plain.extend_from_slice(own.secret.expose());
            plain.extend_from_slice(&own.from_generation.to_be_bytes());
        }
        keystore::wrap(&plain, unlock, CONTEXT, rng).map_err(Error::crypto("wrapping a key file"))
    }

    /// Opens a key file.
    ///
    /// # Errors
    /// [`Error::Crypto`] for a wrong passphrase or altered file; [`Error::Malformed`] if it holds
    /// something else.
    pub fn unwrap(file: &[u8], unlock: &Unlock) -> Result<Self> {
        let plain =
            keystore::unwrap(file, unlock, CONTEXT).map_err(Error::crypto("opening a key file"))?;
        let mut reader = Reader::new(&plain, "a patient's key file");
        let mut keys = Self {
            account: Address::new(reader.array()?),
            root: RootKey::new(Secret32::new(reader.array()?)),
            signing: Secret32::new(reader.array()?),
        };
        if !reader.is_empty() {
            keys.root = keys.root.taken_over(OwnRoot {
                secret: Secret32::new(reader.array()?),
                from_generation: reader.u32()?,
            });
        }
        reader.end()?;
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use stele_core::crypto::os_rng;

    use super::*;

    #[test]
    fn opens_with_its_unlocking_key_only() {
        let keys = PatientKeys {
            account: Address::repeat_byte(1),
            root: RootKey::random(&mut os_rng()),
            signing: Secret32::random(&mut os_rng()),
        };
        let unlock = Unlock::KeyFile(Secret32::new([1; 32]));
        let file = keys.wrap(&unlock, &mut os_rng()).unwrap();
        assert_eq!(PatientKeys::unwrap(&file, &unlock).unwrap(), keys);
        let other = Unlock::KeyFile(Secret32::new([2; 32]));
        assert!(matches!(
            PatientKeys::unwrap(&file, &other),
            Err(Error::Crypto { .. })
        ));
        assert!(!format!("{keys:?}").contains("Secret32(["));
        let taken = PatientKeys {
            root: keys.root.clone().taken_over(OwnRoot {
                secret: Secret32::random(&mut os_rng()),
                from_generation: 3,
            }),
            ..keys
        };
        let file = taken.wrap(&unlock, &mut os_rng()).unwrap();
        assert_eq!(PatientKeys::unwrap(&file, &unlock).unwrap(), taken);
    }
}
