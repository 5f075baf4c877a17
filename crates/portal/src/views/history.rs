//! Access history: every look, every refusal, every change of permission, for the patient to read and take away.

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    routing::get,
};
use maud::{Markup, html};
use stele_core::{id::PatientId, receipt::AccessAction, time::Timestamp};
use stele_service::{grants::RequestStatus, people::Access};

use super::{
    access::{Row, subject, who},
    entry::saved,
};
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::Portal,
    page::{Page, Place, Rendered, icon},
    session::Signed,
    shown::{clock, day, list, purpose, your},
    text,
};

/// Looks of the same person that lie no further apart are one visit, in milliseconds: half an hour.
const VISIT_MS: u64 = 30 * 60 * 1000;
/// Most single looks that a visit lists.
const TIMES_MAX: usize = 50;
/// Most lines of a page.
const LINES_MAX: usize = 200;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/history", get(page))
        .route("/history/accesses.csv", get(csv))
        .route("/history/accesses.json", get(fhir))
}

/// What kind of line it is, for the filter and the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Opened,
    Added,
    Refused,
    Permission,
}

impl What {
    const ALL: [(Self, &'static str, &'static str, &'static str); 4] = [
        (Self::Opened, "opened", message!("Opened"), "eye"),
        (Self::Added, "added", message!("Added or changed"), "pencil"),
        (Self::Refused, "refused", message!("Refused"), "circle-x"),
        (
            Self::Permission,
            "permission",
            message!("Permission changed"),
            "key-round",
        ),
    ];

    fn of(access: &Access) -> Self {
        match (access.allowed, access.action) {
            (false, _) => Self::Refused,
            (true, Some(AccessAction::Write | AccessAction::Delete)) => Self::Added,
            _ => Self::Opened,
        }
    }

    fn look(self) -> (&'static str, &'static str, &'static str) {
        Self::ALL
            .into_iter()
            .find(|(what, ..)| *what == self)
            .map_or(("", "", ""), |(_, name, words, picture)| {
                (name, words, picture)
            })
    }
}

struct Line {
    at: Timestamp,
    until: Timestamp,
    what: What,
    is_own: bool,
    words: Markup,
    more: Vec<String>,
}

/// `GET /history`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    let patient = signed.patient()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let (who, what) = (fields.text("who"), fields.text("what"));
    let mut lines = visits(&portal, &signed, patient).await?;
    lines.extend(permissions(&portal, &signed, patient).await?);
    lines.sort_by_key(|line| std::cmp::Reverse(line.at));
    lines.retain(|line| {
        (who == "everyone" || !line.is_own || line.what == What::Permission)
            && (what.is_empty() || line.what.look().0 == what)
    });
    let cut = lines.len() > LINES_MAX;
    lines.truncate(LINES_MAX);
    let main = html! {
        div.page-head {
            div.tight { h1 { (text!("Access history")) } p.soft { (text!("Who opened your record, when and why. One line for each visit. Times are in UTC.")) } }
            div.actions {
                a.btn href="/history/accesses.csv" download { (icon("download")) " " (text!("Spreadsheet (CSV)")) }
                a.btn href="/history/accesses.json" download { (icon("download")) " " (text!("FHIR")) }
            }
        }
        div.flow #emergencies data-live { (super::emergencies::told(&portal, &signed, patient, false).await?) }
        section.flow {
            h2.hide { (text!("All visits")) }
            (filters(who, what))
            div #visits data-live {
                @if lines.is_empty() {
                    p.notice { (text!("Nothing yet. As soon as somebody opens your record, or tries to, you see it here.")) }
                } @else {
                    ol.rows { @for line in &lines { (shown(line)) } }
                }
            }
            @if cut { p { (rich!("The newest {count} lines are shown. The spreadsheet has more.", count = LINES_MAX)) } }
            p.soft.small { (text!("This list is complete for every opening through this node of Stele. It cannot know about printed copies, photographs of a screen, or files someone kept.")) }
        }
    };
    Ok(Page::new(text!("Access history"), main)
        .at(Place::History)
        .render(Some(&signed)))
}

fn filters(who: &str, what: &str) -> Markup {
    html! {
        form.filters method="get" action="/history" role="search" aria-label=(text!("Visits")) {
            div.field { label for="who" { (text!("Who")) } select #who name="who" {
                option value="" { (text!("Everyone but me")) }
                option value="everyone" selected[who == "everyone"] { (text!("Everyone")) }
            } }
            div.field { label for="what" { (text!("What happened")) } select #what name="what" {
                option value="" { (text!("Everything")) }
                @for (_, name, words, _) in What::ALL { option value=(name) selected[what == name] { (text::of(words)) } }
            } }
            button.btn { (text!("Apply")) }
        }
    }
}

fn shown(line: &Line) -> Markup {
    let (_, words, picture) = line.what.look();
    html! {
        li.visit {
            h3 {
                (day(line.at)) ", " (clock(line.at))
                @if clock(line.until) != clock(line.at) { " " (rich!("to {clock}", clock = clock(line.until))) }
            }
            div.tight {
                p { (line.words) }
                @if line.what == What::Refused { p.small.soft { (text!("You have not allowed this. Nothing was shown.")) } }
                @if line.more.len() > 1 {
                    details.small {
                        summary { (plural!(line.more.len(), "once in this visit", "{count} times in this visit")) }
                        ul.bullets { @for one in line.more.iter().take(TIMES_MAX) { li { (one) } } }
                    }
                }
            }
            div.small.tight { p { span.state.bad[line.what == What::Refused] { (icon(picture)) " " (text::of(words)) } } }
        }
    }
}

/// Accesses, one line for each visit of one person.
async fn visits(portal: &Portal, signed: &Signed, patient: PatientId) -> Answer<Vec<Line>> {
    let accesses = everything(portal, signed, patient)?;
    let mut groups: Vec<Vec<Access>> = Vec::new();
    for access in accesses {
        let joins = |group: &&mut Vec<Access>| {
            group.last().is_some_and(|last| {
                last.actor == access.actor
                    && What::of(last) == What::of(&access)
                    && last.purposes == access.purposes
                    && last.at.0.saturating_sub(access.at.0) < VISIT_MS
            })
        };
        match groups.last_mut().filter(joins) {
            Some(group) => group.push(access),
            None => groups.push(vec![access]),
        }
    }
    let mut lines = Vec::new();
    for group in groups {
        let (Some(newest), Some(oldest)) = (group.first(), group.last()) else {
            continue;
        };
        let is_own = newest.actor == patient.0;
        let (named, organization) = who(portal, newest.actor).await?;
        let what = What::of(newest);
        let mut touched: Vec<_> = group
            .iter()
            .flat_map(|one| one.categories.clone())
            .collect();
        touched.sort();
        touched.dedup();
        let purposes: Vec<String> = newest
            .purposes
            .iter()
            .map(|one| purpose(*one).to_owned())
            .collect();
        let parts = your(&touched);
        let words = if is_own {
            done_by_you(what, &parts)
        } else {
            let who = subject(&named, organization.as_deref());
            let why = html! {
                @if !purposes.is_empty() { (rich!(", for {purposes}", purposes = list(&purposes))) }
            };
            done(what, &who, &parts, &why)
        };
        lines.push(Line {
            at: oldest.at,
            until: newest.at,
            what,
            is_own,
            words,
            more: group.iter().map(once).collect(),
        });
    }
    Ok(lines)
}

/// What the patient did, in a sentence.
fn done_by_you(what: What, parts: &str) -> Markup {
    let you = html! { strong { (text!("You")) } };
    match what {
        What::Opened => rich!("{you} opened {parts}.", you, parts),
        What::Added => rich!("{you} added to {parts}.", you, parts),
        What::Refused => rich!("{you} tried to open {parts}.", you, parts),
        What::Permission => rich!("{you} changed {parts}.", you, parts),
    }
}

/// What somebody else did, and what for, in a sentence.
fn done(what: What, who: &Markup, parts: &str, why: &Markup) -> Markup {
    match what {
        What::Opened => rich!("{who} opened {parts}{why}.", who, parts, why),
        What::Added => rich!("{who} added to {parts}{why}.", who, parts, why),
        What::Refused => rich!("{who} tried to open {parts}{why}.", who, parts, why),
        What::Permission => rich!("{who} changed {parts}{why}.", who, parts, why),
    }
}

/// Reads and writes together, newest first.
fn everything(portal: &Portal, signed: &Signed, patient: PatientId) -> Answer<Vec<Access>> {
    let mut all = portal.service.accesses(&signed.actor, patient)?;
    all.extend(portal.service.additions(&signed.actor, patient)?);
    all.sort_by_key(|access| std::cmp::Reverse(access.at));
    Ok(all)
}

fn once(access: &Access) -> String {
    let entries = plural!(access.records, "1 entry", "{count} entries");
    let done = text::of(action(access.action));
    format!("{}: {done}, {entries}", clock(access.at))
}

/// What was done with a record, in a word: a message. Files for programs have it as it is.
pub(super) fn action(action: Option<AccessAction>) -> &'static str {
    match action {
        Some(AccessAction::Read) => message!("read"),
        Some(AccessAction::Search) => message!("listed"),
        Some(AccessAction::History) => message!("versions listed"),
        Some(AccessAction::Export) => message!("taken out whole"),
        Some(AccessAction::Write) => message!("written"),
        Some(AccessAction::Delete) => message!("deleted"),
        Some(AccessAction::Maintenance) => message!("maintenance"),
        Some(AccessAction::Proof) => message!("proof made"),
        None => message!("unknown"),
    }
}

/// What the patient decided and what others asked.
async fn permissions(portal: &Portal, signed: &Signed, patient: PatientId) -> Answer<Vec<Line>> {
    let mut lines = Vec::new();
    let mut add = |at: Timestamp, words: Markup| {
        lines.push(Line {
            at,
            until: at,
            what: What::Permission,
            is_own: true,
            words,
            more: Vec::new(),
        });
    };
    for grant in portal.service.grants_of(&signed.actor, patient)? {
        let row = Row::of(portal, patient, grant).await?;
        add(
            row.grant.granted.at,
            html! { (rich!("Permission given: {sentence}", sentence = row.sentence())) },
        );
        if let Some(revoked) = &row.grant.revoked {
            add(
                revoked.at,
                html! { (rich!(
                    "{you} stopped the access of {name}.",
                    you = html! { strong { (text!("You")) } },
                    name = html! { strong { (row.named.name) } },
                )) },
            );
        }
    }
    for request in portal.service.requests_of(&signed.actor, patient)? {
        let (named, organization) = who(portal, request.requester).await?;
        let asker = subject(&named, organization.as_deref());
        add(
            request.requested.at,
            html! { (rich!("{asker} asked for access.", asker)) },
        );
        if let (RequestStatus::Declined, Some(closed)) = (request.status, &request.closed) {
            add(
                closed.at,
                html! { (rich!(
                    "{you} declined the request of {name}.",
                    you = html! { strong { (text!("You")) } },
                    name = html! { strong { (named.name) } },
                )) },
            );
        }
    }
    Ok(lines)
}

/// `GET /history/accesses.csv`
async fn csv(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    let patient = signed.patient()?;
    let mut text = String::from(
        "time,who,calling,organisation,account,what,allowed,parts,purposes,entries\r\n",
    );
    for access in everything(&portal, &signed, patient)? {
        let (named, organization) = who(&portal, access.actor).await?;
        let joined = |words: Vec<&str>| words.join("; ");
        let fields = [
            access.at.to_instant(),
            if access.actor == patient.0 {
                signed.name.clone()
            } else {
                named.name
            },
            named.what.unwrap_or_default(),
            organization.unwrap_or_default(),
            access.actor.to_string(),
            action(access.action).to_owned(),
            if access.allowed { "yes" } else { "refused" }.to_owned(),
            joined(
                access
                    .categories
                    .iter()
                    .map(|one| one.plain_name())
                    .collect(),
            ),
            joined(access.purposes.iter().map(|one| one.words()).collect()),
            access.records.to_string(),
        ];
        let line: Vec<String> = fields.iter().map(|field| cell(field)).collect();
        text.push_str(&line.join(","));
        text.push_str("\r\n");
    }
    Ok(saved("text/csv; charset=utf-8", "access-history.csv", text))
}

/// A field as RFC 4180 has it. Spreadsheets take some beginnings for formulas; a quote before them keeps them text.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    format!("\"{}\"", guarded.replace('"', "\"\""))
}

/// `GET /history/accesses.json`: a Bundle of FHIR AuditEvents.
async fn fhir(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    let patient = signed.patient()?;
    let id = portal
        .service
        .demographics(&signed.actor, patient)
        .await?
        .id;
    let page = portal
        .service
        .audit_events(&signed.actor, &id, 1000, None)?;
    let entries: Vec<serde_json::Value> = page
        .matches
        .iter()
        .filter_map(|one| serde_json::from_str(&one.text).ok())
        .map(|resource: serde_json::Value| serde_json::json!({ "resource": resource }))
        .collect();
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": portal.service.now().to_instant(),
        "entry": entries
    });
    let text = serde_json::to_string_pretty(&bundle)
        .map_err(|_| Refusal::bad_form(text!("The history can't be written.")))?;
    Ok(saved("application/fhir+json", "access-history.json", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreadsheets_get_text() {
        assert_eq!(cell("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(cell("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\"");
    }
}
