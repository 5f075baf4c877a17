//! The binary from the outside: real processes on free ports, real data, the command line and HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what went wrong by panicking"
)]

mod bad_input;
mod consent;
mod export;
mod import;
mod kill;
mod node;
mod people;
mod spine;
