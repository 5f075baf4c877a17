//! Tests on real input: bundles of whole synthetic lives, made by Synthea.

mod synthea;
