//! Tests on real input: bundles of whole synthetic lives, made by Synthea.

#[cfg(test)]
mod search;
#[cfg(test)]
mod synthea;
