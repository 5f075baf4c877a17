//! The BFT engine and its network behind one trait.
//!
//! This crate owns the agreement on the order of blocks: it wires Commonware's simplex protocol
//! and its block delivery together, runs them on a thread of their own, and talks to the rest of
//! the node through [`Application`]. It must never look into a block beyond its header, and no
//! type of the engine may appear in its public face: a change of engine stops here.
//!
//! Validators change between two epochs: [`Application::epochs`] says who decides from which height on, each epoch has
//! an agreement of its own on the same connections, and a member without a seat takes final blocks from others. An epoch that
//! was ended by hand ([`Application::recover`]) is never agreed in again here.
//!
//! One validator or fifty run the same code; [`Network::Solitary`] merely has nobody to talk to
//! and opens no port.
//!
//! ```no_run
//! # use stele_consensus::{Application, Config, Error, Network, SignerSeed, Timing, start};
//! # use stele_core::certificate::ValidatorSet;
//! # async fn run<A: Application>(application: A, seed: SignerSeed) -> Result<(), Error> {
//! let validators = ValidatorSet::new([seed.public_key()])?;
//! let mut config = Config::new("stele-data/consensus".into(), 57831, seed, &validators);
//! config.network = Network::Solitary;
//! let mut handle = start(config, application).await?;
//! handle.committed().wait_for(|committed| committed.height >= 1).await.ok();
//! handle.shutdown().await
//! # }
//! ```

mod adapter;
mod app;
mod block;
mod certificate;
mod commit;
mod config;
mod engine;
mod error;
mod fault;
mod follow;
mod gossip;
mod network;
mod node;
mod schedule;
mod shared;
#[cfg(feature = "testkit")]
pub mod sim;
mod turns;

pub use app::{Application, Branch};
pub use commit::Committed;
pub use config::{Config, Network, Peer, PeerAddress, SignerSeed, Timing};
pub use error::{Error, Fatal};
pub use follow::Run;
pub use gossip::{GOSSIP_BYTES_MAX, Gossip};
pub use node::{Handle, Meter, start, stored_height};
