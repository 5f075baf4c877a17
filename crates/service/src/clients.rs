//! SMART backend clients of this node: who they are, what they may ask for, for whom they act.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stele_core::{consent::Purpose, id::OrganizationId, time::Timestamp};

use crate::{
    Service,
    error::{Error, Result},
};

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Public keys its assertions are verified with (RFC 7517).
    pub jwks: Value,
    /// Scopes it may be given, separated by spaces.
    pub scope: String,
    /// Organisation it acts for.
    pub organization: OrganizationId,
    /// Practitioner it acts as, where it does not act as the organisation's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<Address>,
    /// Purposes of use it may claim.
    pub purposes: Vec<Purpose>,
}

impl Service {
    /// Registers a client, or replaces it.
    ///
    /// # Errors
    /// The organisation is not one of this node, or the practitioner not one of the organisation.
    pub fn register_client(&self, client: &Client) -> Result<()> {
        const WHAT: &str = "registering a client";
        if !self.hosted_organizations()?.contains(&client.organization) {
            return Err(Error::Conflict {
                message: format!(
                    "{} is not an organisation of this node",
                    client.organization
                ),
            });
        }
        if let Some(practitioner) = client.practitioner
            && self.organization_of(practitioner)? != client.organization
        {
            return Err(Error::Conflict {
                message: format!(
                    "{practitioner} is not of organisation {}",
                    client.organization
                ),
            });
        }
        let document = serde_json::to_vec(client).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_client(&client.id, &document)
            .map_err(Error::index(WHAT))
    }

    /// A registered client.
    ///
    /// # Errors
    /// The index fails.
    pub fn client(&self, id: &str) -> Result<Option<Client>> {
        const WHAT: &str = "finding a client";
        self.index
            .local()
            .client(id)
            .map_err(Error::index(WHAT))?
            .map(|bytes| serde_json::from_slice(&bytes).map_err(|e| Error::internal(WHAT, e)))
            .transpose()
    }

    /// Notes that a client's assertion was used. False if it was used before: a replay.
    ///
    /// # Errors
    /// The index fails.
    pub fn use_assertion(&self, client: &str, jti: &str, expires: Timestamp) -> Result<bool> {
        self.index
            .local()
            .use_assertion(client, jti, expires, self.clock.now())
            .map_err(Error::index("noting an assertion"))
    }
}
