//! Who can see what, and what was asked for: the patient's list, with the way out of each.

use std::sync::Arc;

use alloy_primitives::Address;
use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_core::{
    consent::{Permissions, Terms},
    id::PatientId,
    time::Timestamp,
};
use stele_fhir::category::Category;
use stele_service::{
    grants::{AccessRequest, Grant, RequestDetails, RequestStatus},
    people::Named,
};

use super::{keys, share};
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    page::{Page, Place, Rendered, csrf, icon},
    session::Signed,
    shown::{day, list, moment, part, parts, purpose, verbs, your},
};

/// Access that ends within this many milliseconds ends soon: a week.
const SOON_MS: u64 = 7 * DAY_MS;
const DAY_MS: u64 = 24 * 3600 * 1000;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/access", get(page))
        .route("/access/ended", get(ended))
        .route("/access/stop", post(stop))
        .route("/access/stop-all", post(stop_all))
        .route("/access/requests/{request}/allow", post(allow))
        .route("/access/requests/{request}/decline", post(decline))
}

/// A grant with the words that a page needs.
pub(super) struct Row {
    pub(super) grant: Grant,
    pub(super) named: Named,
    organization: Option<String>,
    categories: Vec<Category>,
}

impl Row {
    pub(super) async fn of(portal: &Portal, patient: PatientId, grant: Grant) -> Answer<Self> {
        let (named, organization) = who(portal, grant.grantee).await?;
        let categories = portal
            .service
            .categories_of(patient, grant.terms.categories)?;
        Ok(Self {
            grant,
            named,
            organization,
            categories,
        })
    }

    /// One sentence: who can do what until when, and why.
    pub(super) fn sentence(&self) -> Markup {
        html! {
            (rich!(
                "{subject} can {verbs} {whose}{until}, for {purposes}.",
                subject = subject(&self.named, self.organization.as_deref()),
                verbs = html! { strong { (verbs(self.grant.terms.permissions)) } },
                whose = your(&self.categories),
                until = html! { strong { " " (rich!("until {day}", day = last_day(&self.grant.terms))) } },
                purposes = purposes(&self.grant.terms),
            ))
        }
    }

    fn is_person(&self) -> bool {
        self.named.organization.is_some()
    }
}

/// Name of an account and of its organisation.
pub(super) async fn who(portal: &Portal, account: Address) -> Answer<(Named, Option<String>)> {
    let named = portal.name(account).await?;
    let organization = match named.organization {
        Some(organization) => Some(portal.name(organization.0).await?.name),
        None => None,
    };
    Ok((named, organization))
}

/// "**Dr Ana Reyes**, cardiologist, Kos Heart Centre," with the comma that a sentence needs before its verb.
pub(super) fn subject(named: &Named, organization: Option<&str>) -> Markup {
    html! { (person(named, organization)) @if named.what.is_some() || organization.is_some() { "," } }
}

/// "**Dr Ana Reyes**, cardiologist, Kos Heart Centre"
pub(super) fn person(named: &Named, organization: Option<&str>) -> Markup {
    html! {
        strong { (named.name) }
        @if let Some(what) = &named.what { ", " (what) }
        @if let Some(organization) = organization { ", " (organization) }
    }
}

/// The last day on which a grant holds.
pub(super) fn last_day(terms: &Terms) -> String {
    day(Timestamp(terms.period.until.0.saturating_sub(1)))
}

pub(super) fn purposes(terms: &Terms) -> String {
    let words: Vec<String> = terms
        .purposes
        .iter()
        .map(|one| purpose(*one).to_owned())
        .collect();
    list(&words)
}

/// `GET /access`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    let patient = signed.patient()?;
    let now = portal.service.now();
    let mut rows = Vec::new();
    for grant in portal.service.grants_of(&signed.actor, patient)? {
        if is_open(&grant, now) {
            rows.push(Row::of(&portal, patient, grant).await?);
        }
    }
    let is_soon = |row: &&Row| row.grant.terms.period.until.0.saturating_sub(now.0) < SOON_MS;
    let groups = [
        (
            text!("Ending soon"),
            rows.iter().filter(is_soon).collect::<Vec<_>>(),
        ),
        (
            text!("People"),
            rows.iter()
                .filter(|row| !is_soon(row) && row.is_person())
                .collect(),
        ),
        (
            text!("Organisations"),
            rows.iter()
                .filter(|row| !is_soon(row) && !row.is_person())
                .collect(),
        ),
    ];
    let main = html! {
        div.page-head {
            div.tight {
                h1 { (text!("Who can see what")) }
                p.soft { (text!("Only the people on this page can open your record. You can stop anyone at any time.")) }
            }
            a.btn.primary href="/access/share" { (icon("plus")) " " (text!("Share with someone")) }
        }
        div.sections #access data-live {
            (requests(&portal, &signed, patient).await?)
            @for (heading, rows) in &groups {
                @if !rows.is_empty() {
                    section.ledger {
                        h2 { (heading) }
                        ul.rows { @for row in rows { (line(&signed, row, now)) } }
                    }
                }
            }
            @if rows.is_empty() {
                section.notice { p { (text!("Nobody but you can open your record.")) } }
            }
            @if rows.len() > 1 {
                form method="post" action="/access/stop-all" {
                    (csrf(&signed))
                    button.btn.stop { (text!("Stop all access")) }
                }
            }
            section.flow.stop-all {
                p.links { a href="/access/ended" { (text!("Access that has ended")) } a href="/history" { (text!("What was opened, and when")) } }
            }
        }
    };
    Ok(Page::new(text!("Who can see what"), main)
        .at(Place::Sharing)
        .render(Some(&signed)))
}

/// Whether a grant holds now or will.
fn is_open(grant: &Grant, now: Timestamp) -> bool {
    grant.revoked.is_none() && grant.terms.period.until > now
}

fn line(signed: &Signed, row: &Row, now: Timestamp) -> Markup {
    let left = row.grant.terms.period.until.0.saturating_sub(now.0);
    html! {
        li.access-row {
            div.tight {
                p { (row.sentence()) }
                @if left < SOON_MS {
                    p.small { span.state.wait { (icon("hourglass")) " " (rich!("Ends {day}", day = last_day(&row.grant.terms))) } }
                }
                p.small.soft { (rich!("Given {moment} UTC", moment = moment(row.grant.granted.at))) }
            }
            form.row-acts method="post" action="/access/stop" {
                (csrf(signed))
                input type="hidden" name="grantee" value=(row.grant.grantee);
                input type="hidden" name="id" value=(row.grant.id);
                button.btn.stop { (text!("Stop access")) span.hide { " " (rich!("of {name}", name = row.named.name)) } }
            }
        }
    }
}

/// What somebody asks for, in a sentence. What was not said is for the patient to choose.
pub(super) fn asked(details: Option<&RequestDetails>) -> String {
    let Some(details) = details else {
        return text!("see your record").into();
    };
    let names: Vec<String> = details
        .categories
        .iter()
        .filter_map(|name| Category::from_name(name))
        .map(|category| part(category).to_owned())
        .collect();
    let permissions = permissions_of(&details.permissions);
    let verbs = if permissions == Permissions::default() {
        text!("see").to_owned()
    } else {
        verbs(permissions)
    };
    if details.categories.iter().any(|name| name == "all") {
        text!("{verbs} everything in your record", verbs)
    } else if names.is_empty() {
        text!("{verbs} your record", verbs)
    } else {
        text!("{verbs} your {what}", verbs, what = list(&names))
    }
}

pub(super) fn permissions_of(names: &[String]) -> Permissions {
    names.iter().fold(Permissions::default(), |all, name| {
        all.and(match name.as_str() {
            "read" => Permissions::READ,
            "write" => Permissions::WRITE,
            "share" => Permissions::SHARE,
            _ => Permissions::default(),
        })
    })
}

async fn requests(portal: &Portal, signed: &Signed, patient: PatientId) -> Answer<Markup> {
    let now = portal.service.now();
    let mut lines = Vec::new();
    for request in portal.service.requests_of(&signed.actor, patient)? {
        if request.status != RequestStatus::Open || request.expires <= now {
            continue;
        }
        let details = portal.service.request_details(&request)?;
        let (named, organization) = who(portal, request.requester).await?;
        lines.push((request, details, named, organization));
    }
    Ok(html! {
        @if !lines.is_empty() {
            section.ledger {
                h2 { (text!("Waiting for your answer")) }
                ul.rows {
                    @for (request, details, named, organization) in &lines {
                        li.access-row {
                            div.tight {
                                p { (rich!(
                                    "{subject} asks to {asked}.",
                                    subject = subject(named, organization.as_deref()),
                                    asked = html! { strong { (asked(details.as_ref())) } },
                                )) }
                                @if let Some(details) = details {
                                    p.small.soft { (rich!("Asked {moment} UTC: “{reason}”", moment = moment(request.requested.at), reason = details.reason)) }
                                }
                            }
                            div.actions.even {
                                (answer_form(signed, request, "allow", "check", text!("Allow"), &named.name))
                                (answer_form(signed, request, "decline", "x", text!("Decline"), &named.name))
                            }
                        }
                    }
                }
            }
        }
    })
}

fn answer_form(
    signed: &Signed,
    request: &AccessRequest,
    act: &str,
    picture: &str,
    words: &str,
    name: &str,
) -> Markup {
    html! {
        form method="post" action={ "/access/requests/" (request.id) "/" (act) } {
            (csrf(signed))
            button.btn.whole { (icon(picture)) " " (words) span.hide { " " (name) } }
        }
    }
}

/// `GET /access/ended`
async fn ended(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    let patient = signed.patient()?;
    let now = portal.service.now();
    let mut rows = Vec::new();
    for grant in portal.service.grants_of(&signed.actor, patient)? {
        if !is_open(&grant, now) {
            rows.push(Row::of(&portal, patient, grant).await?);
        }
    }
    let main = html! {
        a.back href="/access" { (text!("Back to who can see what")) }
        h1 { (text!("Access that has ended")) }
        @if rows.is_empty() {
            p { (text!("No access has ended yet. When you stop someone, or an end date passes, it is listed here.")) }
        } @else {
            ul.rows {
                @for row in &rows {
                    li.tight {
                        p { strong { (row.named.name) } ": " (verbs(row.grant.terms.permissions)) " " (parts(&row.categories)) }
                        p.small.soft {
                            (rich!("From {day}", day = day(row.grant.granted.at)))
                            @match &row.grant.revoked {
                                Some(revoked) => { ". " (rich!("You stopped it {moment} UTC.", moment = moment(revoked.at))) }
                                None => { ". " (rich!("It ended {day}.", day = last_day(&row.grant.terms))) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("Access that has ended"), main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(&signed)))
}

/// `POST /access/stop`
async fn stop(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    let patient = signed.patient()?;
    let grantee: Address = posted
        .fields
        .text("grantee")
        .parse()
        .map_err(|_| Refusal::bad_form(text!("It names nobody.")))?;
    let id: u32 = posted
        .fields
        .text("id")
        .parse()
        .map_err(|_| Refusal::bad_form(text!("It names no permission.")))?;
    if signed.holds_keys {
        return Ok(keys::to_stop(grantee, id).into_response());
    }
    let draft = portal
        .service
        .draft_revoke(&signed.actor, patient, grantee, id)?;
    Ok(share::to_check(&draft).into_response())
}

/// `POST /access/stop-all`
async fn stop_all(State(portal): State<Arc<Portal>>, signed: Signed, _posted: Posted) -> Answer {
    let patient = signed.patient()?;
    let draft = portal.service.draft_stop_all(&signed.actor, patient)?;
    Ok(share::to_check(&draft).into_response())
}

/// `POST /access/requests/{request}/allow`
async fn allow(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<u32>,
    posted: Posted,
) -> Answer {
    let patient = signed.patient()?;
    let request = open_request(&portal, &signed, patient, id)?;
    let details = portal.service.request_details(&request)?;
    share::answer_request(&portal, &signed, posted, &request, details.as_ref()).await
}

/// `POST /access/requests/{request}/decline`
async fn decline(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<u32>,
    _posted: Posted,
) -> Answer {
    let patient = signed.patient()?;
    open_request(&portal, &signed, patient, id)?;
    let draft = portal.service.draft_decline(&signed.actor, patient, id)?;
    Ok(share::to_check(&draft).into_response())
}

/// A request that still waits.
pub(super) fn open_request(
    portal: &Portal,
    signed: &Signed,
    patient: PatientId,
    id: u32,
) -> Answer<AccessRequest> {
    let now = portal.service.now();
    portal
        .service
        .requests_of(&signed.actor, patient)?
        .into_iter()
        .find(|one| one.id == id && one.status == RequestStatus::Open && one.expires > now)
        .ok_or_else(|| Refusal::Page {
            status: http::StatusCode::CONFLICT,
            title: text!("This request was answered already"),
            words: text!("It may have been answered on another device, or be too old.").into(),
        })
}

/// Sends a browser to a page after a form.
pub(super) fn to(path: &str) -> Redirect {
    Redirect::to(path)
}
