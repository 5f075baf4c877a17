//! Entries of a patient who holds the keys: the browser seals them, hands the ciphertext over and signs; see
//! `stele_service::own`.

use std::sync::Arc;

use alloy_primitives::hex;
use axum::{
    Json, Router,
    body::{BodyDataStream, Bytes},
    extract::{RawQuery, Request, State},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use stele_service::{
    Error,
    own::{SealedEntry, Wanted},
};

use super::{Used, holder};
use crate::{
    error::Refusal,
    form::Fields,
    front::Portal,
    handed::{Answered, Handed, session_of},
    session::Signed,
};

/// Longest description of what was sealed, in bytes: some records at two kilobytes each.
const HEAD_MAX: usize = 64 * 1024;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/entries/offer", post(offer))
        .route("/keys/entries/sealed", post(sealed))
        .route("/keys/entries/signed", post(signed_with))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    records: Vec<Wanted>,
}

/// `POST /keys/entries/offer`
async fn offer(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    handed: Handed<Asked>,
) -> Answered {
    holder(&signed)?;
    let offer = portal
        .service
        .offer_sealing(&signed.actor, &handed.body.records)
        .await?;
    Ok(Json(json!(offer)))
}

/// `POST /keys/entries/sealed?offer=…`: the length of the description (u32, big-endian), the description as JSON, and the
/// ciphertexts one after the other. They pass through to the vault as they come.
async fn sealed(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answered {
    holder(&signed)?;
    session_of(&portal, request.headers())?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let offer = fields.text("offer").to_owned();
    let mut body = request.into_body().into_data_stream();
    let (entries, held) = description(&mut body).await?;
    let rest = stream::once(async { Ok(held) })
        .chain(body)
        .map_err(std::io::Error::other);
    // To its end whatever becomes of the request: a body that breaks off is an error in it, and nothing is kept.
    let (service, actor, most) = (
        Arc::clone(&portal.service),
        signed.actor,
        portal.upload_max_bytes,
    );
    let taken = tokio::spawn(async move {
        service
            .take_sealed(&actor, &offer, entries, most, Box::pin(rest))
            .await
    });
    let draft = taken.await.map_err(|error| cut_off(&error))??;
    Ok(Json(json!({
        "draft": draft.to_sign.id,
        "challenge": URL_SAFE_NO_PAD.encode(draft.to_sign.challenge),
        "call": hex::encode(&draft.call)
    })))
}

/// The description at the beginning of a body, and what came with its last piece.
async fn description(body: &mut BodyDataStream) -> Answered<(Vec<SealedEntry>, Bytes)> {
    let cut = || Refusal::bad_form(text!("It is too large."));
    let mut held = Vec::new();
    loop {
        if let Some((length, rest)) = held.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > HEAD_MAX {
                return Err(cut().into());
            }
            if let Some((head, rest)) = rest.split_at_checked(length) {
                let entries = serde_json::from_slice(head).map_err(|error| {
                    Refusal::bad_form(text!("It can't be read: {error}.", error))
                })?;
                return Ok((entries, Bytes::copy_from_slice(rest)));
            }
        }
        match body.next().await {
            Some(Ok(piece)) => held.extend_from_slice(&piece),
            Some(Err(_)) | None => {
                let words = text!("It did not arrive whole. Nothing was kept.");
                return Err(Refusal::bad_form(words).into());
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedWith {
    draft: String,
    passkey: Used,
}

/// `POST /keys/entries/signed`
async fn signed_with(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    handed: Handed<SignedWith>,
) -> Answered {
    holder(&signed)?;
    let passkey = handed.body.passkey.read()?;
    let (service, actor, draft) = (Arc::clone(&portal.service), signed.actor, handed.body.draft);
    // To its end: a transaction that was sent is not taken back by a page that was closed.
    let recorded =
        tokio::spawn(async move { service.record_sealed(&actor, &draft, &passkey).await });
    let recorded = recorded.await.map_err(|error| cut_off(&error))??;
    Ok(Json(json!({ "recorded": recorded })))
}

fn cut_off(error: &tokio::task::JoinError) -> Error {
    Error::Internal {
        what: "recording what a patient sealed",
        problem: error.to_string(),
    }
}
