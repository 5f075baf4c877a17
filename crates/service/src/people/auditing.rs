//! The auditor's questions: what is this number, what did this account do, whose records were looked at and by whom, and is
//! anything missing. Looking at accesses is itself an act that is noted.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256};
use stele_core::{
    abi::{
        audit::IAudit::IAuditEvents, consent::IConsent::IConsentEvents,
        emergency::IEmergency::IEmergencyEvents, governance::IGovernance::IGovernanceEvents,
        identity::IIdentity::IIdentityEvents, prescriptions::IPrescriptions::IPrescriptionsEvents,
        records::IRecords::IRecordsEvents,
    },
    certificate::{ValidatorKey, ValidatorSet},
    consent::Purpose,
    id::{
        AUDIT, CONSENT, EMERGENCY, GOVERNANCE, IDENTITY, OrganizationId, PRESCRIPTIONS, PatientId,
        RECORDS,
    },
    proof::TrustAnchor,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use stele_fhir::category::Category;

use super::{BlockLine, Deed, Named, TransactionLine, ledger::concerned};
use crate::{
    Service,
    error::{Error, Result},
    ports::BlockRef,
    session::Actor,
};

/// Lines of one page.
const LINES: usize = 100;
/// Receipts that are looked through for one page of a member's accesses.
const LOOKED_THROUGH: u64 = 50_000;
/// Receipts read at once.
const CHUNK: u32 = 5_000;
/// Accesses to one record on its page; the signed report has all.
const ABOUT_MAX: u32 = 1_000;
/// Blocks that are looked through for one page of an account's transactions.
const BLOCKS_LOOKED_THROUGH: u64 = 20_000;

/// What a search of the ledger found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A block, by height.
    Block(u64),
    /// A transaction.
    Transaction(B256),
    /// An account or contract.
    Account(Address),
    /// People and organisations of that name; none where it is nothing at all.
    Names(Vec<Named>),
}

/// What an event on the ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// The contract that said it, in a word.
    pub contract: &'static str,
    /// Its name, such as `Granted`.
    pub name: &'static str,
    /// Accounts that it names.
    pub concerns: Vec<Address>,
    /// Length of its data, in bytes.
    pub data_bytes: usize,
}

/// A transaction by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDetail {
    /// What it did.
    pub line: TransactionLine,
    /// Height of its block.
    pub height: u64,
    /// When.
    pub at: Timestamp,
    /// The contract called; absent where one was deployed.
    pub to: Option<Address>,
    /// Gas it used.
    pub gas_used: u64,
    /// Length of what it carried, in bytes.
    pub input_bytes: usize,
    /// Its events.
    pub events: Vec<EventLine>,
}

/// An account as an auditor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDetail {
    /// 1 organisation, 2 member, 3 patient, 4 device.
    pub kind: u8,
    /// 1 active, 2 suspended, 3 closed.
    pub status: u8,
    /// Roles, see [`crate::directory::role`].
    pub roles: u32,
    /// Organisation that vouches for it.
    pub sponsor: OrganizationId,
    /// When it was registered, and by which transaction.
    pub registered: (Timestamp, B256),
    /// Keys that were added to it: the id, whether a passkey, whether removed.
    pub keys: Vec<(B256, bool, bool)>,
}

/// One access, with the place of its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Place in the organisation's sequence.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Address,
    /// The organisation whose gateway served or refused.
    pub organization: Address,
    /// The record: a patient's, or an organisation's directory.
    pub log: Address,
    /// What was done or tried; absent for a kind this program does not know.
    pub action: Option<AccessAction>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Parts of the record; empty where the patient's keys are not here.
    pub categories: Vec<Category>,
    /// Purposes claimed.
    pub purposes: Vec<Purpose>,
    /// Number of entries.
    pub records: u32,
}

/// Whether a patient's record is shown whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completeness {
    /// Whose.
    pub patient: PatientId,
    /// Versions that the ledger has.
    pub versions: u64,
    /// Of these, erased ones.
    pub erased: u64,
    /// Of these, versions that this node does not show.
    pub missing: u64,
    /// Block that the proof rests on, and its time.
    pub as_of: (u64, Timestamp),
    /// What does not hold.
    pub problem: Option<String>,
}

impl Service {
    /// What a text means on the ledger: a height, a digest, an account, or a name of the directory.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator; the ledger can't answer.
    pub async fn find_on_ledger(self: &Arc<Self>, actor: &Actor, text: &str) -> Result<Found> {
        const WHAT: &str = "searching the ledger";
        self.require_auditor(actor)?;
        if let Ok(height) = text.parse::<u64>()
            && height <= self.ledger.height()
        {
            return Ok(Found::Block(height));
        }
        if let Ok(digest) = text.parse::<B256>() {
            let known = self
                .ledger
                .transaction(digest)
                .map_err(Error::ledger(WHAT))?;
            if known.is_some_and(|found| found.position.is_some()) {
                return Ok(Found::Transaction(digest));
            }
            let block = self
                .ledger
                .block(BlockRef::Hash(digest))
                .map_err(Error::ledger(WHAT))?;
            if let Some(block) = block {
                return Ok(Found::Block(block.header.number));
            }
        }
        if let Ok(account) = text.parse::<Address>()
            && (contract_name(account).is_some() || self.account(account)?.is_some())
        {
            return Ok(Found::Account(account));
        }
        if text.is_empty() {
            return Ok(Found::Names(Vec::new()));
        }
        self.find_recipients(actor, text).await.map(Found::Names)
    }

    /// One transaction with its events.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the actor is neither auditor nor administrator.
    pub fn transaction_at(&self, actor: &Actor, hash: B256) -> Result<TransactionDetail> {
        const WHAT: &str = "reading a transaction";
        let gone = || Error::not_found("transaction", &hash.to_string());
        self.require_auditor(actor)?;
        let view = self.ledger.transaction(hash).map_err(Error::ledger(WHAT))?;
        let view = view.ok_or_else(gone)?;
        let place = view.position.ok_or_else(gone)?;
        let receipt = self.ledger.receipt(hash).map_err(Error::ledger(WHAT))?;
        let receipt = receipt.ok_or_else(gone)?;
        let block = self.block_at(actor, place.height)?;
        let line = block.transactions.into_iter().find(|one| one.hash == hash);
        Ok(TransactionDetail {
            line: line.ok_or_else(gone)?,
            height: place.height,
            at: Timestamp(place.timestamp_ms),
            to: receipt.to,
            gas_used: receipt.gas_used,
            input_bytes: view.transaction.input().len(),
            events: receipt
                .receipt
                .logs
                .iter()
                .map(|log| EventLine {
                    contract: contract_name(log.address).unwrap_or("Another contract"),
                    name: log
                        .topics()
                        .first()
                        .and_then(|topic| event_name(log.address, topic.0))
                        .unwrap_or("an event"),
                    concerns: concerned(std::slice::from_ref(log), Address::ZERO),
                    data_bytes: log.data.data.len(),
                })
                .collect(),
        })
    }

    /// An account of the ledger.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the actor is neither auditor nor administrator.
    pub fn account_detail(&self, actor: &Actor, account: Address) -> Result<AccountDetail> {
        const WHAT: &str = "reading an account";
        self.require_auditor(actor)?;
        let chain = self.index.chain();
        let found = chain.account(account).map_err(Error::index(WHAT))?;
        let found = found.ok_or_else(|| Error::not_found("account", &account.to_string()))?;
        let keys = chain.keys_of(account).map_err(Error::index(WHAT))?;
        Ok(AccountDetail {
            kind: found.kind,
            status: found.status,
            roles: found.roles,
            sponsor: OrganizationId(found.sponsor),
            registered: (found.registered.at, found.registered.tx),
            keys: keys
                .into_iter()
                .map(|key| (key.key, key.kind == 1, key.removed))
                .collect(),
        })
    }

    /// Blocks below a height with transactions that an account sent or that concern it, reduced to those; and where to
    /// look on.
    ///
    /// # Errors
    /// As [`Service::blocks`].
    pub fn transactions_about(
        &self,
        actor: &Actor,
        account: Address,
        below: Option<u64>,
    ) -> Result<(Vec<BlockLine>, Option<u64>)> {
        self.require_auditor(actor)?;
        let top = below.unwrap_or_else(|| self.ledger.height().saturating_add(1));
        let bottom = top.saturating_sub(BLOCKS_LOOKED_THROUGH);
        let (mut blocks, mut lines, mut next) = (Vec::new(), 0, bottom);
        for height in (bottom..top).rev() {
            let Some(mut block) = self.block_line(height)? else {
                continue;
            };
            block
                .transactions
                .retain(|one| one.sender == account || one.concerns.contains(&account));
            lines += block.transactions.len();
            if !block.transactions.is_empty() {
                blocks.push(block);
            }
            if lines >= LINES {
                next = height;
                break;
            }
        }
        Ok((blocks, Some(next).filter(|next| *next > 0)))
    }

    /// Who looked at a patient's record, the newest thousand, refused ones too. Of a patient of another organisation only
    /// what the actor's own organisation served. The look is noted.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator.
    pub async fn looks_at(&self, actor: &Actor, patient: PatientId) -> Result<Vec<Looked>> {
        const WHAT: &str = "listing accesses";
        self.require_auditor(actor)?;
        let own_only = self.require_decider(actor, patient).is_err();
        let deed = Deed::LookAtAccesses;
        self.noted(actor, deed, Some(patient.0), "", async {
            let found = self
                .index
                .local()
                .receipts_about(patient.0, None, ABOUT_MAX)
                .map_err(Error::index(WHAT))?;
            let receipts = found
                .into_iter()
                .map(|one| one.receipt)
                .filter(|one| !own_only || one.organization == actor.organization.0);
            Ok(self.looked(receipts))
        })
        .await
    }

    /// What a member looked at, newest first, as the actor's organisation served it; and the number below which to look
    /// on. The look is noted.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator.
    pub async fn looks_by(
        &self,
        actor: &Actor,
        member: Address,
        below: Option<u64>,
    ) -> Result<(Vec<Looked>, Option<u64>)> {
        self.require_auditor(actor)?;
        let deed = Deed::LookAtAccesses;
        self.noted(actor, deed, Some(member), "", async {
            let (found, next) = self.receipts_by(actor.organization, member, below)?;
            Ok((self.looked(found), next))
        })
        .await
    }

    fn receipts_by(
        &self,
        organization: OrganizationId,
        member: Address,
        below: Option<u64>,
    ) -> Result<(Vec<AccessReceipt>, Option<u64>)> {
        let mut below = below.unwrap_or(u64::MAX);
        let (mut found, mut looked) = (Vec::new(), 0_u64);
        loop {
            let chunk = self
                .index
                .local()
                .receipts_below(organization.0, below, CHUNK)
                .map_err(Error::index("listing accesses"))?;
            let Some(last) = chunk.last().map(|one| one.receipt.sequence) else {
                return Ok((found, None));
            };
            looked = looked.saturating_add(chunk.len() as u64);
            for one in chunk {
                if found.len() >= LINES {
                    return Ok((found, Some(below)));
                }
                below = one.receipt.sequence;
                if one.receipt.actor == member {
                    found.push(one.receipt);
                }
            }
            below = last;
            if last == 0 {
                return Ok((found, None));
            }
            if looked >= LOOKED_THROUGH {
                return Ok((found, Some(below)));
            }
        }
    }

    fn looked(&self, receipts: impl IntoIterator<Item = AccessReceipt>) -> Vec<Looked> {
        // Most receipts concern one of a few sets of categories.
        let mut known: BTreeMap<(Address, u64), Vec<Category>> = BTreeMap::new();
        let mut parts = |log: Address, slots: u64| {
            let parts = known.entry((log, slots)).or_insert_with(|| {
                self.categories_of(PatientId(log), slots)
                    .unwrap_or_default()
            });
            parts.clone()
        };
        receipts
            .into_iter()
            .map(|receipt| Looked {
                sequence: receipt.sequence,
                at: Timestamp(receipt.at_ms),
                actor: receipt.actor,
                organization: receipt.organization,
                log: receipt.log,
                action: AccessAction::from_code(receipt.action),
                allowed: receipt.allowed,
                categories: parts(receipt.log, receipt.categories),
                purposes: Purpose::ALL
                    .into_iter()
                    .filter(|purpose| receipt.purposes & purpose.bit() != 0)
                    .collect(),
                records: receipt.records,
            })
            .collect()
    }

    /// Patients of the actor's organisation, in an order that stays.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator.
    pub fn patients_to_check(&self, actor: &Actor) -> Result<Vec<PatientId>> {
        self.require_auditor(actor)?;
        let all = self.accounts_of(actor.organization, 3)?;
        Ok(all.into_iter().map(PatientId).collect())
    }

    /// Checks that no version of a patient's record is kept back: the ledger's own count and peaks, proven up to the
    /// validators' signatures, against what this node shows.
    ///
    /// # Errors
    /// The actor may not see it, or the stores can't be read. What does not hold is in the answer.
    pub fn check_completeness(&self, actor: &Actor, patient: PatientId) -> Result<Completeness> {
        const WHAT: &str = "checking completeness";
        self.require_auditor(actor)?;
        let (proof, leaves) = self.prove_log(actor, patient)?;
        let facts = self.ledger.facts();
        let keys = facts
            .validators
            .iter()
            .map(|validator| ValidatorKey::new(validator.key.0));
        let anchor = TrustAnchor {
            chain_id: facts.chain_id,
            genesis_hash: facts.genesis_hash,
            validators: ValidatorSet::new(keys).map_err(|error| Error::internal(WHAT, error))?,
        };
        let values: Vec<B256> = leaves.iter().map(|leaf| leaf.leaf).collect();
        let missing = leaves
            .iter()
            .filter(|leaf| leaf.resource.is_none() && !leaf.erased)
            .count();
        let mut complete = Completeness {
            patient,
            versions: leaves.len() as u64,
            erased: leaves.iter().filter(|leaf| leaf.erased).count() as u64,
            missing: missing as u64,
            as_of: (0, Timestamp(0)),
            problem: None,
        };
        match proof.verify_complete(&anchor, &values) {
            Ok(proven) => complete.as_of = (proven.height, proven.timestamp),
            Err(error) => complete.problem = Some(error.to_string()),
        }
        if missing > 0 && complete.problem.is_none() {
            complete.problem = Some(format!(
                "{missing} of {} versions on the ledger are not shown here",
                leaves.len()
            ));
        }
        Ok(complete)
    }

    /// Notes that a check or report was made, before it is handed out.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator, or the store fails.
    pub async fn note_audit(
        &self,
        actor: &Actor,
        deed: Deed,
        about: Option<Address>,
        words: &str,
    ) -> Result<()> {
        self.require_auditor(actor)?;
        self.noted(actor, deed, about, words, async { Ok(()) })
            .await
    }
}

/// The system contracts in a word.
#[must_use]
pub fn contract_name(address: Address) -> Option<&'static str> {
    [
        (IDENTITY, "Identity"),
        (RECORDS, "Records"),
        (CONSENT, "Consent"),
        (AUDIT, "Audit"),
        (PRESCRIPTIONS, "Prescriptions"),
        (EMERGENCY, "Emergency"),
        (GOVERNANCE, "Governance"),
    ]
    .into_iter()
    .find(|(one, _)| *one == address)
    .map(|(_, name)| name)
}

/// The name of a system contract's event by its first topic.
fn event_name(contract: Address, topic: [u8; 32]) -> Option<&'static str> {
    match contract {
        IDENTITY => IIdentityEvents::name_by_selector(topic),
        RECORDS => IRecordsEvents::name_by_selector(topic),
        CONSENT => IConsentEvents::name_by_selector(topic),
        AUDIT => IAuditEvents::name_by_selector(topic),
        PRESCRIPTIONS => IPrescriptionsEvents::name_by_selector(topic),
        EMERGENCY => IEmergencyEvents::name_by_selector(topic),
        GOVERNANCE => IGovernanceEvents::name_by_selector(topic),
        _ => None,
    }
}
