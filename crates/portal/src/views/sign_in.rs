//! Signing in, the first passkey, signing out.

use std::sync::Arc;

use alloy_primitives::{B256, hex};
use axum::{
    Router,
    extract::{ConnectInfo, Query, State},
    http::HeaderMap,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde::Deserialize;
use stele_service::{
    Error,
    people::{Person, PersonKind, Session},
};

use super::{register, wallet};
use crate::{
    assets,
    error::{Answer, Refusal},
    form::Posted,
    front::{From, Portal},
    page::{Page, device_problem, errors, field_error, icon, token},
    session::{no_cookie, own_path, signed_in, visitor, with_cookies},
    text,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/sign-in", get(page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/invitation", get(code_page).post(use_code))
        .route("/invitation/passkey", get(passkey_page).post(make_passkey))
}

#[derive(Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
}

/// `GET /sign-in`
async fn page(
    State(portal): State<Arc<Portal>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let (_, session, cookie) = visitor(&portal, &headers)?;
    if session.account.is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    if session.applicant.is_some() {
        return Ok(Redirect::to("/registration").into_response());
    }
    let next = own_path(&wanted.next).unwrap_or_default();
    let page = sign_in_page(&portal, &session, next, None);
    Ok(with_cookies(page.into_response(), cookie))
}

pub(super) fn sign_in_page(
    portal: &Portal,
    session: &Session,
    next: &str,
    problem: Option<String>,
) -> crate::page::Rendered {
    let problems: Vec<(&str, String)> = problem
        .into_iter()
        .map(|words| ("passkey", words))
        .collect();
    let challenge = portal.service.sign_in_challenge(&session.challenge.0);
    let main = html! {
        (errors(&problems))
        div.sign {
            form.flow method="post" action="/sign-in" data-passkey="use"
                data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) data-rp=(portal.site.rp_id())
                data-keys=(assets::module("own/store.js")) {
                (token(&hex::encode(session.csrf)))
                input type="hidden" name="next" value=(next);
                h1 { (text!("Sign in to your health record")) }
                p { (text!("Use the fingerprint, face or PIN that unlocks this device. There is no password to remember.")) }
                div.actions {
                    button #passkey .btn.primary { (icon("fingerprint")) " " (text!("Sign in with a passkey")) }
                }
                (device_problem())
                details {
                    summary { (text!("Use a passkey from another device")) }
                    p { (text!("Choose “Sign in with a passkey”, then “Another device”. Scan the code with the phone that holds your passkey.")) }
                }
                details {
                    summary { (text!("I cannot use my passkey")) }
                    p { (text!("Ask the desk of your hospital or practice for a new invitation code. Nothing in your record is lost.")) }
                }
            }
            div.aside {
                (wallet::entrance(&hex::encode(session.csrf), next))
                section {
                    h2 { (text!("First time here?")) }
                    ul { li { (rich!("{code} from a hospital or practice", code = html! { a href="/invitation" { (text!("I have an invitation code")) } })) } }
                }
                section {
                    h2 { (text!("For staff")) }
                    ul {
                        li { (text!("Staff sign in with the same button.")) }
                        li { (rich!("{register}, for the first time", register = html! { a href="/register" { (text!("Register as a doctor")) } })) }
                    }
                }
            }
        }
    };
    Page::new(text!("Sign in"), main).render(None)
}

/// Who a passkey lets in.
enum Entered {
    Person(Person),
    /// Somebody who has a request to be registered, and no account yet.
    Applicant(B256),
}

/// `POST /sign-in`
async fn sign_in(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    mut posted: Posted,
) -> Answer {
    portal.attempt(from, &posted.headers)?;
    let passkey = posted.fields.passkey()?;
    let random = portal
        .service
        .take_challenge(&posted.secret, &mut posted.session)?;
    let next = own_path(posted.fields.text("next"))
        .unwrap_or("/")
        .to_owned();
    let (service, site) = (&portal.service, &portal.site);
    let entered = service
        .sign_in_applicant(site, &random, &passkey)
        .and_then(|applicant| match applicant {
            Some(id) => Ok(Entered::Applicant(id)),
            None => service
                .sign_in_with_passkey(site, &random, &passkey)
                .map(Entered::Person),
        });
    match entered {
        Ok(Entered::Applicant(id)) => register::enter(&portal, &posted.secret, id),
        Ok(Entered::Person(person)) => {
            let cookies = signed_in(&portal, &posted.secret, &person)?;
            Ok(with_cookies(Redirect::to(&next).into_response(), cookies))
        }
        Err(error @ Error::NotPermitted { .. }) => {
            let words = text::told(&error.public_message());
            let page = sign_in_page(&portal, &posted.session, &next, Some(words));
            Ok((http::StatusCode::FORBIDDEN, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /sign-out`
async fn sign_out(State(portal): State<Arc<Portal>>, posted: Posted) -> Answer {
    portal.service.end_session(&posted.secret)?;
    let answer = Redirect::to("/sign-in").into_response();
    Ok(with_cookies(answer, Some(no_cookie(&portal))))
}

/// `GET /invitation`
async fn code_page(State(portal): State<Arc<Portal>>, headers: HeaderMap) -> Answer {
    let (_, session, cookie) = visitor(&portal, &headers)?;
    let page = ask_code(&session, "", None);
    Ok(with_cookies(page.into_response(), cookie))
}

fn ask_code(session: &Session, given: &str, problem: Option<String>) -> crate::page::Rendered {
    let problems: Vec<(&str, String)> = problem.into_iter().map(|words| ("code", words)).collect();
    let error = field_error(&problems, "code");
    let main = html! {
        a.back href="/sign-in" { (text!("Back to sign in")) }
        form.flow method="post" action="/invitation" novalidate {
            (errors(&problems))
            (token(&hex::encode(session.csrf)))
            h1 { (text!("Enter your invitation code")) }
            p { (text!("Your hospital or practice gave you a code of 12 letters and digits. It works once, for one day.")) }
            div.field.invalid[error.is_some()] {
                label for="code" { (text!("Invitation code")) }
                p.hint #code-h { (text!("For example 7K4M-Q2XA-90TR. Small letters are fine.")) }
                @if let Some(error) = &error { (error) }
                input.w-m #code name="code" value=(given) autocomplete="one-time-code" autocapitalize="characters"
                    spellcheck="false" required maxlength="40"
                    aria-invalid=[error.is_some().then_some("true")] aria-describedby=(if error.is_some() { "code-h code-e" } else { "code-h" });
            }
            div.actions { button.btn.primary { (text!("Continue")) } a.btn href="/sign-in" { (text!("Cancel")) } }
        }
    };
    let title = if error.is_some() {
        text!("Error: Invitation code")
    } else {
        text!("Invitation code")
    };
    Page::new(title, main).narrow().render(None)
}

/// `POST /invitation`
async fn use_code(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    mut posted: Posted,
) -> Answer {
    portal.attempt(from, &posted.headers)?;
    let code = posted.fields.text("code");
    if code.is_empty() {
        let page = ask_code(
            &posted.session,
            "",
            Some(text!("Enter your invitation code").into()),
        );
        return Ok(page.into_response());
    }
    match portal.service.invited(code) {
        Ok((digest, _)) => {
            posted.session.invitation = Some(digest);
            portal
                .service
                .keep_session(&posted.secret, &posted.session)?;
            Ok(Redirect::to("/invitation/passkey").into_response())
        }
        Err(error @ Error::NotPermitted { .. }) => {
            let page = ask_code(
                &posted.session,
                code,
                Some(text::told(&error.public_message())),
            );
            Ok((http::StatusCode::FORBIDDEN, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// `GET /invitation/passkey`
async fn passkey_page(State(portal): State<Arc<Portal>>, headers: HeaderMap) -> Answer {
    let (_, session, _) = visitor(&portal, &headers)?;
    let Some(digest) = session.invitation else {
        return Ok(Redirect::to("/invitation").into_response());
    };
    let person = portal.service.invited_by(&digest)?;
    passkey_form(&portal, &session, &person, None).await
}

async fn passkey_form(
    portal: &Portal,
    session: &Session,
    person: &Person,
    problem: Option<String>,
) -> Answer {
    let organization = portal.name(person.organization.0).await?.name;
    let name = match person.kind {
        PersonKind::Staff => portal.name(person.account).await?.name,
        PersonKind::Patient => portal.patient_name(&person.actor(), person).await?,
    };
    let problems: Vec<(&str, String)> = problem.into_iter().map(|words| ("make", words)).collect();
    let challenge = portal.service.sign_in_challenge(&session.challenge.0);
    let main = html! {
        a.back href="/invitation" { (text!("Back")) }
        form.flow method="post" action="/invitation/passkey" data-passkey="make"
            data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) data-rp=(portal.site.rp_id())
            data-account=(URL_SAFE_NO_PAD.encode(person.account)) data-name=(name) {
            (errors(&problems))
            (token(&hex::encode(session.csrf)))
            h1 { (text!("Make your passkey")) }
            p { (rich!(
                "You are {name}, invited by {organization}.",
                name = html! { strong { (name) } },
                organization = html! { strong { (organization) } },
            )) }
            p { (text!("A passkey is the fingerprint, face or PIN that unlocks this device. It stays on your device. You sign in with it, and you confirm with it whom you let see your record.")) }
            @if person.kind == PersonKind::Patient { (who_holds_the_keys(&organization)) }
            div.actions {
                button #make .btn.primary { (icon("fingerprint")) " " (text!("Make a passkey")) }
                a.btn href="/sign-in" { (text!("Not me")) }
            }
            (device_problem())
        }
    };
    Ok(Page::new(text!("Make your passkey"), main)
        .narrow()
        .render(None)
        .into_response())
}

/// Said plainly: what an organisation that manages keys can do.
fn who_holds_the_keys(organization: &str) -> Markup {
    html! {
        div.notice.flow {
            h2.h3 { (text!("Who can open your record")) }
            p { (rich!("{organization} keeps your record locked for you and holds the keys. You decide with your passkey who else may see it, and every look is in your access history.", organization)) }
        }
    }
}

/// `POST /invitation/passkey`
async fn make_passkey(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    mut posted: Posted,
) -> Answer {
    portal.attempt(from, &posted.headers)?;
    let digest = posted.session.invitation.ok_or(Refusal::SignIn)?;
    let mut passkey = posted.fields.new_passkey()?;
    passkey.label = text!("First passkey").into();
    let person = portal.service.invited_by(&digest)?;
    let random = portal
        .service
        .take_challenge(&posted.secret, &mut posted.session)?;
    let challenge = portal.service.sign_in_challenge(&random);
    match portal
        .service
        .accept_invitation(&portal.site, &digest, &challenge, &passkey)
        .await
    {
        Ok(person) => {
            let cookies = signed_in(&portal, &posted.secret, &person)?;
            let answer: Response = Redirect::to("/").into_response();
            Ok(with_cookies(answer, cookies))
        }
        Err(error) => {
            let words = text::told(&error.public_message());
            passkey_form(&portal, &posted.session, &person, Some(words)).await
        }
    }
}
