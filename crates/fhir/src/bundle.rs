//! Taking a Bundle apart: entries, requests, the order of work, and links between entries.
//!
//! Entries keep the text they were written with. Nothing is fetched or stored here: the caller
//! assigns ids and resolves conditional references, and gets the final texts back.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::outcome::{Issue, IssueCode};
use crate::parse::{self, Resource};
use crate::reference::Reference;
use crate::text::{self, Link};
use crate::{scan, validate};

/// A Bundle taken apart.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the Bundle is for.
    pub bundle_type: BundleType,
    /// Its entries, in the order written.
    pub entries: Vec<Entry>,
}

/// FHIR R4 value set `bundle-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleType {
    /// A clinical document, led by a Composition.
    Document,
    /// A message, led by a MessageHeader.
    Message,
    /// Requests of which either all or none take effect.
    Transaction,
    /// The answer to a transaction.
    TransactionResponse,
    /// Requests that stand each by itself.
    Batch,
    /// The answer to a batch.
    BatchResponse,
    /// Versions of resources.
    History,
    /// The answer to a search.
    Searchset,
    /// Resources put together for any reason.
    Collection,
}

/// One entry of a Bundle.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position in the Bundle, from 0.
    pub index: usize,
    /// The entry's name inside the Bundle: a `urn:uuid:…` or an absolute URL.
    pub full_url: Option<String>,
    /// What to do; present in transactions and batches.
    pub request: Option<Request>,
    /// The resource, with its text as written.
    pub resource: Option<Resource>,
    /// Why the entry cannot be carried out. Always empty in a transaction, where such an entry
    /// refuses the whole Bundle; in a batch the others go on.
    pub issues: Vec<Issue>,
}

/// The HTTP request that an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address as written, relative to the FHIR base.
    pub url: String,
    /// The address taken apart.
    pub target: Target,
    /// Search that has to find nothing for a POST to create.
    pub if_none_exist: Option<String>,
    /// Version a PUT, PATCH or DELETE expects.
    pub if_match: Option<String>,
    /// For conditional reads and creates.
    pub if_none_match: Option<String>,
    /// For conditional reads; an instant.
    pub if_modified_since: Option<String>,
}

/// FHIR R4 value set `http-verb`. The order is the order of work in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Deletes come first.
    Delete,
    /// Then creates.
    Post,
    /// Then updates.
    Put,
    /// Patches rank with updates.
    Patch,
    /// Reads see what the others did.
    Get,
    /// As reads.
    Head,
}

/// What a request's address points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `Type`: where a POST creates.
    Type(String),
    /// `Type/id`.
    Instance {
        /// The resource type.
        resource_type: String,
        /// The id.
        id: String,
    },
    /// `Type?query`: the one resource that the search finds.
    Conditional {
        /// The resource type.
        resource_type: String,
        /// What follows the question mark.
        query: String,
    },
    /// Anything else a read may ask for: history, operations, searches over all types.
    Other,
}

/// A reference that a search has to resolve before a transaction can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionalReference {
    /// The reference as written, such as `Practitioner?identifier=http://x|1`.
    pub reference: String,
    /// The resource type searched.
    pub resource_type: String,
    /// The search parameters, still percent-encoded as written.
    pub query: String,
    /// The first entry that uses it, for messages.
    pub entry: usize,
}

/// Where links between entries lead: from `fullUrl` to `Type/id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    targets: HashMap<String, String>,
}

/// Takes a Bundle apart and checks it as far as one can without a store: its own structure,
/// every request, ids that must agree, and names given twice. The resources in the entries are
/// read but not validated; see [`validate::entry`].
///
/// # Errors
/// The Bundle is no Bundle or has no usable type; or it is no batch and any entry is wrong.
pub fn parse(bundle: Resource) -> Result<Plan, Vec<Issue>> {
    let Resource {
        text,
        mut value,
        resource_type,
        ..
    } = bundle;
    if resource_type != "Bundle" {
        return Err(vec![Issue::error(
            IssueCode::Invalid,
            "A Bundle was expected",
        )]);
    }
    let issues = validate::shell(&value);
    let bundle_type = value
        .get("type")
        .and_then(Value::as_str)
        .and_then(BundleType::parse);
    let Some(bundle_type) = bundle_type else {
        return Err(issues);
    };
    let (mut by_entry, issues) = by_entry(issues);
    if !issues.is_empty() {
        return Err(issues);
    }
    let values = match value.get_mut("entry").map(Value::take) {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    };
    let spans = entry_spans(&text).unwrap_or_default();
    let mut entries = Vec::with_capacity(values.len());
    for (index, (value, span)) in values.into_iter().zip(spans).enumerate() {
        let found = by_entry.remove(&index).unwrap_or_default();
        let written = span.and_then(|span| text.get(span));
        entries.push(entry(bundle_type, index, value, written, found));
    }
    let mut plan = Plan {
        bundle_type,
        entries,
    };
    plan.check_names();
    if bundle_type == BundleType::Batch {
        return Ok(plan);
    }
    let issues: Vec<Issue> = plan
        .entries
        .iter()
        .flat_map(|e| e.issues.iter().cloned())
        .collect();
    if issues.is_empty() {
        Ok(plan)
    } else {
        Err(issues)
    }
}

impl Plan {
    /// Indexes of the entries in the order of work: DELETE, POST, PUT and PATCH, then reads;
    /// as written within each. Entries without a request come last.
    pub fn processing_order(&self) -> Vec<usize> {
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        let rank = |entry: &&Entry| match entry.request.as_ref().map(|request| request.method) {
            Some(Method::Delete) => 0,
            Some(Method::Post) => 1,
            Some(Method::Put | Method::Patch) => 2,
            Some(Method::Get | Method::Head) => 3,
            None => 4,
        };
        order.sort_by_key(rank);
        order.into_iter().map(|entry| entry.index).collect()
    }

    /// Every different conditional reference in the entries, in the order of first use.
    pub fn conditional_references(&self) -> Vec<ConditionalReference> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for entry in &self.entries {
            let Some(resource) = &entry.resource else {
                continue;
            };
            references(&resource.value, &mut |written| {
                if let Some(Reference::Conditional {
                    resource_type,
                    query,
                }) = Reference::parse(written)
                    && seen.insert(written.to_owned())
                {
                    found.push(ConditionalReference {
                        reference: written.to_owned(),
                        resource_type: resource_type.to_owned(),
                        query: query.to_owned(),
                        entry: entry.index,
                    });
                }
            });
        }
        found
    }

    /// Where links lead once `assigned` says, by entry index, under which `Type/id` each
    /// entry's resource is (or already was) stored.
    pub fn links(&self, assigned: &BTreeMap<usize, String>) -> Links {
        let named = self.entries.iter().filter_map(|entry| {
            let target = assigned.get(&entry.index)?;
            Some((entry.full_url.clone()?, target.clone()))
        });
        Links {
            targets: named.collect(),
        }
    }

    /// The text of one entry's resource with its links led to where they belong.
    ///
    /// `found` maps conditional references, as written, to `Type/id`.
    ///
    /// # Errors
    /// A `urn:` reference that no entry is called, or a conditional reference that is not in
    /// `found`; each issue names the entry. Also an entry without a resource.
    pub fn resolve(
        &self,
        index: usize,
        links: &Links,
        found: &HashMap<String, String>,
    ) -> Result<String, Vec<Issue>> {
        let entry = self.entries.get(index);
        let Some((entry, resource)) = entry.and_then(|e| Some((e, e.resource.as_ref()?))) else {
            let what = "The entry has no resource";
            return Err(vec![
                Issue::error(IssueCode::Required, what).at(location(index)),
            ]);
        };
        let base = entry.base();
        let mut issues = Vec::new();
        let text = text::rewrite_links(&resource.text, |target, link| {
            let known = links
                .targets
                .get(target)
                .or_else(|| found.get(target))
                .cloned();
            if known.is_some() {
                return known;
            }
            match Reference::parse(target) {
                Some(Reference::Relative {
                    resource_type,
                    id,
                    version: None,
                }) => {
                    let full_url = format!("{}/{resource_type}/{id}", base?);
                    links.targets.get(&full_url).cloned()
                }
                Some(Reference::Urn(_)) if link == Link::Reference => {
                    issues.push(dangling(index, "No entry has the fullUrl referred to"));
                    None
                }
                Some(Reference::Conditional { .. }) if link == Link::Reference => {
                    issues.push(dangling(
                        index,
                        "The conditional reference was not resolved",
                    ));
                    None
                }
                _ => None,
            }
        })
        .map_err(|error| vec![Issue::from(&error).at(location(index))])?;
        if issues.is_empty() {
            Ok(text)
        } else {
            Err(issues)
        }
    }

    /// Names that two entries share: nobody could tell which one a reference means, and two
    /// writes to one resource have no order.
    fn check_names(&mut self) {
        let mut full_urls = HashSet::new();
        let mut written = HashSet::new();
        for entry in &mut self.entries {
            let Some(request) = &entry.request else {
                continue;
            };
            if let Some(full_url) = &entry.full_url
                && !full_urls.insert(full_url.clone())
            {
                entry.issues.push(
                    Issue::error(IssueCode::Duplicate, "Another entry has the same fullUrl")
                        .at(format!("Bundle.entry[{}].fullUrl", entry.index)),
                );
            }
            let is_write = matches!(request.method, Method::Put | Method::Patch | Method::Delete);
            if is_write
                && self.bundle_type == BundleType::Transaction
                && matches!(request.target, Target::Instance { .. })
                && !written.insert(request.url.clone())
            {
                entry.issues.push(
                    Issue::error(
                        IssueCode::Duplicate,
                        "Another entry of the transaction writes the same resource",
                    )
                    .at(format!("Bundle.entry[{}].request.url", entry.index)),
                );
            }
        }
    }
}

impl Entry {
    /// The server address in front of `Type/id` in the fullUrl, if it has that form.
    fn base(&self) -> Option<&str> {
        let full_url = self.full_url.as_deref()?;
        match Reference::parse(full_url)? {
            Reference::Absolute {
                target: Some((resource_type, id)),
                ..
            } => full_url
                .strip_suffix(id)?
                .strip_suffix('/')?
                .strip_suffix(resource_type)?
                .strip_suffix('/'),
            _ => None,
        }
    }
}

impl BundleType {
    fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "document" => Self::Document,
            "message" => Self::Message,
            "transaction" => Self::Transaction,
            "transaction-response" => Self::TransactionResponse,
            "batch" => Self::Batch,
            "batch-response" => Self::BatchResponse,
            "history" => Self::History,
            "searchset" => Self::Searchset,
            "collection" => Self::Collection,
            _ => return None,
        })
    }

    fn has_requests(self) -> bool {
        matches!(self, Self::Transaction | Self::Batch)
    }
}

impl Method {
    fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "DELETE" => Self::Delete,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            _ => return None,
        })
    }
}

impl Target {
    fn parse(url: &str) -> Self {
        let url = url.strip_prefix('/').unwrap_or(url);
        match Reference::parse(url) {
            Some(Reference::Relative {
                resource_type,
                id,
                version: None,
            }) => Self::Instance {
                resource_type: resource_type.to_owned(),
                id: id.to_owned(),
            },
            Some(Reference::Conditional {
                resource_type,
                query,
            }) => Self::Conditional {
                resource_type: resource_type.to_owned(),
                query: query.to_owned(),
            },
            _ if crate::definitions::Definitions::load()
                .resource(url)
                .is_some() =>
            {
                Self::Type(url.to_owned())
            }
            _ => Self::Other,
        }
    }
}

fn entry(
    bundle_type: BundleType,
    index: usize,
    mut value: Value,
    written: Option<&str>,
    mut issues: Vec<Issue>,
) -> Entry {
    let resource = value.get_mut("resource").map(Value::take).zip(written);
    let resource = resource.and_then(|(value, written)| {
        parse::from_parts(written.to_owned(), value)
            .map_err(|found| issues.extend(found.into_iter().map(|i| i.at(location(index)))))
            .ok()
    });
    let full_url = value
        .get("fullUrl")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let mut request = None;
    if issues.is_empty() && bundle_type.has_requests() {
        match read_request(&value, resource.as_ref()) {
            Ok(read) => request = Some(read),
            Err((what, member)) => issues.push(
                Issue::error(IssueCode::Invalid, what).at(format!("Bundle.entry[{index}]{member}")),
            ),
        }
    }
    Entry {
        index,
        full_url,
        request,
        resource,
        issues,
    }
}

/// Reads `entry.request`; an error says what is wrong and in which member of the entry.
fn read_request(
    entry: &Value,
    resource: Option<&Resource>,
) -> Result<Request, (&'static str, &'static str)> {
    let request = entry
        .get("request")
        .ok_or(("The entry has no request", ".request"))?;
    let text = |member: &str| {
        request
            .get(member)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let method = text("method").as_deref().and_then(Method::parse);
    let method = method.ok_or(("The method is missing or unknown", ".request.method"))?;
    let url = text("url").ok_or(("The url is missing", ".request.url"))?;
    let target = Target::parse(&url);
    agree(method, &target, resource)?;
    Ok(Request {
        method,
        url,
        target,
        if_none_exist: text("ifNoneExist"),
        if_match: text("ifMatch"),
        if_none_match: text("ifNoneMatch"),
        if_modified_since: text("ifModifiedSince"),
    })
}

/// Whether method, address and resource fit one another.
fn agree(
    method: Method,
    target: &Target,
    resource: Option<&Resource>,
) -> Result<(), (&'static str, &'static str)> {
    const URL: &str = ".request.url";
    let same_type = |name: &str| resource.is_some_and(|resource| resource.resource_type == name);
    match (method, target) {
        (Method::Post | Method::Put | Method::Patch, _) if resource.is_none() => {
            Err(("The entry has no resource", ".resource"))
        }
        (Method::Post, Target::Type(name)) if same_type(name) => Ok(()),
        (Method::Post, Target::Other) => Err(("An operation cannot be called in a Bundle", URL)),
        (Method::Post, _) => Err(("A POST goes to the type of its resource", URL)),
        (Method::Put, Target::Instance { resource_type, id }) => {
            let same_id = resource.and_then(|resource| resource.id.as_ref()) == Some(id);
            if same_type(resource_type) && same_id {
                Ok(())
            } else {
                Err((
                    "A PUT needs the type and id of its resource in the url",
                    URL,
                ))
            }
        }
        (Method::Put, Target::Conditional { resource_type, .. }) if same_type(resource_type) => {
            Ok(())
        }
        (Method::Put, _) => Err(("A PUT goes to Type/id or Type?query", URL)),
        (Method::Patch | Method::Delete, Target::Instance { .. } | Target::Conditional { .. }) => {
            Ok(())
        }
        (Method::Patch | Method::Delete, _) => {
            Err(("A PATCH or DELETE goes to Type/id or Type?query", URL))
        }
        (Method::Get | Method::Head, _) => Ok(()),
    }
}

/// Issues of single entries by index, and those of the Bundle itself.
fn by_entry(issues: Vec<Issue>) -> (HashMap<usize, Vec<Issue>>, Vec<Issue>) {
    let mut entries: HashMap<usize, Vec<Issue>> = HashMap::new();
    let mut rest = Vec::new();
    for issue in issues {
        let index = issue.expression.first().and_then(|expression| {
            let (index, _) = expression.strip_prefix("Bundle.entry[")?.split_once(']')?;
            index.parse().ok()
        });
        match index {
            Some(index) => entries.entry(index).or_default().push(issue),
            None => rest.push(issue),
        }
    }
    (entries, rest)
}

/// For each entry, where its resource stands in the text.
fn entry_spans(text: &str) -> Option<Vec<Option<std::ops::Range<usize>>>> {
    let root = scan::value_at(text, 0)?;
    let members = scan::members(text, &root)?;
    let entries = scan::items(text, &scan::member(text, &members, "entry")?.value)?;
    let resource = |entry| {
        let members = scan::members(text, &entry)?;
        scan::member(text, &members, "resource").map(|member| member.value.clone())
    };
    Some(entries.into_iter().map(resource).collect())
}

/// Calls `visit` with every `Reference.reference` in a tree.
pub(crate) fn references<'v>(value: &'v Value, visit: &mut impl FnMut(&'v str)) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(written) if key == "reference" => visit(written),
                    Value::Object(_) | Value::Array(_) => references(value, visit),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn dangling(index: usize, what: &str) -> Issue {
    Issue::error(IssueCode::NotFound, what).at(location(index))
}

fn location(index: usize) -> String {
    format!("Bundle.entry[{index}].resource")
}

#[cfg(test)]
mod tests;
