//! What is seen of custodians in a run from outside, and held against the ledger in the end.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolEvent as _;
use stele_chain::Committed;
use stele_core::{
    abi::{
        audit::IAudit::ReceiptsAnchored,
        consent::IConsent::{Granted, Revoked},
    },
    receipt::{AccessReceipt, next_head},
};
use stele_service::network::rules::AnchoredBatch;

use super::custodians::{BOUND_MS, SKEW_MS, Story, organization};
use crate::random::Random;

/// A grant as the ledger has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnLedger {
    grantee: Address,
    pub(super) id: u32,
    /// Which decision it was.
    pub(super) decision: usize,
    slots: u64,
    height: u64,
    expires_ms: u64,
    /// Height and time.
    pub(super) revoked: Option<(u64, u64)>,
}

/// What a member keeps of final blocks, as a node's index does.
#[derive(Debug, Default)]
pub(super) struct Followed {
    height: u64,
    pub(super) batches: Vec<(Address, AnchoredBatch)>,
    pub(super) grants: Vec<OnLedger>,
}

impl Followed {
    pub(super) fn follow(&mut self, committed: &Committed) {
        let Committed::New {
            block, receipts, ..
        } = committed
        else {
            return;
        };
        let header = &block.header;
        self.height = header.number;
        for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
            if let Ok(event) = ReceiptsAnchored::decode_log_data(&log.data) {
                let batch = AnchoredBatch {
                    first: event.first,
                    end: event.first + u64::from(event.count),
                    head: event.head,
                };
                self.batches.push((event.organization, batch));
            } else if let Ok(event) = Granted::decode_log_data(&log.data) {
                self.grants.push(OnLedger {
                    grantee: event.grantee,
                    id: event.id,
                    decision: usize::from(event.envelopeDigest.0[31]) - 1,
                    slots: event.terms.categories,
                    height: header.number,
                    expires_ms: event.terms.expires.to::<u64>().saturating_mul(1_000),
                    revoked: None,
                });
            } else if let Ok(event) = Revoked::decode_log_data(&log.data) {
                let is_it =
                    |one: &&mut OnLedger| one.grantee == event.grantee && one.id == event.id;
                let grant = self.grants.iter_mut().find(is_it).unwrap();
                grant.revoked = Some((header.number, header.timestamp_ms));
            }
        }
    }
}

/// A release by a custodian that keeps the rules.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) custodian: usize,
    pub(super) asker: usize,
    pub(super) slot: u8,
    /// Of the simulation, in milliseconds.
    pub(super) now_ms: u64,
    /// Of the custodian's ledger.
    pub(super) height: u64,
    /// Receipts of the asker that were anchored there.
    pub(super) anchored: u64,
    pub(super) receipt: AccessReceipt,
    /// Place of the custodian's own receipt in its sequence.
    pub(super) own: u64,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Reads that had all shares.
    pub(super) reads: usize,
    /// Refusals for want of consent, for state that was too old, and for a receipt.
    pub(super) refused: usize,
    pub(super) stale: usize,
    pub(super) unreceipted: usize,
}

impl Counts {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            refused: self.refused + other.refused,
            stale: self.stale + other.stale,
            unreceipted: self.unreceipted + other.unreceipted,
        }
    }
}

/// What outlives crashes, and what is seen of a run from outside.
pub(super) struct World {
    pub(super) story: Story,
    /// Each member's durable sequence of access receipts.
    pub(super) sequences: Vec<Mutex<Vec<AccessReceipt>>>,
    /// Each member's choices.
    pub(super) random: Vec<Mutex<Random>>,
    pub(super) followed: Vec<Mutex<Arc<Mutex<Followed>>>>,
    pub(super) releases: Mutex<Vec<Release>>,
    /// Asker, and the receipt of the read.
    pub(super) reads: Mutex<Vec<(usize, B256)>>,
    pub(super) counts: Mutex<Counts>,
}

impl World {
    pub(super) fn new(story: Story, seed: u64) -> Arc<Self> {
        let members = story.skews.len();
        let each = 0..u64::try_from(members).unwrap();
        Arc::new(Self {
            sequences: each.clone().map(|_| Mutex::default()).collect(),
            random: each
                .clone()
                .map(|one| Mutex::new(Random::new(seed ^ (one << 32) ^ 0xc057)))
                .collect(),
            followed: each.map(|_| Mutex::default()).collect(),
            releases: Mutex::default(),
            reads: Mutex::default(),
            counts: Mutex::default(),
            story,
        })
    }

    pub(super) fn skew_ms(&self, member: usize) -> i64 {
        self.story.skews[member]
    }

    /// Holds what was seen against the ledger as it stands in the end.
    pub(super) fn check(&self) -> Result<Counts, String> {
        let all: Vec<_> = self
            .followed
            .iter()
            .map(|one| Arc::clone(&one.lock().unwrap()))
            .collect();
        let truth = all.iter().max_by_key(|one| one.lock().unwrap().height);
        let truth = truth.unwrap().lock().unwrap();
        let releases = self.releases.lock().unwrap();
        for release in releases.iter() {
            self.check_release(&truth, release)?;
        }
        for (asker, digest) in self.reads.lock().unwrap().iter() {
            let is_of = |one: &&Release| one.asker == *asker && one.receipt.digest() == *digest;
            if !releases.iter().any(|one| is_of(&one)) {
                return Err(format!(
                    "member {asker} read with shares of careless custodians alone"
                ));
            }
        }
        for (member, sequence) in self.sequences.iter().enumerate() {
            let sequence = sequence.lock().unwrap();
            let own = organization(member).0;
            let anchored = truth.batches.iter().rev().find(|(who, _)| *who == own);
            let Some((_, batch)) = anchored else { continue };
            let end = usize::try_from(batch.end).unwrap();
            let kept = sequence.get(..end).ok_or_else(|| {
                format!("member {member} anchored receipts that it does not have")
            })?;
            let head = kept
                .iter()
                .fold(B256::ZERO, |head, one| next_head(head, one.digest()));
            if head != batch.head {
                return Err(format!(
                    "member {member} anchored other receipts than it has"
                ));
            }
        }
        let mut counts = *self.counts.lock().unwrap();
        counts.reads = self.reads.lock().unwrap().len();
        Ok(counts)
    }

    fn check_release(&self, truth: &Followed, release: &Release) -> Result<(), String> {
        let late_ms = BOUND_MS + u64::from(SKEW_MS.unsigned_abs());
        let asker = organization(release.asker).0;
        let is_live = |grant: &&OnLedger| {
            let revoked_ms = grant.revoked.map_or(u64::MAX, |(_, at_ms)| at_ms);
            let ends_ms = revoked_ms.min(grant.expires_ms);
            grant.grantee == asker
                && grant.slots >> release.slot & 1 == 1
                && release.height >= grant.height
                && grant
                    .revoked
                    .is_none_or(|(height, _)| release.height < height)
                && release.now_ms <= ends_ms.saturating_add(late_ms)
        };
        if !truth.grants.iter().any(|grant| is_live(&grant)) {
            return Err(format!(
                "custodian {} released slot {} to member {} at {} ms, height {}, without a live grant: {:?}",
                release.custodian,
                release.slot,
                release.asker,
                release.now_ms,
                release.height,
                truth.grants
            ));
        }
        let is_in = |member: usize, sequence: u64, digest: B256| {
            let place = usize::try_from(sequence).unwrap();
            let receipts = self.sequences[member].lock().unwrap();
            receipts
                .get(place)
                .is_some_and(|one| one.digest() == digest)
        };
        let shown = &release.receipt;
        if !is_in(release.asker, shown.sequence, shown.digest())
            && shown.sequence < release.anchored
        {
            return Err(format!(
                "custodian {} released to member {} on a receipt that is not the anchored one",
                release.custodian, release.asker
            ));
        }
        let own = self.sequences[release.custodian].lock().unwrap();
        let is_noted = own
            .get(usize::try_from(release.own).unwrap())
            .is_some_and(|own| own.actor == asker && own.allowed && own.log == shown.log);
        if !is_noted {
            return Err(format!(
                "custodian {} released without a receipt of its own",
                release.custodian
            ));
        }
        Ok(())
    }
}
