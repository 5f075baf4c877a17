//! The index through its public face, on real data.

#[cfg(test)]
mod synthea;
