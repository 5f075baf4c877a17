//! Tests on real input: bundles of whole synthetic lives, made by Synthea.

#[cfg(test)]
mod hl7v2;
#[cfg(test)]
mod search;
#[cfg(test)]
mod synthea;
