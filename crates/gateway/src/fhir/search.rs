//! Search by URL and by form; AuditEvent and Provenance, which are answered from the ledger.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
};
use stele_fhir::{
    outcome::{Issue, IssueCode},
    reference::Reference,
    search::{
        self, Handling, Options,
        ast::{Filter, Query, Summary, Total},
    },
};
use stele_service::{Error, SearchPage};

use super::{
    headers::{Prefer, View, content_type, unsupported},
    known_type,
    page::{self, CURSOR},
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `GET {type}?…`
pub(super) async fn by_url(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    run(&front, &principal, &resource_type, &headers, pairs).await
}

/// `POST {type}/_search`: parameters in the form, and in the URL.
pub(super) async fn by_form(
    State(front): State<Arc<Front>>,
    principal: Principal,
    Path(resource_type): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let mut pairs = body::pairs(query.unwrap_or_default().as_bytes());
    let kind = content_type(&headers);
    if kind != body::FORM && !kind.is_empty() {
        return Err(unsupported(
            "send the parameters as application/x-www-form-urlencoded",
        ));
    }
    pairs.extend(body::pairs(&body::read(&headers, body, FORM_MAX).await?));
    run(&front, &principal, &resource_type, &headers, pairs).await
}

async fn run(
    front: &Arc<Front>,
    principal: &Principal,
    resource_type: &str,
    headers: &HeaderMap,
    pairs: Vec<(String, String)>,
) -> Answer {
    known_type(resource_type)?;
    principal.require(Interaction::Search, resource_type)?;
    let general = View::read(headers, &pairs)?;
    let handling = Prefer::read(headers).handling;
    if resource_type == "AuditEvent" {
        return audit_events(front, principal, handling, &general, pairs).await;
    }
    let (mut query, warnings) = parse(front, resource_type, &pairs, handling)?;
    within_scopes(principal, &mut query)?;
    let view = View::of_query(&query, general.pretty);
    let mut page = front.service.search(&principal.actor, &query).await?;
    if resource_type == "Provenance" && query.cursor.is_none() {
        add_provenance(front, principal, &pairs, &mut page)?;
    }
    page.included.retain(|one| {
        principal
            .scopes
            .allow(Interaction::Read, &one.resource_type)
    });
    Ok(answer(
        front,
        resource_type,
        &pairs,
        &page,
        &warnings,
        &view,
    ))
}

fn answer(
    front: &Front,
    resource_type: &str,
    pairs: &[(String, String)],
    page: &SearchPage,
    warnings: &[Issue],
    view: &View,
) -> axum::response::Response {
    let fhir_url = front.config.fhir_url();
    let links = page::links(
        &format!("{fhir_url}/{resource_type}"),
        pairs,
        page.next.as_deref(),
    );
    let text = page::searchset(&fhir_url, page, warnings, view, front.service.now(), &links);
    page::shown(StatusCode::OK, text, view)
}

/// Reads a search and bounds it.
///
/// # Errors
/// 400 with every parameter that is wrong.
fn parse(
    front: &Front,
    resource_type: &str,
    pairs: &[(String, String)],
    handling: Handling,
) -> Result<(Query, Vec<Issue>), Problem> {
    let fhir_url = front.config.fhir_url();
    let options = Options {
        handling,
        now_ms: i64::try_from(front.service.now().0).unwrap_or(i64::MAX),
        count_max: front.config.max_count,
        base_url: Some(&fhir_url),
    };
    let (mut query, warnings) =
        search::parse(resource_type, pairs, &options).map_err(|issues| Error::Invalid {
            issues,
            unreadable: true,
        })?;
    // "If _count has the value 0, this shall be treated the same as _summary=count."
    if query.count == Some(0) {
        query.summary = Summary::Count;
    }
    query.count = Some(
        query
            .count
            .unwrap_or(front.config.default_count)
            .clamp(1, front.config.max_count),
    );
    if query.summary == Summary::Count {
        query.total = Some(Total::Accurate);
    }
    Ok((query, warnings))
}

/// A search must not tell about types that the token does not reach, by what it finds through them.
fn within_scopes(principal: &Principal, query: &mut Query) -> Result<(), Problem> {
    for filter in &mut query.filters {
        match filter {
            Filter::Chain { targets, .. } => {
                let first = targets.first().map_or("*", |target| target.resource_type);
                targets.retain(|target| {
                    principal
                        .scopes
                        .allow(Interaction::Search, target.resource_type)
                });
                if targets.is_empty() {
                    principal.require(Interaction::Search, first)?;
                }
            }
            Filter::Has { source_type, .. } => {
                principal.require(Interaction::Search, source_type)?;
            }
            Filter::Values { .. } | Filter::Missing { .. } | Filter::FullText { .. } => {}
        }
    }
    Ok(())
}

/// Accesses to one patient's record.
async fn audit_events(
    front: &Arc<Front>,
    principal: &Principal,
    handling: Handling,
    view: &View,
    pairs: Vec<(String, String)>,
) -> Answer {
    let mut patient = None;
    let mut count = front.config.default_count;
    let mut cursor = None;
    let mut warnings = Vec::new();
    for (name, value) in &pairs {
        match name.as_str() {
            "patient" | "patient._id" | "entity" => patient = Some(patient_id(value)?),
            "_count" => {
                count = value.parse().map_err(|_| {
                    Problem::bad_request(IssueCode::Value, "_count is not a number")
                })?;
            }
            CURSOR => cursor = Some(value.clone()),
            "_format" | "_pretty" | "_summary" | "_elements" => {}
            _ if handling == Handling::Strict => {
                return Err(Problem::bad_request(
                    IssueCode::NotSupported,
                    "AuditEvent is searched by patient, _count and _cursor only",
                ));
            }
            _ => warnings.push(Issue::warning(
                IssueCode::NotSupported,
                "AuditEvent is searched by patient, _count and _cursor only; another parameter was ignored",
            )),
        }
    }
    let patient = patient.ok_or_else(|| {
        Problem::bad_request(
            IssueCode::Required,
            "name the patient whose record was accessed: patient=Patient/…",
        )
    })?;
    let count = count.clamp(1, front.config.max_count);
    let (service, actor) = (Arc::clone(&front.service), principal.actor.clone());
    let page = front
        .blocking(move || {
            service
                .audit_events(&actor, &patient, count, cursor.as_deref())
                .map_err(Problem::from)
        })
        .await??;
    Ok(answer(front, "AuditEvent", &pairs, &page, &warnings, view))
}

fn patient_id(value: &str) -> Result<String, Problem> {
    match Reference::parse(value) {
        Some(Reference::Relative {
            resource_type: "Patient",
            id,
            ..
        }) => Ok(id.to_owned()),
        Some(Reference::Absolute {
            target: Some(("Patient", id)),
            ..
        }) => Ok(id.to_owned()),
        _ if !value.is_empty() && !value.contains('/') => Ok(value.to_owned()),
        _ => Err(Problem::bad_request(
            IssueCode::Value,
            "the patient is named as Patient/id",
        )),
    }
}

/// Puts what the ledger says of `target` before what clients wrote about it.
fn add_provenance(
    front: &Front,
    principal: &Principal,
    pairs: &[(String, String)],
    page: &mut SearchPage,
) -> Result<(), Problem> {
    let mut named = pairs.iter().filter(|(name, _)| name == "target");
    let (Some((_, target)), None) = (named.next(), named.next()) else {
        return Ok(());
    };
    let Some(Reference::Relative {
        resource_type, id, ..
    }) = Reference::parse(target)
    else {
        return Ok(());
    };
    match front
        .service
        .provenance(&principal.actor, resource_type, id)
    {
        Ok(recorded) => {
            let added = u64::try_from(recorded.matches.len()).unwrap_or_default();
            page.total = page.total.map(|total| total.saturating_add(added));
            page.matches.splice(0..0, recorded.matches);
            Ok(())
        }
        Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Searches are short; `PAIRS_MAX` of the parser and its lengths bound them further.
const FORM_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_is_named_in_three_ways() {
        for written in ["7", "Patient/7", "http://h/fhir/r4/Patient/7"] {
            assert_eq!(patient_id(written).expect(written), "7");
        }
        for wrong in ["Group/7", "", "Patient/7/8"] {
            assert!(patient_id(wrong).is_err(), "{wrong}");
        }
    }

    fn principal(scopes: &str) -> Principal {
        Principal {
            actor: stele_service::session::Actor::system(
                stele_core::id::OrganizationId::default(),
                stele_core::consent::Purpose::Treat,
                "test",
            ),
            scopes: scopes.parse().expect("scopes"),
        }
    }

    fn query(resource_type: &str, pairs: &[(&str, &str)]) -> Query {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let options = Options {
            handling: Handling::Strict,
            now_ms: 0,
            count_max: 10,
            base_url: None,
        };
        search::parse(resource_type, &pairs, &options)
            .expect("a search")
            .0
    }

    #[test]
    fn a_scope_bounds_what_a_search_goes_through() {
        let chained = || query("Observation", &[("subject:Patient.name", "x")]);
        assert!(within_scopes(&principal("system/*.rs"), &mut chained()).is_ok());
        let refused = within_scopes(&principal("system/Observation.rs"), &mut chained());
        assert_eq!(refused.expect_err("no scope").status, 403);
        let mut any = query("Observation", &[("subject.name", "x")]);
        assert!(within_scopes(&principal("system/Patient.s"), &mut any).is_ok());
        let Some(Filter::Chain { targets, .. }) = any.filters.first() else {
            panic!("a chain");
        };
        assert!(
            targets
                .iter()
                .all(|target| target.resource_type == "Patient")
        );
        let mut reverse = query("Patient", &[("_has:Observation:patient:code", "x")]);
        let refused = within_scopes(&principal("system/Patient.rs"), &mut reverse);
        assert_eq!(refused.expect_err("no scope").status, 403);
    }
}
