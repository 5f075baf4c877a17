//! Emergencies afterwards: the review queue of an organisation, and what the patient reads.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_core::{id::PatientId, time::Timestamp};
use stele_service::{
    Error,
    directory::role,
    emergency::{Opened, Reason, WORDS_MAX},
};

use super::account::number;
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    page::{Page, Place, csrf, errors, field, icon, tag},
    session::Signed,
    shown::moment,
    text,
};

/// Who judges emergencies.
pub(crate) const REVIEW: u32 = role::ADMINISTRATOR | role::AUDITOR;
/// How long a patient's start page tells of an emergency, in milliseconds: 30 days. The history has it for good.
const TOLD_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/emergencies", get(page))
        .route("/emergencies/{number}", post(review))
}

fn reason(opened: &Opened) -> &'static str {
    Reason::from_number(opened.opening.reason).map_or(text!("Not known"), Reason::words)
}

/// `GET /emergencies`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    render(&portal, &signed, None).await
}

async fn render(portal: &Portal, signed: &Signed, wrong: Option<(u64, &str, String)>) -> Answer {
    signed.require(REVIEW)?;
    let mut waiting = Vec::new();
    let mut over = Vec::new();
    for opened in portal.service.openings_to_review(&signed.actor)? {
        let line = Line::of(portal, opened).await?;
        if line.opened.opening.review.is_some() {
            over.push(line);
        } else {
            waiting.push(line);
        }
    }
    let names: Vec<(String, String)> = wrong
        .iter()
        .map(|(number, _, words)| (format!("words-{number}"), words.clone()))
        .collect();
    let problems: Vec<(&str, String)> = names
        .iter()
        .map(|(name, words)| (name.as_str(), words.clone()))
        .collect();
    let given = wrong.as_ref().map_or("", |(_, given, _)| *given);
    let main = html! {
        (errors(&problems))
        div.page-head {
            h1 { (text!("Emergencies")) }
            p.soft { (rich!("{waiting} to review", waiting = waiting.len())) }
        }
        div.sections {
            section.ledger #waiting data-live {
                h2 { (text!("To review")) }
                @if waiting.is_empty() { p { (text!("Nothing waits. When somebody of your organisation opens a record in an emergency, it is listed here.")) } }
                ul.rows { @for line in &waiting { (line.to_judge(signed, given, &problems)) } }
            }
            @if !over.is_empty() {
                section.ledger {
                    h2 { (text!("Reviewed")) }
                    ul.rows { @for line in &over { li.flow { (line.facts()) (line.judged()) } } }
                }
            }
        }
    };
    let (status, title) = if problems.is_empty() {
        (StatusCode::OK, text!("Emergencies"))
    } else {
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            text!("Error: Emergencies"),
        )
    };
    let page = Page::new(title, main)
        .at(Place::Emergencies)
        .render(Some(signed));
    Ok((status, page).into_response())
}

struct Line {
    opened: Opened,
    clinician: String,
    what: String,
    patient: String,
    reviewer: Option<String>,
}

impl Line {
    async fn of(portal: &Portal, opened: Opened) -> Answer<Self> {
        let named = portal.name(opened.opening.clinician).await?;
        let reviewer = match &opened.opening.review {
            Some(review) => Some(portal.name(review.reviewer).await?.name),
            None => None,
        };
        Ok(Self {
            patient: number(portal, opened.opening.patient)?,
            clinician: named.name,
            what: named.what.unwrap_or_default(),
            reviewer,
            opened,
        })
    }

    fn facts(&self) -> Markup {
        let opening = &self.opened.opening;
        html! {
            div.tight {
                p {
                    (rich!(
                        "{clinician}, {calling}, opened the record {patient}, {moment}",
                        clinician = html! { strong { (self.clinician) } },
                        calling = self.what,
                        patient = html! { strong.mono { (self.patient) } },
                        moment = html! { span.nowrap { (moment(opening.opened.at)) " UTC" } },
                    ))
                    @if self.opened.is_open { " " (tag("bad", "clock", text!("Open now"))) }
                }
                p { (reason(&self.opened)) ": “" (self.opened.words.as_deref().unwrap_or(text!("words not kept here"))) "”" }
            }
        }
    }

    fn judged(&self) -> Markup {
        let Some(review) = &self.opened.opening.review else {
            return html! {};
        };
        html! {
            p.small {
                @if review.verdict == 1 { (tag("ok", "circle-check", text!("Justified"))) } @else { (tag("bad", "circle-x", text!("Not justified"))) }
                " " (rich!(
                    "{reviewer}, {moment} UTC: “{words}”",
                    reviewer = self.reviewer.as_deref().unwrap_or_default(),
                    moment = moment(review.at.at),
                    words = self.opened.review_words.as_deref().unwrap_or(text!("words not kept here")),
                ))
            }
        }
    }

    fn to_judge(&self, signed: &Signed, given: &str, problems: &[(&str, String)]) -> Markup {
        let opening = &self.opened.opening;
        let name = format!("words-{}", opening.number);
        let is_wrong = problems.iter().any(|(field, _)| *field == name);
        let given = if is_wrong { given } else { "" };
        let is_mine = opening.clinician == signed.person.account;
        html! {
            li.flow {
                (self.facts())
                @if is_mine { p.soft { (text!("Somebody else has to review this.")) } } @else {
                    form.flow method="post" action={ "/emergencies/" (opening.number) } novalidate {
                        (csrf(signed))
                        (field(&name, text!("What you found"), text!("The patient will read it"), "w-l", given, WORDS_MAX, problems))
                        div.actions.even {
                            button.btn name="verdict" value="justified" { (icon("check")) " " (text!("Justified")) }
                            button.btn name="verdict" value="not-justified" { (icon("x")) " " (text!("Not justified")) }
                        }
                    }
                }
            }
        }
    }
}

/// `POST /emergencies/{number}`
async fn review(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(number): Path<u64>,
    posted: Posted,
) -> Answer {
    signed.require(REVIEW)?;
    signed.require_fresh(portal.service.now())?;
    let is_justified = match posted.fields.text("verdict") {
        "justified" => true,
        "not-justified" => false,
        _ => return Err(Refusal::bad_form(text!("It does not say how you judge."))),
    };
    let words = posted.fields.text(&format!("words-{number}"));
    match portal
        .service
        .review_opening(&signed.actor, number, is_justified, words)
        .await
    {
        Ok(()) => Ok(Redirect::to("/emergencies").into_response()),
        Err(Error::Conflict { message }) => {
            render(
                &portal,
                &signed,
                Some((number, words, text::told(&message))),
            )
            .await
        }
        Err(error) => Err(error.into()),
    }
}

/// What a patient's start page and history tell of emergencies, newest first.
pub(super) async fn told(
    portal: &Portal,
    signed: &Signed,
    patient: PatientId,
    only_recent: bool,
) -> Answer<Markup> {
    let now = portal.service.now();
    let is_told = |at: Timestamp| !only_recent || now.0.saturating_sub(at.0) < TOLD_MS;
    let mut lines = Vec::new();
    for opened in portal.service.openings_of(&signed.actor, patient)? {
        if is_told(opened.opening.opened.at) {
            lines.push(Line::of(portal, opened).await?);
        }
    }
    Ok(html! {
        @for line in &lines {
            section.notice.bad.tight {
                h2 { (icon("triangle-alert")) " " (text!("Your record was opened in an emergency")) }
                p {
                    strong { (line.clinician) } ", " (line.what) ", " span.nowrap { (moment(line.opened.opening.opened.at)) " UTC" } ". "
                    (reason(&line.opened)) ": “" (line.opened.words.as_deref().unwrap_or(text!("words not kept here"))) "”"
                }
                p {
                    @if line.opened.is_open { (rich!(
                        "It is open until {moment} UTC. {stop_access}",
                        moment = moment(line.opened.opening.until),
                        stop_access = html! { a href="/access" { (text!("Stop access")) } },
                    )) }
                    @else { (text!("It is closed again.")) }
                }
                @if line.opened.opening.review.is_some() { (line.judged()) } @else { p.small { (text!("It will be reviewed by somebody else of the same organisation.")) } }
            }
        }
    })
}
