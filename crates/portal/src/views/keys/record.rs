//! The record of a patient who holds the keys: a page without content, and the sealed entries that the browser opens.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use maud::html;
use serde::Serialize;
use stele_service::own::HandedPage;

use super::{address, holder, states, tools};
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::Portal,
    handed::Answered,
    page::{Page, Place, Rendered, icon},
    session::Signed,
    views::account::number,
};

/// Entries handed out at once when nothing else is asked.
const COUNT: usize = 50;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/keys/records", get(records))
        .route("/keys/records/{type}/{id}", get(one))
        .route("/keys/records/{type}/{id}/ciphertext", get(ciphertext))
}

/// `GET /record` of a patient who holds the keys.
pub(in crate::views) fn page(portal: &Portal, signed: &Signed) -> Answer<Rendered> {
    holder(signed)?;
    let main = html! {
        div.columns {
            div.flow {
                div.page-head {
                    div.tight { h1 { (text!("Your record")) } p.soft #count {} }
                    div.actions {
                        a.btn href="/record/add" { (icon("plus")) " " (text!("Add an entry")) }
                        a.btn href="/keys" { (icon("key-round")) " " (text!("Your keys")) }
                    }
                }
                (states(text!("Opening your record…")))
                form.filters #filters role="search" aria-label=(text!("Entries")) hidden {
                    div.field {
                        label for="show" { (text!("Show")) }
                        select #show name="show" {
                            option value="" { (text!("Health entries")) }
                            option value="all" { (text!("Everything")) }
                        }
                    }
                    div.field {
                        label for="find" { (text!("Named")) }
                        input #find type="search" name="find" maxlength="100";
                    }
                }
                div #timeline {}
                div.actions { button.btn #older type="button" hidden { (text!("Show older entries")) } }
            }
            div.flow {
                aside.aside #glance aria-label=(text!("At a glance")) {}
                div.flow #everything {}
            }
        }
        (tools(portal, signed, "record")?)
    };
    Ok(Page::new(text!("Your record"), main)
        .at(Place::Record)
        .render(Some(signed)))
}

/// `GET /record/{type}/{id}` of a patient who holds the keys.
pub(in crate::views) fn entry(
    portal: &Portal,
    signed: &Signed,
    resource_type: &str,
    id: &str,
) -> Answer<Rendered> {
    holder(signed)?;
    if !stele_fhir::is_resource_type(resource_type) {
        return Err(Refusal::not_found());
    }
    let main = html! {
        a.back href="/record" { (text!("Back to your record")) }
        (states(text!("Opening the entry…")))
        div.flow #entry data-type=(resource_type) data-id=(id) {}
        (tools(portal, signed, "entry")?)
    };
    Ok(Page::new(text!("An entry of your record"), main)
        .at(Place::Record)
        .narrow()
        .render(Some(signed)))
}

/// `GET /keys/records?count=…`, with `above=…` where the browser kept what was recorded up to that place of the log; or
/// `?at=5,7,9`.
async fn records(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answered<Response> {
    holder(&signed)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let at = fields.text("at");
    let page = if at.is_empty() {
        let above = number_of("above", fields.text("above"))?;
        let count = fields.text("count").parse().unwrap_or(COUNT);
        portal.service.hand_out(&signed.actor, above, count).await?
    } else {
        let leaves = at
            .split(',')
            .filter_map(|one| number_of("at", one).transpose())
            .collect::<Result<_, _>>()?;
        portal.service.hand_out_at(&signed.actor, &leaves).await?
    };
    written(&portal, &signed, &page).await
}

/// A number in an address; none where nothing is given.
fn number_of<N: FromStr>(name: &str, text: &str) -> Answer<Option<N>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Refusal::bad_form(text!("It can't be read: {error}.", error = name)))
}

/// `GET /keys/records/{type}/{id}`, or an earlier version of it: `?version=1`
async fn one(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answered<Response> {
    holder(&signed)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let version = number_of("version", fields.text("version"))?;
    let page = portal
        .service
        .hand_out_one(&signed.actor, &resource_type, &id, version)
        .await?;
    written(&portal, &signed, &page).await
}

/// `GET /keys/records/{type}/{id}/ciphertext`: of a file, which may be large.
async fn ciphertext(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answered<Response> {
    holder(&signed)?;
    let (length, pieces) = portal
        .service
        .hand_out_ciphertext(&signed.actor, &resource_type, &id)
        .await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// A page of entries with the names of who wrote them, which stand in the directory and not in the record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(flatten)]
    page: &'a HandedPage,
    names: BTreeMap<String, String>,
    patient_number: String,
}

async fn written(portal: &Portal, signed: &Signed, page: &HandedPage) -> Answered<Response> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for entry in &page.entries {
        let author = address(entry.author);
        if names.contains_key(&author) {
            continue;
        }
        let name = if entry.author == signed.person.account {
            "you".to_owned()
        } else {
            portal.name(entry.author).await?.name
        };
        names.insert(author, name);
    }
    let patient_number = number(portal, signed.patient()?)?;
    let written = Written {
        page,
        names,
        patient_number,
    };
    Ok(Json(written).into_response())
}
