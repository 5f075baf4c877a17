//! What the portal needs of the node: where people open it, and how a whole record is written.

use std::{net::SocketAddr, sync::Arc};

use stele_portal::{Export, ExportForm};
use stele_service::Service;

use super::base_url;
use crate::config::Config;

/// Where people open the portal.
pub(super) fn origin(config: &Config, http: SocketAddr) -> String {
    let origin = config.portal.origin.clone();
    origin.unwrap_or_else(|| base_url(http))
}

/// How the portal's download of a whole record is written: as `$signed-export` does it.
pub(super) fn export_writer(service: &Arc<Service>, fhir_url: String) -> Export {
    let service = Arc::clone(service);
    Arc::new(move |collected, form| {
        let signer = collected.proofs.signer.clone();
        let unsigned = stele_gateway::export::unsigned(collected, &fhir_url).map_err(|error| {
            stele_service::Error::NotSupported {
                message: error.to_string(),
            }
        })?;
        let signed = service.sign_export(&unsigned.bundle, &signer)?;
        Ok(match form {
            ExportForm::Page => unsigned.page.with(&signed),
            ExportForm::Bundle => signed,
        })
    })
}
