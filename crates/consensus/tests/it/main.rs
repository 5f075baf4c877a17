//! Integration tests of consensus: one validator on real threads, several in simulation and over
//! real connections.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod ledger;
#[cfg(feature = "testkit")]
mod simulated;
mod single;
mod tcp;
