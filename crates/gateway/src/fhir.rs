//! FHIR R4 over HTTP: addresses and headers become use cases, their results become answers.
//!
//! Decides nothing about records. Resources leave as the bytes that are stored; a view (`_summary`, `_elements`)
//! is the only thing ever written out anew.

mod asked;
mod binary;
mod bundles;
mod conditional;
mod headers;
mod history;
mod metadata;
mod operations;
mod page;
mod pending;
mod prescriptions;
mod pretty;
mod read;
mod search;
mod write;

pub(crate) use operations::only_patient;

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    routing::{get, post},
};
use stele_fhir::outcome::IssueCode;

use crate::{front::Front, problem::Problem, smart};

/// Everything under `/fhir/r4`.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/fhir/r4", post(bundles::system))
        .route("/fhir/r4/", post(bundles::system))
        .route("/fhir/r4/metadata", get(metadata::metadata))
        .route("/fhir/r4/_status/{ticket}", get(pending::status))
        .route(
            "/fhir/r4/.well-known/smart-configuration",
            get(smart::discovery),
        )
        .route(
            "/fhir/r4/{type}",
            get(search::by_url)
                .post(write::create)
                .put(write::update_conditionally)
                .patch(write::patch_conditionally)
                .delete(write::delete_conditionally),
        )
        .route("/fhir/r4/{type}/_search", post(search::by_form))
        .route("/fhir/r4/{type}/_history", get(history::of_type))
        .route("/fhir/r4/{type}/$validate", post(operations::validate))
        .route("/fhir/r4/{type}/$prescribe", post(prescriptions::prescribe))
        .route(
            "/fhir/r4/{type}/$check-prescription",
            post(prescriptions::check),
        )
        .route("/fhir/r4/{type}/$dispense", post(prescriptions::dispense))
        .route(
            "/fhir/r4/{type}/{id}/$cancel-prescription",
            post(prescriptions::cancel),
        )
        .route(
            "/fhir/r4/{type}/{id}",
            get(read::current)
                .put(write::update)
                .patch(write::patch)
                .delete(write::delete),
        )
        .route("/fhir/r4/{type}/{id}/_history", get(history::of_instance))
        .route(
            "/fhir/r4/{type}/{id}/_history/{version}",
            get(read::version),
        )
        .route(
            "/fhir/r4/{type}/{id}/$everything",
            get(operations::everything),
        )
        .route("/fhir/r4/{type}/{id}/$diff", get(read::difference))
        .route("/fhir/r4/{type}/{id}/$proof", get(operations::proof))
        .route(
            "/fhir/r4/{type}/{id}/$log-proof",
            get(operations::log_proof),
        )
}

/// Answers every address that is not there.
pub(crate) async fn no_such_address(uri: Uri) -> Problem {
    let what = if uri.path().starts_with("/fhir/") {
        "there is no such FHIR address; see /fhir/r4/metadata"
    } else {
        "there is no such address; see /openapi.json"
    };
    Problem::not_found(what)
}

/// Answers a method that an address does not take; the router adds `Allow`.
pub(crate) async fn no_such_method(method: Method) -> Problem {
    Problem::one(
        StatusCode::METHOD_NOT_ALLOWED,
        IssueCode::NotSupported,
        format!("{method} is not offered here"),
    )
}

/// # Errors
/// 404 for what is not a resource type of R4.
fn known_type(name: &str) -> Result<(), Problem> {
    if stele_fhir::is_resource_type(name) {
        return Ok(());
    }
    Err(Problem::one(
        StatusCode::NOT_FOUND,
        IssueCode::NotSupported,
        "this is not a resource type of FHIR R4",
    ))
}
