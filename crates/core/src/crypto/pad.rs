//! Padmé padding: hides all but the order of magnitude of a length.
//!
//! Nikitin et al., *Reducing Metadata Leakage from Encrypted Files and Communication with PURBs*,
//! 2019, algorithm 1. Leaks O(log log n) bits of a length n and adds at most 12 %.

/// The padded length of `length` bytes: the length with its low bits rounded up.
///
/// Saturates at `u64::MAX`, which no stored object reaches.
#[must_use]
pub const fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let bits_of_exponent = exponent.ilog2() + 1;
    let low_bits = exponent.saturating_sub(bits_of_exponent);
    let mask = (1u64 << low_bits) - 1;
    length.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_lengths() {
        // From the reference implementation of the paper.
        for (length, padded) in [
            (0, 0),
            (1, 1),
            (9, 10),
            (100, 104),
            (1_000, 1_024),
            (65_537, 67_584),
        ] {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    proptest! {
        #[test]
        fn grows_by_at_most_twelve_percent(length in 0u64..1 << 50) {
            let padded = padme(length);
            prop_assert!(padded >= length);
            prop_assert!(padded - length <= length * 12 / 100 + 1);
            prop_assert_eq!(padme(padded), padded);
        }
    }
}
