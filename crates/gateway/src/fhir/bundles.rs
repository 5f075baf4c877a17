//! `POST [base]`: transactions and batches.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use stele_fhir::{
    bundle::{self, BundleType, Entry, Method, Plan, Target},
    parse,
};
use stele_service::{Effect, Stored, Written, bundle::EntryResult};

use super::{
    asked::writable,
    headers::{Prefer, Return, View, etag, require_json},
    page::{self, BundleText, quoted},
    pending::{self, Carried},
    write::{invalid, limits, said, unreadable},
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `POST [base]`
pub(super) async fn system(
    State(front): State<Arc<Front>>,
    principal: Principal,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    require_json(&headers)?;
    let view = View::read(&headers, &[])?;
    let bytes = body::read(&headers, body, front.config.max_body_bytes).await?;
    let limits = limits(&front);
    let read = move || {
        let resource = parse::resource(&bytes, &limits).map_err(unreadable)?;
        bundle::parse(resource).map_err(invalid)
    };
    let mut plan = front.blocking(read).await??;
    check_scopes(&principal, &mut plan)?;
    let asked: Vec<Asked> = plan.entries.iter().map(Asked::of).collect();
    let response_type = match plan.bundle_type {
        BundleType::Transaction => "transaction-response",
        _ => "batch-response",
    };
    let (service, actor) = (Arc::clone(&front.service), principal.actor.clone());
    let prefer = Prefer::read(&headers);
    let carried = pending::carry_out(&front, prefer, |watch| async move {
        service.bundle_watched(&actor, plan, watch).await
    });
    let results = match carried.await? {
        Carried::Done(results) => results,
        Carried::Waits(ticket) => return Ok(pending::accepted(&front, &ticket, &view)),
    };
    let answer = prefer.answer.unwrap_or(Return::Minimal);
    let mut out = BundleText::new(response_type, front.service.now(), None, &[]);
    for (result, asked) in results.into_iter().zip(&asked) {
        push(&front, &principal, &mut out, result, asked, answer);
    }
    Ok(page::shown(StatusCode::OK, out.finish(), &view))
}

/// What an entry asked for, kept while the plan is carried out.
struct Asked {
    url: String,
    is_read: bool,
}

impl Asked {
    fn of(entry: &Entry) -> Self {
        let request = entry.request.as_ref();
        Self {
            url: request
                .map(|request| request.url.clone())
                .unwrap_or_default(),
            is_read: request.is_some_and(|r| matches!(r.method, Method::Get | Method::Head)),
        }
    }

    /// The query's parameters of a search.
    fn pairs(&self) -> Vec<(String, String)> {
        self.url
            .split_once('?')
            .map(|(_, query)| body::pairs(query.as_bytes()))
            .unwrap_or_default()
    }
}

/// Holds every entry against the token. A transaction is refused whole; an entry of a batch by itself.
fn check_scopes(principal: &Principal, plan: &mut Plan) -> Result<(), Problem> {
    for entry in &mut plan.entries {
        let Some(problem) = refusal(principal, entry) else {
            continue;
        };
        if plan.bundle_type == BundleType::Transaction {
            return Err(problem);
        }
        let place = format!("Bundle.entry[{}].request", entry.index);
        entry.issues.extend(
            problem
                .issues
                .into_iter()
                .map(|issue| issue.at(place.clone())),
        );
    }
    Ok(())
}

fn refusal(principal: &Principal, entry: &Entry) -> Option<Problem> {
    let request = entry.request.as_ref()?;
    let resource_type = match &request.target {
        Target::Type(name)
        | Target::Instance {
            resource_type: name,
            ..
        }
        | Target::Conditional {
            resource_type: name,
            ..
        } => name.as_str(),
        // Refused by the use case, which knows no such request.
        Target::Other => return None,
    };
    let needed: &[Interaction] = match (request.method, &request.target) {
        (Method::Post, _) if request.if_none_exist.is_some() => {
            &[Interaction::Create, Interaction::Search]
        }
        (Method::Post, _) => &[Interaction::Create],
        (Method::Put, Target::Conditional { .. }) => &[Interaction::Update, Interaction::Search],
        (Method::Put, _) => &[Interaction::Update],
        (Method::Patch, Target::Conditional { .. }) => {
            &[Interaction::Update, Interaction::Read, Interaction::Search]
        }
        (Method::Patch, _) => &[Interaction::Update, Interaction::Read],
        (Method::Delete, Target::Conditional { .. }) => &[Interaction::Delete, Interaction::Search],
        (Method::Delete, _) => &[Interaction::Delete],
        (Method::Get | Method::Head, Target::Instance { .. }) => &[Interaction::Read],
        (Method::Get | Method::Head, _) => &[Interaction::Search],
    };
    let id = match &request.target {
        Target::Instance { id, .. } => id.as_str(),
        _ => "",
    };
    if !matches!(request.method, Method::Get | Method::Head)
        && let Err(problem) = writable(resource_type, id)
    {
        return Some(problem);
    }
    needed
        .iter()
        .find_map(|interaction| principal.require(*interaction, resource_type).err())
}

fn push(
    front: &Front,
    principal: &Principal,
    out: &mut BundleText,
    result: EntryResult,
    asked: &Asked,
    answer: Return,
) {
    if let Some(error) = result.error {
        let problem = Problem::from(error);
        let response = format!(
            r#"{{"status":{},"outcome":{}}}"#,
            quoted(&status_line(problem.status)),
            problem.to_json()
        );
        out.push(&[("response", &response)]);
        return;
    }
    let status = StatusCode::from_u16(result.status).unwrap_or(StatusCode::OK);
    if let Some(written) = &result.written {
        push_written(front, out, written, status, answer);
    } else if let Some(stored) = &result.stored {
        let response = response_of(stored, status);
        let url = quoted(&full_url(front, &stored.resource_type, &stored.id));
        // A conditional create that found something is answered as a create: without the resource.
        if !asked.is_read && answer != Return::Representation {
            out.push(&[("response", &response)]);
        } else {
            out.push(&[
                ("fullUrl", &url),
                ("resource", &stored.text),
                ("response", &response),
            ]);
        }
    } else if let Some(mut page) = result.page {
        page.included.retain(|one| {
            principal
                .scopes
                .allow(Interaction::Read, &one.resource_type)
        });
        let text = found(front, &page, asked);
        let response = format!(r#"{{"status":{}}}"#, quoted(&status_line(status)));
        out.push(&[("resource", &text), ("response", &response)]);
    } else {
        let response = format!(r#"{{"status":{}}}"#, quoted(&status_line(status)));
        out.push(&[("response", &response)]);
    }
}

fn push_written(
    front: &Front,
    out: &mut BundleText,
    written: &Written,
    status: StatusCode,
    answer: Return,
) {
    let place = format!("{}/{}", written.resource_type, written.id);
    let mut response = format!(
        r#"{{"status":{},"etag":{},"lastModified":"{}""#,
        quoted(&status_line(status)),
        quoted(&etag(written.version)),
        written.last_updated.to_instant()
    );
    if written.effect != Effect::Deleted {
        let location = format!("{place}/_history/{}", written.version);
        response.push_str(&format!(r#","location":{}"#, quoted(&location)));
    }
    if answer == Return::OperationOutcome {
        response.push_str(&format!(r#","outcome":{}"#, said(written)));
    }
    response.push('}');
    let url = quoted(&full_url(front, &written.resource_type, &written.id));
    match &written.text {
        Some(text) if answer == Return::Representation => {
            out.push(&[
                ("fullUrl", &url),
                ("resource", text),
                ("response", &response),
            ]);
        }
        _ => out.push(&[("response", &response)]),
    }
}

fn response_of(stored: &Stored, status: StatusCode) -> String {
    format!(
        r#"{{"status":{},"location":{},"etag":{},"lastModified":"{}"}}"#,
        quoted(&status_line(status)),
        quoted(&format!(
            "{}/{}/_history/{}",
            stored.resource_type, stored.id, stored.version
        )),
        quoted(&etag(stored.version)),
        stored.last_updated.to_instant()
    )
}

/// A search inside a Bundle is answered by a Bundle inside the Bundle.
fn found(front: &Front, page: &stele_service::SearchPage, asked: &Asked) -> String {
    let pairs = asked.pairs();
    let view = View::read(&HeaderMap::new(), &pairs).unwrap_or_default();
    let path = asked
        .url
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_start_matches('/');
    let fhir_url = front.config.fhir_url();
    let links = page::links(&format!("{fhir_url}/{path}"), &pairs, page.next.as_deref());
    page::searchset(&fhir_url, page, &[], &view, front.service.now(), &links)
}

fn full_url(front: &Front, resource_type: &str, id: &str) -> String {
    format!("{}/{resource_type}/{id}", front.config.fhir_url())
}

fn status_line(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(
        || status.as_str().to_owned(),
        |reason| format!("{} {reason}", status.as_str()),
    )
}

#[cfg(test)]
mod tests;
