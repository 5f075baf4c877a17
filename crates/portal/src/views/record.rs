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
use stele_fhir::category::Category;
use stele_service::{Stored, grants::RequestStatus};

use super::account::number;
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::{ExportForm, Portal},
    page::{Page, Place, Rendered, icon, tag},
    session::Signed,
    shown::{self, Badge, Entry, badge, capital, date, day, moment},
    text,
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
        words: message!("Test results"),
        categories: &[
            Category::Laboratory,
            Category::Imaging,
            Category::Cardiology,
        ],
    },
    Kind {
        name: "vitals",
        words: message!("Measurements"),
        categories: &[Category::VitalSigns],
    },
    Kind {
        name: "medicines",
        words: message!("Medicines"),
        categories: &[Category::Medicines],
    },
    Kind {
        name: "problems",
        words: message!("Health problems"),
        categories: &[Category::Problems],
    },
    Kind {
        name: "allergies",
        words: message!("Allergies"),
        categories: &[Category::Allergies],
    },
    Kind {
        name: "vaccines",
        words: message!("Vaccines"),
        categories: &[Category::Immunizations],
    },
    Kind {
        name: "visits",
        words: message!("Visits"),
        categories: &[Category::Encounters],
    },
    Kind {
        name: "treatments",
        words: message!("Operations and treatments"),
        categories: &[Category::Procedures],
    },
    Kind {
        name: "documents",
        words: message!("Letters and notes"),
        categories: &[Category::Documents],
    },
    Kind {
        name: "bills",
        words: message!("Bills and insurance"),
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
                        h1 { (text!("Your record")) }
                        p.soft { (rich!(
                            "{count}, newest first{pages}",
                            count = count(chosen.len()),
                            pages = html! { @if pages > 1 { (rich!(", page {at} of {pages}", at, pages)) } },
                        )) }
                    }
                    a.btn href="/record/add" { (icon("plus")) " " (text!("Add an entry")) }
                }
                (waiting(&portal, &signed, patient).await?)
                (filters(&asked))
                div #timeline data-live {
                    @if shown.is_empty() { (nothing(&asked, record.entries.is_empty())) }
                    (timeline)
                }
                @if pages > 1 {
                    nav.actions aria-label=(text!("Pages")) {
                        @if at > 1 { a.btn href=(asked.address(at - 1)) { (text!("Show newer entries")) } }
                        @if at < pages { a.btn href=(asked.address(at + 1)) { (text!("Show older entries")) } }
                    }
                }
            }
            (at_a_glance(&record))
        }
    };
    Ok(Page::new(text!("Your record"), main)
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
    super::keys::require_managed(&signed, text!("Its page puts the file together there."))?;
    let id = portal
        .service
        .demographics(&signed.actor, patient)
        .await?
        .id;
    let collected = portal.service.collect(&signed.actor, &id).await?;
    let export = Arc::clone(&portal.export);
    let written = tokio::task::spawn_blocking(move || export(collected, form))
        .await
        .map_err(|_| Refusal::bad_form(text!("The file can't be written.")))??;
    Ok(super::entry::saved(kind, name, written))
}

fn count(entries: usize) -> String {
    plural!(entries, "1 entry", "{count} entries")
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
                h2 { (capital(&date(month))) }
                @for group in groups {
                    @if let Some(visit) = group.visit {
                        div.encounter {
                            h3.quiet-head { a href=(visit.address("/record")) { (visit.title) } ", " (date(&visit.when)) }
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
        Some(_) if is_own => text!("you").to_owned(),
        Some(placed) => portal.name(placed.author).await?.name,
        None => text!("Not known").into(),
    };
    let state = entry.state();
    let is_withdrawn = entry.status() == Some("Entered in error");
    let inside = html! {
        @match (state, &placed) {
            (Badge::Verified, Some(placed)) => {
                p {
                    @if is_own { (text!("This is exactly what you recorded on {moment} UTC. Nothing has changed since.", moment = moment(placed.at))) }
                    @else { (text!("This is exactly what {author} recorded on {moment} UTC. Nothing has changed since.", author, moment = moment(placed.at))) }
                }
                p { a href=(entry.address("/record")) { (text!("Details and how to check it yourself")) } }
            }
            (Badge::DoesNotMatch, _) => {
                p {
                    @if is_own { (text!("What is stored is not what you recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected.")) }
                    @else { (text!("What is stored is not what {author} recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected.", author)) }
                }
                p { (text!("Tell the desk of your hospital or practice, and give them the number of this entry.")) }
            }
            _ => p { (text!("This entry cannot be checked at the moment. We try again when you open it.")) }
        }
    };
    Ok(html! {
        article.entry {
            div.what.tight {
                @if state == Badge::DoesNotMatch {
                    h3 { (text!("Entry held back")) }
                } @else {
                    h3.struck[is_withdrawn] { a href=(entry.address("/record")) { (entry.title) } }
                }
                p.small.soft {
                    @if entry.when.is_empty() { (rich!("Recorded {day}", day = day(stored.last_updated))) } @else { (date(&entry.when)) }
                    @if !is_own { ". " (author) }
                    @if let Some(placed) = &placed { ". " span.mono { (patient_number) "REC" (placed.number) } }
                }
                @if is_own { p.small { (tag("", "user", text!("Added by you"))) } }
                @if stored.version > 1 { p.small { (rich!("Amended, {version} versions", version = stored.version)) } }
            }
            div.value-side {
                @if state == Badge::DoesNotMatch { p { strong { (text!("Held back")) } } }
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
            p { (tag(status_look(status).0, status_look(status).1, shown::status(status))) }
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
    let short = match number.split_once(['.', ',']) {
        Some((whole, part)) if part.len() > 2 && part.bytes().all(|b| b.is_ascii_digit()) => {
            let plain = format!("{whole}.{part}");
            plain.parse::<f64>().map_or(plain, |n| format!("{n:.2}"))
        }
        _ => number.to_owned(),
    };
    text::decimal(&short)
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
                    h2 #wait-head { (text!("Waiting for you")) }
                    ul.todo {
                        @for named in &asking {
                            li {
                                (rich!(
                                    "{name}{calling} asks to see your record.",
                                    name = html! { strong { (named.name) } },
                                    calling = html! { @if let Some(what) = &named.what { ", " (what) "," } },
                                )) " "
                                a href="/access" { (text!("Answer")) span.hide { " " (named.name) } }
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
        form.filters method="get" action="/record" role="search" aria-label=(text!("Entries")) {
            div.field {
                label for="show" { (text!("Show")) }
                select #show name="show" {
                    option value="" { (text!("Health entries")) }
                    @for kind in KINDS {
                        option value=(kind.name) selected[kind.name == asked.kind] { (text::of(kind.words)) }
                    }
                    option value="all" selected[asked.kind == "all"] { (text!("Everything")) }
                }
            }
            div.field {
                label for="find" { (text!("Named")) }
                input #find type="search" name="find" value=(asked.text) maxlength="100";
            }
            button.btn { (text!("Apply")) }
        }
    }
}

fn nothing(asked: &Asked, is_empty: bool) -> Markup {
    html! {
        div.notice.flow {
            @if is_empty {
                p { strong { (text!("Nothing is in your record yet.")) } }
                p { (text!("Results, medicines and visits appear here as soon as your hospital or practice records them. You do not need to do anything.")) }
            } @else {
                p { strong { (text!("No entry fits.")) } }
                p {
                    @if asked.text.is_empty() { (text!("There is nothing of this kind in your record.")) " " } @else { (rich!("No entry has a name with “{text}”.", text = asked.text)) " " }
                    a href="/record" { (text!("Show all health entries")) }
                }
            }
        }
    }
}

fn at_a_glance(record: &Record) -> Markup {
    let lists = [
        (
            text!("Allergies"),
            Category::Allergies,
            text!("No allergy is recorded. That does not mean that you have none."),
        ),
        (
            text!("Medicines now"),
            Category::Medicines,
            text!("No current medicine is recorded."),
        ),
        (
            text!("Health problems"),
            Category::Problems,
            text!("No current problem is recorded."),
        ),
    ];
    html! {
        aside.aside aria-label=(text!("At a glance")) {
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
                            li { (plural!(entries.len() - GLANCE, "1 more in the list", "{count} more in the list")) }
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
