//! Layout of Emergency's storage.

use alloy_primitives::{Address, U256};
use stele_core::id::EMERGENCY;

use crate::contracts::storage::{
    Reader, Writer, address_at, address_word, at, bits, u8_at, u32_at,
};

/// An opening: two words of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) patient: Address,
    pub(crate) clinician: Address,
    /// Number of the grant in Consent.
    pub(crate) grant: u32,
    pub(crate) reason: u8,
    /// 0 not reviewed, 1 justified, 2 not justified.
    pub(crate) verdict: u8,
    /// First Unix second at which nothing is open any more; 40 bits.
    pub(crate) until_s: u64,
}

/// Openings so far: the number of the last, counted from 1.
pub(crate) fn count<R: Reader>(reader: &mut R) -> Result<u64, R::Error> {
    reader.load(EMERGENCY, COUNT).map(|word| bits(word, 0, 64))
}

pub(crate) fn set_count<W: Writer>(writer: &mut W, count: u64) -> Result<(), W::Error> {
    writer.store(EMERGENCY, COUNT, U256::from(count))
}

pub(crate) fn opening<R: Reader>(reader: &mut R, number: u64) -> Result<Opening, R::Error> {
    let base = reader.mapping(U256::from(number).into(), OPENINGS)?;
    let first = reader.load(EMERGENCY, base)?;
    let second = reader.load(EMERGENCY, base.wrapping_add(U256::ONE))?;
    Ok(Opening {
        patient: address_at(first, 0),
        reason: u8_at(first, 160),
        verdict: u8_at(first, 168),
        until_s: bits(first, 176, 40),
        clinician: address_at(second, 0),
        grant: u32_at(second, 160),
    })
}

pub(crate) fn set_opening<W: Writer>(
    writer: &mut W,
    number: u64,
    opening: &Opening,
) -> Result<(), W::Error> {
    let base = writer.mapping(U256::from(number).into(), OPENINGS)?;
    let first = address_word(opening.patient, 0)
        | at(opening.reason, 160)
        | at(opening.verdict, 168)
        | at(opening.until_s & MAX_TIME_S, 176);
    let second = address_word(opening.clinician, 0) | at(opening.grant, 160);
    writer.store(EMERGENCY, base, first)?;
    writer.store(EMERGENCY, base.wrapping_add(U256::ONE), second)
}

/// Until when a clinician's last opening of a patient's record lasts, in Unix seconds; 0 where there was none.
pub(crate) fn last_until<R: Reader>(
    reader: &mut R,
    patient: Address,
    clinician: Address,
) -> Result<u64, R::Error> {
    let slot = last_slot(reader, patient, clinician)?;
    reader.load(EMERGENCY, slot).map(|word| bits(word, 0, 40))
}

pub(crate) fn set_last_until<W: Writer>(
    writer: &mut W,
    patient: Address,
    clinician: Address,
    until_s: u64,
) -> Result<(), W::Error> {
    let slot = last_slot(writer, patient, clinician)?;
    writer.store(EMERGENCY, slot, at(until_s & MAX_TIME_S, 0))
}

fn last_slot<R: Reader>(
    reader: &mut R,
    patient: Address,
    clinician: Address,
) -> Result<U256, R::Error> {
    let of_patient = reader.mapping(patient.into_word(), LAST)?;
    reader.mapping(clinician.into_word(), of_patient)
}

/// Largest time in seconds: 40 bits.
const MAX_TIME_S: u64 = (1 << 40) - 1;
const COUNT: U256 = U256::ZERO;
const OPENINGS: U256 = U256::from_limbs([1, 0, 0, 0]);
const LAST: U256 = U256::from_limbs([2, 0, 0, 0]);
