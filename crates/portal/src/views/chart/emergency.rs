//! Break-glass: offered on the page that refuses, never elsewhere. Reason and words, then the sentence and the passkey.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_service::emergency::{Opened, Reason, WORDS_MAX};

use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{CARE, Page, Place, csrf, device_problem, errors, field_error, icon},
    session::Signed,
    shown::moment,
    text,
    views::{account::number, ask::numbered},
};

type Problems = Vec<(&'static str, String)>;

/// The patient, where this person may open the record in an emergency. The same answer for every other case: whether
/// there is such a patient, or a record, is not told.
fn closed(portal: &Portal, signed: &Signed, text: &str) -> Answer<PatientId> {
    signed.require(CARE)?;
    let patient = numbered(portal, text)?.ok_or_else(Refusal::not_found)?;
    if portal
        .service
        .may_open_in_emergency(&signed.actor, patient)?
    {
        return Ok(patient);
    }
    Err(Refusal::not_allowed(text!(
        "An emergency is for clinicians to whom the record is closed."
    )))
}

/// What the page that refuses offers beside asking.
pub(super) fn offer(portal: &Portal, signed: &Signed, text: &str) -> Markup {
    let Ok(patient) = closed(portal, signed, text) else {
        return html! {};
    };
    let Ok(number) = number(portal, patient) else {
        return html! {};
    };
    html! {
        section.notice.bad.flow aria-labelledby="em" {
            h2 #em { (text!("Would waiting do harm?")) }
            p { (text!("In an emergency you can open this record for a short time. The patient is told at once, and every such opening is reviewed.")) }
            p { a href={ "/patients/" (number) "/emergency" } { (text!("Open this record in an emergency")) } }
        }
    }
}

/// `GET /patients/{patient}/emergency`
pub(super) async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
) -> Answer {
    let patient = closed(&portal, &signed, &text)?;
    form(&portal, &signed, patient, &Fields::default(), &Vec::new())
}

fn form(
    portal: &Portal,
    signed: &Signed,
    patient: PatientId,
    given: &Fields,
    problems: &Problems,
) -> Answer {
    let number = number(portal, patient)?;
    let (reason, words) = (
        field_error(problems, "reason"),
        field_error(problems, "words"),
    );
    let main = html! {
        (errors(problems))
        form.flow method="post" action={ "/patients/" (number) "/emergency" } novalidate {
            (csrf(signed))
            h1 { svg.icon.big aria-hidden="true" { use href={ (crate::assets::address("icons.svg")) "#triangle-alert" } {} } " " (text!("Open this record in an emergency")) }
            p { (rich!("You have no access to {number}. Use this only if waiting for the patient would do harm.", number = html! { strong.mono { (number) } })) }
            ul.bullets {
                li { (rich!("The patient is told {now}, with your name and your reason.", now = html! { strong { (text!("now")) } })) }
                li { (rich!("{every} emergency access is reviewed by somebody else of your organisation.", every = html! { strong { (text!("Every")) } })) }
                li { (rich!("You see allergies, medicines and problems first. Access ends by itself after {hours}.", hours = html! { strong { (text!("4 hours")) } })) }
            }
            fieldset #reason tabindex="-1" .invalid[reason.is_some()] {
                legend.h2 { (text!("Why now?")) }
                @if let Some(error) = &reason { (error) }
                @for one in Reason::ALL {
                    @let value = one.number().to_string();
                    div.choice {
                        input type="radio" id={ "reason-" (value) } name="reason" value=(value) checked[given.text("reason") == value];
                        label for={ "reason-" (value) } { (text::of(one.words())) }
                    }
                }
            }
            div.field.invalid[words.is_some()] {
                label.h2 for="words" { (text!("In your words")) }
                p.hint #words-h { (text!("One sentence. The patient will read it.")) }
                @if let Some(error) = &words { (error) }
                textarea #words name="words" rows="2" maxlength=(WORDS_MAX) aria-invalid=[words.is_some().then_some("true")]
                    aria-describedby=(if words.is_some() { "words-h words-e" } else { "words-h" }) { (given.text("words")) }
            }
            div.actions { button.btn.grave { (text!("Continue")) } a.btn href="/worklist" { (text!("Go back")) } }
        }
    };
    let (status, title) = if problems.is_empty() {
        (StatusCode::OK, text!("Emergency"))
    } else {
        (StatusCode::UNPROCESSABLE_ENTITY, text!("Error: Emergency"))
    };
    Ok((status, shell(title, &number, &main).render(Some(signed))).into_response())
}

fn shell<'a>(title: &'a str, number: &str, main: &Markup) -> Page<'a> {
    let banner = html! {
        div.patient role="region" aria-label=(text!("Patient")) { div {
            p.who.mono { (number) }
            p.alert.state { (icon("circle-minus")) " " (text!("Allergies: not visible without access")) }
        } }
    };
    Page::new(title, html! { div.emergency.flow { (main) } })
        .at(Place::Worklist)
        .under(banner)
        .narrow()
}

/// `POST /patients/{patient}/emergency`
pub(super) async fn prepare(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    posted: Posted,
) -> Answer {
    let patient = closed(&portal, &signed, &text)?;
    let fields = &posted.fields;
    let reason = fields
        .text("reason")
        .parse()
        .ok()
        .and_then(Reason::from_number);
    let words = fields.text("words");
    let mut problems = Problems::new();
    if reason.is_none() {
        problems.push(("reason", text!("Choose why").into()));
    }
    if words.is_empty() || words.chars().count() > WORDS_MAX {
        let text = text!("Write why, in at most {most} characters", most = WORDS_MAX);
        problems.push(("words", text));
    }
    let Some(reason) = reason.filter(|_| problems.is_empty()) else {
        return form(&portal, &signed, patient, fields, &problems);
    };
    let draft = portal
        .service
        .draft_opening(&signed.actor, patient, reason, words)?;
    let next = format!(
        "/patients/{}/emergency/{}",
        number(&portal, patient)?,
        draft.id
    );
    Ok(Redirect::to(&next).into_response())
}

/// `GET /patients/{patient}/emergency/{draft}`
pub(super) async fn sign(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((text, id)): Path<(String, String)>,
) -> Answer {
    closed(&portal, &signed, &text)?;
    let draft = portal.service.prepared_opening(&signed.actor, &id)?;
    let number = number(&portal, draft.patient)?;
    let passkeys: Vec<String> = portal
        .service
        .passkeys(signed.person.account)?
        .iter()
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    let main = html! {
        a.back href={ "/patients/" (number) "/emergency" } { (text!("Back")) }
        div.flow {
            h1 { (text!("Confirm it is you")) }
            p.sentence {
                (rich!(
                    "I, {name} of {organization}, open the record {number} in an emergency until {moment}. Reason: {reason}, “{words}”",
                    name = html! { strong { (signed.name) } },
                    organization = html! { strong { (signed.organization) } },
                    number = html! { strong.mono { (number) } },
                    moment = html! { strong { (moment(draft.until)) " UTC" } },
                    reason = html! { strong { (text::of(draft.reason.words())) } },
                    words = draft.words,
                ))
            }
            p { (text!("The patient reads this at once. It cannot be taken back.")) }
            form.flow method="post" action={ "/patients/" (number) "/emergency/" (draft.id) } data-passkey="use"
                data-challenge=(URL_SAFE_NO_PAD.encode(draft.challenge)) data-rp=(portal.site.rp_id())
                data-allow=(passkeys.join(" ")) {
                (csrf(&signed))
                div.actions {
                    button.btn.grave { (icon("fingerprint")) " " (text!("Open the record with passkey")) }
                    a.btn href="/worklist" { (text!("Go back")) }
                }
                (device_problem())
            }
        }
    };
    Ok(shell(text!("Confirm it is you"), &number, &main)
        .render(Some(&signed))
        .into_response())
}

/// `POST /patients/{patient}/emergency/{draft}`
pub(super) async fn confirm(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((text, id)): Path<(String, String)>,
    posted: Posted,
) -> Answer {
    closed(&portal, &signed, &text)?;
    let passkey = posted.fields.passkey()?;
    let patient = portal
        .service
        .confirm_opening(&signed.actor, &id, &passkey)
        .await?;
    let next = format!("/patients/{}", number(&portal, patient)?);
    Ok(Redirect::to(&next).into_response())
}

/// Over the chart while an emergency lasts, with the way to end it.
pub(super) fn banner(signed: &Signed, address: &str, open: &Opened) -> Markup {
    html! {
        section.notice.bad.flow aria-labelledby="em-now" {
            h2 #em-now { (icon("triangle-alert")) " " (rich!("Emergency access until {moment} UTC", moment = moment(open.opening.until))) }
            p { (text!("The patient has been told. What is sensitive stays closed.")) }
            form method="post" action={ (address) "/emergency/end" } {
                (csrf(signed))
                button.btn { (text!("End now")) }
            }
        }
    }
}

/// `POST /patients/{patient}/emergency/end`
pub(super) async fn end(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    _posted: Posted,
) -> Answer<Response> {
    signed.require(CARE)?;
    let patient = numbered(&portal, &text)?.ok_or_else(Refusal::not_found)?;
    portal.service.end_emergency(&signed.actor, patient).await?;
    Ok(Redirect::to("/worklist").into_response())
}
