//! Bundles: transactions, of which all or nothing happens, and batches, whose entries stand each for itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use stele_fhir::{
    bundle::{BundleType, Entry, Method, Plan, Request, Target},
    outcome::{Issue, IssueCode},
    parse, patch, validate,
};

use crate::{
    Service,
    error::{Error, Result},
    records::{SearchPage, Stored, Watch, Write, Written},
    session::Actor,
};

/// What became of one entry.
#[derive(Debug, Default)]
pub struct EntryResult {
    /// HTTP status of the entry.
    pub status: u16,
    /// What was written.
    pub written: Option<Written>,
    /// What was read.
    pub stored: Option<Stored>,
    /// What was found.
    pub page: Option<SearchPage>,
    /// Why it failed (batches only).
    pub error: Option<Error>,
}

impl Service {
    /// Carries out a Bundle.
    ///
    /// # Errors
    /// A transaction fails whole, with the entry at fault in the issues' locations; a batch only when it is no
    /// batch at all.
    pub async fn bundle(self: &Arc<Self>, actor: &Actor, plan: Plan) -> Result<Vec<EntryResult>> {
        self.bundle_watched(actor, plan, Watch::default()).await
    }

    /// As [`Self::bundle`], telling a watch once a transaction's changes are sealed and durable. A batch has no such
    /// moment: its entries may end each at another time.
    ///
    /// # Errors
    /// As for [`Self::bundle`].
    pub async fn bundle_watched(
        self: &Arc<Self>,
        actor: &Actor,
        plan: Plan,
        watch: Watch,
    ) -> Result<Vec<EntryResult>> {
        match plan.bundle_type {
            BundleType::Transaction => self.transaction(actor, plan, watch).await,
            BundleType::Batch => self.batch(actor, plan).await,
            _ => Err(Error::Invalid {
                issues: vec![
                    Issue::error(
                        IssueCode::Value,
                        "only a Bundle of type transaction or batch can be posted here",
                    )
                    .at("Bundle.type"),
                ],
                unreadable: false,
            }),
        }
    }

    async fn transaction(
        self: &Arc<Self>,
        actor: &Actor,
        plan: Plan,
        watch: Watch,
    ) -> Result<Vec<EntryResult>> {
        let issues: Vec<Issue> = plan
            .entries
            .iter()
            .filter_map(|entry| {
                entry
                    .resource
                    .as_ref()
                    .map(|r| validate::entry(&r.value, entry.index))
            })
            .flatten()
            .collect();
        refuse_errors(issues)?;
        let (assigned, mut exists) = self.assign(actor, &plan)?;
        let links = plan.links(&assigned);
        let found = self.conditional_references(actor, &plan)?;
        let mut order = Vec::new();
        let mut writes = Vec::new();
        for index in plan.processing_order() {
            let Some(entry) = plan.entries.get(index) else {
                continue;
            };
            let Some(request) = &entry.request else {
                continue;
            };
            if matches!(request.method, Method::Get | Method::Head) || exists.contains_key(&index) {
                continue;
            }
            let text =
                match entry.resource {
                    Some(_) => Some(plan.resolve(index, &links, &found).map_err(|issues| {
                        Error::Invalid {
                            issues,
                            unreadable: false,
                        }
                    })?),
                    None => None,
                };
            let target = assigned.get(&index).map(String::as_str);
            writes.push(self.step(actor, entry, request, text, target).await?);
            order.push(index);
        }
        let written = self.write_watched(actor, writes, watch).await?;
        let mut results: BTreeMap<usize, EntryResult> = order
            .into_iter()
            .zip(written.into_iter().map(result_of))
            .collect();
        for (index, (resource_type, id)) in std::mem::take(&mut exists) {
            results.insert(index, self.existing(actor, &resource_type, &id).await?);
        }
        for entry in &plan.entries {
            if let Some(request) = &entry.request
                && matches!(request.method, Method::Get | Method::Head)
            {
                results.insert(entry.index, self.get(actor, request).await?);
            }
        }
        Ok(results.into_values().collect())
    }

    async fn batch(self: &Arc<Self>, actor: &Actor, plan: Plan) -> Result<Vec<EntryResult>> {
        let found = self
            .conditional_references(actor, &plan)
            .unwrap_or_default();
        let (assigned, _) = self.assign(actor, &plan).unwrap_or_default();
        let links = plan.links(&assigned);
        let mut results = BTreeMap::new();
        let mut together = Vec::new();
        for index in plan.processing_order() {
            let Some(entry) = plan.entries.get(index) else {
                continue;
            };
            match self
                .batch_entry(actor, &plan, entry, &links, &found, &assigned)
                .await
            {
                Ok(Prepared::Write(write)) => together.push((index, write)),
                Ok(Prepared::Done(result)) => {
                    results.insert(index, *result);
                }
                Err(error) => {
                    results.insert(index, failed(error));
                }
            }
        }
        // Entries of a batch do not depend on each other, so they share one anchoring; where that is refused each
        // is tried by itself.
        let (indexes, writes): (Vec<usize>, Vec<Write>) = together.into_iter().unzip();
        let again: Vec<Write> = writes.iter().map(copy).collect();
        match self.write(actor, writes).await {
            Ok(written) => {
                results.extend(indexes.into_iter().zip(written.into_iter().map(result_of)));
            }
            Err(_) => {
                for (index, write) in indexes.into_iter().zip(again) {
                    let result = match self.write(actor, vec![write]).await {
                        Ok(mut written) => written.pop().map(result_of).unwrap_or_default(),
                        Err(error) => failed(error),
                    };
                    results.insert(index, result);
                }
            }
        }
        Ok(results.into_values().collect())
    }

    async fn batch_entry(
        self: &Arc<Self>,
        actor: &Actor,
        plan: &Plan,
        entry: &Entry,
        links: &stele_fhir::bundle::Links,
        found: &HashMap<String, String>,
        assigned: &BTreeMap<usize, String>,
    ) -> Result<Prepared> {
        refuse_errors(entry.issues.clone())?;
        let Some(request) = &entry.request else {
            return Err(Error::Invalid {
                issues: vec![Issue::error(
                    IssueCode::Required,
                    "The entry has no request",
                )],
                unreadable: false,
            });
        };
        if matches!(request.method, Method::Get | Method::Head) {
            return Ok(Prepared::Done(Box::new(self.get(actor, request).await?)));
        }
        if let Some(resource) = &entry.resource {
            refuse_errors(validate::entry(&resource.value, entry.index))?;
        }
        if let Some((resource_type, id)) = self.condition(actor, entry, request)? {
            return Ok(Prepared::Done(Box::new(
                self.existing(actor, &resource_type, &id).await?,
            )));
        }
        let text =
            match entry.resource {
                Some(_) => Some(plan.resolve(entry.index, links, found).map_err(|issues| {
                    Error::Invalid {
                        issues,
                        unreadable: false,
                    }
                })?),
                None => None,
            };
        let target = assigned.get(&entry.index).map(String::as_str);
        self.step(actor, entry, request, text, target)
            .await
            .map(Prepared::Write)
    }

    /// Ids of all entries that write: assigned, named by the client, or found by their condition.
    #[expect(
        clippy::type_complexity,
        reason = "two maps by entry, named where they are taken apart"
    )]
    fn assign(
        &self,
        actor: &Actor,
        plan: &Plan,
    ) -> Result<(BTreeMap<usize, String>, BTreeMap<usize, (String, String)>)> {
        let mut assigned = BTreeMap::new();
        let mut exists = BTreeMap::new();
        for entry in &plan.entries {
            let Some(request) = &entry.request else {
                continue;
            };
            match (request.method, &request.target) {
                (Method::Post, Target::Type(resource_type)) => {
                    if let Some((resource_type, id)) = self.condition(actor, entry, request)? {
                        assigned.insert(entry.index, format!("{resource_type}/{id}"));
                        exists.insert(entry.index, (resource_type, id));
                    } else {
                        let id = crate::records::new_id();
                        assigned.insert(entry.index, format!("{resource_type}/{id}"));
                    }
                }
                (_, Target::Instance { resource_type, id }) => {
                    assigned.insert(entry.index, format!("{resource_type}/{id}"));
                }
                (
                    Method::Put | Method::Patch | Method::Delete,
                    Target::Conditional {
                        resource_type,
                        query,
                    },
                ) => {
                    let id = match self.matching(actor, resource_type, query)? {
                        Some(id) => id,
                        None if request.method == Method::Put => crate::records::new_id(),
                        None => continue,
                    };
                    assigned.insert(entry.index, format!("{resource_type}/{id}"));
                }
                _ => {}
            }
        }
        Ok((assigned, exists))
    }

    /// Type and id of the resource that a conditional create finds.
    fn condition(
        &self,
        actor: &Actor,
        entry: &Entry,
        request: &Request,
    ) -> Result<Option<(String, String)>> {
        let (Some(condition), Some(resource)) = (&request.if_none_exist, &entry.resource) else {
            return Ok(None);
        };
        let found = self.matching(actor, &resource.resource_type, condition)?;
        Ok(found.map(|id| (resource.resource_type.clone(), id)))
    }

    /// The one resource that a percent-encoded search means.
    pub(crate) fn matching(
        &self,
        actor: &Actor,
        resource_type: &str,
        query: &str,
    ) -> Result<Option<String>> {
        let mut ids = self.resolve(actor, resource_type, &pairs(query))?;
        if ids.len() > 1 {
            return Err(Error::PreconditionFailed {
                message: format!("the condition on {resource_type} matches several resources"),
            });
        }
        Ok(ids.pop())
    }

    fn conditional_references(
        &self,
        actor: &Actor,
        plan: &Plan,
    ) -> Result<HashMap<String, String>> {
        let mut found = HashMap::new();
        for reference in plan.conditional_references() {
            let id = self.matching(actor, &reference.resource_type, &reference.query)?;
            let id = id.ok_or_else(|| Error::Invalid {
                issues: vec![
                    Issue::error(
                        IssueCode::NotFound,
                        format!(
                            "a conditional reference to {} matches nothing",
                            reference.resource_type
                        ),
                    )
                    .at(format!("Bundle.entry[{}].resource", reference.entry)),
                ],
                unreadable: false,
            })?;
            found.insert(
                reference.reference,
                format!("{}/{id}", reference.resource_type),
            );
        }
        Ok(found)
    }

    /// The change that an entry asks for.
    async fn step(
        self: &Arc<Self>,
        actor: &Actor,
        entry: &Entry,
        request: &Request,
        text: Option<String>,
        target: Option<&str>,
    ) -> Result<Write> {
        let if_match = request.if_match.as_deref().and_then(version_of);
        let (resource_type, id) = target
            .and_then(|target| target.split_once('/'))
            .ok_or_else(|| Error::NotFound {
                resource: request.url.clone(),
            })?;
        match request.method {
            Method::Delete => Ok(Write::Delete {
                resource_type: resource_type.to_owned(),
                id: id.to_owned(),
                if_match,
            }),
            Method::Patch => {
                let patch = patch_of(entry)?;
                let current = self.read(actor, resource_type, id).await?;
                let current =
                    parse::edited(current.text.to_string()).map_err(|issues| Error::Invalid {
                        issues,
                        unreadable: true,
                    })?;
                let text =
                    patch::json_patch(&current, &patch).map_err(|issues| Error::Invalid {
                        issues,
                        unreadable: false,
                    })?;
                update(text, id, if_match)
            }
            Method::Post | Method::Put | Method::Get | Method::Head => {
                let text = text.ok_or_else(|| Error::Invalid {
                    issues: vec![
                        Issue::error(IssueCode::Required, "The entry has no resource")
                            .at(format!("Bundle.entry[{}].resource", entry.index)),
                    ],
                    unreadable: false,
                })?;
                update(text, id, if_match)
            }
        }
    }

    async fn existing(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<EntryResult> {
        let stored = self.read(actor, resource_type, id).await?;
        Ok(EntryResult {
            status: 200,
            stored: Some(stored),
            ..EntryResult::default()
        })
    }

    /// A read or search inside a Bundle.
    async fn get(self: &Arc<Self>, actor: &Actor, request: &Request) -> Result<EntryResult> {
        let unsupported = || Error::NotSupported {
            message: format!("GET {} is not supported inside a Bundle", request.url),
        };
        match &request.target {
            Target::Instance { resource_type, id } => {
                let stored = self.read(actor, resource_type, id).await?;
                Ok(EntryResult {
                    status: 200,
                    stored: Some(stored),
                    ..EntryResult::default()
                })
            }
            Target::Type(resource_type) => self.find(actor, resource_type, "").await,
            Target::Conditional {
                resource_type,
                query,
            } => self.find(actor, resource_type, query).await,
            Target::Other => Err(unsupported()),
        }
    }

    async fn find(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        query: &str,
    ) -> Result<EntryResult> {
        let options = stele_fhir::search::Options {
            handling: stele_fhir::search::Handling::Lenient,
            now_ms: i64::try_from(self.clock.now().0).unwrap_or(i64::MAX),
            count_max: crate::records::COUNT_MAX,
            base_url: None,
        };
        let (query, _) = stele_fhir::search::parse(resource_type, &pairs(query), &options)
            .map_err(|issues| Error::Invalid {
                issues,
                unreadable: true,
            })?;
        let page = self.search(actor, &query).await?;
        Ok(EntryResult {
            status: 200,
            page: Some(page),
            ..EntryResult::default()
        })
    }
}

fn update(text: String, id: &str, if_match: Option<u32>) -> Result<Write> {
    let resource = parse::edited(text).map_err(|issues| Error::Invalid {
        issues,
        unreadable: true,
    })?;
    Ok(Write::Update {
        resource,
        id: id.to_owned(),
        if_match,
    })
}

enum Prepared {
    Write(Write),
    Done(Box<EntryResult>),
}

fn result_of(written: Written) -> EntryResult {
    use crate::records::Effect;
    let status = match written.effect {
        Effect::Created => 201,
        Effect::Updated | Effect::Unchanged => 200,
        Effect::Deleted => 204,
    };
    EntryResult {
        status,
        written: Some(written),
        ..EntryResult::default()
    }
}

/// The status is the front's to decide; 0 says that there is an error to decide by.
fn failed(error: Error) -> EntryResult {
    EntryResult {
        error: Some(error),
        ..EntryResult::default()
    }
}

fn refuse_errors(issues: Vec<Issue>) -> Result<()> {
    if issues.iter().any(Issue::is_error) {
        return Err(Error::Invalid {
            issues,
            unreadable: false,
        });
    }
    Ok(())
}

fn copy(write: &Write) -> Write {
    match write {
        Write::Create { resource } => Write::Create {
            resource: resource.clone(),
        },
        Write::Update {
            resource,
            id,
            if_match,
        } => Write::Update {
            resource: resource.clone(),
            id: id.clone(),
            if_match: *if_match,
        },
        Write::Delete {
            resource_type,
            id,
            if_match,
        } => Write::Delete {
            resource_type: resource_type.clone(),
            id: id.clone(),
            if_match: *if_match,
        },
    }
}

/// A JSON Patch travels in a Bundle as a Binary (FHIR R4, http.html#patch).
fn patch_of(entry: &Entry) -> Result<Vec<u8>> {
    use base64::Engine as _;
    let data = entry
        .resource
        .as_ref()
        .filter(|resource| resource.resource_type == "Binary")
        .and_then(|resource| resource.value.get("data"))
        .and_then(serde_json::Value::as_str);
    data.and_then(|data| base64::engine::general_purpose::STANDARD.decode(data).ok())
        .ok_or_else(|| Error::Invalid {
            issues: vec![
                Issue::error(
                    IssueCode::Required,
                    "A PATCH carries its JSON Patch as a Binary",
                )
                .at(format!("Bundle.entry[{}].resource", entry.index)),
            ],
            unreadable: false,
        })
}

/// Version of an `If-Match` value, `W/"3"`.
pub(crate) fn version_of(etag: &str) -> Option<u32> {
    etag.trim()
        .trim_start_matches("W/")
        .trim_matches('"')
        .parse()
        .ok()
}

/// Name and value pairs of a percent-encoded query.
fn pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}
