//! Governance's views over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, U256};
use stele_core::block::Validator;

use super::storage::{self, Parameter, Seat};
use crate::contracts::{identity, storage::View};

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

/// The validators that the decisions so far seat, those of suspended organisations left out. If that leaves nobody, all
/// seated ones: a ledger without validators would stand still for ever.
///
/// # Errors
/// Those of `read`.
pub fn seated<E>(read: impl Fn(Address, U256) -> Result<U256, E>) -> Result<Vec<Validator>, E> {
    let mut view = View(read);
    let count = storage::counters(&mut view)?.validators;
    let (mut active, mut suspended) = (Vec::new(), Vec::new());
    for index in 0..count {
        let seat = storage::seat(&mut view, index)?;
        if !seat.seated {
            continue;
        }
        let validator = Validator {
            key: seat.key,
            organization: seat.organization,
        };
        if identity::storage::account(&mut view, seat.organization)?.is_active() {
            active.push(validator);
        } else {
            suspended.push(validator);
        }
    }
    Ok(if active.is_empty() { suspended } else { active })
}
