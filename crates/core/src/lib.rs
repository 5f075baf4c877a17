//! Vocabulary, formats and cryptography of Stele: synchronous, no I/O.

pub mod certificate;
pub mod abi;
pub mod block;
pub mod crypto;
pub mod id;
pub mod mmr;
pub mod phi;
pub mod time;
pub mod tx;
