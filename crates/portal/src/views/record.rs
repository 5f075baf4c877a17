//! The patient's record: newest first by clinical date, by month and visit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Router,
    extract::{RawQuery, State},
    routing::get,
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_fhir::{category::Category, words};
use stele_service::{Stored, grants::RequestStatus};

use super::account::number;
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::{ExportForm, Portal},
    page::{Page, Place, Rendered, icon, tag},
    session::Signed,
    shown::{Badge, Entry, badge, capital, day, moment},
};

/// Entries on one page.
const PAGE: usize = 50;
/// Lines of a list at the side.
const GLANCE: usize = 8;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/record", get(page))
        .route("/record/everything.html", get(everything_page))
        .route("/record/everything.json", get(everything_bundle))
}

/// What a person may choose to see.
struct Kind {
    name: &'static str,
    words: &'static str,
    categories: &'static [Category],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "results",
        words: "Test results",
        categories: &[
            Category::Laboratory,
            Category::Imaging,
            Category::Cardiology,
        ],
    },
    Kind {
        name: "vitals",
        words: "Measurements",
        categories: &[Category::VitalSigns],
    },
    Kind {
        name: "medicines",
        words: "Medicines",
        categories: &[Category::Medicines],
    },
    Kind {
        name: "problems",
        words: "Health problems",
        categories: &[Category::Problems],
    },
    Kind {
        name: "allergies",
        words: "Allergies",
        categories: &[Category::Allergies],
    },
    Kind {
        name: "vaccines",
        words: "Vaccines",
        categories: &[Category::Immunizations],
    },
    Kind {
        name: "visits",
        words: "Visits",
        categories: &[Category::Encounters],
    },
    Kind {
        name: "treatments",
        words: "Operations and treatments",
        categories: &[Category::Procedures],
    },
    Kind {
        name: "documents",
        words: "Letters and notes",
        categories: &[Category::Documents],
    },
    Kind {
        name: "bills",
        words: "Bills and insurance",
        categories: &[Category::Billing],
    },
];

/// What the list of everyday entries leaves out; "Everything" has it.
const PAPERWORK: &[Category] = &[
    Category::Billing,
    Category::Administrative,
    Category::RecordKeeping,
];

/// What was asked for in the address.
struct Asked {
    kind: String,
    text: String,
    page: usize,
}

impl Asked {
    fn parse(query: Option<String>) -> Self {
        let fields = Fields::parse(query.unwrap_or_default().as_bytes());
        Self {
            kind: fields.text("show").to_owned(),
            text: fields.text("find").to_owned(),
            page: fields.text("page").parse().unwrap_or(1).max(1),
        }
    }

    fn takes(&self, entry: &Entry) -> bool {
        let kind = KINDS.iter().find(|kind| kind.name == self.kind);
        let right_kind = match kind {
            Some(kind) => kind.categories.contains(&entry.category),
            None => self.kind == "all" || !PAPERWORK.contains(&entry.category),
        };
        // The content of a file is behind the entry that names it.
        let is_content = entry.stored.resource_type == "Binary" && self.kind != "all";
        right_kind
            && !is_content
            && (self.text.is_empty()
                || entry
                    .title
                    .to_lowercase()
                    .contains(&self.text.to_lowercase()))
    }

    fn address(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("show", &self.kind), ("find", &self.text)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("page", &page.to_string());
        format!("/record?{}", query.finish())
    }
}

/// `GET /record`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    let patient = signed.patient()?;
    if signed.holds_keys {
        return super::keys::record(&portal, &signed);
    }
    let asked = Asked::parse(query);
    let stored = portal.service.chart(&signed.actor, patient).await?;
    let record = Record::new(stored);
    let chosen: Vec<&Entry> = record
        .entries
        .iter()
        .filter(|entry| asked.takes(entry))
        .collect();
    let pages = chosen.len().div_ceil(PAGE).max(1);
    let at = asked.page.min(pages);
    let shown: Vec<&Entry> = chosen
        .iter()
        .copied()
        .skip((at - 1) * PAGE)
        .take(PAGE)
        .collect();
    let patient_number = number(&portal, patient)?;
    let timeline = timeline(&portal, &record, &shown, &patient_number).await?;
    let main = html! {
        div.columns {
            div.flow {
                div.page-head {
                    div.tight {
                        h1 { "Your record" }
                        p.soft { (count(chosen.len())) ", newest first" @if pages > 1 { ", page " (at) " of " (pages) } }
                    }
                    a.btn href="/record/add" { (icon("plus")) " Add an entry" }
                }
                (waiting(&portal, &signed, patient).await?)
                (filters(&asked))
                div #timeline data-live {
                    @if shown.is_empty() { (nothing(&asked, record.entries.is_empty())) }
                    (timeline)
                }
                @if pages > 1 {
                    nav.actions aria-label="Pages" {
                        @if at > 1 { a.btn href=(asked.address(at - 1)) { "Show newer entries" } }
                        @if at < pages { a.btn href=(asked.address(at + 1)) { "Show older entries" } }
                    }
                }
            }
            (at_a_glance(&record))
        }
    };
    Ok(Page::new("Your record", main)
        .at(Place::Record)
        .render(Some(&signed)))
}

/// `GET /record/everything.html`: the whole record as one signed file to read and print, with the Bundle in it.
async fn everything_page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    everything(
        portal,
        signed,
        ExportForm::Page,
        "text/html; charset=utf-8",
        "health-record.html",
    )
    .await
}

/// `GET /record/everything.json`: the signed Bundle alone.
async fn everything_bundle(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    everything(
        portal,
        signed,
        ExportForm::Bundle,
        "application/fhir+json",
        "health-record.fhir.json",
    )
    .await
}

async fn everything(
    portal: Arc<Portal>,
    signed: Signed,
    form: ExportForm,
    kind: &'static str,
    name: &'static str,
) -> Answer {
    let patient = signed.patient()?;
    super::keys::require_managed(&signed, "Its page puts the file together there.")?;
    let id = portal
        .service
        .demographics(&signed.actor, patient)
        .await?
        .id;
    let collected = portal.service.collect(&signed.actor, &id).await?;
    let export = Arc::clone(&portal.export);
    let written = tokio::task::spawn_blocking(move || export(collected, form))
        .await
        .map_err(|_| Refusal::bad_form("The file can't be written."))??;
    Ok(super::entry::saved(kind, name, written))
}

fn count(entries: usize) -> String {
    if entries == 1 {
        "1 entry".into()
    } else {
        format!("{entries} entries")
    }
}

/// A record read once, sorted.
pub(super) struct Record {
    /// Newest first, without the Patient resource.
    pub(super) entries: Vec<Entry>,
}

impl Record {
    pub(super) fn new(stored: Vec<Stored>) -> Self {
        let mut entries: Vec<Entry> = stored
            .into_iter()
            .filter(|one| one.resource_type != "Patient")
            .map(Entry::new)
            .collect();
        entries.sort_by_cached_key(|entry| std::cmp::Reverse(entry.sort_key()));
        Self { entries }
    }

    /// Current entries of a category: neither ended nor withdrawn, each name once.
    pub(super) fn current(&self, category: Category) -> Vec<&Entry> {
        let mut names = BTreeSet::new();
        self.entries
            .iter()
            .filter(|entry| entry.category == category && is_current(entry))
            .filter(|entry| names.insert(entry.title.clone()))
            .collect()
    }
}

/// Whether a problem, allergy or medicine still counts.
pub(super) fn is_current(entry: &Entry) -> bool {
    let kind = entry.stored.resource_type.as_str();
    match kind {
        "MedicationRequest" | "MedicationStatement" => entry.status() == Some("Active"),
        "Condition" | "AllergyIntolerance" => !matches!(
            entry.status(),
            Some("Resolved" | "Inactive" | "In remission" | "Entered in error")
        ),
        _ => false,
    }
}

async fn timeline(
    portal: &Portal,
    record: &Record,
    shown: &[&Entry],
    patient_number: &str,
) -> Answer<Markup> {
    let visits: BTreeMap<&str, &Entry> = record
        .entries
        .iter()
        .filter(|entry| entry.stored.resource_type == "Encounter")
        .map(|entry| (entry.stored.id.as_str(), entry))
        .collect();
    let mut months: Vec<(String, Vec<Group<'_>>)> = Vec::new();
    // A visit that heads a group is not listed a second time.
    let heads: BTreeSet<&str> = shown.iter().filter_map(|entry| entry.encounter()).collect();
    for entry in shown {
        if entry.stored.resource_type == "Encounter" && heads.contains(entry.stored.id.as_str()) {
            continue;
        }
        let month = entry.month();
        let article = article(portal, entry, patient_number).await?;
        let visit = entry.encounter().and_then(|id| visits.get(id).copied());
        if months.last().is_none_or(|(last, _)| *last != month) {
            months.push((month, Vec::new()));
        }
        let Some((_, groups)) = months.last_mut() else {
            continue;
        };
        let same = |group: &&mut Group<'_>| {
            group.visit.map(|v| &v.stored.id) == visit.map(|v| &v.stored.id)
        };
        match groups.last_mut().filter(same) {
            Some(group) => group.articles.push(article),
            None => groups.push(Group {
                visit,
                articles: vec![article],
            }),
        }
    }
    Ok(html! {
        @for (month, groups) in &months {
            section.month {
                h2 { (capital(&words::date(month))) }
                @for group in groups {
                    @if let Some(visit) = group.visit {
                        div.encounter {
                            h3.quiet-head { a href=(visit.address("/record")) { (visit.title) } ", " (words::date(&visit.when)) }
                            @for article in &group.articles { (article) }
                        }
                    } @else {
                        @for article in &group.articles { (article) }
                    }
                }
            }
        }
    })
}

/// Entries of one visit, or of none.
struct Group<'a> {
    visit: Option<&'a Entry>,
    articles: Vec<Markup>,
}

async fn article(portal: &Portal, entry: &Entry, patient_number: &str) -> Answer<Markup> {
    let stored = &entry.stored;
    let placed = portal
        .service
        .placed(&stored.resource_type, &stored.id, stored.version)?;
    let is_own = placed.is_some_and(|placed| placed.author == placed.log);
    let author = match &placed {
        Some(_) if is_own => "you".to_owned(),
        Some(placed) => portal.name(placed.author).await?.name,
        None => "Not known".into(),
    };
    let state = entry.state();
    let is_withdrawn = entry.status() == Some("Entered in error");
    let inside = html! {
        @match (state, &placed) {
            (Badge::Verified, Some(placed)) => {
                p { "This is exactly what " (author) " recorded on " (moment(placed.at)) " UTC. Nothing has changed since." }
                p { a href=(entry.address("/record")) { "Details and how to check it yourself" } }
            }
            (Badge::DoesNotMatch, _) => {
                p { "What is stored is not what " (author) " recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected." }
                p { "Tell the desk of your hospital or practice, and give them the number of this entry." }
            }
            _ => p { "This entry cannot be checked at the moment. We try again when you open it." }
        }
    };
    Ok(html! {
        article.entry {
            div.what.tight {
                @if state == Badge::DoesNotMatch {
                    h3 { "Entry held back" }
                } @else {
                    h3.struck[is_withdrawn] { a href=(entry.address("/record")) { (entry.title) } }
                }
                p.small.soft {
                    @if entry.when.is_empty() { "Recorded " (day(stored.last_updated)) } @else { (words::date(&entry.when)) }
                    @if !is_own { ". " (author) }
                    @if let Some(placed) = &placed { ". " span.mono { (patient_number) "REC" (placed.number) } }
                }
                @if is_own { p.small { (tag("", "user", "Added by you")) } }
                @if stored.version > 1 { p.small { "Amended, " (stored.version) " versions" } }
            }
            div.value-side {
                @if state == Badge::DoesNotMatch { p { strong { "Held back" } } }
                @else { (value(entry)) }
            }
            (badge(state, &entry.title, false, &inside))
        }
    })
}

/// A number large with its unit small; other values as text; and the state where it matters.
fn value(entry: &Entry) -> Markup {
    html! {
        @if let Some((number, unit)) = number_of(entry) {
            p.value { (rounded(number)) " " small { (unit) } }
        } @else if !entry.shown.is_empty() {
            p { (entry.shown) }
        }
        @if let Some(status) = entry.status() {
            p { (tag(status_look(status).0, status_look(status).1, status)) }
        }
    }
}

/// A numeric value and its unit, which may be empty.
pub(super) fn number_of(entry: &Entry) -> Option<(&str, &str)> {
    let is_number = entry.quantity().is_some() || entry.shown.ends_with(" mmHg");
    is_number.then(|| entry.shown.split_once(' ').unwrap_or((&entry.shown, "")))
}

/// A long number is shown short here; the entry's page has every digit.
pub(super) fn rounded(number: &str) -> String {
    match number.split_once('.') {
        Some((whole, part)) if part.len() > 2 && part.bytes().all(|b| b.is_ascii_digit()) => number
            .parse::<f64>()
            .map_or_else(|_| format!("{whole}.{part}"), |n| format!("{n:.2}")),
        _ => number.to_owned(),
    }
}

pub(super) fn status_look(status: &str) -> (&'static str, &'static str) {
    match status {
        "Active" => ("ok", "circle-check"),
        "Entered in error" => ("", "x"),
        "Preliminary" => ("wait", "hourglass"),
        "Amended" => ("", "pencil"),
        "Stopped" | "Cancelled" => ("", "circle-minus"),
        _ => ("", "check"),
    }
}

/// What waits for the patient: requests for access.
async fn waiting(portal: &Portal, signed: &Signed, patient: PatientId) -> Answer<Markup> {
    let now = portal.service.now();
    let mut asking = Vec::new();
    for request in portal.service.requests_of(&signed.actor, patient)? {
        if request.status == RequestStatus::Open && request.expires > now {
            asking.push(portal.name(request.requester).await?);
        }
    }
    let told = super::emergencies::told(portal, signed, patient, true).await?;
    Ok(html! {
        div #waiting.flow data-live {
            (told)
            @if !asking.is_empty() {
                section.notice aria-labelledby="wait-head" {
                    h2 #wait-head { "Waiting for you" }
                    ul.todo {
                        @for named in &asking {
                            li {
                                strong { (named.name) }
                                @if let Some(what) = &named.what { ", " (what) "," }
                                " asks to see your record. "
                                a href="/access" { "Answer" span.hide { " " (named.name) } }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn filters(asked: &Asked) -> Markup {
    html! {
        form.filters method="get" action="/record" role="search" aria-label="Entries" {
            div.field {
                label for="show" { "Show" }
                select #show name="show" {
                    option value="" { "Health entries" }
                    @for kind in KINDS {
                        option value=(kind.name) selected[kind.name == asked.kind] { (kind.words) }
                    }
                    option value="all" selected[asked.kind == "all"] { "Everything" }
                }
            }
            div.field {
                label for="find" { "Named" }
                input #find type="search" name="find" value=(asked.text) maxlength="100";
            }
            button.btn { "Apply" }
        }
    }
}

fn nothing(asked: &Asked, is_empty: bool) -> Markup {
    html! {
        div.notice.flow {
            @if is_empty {
                p { strong { "Nothing is in your record yet." } }
                p { "Results, medicines and visits appear here as soon as your hospital or practice records them. You do not need to do anything." }
            } @else {
                p { strong { "No entry fits." } }
                p {
                    @if asked.text.is_empty() { "There is nothing of this kind in your record. " } @else { "No entry has a name with “" (asked.text) "”. " }
                    a href="/record" { "Show all health entries" }
                }
            }
        }
    }
}

fn at_a_glance(record: &Record) -> Markup {
    let lists = [
        (
            "Allergies",
            Category::Allergies,
            "No allergy is recorded. That does not mean that you have none.",
        ),
        (
            "Medicines now",
            Category::Medicines,
            "No current medicine is recorded.",
        ),
        (
            "Health problems",
            Category::Problems,
            "No current problem is recorded.",
        ),
    ];
    html! {
        aside.aside aria-label="At a glance" {
            @for (heading, category, none) in lists {
                @let entries = record.current(category);
                section {
                    h2 { (heading) }
                    ul {
                        @if entries.is_empty() { li.soft { (none) } }
                        @for entry in entries.iter().take(GLANCE) {
                            li { a href=(entry.address("/record")) { (entry.title) } }
                        }
                        @if entries.len() > GLANCE {
                            li { (entries.len() - GLANCE) " more in the list" }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_shown_short() {
        assert_eq!(rounded("6.30"), "6.30");
        assert_eq!(rounded("23.456789"), "23.46");
        assert_eq!(rounded("128"), "128");
        assert_eq!(rounded("1.2e5"), "1.2e5");
    }
}
