//! What of an entry may be changed, and the resource with the changes in it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stele_fhir::words;

use crate::form::Fields;
use crate::text;

/// Longest text, in characters.
pub(super) const TEXT_MAX: usize = 10_000;
/// Longest reason, in characters.
pub(super) const WHY_MAX: usize = 500;

/// What kind of input a part of an entry takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Line,
    Number,
    Long,
    /// Text in an attachment, which FHIR keeps as base64.
    Attached,
    Choice(&'static [(&'static str, &'static str)]),
}

/// A part of an entry that may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// Where it stands in the resource (RFC 6901).
    at: &'static str,
    pub(super) kind: Kind,
}

const CLINICAL: Kind = Kind::Choice(&[
    ("active", message!("Active")),
    ("inactive", message!("Inactive")),
    ("resolved", message!("Resolved")),
]);
const MEDICINE: Kind = Kind::Choice(&[
    ("active", message!("Active")),
    ("on-hold", message!("On hold")),
    ("completed", message!("Completed")),
    ("stopped", message!("Stopped")),
]);

/// Every part that can be changed of some kind of entry. A part that the entry does not have is not offered.
const PARTS: &[(&str, Part)] = &[
    (
        "Observation",
        part(
            "value",
            message!("Value"),
            "/valueQuantity/value",
            Kind::Number,
        ),
    ),
    (
        "Observation",
        part(
            "text",
            message!("What was observed"),
            "/valueString",
            Kind::Long,
        ),
    ),
    (
        "Condition",
        part(
            "status",
            message!("State"),
            "/clinicalStatus/coding/0/code",
            CLINICAL,
        ),
    ),
    (
        "AllergyIntolerance",
        part(
            "status",
            message!("State"),
            "/clinicalStatus/coding/0/code",
            CLINICAL,
        ),
    ),
    (
        "MedicationRequest",
        part("status", message!("State"), "/status", MEDICINE),
    ),
    (
        "MedicationRequest",
        part(
            "text",
            message!("How it is taken"),
            "/dosageInstruction/0/text",
            Kind::Long,
        ),
    ),
    (
        "DocumentReference",
        part(
            "text",
            message!("Text"),
            "/content/0/attachment/data",
            Kind::Attached,
        ),
    ),
];

/// Names written in words. One that stands beside a code stays: the two would contradict each other.
const NAMES: &[&str] = &[
    "/code",
    "/medicationCodeableConcept",
    "/type",
    "/vaccineCode",
];

/// Types of entries that can be marked as entered in error, and where.
const ERROR_AT: &[(&str, &str)] = &[
    ("Observation", "/status"),
    ("Condition", "/verificationStatus/coding/0/code"),
    ("AllergyIntolerance", "/verificationStatus/coding/0/code"),
    ("MedicationRequest", "/status"),
    ("DocumentReference", "/status"),
    ("Procedure", "/status"),
    ("Immunization", "/status"),
    ("DiagnosticReport", "/status"),
];
const IN_ERROR: &str = "entered-in-error";

const fn part(name: &'static str, label: &'static str, at: &'static str, kind: Kind) -> Part {
    Part {
        name,
        label,
        at,
        kind,
    }
}

/// An entry before it is amended.
pub(super) struct Before<'a> {
    pub(super) value: &'a Value,
    pub(super) parts: &'a [(Part, String)],
    pub(super) error_at: Option<&'static str>,
}

/// What of this entry may be changed, with what stands there now.
pub(super) fn editable(value: &Value) -> Vec<(Part, String)> {
    let resource_type = words::text_at(value, "/resourceType");
    let mut list = Vec::new();
    let name = NAMES.iter().find_map(|at| {
        let concept = value.pointer(at)?;
        let text = concept.get("text")?.as_str()?;
        concept.get("coding").is_none().then_some((*at, text))
    });
    if let Some((at, text)) = name {
        let at = match at {
            "/code" => "/code/text",
            "/type" => "/type/text",
            "/vaccineCode" => "/vaccineCode/text",
            _ => "/medicationCodeableConcept/text",
        };
        list.push((part("name", text!("Name"), at, Kind::Line), text.to_owned()));
    }
    for (_, part) in PARTS.iter().filter(|(of, _)| *of == resource_type) {
        let Some(found) = value.pointer(part.at) else {
            continue;
        };
        let now = match part.kind {
            Kind::Number => found.to_string(),
            Kind::Attached => match attached(value) {
                Some(text) => text,
                None => continue,
            },
            Kind::Line | Kind::Long | Kind::Choice(_) => {
                found.as_str().unwrap_or_default().to_owned()
            }
        };
        list.push((*part, now));
    }
    list
}

/// The plain text of a document, if that is all it has.
fn attached(value: &Value) -> Option<String> {
    let kind = words::text_at(value, "/content/0/attachment/contentType");
    if !kind.starts_with("text/plain") || value.pointer("/content/1").is_some() {
        return None;
    }
    let data = value.pointer("/content/0/attachment/data")?.as_str()?;
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

/// Whether an entry can be marked as entered in error, and is not yet.
pub(super) fn can_be_wrong(value: &Value) -> Option<&'static str> {
    let resource_type = words::text_at(value, "/resourceType");
    ERROR_AT
        .iter()
        .find(|(of, _)| *of == resource_type)
        .map(|(_, at)| *at)
        .filter(|at| words::text_at(value, at) != IN_ERROR)
}

/// A prescription of the ledger is cancelled, never rewritten.
pub(super) fn is_prescription(value: &Value) -> bool {
    words::text_at(value, "/resourceType") == "MedicationRequest"
        && words::text_at(value, "/intent") == "order"
}

/// The entry with its changes.
///
/// # Errors
/// What is wrong, by field.
pub(super) fn amended(
    before: &Before<'_>,
    fields: &Fields,
    author: &str,
    now: &str,
) -> Result<Value, Vec<(&'static str, String)>> {
    let mut problems = Vec::new();
    let mut made = before.value.clone();
    let is_error = before.error_at.is_some() && fields.text("error") == "yes";
    let mut is_changed = is_error;
    for (part, stood) in before.parts {
        let given = fields.text(part.name);
        // Lines end as forms send them (HTML Living Standard, 4.10.21.4).
        if given.replace("\r\n", "\n").trim() == stood.replace("\r\n", "\n").trim() {
            continue;
        }
        is_changed = true;
        match checked(part, given) {
            Ok(value) => put(&mut made, part.at, value),
            Err(words) => problems.push((part.name, words)),
        }
    }
    let why = fields.text("why");
    if why.is_empty() || why.chars().count() > WHY_MAX {
        let words = text!("Write why, in at most {most} characters", most = WHY_MAX);
        problems.push(("why", words));
    }
    if !is_changed {
        let first = before.parts.first().map_or("error", |(part, _)| part.name);
        problems.push((first, text!("Change something first").into()));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if let Some(at) = before.error_at.filter(|_| is_error) {
        mark_as_error(&mut made, at);
    } else {
        note_state(&mut made);
    }
    explain(&mut made, why, author, now);
    Ok(made)
}

fn checked(part: &Part, given: &str) -> Result<Value, String> {
    let short = |max: usize| {
        let fits = !given.is_empty() && given.chars().count() <= max;
        fits.then(|| json!(given))
            .ok_or_else(|| text!("Enter text, at most {max} characters", max))
    };
    match part.kind {
        Kind::Line => short(200),
        Kind::Long => short(TEXT_MAX),
        Kind::Attached => short(TEXT_MAX).map(|_| json!(STANDARD.encode(given))),
        Kind::Number => serde_json::from_str::<serde_json::Number>(&text::plain_number(given))
            .map(Value::Number)
            .map_err(|_| text!("Enter the value as a number, for example 6.30").into()),
        Kind::Choice(choices) => choices
            .iter()
            .any(|(code, _)| *code == given)
            .then(|| json!(given))
            .ok_or_else(|| text!("Choose one of the list").into()),
    }
}

fn put(value: &mut Value, at: &str, new: Value) {
    if let Some(place) = value.pointer_mut(at) {
        *place = new;
    }
    // The words beside a code that changed would say what was before.
    if let Some(coding) = at
        .strip_suffix("/code")
        .and_then(|coding| value.pointer_mut(coding))
        .and_then(Value::as_object_mut)
    {
        coding.remove("display");
    }
    // A digest or size of the text that was replaced does not hold any more.
    if let Some(attachment) = at
        .strip_suffix("/data")
        .and_then(|attachment| value.pointer_mut(attachment))
        .and_then(Value::as_object_mut)
    {
        attachment.remove("hash");
        attachment.remove("size");
    }
}

/// An amended result says so in its status, where it has one for that.
fn note_state(made: &mut Value) {
    let (at, amended) = match words::text_at(made, "/resourceType") {
        "Observation" | "DiagnosticReport" => ("status", "amended"),
        "DocumentReference" => ("docStatus", "amended"),
        _ => return,
    };
    if let Some(members) = made.as_object_mut() {
        members.insert(at.to_owned(), json!(amended));
    }
}

fn mark_as_error(made: &mut Value, at: &str) {
    let is_about_person = at.starts_with("/verificationStatus");
    put(made, at, json!(IN_ERROR));
    if let Some(members) = made.as_object_mut().filter(|_| is_about_person) {
        // What was never so is neither active nor resolved (FHIR R4, con-5 and ait-2).
        members.remove("clinicalStatus");
    }
}

/// Why there is a new version: a note, where the resource has room for notes; a document's words about itself otherwise.
fn explain(made: &mut Value, why: &str, author: &str, now: &str) {
    let resource_type = words::text_at(made, "/resourceType").to_owned();
    let Some(members) = made.as_object_mut() else {
        return;
    };
    match resource_type.as_str() {
        "DocumentReference" => {
            members.insert("description".into(), json!(why));
        }
        "DiagnosticReport" => {
            members.insert("conclusion".into(), json!(why));
        }
        _ => {
            let note =
                json!({ "authorReference": { "reference": author }, "time": now, "text": why });
            match members.get_mut("note").and_then(Value::as_array_mut) {
                Some(notes) => notes.push(note),
                None => {
                    members.insert("note".into(), json!([note]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(value: &Value, form: &str) -> Result<Value, Vec<(&'static str, String)>> {
        let fields = Fields::parse(form.as_bytes());
        let parts = editable(value);
        let before = Before {
            value,
            parts: &parts,
            error_at: can_be_wrong(value),
        };
        amended(
            &before,
            &fields,
            "Practitioner/2",
            "2026-11-22T10:00:00.000Z",
        )
    }

    fn clinical(status: &str) -> Value {
        json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status, "display": "x" }] })
    }

    /// What is amended is valid FHIR, keeps the rest and the digits, and says why.
    #[test]
    fn a_new_version_changes_what_was_changed() {
        let before = json!({
            "resourceType": "Observation", "id": "a", "status": "final",
            "code": { "coding": [{ "system": "http://loinc.org", "code": "2823-3" }], "text": "Potassium" },
            "subject": { "reference": "Patient/1" }, "valueQuantity": { "value": 6.3, "unit": "mmol/L" }
        });
        let made = change(&before, "value=3.60&why=typed+wrong").expect("amended");
        assert!(stele_fhir::validate::resource(&made).is_empty());
        assert_eq!(
            made.pointer("/valueQuantity/value").map(Value::to_string),
            Some("3.60".into())
        );
        assert_eq!(words::text_at(&made, "/status"), "amended");
        assert_eq!(words::text_at(&made, "/note/0/text"), "typed wrong");
        assert_eq!(
            words::text_at(&made, "/code/text"),
            "Potassium",
            "a name beside a code stays"
        );
        for (form, field) in [
            ("value=x&why=a", "value"),
            ("value=3.60", "why"),
            ("value=6.3&why=a", "value"),
        ] {
            let problems = change(&before, form).expect_err(form);
            assert_eq!(problems[0].0, field, "{form}");
        }
    }

    #[test]
    fn errors_are_marked_and_problems_resolved() {
        let before = json!({
            "resourceType": "Condition", "id": "a", "clinicalStatus": clinical("active"),
            "verificationStatus": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed" }] },
            "code": { "text": "Cough" }, "subject": { "reference": "Patient/1" }
        });
        let made = change(&before, "name=Cough&status=resolved&why=a").expect("resolved");
        assert!(stele_fhir::validate::resource(&made).is_empty());
        assert_eq!(
            words::text_at(&made, "/clinicalStatus/coding/0/code"),
            "resolved"
        );
        assert!(made.pointer("/clinicalStatus/coding/0/display").is_none());
        let made = change(&before, "name=Cough&status=active&error=yes&why=a").expect("an error");
        assert!(stele_fhir::validate::resource(&made).is_empty());
        assert!(made.get("clinicalStatus").is_none());
        let problems = change(&before, "name=&status=gone&why=a").expect_err("wrong");
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn a_notes_text_is_replaced() {
        let before = json!({
            "resourceType": "DocumentReference", "id": "a", "status": "current", "type": { "text": "Note" },
            "subject": { "reference": "Patient/1" },
            "content": [{ "attachment": { "contentType": "text/plain; charset=utf-8", "data": STANDARD.encode("before"), "hash": "x" } }]
        });
        assert!(editable(&before).contains(&(
            part("text", "Text", "/content/0/attachment/data", Kind::Attached),
            "before".into()
        )));
        let made = change(&before, "name=Note&text=after&why=a").expect("amended");
        assert!(stele_fhir::validate::resource(&made).is_empty());
        assert_eq!(attached(&made).as_deref(), Some("after"));
        assert!(made.pointer("/content/0/attachment/hash").is_none());
    }
}
