//! Layout of Records' storage.

use alloy_primitives::{Address, B256, U256};
use stele_core::{id::RECORDS, mmr};

use crate::contracts::storage::{Reader, Writer, address_at, address_word, at, bits};

/// A log: size and custodian, one word of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Number of leaves.
    pub size: u64,
    /// Organisation that keeps the ciphertexts; zero before the first batch.
    pub custodian: Address,
}

/// Slot of a log's word; peaks follow it.
pub(crate) fn slot<R: Reader>(reader: &mut R, log: Address) -> Result<U256, R::Error> {
    reader.mapping(log.into_word(), LOGS)
}

pub(crate) fn log<R: Reader>(reader: &mut R, slot: U256) -> Result<Log, R::Error> {
    let word = reader.load(RECORDS, slot)?;
    Ok(Log {
        size: bits(word, 0, 64),
        custodian: address_at(word, 64),
    })
}

pub(crate) fn set_log<W: Writer>(writer: &mut W, slot: U256, log: Log) -> Result<(), W::Error> {
    writer.store(
        RECORDS,
        slot,
        at(log.size, 0) | address_word(log.custodian, 64),
    )
}

pub(crate) fn peak<R: Reader>(reader: &mut R, slot: U256, height: u8) -> Result<B256, R::Error> {
    reader
        .load(RECORDS, peak_slot(slot, height))
        .map(B256::from)
}

pub(crate) fn set_peak<W: Writer>(
    writer: &mut W,
    slot: U256,
    height: u8,
    peak: B256,
) -> Result<(), W::Error> {
    writer.store(RECORDS, peak_slot(slot, height), peak.into())
}

/// Peaks of a log of this size, highest first.
pub(crate) fn peaks<R: Reader>(
    reader: &mut R,
    slot: U256,
    size: u64,
) -> Result<Vec<B256>, R::Error> {
    mmr::peak_heights(size)
        .map(|height| peak(reader, slot, height))
        .collect()
}

fn peak_slot(slot: U256, height: u8) -> U256 {
    slot.wrapping_add(U256::from(u16::from(height).wrapping_add(1)))
}

const LOGS: U256 = U256::ZERO;
