//! Choices that a failing run can repeat.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose where a fault goes.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `STELE_SEED`, or anew; prints the seed, so that a failure can be repeated.
    pub(crate) fn from_environment(what: &str) -> Self {
        let seed = match std::env::var("STELE_SEED") {
            Ok(text) => text.parse().expect("STELE_SEED is a number"),
            Err(_) => std::hash::BuildHasher::hash_one(
                &std::collections::hash_map::RandomState::new(),
                what,
            ),
        };
        println!("{what}: STELE_SEED={seed}");
        Self(seed)
    }

    /// Seeded by a number.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `end`, which it never is.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
