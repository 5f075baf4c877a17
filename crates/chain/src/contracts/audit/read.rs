//! Audit's view over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, U256};

use super::storage::{self, Sequence};
use crate::contracts::storage::View;

/// How far an organisation's sequence of receipts goes.
///
/// # Errors
/// Those of `read`.
pub fn sequence<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    organization: Address,
) -> Result<Sequence, E> {
    storage::sequence(&mut View(read), organization)
}
