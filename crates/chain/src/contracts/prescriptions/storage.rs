//! Layout of Prescriptions' storage.

use alloy_primitives::{Address, B256, U256};
use stele_core::id::PRESCRIPTIONS;

use crate::contracts::storage::{
    Reader, Writer, address_at, address_word, at, bits, u8_at, u16_at,
};

/// Where a prescription stands in its life. That it expired or is dispensed is not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// Never issued.
    #[default]
    Unknown = 0,
    /// Issued.
    Issued = 1,
    /// Ended by its prescriber or the prescriber's organisation.
    Cancelled = 2,
}

/// A prescription: one word of storage beside its commitment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prescription {
    pub(crate) prescriber: Address,
    /// Portions issued.
    pub(crate) portions: u16,
    /// Portions dispensed so far; never more than issued.
    pub(crate) dispensed: u16,
    /// Dispensings so far: number of the next.
    pub(crate) sequence: u16,
    pub(crate) status: Status,
    /// First Unix second at which nothing is dispensed any more; 40 bits.
    pub(crate) expires_s: u64,
}

impl Prescription {
    fn unpack(word: U256) -> Self {
        Self {
            prescriber: address_at(word, 0),
            portions: u16_at(word, 160),
            dispensed: u16_at(word, 176),
            sequence: u16_at(word, 192),
            status: match u8_at(word, 208) {
                1 => Status::Issued,
                2 => Status::Cancelled,
                _ => Status::Unknown,
            },
            expires_s: bits(word, 216, 40),
        }
    }

    fn pack(&self) -> U256 {
        address_word(self.prescriber, 0)
            | at(self.portions, 160)
            | at(self.dispensed, 176)
            | at(self.sequence, 192)
            | at(self.status as u8, 208)
            | at(self.expires_s & MAX_TIME_S, 216)
    }

    /// Portions that are left.
    pub(crate) fn left(&self) -> u16 {
        self.portions.saturating_sub(self.dispensed)
    }
}

/// A prescription and the first of its slots.
pub(crate) fn prescription<R: Reader>(
    reader: &mut R,
    id: Address,
) -> Result<(Prescription, U256), R::Error> {
    let base = reader.mapping(id.into_word(), PRESCRIPTION)?;
    let word = reader.load(PRESCRIPTIONS, base)?;
    Ok((Prescription::unpack(word), base))
}

pub(crate) fn set_prescription<W: Writer>(
    writer: &mut W,
    base: U256,
    prescription: &Prescription,
) -> Result<(), W::Error> {
    writer.store(PRESCRIPTIONS, base, prescription.pack())
}

/// The digest of what is prescribed, given the first of the prescription's slots.
pub(crate) fn commitment<R: Reader>(reader: &mut R, base: U256) -> Result<B256, R::Error> {
    reader
        .load(PRESCRIPTIONS, base.wrapping_add(U256::ONE))
        .map(B256::from)
}

pub(crate) fn set_commitment<W: Writer>(
    writer: &mut W,
    base: U256,
    commitment: B256,
) -> Result<(), W::Error> {
    let slot = base.wrapping_add(U256::ONE);
    writer.store(PRESCRIPTIONS, slot, commitment.into())
}

/// Largest time in seconds: 40 bits.
const MAX_TIME_S: u64 = (1 << 40) - 1;
const PRESCRIPTION: U256 = U256::ZERO;
