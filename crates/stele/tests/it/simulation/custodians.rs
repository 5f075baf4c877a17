//! Custodians in the simulation. Each member judges by the real rules, over its own simulated chain and by its own clock,
//! who gets shares of a patient's peppers, while the patient grants and revokes, and two others ask and ask again: one that
//! is granted now and then, and one that never is. Both ask custodians directly, whatever their own ledger says. At most one
//! custodian is careless and releases everything: one less than it takes.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B128, B256, Bytes, TxKind, keccak256};
use alloy_sol_types::SolCall;
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use stele_chain::{CallOutcome, CallRequest, Chain};
use stele_consensus::sim::{Beside, CHAIN_ID};
use stele_core::{
    abi::{
        audit::IAudit::anchorReceiptsCall,
        consent::IConsent::{Terms, grantCall, revokeCall},
        identity::IIdentity::registerPatientCall,
    },
    account::{AccountKey, UnsignedCall},
    consent::{Permissions, Purpose},
    crypto::Secret32,
    id::{AUDIT, CONSENT, IDENTITY, OrganizationId, RecordId},
    receipt::{AccessAction, AccessReceipt, batch_root, next_head},
    time::Timestamp,
};
use stele_service::{
    Error,
    audit::records_digest,
    network::rules::{
        AnchoredBatch, LiveConsent, PeppersAsked, SharesAsked, Standing, WantedShares,
        judge_shares, shown_with,
    },
    session::Actor,
};
use stele_vault::{
    custodian::{self, DurableReceipt, ReadRequest, ReceiptLog},
    custody::Custody,
};

use super::{
    Member, key,
    witness::{Counts, Followed, Release, World},
};
use crate::random::Random;

/// Oldest state that a release may rest on, in milliseconds.
pub(super) const BOUND_MS: u64 = 2_000;
/// How far a member's clock is off at most, in milliseconds.
pub(super) const SKEW_MS: i32 = 400;
/// Slot that the patient grants; nobody is ever granted the other one.
const GRANTED_SLOT: u8 = 0;
const OTHER_SLOT: u8 = 5;
/// When nobody asks any more, in milliseconds: later than anything that is decided or cut off.
const ASKED_UNTIL_MS: u64 = 16_000;
/// Wakes between two batches of receipts.
const ANCHORING: u64 = 5;

/// What a patient decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Until revoked, or for so many seconds.
    Grant(Option<u64>),
    Revoke,
}

/// What custodians leave out: none of it may go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They release on state of any age.
    NoBound,
    /// They do not look at what the asker has anchored.
    NoSequence,
}

/// What happens to one patient's peppers in a run.
#[derive(Clone, Debug)]
pub(super) struct Story {
    /// Custodians of 2 of 3; the first keeps the patient.
    pub(super) custodians: [usize; 3],
    pub(super) grantee: usize,
    stranger: usize,
    /// When, in milliseconds, and what.
    decisions: Vec<(u64, Decision)>,
    /// How far each member's clock is off, in milliseconds.
    pub(super) skews: Vec<i64>,
    /// Releases whatever it is asked for.
    careless: Option<usize>,
    /// Whether the grantee shows receipts that are not those it anchored.
    forges: bool,
    fault: Option<Fault>,
}

impl Story {
    /// Of a consortium of `members`. `home` proposes what is sent to it.
    pub(super) fn new(members: usize, home: usize, random: &mut Random) -> Self {
        let mut below = |end: usize| usize::try_from(random.below(end as u64)).unwrap();
        let grantee = (home + 1 + below(members - 1)) % members;
        let mut decisions = Vec::new();
        let mut at = 0;
        for _ in 0..1 + below(3) {
            at += below(600) as u64;
            let lasts = [None, None, Some(2)][below(3)];
            decisions.push((at, Decision::Grant(lasts)));
            at += 300 + below(2_000) as u64;
            decisions.push((at, Decision::Revoke));
        }
        let custodians = [home, (home + 1) % members, (home + 2) % members];
        let all = usize::try_from(2 * SKEW_MS).unwrap();
        let skew = |_| i64::try_from(below(all)).unwrap() - i64::from(SKEW_MS);
        Self {
            skews: (0..members).map(skew).collect(),
            careless: [None, Some(custodians[1]), Some(custodians[2])][below(3)],
            forges: below(3) == 0,
            stranger: (0..members)
                .find(|one| *one != home && *one != grantee)
                .unwrap(),
            custodians,
            grantee,
            decisions,
            fault: None,
        }
    }

    /// The patient revokes while the grantee and a custodian are cut off from all others. Everybody is honest, but where
    /// custodians do not look at receipts the grantee forges them.
    pub(super) fn cut_off(members: usize, fault: Option<Fault>) -> Self {
        Self {
            custodians: [0, 1, 2],
            grantee: 1,
            stranger: 3,
            decisions: vec![(0, Decision::Grant(None)), (6_500, Decision::Revoke)],
            skews: vec![0; members],
            careless: None,
            forges: fault == Some(Fault::NoSequence),
            fault,
        }
    }

    fn custody(&self) -> Custody {
        Custody {
            id: B128::repeat_byte(7),
            owner: key(self.custodians[0]).address(),
            threshold: 2,
            custodians: self.custodians.map(|one| key(one).address()).to_vec(),
        }
    }
}

fn patient() -> AccountKey {
    AccountKey::new(Secret32::new([0x77; 32])).unwrap()
}

pub(super) fn organization(index: usize) -> OrganizationId {
    OrganizationId(key(index).address())
}

/// A member's durable sequence.
struct Sequence<'a>(&'a Mutex<Vec<AccessReceipt>>);

impl ReceiptLog for Sequence<'_> {
    fn append(
        &self,
        mut receipt: AccessReceipt,
    ) -> BoxFuture<'_, Result<AccessReceipt, Box<dyn std::error::Error + Send + Sync>>> {
        let mut sequence = self.0.lock().unwrap();
        receipt.sequence = sequence.len() as u64;
        sequence.push(receipt.clone());
        std::future::ready(Ok(receipt)).boxed()
    }
}

/// A member's ledger as its custodian sees it.
struct View {
    chain: Arc<Chain>,
    followed: Arc<Mutex<Followed>>,
    is_blind: bool,
}

impl Standing for View {
    fn height(&self) -> u64 {
        self.chain.finalized().0.number
    }

    fn finalized_at(&self) -> stele_service::Result<Timestamp> {
        Ok(Timestamp(self.chain.finalized().0.timestamp_ms))
    }

    fn call(
        &self,
        what: &'static str,
        contract: Address,
        input: Vec<u8>,
    ) -> stele_service::Result<Bytes> {
        let request = CallRequest {
            to: Some(contract),
            input: input.into(),
            ..CallRequest::default()
        };
        match self.chain.call(&request) {
            Ok(CallOutcome::Success { output, .. }) => Ok(output),
            other => panic!("{what}: {other:?}"),
        }
    }

    fn batches(
        &self,
        organization: Address,
        from: u64,
    ) -> stele_service::Result<Vec<AnchoredBatch>> {
        if self.is_blind {
            return Ok(Vec::new());
        }
        let followed = self.followed.lock().unwrap();
        let of = followed
            .batches
            .iter()
            .filter(|(who, batch)| *who == organization && batch.end > from);
        Ok(of.map(|(_, batch)| *batch).collect())
    }
}

#[derive(Serialize, Deserialize)]
enum Message {
    Ask(Box<SharesAsked>),
    /// Digest of the asker's receipt, and the trees whose shares are given.
    Given(B256, u16),
}

/// A read under way: its receipt, and the trees whose shares are here.
struct Reading {
    digest: B256,
    trees: u16,
}

/// A member beside consensus: custodian, asker, and, where it is home, the patient.
pub(super) struct Custodian {
    index: usize,
    world: Arc<World>,
    view: View,
    wakes: u64,
    reading: Vec<Reading>,
    /// Transactions of the patient and of the member that are not final yet.
    sent: [Option<B256>; 2],
}

impl Custodian {
    pub(super) fn new(index: usize, world: &Arc<World>, member: &Member, is_seen: bool) -> Self {
        let followed = Arc::clone(&member.followed);
        if is_seen {
            *world.followed[index].lock().unwrap() = Arc::clone(&followed);
        }
        Self {
            index,
            view: View {
                chain: Arc::clone(&member.chain),
                followed,
                is_blind: world.story.fault == Some(Fault::NoSequence),
            },
            world: Arc::clone(world),
            wakes: 0,
            reading: Vec::new(),
            sent: [None; 2],
        }
    }

    fn story(&self) -> &Story {
        &self.world.story
    }

    /// What its own clock shows.
    fn clock(&self, now_ms: u64) -> Timestamp {
        Timestamp(now_ms.saturating_add_signed(self.world.skew_ms(self.index)))
    }

    fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.world.counts.lock().unwrap());
    }

    /// Sends a call, unless the last one of this sender still waits.
    fn send<C: SolCall>(&mut self, sender: &AccountKey, to: Address, call: &C) {
        let sent = &mut self.sent[usize::from(sender.address() == patient().address())];
        if sent.is_some_and(|hash| self.view.chain.pending(&hash).is_some()) {
            return;
        }
        let Ok(nonce) = self.view.chain.pending_nonce(sender.address()) else {
            return;
        };
        let signed = sender.sign(UnsignedCall {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: 600_000,
            to: TxKind::Call(to),
            input: call.abi_encode().into(),
        });
        // A full pool refuses: the next wake tries again.
        let admitted = self.view.chain.submit(signed.unwrap());
        *sent = admitted.ok().map(|pooled| pooled.recovered.hash);
    }

    /// Brings the ledger to what the patient has decided by now.
    fn decide(&mut self, now: Timestamp) {
        let patient = patient();
        if self.view.account(patient.address()).unwrap().is_none() {
            let register = registerPatientCall {
                patient: patient.address(),
                directoryRoot: B256::repeat_byte(1),
            };
            let home = key(self.index);
            return self.send(&home, IDENTITY, &register);
        }
        let mut decided = self.story().decisions.iter().enumerate().rev();
        let Some((number, (_, decision))) = decided.find(|(_, one)| one.0 <= now.0) else {
            return;
        };
        let decision = *decision;
        let grants = self.view.followed.lock().unwrap().grants.clone();
        let grantee = key(self.story().grantee).address();
        match decision {
            Decision::Grant(lasts_s) => {
                if grants.iter().any(|grant| grant.decision == number) {
                    return;
                }
                let from_s = self.view.finalized_at().unwrap().0 / 1_000;
                let until_s = from_s + lasts_s.map_or(86_400, |lasts| 1 + lasts);
                let call = grantCall {
                    grantee,
                    terms: Terms {
                        categories: 1 << GRANTED_SLOT,
                        permissions: Permissions::READ.0,
                        purposes: Purpose::Treat.bit(),
                        notBefore: Default::default(),
                        expires: until_s.try_into().unwrap(),
                        recordsFrom: 0,
                        recordsTo: u16::MAX,
                    },
                    // None is nothing.
                    envelopeDigest: B256::with_last_byte(u8::try_from(number + 1).unwrap()),
                    request: 0,
                };
                self.send(&patient, CONSENT, &call);
            }
            Decision::Revoke => {
                if let Some(grant) = grants.iter().find(|grant| grant.revoked.is_none()) {
                    let call = revokeCall {
                        grantee,
                        id: grant.id,
                        directoryRoot: B256::ZERO,
                    };
                    self.send(&patient, CONSENT, &call);
                }
            }
        }
    }

    /// Anchors what is new in its sequence.
    fn anchor(&mut self) {
        let own = organization(self.index).0;
        let (first, head) = self.view.anchored_head(own).unwrap();
        let digests: Vec<B256> = {
            let sequence = self.world.sequences[self.index].lock().unwrap();
            let new = sequence.iter().skip(usize::try_from(first).unwrap());
            new.map(AccessReceipt::digest).collect()
        };
        if digests.is_empty() {
            return;
        }
        let call = anchorReceiptsCall {
            first,
            count: u32::try_from(digests.len()).unwrap(),
            root: batch_root(&digests),
            previousHead: head,
            head: digests
                .iter()
                .fold(head, |head, digest| next_head(head, *digest)),
        };
        let sender = key(self.index);
        self.send(&sender, AUDIT, &call);
    }

    /// Asks custodians for a record, whatever its own ledger says of it.
    fn ask(&mut self, now_ms: u64, slot: u8) -> Vec<(usize, Vec<u8>)> {
        let custody = self.story().custody();
        let own = organization(self.index);
        let log = patient().address();
        let record = RecordId(keccak256([slot]));
        let actor = Actor::system(own, Purpose::Treat, "simulated");
        let records = vec![(record, 1)];
        let number = self.world.sequences[self.index].lock().unwrap().len() as u64;
        let receipt = AccessReceipt {
            organization: own.0,
            at_ms: self.clock(now_ms).0,
            actor: own.0,
            log,
            action: AccessAction::Read.code(),
            allowed: true,
            categories: 1 << slot,
            purposes: actor.purpose_bits(),
            records: 1,
            records_digest: records_digest(&records),
            salt: keccak256(number.to_be_bytes()),
            ..AccessReceipt::default()
        };
        let durable = self.write(receipt, &records);
        let shown = durable.receipt().clone();
        let request = ReadRequest {
            log,
            record,
            version: 1,
            slot,
            actor: own.0,
            purposes: actor.purpose_bits(),
        };
        let held = custody.held_by(own.0);
        let mut reading = Reading {
            digest: shown.digest(),
            trees: 0,
        };
        if held != 0 && self.releases(&actor, &request, &durable, now_ms, (self.index, &shown)) {
            reading.trees = held;
        }
        let asked = SharesAsked {
            height: self.view.height(),
            access: self.access(&shown, records),
            wanted: vec![WantedShares {
                at: 0,
                slot,
                custody: custody.id,
                period: 1,
                trees: custody.all_trees() & !reading.trees,
            }],
        };
        self.note(reading);
        let message = serde_json::to_vec(&Message::Ask(Box::new(asked))).unwrap();
        let others = self.story().custodians.into_iter();
        let others = others.filter(|one| *one != self.index);
        others.map(|to| (to, message.clone())).collect()
    }

    /// An access as it is shown to custodians: now and then one that was never written, at a place that is anchored.
    fn access(&self, receipt: &AccessReceipt, records: Vec<(RecordId, u32)>) -> PeppersAsked {
        let own = organization(self.index).0;
        let anchored = self.view.anchored_head(own).unwrap().0;
        let mut choose = self.world.random[self.index].lock().unwrap();
        if self.story().forges && anchored > 0 && choose.below(2) == 0 {
            let mut forged = receipt.clone();
            forged.sequence = 0;
            let sequence = self.world.sequences[self.index].lock().unwrap();
            let after = sequence.iter().skip(1).map(AccessReceipt::digest);
            let shown = choose.below(anchored);
            return PeppersAsked {
                first: 0,
                digests: [forged.digest()]
                    .into_iter()
                    .chain(after.take(usize::try_from(shown).unwrap()))
                    .collect(),
                receipt: forged,
                records,
            };
        }
        let (first, end) = shown_with(&self.view, own, receipt.sequence).unwrap();
        let sequence = self.world.sequences[self.index].lock().unwrap();
        PeppersAsked {
            receipt: receipt.clone(),
            first,
            digests: sequence
                .iter()
                .map(AccessReceipt::digest)
                .take(usize::try_from(end).unwrap())
                .skip(usize::try_from(first).unwrap())
                .collect(),
            records,
        }
    }

    fn write(&self, receipt: AccessReceipt, records: &[(RecordId, u32)]) -> DurableReceipt {
        let log = Sequence(&self.world.sequences[self.index]);
        let written = DurableReceipt::write(&log, receipt, records.iter().copied());
        written.now_or_never().unwrap().unwrap()
    }

    /// Whether it releases what belongs to one request, with a receipt of its own.
    fn releases(
        &self,
        actor: &Actor,
        request: &ReadRequest,
        own: &DurableReceipt,
        now_ms: u64,
        (asker, shown): (usize, &AccessReceipt),
    ) -> bool {
        let limit_ms = match self.story().fault {
            Some(Fault::NoBound) => u64::MAX,
            Some(Fault::NoSequence) | None => BOUND_MS,
        };
        let now = self.clock(now_ms);
        let consent = LiveConsent::new(&self.view, actor).unwrap();
        match custodian::judge(request, &consent, own, now, limit_ms) {
            Ok(()) => {}
            Err(stele_vault::Error::Stale { .. }) => {
                self.count(|counts| counts.stale += 1);
                return false;
            }
            Err(stele_vault::Error::Refused { .. }) => {
                self.count(|counts| counts.refused += 1);
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        self.world.releases.lock().unwrap().push(Release {
            custodian: self.index,
            asker,
            slot: request.slot,
            now_ms,
            height: self.view.height(),
            anchored: self.view.anchored_head(shown.organization).unwrap().0,
            receipt: shown.clone(),
            own: own.receipt().sequence,
        });
        true
    }

    /// What a question of another member is answered with: trees, as a bit set.
    fn answer(&self, from: usize, asked: &SharesAsked, now_ms: u64) -> u16 {
        let own = organization(self.index);
        let held = self.story().custody().held_by(own.0);
        if self.story().careless == Some(self.index) {
            return held;
        }
        let now = self.clock(now_ms);
        let judged = match judge_shares(&self.view, now, (organization(from), own), asked) {
            Ok(judged) => judged,
            Err(Error::NotPermitted { .. }) => {
                self.count(|counts| counts.unreceipted += 1);
                return 0;
            }
            // It rests on what is not final here yet.
            Err(Error::Member { .. }) => return 0,
            Err(error) => panic!("{error}"),
        };
        let receipt = AccessReceipt {
            organization: own.0,
            at_ms: now.0,
            actor: judged.actor.account,
            log: judged.log,
            action: judged.action.code(),
            allowed: !judged.kept.is_empty(),
            categories: judged.slots,
            purposes: judged.actor.purpose_bits(),
            records: u32::try_from(judged.kept.len()).unwrap(),
            records_digest: records_digest(&judged.kept),
            salt: keccak256(asked.access.receipt.digest()),
            ..AccessReceipt::default()
        };
        let written = self.write(receipt, &judged.kept);
        if judged.kept.is_empty() {
            self.count(|counts| counts.refused += 1);
            return 0;
        }
        let shown = (from, &asked.access.receipt);
        let mut given = 0;
        for (request, wanted) in judged.requests.iter().zip(&asked.wanted) {
            if self.releases(&judged.actor, request, &written, now_ms, shown) {
                given |= held & wanted.trees;
            }
        }
        given
    }

    /// Keeps a read until all its shares are here.
    fn note(&mut self, reading: Reading) {
        const KEPT: usize = 16;
        self.reading.push(reading);
        if self.reading.len() > KEPT {
            self.reading.remove(0);
        }
    }

    fn take(&mut self, digest: B256, trees: u16) {
        let all = self.story().custody().all_trees();
        let Some(reading) = self.reading.iter_mut().find(|one| one.digest == digest) else {
            return;
        };
        let before = reading.trees;
        reading.trees |= trees;
        if before != all && reading.trees == all {
            let mut reads = self.world.reads.lock().unwrap();
            reads.push((self.index, digest));
        }
    }
}

impl Beside for Custodian {
    fn wake(&mut self, now_ms: u64) -> Vec<(usize, Vec<u8>)> {
        self.wakes += 1;
        if self.index == self.story().custodians[0] {
            self.decide(Timestamp(now_ms));
        }
        if self.wakes.is_multiple_of(ANCHORING) {
            self.anchor();
        }
        let asks = [self.story().grantee, self.story().stranger].contains(&self.index);
        if !asks || now_ms > ASKED_UNTIL_MS {
            return Vec::new();
        }
        let choice = self.world.random[self.index].lock().unwrap().below(12);
        match choice {
            0 => self.ask(now_ms, OTHER_SLOT),
            1..5 => self.ask(now_ms, GRANTED_SLOT),
            _ => Vec::new(),
        }
    }

    fn hear(&mut self, from: usize, message: &[u8], now_ms: u64) -> Vec<(usize, Vec<u8>)> {
        match serde_json::from_slice(message).unwrap() {
            Message::Ask(asked) => {
                let trees = self.answer(from, &asked, now_ms);
                // The asker knows its read by the receipt it wrote, which a forged one stands for.
                let digest = asked.access.receipt.digest();
                let given = serde_json::to_vec(&Message::Given(digest, trees)).unwrap();
                vec![(from, given)]
            }
            Message::Given(digest, trees) => {
                self.take(digest, trees);
                Vec::new()
            }
        }
    }
}
