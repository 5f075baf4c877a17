//! The only SQL: what screens and searches ask.
