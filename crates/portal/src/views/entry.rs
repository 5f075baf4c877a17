//! One entry: what it says, whether it is what was recorded, how it changed, and how to check that elsewhere.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};
use maud::{Markup, html};
use serde_json::Value;
use stele_core::id::PatientId;
use stele_fhir::words;
use stele_service::{
    Error, Stored,
    people::{Listing, Placed},
};

use super::{
    account::number,
    own::correctable,
    record::{number_of, rounded, status_look},
    upload,
};
use crate::{
    error::{Answer, Refusal},
    front::Portal,
    page::{Page, Place, Rendered, icon, tag},
    session::Signed,
    shown::{self, Badge, Entry, badge, capital, date, moment, part},
    text,
};

mod trend;

/// Most versions that a page lists.
const VERSIONS_MAX: u32 = 50;
/// Where a patient who holds the keys finds what these addresses give others.
const IN_BROWSER: &str = message!("Its page puts the files together there.");
/// Most lines of "Details".
const DETAILS_MAX: usize = 200;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/record/{type}/{id}", get(page))
        .route("/record/{type}/{id}/proof", get(proof))
        .route("/record/{type}/{id}/fhir", get(fhir))
}

/// `GET /record/{type}/{id}`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer<Rendered> {
    if signed.holds_keys {
        return super::keys::entry(&portal, &signed, &resource_type, &id);
    }
    let record = Seen {
        patient: signed.patient()?,
        address: "/record",
        back: text!("Back to your record"),
        heading: text!("An entry of your record"),
        acts: &|_| html! {},
    };
    let shown = show(&portal, &signed, &record, &resource_type, &id).await?;
    Ok(Page::new(text!("An entry of your record"), shown)
        .at(Place::Record)
        .render(Some(&signed)))
}

/// Whose record an entry is seen in, and where its pages are.
pub(super) struct Seen<'a> {
    pub(super) patient: PatientId,
    pub(super) address: &'a str,
    /// `your record`, `the chart`.
    /// Words of the way back.
    pub(super) back: &'a str,
    /// What the page of an entry is called whose name is not shown.
    pub(super) heading: &'a str,
    /// What this person may do with the entry.
    pub(super) acts: &'a (dyn Fn(&Entry) -> Markup + Sync),
}

/// The entry as both the patient and a clinician see it.
pub(super) async fn show(
    portal: &Portal,
    signed: &Signed,
    seen: &Seen<'_>,
    resource_type: &str,
    id: &str,
) -> Answer<Markup> {
    if !stele_fhir::is_resource_type(resource_type) {
        return Err(Refusal::not_found());
    }
    let service = &portal.service;
    let read = service.read(&signed.actor, resource_type, id).await;
    let stored = match read {
        Ok(stored) => stored,
        Err(error @ (Error::DoesNotMatch { .. } | Error::Vault { .. } | Error::Ledger { .. })) => {
            return Ok(withheld(seen, &error));
        }
        Err(error) => return Err(error.into()),
    };
    let entry = Entry::new(stored);
    let version = entry.stored.version;
    let placed = service
        .placed(resource_type, id, version)?
        .filter(|placed| placed.log == seen.patient.0)
        .ok_or_else(Refusal::not_found)?;
    let record_number = format!("{}REC{}", number(portal, seen.patient)?, placed.number);
    let author = if placed.author != seen.patient.0 {
        portal.name(placed.author).await?.name
    } else if signed.is_patient() {
        text!("you").to_owned()
    } else {
        text!("the patient").to_owned()
    };
    let versions = versions(portal, signed, &entry).await?;
    let trend = match entry.quantity() {
        Some(_) => {
            let alike = Listing {
                alike: Some((resource_type.to_owned(), id.to_owned())),
                ..Listing::of(seen.patient, trend::LOOKED_AT)
            };
            let lists = service.list(&signed.actor, vec![alike]).await?;
            let results: Vec<Entry> = lists
                .into_iter()
                .flat_map(|one| one.entries)
                .map(Entry::new)
                .collect();
            trend::of(&results, &entry)
        }
        None => None,
    };
    let facts = Facts {
        placed: &placed,
        author: &author,
        record_number: &record_number,
    };
    Ok(html! {
        a.back href=(seen.address) { (seen.back) }
        div.columns #entry data-live {
            div.sections {
                section.flow {
                    p.only-print { (rich!("{name}, entry {record_number}", name = signed.name, record_number)) }
                    h1 { (entry.title) }
                    (value(&entry))
                    (upload::part(&entry, seen))
                    (verification(&entry, &facts, seen))
                    ((seen.acts)(&entry))
                }
                @if let Some(trend) = trend { (trend) }
                @if versions.len() > 1 { (changes(portal, &versions).await?) }
                (details(&entry.value))
            }
            (about(&entry, &facts, seen, signed.is_patient()))
        }
    })
}

fn value(entry: &Entry) -> Markup {
    html! {
        @if !entry.shown.is_empty() {
            @if let Some((number, unit)) = number_of(entry) {
                p.stat { (rounded(number)) " " (unit) }
                @if rounded(number) != number { p.small.soft { (rich!("Written as {number}", number)) } }
            } @else {
                p.lead { (entry.shown) }
            }
        }
        @if let Some(status) = entry.status() {
            p { (tag(status_look(status).0, status_look(status).1, shown::status(status))) }
        }
    }
}

/// What the page says of where the entry stands.
struct Facts<'a> {
    placed: &'a Placed,
    author: &'a str,
    record_number: &'a str,
}

fn verification(entry: &Entry, facts: &Facts<'_>, seen: &Seen<'_>) -> Markup {
    let proof = format!("{}/proof", entry.address(seen.address));
    let file = format!("{}.proof.json", facts.record_number);
    let inside = html! {
        p {
            @if facts.author == text!("you") { (text!("This is exactly what you recorded on {moment} UTC. Nothing has changed since.", moment = moment(facts.placed.at))) }
            @else { (text!(
                "This is exactly what {author} recorded on {moment} UTC. Nothing has changed since.",
                author = facts.author,
                moment = moment(facts.placed.at),
            )) }
            " " (text!("It does not say that the entry is clinically right, only that nobody altered it."))
        }
        dl.facts {
            dt { (text!("Recorded by")) } dd { (capital(facts.author)) }
            dt { (text!("Recorded")) } dd { (moment(facts.placed.at)) " UTC" }
            dt { (text!("Entry")) } dd.mono { (facts.record_number) }
            dt { (text!("Page of the ledger")) } dd { (facts.placed.height) }
        }
        h2.h3 { (text!("Check it yourself")) }
        ol.steps {
            li { (rich!("{download}. It holds this entry and its signatures.", download = html! { a href=(proof) download=(file) { (text!("Download the proof file")) } })) }
            li { (text!("Run this on any computer. It needs no connection and asks nobody.")) }
        }
        pre tabindex="0" aria-label=(text!("Command")) { "stele verify proof " (file) " --genesis genesis.json" }
    };
    badge(Badge::Verified, "", true, &inside)
}

/// An entry whose content is held back, or can't be looked at now.
fn withheld(seen: &Seen<'_>, error: &Error) -> Markup {
    let state = if matches!(error, Error::DoesNotMatch { .. }) {
        Badge::DoesNotMatch
    } else {
        Badge::CannotCheck
    };
    let inside = html! {
        @if state == Badge::DoesNotMatch {
            p { (text!("What is stored is not what was recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected.")) }
            p { (text!("Tell the desk of your hospital or practice.")) }
        } @else {
            p { (text!("The entry cannot be checked at the moment, so it is not shown. Try again in a few minutes; nothing is lost.")) }
        }
    };
    html! {
        a.back href=(seen.address) { (seen.back) }
        div.flow {
            h1 { (seen.heading) }
            p { strong { (text!("Held back")) } }
            (badge(state, "", true, &inside))
        }
    }
}

fn about(entry: &Entry, facts: &Facts<'_>, seen: &Seen<'_>, is_patient: bool) -> Markup {
    let stored = &entry.stored;
    html! {
        aside.aside aria-label=(text!("About this entry")) {
            section {
                h2 { (text!("About this entry")) }
                ul {
                    li { span.soft { (text!("Record number")) } br; strong.mono { (facts.record_number) } }
                    li { span.soft { (text!("Type")) } br; strong { (text::told(&words::spaced(&stored.resource_type))) } }
                    li { span.soft { (text!("When")) } br; strong { (date(&entry.when)) } }
                    li { span.soft { (text!("Created on")) } br; strong { (moment(facts.placed.at)) " UTC" } }
                    li { span.soft { (text!("Part of the record")) } br; strong { (part(entry.category)) } }
                    li { span.soft { (text!("FHIR id")) } br; span.mono { (stored.resource_type) "/" (stored.id) } }
                }
            }
            section.no-print {
                h2 { (text!("Do more")) }
                ul {
                    @if is_patient {
                        li { a href={ "/access/share?part=" (entry.category.name()) } { (icon("share-2")) (text!("Share entries like this")) } }
                        li { a href="/history" { (icon("eye")) (text!("Who has looked")) } }
                    }
                    @if is_patient && facts.placed.author == seen.patient.0 && correctable(&entry.value) {
                        li { a href={ (entry.address(seen.address)) "/correct" } { (icon("pencil")) (text!("Correct this entry")) } }
                    }
                    li { a href={ (entry.address(seen.address)) "/fhir" } download={ (facts.record_number) ".json" } { (icon("download")) (text!("Save as FHIR")) } }
                    li { button.plain data-print hidden { (icon("printer")) " " (text!("Print")) } }
                }
            }
        }
    }
}

/// All versions that may be seen, newest first.
async fn versions(portal: &Portal, signed: &Signed, entry: &Entry) -> Answer<Vec<Entry>> {
    if entry.stored.version == 1 {
        return Ok(Vec::new());
    }
    let page = portal
        .service
        .history(
            &signed.actor,
            &entry.stored.resource_type,
            Some(&entry.stored.id),
            VERSIONS_MAX,
            None,
        )
        .await?;
    Ok(page
        .matches
        .into_iter()
        .filter(|stored: &Stored| !stored.deleted)
        .map(Entry::new)
        .collect())
}

/// Each version beside the one before: what changed, in the words of the resource.
async fn changes(portal: &Portal, versions: &[Entry]) -> Answer<Markup> {
    let mut sections = Vec::new();
    for pair in versions.windows(2) {
        let [now, before] = pair else { continue };
        let placed = portal.service.placed(
            &now.stored.resource_type,
            &now.stored.id,
            now.stored.version,
        )?;
        let author = match placed {
            Some(placed) => portal.name(placed.author).await?.name,
            None => text!("Not known").to_owned(),
        };
        sections.push((now, before, author, differences(&before.value, &now.value)));
    }
    Ok(html! {
        section.flow {
            h2 { (rich!("{versions} versions", versions = versions.len())) }
            @for (now, before, author, lines) in &sections {
                h3 { (rich!("Version {version}, {moment} UTC, by {author}", version = now.stored.version, moment = moment(now.stored.last_updated), author)) }
                table.stacks role="table" {
                    caption.hide { (rich!("What changed from version {before} to version {after}", before = before.stored.version, after = now.stored.version)) }
                    thead role="rowgroup" { tr role="row" {
                        th role="columnheader" scope="col" { (text!("What")) }
                        th role="columnheader" scope="col" { (rich!("Version {version}", version = before.stored.version)) }
                        th role="columnheader" scope="col" { (rich!("Version {version}", version = now.stored.version)) }
                    } }
                    tbody role="rowgroup" {
                        @for (name, old, new) in lines {
                            tr role="row" {
                                th role="rowheader" scope="row" { (name) }
                                td role="cell" data-label=(text!("Before")) { @if let Some(old) = old { del { (old) } } @else { span.soft { (text!("Not given")) } } }
                                td role="cell" data-label=(text!("After")) { @if let Some(new) = new { ins { (new) } } @else { span.soft { (text!("Removed")) } } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Elements that differ between two versions: name, before, after. What every version changes is left out.
fn differences(before: &Value, now: &Value) -> Vec<(String, Option<String>, Option<String>)> {
    let (old, new) = (elements(before), elements(now));
    let mut lines = Vec::new();
    for (name, value) in &new {
        let was = old.iter().find(|(other, _)| other == name).map(|(_, v)| v);
        if was != Some(value) {
            lines.push((name.clone(), was.cloned(), Some(value.clone())));
        }
    }
    for (name, value) in &old {
        if !new.iter().any(|(other, _)| other == name) {
            lines.push((name.clone(), Some(value.clone()), None));
        }
    }
    lines
}

/// The resource's elements as name and text, in its order.
fn elements(value: &Value) -> Vec<(String, String)> {
    fn walk(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                for (member, inner) in members {
                    let name = if name.is_empty() {
                        member.clone()
                    } else {
                        format!("{name} › {member}")
                    };
                    walk(&name, inner, out);
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let name = if items.len() == 1 {
                        name.to_owned()
                    } else {
                        format!("{name} {}", at.saturating_add(1))
                    };
                    walk(&name, item, out);
                }
            }
            Value::String(text) => out.push((name.to_owned(), text.clone())),
            Value::Null => {}
            other => out.push((name.to_owned(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out.retain(|(name, _)| {
        !name.starts_with("meta ›")
            && !matches!(name.as_str(), "id" | "resourceType")
            && !name.starts_with("text ›")
    });
    out
}

fn details(value: &Value) -> Markup {
    let elements = elements(value);
    html! {
        section {
            details {
                summary { (text!("Details, as recorded")) }
                dl.facts.details {
                    @for (name, text) in elements.iter().take(DETAILS_MAX) { dt { (name) } dd { (text) } }
                }
            }
        }
    }
}

/// `GET /record/{type}/{id}/proof`
async fn proof(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    signed.patient()?;
    super::keys::require_managed(&signed, text::of(IN_BROWSER))?;
    proof_file(&portal, &signed, &resource_type, &id).await
}

/// The proof file of an entry's current version.
pub(super) async fn proof_file(
    portal: &Portal,
    signed: &Signed,
    resource_type: &str,
    id: &str,
) -> Answer {
    let proof = portal
        .service
        .prove_record(&signed.actor, resource_type, id, None, &[])
        .await?;
    let text = serde_json::to_string_pretty(&proof)
        .map_err(|_| Refusal::bad_form(text!("The proof can't be written.")))?;
    Ok(saved("application/json", "entry.proof.json", text))
}

/// `GET /record/{type}/{id}/fhir`
async fn fhir(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    signed.patient()?;
    super::keys::require_managed(&signed, text::of(IN_BROWSER))?;
    fhir_file(&portal, &signed, &resource_type, &id).await
}

/// An entry's current version as it is stored.
pub(super) async fn fhir_file(
    portal: &Portal,
    signed: &Signed,
    resource_type: &str,
    id: &str,
) -> Answer {
    let stored = portal
        .service
        .read(&signed.actor, resource_type, id)
        .await?;
    Ok(saved(
        "application/fhir+json",
        "entry.json",
        stored.text.to_string(),
    ))
}

/// An answer that the browser keeps as a file.
pub(super) fn saved(kind: &'static str, name: &str, content: String) -> Response {
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_differ_in_what_was_changed() {
        let before = json!({ "id": "1", "meta": { "versionId": "1" }, "status": "final", "note": [{ "text": "a" }] });
        let now = json!({ "id": "1", "meta": { "versionId": "2" }, "status": "amended", "valueString": "x" });
        assert_eq!(
            differences(&before, &now),
            [
                (
                    "status".to_owned(),
                    Some("final".to_owned()),
                    Some("amended".to_owned())
                ),
                ("valueString".to_owned(), None, Some("x".to_owned())),
                ("note › text".to_owned(), Some("a".to_owned()), None),
            ]
        );
    }
}
