//! The vault on real FHIR bundles.

mod bundles;
mod records;
