//! Vocabulary, formats and cryptography of Stele: synchronous, no I/O.
