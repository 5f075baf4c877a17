//! Prescribing: what, how much, until when; then the sheet that is signed, and the doctor's passkey.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde_json::{Value, json};
use stele_core::{prescription::Sheet, time::Timestamp};
use stele_fhir::category::Category;
use stele_service::{
    Error,
    directory::role,
    people::Unsent,
    prescriptions::{Kept, PRESCRIPTION_MS, Verdict},
};

use super::{super::drafts, Patient, add::warned, no_access};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, csrf, device_problem, errors, field, icon, tag},
    session::Signed,
    shown::{moment, short_date},
};

/// What was entered and what is wrong with it.
#[derive(Default)]
struct Entered {
    fields: Fields,
    problems: Vec<(&'static str, String)>,
    warnings: Vec<String>,
    draft: Option<Unsent>,
}

/// Whether this person may prescribe for this patient.
pub(super) fn may_prescribe(signed: &Signed, patient: &Patient) -> bool {
    signed.person.has(role::DOCTOR) && patient.may_add.contains(&Category::Medicines)
}

fn day_in(now: Timestamp, ms: u64) -> String {
    let then = now.plus_ms(ms).to_instant();
    then.get(..10).unwrap_or_default().to_owned()
}

/// `GET /patients/{patient}/prescribe`
pub(super) async fn page(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
) -> Answer {
    signed.require(role::DOCTOR)?;
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let until = day_in(portal.service.now(), PRESCRIPTION_MS);
    let draft = drafts::at(&portal, &signed, &place(&patient))?;
    let (fields, draft) = match draft {
        Some((fields, draft)) => (fields, Some(draft)),
        None => {
            let empty = format!("amount=1&portion=packs&until={until}");
            (Fields::parse(empty.as_bytes()), None)
        }
    };
    let entered = Entered {
        fields,
        draft,
        ..Entered::default()
    };
    Ok(form(&portal, &signed, &patient, &entered))
}

/// Where a draft of the form belongs.
fn place(patient: &Patient) -> String {
    format!("{}/prescribe", patient.address())
}

fn form(portal: &Portal, signed: &Signed, patient: &Patient, entered: &Entered) -> Response {
    let (given, problems) = (&entered.fields, &entered.problems);
    let today = day_in(portal.service.now(), 0);
    let main = html! {
        a.back href=(patient.address()) { (text!("Back to the chart")) }
        (errors(problems))
        h1 { (text!("Prescribe a medicine")) }
        (drafts::offered(signed, entered.draft.as_ref()))
        form.flow method="post" action={ (patient.address()) "/prescribe" } data-draft novalidate {
            (csrf(signed))
            (field("medicine", text!("Medicine, strength and form"), text!("For example Bisoprolol 2.5 mg tablets"), "w-l", given.text("medicine"), 120, problems))
            (field("dose", text!("How to take it"), text!("In words for the patient"), "w-l", given.text("dose"), 200, problems))
            (field("amount", text!("How many portions"), text!("Whole numbers. Any pharmacy can dispense part of them"), "w-s", given.text("amount"), 5, problems))
            (field("portion", text!("What a portion is"), text!("For example packs of 28, or tablets"), "w-m", given.text("portion"), 40, problems))
            div.field.invalid[problems.iter().any(|(name, _)| *name == "until")] {
                label for="until" { (text!("Last day on which it may be dispensed")) }
                @if let Some(error) = crate::page::field_error(problems, "until") { (error) }
                input.w-m #until type="date" name="until" min=(today) value=(given.text("until"));
            }
            @if !entered.warnings.is_empty() {
                div.notice.bad #warning tabindex="-1" {
                    @for warning in &entered.warnings {
                        p { span.state.bad { (icon("triangle-alert")) " " (warning) } }
                    }
                }
                (field("anyway", text!("Reason to prescribe it anyway"), text!("It is kept with the prescription"), "w-l", given.text("anyway"), 200, problems))
            }
            div.actions {
                button.btn.primary { (text!("Continue")) }
                (drafts::button(&place(patient)))
                a.btn href=(patient.address()) { (text!("Cancel")) }
            }
            (drafts::said())
        }
    };
    let title = if problems.is_empty() {
        text!("Prescribe")
    } else {
        text!("Error: Prescribe")
    };
    Page::new(title, main)
        .at(Place::Worklist)
        .under(super::short_banner(portal, patient))
        .narrow()
        .render(Some(signed))
        .into_response()
}

/// `POST /patients/{patient}/prescribe`
pub(super) async fn prepare(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
    posted: Posted,
) -> Answer {
    signed.require(role::DOCTOR)?;
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    if !may_prescribe(&signed, &patient) {
        return Err(Refusal::not_allowed(text!(
            "The patient does not let you add medicines. Ask the patient."
        )));
    }
    let mut entered = Entered {
        fields: posted.fields,
        ..Entered::default()
    };
    check(&portal, &signed, &patient, &mut entered).await?;
    if entered.problems.is_empty() {
        let Some(found) = &patient.demographics else {
            return Err(Refusal::not_allowed(text!(
                "The patient has to share the name with you before you can prescribe."
            )));
        };
        let request = resource(&entered.fields, &found.id);
        match portal
            .service
            .draft_prescription(&signed.actor, &request)
            .await
        {
            Ok(draft) => {
                let next = format!("{}/prescribe/{}", patient.address(), draft.id);
                return Ok(Redirect::to(&next).into_response());
            }
            Err(Error::Invalid { issues, .. }) => {
                let words = issues.first().map(|one| one.diagnostics.clone());
                entered
                    .problems
                    .push(("medicine", words.unwrap_or_default()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let page = form(&portal, &signed, &patient, &entered);
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

async fn check(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    entered: &mut Entered,
) -> Answer<()> {
    let fields = &entered.fields;
    let problems = &mut entered.problems;
    if fields.text("medicine").is_empty() {
        problems.push(("medicine", text!("Enter the medicine").into()));
    }
    if !fields.text("amount").parse().is_ok_and(|n: u16| n > 0) {
        problems.push((
            "amount",
            text!("Enter a whole number, for example 3").into(),
        ));
    }
    if fields.text("portion").is_empty() {
        problems.push((
            "portion",
            text!("Enter what a portion is, for example packs of 28").into(),
        ));
    }
    if fields.text("until") < day_in(portal.service.now(), 0).as_str() {
        problems.push(("until", text!("Enter a day from today on").into()));
    }
    if !problems.is_empty() || !fields.text("anyway").is_empty() {
        return Ok(());
    }
    let warnings = warned(portal, signed, patient, fields.text("medicine")).await?;
    if let Some(first) = warnings.first() {
        problems.push((
            "anyway",
            text!("{first}. Give a reason to prescribe it anyway", first),
        ));
    }
    entered.warnings = warnings;
    Ok(())
}

/// The request in FHIR's words.
fn resource(fields: &Fields, patient: &str) -> Value {
    let amount: u16 = fields.text("amount").parse().unwrap_or_default();
    let mut made = json!({
        "resourceType": "MedicationRequest", "status": "active", "intent": "order",
        "medicationCodeableConcept": { "text": fields.text("medicine") },
        "subject": { "reference": format!("Patient/{patient}") },
        "dispenseRequest": {
            "validityPeriod": { "end": fields.text("until") },
            "quantity": { "value": amount, "unit": fields.text("portion") }
        }
    });
    if let Some(members) = made.as_object_mut() {
        if !fields.text("dose").is_empty() {
            let dose = json!([{ "text": fields.text("dose") }]);
            members.insert("dosageInstruction".into(), dose);
        }
        if !fields.text("anyway").is_empty() {
            let note = json!([{ "text": fields.text("anyway") }]);
            members.insert("note".into(), note);
        }
    }
    made
}

/// `GET /patients/{patient}/prescribe/{draft}`
pub(super) async fn sign(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, id)): Path<(String, String)>,
) -> Answer {
    signed.require(role::DOCTOR)?;
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let draft = portal.service.prepared_prescription(&signed.actor, &id)?;
    let passkeys: Vec<String> = portal
        .service
        .passkeys(signed.person.account)?
        .iter()
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    let sheet = &draft.sheet;
    let main = html! {
        a.back href={ (patient.address()) "/prescribe" } { (text!("Back")) }
        div.flow {
            h1 { (text!("Check before you sign")) }
            (facts(sheet, &sheet.prescriber))
            p.sentence {
                (rich!(
                    "I, {prescriber}, prescribe {medicine} for {patient}: {portions}, to be dispensed until {until}.",
                    prescriber = html! { strong { (sheet.prescriber) } },
                    medicine = html! { strong { (sheet.medicine) } },
                    patient = html! { strong { (sheet.patient) } },
                    portions = html! { strong { (sheet.portions) " " (sheet.portion) } },
                    until = html! { strong { (short_date(&sheet.until)) } },
                ))
            }
            form.flow method="post" action={ (patient.address()) "/prescribe/" (draft.id) } data-passkey="use"
                data-challenge=(URL_SAFE_NO_PAD.encode(draft.challenge)) data-rp=(portal.site.rp_id())
                data-allow=(passkeys.join(" ")) {
                (csrf(&signed))
                div.actions {
                    button.btn.primary { (icon("fingerprint")) " " (text!("Prescribe with passkey")) }
                    a.btn href=(patient.address()) { (text!("Cancel")) }
                }
                (device_problem())
                p.small.soft { (text!("Nothing is prescribed until you use your passkey.")) }
            }
        }
    };
    Ok(Page::new(text!("Check before you sign"), main)
        .at(Place::Worklist)
        .under(super::short_banner(&portal, &patient))
        .narrow()
        .render(Some(&signed))
        .into_response())
}

/// What a sheet says, for clinicians and pharmacists.
pub(crate) fn facts(sheet: &Sheet, prescriber: &str) -> Markup {
    html! {
        dl.facts {
            dt { (text!("Medicine")) } dd { strong { (sheet.medicine) } }
            dt { (text!("Directions")) } dd { @if sheet.dose.is_empty() { (text!("Not given")) } @else { (sheet.dose) } }
            dt { (text!("Amount")) } dd { (sheet.portions) " " (sheet.portion) }
            dt { (text!("Patient")) } dd { (rich!(
                "{patient}, born {date}",
                patient = sheet.patient,
                date = html! { span.nowrap { (short_date(&sheet.born)) } },
            )) }
            dt { (text!("Prescriber")) } dd { (prescriber) ", " (sheet.organization) }
            dt { (text!("Allergies")) }
            @match sheet.allergies.as_deref() {
                None => dd { (text!("Not known to the prescriber")) }
                Some([]) => dd { (text!("None recorded when it was prescribed")) }
                Some(names) => dd { span.state.bad { (icon("triangle-alert")) " " (names.join(", ")) } }
            }
            dt { (text!("Prescribed")) } dd { span.nowrap { (short_date(&sheet.issued)) } }
            dt { (text!("Valid until")) } dd { span.nowrap { (short_date(&sheet.until)) } }
        }
    }
}

/// `POST /patients/{patient}/prescribe/{draft}`
pub(super) async fn confirm(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((text, id)): Path<(String, String)>,
    posted: Posted,
) -> Answer {
    signed.require(role::DOCTOR)?;
    let passkey = posted.fields.passkey()?;
    let done = portal
        .service
        .confirm_prescription(&signed.actor, &id, &passkey)
        .await?;
    portal
        .service
        .drop_unsent(&signed.actor, &format!("/patients/{text}/prescribe"))?;
    let next = format!("/patients/{text}/MedicationRequest/{}", done.written.id);
    Ok(Redirect::to(&next).into_response())
}

/// Where a prescription stands, on its entry's page, with the way to end it for its prescriber.
pub(super) async fn standing(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    id: &str,
) -> Answer<Markup> {
    let kept = match portal.service.prescription(&signed.actor, id).await {
        Ok(kept) => kept,
        Err(Error::NotFound { .. } | Error::NotSupported { .. }) => return Ok(html! {}),
        Err(error) => return Err(error.into()),
    };
    let checked = &kept.checked;
    let is_mine = checked
        .prescriber
        .as_ref()
        .is_some_and(|one| one.account == signed.person.account);
    Ok(html! {
        section.flow aria-labelledby="rx-head" {
            h2 #rx-head { (text!("Prescription")) }
            div #prescription data-live { (progress(portal, &kept).await?) }
            @if is_mine && checked.verdict == Verdict::Good {
                form method="post" action={ (patient.address()) "/MedicationRequest/" (id) "/cancel" } {
                    (csrf(signed))
                    button.btn.stop { (text!("Cancel this prescription")) }
                }
            }
        }
    })
}

/// State, what is left, and who dispensed what.
pub(crate) async fn progress(portal: &Portal, kept: &Kept) -> Answer<Markup> {
    let (checked, sheet) = (&kept.checked, &kept.checked.sheet);
    let (kind, picture, word) = look(checked.verdict);
    let mut collected = Vec::new();
    for one in &checked.dispensings {
        collected.push((one, portal.name(one.dispenser).await?.name));
    }
    Ok(html! {
        p { (tag(kind, picture, word)) " " (rich!("{left} of {portions} {portion} left", left = checked.left, portions = sheet.portions, portion = sheet.portion)) }
        @if let Some((by, at)) = checked.cancelled {
            p { (rich!("Cancelled by {name}, {moment} UTC.", name = portal.name(by).await?.name, moment = moment(at))) }
        }
        @if !collected.is_empty() {
            ul.rows {
                @for (one, name) in &collected {
                    li { (rich!(
                        "{portions} dispensed by {name}, {moment}",
                        portions = html! { strong { (one.portions) " " (sheet.portion) } },
                        name,
                        moment = html! { span.nowrap { (moment(one.at.at)) " UTC" } },
                    )) }
                }
            }
        }
    })
}

/// How a verdict looks: kind, picture, word.
pub(crate) fn look(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Good => ("ok", "circle-check", text!("Valid")),
        Verdict::Forged => ("bad", "circle-x", text!("Forged")),
        Verdict::Altered => ("bad", "circle-x", text!("Altered")),
        Verdict::Cancelled => ("", "circle-minus", text!("Cancelled")),
        Verdict::Dispensed => ("", "check", text!("All dispensed")),
        Verdict::Expired => ("", "clock", text!("Expired")),
    }
}

/// `POST /patients/{patient}/MedicationRequest/{id}/cancel`
pub(super) async fn cancel(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((text, id)): Path<(String, String)>,
    _posted: Posted,
) -> Answer {
    signed.require(role::DOCTOR)?;
    portal
        .service
        .cancel_prescription(&signed.actor, &id)
        .await?;
    let next = format!("/patients/{text}/MedicationRequest/{id}");
    Ok(Redirect::to(&next).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prescribed_is_valid_fhir() {
        let fields = Fields::parse(
            b"medicine=A+%3Cb%3E&dose=one&amount=3&portion=packs&until=2026-12-04&anyway=why",
        );
        let made = resource(&fields, "1");
        let issues = stele_fhir::validate::resource(&made);
        assert!(issues.is_empty(), "{issues:?}");
        assert_eq!(stele_fhir::category::assign(&made), Category::Medicines);
    }
}
