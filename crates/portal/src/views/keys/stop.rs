//! Ending somebody's access as a patient who holds the keys: the browser derives the next generation of keys and seals it
//! to those who remain.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use alloy_primitives::Address;
use axum::{
    Json, Router,
    extract::{Path, State},
    response::Redirect,
    routing::get,
};
use maud::html;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Envelope, address, claim::categories, directory, envelopes, holder, sealed_to, states, tools,
};
use crate::{
    error::Answer,
    front::Portal,
    handed::{Answered, Handed, bytes},
    page::{Page, Place, Rendered},
    session::Signed,
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/stop/{grantee}/{id}", get(page).post(draft))
        .route("/keys/stop/{grantee}/{id}/terms", get(terms))
}

/// To the page that makes the next keys.
pub(in crate::views) fn to_stop(grantee: Address, id: u32) -> Redirect {
    Redirect::to(&format!("/keys/stop/{}/{id}", address(grantee)))
}

/// What stopping everybody at once does not do here.
pub(in crate::views) fn reason_not_all() -> &'static str {
    text!(
        "It is refused from now on. New keys are made the next time you stop one person's access."
    )
}

/// `GET /keys/stop/{grantee}/{id}`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((grantee, id)): Path<(Address, u32)>,
) -> Answer<Rendered> {
    let patient = holder(&signed)?;
    portal
        .service
        .remaining_after(&signed.actor, patient, grantee, id)?;
    let main = html! {
        a.back href="/access" { (text!("Back to who can see what")) }
        div.flow {
            h1 { (text!("Preparing to stop this access")) }
            p { (text!("What is recorded later is locked with new keys, which are made in your browser. Nothing changes before you have read it and signed.")) }
            (states(text!("Making new keys…")))
        }
        (tools(&portal, &signed, "stop")?)
    };
    Ok(Page::new(text!("Preparing to stop an access"), main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(&signed)))
}

/// `GET /keys/stop/{grantee}/{id}/terms`: which parts get new keys, and who is to have them.
async fn terms(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((grantee, id)): Path<(Address, u32)>,
) -> Answered {
    let patient = holder(&signed)?;
    let (concerned, remaining) =
        portal
            .service
            .remaining_after(&signed.actor, patient, grantee, id)?;
    let mut keys: BTreeMap<Address, Value> = BTreeMap::new();
    let mut lines = Vec::with_capacity(remaining.len());
    for grant in &remaining {
        if let Entry::Vacant(place) = keys.entry(grant.grantee) {
            place.insert(sealed_to(&portal, grant.grantee).await?);
        }
        lines.push(json!({
            "grantee": keys.get(&grant.grantee),
            "categories": grant.terms.categories.to_string(),
            "recordsFrom": grant.terms.records_from,
            "recordsTo": grant.terms.records_to
        }));
    }
    let (directory, root) = directory(&portal, &signed)?;
    let concerned: Vec<u8> = concerned.iter().map(|one| one.number()).collect();
    Ok(Json(json!({
        "concerned": concerned, "categories": categories(), "remaining": lines,
        "directory": directory, "directoryRoot": root
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewed {
    directory: String,
    envelopes: Vec<Envelope>,
}

/// `POST /keys/stop/{grantee}/{id}`
async fn draft(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((grantee, id)): Path<(Address, u32)>,
    handed: Handed<Renewed>,
) -> Answered {
    holder(&signed)?;
    let draft = portal.service.draft_own_revoke(
        &signed.actor,
        grantee,
        id,
        &bytes(&handed.body.directory)?,
        &envelopes(&handed.body.envelopes)?,
    )?;
    Ok(Json(
        json!({ "next": format!("/access/check/{}", draft.id) }),
    ))
}
