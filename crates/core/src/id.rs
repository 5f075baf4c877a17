//! Identifiers: newtypes, so that a patient is never passed where an organisation is meant.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, B256, address};
use serde::{Deserialize, Serialize};

/// Why a text is not the identifier it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}: {problem}")]
pub struct ParseIdError {
    /// What was expected.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bytes of the identifier, in order.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_slice()
            }

            /// Reads the identifier from exactly its number of bytes.
            ///
            /// # Errors
            /// The slice has another length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseIdError> {
                <$inner>::try_from(bytes).map(Self).map_err(|source| ParseIdError {
                    kind: $kind,
                    text: format!("{} bytes", bytes.len()),
                    problem: source.to_string(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse::<$inner>().map(Self).map_err(|source| ParseIdError {
                    kind: $kind,
                    text: text.chars().take(80).collect(),
                    problem: source.to_string(),
                })
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }

        impl From<$name> for $inner {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

identifier!(
    /// A patient's pseudonymous account. 20 bytes, shown as `0x…` with EIP-55 checksum.
    PatientId, Address, "a patient's account"
);
identifier!(
    /// An organisation's account. 20 bytes, shown as `0x…` with EIP-55 checksum.
    OrganizationId, Address, "an organisation's account"
);
identifier!(
    /// A record: one FHIR resource with all its versions. 32 bytes; see [`crate::leaf::record_id`].
    RecordId, B256, "a record id"
);

/// The log a leaf stands in: a patient's, or an organisation's for resources without a patient.
pub type LogId = Address;

/// System contract Identity.
pub const IDENTITY: Address = address!("0x5e1e000000000000000000000000000000000001");
/// System contract Records.
pub const RECORDS: Address = address!("0x5e1e000000000000000000000000000000000002");
/// System contract Consent.
pub const CONSENT: Address = address!("0x5e1e000000000000000000000000000000000003");
/// System contract Audit.
pub const AUDIT: Address = address!("0x5e1e000000000000000000000000000000000004");
/// System contract Prescriptions, since protocol 2.
pub const PRESCRIPTIONS: Address = address!("0x5e1e000000000000000000000000000000000005");
/// System contract Emergency, since protocol 2.
pub const EMERGENCY: Address = address!("0x5e1e000000000000000000000000000000000006");
/// System contract Governance.
pub const GOVERNANCE: Address = address!("0x5e1e000000000000000000000000000000000007");

/// Chain id of a consortium unless its genesis says otherwise.
pub const DEFAULT_CHAIN_ID: u64 = 57_831;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = PatientId(address!("0x00000000000000000000000000000000000000aa"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(PatientId::from_slice(id.as_bytes()), Ok(id));
    }

    #[test]
    fn wrong_text_says_what_was_expected() {
        let error = "0x12".parse::<RecordId>().unwrap_err();
        assert!(error.to_string().contains("a record id"), "{error}");
        assert!(PatientId::from_slice(&[0; 19]).is_err());
    }
}
