//! Which validators decide which blocks, as the engine asks for it: the epochs known from committed blocks, and where
//! the newest ends as far as the blocks seen last tell.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use commonware_consensus::{
    simplex::scheme::ed25519::Scheme,
    types::{Epoch as EngineEpoch, EpochInfo, Epocher, Height},
};
use commonware_cryptography::certificate::{Provider, Scoped};
use stele_core::{
    block::Header,
    certificate::{CommitCertificate, ValidatorSet},
    epoch::Epoch,
};
use tokio::sync::watch;

use crate::{Application, Error, SignerSeed, certificate::engine_set};

/// The epochs. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Schedule(Arc<Inner>);

struct Inner {
    namespace: Vec<u8>,
    signers: Vec<SignerSeed>,
    known: RwLock<Known>,
    /// The number of the newest epoch.
    newest: watch::Sender<u64>,
}

struct Known {
    /// Ascending, from epoch 0.
    epochs: Vec<Planned>,
    /// Height of the last block of the newest epoch, once a block announced it.
    last: Option<u64>,
}

#[derive(Clone)]
struct Planned {
    epoch: Arc<Epoch>,
    scheme: Arc<Scheme>,
    /// The key that signs, if this validator has a seat.
    signer: Option<SignerSeed>,
}

/// An epoch about to begin.
pub(crate) struct Seat {
    pub(crate) epoch: Arc<Epoch>,
    pub(crate) scheme: Scheme,
    pub(crate) signer: SignerSeed,
}

impl Schedule {
    /// The epochs that the application knows.
    ///
    /// # Errors
    /// It knows none, or a validator's key is no Ed25519 key.
    pub(crate) fn new<A: Application>(
        application: &A,
        namespace: Vec<u8>,
        signers: Vec<SignerSeed>,
    ) -> Result<Self, Error> {
        let schedule = Self(Arc::new(Inner {
            namespace,
            signers,
            known: RwLock::new(Known {
                epochs: Vec::new(),
                last: None,
            }),
            newest: watch::channel(0).0,
        }));
        schedule.learn(application.epochs(0))?;
        schedule.see(&application.tip());
        if schedule.read().epochs.is_empty() {
            return Err(Error::Config {
                key: "validators",
                problem: "the ledger names none".to_owned(),
            });
        }
        Ok(schedule)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, epochs: Vec<Arc<Epoch>>) -> Result<(), Error> {
        for epoch in epochs {
            let validators = engine_set(epoch.set())?;
            let keys = epoch.set().keys();
            let mut signers = self.0.signers.iter();
            let signer = signers.find(|signer| keys.contains(&signer.public_key()));
            let signing = signer.and_then(|signer| {
                let key = signer.private_key();
                Scheme::signer(&self.0.namespace, validators.clone(), key)
            });
            let scheme = signing.unwrap_or_else(|| Scheme::verifier(&self.0.namespace, validators));
            let signer = signer.cloned();
            let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
            let next = u64::try_from(known.epochs.len()).unwrap_or(u64::MAX);
            if epoch.number() != next {
                continue;
            }
            known.epochs.push(Planned {
                epoch,
                scheme: Arc::new(scheme),
                signer,
            });
            known.last = None;
            drop(known);
            self.0.newest.send_replace(next);
        }
        Ok(())
    }

    /// Told of the number of the newest epoch.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    /// The newest epoch, if this validator has a seat in it.
    pub(crate) fn seat(&self) -> Option<Seat> {
        let newest = self.read().epochs.last()?.clone();
        Some(Seat {
            epoch: newest.epoch,
            scheme: Scheme::clone(&newest.scheme),
            signer: newest.signer?,
        })
    }

    /// The set of an epoch.
    pub(crate) fn set(&self, number: u64) -> Option<ValidatorSet> {
        let planned = self.planned(number)?;
        Some(planned.epoch.set().clone())
    }

    fn planned(&self, number: u64) -> Option<Planned> {
        let place = usize::try_from(number).ok()?;
        self.read().epochs.get(place).cloned()
    }

    /// Notes where the newest epoch ends, as one of its blocks, or its base, says. Blocks of two branches may differ
    /// in it until the height is final at which they part; the one seen last is the one that is being decided.
    pub(crate) fn see(&self, header: &Header) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = known.epochs.last() else {
            return;
        };
        let is_base = header.number.saturating_add(1) == newest.epoch.first();
        if is_base || header.epoch == newest.epoch.number() {
            known.last = newest.epoch.last(header);
        }
    }

    /// Height at which the newest epoch ends, once that is known.
    pub(crate) fn end(&self) -> Option<u64> {
        self.read().last
    }

    /// Whether the header ends the newest epoch.
    pub(crate) fn ends(&self, header: &Header) -> bool {
        let known = self.read();
        let newest = known.epochs.last();
        newest.is_some_and(|newest| newest.epoch.last(header) == Some(header.number))
    }

    /// Takes note of a committed block, and of the epoch that begins after it.
    ///
    /// # Errors
    /// A validator's key is no Ed25519 key.
    pub(crate) fn committed<A: Application>(
        &self,
        application: &A,
        header: &Header,
    ) -> Result<(), Error> {
        let next = u64::try_from(self.read().epochs.len()).unwrap_or(u64::MAX);
        if header.epoch.saturating_add(1) < next {
            // An old block that came again.
            return Ok(());
        }
        self.see(header);
        if self.ends(header) {
            self.learn(application.epochs(next))?;
        }
        Ok(())
    }

    /// Takes note of blocks that the application has taken by itself, and of all epochs up to the next block's.
    ///
    /// # Errors
    /// A validator's key is no Ed25519 key.
    pub(crate) fn leapt<A: Application>(&self, application: &A) -> Result<(), Error> {
        let next = u64::try_from(self.read().epochs.len()).unwrap_or(u64::MAX);
        self.learn(application.epochs(next))?;
        self.see(&application.tip());
        Ok(())
    }

    /// Whether a certificate is one of the newest epoch's validators.
    pub(crate) fn check(&self, certificate: &CommitCertificate) -> Result<(), Error> {
        let known = self.read();
        let newest = known
            .epochs
            .last()
            .map(|planned| Arc::clone(&planned.epoch));
        drop(known);
        let Some(newest) = newest else {
            return Ok(());
        };
        let block = certificate.block;
        certificate
            .verify_in(newest.number(), &block, newest.set(), &self.0.namespace)
            .map_err(Error::Fetched)
    }
}

impl Epocher for Schedule {
    fn containing(&self, height: Height) -> Option<EpochInfo> {
        let known = self.read();
        let at = height.get();
        let after = known
            .epochs
            .partition_point(|planned| planned.epoch.first() <= at);
        let planned = known.epochs.get(after.checked_sub(1)?)?;
        let number = EngineEpoch::new(planned.epoch.number());
        let first = Height::new(planned.epoch.first());
        let last = last_of(&known, after)?;
        (height <= last).then(|| EpochInfo::new(number, height, first, last))
    }

    fn first(&self, epoch: EngineEpoch) -> Option<Height> {
        Some(Height::new(self.planned(epoch.get())?.epoch.first()))
    }

    fn last(&self, epoch: EngineEpoch) -> Option<Height> {
        let known = self.read();
        let place = usize::try_from(epoch.get()).ok()?;
        last_of(&known, place.checked_add(1)?)
    }
}

/// Last height of the epoch before the one at `next`.
fn last_of(known: &Known, next: usize) -> Option<Height> {
    match known.epochs.get(next) {
        Some(next) => Some(Height::new(next.epoch.first().checked_sub(1)?)),
        None if next == known.epochs.len() => Some(Height::new(known.last.unwrap_or(NO_END))),
        None => None,
    }
}

impl Provider for Schedule {
    type Scope = EngineEpoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: EngineEpoch) -> Option<Scoped<Scheme>> {
        let planned = self.planned(epoch.get())?;
        Some(if planned.signer.is_some() {
            Scoped::scheme(planned.scheme)
        } else {
            Scoped::verifier(planned.scheme)
        })
    }
}

/// Last height of an epoch that goes on for ever. One less than the largest, so that lengths can be computed.
const NO_END: u64 = u64::MAX - 1;
