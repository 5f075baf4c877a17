//! Layout of Audit's storage.

use alloy_primitives::{Address, B256, U256};
use stele_core::id::AUDIT;

use crate::contracts::storage::{Reader, Writer, bits};

/// How far an organisation's sequence of receipts goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Receipts anchored so far: number of the next.
    pub count: u64,
    /// Last head of the hash chain; zero before the first.
    pub head: B256,
}

pub(crate) fn sequence<R: Reader>(
    reader: &mut R,
    organization: Address,
) -> Result<Sequence, R::Error> {
    let base = reader.mapping(organization.into_word(), SEQUENCES)?;
    let count = reader.load(AUDIT, base)?;
    let head = reader.load(AUDIT, base.wrapping_add(U256::ONE))?;
    Ok(Sequence {
        count: bits(count, 0, 64),
        head: head.into(),
    })
}

pub(crate) fn set_sequence<W: Writer>(
    writer: &mut W,
    organization: Address,
    sequence: Sequence,
) -> Result<(), W::Error> {
    let base = writer.mapping(organization.into_word(), SEQUENCES)?;
    writer.store(AUDIT, base, U256::from(sequence.count))?;
    writer.store(AUDIT, base.wrapping_add(U256::ONE), sequence.head.into())
}

const SEQUENCES: U256 = U256::ZERO;
