//! A patient's record and the trail of accesses to it, taken out as one signed file each.

mod audit;
mod page;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};
use stele_core::export::{self, ExportError, Page};
use stele_fhir::outcome::IssueCode;
use stele_service::export::Collected;

pub use audit::{audit_csv, audit_page};

use crate::{
    body,
    fhir::only_patient,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// The addresses of this module.
pub(crate) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/fhir/r4/{type}/{id}/$signed-export", get(record))
        .route("/fhir/r4/{type}/{id}/$signed-audit", get(accesses))
}

/// A Bundle to be signed, and the page that it travels in.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// The Bundle without its signature.
    pub bundle: String,
    /// The page without the Bundle.
    pub page: Page,
}

/// Makes Bundle and page of what was collected. `base_url` is the FHIR service's, for the entries' full URLs.
///
/// # Errors
/// A resource's text is not JSON.
pub fn unsigned(mut collected: Collected, base_url: &str) -> Result<Unsigned, ExportError> {
    let page = page::write(&collected);
    collected.proofs.page = Some(page.digest());
    let resources: Vec<(String, &str)> = collected
        .resources
        .iter()
        .map(|one| {
            let url = format!("{base_url}/{}/{}", one.resource_type, one.id);
            (url, export::trim(&one.text).0)
        })
        .collect();
    let id = format!("export-{}-{}", collected.patient_id, collected.made.0);
    // FHIR ids have at most 64 characters.
    let id: String = id.chars().take(64).collect();
    let bundle = export::bundle(&id, collected.made, base_url, &resources, &collected.proofs)?;
    Ok(Unsigned { bundle, page })
}

/// `GET Patient/{id}/$signed-export?format=html|json`: the whole record in one signed file.
async fn record(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    only_patient(&resource_type, "$signed-export")?;
    principal.require(Interaction::Read, "Patient")?;
    let mut as_page = false;
    for (name, value) in body::pairs(query.unwrap_or_default().as_bytes()) {
        match (name.as_str(), value.as_str()) {
            ("format", "html") => as_page = true,
            ("format", "json") => as_page = false,
            _ => {
                return Err(Problem::bad_request(
                    IssueCode::Value,
                    "only format=html and format=json are taken here",
                ));
            }
        }
    }
    let mut collected = front.service.collect(&principal.actor, &id).await?;
    // Types that the token does not reach are left out, with their proofs.
    let allowed = |name: &str| principal.scopes.allow(Interaction::Read, name);
    collected
        .resources
        .retain(|one| allowed(&one.resource_type));
    collected
        .proofs
        .records
        .retain(|one| allowed(&one.resource_type));
    let fhir_url = front.config.fhir_url();
    let service = Arc::clone(&front.service);
    let made = front
        .blocking(move || {
            let signer = collected.proofs.signer.clone();
            let unsigned = unsigned(collected, &fhir_url).map_err(|error| internal(&error))?;
            let signed = service.sign_export(&unsigned.bundle, &signer)?;
            Ok::<_, Problem>(if as_page {
                unsigned.page.with(&signed)
            } else {
                signed
            })
        })
        .await??;
    Ok(if as_page {
        let policy = HeaderValue::from_str(&page::policy())
            .unwrap_or(HeaderValue::from_static("default-src 'none'"));
        let mut response = file(made, "text/html; charset=utf-8", "health-record.html");
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
        response
    } else {
        file(made, "application/fhir+json", "health-record.fhir.json")
    })
}

/// `GET Patient/{id}/$signed-audit`: every access, refused ones too, with what ties each to the ledger.
async fn accesses(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path((resource_type, id)): Path<(String, String)>,
) -> Answer {
    only_patient(&resource_type, "$signed-audit")?;
    principal.require(Interaction::Read, "AuditEvent")?;
    let report = front.service.audit_report(&principal.actor, &id).await?;
    let service = Arc::clone(&front.service);
    let signed = front
        .blocking(move || {
            let unsigned = serde_json::to_string(&report).map_err(|error| internal(&error))?;
            Ok::<_, Problem>(service.sign_export(&unsigned, &report.signer)?)
        })
        .await??;
    Ok(file(signed, "application/json", "accesses.json"))
}

fn file(content: String, kind: &'static str, name: &'static str) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers: [(HeaderName, HeaderValue); 2] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            CONTENT_DISPOSITION,
            HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment")),
        ),
    ];
    (headers, content).into_response()
}

fn internal(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = %error, "export.failed");
    Problem::one(
        http::StatusCode::INTERNAL_SERVER_ERROR,
        IssueCode::Exception,
        "internal failure; the log says more",
    )
}
