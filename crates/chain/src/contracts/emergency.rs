//! Emergency: a clinician opens a record without leave, for a short time, in the open, to be judged later.
//! Specification: `docs/contracts/emergency.md`.

pub(crate) mod dispatch;
pub(crate) mod logic;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
