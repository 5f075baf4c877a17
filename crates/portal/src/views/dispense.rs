//! The pharmacist's desk: a code is scanned, held against the ledger, and dispensed in whole or in part. The code stays in
//! the session, so that no address has it and Back repeats nothing.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_service::{
    Error,
    directory::role,
    people::Session,
    prescriptions::{Checked, Verdict},
};

use super::{chart::prescription::facts, worklist::head};
use crate::{
    error::Answer,
    form::Posted,
    front::Portal,
    page::{Page, Place, csrf, errors, field, field_error, icon},
    session::Signed,
    shown::moment,
    text,
};

/// Name under which the session keeps the code.
const CODE: &str = "prescription";
/// Longest code that is looked at, in characters.
const CODE_MAX: usize = 2_200;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/dispense", get(page).post(check))
        .route("/dispense/now", post(dispense))
}

type Problems = Vec<(&'static str, String)>;

/// `GET /dispense`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    signed.require(role::PHARMACIST)?;
    render(&portal, &signed, &signed.session, "", Vec::new()).await
}

fn kept(session: &Session) -> Option<&str> {
    session.answers.get(CODE)?.first().map(String::as_str)
}

async fn render(
    portal: &Portal,
    signed: &Signed,
    session: &Session,
    amount: &str,
    mut problems: Problems,
) -> Answer {
    let mut checked = None;
    if let Some(code) = kept(session) {
        match portal.service.check_prescription(code).await {
            Ok(found) => checked = Some(found),
            Err(Error::Conflict { message }) => problems.push(("code", text::told(&message))),
            Err(error) => return Err(error.into()),
        }
    }
    let main = html! {
        (errors(&problems))
        h1 { (text!("Check a prescription")) }
        (scan(signed, &problems))
        @if let Some(checked) = &checked {
            div.chart-grid.two {
                div #verdict data-live { (verdict(portal, checked).await?) }
                (panel(signed, checked, amount, &problems))
            }
        }
        (dispensed(portal, signed)?)
    };
    let (status, title) = if problems.is_empty() {
        (StatusCode::OK, text!("Check a prescription"))
    } else {
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            text!("Error: Check a prescription"),
        )
    };
    let page = Page::new(title, main)
        .at(Place::Dispense)
        .render(Some(signed));
    Ok((status, page).into_response())
}

fn scan(signed: &Signed, problems: &Problems) -> Markup {
    let error = field_error(problems, "code");
    html! {
        form.flow method="post" action="/dispense" novalidate {
            (csrf(signed))
            div.field.invalid[error.is_some()] {
                label for="code" { (text!("Code")) }
                p.hint #code-h { (text!("Scan the patient’s code into this field, or paste it")) }
                @if let Some(error) = &error { (error) }
                textarea.mono #code name="code" rows="2" maxlength=(CODE_MAX) autocomplete="off" spellcheck="false"
                    aria-invalid=[error.is_some().then_some("true")]
                    aria-describedby=(if error.is_some() { "code-h code-e" } else { "code-h" }) {}
            }
            div.actions { button.btn { (icon("qr-code")) " " (text!("Check")) } }
        }
    }
}

async fn verdict(portal: &Portal, checked: &Checked) -> Answer<Markup> {
    let sheet = &checked.sheet;
    let is_text_true = !matches!(checked.verdict, Verdict::Forged | Verdict::Altered);
    let prescriber = checked
        .prescriber
        .as_ref()
        .map_or(text!("Not known"), |named| named.name.as_str());
    let portion = if is_text_true {
        sheet.portion.as_str()
    } else {
        "portions"
    };
    let mut before = Vec::new();
    for one in &checked.dispensings {
        before.push((one, portal.name(one.dispenser).await?.name));
    }
    Ok(html! {
        section.verdict.flow.refused[checked.verdict != Verdict::Good] role="status" {
            @if checked.verdict == Verdict::Good {
                p { span.state.ok { (icon("circle-check")) " " (rich!("Valid. You may dispense {left} {portion}", left = checked.left, portion = sheet.portion)) } }
            } @else {
                p { span.state.bad { (icon("circle-x")) " " (rich!("Refused. {words}", words = text::of(checked.verdict.words()))) } }
            }
            @if is_text_true {
                p { (rich!("Signed by {prescriber}, unchanged. Checked {moment} UTC.", prescriber, moment = moment(portal.service.now()))) }
                @if !checked.is_prescriber_active {
                    p { span.state.wait { (icon("triangle-alert")) " " (rich!("The prescriber may no longer act. Ask {organization} before you dispense.", organization = sheet.organization)) } }
                }
                @if let Some((by, at)) = checked.cancelled {
                    p { (rich!("Cancelled by {name}, {moment} UTC. The patient can ask for a new one.", name = portal.name(by).await?.name, moment = moment(at))) }
                }
                (facts(sheet, prescriber))
            } @else {
                p { (text!("Do not dispense. Its text is not shown, as it cannot be trusted. Keep the paper, and call the doctor or practice that it names.")) }
            }
            @if !before.is_empty() {
                h2 { (text!("Dispensed so far")) }
                ul.rows {
                    @for (one, name) in &before {
                        li { (rich!(
                            "{portions}, {name}, {moment}; {left} left",
                            portions = html! { strong { (one.portions) " " (portion) } },
                            name,
                            moment = html! { span.nowrap { (moment(one.at.at)) " UTC" } },
                            left = one.left,
                        )) }
                    }
                }
            }
        }
    })
}

fn panel(signed: &Signed, checked: &Checked, amount: &str, problems: &Problems) -> Markup {
    let left = checked.left.to_string();
    let shown = if amount.is_empty() { &left } else { amount };
    html! {
        section.panel.flow aria-labelledby="dp" {
            @if checked.verdict == Verdict::Good {
                form.flow method="post" action="/dispense/now" novalidate {
                    (csrf(signed))
                    h2 #dp { (text!("Dispense")) }
                    (field("amount", &text!("How many {portion}", portion = checked.sheet.portion), &text!("{left} at most. Fewer keeps the rest for later.", left), "w-s", shown, 5, problems))
                    div.actions { button.btn.primary { (text!("Dispense")) } }
                    p.small.soft { (text!("If another pharmacy dispenses at the same moment, one of you wins and the other is told before anything is handed over.")) }
                }
            } @else {
                h2 #dp { (text!("Nothing to dispense")) }
            }
            form method="post" action="/dispense" {
                (csrf(signed))
                button.btn { (text!("Done, next patient")) }
            }
        }
    }
}

fn dispensed(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    let rows = portal.service.dispensed_by(&signed.actor)?;
    Ok(html! {
        @if !rows.is_empty() {
            section.flow {
                h2 { (text!("Dispensed by you")) }
                table.stacks role="table" {
                    caption.hide { (text!("Dispensed by you, newest first")) }
                    (head(&[text!("When (UTC)"), text!("Prescription"), text!("Portions"), text!("Left")]))
                    tbody role="rowgroup" {
                        @for one in &rows {
                            tr role="row" {
                                th role="rowheader" scope="row" { span.nowrap { (moment(one.at.at)) } }
                                td.mono role="cell" data-label=(text!("Prescription")) { (short(&one.id.to_string())) }
                                td role="cell" data-label=(text!("Portions")) { (one.portions) }
                                td role="cell" data-label=(text!("Left")) { (one.left) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The end of an id, enough to tell rows apart.
fn short(id: &str) -> String {
    let from = id.len().saturating_sub(8);
    id.get(from..).unwrap_or(id).to_uppercase()
}

/// `POST /dispense`: keeps the code for this session, or lets it go.
async fn check(State(portal): State<Arc<Portal>>, signed: Signed, mut posted: Posted) -> Answer {
    signed.require(role::PHARMACIST)?;
    let code = posted.fields.text("code").to_owned();
    posted.session.answers.clear();
    let is_code = !code.is_empty() && code.len() <= CODE_MAX;
    if is_code {
        posted.session.answers.insert(CODE.into(), vec![code]);
    }
    // What is no code is told at once and not kept.
    if let Some(code) = kept(&posted.session)
        && let Err(Error::Conflict { message }) = portal.service.check_prescription(code).await
    {
        posted.session.answers.clear();
        portal
            .service
            .keep_session(&posted.secret, &posted.session)?;
        let problems = vec![("code", text::told(&message))];
        return render(&portal, &signed, &posted.session, "", problems).await;
    }
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(Redirect::to("/dispense").into_response())
}

/// `POST /dispense/now`
async fn dispense(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(role::PHARMACIST)?;
    let amount = posted.fields.text("amount");
    let Some(code) = kept(&posted.session) else {
        return Ok(Redirect::to("/dispense").into_response());
    };
    let Ok(portions) = amount.parse::<u16>() else {
        let problems = vec![("amount", text!("Enter a whole number").to_owned())];
        return render(&portal, &signed, &posted.session, amount, problems).await;
    };
    match portal.service.dispense(&signed.actor, code, portions).await {
        Ok(_) => Ok(Redirect::to("/dispense").into_response()),
        Err(Error::Conflict { message }) => {
            let problems = vec![("amount", text::told(&message))];
            render(&portal, &signed, &posted.session, amount, problems).await
        }
        Err(error) => Err(error.into()),
    }
}
