//! A managed patient takes the keys over: two uses of the passkey, one to get the record's root key sealed to this browser,
//! one to sign the claim. Nothing changes before the second.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::{Envelope, Used, address, envelopes, tools};
use crate::{
    error::Answer,
    front::Portal,
    handed::{Answered, Handed, bytes},
    page::{Page, Place, Rendered, icon},
    session::Signed,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys", get(page))
        .route("/keys/offer", post(offer))
        .route("/keys/claim/draft", post(draft))
        .route("/keys/claim", post(claim))
}

/// `GET /keys`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.patient()?;
    let main = html! {
        a.back href="/account" { (text!("Back to your account")) }
        @if signed.holds_keys { (held(&portal, &signed)?) } @else { (offered(&portal, &signed)?) }
    };
    Ok(Page::new(text!("The keys of your record"), main)
        .at(Place::Account)
        .narrow()
        .render(Some(&signed)))
}

fn offered(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    let challenge = portal
        .service
        .sign_in_challenge(&signed.session.challenge.0);
    Ok(html! {
        div.flow {
            h1 { (text!("Hold the keys of your record yourself")) }
            p { (rich!("{organization} holds the keys of your record for you. You can take them over. From then on your record is opened in your browser, with your passkey, and nowhere else unless you allow it.", organization = signed.organization)) }
            h2 { (text!("What changes")) }
            ul.flow {
                li { (rich!(
                    "What is recorded {from_now_on} is locked with keys that {organization} never had.",
                    from_now_on = html! { strong { (text!("from now on")) } },
                    organization = signed.organization,
                )) }
                li { (rich!(
                    "What is in your record {already} stays openable by {organization}, and by those you share with until you stop them. What they opened before they have seen.",
                    already = html! { strong { (text!("already")) } },
                    organization = signed.organization,
                )) }
                li { (text!("Those you share with now keep their access. You can stop them afterwards.")) }
                li { (text!("Other passkeys and wallets of this account end. You add your other devices again.")) }
            }
            h2 { (text!("What you take on")) }
            ul.flow {
                li { strong { (text!("If you lose all your passkeys, nobody can open your record for you.")) } " " (text!("There are no guardians yet who could help. Add a second passkey right afterwards.")) }
                li { (rich!("Your passkey must be able to keep keys. If it is not, we tell you and nothing changes: {organization} goes on holding them.", organization = signed.organization)) }
                li { (text!("You trust this page each time it opens your record: it comes from the same server.")) }
            }
            div.actions {
                button.btn.primary #claim type="button" disabled data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) { (icon("key-round")) " " (text!("Take over my keys")) }
                a.btn href="/account" { (text!("Leave it as it is")) }
            }
            p #doing role="status" {}
            p.error #problem role="alert" hidden {}
            p.small.soft { (text!("You use your passkey twice. It takes some seconds.")) }
            noscript { p.error { (text!("Your keys are made in your browser, which needs scripts. Switch them on for this site.")) } }
            (tools(portal, signed, "claim")?)
        }
    })
}

fn held(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    let count = portal.service.passkeys(signed.person.account)?.len();
    Ok(html! {
        div.flow {
            h1 { (text!("You hold the keys of your record")) }
            p { (rich!("Your record is opened in your browser, with your passkey. {organization} keeps it locked, and opens what you shared with it.", organization = signed.organization)) }
            p { (rich!("What was recorded before you took the keys over stays openable by {organization}.", organization = signed.organization)) }
            @if count < 2 {
                div.notice.wait.flow {
                    p { strong { (text!("You have one passkey.")) } " " (text!("If you lose it, nobody can open your record for you: there are no guardians yet. Add a second one now.")) }
                }
            }
            div.actions {
                a.btn.primary href="/record" { (text!("Open my record")) }
                a.btn href="/account" { (text!("Passkeys")) }
            }
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    passkey: Used,
    /// X-Wing public key that the root key is sealed to, in base64.
    key: String,
}

/// `POST /keys/offer`
async fn offer(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    mut handed: Handed<Offer>,
) -> Answered {
    signed.patient()?;
    let passkey = handed.body.passkey.read()?;
    let random = portal
        .service
        .take_challenge(&handed.secret, &mut handed.session)?;
    let offer = portal
        .service
        .offer_claim_to(
            &portal.site,
            &signed.person,
            &random,
            &passkey,
            &bytes(&handed.body.key)?,
        )
        .await?;
    let grantees: Vec<_> = offer
        .grantees
        .iter()
        .map(|one| {
            json!({
                "account": address(one.account), "key": one.key, "categories": one.categories.to_string(),
                "recordsFrom": one.records_from, "recordsTo": one.records_to
            })
        })
        .collect();
    Ok(Json(json!({
        "root": offer.root, "fromGeneration": offer.from_generation, "grantees": grantees,
        "categories": categories()
    })))
}

/// Numbers of all categories.
pub(super) fn categories() -> Vec<u8> {
    stele_fhir::category::Category::ALL
        .into_iter()
        .map(stele_fhir::category::Category::number)
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drafted {
    credential: String,
    directory: String,
}

/// `POST /keys/claim/draft`
async fn draft(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    handed: Handed<Drafted>,
) -> Answered {
    signed.patient()?;
    let credential = URL_SAFE_NO_PAD
        .decode(&handed.body.credential)
        .map_err(|_| crate::error::Refusal::bad_form(text!("It names no passkey.")))?;
    let draft = portal.service.draft_claim(
        &portal.site,
        &signed.actor,
        &credential,
        &bytes(&handed.body.directory)?,
    )?;
    Ok(Json(json!({
        "draft": draft.id, "challenge": URL_SAFE_NO_PAD.encode(draft.challenge)
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claimed {
    draft: String,
    passkey: Used,
    wrapped: String,
    directory: String,
    envelopes: Vec<Envelope>,
}

/// `POST /keys/claim`
async fn claim(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    handed: Handed<Claimed>,
) -> Answered {
    signed.patient()?;
    let claimed = handed.body;
    portal
        .service
        .confirm_claim(
            &signed.actor,
            &claimed.draft,
            &claimed.passkey.read()?,
            &claimed.wrapped,
            &bytes(&claimed.directory)?,
            &envelopes(&claimed.envelopes)?,
        )
        .await?;
    // Whoever else is signed in to this account did so with a key that has ended.
    portal
        .service
        .end_other_sessions(signed.person.account, &handed.secret)?;
    Ok(Json(json!({ "done": true })))
}
