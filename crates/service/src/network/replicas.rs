//! Copying other members' logs here: driven by final blocks, pulled leaf by leaf, taken up where it was left.
//!
//! Nothing waits for it. How far each log is copied is on disk ([`LogCopy::next`]); a log whose owner is away is copied from
//! other holders, or later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use futures::{StreamExt as _, TryStreamExt as _};
use stele_core::id::{CONSENT, OrganizationId, RECORDS};
use stele_vault::replica::{Held, LogCopy};

use super::copies::{Copies, CopiesPage, in_order};
use crate::{
    Service,
    error::{Error, Result},
};

/// Name of the mark up to which blocks were looked at.
const HEIGHT: &str = "replicas/height";
/// Blocks that are looked at one by one; of more than these all logs are looked at.
const BLOCKS: u64 = 1_024;
/// Rounds after which a log that changed is looked at once more: keys are handed over a moment after the block. One that
/// changes all the time is looked at no more often than that: each look asks its owner.
const ONCE_MORE: u64 = 8;
/// Rounds for which a log that could not be copied rests, doubled up to [`REST_MAX`].
const REST: u64 = 2;
const REST_MAX: u64 = 128;
/// Logs that are looked at in one round, so that what comes later is not kept waiting by all that came before.
const AT_ONCE: usize = 1_024;
/// Logs that are copied side by side.
const LOGS: usize = 2;

/// How many members keep a copy of each record, and how that is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Copies in all, the owner's among them. The same at every member.
    pub copies: u8,
    /// Ciphertexts that are fetched side by side.
    pub requests: u8,
    /// How often a sample of what is held is checked.
    pub check: Duration,
    /// Ciphertexts in a sample: so many of other members' and so many of records kept or read here.
    pub sample: u16,
}

/// What is to be done.
#[derive(Default)]
struct Work {
    members: BTreeSet<Address>,
    /// Logs to be looked at, by the round from which on, and how often that failed.
    logs: BTreeMap<Address, (u64, u32)>,
    /// In which round those were looked at that were lately.
    looked_at: BTreeMap<Address, u64>,
    round: u64,
    /// Height of the last block that was looked at.
    height: u64,
}

impl Work {
    fn add(&mut self, log: Address) {
        let rested = self.looked_at.get(&log);
        let rested = rested.map_or(0, |at| at.saturating_add(ONCE_MORE));
        let at = self.round.max(rested);
        self.logs.entry(log).or_insert((at, 0)).0 = at;
    }

    /// Logs whose turn it is in this round.
    fn due(&mut self) -> Vec<Address> {
        let round = self.round;
        let due: Vec<Address> = self
            .logs
            .iter()
            .filter(|(_, (at, _))| *at <= round)
            .map(|(log, _)| *log)
            .take(AT_ONCE)
            .collect();
        self.looked_at
            .retain(|_, at| at.saturating_add(ONCE_MORE) > round);
        self.looked_at.extend(due.iter().map(|log| (*log, round)));
        due
    }

    /// Takes note of what became of a log.
    fn note(&mut self, log: Address, done: &Result<bool>) {
        let Some((at, failed)) = self.logs.get_mut(&log) else {
            return;
        };
        if matches!(done, Ok(true)) {
            self.logs.remove(&log);
            return;
        }
        let rest = REST.checked_shl(*failed).unwrap_or(REST_MAX).min(REST_MAX);
        *at = self.round.saturating_add(rest);
        *failed = failed.saturating_add(1).min(16);
    }
}

impl Service {
    /// Keeps copies of other members' logs from now on. Only the first call has an effect.
    pub fn set_replicas(&self, replicas: Replicas) {
        let _ = self.replicas.set(replicas);
    }

    /// Copies here what this member is to hold of other members' logs, looking for changes every `pause`. Runs until
    /// dropped.
    pub async fn run_replicas(self: Arc<Self>, pause: Duration) {
        let Some(replicas) = self.replicas.get().copied() else {
            return;
        };
        let mut work = Work::default();
        let mut again: BTreeMap<u64, BTreeSet<Address>> = BTreeMap::new();
        loop {
            tokio::time::sleep(pause).await;
            work.round = work.round.saturating_add(1);
            for log in again.remove(&work.round).unwrap_or_default() {
                work.add(log);
            }
            match self.look_for_work(&mut work).await {
                Ok(changed) => {
                    let at = work.round.saturating_add(ONCE_MORE);
                    again.insert(at, changed);
                }
                Err(error) => {
                    tracing::warn!(%error, "what is to be copied here is looked for again");
                    continue;
                }
            }
            let due = work.due();
            let members = work.members.clone();
            let done: Vec<(Address, Result<bool>)> = futures::stream::iter(due)
                .map(|log| {
                    let (service, members) = (&self, &members);
                    async move { (log, service.copy_log(log, members, replicas).await) }
                })
                .buffer_unordered(LOGS)
                .collect()
                .await;
            for (log, done) in done {
                if let Err(error) = &done {
                    tracing::debug!(%log, %error, "a log is copied later");
                }
                work.note(log, &done);
            }
            if work.logs.is_empty() {
                self.metrics.replica_height(work.height);
            }
            self.measure_backlog(work.logs.keys().copied().collect())
                .await;
        }
    }

    /// Adds the logs that changed since the last look, or all after a change of members; gives those that changed.
    async fn look_for_work(self: &Arc<Self>, work: &mut Work) -> Result<BTreeSet<Address>> {
        const WHAT: &str = "looking for logs to copy";
        let before = work.members.clone();
        let (members, height, changed, all) = self
            .read_blocking(WHAT, move |service| {
                let members = service.active_members()?;
                let (height, changed, is_far) = service.logs_changed()?;
                let mut all = Vec::new();
                if members != before || is_far {
                    all = service.logs_behind()?;
                }
                Ok((members, height, changed, all))
            })
            .await?;
        work.members = members;
        work.height = height;
        for log in all.into_iter().chain(changed.iter().copied()) {
            work.add(log);
        }
        Ok(changed)
    }

    /// Up to which height, the logs that blocks since the last look changed, and whether there were too many blocks to look at.
    fn logs_changed(&self) -> Result<(u64, BTreeSet<Address>, bool)> {
        const WHAT: &str = "following blocks for copies";
        let local = self.index.local();
        let height = self.ledger.height();
        let mark = local.mark(HEIGHT).map_err(Error::index(WHAT))?;
        let from = mark.unwrap_or_default().min(height);
        let is_far = height.saturating_sub(from) > BLOCKS;
        let mut changed = BTreeSet::new();
        if !is_far {
            for at in from.saturating_add(1)..=height {
                for receipt in self.ledger.receipts_of(at).map_err(Error::ledger(WHAT))? {
                    // In the events of both contracts the first topic is the log.
                    let logs = receipt.receipt.logs.iter();
                    let ours = logs.filter(|log| [RECORDS, CONSENT].contains(&log.address));
                    let topics = ours.filter_map(|log| log.topics().get(1));
                    changed.extend(topics.map(|topic| Address::from_word(*topic)));
                }
            }
        }
        if mark != Some(height) {
            local.put_mark(HEIGHT, height).map_err(Error::index(WHAT))?;
        }
        Ok((height, changed, is_far))
    }

    /// Logs that are not copied here to their end.
    fn logs_behind(&self) -> Result<Vec<Address>> {
        const WHAT: &str = "listing logs to copy";
        let mut behind = Vec::new();
        for log in self.index.chain().logs().map_err(Error::index(WHAT))? {
            if self.leaves_behind(log)? > 0 {
                behind.push(log);
            }
        }
        Ok(behind)
    }

    fn leaves_behind(&self, log: Address) -> Result<u64> {
        const WHAT: &str = "reading how far a log is copied";
        let size = self.index.chain().log_size(log);
        let size = size.map_err(Error::index(WHAT))?;
        let copy = self.vault.log_copy(log).map_err(Error::vault(WHAT))?;
        Ok(size.saturating_sub(copy.map_or(0, |copy| copy.next)))
    }

    async fn measure_backlog(self: &Arc<Self>, waiting: Vec<Address>) {
        // Of very many logs most count as one: this is measured every round.
        let logs = waiting.len() as u64;
        let leaves = self
            .read_blocking("measuring what is to be copied", move |service| {
                waiting.iter().take(AT_ONCE).try_fold(0_u64, |all, log| {
                    Ok(all.saturating_add(service.leaves_behind(*log)?))
                })
            })
            .await;
        // A log of which only keys are looked at counts as one.
        let leaves = leaves.unwrap_or_default().max(logs);
        self.metrics.replica_backlog(leaves);
    }

    /// Copies a log as far as its owner or other holders give it, if this member is to hold it; whether it is whole then.
    async fn copy_log(
        self: &Arc<Self>,
        log: Address,
        members: &BTreeSet<Address>,
        replicas: Replicas,
    ) -> Result<bool> {
        const WHAT: &str = "copying a log";
        let owner = self.owner_of(log)?;
        if owner.is_zero() || self.is_hosted(OrganizationId(owner))? {
            return Ok(true);
        }
        // What readers here have of it is erased as well, whoever holds the copies.
        if self.erase_tombstoned(log).await? > 0 {
            tracing::info!(%log, "records that another member erased are erased here");
        }
        let others = usize::from(replicas.copies).saturating_sub(1);
        let order = in_order(log, owner, members);
        let copy = self.vault.log_copy(log).map_err(Error::vault(WHAT))?;
        // One that is held already is kept up to date, so that a member that comes back finds its place taken well.
        let is_ours = order
            .iter()
            .take(others)
            .any(|one| *one == self.organization);
        if !is_ours && (copy.is_none() || others == 0) {
            return Ok(true);
        }
        self.drop_erased(log).await?;
        let mut copy = copy.unwrap_or_else(|| LogCopy::new(owner));
        let sources = self.sources(log, owner, members);
        loop {
            let size = self.index.chain().log_size(log);
            let size = size.map_err(Error::index(WHAT))?;
            let (source, page) = self.copies_from(&sources, log, copy.next).await?;
            let before = copy.next;
            self.keep_page(log, &mut copy, (source, page), &sources, replicas)
                .await?;
            if copy.next >= size {
                return Ok(true);
            }
            if copy.next == before {
                tracing::debug!(%log, from = before, size, "a log is given no further now");
                return Ok(false);
            }
        }
    }

    /// A page from the first of some members that gives one.
    async fn copies_from(
        &self,
        sources: &[OrganizationId],
        log: Address,
        from: u64,
    ) -> Result<(OrganizationId, CopiesPage)> {
        let mut failed = None;
        for source in sources {
            match self.ask_copies(*source, log, from).await {
                Ok(page) => return Ok((*source, page)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::not_found("copy of the log", &log.to_string())))
    }

    /// Drops what is held of erased leaves.
    async fn drop_erased(&self, log: Address) -> Result<()> {
        const WHAT: &str = "dropping a copy of an erased record";
        let tombstones = self.index.chain().tombstones_of(log);
        for tombstone in tombstones.map_err(Error::index(WHAT))? {
            let dropped = self.vault.drop_parcel(log, tombstone.index).await;
            if dropped.map_err(Error::vault(WHAT))? {
                tracing::info!(%log, "a copy of an erased record is dropped");
            }
        }
        Ok(())
    }

    /// Keeps a page: first what it says, then the ciphertexts, then that all of it is here.
    async fn keep_page(
        self: &Arc<Self>,
        log: Address,
        copy: &mut LogCopy,
        (source, page): (OrganizationId, CopiesPage),
        sources: &[OrganizationId],
        replicas: Replicas,
    ) -> Result<()> {
        const WHAT: &str = "keeping copies of a log";
        let bad = || Error::Member {
            message: format!("the copies that organisation {source} gave can't be read"),
        };
        let mut given = page
            .read()
            .filter(|_| page.owner == copy.owner)
            .ok_or_else(bad)?;
        let is_of_owner = source.0 == copy.owner;
        let is_shared_since = copy.custodies.is_empty() && !page.custodies.is_empty();
        if is_of_owner && is_shared_since && copy.next > 0 {
            // What was copied before says nothing of where shares of peppers lie.
            copy.next = 0;
            copy.custodies = page.custodies;
            let kept = self.vault.keep_parcels(log, copy, &[]).await;
            return kept.map_err(Error::vault(WHAT));
        }
        let size = self.index.chain().log_size(log);
        let size = size.map_err(Error::index(WHAT))?;
        let gone = self.erased_leaves(log)?;
        let range = copy.next..size;
        given
            .parcels
            .retain(|parcel| range.contains(&parcel.leaf) && !gone.contains(&parcel.leaf));
        let next = if is_of_owner {
            page.next.clamp(copy.next, size)
        } else {
            self.reaches(copy, log, &given)?.min(size)
        };
        let Copies {
            parcels,
            encapsulations,
            grants,
            keys,
        } = given;
        let kept = self.vault.keep_encapsulations(&encapsulations).await;
        kept.map_err(Error::vault(WHAT))?;
        let mut held = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let before = self.vault.held(log, parcel.leaf);
            let is_blob_ours = match (before.map_err(Error::vault(WHAT))?, parcel.cid) {
                (Some(before), _) if before.parcel.cid == parcel.cid => before.is_blob_ours,
                (_, Some(cid)) => !self.has_blob(&cid)?,
                (_, None) => false,
            };
            held.push(Held {
                log,
                parcel,
                is_blob_ours,
            });
        }
        // Noted before the ciphertexts come, so that an erasure in between knows what to take along.
        let kept = self.vault.keep_parcels(log, copy, &held).await;
        kept.map_err(Error::vault(WHAT))?;
        let cids = held.iter().filter_map(|one| one.parcel.cid);
        let cids: Vec<_> = cids.collect();
        futures::stream::iter(cids)
            .map(|cid| self.fetch_copy(sources, cid))
            .buffer_unordered(usize::from(replicas.requests).max(1))
            .try_collect::<Vec<()>>()
            .await?;
        copy.next = next;
        if page.as_of > copy.as_of || is_of_owner {
            copy.as_of = page.as_of;
            (copy.grants, copy.keys, copy.custodies) = (grants, keys, page.custodies);
        }
        let kept = self.vault.keep_parcels(log, copy, &[]).await;
        kept.map_err(Error::vault(WHAT))?;
        // What was erased while it was being fetched is not looked at again by itself.
        self.drop_erased(log).await
    }

    /// Fetches a ciphertext. One that nobody has although all answer is left to the checks.
    async fn fetch_copy(&self, sources: &[OrganizationId], cid: cid::Cid) -> Result<()> {
        match self.fetch_ciphertext(sources, cid).await {
            Ok(_) => Ok(()),
            Err(Error::NotPermitted { message }) => {
                tracing::warn!(%cid, message, "a ciphertext is given by nobody; it is looked for again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at one log in so many rounds, in each of which it changes.
    fn looks(rounds: u64, mut became: impl FnMut(u64) -> Result<bool>) -> Vec<u64> {
        let (log, mut work, mut looks) = (Address::repeat_byte(1), Work::default(), Vec::new());
        for round in 1..=rounds {
            work.round = round;
            work.add(log);
            for log in work.due() {
                looks.push(round);
                work.note(log, &became(round));
            }
        }
        looks
    }

    #[test]
    fn a_log_that_changes_all_the_time_is_looked_at_now_and_then() {
        let each: Vec<u64> = (1..=33).step_by(8).collect();
        assert_eq!(looks(40, |_| Ok(true)), each);
        assert_eq!(looks(40, |_| Ok(false)), each);
    }

    #[test]
    fn one_that_is_at_rest_is_looked_at_at_once_and_no_more() {
        let log = Address::repeat_byte(1);
        let mut work = Work {
            round: 20,
            ..Work::default()
        };
        work.add(log);
        assert_eq!(work.due(), [log]);
        work.note(log, &Ok(true));
        work.round = 40;
        assert!(work.due().is_empty() && work.looked_at.is_empty());
        work.add(log);
        assert_eq!(work.due(), [log]);
    }
}
