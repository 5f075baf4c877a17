//! What patients add themselves: blood pressure, weight, a note. It is signed by the patient's own account and marked so.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use maud::{Markup, html};
use serde_json::{Value, json};
use stele_core::time::Timestamp;
use stele_fhir::parse;
use stele_service::Write;

use super::keys;
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field_error, icon},
    session::Signed,
    text,
};

/// Longest note, in characters.
const NOTE_MAX: usize = 2_000;
const LOINC: &str = "http://loinc.org";

mod correct;

pub(super) use correct::{correctable, mistake};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/record/add", get(choose))
        .route("/record/add/{kind}", get(page).post(add))
        .merge(correct::routes())
}

/// What can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pressure,
    Weight,
    Feeling,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Pressure, Self::Weight, Self::Feeling];

    const fn name(self) -> &'static str {
        match self {
            Self::Pressure => "blood-pressure",
            Self::Weight => "weight",
            Self::Feeling => "how-i-feel",
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pressure => (text!("Blood pressure"), text!("Add a blood pressure")),
            Self::Weight => (text!("Weight"), text!("Add your weight")),
            Self::Feeling => (text!("How I feel"), text!("Write how you feel")),
        }
    }

    fn parse(name: &str) -> Answer<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(Refusal::not_found)
    }
}

/// The patient whose entries come here to be sealed. What a patient who holds the keys adds is sealed in the browser, so
/// nothing that can be read must be sent here.
pub(super) fn writer(signed: &Signed) -> Answer<stele_core::id::PatientId> {
    keys::require_managed(
        signed,
        text!("What you add is locked in your browser, which needs scripts. Load the page again."),
    )?;
    signed.patient()
}

/// `GET /record/add`
async fn choose(signed: Signed) -> Answer<Rendered> {
    signed.patient()?;
    let main = html! {
        a.back href="/record" { (text!("Back to your record")) }
        h1 { (text!("What do you want to add?")) }
        ul.rows {
            @for kind in Kind::ALL {
                li { a.h3 href={ "/record/add/" (kind.name()) } { (kind.words().0) } }
            }
            li { a.h3 href="/record/add/file" { (text!("A photo, a letter or another file")) } }
        }
    };
    Ok(Page::new(text!("Add an entry"), main)
        .at(Place::Record)
        .narrow()
        .render(Some(&signed)))
}

/// `GET /record/add/{kind}`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(kind): Path<String>,
) -> Answer<Rendered> {
    signed.patient()?;
    let today = today(portal.service.now());
    let given = Fields::parse(format!("when={today}").as_bytes());
    let kind = Kind::parse(&kind)?;
    let sealing = if signed.holds_keys {
        Some(keys::sealing(&portal, &signed)?)
    } else {
        None
    };
    Ok(form(
        &signed,
        kind,
        &given,
        &today,
        &[],
        &Asked::Add { sealing },
    ))
}

/// What a form is for.
enum Asked<'a> {
    /// A new entry; with what seals it, where the browser does.
    Add { sealing: Option<Markup> },
    /// An entry that is there already: where it is, and its version.
    Correct { entry: &'a str, version: u32 },
}

/// What numbers a field takes, and its words in a sentence.
fn range(name: &str) -> Option<(f64, f64, &'static str)> {
    Some(match name {
        "upper" => (50.0, 300.0, text!("the upper number")),
        "lower" => (20.0, 250.0, text!("the lower number")),
        "weight" => (1.0, 500.0, text!("your weight in kilograms")),
        _ => return None,
    })
}

/// What is said of a number out of its range.
fn out_of_range(name: &str) -> Option<String> {
    let (from, to, words) = range(name)?;
    Some(text!(
        "Enter {words}, between {from} and {to}",
        words,
        from,
        to
    ))
}

pub(super) type Problems<'a> = &'a [(&'static str, String)];

/// The form of an entry. One that the browser seals has nowhere to be sent to, and its button waits for the script.
fn form(
    signed: &Signed,
    kind: Kind,
    given: &Fields,
    today: &str,
    problems: Problems<'_>,
    asked: &Asked<'_>,
) -> Rendered {
    let (there, sealing) = match asked {
        Asked::Add { sealing } => (None, sealing.as_ref()),
        Asked::Correct { entry, version } => (Some((*entry, *version)), None),
    };
    let is_sent = sealing.is_none();
    let heading = there.map_or(kind.words().1, |_| text!("Correct this entry"));
    let action = there.map_or_else(
        || format!("/record/add/{}", kind.name()),
        |(entry, _)| format!("{entry}/correct"),
    );
    let field = |name: &str, label: &str, hint: &str, unit: &str| {
        let error = field_error(problems, name);
        let described = if error.is_some() {
            format!("{name}-h {name}-e")
        } else {
            format!("{name}-h")
        };
        html! {
            div.field.invalid[error.is_some()] {
                label for=(name) { (label) }
                p.hint id={ (name) "-h" } { (hint) }
                @if let Some(error) = &error { (error) }
                input.w-s id=(name) name=(name) value=(given.text(name)) inputmode="decimal" maxlength="10" autocomplete="off"
                    data-from=[range(name).map(|(from, ..)| from)] data-to=[range(name).map(|(_, to, _)| to)]
                    data-problem=[out_of_range(name)] data-below=[(name == "lower").then_some("upper")]
                    data-above=[(name == "lower").then(|| text!("Enter a lower number that is below the upper one"))]
                    aria-invalid=[error.is_some().then_some("true")] aria-describedby=(described);
                @if !unit.is_empty() { span.hide { (unit) } }
            }
        }
    };
    let main = html! {
        a.back href=(there.map_or("/record/add", |(entry, _)| entry)) { (text!("Back")) }
        (errors(problems))
        form.flow method=[is_sent.then_some("post")] action=[is_sent.then_some(action)] novalidate
            data-seal=[sealing.map(|_| kind.name())] {
            @if is_sent { (csrf(signed)) }
            @if let Some((_, version)) = there { input type="hidden" name="version" value=(version); }
            h1 { (heading) }
            @if there.is_some() { p { (text!("The entry as it was stays in your record as an earlier version.")) } }
            @else { p { (text!("It will be marked “Added by you”. People who can see this part of your record will see it too.")) } }
            @match kind {
                Kind::Pressure => {
                    (field("upper", text!("Upper number (systolic)"), text!("In mmHg, for example 128"), "mmHg"))
                    (field("lower", text!("Lower number (diastolic)"), text!("In mmHg, for example 82"), "mmHg"))
                }
                Kind::Weight => (field("weight", text!("Weight"), text!("In kilograms, for example 71.5"), "kilograms")),
                Kind::Feeling => (note(given, problems, text!("How do you feel?"), true)),
            }
            (when(given, today, problems))
            @if kind != Kind::Feeling { (note(given, problems, text!("Note, if you want"), false)) }
            div.actions {
                @if there.is_some() { button.btn.primary { (icon("check")) " " (text!("Save")) } }
                @else { button.btn.primary disabled[!is_sent] { (icon("plus")) " " (text!("Add to your record")) } }
                a.btn href="/record" { (text!("Cancel")) }
            }
            @if let Some(sealing) = sealing { (sealing) }
            @if there.is_none() { p.small.soft { (text!("The entry stays in your record for good.")) } }
        }
        @if let Some((entry, version)) = there { (mistake(signed, entry, version)) }
    };
    Page::new(title(problems, there.is_some()), main)
        .at(Place::Record)
        .narrow()
        .render(Some(signed))
}

fn title(problems: Problems<'_>, is_correction: bool) -> &'static str {
    match (problems.is_empty(), is_correction) {
        (true, false) => text!("Add an entry"),
        (true, true) => text!("Correct an entry"),
        (false, false) => text!("Error: Add an entry"),
        (false, true) => text!("Error: Correct an entry"),
    }
}

pub(super) fn when(given: &Fields, today: &str, problems: Problems<'_>) -> Markup {
    let error = field_error(problems, "when");
    html! {
        div.field.invalid[error.is_some()] {
            label for="when" { (text!("When was it?")) }
            @if let Some(error) = &error { (error) }
            input.w-m #when type="date" name="when" max=(today) value=(given.text("when"))
                data-problem=(text!("Enter a date, for example 2026-06-30")) data-late=(text!("Enter a date that is not in the future"))
                aria-invalid=[error.is_some().then_some("true")] aria-describedby=[error.is_some().then_some("when-e")];
        }
    }
}

fn note(given: &Fields, problems: Problems<'_>, label: &str, is_needed: bool) -> Markup {
    let error = field_error(problems, "note");
    html! {
        div.field.invalid[error.is_some()] {
            label for="note" { (label) }
            @if let Some(error) = &error { (error) }
            textarea #note name="note" maxlength=(NOTE_MAX) data-problem=[is_needed.then(|| text!("Write a few words"))] aria-invalid=[error.is_some().then_some("true")]
                aria-describedby=[error.is_some().then_some("note-e")] { (given.text("note")) }
        }
    }
}

/// `POST /record/add/{kind}`
async fn add(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(kind): Path<String>,
    posted: Posted,
) -> Answer {
    let patient = writer(&signed)?;
    let kind = Kind::parse(&kind)?;
    let today = today(portal.service.now());
    let fields = &posted.fields;
    let problems = check(kind, fields, &today);
    if !problems.is_empty() {
        let asked = Asked::Add { sealing: None };
        let page = form(&signed, kind, fields, &today, &problems, &asked);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let id = portal
        .service
        .demographics(&signed.actor, patient)
        .await?
        .id;
    let made = resource(kind, fields, &format!("Patient/{id}"));
    let resource = parse::edited(made.to_string())
        .map_err(|_| Refusal::bad_form(text!("The entry can't be written.")))?;
    portal
        .service
        .write(&signed.actor, vec![Write::Create { resource }])
        .await?;
    Ok(Redirect::to("/record").into_response())
}

pub(super) fn today(now: Timestamp) -> String {
    now.to_instant().get(..10).unwrap_or_default().to_owned()
}

fn check(kind: Kind, fields: &Fields, today: &str) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let number = |name: &str| -> Option<f64> {
        let text = text::plain_number(fields.text(name));
        let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        text.parse().ok().filter(|_| is_plain)
    };
    let within = |name: &'static str| {
        let (from, to, _) = range(name)?;
        let good = number(name).is_some_and(|number| (from..=to).contains(&number));
        out_of_range(name)
            .filter(|_| !good)
            .map(|words| (name, words))
    };
    match kind {
        Kind::Pressure => {
            problems.extend(within("upper"));
            problems.extend(within("lower"));
            if problems.is_empty() && number("lower") >= number("upper") {
                problems.push((
                    "lower",
                    text!("Enter a lower number that is below the upper one").into(),
                ));
            }
        }
        Kind::Weight => problems.extend(within("weight")),
        Kind::Feeling if fields.text("note").is_empty() => {
            problems.push(("note", text!("Write a few words").into()));
        }
        Kind::Feeling => {}
    }
    problems.extend(day_problem(fields.text("when"), today));
    if fields.text("note").chars().count() > NOTE_MAX {
        problems.push((
            "note",
            text!("Write at most {most} characters", most = NOTE_MAX),
        ));
    }
    problems
}

/// What is wrong with a day that was given.
pub(super) fn day_problem(when: &str, today: &str) -> Option<(&'static str, String)> {
    if !is_day(when) {
        return Some(("when", text!("Enter a date, for example 2026-06-30").into()));
    }
    (when > today).then(|| {
        (
            "when",
            text!("Enter a date that is not in the future").into(),
        )
    })
}

/// `2026-06-30`
fn is_day(text: &str) -> bool {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, &format).is_ok_and(|date| date.year() >= 1900)
}

fn resource(kind: Kind, fields: &Fields, patient: &str) -> Value {
    let me = json!({ "reference": patient });
    let coded = |code: &str, display: &str| json!({ "coding": [{ "system": LOINC, "code": code, "display": display }], "text": display });
    // The digits stay as they were typed.
    let quantity = |name: &str, unit: &str, code: &str| {
        let value: Value =
            serde_json::from_str(&text::plain_number(fields.text(name))).unwrap_or_default();
        json!({ "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code })
    };
    let vital = json!([{ "coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"
    }] }]);
    let mut made = json!({
        "resourceType": "Observation", "status": "final", "subject": me, "performer": [me],
        "effectiveDateTime": fields.text("when")
    });
    let mut put = |name: &str, value: Value| {
        if let Some(members) = made.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    match kind {
        Kind::Pressure => {
            put("category", vital);
            put("code", coded("85354-9", "Blood pressure"));
            let component = |code, display, name| json!({ "code": coded(code, display), "valueQuantity": quantity(name, "mmHg", "mm[Hg]") });
            put(
                "component",
                json!([
                    component("8480-6", "Systolic blood pressure", "upper"),
                    component("8462-4", "Diastolic blood pressure", "lower"),
                ]),
            );
        }
        Kind::Weight => {
            put("category", vital);
            put("code", coded("29463-7", "Body Weight"));
            put("valueQuantity", quantity("weight", "kg", "kg"));
        }
        Kind::Feeling => {
            put("code", json!({ "text": "How I feel" }));
            put("valueString", json!(fields.text("note")));
        }
    }
    if kind != Kind::Feeling && !fields.text("note").is_empty() {
        put("note", json!([{ "text": fields.text("note") }]));
    }
    made
}

#[cfg(test)]
mod tests {
    use stele_fhir::category::{self, Category};

    use super::*;

    #[test]
    fn own_entries_are_valid_fhir_and_keep_their_digits() {
        for kind in Kind::ALL {
            let fields =
                Fields::parse(b"upper=128&lower=82.0&weight=71.50&when=2026-06-30&note=%3Cb%3E");
            assert!(check(kind, &fields, "2026-06-30").is_empty());
            let made = resource(kind, &fields, "Patient/1");
            assert!(stele_fhir::validate::resource(&made).is_empty(), "{kind:?}");
            if kind == Kind::Weight {
                assert!(made.to_string().contains("71.50"));
                assert_eq!(category::assign(&made), Category::VitalSigns);
            }
        }
    }

    /// Browsers of patients who hold the keys make the same resources, byte-equal in all but id and meta.
    #[test]
    fn browsers_make_the_same_entries() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/own/vectors.json");
        let vectors: Value =
            serde_json::from_str(&std::fs::read_to_string(file).expect("vectors")).expect("JSON");
        let entries = vectors["browser"]["entries"].as_array().expect("entries");
        assert_eq!(entries.len(), Kind::ALL.len());
        for entry in entries {
            let kind = Kind::parse(entry["kind"].as_str().expect("a kind"))
                .unwrap_or_else(|_| panic!("{entry}"));
            let typed = entry["typed"].as_object().expect("what was typed");
            let fields = typed
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
            let ours = resource(kind, &Fields::of(fields.collect()), "Patient/1");
            let mut theirs: Value =
                serde_json::from_str(entry["text"].as_str().expect("text")).expect("JSON");
            assert!(
                stele_fhir::validate::resource(&theirs).is_empty(),
                "{kind:?}"
            );
            let members = theirs.as_object_mut().expect("an object");
            assert!(members.remove("id").is_some() && members.remove("meta").is_some());
            assert_eq!(theirs, ours, "{kind:?}");
            assert_eq!(category::assign(&ours).name(), entry["category"]);
        }
    }

    #[test]
    fn what_cannot_be_is_named_at_its_field() {
        let problems = |form: &str, kind| -> Vec<&'static str> {
            check(kind, &Fields::parse(form.as_bytes()), "2026-06-30")
                .into_iter()
                .map(|(field, _)| field)
                .collect()
        };
        assert_eq!(
            problems("upper=1280&lower=82&when=2026-06-30", Kind::Pressure),
            ["upper"]
        );
        assert_eq!(
            problems("upper=90&lower=120&when=2026-06-30", Kind::Pressure),
            ["lower"]
        );
        assert_eq!(
            problems("weight=7e1&when=2026-07-01", Kind::Weight),
            ["weight", "when"]
        );
        assert_eq!(
            problems("note=&when=yesterday", Kind::Feeling),
            ["note", "when"]
        );
    }
}
