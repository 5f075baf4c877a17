//! Deterministic execution: revm, native system contracts, Merkle-Patricia state.
//!
//! Owns what a block means: which transactions may stand in one, what they change, and which roots come of it. The
//! same code builds, verifies and re-executes blocks. Must never read a clock, draw a random number, use floating
//! point or depend on the order of a hash map, and knows nothing of networks, consensus or people's names: time and
//! order come from the blocks it is handed.
//!
//! ```
//! use stele_chain::{CallRequest, Chain, Genesis, PoolLimits, state::State};
//!
//! let genesis = Genesis::from_json(br#"{
//!     "timestamp_ms": 1767225600000,
//!     "consortium": "Example",
//!     "open": true,
//!     "organizations": [{"address": "0x00000000000000000000000000000000000000a1"}],
//!     "validators": [{
//!         "key": "0x0101010101010101010101010101010101010101010101010101010101010101",
//!         "organization": "0x00000000000000000000000000000000000000a1"
//!     }]
//! }"#)?;
//! let chain = Chain::over(State::in_memory()?, &genesis, PoolLimits::default())?;
//! let parent = chain.genesis_block().clone();
//! let block = chain.propose(&parent, &[], [1; 32].into(), 1_767_225_601_000, &|| true)?.unwrap();
//! chain.commit(&block.into(), b"certificate")?;
//! assert_eq!(chain.finalized().0.number, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod chain;
mod check;
pub mod contracts;
pub mod dev;
mod epochs;
mod error;
mod evm;
mod executor;
mod genesis;
mod pool;
mod query;
mod recent;
mod recovery;
mod rules;
mod snapshot;
pub mod state;
mod trace;

pub use chain::{Chain, ChainOptions, Committed, HISTORY_BLOCKS, Verdict};
pub use check::{Certificates, CheckReport, CheckStep, verify_chain};
pub use contracts::PROTOCOL;
pub use epochs::Seating;
pub use error::{
    Error, InvalidBlock, InvalidTransaction, QueryError, RecoveryRefused, Rejected, RejectionKind,
    SnapshotError,
};
pub use executor::{CLOCK_SKEW_MAX_MS, HeaderCheck, check_header};
pub use genesis::{Allocation, Genesis, Organization, Seat};
pub use pool::{PoolLimits, PoolStatus, Pooled};
pub use query::{CallOutcome, CallRequest, Estimate, IncludedReceipt, IncludedTransaction};
pub use recent::FinalBlock;
pub use recovery::Recovered;
pub use snapshot::{Lack, Newcomer, Offer};
pub use trace::TracedTransaction;
