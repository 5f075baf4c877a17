//! The administrator's desk: who works here, who may act, and codes for the portal.

use std::sync::Arc;

use alloy_primitives::Address;
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_service::{
    Error,
    directory::role,
    people::{Invitation, Member, NewMember, ROLES},
};

use super::{ask::numbered, worklist::head};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field_error, icon, tag},
    session::Signed,
    shown::{capital, moment, short_date},
    text,
};

/// Longest name, calling and licence, in characters.
const TEXT_MAX: usize = 120;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/members", get(page).post(register))
        .route("/members/status", post(status))
        .route("/members/invite", post(invite))
        .route("/members/invite-patient", post(invite_patient))
}

/// A member with the words of the directory.
struct Row {
    member: Member,
    name: String,
    what: String,
    has_passkey: bool,
}

/// `GET /members`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    render(&portal, &signed, &Fields::default(), &[]).await
}

async fn render(
    portal: &Portal,
    signed: &Signed,
    given: &Fields,
    problems: &[(&'static str, String)],
) -> Answer<Rendered> {
    signed.require(role::ADMINISTRATOR)?;
    let mut rows = Vec::new();
    for member in portal.service.members(&signed.actor)? {
        let named = portal.name(member.account).await?;
        rows.push(Row {
            has_passkey: !portal.service.passkeys(member.account)?.is_empty(),
            name: named.name,
            what: named.what.unwrap_or_default(),
            member,
        });
    }
    let active = rows.iter().filter(|row| row.member.active).count();
    let main = html! {
        (errors(problems))
        div.page-head {
            h1 { (rich!("Members of {organization}", organization = signed.organization)) }
            p.soft { (rich!(
                "{active} of {rows} may act · {doctors_who_registered}",
                active,
                rows = rows.len(),
                doctors_who_registered = html! { a href="/members/requests" { (text!("Doctors who registered")) } },
            )) }
        }
        div.chart-grid.two {
            div.flow {
                (super::requests::waiting(portal, signed)?)
                div #members data-live { (table(signed, &rows)) }
                p.small.soft { (text!("Suspending acts with the next block, in about a second: sessions end, and nothing is read or signed any more.")) }
            }
            div.flow.sections {
                (new_member(signed, given, problems))
                (patient_code(signed, given, problems))
            }
        }
    };
    let title = if problems.is_empty() {
        text!("Members")
    } else {
        text!("Error: Members")
    };
    Ok(Page::new(title, main)
        .at(Place::Members)
        .render(Some(signed)))
}

fn table(signed: &Signed, rows: &[Row]) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { (text!("Members")) }
            (head(&[text!("Name"), text!("Roles"), text!("Registered"), text!("State"), text!("Portal"), text!("Act")]))
            tbody role="rowgroup" {
                @for row in rows {
                    @let account = row.member.account.to_string();
                    tr role="row" {
                        th role="rowheader" scope="row" { (row.name) br; span.small.soft { (capital(&row.what)) } }
                        td role="cell" data-label=(text!("Roles")) { (roles(row.member.roles)) }
                        td role="cell" data-label=(text!("Registered")) { span.nowrap { (short_date(&row.member.registered.to_instant())) } }
                        td role="cell" data-label=(text!("State")) {
                            @if row.member.active { (tag("ok", "circle-check", text!("Active"))) } @else { (tag("", "ban", text!("Suspended"))) }
                        }
                        td role="cell" data-label=(text!("Portal")) {
                            @if row.has_passkey { (text!("Has a passkey")) } @else { span.soft { (text!("Not signed up")) } }
                        }
                        td role="cell" data-label=(text!("Act")) {
                            div.row-acts {
                                @if row.member.active {
                                    (act(signed, "/members/invite", &account, None, text!("Invite"), &row.name))
                                }
                                @if row.member.account != signed.person.account {
                                    @if row.member.active {
                                        (act(signed, "/members/status", &account, Some("suspend"), text!("Suspend"), &row.name))
                                    } @else {
                                        (act(signed, "/members/status", &account, Some("reinstate"), text!("Reinstate"), &row.name))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn act(
    signed: &Signed,
    address: &str,
    account: &str,
    what: Option<&str>,
    words: &str,
    name: &str,
) -> Markup {
    html! {
        form method="post" action=(address) {
            (csrf(signed))
            input type="hidden" name="account" value=(account);
            @if let Some(what) = what { input type="hidden" name="act" value=(what); }
            button.plain { (words) span.hide { " " (name) } }
        }
    }
}

fn roles(bits: u32) -> String {
    let names: Vec<&str> = ROLES
        .iter()
        .filter(|(_, bit, _)| bits & bit != 0)
        .map(|(_, _, words)| text::of(words))
        .collect();
    if names.is_empty() {
        text!("None").into()
    } else {
        names.join(", ")
    }
}

fn new_member(signed: &Signed, given: &Fields, problems: &[(&'static str, String)]) -> Markup {
    let name = field_error(problems, "name");
    html! {
        section.panel aria-labelledby="new-head" {
            form.flow method="post" action="/members" novalidate {
                (csrf(signed))
                h2 #new-head { (text!("Register a member")) }
                div.field.invalid[name.is_some()] {
                    label for="name" { (text!("Name")) }
                    @if let Some(error) = &name { (error) }
                    input #name name="name" value=(given.text("name")) maxlength=(TEXT_MAX) autocomplete="off"
                        aria-invalid=[name.is_some().then_some("true")] aria-describedby=[name.is_some().then_some("name-e")];
                }
                div.field { label for="what" { (text!("Calling, as patients read it")) } input #what name="what" value=(given.text("what")) maxlength=(TEXT_MAX) autocomplete="off"; }
                div.field {
                    label for="role" { (text!("Role")) }
                    select #role name="role" {
                        @for (name, _, words) in ROLES { option value=(name) selected[given.text("role") == name] { (text::of(words)) } }
                    }
                }
                div.field {
                    label for="licence" { (text!("Number of the licence you have checked")) }
                    p.hint #licence-h { (text!("Only a salted commitment is recorded.")) }
                    input #licence name="licence" value=(given.text("licence")) maxlength=(TEXT_MAX) autocomplete="off" aria-describedby="licence-h";
                }
                div.actions { button.btn.primary { (icon("plus")) " " (text!("Register")) } }
            }
        }
    }
}

fn patient_code(signed: &Signed, given: &Fields, problems: &[(&'static str, String)]) -> Markup {
    let error = field_error(problems, "patient");
    html! {
        section.panel aria-labelledby="code-head" {
            form.flow method="post" action="/members/invite-patient" novalidate {
                (csrf(signed))
                h2 #code-head { (text!("Invite a patient")) }
                p.small { (text!("With the patient before you, after you have checked who it is.")) }
                div.field.invalid[error.is_some()] {
                    label for="patient" { (text!("Patient number")) }
                    @if let Some(error) = &error { (error) }
                    input.w-m #patient name="patient" value=(given.text("patient")) maxlength="20" autocomplete="off"
                        aria-invalid=[error.is_some().then_some("true")] aria-describedby=[error.is_some().then_some("patient-e")];
                }
                div.actions { button.btn { (text!("Make a code")) } }
            }
        }
    }
}

/// `POST /members`
async fn register(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    signed.require_fresh(portal.service.now())?;
    let fields = &posted.fields;
    let role = ROLES
        .iter()
        .find(|(name, ..)| *name == fields.text("role"))
        .map(|(_, bit, _)| *bit)
        .ok_or_else(|| Refusal::bad_form(text!("It names no role.")))?;
    let texts = ["name", "what", "licence"].map(|name| fields.text(name));
    let is_long = texts.iter().any(|text| text.chars().count() > TEXT_MAX);
    if fields.text("name").is_empty() || is_long {
        let words = text!(
            "Enter a name; each field holds at most {most} characters",
            most = TEXT_MAX
        );
        let page = render(&portal, &signed, fields, &[("name", words)]).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let new = NewMember {
        name: fields.text("name").to_owned(),
        what: fields.text("what").to_owned(),
        roles: role,
        licence: fields.text("licence").to_owned(),
    };
    portal.service.register_member(&signed.actor, &new).await?;
    Ok(Redirect::to("/members").into_response())
}

fn account(fields: &Fields) -> Answer<Address> {
    fields
        .text("account")
        .parse()
        .map_err(|_| Refusal::bad_form(text!("It names nobody.")))
}

/// `POST /members/status`
async fn status(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    let active = match posted.fields.text("act") {
        "suspend" => false,
        "reinstate" => true,
        _ => return Err(Refusal::bad_form(text!("It does not say what to do."))),
    };
    portal
        .service
        .set_member_status(&signed.actor, account(&posted.fields)?, active)
        .await?;
    Ok(Redirect::to("/members").into_response())
}

/// `POST /members/invite`: the code is shown on this one page and kept nowhere.
async fn invite(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    signed.require_fresh(portal.service.now())?;
    let invitation = portal
        .service
        .invite_member(&signed.actor, account(&posted.fields)?)
        .await?;
    let name = portal.name(invitation.account).await?.name;
    Ok(code(&portal, &signed, &name, &invitation).into_response())
}

/// `POST /members/invite-patient`
async fn invite_patient(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    posted: Posted,
) -> Answer {
    signed.require(role::ADMINISTRATOR)?;
    signed.require_fresh(portal.service.now())?;
    let text = posted.fields.text("patient");
    let invited = match numbered(&portal, text)? {
        Some(patient) => match portal.service.invite_patient(&signed.actor, patient).await {
            Ok(invitation) => Some(invitation),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let Some(invitation) = invited else {
        let words = text!(
            "Enter the number of a patient whom your organisation registered, such as PAT003"
        );
        let problems = [("patient", words.to_owned())];
        let page = render(&portal, &signed, &posted.fields, &problems).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    Ok(code(&portal, &signed, &text.to_uppercase(), &invitation).into_response())
}

fn code(portal: &Portal, signed: &Signed, name: &str, invitation: &Invitation) -> Rendered {
    let main = html! {
        div.flow {
            h1 { (rich!("Invitation for {name}", name)) }
            p { (rich!(
                "Hand this over in person. Whoever has it can act as {name}. It works once, until {moment} UTC, and is shown only now.",
                name,
                moment = moment(invitation.expires),
            )) }
            p.stat.mono { (invitation.code) }
            p { (rich!("To be entered at {origin}", origin = html! { strong { (portal.site.origin()) "/invitation" } })) }
            div.actions { a.btn.primary href="/members" { (text!("Done")) } button.btn data-print hidden { (icon("printer")) " " (text!("Print")) } }
        }
    };
    Page::new(text!("Invitation"), main)
        .at(Place::Members)
        .narrow()
        .render(Some(signed))
}
