//! The rules by which a custodian releases shares of peppers, over what stands on the ledger and a clock alone: no store,
//! no runtime. [`Service`](crate::Service) decides by them over its index and its ledger, and the simulation of members
//! over each simulated chain.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B128, B256, Bytes};
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::{
        audit::IAudit::headCall, consent::IConsent::openCategoriesCall,
        identity::IIdentity::accountCall,
    },
    consent::{Permissions, Purpose},
    id::{AUDIT, CONSENT, IDENTITY, OrganizationId, RecordId},
    receipt::{AccessAction, AccessReceipt, next_head},
    time::Timestamp,
};
use stele_vault::custodian::{Denied, Permission, Permit, ReadRequest};

use crate::{
    audit::records_digest,
    directory::AccountView,
    error::{Error, Result},
    session::{Actor, ActorKind},
};

/// Receipts between an anchored head and the one a question rests on.
const CHAINED_MAX: usize = 8_192;
/// Oldest receipt that peppers are released on, in milliseconds.
const RECEIPT_AGE_MS: u64 = 300_000;

/// The receipt of an access, its place in the asker's sequence, and the records it covers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeppersAsked {
    /// The receipt as it was written.
    pub receipt: AccessReceipt,
    /// Number of the first receipt in `digests`: the beginning of an anchored batch, or what follows the last one.
    pub first: u64,
    /// Digests of the asker's receipts from `first` up to this one.
    pub digests: Vec<B256>,
    /// All record versions the receipt covers, in the order of its digest.
    pub records: Vec<(RecordId, u32)>,
}

/// An access, and the shares that are wanted for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharesAsked {
    /// Last final block of the asker: a custodian that has not heard of it can't judge yet.
    pub height: u64,
    /// The access.
    pub access: PeppersAsked,
    /// What is wanted of it.
    pub wanted: Vec<WantedShares>,
}

/// Shares of one record version that the asker lacks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WantedShares {
    /// Place among the records of the access.
    pub at: u32,
    /// The record's category slot, 0 to 63.
    pub slot: u8,
    /// The custody.
    pub custody: B128,
    /// Period of its trees.
    pub period: u32,
    /// Trees, as a bit set.
    pub trees: u16,
}

/// A batch of access receipts as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchoredBatch {
    /// Number of its first receipt.
    pub first: u64,
    /// Number of the receipt after its last.
    pub end: u64,
    /// Head of the organisation's hash chain after it.
    pub head: B256,
}

/// What stands on the ledger by its last final block, as far as a custodian has to know.
pub trait Standing: Send + Sync {
    /// Height of that block.
    fn height(&self) -> u64;

    /// Its time.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn finalized_at(&self) -> Result<Timestamp>;

    /// Calls a system contract on its state.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn call(&self, what: &'static str, contract: Address, input: Vec<u8>) -> Result<Bytes>;

    /// An organisation's anchored batches that end after receipt `from`, in order.
    ///
    /// # Errors
    /// What follows the ledger can't answer.
    fn batches(&self, organization: Address, from: u64) -> Result<Vec<AnchoredBatch>>;

    /// Number of an organisation's receipts on the ledger, and the head of their chain.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn anchored_head(&self, organization: Address) -> Result<(u64, B256)> {
        const WHAT: &str = "reading the audit head";
        let output = self.call(WHAT, AUDIT, headCall { organization }.abi_encode())?;
        let head =
            headCall::abi_decode_returns(&output).map_err(|error| Error::internal(WHAT, error))?;
        Ok((head.count, head.head_))
    }

    /// What the ledger says of an account; `None` when it is not registered.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn account(&self, who: Address) -> Result<Option<AccountView>> {
        const WHAT: &str = "reading an account";
        let output = self.call(WHAT, IDENTITY, accountCall { who }.abi_encode())?;
        let account = accountCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        Ok((account.kind != 0).then_some(AccountView {
            kind: account.kind,
            active: account.status == 1,
            sponsor: OrganizationId(account.sponsor),
            roles: account.roles,
        }))
    }

    /// Category slots of a patient's log that grants open to the actor.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn open_slots(&self, actor: &Actor, log: Address, permission: Permissions) -> Result<u64> {
        const WHAT: &str = "asking for consent";
        let input = openCategoriesCall {
            patient: log,
            who: actor.account,
            permission: permission.0,
            purpose: actor.purpose_bits(),
        }
        .abi_encode();
        let output = self.call(WHAT, CONSENT, input)?;
        openCategoriesCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))
    }

    /// Category slots of a log that the actor may read: all of an organisation's, which is the directory.
    ///
    /// # Errors
    /// The ledger can't answer.
    fn readable_slots(&self, actor: &Actor, log: Address) -> Result<u64> {
        if self.account(log)?.is_some_and(|account| account.kind == 1) {
            return Ok(u64::MAX);
        }
        self.open_slots(actor, log, Permissions::READ)
    }
}

/// Consent as the ledger's last final block has it.
pub struct LiveConsent<'a> {
    standing: &'a dyn Standing,
    actor: &'a Actor,
    finalized_at: Timestamp,
}

impl<'a> LiveConsent<'a> {
    /// For what an actor is about to read. The time is taken first, so that an answer is never older than it says.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn new(standing: &'a dyn Standing, actor: &'a Actor) -> Result<Self> {
        Ok(Self {
            standing,
            actor,
            finalized_at: standing.finalized_at()?,
        })
    }
}

impl Permission for LiveConsent<'_> {
    fn check(&self, request: &ReadRequest, _now: Timestamp) -> std::result::Result<Permit, Denied> {
        let slots = self
            .standing
            .readable_slots(self.actor, request.log)
            .map_err(|error| Denied {
                reason: error.to_string(),
            })?;
        if slots >> request.slot & 1 == 1 {
            return Ok(Permit {
                finalized_at: self.finalized_at,
            });
        }
        Err(Denied {
            reason: "no live grant opens this category for this purpose".into(),
        })
    }
}

/// A question for shares as a custodian judges it, before anything is written.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Who asks; what it is given stands in the custodian's own sequence.
    pub actor: Actor,
    /// The log.
    pub log: Address,
    /// What the asker does there.
    pub action: AccessAction,
    /// Category slots that are asked for.
    pub slots: u64,
    /// Those of them that are open.
    pub open: u64,
    /// What is asked for, in the order of the question.
    pub requests: Vec<ReadRequest>,
    /// Record versions in open slots. None is a refusal.
    pub kept: Vec<(RecordId, u32)>,
}

/// Judges a question of `asker` for shares of what `own`, an organisation of this node, holds: its receipt, who asks and
/// what is open. What is kept still needs a durable receipt, then each request
/// [`stele_vault::custodian::judge`].
///
/// The record itself need not be known here: a share is derived from record, log and slot, so a wrong log or slot gives a
/// share of nothing.
///
/// # Errors
/// [`Error::NotPermitted`] for what is wrong with the question; [`Error::Member`] for one that rests on what is not final
/// here yet; the ledger can't answer.
pub fn judge_shares(
    standing: &dyn Standing,
    now: Timestamp,
    (asker, own): (OrganizationId, OrganizationId),
    asked: &SharesAsked,
) -> Result<Judged> {
    check_heard(standing, asked.height)?;
    let access = &asked.access;
    let receipt = &access.receipt;
    let log = receipt.log;
    check_receipt(standing, now, asker, access)?;
    let actor = acting_for(standing, asker, receipt.actor, receipt.purposes, own)?;
    let action = AccessAction::from_code(receipt.action).ok_or_else(|| refused("its action"))?;
    let mut requests = Vec::with_capacity(asked.wanted.len());
    for one in &asked.wanted {
        let place = usize::try_from(one.at).ok();
        let found = place.and_then(|place| access.records.get(place));
        let (record, version) =
            found.ok_or_else(|| refused("its receipt: it covers fewer records"))?;
        requests.push(ReadRequest {
            log,
            record: *record,
            version: *version,
            slot: one.slot,
            actor: actor.account,
            purposes: actor.purpose_bits(),
        });
    }
    let readable = if actor.purposes.is_empty() && actor.account != log {
        0
    } else {
        standing.readable_slots(&actor, log)?
    };
    let is_open = |slot: u8| readable.checked_shr(slot.into()).unwrap_or(0) & 1 == 1;
    let slots = requests.iter().fold(0_u64, |slots, one| {
        slots | 1_u64.checked_shl(one.slot.into()).unwrap_or(0)
    });
    let kept = requests
        .iter()
        .filter(|one| is_open(one.slot))
        .map(|one| (one.record, one.version))
        .collect();
    Ok(Judged {
        actor,
        log,
        action,
        slots,
        open: slots & readable,
        requests,
        kept,
    })
}

/// Whether a block that an asker knows is final here.
///
/// # Errors
/// [`Error::Member`] if not.
pub fn check_heard(standing: &dyn Standing, height: u64) -> Result<()> {
    if standing.height() >= height {
        return Ok(());
    }
    Err(Error::Member {
        message: format!("block {height} is not final here yet"),
    })
}

/// An account of another member as an actor whose accesses go into the sequence of `organization`, one of this
/// node's.
pub(super) fn acting_for(
    standing: &dyn Standing,
    asker: OrganizationId,
    account: Address,
    purposes: u16,
    organization: OrganizationId,
) -> Result<Actor> {
    let known = standing.account(account)?.filter(|found| found.active);
    let kind = match known {
        Some(found) if found.kind == 1 && account == asker.0 => Some(ActorKind::System),
        Some(found) if found.kind == 2 && found.sponsor == asker => Some(ActorKind::Practitioner),
        Some(found) if found.kind == 3 && found.sponsor == asker => Some(ActorKind::Patient),
        _ => None,
    };
    let kind = kind.ok_or_else(|| Error::NotPermitted {
        message: format!("{account} does not act for organisation {asker}"),
    })?;
    Ok(Actor {
        kind,
        account,
        organization,
        purposes: Purpose::ALL
            .into_iter()
            .filter(|purpose| purposes & purpose.bit() != 0)
            .collect(),
        client: format!("member {asker}"),
    })
}

/// The receipts that have to be shown for one of a sequence, from and up to, not including, a number: all of its batch, or
/// what follows the last one up to this receipt.
///
/// # Errors
/// What follows the ledger can't answer.
pub fn shown_with(
    standing: &dyn Standing,
    organization: Address,
    sequence: u64,
) -> Result<(u64, u64)> {
    match standing.batches(organization, sequence)?.first() {
        Some(batch) => Ok((batch.first, batch.end)),
        None => Ok((
            standing.anchored_head(organization)?.0,
            sequence.saturating_add(1),
        )),
    }
}

/// Whether a receipt is one of the asker's sequence as it is anchored, covers these records, and is of now.
pub(super) fn check_receipt(
    standing: &dyn Standing,
    now: Timestamp,
    asker: OrganizationId,
    asked: &PeppersAsked,
) -> Result<()> {
    let receipt = &asked.receipt;
    if receipt.organization != asker.0 || !receipt.allowed {
        return Err(refused(
            "its receipt: it is not one of an access it allowed",
        ));
    }
    let is_whole = receipt.records_digest == records_digest(&asked.records)
        && usize::try_from(receipt.records).ok() == Some(asked.records.len());
    if !is_whole || asked.records.is_empty() {
        return Err(refused("its receipt: it does not cover these records"));
    }
    let age_ms = now.0.abs_diff(Timestamp(receipt.at_ms).0);
    if age_ms > RECEIPT_AGE_MS {
        return Err(refused("its receipt: it is not of the last minutes"));
    }
    if asked.digests.len() > CHAINED_MAX {
        return Err(refused("its receipt: too many before it are not anchored"));
    }
    let place = receipt
        .sequence
        .checked_sub(asked.first)
        .and_then(|place| usize::try_from(place).ok());
    if place.and_then(|place| asked.digests.get(place)) != Some(&receipt.digest()) {
        return Err(refused(
            "its receipt: it is not in the sequence that it gives",
        ));
    }
    check_chained(standing, asker, receipt.sequence, asked)
}

/// Follows the asker's hash chain from the anchored head before the first digest and holds it against every later one. A
/// receipt that is anchored has to be shown with all of its batch: the ledger has the head after the batch only, so that
/// another receipt in its place would not be noticed before.
fn check_chained(
    standing: &dyn Standing,
    asker: OrganizationId,
    sequence: u64,
    asked: &PeppersAsked,
) -> Result<()> {
    let later = |message: String| Error::Member { message };
    let first = asked.first;
    let batches = standing.batches(asker.0, first.saturating_sub(1))?;
    let mut head = match first {
        0 => B256::ZERO,
        _ => batches
            .iter()
            .find(|batch| batch.end == first)
            .map(|batch| batch.head)
            .ok_or_else(|| {
                later(format!(
                    "receipt {first} of organisation {asker} is not anchored here yet"
                ))
            })?,
    };
    let heads: BTreeMap<u64, B256> = batches
        .iter()
        .map(|batch| (batch.end, batch.head))
        .collect();
    let mut at = first;
    for digest in &asked.digests {
        head = next_head(head, *digest);
        at = at.saturating_add(1);
        if heads.get(&at).is_some_and(|anchored| *anchored != head) {
            tracing::error!(organization = %asker, sequence = at, "a member shows another sequence of receipts than it anchored");
            return Err(refused("its receipts: they are not the anchored ones"));
        }
    }
    let own_batch = batches.iter().find(|batch| batch.end > sequence);
    if let Some(batch) = own_batch.filter(|batch| at < batch.end) {
        // It may have been anchored after it was shown: the asker comes back with the rest.
        return Err(later(format!(
            "receipt {sequence} of organisation {asker} is anchored: all receipts before {} have to be shown",
            batch.end
        )));
    }
    Ok(())
}

pub(super) fn refused(what: &str) -> Error {
    Error::NotPermitted {
        message: format!("the custodian refuses for {what}"),
    }
}

#[cfg(test)]
mod tests;
