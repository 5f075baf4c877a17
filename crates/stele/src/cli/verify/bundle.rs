//! A record that a patient's browser put together: a FHIR Bundle whose last entry, a Binary, carries the proofs. Nobody
//! signed the whole; each entry is proven by itself, and no claim is made that none is missing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use stele_core::{
    export::{PROOFS_ID, PROOFS_TYPE},
    id::OrganizationId,
    leaf::LeafPreimage,
    proof::{Disclosure, FORMAT, LogProof, RecordProof, TrustAnchor},
};

use super::answer_no;
use crate::{cli::Answer, output};

/// Format of the proofs in such a Bundle.
const PROOFS_FORMAT: &str = "stele-record/1";

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    resource: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binary {
    resource_type: String,
    id: String,
    content_type: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Proofs {
    format: String,
    organization: OrganizationId,
    logs: Vec<LogProof>,
    records: Vec<Record>,
}

/// What ties the entry at the same place to its leaf.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    resource_type: String,
    id: String,
    /// Position of its log in [`Proofs::logs`].
    log: usize,
    index: u64,
    path: Vec<alloy_primitives::B256>,
    leaf: LeafPreimage,
    leaf_salt: alloy_primitives::B256,
    element_salt: alloy_primitives::B256,
    /// Bytes around the resource that JSON does not count as part of it.
    #[serde(default)]
    around: Option<(String, String)>,
}

/// What is wrong, and where.
struct Wrong(String, String);

/// Verifies a Bundle, if the text is one with proofs; `None` where it is something else.
pub(super) fn verify(text: &str, anchor: &TrustAnchor, as_json: bool) -> Option<Answer> {
    let (bundle, proofs) = read(text)?;
    Some(match check(&bundle, proofs, anchor) {
        Ok(count) => {
            let yes: Value = json!({ "ok": true, "records": count, "trusted": "genesis file" });
            if as_json {
                output::json(&yes);
            } else {
                output::line(format_args!(
                    "Verified: all {count} entries are what was recorded.\n  trusted: genesis file\n  Whether an entry is missing this file does not say; `stele verify patient` does."
                ));
            }
            Answer::Yes
        }
        Err(Wrong(place, what)) => answer_no(
            &json!({ "ok": false, "what": what, "where": place }),
            as_json,
        ),
    })
}

fn read(text: &str) -> Option<(Bundle<'_>, Proofs)> {
    let bundle: Bundle<'_> = serde_json::from_str(text).ok()?;
    let last: Binary = serde_json::from_str(bundle.entry.last()?.resource.get()).ok()?;
    let are_proofs =
        last.resource_type == "Binary" && last.id == PROOFS_ID && last.content_type == PROOFS_TYPE;
    let proofs: Proofs = serde_json::from_slice(&STANDARD.decode(&last.data).ok()?).ok()?;
    (are_proofs && proofs.format == PROOFS_FORMAT).then_some((bundle, proofs))
}

fn check(bundle: &Bundle<'_>, proofs: Proofs, anchor: &TrustAnchor) -> Result<usize, Wrong> {
    let entries = bundle.entry.len().saturating_sub(1);
    if entries != proofs.records.len() {
        let what = format!("{entries} entries, {} proofs", proofs.records.len());
        return Err(Wrong("entry".into(), what));
    }
    for (place, (record, entry)) in proofs.records.into_iter().zip(&bundle.entry).enumerate() {
        let named = format!("entry[{place}] {}/{}", record.resource_type, record.id);
        let (before, after) = record.around.unwrap_or_default();
        let content = [&before, entry.resource.get(), &after].concat();
        let log = proofs
            .logs
            .get(record.log)
            .cloned()
            .ok_or_else(|| Wrong(named.clone(), "its log is not there".into()))?;
        let proof = RecordProof {
            format: FORMAT.into(),
            organization: proofs.organization,
            resource_type: record.resource_type,
            id: record.id,
            disclosure: Disclosure::Whole {
                content: STANDARD.encode(content),
                element_salt: record.element_salt,
            },
            leaf: record.leaf,
            leaf_salt: record.leaf_salt,
            log,
            path: record.path,
            index: record.index,
        };
        proof
            .verify(anchor)
            .map_err(|error| Wrong(format!("{named} {}", error.link()), error.to_string()))?;
    }
    Ok(entries)
}
