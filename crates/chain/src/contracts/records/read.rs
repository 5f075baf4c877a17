//! Records' views over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, B256, U256};

use super::storage::{self, Log};
use crate::contracts::storage::View;

/// Size and custodian of a log.
///
/// # Errors
/// Those of `read`.
pub fn log<E>(read: impl Fn(Address, U256) -> Result<U256, E>, log: Address) -> Result<Log, E> {
    let mut view = View(read);
    let slot = storage::slot(&mut view, log)?;
    storage::log(&mut view, slot)
}

/// Number of leaves of a log.
///
/// # Errors
/// Those of `read`.
pub fn size<E>(read: impl Fn(Address, U256) -> Result<U256, E>, log: Address) -> Result<u64, E> {
    self::log(read, log).map(|log| log.size)
}

/// Size and peaks of a log, highest mountain first; [`stele_core::mmr::bag`] makes its root of them.
///
/// # Errors
/// Those of `read`.
pub fn peaks<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    log: Address,
) -> Result<(u64, Vec<B256>), E> {
    let mut view = View(read);
    let slot = storage::slot(&mut view, log)?;
    let size = storage::log(&mut view, slot)?.size;
    Ok((size, storage::peaks(&mut view, slot, size)?))
}
