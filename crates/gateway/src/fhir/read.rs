//! Read, vread and what changed in between.

use axum::http::StatusCode;
use stele_fhir::{diff, outcome::IssueCode};
use stele_service::{Error, Stored};

use super::{
    asked::{Asked, READ_ONLY, is_place},
    binary, page,
};
use crate::{
    problem::{Answer, Problem},
    smart::Interaction,
};

/// `GET {type}/{id}`
pub(super) async fn current(asked: Asked) -> Answer {
    asked.require(&[Interaction::Read])?;
    if asked.resource_type == "Binary" {
        return binary::read(&asked).await;
    }
    let view = asked.view()?;
    let stored = match from_ledger(&asked).await? {
        Some(stored) => stored,
        None => {
            let (service, actor) = (&asked.front.service, &asked.principal.actor);
            service.read(actor, &asked.resource_type, &asked.id).await?
        }
    };
    Ok(page::resource(stored, &asked.headers, &view))
}

/// `GET {type}/{id}/_history/{version}`
pub(super) async fn version(asked: Asked) -> Answer {
    asked.require(&[Interaction::Read])?;
    let view = asked.view()?;
    let stored = match from_ledger(&asked).await? {
        Some(stored) if asked.version == "1" => stored,
        Some(_) => return Err(no_such_version()),
        None => one_version(&asked, &asked.version).await?,
    };
    Ok(page::resource(stored, &asked.headers, &view))
}

async fn one_version(asked: &Asked, version: &str) -> Result<Stored, Problem> {
    let version = version.parse().map_err(|_| no_such_version())?;
    let (service, actor) = (&asked.front.service, &asked.principal.actor);
    Ok(service
        .vread(actor, &asked.resource_type, &asked.id, version)
        .await?)
}

fn no_such_version() -> Problem {
    Problem::not_found("there is no such version")
}

/// What the ledger itself says: accesses, and who wrote a version. `None` for what clients write.
async fn from_ledger(asked: &Asked) -> Result<Option<Stored>, Problem> {
    let is_event = READ_ONLY.contains(&asked.resource_type.as_str());
    let is_anchor = asked.resource_type == "Provenance" && is_place(&asked.id);
    if !(is_event || is_anchor) {
        return Ok(None);
    }
    let front = &asked.front;
    let (service, actor, id) = (
        front.service.clone(),
        asked.principal.actor.clone(),
        asked.id.clone(),
    );
    let look = move || {
        if is_event {
            service.audit_event(&actor, &id)
        } else {
            service.provenance_at(&actor, &id)
        }
    };
    Ok(Some(front.blocking(look).await??))
}

/// `GET {type}/{id}/$diff?fromVersion=1&toVersion=2`: the elements in which two versions differ, as the operations of
/// a FHIR Patch. The later version is the current one unless named, the earlier the one before it.
pub(super) async fn difference(asked: Asked) -> Answer {
    asked.require(&[Interaction::Read])?;
    let view = asked.view()?;
    let (mut from, mut to) = (None, None);
    for (name, value) in asked.pairs() {
        match name.as_str() {
            "fromVersion" => from = Some(value),
            "toVersion" => to = Some(value),
            "_format" | "_pretty" => {}
            _ => {
                return Err(Problem::bad_request(
                    IssueCode::NotSupported,
                    "only fromVersion and toVersion are taken here",
                ));
            }
        }
    }
    let to = match to {
        Some(version) => one_version(&asked, &version).await?,
        None => {
            let (service, actor) = (&asked.front.service, &asked.principal.actor);
            service.read(actor, &asked.resource_type, &asked.id).await?
        }
    };
    let before = from.unwrap_or_else(|| to.version.saturating_sub(1).to_string());
    let from = one_version(&asked, &before).await?;
    let changes = asked.front.blocking(move || {
        let read = |stored: &Stored| serde_json::from_str(&stored.text);
        Ok::<_, serde_json::Error>(diff::changes(&read(&from)?, &read(&to)?))
    });
    let changes = changes.await?.map_err(|error| Error::Internal {
        what: "comparing versions",
        problem: error.to_string(),
    })?;
    let text = diff::to_parameters(&changes).to_string();
    Ok(page::shown(StatusCode::OK, text, &view))
}
