//! The consortium's decisions from the operator's desk: propose, vote, show. Documented in `docs/api.md`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    response::IntoResponse as _,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::id::OrganizationId;
use stele_service::governance::{Decision, PARAMETERS};

use crate::{extract::Sent, front::Front, problem::Answer, smart::Principal};

/// The addresses of this module.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/admin/governance", get(show))
        .route("/admin/governance/proposals", post(propose))
        .route("/admin/governance/votes", post(vote))
}

async fn show(State(front): State<Arc<Front>>, principal: Principal) -> Answer {
    principal.require_admin()?;
    let service = &front.service;
    let now = service.now();
    let mut parameters = serde_json::Map::new();
    for name in PARAMETERS {
        parameters.insert(name.to_owned(), json!(service.parameter(name)?));
    }
    let proposals: Vec<Value> = service
        .proposals()?
        .iter()
        .map(|one| {
            let status = match one.status {
                2 => "executed",
                3 => "rejected",
                _ if one.deadline <= now => "expired",
                _ => "open",
            };
            let votes: Vec<Value> = one
                .votes
                .iter()
                .map(|(voter, yes)| json!({ "voter": voter, "yes": yes }))
                .collect();
            json!({
                "proposal": one.id,
                "status": status,
                "proposer": one.proposer,
                "what": Decision::decode(one.kind, &one.payload),
                "votes": votes,
                "deadline": one.deadline.to_instant(),
                "proposed": one.proposed.at.to_instant(),
                "transaction": one.proposed.tx
            })
        })
        .collect();
    let epoch = service.ledger().epoch();
    let validators = epoch.as_ref().map(|epoch| epoch.validators());
    Ok(Json(json!({
        "parameters": parameters,
        "epoch": epoch.as_ref().map(|epoch| json!({
            "number": epoch.number(),
            "first": epoch.first(),
            "validators": validators
        })),
        "deployers": service.deployers()?,
        "proposals": proposals
    }))
    .into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// Organisation of this node that proposes; its own where absent.
    member: Option<OrganizationId>,
    what: Decision,
}

async fn propose(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(new): Sent<New>,
) -> Answer {
    principal.require_admin()?;
    let member = new.member.unwrap_or(principal.actor.organization);
    let decided = front.service.propose(member, &new.what).await?;
    Ok(Json(decided).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vote {
    member: Option<OrganizationId>,
    proposal: u32,
    yes: bool,
}

async fn vote(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Sent(vote): Sent<Vote>,
) -> Answer {
    principal.require_admin()?;
    let member = vote.member.unwrap_or(principal.actor.organization);
    let decided = front.service.vote(member, vote.proposal, vote.yes).await?;
    Ok(Json(decided).into_response())
}
