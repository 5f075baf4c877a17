//! Audit: each organisation's hash-chained sequence of access receipts, anchored in batches.
//! Specification: `docs/contracts/audit.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub mod read;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

pub use storage::Sequence;
