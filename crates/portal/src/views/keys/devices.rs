//! Devices of a patient who holds the keys: another passkey opens the same record, a lost one is removed.

use std::sync::Arc;

use alloy_primitives::Bytes;
use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use serde::Deserialize;
use serde_json::json;
use stele_service::people::NewPasskey;

use super::{Used, holder, tools};
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    handed::{Answered, Handed},
    page::{Page, Place, Rendered, csrf, device_problem, icon},
    session::Signed,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/devices", get(page).post(add))
        .route("/keys/devices/draft", post(draft))
        .route("/keys/devices/remove/{draft}", get(removal).post(remove))
}

/// `GET /keys/devices`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    holder(&signed)?;
    let challenge = portal
        .service
        .sign_in_challenge(&signed.session.challenge.0);
    let main = html! {
        a.back href="/account" { (text!("Back to your account")) }
        div.flow {
            h1 { (text!("Add a passkey that opens your record")) }
            p { (text!("On another device, or on a security key. Either passkey opens your record and signs for you; if you lose one, you still have the other.")) }
            form.flow #device data-challenge=(URL_SAFE_NO_PAD.encode(challenge)) data-name=(signed.name) {
                div.field {
                    label for="label" { (text!("Name of the new passkey")) }
                    p.hint #label-h { (text!("So that you know it again, for example “Phone”")) }
                    input.w-l #label name="label" maxlength="60" aria-describedby="label-h" autocomplete="off";
                }
                div.actions { button.btn.primary { (icon("plus")) " " (text!("Add a passkey")) } a.btn href="/account" { (text!("Cancel")) } }
            }
            p #doing role="status" {}
            p.error #problem role="alert" hidden {}
            p.small.soft { (text!("Your device asks three times: to make the new passkey, to see that it can keep keys, and for one that you have already.")) }
        }
        (tools(&portal, &signed, "devices")?)
    };
    Ok(Page::new(text!("Add a passkey"), main)
        .at(Place::Account)
        .narrow()
        .render(Some(&signed)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    client_data: String,
    authenticator_data: String,
    label: String,
}

/// `POST /keys/devices/draft`
async fn draft(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    mut handed: Handed<Made>,
) -> Answered {
    holder(&signed)?;
    signed.require_fresh(portal.service.now())?;
    let read = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map(Bytes::from)
            .map_err(|_| Refusal::bad_form(text!("Your device's answer can't be read. Try again.")))
    };
    let passkey = NewPasskey {
        client_data: read(&handed.body.client_data)?,
        authenticator_data: read(&handed.body.authenticator_data)?,
        label: handed.body.label.clone(),
    };
    let random = portal
        .service
        .take_challenge(&handed.secret, &mut handed.session)?;
    let challenge = portal.service.sign_in_challenge(&random);
    let draft =
        portal
            .service
            .draft_own_passkey(&portal.site, &signed.person, &challenge, &passkey)?;
    Ok(Json(json!({
        "draft": draft.id, "challenge": URL_SAFE_NO_PAD.encode(draft.challenge)
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    draft: String,
    passkey: Used,
    wrapped: String,
}

/// `POST /keys/devices`
async fn add(State(portal): State<Arc<Portal>>, signed: Signed, handed: Handed<Added>) -> Answered {
    holder(&signed)?;
    let added = handed.body;
    let passkey = added.passkey.read()?;
    portal
        .service
        .confirm_own_passkey(&signed.actor, &added.draft, &passkey, &added.wrapped)
        .await?;
    Ok(Json(json!({ "done": true })))
}

/// To the page where the removal of a passkey is read and signed.
pub(in crate::views) fn to_removal(
    portal: &Portal,
    signed: &Signed,
    credential: &[u8],
) -> Answer<Redirect> {
    holder(signed)?;
    let draft = portal.service.draft_removal(&signed.actor, credential)?;
    Ok(Redirect::to(&format!("/keys/devices/remove/{draft}")))
}

/// `GET /keys/devices/remove/{draft}`
async fn removal(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(draft): Path<String>,
) -> Answer<Rendered> {
    holder(&signed)?;
    let (to_sign, label, credential) = portal.service.removal(&signed.actor, &draft)?;
    // Signed by one that stays: the lost one is not at hand, and signing with it would show that it is not lost.
    let others: Vec<String> = portal
        .service
        .passkeys(signed.person.account)?
        .iter()
        .filter(|one| one.credential != credential)
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    let main = html! {
        a.back href="/account" { (text!("Back to your account")) }
        div.flow {
            h1 { (text!("Remove this passkey?")) }
            h2 #sign { (text!("What you sign")) }
            p.sentence { (rich!(
                "I, {name}, remove the passkey {label} from my account, from {now} on.",
                name = html! { strong { (signed.name) } },
                label = html! { strong { (label) } },
                now = html! { strong { (text!("now")) } },
            )) }
            p { (text!("It opens your record and signs for you no more. What was seen with it before stays seen.")) }
            form.flow method="post" action={ "/keys/devices/remove/" (to_sign.id) } data-passkey="use" data-forget
                data-challenge=(URL_SAFE_NO_PAD.encode(to_sign.challenge)) data-rp=(portal.site.rp_id())
                data-allow=(others.join(" ")) {
                (csrf(&signed))
                div.actions {
                    button.btn.stop { (icon("fingerprint")) " " (text!("Remove with another passkey")) }
                    a.btn href="/account" { (text!("Cancel")) }
                }
                (device_problem())
                p.small.soft { (text!("Nothing changes until you use your passkey.")) }
            }
        }
    };
    Ok(Page::new(text!("Remove a passkey"), main)
        .at(Place::Account)
        .narrow()
        .render(Some(&signed)))
}

/// `POST /keys/devices/remove/{draft}`
async fn remove(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(draft): Path<String>,
    posted: Posted,
) -> Answer {
    holder(&signed)?;
    let passkey = posted.fields.passkey()?;
    portal
        .service
        .confirm_removal(&signed.actor, &draft, &passkey)
        .await?;
    // Sessions that the lost device began end with it.
    portal
        .service
        .end_other_sessions(signed.person.account, &posted.secret)?;
    Ok(Redirect::to("/account").into_response())
}
