//! A person's own account: passkeys, and who holds the keys of the record.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use stele_core::id::PatientId;
use stele_service::people::PasskeyView;

use super::{keys, wallet};
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    page::{Page, Place, Rendered, csrf, device_problem, errors, icon},
    session::Signed,
    shown::{day, moment},
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/account", get(page))
        .route("/account/passkeys", post(add))
        .route("/account/passkeys/remove", post(remove))
        .route("/account/sessions/end", post(end_sessions))
}

/// `GET /account`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    show(&portal, &signed, None)
}

pub(super) fn show(portal: &Portal, signed: &Signed, problem: Option<String>) -> Answer<Rendered> {
    let passkeys = portal.service.passkeys(signed.person.account)?;
    let wallets = portal.service.wallets(signed.person.account)?;
    let number = match signed.patient() {
        Ok(patient) => Some(number(portal, patient)?),
        Err(_) => None,
    };
    let problems: Vec<(&str, String)> = problem.into_iter().map(|words| ("add", words)).collect();
    let main = html! {
        (errors(&problems))
        h1 { (text!("Your account")) }
        div.sections {
            section.flow {
                h2 { (text!("About you")) }
                dl.facts {
                    dt { (text!("Name")) } dd { (signed.name) }
                    @if let Some(number) = &number { dt { (text!("Patient number")) } dd.mono { (number) } }
                    dt { @if signed.is_patient() { (text!("Registered by")) } @else { (text!("Organisation")) } } dd { (signed.organization) }
                }
                @if number.is_some() {
                    p.soft { (text!("A doctor who wants to ask you for access needs your patient number. It opens nothing by itself.")) }
                }
            }
            section.flow {
                h2 { (text!("Notices")) }
                p { (text!("What happened lately, and how you want to be told of it.")) }
                p.links { a href="/notices" { (text!("Notices")) } a href="/notices/settings" { (text!("What you are told, and how")) } }
            }
            (passkey_list(portal, signed, &passkeys))
            @if !signed.holds_keys { (wallet::list(signed, &wallets)) }
            (session_list(portal, signed)?)
            @if signed.is_patient() {
                section.flow {
                    h2 { (text!("Take your record along")) }
                    @if signed.holds_keys {
                        p { (rich!("Your browser puts it together, on the page of {your_record}.", your_record = html! { a href="/record" { (text!("your record")) } })) }
                    } @else {
                        p { (text!("Everything in one signed file, which anybody can check without this server:")) " " span.mono { "stele verify export FILE --genesis genesis.json" } }
                        div.actions {
                            a.btn href="/record/everything.html" download { (icon("download")) " " (text!("To read and print")) }
                            a.btn href="/record/everything.json" download { (icon("download")) " " (text!("FHIR")) }
                        }
                    }
                }
            }
            @if signed.is_patient() {
                section.flow {
                    h2 { (text!("Who holds the keys of your record")) }
                    @if signed.holds_keys {
                        p { (rich!("You do. Your record is opened in your browser, with your passkey. {what_that_means}", what_that_means = html! { a href="/keys" { (text!("What that means")) } })) }
                    } @else {
                    p { (rich!(
                        "{organization} keeps your record locked and holds the keys for you. Its staff open your record only under the permission you see under {sharing}, and every look is in your {access_history}.",
                        organization = signed.organization,
                        sharing = html! { a href="/access" { (text!("Sharing")) } },
                        access_history = html! { a href="/history" { (text!("access history")) } },
                    )) }
                    p { a href="/keys" { (text!("Hold your keys yourself")) } }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("Your account"), main)
        .at(Place::Account)
        .narrow()
        .render(Some(signed)))
}

fn passkey_list(portal: &Portal, signed: &Signed, passkeys: &[PasskeyView]) -> maud::Markup {
    let known: Vec<String> = passkeys
        .iter()
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    let challenge = portal
        .service
        .sign_in_challenge(&signed.session.challenge.0);
    html! {
        section.flow {
            h2 { (text!("Passkeys")) }
            @if passkeys.len() < 2 {
                div.notice.wait { p { (text!("You have one passkey. Add a second one on another device, so that you can still sign in if you lose the first.")) } }
            }
            ul.rows {
                @for one in passkeys {
                    li.access-row {
                        div.tight {
                            p { strong { (one.label) } }
                            p.small.soft {
                                (rich!(
                                    "Made {day}. {moment}",
                                    day = day(one.added),
                                    moment = html! { @if let Some(used) = one.used { (rich!("Last used to sign in {moment}.", moment = moment(used))) } @else { (text!("Not used to sign in yet.")) } },
                                ))
                            }
                        }
                        @if passkeys.len() > 1 {
                            form.row-acts method="post" action="/account/passkeys/remove" {
                                (csrf(signed))
                                input type="hidden" name="credential" value=(hex::encode(&one.credential));
                                button.btn.stop { (text!("Remove")) span.hide { " " (one.label) } }
                            }
                        }
                    }
                }
            }
            @if signed.holds_keys {
                div.actions { a.btn href="/keys/devices" { (icon("plus")) " " (text!("Add a passkey")) } }
            } @else {
            form.flow method="post" action="/account/passkeys" data-passkey="make"
                data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) data-rp=(portal.site.rp_id())
                data-account=(URL_SAFE_NO_PAD.encode(signed.person.account)) data-name=(signed.name)
                data-exclude=(known.join(" ")) {
                (csrf(signed))
                div.field {
                    label for="label" { (text!("Name of the new passkey")) }
                    p.hint #label-h { (text!("So that you know it again, for example “Phone”")) }
                    input.w-l #label name="label" maxlength="60" aria-describedby="label-h";
                }
                div.actions { button #add .btn { (icon("plus")) " " (text!("Add a passkey")) } }
                (device_problem())
            }
            }
        }
    }
}

fn session_list(portal: &Portal, signed: &Signed) -> Answer<maud::Markup> {
    let sessions = portal
        .service
        .sessions_of(signed.person.account, &signed.secret)?;
    Ok(html! {
        section.flow #sessions {
            h2 { (text!("Where you are signed in")) }
            ul.rows {
                @for one in &sessions {
                    li.tight {
                        p { strong { @if one.is_this { (text!("This browser")) } @else { (text!("Another browser")) } } }
                        p.small.soft { (rich!("Signed in {begun}, last used {used} UTC", begun = moment(one.started), used = moment(one.seen))) }
                    }
                }
            }
            @if sessions.len() > 1 {
                form method="post" action="/account/sessions/end" {
                    (csrf(signed))
                    button.btn.stop { (text!("Sign out everywhere else")) }
                }
            } @else {
                p.small.soft { (text!("You are signed in nowhere else. A session ends after half an hour without use.")) }
            }
        }
    })
}

/// `POST /account/sessions/end`
async fn end_sessions(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    portal
        .service
        .end_other_sessions(signed.person.account, &posted.secret)?;
    Ok(Redirect::to("/account").into_response())
}

/// `POST /account/passkeys`
async fn add(State(portal): State<Arc<Portal>>, signed: Signed, mut posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    let passkey = posted.fields.new_passkey()?;
    let random = portal
        .service
        .take_challenge(&posted.secret, &mut posted.session)?;
    let challenge = portal.service.sign_in_challenge(&random);
    portal
        .service
        .add_passkey(&portal.site, &signed.person, &challenge, &passkey)
        .await?;
    Ok(Redirect::to("/account").into_response())
}

/// `POST /account/passkeys/remove`
async fn remove(State(portal): State<Arc<Portal>>, signed: Signed, posted: Posted) -> Answer {
    signed.require_fresh(portal.service.now())?;
    let credential = hex::decode(posted.fields.text("credential"))
        .map_err(|_| Refusal::bad_form(text!("It names no passkey.")))?;
    if signed.holds_keys {
        // The node has no key of this account: another passkey signs.
        return Ok(keys::to_removal(&portal, &signed, &credential)?.into_response());
    }
    portal
        .service
        .remove_passkey(&signed.person, &credential)
        .await?;
    Ok(Redirect::to("/account").into_response())
}

/// `PAT001`
pub(super) fn number(portal: &Portal, patient: PatientId) -> Answer<String> {
    let number = portal.service.patient_number(patient)?;
    Ok(format!("PAT{number:03}"))
}
