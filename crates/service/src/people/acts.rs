//! Acts of administration: who did what at an organisation's desk. Each leaves a receipt in the organisation's sequence,
//! as every access does, before it is done; the receipt holds the digest of what was done, and the ledger anchors it. So
//! neither the administrator nor whoever runs the node can take an act back unseen.

use std::future::Future;

use alloy_primitives::{Address, keccak256};
use serde::{Deserialize, Serialize};
use stele_core::{receipt::AccessAction, time::Timestamp};

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// Most acts on one page.
const ACTS_MAX: u32 = 50;
/// Longest words of an act, in characters.
const WORDS_MAX: usize = 500;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// A member was registered.
    Register,
    /// A member was suspended.
    Suspend,
    /// A member was reinstated.
    Reinstate,
    /// A code was made for a member.
    InviteMember,
    /// A code was made for a patient.
    InvitePatient,
    /// The licence of a doctor who registered was verified.
    VerifyLicence,
    /// A doctor who registered was declined.
    DeclineLicence,
    /// The accesses to a record, or of a member, were looked at.
    LookAtAccesses,
    /// A report of accesses was made and signed.
    Report,
    /// The completeness of a record was checked.
    CheckRecord,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Register,
        Self::Suspend,
        Self::Reinstate,
        Self::InviteMember,
        Self::InvitePatient,
        Self::VerifyLicence,
        Self::DeclineLicence,
        Self::LookAtAccesses,
        Self::Report,
        Self::CheckRecord,
    ];

    /// As words after the actor's name: "suspended a member".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Register => "registered a member",
            Self::Suspend => "suspended a member",
            Self::Reinstate => "reinstated a member",
            Self::InviteMember => "made a code for a member",
            Self::InvitePatient => "made a code for a patient",
            Self::VerifyLicence => "verified a licence",
            Self::DeclineLicence => "declined a request to be registered",
            Self::LookAtAccesses => "looked at accesses",
            Self::Report => "made a signed report of accesses",
            Self::CheckRecord => "checked that a record is complete",
        }
    }
}

/// An act of administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdministrativeAct {
    /// Place in the organisation's sequence of receipts.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Address,
    /// What was done; absent where what is kept is not what the receipt has the digest of.
    pub done: Option<Done>,
    /// Whether the ledger has anchored the receipt.
    pub is_anchored: bool,
}

/// What an act says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Done {
    /// What was done.
    pub deed: Deed,
    /// The account it concerns.
    pub about: Option<Address>,
    /// What else there is to say: a reason, how a licence was checked.
    pub words: String,
    /// Why it was not done after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Service {
    /// Acts of administration of the actor's organisation, newest first, below a number of an earlier list.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator, or the index fails.
    pub fn acts(&self, actor: &Actor, below: Option<u64>) -> Result<Vec<AdministrativeAct>> {
        const WHAT: &str = "listing acts of administration";
        self.require_auditor(actor)?;
        let organization = actor.organization.0;
        let (anchored, _) = self.anchored_head(organization)?;
        let local = self.index.local();
        let kept = local
            .acts_of(organization, below.unwrap_or(u64::MAX), ACTS_MAX)
            .map_err(Error::index(WHAT))?;
        let mut acts = Vec::with_capacity(kept.len());
        for (sequence, document) in kept {
            let receipt = local
                .receipts_from(organization, sequence, 1)
                .map_err(Error::index(WHAT))?
                .pop()
                .map(|one| one.receipt)
                .filter(|receipt| receipt.sequence == sequence)
                .ok_or_else(|| Error::internal(WHAT, "an act has no receipt"))?;
            let is_same = keccak256(&document) == receipt.records_digest;
            acts.push(AdministrativeAct {
                sequence,
                at: Timestamp(receipt.at_ms),
                actor: receipt.actor,
                done: serde_json::from_slice(&document).ok().filter(|_| is_same),
                is_anchored: sequence < anchored,
            });
        }
        Ok(acts)
    }

    /// Notes an act and then does it. What fails is noted too.
    pub(crate) async fn noted<T>(
        &self,
        actor: &Actor,
        deed: Deed,
        about: Option<Address>,
        words: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut done = Done {
            deed,
            about,
            words: words.chars().take(WORDS_MAX).collect(),
            failed: None,
        };
        self.note(actor, &done).await?;
        let outcome = work.await;
        if let Err(error) = &outcome {
            done.failed = Some(error.code().to_owned());
            self.note(actor, &done).await?;
        }
        outcome
    }

    async fn note(&self, actor: &Actor, done: &Done) -> Result<()> {
        const WHAT: &str = "noting an act of administration";
        let organization = actor.organization.0;
        let document = serde_json::to_vec(done).map_err(|e| Error::internal(WHAT, e))?;
        let mut receipt = self.receipt(actor, organization, AccessAction::Maintenance, 0, &[]);
        receipt.records_digest = keccak256(&document);
        let written = self.write_receipt(receipt, &[]).await?;
        self.index
            .local()
            .put_act(organization, written.receipt().sequence, &document)
            .map_err(Error::index(WHAT))
    }
}
