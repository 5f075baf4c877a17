//! What the portal's own scripts hand over as JSON, and how they are told what went wrong. Held against the session's
//! token like a form.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{
    Json,
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use serde_json::json;
use stele_service::{Error, people::Session};
use subtle::ConstantTimeEq as _;

use crate::{
    error::Refusal,
    form::{require_own_page, stale},
    front::Portal,
    session,
};

/// Largest body in bytes: a key directory takes 1.3 MB, the keys of a grantee 90 kB.
const BODY_MAX: usize = 16 << 20;
/// Header that carries the session's token.
const TOKEN: &str = "x-csrf";

/// A refusal as a script reads it: `{"message": "…"}`.
pub(crate) struct Told(Refusal);

/// What a view for scripts gives.
pub(crate) type Answered<T = Json<serde_json::Value>> = Result<T, Told>;

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self.0 {
            Refusal::SignIn => (
                StatusCode::UNAUTHORIZED,
                Json(json!({ "message": text!("You were signed out. Sign in and try again.") })),
            )
                .into_response(),
            Refusal::Page { status, words, .. } => {
                (status, Json(json!({ "message": words }))).into_response()
            }
        }
    }
}

/// A body that one of our own scripts sent, in the session it was made for.
pub(crate) struct Handed<T> {
    pub(crate) secret: String,
    pub(crate) session: Session,
    pub(crate) body: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Portal>> for Handed<T> {
    type Rejection = Told;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Told> {
        let (parts, body) = request.into_parts();
        let (secret, session) = session_of(portal, &parts.headers)?;
        if !header(&parts.headers, CONTENT_TYPE.as_str()).starts_with("application/json") {
            return Err(Refusal::bad_form(text!("It was not sent as JSON.")).into());
        }
        let bytes = to_bytes(body, BODY_MAX)
            .await
            .map_err(|_| Refusal::bad_form(text!("It is too large.")))?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::bad_form(text!("It can't be read: {error}.", error)))?;
        Ok(Self {
            secret,
            session,
            body,
        })
    }
}

/// The session of a request that one of our own scripts sent, held against its token.
pub(crate) fn session_of(portal: &Portal, headers: &HeaderMap) -> Answered<(String, Session)> {
    require_own_page(headers, portal.site.origin())?;
    let (secret, session) = session::of(portal, headers)?.ok_or_else(stale)?;
    let given = hex::decode(header(headers, TOKEN)).unwrap_or_default();
    if bool::from(given.ct_eq(session.csrf.as_slice())) {
        return Ok((secret, session));
    }
    Err(stale().into())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Bytes that a script wrote in base64.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD
        .decode(text)
        .map_err(|_| Refusal::bad_form(text!("A part of it is not base64.")))
}
