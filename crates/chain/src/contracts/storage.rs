//! Storage as the contracts see it: 256-bit words at 256-bit slots of an account, laid out as solc does.
//!
//! One layout serves three sources: the journal of a running transaction ([`super::host::Host`], metered), any
//! key-value closure ([`View`], for the pool and queries) and the genesis writer.

use alloy_primitives::{Address, B256, U256, keccak256};

/// Where words are read from.
pub(crate) trait Reader {
    /// Why reading failed: nothing a rule decides, only the source's own trouble or missing gas.
    type Error;

    /// The word at a slot; zero where nothing was written.
    fn load(&mut self, contract: Address, slot: U256) -> Result<U256, Self::Error>;

    /// keccak-256, charged where gas is charged.
    fn keccak(&mut self, bytes: &[u8]) -> Result<B256, Self::Error>;

    /// Slot of a mapping's entry: `keccak256(key ‖ slot)`.
    fn mapping(&mut self, key: B256, slot: U256) -> Result<U256, Self::Error> {
        let mut bytes = [0_u8; 64];
        let (first, second) = bytes.split_at_mut(32);
        first.copy_from_slice(key.as_slice());
        second.copy_from_slice(&slot.to_be_bytes::<32>());
        self.keccak(&bytes).map(Into::into)
    }

    /// First slot of a dynamic array's elements: `keccak256(slot)`.
    fn array(&mut self, slot: U256) -> Result<U256, Self::Error> {
        self.keccak(&slot.to_be_bytes::<32>()).map(Into::into)
    }
}

/// Where words are written to.
pub(crate) trait Writer: Reader {
    /// Sets the word at a slot.
    fn store(&mut self, contract: Address, slot: U256, word: U256) -> Result<(), Self::Error>;
}

/// Reads through a closure, without gas.
pub(crate) struct View<F>(pub(crate) F);

impl<F, E> Reader for View<F>
where
    F: Fn(Address, U256) -> Result<U256, E>,
{
    type Error = E;

    fn load(&mut self, contract: Address, slot: U256) -> Result<U256, E> {
        (self.0)(contract, slot)
    }

    fn keccak(&mut self, bytes: &[u8]) -> Result<B256, E> {
        Ok(keccak256(bytes))
    }
}

/// Up to 64 bits of a word, from `offset` counted from the low end.
pub(crate) fn bits(word: U256, offset: usize, width: u32) -> u64 {
    let [low, ..] = (word >> offset).into_limbs();
    match 1_u64.checked_shl(width) {
        Some(limit) => low & limit.wrapping_sub(1),
        None => low,
    }
}

/// Eight bits of a word.
pub(crate) fn u8_at(word: U256, offset: usize) -> u8 {
    let [a, ..] = bits(word, offset, 8).to_le_bytes();
    a
}

/// Sixteen bits of a word.
pub(crate) fn u16_at(word: U256, offset: usize) -> u16 {
    let [a, b, ..] = bits(word, offset, 16).to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// 32 bits of a word.
pub(crate) fn u32_at(word: U256, offset: usize) -> u32 {
    let [a, b, c, d, ..] = bits(word, offset, 32).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// 160 bits of a word.
pub(crate) fn address_at(word: U256, offset: usize) -> Address {
    Address::from_word(B256::from(word >> offset))
}

/// A field moved to its place in a word.
pub(crate) fn at(value: impl Into<u64>, offset: usize) -> U256 {
    U256::from(value.into()) << offset
}

/// An address moved to its place in a word.
pub(crate) fn address_word(address: Address, offset: usize) -> U256 {
    U256::from_be_bytes(address.into_word().0) << offset
}
