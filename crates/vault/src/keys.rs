//! Who can open what: patients' key trees, grants, and the keys an organisation looks after.
//!
//! A patient's root key seeds one GGM tree per category and generation; its leaves are months; each
//! leaf seeds an X-Wing key pair. Whoever writes needs only a public key. Whoever reads holds tree
//! nodes covering the months granted. The format is fixed: browsers derive the same keys.

pub mod directory;
pub mod grant;
pub mod key_file;
mod opened;
pub mod service;
pub mod tree;

#[cfg(test)]
mod interop;

pub use directory::Directory;
pub use grant::{Grant, GrantKeys, GrantOpener, GrantSealer};
pub use service::{Holder, KeyService};
pub use tree::{CategoryTree, KeyPlace, OwnRoot, RootKey};
