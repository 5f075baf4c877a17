//! Adding to a chart: a problem, an allergy, a medicine, a measurement or a note, with a warning where a medicine meets
//! a recorded allergy or is on the list already.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use serde_json::{Value, json};
use stele_fhir::{category::Category, parse};
use stele_service::{Write, people::Unsent};

use super::{Patient, no_access, render};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{csrf, errors, field_error, icon},
    session::Signed,
    text,
    views::{
        drafts,
        record::{Current, current},
    },
};

/// Longest name and longest text, in characters.
const NAME_MAX: usize = 200;
const TEXT_MAX: usize = 10_000;
/// Most allergies, and most medicines taken now, that a new medicine is compared with.
const COMPARED: u32 = 200;

/// What can be added, and the part of the record it belongs to.
const KINDS: [(&str, &str, Category); 5] = [
    ("problem", message!("Problem"), Category::Problems),
    ("allergy", message!("Allergy"), Category::Allergies),
    ("medicine", message!("Medicine"), Category::Medicines),
    ("measurement", message!("Measurement"), Category::VitalSigns),
    ("note", message!("Note"), Category::Documents),
];

/// What a form held, and what is wrong with it.
#[derive(Default)]
pub(super) struct Entered {
    fields: Fields,
    problems: Vec<(&'static str, String)>,
    /// Why a medicine should perhaps not be given.
    warnings: Vec<String>,
    /// The draft that it came from.
    draft: Option<Unsent>,
}

impl Entered {
    /// What was written here before and not sent.
    pub(super) fn of_draft(portal: &Portal, signed: &Signed, patient: &Patient) -> Answer<Self> {
        let found = drafts::at(portal, signed, &patient.address())?;
        Ok(found.map_or_else(Self::default, |(fields, draft)| Self {
            fields,
            draft: Some(draft),
            ..Self::default()
        }))
    }

    pub(super) fn summary(&self) -> Markup {
        errors(&self.problems)
    }
}

/// The panel beside the chart.
pub(super) fn panel(signed: &Signed, patient: &Patient, entered: &Entered) -> Markup {
    let fields = &entered.fields;
    let error = |field: &str| field_error(&entered.problems, field);
    let (name, value) = (error("name"), error("value"));
    html! {
        section.panel aria-labelledby="ep" {
            h2 #ep { (text!("Add to this chart")) }
            (drafts::offered(signed, entered.draft.as_ref()))
            form.flow method="post" action={ (patient.address()) "/add" } data-draft novalidate {
                (csrf(signed))
                div.field {
                    label for="kind" { (text!("What")) }
                    select #kind name="kind" {
                        @for (kind, words, category) in KINDS {
                            @if patient.may_add.contains(&category) {
                                option value=(kind) selected[fields.text("kind") == kind] { (text::of(words)) }
                            }
                        }
                    }
                }
                div.field.invalid[name.is_some()] {
                    label for="name" { (text!("Name")) }
                    @if let Some(error) = &name { (error) }
                    input #name name="name" value=(fields.text("name")) maxlength=(NAME_MAX) autocomplete="off"
                        aria-invalid=[name.is_some().then_some("true")] aria-describedby=[name.is_some().then_some("name-e")];
                }
                div.field.invalid[value.is_some()] {
                    label for="value" { (text!("Value, of a measurement")) }
                    @if let Some(error) = &value { (error) }
                    input.w-s #value name="value" value=(fields.text("value")) inputmode="decimal" maxlength="20" autocomplete="off"
                        aria-invalid=[value.is_some().then_some("true")] aria-describedby=[value.is_some().then_some("value-e")];
                }
                div.field { label for="unit" { (text!("Unit")) } input.w-s #unit name="unit" value=(fields.text("unit")) maxlength="20" autocomplete="off"; }
                div.field { label for="text" { (text!("Dose or text")) } textarea #text name="text" maxlength=(TEXT_MAX) { (fields.text("text")) } }
                @if !entered.warnings.is_empty() {
                    div.notice.bad #warning tabindex="-1" {
                        @for warning in &entered.warnings {
                            p { span.state.bad { (icon("triangle-alert")) " " (warning) } }
                        }
                    }
                    div.field { label for="anyway" { (text!("Reason to add it anyway")) } input #anyway name="anyway" maxlength="200"; }
                }
                div.actions { button.btn.primary { (text!("Add")) } (drafts::button(&patient.address())) }
                (drafts::said())
                p.small.soft { (text!("It is recorded for good, under your name.")) }
            }
        }
    }
}

/// `POST /patients/{patient}/add`
pub(super) async fn add(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
    posted: Posted,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let mut entered = Entered {
        fields: posted.fields,
        ..Entered::default()
    };
    check(&portal, &signed, &patient, &mut entered).await?;
    if !entered.problems.is_empty() {
        let page: Response = render(&portal, &signed, &patient, &entered).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let id = match &patient.demographics {
        Some(found) => found.id.clone(),
        None => {
            return Err(Refusal::not_allowed(text!(
                "The patient has to share the name with you before you can add."
            )));
        }
    };
    let now = portal.service.now().to_instant();
    let author = format!("Practitioner/{}", hex::encode(signed.person.account));
    let made = resource(&entered.fields, &format!("Patient/{id}"), &author, &now);
    let resource = parse::edited(made.to_string())
        .map_err(|_| Refusal::bad_form(text!("The entry can't be written.")))?;
    portal
        .service
        .write(&signed.actor, vec![Write::Create { resource }])
        .await?;
    portal
        .service
        .drop_unsent(&signed.actor, &patient.address())?;
    Ok(Redirect::to(&patient.address()).into_response())
}

async fn check(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    entered: &mut Entered,
) -> Answer<()> {
    let fields = &entered.fields;
    let kind = fields.text("kind");
    let known = KINDS
        .iter()
        .any(|(name, _, category)| *name == kind && patient.may_add.contains(category));
    if !known {
        entered
            .problems
            .push(("kind", text!("Choose what to add").into()));
    }
    let name = fields.text("name");
    if name.is_empty() || name.chars().count() > NAME_MAX {
        entered.problems.push((
            "name",
            text!("Enter a name of at most {most} characters", most = NAME_MAX),
        ));
    }
    let is_number =
        serde_json::from_str::<serde_json::Number>(&text::plain_number(fields.text("value")))
            .is_ok();
    if kind == "measurement" && !is_number {
        entered.problems.push((
            "value",
            text!("Enter the value as a number, for example 6.30").into(),
        ));
    }
    if kind != "medicine" || !entered.problems.is_empty() || !fields.text("anyway").is_empty() {
        return Ok(());
    }
    let warnings = warned(portal, signed, patient, name).await?;
    if let Some(first) = warnings.first() {
        entered.problems.push((
            "anyway",
            text!("{first}. Give a reason to add it anyway", first),
        ));
    }
    entered.warnings = warnings;
    Ok(())
}

/// What in a patient's chart speaks against a medicine.
pub(super) async fn warned(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    medicine: &str,
) -> Answer<Vec<String>> {
    let listings = [Category::Allergies, Category::Medicines]
        .map(|category| current(patient.id, category, COMPARED))
        .to_vec();
    let lists = portal.service.list(&signed.actor, listings).await?;
    let mut titles = lists.into_iter().map(|one| Current::new(one).titles());
    let (allergies, medicines) = (
        titles.next().unwrap_or_default(),
        titles.next().unwrap_or_default(),
    );
    Ok(warnings(medicine, &allergies, &medicines))
}

/// What speaks against a medicine: an allergy with a word of its name, or the same medicine on the list. Names are
/// compared, not substances: a doctor still has to know that amoxicillin is a penicillin.
fn warnings(medicine: &str, allergies: &[String], medicines: &[String]) -> Vec<String> {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= 4)
            .map(str::to_lowercase)
            .collect()
    };
    let wanted = words(medicine);
    let shares = |other: &&String| words(other).iter().any(|word| wanted.contains(word));
    let first = wanted.first();
    let mut found: Vec<String> = allergies
        .iter()
        .filter(shares)
        .map(|one| text!("Recorded allergy: {one}", one))
        .collect();
    found.extend(
        medicines
            .iter()
            .filter(|one| first.is_some_and(|first| words(one).contains(first)))
            .map(|one| text!("Already on the list: {one}", one)),
    );
    found
}

/// The FHIR resource of what was entered.
fn resource(fields: &Fields, patient: &str, author: &str, now: &str) -> Value {
    let name = fields.text("name");
    let text = fields.text("text");
    let subject = json!({ "reference": patient });
    let by = json!({ "reference": author });
    let code = json!({ "text": name });
    let clinical = |system: &str, code: &str| json!({ "coding": [{ "system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code }] });
    let mut made = match fields.text("kind") {
        "problem" => json!({
            "resourceType": "Condition", "clinicalStatus": clinical("condition-clinical", "active"),
            "verificationStatus": clinical("condition-ver-status", "confirmed"),
            "code": code, "subject": subject, "recordedDate": now, "recorder": by
        }),
        "allergy" => json!({
            "resourceType": "AllergyIntolerance", "clinicalStatus": clinical("allergyintolerance-clinical", "active"),
            "verificationStatus": clinical("allergyintolerance-verification", "confirmed"),
            "code": code, "patient": subject, "recordedDate": now, "recorder": by
        }),
        "medicine" => json!({
            "resourceType": "MedicationRequest", "status": "active", "intent": "plan",
            "medicationCodeableConcept": code, "subject": subject, "authoredOn": now, "requester": by
        }),
        "measurement" => {
            let number = text::plain_number(fields.text("value"));
            let number: Value = serde_json::from_str(&number).unwrap_or_default();
            let category = clinical("observation-category", "vital-signs");
            let mut quantity = json!({ "value": number });
            if let Some(members) = quantity
                .as_object_mut()
                .filter(|_| !fields.text("unit").is_empty())
            {
                members.insert("unit".into(), json!(fields.text("unit")));
            }
            json!({
                "resourceType": "Observation", "status": "final", "category": [category], "code": code,
                "subject": subject, "effectiveDateTime": now, "performer": [by], "valueQuantity": quantity
            })
        }
        _ => json!({
            "resourceType": "DocumentReference", "status": "current", "type": code, "subject": subject,
            "date": now, "author": [by], "description": text,
            "content": [{ "attachment": { "contentType": "text/plain; charset=utf-8", "data": STANDARD.encode(text), "title": name } }]
        }),
    };
    let is_note = made.get("resourceType").and_then(Value::as_str) == Some("DocumentReference");
    let Some(members) = made.as_object_mut() else {
        return made;
    };
    if fields.text("kind") == "medicine" && !text.is_empty() {
        members.insert("dosageInstruction".into(), json!([{ "text": text }]));
    } else if !is_note && !text.is_empty() {
        members.insert("note".into(), json!([{ "text": text }]));
    }
    if is_note && text.is_empty() {
        members.remove("description");
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allergies_and_duplicates_are_named() {
        let allergies = ["Allergy to penicillin".to_owned()];
        let medicines = ["Metformin 500 mg".to_owned()];
        assert_eq!(
            warnings("Penicillin V 250 mg", &allergies, &medicines),
            ["Recorded allergy: Allergy to penicillin"]
        );
        assert_eq!(
            warnings("metformin 850 mg", &allergies, &medicines),
            ["Already on the list: Metformin 500 mg"]
        );
        assert!(warnings("Bisoprolol 2.5 mg", &allergies, &medicines).is_empty());
    }

    #[test]
    fn what_is_entered_is_valid_fhir() {
        for kind in ["problem", "allergy", "medicine", "measurement", "note"] {
            let form = format!("kind={kind}&name=A+%3Cb%3E&value=6.30&unit=mmol%2FL&text=x");
            let made = resource(
                &Fields::parse(form.as_bytes()),
                "Patient/1",
                "Practitioner/2",
                "2026-11-22T10:00:00.000Z",
            );
            let issues = stele_fhir::validate::resource(&made);
            assert!(issues.is_empty(), "{kind}: {issues:?}");
            let category = stele_fhir::category::assign(&made);
            let expected = KINDS
                .iter()
                .find(|(name, ..)| *name == kind)
                .map(|(_, _, c)| *c);
            assert_eq!(Some(category), expected, "{kind}");
        }
        let made = resource(
            &Fields::parse(b"kind=measurement&name=K&value=6.30"),
            "Patient/1",
            "Practitioner/2",
            "2026-11-22",
        );
        assert!(made.to_string().contains("6.30"), "digits stay as written");
    }
}
