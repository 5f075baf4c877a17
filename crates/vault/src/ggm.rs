//! One step of a Goldreich–Goldwasser–Micali tree: two child seeds from one.
//!
//! `child(seed, bit) = SHA-256(bit ‖ seed)`. Whoever holds a node can derive all below it and
//! nothing beside or above it. Browsers compute the same with `crypto.subtle.digest`.

use stele_core::crypto::Secret32;
use zeroize::Zeroize;

use sha2::{Digest, Sha256};

/// The seed of a child: the left one for `false`, the right one for `true`.
pub(crate) fn child(seed: &Secret32, bit: bool) -> Secret32 {
    let mut hasher = Sha256::new();
    hasher.update([u8::from(bit)]);
    hasher.update(seed.expose());
    let mut out: [u8; 32] = hasher.finalize().into();
    let child = Secret32::new(out);
    out.zeroize();
    child
}

/// Walks `bits` bits down from a node, most significant first.
pub(crate) fn descend(seed: &Secret32, path: u128, bits: u32) -> Secret32 {
    let mut at = seed.clone();
    for bit in (0..bits).rev() {
        at = child(&at, path >> bit & 1 == 1);
    }
    at
}
