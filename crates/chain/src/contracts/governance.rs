//! Governance: the consortium's members decide by vote; one organisation has one vote.
//! Specification: `docs/contracts/governance.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
mod payload;
pub mod read;
pub(crate) mod storage;
#[cfg(test)]
pub(crate) mod tests;

pub use storage::{Parameter, Seat};
