//! Reading, searching, listing.

use std::{collections::HashSet, sync::Arc};

use stele_core::{receipt::AccessAction, time::Timestamp};
use stele_fhir::{
    outcome::{Issue, IssueCode},
    search::{Handling, Options, ast::Query},
};

use super::{SearchPage, Stored, Verification};
use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// Most resources on one page, whatever was asked for.
pub const COUNT_MAX: u32 = 1000;

impl Service {
    /// The current version of a resource.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what may not be disclosed; [`Error::Gone`]; [`Error::DoesNotMatch`].
    pub async fn read(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<Stored> {
        self.read_version(actor, resource_type, id, None).await
    }

    /// A given version of a resource.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn vread(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: u32,
    ) -> Result<Stored> {
        self.read_version(actor, resource_type, id, Some(version))
            .await
    }

    async fn read_version(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
    ) -> Result<Stored> {
        let found = self
            .index
            .search()
            .read(
                resource_type,
                id,
                version,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(index_error("reading a resource"))?;
        let Some(found) = found else {
            self.refuse_hidden(actor, resource_type, id).await?;
            return Err(Error::not_found(resource_type, id));
        };
        if found.deleted {
            return Err(Error::Gone {
                resource: format!("{resource_type}/{id}"),
            });
        }
        let (mut opened, _) = self.fetch(actor, AccessAction::Read, vec![found]).await?;
        match opened.pop() {
            Some(one) if one.state == Verification::DoesNotMatch => Err(Error::DoesNotMatch {
                resource: format!("{resource_type}/{id}/_history/{}", one.version),
            }),
            Some(one) => Ok(one),
            None => Err(Error::not_found(resource_type, id)),
        }
    }

    /// Leaves a receipt where somebody asked by id for what they may not see.
    pub(crate) async fn refuse_hidden(
        &self,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<()> {
        let Some(hidden) = self.locate(resource_type, id).unwrap_or_default() else {
            return Ok(());
        };
        let place = &hidden.placement;
        let slot = 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
        let records = [(place.record, hidden.version)];
        self.refuse(actor, place.log, AccessAction::Read, slot, &records)
            .await
    }

    /// Answers a parsed search.
    ///
    /// # Errors
    /// A cursor of another search, or the index fails.
    pub async fn search(self: &Arc<Self>, actor: &Actor, query: &Query) -> Result<SearchPage> {
        const WHAT: &str = "searching";
        let (viewer, asked) = (actor.viewer(), query.clone());
        let searching = self.read_blocking(WHAT, move |service| {
            let now = service.clock.now();
            let page = service.index.search().search(&asked, &viewer, now);
            page.map_err(index_error(WHAT))
        });
        let page = searching.await?;
        self.open_page(actor, AccessAction::Search, page).await
    }

    async fn open_page(
        self: &Arc<Self>,
        actor: &Actor,
        action: AccessAction,
        page: stele_index::Page,
    ) -> Result<SearchPage> {
        // What matches is never among what is included with it.
        let included: HashSet<String> = page
            .includes
            .iter()
            .map(|one| name(one.resource_type, &one.id))
            .collect();
        let mut found = page.matches;
        found.extend(page.includes);
        let (opened, mut outcomes) = self.fetch(actor, action, found).await?;
        if page.includes_cut {
            outcomes.push(Issue::warning(
                IssueCode::TooCostly,
                "More resources would be included than one page may hold",
            ));
        }
        let is_included = |one: &Stored| {
            !included.is_empty() && included.contains(&name(&one.resource_type, &one.id))
        };
        let (included, matches): (Vec<Stored>, Vec<Stored>) = opened
            .into_iter()
            .filter(|one| one.state == Verification::Verified)
            .partition(is_included);
        Ok(SearchPage {
            matches,
            included,
            outcomes,
            total: page.total,
            next: page.next,
        })
    }

    /// Versions of one resource, or of all resources of a type, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no version the actor may see.
    pub async fn history(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: Option<&str>,
        count: u32,
        cursor: Option<&str>,
    ) -> Result<SearchPage> {
        const WHAT: &str = "listing versions";
        let count = count.clamp(1, COUNT_MAX);
        let (viewer, now) = (actor.viewer(), self.clock.now());
        let search = self.index.search();
        let limit = count.saturating_add(1);
        let mut found = match id {
            Some(id) => {
                let before = cursor.map(parse_version_cursor).transpose()?;
                search.history(resource_type, id, before, limit, &viewer, now)
            }
            None => {
                let before = cursor.map(|c| self.parse_type_cursor(c)).transpose()?;
                let since = Timestamp(0);
                search.history_type(resource_type, since, before.as_ref(), limit, &viewer, now)
            }
        }
        .map_err(index_error(WHAT))?;
        let more = found.len() > usize::try_from(count).unwrap_or(usize::MAX);
        found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        if found.is_empty()
            && cursor.is_none()
            && let Some(id) = id
        {
            self.refuse_hidden(actor, resource_type, id).await?;
            return Err(Error::not_found(resource_type, id));
        }
        let next = found.last().filter(|_| more).map(|last| match id {
            Some(_) => last.version.to_string(),
            None => format!("{}/{}/{}", last.resource_type, last.id, last.version),
        });
        let (opened, outcomes) = self.fetch(actor, AccessAction::History, found).await?;
        let matches = opened
            .into_iter()
            .filter(|one| one.state == Verification::Verified)
            .collect();
        Ok(SearchPage {
            matches,
            outcomes,
            next,
            ..SearchPage::default()
        })
    }

    fn parse_type_cursor(&self, cursor: &str) -> Result<stele_index::ResourceVersion> {
        let unknown = || bad_cursor();
        let mut parts = cursor.split('/');
        let (Some(kind), Some(id), Some(version)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(unknown());
        };
        let version: u32 = version.parse().map_err(|_| unknown())?;
        let record = stele_core::leaf::record_id(self.organization, kind, id);
        let place = self
            .index
            .search()
            .leaf_of(record, version)
            .map_err(Error::index("continuing a list"))?
            .ok_or_else(unknown)?;
        self.index
            .search()
            .at_leaf(place.0, place.1)
            .map_err(Error::index("continuing a list"))?
            .ok_or_else(unknown)
    }

    /// A patient's whole record, as far as the actor may see it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the actor may not see the Patient.
    pub async fn everything(
        self: &Arc<Self>,
        actor: &Actor,
        patient_id: &str,
        count: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<SearchPage> {
        const WHAT: &str = "listing a patient's record";
        let (viewer, now) = (actor.viewer(), self.clock.now());
        let search = self.index.search();
        let patient = search
            .read("Patient", patient_id, None, &viewer, now)
            .map_err(index_error(WHAT))?
            .and_then(|version| version.placement.patient);
        let Some(patient) = patient else {
            self.refuse_hidden(actor, "Patient", patient_id).await?;
            return Err(Error::not_found("Patient", patient_id));
        };
        let limit = count.unwrap_or(COUNT_MAX).clamp(1, COUNT_MAX);
        let page = search
            .everything(patient, None, cursor, limit, &viewer, now)
            .map_err(index_error(WHAT))?;
        self.open_page(actor, AccessAction::Export, page).await
    }

    /// Ids of the resources that a conditional request or reference means, as far as the actor may see them.
    ///
    /// # Errors
    /// The criteria are not a search.
    pub fn resolve(
        &self,
        actor: &Actor,
        resource_type: &str,
        criteria: &[(String, String)],
    ) -> Result<Vec<String>> {
        const WHAT: &str = "resolving a condition";
        let now = self.clock.now();
        let options = Options {
            handling: Handling::Strict,
            now_ms: i64::try_from(now.0).unwrap_or(i64::MAX),
            count_max: 10,
            base_url: None,
        };
        let (mut query, _) =
            stele_fhir::search::parse(resource_type, criteria, &options).map_err(|issues| {
                Error::Invalid {
                    issues,
                    unreadable: false,
                }
            })?;
        if query.filters.is_empty() {
            return Err(Error::PreconditionFailed {
                message: "a condition needs at least one search parameter".into(),
            });
        }
        query.count = Some(2);
        let page = self
            .index
            .search()
            .search(&query, &actor.viewer(), now)
            .map_err(index_error(WHAT))?;
        Ok(page.matches.into_iter().map(|one| one.id).collect())
    }
}

fn name(resource_type: &str, id: &str) -> String {
    format!("{resource_type}/{id}")
}

fn parse_version_cursor(cursor: &str) -> Result<u32> {
    cursor.parse().map_err(|_| bad_cursor())
}

pub(crate) fn bad_cursor() -> Error {
    Error::Invalid {
        issues: vec![Issue::error(
            IssueCode::Value,
            "the page's cursor is not one of this list",
        )],
        unreadable: true,
    }
}

/// A wrong cursor is the caller's mistake; everything else is the index's.
pub(crate) fn index_error(what: &'static str) -> impl FnOnce(stele_index::Error) -> Error {
    move |source| match source {
        stele_index::Error::Cursor => bad_cursor(),
        source => Error::Index {
            what,
            source: Box::new(source),
        },
    }
}
