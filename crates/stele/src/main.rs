//! The one Stele binary: wiring and the command line. It holds no rules of its own.

mod cli;
mod config;
mod dev;
mod node;
mod output;

use std::process::ExitCode;

/// Returns memory to the system after a large import, and is faster than the system's under many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
