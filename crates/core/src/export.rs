//! What leaves a node whole and is checked anywhere: a patient's record as one signed FHIR Bundle, and the report
//! of who accessed it. Both are verified here with no node, no network and no trust in whoever hands them over.
//!
//! The file is one JSON object whose last member is `signature`; the signature is over the bytes of the same object
//! without that member. Resources stand in it byte for byte as they were anchored. One entry, a Binary named
//! [`PROOFS_ID`], carries salts, leaves and log proofs in base64.

mod audit;
mod member;
mod page;
mod sign;

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    id::{LogId, OrganizationId},
    leaf::{LeafPreimage, content_digest, record_id},
    mmr,
    proof::{LogProof, ProofError, TrustAnchor},
    time::Timestamp,
};

pub use audit::{AUDIT_FORMAT, AUDIT_MARK, AuditReport, AuditSequence, ProvenAudit};
pub use member::{
    MEMBER_AUDIT_FORMAT, MemberAuditReport, ProvenAccesses, ProvenMemberAudit, verify_accesses,
};
pub use page::{PAGE_MARK, Page, verify_page};
pub use sign::{SignerProof, SignerRole, account_slot, key_slot, sign};

/// Format of the proofs in an export.
pub const FORMAT: &str = "stele-export/1";
/// Id of the Binary resource that carries the proofs.
pub const PROOFS_ID: &str = "stele-proofs";
/// MIME type of that Binary.
pub const PROOFS_TYPE: &str = "application/vnd.stele.proofs+json";

/// Why an export or report does not hold: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ExportError {
    /// Which part, such as `entry[3] Observation/abc`.
    pub part: String,
    /// What is wrong with it.
    pub what: String,
}

impl ExportError {
    pub(crate) fn new(part: impl Into<String>, what: impl std::fmt::Display) -> Self {
        Self {
            part: part.into(),
            what: what.to_string(),
        }
    }

    pub(crate) fn proof(part: &str, error: &ProofError) -> Self {
        Self::new(format!("{part} {}", error.link()), error)
    }
}

/// The proofs of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportProofs {
    /// [`FORMAT`].
    pub format: String,
    /// Organisation that assigned the resources' ids.
    pub organization: OrganizationId,
    /// The patient's log.
    pub patient: LogId,
    /// That the signer is a member of the consortium, or the patient.
    pub signer: SignerProof,
    /// The logs the records stand in.
    pub logs: Vec<ExportLog>,
    /// One for each entry but this one, in any order.
    pub records: Vec<ExportRecord>,
    /// SHA-256 of the page for people that the Bundle travels in, without the Bundle; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<B256>,
    /// Records left out because the stored bytes do not match what was anchored, as `Type/id/_history/version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

/// One log with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportLog {
    /// Size and peaks in a certified block.
    pub proof: LogProof,
    /// All leaves of the log, or none: then each record brings its own path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<B256>,
}

/// What ties one entry to its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRecord {
    /// FHIR resource type.
    pub resource_type: String,
    /// FHIR logical id.
    pub id: String,
    /// Position of its log in [`ExportProofs::logs`].
    pub log: usize,
    /// Position of its leaf in the log.
    pub index: u64,
    /// Siblings up to the peak, where the log's leaves are not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<B256>,
    /// What the leaf commits to.
    pub leaf: LeafPreimage,
    /// Salt of the leaf.
    pub leaf_salt: B256,
    /// Salt of the content's digest; absent where the content is too large for the file and stays in the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element_salt: Option<B256>,
    /// Bytes around the resource that JSON does not count as part of it: line ends, spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<(String, String)>,
}

/// What an export proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenExport {
    /// The patient's account.
    pub patient: Address,
    /// Who signed, and as what.
    pub signer: Address,
    /// What the signer is.
    pub role: SignerRole,
    /// When the file says it was made.
    pub made: String,
    /// Entries whose content is what was anchored.
    pub records: usize,
    /// Entries whose content stays in the vault: only that they are anchored is proven.
    pub elsewhere: usize,
    /// Records the file says it leaves out, because what was stored does not match.
    pub withheld: Vec<String>,
    /// Leaves of the patient's log, all versions and tombstones counted; zero if no record of the patient is shown.
    pub log_size: u64,
    /// Height of the newest block the proofs rest on.
    pub height: u64,
    /// Digest of that block.
    pub block_hash: B256,
    /// Its time.
    pub timestamp: Timestamp,
    /// Digest that the page for people must have, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<B256>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewBundle<'a> {
    resource_type: &'static str,
    id: &'a str,
    r#type: &'static str,
    timestamp: String,
    entry: Vec<NewEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewEntry<'a> {
    full_url: String,
    resource: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle<'a> {
    resource_type: String,
    #[serde(rename = "id")]
    _id: String,
    r#type: String,
    timestamp: String,
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
    #[serde(borrow, rename = "signature")]
    _signature: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry<'a> {
    #[serde(rename = "fullUrl")]
    _full_url: String,
    #[serde(borrow)]
    resource: &'a RawValue,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: String,
    data: Option<String>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
}

/// The Bundle without its signature. `resources` are full URL and stored text; spaces around a text go into its
/// record's [`ExportRecord::around`] first, see [`trim`].
///
/// # Errors
/// A text that is not JSON.
pub fn bundle(
    id: &str,
    made: Timestamp,
    base_url: &str,
    resources: &[(String, &str)],
    proofs: &ExportProofs,
) -> Result<String, ExportError> {
    let data = serde_json::to_vec(proofs).map_err(|error| ExportError::new("proofs", error))?;
    let binary = serde_json::json!({
        "resourceType": "Binary",
        "id": PROOFS_ID,
        "contentType": PROOFS_TYPE,
        "data": STANDARD.encode(data)
    })
    .to_string();
    let mut entry = Vec::with_capacity(resources.len().saturating_add(1));
    let proofs_url = format!("{base_url}/Binary/{PROOFS_ID}");
    for (url, text) in resources
        .iter()
        .map(|(url, text)| (url.clone(), *text))
        .chain([(proofs_url, binary.as_str())])
    {
        let resource: &RawValue =
            serde_json::from_str(text).map_err(|error| ExportError::new(url.as_str(), error))?;
        entry.push(NewEntry {
            full_url: url,
            resource,
        });
    }
    let bundle = NewBundle {
        resource_type: "Bundle",
        id,
        r#type: "collection",
        timestamp: made.to_instant(),
        entry,
    };
    serde_json::to_string(&bundle).map_err(|error| ExportError::new("bundle", error))
}

/// A stored text without what JSON ignores around it, and that.
#[must_use]
pub fn trim(text: &str) -> (&str, Option<(String, String)>) {
    let inner = text.trim_matches([' ', '\t', '\r', '\n']);
    if inner.len() == text.len() {
        return (inner, None);
    }
    let (before, after) = text.split_once(inner).unwrap_or_default();
    (inner, Some((before.to_owned(), after.to_owned())))
}

/// The proofs in a Bundle, as they stand there; nothing is checked.
///
/// # Errors
/// The text is not an export.
pub fn proofs_of(text: &str) -> Result<ExportProofs, ExportError> {
    parse(text).map(|(_, _, proofs)| proofs)
}

type Parsed<'a> = (Bundle<'a>, Vec<(Named, &'a str)>, ExportProofs);

fn parse(text: &str) -> Result<Parsed<'_>, ExportError> {
    let at = |error: &serde_json::Error| {
        ExportError::new(
            format!("line {} column {}", error.line(), error.column()),
            format!("the file is not a signed export: {error}"),
        )
    };
    let bundle: Bundle<'_> = serde_json::from_str(text).map_err(|error| at(&error))?;
    if bundle.resource_type != "Bundle" || bundle.r#type != "collection" {
        return Err(ExportError::new(
            "resourceType",
            "the file is no Bundle of type collection",
        ));
    }
    let mut entries = Vec::with_capacity(bundle.entry.len());
    let mut proofs = None;
    for (position, entry) in bundle.entry.iter().enumerate() {
        let part = format!("entry[{position}]");
        let raw = entry.resource.get();
        let named: Named =
            serde_json::from_str(raw).map_err(|error| ExportError::new(&part, error))?;
        if named.id == PROOFS_ID && named.content_type.as_deref() == Some(PROOFS_TYPE) {
            let data = STANDARD
                .decode(named.data.unwrap_or_default())
                .map_err(|_| ExportError::new(&part, "the proofs are not base64"))?;
            let read: ExportProofs = serde_json::from_slice(&data)
                .map_err(|error| ExportError::new(&part, format!("the proofs: {error}")))?;
            proofs = Some(read);
        } else {
            entries.push((named, raw));
        }
    }
    let proofs = proofs.ok_or_else(|| ExportError::new("entry", "the export carries no proofs"))?;
    if proofs.format != FORMAT {
        return Err(ExportError::new(
            "proofs format",
            format!("the format is not {FORMAT}"),
        ));
    }
    Ok((bundle, entries, proofs))
}

/// Verifies an export: every resource is the one that was anchored, every log is the consortium's, and a member of
/// the consortium or the patient signed the whole.
///
/// # Errors
/// What is wrong and where; a changed resource is named before the signature that it breaks.
pub fn verify(text: &str, anchor: &TrustAnchor) -> Result<ProvenExport, ExportError> {
    let (bundle, entries, proofs) = parse(text)?;
    let mut newest = None;
    for (position, log) in proofs.logs.iter().enumerate() {
        let part = format!("proofs log[{position}]");
        let proven = if log.leaves.is_empty() {
            log.proof.verify(anchor)
        } else {
            log.proof.verify_complete(anchor, &log.leaves)
        }
        .map_err(|error| ExportError::proof(&part, &error))?;
        if newest
            .as_ref()
            .is_none_or(|one: &crate::proof::Proven| one.height < proven.height)
        {
            newest = Some(proven);
        }
    }
    let newest = newest.ok_or_else(|| ExportError::new("proofs", "no log is proven"))?;
    let (records, elsewhere) = verify_entries(&entries, &proofs)?;
    let (signer, role) = sign::verify(text, &proofs.signer, proofs.patient, anchor)?;
    let log_size = proofs
        .logs
        .iter()
        .find(|log| log.proof.log == proofs.patient)
        .map_or(0, |log| log.proof.size);
    Ok(ProvenExport {
        patient: proofs.patient,
        signer,
        role,
        made: bundle.timestamp,
        records,
        elsewhere,
        withheld: proofs.withheld,
        log_size,
        height: newest.height,
        block_hash: newest.block_hash,
        timestamp: newest.timestamp,
        page: proofs.page,
    })
}

fn verify_entries(
    entries: &[(Named, &str)],
    proofs: &ExportProofs,
) -> Result<(usize, usize), ExportError> {
    let mut by_name = BTreeMap::new();
    for record in &proofs.records {
        let name = (record.resource_type.as_str(), record.id.as_str());
        if by_name.insert(name, record).is_some() {
            return Err(ExportError::new(
                format!("proofs {}/{}", name.0, name.1),
                "the record is proven twice",
            ));
        }
    }
    let (mut here, mut elsewhere) = (0_usize, 0_usize);
    for (position, (named, raw)) in entries.iter().enumerate() {
        let part = format!("entry[{position}] {}/{}", named.resource_type, named.id);
        let record = by_name
            .remove(&(named.resource_type.as_str(), named.id.as_str()))
            .ok_or_else(|| ExportError::new(&part, "nothing proves this entry"))?;
        verify_record(&part, record, raw, proofs)?;
        match record.element_salt {
            Some(_) => here = here.saturating_add(1),
            None => elsewhere = elsewhere.saturating_add(1),
        }
    }
    match by_name.keys().next() {
        None => Ok((here, elsewhere)),
        Some((resource_type, id)) => Err(ExportError::new(
            format!("{resource_type}/{id}"),
            "the record was taken out: it is proven, but not there",
        )),
    }
}

fn verify_record(
    part: &str,
    record: &ExportRecord,
    raw: &str,
    proofs: &ExportProofs,
) -> Result<(), ExportError> {
    let wrong = |what: &str| ExportError::new(part, what);
    let log = proofs
        .logs
        .get(record.log)
        .ok_or_else(|| wrong("its log is not in the file"))?;
    let leaf = record.leaf.commit(&record.leaf_salt.0);
    let stands = if log.leaves.is_empty() {
        stands_at(&log.proof, leaf, record)
    } else {
        let at = usize::try_from(record.index).ok();
        at.and_then(|at| log.leaves.get(at)) == Some(&leaf)
    };
    if !stands {
        return Err(wrong("the record is not in its log at the position given"));
    }
    if record.leaf.record != record_id(proofs.organization, &record.resource_type, &record.id) {
        return Err(wrong("the anchored record is another"));
    }
    let Some(salt) = record.element_salt else {
        return Ok(());
    };
    let content = match &record.around {
        None => raw.to_owned(),
        Some((before, after)) => format!("{before}{raw}{after}"),
    };
    if content_digest(&salt.0, content.as_bytes()) == record.leaf.content {
        Ok(())
    } else {
        Err(wrong("the content is not what was anchored"))
    }
}

fn stands_at(proof: &LogProof, leaf: B256, record: &ExportRecord) -> bool {
    let Some((height, position)) = mmr::locate(proof.size, record.index) else {
        return false;
    };
    let peak = proof.peaks.iter().find(|peak| peak.height == height);
    record.path.len() == usize::from(height)
        && peak.is_some_and(|peak| {
            alloy_primitives::U256::from_be_bytes(mmr::climb(leaf, position, &record.path).0)
                == peak.word.value
        })
}
