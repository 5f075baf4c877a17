//! Consent's views over any storage, without the EVM: `read(contract, slot)` gives the word at a slot.

use alloy_primitives::{Address, B256, U256};

use super::storage::{self, Question};
use crate::contracts::storage::View;

/// Category slots of the patient that are open to `who` at `now_s` (Unix seconds), as a bit set.
///
/// # Errors
/// Those of `read`.
pub fn open_categories<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    patient: Address,
    who: Address,
    question: Question,
    now_s: u64,
) -> Result<u64, E> {
    storage::open(&mut View(read), patient, who, &question, now_s)
}

/// Whether the category slot (0 to 63) is open to `who` at `now_s` (Unix seconds).
///
/// # Errors
/// Those of `read`.
pub fn can<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    patient: Address,
    who: Address,
    category: u8,
    question: Question,
    now_s: u64,
) -> Result<bool, E> {
    let open = open_categories(read, patient, who, question, now_s)?;
    Ok(super::logic::has_category(open, category))
}

/// Root of the patient's directory of public keys; zero when none was published.
///
/// # Errors
/// Those of `read`.
pub fn directory_root<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    patient: Address,
) -> Result<B256, E> {
    storage::directory_root(&mut View(read), patient)
}

/// Nonce of the patient's next EIP-712 signature.
///
/// # Errors
/// Those of `read`.
pub fn signature_nonce<E>(
    read: impl Fn(Address, U256) -> Result<U256, E>,
    patient: Address,
) -> Result<u64, E> {
    storage::counters(&mut View(read), patient).map(|counters| counters.nonce)
}
