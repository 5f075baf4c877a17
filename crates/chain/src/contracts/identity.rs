//! Identity: organisations, their members, patients, and the keys that speak for an account.
//! Specification: `docs/contracts/identity.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub mod read;
pub(crate) mod storage;
#[cfg(test)]
mod tests;

pub use storage::{Account, Kind, Standing, Status};
