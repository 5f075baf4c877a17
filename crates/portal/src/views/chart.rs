//! A patient's chart as a clinician sees it: who it is, what matters first, and a panel to add where the patient
//! allows it.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_core::{consent::Permissions, id::PatientId};
use stele_fhir::category::Category;
use stele_service::{
    Error,
    emergency::Opened,
    people::{Demographics, Ended, Listed, Listing},
};

use super::{
    account::number,
    ask::numbered,
    entry::{self, Seen},
    record::{Current, current, number_of, numbers, rounded},
    upload,
    worklist::{about, access, head, sex},
};
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::Portal,
    page::{CARE, Page, Place, icon, tag},
    session::Signed,
    shown::{self, Badge, Entry, born, capital, short_date},
    text,
};

mod add;
mod amend;
mod emergency;
mod order;
mod prescribe;

/// How prescriptions are shown, for the patient's and the pharmacist's pages.
pub(super) mod prescription {
    pub(in crate::views) use super::prescribe::{facts, look, progress};
}

/// Rows of a section before "older".
const ROWS: u32 = 25;
/// Rows of a section's own page.
const PAGE: u32 = 100;
/// Most allergies named above a chart.
const ALLERGIES_MAX: u32 = 100;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/patients/{patient}", get(page))
        .route("/patients/{patient}/add", post(add::add))
        .route("/patients/{patient}/section/{name}", get(whole_section))
        .route(
            "/patients/{patient}/order",
            get(order::page).post(order::place),
        )
        .route(
            "/patients/{patient}/prescribe",
            get(prescribe::page).post(prescribe::prepare),
        )
        .route(
            "/patients/{patient}/prescribe/{draft}",
            get(prescribe::sign).post(prescribe::confirm),
        )
        .route(
            "/patients/{patient}/emergency",
            get(emergency::page).post(emergency::prepare),
        )
        .route("/patients/{patient}/emergency/end", post(emergency::end))
        .route(
            "/patients/{patient}/emergency/{draft}",
            get(emergency::sign).post(emergency::confirm),
        )
        .route(
            "/patients/{patient}/MedicationRequest/{id}/cancel",
            post(prescribe::cancel),
        )
        .route(
            "/patients/{patient}/{type}/{id}/amend",
            get(amend::page).post(amend::amend),
        )
        .route("/patients/{patient}/{type}/{id}", get(one))
        .route("/patients/{patient}/{type}/{id}/proof", get(proof))
        .route("/patients/{patient}/{type}/{id}/fhir", get(fhir))
        .route("/patients/{patient}/{type}/{id}/file", get(file))
}

/// A section of a chart: name, heading, parts of the record.
type Section = (&'static str, &'static str, &'static [Category]);

/// Sections of a chart, in the order in which they matter.
const SECTIONS: &[Section] = &[
    ("problems", message!("Problems"), &[Category::Problems]),
    ("medicines", message!("Medicines"), &[Category::Medicines]),
    ("allergies", message!("Allergies"), &[Category::Allergies]),
    (
        "results",
        message!("Results"),
        &[
            Category::Laboratory,
            Category::Imaging,
            Category::Cardiology,
        ],
    ),
    ("vitals", message!("Vitals"), &[Category::VitalSigns]),
    ("notes", message!("Notes"), &[Category::Documents]),
    ("vaccines", message!("Vaccines"), &[Category::Immunizations]),
    (
        "procedures",
        message!("Procedures"),
        &[Category::Procedures],
    ),
    ("visits", message!("Visits"), &[Category::Encounters]),
];

/// The sections as this look needs them: in an emergency what must not be given comes first.
fn sections(patient: &Patient) -> Vec<&'static Section> {
    let mut sections: Vec<_> = SECTIONS.iter().collect();
    if patient.emergency.is_some() {
        let first = ["allergies", "medicines", "problems"];
        sections.sort_by_key(|(name, ..)| {
            first
                .iter()
                .position(|one| one == name)
                .unwrap_or(first.len())
        });
    }
    sections
}

/// A patient whose record the clinician may see something of.
struct Patient {
    id: PatientId,
    number: String,
    demographics: Option<Demographics>,
    may_see: Vec<Category>,
    may_add: Vec<Category>,
    /// What opened the record, where an emergency did.
    emergency: Option<Opened>,
}

impl Patient {
    /// The patient as far as the person may see; nobody where nothing is open. While an emergency of this person lasts,
    /// the person acts for emergency treatment from here on.
    async fn of(portal: &Portal, signed: &mut Signed, text: &str) -> Answer<Option<Self>> {
        signed.require(CARE)?;
        let id = numbered(portal, text)?.ok_or_else(Refusal::not_found)?;
        let service = &portal.service;
        let actor = signed.actor.clone();
        let parts = |permission| match service.open_parts(&actor, id, permission) {
            Ok(parts) => Ok(parts),
            // The patient keeps their own keys, or is another node's.
            Err(Error::NotSupported { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let (mut may_see, may_add) = (parts(Permissions::READ)?, parts(Permissions::WRITE)?);
        let mut emergency = None;
        if may_see.is_empty() {
            emergency = service.open_emergency(&signed.actor, id)?;
        }
        if emergency.is_some() {
            signed.actor = signed.actor.in_emergency();
            may_see = service.open_parts(&signed.actor, id, Permissions::READ)?;
        }
        if may_see.is_empty() && may_add.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            demographics: service.demographics(&signed.actor, id).await.ok(),
            number: number(portal, id)?,
            id,
            may_see,
            may_add,
            emergency,
        }))
    }

    fn address(&self) -> String {
        format!("/patients/{}", self.number)
    }
}

/// A row without access leads to "Ask the patient", never to an error that says whether there is a record.
fn no_access(portal: &Portal, signed: &Signed, text: &str) -> Response {
    let main = html! {
        div.flow {
            h1 { (text!("You have no access to this record")) }
            p { (text!("The patient has not allowed it, or has stopped it. If you need it, ask the patient.")) }
            div.actions {
                a.btn.primary href={ "/ask?patient=" (form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()) } { (text!("Ask the patient")) }
                a.btn href="/worklist" { (text!("Back to the worklist")) }
            }
            (emergency::offer(portal, signed, text))
        }
    };
    let page = Page::new(text!("No access"), main)
        .at(Place::Worklist)
        .narrow()
        .render(Some(signed));
    (http::StatusCode::FORBIDDEN, page).into_response()
}

/// `GET /patients/{patient}`
async fn page(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let entered = add::Entered::of_draft(&portal, &signed, &patient)?;
    render(&portal, &signed, &patient, &entered).await
}

async fn render(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    entered: &add::Entered,
) -> Answer {
    let (sections, allergies) = opened(portal, signed, patient).await?;
    let address = patient.address();
    let hidden = Category::ALL
        .into_iter()
        .any(|one| !one.is_sensitive() && !patient.may_see.contains(&one));
    let main = html! {
        h1.hide { (text!("Chart")) }
        (entered.summary())
        @if let Some(open) = &patient.emergency { (emergency::banner(signed, &address, open)) }
        div.chart-grid {
            nav.side aria-label=(text!("Sections")) { ul {
                @for ((name, words, _), listed) in &sections {
                    li { a href={ "#" (name) } { (text::of(words)) " " span.n { (listed.total.unwrap_or_default()) } } }
                }
            } }
            div.flow.sections #chart data-live {
                @if hidden {
                    p.small.soft { (rich!("Some parts are not shared with you. {ask_the_patient}", ask_the_patient = html! { a href={ "/ask?patient=" (patient.number) } { (text!("Ask the patient")) } })) }
                }
                @for ((name, words, _), listed) in &sections {
                    (section(name, words, listed, &address))
                }
            }
            @if patient.may_add.is_empty() {
                section.panel.flow aria-labelledby="ep" {
                    h2 #ep { (text!("Add to this chart")) }
                    p { (text!("The patient lets you see, not add.")) }
                    p { a href={ "/ask?patient=" (patient.number) } { (text!("Ask the patient")) } }
                }
            } @else {
                div.flow.sections {
                    @if prescribe::may_prescribe(signed, patient) {
                        p { a.btn.primary href={ (address) "/prescribe" } { (icon("pill")) " " (text!("Prescribe a medicine")) } }
                    }
                    @if order::may_order(signed, patient) {
                        p { a.btn href={ (address) "/order" } { (icon("plus")) " " (text!("Order a test")) } }
                    }
                    (add::panel(signed, patient, entered))
                }
            }
        }
    };
    Ok(Page::new(text!("Chart"), main)
        .at(Place::Worklist)
        .under(banner(portal, signed, patient, &allergies)?)
        .render(Some(signed))
        .into_response())
}

/// What a section lists, newest first; of medicines and the like the current ones before those that ended.
fn listing(patient: PatientId, categories: &[Category], limit: u32) -> Listing {
    let ends = [Category::Problems, Category::Medicines, Category::Allergies];
    Listing {
        categories: numbers(categories),
        // The content of a file is behind the entry that names it.
        without: vec!["Binary", "Patient"],
        ended: if categories.iter().any(|one| ends.contains(one)) {
            Ended::Last
        } else {
            Ended::Among
        },
        counted: true,
        ..Listing::of(patient, limit)
    }
}

/// The sections and the names of the allergies, at one look.
async fn opened(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
) -> Answer<(Vec<(&'static Section, Listed)>, Vec<String>)> {
    let sections = sections(patient);
    let mut listings: Vec<Listing> = sections
        .iter()
        .map(|(_, _, categories)| listing(patient.id, categories, ROWS))
        .collect();
    listings.push(current(patient.id, Category::Allergies, ALLERGIES_MAX));
    let mut lists = portal.service.list(&signed.actor, listings).await?;
    let allergies = lists.pop().unwrap_or_default();
    Ok((
        sections.into_iter().zip(lists).collect(),
        Current::new(allergies).titles(),
    ))
}

/// `GET /patients/{patient}/section/{name}`: all of one section, page by page.
async fn whole_section(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let (name, heading, categories) = SECTIONS
        .iter()
        .find(|(one, ..)| *one == name)
        .ok_or_else(Refusal::not_found)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let mut asked = listing(patient.id, categories, PAGE);
    asked.after = Some(fields.text("older").to_owned()).filter(|older| !older.is_empty());
    let is_later = asked.after.is_some();
    let lists = portal.service.list(&signed.actor, vec![asked]).await?;
    let listed = lists.into_iter().next().unwrap_or_default();
    let address = patient.address();
    let here = format!("{address}/section/{name}");
    let main = html! {
        a.back href=(address) { (text!("Back to the chart")) }
        div.flow.sections {
            h1 { (text::of(heading)) }
            p.soft { (plural!(listed.total.unwrap_or_default(), "1 entry", "{count} entries")) }
            (rows(heading, &listed, &address))
            @if is_later || listed.next.is_some() {
                nav.actions aria-label=(text!("Pages")) {
                    @if is_later { a.btn href=(here) { (text!("Show the newest entries")) } }
                    @if let Some(next) = &listed.next { a.btn href={ (here) "?older=" (next) } { (text!("Show older entries")) } }
                }
            }
        }
    };
    Ok(Page::new(text!("Chart"), main)
        .at(Place::Worklist)
        .under(short_banner(&portal, &patient))
        .render(Some(&signed))
        .into_response())
}

/// Always in view: who this is, and what must not be overlooked. A missing list is not an empty one.
fn banner(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    allergies: &[String],
) -> Answer<Markup> {
    let now = portal.service.now();
    let own = portal
        .service
        .grants_held(&signed.actor)?
        .into_iter()
        .find(|grant| grant.patient == patient.id && grant.is_live(now));
    Ok(html! {
        div.patient role="region" aria-label=(text!("Patient")) { div {
            p.who { @match &patient.demographics { Some(found) => (found.listed), None => (text!("Name not shared")) } }
            dl {
                @if let Some(found) = &patient.demographics {
                    div { dt { (text!("Born")) } dd { span.nowrap { (born(&found.born, now)) } } }
                    div { dt { (text!("Sex")) } dd { (sex(&found.sex)) } }
                }
                div { dt { (text!("No.")) } dd.mono { (patient.number) } }
            }
            @if !patient.may_see.contains(&Category::Allergies) {
                p.alert.state.wait { (icon("triangle-alert")) " " (text!("Allergies not shared with you")) }
            } @else if allergies.is_empty() {
                p.alert.state { (icon("circle-dashed")) " " (text!("Allergies not recorded")) }
            } @else {
                p.alert.state.bad { (icon("triangle-alert")) " " (rich!("Allergy: {list}", list = allergies.join(", "))) }
            }
            p {
                @match own {
                    Some(grant) => (access(&grant, now)),
                    None => (tag("ok", "circle-check", &text!("Through {organization}", organization = signed.organization))),
                }
            }
        } }
    })
}

/// Who this is, on pages beside the chart.
fn short_banner(portal: &Portal, patient: &Patient) -> Markup {
    html! {
        div.patient role="region" aria-label=(text!("Patient")) { div {
            p.who { @match &patient.demographics { Some(found) => (found.listed), None => (text!("Name not shared")) } }
            p { (about(patient.demographics.as_ref(), portal.service.now())) }
        } }
    }
}

fn section(name: &str, heading: &'static str, listed: &Listed, address: &str) -> Markup {
    let older = listed
        .total
        .unwrap_or_default()
        .saturating_sub(u64::from(ROWS));
    html! {
        section id=(name) tabindex="-1" {
            h2 { (text::of(heading)) }
            @if listed.entries.is_empty() {
                p.soft { (text!("None recorded that you may see.")) }
            } @else {
                (rows(heading, listed, address))
                @if older > 0 {
                    p { a href={ (address) "/section/" (name) } { (rich!("{others} older", others = older)) } }
                }
            }
        }
    }
}

fn rows(heading: &'static str, listed: &Listed, address: &str) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { (text::of(heading)) }
            (head(&[text!("What"), text!("Value"), text!("Date"), text!("State")]))
            tbody role="rowgroup" {
                @for stored in &listed.entries { (row(&Entry::new(stored.clone()), address)) }
            }
        }
    }
}

fn row(entry: &Entry, address: &str) -> Markup {
    let (kind, picture, word) = entry.state().look();
    let is_held_back = entry.state() == Badge::DoesNotMatch;
    let shown = match number_of(entry) {
        Some((number, unit)) => format!("{} {unit}", rounded(number)),
        None => entry.shown.clone(),
    };
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                @if is_held_back { (text!("Entry held back")) } @else {
                    a.struck[entry.status() == Some("Entered in error")] href=(entry.address(address)) { (capital(&entry.title)) }
                }
            }
            td role="cell" data-label=(text!("Value")) {
                (shown)
                @if let Some(status) = entry.status() { " " span.soft { (shown::status(status)) } }
            }
            td role="cell" data-label=(text!("Date")) { span.nowrap { (short_date(&entry.sort_key())) } }
            td role="cell" data-label=(text!("State")) { span class={ "state small " (kind) } { (icon(picture)) span { (word) } } }
        }
    }
}

/// `GET /patients/{patient}/{type}/{id}`
async fn one(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, resource_type, id)): Path<(String, String, String)>,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let address = patient.address();
    let seen = Seen {
        patient: patient.id,
        address: &address,
        back: text!("Back to the chart"),
        heading: text!("An entry of the chart"),
        acts: &|entry| amend::offer(&patient, entry),
    };
    let shown = entry::show(&portal, &signed, &seen, &resource_type, &id).await?;
    let standing = match resource_type.as_str() {
        "MedicationRequest" => prescribe::standing(&portal, &signed, &patient, &id).await?,
        _ => html! {},
    };
    let main = html! { (shown) (standing) };
    Ok(Page::new(text!("An entry of a chart"), main)
        .at(Place::Worklist)
        .under(short_banner(&portal, &patient))
        .render(Some(&signed))
        .into_response())
}

/// `GET /patients/{patient}/{type}/{id}/proof`
async fn proof(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((_, resource_type, id)): Path<(String, String, String)>,
) -> Answer {
    signed.require(CARE)?;
    entry::proof_file(&portal, &signed, &resource_type, &id).await
}

/// `GET /patients/{patient}/{type}/{id}/fhir`
async fn fhir(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((_, resource_type, id)): Path<(String, String, String)>,
) -> Answer {
    signed.require(CARE)?;
    entry::fhir_file(&portal, &signed, &resource_type, &id).await
}

/// `GET /patients/{patient}/{type}/{id}/file`
async fn file(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, resource_type, id)): Path<(String, String, String)>,
) -> Answer {
    // For an emergency's sake: who opened the record in one acts for emergency treatment.
    if Patient::of(&portal, &mut signed, &text).await?.is_none() {
        return Ok(no_access(&portal, &signed, &text));
    }
    upload::download(&portal, &signed, &resource_type, &id).await
}
