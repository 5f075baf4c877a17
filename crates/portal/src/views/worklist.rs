//! Where a clinician's day begins: records that patients shared, what was asked for, and finding a patient.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::{RawQuery, State},
    routing::get,
};
use maud::{Markup, html};
use stele_core::{id::PatientId, time::Timestamp};
use stele_service::{
    grants::{AccessRequest, Grant, RequestStatus},
    people::Demographics,
};

use super::account::number;
pub(super) use crate::page::head;
use crate::{
    error::Answer,
    form::Fields,
    front::Portal,
    page::{CARE, Page, Place, Rendered, icon, tag},
    session::Signed,
    shown::{born, capital, parts, short_date, verbs},
};

/// Access that ends within this many milliseconds ends soon: a week.
const SOON_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most rows of a table.
const ROWS_MAX: usize = 200;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new().route("/worklist", get(page))
}

/// `GET /worklist`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(CARE)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let find = fields.text("find");
    let now = portal.service.now();
    let shares = shares(&portal, &signed, now).await?;
    let asked = asked(&portal, &signed, now)?;
    let found = portal.service.find_patients(&signed.actor, find).await?;
    let main = html! {
        div.page-head {
            h1 { (rich!("Worklist, {date}", date = html! { span.nowrap { (short_date(&now.to_instant())) } })) }
            a.btn href="/ask" { (text!("Ask a patient for access")) }
        }
        (super::drafts::list(&portal, &signed)?)
        div #shares data-live {
            (shares_table(&shares, now))
            (asked_table(&asked, now))
        }
        section.flow {
            h2 { (rich!("Patients of {organization}", organization = signed.organization)) }
            form.filters method="get" action="/worklist" role="search" aria-label=(text!("Patients")) {
                div.field.wide { label for="find" { (text!("Name")) } input #find type="search" name="find" value=(find) maxlength="100"; }
                button.btn { (icon("search")) " " (text!("Find")) }
            }
            (found_table(&portal, &found, now)?)
        }
    };
    Ok(Page::new(text!("Worklist"), main)
        .at(Place::Worklist)
        .render(Some(&signed)))
}

/// A record that a patient shared with the person.
struct Share {
    grant: Grant,
    number: String,
    demographics: Option<Demographics>,
    parts: String,
}

async fn shares(portal: &Portal, signed: &Signed, now: Timestamp) -> Answer<Vec<Share>> {
    let mut shares = Vec::new();
    let mut seen = BTreeSet::new();
    for grant in portal.service.grants_held(&signed.actor)? {
        if !grant.is_live(now) || shares.len() >= ROWS_MAX {
            continue;
        }
        let patient = grant.patient;
        // A name is shown only where the patient lets it be seen.
        let demographics = if seen.insert(patient.0) {
            portal
                .service
                .demographics(&signed.actor, patient)
                .await
                .ok()
        } else {
            None
        };
        let categories = portal
            .service
            .categories_of(patient, grant.terms.categories)
            .unwrap_or_default();
        shares.push(Share {
            number: number(portal, patient)?,
            demographics,
            parts: parts(&categories),
            grant,
        });
    }
    Ok(shares)
}

fn shares_table(shares: &[Share], now: Timestamp) -> Markup {
    html! {
        section.flow {
            h2 { (text!("Shared with you")) }
            @if shares.is_empty() {
                p.soft { (text!("No patient shares with you at the moment. A share appears here by itself as soon as a patient allows it.")) }
            } @else {
                table.stacks role="table" {
                    caption.hide { (text!("Records shared with you")) }
                    (head(&[text!("Patient"), text!("Born, sex"), text!("You may"), text!("Parts"), text!("Access")]))
                    tbody role="rowgroup" {
                        @for share in shares {
                            tr role="row" {
                                th role="rowheader" scope="row" {
                                    a href={ "/patients/" (share.number) } {
                                        @match &share.demographics { Some(found) => (found.listed), None => (text!("Name not shared")) }
                                    }
                                    " " span.small.soft.mono { (share.number) }
                                }
                                td role="cell" data-label=(text!("Born")) { (about(share.demographics.as_ref(), now)) }
                                td role="cell" data-label=(text!("You may")) { (capital(&verbs(share.grant.terms.permissions))) }
                                td role="cell" data-label=(text!("Parts")) { (capital(&share.parts)) }
                                td role="cell" data-label=(text!("Access")) { (access(&share.grant, now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// "Active until", or "Ends" within a week.
pub(super) fn access(grant: &Grant, now: Timestamp) -> Markup {
    let until = grant.terms.period.until;
    let day = short_date(&Timestamp(until.0.saturating_sub(1)).to_instant());
    if until.0.saturating_sub(now.0) < SOON_MS {
        tag("wait", "hourglass", &text!("Ends {day}", day))
    } else {
        tag("ok", "circle-check", &text!("Active until {day}", day))
    }
}

pub(super) fn about(found: Option<&Demographics>, now: Timestamp) -> Markup {
    html! {
        @match found {
            Some(found) => { span.nowrap { (born(&found.born, now)) } " " (sex(&found.sex)) }
            None => span.soft { (text!("Not shared")) }
        }
    }
}

pub(super) fn sex(code: &str) -> &'static str {
    match code {
        "female" => text!("Female"),
        "male" => text!("Male"),
        "other" => text!("Other"),
        _ => text!("Sex not known"),
    }
}

/// Requests of the person that are open, or were declined in the last days.
fn asked(portal: &Portal, signed: &Signed, now: Timestamp) -> Answer<Vec<(AccessRequest, String)>> {
    let mut list = Vec::new();
    for request in portal.service.requests_made(&signed.actor)? {
        let shown = match request.status {
            RequestStatus::Open => request.expires > now,
            RequestStatus::Declined => request
                .closed
                .as_ref()
                .is_some_and(|closed| now.0.saturating_sub(closed.at.0) < SOON_MS),
            RequestStatus::Granted => false,
        };
        if shown {
            let number = number(portal, request.patient)?;
            list.push((request, number));
        }
    }
    Ok(list)
}

fn asked_table(asked: &[(AccessRequest, String)], _now: Timestamp) -> Markup {
    html! {
        @if !asked.is_empty() {
            section.flow {
                h2 { (text!("Asked")) }
                table.stacks role="table" {
                    caption.hide { (text!("Requests that you made")) }
                    (head(&[text!("Patient"), text!("Asked on"), text!("Answer")]))
                    tbody role="rowgroup" {
                        @for (request, number) in asked {
                            tr role="row" {
                                th.mono role="rowheader" scope="row" { (number) }
                                td role="cell" data-label=(text!("Asked on")) { (short_date(&request.requested.at.to_instant())) }
                                td role="cell" data-label=(text!("Answer")) {
                                    @if request.status == RequestStatus::Declined { (tag("", "circle-minus", text!("Declined"))) }
                                    @else { (tag("wait", "clock", text!("Requested"))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn found_table(portal: &Portal, found: &[Demographics], now: Timestamp) -> Answer<Markup> {
    let mut rows = Vec::with_capacity(found.len());
    for one in found {
        rows.push((number(portal, PatientId(one.patient.0))?, one));
    }
    Ok(html! {
        @if rows.is_empty() {
            p.soft { (rich!("No patient whom you may see has this name. To see somebody else’s record, {ask_the_patient}.", ask_the_patient = html! { a href="/ask" { (text!("ask the patient")) } })) }
        } @else {
            table.stacks role="table" {
                caption.hide { (text!("Patients found")) }
                (head(&[text!("Patient"), text!("Born, sex"), text!("Number")]))
                tbody role="rowgroup" {
                    @for (number, one) in &rows {
                        tr role="row" {
                            th role="rowheader" scope="row" { a href={ "/patients/" (number) } { (one.listed) } }
                            td role="cell" data-label=(text!("Born")) { (about(Some(one), now)) }
                            td.mono role="cell" data-label=(text!("Number")) { (number) }
                        }
                    }
                }
            }
        }
    })
}
