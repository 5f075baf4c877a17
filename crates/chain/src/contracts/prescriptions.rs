//! Prescriptions: issued once, dispensed at most once in all, in parts or whole.
//! Specification: `docs/contracts/prescriptions.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
