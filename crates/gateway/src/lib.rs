//! Machine-facing fronts: FHIR, SMART, JSON-RPC, IPFS.

pub mod rpc;
