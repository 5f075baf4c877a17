//! The report of whose records a member looked at: its receipts in its organisation's hash-chained sequence, which ends at
//! the head the ledger has.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::{
    AUDIT_MARK, AuditReport, AuditSequence, ExportError, Page, ProvenAudit, SignerProof,
    SignerRole,
    audit::{in_place, unread, without_signature},
    sign,
};
use crate::{proof::TrustAnchor, receipt::AccessReceipt, time::Timestamp};

/// Format of the report.
pub const MEMBER_AUDIT_FORMAT: &str = "stele-audit-member/1";

/// A report of a member's accesses, as the member's organisation served or refused them. The signed file is this object with
/// `signature` as its last member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberAuditReport {
    /// [`MEMBER_AUDIT_FORMAT`].
    pub format: String,
    /// When it was made, as a FHIR instant.
    pub made: String,
    /// The member's account.
    pub member: Address,
    /// That the signer is an organisation of the consortium.
    pub signer: SignerProof,
    /// The organisation's sequence, from the first of the receipts on.
    pub sequence: AuditSequence,
    /// Every access by the member in it, refused ones too, oldest first.
    pub receipts: Vec<AccessReceipt>,
    /// Digest of the page for people that the report travels in, see [`Page::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<B256>,
}

/// What a report proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenMemberAudit {
    /// The member's account.
    pub member: Address,
    /// Whose sequence the receipts stand in.
    pub organization: Address,
    /// Who signed.
    pub signer: Address,
    /// When the report says it was made.
    pub made: String,
    /// Accesses in the report, each in its place of the sequence that the ledger has anchored.
    pub accesses: usize,
    /// How many of them were refused.
    pub refused: usize,
    /// To how many records' logs they were.
    pub patients: usize,
    /// Height of the block the proof rests on.
    pub height: u64,
    /// Its time.
    pub timestamp: Timestamp,
}

impl MemberAuditReport {
    /// Whether a signed report says of itself that it is one of these; nothing is checked.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        without_signature(text).is_ok_and(|members| {
            members
                .get("format")
                .is_some_and(|f| f == MEMBER_AUDIT_FORMAT)
        })
    }

    /// Reads a signed report; nothing is checked.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        let members = without_signature(text)?;
        let report: Self = serde_json::from_value(serde_json::Value::Object(members))
            .map_err(|error| unread(&error))?;
        if report.format == MEMBER_AUDIT_FORMAT {
            Ok(report)
        } else {
            Err(ExportError::new(
                "format",
                format!("the format is not {MEMBER_AUDIT_FORMAT}"),
            ))
        }
    }

    /// Verifies the report in a page for people, and that the page is the one that was made with it.
    ///
    /// # Errors
    /// What is wrong and where; `page` where the text for people was changed.
    pub fn verify_page(html: &str, anchor: &TrustAnchor) -> Result<ProvenMemberAudit, ExportError> {
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

    /// Verifies a signed report: every access is the member's and stands where it says in the sequence, which ends at the
    /// ledger's head, and an organisation of the consortium signed the whole.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn verify(
        text: &str,
        anchor: &TrustAnchor,
    ) -> Result<(Self, ProvenMemberAudit), ExportError> {
        let report = Self::parse(text)?;
        let part = format!("sequence of {}", report.sequence.organization);
        let (height, timestamp) = report.sequence.verify(&part, anchor)?;
        let mut logs = std::collections::BTreeSet::new();
        let mut last = None;
        for (position, receipt) in report.receipts.iter().enumerate() {
            let part = format!("receipts[{position}]");
            let wrong = |what: &str| ExportError::new(&part, what);
            if receipt.actor != report.member {
                return Err(wrong("the receipt is about somebody else's access"));
            }
            if receipt.organization != report.sequence.organization {
                return Err(wrong("the sequence of its organisation is not in the file"));
            }
            if last.is_some_and(|last| last >= receipt.sequence) {
                return Err(wrong("the receipts are not in the order of the sequence"));
            }
            last = Some(receipt.sequence);
            in_place(&part, receipt, &report.sequence)?;
            logs.insert(receipt.log);
        }
        // A member does not sign for itself: only an organisation's signature counts.
        let (signer, role) = sign::verify(text, &report.signer, Address::ZERO, anchor)?;
        if role != SignerRole::Organization {
            return Err(ExportError::new("signer", "the signer is no organisation"));
        }
        let proven = ProvenMemberAudit {
            member: report.member,
            organization: report.sequence.organization,
            signer,
            made: report.made.clone(),
            accesses: report.receipts.len(),
            refused: report.receipts.iter().filter(|one| !one.allowed).count(),
            patients: logs.len(),
            height,
            timestamp,
        };
        Ok((report, proven))
    }
}

/// What a signed report of accesses proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProvenAccesses {
    /// Who looked at a patient's record.
    Patient(ProvenAudit),
    /// Whose records a member looked at.
    Member(ProvenMemberAudit),
}

/// Verifies a signed report of accesses, of a patient's record or of a member, as JSON or in a page for people.
///
/// # Errors
/// What is wrong and where.
pub fn verify_accesses(file: &str, anchor: &TrustAnchor) -> Result<ProvenAccesses, ExportError> {
    let is_page = file.trim_start().starts_with('<');
    let report = if is_page {
        Page::split_at(file, AUDIT_MARK)?.1
    } else {
        file.to_owned()
    };
    let proven = match (MemberAuditReport::is_one(&report), is_page) {
        (true, true) => ProvenAccesses::Member(MemberAuditReport::verify_page(file, anchor)?),
        (true, false) => ProvenAccesses::Member(MemberAuditReport::verify(file, anchor)?.1),
        (false, true) => ProvenAccesses::Patient(AuditReport::verify_page(file, anchor)?),
        (false, false) => ProvenAccesses::Patient(AuditReport::verify(file, anchor)?.1),
    };
    Ok(proven)
}
