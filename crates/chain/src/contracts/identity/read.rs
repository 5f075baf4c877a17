//! Identity's views over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, B256, U256};

use super::storage::{self, Account, Standing};
use crate::contracts::storage::View;

pub use super::storage::{Key, OrganizationCount};

/// The account; [`Account::default`] when it is not registered.
///
/// # Errors
/// Those of `read`.
pub fn account<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    who: Address,
) -> Result<Account, E> {
    storage::account(&mut View(read), who)
}

/// What the account may do now, its organisation considered.
///
/// # Errors
/// Those of `read`.
pub fn standing<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    who: Address,
) -> Result<Standing, E> {
    storage::standing(&mut View(read), who)
}

/// The key if it speaks for the account. `key_id`: left-padded address, or keccak-256 of a passkey's x ‖ y.
/// The account's status is not considered. The own key of an unregistered account speaks for it.
///
/// # Errors
/// Those of `read`.
pub fn speaks_for<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    who: Address,
    key_id: B256,
) -> Result<Option<Key>, E> {
    storage::speaks_for(&mut View(read), who, key_id)
}

/// Whether the organisation allows passkeys used at the origin whose keccak-256 this is.
///
/// # Errors
/// Those of `read`.
pub fn origin_allowed<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    organization: Address,
    origin_digest: B256,
) -> Result<bool, E> {
    storage::origin_allowed(&mut View(read), organization, origin_digest)
}

/// How many organisations there are.
///
/// # Errors
/// Those of `read`.
pub fn organization_count<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
) -> Result<OrganizationCount, E> {
    storage::organization_count(&mut View(read))
}

/// The organisation with this number, counted from 0 in order of registration; zero beyond the last.
///
/// # Errors
/// Those of `read`.
pub fn organization_at<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    index: u64,
) -> Result<Address, E> {
    storage::organization_at(&mut View(read), index)
}
