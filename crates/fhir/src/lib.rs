//! FHIR R4 as pure data: parse, validate, patch, search values. No I/O.

pub mod search;
