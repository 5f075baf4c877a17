//! Sharing by a patient who holds the keys: the browser seals the keys of what is shared to the one who gets access, and
//! the draft is made of what it sealed. Reading the sentence and signing are as for everybody.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{Json, Router, extract::State, response::Redirect, routing::get};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use stele_core::consent::Permissions;
use stele_fhir::category::Category;
use stele_service::people::{Act, Prepared};

use super::{directory, holder, sealed_to, states, tools};
use crate::{
    error::Answer,
    front::Portal,
    handed::{Answered, Handed, bytes},
    page::{Page, Place, Rendered},
    session::Signed,
    views::share,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/share", get(page).post(draft))
        .route("/keys/share/terms", get(terms))
}

/// To the page that seals the keys of what was answered.
pub(in crate::views) fn to_seal() -> Redirect {
    Redirect::to("/keys/share")
}

/// `GET /keys/share`
async fn page(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    holder(&signed)?;
    let main = html! {
        a.back href="/access" { (text!("Back to who can see what")) }
        div.flow {
            h1 { (text!("Preparing what you share")) }
            p { (text!("The keys of what you share are locked in your browser, so that only the one you chose can use them. Nothing is shared before you have read it and signed.")) }
            (states(text!("Locking the keys…")))
        }
        (tools(&portal, &signed, "share")?)
    };
    Ok(Page::new(text!("Preparing what you share"), main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(&signed)))
}

/// `GET /keys/share/terms`: whom to seal what to.
async fn terms(State(portal): State<Arc<Portal>>, signed: Signed) -> Answered {
    holder(&signed)?;
    let request = share::wanted(&portal, &signed)?;
    let (directory, root) = directory(&portal, &signed)?;
    let numbers: Vec<u8> = request.categories.iter().map(|one| one.number()).collect();
    Ok(Json(json!({
        "grantee": sealed_to(&portal, request.grantee).await?,
        "categories": numbers,
        "reads": request.permissions.contains(Permissions::READ),
        "recordsFrom": 0,
        "recordsTo": u16::MAX,
        "directory": directory,
        "directoryRoot": root
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    envelopes: Vec<String>,
}

/// `POST /keys/share`
async fn draft(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    handed: Handed<Sealed>,
) -> Answered {
    holder(&signed)?;
    let request = share::wanted(&portal, &signed)?;
    let envelopes = handed
        .body
        .envelopes
        .iter()
        .map(|text| bytes(text))
        .collect::<Result<Vec<_>, _>>()?;
    let draft = portal
        .service
        .draft_own_grant(&signed.actor, &request, &envelopes)?;
    Ok(Json(
        json!({ "next": format!("/access/check/{}", draft.id) }),
    ))
}

/// What the check page of a patient who holds the keys carries, so that the browser itself holds the transaction's bytes
/// against the sentence and against what it sealed.
pub(in crate::views) fn draft_data(
    portal: &Portal,
    signed: &Signed,
    draft: &Prepared,
) -> Answer<Markup> {
    if !signed.holds_keys {
        return Ok(html! {});
    }
    let categories: Vec<String> = match &draft.act {
        Act::Grant { categories, .. } => categories
            .iter()
            .map(|one: &Category| one.number().to_string())
            .collect(),
        _ => Vec::new(),
    };
    let grantee = match &draft.act {
        Act::Grant { grantee, .. } | Act::Revoke { grantee, .. } => super::address(*grantee),
        Act::StopAll { .. } | Act::Decline { .. } => String::new(),
    };
    Ok(html! {
        div #call hidden data-call=(hex::encode(&draft.call)) data-grantee=(grantee) data-categories=(categories.join(" ")) {}
        p.error #problem role="alert" hidden {}
        (tools(portal, signed, "check")?)
    })
}
