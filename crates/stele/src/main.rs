//! The one Stele binary.
fn main() {}
