//! The screens, one module each.

mod access;
mod account;
mod ask;
mod auditor;
mod chart;
mod dispense;
mod drafts;
mod emergencies;
mod entry;
mod history;
mod keys;
mod laboratory;
mod language;
mod ledger;
mod members;
mod notices;
mod own;
mod prescriptions;
mod record;
mod register;
mod requests;
mod share;
mod sign_in;
mod upkeep;
mod upload;
mod wallet;
mod worklist;

use std::sync::Arc;

use axum::{Router, response::Redirect, routing::get};
use stele_service::directory::role;

use crate::{front::Portal, page::CARE, session::Signed};

/// The addresses of all screens.
pub(crate) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/", get(start))
        .merge(sign_in::routes())
        .merge(wallet::routes())
        .merge(record::routes())
        .merge(notices::routes())
        .merge(own::routes())
        .merge(upload::routes())
        .merge(laboratory::routes())
        .merge(language::routes())
        .merge(ledger::routes())
        .merge(members::routes())
        .merge(register::routes())
        .merge(requests::routes())
        .merge(upkeep::routes())
        .merge(entry::routes())
        .merge(access::routes())
        .merge(share::routes())
        .merge(history::routes())
        .merge(worklist::routes())
        .merge(ask::routes())
        .merge(auditor::routes())
        .merge(chart::routes())
        .merge(dispense::routes())
        .merge(drafts::routes())
        .merge(emergencies::routes())
        .merge(prescriptions::routes())
        .merge(keys::routes())
        .merge(account::routes())
}

/// `GET /`: to where the person's work begins.
async fn start(signed: Signed) -> Redirect {
    Redirect::to(home(&signed))
}

fn home(signed: &Signed) -> &'static str {
    if signed.is_patient() {
        "/record"
    } else if signed.person.has(role::PHARMACIST) {
        "/dispense"
    } else if signed.person.has(role::LABORATORY) {
        "/laboratory"
    } else if signed.person.has(CARE) {
        "/worklist"
    } else if signed.person.has(role::ADMINISTRATOR) {
        "/members"
    } else if signed.person.has(role::AUDITOR) {
        "/ledger"
    } else {
        "/account"
    }
}
