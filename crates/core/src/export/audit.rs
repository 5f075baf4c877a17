//! The report of who accessed a patient's record: receipts, and the part of each organisation's hash-chained
//! sequence that ends at the head the ledger has.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

use super::{ExportError, Page, SignerProof, SignerRole, sign};
use crate::{
    id::{AUDIT, LogId},
    proof::{StateProof, TrustAnchor, mapping_slot},
    receipt::{AccessReceipt, next_head},
    time::Timestamp,
};

/// What stands before the report's base64 in a page, once. Text of the page can't hold it: `<` and `"` are escaped.
pub const AUDIT_MARK: &str = "<a class=\"btn\" id=\"report\" download=\"accesses.json\" href=\"data:application/json;base64,";

/// Format of the report.
pub const AUDIT_FORMAT: &str = "stele-audit/1";

/// A report of accesses to one log. The signed file is this object with `signature` as its last member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditReport {
    /// [`AUDIT_FORMAT`].
    pub format: String,
    /// When it was made, as a FHIR instant.
    pub made: String,
    /// FHIR id of the Patient.
    pub patient_id: String,
    /// The patient's log.
    pub patient: LogId,
    /// That the signer is an organisation of the consortium, or the patient.
    pub signer: SignerProof,
    /// The organisations' sequences the receipts stand in.
    pub sequences: Vec<AuditSequence>,
    /// Every access to the log, refused ones too, oldest first.
    pub receipts: Vec<AccessReceipt>,
    /// Digest of the page for people that the report travels in, see [`Page::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<B256>,
}

/// The end of an organisation's sequence of receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditSequence {
    /// The organisation.
    pub organization: Address,
    /// Position of the first digest.
    pub first: u64,
    /// Head of the hash chain before it.
    pub head_before: B256,
    /// Digests of all receipts from there to the end, also of those about others.
    pub digests: Vec<B256>,
    /// Count and head of the sequence in a certified block.
    pub state: StateProof,
}

/// What a report proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenAudit {
    /// The patient's account.
    pub patient: Address,
    /// Who signed.
    pub signer: Address,
    /// What the signer is.
    pub role: SignerRole,
    /// When the report says it was made.
    pub made: String,
    /// Accesses in the report, each in its place of a sequence that the ledger has anchored.
    pub accesses: usize,
    /// How many of them were refused.
    pub refused: usize,
    /// Height of the newest block the proofs rest on.
    pub height: u64,
    /// Its time.
    pub timestamp: Timestamp,
}

impl AuditSequence {
    /// Slots of an organisation's count and head in Audit's storage; `docs/contracts/audit.md`.
    #[must_use]
    pub fn slots(organization: Address) -> [U256; 2] {
        let base = mapping_slot(organization.into_word(), U256::ZERO);
        [base, base.wrapping_add(U256::from(1))]
    }

    /// Checks that the sequence ends at the ledger's head; gives the block's height and time.
    pub(super) fn verify(
        &self,
        part: &str,
        anchor: &TrustAnchor,
    ) -> Result<(u64, Timestamp), ExportError> {
        let wrong = |what: &str| ExportError::new(part, what);
        if self.state.contract != AUDIT {
            return Err(wrong("the proof is about another contract"));
        }
        let state = self
            .state
            .verify(anchor)
            .map_err(|error| ExportError::proof(part, &error))?;
        let [count, head] = Self::slots(self.organization).map(|slot| state.word("sequence", slot));
        let read = |word: Result<U256, _>| word.map_err(|error| ExportError::proof(part, &error));
        let (count, head) = (read(count)?, B256::from(read(head)?));
        let given = u64::try_from(self.digests.len()).unwrap_or(u64::MAX);
        if U256::from(self.first.saturating_add(given)) != count & U256::from(u64::MAX) {
            return Err(wrong("receipts are missing at the end of the sequence"));
        }
        let end = self
            .digests
            .iter()
            .fold(self.head_before, |head, digest| next_head(head, *digest));
        if end == head {
            Ok((state.height, state.timestamp))
        } else {
            Err(wrong("the receipts are not those the ledger has anchored"))
        }
    }
}

impl AuditReport {
    /// Reads a signed report; nothing is checked.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        let members = without_signature(text)?;
        let report: Self =
            serde_json::from_value(serde_json::Value::Object(members)).map_err(|e| unread(&e))?;
        if report.format == AUDIT_FORMAT {
            Ok(report)
        } else {
            Err(ExportError::new(
                "format",
                format!("the format is not {AUDIT_FORMAT}"),
            ))
        }
    }

    /// Verifies the report in a page for people, and that the page is the one that was made with it.
    ///
    /// # Errors
    /// What is wrong and where; `page` where the text for people was changed.
    pub fn verify_page(html: &str, anchor: &TrustAnchor) -> Result<ProvenAudit, ExportError> {
        let (page, text) = Page::split_at(html, AUDIT_MARK)?;
        let (report, proven) = Self::verify(&text, anchor)?;
        if report.page == Some(page.digest()) {
            Ok(proven)
        } else {
            Err(ExportError::new(
                "page",
                "the page was changed; the report in it was not",
            ))
        }
    }

    /// Verifies a signed report: every access stands where it says in a sequence that ends at the ledger's head,
    /// and an organisation of the consortium or the patient signed the whole.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn verify(text: &str, anchor: &TrustAnchor) -> Result<(Self, ProvenAudit), ExportError> {
        let report = Self::parse(text)?;
        let mut sequences = BTreeMap::new();
        let (mut height, mut timestamp) = (0, Timestamp(0));
        for sequence in &report.sequences {
            let part = format!("sequence of {}", sequence.organization);
            let proven = sequence.verify(&part, anchor)?;
            (height, timestamp) = (height, timestamp).max(proven);
            sequences.insert(sequence.organization, sequence);
        }
        for (position, receipt) in report.receipts.iter().enumerate() {
            let part = format!("receipts[{position}]");
            let wrong = |what: &str| ExportError::new(&part, what);
            if receipt.log != report.patient {
                return Err(wrong("the receipt is about another log"));
            }
            let sequence = sequences
                .get(&receipt.organization)
                .ok_or_else(|| wrong("the sequence of its organisation is not in the file"))?;
            in_place(&part, receipt, sequence)?;
        }
        let (signer, role) = sign::verify(text, &report.signer, report.patient, anchor)?;
        let proven = ProvenAudit {
            patient: report.patient,
            signer,
            role,
            made: report.made.clone(),
            accesses: report.receipts.len(),
            refused: report.receipts.iter().filter(|one| !one.allowed).count(),
            height,
            timestamp,
        };
        Ok((report, proven))
    }
}

/// Checks that a receipt is the one that stands in its place of a sequence.
pub(super) fn in_place(
    part: &str,
    receipt: &AccessReceipt,
    sequence: &AuditSequence,
) -> Result<(), ExportError> {
    let at = receipt
        .sequence
        .checked_sub(sequence.first)
        .and_then(|at| usize::try_from(at).ok());
    let anchored = at.and_then(|at| sequence.digests.get(at));
    if anchored == Some(&receipt.digest()) {
        Ok(())
    } else {
        Err(ExportError::new(
            part,
            "the receipt is not the one that was anchored there",
        ))
    }
}

/// The members of a signed report but for its signature; nothing is checked.
pub(super) fn without_signature(
    text: &str,
) -> Result<serde_json::Map<String, serde_json::Value>, ExportError> {
    let mut members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| unread(&error))?;
    members.remove("signature");
    Ok(members)
}

/// Where the text of a report stops being one.
pub(super) fn unread(error: &serde_json::Error) -> ExportError {
    ExportError::new(
        format!("line {} column {}", error.line(), error.column()),
        format!("the file is not a signed report: {error}"),
    )
}
