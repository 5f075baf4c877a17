//! Ordering a laboratory test from a chart.

use std::sync::Arc;

use alloy_primitives::Address;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::html;
use stele_core::id::OrganizationId;
use stele_fhir::category::Category;
use stele_service::{
    Error,
    directory::role,
    people::{Named, NewOrder},
};

use super::{Patient, no_access, short_banner};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, csrf, errors, field},
    session::Signed,
    text,
};

/// Longest name of a test and longest text for the laboratory, in characters.
const TEST_MAX: usize = 200;
const REASON_MAX: usize = 2_000;

/// Doctors and nurses who may add orders to this record, and see who it is: a sample needs a name.
pub(super) fn may_order(signed: &Signed, patient: &Patient) -> bool {
    signed.person.has(role::DOCTOR | role::NURSE)
        && patient.may_add.contains(&Category::Orders)
        && patient.demographics.is_some()
}

/// `GET /patients/{patient}/order`
pub(super) async fn page(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    require(&signed, &patient)?;
    let known = portal.service.laboratories().await?;
    let none = Fields::default();
    Ok(form(&portal, &signed, &patient, &known, &none, None))
}

fn require(signed: &Signed, patient: &Patient) -> Answer<()> {
    if may_order(signed, patient) {
        return Ok(());
    }
    Err(Refusal::not_allowed(text!(
        "To order a test you need the patient’s permission to add orders, and to see the name."
    )))
}

fn form(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    known: &[Named],
    given: &Fields,
    problem: Option<String>,
) -> Response {
    let problems: Vec<(&str, String)> = problem.into_iter().map(|words| ("test", words)).collect();
    let main = html! {
        a.back href=(patient.address()) { (text!("Back to the chart")) }
        (errors(&problems))
        h1 { (text!("Order a test")) }
        @if known.is_empty() {
            p { (text!("No laboratory is registered here. An administrator registers laboratory staff under “Members”.")) }
        } @else {
            form.flow method="post" action={ (patient.address()) "/order" } novalidate {
                (csrf(signed))
                (field("test", text!("What is to be measured"), text!("For example “Potassium, creatinine”"), "w-l", given.text("test"), TEST_MAX, &problems))
                div.field {
                    label for="laboratory" { (text!("Laboratory")) }
                    select.w-l #laboratory name="laboratory" {
                        @for one in known {
                            @let account = one.account.to_string();
                            option value=(account) selected[given.text("laboratory") == account] { (one.name) }
                        }
                    }
                }
                div.field {
                    label for="reason" { (text!("For the laboratory")) }
                    p.hint #reason-h { (text!("What it needs to know: fasting, medicines, the question. It sees this, the name and the birth date, nothing else of the record.")) }
                    textarea #reason name="reason" maxlength=(REASON_MAX) aria-describedby="reason-h" { (given.text("reason")) }
                }
                div.choice {
                    input #urgent type="checkbox" name="urgent" value="yes" checked[!given.text("urgent").is_empty()];
                    label for="urgent" { (text!("Urgent")) }
                }
                div.actions { button.btn.primary { (text!("Order")) } a.btn href=(patient.address()) { (text!("Cancel")) } }
                p.small.soft { (text!("The order is an entry of the patient’s record. The laboratory can answer once the patient lets it add results.")) }
            }
        }
    };
    let title = if problems.is_empty() {
        text!("Order a test")
    } else {
        text!("Error: Order a test")
    };
    Page::new(title, main)
        .at(Place::Worklist)
        .under(short_banner(portal, patient))
        .narrow()
        .render(Some(signed))
        .into_response()
}

/// `POST /patients/{patient}/order`
pub(super) async fn place(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(text): Path<String>,
    posted: Posted,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    require(&signed, &patient)?;
    let fields = &posted.fields;
    let laboratory: Address = fields.text("laboratory").parse().unwrap_or_default();
    let order = NewOrder {
        laboratory: OrganizationId(laboratory),
        test: fields.text("test").to_owned(),
        reason: fields.text("reason").to_owned(),
        is_urgent: !fields.text("urgent").is_empty(),
    };
    let placed = portal
        .service
        .order_test(&signed.actor, patient.id, &order)
        .await;
    match placed {
        Ok(slip) => {
            let address = format!("{}/ServiceRequest/{}", patient.address(), slip.id);
            Ok(Redirect::to(&address).into_response())
        }
        Err(Error::Conflict { message }) => {
            let known = portal.service.laboratories().await?;
            let page = form(
                &portal,
                &signed,
                &patient,
                &known,
                fields,
                Some(text::told(&message)),
            );
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
