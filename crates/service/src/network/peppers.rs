//! Peppers between members: asked for with a durable receipt, released against the ledger's consent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use stele_core::{
    consent::Permissions,
    crypto::Secret32,
    id::{OrganizationId, RecordId},
    receipt::{AccessAction, next_head},
    time::Timestamp,
};
use stele_vault::{
    RecordMeta,
    custodian::{DurableReceipt, Pepper, Permission},
};
use zeroize::Zeroizing;

use super::{Ask, PeppersAsked};
use crate::{
    Service,
    audit::{LiveConsent, records_digest},
    error::{Error, Result},
    records::read_request,
    session::Actor,
};

/// Receipts between an anchored head and the one a question rests on.
const CHAINED_MAX: usize = 8_192;
/// Oldest receipt that peppers are released on, in milliseconds.
const RECEIPT_AGE_MS: u64 = 300_000;
/// One pepper in an answer: whether it is released, and 32 bytes.
const ENTRY_LEN: usize = 33;

/// Reads under way whose peppers are kept at most: each is one receipt.
const KEPT_MAX: usize = 64;

/// A receipt by its sequence, and what was released on it by record version; `None` for a refusal.
type Kept = ((Address, u64), HashMap<(RecordId, u32), Option<Pepper>>);

/// Peppers that other members' custodians released for reads under way.
#[derive(Default)]
pub(crate) struct Released(Mutex<VecDeque<Kept>>);

impl Released {
    fn keep(&self, receipt: &DurableReceipt, peppers: Vec<Option<Pepper>>) {
        let of = (receipt.receipt().organization, receipt.receipt().sequence);
        let released = receipt.records().iter().copied().zip(peppers);
        let mut kept = self.0.lock();
        kept.retain(|one| one.0 != of);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((of, released.collect()));
    }

    /// What a custodian said of a record version on this receipt; the outer `None` if it was not asked.
    fn find(&self, receipt: &DurableReceipt, meta: &RecordMeta) -> Option<Option<Pepper>> {
        let of = (receipt.receipt().organization, receipt.receipt().sequence);
        let kept = self.0.lock();
        let (_, released) = kept.iter().find(|one| one.0 == of)?;
        released.get(&(meta.record(), meta.version())).cloned()
    }

    /// Forgets what was released for reads that have ended.
    pub(crate) fn forget<'a>(&self, receipts: impl Iterator<Item = &'a DurableReceipt>) {
        let mut kept = self.0.lock();
        for receipt in receipts {
            if kept.is_empty() {
                return;
            }
            let of = (receipt.receipt().organization, receipt.receipt().sequence);
            kept.retain(|one| one.0 != of);
        }
    }
}

impl Service {
    /// Asks the custodians of other members (log, custodian) for the peppers of what is about to be opened, once for
    /// each receipt.
    pub(crate) async fn ask_custodians(
        self: &Arc<Self>,
        custodians: BTreeSet<(Address, Address)>,
        receipts: &BTreeMap<Address, DurableReceipt>,
    ) -> Result<()> {
        for (log, custodian) in custodians {
            let Some(receipt) = receipts.get(&log) else {
                continue;
            };
            match self.fetch_peppers(OrganizationId(custodian), receipt).await {
                Ok(peppers) => self.released.keep(receipt, peppers),
                Err(Error::NotPermitted { .. }) => {
                    let refused = vec![None; receipt.records().len()];
                    self.released.keep(receipt, refused);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A pepper that another member's custodian keeps, once this node's ledger permits the reading too. To be called
    /// on a thread that may block.
    pub(crate) fn pepper_from(
        &self,
        custodian: Address,
        actor: &Actor,
        meta: &RecordMeta,
        consent: &dyn Permission,
        receipt: &DurableReceipt,
    ) -> stele_vault::Result<Pepper> {
        if self.released.find(receipt, meta).is_none() {
            let asking = self.fetch_peppers(OrganizationId(custodian), receipt);
            match tokio::runtime::Handle::current().block_on(asking) {
                Ok(peppers) => self.released.keep(receipt, peppers),
                Err(Error::NotPermitted { message }) => return Err(no_pepper(meta, message)),
                Err(error) => {
                    return Err(stele_vault::Error::CustodianAway {
                        custodian,
                        problem: error.to_string(),
                    });
                }
            }
        }
        self.released_pepper(actor, meta, consent, receipt)
    }

    /// As [`Self::pepper_from`], once [`Self::ask_custodians`] has asked.
    pub(crate) fn released_pepper(
        &self,
        actor: &Actor,
        meta: &RecordMeta,
        consent: &dyn Permission,
        receipt: &DurableReceipt,
    ) -> stele_vault::Result<Pepper> {
        consent
            .check(&read_request(actor, meta), self.clock.now())
            .map_err(|denied| no_pepper(meta, denied.reason))?;
        let released = self.released.find(receipt, meta).flatten();
        released.ok_or_else(|| no_pepper(meta, "its custodian does not release it".into()))
    }

    /// Asks a custodian for the peppers of all that a receipt covers, in its order.
    async fn fetch_peppers(
        &self,
        custodian: OrganizationId,
        receipt: &DurableReceipt,
    ) -> Result<Vec<Option<Pepper>>> {
        const WHAT: &str = "asking a custodian";
        const TRIES: u32 = 10;
        let of = receipt.receipt();
        let mut tries = 0;
        let answer = loop {
            let batches = self
                .index
                .chain()
                .receipt_batches(of.organization, of.sequence)
                .map_err(Error::index(WHAT))?;
            let first = match batches.first() {
                Some(batch) => batch.first,
                None => self.anchored_head(of.organization)?.0,
            };
            let count = of.sequence.saturating_sub(first).saturating_add(1);
            let chained = self
                .index
                .local()
                .receipts_from(
                    of.organization,
                    first,
                    u32::try_from(count).unwrap_or(u32::MAX),
                )
                .map_err(Error::index(WHAT))?;
            let asked = PeppersAsked {
                receipt: of.clone(),
                first,
                digests: chained.into_iter().map(|one| one.digest).collect(),
                records: receipt.records().to_vec(),
            };
            let from = OrganizationId(of.organization);
            match self
                .ask(from, custodian, Ask::Peppers(Box::new(asked)))
                .await
            {
                Ok(answer) => break answer,
                // The other member may be a block behind this one.
                Err(Error::Member { .. }) if tries < TRIES => {
                    tries = tries.saturating_add(1);
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let (entries, left) = answer.as_chunks::<ENTRY_LEN>();
        if !left.is_empty() || entries.len() != receipt.records().len() {
            return Err(Error::Member {
                message: format!("the answer of organisation {custodian} has a wrong length"),
            });
        }
        Ok(entries
            .iter()
            .map(|entry| {
                let (flag, pepper) = entry.split_first()?;
                let pepper: [u8; 32] = pepper.try_into().ok()?;
                (*flag == 1).then(|| Pepper::received(Secret32::new(pepper)))
            })
            .collect())
    }

    /// Releases peppers to another member: for an access that it has written into its own sequence, by somebody of
    /// its own whom the patient's live grant allows it, and only once the access stands in this node's sequence too.
    pub(super) async fn release_peppers(
        self: &Arc<Self>,
        asker: OrganizationId,
        asked: PeppersAsked,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "releasing peppers to a member";
        let receipt = &asked.receipt;
        let log = receipt.log;
        self.check_receipt(asker, &asked)?;
        let actor = self.reader(asker, receipt.actor, receipt.purposes, log)?;
        let action =
            AccessAction::from_code(receipt.action).ok_or_else(|| refused("its action"))?;
        let open = self.open_slots(&actor, log, Permissions::READ)?;
        let metas: Vec<Option<RecordMeta>> = asked
            .records
            .iter()
            .map(|(record, version)| {
                let meta = self.vault.meta(record, *version).ok().flatten()?;
                (meta.log == log && meta.custodian.is_none()).then_some(meta)
            })
            .collect();
        let all = metas.iter().flatten();
        let slots = all.fold(0_u64, |slots, meta| {
            slots
                | 1_u64
                    .checked_shl(meta.preimage.category_slot.into())
                    .unwrap_or(0)
        });
        let kept: Vec<(RecordId, u32)> = metas
            .iter()
            .flatten()
            .filter(|meta| open >> meta.preimage.category_slot & 1 == 1)
            .map(|meta| (meta.record(), meta.version()))
            .collect();
        if kept.is_empty() || actor.purposes.is_empty() {
            self.refuse(&actor, log, action, slots, &[]).await?;
            return Err(refused(
                "the patient's consent: no live grant opens these records",
            ));
        }
        let own = self.receipt(&actor, log, action, slots & open, &kept);
        let own = self.write_receipt(own, &kept).await?;
        self.read_blocking(WHAT, move |service| {
            let consent = LiveConsent::new(service, &actor)?;
            service.release_all(&actor, &metas, &consent, &own)
        })
        .await
    }

    fn release_all(
        &self,
        actor: &Actor,
        metas: &[Option<RecordMeta>],
        consent: &LiveConsent<'_>,
        own: &DurableReceipt,
    ) -> Result<Zeroizing<Vec<u8>>> {
        use stele_vault::Error as Vault;
        let mut answer = Zeroizing::new(Vec::with_capacity(metas.len().saturating_mul(ENTRY_LEN)));
        for meta in metas {
            let released = meta.as_ref().map(|meta| {
                let request = read_request(actor, meta);
                let custodian = self.vault.custodian();
                custodian.release(&request, consent, own, self.clock.now())
            });
            match released {
                Some(Ok(pepper)) => {
                    answer.push(1);
                    answer.extend_from_slice(pepper.secret().expose());
                }
                None
                | Some(Err(
                    Vault::Refused { .. } | Vault::Erased { .. } | Vault::NoReceipt { .. },
                )) => {
                    answer.extend_from_slice(&[0; ENTRY_LEN]);
                }
                Some(Err(error)) => return Err(Error::vault("releasing a pepper")(error)),
            }
        }
        Ok(answer)
    }

    /// Whether a receipt is one of the asker's sequence as it is anchored, covers these records, and is of now.
    fn check_receipt(&self, asker: OrganizationId, asked: &PeppersAsked) -> Result<()> {
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
        let age_ms = self.clock.now().0.abs_diff(Timestamp(receipt.at_ms).0);
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
        self.check_chained(asker, asked.first, &asked.digests)
    }

    /// Follows the asker's hash chain from the anchored head before `first` and holds it against every later one.
    fn check_chained(&self, asker: OrganizationId, first: u64, digests: &[B256]) -> Result<()> {
        const WHAT: &str = "reading a member's anchored receipts";
        let behind = || Error::Member {
            message: format!("receipt {first} of organisation {asker} is not anchored here yet"),
        };
        let chain = self.index.chain();
        let batches = chain
            .receipt_batches(asker.0, first.saturating_sub(1))
            .map_err(Error::index(WHAT))?;
        let ends = |batch: &stele_index::network::ReceiptBatch| {
            batch.first.saturating_add(u64::from(batch.count))
        };
        let mut head = match first {
            0 => B256::ZERO,
            _ => batches
                .iter()
                .find(|batch| ends(batch) == first)
                .map(|batch| batch.head)
                .ok_or_else(behind)?,
        };
        let heads: BTreeMap<u64, B256> = batches
            .iter()
            .map(|batch| (ends(batch), batch.head))
            .collect();
        let mut at = first;
        for digest in digests {
            head = next_head(head, *digest);
            at = at.saturating_add(1);
            if heads.get(&at).is_some_and(|anchored| *anchored != head) {
                tracing::error!(organization = %asker, sequence = at, "a member shows another sequence of receipts than it anchored");
                return Err(refused("its receipts: they are not the anchored ones"));
            }
        }
        Ok(())
    }
}

fn refused(what: &str) -> Error {
    Error::NotPermitted {
        message: format!("the custodian refuses for {what}"),
    }
}

fn no_pepper(meta: &RecordMeta, reason: String) -> stele_vault::Error {
    stele_vault::Error::Refused {
        record: meta.record(),
        reason,
    }
}
