//! Machine-facing fronts: FHIR R4 and SMART, the operator's interface, IPFS, health, HL7 v2, and Ethereum's JSON-RPC.
//!
//! Owns how requests and answers look: addresses, headers, status codes, tokens. Decides nothing about records,
//! consent or keys: every answer comes from a use case of `stele-service`. Must never log an address's query, a
//! body, or anything clinical; never re-serialise a stored resource; never import the ledger or the stores.

pub mod export;
pub mod mllp;
pub mod rpc;

mod admin;
mod body;
mod config;
mod extract;
mod fhir;
mod front;
mod health;
mod home;
mod ipfs;
mod members;
mod network;
mod own;
mod problem;
mod rate;
mod smart;

pub use config::GatewayConfig;
pub use front::router;
pub use smart::{Interaction, MintError, NewToken, ParseScopeError, Scopes, TokenKey, mint};
