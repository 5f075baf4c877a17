//! The head of every request about a resource type: who asks, what the address names, what the headers say.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, StatusCode, request::Parts},
};
use stele_fhir::outcome::IssueCode;

use super::{headers::View, known_type, operations::only_patient};
use crate::{
    body,
    front::Front,
    problem::Problem,
    smart::{Interaction, Principal},
};

/// A request about a resource type, by somebody known.
pub(super) struct Asked {
    pub(super) front: Arc<Front>,
    pub(super) principal: Principal,
    pub(super) headers: HeaderMap,
    /// A type of FHIR R4.
    pub(super) resource_type: String,
    /// Logical id; empty where the address has none.
    pub(super) id: String,
    /// Version as written; empty where the address has none.
    pub(super) version: String,
    /// What follows the question mark; empty where nothing does.
    pub(super) query: String,
}

impl FromRequestParts<Arc<Front>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Problem> {
        let principal = Principal::from_request_parts(parts, front).await?;
        let named = RawPathParams::from_request_parts(parts, front)
            .await
            .map_err(|rejection| Problem::bad_request(IssueCode::Value, rejection.body_text()))?;
        let part = |name: &str| {
            named
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
                .unwrap_or_default()
        };
        let asked = Self {
            front: Arc::clone(front),
            principal,
            headers: parts.headers.clone(),
            resource_type: part("type"),
            id: part("id"),
            version: part("version"),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        };
        known_type(&asked.resource_type)?;
        Ok(asked)
    }
}

impl Asked {
    /// # Errors
    /// 403 for a token that does not reach this far.
    pub(super) fn require(&self, interactions: &[Interaction]) -> Result<(), Problem> {
        interactions
            .iter()
            .try_for_each(|one| self.principal.require(*one, &self.resource_type))
    }

    /// # Errors
    /// 405 for what is answered from the ledger; 403 for a token that does not reach this far.
    pub(super) fn require_write(&self, interactions: &[Interaction]) -> Result<(), Problem> {
        writable(&self.resource_type, &self.id)?;
        self.require(interactions)
    }

    /// # Errors
    /// 404 where an operation is asked of another type than Patient.
    pub(super) fn only_patient(&self, operation: &str) -> Result<(), Problem> {
        only_patient(&self.resource_type, operation)
    }

    /// The query's names and values, in order.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        body::pairs(self.query.as_bytes())
    }

    /// How the answer is to be shown.
    ///
    /// # Errors
    /// As for [`View::read`].
    pub(super) fn view(&self) -> Result<View, Problem> {
        View::read(&self.headers, &self.pairs())
    }

    /// Address of the type, or of the resource where there is an id.
    pub(super) fn url(&self) -> String {
        let base = self.front.config.fhir_url();
        if self.id.is_empty() {
            format!("{base}/{}", self.resource_type)
        } else {
            format!("{base}/{}/{}", self.resource_type, self.id)
        }
    }
}

/// Types that are answered from the ledger and never written by clients.
pub(super) const READ_ONLY: [&str; 1] = ["AuditEvent"];

/// # Errors
/// 405 for types and ids that clients don't write. `id` is empty where the server gives one.
pub(super) fn writable(resource_type: &str, id: &str) -> Result<(), Problem> {
    let refused = if READ_ONLY.contains(&resource_type) {
        resource_type
    } else if resource_type == "Provenance" && is_place(id) {
        // Under such an id the ledger's own word is found, which nobody may put another in the place of.
        "a Provenance with this id"
    } else {
        return Ok(());
    };
    Err(Problem::one(
        StatusCode::METHOD_NOT_ALLOWED,
        IssueCode::NotSupported,
        format!("{refused} is answered from the ledger and can't be written"),
    ))
}

/// Whether an id names a place on the ledger: 40 hexadecimal digits of a log, a hyphen, and a leaf's number.
pub(super) fn is_place(id: &str) -> bool {
    id.split_once('-').is_some_and(|(log, leaf)| {
        log.len() == 40
            && log.chars().all(|c| c.is_ascii_hexdigit())
            && !leaf.is_empty()
            && leaf.chars().all(|c| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledgers_word_is_not_written_by_clients() {
        let place = format!("{}-7", "0a".repeat(20));
        assert!(is_place(&place));
        assert_eq!(
            writable("Provenance", &place).expect_err("place").status,
            405
        );
        assert_eq!(writable("AuditEvent", "x").expect_err("type").status, 405);
        for (resource_type, id) in [
            ("Provenance", ""),
            ("Provenance", "7f3c9e52-2f5e-4a55-9e0a-0c2d4f1c6a11"),
            ("Observation", place.as_str()),
        ] {
            assert!(writable(resource_type, id).is_ok(), "{resource_type} {id}");
        }
    }
}
