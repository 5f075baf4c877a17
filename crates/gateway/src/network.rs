//! Where other members of the consortium ask this node: `POST /network/ask`. Authenticated by the question's own
//! signature, not by a token; answered by the service.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{
        HeaderMap,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse as _,
    routing::post,
};
use stele_fhir::outcome::IssueCode;
use stele_service::network::QUESTION_BYTES_MAX;

use crate::{
    front::Front,
    problem::{Answer, Problem},
};

/// The header that carries the detached signature over the body.
const SIGNATURE: &str = "stele-signature";

/// The addresses of this module.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/network/ask", post(ask))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
}

async fn ask(State(front): State<Arc<Front>>, headers: HeaderMap, body: Bytes) -> Answer {
    let signature = headers
        .get(SIGNATURE)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| {
            Problem::bad_request(IssueCode::Required, "the header stele-signature is missing")
        })?;
    let answer = front.service.answer_member(signature, &body).await?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, answer).into_response())
}
