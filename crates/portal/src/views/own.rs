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

/// The patient who may add here. What a patient who holds the keys adds would have to be sealed in the browser.
pub(super) fn writer(signed: &Signed) -> Answer<stele_core::id::PatientId> {
    keys::require_managed(
        signed,
        text!(
            "Adding entries of your own is not possible yet. Your hospital or practice can record them for you."
        ),
    )?;
    signed.patient()
}

/// `GET /record/add`
async fn choose(signed: Signed) -> Answer<Rendered> {
    writer(&signed)?;
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
    writer(&signed)?;
    let today = today(portal.service.now());
    let given = Fields::parse(format!("when={today}").as_bytes());
    let kind = Kind::parse(&kind)?;
    Ok(form(&signed, kind, &given, &today, &[], None))
}

pub(super) type Problems<'a> = &'a [(&'static str, String)];

/// The form of an entry; of one that is there already, with where it is and its version.
fn form(
    signed: &Signed,
    kind: Kind,
    given: &Fields,
    today: &str,
    problems: Problems<'_>,
    there: Option<(&str, u32)>,
) -> Rendered {
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
                    aria-invalid=[error.is_some().then_some("true")] aria-describedby=(described);
                @if !unit.is_empty() { span.hide { (unit) } }
            }
        }
    };
    let main = html! {
        a.back href=(there.map_or("/record/add", |(entry, _)| entry)) { (text!("Back")) }
        (errors(problems))
        form.flow method="post" action=(action) novalidate {
            (csrf(signed))
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
                Kind::Feeling => (note(given, problems, text!("How do you feel?"))),
            }
            (when(given, today, problems))
            @if kind != Kind::Feeling { (note(given, problems, text!("Note, if you want"))) }
            div.actions {
                @if there.is_some() { button.btn.primary { (icon("check")) " " (text!("Save")) } }
                @else { button.btn.primary { (icon("plus")) " " (text!("Add to your record")) } }
                a.btn href="/record" { (text!("Cancel")) }
            }
            @if there.is_none() { p.small.soft { (text!("The entry stays in your record for good.")) } }
        }
        @if let Some((entry, version)) = there { (mistake(signed, entry, version)) }
    };
    let title = match (problems.is_empty(), there.is_some()) {
        (true, false) => text!("Add an entry"),
        (true, true) => text!("Correct an entry"),
        (false, false) => text!("Error: Add an entry"),
        (false, true) => text!("Error: Correct an entry"),
    };
    Page::new(title, main)
        .at(Place::Record)
        .narrow()
        .render(Some(signed))
}

pub(super) fn when(given: &Fields, today: &str, problems: Problems<'_>) -> Markup {
    let error = field_error(problems, "when");
    html! {
        div.field.invalid[error.is_some()] {
            label for="when" { (text!("When was it?")) }
            @if let Some(error) = &error { (error) }
            input.w-m #when type="date" name="when" max=(today) value=(given.text("when"))
                aria-invalid=[error.is_some().then_some("true")] aria-describedby=[error.is_some().then_some("when-e")];
        }
    }
}

fn note(given: &Fields, problems: Problems<'_>, label: &str) -> Markup {
    let error = field_error(problems, "note");
    html! {
        div.field.invalid[error.is_some()] {
            label for="note" { (label) }
            @if let Some(error) = &error { (error) }
            textarea #note name="note" maxlength=(NOTE_MAX) aria-invalid=[error.is_some().then_some("true")]
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
        let page = form(&signed, kind, fields, &today, &problems, None);
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
    let within = |name: &'static str, words: &str, from: f64, to: f64| {
        let good = number(name).is_some_and(|number| (from..=to).contains(&number));
        (!good).then(|| {
            (
                name,
                text!("Enter {words}, between {from} and {to}", words, from, to),
            )
        })
    };
    match kind {
        Kind::Pressure => {
            problems.extend(within("upper", text!("the upper number"), 50.0, 300.0));
            problems.extend(within("lower", text!("the lower number"), 20.0, 250.0));
            if problems.is_empty() && number("lower") >= number("upper") {
                problems.push((
                    "lower",
                    text!("Enter a lower number that is below the upper one").into(),
                ));
            }
        }
        Kind::Weight => problems.extend(within(
            "weight",
            text!("your weight in kilograms"),
            1.0,
            500.0,
        )),
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
