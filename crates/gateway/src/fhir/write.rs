//! Create, update, patch and delete, by id or by condition.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderValue, StatusCode,
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
use tokio::sync::OwnedMutexGuard;

use super::{
    asked::Asked,
    binary, conditional,
    headers::{self, Prefer, Return, View, if_match, put_version, require_json},
    page,
    pending::{self, Carried},
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::Interaction,
};

/// `POST {type}`
pub(super) async fn create(asked: Asked, body: Body) -> Answer {
    asked.require_write(&[Interaction::Create])?;
    if asked.resource_type == "Binary" && binary::is_raw(&asked.headers) {
        return binary::create(&asked, body).await;
    }
    let writing = Writing::read(&asked)?;
    let resource = writing.resource(body).await?;
    let Some(condition) = headers::text(&asked.headers, "if-none-exist")? else {
        return writing.carry_out(Write::Create { resource }, None).await;
    };
    let turn = asked.front.turn(&asked.resource_type, condition).await;
    match conditional::find(&asked, condition).await? {
        None => writing.carry_out(Write::Create { resource }, turn).await,
        Some(id) => {
            let (service, actor) = (&asked.front.service, &asked.principal.actor);
            let stored = service.read(actor, &asked.resource_type, &id).await?;
            let written = Written {
                resource_type: stored.resource_type,
                id: stored.id,
                version: stored.version,
                last_updated: stored.last_updated,
                effect: Effect::Unchanged,
                text: Some(stored.text),
                height: 0,
            };
            writing.answer(written).await
        }
    }
}

/// `PUT {type}/{id}`
pub(super) async fn update(asked: Asked, body: Body) -> Answer {
    asked.require_write(&[Interaction::Update])?;
    require_id(&asked.id)?;
    if asked.resource_type == "Binary" && binary::is_raw(&asked.headers) {
        return Err(headers::unsupported(
            "update a Binary as application/fhir+json, or create a new one from its content",
        ));
    }
    let writing = Writing::read(&asked)?;
    let if_match = if_match(&asked.headers)?;
    let resource = writing.resource(body).await?;
    if resource.id.as_deref() != Some(asked.id.as_str()) {
        let issue = Issue::error(
            IssueCode::Invalid,
            "the resource's id must be the one in the address",
        );
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            vec![issue.at(format!("{}.id", asked.resource_type))],
        ));
    }
    let write = Write::Update {
        resource,
        id: asked.id.clone(),
        if_match,
    };
    writing.carry_out(write, None).await
}

/// `PUT {type}?criteria`
pub(super) async fn update_conditionally(asked: Asked, body: Body) -> Answer {
    asked.require_write(&[Interaction::Update])?;
    require_criteria(&asked)?;
    let writing = Writing::read(&asked)?;
    let if_match = if_match(&asked.headers)?;
    let resource = writing.resource(body).await?;
    let turn = asked.front.turn(&asked.resource_type, &asked.query).await;
    let found = conditional::find(&asked, &asked.query).await?;
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
    writing.carry_out(write, turn).await
}

/// `PATCH {type}/{id}`
pub(super) async fn patch(asked: Asked, body: Body) -> Answer {
    asked.require_write(&[Interaction::Update, Interaction::Read])?;
    headers::require_json_patch(&asked.headers)?;
    let writing = Writing::read(&asked)?;
    let patch = body::read(&asked.headers, body, asked.front.config.max_body_bytes).await?;
    writing.patch(&asked.id, &patch, None).await
}

/// `PATCH {type}?criteria`
pub(super) async fn patch_conditionally(asked: Asked, body: Body) -> Answer {
    asked.require_write(&[Interaction::Update, Interaction::Read])?;
    headers::require_json_patch(&asked.headers)?;
    require_criteria(&asked)?;
    let writing = Writing::read(&asked)?;
    let patch = body::read(&asked.headers, body, asked.front.config.max_body_bytes).await?;
    let turn = asked.front.turn(&asked.resource_type, &asked.query).await;
    let id = conditional::find(&asked, &asked.query)
        .await?
        .ok_or_else(|| Problem::not_found("the condition matches nothing"))?;
    writing.patch(&id, &patch, turn).await
}

/// `DELETE {type}/{id}`
pub(super) async fn delete(asked: Asked) -> Answer {
    asked.require_write(&[Interaction::Delete])?;
    let write = Write::Delete {
        resource_type: asked.resource_type.clone(),
        id: asked.id.clone(),
        if_match: if_match(&asked.headers)?,
    };
    Writing::read(&asked)?.carry_out(write, None).await
}

/// `DELETE {type}?criteria`: at most one resource, and none is no mistake.
pub(super) async fn delete_conditionally(asked: Asked) -> Answer {
    asked.require_write(&[Interaction::Delete])?;
    require_criteria(&asked)?;
    let writing = Writing::read(&asked)?;
    let if_match = if_match(&asked.headers)?;
    let turn = asked.front.turn(&asked.resource_type, &asked.query).await;
    let Some(id) = conditional::find(&asked, &asked.query).await? else {
        return Ok(no_content());
    };
    let write = Write::Delete {
        resource_type: asked.resource_type.clone(),
        id,
        if_match,
    };
    writing.carry_out(write, turn).await
}

/// One change being made, and how it is to be answered.
struct Writing<'a> {
    asked: &'a Asked,
    prefer: Prefer,
    view: View,
}

impl<'a> Writing<'a> {
    fn read(asked: &'a Asked) -> Result<Self, Problem> {
        Ok(Self {
            asked,
            prefer: Prefer::read(&asked.headers),
            view: asked.view()?,
        })
    }

    /// Reads and checks the resource in a body.
    ///
    /// # Errors
    /// 415, 413, 400 for what can't be read, 422 for what breaks a rule.
    async fn resource(&self, body: Body) -> Result<Resource, Problem> {
        let front = &self.asked.front;
        require_json(&self.asked.headers)?;
        let bytes = body::read(&self.asked.headers, body, front.config.max_body_bytes).await?;
        let resource_type = self.asked.resource_type.clone();
        let limits = limits(front);
        let read = move || {
            let resource = parse::resource(&bytes, &limits).map_err(unreadable)?;
            if resource.resource_type != resource_type {
                let issue = Issue::error(
                    IssueCode::Invalid,
                    format!("the address is for {resource_type}"),
                );
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    vec![issue.at("resourceType")],
                ));
            }
            check(&resource)?;
            Ok(resource)
        };
        front.blocking(read).await?
    }

    /// Makes the change and answers. A turn is held until the change is findable, also when it is answered before.
    async fn carry_out(&self, write: Write, turn: Option<OwnedMutexGuard<()>>) -> Answer {
        let front = &self.asked.front;
        let (service, actor) = (
            Arc::clone(&front.service),
            self.asked.principal.actor.clone(),
        );
        let carried = pending::carry_out(front, self.prefer, |watch| async move {
            let _turn = turn;
            let mut written = service.write_watched(&actor, vec![write], watch).await?;
            written.pop().ok_or_else(|| Error::Internal {
                what: "answering a write",
                problem: "no result".into(),
            })
        });
        match carried.await? {
            Carried::Done(written) => self.answer(written).await,
            Carried::Waits(ticket) => Ok(pending::accepted(front, &ticket, &self.view)),
        }
    }

    /// Patches the current version. Where the client names none, somebody else's change in between starts it again.
    async fn patch(
        &self,
        id: &str,
        patch: &Bytes,
        mut turn: Option<OwnedMutexGuard<()>>,
    ) -> Answer {
        let Asked {
            front,
            principal,
            resource_type,
            ..
        } = self.asked;
        let if_match = if_match(&self.asked.headers)?;
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
                .blocking(move || patched(text.to_string(), &patch))
                .await??;
            let write = Write::Update {
                resource,
                id: id.to_owned(),
                if_match: Some(current.version),
            };
            match self.carry_out(write, turn.take()).await {
                Err(problem)
                    if problem.status == StatusCode::PRECONDITION_FAILED
                        && if_match.is_none()
                        && attempts < PATCH_ATTEMPTS => {}
                other => return other,
            }
        }
    }

    async fn answer(&self, written: Written) -> Answer {
        let status = match written.effect {
            Effect::Created => StatusCode::CREATED,
            Effect::Updated | Effect::Unchanged => StatusCode::OK,
            Effect::Deleted => return Ok(self.deleted(&written)),
        };
        let place = format!("{}/{}", written.resource_type, written.id);
        let location = format!(
            "{}/{place}/_history/{}",
            self.asked.front.config.fhir_url(),
            written.version
        );
        let (version, last_updated) = (written.version, written.last_updated);
        let mut response = match self.prefer.answer.unwrap_or(Return::Representation) {
            Return::Minimal => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = status;
                response
            }
            Return::OperationOutcome => page::shown(status, said(&written), &self.view),
            Return::Representation => match self.text_of(written).await {
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
        let mut response = match self.prefer.answer {
            Some(Return::OperationOutcome) => {
                page::shown(StatusCode::OK, said(written), &self.view)
            }
            Some(Return::Minimal | Return::Representation) | None => no_content(),
        };
        put_version(
            response.headers_mut(),
            written.version,
            written.last_updated,
        );
        response
    }

    /// The resource as stored. Who may add but not see gets no more than a confirmation of what changed nothing.
    async fn text_of(&self, written: Written) -> Option<Arc<str>> {
        if written.text.is_some() {
            return written.text;
        }
        self.asked.require(&[Interaction::Read]).ok()?;
        let (service, actor) = (&self.asked.front.service, &self.asked.principal.actor);
        let read = service.read(actor, &written.resource_type, &written.id);
        read.await.ok().map(|stored| stored.text)
    }
}

/// A stored text with a patch applied, checked as if it were new.
fn patched(text: String, patch: &[u8]) -> Result<Resource, Problem> {
    let current = parse::edited(text).map_err(invalid)?;
    let patched = json_patch::json_patch(&current, patch).map_err(invalid)?;
    let patched = parse::edited(patched).map_err(invalid)?;
    check(&patched)?;
    Ok(patched)
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

fn require_criteria(asked: &Asked) -> Result<(), Problem> {
    if !asked.query.is_empty() {
        return Ok(());
    }
    Err(Problem::one(
        StatusCode::PRECONDITION_FAILED,
        IssueCode::Required,
        "name the resource by its id in the address, or by search parameters",
    ))
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
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
}
