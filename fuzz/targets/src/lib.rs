//! Bodies of the fuzz targets: one function a target, which takes any bytes and panics where a rule is broken.
//!
//! `fuzz/` gives them to libFuzzer; the tests of this crate feed them the committed corpora and a few thousand seeded
//! mutations of those on every run of the test command, without instrumentation.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fuzz target says what it found by panicking"
)]

mod cid_blob;
mod fhir;
mod hl7v2;
mod rpc;
mod transaction;
mod webauthn;

pub use cid_blob::cid_blob;
pub use fhir::fhir;
pub use hl7v2::hl7v2;
pub use rpc::rpc;
pub use transaction::transaction;
pub use webauthn::{Case, webauthn};

/// A fuzz target's body.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("cid_blob", cid_blob),
    ("fhir", fhir),
    ("hl7v2", hl7v2),
    ("rpc", rpc),
    ("transaction", transaction),
    ("webauthn", webauthn),
];
