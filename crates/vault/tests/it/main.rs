//! The vault on real FHIR bundles.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails where the test would"
)]

mod bundles;
mod records;
#[cfg(feature = "s3")]
mod s3;
