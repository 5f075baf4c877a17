//! What a proposal proposes, read from its payload.

use alloy_primitives::{Address, B256, U256};

use super::storage::Seat;
use crate::contracts::identity::logic::Admission;

/// A decision to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    /// Kind 1: an organisation enters.
    Admit(Admission),
    /// Kind 2: an organisation is suspended.
    Suspend(Address),
    /// Kind 3: a suspended organisation is reinstated.
    Reinstate(Address),
    /// Kind 4: a parameter is set.
    Parameter(B256, U256),
    /// Kind 5: an account may deploy contracts, or not.
    Deployer(Address, bool),
    /// Kind 6: a validator is seated or unseated.
    Validator(Seat),
}

impl Decision {
    /// Reads a payload; `None` when it is not the canonical encoding for its kind.
    pub(super) fn parse(kind: u8, words: &[B256]) -> Option<Self> {
        Some(match (kind, words) {
            (1, [who, kind, endpoints, keys]) => Self::Admit(Admission {
                organization: address(*who)?,
                kind: u8::try_from(U256::from_be_bytes(kind.0)).ok()?,
                endpoints_digest: *endpoints,
                keys_digest: *keys,
            }),
            (2, [who]) => Self::Suspend(address(*who)?),
            (3, [who]) => Self::Reinstate(address(*who)?),
            (4, [key, value]) => Self::Parameter(*key, U256::from_be_bytes(value.0)),
            (5, [who, allowed]) => Self::Deployer(address(*who)?, boolean(*allowed)?),
            (6, [key, organization, seated]) => Self::Validator(Seat {
                key: *key,
                organization: address(*organization)?,
                seated: boolean(*seated)?,
            }),
            _ => return None,
        })
    }

    /// Number of words of a payload.
    pub(super) fn words(kind: u8) -> usize {
        match kind {
            1 => 4,
            2 | 3 => 1,
            4 | 5 => 2,
            6 => 3,
            _ => 0,
        }
    }
}

/// The words of a payload; `None` when its length is not that of its kind.
pub(super) fn words(kind: u8, payload: &[u8]) -> Option<Vec<B256>> {
    let (words, rest) = payload.as_chunks::<32>();
    (rest.is_empty() && words.len() == Decision::words(kind))
        .then(|| words.iter().map(|word| B256::from(*word)).collect())
}

fn address(word: B256) -> Option<Address> {
    let address = Address::from_word(word);
    (address.into_word() == word).then_some(address)
}

fn boolean(word: B256) -> Option<bool> {
    match u8::try_from(U256::from_be_bytes(word.0)).ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
