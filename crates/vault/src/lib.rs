//! Encrypted, content-addressed blobs outside the chain, and the keys that open them.
//!
//! Owns: the ciphertext blockstore and its IPFS addresses, key envelopes, the key trees of patients,
//! the keys an organisation looks after, the custodian's peppers, and erasure. It knows the ledger
//! only through the questions it asks of [`custodian::Permission`].
//!
//! Must never: store plaintext or an unwrapped key, log a clinical value, release a pepper without a
//! durable receipt, or serve bytes that do not match their address.
//!
//! ```no_run
//! use stele_core::{crypto::{keystore::Unlock, os_rng, Secret32}, time::Timestamp};
//! use stele_vault::{Config, Vault};
//!
//! # async fn example() -> stele_vault::Result<()> {
//! let unlock = Unlock::KeyFile(Secret32::random(&mut os_rng()));
//! let vault = Vault::open(&Config::new("stele-data/vault"), &unlock).await?;
//! vault.erase(&[stele_core::id::RecordId::default()], Timestamp(0)).await?;
//! # Ok(())
//! # }
//! ```

pub mod cid;
pub mod custodian;
pub mod custody;
pub mod elsewhere;
pub mod envelope;
pub mod ipfs;
pub mod keys;
pub mod meta;
pub mod open;
pub mod replica;
pub mod seal;
pub mod sealed;
pub mod store;
pub mod unlock;

mod codec;
mod erase;
mod error;
mod foreign;
mod ggm;
mod reshare;
mod shred;
mod vault;

pub use error::{Error, Result};
pub use meta::RecordMeta;
pub use seal::{Content, NewRecord, SealedBatch};
pub use sealed::SealedRecord;
pub use store::Store;
pub use vault::{Config, Vault};
