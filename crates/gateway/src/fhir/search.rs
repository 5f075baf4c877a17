//! Search by URL and by form; AuditEvent and Provenance, which are answered from the ledger.

use std::sync::Arc;

use axum::{body::Body, http::StatusCode};
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
    asked::Asked,
    headers::{Prefer, View, content_type, unsupported},
    page::{self, CURSOR},
};
use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
    smart::{Interaction, Principal},
};

/// `GET {type}?…`
pub(super) async fn by_url(asked: Asked) -> Answer {
    let pairs = asked.pairs();
    run(&asked, pairs).await
}

/// `POST {type}/_search`: parameters in the form, and in the URL.
pub(super) async fn by_form(asked: Asked, body: Body) -> Answer {
    let mut pairs = asked.pairs();
    let kind = content_type(&asked.headers);
    if kind != body::FORM && !kind.is_empty() {
        return Err(unsupported(
            "send the parameters as application/x-www-form-urlencoded",
        ));
    }
    pairs.extend(body::pairs(
        &body::read(&asked.headers, body, FORM_MAX).await?,
    ));
    run(&asked, pairs).await
}

async fn run(asked: &Asked, pairs: Vec<(String, String)>) -> Answer {
    asked.require(&[Interaction::Search])?;
    let (front, principal) = (&asked.front, &asked.principal);
    let general = View::read(&asked.headers, &pairs)?;
    let handling = Prefer::read(&asked.headers).handling;
    if asked.resource_type == "AuditEvent" {
        return audit_events(asked, handling, &general, pairs).await;
    }
    let (mut query, warnings) = parse(front, &asked.resource_type, &pairs, handling)?;
    within_scopes(principal, &mut query)?;
    let pairs = heeded(pairs, &warnings);
    let view = View::of_query(&query, general.pretty);
    let mut page = front.service.search(&principal.actor, &query).await?;
    page.included.retain(|one| {
        principal
            .scopes
            .allow(Interaction::Read, &one.resource_type)
    });
    let page = ledger_provenance(asked, &query, &pairs, page).await?;
    Ok(answer(asked, &pairs, &page, &warnings, &view))
}

/// The parameters without those that were left out: links say what was searched by, not what was asked.
fn heeded(mut pairs: Vec<(String, String)>, warnings: &[Issue]) -> Vec<(String, String)> {
    let ignored = |name: &str| {
        let place = format!("http.{name}");
        // Of a parameter that says how to answer only a part may have been left out.
        !name.starts_with('_')
            && warnings.iter().any(|issue| {
                issue.code == IssueCode::NotSupported && issue.expression.contains(&place)
            })
    };
    pairs.retain(|(name, _)| !ignored(name));
    pairs
}

fn answer(
    asked: &Asked,
    pairs: &[(String, String)],
    page: &SearchPage,
    warnings: &[Issue],
    view: &View,
) -> axum::response::Response {
    let front = &asked.front;
    let fhir_url = front.config.fhir_url();
    let links = page::links(&asked.url(), pairs, page.next.as_deref());
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
    asked: &Asked,
    handling: Handling,
    view: &View,
    pairs: Vec<(String, String)>,
) -> Answer {
    let front = &asked.front;
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
    let (service, actor) = (Arc::clone(&front.service), asked.principal.actor.clone());
    let page = front
        .blocking(move || {
            service
                .audit_events(&actor, &patient, count, cursor.as_deref())
                .map_err(Problem::from)
        })
        .await??;
    Ok(answer(asked, &pairs, &page, &warnings, view))
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

/// Adds what the ledger says: of the `target` that Provenance is searched by, before what clients wrote about it, and
/// of every match where `_revinclude=Provenance:target` asks for it.
async fn ledger_provenance(
    asked: &Asked,
    query: &Query,
    pairs: &[(String, String)],
    mut page: SearchPage,
) -> Result<SearchPage, Problem> {
    let as_match = asked.resource_type == "Provenance";
    let targets: Vec<(String, String)> = if as_match {
        let target = query.cursor.is_none().then(|| only_target(pairs)).flatten();
        target.into_iter().collect()
    } else if asked.includes_provenance(pairs) {
        let found = page.matches.iter();
        found
            .map(|one| (one.resource_type.clone(), one.id.clone()))
            .collect()
    } else {
        Vec::new()
    };
    if targets.is_empty() {
        return Ok(page);
    }
    let (service, actor) = (
        Arc::clone(&asked.front.service),
        asked.principal.actor.clone(),
    );
    let look = move || {
        let mut found = Vec::new();
        for (resource_type, id) in targets {
            match service.provenance(&actor, &resource_type, &id) {
                Ok(recorded) => found.extend(recorded),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(Problem::from(error)),
            }
        }
        Ok(found)
    };
    let recorded = asked.front.blocking(look).await??;
    if as_match {
        let added = u64::try_from(recorded.len()).unwrap_or_default();
        page.total = page.total.map(|total| total.saturating_add(added));
        page.matches.splice(0..0, recorded);
    } else {
        page.included.extend(recorded);
    }
    Ok(page)
}

impl Asked {
    fn includes_provenance(&self, pairs: &[(String, String)]) -> bool {
        let asked = pairs
            .iter()
            .any(|(name, value)| name == "_revinclude" && value == "Provenance:target");
        asked && self.principal.scopes.allow(Interaction::Read, "Provenance")
    }
}

/// Type and id of the one `target` that is named, if one and only one is.
fn only_target(pairs: &[(String, String)]) -> Option<(String, String)> {
    let mut named = pairs.iter().filter(|(name, _)| name == "target");
    let (Some((_, target)), None) = (named.next(), named.next()) else {
        return None;
    };
    match Reference::parse(target)? {
        Reference::Relative {
            resource_type, id, ..
        } => Some((resource_type.to_owned(), id.to_owned())),
        _ => None,
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
