//! What there is to tell: read from blocks and access receipts, each from a kept mark on.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, Log};
use alloy_sol_types::SolEvent as _;
use stele_core::{
    abi::{
        consent::IConsent::{Granted, Requested},
        emergency::IEmergency::Opened,
        identity::IIdentity::KeyAdded,
        records::IRecords::Anchored,
    },
    id::{CONSENT, EMERGENCY, IDENTITY, RECORDS},
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use tokio::sync::watch;

use super::{KEPT_MS, Notice, NoticeKind, day_of};
use crate::{
    Service,
    error::{Error, Result},
    ports::ReceiptView,
};

/// Receipts that are looked at in one go.
const RECEIPTS: u32 = 500;
/// Longest pause between two looks at the receipts, which wake nobody.
const PAUSE: Duration = Duration::from_secs(2);
/// Entries by the same author within this many milliseconds are told of once: a visit writes many.
const ENTRIES_MS: u64 = 600_000;
/// Pauses between two times of forgetting old notices: about an hour.
const FORGET_EVERY: u32 = 1_800;
const HEIGHT: &str = "notices/height";

impl Service {
    /// Tells people what happens to them, and sends what they want sent, until it is told to stop. Begins with what
    /// happens from the first start on.
    pub async fn run_notices(self: Arc<Self>, origin: String, stop: watch::Receiver<bool>) {
        let follows = Arc::clone(&self).follow_notices(stop.clone());
        tokio::join!(follows, self.send_notices(origin, stop));
    }

    async fn follow_notices(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut blocks = self.ledger.subscribe();
        let mut rounds = 0_u32;
        while !*stop.borrow() {
            let service = Arc::clone(&self);
            let forgets = rounds.is_multiple_of(FORGET_EVERY);
            rounds = rounds.wrapping_add(1);
            let looked = tokio::task::spawn_blocking(move || {
                if forgets {
                    let before = Timestamp(service.clock.now().0.saturating_sub(KEPT_MS));
                    service
                        .index
                        .local()
                        .forget_notices(before)
                        .map_err(Error::index("forgetting notices"))?;
                }
                service.look_at_blocks()?;
                service.look_at_reads()
            });
            if let Ok(Err(error)) = looked.await {
                tracing::error!(error = &error as &dyn std::error::Error, "notices.follow");
            }
            tokio::select! {
                // What was missed is in the ledger: only that there is something new counts.
                _ = blocks.recv() => {}
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.changed() => {}
            }
        }
    }

    fn look_at_blocks(&self) -> Result<()> {
        const WHAT: &str = "following blocks for notices";
        let local = self.index.local();
        let height = self.ledger.height();
        let mark = local.mark(HEIGHT).map_err(Error::index(WHAT))?;
        let from = mark.map_or(height, |mark| mark.min(height));
        for at in from.saturating_add(1)..=height {
            for receipt in self.ledger.receipts_of(at).map_err(Error::ledger(WHAT))? {
                self.look_at(&receipt)?;
            }
        }
        // Blocks without transactions come every few seconds; one write for all of them is enough.
        if mark != Some(height) {
            local.put_mark(HEIGHT, height).map_err(Error::index(WHAT))?;
        }
        Ok(())
    }

    /// Tells whom a transaction concerns. Looked at twice, it is told of once.
    pub(crate) fn look_at(&self, receipt: &ReceiptView) -> Result<()> {
        let at = Timestamp(receipt.position.timestamp_ms);
        let logs = &receipt.receipt.logs;
        let is_emergency = logs.iter().any(|log| log.address == EMERGENCY);
        for (place, log) in logs.iter().enumerate() {
            let Some((account, kind, who)) = told_by(log, is_emergency) else {
                continue;
            };
            let source = match (kind, who) {
                (NoticeKind::NewEntry, Some(author)) => {
                    format!("entry/{}/{author}", at.0 / ENTRIES_MS)
                }
                _ => format!("{}/{}/{place}", kind.name(), receipt.hash),
            };
            self.tell(account, &Notice { kind, at, who }, &source)?;
        }
        Ok(())
    }

    fn look_at_reads(&self) -> Result<()> {
        const WHAT: &str = "following reads for notices";
        let local = self.index.local();
        for organization in self.hosted_organizations()? {
            let name = format!("notices/reads/{}", organization.0);
            let (next, _) = local
                .receipt_head(organization.0)
                .map_err(Error::index(WHAT))?;
            let mark = local.mark(&name).map_err(Error::index(WHAT))?;
            let mut from = mark.unwrap_or(next);
            while from < next {
                let found = local
                    .receipts_from(organization.0, from, RECEIPTS)
                    .map_err(Error::index(WHAT))?;
                if found.is_empty() {
                    break;
                }
                for one in &found {
                    self.look_at_read(&one.receipt)?;
                    from = one.receipt.sequence.saturating_add(1);
                }
            }
            let reached = from.max(next);
            if mark != Some(reached) {
                local.put_mark(&name, reached).map_err(Error::index(WHAT))?;
            }
        }
        Ok(())
    }

    fn look_at_read(&self, receipt: &AccessReceipt) -> Result<()> {
        let is_read = matches!(
            AccessAction::from_code(receipt.action),
            Some(
                AccessAction::Read
                    | AccessAction::Search
                    | AccessAction::History
                    | AccessAction::Export
                    | AccessAction::Proof
            )
        );
        if !is_read || !receipt.allowed || receipt.actor == receipt.log {
            return Ok(());
        }
        let at = Timestamp(receipt.at_ms);
        let notice = Notice {
            kind: NoticeKind::RecordRead,
            at,
            who: Some(receipt.actor),
        };
        let source = format!("read/{}/{}", day_of(at), receipt.actor);
        self.tell(receipt.log, &notice, &source)
    }
}

/// Whom a log concerns, how, and who did it.
fn told_by(log: &Log, is_emergency: bool) -> Option<(Address, NoticeKind, Option<Address>)> {
    match log.address {
        CONSENT => {
            if let Ok(asked) = Requested::decode_log(log) {
                return Some((
                    asked.patient,
                    NoticeKind::AccessRequested,
                    Some(asked.requester),
                ));
            }
            // An emergency gives itself access; the patient is told of the emergency.
            let granted = Granted::decode_log(log).ok().filter(|_| !is_emergency)?;
            Some((
                granted.grantee,
                NoticeKind::AccessGranted,
                Some(granted.patient),
            ))
        }
        EMERGENCY => {
            let opened = Opened::decode_log(log).ok()?;
            Some((
                opened.patient,
                NoticeKind::Emergency,
                Some(opened.clinician),
            ))
        }
        RECORDS => {
            let anchored = Anchored::decode_log(log).ok()?;
            let by_others = anchored.author != anchored.log;
            by_others.then_some((anchored.log, NoticeKind::NewEntry, Some(anchored.author)))
        }
        IDENTITY => {
            let added = KeyAdded::decode_log(log).ok()?;
            Some((added.account, NoticeKind::NewDevice, None))
        }
        _ => None,
    }
}
