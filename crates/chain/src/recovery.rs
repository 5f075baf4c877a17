//! The end of an epoch by hand: drafted from what is final here, held against it, and put into force.
//!
//! [`Recovery`] says what such a document is and who has to sign it. Here is seen that it fits this chain: it names the
//! last final block, those who signed are not suspended, and those it seats are organisations of the consortium. What is
//! final here and not part of it is never dropped silently: that is [`RecoveryRefused::Ahead`].

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use stele_core::{
    block::{Header, Validator},
    certificate::{CertificateError, CommitCertificate},
    epoch::{
        Epoch, VALIDATORS_MAX,
        recovery::{Recovery, RecoveryError},
    },
};

use crate::{
    chain::Chain,
    contracts::{
        governance,
        identity::{self, Kind},
    },
    epochs::Seating,
    error::{Error, RecoveryRefused},
    state,
};

/// What came of putting such a document into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The next epoch has begun, durably.
    New,
    /// It was in force before.
    Again,
}

impl Chain {
    /// The document that ends the present epoch at the last final block, without signatures.
    ///
    /// # Errors
    /// [`RecoveryRefused::Nothing`] before the first block, [`RecoveryRefused::Pending`] if later blocks are final that
    /// this node has not taken in; then what [`Chain::examine_recovery`] finds.
    pub fn draft_recovery(&self, validators: Vec<Validator>) -> Result<Recovery, RecoveryRefused> {
        let (head, hash) = self.finalized();
        if head.number == 0 {
            return Err(RecoveryRefused::Nothing);
        }
        let ended = self.epoch();
        let certificate = self.view().certificate(head.number)?.unwrap_or_default();
        let is_named = CommitCertificate::decode(&certificate)
            .is_ok_and(|certificate| certificate.block == hash);
        if !is_named && hash != ended.base() {
            return Err(RecoveryRefused::Pending { head: head.number });
        }
        let last = (&head, certificate);
        let recovery = Recovery::new(self.identity(), ended.number(), last, validators);
        self.examine_recovery(&recovery)?;
        Ok(recovery)
    }

    /// Whether a document ends the present epoch at the last final block here; how many have signed it is not counted.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn examine_recovery(&self, recovery: &Recovery) -> Result<(), RecoveryRefused> {
        self.place_of(recovery, |ended| recovery.examine(ended, self.identity()))
            .and_then(|place| match place {
                Place::Here(ended) => self.check_organizations(recovery, &ended),
                Place::Past => Err(RecoveryRefused::Over {
                    epoch: recovery.epoch,
                }),
            })
    }

    /// Puts a document into force that enough have signed; durable when this returns. No block that is not final may be
    /// on its way here.
    ///
    /// # Errors
    /// What is wrong first. [`RecoveryRefused::Ahead`] says that this node has final blocks that the consortium left
    /// behind.
    pub fn recover(&self, recovery: &Recovery) -> Result<Recovered, RecoveryRefused> {
        let verified = |ended: &Epoch| recovery.verify(ended, self.identity());
        let ended = match self.place_of(recovery, verified)? {
            Place::Here(ended) => ended,
            Place::Past => return Ok(Recovered::Again),
        };
        self.check_organizations(recovery, &ended)?;
        let change = recovery.change();
        self.state().recover(recovery.epoch, &change)?;
        self.renew()?;
        self.epochs.recovered(&change)?;
        Ok(Recovered::New)
    }

    /// Whether a document that enough have signed ends an epoch at a block that is final here, and is not in force yet.
    #[must_use]
    pub fn concerns(&self, recovery: &Recovery) -> bool {
        let Some(ended) = self.epochs.numbered(recovery.epoch) else {
            return false;
        };
        let chain = self.identity();
        let known = self.epochs.recovery(recovery.epoch);
        let known = known.and_then(|known| Recovery::of(chain, recovery.epoch, &known).ok());
        recovery.height <= self.finalized().0.number
            && known.is_none_or(|known| known.digest() != recovery.digest())
            && recovery.verify(&ended, chain).is_ok()
    }

    /// The documents that ended epochs here by hand, the oldest first.
    #[must_use]
    pub fn recoveries(&self) -> Vec<Recovery> {
        let all = self.epochs.recoveries().into_iter();
        all.filter_map(|(epoch, change)| Recovery::of(self.identity(), epoch, &change).ok())
            .collect()
    }

    /// What the block at a height put into the state before any transaction, if it is the first after an epoch that was
    /// ended by hand.
    #[must_use]
    pub fn seating(&self, height: u64) -> Option<Seating> {
        self.epochs.seating(height)
    }

    /// Chain id and genesis, as such documents name them.
    fn identity(&self) -> (u64, B256) {
        (self.genesis().chain_id, self.genesis_block().hash())
    }

    /// Holds a document against the blocks and epochs here.
    fn place_of(
        &self,
        recovery: &Recovery,
        check: impl FnOnce(&Epoch) -> Result<Header, RecoveryError>,
    ) -> Result<Place, RecoveryRefused> {
        let (head, _) = self.finalized();
        let behind = RecoveryRefused::Behind {
            head: head.number,
            height: recovery.height,
        };
        let Some(ended) = self.epochs.numbered(recovery.epoch) else {
            return Err(behind);
        };
        check(&ended)?;
        if let Some(known) = self.epochs.recovery(recovery.epoch) {
            let known = Recovery::of(self.identity(), recovery.epoch, &known);
            let known = known.map(|known| known.digest()).unwrap_or_default();
            let given = recovery.digest();
            if known == given {
                return Ok(Place::Past);
            }
            let epoch = recovery.epoch;
            return Err(RecoveryRefused::Other {
                epoch,
                known,
                given,
            });
        }
        if head.number < recovery.height {
            return Err(behind);
        }
        let stored = self.view().block_hash(recovery.height)?;
        let stored = stored.unwrap_or_default();
        if stored != recovery.block {
            return Err(RecoveryRefused::OtherBlock {
                height: recovery.height,
                stored,
                named: recovery.block,
            });
        }
        if head.number > recovery.height {
            return Err(self.ahead(recovery.height, head.number)?);
        }
        if ended.number() != self.epoch().number() {
            let epoch = recovery.epoch;
            return Err(RecoveryRefused::Over { epoch });
        }
        Ok(Place::Here(ended))
    }

    /// What is final here and not part of what the others go on with.
    fn ahead(&self, height: u64, head: u64) -> Result<RecoveryRefused, state::Error> {
        let view = self.view();
        let mut transactions = 0_u64;
        for lost in height.saturating_add(1)..=head {
            let count = view.transactions(lost)?.map_or(0, |found| found.len());
            transactions = transactions.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
        Ok(RecoveryRefused::Ahead {
            height,
            head,
            transactions,
        })
    }

    /// Whether all who signed may act at the last final block, and all who get a seat may have one.
    fn check_organizations(
        &self,
        recovery: &Recovery,
        ended: &Epoch,
    ) -> Result<(), RecoveryRefused> {
        let view = self.view();
        let read = |contract: Address, slot: U256| view.slot(contract, slot);
        let acts = |organization: Address| {
            let account = identity::read::account(read, organization)?;
            Ok::<_, state::Error>(account.kind == Kind::Organization && account.is_active())
        };
        for signature in &recovery.signatures {
            let seat = ended.validators().get(usize::from(signature.validator));
            let organization = seat.map(|seat| seat.organization).unwrap_or_default();
            if !acts(organization)? {
                return Err(RecoveryRefused::Suspended { organization });
            }
        }
        let seats = governance::read::validators(read)?;
        for Validator { key, organization } in &recovery.validators {
            let known = seats.iter().find(|seat| seat.key == *key);
            let is_theirs = known.is_none_or(|seat| seat.organization == *organization);
            if key.is_zero() || !is_theirs || !acts(*organization)? {
                return Err(RecoveryRefused::Seat {
                    key: *key,
                    organization: *organization,
                });
            }
        }
        let most = usize::try_from(VALIDATORS_MAX).unwrap_or(usize::MAX);
        if recovery.validators.len() > most {
            let error = CertificateError::Validators("there are more than 50");
            return Err(RecoveryError::Validators(error).into());
        }
        Ok(())
    }
}

/// Where a document belongs.
enum Place {
    /// It ends this epoch, the present one, at the last final block.
    Here(Arc<Epoch>),
    /// It has ended one.
    Past,
}

/// For whoever checks a chain from its beginning.
impl Chain {
    /// Puts into force what ended the present epoch by hand at the last final block, if `stored` says that something did.
    pub(crate) fn recover_as(&self, stored: &state::StateView) -> Result<(), Error> {
        loop {
            let ended = self.epoch().number();
            let Some(change) = stored.recovery(ended)? else {
                return Ok(());
            };
            let (head, _) = self.finalized();
            let wrong = |problem: String| Error::Certificate {
                height: head.number,
                problem,
            };
            let recovery = Recovery::of(self.identity(), ended, &change)
                .map_err(|error| wrong(error.to_string()))?;
            if recovery.height > head.number {
                return Ok(());
            }
            self.recover(&recovery)
                .map_err(|error| wrong(error.to_string()))?;
        }
    }
}
