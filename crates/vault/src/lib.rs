//! Encrypted, content-addressed blobs outside the chain, and the keys that open them.
