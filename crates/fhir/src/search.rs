//! FHIR search as pure data: which parameters exist, what a resource is found by, what is asked.
//!
//! [`catalogue`] holds every R4 search parameter, compiled from the official definitions;
//! [`ast`] the values and queries; [`extract`] takes the values out of a resource, [`parse`]
//! reads a request. No I/O and no SQL: an index stores the values and answers the queries.

pub mod ast;
pub mod catalogue;
mod date;
mod extract;
mod matches;
mod number;
mod parse;
mod path;
mod text;
mod value;

pub use date::begin_ms;
pub use extract::extract;
pub use matches::matches;
pub use parse::{Handling, Options, parse};
pub use text::{FullText, full_text, normalise, words};
