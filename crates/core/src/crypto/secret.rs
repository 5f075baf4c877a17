//! Secrets of 32 bytes, and where randomness comes from.

use std::fmt;

use getrandom::SysRng;
use rand_core::{CryptoRng, UnwrapErr};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes: a symmetric key, a seed, a pepper or a salt that must stay secret.
///
/// Wiped when dropped, compared in constant time, and printed as `Secret32(…)`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Takes 32 bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 32 random bytes.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The bytes themselves. Named so that every use can be found.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(…)")
    }
}

impl PartialEq for Secret32 {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret32 {}

/// The operating system's random number generator.
///
/// A kernel that cannot give random bytes cannot run a vault, so failure there aborts the
/// operation by panicking inside `rand_core`; on Linux that cannot happen after boot.
#[must_use]
pub const fn os_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_print_and_compares_by_value() {
        let secret = Secret32::new([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret32(…)");
        assert_eq!(secret, Secret32::new([0xab; 32]));
        assert_ne!(
            Secret32::random(&mut os_rng()),
            Secret32::random(&mut os_rng())
        );
    }
}
