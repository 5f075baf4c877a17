//! The custodian: holds every record's pepper and releases it only with consent and a receipt.
//!
//! A record's content key needs the key in its envelope *and* its pepper, so whoever was granted
//! keys still reads nothing without asking here. The custodian releases a pepper only
//! 1. against a [`DurableReceipt`], which exists only after the access receipt was made durable;
//! 2. for exactly the records that receipt covers, and the actor and log it names;
//! 3. while the ledger's finalized state permits it ([`Permission`]);
//! 4. while that state is fresh: not older than the staleness bound.
//!
//! Peppers are not stored one by one: each is derived from shred trees. A pepper is as random as the
//! trees' seeds, needs no write, and erasing a record punctures the trees, after which nobody can
//! derive it. Where this custodian is the only one there is one tree, of its own; where custodians
//! share peppers by threshold ([`crate::custody`]) each releases its shares under the same rules. The
//! custodian never sees an envelope, a key or a plaintext.

use std::{
    collections::BTreeSet,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use alloy_primitives::{Address, B128};
use futures::future::BoxFuture;
use stele_core::{
    crypto::Secret32,
    id::{LogId, RecordId},
    receipt::AccessReceipt,
    time::Timestamp,
};

use crate::{
    custody::{Before, Custodies, Custody, ErasedPlace, ShareOf, SharedPepper, Undealt},
    error::{Error, Result},
    shred::ShredTree,
};

/// Oldest finalized state a release may rest on, in milliseconds, unless governance says otherwise.
pub const STALENESS_MS: u64 = 60_000;

/// A record version's pepper: half of what its content key is made from.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper(Secret32);

impl Pepper {
    pub(crate) const fn new(secret: Secret32) -> Self {
        Self(secret)
    }

    /// What another organisation's custodian released.
    #[must_use]
    pub const fn received(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The secret, for the one who derives the content key elsewhere (a patient's browser).
    #[must_use]
    pub const fn secret(&self) -> &Secret32 {
        &self.0
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// One reading of one record version, as the custodian judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The log the record stands in.
    pub log: LogId,
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: u32,
    /// Its category slot.
    pub slot: u8,
    /// Who asks.
    pub actor: Address,
    /// Purposes claimed, as the bits of `stele_core::consent`.
    pub purposes: u16,
}

/// A yes of the ledger, and how fresh it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Timestamp of the finalized block the answer rests on.
    pub finalized_at: Timestamp,
}

/// A no of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why, without names or clinical content.
    pub reason: String,
}

/// Whether the ledger's live, finalized state permits a reading.
///
/// Implemented over the ledger by whoever wires the node. Expiry is judged by the later of the
/// finalized block's time and `now`.
pub trait Permission: Send + Sync {
    /// Judges one request.
    ///
    /// # Errors
    /// [`Denied`] with the reason.
    fn check(&self, request: &ReadRequest, now: Timestamp) -> Result<Permit, Denied>;
}

/// Where access receipts become durable: an organisation's hash-chained sequence.
pub trait ReceiptLog: Send + Sync {
    /// Appends a receipt and gives it back as written, with its place in the sequence. It must be
    /// synced to disk when the future is ready: a pepper is released on the strength of it.
    fn append(
        &self,
        receipt: AccessReceipt,
    ) -> BoxFuture<'_, Result<AccessReceipt, Box<dyn std::error::Error + Send + Sync>>>;
}

/// Proof, by its type, that an access receipt was made durable before anything was released.
///
/// There is no other way to get one than [`DurableReceipt::write`].
#[derive(Clone, Debug)]
pub struct DurableReceipt {
    receipt: AccessReceipt,
    covers: BTreeSet<(RecordId, u32)>,
    records: Vec<(RecordId, u32)>,
}

impl DurableReceipt {
    /// Writes the receipt of an access to some record versions, and waits until it is durable.
    ///
    /// # Errors
    /// [`Error::Receipt`] if the log refuses; then nothing may be released.
    pub async fn write(
        log: &dyn ReceiptLog,
        receipt: AccessReceipt,
        records: impl IntoIterator<Item = (RecordId, u32)>,
    ) -> Result<Self> {
        let records: Vec<_> = records.into_iter().collect();
        let receipt = log
            .append(receipt)
            .await
            .map_err(|source| Error::Receipt { source })?;
        Ok(Self {
            receipt,
            covers: records.iter().copied().collect(),
            records,
        })
    }

    /// The receipt as it was written.
    #[must_use]
    pub const fn receipt(&self) -> &AccessReceipt {
        &self.receipt
    }

    /// The record versions it covers, in the order its digest counts them.
    #[must_use]
    pub fn records(&self) -> &[(RecordId, u32)] {
        &self.records
    }

    fn covers(&self, request: &ReadRequest) -> bool {
        self.receipt.allowed
            && self.receipt.actor == request.actor
            && self.receipt.log == request.log
            && self.covers.contains(&(request.record, request.version))
    }
}

/// Whether a custodian may release what belongs to one request: against this receipt, with the ledger's permission, on
/// state that is `limit_ms` old at most.
///
/// # Errors
/// [`Error::NoReceipt`] if the receipt does not cover the request; [`Error::Refused`] without consent;
/// [`Error::Stale`] if the ledger was not heard of for too long.
pub fn judge(
    request: &ReadRequest,
    permission: &dyn Permission,
    receipt: &DurableReceipt,
    now: Timestamp,
    limit_ms: u64,
) -> Result<()> {
    if !receipt.covers(request) {
        return Err(Error::NoReceipt {
            record: request.record,
        });
    }
    let permit = permission
        .check(request, now)
        .map_err(|denied| Error::Refused {
            record: request.record,
            reason: denied.reason,
        })?;
    let age_ms = now.0.saturating_sub(permit.finalized_at.0);
    if age_ms > limit_ms {
        return Err(Error::Stale { age_ms, limit_ms });
    }
    Ok(())
}

/// The custodian of one organisation: alone for what it keeps in its own tree, one of several for peppers that
/// are shared.
pub struct Custodian {
    shred: ShredTree,
    custodies: Custodies,
    staleness_ms: AtomicU64,
}

impl Custodian {
    pub(crate) const fn new(shred: ShredTree, custodies: Custodies) -> Self {
        Self {
            shred,
            custodies,
            staleness_ms: AtomicU64::new(STALENESS_MS),
        }
    }

    /// Sets the staleness bound that governance decided, in milliseconds.
    pub fn set_staleness_ms(&self, bound_ms: u64) {
        self.staleness_ms.store(bound_ms, Ordering::Relaxed);
    }

    /// Releases the pepper of one record version that this custodian keeps alone.
    ///
    /// # Errors
    /// [`Error::NoReceipt`] if the receipt does not cover the request; [`Error::Refused`] without
    /// consent; [`Error::Stale`] if the ledger was not heard of for too long; [`Error::Erased`].
    pub fn release(
        &self,
        request: &ReadRequest,
        permission: &dyn Permission,
        receipt: &DurableReceipt,
        now: Timestamp,
    ) -> Result<Pepper> {
        self.judge(request, permission, receipt, now)?;
        self.pepper(&request.record, request.version)
    }

    /// Releases the shares of one record version's pepper from those `wanted` trees of a custody that are here, each
    /// with the number of its tree; none if the custody is not known here. A request that names another log, slot or
    /// period than the record's gets shares of nothing.
    ///
    /// # Errors
    /// As [`Self::release`].
    pub fn release_shares(
        &self,
        request: &ReadRequest,
        (custody, period, wanted): (B128, u32, u16),
        permission: &dyn Permission,
        receipt: &DurableReceipt,
        now: Timestamp,
    ) -> Result<Vec<(u8, Secret32)>> {
        self.judge(request, permission, receipt, now)?;
        let of = ShareOf {
            log: request.log,
            slot: request.slot,
            record: &request.record,
            version: request.version,
        };
        self.custodies.shares(custody, period, wanted, &of)
    }

    fn judge(
        &self,
        request: &ReadRequest,
        permission: &dyn Permission,
        receipt: &DurableReceipt,
        now: Timestamp,
    ) -> Result<()> {
        let limit_ms = self.staleness_ms.load(Ordering::Relaxed);
        judge(request, permission, receipt, now, limit_ms)
    }

    /// The pepper of a record version that does not exist yet, and where its shares lie if it is shared.
    pub(crate) fn seal(&self, of: &ShareOf<'_>) -> Result<(Pepper, Option<SharedPepper>)> {
        match self.custodies.seal(of)? {
            Some((pepper, place)) => Ok((pepper, Some(place))),
            None => Ok((self.pepper(of.record, of.version)?, None)),
        }
    }

    /// Whether peppers of older records are still this custodian's alone: 0 where none are.
    #[must_use]
    pub fn keeps_alone(&self) -> bool {
        self.custodies.before() != Some(Before::Gone)
    }

    /// Whether some metas still have to be told where the shares of their peppers lie.
    #[must_use]
    pub fn is_sharing_anew(&self) -> bool {
        self.custodies.before() == Some(Before::Alone)
    }

    /// Where the shares of the pepper of a record version lie that this custodian kept alone until now.
    pub(crate) fn share_anew(&self, of: &ShareOf<'_>) -> Result<Option<SharedPepper>> {
        let pepper = self.pepper(of.record, of.version)?;
        let sealed = self.custodies.seal(of)?;
        Ok(sealed.map(|(shared, place)| place.masked(&shared, &pepper)))
    }

    pub(crate) fn before(&self) -> Option<Before> {
        self.custodies.before()
    }

    pub(crate) fn set_before(&self, before: Before) -> Result<()> {
        self.custodies.set_before(before)
    }

    #[cfg(test)]
    pub(crate) fn shares(
        &self,
        custody: B128,
        period: u32,
        of: &ShareOf<'_>,
    ) -> Result<Vec<Secret32>> {
        let shares = self.custodies.shares(custody, period, u16::MAX, of)?;
        Ok(shares.into_iter().map(|(_, share)| share).collect())
    }

    /// Destroys every pepper that this custodian keeps alone.
    pub(crate) fn destroy_own(&self) -> Result<()> {
        self.shred.renew()
    }

    /// A custody, if it is known here.
    #[must_use]
    pub fn custody(&self, id: B128) -> Option<Custody> {
        self.custodies.custody(id)
    }

    /// All custodies of an owner that are known here.
    #[must_use]
    pub fn custodies_of(&self, owner: Address) -> Vec<Custody> {
        self.custodies.of_owner(owner)
    }

    /// The custody that new records are sealed under; `None` where this custodian is the only one.
    #[must_use]
    pub fn current(&self) -> Option<Custody> {
        self.custodies.current()
    }

    /// The custodians of all custodies that were founded here.
    #[must_use]
    pub fn partners(&self) -> BTreeSet<Address> {
        self.custodies.partners()
    }

    /// Makes the trees of a new custody, and seals new records under it from now on. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a custody that is none; [`Error::Io`].
    pub fn found(&self, custody: Custody) -> Result<()> {
        self.custodies.found(custody)
    }

    /// Takes note of a custody whose records this node reads.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that is none, or another than is known under its id; [`Error::OutOfRange`] for too
    /// many of one owner; [`Error::Io`].
    pub fn learn(&self, custody: &Custody) -> Result<()> {
        self.custodies.learn(custody)
    }

    /// Keeps a tree that its owner deals to `own`, one of the custodians here. Durable when it returns; one that is kept
    /// already stays as it is.
    ///
    /// # Errors
    /// As [`Self::learn`]; [`Error::Malformed`] for a tree that `own` has no part in, or bytes that are none.
    pub fn take(&self, custody: &Custody, tree: u8, own: Address, nodes: &[u8]) -> Result<()> {
        self.custodies.take(custody, tree, own, nodes)
    }

    /// Trees that a custodian has not confirmed yet.
    #[must_use]
    pub fn undealt(&self) -> Vec<Undealt> {
        self.custodies.undealt()
    }

    /// All custodies that are known here, but for the one that new records are sealed under.
    #[must_use]
    pub fn standing(&self) -> Vec<Custody> {
        self.custodies.standing()
    }

    /// Takes over who stands in the places of a custody now; whether they may is for the caller to know. With
    /// `hands_over` the trees of whoever is new become [`Self::undealt`]. Durable when it returns.
    ///
    /// # Errors
    /// As [`Self::learn`]; [`Error::Malformed`] also for the custody that new records are sealed under.
    pub fn succeed(&self, custody: &Custody, hands_over: bool) -> Result<()> {
        self.custodies.succeed(custody, hands_over)
    }

    /// Deals a custodian once more all it should hold of this vault's own custodies: it was made from a backup.
    ///
    /// # Errors
    /// [`Error::Io`]; to be called again.
    pub fn deal_again(&self, to: Address) -> Result<()> {
        self.custodies.deal_again(to)
    }

    /// Destroys every tree that other owners dealt to this vault: it is no custodian of theirs any more. Gives how many.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again.
    pub fn destroy_others(&self) -> Result<usize> {
        self.custodies.destroy_others()
    }

    /// Who else can give a tree that is to be dealt; empty if it is here as whole as anywhere.
    #[must_use]
    pub fn holders(&self, undealt: &Undealt) -> Vec<Address> {
        self.custodies.holders(undealt)
    }

    /// Notes, durably, who has to be asked what was dealt and erased since the backup that this vault was made from.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ask_again(&self, members: &BTreeSet<Address>) -> Result<()> {
        self.custodies.ask_again(members)
    }

    /// Those of [`Self::ask_again`] that are left.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`].
    pub fn asking(&self) -> Result<BTreeSet<Address>> {
        self.custodies.asking()
    }

    /// A tree in the clear, to be sealed to one of its custodians and to nobody else. `None` if it is not here.
    #[must_use]
    pub fn dealt_nodes(&self, custody: B128, tree: u8) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        self.custodies.nodes(custody, tree)
    }

    /// Notes that a custodian keeps a tree durably.
    ///
    /// # Errors
    /// [`Error::Io`]; then it is dealt once more.
    pub fn confirm(&self, custody: B128, tree: u8, by: Address) -> Result<()> {
        self.custodies.confirm(custody, tree, by)
    }

    /// Ends the period under way, if something was sealed in it, and forgets what the owner need not know any longer;
    /// nothing of periods that are `in_use`, for a crash would have to finish them.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again.
    pub fn end_period(&self, in_use: &[(B128, u32)]) -> Result<()> {
        self.custodies.end_period()?;
        self.custodies.forget(in_use)
    }

    /// Destroys shares, durably, on behalf of the owner of their custodies. Others' are passed over.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`]; to be called again.
    pub fn destroy_shares(&self, owner: Address, places: &[ErasedPlace]) -> Result<()> {
        let is_owners = |place: &ErasedPlace| {
            let custody = self.custodies.custody(place.custody);
            custody.is_some_and(|custody| custody.owner == owner)
        };
        let own: Vec<_> = places.iter().copied().filter(is_owners).collect();
        self.custodies.destroy(&own)
    }

    /// The pepper itself, for sealing a record version that does not exist yet. Never reachable
    /// from outside: reading goes through [`Self::release`].
    pub(crate) fn pepper(&self, record: &RecordId, version: u32) -> Result<Pepper> {
        self.shred
            .key(&record.0.0, "stele/pepper/v1", &[&version.to_be_bytes()])
            .map(Pepper::new)
            .ok_or(Error::Erased { record: *record })
    }

    /// Destroys the peppers of all versions of some records, and shares, durably.
    pub(crate) fn destroy(&self, records: &[[u8; 32]], shares: &[ErasedPlace]) -> Result<()> {
        self.shred.puncture(records)?;
        self.custodies.destroy(shares)
    }
}

#[cfg(test)]
mod tests;
