//! Who asks: the bearer token of a request, checked, as an actor with scopes.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use stele_service::session::{Actor, ActorKind};

use super::{
    Interaction, Scopes,
    tokens::{self, Claims, Rejected},
};
use crate::{front::Front, problem::Problem};

/// The actor of a request and how far its token reaches.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) actor: Actor,
    pub(crate) scopes: Scopes,
}

impl Principal {
    /// # Errors
    /// 403 `insufficient_scope`.
    pub(crate) fn require(
        &self,
        interaction: Interaction,
        resource_type: &str,
    ) -> Result<(), Problem> {
        if self.scopes.allow(interaction, resource_type) {
            return Ok(());
        }
        Err(Problem::insufficient_scope(&format!(
            "system/{resource_type}.{}",
            interaction.letter()
        )))
    }

    /// # Errors
    /// 403 for everyone but the operator.
    pub(crate) fn require_admin(&self) -> Result<(), Problem> {
        if self.scopes.is_admin() {
            Ok(())
        } else {
            Err(Problem::insufficient_scope("admin"))
        }
    }
}

impl FromRequestParts<Arc<Front>> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        let config = &front.config;
        let claims = tokens::verify(
            &config.token_key,
            &config.base_url,
            token,
            front.service.now(),
        )
        .map_err(|rejected| match rejected {
            Rejected::Invalid => {
                Problem::unauthorized(Some("invalid_token"), "the access token is not valid")
            }
            Rejected::Expired => Problem::unauthorized(
                Some("invalid_token"),
                "the access token has expired; get a new one",
            ),
        })?;
        let actor = actor_of(front, &claims)?;
        Ok(Self {
            actor,
            scopes: Scopes::parse_lenient(&claims.scope),
        })
    }
}

fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        return Err(Problem::unauthorized(None, "an access token is needed"));
    };
    header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthorized(Some("invalid_request"), "a bearer token is needed"))
}

/// The actor a token names. A practitioner who was suspended since acts no more.
fn actor_of(front: &Front, claims: &Claims) -> Result<Actor, Problem> {
    let (kind, account) = match (claims.practitioner, claims.patient) {
        (None, None) => (ActorKind::System, claims.organization.0),
        (Some(practitioner), None) => (ActorKind::Practitioner, practitioner),
        (None, Some(patient)) => (ActorKind::Patient, patient.0),
        (Some(_), Some(_)) => {
            return Err(Problem::unauthorized(
                Some("invalid_token"),
                "the token names two people",
            ));
        }
    };
    if kind == ActorKind::Practitioner {
        let known = front.service.account(account)?;
        if !known.is_some_and(|known| known.active && known.sponsor == claims.organization) {
            return Err(Problem::unauthorized(
                Some("invalid_token"),
                "the practitioner is not active in this organisation",
            ));
        }
    }
    Ok(Actor {
        kind,
        account,
        organization: claims.organization,
        purposes: claims.purpose_of_use.clone(),
        client: claims.client_id.clone(),
    })
}
