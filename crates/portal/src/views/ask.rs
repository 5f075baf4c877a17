//! A clinician asks a patient for access. What is asked for stays with the node; the ledger has its digest.

use std::sync::Arc;

use alloy_primitives::B256;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use maud::html;
use stele_core::{consent::Purpose, id::PatientId};
use stele_fhir::category::Category;
use stele_service::grants::RequestDetails;

use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{CARE, Page, Place, Rendered, csrf, errors, field_error},
    session::Signed,
    shown::{capital, part},
};

/// How long a request waits for its answer, in milliseconds: 90 days, as at the operator's desk.
const REQUEST_MS: u64 = 90 * 24 * 3600 * 1000;
/// Longest reason, in characters.
const REASON_MAX: usize = 500;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new().route("/ask", get(page).post(ask))
}

/// `GET /ask`
async fn page(
    State(_portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(CARE)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    Ok(form(&signed, &fields, &[]))
}

fn form(signed: &Signed, fields: &Fields, problems: &[(&str, String)]) -> Rendered {
    let everyday = Category::ALL.into_iter().filter(|one| !one.is_sensitive());
    let chosen = fields.all("parts");
    let (number, parts, reason) = (
        field_error(problems, "patient"),
        field_error(problems, "parts"),
        field_error(problems, "reason"),
    );
    let main = html! {
        (errors(problems))
        form.flow method="post" action="/ask" novalidate {
            (csrf(signed))
            h1 { (text!("Ask a patient for access")) }
            p { (text!("The patient reads this, and allows or declines with a passkey. You see the answer on your worklist.")) }
            div.field.invalid[number.is_some()] {
                label for="patient" { (text!("Patient number")) }
                p.hint #patient-h { (text!("The patient finds it under “Account”, for example PAT003")) }
                @if let Some(error) = &number { (error) }
                input.w-m #patient name="patient" value=(fields.text("patient")) maxlength="20" autocomplete="off"
                    aria-invalid=[number.is_some().then_some("true")] aria-describedby=(if number.is_some() { "patient-h patient-e" } else { "patient-h" });
            }
            fieldset #parts tabindex="-1" .invalid[parts.is_some()] {
                legend { (text!("Parts of the record")) }
                @if let Some(error) = &parts { (error) }
                div.parts {
                    @for one in everyday {
                        div.choice {
                            input type="checkbox" id={ "part-" (one.name()) } name="parts" value=(one.name()) checked[chosen.contains(&one.name())];
                            label for={ "part-" (one.name()) } { (capital(part(one))) }
                        }
                    }
                }
            }
            fieldset {
                legend { (text!("What you need to do")) }
                div.choice { input #see type="radio" name="verbs" value="see" checked[!matches!(fields.text("verbs"), "see-and-add" | "add")]; label for="see" { (text!("See")) } }
                div.choice { input #add type="radio" name="verbs" value="see-and-add" checked[fields.text("verbs") == "see-and-add"]; label for="add" { (text!("See, and add entries")) } }
                div.choice { input #add-only type="radio" name="verbs" value="add" checked[fields.text("verbs") == "add"]; label for="add-only" { (text!("Add entries only, as a laboratory does")) } }
            }
            div.field.invalid[reason.is_some()] {
                label for="reason" { (text!("Why, in words for the patient")) }
                @if let Some(error) = &reason { (error) }
                textarea #reason name="reason" maxlength=(REASON_MAX) aria-invalid=[reason.is_some().then_some("true")]
                    aria-describedby=[reason.is_some().then_some("reason-e")] { (fields.text("reason")) }
            }
            div.actions { button.btn.primary { (text!("Ask")) } a.btn href="/worklist" { (text!("Cancel")) } }
        }
    };
    let title = if problems.is_empty() {
        text!("Ask a patient")
    } else {
        text!("Error: Ask a patient")
    };
    Page::new(title, main)
        .at(Place::Ask)
        .narrow()
        .render(Some(signed))
}

/// `POST /ask`
async fn ask(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(CARE)?;
    let fields = &posted.fields;
    let mut problems = Vec::new();
    let patient = numbered(&portal, fields.text("patient"))?;
    if patient.is_none() {
        problems.push((
            "patient",
            text!("Enter the number of a patient, such as PAT003").to_owned(),
        ));
    }
    let parts: Vec<String> = fields
        .all("parts")
        .into_iter()
        .filter(|name| Category::from_name(name).is_some_and(|one| !one.is_sensitive()))
        .map(str::to_owned)
        .collect();
    if parts.is_empty() {
        problems.push((
            "parts",
            text!("Choose at least one part of the record").to_owned(),
        ));
    }
    let reason = fields.text("reason");
    if reason.is_empty() || reason.chars().count() > REASON_MAX {
        problems.push((
            "reason",
            text!("Write why, in at most {most} characters", most = REASON_MAX),
        ));
    }
    let Some(patient) = patient.filter(|_| problems.is_empty()) else {
        let page = form(&signed, fields, &problems);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    let mut salt = B256::ZERO;
    getrandom::fill(salt.as_mut_slice())
        .map_err(|_| Refusal::bad_form(text!("The system gives no random numbers.")))?;
    let permissions: &[&str] = match fields.text("verbs") {
        "add" => &["write"],
        "see-and-add" => &["read", "write"],
        _ => &["read"],
    };
    let details = RequestDetails {
        reason: reason.to_owned(),
        categories: parts,
        permissions: permissions.iter().map(|one| (*one).to_owned()).collect(),
        purposes: vec![Purpose::Treat],
        salt,
    };
    let until = portal.service.now().plus_ms(REQUEST_MS);
    portal
        .service
        .request_access(&signed.actor, patient, &details, until)
        .await?;
    Ok(Redirect::to("/worklist").into_response())
}

/// The patient of `PAT003`, however it is written.
pub(super) fn numbered(portal: &Portal, text: &str) -> Answer<Option<PatientId>> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("PAT").unwrap_or(&upper);
    let Ok(number) = digits.trim().parse::<u64>() else {
        return Ok(None);
    };
    Ok(portal.service.patient_numbered(number)?)
}
