//! Doctors register themselves: what they claim, a passkey, and a page that says where the request stands. Whoever signed in
//! to a request has no account, so every other page sends them away.

use std::sync::Arc;

use alloy_primitives::{Address, B256, hex};
use axum::{
    Router,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use stele_core::id::OrganizationId;
use stele_service::people::{Application, CLAIM_MAX, CLAIM_TEXT_MAX, Claim, Session, Standing};

use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::{From, Portal},
    page::{Page, device_problem, errors, field, field_error, icon, tag, token},
    session::{self, applied, visitor, with_cookies},
    shown::moment,
    text,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/register", get(page).post(check))
        .route("/register/passkey", get(passkey_page).post(apply))
        .route("/registration", get(standing))
}

/// Somebody whose request waits or was decided, signed in with its passkey.
pub(crate) struct Applying {
    session: Session,
    application: Application,
}

impl FromRequestParts<Arc<Portal>> for Applying {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let (secret, session) = session::of(portal, &parts.headers)?.ok_or(Refusal::SignIn)?;
        let id = session.applicant.ok_or(Refusal::SignIn)?;
        let Ok(application) = portal.service.own_application(&id) else {
            portal.service.end_session(&secret)?;
            return Err(Refusal::SignIn);
        };
        Ok(Self {
            session,
            application,
        })
    }
}

/// The organisations to choose from, by name.
async fn organizations(portal: &Portal) -> Answer<Vec<(OrganizationId, String)>> {
    let mut list = Vec::new();
    for organization in portal.service.open_to_doctors()? {
        list.push((organization, portal.name(organization.0).await?.name));
    }
    list.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(list)
}

/// `GET /register`
async fn page(State(portal): State<Arc<Portal>>, headers: HeaderMap) -> Answer {
    let (_, session, cookie) = visitor(&portal, &headers)?;
    let given = Fields::parse(kept(&session).as_bytes());
    let page = form(&portal, &session, &given, &[]).await?;
    Ok(with_cookies(page, cookie))
}

/// What the form held before, where somebody comes back to it.
fn kept(session: &Session) -> &str {
    session
        .answers
        .get(ANSWERS)
        .and_then(|list| list.first())
        .map(String::as_str)
        .unwrap_or_default()
}

async fn form(
    portal: &Portal,
    session: &Session,
    given: &Fields,
    problems: &[(&'static str, String)],
) -> Answer {
    let organizations = organizations(portal).await?;
    let with = field_error(problems, "organization");
    let text = |name: &str, label: &str, hint: &str, max| {
        field(name, label, hint, "w-l", given.text(name), max, problems)
    };
    let main = html! {
        a.back href="/sign-in" { (text!("Back to sign in")) }
        (errors(problems))
        @if organizations.is_empty() {
            div.flow {
                h1 { (text!("Register as a doctor")) }
                p { (text!("No organisation here takes registrations at the moment. Ask the office of your hospital or practice for an invitation code.")) }
                div.actions { a.btn href="/invitation" { (text!("I have a code")) } }
            }
        } @else {
            form.flow method="post" action="/register" novalidate {
                (token(&hex::encode(session.csrf)))
                h1 { (text!("Register as a doctor")) }
                p { (text!("Your organisation checks your licence before you can ask for or see anything. What you write here goes to its administrator, not to patients.")) }
                div.field.invalid[with.is_some()] {
                    label for="organization" { (text!("Organisation you work for")) }
                    @if let Some(error) = &with { (error) }
                    select.w-l #organization name="organization" {
                        option value="" { (text!("Choose")) }
                        @for (id, name) in &organizations {
                            option value=(id) selected[given.text("organization") == id.to_string()] { (name) }
                        }
                    }
                }
                (text("name", text!("Your name"), text!("As patients know you, for example Dr Ines Okafor"), CLAIM_MAX))
                (text("registration", text!("Number in the national register"), text!("Your registration or national doctor number"), CLAIM_MAX))
                (text("branch", text!("Branch of medicine"), text!("For example cardiology. Patients see it beside your name"), CLAIM_MAX))
                (text("address", text!("Address of your clinic"), text!("Street, town, postcode"), CLAIM_TEXT_MAX))
                (text("licence", text!("Number of your licence to practise"), text!("As it stands on the licence"), CLAIM_MAX))
                div.actions { button.btn.primary { (text!("Continue")) } a.btn href="/sign-in" { (text!("Cancel")) } }
            }
        }
    };
    let title = if problems.is_empty() {
        text!("Register as a doctor")
    } else {
        text!("Error: Register as a doctor")
    };
    let status = if problems.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let page = Page::new(title, main).narrow().render(None);
    Ok((status, page).into_response())
}

fn claim(fields: &Fields) -> Claim {
    let text = |name: &str| fields.text(name).to_owned();
    Claim {
        name: text("name"),
        registration: text("registration"),
        address: text("address"),
        branch: text("branch"),
        licence: text("licence"),
    }
}

/// The organisation that a form names.
fn chosen(fields: &Fields) -> Option<OrganizationId> {
    let account: Address = fields.text("organization").parse().ok()?;
    Some(OrganizationId(account))
}

/// `POST /register`: what is claimed waits in the session for the passkey.
async fn check(State(portal): State<Arc<Portal>>, mut posted: Posted) -> Answer {
    let mut problems = Vec::new();
    let open = portal.service.open_to_doctors()?;
    if !chosen(&posted.fields).is_some_and(|one| open.contains(&one)) {
        problems.push(("organization", text!("Choose your organisation").to_owned()));
    }
    problems.extend(claim(&posted.fields).problems());
    if !problems.is_empty() {
        return form(&portal, &posted.session, &posted.fields, &problems).await;
    }
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    for name in FIELDS {
        encoded.append_pair(name, posted.fields.text(name));
    }
    let answers = vec![encoded.finish()];
    posted.session.answers.insert(ANSWERS.to_owned(), answers);
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(Redirect::to("/register/passkey").into_response())
}

/// `GET /register/passkey`
async fn passkey_page(State(portal): State<Arc<Portal>>, headers: HeaderMap) -> Answer {
    let (_, session, _) = visitor(&portal, &headers)?;
    confirm(&portal, &session, None).await
}

async fn confirm(portal: &Portal, session: &Session, problem: Option<String>) -> Answer {
    let fields = Fields::parse(kept(session).as_bytes());
    let Some(organization) = chosen(&fields) else {
        return Ok(Redirect::to("/register").into_response());
    };
    let organization = portal.name(organization.0).await?.name;
    let claim = claim(&fields);
    let challenge = portal.service.sign_in_challenge(&session.challenge.0);
    let is_wrong = problem.is_some();
    let problems: Vec<(&str, String)> = problem.into_iter().map(|words| ("make", words)).collect();
    let main = html! {
        a.back href="/register" { (text!("Back")) }
        form.flow method="post" action="/register/passkey" data-passkey="make"
            data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) data-rp=(portal.site.rp_id())
            // There is no account yet: the device keeps the passkey under what it answers.
            data-account=(URL_SAFE_NO_PAD.encode(challenge)) data-name=(claim.name) {
            (errors(&problems))
            (token(&hex::encode(session.csrf)))
            h1 { (text!("Check, then make your passkey")) }
            (facts(&claim, &organization))
            p { (text!("A passkey is the fingerprint, face or PIN that unlocks this device. You sign in with it, now to see where your request stands, later to work.")) }
            div.actions {
                button #make .btn.primary { (icon("fingerprint")) " " (text!("Send with a passkey")) }
                a.btn href="/register" { (text!("Change")) }
            }
            (device_problem())
        }
    };
    let page = Page::new(text!("Check your registration"), main)
        .narrow()
        .render(None);
    let status = if is_wrong {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    Ok((status, page).into_response())
}

/// What somebody claims, for themselves and for the administrator.
pub(super) fn facts(claim: &Claim, organization: &str) -> Markup {
    html! {
        dl.facts {
            dt { (text!("Name")) } dd { (claim.name) }
            dt { (text!("Organisation")) } dd { (organization) }
            dt { (text!("National register")) } dd.mono { (claim.registration) }
            dt { (text!("Branch")) } dd { (claim.branch) }
            dt { (text!("Clinic")) } dd { (claim.address) }
            dt { (text!("Licence")) } dd.mono { (claim.licence) }
        }
    }
}

/// `POST /register/passkey`
async fn apply(
    State(portal): State<Arc<Portal>>,
    ConnectInfo(from): From,
    mut posted: Posted,
) -> Answer {
    portal.registration(from, &posted.headers)?;
    let mut passkey = posted.fields.new_passkey()?;
    passkey.label = text!("First passkey").into();
    let fields = Fields::parse(kept(&posted.session).as_bytes());
    let Some(organization) = chosen(&fields) else {
        return Ok(Redirect::to("/register").into_response());
    };
    let random = portal
        .service
        .take_challenge(&posted.secret, &mut posted.session)?;
    let challenge = portal.service.sign_in_challenge(&random);
    let made = portal
        .service
        .apply(
            &portal.site,
            organization,
            claim(&fields),
            &challenge,
            &passkey,
        )
        .await;
    match made {
        Ok(id) => enter(&portal, &posted.secret, id),
        Err(error) => {
            let words = text::told(&error.public_message());
            confirm(&portal, &posted.session, Some(words)).await
        }
    }
}

/// Lets somebody in to their own request, and to nothing else.
pub(super) fn enter(portal: &Portal, before: &str, id: B256) -> Answer {
    let cookie = applied(portal, before, id)?;
    let answer: Response = Redirect::to("/registration").into_response();
    Ok(with_cookies(answer, Some(cookie)))
}

/// `GET /registration`
async fn standing(State(portal): State<Arc<Portal>>, applying: Applying) -> Answer {
    let Applying {
        session,
        application,
    } = applying;
    let organization = portal.name(application.organization.0).await?.name;
    let main = html! {
        div.sections {
            section.flow {
                h1 { (text!("Your registration")) }
                (words(&application, &organization))
            }
            section.flow {
                h2 { (text!("What you sent")) }
                p.small.soft { (rich!("Sent {moment} UTC", moment = moment(application.asked))) }
                (facts(&application.claim, &organization))
            }
            form method="post" action="/sign-out" {
                (token(&hex::encode(session.csrf)))
                button.btn { @if matches!(application.standing, Standing::Verified { .. }) { (text!("Sign in to work")) } @else { (text!("Sign out")) } }
            }
        }
    };
    Ok(Page::new(text!("Your registration"), main)
        .narrow()
        .render(None)
        .into_response())
}

fn words(application: &Application, organization: &str) -> Markup {
    match &application.standing {
        Standing::Waiting => html! {
            p { (tag("wait", "hourglass", text!("Waits to be checked"))) }
            p { (rich!("{organization} checks your licence. Until it has, you can ask no patient for access and see no record.", organization)) }
            p { (text!("Nothing more is needed from you. Sign in again with the same passkey to see where it stands.")) }
        },
        Standing::Verified { at, .. } => html! {
            p { (tag("ok", "circle-check", text!("Licence verified"))) }
            p { (rich!(
                "{organization} verified your licence on {moment} UTC. From your next sign-in on you work as a doctor of {organization}.",
                organization,
                moment = moment(*at),
            )) }
        },
        Standing::Declined { at, reason, .. } => html! {
            p { (tag("bad", "circle-x", text!("Declined"))) }
            p { (rich!("{organization} declined on {moment} UTC:", organization, moment = moment(*at))) }
            div.notice.bad { p { (reason) } }
            p { (rich!("If you think that this is wrong, call the office of {organization}. You can register again with another passkey.", organization)) }
        },
    }
}

/// Where the form's content waits in a session.
const ANSWERS: &str = "register";
const FIELDS: [&str; 6] = [
    "organization",
    "name",
    "registration",
    "branch",
    "address",
    "licence",
];
