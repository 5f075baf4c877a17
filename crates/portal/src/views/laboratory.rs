//! The laboratory's desk: orders that wait, and their results. What is seen of a record is the slip of the order; the
//! results go in under the patient's permission to add.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use maud::{Markup, html};
use stele_core::{consent::Permissions, id::PatientId};
use stele_fhir::category::Category;
use stele_service::{
    Error,
    directory::role,
    people::{NewReport, NewResult, OrderSlip, REPORT_DOCUMENT_MAX, report_problems},
};

use super::{
    account::number,
    upload::{Sent, drained, size},
};
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field_error, head, icon, tag},
    session::Signed,
    shown::{born, clock, short_date},
    text,
};

/// Rows for results that a form shows.
const ROWS: usize = 6;
/// Longest of the small fields, in characters.
const SHORT: usize = 20;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/laboratory", get(page))
        .route("/laboratory/{order}", get(one).post(answer))
}

/// `GET /laboratory`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.require(role::LABORATORY)?;
    let (open, answered) = portal.service.orders(&signed.actor)?;
    let main = html! {
        div.page-head { h1 { (text!("Orders")) } p.soft { (rich!("{open} to do", open = open.len())) } }
        div.sections #orders data-live {
            section.flow {
                h2 { (text!("To do")) }
                @if open.is_empty() {
                    p.soft { (rich!("No order waits. When a doctor orders a test from {organization}, it appears here by itself.", organization = signed.organization)) }
                } @else { (table(&portal, text!("To do"), &open).await?) }
            }
            @if !answered.is_empty() {
                section.flow { h2 { (text!("Done")) } (table(&portal, text!("Done"), &answered).await?) }
            }
        }
    };
    Ok(Page::new(text!("Orders"), main)
        .at(Place::Laboratory)
        .render(Some(&signed)))
}

async fn table(portal: &Portal, caption: &str, slips: &[OrderSlip]) -> Answer<Markup> {
    let now = portal.service.now();
    let mut rows = Vec::new();
    for slip in slips {
        let orderer = portal.name(slip.orderer).await?.name;
        rows.push((slip, number(portal, PatientId(slip.patient))?, orderer));
    }
    Ok(html! {
        table.stacks role="table" {
            caption.hide { (caption) }
            (head(&[text!("Test"), text!("Patient"), text!("Born"), text!("Ordered by"), text!("Ordered"), text!("State")]))
            tbody role="rowgroup" {
                @for (slip, number, orderer) in &rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { a href={ "/laboratory/" (slip.id) } { (slip.test) } }
                        td role="cell" data-label=(text!("Patient")) { (slip.name) " " span.small.soft.mono { (number) } }
                        td role="cell" data-label=(text!("Born")) { span.nowrap { (born(&slip.born, now)) } }
                        td role="cell" data-label=(text!("By")) { (orderer) }
                        td role="cell" data-label=(text!("Ordered")) { span.nowrap { (short_date(&slip.at.to_instant())) ", " (clock(slip.at)) } }
                        td role="cell" data-label=(text!("State")) {
                            @match (slip.answered, slip.is_urgent) {
                                (Some(at), _) => (tag("ok", "circle-check", &text!("Done {date}", date = short_date(&at.to_instant())))),
                                (None, true) => (tag("bad", "triangle-alert", text!("Urgent"))),
                                (None, false) => (tag("wait", "hourglass", text!("Waiting"))),
                            }
                        }
                    }
                }
            }
        }
    })
}

/// `GET /laboratory/{order}`
async fn one(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(order): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(role::LABORATORY)?;
    let slip = portal.service.order(&signed.actor, &order)?;
    let asked = Fields::parse(query.unwrap_or_default().as_bytes());
    form(&portal, &signed, &slip, &asked, &[]).await
}

/// Whether what was sent or asked for is a correction of an answered order.
fn corrects(slip: &OrderSlip, fields: &Fields) -> bool {
    slip.filed.is_some() && !fields.text("correct").is_empty()
}

type Problems = [(String, String)];

async fn form(
    portal: &Portal,
    signed: &Signed,
    slip: &OrderSlip,
    given: &Fields,
    problems: &Problems,
) -> Answer<Rendered> {
    let patient = PatientId(slip.patient);
    let number = number(portal, patient)?;
    let may_add = portal
        .service
        .open_parts(&signed.actor, patient, Permissions::WRITE)
        .is_ok_and(|parts| parts.contains(&Category::Laboratory));
    let orderer = portal.name(slip.orderer).await?;
    let listed: Vec<(&str, String)> = problems
        .iter()
        .map(|(field, words)| (field.as_str(), words.clone()))
        .collect();
    let main = html! {
        a.back href="/laboratory" { (text!("Back to the orders")) }
        (errors(&listed))
        div.page-head {
            h1 { (slip.test) }
            @if slip.is_urgent && slip.answered.is_none() { (tag("bad", "triangle-alert", text!("Urgent"))) }
        }
        dl.facts {
            dt { (text!("Patient")) } dd { (slip.name) " " span.mono.soft { (number) } }
            dt { (text!("Born")) } dd { (born(&slip.born, portal.service.now())) }
            dt { (text!("Ordered by")) } dd { (orderer.name) @if let Some(what) = &orderer.what { ", " (what) } }
            dt { (text!("Ordered")) } dd { (short_date(&slip.at.to_instant())) ", " (clock(slip.at)) " UTC" }
            @if !slip.reason.is_empty() { dt { (text!("For the laboratory")) } dd { (slip.reason) } }
        }
        @if may_add && corrects(slip, given) {
            (results(signed, slip, given, &listed))
        } @else if let Some(at) = slip.answered {
            div.notice.ok.flow {
                p { strong { (rich!("Answered {date}, {clock} UTC.", date = short_date(&at.to_instant()), clock = clock(at))) } }
                @if let Some(at) = slip.corrected { p { strong { (rich!("Corrected {date}, {clock} UTC.", date = short_date(&at.to_instant()), clock = clock(at))) } } }
                p { (text!("The results are in the patient’s record, and the doctor and the patient were told. What is there can be read by whom the patient allows, not from here.")) }
                @if may_add && slip.filed.is_some() {
                    p { a.btn href={ "/laboratory/" (slip.id) "?correct=1" } { (icon("pencil")) " " (text!("Correct the report")) } }
                }
            }
        } @else if may_add {
            (results(signed, slip, given, &listed))
        } @else {
            div.notice.wait.flow {
                p { strong { (rich!("The patient has not allowed {organization} or you to add results yet.", organization = signed.organization)) } }
                p { (text!("Ask for it: adding is enough, nothing of the record is shown to you.")) }
                p { a.btn.primary href={ "/ask?patient=" (number) "&parts=" (Category::Laboratory.name()) "&verbs=add&reason=" (reason(slip)) } { (text!("Ask the patient")) } }
            }
        }
    };
    let title = if problems.is_empty() {
        text!("An order")
    } else {
        text!("Error: An order")
    };
    Ok(Page::new(title, main)
        .at(Place::Laboratory)
        .render(Some(signed)))
}

fn reason(slip: &OrderSlip) -> String {
    let words = text!("To add the results of your test: {test}", test = slip.test);
    form_urlencoded::byte_serialize(words.as_bytes()).collect()
}

fn results(
    signed: &Signed,
    slip: &OrderSlip,
    given: &Fields,
    problems: &[(&str, String)],
) -> Markup {
    let wrong = field_error(problems, "file");
    let is_correction = corrects(slip, given);
    html! {
        form.flow method="post" action={ "/laboratory/" (slip.id) } enctype="multipart/form-data" novalidate {
            (csrf(signed))
            @if is_correction {
                input type="hidden" name="correct" value="1";
                h2 { (text!("Correct the report")) }
                p { (text!("Enter the whole report again: it takes the place of the one before, which stays as an earlier version. A result whose value you leave empty is marked as a mistake.")) }
            } @else {
                h2 { (text!("Results")) }
            }
            p.soft #units { (text!("A value is a number such as 6.30 or <0.1, or words. Units are UCUM: mmol/L, g/dL, 10*9/L, %. The LOINC code may stay empty. Leave rows that you do not need empty.")) }
            table.stacks.results role="table" {
                caption.hide { (text!("Results")) }
                (head(&[text!("What was measured"), "LOINC", text!("Value"), text!("Unit"), text!("Usual from"), text!("to")]))
                tbody role="rowgroup" {
                    @for at in 0..ROWS {
                        tr role="row" {
                            @for (column, label) in COLUMNS {
                                td role="cell" data-label=(text::of(label)) { (cell(column, text::of(label), at, slip, given, problems)) }
                            }
                        }
                    }
                }
            }
            div.field {
                label for="conclusion" { (text!("Conclusion, if there is one")) }
                textarea #conclusion name="conclusion" maxlength="2000" { (given.text("conclusion")) }
            }
            div.field.invalid[wrong.is_some()] {
                label for="file" { (text!("Report as PDF, if there is one")) }
                p.hint #file-h { (rich!("At most {size}", size = size(REPORT_DOCUMENT_MAX as u64))) }
                @if let Some(wrong) = &wrong { (wrong) }
                input #file type="file" name="file" accept="application/pdf" aria-describedby=(if wrong.is_some() { "file-h file-e" } else { "file-h" })
                    aria-invalid=[wrong.is_some().then_some("true")];
            }
            div.actions { button.btn.primary { (icon("check")) " " @if is_correction { (text!("Send the correction")) } @else { (text!("Send results")) } } a.btn href="/laboratory" { (text!("Cancel")) } }
            p.small.soft { (text!("They are recorded for good, under your name. The doctor and the patient are told.")) }
        }
    }
}

const COLUMNS: [(&str, &str); 6] = [
    ("name", message!("Measured")),
    ("loinc", "LOINC"),
    ("value", message!("Value")),
    ("unit", message!("Unit")),
    ("low", message!("From")),
    ("high", message!("To")),
];

fn cell(
    column: &str,
    label: &str,
    at: usize,
    slip: &OrderSlip,
    given: &Fields,
    problems: &[(&str, String)],
) -> Markup {
    let id = format!("{column}-{at}");
    let error = field_error(problems, &id);
    let is_new = column == "name" && given.text("csrf").is_empty();
    let measured = slip.filed.as_ref().and_then(|filed| filed.results.get(at));
    let value = match measured {
        Some((_, name)) if is_new => name.as_str(),
        None if is_new && at == 0 => slip.test.as_str(),
        _ => given.text(&id),
    };
    let max = if column == "name" { 200 } else { SHORT };
    let row = at.saturating_add(1);
    html! {
        @if let Some(error) = &error { (error) }
        input id=(id) name=(id) value=(value) maxlength=(max) autocomplete="off" aria-label=(text!("{label}, row {row}", label, row))
            aria-invalid=[error.is_some().then_some("true")] aria-describedby=(if error.is_some() { format!("{id}-e") } else { "units".into() });
    }
}

/// `POST /laboratory/{order}`
async fn answer(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(order): Path<String>,
    request: Request,
) -> Answer {
    signed.require(role::LABORATORY)?;
    let slip = portal.service.order(&signed.actor, &order)?;
    let mut sent = Sent::read(&portal, &signed, request).await?;
    let mut report = NewReport {
        results: rows(&sent.fields),
        conclusion: sent.fields.text("conclusion").to_owned(),
        document: None,
    };
    let is_correction = corrects(&slip, &sent.fields);
    let mut problems = Vec::new();
    if let Some(file) = sent.file.take() {
        match file.held(REPORT_DOCUMENT_MAX).await {
            Ok(document) => report.document = Some(document),
            Err(Some(rest)) => {
                drained(Some(rest), portal.upload_max_bytes).await;
                let largest = size(REPORT_DOCUMENT_MAX as u64);
                problems.push((
                    "file".to_owned(),
                    text!("Choose a PDF of at most {largest}", largest),
                ));
            }
            Err(None) => {
                return Err(Refusal::bad_form(text!(
                    "It did not arrive whole. Nothing was kept."
                )));
            }
        }
    }
    if problems.is_empty() {
        let earlier = slip.filed.as_ref().filter(|_| is_correction);
        let rows = earlier.map_or(0, |filed| filed.results.len());
        let found = report_problems(&report, rows).into_iter();
        problems = found
            .map(|(field, words)| (field, text::told(&words)))
            .collect();
    }
    if problems.is_empty() {
        let (service, actor) = (&portal.service, &signed.actor);
        let sent = if is_correction {
            service.correct_order(actor, &order, &report).await
        } else {
            service.answer_order(actor, &order, &report).await
        };
        match sent {
            Ok(()) => {
                return Ok(Redirect::to(&format!("/laboratory/{order}")).into_response());
            }
            Err(Error::Conflict { message }) => {
                problems.push(("name-0".to_owned(), text::told(&message)))
            }
            Err(error) => return Err(error.into()),
        }
    }
    let page = form(&portal, &signed, &slip, &sent.fields, &problems).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// The rows that hold something, each in the place where the form has it; an empty row between others is an error of its
/// own, so that what is wrong is named at the right field.
fn rows(fields: &Fields) -> Vec<NewResult> {
    let cell = |column: &str, at: usize| fields.text(&format!("{column}-{at}")).to_owned();
    let mut rows: Vec<NewResult> = (0..ROWS)
        .map(|at| NewResult {
            name: cell("name", at),
            loinc: cell("loinc", at),
            value: text::plain_number(&cell("value", at)),
            unit: cell("unit", at),
            low: text::plain_number(&cell("low", at)),
            high: text::plain_number(&cell("high", at)),
        })
        .collect();
    while rows.last().is_some_and(|row| *row == NewResult::default()) {
        rows.pop();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_places() {
        let fields = Fields::parse(
            b"name-0=K&value-0=6.3&unit-0=mmol/L&name-2=Na&value-2=140&unit-2=mmol/L",
        );
        let rows = rows(&fields);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[2].name, "Na");
        let report = NewReport {
            results: rows,
            ..NewReport::default()
        };
        let first = report_problems(&report, 0);
        assert!(
            first.iter().all(|(field, _)| field.ends_with("-1")),
            "{first:?}"
        );
    }
}
