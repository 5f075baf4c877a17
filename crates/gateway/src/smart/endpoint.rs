//! Discovery, the token endpoint (`client_credentials` with `private_key_jwt`, RFC 7523) and introspection
//! (RFC 7662).

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA},
    },
    response::{IntoResponse, Response},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, jwk::Jwk};
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::{consent::Purpose, time::Timestamp};
use stele_service::clients::Client;

use super::{NewToken, Principal, Scopes, mint, tokens};
use crate::{body, front::Front, problem::Answer};

/// `GET /fhir/r4/.well-known/smart-configuration`.
pub(crate) async fn discovery(State(front): State<Arc<Front>>) -> Response {
    let config = &front.config;
    Json(json!({
        "issuer": config.base_url,
        "token_endpoint": config.token_url(),
        "introspection_endpoint": config.introspect_url(),
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES384", "RS384", "ES256"],
        "scopes_supported": ["system/*.cruds", "system/*.rs", "system/*.read", "system/*.write"],
        // The specification demands the member of every server, also of one without authorization codes.
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }))
    .into_response()
}

/// `POST /auth/token`.
pub(crate) async fn token(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match issue(&front, &headers, body).await {
        Ok(answer) => (
            [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")],
            Json(answer),
        )
            .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn issue(front: &Front, headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let form = read_form(headers, body).await?;
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    match field("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(Refusal::new(
                "unsupported_grant_type",
                "use client_credentials",
            ));
        }
        None => return Err(Refusal::new("invalid_request", "grant_type is missing")),
    }
    if field("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(Refusal::new(
            "invalid_request",
            "client_assertion_type is missing or unknown",
        ));
    }
    let assertion = field("client_assertion")
        .ok_or_else(|| Refusal::new("invalid_request", "client_assertion is missing"))?;
    let asked =
        field("scope").ok_or_else(|| Refusal::new("invalid_scope", "name the scopes you need"))?;
    let (client, claims) = authenticate(front, assertion)?;
    let allowed = Scopes::parse_lenient(&client.scope);
    let scopes = Scopes::parse_lenient(asked)
        .intersect(&allowed)
        .without_admin();
    if scopes.is_empty() {
        return Err(Refusal::new(
            "invalid_scope",
            "none of these scopes is registered for the client",
        ));
    }
    let purposes = purposes(
        &client,
        field("purpose_of_use")
            .map(str::to_owned)
            .or_else(|| claims.purpose()),
    )?;
    let lifetime_s = front
        .config
        .token_lifetime
        .as_secs()
        .clamp(LIFETIME_MIN_S, LIFETIME_MAX_S);
    let new = NewToken {
        client: client.id.clone(),
        organization: client.organization,
        practitioner: client.practitioner,
        patient: None,
        scopes,
        purposes,
        lifetime_s,
    };
    let now = front.service.now();
    let text = mint(&front.config.token_key, &front.config.base_url, &new, now)
        .map_err(|error| Refusal::internal(&error))?;
    tracing::info!(client = client.id, scope = %new.scopes, "smart.token");
    Ok(json!({
        "access_token": text,
        "token_type": "bearer",
        "expires_in": lifetime_s,
        "scope": new.scopes.to_string(),
    }))
}

/// Claims of a client's assertion.
#[derive(Debug, Deserialize)]
struct Assertion {
    iss: String,
    sub: String,
    exp: u64,
    jti: String,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    extensions: Option<Value>,
}

impl Assertion {
    /// Purposes of use as UDAP's B2B extension carries them: `urn:oid:…#TREAT`.
    fn purpose(&self) -> Option<String> {
        let listed = self
            .extensions
            .as_ref()?
            .get("hl7-b2b")?
            .get("purpose_of_use")?
            .as_array()?;
        let codes: Vec<&str> = listed
            .iter()
            .filter_map(Value::as_str)
            .map(|code| code.rsplit_once('#').map_or(code, |(_, code)| code))
            .collect();
        (!codes.is_empty()).then(|| codes.join(" "))
    }
}

/// Who signed the assertion. Each assertion is good once.
fn authenticate(front: &Front, assertion: &str) -> Result<(Client, Assertion), Refusal> {
    let header = jsonwebtoken::decode_header(assertion)
        .map_err(|_| Refusal::client("the assertion is not a JWT"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Refusal::client(
            "the assertion must be signed with ES384, RS384 or ES256",
        ));
    }
    let kid = header
        .kid
        .ok_or_else(|| Refusal::client("the assertion's header has no kid"))?;
    let unchecked: Assertion = jsonwebtoken::dangerous::insecure_decode_claims(assertion)
        .map_err(|_| Refusal::client("the assertion needs iss, sub, exp and jti"))?;
    let client = front
        .service
        .client(&unchecked.iss)
        .map_err(|error| Refusal::internal(&error))?
        .ok_or_else(|| Refusal::client("the client or its key is not known"))?;
    let audience = front.config.token_url();
    let claims = keys(&client.jwks, &kid, header.alg.family())
        .find_map(|key| check_signature(assertion, header.alg, &key, &audience))
        .ok_or_else(|| {
            Refusal::client("the client or its key is not known, or the signature or aud is wrong")
        })?;
    check_claims(&claims, front.service.now())?;
    let fresh = front
        .service
        .use_assertion(&client.id, &claims.jti, Timestamp::from_seconds(claims.exp))
        .map_err(|error| Refusal::internal(&error))?;
    if !fresh {
        return Err(Refusal::client("the assertion was used before"));
    }
    Ok((client, claims))
}

/// Keys of a client with this name and kind.
fn keys(jwks: &Value, kid: &str, family: AlgorithmFamily) -> impl Iterator<Item = DecodingKey> {
    let listed = jwks.get("keys").and_then(Value::as_array);
    listed
        .into_iter()
        .flatten()
        .filter(move |key| key.get("kid").and_then(Value::as_str) == Some(kid))
        .filter_map(|key| Jwk::deserialize(key).ok())
        .filter_map(|jwk| DecodingKey::from_jwk(&jwk).ok())
        .filter(move |key| key.family() == family)
}

fn check_signature(
    assertion: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
    audience: &str,
) -> Option<Assertion> {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    jsonwebtoken::decode(assertion, key, &validation)
        .ok()
        .map(|token| token.claims)
}

fn check_claims(claims: &Assertion, now: Timestamp) -> Result<(), Refusal> {
    let now = now.seconds();
    if claims.iss != claims.sub {
        return Err(Refusal::client("iss and sub must both be the client's id"));
    }
    if claims.exp <= now {
        return Err(Refusal::client("the assertion has expired"));
    }
    if claims.exp > now.saturating_add(ASSERTION_MAX_S) {
        return Err(Refusal::client(
            "the assertion lives longer than five minutes",
        ));
    }
    if claims
        .nbf
        .is_some_and(|nbf| nbf > now.saturating_add(SKEW_S))
    {
        return Err(Refusal::client("the assertion is not valid yet"));
    }
    if claims.jti.is_empty() || claims.jti.len() > JTI_MAX {
        return Err(Refusal::client("jti must have 1 to 255 characters"));
    }
    Ok(())
}

/// The purposes a token claims: those asked for, all of which must be registered; else treatment if it is, else the
/// first registered one.
fn purposes(client: &Client, asked: Option<String>) -> Result<Vec<Purpose>, Refusal> {
    let Some(asked) = asked else {
        let default = client
            .purposes
            .iter()
            .find(|purpose| **purpose == Purpose::Treat);
        return default
            .or_else(|| client.purposes.first())
            .map(|purpose| vec![*purpose])
            .ok_or_else(|| Refusal::new("unauthorized_client", "no purpose of use is registered"));
    };
    asked
        .split_ascii_whitespace()
        .map(|code| {
            code.parse::<Purpose>()
                .ok()
                .filter(|purpose| client.purposes.contains(purpose))
                .ok_or_else(|| {
                    Refusal::new(
                        "invalid_request",
                        "this purpose_of_use is not registered for the client",
                    )
                })
        })
        .collect()
}

/// `POST /auth/introspect`: a client asks about its own tokens, the operator about any.
pub(crate) async fn introspect(
    State(front): State<Arc<Front>>,
    principal: Principal,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let form = match read_form(&headers, body).await {
        Ok(form) => form,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    let token = form
        .iter()
        .find(|(name, _)| name == "token")
        .map_or("", |(_, value)| value.as_str());
    let config = &front.config;
    let known = tokens::verify(
        &config.token_key,
        &config.base_url,
        token,
        front.service.now(),
    )
    .ok()
    .filter(|claims| principal.scopes.is_admin() || claims.client_id == principal.actor.client);
    let answer = known.map_or_else(
        || json!({ "active": false }),
        |claims| {
            json!({
                "active": true,
                "iss": claims.iss,
                "aud": claims.aud,
                "sub": claims.sub,
                "client_id": claims.client_id,
                "iat": claims.iat,
                "exp": claims.exp,
                "jti": claims.jti,
                "scope": claims.scope,
                "token_type": "bearer",
            })
        },
    );
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn read_form(headers: &HeaderMap, body: Body) -> Result<Vec<(String, String)>, Refusal> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with(body::FORM) {
        return Err(Refusal::new(
            "invalid_request",
            "send application/x-www-form-urlencoded",
        ));
    }
    let bytes = body::read(headers, body, FORM_MAX)
        .await
        .map_err(|_| Refusal::new("invalid_request", "the form can't be read or is too large"))?;
    Ok(body::pairs(&bytes))
}

/// An error of RFC 6749 §5.2.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Refusal {
    const fn new(error: &'static str, description: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description,
        }
    }

    const fn client(description: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            error: "invalid_client",
            description,
        }
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "smart.failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: "server_error",
            description: "the token could not be made; the log says more",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::info!(
            error = self.error,
            reason = self.description,
            "smart.refused"
        );
        let body = json!({ "error": self.error, "error_description": self.description });
        (
            self.status,
            [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")],
            Json(body),
        )
            .into_response()
    }
}

/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// SMART demands the first two; ES256 is what many key stores make.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES384, Algorithm::RS384, Algorithm::ES256];
/// SMART backend services: "no more than five minutes in the future".
const ASSERTION_MAX_S: u64 = 300;
/// Clocks of hospital machines differ by less.
const SKEW_S: u64 = 60;
/// Bounds of an access token's life; SMART recommends at most an hour.
const LIFETIME_MIN_S: u64 = 300;
const LIFETIME_MAX_S: u64 = 3600;
/// An assertion has about 1 KiB; one with a certificate chain some more.
const FORM_MAX: usize = 64 << 10;
/// A longer id is no id.
const JTI_MAX: usize = 255;

#[cfg(test)]
mod tests;
