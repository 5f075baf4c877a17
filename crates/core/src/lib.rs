//! Vocabulary, formats and cryptography of Stele: synchronous, no I/O.

pub mod abi;
pub mod account;
pub mod block;
pub mod certificate;
pub mod consent;
pub mod crypto;
pub mod element;
pub mod epoch;
pub mod export;
pub mod id;
pub mod leaf;
pub mod mmr;
pub mod phi;
pub mod prescription;
pub mod proof;
pub mod receipt;
pub mod time;
pub mod tx;
