//! Which validators finalize which blocks: the epochs known from final blocks, and what the next block has to say of
//! them.
//!
//! Blocks that are not final all belong to one epoch, that of the block after the last final one: the last block of an
//! epoch must be final before anybody builds on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use alloy_primitives::{Address, B256, Bytes};
use stele_core::{
    block::{Block, Header, Receipt, Validator, validators_hash},
    certificate::CommitCertificate,
    epoch::{Change, ChangeError, Epoch, is_turn},
    id::GOVERNANCE,
};

use crate::{
    chain::Chain,
    contracts::governance,
    error::{Error, InvalidBlock},
    executor::expect,
    genesis::Genesis,
    state::{self, StateView},
};

/// The epochs known from final blocks.
pub(crate) struct Epochs(RwLock<Known>);

struct Known {
    /// From epoch 0 to that of the next block.
    epochs: Vec<Arc<Epoch>>,
    current: Arc<Epoch>,
    /// What ended an epoch by hand, by its number.
    recoveries: BTreeMap<u64, Change>,
    /// The set that the decisions so far seat.
    decided: B256,
    /// The set that the last final block announces.
    announced: B256,
}

/// What a block says of validators.
pub(crate) struct Turn {
    pub(crate) epoch: u64,
    pub(crate) next_validators_hash: B256,
    /// The set behind the hash, if the block announces another than its epoch's.
    pub(crate) announced: Option<Vec<Validator>>,
    /// What the block puts into the state before any transaction.
    pub(crate) seating: Option<Seating>,
}

/// What the first block after an epoch that was ended by hand puts into the state before any transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seating {
    /// Exactly these validators have seats, ascending by key.
    pub validators: Vec<Validator>,
    /// These organisations had seats and have none now: they are suspended, so that those who are left can decide. A
    /// vote reinstates them.
    pub suspended: Vec<Address>,
}

impl Epochs {
    /// Finds the epochs of a stored chain.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub(crate) fn load(
        genesis: &Genesis,
        genesis_block: &Block,
        view: &StateView,
    ) -> Result<Self, Error> {
        let first = epoch(0, 0, genesis_block.hash(), genesis.seats())?;
        let head = view.head().map_or(0, |head| head.height);
        let missing = |height| state::Error::damaged(height, "the block is missing");
        let header = |height| {
            view.header(height)
                .and_then(|found| found.ok_or_else(|| missing(height)))
        };
        let last = header(head)?;
        let mut epochs = vec![Arc::new(first)];
        let mut recoveries = BTreeMap::new();
        for number in 1..=last.epoch {
            let before = number.saturating_sub(1);
            if let Some(change) = view.recovery(before)? {
                epochs.push(Arc::new(recovered(before, &change)?));
                recoveries.insert(before, change);
                continue;
            }
            // Epochs ascend with height, so each begins where a bisection ends.
            let mut below = epochs.last().map_or(0, |before| before.first());
            let mut at = head;
            while below.saturating_add(1) < at {
                let middle = below.midpoint(at);
                if header(middle)?.epoch < number {
                    below = middle;
                } else {
                    at = middle;
                }
            }
            let base = header(at.saturating_sub(1))?;
            epochs.push(Arc::new(following(number, &base, view)?));
        }
        let mut current = epochs.last().map(Arc::clone).ok_or(INVARIANT)?;
        if current.last(&last) == Some(head) {
            current = Arc::new(following(last.epoch.saturating_add(1), &last, view)?);
            epochs.push(Arc::clone(&current));
        }
        // An epoch of which no block is final can have been ended by hand, too.
        while let Some(change) = view.recovery(current.number())? {
            let ended = current.number();
            current = Arc::new(recovered(ended, &change)?);
            epochs.push(Arc::clone(&current));
            recoveries.insert(ended, change);
        }
        let announced = if head < current.first() {
            current.hash()
        } else {
            last.next_validators_hash
        };
        Ok(Self(RwLock::new(Known {
            decided: validators_hash(&seated(view)?),
            announced,
            recoveries,
            epochs,
            current,
        })))
    }

    /// Knows from now on what `other` knows.
    pub(crate) fn replace(&self, other: Self) {
        let known = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    pub(crate) fn current(&self) -> Arc<Epoch> {
        Arc::clone(&self.read().current)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a block on `parent` says, `view` being the state after the parent. `None` if the parent is the last block
    /// of its epoch and not final: nothing may stand on it yet.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub(crate) fn turn(
        &self,
        parent: &Header,
        view: &StateView,
    ) -> Result<Option<Turn>, state::Error> {
        let current = self.current();
        if current.last(parent) == Some(parent.number) {
            return Ok(None);
        }
        let mut turn = Turn {
            epoch: current.number(),
            next_validators_hash: parent.next_validators_hash,
            announced: None,
            seating: None,
        };
        if let Some(seating) = self.seating(parent.number.saturating_add(1)) {
            turn.next_validators_hash = current.hash();
            turn.seating = Some(seating);
            return Ok(Some(turn));
        }
        if is_turn(parent.number) {
            let validators = seated(view)?;
            turn.next_validators_hash = validators_hash(&validators);
            turn.announced = (turn.next_validators_hash != current.hash()).then_some(validators);
        }
        Ok(Some(turn))
    }

    /// What the block at a height puts into the state before any transaction, if it is the first after an epoch that was
    /// ended by hand.
    pub(crate) fn seating(&self, height: u64) -> Option<Seating> {
        let known = self.read();
        let mut begun = known.epochs.iter().rev();
        let begun = begun.find(|epoch| epoch.first() == height)?;
        let ended = begun.number().checked_sub(1)?;
        known.recoveries.get(&ended)?;
        let mut lost = BTreeSet::new();
        let mut after = begun;
        // An epoch of which no block is final was ended at the same height as the one before it.
        for epoch in known.epochs.iter().rev() {
            if epoch.number() >= begun.number() {
                continue;
            }
            if after.first() != height || !known.recoveries.contains_key(&epoch.number()) {
                break;
            }
            lost.extend(epoch.validators().iter().map(|seat| seat.organization));
            after = epoch;
        }
        for seat in begun.validators() {
            lost.remove(&seat.organization);
        }
        Some(Seating {
            validators: begun.validators().to_vec(),
            suspended: lost.into_iter().collect(),
        })
    }

    /// The epoch with this number, if it is known.
    pub(crate) fn numbered(&self, number: u64) -> Option<Arc<Epoch>> {
        let known = self.read();
        let mut epochs = known.epochs.iter();
        epochs.find(|epoch| epoch.number() == number).cloned()
    }

    /// What ended an epoch by hand.
    pub(crate) fn recovery(&self, epoch: u64) -> Option<Change> {
        self.read().recoveries.get(&epoch).cloned()
    }

    /// What ended epochs by hand, with their numbers.
    pub(crate) fn recoveries(&self) -> Vec<(u64, Change)> {
        let known = self.read();
        let all = known.recoveries.iter();
        all.map(|(epoch, change)| (*epoch, change.clone()))
            .collect()
    }

    /// Takes note that the newest epoch was ended by hand at the last final block.
    ///
    /// # Errors
    /// The validators that follow are no set.
    pub(crate) fn recovered(&self, change: &Change) -> Result<(), Error> {
        let ended = self.current().number();
        let next = Arc::new(recovered(ended, change)?);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.announced = next.hash();
        known.recoveries.insert(ended, change.clone());
        known.epochs.push(Arc::clone(&next));
        known.current = next;
        Ok(())
    }

    /// Takes note of a final block; `view` is the state after it.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub(crate) fn committed(
        &self,
        header: &Header,
        receipts: &[Receipt],
        view: &StateView,
    ) -> Result<(), Error> {
        let current = self.current();
        let next = if current.last(header) == Some(header.number) {
            let number = current.number().saturating_add(1);
            Some(Arc::new(following(number, header, view)?))
        } else {
            None
        };
        let mut logs = receipts.iter().flat_map(|receipt| &receipt.logs);
        let is_seating = self.seating(header.number).is_some();
        let decided = if is_seating || logs.any(|log| log.address == GOVERNANCE) {
            Some(validators_hash(&seated(view)?))
        } else {
            None
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.announced = header.next_validators_hash;
        known.decided = decided.unwrap_or(known.decided);
        if let Some(next) = next {
            known.epochs.push(Arc::clone(&next));
            known.current = next;
        }
        Ok(())
    }
}

impl Turn {
    /// Refuses a header that says something else.
    pub(crate) fn check(&self, header: &Header) -> Result<(), InvalidBlock> {
        expect("epoch", &self.epoch, &header.epoch)?;
        expect(
            "next validators hash",
            &self.next_validators_hash,
            &header.next_validators_hash,
        )
    }
}

/// The validators.
impl Chain {
    /// The epoch of the block after the last final one.
    #[must_use]
    pub fn epoch(&self) -> Arc<Epoch> {
        self.epochs.current()
    }

    /// The epochs from `number` on, as far as they are known from final blocks.
    #[must_use]
    pub fn epochs(&self, number: u64) -> Vec<Arc<Epoch>> {
        let known = self.epochs.read();
        let from = known.epochs.iter().filter(|epoch| epoch.number() >= number);
        from.cloned().collect()
    }

    /// Whether the validators will change: blocks are wanted until they have, also empty ones.
    #[must_use]
    pub fn validators_change(&self) -> bool {
        let known = self.epochs.read();
        let current = known.current.hash();
        known.decided != current || known.announced != current
    }

    /// Every change of validators so far, with what proves it to somebody who knows the first ones.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn validator_changes(&self) -> Result<Vec<Change>, state::Error> {
        self.changes_up_to(u64::MAX)
    }

    /// The changes of validators up to the beginning of epoch `number`.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub(crate) fn changes_up_to(&self, number: u64) -> Result<Vec<Change>, state::Error> {
        let view = self.view();
        let mut changes = Vec::new();
        let epochs = self.epochs(1).into_iter();
        for epoch in epochs.filter(|epoch| epoch.number() <= number) {
            if let Some(change) = self.epochs.recovery(epoch.number().saturating_sub(1)) {
                changes.push(change);
                continue;
            }
            let height = epoch.first().saturating_sub(1);
            let (header, certificate) = view
                .header(height)?
                .zip(view.certificate(height)?)
                .ok_or_else(|| state::Error::damaged(height, "the block is missing"))?;
            changes.push(Change {
                header: alloy_rlp::encode(header).into(),
                certificate,
                validators: epoch.validators().to_vec(),
                signatures: Vec::new(),
            });
        }
        Ok(changes)
    }
}

/// Final blocks for others.
impl Chain {
    /// Final blocks from height `from` on, encoded, with the certificate that names the last of them: as many as fit
    /// into 4 MiB, at least up to the first that has a certificate of its own. `None` if there are none.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    pub fn final_run(&self, from: u64) -> Result<Option<(Vec<Bytes>, Bytes)>, state::Error> {
        let view = self.view();
        let head = view.head().map_or(0, |head| head.height);
        let (mut blocks, mut bytes) = (Vec::new(), 0_usize);
        let mut run = None;
        for height in from.max(1)..=head {
            let Some((block, certificate)) = view.block(height)?.zip(view.certificate(height)?)
            else {
                break;
            };
            let is_named = CommitCertificate::decode(&certificate)
                .is_ok_and(|certificate| certificate.block == block.hash());
            let encoded = block.encode();
            bytes = bytes.saturating_add(encoded.len());
            blocks.push(encoded);
            if is_named {
                run = Some((blocks.len(), certificate));
            }
            let ends_epoch = self
                .epochs(1)
                .iter()
                .any(|epoch| epoch.first() == height.saturating_add(1));
            if run.is_some() && (ends_epoch || bytes >= RUN_BYTES || blocks.len() >= RUN_BLOCKS) {
                break;
            }
        }
        Ok(run.map(|(count, certificate)| {
            blocks.truncate(count);
            (blocks, certificate)
        }))
    }
}

/// Bytes of blocks after which a run ends. A block has at most twice as many.
const RUN_BYTES: usize = 4 << 20;
/// Blocks after which a run ends.
const RUN_BLOCKS: usize = 512;

/// The epoch that stands on `base`, the last block of the one before.
fn following(number: u64, base: &Header, view: &StateView) -> Result<Epoch, Error> {
    let announced = view.validators(base.next_validators_hash)?;
    let height = base.number;
    let announced =
        announced.ok_or_else(|| state::Error::damaged(height, "its validators are missing"))?;
    epoch(number, height.saturating_add(1), base.hash(), announced)
}

/// The epoch after the one with number `ended`, which a change ended by hand.
fn recovered(ended: u64, change: &Change) -> Result<Epoch, Error> {
    let unreadable = |error: ChangeError| Error::Genesis {
        problem: error.to_string(),
    };
    let base = change.header().map_err(unreadable)?;
    let first = base.number.saturating_add(1);
    let validators = change.validators.clone();
    epoch(ended.saturating_add(1), first, base.hash(), validators)
}

fn epoch(number: u64, first: u64, base: B256, validators: Vec<Validator>) -> Result<Epoch, Error> {
    Epoch::new(number, first, base, validators).map_err(|error| Error::Genesis {
        problem: error.to_string(),
    })
}

fn seated(view: &StateView) -> Result<Vec<Validator>, state::Error> {
    governance::read::seated(|address, slot| view.slot(address, slot))
}

const INVARIANT: state::Error = state::Error::Invariant("a chain without an epoch");
