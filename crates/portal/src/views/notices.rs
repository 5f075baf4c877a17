//! Notices: what happened to a person's record or account, and how the person wants to be told of it.

use std::{collections::BTreeSet, sync::Arc};

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
    notices::{Notice, NoticeKind, NoticeSettings, Reads},
};

use crate::{
    error::Answer,
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, errors, field, icon},
    session::Signed,
    shown::{capital, clock, day},
    text,
};

/// Longest e-mail address (RFC 5321).
const ADDRESS_MAX: usize = 254;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/notices", get(page))
        .route("/notices/settings", get(settings).post(choose))
        .route("/notices/address", post(address))
        .route("/notices/address/confirm", post(confirm))
}

/// `GET /notices`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    let mut lines = Vec::new();
    for notice in portal.service.notices(signed.person.account)? {
        lines.push(Line::of(&portal, &signed, notice).await?);
    }
    let mut days: Vec<(String, Vec<Line>)> = Vec::new();
    for line in lines {
        let day = day(line.notice.at);
        match days.last_mut().filter(|(last, _)| *last == day) {
            Some((_, lines)) => lines.push(line),
            None => days.push((day, vec![line])),
        }
    }
    let main = html! {
        a.back href="/account" { (text!("Back to your account")) }
        div.page-head {
            h1 { (text!("Notices")) }
            a.btn href="/notices/settings" { (icon("pencil")) " " (text!("What you are told, and how")) }
        }
        div.sections #notices data-live {
            @if days.is_empty() {
                div.notice.flow {
                    p { strong { (text!("Nothing has happened yet.")) } }
                    p { (text!("When somebody asks for access, looks at your record or adds to it, it is said here.")) }
                }
            }
            @for (day, lines) in &days {
                section.flow {
                    h2.h3 { (day) }
                    ul.rows { @for line in lines { (line.row()) } }
                }
            }
        }
        p.small.soft { (rich!("Notices are kept for 90 days.{access_history}", access_history = html! { @if signed.is_patient() { " " (rich!("Your {access_history} keeps everything.", access_history = html! { a href="/history" { (text!("access history")) } })) } })) }
    };
    Ok(Page::new(text!("Notices"), main)
        .at(Place::Account)
        .narrow()
        .render(Some(&signed)))
}

/// A notice with the name of who did it; names stay on the page and are never sent.
struct Line {
    notice: Notice,
    who: Option<String>,
}

impl Line {
    async fn of(portal: &Portal, signed: &Signed, notice: Notice) -> Answer<Self> {
        let who = match notice.who {
            None => None,
            // For staff the other one is a patient, who has a number here; the name is part of the record.
            Some(patient) if !signed.is_patient() => {
                let number = portal
                    .service
                    .patient_number(stele_core::id::PatientId(patient));
                number.ok().map(|number| format!("PAT{number:03}"))
            }
            Some(who) => Some(portal.name(who).await?.name),
        };
        Ok(Self { notice, who })
    }

    fn row(&self) -> Markup {
        let (picture, address, verb) = look(self.notice.kind);
        let address = match (&self.who, self.notice.kind) {
            (
                Some(number),
                NoticeKind::AccessGranted | NoticeKind::ResultReady | NoticeKind::ResultCorrected,
            ) => {
                format!("/patients/{number}")
            }
            _ => address.to_owned(),
        };
        html! {
            li.access-row {
                div.tight {
                    p { (icon(picture)) " " (sentence(self.notice.kind, self.who.as_deref())) }
                    p.small.soft { (clock(self.notice.at)) " UTC" }
                }
                div.row-acts { a href=(address) { (verb) span.hide { ": " (text::of(self.notice.kind.words())) } } }
            }
        }
    }
}

/// Picture, where to look, and what to call that.
fn look(kind: NoticeKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        NoticeKind::AccessRequested => ("users", "/access", text!("Answer")),
        NoticeKind::AccessGranted => ("users", "/worklist", text!("Open")),
        NoticeKind::RecordRead => ("eye", "/history", text!("History")),
        NoticeKind::Emergency => ("triangle-alert", "/history", text!("History")),
        NoticeKind::NewEntry => ("file-text", "/record", text!("Record")),
        NoticeKind::OrderReceived => ("file-text", "/laboratory", text!("Orders")),
        NoticeKind::ResultReady | NoticeKind::ResultCorrected => {
            ("file-text", "/worklist", text!("Open"))
        }
        NoticeKind::NewDevice => ("key-round", "/account", text!("Account")),
    }
}

fn sentence(kind: NoticeKind, who: Option<&str>) -> String {
    let Some(who) = who else {
        return format!("{}.", text::of(kind.words()));
    };
    match kind {
        NoticeKind::AccessRequested => text!("{who} asks to see your record.", who),
        NoticeKind::AccessGranted => text!("{who} gave you access.", who),
        NoticeKind::RecordRead => text!("{who} looked at your record.", who),
        NoticeKind::Emergency => text!("{who} opened your record in an emergency.", who),
        NoticeKind::NewEntry => text!("{who} added to your record.", who),
        NoticeKind::OrderReceived => text!("A test of {who} was ordered from you.", who),
        NoticeKind::ResultReady => text!("A result that you ordered for {who} is there.", who),
        NoticeKind::ResultCorrected => {
            text!("A result that you ordered for {who} was corrected.", who)
        }
        NoticeKind::NewDevice => format!("{}.", text::of(kind.words())),
    }
}

/// `GET /notices/settings`
async fn settings(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    show(&portal, &signed, None, &[])
}

fn show(
    portal: &Portal,
    signed: &Signed,
    typed: Option<&str>,
    problems: &[(&str, String)],
) -> Answer<Rendered> {
    let settings = portal.service.notice_settings(signed.person.account)?;
    let (has_mail, hook) = portal.service.notice_ways();
    let main = html! {
        a.back href="/notices" { (text!("Back to notices")) }
        (errors(problems))
        h1 { (text!("What you are told, and how")) }
        p { (text!("On these pages you see everything, always. What leaves them says only that something happened: no name, nothing of your health.")) }
        div.sections {
            @if has_mail { (mail_section(signed, &settings, typed, problems)) }
            @if has_mail || hook.is_some() { (choice(signed, &settings, has_mail, hook.as_deref())) }
            @else {
                div.notice { p { (rich!("{organization} sends no e-mail from here. Look at your notices whenever you sign in.", organization = signed.organization)) } }
            }
        }
    };
    let title = if problems.is_empty() {
        text!("Notice settings")
    } else {
        text!("Error: Notice settings")
    };
    Ok(Page::new(title, main)
        .at(Place::Account)
        .narrow()
        .render(Some(signed)))
}

fn mail_section(
    signed: &Signed,
    settings: &NoticeSettings,
    typed: Option<&str>,
    problems: &[(&str, String)],
) -> Markup {
    let value = typed.or(settings.email.as_deref()).unwrap_or_default();
    html! {
        section.flow {
            h2 { (text!("E-mail")) }
            @if let Some(email) = &settings.email { p { (rich!("Notices go to {email}.", email = html! { strong { (email) } })) } }
            @if let Some(waiting) = &settings.unconfirmed {
                div.notice.wait.flow {
                    p { (rich!("We sent a code to {address}. Enter it here within an hour. Until then nothing else goes there.", address = html! { strong { (waiting.address) } })) }
                    form.flow method="post" action="/notices/address/confirm" novalidate {
                        (csrf(signed))
                        (field("code", text!("Code"), text!("Six digits"), "w-s", "", 12, problems))
                        div.actions { button.btn.primary { (text!("Confirm")) } }
                    }
                }
            }
            form.flow method="post" action="/notices/address" novalidate {
                (csrf(signed))
                (field("address", text!("E-mail address"), text!("Leave it empty to get no e-mail"), "w-l", value, ADDRESS_MAX, problems))
                div.actions { button.btn { (text!("Save address")) } }
            }
        }
    }
}

fn choice(
    signed: &Signed,
    settings: &NoticeSettings,
    has_mail: bool,
    hook: Option<&str>,
) -> Markup {
    let kinds = NoticeKind::ALL
        .into_iter()
        .filter(|kind| kind.is_for(signed.person.kind));
    html! {
        section.flow {
            h2 { (text!("What is sent")) }
            form.flow method="post" action="/notices/settings" {
                (csrf(signed))
                @for kind in kinds {
                    fieldset {
                        legend { (text::of(kind.words())) }
                        @if has_mail {
                            (tick("mail", kind, "E-mail", !settings.not_by_mail.contains(&kind)))
                        }
                        @if let Some(name) = hook {
                            (tick("hook", kind, &capital(name), settings.by_hook.contains(&kind)))
                        }
                    }
                }
                @if signed.is_patient() {
                    fieldset {
                        legend { (text!("When somebody looked at your record")) }
                        @for (value, words, is_chosen) in [
                            ("daily", text!("Tell me on the next morning, all in one"), settings.reads == Reads::Daily),
                            ("at-once", text!("Tell me at once, once a day for each reader"), settings.reads == Reads::AtOnce),
                        ] {
                            div.choice {
                                input type="radio" id={ "reads-" (value) } name="reads" value=(value) checked[is_chosen];
                                label for={ "reads-" (value) } { (words) }
                            }
                        }
                    }
                }
                div.actions { button.btn.primary { (text!("Save")) } }
            }
        }
    }
}

fn tick(way: &str, kind: NoticeKind, words: &str, is_on: bool) -> Markup {
    let id = format!("{way}-{}", kind.name());
    html! {
        div.choice {
            input type="checkbox" id=(id) name=(way) value=(kind.name()) checked[is_on];
            label for=(id) { (words) span.hide { ": " (text::of(kind.words())) } }
        }
    }
}

/// `POST /notices/settings`
async fn choose(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    let chosen = |way: &str| kinds_of(&posted.fields, way);
    let reads = match posted.fields.text("reads") {
        "at-once" => Reads::AtOnce,
        _ => Reads::Daily,
    };
    portal.service.choose_notices(
        signed.person.account,
        &chosen("mail"),
        chosen("hook"),
        reads,
    )?;
    Ok(Redirect::to("/notices/settings").into_response())
}

fn kinds_of(fields: &Fields, way: &str) -> BTreeSet<NoticeKind> {
    let names = fields.all(way);
    NoticeKind::ALL
        .into_iter()
        .filter(|kind| names.contains(&kind.name()))
        .collect()
}

/// `POST /notices/address`
async fn address(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    let typed = posted.fields.text("address");
    let set = portal
        .service
        .set_notice_address(signed.person.account, typed);
    match set {
        Ok(()) => Ok(Redirect::to("/notices/settings").into_response()),
        Err(Error::Conflict { message }) => {
            let page = show(
                &portal,
                &signed,
                Some(typed),
                &[("address", text::told(&message))],
            )?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /notices/address/confirm`
async fn confirm(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    let code = posted.fields.text("code");
    let is_right = portal
        .service
        .confirm_notice_address(signed.person.account, code)?;
    if is_right {
        return Ok(Redirect::to("/notices/settings").into_response());
    }
    let words = text!("This code is wrong or too old. Save the address again to get a new one.");
    let page = show(&portal, &signed, None, &[("code", words.to_owned())])?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_kinds_are_chosen() {
        let fields = Fields::parse(b"mail=emergency&mail=new-entry&mail=x&hook=emergency");
        assert_eq!(
            kinds_of(&fields, "mail"),
            BTreeSet::from([NoticeKind::Emergency, NoticeKind::NewEntry])
        );
        assert_eq!(kinds_of(&fields, "hook").len(), 1);
        assert!(kinds_of(&fields, "reads").is_empty());
    }

    #[test]
    fn every_notice_is_a_sentence_that_leads_somewhere() {
        for kind in NoticeKind::ALL {
            for who in [None, Some("PAT001")] {
                assert!(sentence(kind, who).ends_with('.'), "{kind:?}");
            }
            assert!(look(kind).1.starts_with('/'));
        }
    }
}
