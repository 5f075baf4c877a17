//! The binary from the outside: real processes on free ports, real data, the command line and HTTP. Beside the unit,
//! property and fuzz tests of each crate, the simulation of members, and the clients of `e2e/`: NFR-TEST.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests say what went wrong by panicking"
)]

mod bad_input;
mod consent;
mod consortium;
mod cost;
mod dashboard;
mod export;
mod faults;
mod guessing;
mod http;
mod import;
mod kill;
mod limits;
mod logs;
mod members;
mod mllp;
mod network;
mod node;
mod partition;
mod people;
mod random;
mod recovery;
mod relay;
mod replay;
mod replicas;
mod rpc_input;
mod sharing;
mod simulation;
mod small_disk;
mod snapshot;
mod spine;
