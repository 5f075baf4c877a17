//! What the HTTP front is told by the binary.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::smart::TokenKey;

/// Addresses, limits and the token key of the HTTP front.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Address under which clients reach this front, such as `https://records.example`; no `/` at the end.
    pub base_url: String,
    /// Signs and verifies access tokens.
    pub token_key: TokenKey,
    /// Largest body in bytes, except for the content of a Binary.
    pub max_body_bytes: usize,
    /// Largest content of a Binary in bytes, streamed.
    pub max_binary_bytes: u64,
    /// Page size when a search names none.
    pub default_count: u32,
    /// Largest page size.
    pub max_count: u32,
    /// Requests a second that one address may send for long; no limit when 0, nor for programs on this machine.
    pub rate_per_second: u32,
    /// Requests that one address may send at once.
    pub rate_burst: u32,
    /// How long a request may take; a Binary's content is exempt.
    pub request_timeout: Duration,
    /// How long a write that is stored waits for the ledger before its client is told to ask again later.
    pub pending_after: Duration,
    /// How long an access token of a client lives; kept between 5 minutes and an hour.
    pub token_lifetime: Duration,
    /// Whether `/` is answered by a small page of this front; off where a portal takes the place.
    pub home: bool,
    /// Address under which wallets reach JSON-RPC, set once it listens: what pages hand to `wallet_addEthereumChain`.
    pub rpc_url: Arc<OnceLock<String>>,
}

impl GatewayConfig {
    /// Limits that a patient's whole life as one bundle stays under.
    #[must_use]
    pub fn new(base_url: impl Into<String>, token_key: TokenKey) -> Self {
        let mut base_url: String = base_url.into();
        base_url.truncate(base_url.trim_end_matches('/').len());
        Self {
            base_url,
            token_key,
            max_body_bytes: 64 << 20,
            max_binary_bytes: 1 << 30,
            default_count: 20,
            max_count: 1000,
            rate_per_second: 500,
            rate_burst: 2_000,
            request_timeout: Duration::from_secs(300),
            pending_after: Duration::from_secs(10),
            token_lifetime: Duration::from_secs(15 * 60),
            home: true,
            rpc_url: Arc::default(),
        }
    }

    /// Base URL of the FHIR service.
    pub(crate) fn fhir_url(&self) -> String {
        format!("{}/fhir/r4", self.base_url)
    }

    /// Token endpoint; also the audience of client assertions.
    pub(crate) fn token_url(&self) -> String {
        format!("{}/auth/token", self.base_url)
    }

    /// Introspection endpoint.
    pub(crate) fn introspect_url(&self) -> String {
        format!("{}/auth/introspect", self.base_url)
    }
}
