//! Records: one append-only log of salted commitments per patient (or organisation).
//! Specification: `docs/contracts/records.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub mod read;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

pub use logic::custody_hash;
pub use storage::Log;
