//! How validators reach each other: not at all, or by encrypted connections.

pub(crate) mod solitary;
pub(crate) mod tcp;
