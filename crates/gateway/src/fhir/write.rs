//! Create, update, patch and delete, by id or by condition.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_LOCATION, LOCATION},
    },
    response::Response,
};
use serde_json::Value;
use stele_fhir::{
    outcome::{self, Issue, IssueCode},
    parse::{self, Limits, Resource},
    patch as json_patch, validate,
};
use stele_service::{Effect, Error, Write, Written};

use super::{
    binary, conditional,
    headers::{self, Prefer, Return, View, if_match, put_version, require_json},
    page, writable_type,
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `POST {type}`
pub(super) async fn create(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Create, &resource_type)?;
    if resource_type == "Binary" && binary::is_raw(&headers) {
        return binary::create(&front, &principal, &headers, body).await;
    }
    let answer = Answering::read(&headers)?;
    let resource = read_resource(&front, &headers, body, &resource_type).await?;
    let Some(condition) = headers::text(&headers, "if-none-exist")? else {
        let written = write_one(&front, &principal, Write::Create { resource }).await?;
        return answer.written(&front, &principal, written).await;
    };
    let _turn = front.turn(&resource_type, condition).await;
    match conditional::find(&front, &principal, &resource_type, condition).await? {
        None => {
            let written = write_one(&front, &principal, Write::Create { resource }).await?;
            answer.written(&front, &principal, written).await
        }
        Some(id) => {
            let stored = front
                .service
                .read(&principal.actor, &resource_type, &id)
                .await?;
            let written = Written {
                resource_type: stored.resource_type,
                id: stored.id,
                version: stored.version,
                last_updated: stored.last_updated,
                effect: Effect::Unchanged,
                text: Some(stored.text),
                height: 0,
            };
            answer.written(&front, &principal, written).await
        }
    }
}

/// `PUT {type}/{id}`
pub(super) async fn update(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Update, &resource_type)?;
    require_id(&id)?;
    if resource_type == "Binary" && binary::is_raw(&headers) {
        return Err(headers::unsupported(
            "update a Binary as application/fhir+json, or create a new one from its content",
        ));
    }
    let answer = Answering::read(&headers)?;
    let if_match = if_match(&headers)?;
    let resource = read_resource(&front, &headers, body, &resource_type).await?;
    if resource.id.as_deref() != Some(id.as_str()) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            vec![
                Issue::error(
                    IssueCode::Invalid,
                    "the resource's id must be the one in the address",
                )
                .at(format!("{resource_type}.id")),
            ],
        ));
    }
    let written = write_one(
        &front,
        &principal,
        Write::Update {
            resource,
            id,
            if_match,
        },
    )
    .await?;
    answer.written(&front, &principal, written).await
}

/// `PUT {type}?criteria`
pub(super) async fn update_conditionally(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Update, &resource_type)?;
    let query = require_criteria(query)?;
    let answer = Answering::read(&headers)?;
    let if_match = if_match(&headers)?;
    let resource = read_resource(&front, &headers, body, &resource_type).await?;
    let _turn = front.turn(&resource_type, &query).await;
    let found = conditional::find(&front, &principal, &resource_type, &query).await?;
    let write = match (found, resource.id.clone()) {
        (Some(id), Some(given)) if id != given => {
            return Err(Problem::bad_request(
                IssueCode::Invalid,
                "the resource's id is not the one of the resource that the condition matches",
            ));
        }
        (Some(id), _) | (None, Some(id)) => Write::Update {
            resource,
            id,
            if_match,
        },
        (None, None) => Write::Create { resource },
    };
    let written = write_one(&front, &principal, write).await?;
    answer.written(&front, &principal, written).await
}

/// `PATCH {type}/{id}`
pub(super) async fn patch(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Update, &resource_type)?;
    principal.require(Interaction::Read, &resource_type)?;
    headers::require_json_patch(&headers)?;
    let answer = Answering::read(&headers)?;
    let patch = body::read(&headers, body, front.config.max_body_bytes).await?;
    let written = apply_patch(
        &front,
        &principal,
        &resource_type,
        &id,
        if_match(&headers)?,
        patch,
    )
    .await?;
    answer.written(&front, &principal, written).await
}

/// `PATCH {type}?criteria`
pub(super) async fn patch_conditionally(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Update, &resource_type)?;
    principal.require(Interaction::Read, &resource_type)?;
    headers::require_json_patch(&headers)?;
    let query = require_criteria(query)?;
    let answer = Answering::read(&headers)?;
    let patch = body::read(&headers, body, front.config.max_body_bytes).await?;
    let _turn = front.turn(&resource_type, &query).await;
    let id = conditional::find(&front, &principal, &resource_type, &query)
        .await?
        .ok_or_else(|| Problem::not_found("the condition matches nothing"))?;
    let written = apply_patch(
        &front,
        &principal,
        &resource_type,
        &id,
        if_match(&headers)?,
        patch,
    )
    .await?;
    answer.written(&front, &principal, written).await
}

/// Patches the current version. Where the client names none, somebody else's change in between starts it again.
async fn apply_patch(
    front: &Arc<Front>,
    principal: &Principal,
    resource_type: &str,
    id: &str,
    if_match: Option<u32>,
    patch: Bytes,
) -> Result<Written, Problem> {
    let mut attempts = 0_u8;
    loop {
        attempts = attempts.saturating_add(1);
        let current = front
            .service
            .read(&principal.actor, resource_type, id)
            .await?;
        if if_match.is_some_and(|expected| expected != current.version) {
            return Err(Error::PreconditionFailed {
                message: format!("{resource_type}/{id} is at version {}", current.version),
            }
            .into());
        }
        let (text, patch) = (current.text, patch.clone());
        let resource = front
            .blocking(move || {
                let current = parse::edited(text.to_string()).map_err(invalid)?;
                let patched = json_patch::json_patch(&current, &patch).map_err(invalid)?;
                let patched = parse::edited(patched).map_err(invalid)?;
                check(&patched)?;
                Ok::<Resource, Problem>(patched)
            })
            .await??;
        let write = Write::Update {
            resource,
            id: id.to_owned(),
            if_match: Some(current.version),
        };
        match write_one(front, principal, write).await {
            Err(problem)
                if problem.status == StatusCode::PRECONDITION_FAILED
                    && if_match.is_none()
                    && attempts < PATCH_ATTEMPTS => {}
            other => return other,
        }
    }
}

/// `DELETE {type}/{id}`
pub(super) async fn delete(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Delete, &resource_type)?;
    let answer = Answering::read(&headers)?;
    let write = Write::Delete {
        resource_type,
        id,
        if_match: if_match(&headers)?,
    };
    let written = write_one(&front, &principal, write).await?;
    answer.written(&front, &principal, written).await
}

/// `DELETE {type}?criteria`: at most one resource, and none is no mistake.
pub(super) async fn delete_conditionally(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    writable_type(&resource_type)?;
    principal.require(Interaction::Delete, &resource_type)?;
    let query = require_criteria(query)?;
    let answer = Answering::read(&headers)?;
    let if_match = if_match(&headers)?;
    let _turn = front.turn(&resource_type, &query).await;
    let Some(id) = conditional::find(&front, &principal, &resource_type, &query).await? else {
        return Ok(no_content());
    };
    let write = Write::Delete {
        resource_type,
        id,
        if_match,
    };
    let written = write_one(&front, &principal, write).await?;
    answer.written(&front, &principal, written).await
}

/// Carries out one change. It goes on when the client hangs up: half a write helps nobody.
async fn write_one(
    front: &Arc<Front>,
    principal: &Principal,
    write: Write,
) -> Result<Written, Problem> {
    let (service, actor) = (Arc::clone(&front.service), principal.actor.clone());
    let mut written = front
        .detached(async move { service.write(&actor, vec![write]).await })
        .await??;
    written.pop().ok_or_else(|| {
        Error::Internal {
            what: "answering a write",
            problem: "no result".into(),
        }
        .into()
    })
}

/// Reads and checks the resource in a body.
///
/// # Errors
/// 415, 413, 400 for what can't be read, 422 for what breaks a rule.
async fn read_resource(
    front: &Arc<Front>,
    headers: &HeaderMap,
    body: Body,
    resource_type: &str,
) -> Result<Resource, Problem> {
    require_json(headers)?;
    let bytes = body::read(headers, body, front.config.max_body_bytes).await?;
    let resource_type = resource_type.to_owned();
    let limits = limits(front);
    let read = move || {
        let resource = parse::resource(&bytes, &limits).map_err(unreadable)?;
        if resource.resource_type != resource_type {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                vec![
                    Issue::error(
                        IssueCode::Invalid,
                        format!("the address is for {resource_type}"),
                    )
                    .at("resourceType"),
                ],
            ));
        }
        check(&resource)?;
        Ok(resource)
    };
    front.blocking(read).await?
}

/// Limits under which bodies are read.
pub(super) fn limits(front: &Front) -> Limits {
    Limits {
        max_bytes: front.config.max_body_bytes,
        ..Limits::default()
    }
}

/// # Errors
/// 422 with every mistake and where it is.
fn check(resource: &Resource) -> Result<(), Problem> {
    let issues = validate::resource(&resource.value);
    if issues.iter().any(Issue::is_error) {
        Err(invalid(issues))
    } else {
        Ok(())
    }
}

/// Issues of text that could not be read.
pub(super) fn unreadable(issues: Vec<Issue>) -> Problem {
    Error::Invalid {
        issues,
        unreadable: true,
    }
    .into()
}

/// Issues of a resource that was read.
pub(super) fn invalid(issues: Vec<Issue>) -> Problem {
    Error::Invalid {
        issues,
        unreadable: false,
    }
    .into()
}

/// FHIR R4 `id`: 1 to 64 letters, digits, `-` and `.`.
fn require_id(id: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if (1..=64).contains(&id.len()) && id.chars().all(allowed) {
        return Ok(());
    }
    Err(Problem::bad_request(
        IssueCode::Value,
        "an id has 1 to 64 letters, digits, '-' or '.'",
    ))
}

fn require_criteria(query: Option<String>) -> Result<String, Problem> {
    query.filter(|query| !query.is_empty()).ok_or_else(|| {
        Problem::one(
            StatusCode::PRECONDITION_FAILED,
            IssueCode::Required,
            "name the resource by its id in the address, or by search parameters",
        )
    })
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// How a write is answered.
struct Answering {
    answer: Return,
    view: View,
}

impl Answering {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            answer: Prefer::read(headers)
                .answer
                .unwrap_or(Return::Representation),
            view: View::read(headers, &[])?,
        })
    }

    async fn written(self, front: &Arc<Front>, principal: &Principal, written: Written) -> Answer {
        let status = match written.effect {
            Effect::Created => StatusCode::CREATED,
            Effect::Updated | Effect::Unchanged => StatusCode::OK,
            Effect::Deleted => return Ok(self.deleted(&written)),
        };
        let place = format!("{}/{}", written.resource_type, written.id);
        let location = format!(
            "{}/{place}/_history/{}",
            front.config.fhir_url(),
            written.version
        );
        let (version, last_updated) = (written.version, written.last_updated);
        let mut response = match self.answer {
            Return::Minimal => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }
            Return::OperationOutcome => page::shown(status, said(&written), &self.view),
            Return::Representation => match text_of(front, principal, written).await {
                Some(text) if self.view.pretty => page::shown(status, text.to_string(), &self.view),
                Some(text) => page::json(status, page::body_of(text)),
                None => page::json(status, Body::empty()),
            },
        };
        let name = if status == StatusCode::CREATED {
            LOCATION
        } else {
            CONTENT_LOCATION
        };
        if let Ok(value) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(name, value);
        }
        put_version(response.headers_mut(), version, last_updated);
        Ok(response)
    }

    fn deleted(&self, written: &Written) -> Response {
        let mut response = match self.answer {
            Return::OperationOutcome => page::shown(StatusCode::OK, said(written), &self.view),
            Return::Minimal | Return::Representation => no_content(),
        };
        put_version(
            response.headers_mut(),
            written.version,
            written.last_updated,
        );
        response
    }
}

/// The resource as stored. Who may add but not see gets no more than a confirmation of what changed nothing.
async fn text_of(front: &Front, principal: &Principal, written: Written) -> Option<Arc<str>> {
    if written.text.is_some() {
        return written.text;
    }
    principal
        .require(Interaction::Read, &written.resource_type)
        .ok()?;
    let read = front
        .service
        .read(&principal.actor, &written.resource_type, &written.id);
    read.await.ok().map(|stored| stored.text)
}

/// What a change did, as an OperationOutcome.
pub(super) fn said(written: &Written) -> String {
    let what = match written.effect {
        Effect::Created => "created",
        Effect::Updated => "updated",
        Effect::Unchanged => "unchanged",
        Effect::Deleted => "deleted",
    };
    let place = format!("{}/{}", written.resource_type, written.id);
    let issue = Issue::information(
        IssueCode::Informational,
        format!("{place} {what}, version {}", written.version),
    );
    let outcome: Value = outcome::to_json(&[issue]);
    outcome.to_string()
}

/// Enough for writers that meet by chance; whoever loses more often is told so.
const PATCH_ATTEMPTS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_fhir() {
        for good in ["1", "a-b.C", &"x".repeat(64)] {
            assert!(require_id(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(require_id(bad).expect_err(bad).status, 400);
        }
    }

    #[test]
    fn a_condition_must_not_be_empty() {
        assert_eq!(require_criteria(None).expect_err("none").status, 412);
        assert_eq!(
            require_criteria(Some(String::new()))
                .expect_err("empty")
                .status,
            412
        );
        assert!(require_criteria(Some("identifier=1".into())).is_ok());
    }
}
