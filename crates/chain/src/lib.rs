//! Deterministic execution: revm, native system contracts, Merkle-Patricia state.

pub mod state;
