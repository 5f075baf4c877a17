//! Amending an entry of a chart: what may change of it depends on what it is; the rest stays as it was recorded. The new
//! version names who made it and why, and the page of the entry shows the difference.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use stele_fhir::parse;
use stele_service::{Error, Stored, Write, people::Unsent};

use super::{super::drafts, Patient, no_access};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, csrf, errors, field_error, icon},
    session::Signed,
    shown::Entry,
    text,
};

mod parts;

use parts::{
    Before, Kind, Part, TEXT_MAX, WHY_MAX, amended, can_be_wrong, editable, is_prescription,
};

/// An entry that may be amended by this person, as it stands now.
struct Amendable {
    entry: Entry,
    parts: Vec<(Part, String)>,
    error_at: Option<&'static str>,
}

impl Amendable {
    /// # Errors
    /// The patient does not let this person add to that part of the record, or nothing of it can be changed.
    async fn of(
        portal: &Portal,
        signed: &Signed,
        patient: &Patient,
        resource_type: &str,
        id: &str,
    ) -> Answer<Self> {
        let stored = read(portal, signed, patient, resource_type, id).await?;
        Self::new(patient, stored).ok_or_else(|| {
            Refusal::not_allowed(
                text!("You cannot amend this entry: the patient lets you see it, not add to it, or nothing of it can be changed."),
            )
        })
    }

    fn new(patient: &Patient, stored: Stored) -> Option<Self> {
        let entry = Entry::new(stored);
        let may = patient.may_add.contains(&entry.category) && !is_prescription(&entry.value);
        let (parts, error_at) = (editable(&entry.value), can_be_wrong(&entry.value));
        (may && (!parts.is_empty() || error_at.is_some())).then_some(Self {
            entry,
            parts,
            error_at,
        })
    }
}

async fn read(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    resource_type: &str,
    id: &str,
) -> Answer<Stored> {
    if !stele_fhir::is_resource_type(resource_type) || resource_type == "Patient" {
        return Err(Refusal::not_found());
    }
    let service = &portal.service;
    let stored = service.read(&signed.actor, resource_type, id).await?;
    let placed = service.placed(resource_type, id, stored.version)?;
    if placed.is_some_and(|placed| placed.log == patient.id.0) {
        return Ok(stored);
    }
    Err(Refusal::not_found())
}

/// The way from an entry to its amendment, where there is one.
pub(super) fn offer(patient: &Patient, entry: &Entry) -> Markup {
    let may = Amendable::new(patient, entry.stored.clone()).is_some();
    html! {
        @if may {
            div.actions.no-print {
                a.btn href={ (entry.address(&patient.address())) "/amend" } { (icon("pencil")) " " (text!("Amend this entry")) }
            }
        }
    }
}

/// What was entered and what is wrong with it.
#[derive(Default)]
struct Entered {
    fields: Fields,
    problems: Vec<(&'static str, String)>,
    draft: Option<Unsent>,
}

fn place(patient: &Patient, entry: &Entry) -> String {
    format!("{}/amend", entry.address(&patient.address()))
}

/// `GET /patients/{patient}/{type}/{id}/amend`
pub(super) async fn page(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, resource_type, id)): Path<(String, String, String)>,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let found = Amendable::of(&portal, &signed, &patient, &resource_type, &id).await?;
    let draft = drafts::at(&portal, &signed, &place(&patient, &found.entry))?;
    let entered = draft.map_or_else(Entered::default, |(fields, draft)| Entered {
        fields,
        draft: Some(draft),
        problems: Vec::new(),
    });
    Ok(form(&portal, &signed, &patient, &found, &entered))
}

fn form(
    portal: &Portal,
    signed: &Signed,
    patient: &Patient,
    found: &Amendable,
    entered: &Entered,
) -> Response {
    let (entry, problems) = (&found.entry, &entered.problems);
    let back = entry.address(&patient.address());
    let is_new = entered.draft.is_none() && problems.is_empty();
    let why = field_error(problems, "why");
    let main = html! {
        a.back href=(back) { (text!("Back to the entry")) }
        (errors(problems))
        h1 { (rich!("Amend: {title}", title = entry.title)) }
        p { (text!("A new version is recorded under your name. The version of now stays, and the patient sees both.")) }
        (drafts::offered(signed, entered.draft.as_ref()))
        form.flow method="post" action={ (back) "/amend" } data-draft novalidate {
            (csrf(signed))
            input type="hidden" name="version" value=(entry.stored.version);
            @for (part, now) in &found.parts {
                (input(part, if is_new { now } else { entered.fields.text(part.name) }, problems))
            }
            @if found.error_at.is_some() {
                div.choice {
                    input #error type="checkbox" name="error" value="yes" checked[entered.fields.text("error") == "yes"];
                    label for="error" { (text!("The whole entry was made in error, for example for another patient")) }
                }
            }
            div.field.invalid[why.is_some()] {
                label for="why" { (text!("Why")) }
                p.hint #why-h { (text!("It is recorded with the new version; the patient reads it")) }
                @if let Some(error) = &why { (error) }
                textarea #why name="why" maxlength=(WHY_MAX) aria-invalid=[why.is_some().then_some("true")]
                    aria-describedby=(if why.is_some() { "why-h why-e" } else { "why-h" }) { (entered.fields.text("why")) }
            }
            div.actions {
                button.btn.primary { (icon("pencil")) " " (text!("Record the new version")) }
                (drafts::button(&place(patient, entry)))
                a.btn href=(back) { (text!("Cancel")) }
            }
            (drafts::said())
        }
    };
    let (status, title) = if problems.is_empty() {
        (StatusCode::OK, text!("Amend an entry"))
    } else {
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            text!("Error: Amend an entry"),
        )
    };
    let page = Page::new(title, main)
        .at(Place::Worklist)
        .under(super::short_banner(portal, patient))
        .narrow()
        .render(Some(signed));
    (status, page).into_response()
}

fn input(part: &Part, given: &str, problems: &[(&'static str, String)]) -> Markup {
    let error = field_error(problems, part.name);
    let described = error.is_some().then(|| format!("{}-e", part.name));
    let is_wrong = error.is_some().then_some("true");
    html! {
        div.field.invalid[error.is_some()] {
            label for=(part.name) { (text::of(part.label)) }
            @if let Some(error) = &error { (error) }
            @match part.kind {
                Kind::Choice(choices) => select.w-m id=(part.name) name=(part.name) {
                    @if !choices.iter().any(|(code, _)| *code == given) { option value=(given) selected { (given) } }
                    @for (code, words) in choices { option value=(code) selected[*code == given] { (text::of(words)) } }
                },
                Kind::Long | Kind::Attached => textarea id=(part.name) name=(part.name) maxlength=(TEXT_MAX)
                    aria-invalid=[is_wrong] aria-describedby=[&described] { (given) },
                Kind::Number => input.w-s id=(part.name) name=(part.name) value=(given) inputmode="decimal" maxlength="20"
                    autocomplete="off" aria-invalid=[is_wrong] aria-describedby=[&described];,
                Kind::Line => input.w-l id=(part.name) name=(part.name) value=(given) maxlength="200" autocomplete="off"
                    aria-invalid=[is_wrong] aria-describedby=[&described];,
            }
        }
    }
}

/// `POST /patients/{patient}/{type}/{id}/amend`
pub(super) async fn amend(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path((text, resource_type, id)): Path<(String, String, String)>,
    posted: Posted,
) -> Answer {
    let Some(patient) = Patient::of(&portal, &mut signed, &text).await? else {
        return Ok(no_access(&portal, &signed, &text));
    };
    let found = Amendable::of(&portal, &signed, &patient, &resource_type, &id).await?;
    let mut entered = Entered {
        fields: posted.fields,
        ..Entered::default()
    };
    let version: Option<u32> = entered.fields.text("version").parse().ok();
    if version != Some(found.entry.stored.version) {
        entered.problems.push(("why", changed()));
    }
    let author = format!("Practitioner/{}", hex::encode(signed.person.account));
    let now = portal.service.now().to_instant();
    let before = Before {
        value: &found.entry.value,
        parts: &found.parts,
        error_at: found.error_at,
    };
    match amended(&before, &entered.fields, &author, &now) {
        Ok(made) if entered.problems.is_empty() => {
            let resource = parse::edited(made.to_string())
                .map_err(|_| Refusal::bad_form(text!("The entry can't be written.")))?;
            let write = Write::Update {
                resource,
                id: id.clone(),
                if_match: version,
            };
            match portal.service.write(&signed.actor, vec![write]).await {
                Ok(_) => {
                    let place = place(&patient, &found.entry);
                    portal.service.drop_unsent(&signed.actor, &place)?;
                    let next = found.entry.address(&patient.address());
                    return Ok(Redirect::to(&next).into_response());
                }
                Err(Error::PreconditionFailed { .. } | Error::Conflict { .. }) => {
                    entered.problems.push(("why", changed()));
                }
                Err(Error::Invalid { issues, .. }) => {
                    let words = issues.first().map(|one| one.diagnostics.clone());
                    entered.problems.push(("why", words.unwrap_or_default()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(_) => {}
        Err(problems) => entered.problems.extend(problems),
    }
    Ok(form(&portal, &signed, &patient, &found, &entered))
}

fn changed() -> String {
    text!("Somebody recorded a new version while you were writing. Go back to the entry, look at it, and amend that one")
        .into()
}
