//! Machine-facing fronts: FHIR, SMART, JSON-RPC, IPFS.
