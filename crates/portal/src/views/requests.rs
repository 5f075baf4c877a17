//! The administrator's side of a doctor's own registration: what is claimed, who else has that licence, verify or decline;
//! and the acts of administration, for administrators and auditors to read.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_service::{
    directory::role,
    people::{AdministrativeAct, Application, CLAIM_TEXT_MAX, SameLicence, Standing},
};

use super::{account::number, ledger::AUDIT, register::facts, worklist::head};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field_error, icon, tag},
    session::Signed,
    shown::{clock, moment, short_date},
    text,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/members/requests", get(page))
        .route("/members/requests/{id}", get(one))
        .route("/members/requests/{id}/verify", post(verify))
        .route("/members/requests/{id}/decline", post(decline))
        .route("/members/acts", get(acts))
}

/// What the page of members says of requests that wait.
pub(super) fn waiting(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    let requests = portal.service.applications(&signed.actor)?;
    let count = requests
        .iter()
        .filter(|one| one.standing == Standing::Waiting)
        .count();
    Ok(html! {
        div #waiting data-live {
            @if count > 0 {
                div.notice.wait {
                    p {
                        span.state.wait { (icon("hourglass")) " "
                            (plural!(count, "A doctor waits for your check", "{count} doctors wait for your check"))
                        }
                    }
                    p { a href="/members/requests" { (text!("Look at the licence and decide")) } }
                }
            }
        }
    })
}

/// `GET /members/requests`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.require(role::ADMINISTRATOR)?;
    let requests = portal.service.applications(&signed.actor)?;
    let main = html! {
        a.back href="/members" { (text!("Back to members")) }
        div.page-head {
            div.tight {
                h1 { (text!("Doctors who registered themselves")) }
                p.soft { (text!("They can do nothing until you have verified the licence.")) }
            }
        }
        @if requests.is_empty() {
            p { (text!("Nobody has registered. Doctors find the form on the page for signing in:")) " " span.mono { (portal.site.origin()) "/register" } }
        } @else {
            table.stacks role="table" {
                caption.hide { (text!("Requests, those that wait first")) }
                (head(&[text!("Name"), text!("Branch"), text!("Asked on"), text!("State")]))
                tbody role="rowgroup" {
                    @for one in &requests {
                        tr role="row" {
                            th role="rowheader" scope="row" { a href={ "/members/requests/" (one.id) } { (one.claim.name) } }
                            td role="cell" data-label=(text!("Branch")) { (one.claim.branch) }
                            td role="cell" data-label=(text!("Asked on")) { span.nowrap { (short_date(&one.asked.to_instant())) } }
                            td role="cell" data-label=(text!("State")) { (state(&one.standing)) }
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("Doctors who registered"), main)
        .at(Place::Members)
        .render(Some(&signed)))
}

fn state(standing: &Standing) -> Markup {
    match standing {
        Standing::Waiting => tag("wait", "hourglass", text!("Waits")),
        Standing::Verified { .. } => tag("ok", "circle-check", text!("Verified")),
        Standing::Declined { .. } => tag("", "circle-minus", text!("Declined")),
    }
}

type Problems<'a> = &'a [(&'static str, String)];

fn id_of(text: &str) -> Answer<B256> {
    text.parse().map_err(|_| Refusal::not_found())
}

/// `GET /members/requests/{id}`
async fn one(State(portal): State<Arc<Portal>>, signed: Signed, Path(id): Path<String>) -> Answer {
    show(&portal, &signed, id_of(&id)?, &Fields::default(), &[]).await
}

async fn show(
    portal: &Portal,
    signed: &Signed,
    id: B256,
    given: &Fields,
    problems: Problems<'_>,
) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    let (found, same) = portal.service.application(&signed.actor, &id)?;
    let main = html! {
        a.back href="/members/requests" { (text!("Back to the requests")) }
        (errors(problems))
        div.sections {
            section.flow {
                h1 { (found.claim.name) }
                p { (state(&found.standing)) " " span.soft { (rich!("Asked {moment} UTC", moment = moment(found.asked))) } }
                (same_licence(portal, &same).await?)
                h2 { (text!("What is claimed")) }
                (facts(&found.claim, &signed.organization))
            }
            @if found.standing == Standing::Waiting {
                (verify_form(signed, &found, given, problems))
                (decline_form(signed, &found, given, problems))
            } @else {
                (decided(portal, &found).await?)
            }
        }
    };
    let (status, title) = if problems.is_empty() {
        (StatusCode::OK, text!("A doctor who registered"))
    } else {
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            text!("Error: A doctor who registered"),
        )
    };
    let page = Page::new(title, main)
        .at(Place::Members)
        .narrow()
        .render(Some(signed));
    Ok((status, page).into_response())
}

async fn same_licence(portal: &Portal, same: &SameLicence) -> Answer<Markup> {
    let mut names = Vec::new();
    for account in &same.members {
        names.push(portal.name(*account).await?.name);
    }
    Ok(html! {
        @if !names.is_empty() || !same.requests.is_empty() {
            div.notice.bad {
                p { span.state.bad { (icon("triangle-alert")) " " (text!("This licence is here already")) } }
                @for name in &names { p { (rich!("Recorded for the member {name}.", name = html! { strong { (name) } })) } }
                @for id in &same.requests { p { (rich!("Also claimed in {another_request}.", another_request = html! { a href={ "/members/requests/" (id) } { (text!("another request")) } })) } }
                p.small { (text!("The applicant is not told.")) }
            }
        }
    })
}

fn words_field(
    name: &str,
    label: &str,
    hint: &str,
    given: &Fields,
    problems: Problems<'_>,
) -> Markup {
    let error = field_error(problems, name);
    let described = if error.is_some() {
        format!("{name}-h {name}-e")
    } else {
        format!("{name}-h")
    };
    html! {
        div.field.invalid[error.is_some()] {
            label for=(name) { (label) }
            p.hint id={ (name) "-h" } { (hint) }
            @if let Some(error) = &error { (error) }
            textarea id=(name) name=(name) maxlength=(CLAIM_TEXT_MAX) aria-describedby=(described)
                aria-invalid=[error.is_some().then_some("true")] { (given.text(name)) }
        }
    }
}

fn verify_form(
    signed: &Signed,
    found: &Application,
    given: &Fields,
    problems: Problems<'_>,
) -> Markup {
    html! {
        section.panel aria-labelledby="verify-head" {
            form.flow method="post" action={ "/members/requests/" (found.id) "/verify" } novalidate {
                (csrf(signed))
                h2 #verify-head { (text!("Verify the licence")) }
                (words_field("how", text!("How you checked it"), text!("For example: register of the medical council, entry of today, photograph compared"), given, problems))
                p { (rich!(
                    "{name} then is a doctor of {organization}, signs in with the passkey made, and may ask patients for access. Your name, the time and your words are kept.",
                    name = found.claim.name,
                    organization = signed.organization,
                )) }
                div.actions { button.btn.primary { (icon("check")) " " (text!("Licence verified")) } }
            }
        }
    }
}

fn decline_form(
    signed: &Signed,
    found: &Application,
    given: &Fields,
    problems: Problems<'_>,
) -> Markup {
    html! {
        section.panel aria-labelledby="decline-head" {
            form.flow method="post" action={ "/members/requests/" (found.id) "/decline" } novalidate {
                (csrf(signed))
                h2 #decline-head { (text!("Decline")) }
                (words_field("reason", text!("Reason"), text!("The applicant reads it"), given, problems))
                div.actions { button.btn.stop { (text!("Decline")) } }
            }
        }
    }
}

async fn decided(portal: &Portal, found: &Application) -> Answer<Markup> {
    let (by, at, heading, words) = match &found.standing {
        Standing::Verified { by, at, how, .. } => {
            (*by, *at, text!("Licence verified"), how.as_str())
        }
        Standing::Declined { by, at, reason } => (*by, *at, text!("Declined"), reason.as_str()),
        Standing::Waiting => return Ok(html! {}),
    };
    Ok(html! {
        section.flow {
            h2 { (heading) }
            p { (rich!(
                "By {name}, {moment} UTC",
                name = html! { strong { (portal.name(by).await?.name) } },
                moment = moment(at),
            )) }
            div.notice { p { (words) } }
        }
    })
}

/// The words of a decision, which both forms need.
fn needed(fields: &Fields, name: &'static str, ask: &str) -> Vec<(&'static str, String)> {
    let text = fields.text(name);
    if text.is_empty() || text.chars().count() > CLAIM_TEXT_MAX {
        return vec![(
            name,
            text!(
                "{ask}, in at most {most} characters",
                ask,
                most = CLAIM_TEXT_MAX
            ),
        )];
    }
    Vec::new()
}

/// `POST /members/requests/{id}/verify`
async fn verify(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<String>,
    posted: Posted,
) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    signed.require_fresh(portal.service.now())?;
    let id = id_of(&id)?;
    let problems = needed(
        &posted.fields,
        "how",
        text!("Write how you checked the licence"),
    );
    if !problems.is_empty() {
        return show(&portal, &signed, id, &posted.fields, &problems).await;
    }
    portal
        .service
        .verify_application(&portal.site, &signed.actor, &id, posted.fields.text("how"))
        .await?;
    Ok(Redirect::to(&format!("/members/requests/{id}")).into_response())
}

/// `POST /members/requests/{id}/decline`
async fn decline(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<String>,
    posted: Posted,
) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    signed.require_fresh(portal.service.now())?;
    let id = id_of(&id)?;
    let problems = needed(
        &posted.fields,
        "reason",
        text!("Write why, for the applicant"),
    );
    if !problems.is_empty() {
        return show(&portal, &signed, id, &posted.fields, &problems).await;
    }
    portal
        .service
        .decline_application(&signed.actor, &id, posted.fields.text("reason"))
        .await?;
    Ok(Redirect::to(&format!("/members/requests/{id}")).into_response())
}

/// `GET /members/acts`: who did what at the organisation's desk.
async fn acts(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let acts = portal
        .service
        .acts(&signed.actor, fields.text("below").parse().ok())?;
    let mut rows = Vec::with_capacity(acts.len());
    for act in &acts {
        rows.push(row(&portal, act).await?);
    }
    let main = html! {
        div.page-head {
            div.tight {
                h1 { (text!("Acts of administration")) }
                p.soft { (rich!("Who did what at the desks of {organization}. Each line was noted before the act, and its digest is on the ledger. Times are in UTC.", organization = signed.organization)) }
            }
        }
        @if acts.is_empty() {
            p { (text!("Nothing yet. Registering, suspending, inviting, verifying and looking at accesses appear here.")) }
        } @else {
            table.stacks role="table" {
                caption.hide { (text!("Acts of administration, newest first")) }
                (head(&[text!("Time"), text!("What happened"), text!("On the ledger")]))
                tbody role="rowgroup" { @for row in &rows { (row) } }
            }
            @if let Some(last) = acts.last() { div.actions { a.btn href={ "/members/acts?below=" (last.sequence) } { (text!("Show older acts")) } } }
        }
    };
    Ok(Page::new(text!("Acts of administration"), main)
        .at(Place::Acts)
        .render(Some(&signed)))
}

async fn row(portal: &Portal, act: &AdministrativeAct) -> Answer<Markup> {
    let actor = portal.name(act.actor).await?.name;
    let about = match act.done.as_ref().and_then(|done| done.about) {
        Some(account) => Some(who(portal, account).await?),
        None => None,
    };
    Ok(html! {
        tr role="row" {
            th role="rowheader" scope="row" { span.nowrap { (short_date(&act.at.to_instant())) " " (clock(act.at)) } }
            td role="cell" data-label=(text!("What")) {
                strong { (actor) } " "
                @match &act.done {
                    Some(done) => {
                        (text::of(done.deed.words()))
                        @if let Some(about) = &about { span.soft { " · " (about) } }
                        @if !done.words.is_empty() { br; span.small { (done.words) } }
                        @if let Some(failed) = &done.failed { br; span.state.bad { (icon("circle-x")) " " (rich!("Not done: {failed}", failed)) } }
                    }
                    None => span.state.bad { (icon("octagon-alert")) " " (text!("What is kept of this act is not what was noted")) }
                }
            }
            td role="cell" data-label=(text!("Ledger")) {
                @if act.is_anchored { span.state.ok { (icon("check")) " " (text!("Anchored")) } } @else { span.state { (icon("clock")) " " (text!("In a moment")) } }
            }
        }
    })
}

/// An account in words: a patient by number, others by name.
pub(super) async fn who(portal: &Portal, account: Address) -> Answer<String> {
    let kind = portal.service.account(account)?.map(|found| found.kind);
    Ok(match kind {
        Some(3) => text!(
            "Patient {number}",
            number = number(portal, PatientId(account))?
        ),
        _ => portal.name(account).await?.name,
    })
}
