//! Consent: who may read, write or share which of a patient's records, until when and why.
//! Specification: `docs/contracts/consent.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub mod read;
pub mod signing;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

pub use storage::Question;
