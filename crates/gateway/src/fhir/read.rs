//! Read and vread.

use std::sync::Arc;

use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
};

use super::{binary, headers::View, known_type, page};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `GET {type}/{id}`
pub(super) async fn current(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    known_type(&resource_type)?;
    principal.require(Interaction::Read, &resource_type)?;
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    if resource_type == "Binary" {
        return binary::read(&front, &principal, &id, &headers, &pairs).await;
    }
    let view = View::read(&headers, &pairs)?;
    let stored = front
        .service
        .read(&principal.actor, &resource_type, &id)
        .await?;
    Ok(page::resource(stored, &headers, &view))
}

/// `GET {type}/{id}/_history/{version}`
pub(super) async fn version(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id, version)): Path<(String, String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    known_type(&resource_type)?;
    principal.require(Interaction::Read, &resource_type)?;
    let view = View::read(&headers, &body::pairs(query.unwrap_or_default().as_bytes()))?;
    let Ok(version) = version.parse() else {
        return Err(Problem::not_found("there is no such version"));
    };
    let stored = front
        .service
        .vread(&principal.actor, &resource_type, &id, version)
        .await?;
    Ok(page::resource(stored, &headers, &view))
}
