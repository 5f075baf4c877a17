//! Whether the node is alive and ready, and the description of its addresses.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use stele_service::ports::BlockRef;

use crate::front::Front;

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// `GET /readyz`: the ledger answers too.
pub(crate) async fn ready(State(front): State<Arc<Front>>) -> Response {
    match front.service.ledger().block(BlockRef::Latest) {
        Ok(Some(block)) => {
            Json(json!({ "ready": true, "height": block.header.number })).into_response()
        }
        Ok(None) | Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "ready": false })),
        )
            .into_response(),
    }
}

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], OPENAPI).into_response()
}

/// OpenAPI 3.1 description, kept by hand; a test holds it against the router.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");
