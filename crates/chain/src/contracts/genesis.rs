//! Storage of the system contracts at genesis: the first organisations, the validators' seats, parameters.

use std::{collections::BTreeMap, convert::Infallible};

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{
    governance::{
        logic::MAX_VALIDATORS,
        storage::{self as governance, Parameter, Seat},
    },
    identity::{
        Kind,
        logic::{Admission, registrable, write_organization},
        storage as identity,
    },
    storage::{Reader, Writer},
};

/// What the consortium starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenesisSpec {
    /// First organisations, active from the start; at least one.
    pub organizations: Vec<GenesisOrganization>,
    /// First validators, all seated; at least one.
    pub validators: Vec<GenesisValidator>,
    /// Parameters that differ from their defaults.
    pub parameters: Vec<(Parameter, u64)>,
    /// Accounts that may deploy contracts.
    pub deployers: Vec<Address>,
}

/// An organisation of the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenesisOrganization {
    /// Its account.
    pub address: Address,
    /// Its kind, by the consortium's own numbering.
    pub kind: u8,
    /// Digest of its endpoints.
    pub endpoints_digest: B256,
    /// Digest of its public keys.
    pub keys_digest: B256,
}

/// A validator of the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenesisValidator {
    /// Ed25519 public key, 32 bytes.
    pub key: B256,
    /// Organisation that runs it, one of the genesis.
    pub organization: Address,
}

/// Why a genesis is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Nobody could ever decide anything.
    #[error("a genesis needs at least one organisation")]
    NoOrganization,
    /// No block could ever be made, or more seats than there may be.
    #[error("a genesis needs 1 to {max} validators, not {given}")]
    Validators {
        /// Number given.
        given: usize,
        /// Most there may be.
        max: u32,
    },
    /// An organisation twice, or at a reserved or the zero address.
    #[error("organisation {0} is named twice or has an address no account may have")]
    Organization(Address),
    /// A key twice or zero, or an organisation that is not of the genesis.
    #[error(
        "validator {key} is named twice, is zero, or {organization} is no organisation of the genesis"
    )]
    Validator {
        /// Its key.
        key: B256,
        /// Its organisation.
        organization: Address,
    },
    /// A value out of bounds.
    #[error("parameter {name} is {value}, it must be {min} to {max}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Value given.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
}

/// The storage of all system contracts at genesis: contract, slot, word; no word is zero.
///
/// # Errors
/// The specification names no organisation or validator, one twice, or a value out of bounds.
pub fn genesis(
    spec: &GenesisSpec,
) -> Result<BTreeMap<Address, BTreeMap<U256, U256>>, GenesisError> {
    let mut storage = Storage::default();
    let given = spec.validators.len();
    if given == 0 || u32::try_from(given).is_ok_and(|given| given > MAX_VALIDATORS) {
        return Err(GenesisError::Validators {
            given,
            max: MAX_VALIDATORS,
        });
    }
    if spec.organizations.is_empty() {
        return Err(GenesisError::NoOrganization);
    }
    for organization in &spec.organizations {
        let who = organization.address;
        let Ok(account) = identity::account(&mut storage, who);
        if !registrable(who) || account.kind != Kind::None {
            return Err(GenesisError::Organization(who));
        }
        let Ok(()) = write_organization(
            &mut storage,
            &Admission {
                organization: who,
                kind: organization.kind,
                endpoints_digest: organization.endpoints_digest,
                keys_digest: organization.keys_digest,
            },
        );
    }
    for GenesisValidator { key, organization } in spec.validators.iter().copied() {
        let Ok(account) = identity::account(&mut storage, organization);
        let Ok(taken) = governance::seat_index(&mut storage, key);
        if account.kind != Kind::Organization || taken.is_some() || key.is_zero() {
            return Err(GenesisError::Validator { key, organization });
        }
        let Ok(()) = governance::write_seat(
            &mut storage,
            &Seat {
                key,
                organization,
                seated: true,
            },
        );
    }
    for (parameter, value) in spec.parameters.iter().copied() {
        let bounds = parameter.bounds();
        if !(bounds.min..=bounds.max).contains(&value) {
            let (min, max) = (bounds.min, bounds.max);
            return Err(GenesisError::Parameter {
                name: parameter.name(),
                value,
                min,
                max,
            });
        }
        let Ok(()) = governance::set_parameter(&mut storage, parameter, value);
    }
    for deployer in spec.deployers.iter().copied() {
        let Ok(()) = governance::set_may_deploy(&mut storage, deployer, true);
    }
    Ok(storage.0)
}

/// Words collected in order of address and slot.
#[derive(Default)]
struct Storage(BTreeMap<Address, BTreeMap<U256, U256>>);

impl Reader for Storage {
    type Error = Infallible;

    fn load(&mut self, contract: Address, slot: U256) -> Result<U256, Infallible> {
        let words = self.0.get(&contract);
        Ok(words
            .and_then(|words| words.get(&slot))
            .copied()
            .unwrap_or_default())
    }

    fn keccak(&mut self, bytes: &[u8]) -> Result<B256, Infallible> {
        Ok(keccak256(bytes))
    }
}

impl Writer for Storage {
    fn store(&mut self, contract: Address, slot: U256, word: U256) -> Result<(), Infallible> {
        let words = self.0.entry(contract).or_default();
        if word.is_zero() {
            words.remove(&slot);
        } else {
            words.insert(slot, word);
        }
        Ok(())
    }
}
