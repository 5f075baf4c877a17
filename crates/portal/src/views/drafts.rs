//! Drafts that survive signing out: kept while somebody writes, offered again on the worklist and on the form itself.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::post,
};
use maud::{Markup, html};
use stele_core::consent::Permissions;
use stele_service::{Error, people::Unsent};

use super::{ask::numbered, worklist::head};
use crate::{
    assets,
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{CARE, csrf, icon},
    session::Signed,
    shown::moment,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/drafts", post(keep))
        .route("/drafts/discard", post(discard))
}

/// Fields of every form that are not what somebody wrote.
const FRAME: [&str; 4] = ["csrf", "draft", "quiet", "version"];

/// What a form says of itself: where its draft belongs, and the button that keeps it where there is no script. Stands in a
/// form with `data-draft`.
pub(super) fn button(place: &str) -> Markup {
    html! {
        input type="hidden" name="draft" value=(place);
        button.btn formaction="/drafts" formnovalidate { (text!("Save draft")) }
        script type="module" src=(assets::address("drafts.js")) {}
    }
}

/// Where the script says what became of the draft.
pub(super) fn said() -> Markup {
    html! { p.small.soft role="status" data-draft-said {} }
}

/// The draft at a place, as what the form holds.
pub(super) fn at(
    portal: &Portal,
    signed: &Signed,
    place: &str,
) -> Answer<Option<(Fields, Unsent)>> {
    let found = portal.service.unsent(&signed.actor, place)?;
    Ok(found.map(|unsent| (Fields::parse(unsent.form.as_bytes()), unsent)))
}

/// Above a form that was filled in from a draft.
pub(super) fn offered(signed: &Signed, unsent: Option<&Unsent>) -> Markup {
    html! {
        @if let Some(unsent) = unsent {
            div.notice #draft {
                p { (rich!("{draft} is below. It was not sent.", draft = html! { strong { (rich!("Your draft of {moment} UTC", moment = moment(unsent.saved))) } })) }
                form method="post" action="/drafts/discard" {
                    (csrf(signed))
                    input type="hidden" name="draft" value=(unsent.place);
                    button.plain { (text!("Discard it")) }
                }
            }
        }
    }
}

/// What a person has not sent, on the worklist.
pub(super) fn list(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    let all = portal.service.all_unsent(&signed.actor)?;
    Ok(html! {
        @if !all.is_empty() {
            section.flow #drafts {
                h2 { (text!("Not sent yet")) }
                table.stacks role="table" {
                    caption.hide { (text!("Your drafts")) }
                    (head(&[text!("Patient"), text!("What"), text!("Kept"), text!("Act")]))
                    tbody role="rowgroup" {
                        @for one in &all {
                            @let (patient, what) = words(&one.place);
                            tr role="row" {
                                th.mono role="rowheader" scope="row" { a href=(one.place) { (patient) } }
                                td role="cell" data-label=(text!("What")) { (what) }
                                td role="cell" data-label=(text!("Kept")) { span.nowrap { (moment(one.saved)) " UTC" } }
                                td role="cell" data-label=(text!("Act")) {
                                    form method="post" action="/drafts/discard" {
                                        (csrf(signed))
                                        input type="hidden" name="draft" value=(one.place);
                                        input type="hidden" name="back" value="worklist";
                                        button.plain { (text!("Discard")) span.hide { " " (rich!("the draft for {patient}", patient)) } }
                                    }
                                }
                            }
                        }
                    }
                }
                p.small.soft { (icon("key-round")) " " (text!("Only you see your drafts. They are deleted when you send them, or after 14 days.")) }
            }
        }
    })
}

/// The parts of a form's address: the patient's number, and what comes after it.
fn parts(place: &str) -> Option<(&str, &str)> {
    let rest = place.strip_prefix("/patients/")?;
    let (patient, form) = rest.split_once('/').unwrap_or((rest, ""));
    let is_form = match form.split('/').collect::<Vec<_>>().as_slice() {
        [""] | ["prescribe"] => true,
        [kind, id, "amend"] => stele_fhir::is_resource_type(kind) && is_id(id),
        _ => false,
    };
    (patient.starts_with("PAT") && is_form).then_some((patient, form))
}

/// A FHIR id (FHIR R4 §2.24.0.1).
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

fn words(place: &str) -> (&str, &'static str) {
    match parts(place) {
        Some((patient, "")) => (patient, text!("An entry for the chart")),
        Some((patient, "prescribe")) => (patient, text!("A prescription")),
        Some((patient, _)) => (patient, text!("An amendment")),
        None => (text!("Not known"), text!("A draft")),
    }
}

/// `POST /drafts`: by the script while somebody writes, or by the button.
async fn keep(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(CARE)?;
    let place = posted.fields.text("draft").to_owned();
    let (number, _) = parts(&place)
        .ok_or_else(|| Refusal::bad_form(text!("It does not say what it is a draft of.")))?;
    let patient = numbered(&portal, number)?.ok_or_else(Refusal::not_found)?;
    // Nothing of the record is read for this: no name, no receipt.
    let may = portal
        .service
        .open_parts(&signed.actor, patient, Permissions::WRITE);
    let may = match may {
        Ok(parts) => !parts.is_empty(),
        Err(Error::NotSupported { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    if !may {
        return Err(Refusal::not_allowed(text!(
            "The patient does not let you add to this record."
        )));
    }
    match posted.fields.encoded_but(&FRAME) {
        Some(form) => {
            portal.service.keep_unsent(&signed.actor, &place, &form)?;
        }
        // Whoever emptied the form has no draft.
        None => portal.service.drop_unsent(&signed.actor, &place)?,
    }
    Ok(if posted.fields.text("quiet").is_empty() {
        Redirect::to(&place).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

/// `POST /drafts/discard`
async fn discard(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(CARE)?;
    let place = posted.fields.text("draft");
    if parts(place).is_none() {
        return Err(Refusal::bad_form(text!("It does not say which draft.")));
    }
    portal.service.drop_unsent(&signed.actor, place)?;
    let next = if posted.fields.text("back") == "worklist" {
        "/worklist"
    } else {
        place
    };
    Ok(Redirect::to(next).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_belong_to_forms_of_charts_only() {
        for (place, found) in [
            ("/patients/PAT001", Some(("PAT001", ""))),
            ("/patients/PAT001/prescribe", Some(("PAT001", "prescribe"))),
            (
                "/patients/PAT001/Observation/a-1/amend",
                Some(("PAT001", "Observation/a-1/amend")),
            ),
            ("/patients/PAT001/Observation/a-1", None),
            ("/patients/PAT001/Nothing/a/amend", None),
            ("/patients/PAT001/Observation/a\"b/amend", None),
            ("//evil.example/patients/PAT001", None),
            ("/account", None),
        ] {
            assert_eq!(parts(place), found, "{place}");
        }
    }
}
