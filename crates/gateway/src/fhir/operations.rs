//! Operations: `$everything`, `$validate`, and the proofs.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
};
use serde_json::json;
use stele_fhir::{
    outcome::{self, Issue, IssueCode},
    parse, validate as rules,
};

use super::{
    headers::{View, require_json},
    history::Paging,
    known_type, page,
    write::limits,
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `GET Patient/{id}/$everything`: types that the token does not reach are left out.
pub(super) async fn everything(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    only_patient(&resource_type, "$everything")?;
    principal.require(Interaction::Read, "Patient")?;
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    let view = View::read(&headers, &pairs)?;
    let Paging { count, cursor } = Paging::read(&pairs)?;
    let count = count.map(|count| count.clamp(1, front.config.max_count));
    let mut page = front
        .service
        .everything(&principal.actor, &id, count, cursor)
        .await?;
    for list in [&mut page.matches, &mut page.included] {
        list.retain(|one| {
            principal
                .scopes
                .allow(Interaction::Read, &one.resource_type)
        });
    }
    let fhir_url = front.config.fhir_url();
    let url = format!("{fhir_url}/Patient/{id}/$everything");
    let links = page::links(&url, &pairs, page.next.as_deref());
    let text = page::searchset(&fhir_url, &page, &[], &view, front.service.now(), &links);
    Ok(page::shown(StatusCode::OK, text, &view))
}

/// `POST {type}/$validate`: what creating the resource would complain of. Nothing is stored.
pub(super) async fn validate(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    known_type(&resource_type)?;
    principal.require(Interaction::Create, &resource_type)?;
    require_json(&headers)?;
    let view = View::read(&headers, &[])?;
    let bytes = body::read(&headers, body, front.config.max_body_bytes).await?;
    let limits = limits(&front);
    let check = move || match parse::resource(&bytes, &limits) {
        Ok(read) if read.resource_type != resource_type => {
            vec![Issue::error(
                IssueCode::Invalid,
                format!("the address is for {resource_type}"),
            )]
        }
        Ok(read) => rules::resource(&read.value),
        Err(issues) => issues,
    };
    let issues = front.blocking(check).await?;
    Ok(page::shown(
        StatusCode::OK,
        outcome::to_json(&issues).to_string(),
        &view,
    ))
}

/// `GET {type}/{id}/$proof?version=…&element=…`: a proof file.
pub(super) async fn proof(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    known_type(&resource_type)?;
    principal.require(Interaction::Read, &resource_type)?;
    let mut version = None;
    let mut elements = Vec::new();
    for (name, value) in body::pairs(query.unwrap_or_default().as_bytes()) {
        match name.as_str() {
            "version" => {
                version = Some(value.parse().map_err(|_| {
                    Problem::bad_request(IssueCode::Value, "version is not a number")
                })?);
            }
            "element" => elements.push(value),
            _ => {
                return Err(Problem::bad_request(
                    IssueCode::NotSupported,
                    "only version and element are taken here",
                ));
            }
        }
    }
    let proof = front
        .service
        .prove_record(&principal.actor, &resource_type, &id, version, &elements)
        .await?;
    Ok(Json(proof).into_response())
}

/// `GET Patient/{id}/$log-proof`: size and root of a patient's log with all its leaves.
pub(super) async fn log_proof(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    only_patient(&resource_type, "$log-proof")?;
    principal.require(Interaction::Read, "Patient")?;
    let (service, actor) = (Arc::clone(&front.service), principal.actor.clone());
    let prove = move || {
        let patient = service.patient_account(&actor, &id)?;
        service
            .prove_log(&actor, patient)
            .map(|(log, leaves)| (patient, log, leaves))
            .map_err(Problem::from)
    };
    let (patient, log, leaves) = front.blocking(prove).await??;
    Ok(Json(json!({ "patient": patient, "log": log, "leaves": leaves })).into_response())
}

pub(crate) fn only_patient(resource_type: &str, operation: &str) -> Result<(), Problem> {
    known_type(resource_type)?;
    if resource_type == "Patient" {
        return Ok(());
    }
    Err(Problem::one(
        StatusCode::NOT_FOUND,
        IssueCode::NotSupported,
        format!("{operation} is offered for Patient only"),
    ))
}
