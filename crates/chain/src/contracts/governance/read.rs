//! Governance's views over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, U256};

use super::storage::{self, Parameter, Seat};
use crate::contracts::storage::View;

pub use super::storage::Bounds;

/// A parameter's value: the one set, or its default.
///
/// # Errors
/// Those of `read`.
pub fn parameter<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    parameter: Parameter,
) -> Result<u64, E> {
    storage::parameter(&mut View(read), parameter)
}

/// Whether the account may deploy contracts.
///
/// # Errors
/// Those of `read`.
pub fn may_deploy<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    account: Address,
) -> Result<bool, E> {
    storage::may_deploy(&mut View(read), account)
}

/// All entries of the list of validators, seated or not, in the order of their first seating.
///
/// # Errors
/// Those of `read`.
pub fn validators<E>(read: impl Fn(Address, U256) -> Result<U256, E>) -> Result<Vec<Seat>, E> {
    let mut view = View(read);
    let count = storage::counters(&mut view)?.validators;
    (0..count)
        .map(|index| storage::seat(&mut view, index))
        .collect()
}
