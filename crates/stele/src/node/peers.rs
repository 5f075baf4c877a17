//! The gateways of the other members, over HTTP.

use std::{collections::BTreeMap, time::Duration};

use alloy_primitives::Bytes;
use anyhow::{Context as _, Result};
use cid::Cid;
use reqwest::{Client, Response};
use stele_chain::Genesis;
use stele_core::id::OrganizationId;
use stele_service::ports::{BoxFuture, PeerError, Peers};

use crate::config::NetworkConfig;

/// How long a member may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes: a page of records, or one block.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What a refusal says is passed on up to this length, in bytes.
const WORDS_MAX: usize = 400;

/// The other members by organisation.
pub(super) struct Gateways {
    http: Client,
    by_organization: BTreeMap<OrganizationId, String>,
}

impl Gateways {
    /// Of the members that the configuration gives a gateway of.
    pub(super) fn new(network: &NetworkConfig, genesis: &Genesis) -> Result<Self> {
        let mut by_organization = BTreeMap::new();
        for peer in &network.peers {
            let seat = genesis.validators.iter().find(|seat| seat.key == peer.key);
            if let (Some(seat), Some(gateway)) = (seat, &peer.gateway) {
                let base = gateway.trim_end_matches('/').to_owned();
                by_organization.insert(OrganizationId(seat.organization), base);
            }
        }
        let http = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making a client for the other members")?;
        Ok(Self {
            http,
            by_organization,
        })
    }

    fn base(&self, organization: OrganizationId) -> Result<&str, PeerError> {
        let found = self.by_organization.get(&organization);
        found.map(String::as_str).ok_or(PeerError::Unknown)
    }
}

impl Peers for Gateways {
    fn ask(
        &self,
        to: OrganizationId,
        signature: String,
        question: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let request = self
                .http
                .post(format!("{}/network/ask", self.base(to)?))
                .header("stele-signature", signature)
                .header("content-type", "application/json")
                .body(question.0);
            read(request.send().await.map_err(unreachable)?).await
        })
    }

    fn block(&self, of: OrganizationId, cid: Cid) -> BoxFuture<'_, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let url = format!("{}/ipfs/{cid}?format=raw", self.base(of)?);
            read(self.http.get(url).send().await.map_err(unreachable)?).await
        })
    }
}

/// The body of a good answer, or the refusal in words.
async fn read(mut response: Response) -> Result<Bytes, PeerError> {
    let status = response.status();
    let limit = if status.is_success() {
        ANSWER_BYTES_MAX
    } else {
        WORDS_MAX
    };
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&part);
        if body.len() > limit {
            if status.is_success() {
                return Err(PeerError::Unreachable {
                    reason: format!("its answer is longer than {limit} bytes"),
                });
            }
            body.truncate(limit);
            break;
        }
    }
    if status.is_success() {
        return Ok(body.into());
    }
    Err(PeerError::Refused {
        status: status.as_u16(),
        message: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands errors over")]
fn unreachable(error: reqwest::Error) -> PeerError {
    // The address is in the configuration; the words of the cause are what helps.
    let mut reason = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(next) = cause {
        reason = next.to_string();
        cause = next.source();
    }
    if error.is_timeout() {
        reason = format!("no answer within {} s", TIMEOUT.as_secs());
    }
    PeerError::Unreachable { reason }
}
