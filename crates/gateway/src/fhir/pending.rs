//! Writes that are answered before they are final: 202 with an address where the outcome can be asked for.
//!
//! Follows FHIR's asynchronous pattern (R4 `async.html`; the completed answer is the batch-response of R5's
//! "asynchronous interaction request"). A write gets this far only once it is sealed and durable.

use std::{future::Future, sync::Arc};

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_LOCATION, RETRY_AFTER},
    },
    response::Response,
};
use stele_fhir::outcome::{self, Issue, IssueCode};
use stele_service::{Effect, Error, Outcome, Recorded, Ticket, Watch};

use super::{
    headers::{Prefer, View, etag},
    page::{self, BundleText, quoted},
};
use crate::{
    extract::Named,
    front::Front,
    problem::{Answer, Problem},
    smart::Principal,
};

/// How far a write came while its client waited.
pub(super) enum Carried<T> {
    /// To its end.
    Done(T),
    /// It is durable and goes on; the outcome can be asked for.
    Waits(Ticket),
}

/// Carries out a write. It goes on when the client hangs up: half a write helps nobody. Who prefers `respond-async`
/// waits until it is durable and no longer; others as long as the configuration says.
///
/// # Errors
/// The write's own, if it ended in time.
pub(super) async fn carry_out<T, W>(
    front: &Arc<Front>,
    prefer: Prefer,
    work: impl FnOnce(Watch) -> W,
) -> Result<Carried<T>, Problem>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (watch, durable) = Watch::new(prefer.respond_async);
    let mut working = Box::pin(front.detached(work(watch)));
    // A write that ends before it is durable drops its side: then there is no ticket to wait for.
    let ticket = tokio::select! {
        done = &mut working => return Ok(Carried::Done(done??)),
        Ok(ticket) = durable => ticket,
    };
    if !prefer.respond_async {
        let patience = front.config.pending_after;
        if let Ok(done) = tokio::time::timeout(patience, &mut working).await {
            return Ok(Carried::Done(done??));
        }
    }
    if ticket.promise()? {
        return Ok(Carried::Waits(ticket));
    }
    Ok(Carried::Done(working.await??))
}

/// 202: kept, and not yet recorded.
pub(super) fn accepted(front: &Front, ticket: &Ticket, view: &View) -> Response {
    waiting(front, ticket.id(), view)
}

fn waiting(front: &Front, ticket: &str, view: &View) -> Response {
    let issue = Issue::information(
        IssueCode::Informational,
        "stored; it waits to be recorded on the ledger. Ask again at the address in Content-Location",
    );
    let text = outcome::to_json(&[issue]).to_string();
    let mut response = page::shown(StatusCode::ACCEPTED, text, view);
    let address = format!("{}/_status/{ticket}", front.config.fhir_url());
    let headers = response.headers_mut();
    if let Ok(address) = HeaderValue::from_str(&address) {
        headers.insert(CONTENT_LOCATION, address);
    }
    headers.insert(RETRY_AFTER, HeaderValue::from_static(ASK_AGAIN_SECONDS));
    headers.insert(PROGRESS, HeaderValue::from_static("waiting for the ledger"));
    response
}

/// `GET _status/{ticket}`: 202 while the write waits, then its outcome, one entry for each resource.
pub(super) async fn status(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Named(ticket): Named<String>,
    headers: HeaderMap,
) -> Answer {
    let view = View::read(&headers, &[])?;
    match front.service.outcome(&principal.actor, &ticket)? {
        Outcome::Waiting => Ok(waiting(&front, &ticket, &view)),
        Outcome::Recorded(all) => {
            let mut out = BundleText::new("batch-response", front.service.now(), None, &[]);
            for one in &all {
                out.push(&[("response", &response_of(one))]);
            }
            Ok(page::shown(StatusCode::OK, out.finish(), &view))
        }
        Outcome::Refused(error) => Err(error.into()),
    }
}

fn response_of(recorded: &Recorded) -> String {
    let status = match recorded.effect {
        Effect::Created => "201 Created",
        Effect::Updated | Effect::Unchanged => "200 OK",
        Effect::Deleted => "204 No Content",
    };
    let place = format!(
        "{}/{}/_history/{}",
        recorded.resource_type, recorded.id, recorded.version
    );
    format!(
        r#"{{"status":"{status}","location":{},"etag":{},"lastModified":"{}"}}"#,
        quoted(&place),
        quoted(&etag(recorded.version)),
        recorded.last_updated.to_instant()
    )
}

/// Blocks come within the second.
const ASK_AGAIN_SECONDS: &str = "1";
/// R4 `async.html#3.1.6.4`.
const PROGRESS: HeaderName = HeaderName::from_static("x-progress");

#[cfg(test)]
mod tests {
    use stele_core::time::Timestamp;

    use super::*;

    #[test]
    fn an_outcome_is_a_valid_bundle() {
        let recorded = |effect, version| Recorded {
            resource_type: "Observation".into(),
            id: "a".into(),
            version,
            last_updated: Timestamp(0),
            effect,
            height: 4,
        };
        let mut out = BundleText::new("batch-response", Timestamp(0), None, &[]);
        for (effect, version) in [
            (Effect::Created, 1),
            (Effect::Updated, 2),
            (Effect::Deleted, 3),
        ] {
            out.push(&[("response", &response_of(&recorded(effect, version)))]);
        }
        let bundle: serde_json::Value = serde_json::from_str(&out.finish()).expect("JSON");
        assert_eq!(stele_fhir::validate::resource(&bundle), []);
        assert_eq!(bundle["entry"][1]["response"]["etag"], "W/\"2\"");
        assert_eq!(
            bundle["entry"][2]["response"]["location"],
            "Observation/a/_history/3"
        );
    }
}
