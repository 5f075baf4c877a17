//! Patients who hold the keys of their record: taking them over, and the pages that the browser fills, since only it can
//! open the record. What these addresses hand out is sealed; what they take is sealed, wrapped, public or signed.

mod claim;
mod devices;
mod entries;
mod record;
mod share;
mod stop;

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use axum::{Json, Router, extract::State, routing::get};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use stele_core::id::PatientId;
use stele_service::people::PasskeyUse;

pub(super) use devices::to_removal;
pub(super) use record::{entry, page as record};
pub(super) use share::{draft_data, to_seal};
pub(super) use stop::{reason_not_all, to_stop};

use crate::{
    assets,
    error::{Answer, Refusal},
    front::Portal,
    handed::{Answered, bytes},
    page::icon,
    session::Signed,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/wrapped", get(wrapped))
        .merge(claim::routes())
        .merge(devices::routes())
        .merge(entries::routes())
        .merge(record::routes())
        .merge(share::routes())
        .merge(stop::routes())
}

/// The patient who is signed in and holds the keys.
fn holder(signed: &Signed) -> Answer<PatientId> {
    let patient = signed.patient()?;
    if signed.holds_keys {
        return Ok(patient);
    }
    Err(Refusal::not_allowed(text!(
        "This page is for people who hold the keys of their record themselves."
    )))
}

/// Refuses a page that needs the record opened here, to a patient whose browser alone opens it.
pub(super) fn require_managed(signed: &Signed, what: &str) -> Answer<()> {
    if !signed.holds_keys {
        return Ok(());
    }
    Err(Refusal::not_allowed(text!(
        "You hold the keys of your record, so only your browser can open it. {what}",
        what
    )))
}

/// `GET /keys/wrapped`: the keys as each passkey of the account opens them.
async fn wrapped(State(portal): State<Arc<Portal>>, signed: Signed) -> Answered {
    holder(&signed)?;
    let keys = portal.service.wrapped_keys(signed.person.account)?;
    let list: Vec<Value> = keys
        .iter()
        .map(|one| {
            json!({ "credential": URL_SAFE_NO_PAD.encode(&one.credential), "wrapped": one.wrapped })
        })
        .collect();
    Ok(Json(json!({ "keys": list })))
}

/// What the scripts of a page work with: who it is, and which passkeys there are.
fn tools(portal: &Portal, signed: &Signed, page: &str) -> Answer<Markup> {
    let passkeys: Vec<String> = portal
        .service
        .passkeys(signed.person.account)?
        .iter()
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    Ok(html! {
        div #own hidden data-own=(page) data-account=(address(signed.person.account)) data-csrf=(signed.csrf())
            data-rp=(portal.site.rp_id()) data-allow=(passkeys.join(" ")) data-icons=(assets::address("icons.svg")) {}
        script type="module" src=(assets::module("own/app.js")) {}
    })
}

/// What a form has whose content is sealed in the browser: where the page says what it does, and its scripts.
pub(super) fn sealing(portal: &Portal, signed: &Signed) -> Answer<Markup> {
    holder(signed)?;
    Ok(html! {
        (states(""))
        (tools(portal, signed, "add")?)
    })
}

/// Where a page says that the record is closed, what it is doing, and what went wrong.
fn states(doing: &str) -> Markup {
    html! {
        section.notice.flow #locked hidden {
            p { strong { (text!("Your record is locked.")) } " " (text!("Only your passkey opens it, here in your browser.")) }
            div.actions { button.btn.primary #unlock type="button" { (icon("fingerprint")) " " (text!("Unlock with passkey")) } }
        }
        p #doing role="status" { (doing) }
        p.error #problem role="alert" hidden {}
        noscript { p.error { (text!("Your record is opened in your browser, which needs scripts. Switch them on for this site.")) } }
    }
}

/// As the scripts write accounts: `0x` and 40 small digits.
fn address(account: Address) -> String {
    hex::encode_prefixed(account)
}

/// A passkey's answer as the scripts hand it over, URL-safe base64.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    credential: String,
    client_data: String,
    authenticator_data: String,
    signature: String,
}

impl Used {
    fn read(&self) -> Result<PasskeyUse, Refusal> {
        let read = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map(alloy_primitives::Bytes::from)
                .map_err(|_| {
                    Refusal::bad_form(text!("Your device's answer can't be read. Try again."))
                })
        };
        Ok(PasskeyUse {
            credential: read(&self.credential)?,
            client_data: read(&self.client_data)?,
            authenticator_data: read(&self.authenticator_data)?,
            signature: read(&self.signature)?,
        })
    }
}

/// Keys sealed to a grantee.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    grantee: Address,
    envelope: String,
}

fn envelopes(list: &[Envelope]) -> Result<Vec<(Address, Vec<u8>)>, Refusal> {
    list.iter()
        .map(|one| Ok((one.grantee, bytes(&one.envelope)?)))
        .collect()
}

/// The key directory as it is kept here and the ledger's word on it.
fn directory(portal: &Portal, signed: &Signed) -> Answered<(String, String)> {
    let account = portal.service.own_account(&signed.actor)?;
    Ok((
        account.directory.unwrap_or_default(),
        account.directory_root.to_string(),
    ))
}

/// A grantee and the public key to seal to.
async fn sealed_to(portal: &Portal, grantee: Address) -> Answered<Value> {
    let key = portal.service.grantee_key(grantee).await?;
    Ok(json!({ "account": address(grantee), "key": STANDARD.encode(key) }))
}
