//! The one place that writes to the terminal.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line talks to people and pipes"
)]

use serde::Serialize;

/// One line on standard output.
pub(crate) fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// One JSON document on one line of standard output.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("error: writing JSON: {error}"),
    }
}

/// One line on standard error: what a person should know beside the answer.
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
