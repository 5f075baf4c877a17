//! FHIR R4 and HL7 v2 as pure data: parse, validate, patch, search values, map.
//!
//! This crate owns every rule that follows from the FHIR R4 specification alone: reading
//! JSON under limits, editing a resource in its own text, checking it against the official
//! definitions, taking a Bundle apart, and saying whose record a resource is and which
//! category it belongs to.
//!
//! It must never do I/O, look at a clock, or depend on another crate of this workspace, and
//! it must never write a resource out again from a model: what a client sent is stored and
//! hashed as bytes, and `6.30` would come back as `6.3`.
//!
//! ```
//! use stele_fhir::{category, compartment, parse, text, validate};
//!
//! let sent = br#"{"resourceType":"Observation","status":"final","code":{"text":"height"},
//!     "subject":{"reference":"Patient/1"},"valueQuantity":{"value":6.30,"unit":"ft"}}"#;
//! let read = parse::resource(sent, &parse::Limits::default()).expect("readable JSON");
//! assert!(validate::resource(&read.value).is_empty());
//! let whose = compartment::patient_of(&read.value);
//! assert_eq!(whose, compartment::PatientRef::One("Patient/1".to_owned()));
//! assert_eq!(category::assign(&read.value), category::Category::Laboratory);
//! let stored = text::set_id_and_meta(&read.text, "o1", "1", "2026-03-01T10:00:00Z").expect("an object");
//! assert!(stored.contains("6.30"));
//! ```

pub mod bundle;
pub mod capability;
pub mod category;
pub mod compartment;
pub mod diff;
pub mod hl7v2;
pub mod outcome;
pub mod parse;
pub mod patch;
pub mod project;
pub mod reference;
pub mod search;
pub mod text;
pub mod ucum;
pub mod validate;
pub mod words;

mod definitions;
mod error;
mod primitive;
mod scan;

pub use definitions::{is_resource_type, resource_types};
pub use error::Error;
