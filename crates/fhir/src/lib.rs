//! FHIR R4 as pure data: parse, validate, patch, search values.
//!
//! This crate owns every rule that follows from the FHIR R4 specification alone: reading
//! JSON under limits, editing a resource in its own text, checking it against the official
//! definitions, taking a Bundle apart, and saying whose record a resource is and which
//! category it belongs to.
//!
//! It must never do I/O, look at a clock, or depend on another crate of this workspace, and
//! it must never write a resource out again from a model: what a client sent is stored and
//! hashed as bytes, and `6.30` would come back as `6.3`.

pub mod bundle;
pub mod capability;
pub mod category;
pub mod compartment;
pub mod outcome;
pub mod parse;
pub mod patch;
pub mod project;
pub mod reference;
pub mod search;
pub mod text;
pub mod validate;

mod definitions;
mod error;
mod primitive;
mod scan;

pub use definitions::{is_resource_type, resource_types};
pub use error::Error;
