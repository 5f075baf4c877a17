//! Correcting what a patient added: a new version beside the earlier ones, or the mark that it was a mistake. Only the
//! patient's own entries, of the kinds that these pages add.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequest as _, Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use maud::{Markup, html};
use serde_json::{Value, json};
use stele_core::id::PatientId;
use stele_fhir::{parse, words};
use stele_service::{Stored, Write, people::file_of};

use super::{Asked, Kind, check, form, resource, today, writer};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{csrf, icon},
    session::Signed,
    views::upload::{self, Sent},
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/record/{type}/{id}/correct", get(page).post(correct))
        .route("/record/{type}/{id}/mistake", axum::routing::post(mark))
}

/// What can be corrected here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Correctable {
    Entry(Kind),
    File,
}

impl Correctable {
    fn of(value: &Value) -> Option<Self> {
        if words::status(value) == Some("Entered in error") {
            return None;
        }
        match words::text_at(value, "/resourceType") {
            "DocumentReference" => file_of(value).map(|_| Self::File),
            "Observation" => Kind::of(value).map(Self::Entry),
            _ => None,
        }
    }
}

impl Kind {
    /// The kind of an entry that these pages made.
    fn of(value: &Value) -> Option<Self> {
        match words::text_at(value, "/code/coding/0/code") {
            "85354-9" => Some(Self::Pressure),
            "29463-7" => Some(Self::Weight),
            "" if words::text_at(value, "/code/text") == "How I feel" => Some(Self::Feeling),
            _ => None,
        }
    }
}

/// Whether a page of an own entry offers to correct it.
pub(in crate::views) fn correctable(value: &Value) -> bool {
    Correctable::of(value).is_some()
}

/// The patient's own entry as it is now.
async fn own_entry(
    portal: &Portal,
    signed: &Signed,
    resource_type: &str,
    id: &str,
) -> Answer<(Stored, Value, Correctable, PatientId)> {
    let patient = writer(signed)?;
    if !matches!(resource_type, "Observation" | "DocumentReference") {
        return Err(Refusal::not_found());
    }
    let stored = portal
        .service
        .read(&signed.actor, resource_type, id)
        .await?;
    let placed = portal.service.placed(resource_type, id, stored.version)?;
    if placed.is_none_or(|placed| placed.log != patient.0 || placed.author != patient.0) {
        return Err(Refusal::not_allowed(text!(
            "You can correct what you added yourself. If something else is wrong in your record, tell whoever wrote it."
        )));
    }
    let value: Value = serde_json::from_str(&stored.text).unwrap_or_default();
    let kind = Correctable::of(&value)
        .ok_or_else(|| Refusal::not_allowed(text!("This entry cannot be corrected here.")))?;
    Ok((stored, value, kind, patient))
}

/// `GET /record/{type}/{id}/correct`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    let (stored, value, kind, _) = own_entry(&portal, &signed, &resource_type, &id).await?;
    let fields = fields_of(&value, kind);
    let entry = format!("/record/{resource_type}/{id}");
    let today = today(portal.service.now());
    Ok(match kind {
        Correctable::Entry(kind) => {
            let asked = Asked::Correct {
                entry: &entry,
                version: stored.version,
            };
            form(&signed, kind, &fields, &today, &[], &asked).into_response()
        }
        Correctable::File => {
            let asked = upload::Asked::Correct {
                entry,
                version: stored.version,
            };
            upload::form(&portal, &signed, &asked, &fields, &[]).into_response()
        }
    })
}

/// What an entry says, as the form's fields.
fn fields_of(value: &Value, kind: Correctable) -> Fields {
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    let mut put = |name: &str, text: &str| {
        encoded.append_pair(name, text);
    };
    put("when", words::when(value).get(..10).unwrap_or_default());
    let number = |pointer: &str| value.pointer(pointer).map(Value::to_string);
    let note = match kind {
        Correctable::File => {
            put("title", &words::title("DocumentReference", value));
            "/description"
        }
        Correctable::Entry(Kind::Pressure) => {
            for (name, pointer) in [
                ("upper", "/component/0/valueQuantity/value"),
                ("lower", "/component/1/valueQuantity/value"),
            ] {
                put(name, &number(pointer).unwrap_or_default());
            }
            "/note/0/text"
        }
        Correctable::Entry(Kind::Weight) => {
            put(
                "weight",
                &number("/valueQuantity/value").unwrap_or_default(),
            );
            "/note/0/text"
        }
        Correctable::Entry(Kind::Feeling) => "/valueString",
    };
    put("note", words::text_at(value, note));
    Fields::parse(encoded.finish().as_bytes())
}

/// `POST /record/{type}/{id}/correct`
async fn correct(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let (stored, value, kind, patient) = own_entry(&portal, &signed, &resource_type, &id).await?;
    let entry = format!("/record/{resource_type}/{id}");
    let today = today(portal.service.now());
    let Correctable::Entry(kind) = kind else {
        return correct_file(&portal, &signed, patient, &stored, request).await;
    };
    let fields = Posted::from_request(request, &portal).await?.fields;
    let version = version(&fields)?;
    let problems = check(kind, &fields, &today);
    if !problems.is_empty() {
        let asked = Asked::Correct {
            entry: &entry,
            version,
        };
        let page = form(&signed, kind, &fields, &today, &problems, &asked);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let mut made = resource(kind, &fields, words::text_at(&value, "/subject/reference"));
    set(&mut made, "id", json!(id));
    set(&mut made, "status", json!("corrected"));
    update(&portal, &signed, &made, id, version).await?;
    Ok(Redirect::to(&entry).into_response())
}

async fn correct_file(
    portal: &Arc<Portal>,
    signed: &Signed,
    patient: PatientId,
    stored: &Stored,
    request: Request,
) -> Answer {
    let sent = Sent::read(portal, signed, request).await?;
    let version = version(&sent.fields)?;
    let asked = upload::Asked::Correct {
        entry: format!("/record/DocumentReference/{}", stored.id),
        version,
    };
    let problems = sent.problems(&today(portal.service.now()));
    if !problems.is_empty() {
        upload::drained(sent.file, portal.upload_max_bytes).await;
        let page = upload::form(portal, signed, &asked, &sent.fields, &problems);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    let (said, id) = (upload::said(&sent.fields), stored.id.clone());
    let done = match sent.file {
        Some(file) => {
            file.carry(portal.upload_max_bytes, |new| {
                tokio::spawn(async move {
                    let entry = (id.as_str(), version);
                    let file = Some(new);
                    service
                        .correct_file(&actor, patient, entry, &said, file)
                        .await
                })
            })
            .await
        }
        None => {
            let entry = (id.as_str(), version);
            service
                .correct_file::<upload::Pieces>(&actor, patient, entry, &said, None)
                .await
        }
    };
    upload::answered(portal, signed, &asked, &sent.fields, done)
}

/// The way to take an entry back: it stays, struck through.
pub(in crate::views) fn mistake(signed: &Signed, entry: &str, version: u32) -> Markup {
    html! {
        section.flow {
            h2 { (text!("Was it a mistake?")) }
            p { (text!("An entry is never deleted. Marked as a mistake it is struck through, for you and for everyone who can see it.")) }
            form method="post" action={ (entry) "/mistake" } {
                (csrf(signed))
                input type="hidden" name="version" value=(version);
                button.btn.stop { (icon("x")) " " (text!("Mark as a mistake")) }
            }
        }
    }
}

/// `POST /record/{type}/{id}/mistake`
async fn mark(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
    posted: Posted,
) -> Answer {
    let (_, mut value, kind, _) = own_entry(&portal, &signed, &resource_type, &id).await?;
    let version = version(&posted.fields)?;
    set(&mut value, "status", json!("entered-in-error"));
    if kind == Correctable::File {
        set(&mut value, "docStatus", json!("entered-in-error"));
    }
    update(&portal, &signed, &value, id.clone(), version).await?;
    Ok(Redirect::to(&format!("/record/{resource_type}/{id}")).into_response())
}

fn version(fields: &Fields) -> Answer<u32> {
    let version = fields.text("version").parse();
    version.map_err(|_| Refusal::bad_form(text!("It does not say which version it corrects.")))
}

fn set(value: &mut Value, member: &str, to: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(member.to_owned(), to);
    }
}

async fn update(
    portal: &Portal,
    signed: &Signed,
    made: &Value,
    id: String,
    version: u32,
) -> Answer<()> {
    let resource = parse::edited(made.to_string())
        .map_err(|_| Refusal::bad_form(text!("The entry can't be written.")))?;
    let write = Write::Update {
        resource,
        id,
        if_match: Some(version),
    };
    portal.service.write(&signed.actor, vec![write]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_filled_with_what_the_entry_says() {
        let given = Fields::parse(
            b"upper=128&lower=82.0&weight=71.50&when=2026-06-30&note=after+a+walk&title=x",
        );
        for (kind, fields) in [
            (
                Kind::Pressure,
                ["upper", "lower", "when", "note"].as_slice(),
            ),
            (Kind::Weight, &["weight", "when", "note"]),
            (Kind::Feeling, &["when", "note"]),
        ] {
            let made = resource(kind, &given, "Patient/1");
            assert_eq!(Correctable::of(&made), Some(Correctable::Entry(kind)));
            let filled = fields_of(&made, Correctable::Entry(kind));
            for field in fields {
                assert_eq!(filled.text(field), given.text(field), "{kind:?} {field}");
            }
        }
    }

    #[test]
    fn what_others_wrote_in_another_shape_is_left_alone() {
        let mut made = resource(Kind::Weight, &Fields::parse(b"weight=70"), "Patient/1");
        set(&mut made, "status", json!("entered-in-error"));
        assert_eq!(Correctable::of(&made), None);
        let result =
            json!({ "resourceType": "Observation", "code": { "coding": [{ "code": "2339-0" }] } });
        assert_eq!(Correctable::of(&result), None);
        let link = json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "url": "https://a.example/" } }] });
        assert_eq!(Correctable::of(&link), None);
    }
}
