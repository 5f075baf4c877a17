//! The chain from the outside: transactions in, blocks and answers out.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect, also in its helpers"
)]

mod accounts;
mod blocks;
mod check;
mod cost;
mod dev;
mod passkey;
mod pool;
mod recovery;
mod snapshot;
mod solidity;
mod support;
