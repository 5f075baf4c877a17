//! HL7 v2 messages that wait or can't be written, for the operator.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::json;

use super::answer;
use crate::{front::Front, problem::Answer, smart::Principal};

/// Most messages of one sender that are listed.
const LISTED: u32 = 1_000;

pub(super) async fn list(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    principal.require_admin()?;
    let service = Arc::clone(&front.service);
    let messages = front.blocking(move || service.messages(LISTED)).await??;
    answer(json!(messages))
}

pub(super) async fn retry(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(id): Path<i64>,
) -> Answer {
    principal.require_admin()?;
    let service = Arc::clone(&front.service);
    front.blocking(move || service.retry_message(id)).await??;
    answer(json!({ "message": id, "state": "waiting" }))
}

pub(super) async fn discard(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(id): Path<i64>,
) -> Answer {
    principal.require_admin()?;
    let service = Arc::clone(&front.service);
    front.blocking(move || service.drop_message(id)).await??;
    answer(json!({ "message": id, "state": "dropped" }))
}
