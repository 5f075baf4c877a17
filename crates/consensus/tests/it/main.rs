//! Integration tests of consensus: one validator on real threads, several in simulation.

mod ledger;
#[cfg(feature = "testkit")]
mod simulated;
mod single;
mod tcp;
