//! The vault on real FHIR bundles.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails where the test would"
)]

mod bundles;
mod records;
#[cfg(feature = "s3")]
mod s3;
