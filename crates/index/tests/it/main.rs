//! The index through its public face, on real data.

mod synthea;
