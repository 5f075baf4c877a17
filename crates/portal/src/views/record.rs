//! The patient's record: newest first by clinical date, by month and visit.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::{RawQuery, State},
    routing::get,
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_fhir::{category::Category, search::begin_ms};
use stele_service::{
    grants::RequestStatus,
    people::{Ended, Listed, Listing},
};

use super::account::number;
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::{ExportForm, Portal},
    page::{Page, Place, Rendered, icon},
    session::Signed,
    shown::Entry,
    text,
};

mod timeline;

/// Entries on one page.
const PAGE: u32 = 50;
/// Entries with a name that was asked for, before a page of the index is not followed by another one.
const LEAST: usize = 25;
/// Pages of the index that one look goes through for a name: the index knows most names, so the first is mostly enough.
const ROUNDS_MAX: usize = 20;
/// Lines of a list at the side.
const GLANCE: u32 = 8;
/// What the lists at the side are of.
const AT_A_GLANCE: [Category; 3] = [Category::Allergies, Category::Medicines, Category::Problems];
const DAY_MS: i64 = 86_400_000;

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
    /// First and last day, as typed.
    from: String,
    until: String,
    /// Where the page begins: the end of the one before.
    older: Option<String>,
}

impl Asked {
    fn parse(query: Option<String>) -> Self {
        let fields = Fields::parse(query.unwrap_or_default().as_bytes());
        let older = fields.text("older");
        Self {
            kind: fields.text("show").to_owned(),
            text: fields.text("find").to_owned(),
            from: fields.text("from").to_owned(),
            until: fields.text("until").to_owned(),
            older: (!older.is_empty()).then(|| older.to_owned()),
        }
    }

    /// What the index is asked for.
    fn listing(&self, patient: PatientId) -> Answer<Listing> {
        let kind = KINDS.iter().find(|kind| kind.name == self.kind);
        let is_all = self.kind == "all";
        let categories = match kind {
            Some(kind) => numbers(kind.categories),
            None if is_all => Vec::new(),
            None => Category::ALL
                .into_iter()
                .filter(|one| !PAPERWORK.contains(one))
                .map(Category::number)
                .collect(),
        };
        // The content of a file is behind the entry that names it.
        let without = if is_all {
            vec!["Patient"]
        } else {
            vec!["Patient", "Binary"]
        };
        Ok(Listing {
            categories,
            without,
            named: self.text.clone(),
            from_ms: midnight(&self.from)?,
            until_ms: midnight(&self.until)?.map(|at| at.saturating_add(DAY_MS)),
            counted: self.text.is_empty(),
            after: self.older.clone(),
            ..Listing::of(patient, PAGE)
        })
    }

    /// Whether an entry has the words that were asked for in its name.
    fn names(&self, entry: &Entry) -> bool {
        self.text.is_empty()
            || entry
                .title
                .to_lowercase()
                .contains(&self.text.to_lowercase())
    }

    fn is_everyday(&self) -> bool {
        [&self.kind, &self.text, &self.from, &self.until]
            .iter()
            .all(|one| one.is_empty())
    }

    fn address(&self, older: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("show", self.kind.as_str()),
            ("find", &self.text),
            ("from", &self.from),
            ("until", &self.until),
            ("older", older.unwrap_or_default()),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        if query.is_empty() {
            "/record".to_owned()
        } else {
            format!("/record?{query}")
        }
    }
}

/// Numbers of categories, as the index knows them.
pub(super) fn numbers(categories: &[Category]) -> Vec<u8> {
    categories.iter().map(|one| one.number()).collect()
}

/// When a typed day begins; nothing for an empty field.
fn midnight(typed: &str) -> Answer<Option<i64>> {
    if typed.is_empty() {
        return Ok(None);
    }
    begin_ms(typed)
        .filter(|_| typed.len() == "2026-06-30".len())
        .map(Some)
        .ok_or_else(|| Refusal::bad_form(text!("Enter a date, for example 2026-06-30")))
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
    let Looked {
        shown,
        visits,
        total,
        older,
        glance,
    } = look(&portal, &signed, patient, &asked).await?;
    let patient_number = number(&portal, patient)?;
    let timeline = timeline::timeline(&portal, &shown, &visits, &patient_number).await?;
    let nothing = if shown.is_empty() {
        Some(nothing(&portal, &signed, patient, &asked).await?)
    } else {
        None
    };
    let main = html! {
        div.columns {
            div.flow {
                div.page-head {
                    div.tight {
                        h1 { (text!("Your record")) }
                        p.soft {
                            @match total {
                                Some(total) => (rich!("{count}, newest first", count = count(total))),
                                None => (text!("Newest first")),
                            }
                        }
                    }
                    a.btn href="/record/add" { (icon("plus")) " " (text!("Add an entry")) }
                }
                (waiting(&portal, &signed, patient).await?)
                (filters(&asked))
                div #timeline data-live {
                    @if let Some(nothing) = nothing { (nothing) }
                    (timeline)
                }
                @if older.is_some() || asked.older.is_some() {
                    nav.actions aria-label=(text!("Pages")) {
                        @if asked.older.is_some() { a.btn href=(asked.address(None)) { (text!("Show the newest entries")) } }
                        @if let Some(older) = &older { a.btn href=(asked.address(Some(older))) { (text!("Show older entries")) } }
                    }
                }
            }
            (at_a_glance(&glance))
        }
    };
    Ok(Page::new(text!("Your record"), main)
        .at(Place::Record)
        .render(Some(&signed)))
}

/// What one look at a record opened.
struct Looked {
    shown: Vec<Entry>,
    visits: Vec<Entry>,
    /// Number of entries that were asked for; unknown where they were asked for by name.
    total: Option<u64>,
    /// Where the next page begins.
    older: Option<String>,
    glance: Vec<Current>,
}

/// Opens a page of the record, and the lists at its side, at one look.
async fn look(
    portal: &Portal,
    signed: &Signed,
    patient: PatientId,
    asked: &Asked,
) -> Answer<Looked> {
    let listing = asked.listing(patient)?;
    let mut listings = vec![listing.clone()];
    listings.extend(AT_A_GLANCE.map(|category| current(patient, category, GLANCE)));
    let mut lists = portal
        .service
        .list(&signed.actor, listings)
        .await?
        .into_iter();
    let mut page = lists.next().unwrap_or_default();
    let glance = lists.map(Current::new).collect();
    let total = page.total;
    let (mut shown, mut visits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        shown.extend(
            page.entries
                .drain(..)
                .map(Entry::new)
                .filter(|entry| asked.names(entry)),
        );
        visits.extend(page.encounters.drain(..).map(Entry::new));
        if shown.len() >= LEAST || page.next.is_none() || asked.text.is_empty() {
            break;
        }
        let next = Listing {
            after: page.next.take(),
            ..listing.clone()
        };
        let lists = portal.service.list(&signed.actor, vec![next]).await?;
        page = lists.into_iter().next().unwrap_or_default();
    }
    Ok(Looked {
        shown,
        visits,
        total,
        older: page.next,
        glance,
    })
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

fn count(entries: u64) -> String {
    plural!(entries, "1 entry", "{count} entries")
}

/// What lasts of a category: neither ended nor withdrawn, each name once.
pub(super) fn current(patient: PatientId, category: Category, most: u32) -> Listing {
    Listing {
        categories: vec![category.number()],
        ended: Ended::LeftOut,
        once: true,
        ..Listing::of(patient, most)
    }
}

/// What [`current`] gave, opened.
pub(super) struct Current {
    /// Newest first, each name once.
    pub(super) entries: Vec<Entry>,
    /// How many more there are that were not opened.
    more: u64,
}

impl Current {
    pub(super) fn new(listed: Listed) -> Self {
        let opened = listed.entries.len() as u64;
        let mut names = BTreeSet::new();
        Self {
            entries: listed
                .entries
                .into_iter()
                .map(Entry::new)
                .filter(|entry| names.insert(entry.title.clone()))
                .collect(),
            more: listed.total.unwrap_or_default().saturating_sub(opened),
        }
    }

    /// What the entries are called.
    pub(super) fn titles(&self) -> Vec<String> {
        self.entries.iter().map(|one| one.title.clone()).collect()
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
            div.field {
                label for="from" { (text!("From day")) }
                input #from type="date" name="from" value=(asked.from);
            }
            div.field {
                label for="until" { (text!("To day")) }
                input #until type="date" name="until" value=(asked.until);
            }
            button.btn { (text!("Apply")) }
        }
    }
}

/// Why a page is empty.
async fn nothing(
    portal: &Portal,
    signed: &Signed,
    patient: PatientId,
    asked: &Asked,
) -> Answer<Markup> {
    let whole = Listing {
        without: vec!["Patient"],
        counted: true,
        ..Listing::of(patient, 0)
    };
    let lists = portal.service.list(&signed.actor, vec![whole]).await?;
    let is_empty = lists.iter().all(|one| one.total == Some(0));
    Ok(html! {
        div.notice.flow {
            @if is_empty {
                p { strong { (text!("Nothing is in your record yet.")) } }
                p { (text!("Results, medicines and visits appear here as soon as your hospital or practice records them. You do not need to do anything.")) }
            } @else {
                p { strong { (text!("No entry fits.")) } }
                p {
                    @if asked.text.is_empty() { (text!("There is nothing of this kind in your record.")) " " } @else { (rich!("No entry has a name with “{text}”.", text = asked.text)) " " }
                    @if !asked.is_everyday() { a href="/record" { (text!("Show all health entries")) } }
                }
            }
        }
    })
}

fn at_a_glance(lists: &[Current]) -> Markup {
    let words = [
        (
            text!("Allergies"),
            text!("No allergy is recorded. That does not mean that you have none."),
        ),
        (
            text!("Medicines now"),
            text!("No current medicine is recorded."),
        ),
        (
            text!("Health problems"),
            text!("No current problem is recorded."),
        ),
    ];
    html! {
        aside.aside aria-label=(text!("At a glance")) {
            @for ((heading, none), list) in words.into_iter().zip(lists) {
                section {
                    h2 { (heading) }
                    ul {
                        @if list.entries.is_empty() { li.soft { (none) } }
                        @for entry in &list.entries {
                            li { a href=(entry.address("/record")) { (entry.title) } }
                        }
                        @if list.more > 0 {
                            li { (plural!(list.more, "1 more in the list", "{count} more in the list")) }
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
