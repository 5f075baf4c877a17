//! Peppers between members: asked for with a durable receipt, released against the ledger's consent. This file is of
//! peppers that one custodian keeps, and of what all have in common; [`super::shares`] is of those that are shared.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_primitives::Address;
use parking_lot::Mutex;
use stele_core::{
    consent::Permissions,
    crypto::Secret32,
    id::{OrganizationId, RecordId},
    receipt::AccessAction,
};
use stele_vault::{
    RecordMeta,
    custodian::{DurableReceipt, Pepper, Permission},
};
use zeroize::Zeroizing;

use super::{
    Ask,
    rules::{LiveConsent, PeppersAsked, check_receipt, refused, shown_with},
};
use crate::{
    Service,
    error::{Error, Result},
    records::read_request,
    session::Actor,
};

/// One pepper in an answer: whether it is released, and 32 bytes.
const ENTRY_LEN: usize = 33;
/// First byte of an entry whose pepper is released.
const RELEASED: u8 = 1;
/// First byte of an entry whose pepper is shared with other custodians since: the record is to be fetched again.
const MOVED: u8 = 2;

/// Reads under way whose peppers are kept at most: each is one receipt.
const KEPT_MAX: usize = 1_024;

/// Who is asked for a record's pepper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keeper {
    /// The one custodian that keeps it: another member's.
    Member(Address),
    /// The custodians that share it, this node's among them where it is one.
    Shared,
}

impl Keeper {
    /// `None` where this node's custodian keeps the pepper alone.
    pub(crate) fn of(meta: &RecordMeta) -> Option<Self> {
        match &meta.shared {
            Some(_) => Some(Self::Shared),
            None => meta.custodian.map(Self::Member),
        }
    }
}

/// Record versions with what was released for each; `None` for a refusal.
pub(super) type Peppers = HashMap<(RecordId, u32), Option<Pepper>>;

/// What was released on one receipt.
struct Kept {
    /// Organisation and sequence number of the receipt.
    of: (Address, u64),
    /// Members that were asked for all of it.
    asked: BTreeSet<Address>,
    peppers: Peppers,
    /// From custodians that share, as far as they were asked.
    shared: Peppers,
}

/// Peppers that custodians released for reads under way.
#[derive(Default)]
pub(crate) struct Released {
    kept: Mutex<VecDeque<Kept>>,
    /// Whether a custodian said that it shares since what it kept alone.
    is_moved: AtomicBool,
}

impl Released {
    fn note_moved(&self) {
        self.is_moved.store(true, Ordering::Relaxed);
    }

    /// Whether copies of other members' records are to be looked at anew; says so once.
    pub(super) fn take_moved(&self) -> bool {
        self.is_moved.swap(false, Ordering::Relaxed)
    }

    fn keep(&self, receipt: &DurableReceipt, keeper: Keeper, peppers: Peppers) {
        let of = place_of(receipt);
        let mut all = self.kept.lock();
        let mut one = match all.iter().position(|one| one.of == of) {
            Some(found) => all.remove(found),
            None => None,
        }
        .unwrap_or_else(|| Kept {
            of,
            asked: BTreeSet::new(),
            peppers: HashMap::new(),
            shared: HashMap::new(),
        });
        match keeper {
            Keeper::Member(member) => {
                one.asked.insert(member);
                one.peppers.extend(peppers);
            }
            Keeper::Shared => one.shared.extend(peppers),
        }
        if all.len() >= KEPT_MAX {
            all.pop_front();
        }
        all.push_back(one);
    }

    fn is_asked(&self, receipt: &DurableReceipt, keeper: Keeper, meta: &RecordMeta) -> bool {
        let of = place_of(receipt);
        let all = self.kept.lock();
        all.iter().any(|one| {
            one.of == of
                && match keeper {
                    Keeper::Member(member) => one.asked.contains(&member),
                    Keeper::Shared => one.shared.contains_key(&(meta.record(), meta.version())),
                }
        })
    }

    /// What was released for a record version on this receipt.
    fn find(&self, receipt: &DurableReceipt, meta: &RecordMeta) -> Option<Pepper> {
        let of = place_of(receipt);
        let all = self.kept.lock();
        let one = all.iter().find(|one| one.of == of)?;
        let released = match meta.shared {
            Some(_) => &one.shared,
            None => &one.peppers,
        };
        let version = (meta.record(), meta.version());
        released.get(&version).cloned().flatten()
    }

    /// Forgets what was released for reads that have ended.
    pub(crate) fn forget<'a>(&self, receipts: impl Iterator<Item = &'a DurableReceipt>) {
        let mut all = self.kept.lock();
        for receipt in receipts {
            if all.is_empty() {
                return;
            }
            let of = place_of(receipt);
            all.retain(|one| one.of != of);
        }
    }
}

/// The records of a receipt that are asked for together with one of them: a receipt of maintenance covers all of a log,
/// and what is asked for too early may be forgotten before it is its turn.
fn together(receipt: &DurableReceipt, meta: &RecordMeta) -> Range<usize> {
    const TOGETHER: usize = 16;
    let version = (meta.record(), meta.version());
    let place = receipt.records().iter().position(|one| *one == version);
    let first = place.unwrap_or(receipt.records().len());
    first..first.saturating_add(TOGETHER)
}

fn place_of(receipt: &DurableReceipt) -> (Address, u64) {
    (receipt.receipt().organization, receipt.receipt().sequence)
}

impl Service {
    /// Asks the custodians of others (log, keeper) for the peppers of what is about to be opened, side by side, once for
    /// each receipt and custodian.
    pub(crate) async fn ask_keepers(
        self: &Arc<Self>,
        actor: &Actor,
        keepers: BTreeSet<(Address, Keeper)>,
        receipts: &BTreeMap<Address, DurableReceipt>,
    ) -> Result<()> {
        let asking = keepers.into_iter().filter_map(|(log, keeper)| {
            let receipt = receipts.get(&log)?;
            Some(async move {
                let peppers = match keeper {
                    Keeper::Member(custodian) => self.ask_alone(custodian, receipt).await?,
                    Keeper::Shared => self.gather_all(actor, receipt).await?,
                };
                self.released.keep(receipt, keeper, peppers);
                Ok(())
            })
        });
        futures::future::try_join_all(asking).await.map(drop)
    }

    async fn gather_all(
        self: &Arc<Self>,
        actor: &Actor,
        receipt: &DurableReceipt,
    ) -> Result<Peppers> {
        let (actor, covered) = (actor.clone(), receipt.clone());
        let gathering = self
            .read_blocking("releasing shares", move |service| {
                service.own_shares(&actor, &covered, 0..covered.records().len())
            })
            .await?;
        self.gather(receipt, gathering).await
    }

    /// What the one custodian of another member says; a refusal is one for every record.
    async fn ask_alone(&self, custodian: Address, receipt: &DurableReceipt) -> Result<Peppers> {
        let records = receipt.records().iter().copied();
        match self.fetch_peppers(OrganizationId(custodian), receipt).await {
            Ok(peppers) => Ok(records.zip(peppers).collect()),
            Err(Error::NotPermitted { .. }) => Ok(records.map(|one| (one, None)).collect()),
            Err(error) => Err(error),
        }
    }

    /// A record version's pepper: released here, by another member's custodian, or by those that share it, once this
    /// node's ledger permits the reading. To be called on a thread that may block.
    pub(crate) fn pepper_of(
        &self,
        actor: &Actor,
        meta: &RecordMeta,
        consent: &dyn Permission,
        receipt: &DurableReceipt,
    ) -> stele_vault::Result<Pepper> {
        let Some(keeper) = Keeper::of(meta) else {
            let request = read_request(actor, meta);
            let custodian = self.vault.custodian();
            return custodian.release(&request, consent, receipt, self.clock.now());
        };
        if !self.released.is_asked(receipt, keeper, meta) {
            let runtime = tokio::runtime::Handle::current();
            let asked = match keeper {
                Keeper::Member(custodian) => runtime.block_on(self.ask_alone(custodian, receipt)),
                Keeper::Shared => self
                    .own_shares(actor, receipt, together(receipt, meta))
                    .and_then(|gathering| runtime.block_on(self.gather(receipt, gathering))),
            };
            match asked {
                Ok(peppers) => self.released.keep(receipt, keeper, peppers),
                Err(Error::NotPermitted { message }) => return Err(no_pepper(meta, message)),
                Err(Error::Vault { source, .. }) => return Err(*source),
                Err(error) => {
                    return Err(stele_vault::Error::CustodianAway {
                        custodian: meta.custodian.unwrap_or(self.organization.0),
                        problem: error.to_string(),
                    });
                }
            }
        }
        self.released_pepper(actor, meta, consent, receipt)
    }

    /// As [`Self::pepper_of`], once [`Self::ask_keepers`] has asked.
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
        let released = self.released.find(receipt, meta);
        released.ok_or_else(|| no_pepper(meta, "no custodian releases it".into()))
    }

    /// Asks a custodian for the peppers of all that a receipt covers, in its order.
    async fn fetch_peppers(
        &self,
        custodian: OrganizationId,
        receipt: &DurableReceipt,
    ) -> Result<Vec<Option<Pepper>>> {
        const TRIES: u32 = 10;
        let from = OrganizationId(receipt.receipt().organization);
        let mut tries = 0;
        let answer = loop {
            let asked = Ask::Peppers(Box::new(self.access(receipt)?));
            match self.ask(from, custodian, asked).await {
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
        if entries.iter().any(|entry| entry.first() == Some(&MOVED)) {
            self.released.note_moved();
            return Err(Error::Member {
                message: format!(
                    "organisation {custodian} shares the records' peppers with others since; \
                     where is being asked, try again shortly"
                ),
            });
        }
        Ok(entries
            .iter()
            .map(|entry| {
                let (flag, pepper) = entry.split_first()?;
                let pepper: [u8; 32] = pepper.try_into().ok()?;
                (*flag == RELEASED).then(|| Pepper::received(Secret32::new(pepper)))
            })
            .collect())
    }

    /// An access as custodians are told of it: its receipt, and those before it that are not anchored yet.
    pub(super) fn access(&self, receipt: &DurableReceipt) -> Result<PeppersAsked> {
        const WHAT: &str = "asking a custodian";
        let of = receipt.receipt();
        let (first, end) = shown_with(self, of.organization, of.sequence)?;
        let count = end.saturating_sub(first);
        let chained = self
            .index
            .local()
            .receipts_from(
                of.organization,
                first,
                u32::try_from(count).unwrap_or(u32::MAX),
            )
            .map_err(Error::index(WHAT))?;
        Ok(PeppersAsked {
            receipt: of.clone(),
            first,
            digests: chained.into_iter().map(|one| one.digest).collect(),
            records: receipt.records().to_vec(),
        })
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
        check_receipt(&**self, self.clock.now(), asker, &asked)?;
        let actor = self.reader(asker, receipt.actor, receipt.purposes, log)?;
        let action =
            AccessAction::from_code(receipt.action).ok_or_else(|| refused("its action"))?;
        let open = self.open_slots(&actor, log, Permissions::READ)?;
        let (metas, moved) = self.asked_metas(&asked);
        if moved.iter().any(|is_moved| *is_moved) {
            // Nothing is released: whoever has a copy learns that it has to fetch it once more.
            let entry = |is_moved: &bool| {
                let mut entry = [0; ENTRY_LEN];
                if let (true, Some(first)) = (*is_moved, entry.first_mut()) {
                    *first = MOVED;
                }
                entry
            };
            return Ok(Zeroizing::new(moved.iter().flat_map(entry).collect()));
        }
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
            let consent = LiveConsent::new(&**service, &actor)?;
            service.release_all(&actor, &metas, &consent, &own)
        })
        .await
    }

    /// The metas of what is asked for, as far as this custodian keeps the peppers alone, and which of the others it kept
    /// alone once.
    fn asked_metas(&self, asked: &PeppersAsked) -> (Vec<Option<RecordMeta>>, Vec<bool>) {
        let found = asked.records.iter().map(|(record, version)| {
            let meta = self.vault.meta(record, *version).ok().flatten();
            let meta =
                meta.filter(|meta| meta.log == asked.receipt.log && meta.custodian.is_none());
            let is_moved = meta.as_ref().is_some_and(|meta| meta.shared.is_some());
            (meta.filter(|_| !is_moved), is_moved)
        });
        found.unzip()
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
                    answer.push(RELEASED);
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
}

fn no_pepper(meta: &RecordMeta, reason: String) -> stele_vault::Error {
    stele_vault::Error::Refused {
        record: meta.record(),
        reason,
    }
}
