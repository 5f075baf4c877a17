//! The auditor's desk: blocks and what their transactions did, in words, and a check of the chain while it runs.

use alloy_primitives::{Address, B256, TxKind};
use stele_core::{
    abi::{
        audit::IAudit::IAuditCalls, consent::IConsent::IConsentCalls,
        emergency::IEmergency::IEmergencyCalls, governance::IGovernance::IGovernanceCalls,
        identity::IIdentity::IIdentityCalls, prescriptions::IPrescriptions::IPrescriptionsCalls,
        records::IRecords::IRecordsCalls,
    },
    block::Header,
    certificate::{CommitCertificate, ValidatorKey, ValidatorSet, namespace},
    epoch,
    id::{AUDIT, CONSENT, EMERGENCY, GOVERNANCE, IDENTITY, PRESCRIPTIONS, RECORDS},
    time::Timestamp,
};

use crate::{
    Service,
    directory::role,
    error::{Error, Result},
    ports::{BlockRef, TransactionView},
    session::Actor,
};

/// Heights that are looked through for one page of blocks with transactions.
const LOOKED_THROUGH: u64 = 20_000;
/// Headers that one step of a check reads.
const CHECKED_AT_ONCE: u64 = 5_000;

/// Newest blocks whose common certificate names a block that is only just being stored.
const UNCOVERED_MAX: u64 = 64;

/// A block with transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLine {
    /// Height.
    pub height: u64,
    /// Digest.
    pub hash: B256,
    /// When it was made.
    pub at: Timestamp,
    /// What its transactions did, in order.
    pub transactions: Vec<TransactionLine>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionLine {
    /// Its hash.
    pub hash: B256,
    /// Who acted.
    pub sender: Address,
    /// What was done, after the sender's name: "gave a permission".
    pub words: &'static str,
    /// Whether the contract accepted it.
    pub success: bool,
    /// How it was signed.
    pub signature: &'static str,
    /// Accounts that its events name.
    pub concerns: Vec<Address>,
}

/// One step of a check of the chain, downwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Highest height checked.
    pub from: u64,
    /// Lowest height checked; 0 when nothing is left.
    pub to: u64,
    /// Certificates whose signatures were verified.
    pub certificates: u64,
    /// Hash of the lowest header, whose child is above.
    pub hash: B256,
    /// What does not hold, and where.
    pub problem: Option<String>,
}

impl Service {
    /// Blocks with transactions below a height, newest first, at most `count`.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator; the ledger can't answer.
    pub fn blocks(
        &self,
        actor: &Actor,
        below: Option<u64>,
        count: usize,
    ) -> Result<Vec<BlockLine>> {
        self.require_auditor(actor)?;
        let top = below.unwrap_or_else(|| self.ledger.height().saturating_add(1));
        let mut blocks = Vec::new();
        for height in (top.saturating_sub(LOOKED_THROUGH)..top).rev() {
            if blocks.len() >= count {
                break;
            }
            blocks.extend(
                self.block_line(height)?
                    .filter(|line| !line.transactions.is_empty()),
            );
        }
        Ok(blocks)
    }

    /// One block.
    ///
    /// # Errors
    /// [`Error::NotFound`], or as [`Self::blocks`].
    pub fn block_at(&self, actor: &Actor, height: u64) -> Result<BlockLine> {
        self.require_auditor(actor)?;
        self.block_line(height)?
            .ok_or_else(|| Error::not_found("block", &height.to_string()))
    }

    pub(super) fn block_line(&self, height: u64) -> Result<Option<BlockLine>> {
        const WHAT: &str = "reading a block";
        let block = self.ledger.block(BlockRef::Number(height));
        let Some(block) = block.map_err(Error::ledger(WHAT))? else {
            return Ok(None);
        };
        let mut transactions = Vec::new();
        if !block.transactions.is_empty() {
            let views = self.ledger.transactions_of(height);
            let receipts = self
                .ledger
                .receipts_of(height)
                .map_err(Error::ledger(WHAT))?;
            for (view, receipt) in views.map_err(Error::ledger(WHAT))?.iter().zip(receipts) {
                transactions.push(TransactionLine {
                    hash: view.hash,
                    sender: view.sender,
                    words: words_of(view),
                    success: receipt.receipt.success,
                    signature: signature_of(view),
                    concerns: concerned(&receipt.receipt.logs, view.sender),
                });
            }
        }
        Ok(Some(BlockLine {
            height,
            hash: block.hash,
            at: Timestamp(block.header.timestamp_ms),
            transactions,
        }))
    }

    /// Checks headers downwards from a height: each names its parent by digest, and each certificate that names its
    /// block is signed by a quorum of the validators. One step reads some thousands; `child` is the header above.
    ///
    /// # Errors
    /// As [`Self::blocks`]. What does not hold is in the answer.
    pub fn check_chain(&self, actor: &Actor, from: u64, child: Option<B256>) -> Result<Checked> {
        const WHAT: &str = "checking the chain";
        self.require_auditor(actor)?;
        let facts = self.ledger.facts();
        let keys = facts
            .validators
            .iter()
            .map(|validator| ValidatorKey::new(validator.key.0));
        let first = ValidatorSet::new(keys).map_err(|error| Error::internal(WHAT, error))?;
        let domain = namespace(facts.chain_id, &facts.genesis_hash);
        let changes = self.ledger.validator_changes();
        let changes = changes.map_err(Error::ledger(WHAT))?;
        // Each set of validators has to follow from the one before it.
        let sets = (0..=changes.len())
            .map(|count| epoch::walk(&first, &domain, changes.get(..count).unwrap_or_default()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| Error::internal(WHAT, error))?;
        let mut walk = Walk {
            sets,
            domain,
            genesis: facts.genesis_hash,
            named: None,
            is_covered: child.is_some(),
            certificates: 0,
        };
        let from = from.min(self.ledger.height());
        let to = from.saturating_sub(CHECKED_AT_ONCE);
        if let Some(child) = child {
            let above = self.header(from.saturating_add(1))?;
            walk.named = above
                .filter(|above| above.hash() == child)
                .map(|above| above.parent_hash);
        }
        let mut hash = B256::ZERO;
        let mut problem = None;
        for height in (to..=from).rev() {
            let found = self.ledger.certified_header(height);
            let Some((header, certificate)) = found.map_err(Error::ledger(WHAT))? else {
                problem = Some(format!("block {height} is missing"));
                break;
            };
            problem = walk.step(&header, &certificate, from).err();
            if problem.is_some() {
                break;
            }
            hash = header.hash();
        }
        if problem.is_none() && !walk.is_covered {
            problem = Some("no certificate covers these blocks".to_owned());
        }
        Ok(Checked {
            from,
            to,
            certificates: walk.certificates,
            hash,
            problem,
        })
    }

    fn header(&self, height: u64) -> Result<Option<Header>> {
        let found = self.ledger.block(BlockRef::Number(height));
        Ok(found
            .map_err(Error::ledger("reading a header"))?
            .map(|block| block.header))
    }

    pub(crate) fn require_auditor(&self, actor: &Actor) -> Result<()> {
        self.require_role(
            actor,
            role::AUDITOR | role::ADMINISTRATOR,
            "This is for auditors and administrators",
        )
    }
}

/// What a check carries from a block down to its parent.
struct Walk {
    /// The validators by epoch.
    sets: Vec<ValidatorSet>,
    domain: Vec<u8>,
    genesis: B256,
    /// The parent that the block above names.
    named: Option<B256>,
    /// Whether this block, or one above that leads here by digests, was finalized by a verified certificate.
    is_covered: bool,
    certificates: u64,
}

impl Walk {
    /// Checks one block; what does not hold comes back in words.
    fn step(
        &mut self,
        header: &Header,
        certificate: &[u8],
        from: u64,
    ) -> std::result::Result<(), String> {
        let (height, hash) = (header.number, header.hash());
        if self.named.is_some_and(|named| named != hash) {
            return Err(format!(
                "block {height} is not the one that the block above names"
            ));
        }
        self.named = Some(header.parent_hash);
        if height == 0 {
            // Everything starts from the first block's digest: nobody votes on it.
            self.is_covered |= from == 0;
            return if hash == self.genesis {
                Ok(())
            } else {
                Err("the first block is not this ledger's".to_owned())
            };
        }
        let certificate = CommitCertificate::decode(certificate)
            .map_err(|error| format!("block {height}: {error}"))?;
        if certificate.block == hash {
            let epoch = certificate.epoch;
            let set = usize::try_from(epoch).ok();
            let set = set.and_then(|epoch| self.sets.get(epoch)).ok_or_else(|| {
                format!("block {height} is of epoch {epoch}, which has not begun")
            })?;
            certificate
                .verify_in(header.epoch, &hash, set, &self.domain)
                .map_err(|error| format!("block {height}: {error}"))?;
            self.certificates = self.certificates.saturating_add(1);
            self.is_covered = true;
        } else if !self.is_covered && from.saturating_sub(height) >= UNCOVERED_MAX {
            // Blocks that became final together share the certificate of the newest, so only a few may lack one.
            return Err(format!("no certificate covers block {height}"));
        }
        Ok(())
    }
}

/// Accounts in the topics of a transaction's events, without the sender.
pub(super) fn concerned(logs: &[alloy_primitives::Log], sender: Address) -> Vec<Address> {
    let mut found = Vec::new();
    for log in logs {
        for topic in log.topics().iter().skip(1) {
            let (zeros, account) = topic.split_at(12);
            let account = Address::from_slice(account);
            let is_account = zeros.iter().all(|byte| *byte == 0)
                && account.iter().take(8).any(|byte| *byte != 0);
            if is_account && account != sender && !found.contains(&account) {
                found.push(account);
            }
        }
    }
    found
}

fn signature_of(view: &TransactionView) -> &'static str {
    use stele_core::tx::{AccountSignature, Transaction};
    match &view.transaction {
        Transaction::Ethereum(_) => OWN_KEY,
        Transaction::Account(account) => match account.signature {
            AccountSignature::WebAuthn(_) => PASSKEY,
            AccountSignature::Secp256k1(_) => ADDED_KEY,
        },
    }
}

/// Gives the name of a contract's function by its selector.
type NameOf = fn([u8; 4]) -> Option<&'static str>;

/// What a transaction asked for, as words after the sender's name.
fn words_of(view: &TransactionView) -> &'static str {
    let TxKind::Call(to) = view.transaction.to() else {
        return DEPLOYED;
    };
    let input = view.transaction.input();
    let Some(selector) = input.first_chunk::<4>().copied() else {
        return CALLED;
    };
    let contracts: [(Address, NameOf); 7] = [
        (IDENTITY, IIdentityCalls::name_by_selector),
        (RECORDS, IRecordsCalls::name_by_selector),
        (CONSENT, IConsentCalls::name_by_selector),
        (AUDIT, IAuditCalls::name_by_selector),
        (PRESCRIPTIONS, IPrescriptionsCalls::name_by_selector),
        (EMERGENCY, IEmergencyCalls::name_by_selector),
        (GOVERNANCE, IGovernanceCalls::name_by_selector),
    ];
    let name = contracts
        .into_iter()
        .find(|(address, _)| *address == to)
        .and_then(|(_, name)| name(selector));
    words_of_call(name.unwrap_or_default())
}

/// The names of the contracts' functions in words, after the sender's name.
const CALLS: &[(&str, &str)] = &[
    (
        "updateOrganization",
        "changed an organisation’s addresses and keys",
    ),
    (
        "allowOrigin",
        "allowed or forbade a web address for passkeys",
    ),
    ("registerMember", "registered a member of staff"),
    (
        "updateMember",
        "changed a member’s status, roles or licence",
    ),
    ("registerPatient", "registered a patient"),
    ("registerDevice", "registered a device"),
    ("addKey", "added a key to the account"),
    ("removeKey", "removed a key from the account"),
    ("claim", "took the account over"),
    ("grant", "recorded a permission"),
    ("grantBySig", "recorded a permission"),
    ("revoke", "ended a permission"),
    ("revokeBySig", "ended a permission"),
    ("renounce", "gave a permission back"),
    ("request", "asked a patient for access"),
    ("decline", "declined a request"),
    ("publishDirectory", "published a patient’s key directory"),
    ("anchor", "recorded entries"),
    ("tombstone", "recorded an erasure"),
    ("dispute", "disputed an entry"),
    ("transferCustody", "handed a record’s custody over"),
    ("issue", "issued a prescription"),
    ("dispense", "dispensed a prescription"),
    ("cancel", "cancelled a prescription"),
    ("open", "opened a record in an emergency"),
    ("review", "reviewed an emergency"),
    ("stopAll", "ended several permissions"),
    ("anchorReceipts", "anchored access receipts"),
    ("propose", "proposed a change of the consortium"),
    ("vote", "voted on a proposal"),
];
const DEPLOYED: &str = "deployed a contract";
const CALLED: &str = "called a contract";
const OWN_KEY: &str = "the account’s own key";
const PASSKEY: &str = "a passkey";
const ADDED_KEY: &str = "a key added to the account";

/// Every word that a [`TransactionLine`] may have: what was done, and how it was signed.
pub fn ledger_words() -> impl Iterator<Item = &'static str> {
    let calls = CALLS.iter().map(|(_, words)| *words);
    calls.chain([DEPLOYED, CALLED, OWN_KEY, PASSKEY, ADDED_KEY])
}

fn words_of_call(name: &str) -> &'static str {
    CALLS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(CALLED, |(_, words)| words)
}
