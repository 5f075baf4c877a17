//! Operations on prescriptions: `$prescribe`, `$check-prescription`, `$dispense`, `$cancel-prescription`. A code travels in
//! bodies only, never in an address.

use axum::{
    Json,
    body::Body,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use stele_fhir::{outcome::Issue, outcome::IssueCode, parse, validate, words};
use stele_service::{Written, prescriptions::Checked};

use super::{
    asked::Asked,
    headers::{put_version, require_json},
    page,
    write::{invalid, limits, unreadable},
};
use crate::{
    body,
    problem::{Answer, Problem},
    smart::Interaction,
};

const REQUEST: &str = "MedicationRequest";

fn only(asked: &Asked, resource_type: &str, operation: &str) -> Result<(), Problem> {
    if asked.resource_type == resource_type {
        return Ok(());
    }
    Err(Problem::one(
        StatusCode::NOT_FOUND,
        IssueCode::NotSupported,
        format!("{operation} is offered for {resource_type} only"),
    ))
}

/// Body of a request: a resource of this type.
async fn sent(asked: &Asked, body: Body, resource_type: &str) -> Result<Value, Problem> {
    require_json(&asked.headers)?;
    let front = &asked.front;
    let bytes = body::read(&asked.headers, body, front.config.max_body_bytes).await?;
    let read = parse::resource(&bytes, &limits(front)).map_err(unreadable)?;
    if read.resource_type != resource_type {
        return Err(Problem::bad_request(
            IssueCode::Invalid,
            format!("the body must be {resource_type}"),
        ));
    }
    let issues = validate::resource(&read.value);
    if issues.iter().any(Issue::is_error) {
        return Err(invalid(issues));
    }
    Ok(read.value)
}

/// Value of a parameter of a Parameters resource.
fn parameter<'v>(parameters: &'v Value, name: &str) -> Option<&'v Value> {
    let list = parameters.get("parameter")?.as_array()?;
    let one = list
        .iter()
        .find(|one| words::text_at(one, "/name") == name)?;
    one.as_object()?
        .iter()
        .find(|(member, _)| member.starts_with("value"))
        .map(|(_, value)| value)
}

fn code(parameters: &Value) -> Result<&str, Problem> {
    parameter(parameters, "code")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            Problem::bad_request(
                IssueCode::Required,
                "Parameters must have `code`, a valueString",
            )
        })
}

/// A resource as it was written, under its address and version.
fn written(asked: &Asked, status: StatusCode, written: Written) -> Answer {
    let view = asked.view()?;
    let place = format!("{}/{}", written.resource_type, written.id);
    let text = written.text.unwrap_or_default().to_string();
    let mut response = page::shown(status, text, &view);
    let headers = response.headers_mut();
    put_version(headers, written.version, written.last_updated);
    let url = format!(
        "{}/{place}/_history/{}",
        asked.front.config.fhir_url(),
        written.version
    );
    if let Ok(url) = url.parse() {
        headers.insert(LOCATION, url);
    }
    Ok(response)
}

/// `POST MedicationRequest/$prescribe`: a MedicationRequest becomes a prescription on the ledger and in the record.
pub(super) async fn prescribe(asked: Asked, body: Body) -> Answer {
    only(&asked, REQUEST, "$prescribe")?;
    asked.require_write(&[Interaction::Create])?;
    let request = sent(&asked, body, REQUEST).await?;
    let actor = &asked.principal.actor;
    let done = asked.front.service.prescribe(actor, &request).await?;
    written(&asked, StatusCode::CREATED, done.written)
}

/// `POST MedicationRequest/$check-prescription`: a code held against the ledger.
pub(super) async fn check(asked: Asked, body: Body) -> Answer {
    only(&asked, REQUEST, "$check-prescription")?;
    asked.require(&[Interaction::Read])?;
    let parameters = sent(&asked, body, "Parameters").await?;
    let service = &asked.front.service;
    let checked = service.check_prescription(code(&parameters)?).await?;
    Ok(Json(json!({ "resourceType": "Parameters", "parameter": said(&checked) })).into_response())
}

/// What was found, as parameters. The text of what is forged or altered is not given.
fn said(checked: &Checked) -> Vec<Value> {
    let text = |name: &str, value: &str| json!({ "name": name, "valueString": value });
    let number = |name: &str, value: u16| json!({ "name": name, "valueUnsignedInt": value });
    let mut list = vec![
        json!({ "name": "verdict", "valueCode": checked.verdict.code() }),
        text("reason", checked.verdict.words()),
        text("prescription", &checked.id.to_string()),
        number("left", checked.left),
    ];
    if matches!(checked.verdict.code(), "forged" | "altered") {
        return list;
    }
    let sheet = &checked.sheet;
    list.extend([
        text("medicine", &sheet.medicine),
        text("dose", &sheet.dose),
        number("portions", sheet.portions),
        text("portion", &sheet.portion),
        text("patient", &sheet.patient),
        text("born", &sheet.born),
        json!({ "name": "issued", "valueDate": sheet.issued }),
        json!({ "name": "until", "valueDate": sheet.until }),
        json!({ "name": "prescriberActive", "valueBoolean": checked.is_prescriber_active }),
    ]);
    list.retain(|one| one.get("valueString").is_none_or(|value| value != ""));
    if let Some(named) = &checked.prescriber {
        list.push(text("prescriber", &named.name));
    }
    for name in sheet.allergies.iter().flatten() {
        list.push(text("allergy", name));
    }
    list
}

/// `POST MedicationDispense/$dispense`: portions of a prescription, by its code.
pub(super) async fn dispense(asked: Asked, body: Body) -> Answer {
    only(&asked, "MedicationDispense", "$dispense")?;
    asked.require_write(&[Interaction::Create])?;
    let parameters = sent(&asked, body, "Parameters").await?;
    let portions = parameter(&parameters, "portions")
        .and_then(Value::as_u64)
        .and_then(|portions| u16::try_from(portions).ok())
        .ok_or_else(|| {
            Problem::bad_request(
                IssueCode::Required,
                "Parameters must have `portions`, a valuePositiveInt of at most 65535",
            )
        })?;
    let done = asked
        .front
        .service
        .dispense(&asked.principal.actor, code(&parameters)?, portions)
        .await?;
    let mut list = said(&done.checked);
    list.insert(
        0,
        json!({ "name": "dispensed", "valueUnsignedInt": done.portions }),
    );
    if let Some(text) = done.written.and_then(|written| written.text) {
        let resource: Value = serde_json::from_str(&text).unwrap_or_default();
        list.push(json!({ "name": "return", "resource": resource }));
    }
    let answer = json!({ "resourceType": "Parameters", "parameter": list });
    let response: Response = (StatusCode::CREATED, Json(answer)).into_response();
    Ok(response)
}

/// `POST MedicationRequest/{id}/$cancel-prescription`: ends what is left.
pub(super) async fn cancel(asked: Asked) -> Answer {
    only(&asked, REQUEST, "$cancel-prescription")?;
    asked.require_write(&[Interaction::Update])?;
    let actor = &asked.principal.actor;
    let done = asked
        .front
        .service
        .cancel_prescription(actor, &asked.id)
        .await?;
    written(&asked, StatusCode::OK, done)
}
