//! Break-glass: a clinician opens a record in an emergency, the patient is told at once, and somebody of the clinician's
//! organisation judges it afterwards (`docs/contracts/emergency.md`).
//!
//! Offered only to whom the record is closed. What is opened leaves out what is sensitive; whoever looks claims
//! emergency treatment as the purpose, which stands in every receipt. Words stay in the local store, their digest on
//! the ledger.

use alloy_primitives::{B256, Bytes, aliases::U40, keccak256};
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::{
        consent::IConsent::renounceCall,
        emergency::IEmergency::{openCall, reviewCall},
    },
    consent::{Permissions, Purpose},
    id::{CONSENT, EMERGENCY, PatientId},
    time::Timestamp,
    tx::AccountCall,
};
use stele_fhir::category::Category;

pub use stele_index::emergency::{Opening, Review};

use crate::{
    Service,
    directory::{ALL_MONTHS, role, slots_of},
    error::{Error, Result},
    people::{PasskeyUse, random},
    ports::BlockRef,
    session::Actor,
    transactions::Order,
};

/// How long an opening lasts, in milliseconds: four hours, the most that the ledger takes.
pub const OPEN_MS: u64 = 4 * 3600 * 1000;
/// Longest words, in characters.
pub const WORDS_MAX: usize = 500;

const WHAT: &str = "opening a record in an emergency";
/// Between signing and its block some time passes; the ledger counts from the block.
const SLACK_MS: u64 = 60_000;
const GAS: u64 = 500_000;
/// How long words are kept, in milliseconds: ten years, as audit trails are.
const KEPT_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
const LISTED_MAX: u32 = 200;

/// Why a record is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The patient can't be asked.
    CannotAnswer,
    /// Waiting would endanger the patient's life.
    DangerToLife,
    /// Waiting would endanger somebody else.
    DangerToOthers,
    /// Something else, said in words.
    Other,
}

impl Reason {
    /// All reasons, in the order in which they are offered.
    pub const ALL: [Self; 4] = [
        Self::CannotAnswer,
        Self::DangerToLife,
        Self::DangerToOthers,
        Self::Other,
    ];

    /// Its number on the ledger.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::CannotAnswer => 1,
            Self::DangerToLife => 2,
            Self::DangerToOthers => 3,
            Self::Other => 4,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The reason in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::CannotAnswer => "Patient cannot answer",
            Self::DangerToLife => "Danger to life",
            Self::DangerToOthers => "Danger to another person",
            Self::Other => "Other, explained below",
        }
    }
}

/// An opening that waits for its clinician's passkey.
#[derive(Debug)]
pub struct PreparedOpening {
    /// Its id, 64 hex digits.
    pub id: String,
    /// What the passkey signs: the transaction's signing hash.
    pub challenge: B256,
    /// Whose record.
    pub patient: PatientId,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub words: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// An opening with its words.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What the ledger says.
    pub opening: Opening,
    /// Why, in words; absent where they are another node's.
    pub words: Option<String>,
    /// What the reviewer wrote.
    pub review_words: Option<String>,
    /// Whether it is open now.
    pub is_open: bool,
}

/// Words off the ledger, with a salt so that their digest can't be guessed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    words: String,
    salt: B256,
}

/// What is kept beside the transaction while it waits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    reason: Reason,
    details: Bytes,
}

impl Actor {
    /// The same actor, claiming emergency treatment.
    #[must_use]
    pub fn in_emergency(&self) -> Self {
        Self {
            purposes: vec![Purpose::Etreat],
            ..self.clone()
        }
    }
}

impl Service {
    /// Whether the actor may open this record in an emergency: a clinician to whom it is closed, of a patient whose
    /// keys are here.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn may_open_in_emergency(&self, actor: &Actor, patient: PatientId) -> Result<bool> {
        let (_, nonce, _) = self
            .ledger
            .account(EMERGENCY, BlockRef::Latest)
            .map_err(Error::ledger(WHAT))?;
        let clinician = self
            .account(actor.account)?
            .is_some_and(|found| found.active && found.roles & (role::DOCTOR | role::NURSE) != 0);
        let is_managed = self
            .vault
            .keys()
            .manages(patient.0)
            .map_err(Error::vault(WHAT))?;
        Ok(nonce > 0
            && clinician
            && is_managed
            && self
                .open_parts(actor, patient, Permissions::READ)?
                .is_empty()
            && self.open_emergency(actor, patient)?.is_none())
    }

    /// Prepares an opening for the clinician's passkey.
    ///
    /// # Errors
    /// The record is not closed to the actor, the actor is no clinician, or the words are missing or too long.
    pub fn draft_opening(
        &self,
        actor: &Actor,
        patient: PatientId,
        reason: Reason,
        words: &str,
    ) -> Result<PreparedOpening> {
        if !self.may_open_in_emergency(actor, patient)? {
            return Err(Error::NotPermitted {
                message: "An emergency is for clinicians to whom the record is closed.".into(),
            });
        }
        let words = words.trim();
        if words.is_empty() || words.chars().count() > WORDS_MAX {
            return Err(Error::Conflict {
                message: format!("Write why, in at most {WORDS_MAX} characters."),
            });
        }
        let root = self.managed_root(patient)?;
        let details = document(words)?;
        let until = self.clock.now().plus_ms(OPEN_MS.saturating_sub(SLACK_MS));
        let call = openCall {
            patient: patient.0,
            categories: slots_of(&root, &opened_parts())?,
            reason: reason.number(),
            detailsDigest: keccak256(&details),
            until: U40::saturating_from(until.seconds()),
        };
        let beside = Beside {
            reason,
            details: details.into(),
        };
        let beside = serde_json::to_vec(&beside).map_err(|e| Error::internal(WHAT, e))?;
        let (id, call) =
            self.keep_waiting(actor.account, EMERGENCY, GAS, call.abi_encode(), &beside)?;
        self.prepared_from(id, &call, &beside)
    }

    /// An opening of the actor's that waits.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn prepared_opening(&self, actor: &Actor, id: &str) -> Result<PreparedOpening> {
        let (call, beside) = self.waiting(actor.account, id)?;
        self.prepared_from(id.to_owned(), &call, &beside)
    }

    fn prepared_from(
        &self,
        id: String,
        call: &AccountCall,
        beside: &[u8],
    ) -> Result<PreparedOpening> {
        let open = openCall::abi_decode(&call.input).map_err(|e| Error::internal(WHAT, e))?;
        let beside: Beside =
            serde_json::from_slice(beside).map_err(|e| Error::internal(WHAT, e))?;
        Ok(PreparedOpening {
            id,
            challenge: call.signing_hash(),
            patient: PatientId(open.patient),
            reason: beside.reason,
            words: written(&beside.details),
            until: Timestamp::from_seconds(open.until.to()),
        })
    }

    /// Opens a record: keys are sealed to the clinician, and the transaction that the passkey signed is carried. From
    /// its block on the patient sees it.
    ///
    /// # Errors
    /// The draft ended, the passkey is another's or signed something else, or the ledger refuses.
    pub async fn confirm_opening(
        &self,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
    ) -> Result<PatientId> {
        let (call, beside) = self.waiting(actor.account, id)?;
        let prepared = self.prepared_from(id.to_owned(), &call, &beside)?;
        let patient = prepared.patient;
        if !self.may_open_in_emergency(actor, patient)? {
            return Err(Error::Conflict {
                message: "The record is open to you already.".into(),
            });
        }
        let beside: Beside =
            serde_json::from_slice(&beside).map_err(|e| Error::internal(WHAT, e))?;
        self.keep_words(&beside.details)?;
        // Sealed before the opening is final: without it they open nothing.
        let keys = self
            .seal_keys(patient, actor.account, &opened_parts(), ALL_MONTHS)
            .await?;
        self.vault
            .keys()
            .keep_grants(actor.account, &keys)
            .await
            .map_err(Error::vault(WHAT))?;
        self.carry(actor.account, call, passkey).await?;
        self.forget_waiting(id)?;
        Ok(patient)
    }

    fn keep_words(&self, details: &[u8]) -> Result<()> {
        self.index
            .local()
            .put_session(
                &keccak256(details),
                details,
                self.clock.now().plus_ms(KEPT_MS),
            )
            .map_err(Error::index(WHAT))
    }

    /// The actor's opening of this record that lasts now.
    ///
    /// # Errors
    /// The index fails.
    pub fn open_emergency(&self, actor: &Actor, patient: PatientId) -> Result<Option<Opened>> {
        let found = self
            .index
            .chain()
            .openings_of(patient, LISTED_MAX)
            .map_err(Error::index(WHAT))?;
        for opening in found {
            if opening.clinician != actor.account {
                continue;
            }
            let opened = self.opened(opening)?;
            if opened.is_open {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// Ends the actor's opening before its time.
    ///
    /// # Errors
    /// There is none, or the ledger refuses.
    pub async fn end_emergency(&self, actor: &Actor, patient: PatientId) -> Result<()> {
        let open = self
            .open_emergency(actor, patient)?
            .ok_or_else(|| Error::not_found("emergency", "of this record"))?;
        let id = open.opening.grant;
        let call = renounceCall {
            patient: patient.0,
            id,
        };
        self.transactions
            .settle(
                "ending an emergency",
                actor.account,
                Order::new(CONSENT, &call, GAS),
            )
            .await?;
        self.renew_keys(patient, actor.account, id).await
    }

    /// Openings of a patient's record, newest first. For the patient and those who may decide for them.
    ///
    /// # Errors
    /// The actor may not see them.
    pub fn openings_of(&self, actor: &Actor, patient: PatientId) -> Result<Vec<Opened>> {
        self.require_decider(actor, patient)?;
        let found = self
            .index
            .chain()
            .openings_of(patient, LISTED_MAX)
            .map_err(Error::index(WHAT))?;
        found.into_iter().map(|one| self.opened(one)).collect()
    }

    /// Openings by staff of the actor's organisation, those that wait for a review first.
    ///
    /// # Errors
    /// The actor does not review.
    pub fn openings_to_review(&self, actor: &Actor) -> Result<Vec<Opened>> {
        self.require_reviewer(actor)?;
        let found = self
            .index
            .chain()
            .openings_by_staff_of(actor.organization.0, LISTED_MAX)
            .map_err(Error::index(WHAT))?;
        found.into_iter().map(|one| self.opened(one)).collect()
    }

    /// Judges an opening.
    ///
    /// # Errors
    /// The actor does not review, opened it themselves, or it was judged already.
    pub async fn review_opening(
        &self,
        actor: &Actor,
        number: u64,
        is_justified: bool,
        words: &str,
    ) -> Result<()> {
        self.require_reviewer(actor)?;
        let words = words.trim();
        if words.is_empty() || words.chars().count() > WORDS_MAX {
            return Err(Error::Conflict {
                message: format!("Write why, in at most {WORDS_MAX} characters."),
            });
        }
        let details = document(words)?;
        self.keep_words(&details)?;
        let call = reviewCall {
            number,
            verdict: if is_justified { 1 } else { 2 },
            detailsDigest: keccak256(&details),
        };
        self.transactions
            .settle("a review", actor.account, Order::new(EMERGENCY, &call, GAS))
            .await
            .map(drop)
    }

    fn require_reviewer(&self, actor: &Actor) -> Result<()> {
        let roles = role::ADMINISTRATOR | role::AUDITOR;
        let account: Option<_> = self.account(actor.account)?;
        if account.is_some_and(|found| found.active && found.kind == 2 && found.roles & roles != 0)
        {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: "Administrators and auditors review emergencies.".into(),
        })
    }

    fn opened(&self, opening: Opening) -> Result<Opened> {
        let now = self.clock.now();
        let words = |digest: &B256| -> Result<Option<String>> {
            let found = self
                .index
                .local()
                .session(digest, now)
                .map_err(Error::index(WHAT))?;
            Ok(found.map(|bytes| written(&bytes)))
        };
        let is_live = self
            .index
            .chain()
            .grants_of(opening.patient)
            .map_err(Error::index(WHAT))?
            .iter()
            .any(|grant| {
                grant.grantee == opening.clinician
                    && grant.id == opening.grant
                    && grant.is_live(now)
            });
        Ok(Opened {
            words: words(&opening.details)?,
            review_words: match &opening.review {
                Some(review) => words(&review.details)?,
                None => None,
            },
            is_open: is_live && opening.until > now,
            opening,
        })
    }
}

/// Parts that an emergency opens: all but what is sensitive.
fn opened_parts() -> Vec<Category> {
    Category::ALL
        .into_iter()
        .filter(|one| !one.is_sensitive())
        .collect()
}

fn document(words: &str) -> Result<Vec<u8>> {
    let words = Words {
        words: words.to_owned(),
        salt: random().into(),
    };
    serde_json::to_vec(&words).map_err(|e| Error::internal(WHAT, e))
}

fn written(details: &[u8]) -> String {
    serde_json::from_slice::<Words>(details).map_or_else(|_| String::new(), |one| one.words)
}
