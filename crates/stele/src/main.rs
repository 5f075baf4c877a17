//! The one Stele binary: wiring and the command line. It holds no rules of its own.

mod cli;
mod config;
mod node;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
