//! Peppers that custodians share by threshold: gathered from as many as it takes, released by each under the rules of
//! the only one.
//!
//! Whoever opens a record takes the shares of its own trees first, against its own receipt and ledger, then asks other
//! custodians side by side for what is missing, once a page. One that is down, refuses or gives a wrong share is passed
//! over for the next; a wrong share is told by its check, so the liar is named.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    ops::Range,
    sync::Arc,
};

use alloy_primitives::Address;
use parking_lot::Mutex;
use stele_core::{
    crypto::Secret32,
    id::{OrganizationId, RecordId},
    time::Timestamp,
};
use stele_vault::{
    RecordMeta,
    custodian::{DurableReceipt, ReadRequest},
    custody::{Custody, SharedPepper},
};
use zeroize::Zeroizing;

use super::{
    Ask,
    peppers::Peppers,
    rules::{Judged, LiveConsent, SharesAsked, WantedShares, check_heard, judge_shares, refused},
};
use crate::{
    Service,
    error::{Error, Result},
    records::read_request,
    session::Actor,
};

/// One share in an answer: the number of its tree, and 32 bytes.
const SHARE_LEN: usize = 33;
/// How often all custodians are asked: one may be a block behind.
const ROUNDS: u32 = 10;
/// How long a custodian waits for a block that the asker has, in milliseconds.
const HEARD_MS: u64 = 1_000;
/// How long a custodian that gave no answer is asked last, in milliseconds.
const DOWN_MS: u64 = 10_000;

/// Custodians that lately gave no answer, and since when.
#[derive(Default)]
pub(crate) struct Down(Mutex<HashMap<Address, Timestamp>>);

impl Down {
    fn is(&self, who: Address, now: Timestamp) -> bool {
        let since = self.0.lock().get(&who).copied();
        since.is_some_and(|since| now.0.abs_diff(since.0) < DOWN_MS)
    }

    fn note(&self, who: Address, now: Option<Timestamp>) {
        match now {
            Some(now) => drop(self.0.lock().insert(who, now)),
            None => drop(self.0.lock().remove(&who)),
        }
    }
}

/// The shares of one record version's pepper as they come in.
pub(super) struct Gathering {
    /// Place among the records of the receipt.
    at: u32,
    version: (RecordId, u32),
    slot: u8,
    custody: Custody,
    place: SharedPepper,
    shares: BTreeMap<u8, Secret32>,
    /// Refused here, or erased: nobody else is asked.
    is_refused: bool,
}

impl Gathering {
    /// Trees whose shares are not here, as a bit set.
    fn missing(&self) -> u16 {
        if self.is_refused {
            return 0;
        }
        let have = self.shares.keys().fold(0, |have, tree| have | bit(*tree));
        self.custody.all_trees() & !have
    }

    fn pepper(&self) -> Option<stele_vault::custodian::Pepper> {
        if self.is_refused || self.missing() != 0 {
            return None;
        }
        let shares: Vec<Secret32> = self.shares.values().cloned().collect();
        let (record, version) = &self.version;
        Some(self.place.pepper(record, *version, &shares))
    }
}

fn bit(tree: u8) -> u16 {
    1_u16.checked_shl(tree.into()).unwrap_or(0)
}

/// What a custodian gave: record by record as they were wanted, shares with the numbers of their trees.
type Given = Vec<Vec<(u8, Secret32)>>;

impl Service {
    /// What this node's own trees give for some of what a receipt covers: under its own ledger, with its own receipt. To be
    /// called on a thread that may block.
    pub(super) fn own_shares(
        &self,
        actor: &Actor,
        receipt: &DurableReceipt,
        part: Range<usize>,
    ) -> Result<Vec<Gathering>> {
        use stele_vault::Error as Vault;
        const WHAT: &str = "releasing shares of peppers";
        let consent = LiveConsent::new(self, actor)?;
        let mut gathering = Vec::new();
        let covered = (0_u32..).zip(receipt.records());
        for (at, (record, version)) in covered.skip(part.start).take(part.len()) {
            let meta = self.vault.meta(record, *version).ok().flatten();
            let Some(meta) = meta.filter(|meta| meta.log == receipt.receipt().log) else {
                continue;
            };
            if let Some(place) = meta.shared.clone() {
                let mut one = self.gathering(at, &meta, place)?;
                let request = read_request(actor, &meta);
                let now = self.clock.now();
                let released = self.vault.custodian().release_shares(
                    &request,
                    (one.place.custody, one.place.period, u16::MAX),
                    &consent,
                    receipt,
                    now,
                );
                match released {
                    Ok(shares) => take(&mut one, shares),
                    Err(Vault::Refused { .. } | Vault::Erased { .. } | Vault::NoReceipt { .. }) => {
                        one.is_refused = true;
                    }
                    Err(error) => return Err(Error::vault(WHAT)(error)),
                }
                gathering.push(one);
            }
        }
        Ok(gathering)
    }

    fn gathering(&self, at: u32, meta: &RecordMeta, place: SharedPepper) -> Result<Gathering> {
        let custody = self.vault.custodian().custody(place.custody);
        Ok(Gathering {
            at,
            version: (meta.record(), meta.version()),
            slot: meta.preimage.category_slot,
            custody: custody.ok_or_else(|| {
                Error::internal("gathering a pepper", "its custody is not known here")
            })?,
            place,
            shares: BTreeMap::new(),
            is_refused: false,
        })
    }

    /// Asks other custodians for what is missing, until every pepper is whole or nobody is left who could help.
    pub(super) async fn gather(
        &self,
        receipt: &DurableReceipt,
        mut gathering: Vec<Gathering>,
    ) -> Result<Peppers> {
        let is_whole = |gathering: &[Gathering]| gathering.iter().all(|one| one.missing() == 0);
        let hosted = if is_whole(&gathering) {
            Vec::new()
        } else {
            self.hosted_organizations()?
        };
        let asking = Asking {
            own: hosted.into_iter().map(|one| one.0).collect(),
            down: &self.down,
            now: self.clock.now(),
        };
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            let asked = asking
                .ask_each(&mut gathering, |who, wanted| {
                    self.ask_shares(OrganizationId(who), receipt, wanted)
                })
                .await;
            for (who, wrong) in asked.wrong {
                self.metrics.wrong_shares(wrong);
                tracing::error!(
                    organization = %who,
                    wrong,
                    "a custodian gives shares that are not those of the records; others are asked"
                );
            }
            if is_whole(&gathering) || asked.is_refused {
                break;
            }
            match asked.failed {
                Some(error) if round.saturating_add(1) == ROUNDS => return Err(error),
                Some(_) => {}
                None => break,
            }
        }
        Ok(gathering
            .iter()
            .map(|one| (one.version, one.pepper()))
            .collect())
    }

    async fn ask_shares(
        &self,
        custodian: OrganizationId,
        receipt: &DurableReceipt,
        wanted: Vec<WantedShares>,
    ) -> Result<Given> {
        let count = wanted.len();
        let asked = SharesAsked {
            height: self.ledger.height(),
            access: self.access(receipt)?,
            wanted,
        };
        let from = OrganizationId(receipt.receipt().organization);
        let answer = self
            .ask(from, custodian, Ask::Shares(Box::new(asked)))
            .await?;
        read_given(&answer, count).ok_or_else(|| Error::Member {
            message: format!("the shares of organisation {custodian} can't be read"),
        })
    }

    /// Releases shares to another member, as [`judge_shares`] judges the question.
    pub(super) async fn release_shares(
        self: &Arc<Self>,
        asker: OrganizationId,
        asked_of: OrganizationId,
        asked: SharesAsked,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.hear_of(asked.height).await?;
        let now = self.clock.now();
        let Judged {
            actor,
            log,
            action,
            slots,
            open,
            requests,
            kept,
        } = judge_shares(&**self, now, (asker, asked_of), &asked)?;
        let wanted = asked.wanted;
        if kept.is_empty() {
            self.refuse(&actor, log, action, slots, &[]).await?;
            return Err(refused(
                "the patient's consent: no live grant opens these records",
            ));
        }
        let own = self.receipt(&actor, log, action, open, &kept);
        let own = self.write_receipt(own, &kept).await?;
        self.read_blocking("releasing shares to a member", move |service| {
            service.release_each(&actor, &requests, &wanted, &own)
        })
        .await
    }

    /// Waits a moment for a block that the asker knows already: what it rests on may stand in it.
    async fn hear_of(&self, height: u64) -> Result<()> {
        const STEP_MS: u64 = 20;
        for _ in 0..HEARD_MS / STEP_MS {
            if self.ledger.height() >= height {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(STEP_MS)).await;
        }
        check_heard(self, height)
    }

    fn release_each(
        &self,
        actor: &Actor,
        requests: &[ReadRequest],
        wanted: &[WantedShares],
        own: &DurableReceipt,
    ) -> Result<Zeroizing<Vec<u8>>> {
        use stele_vault::Error as Vault;
        let consent = LiveConsent::new(self, actor)?;
        let now = self.clock.now();
        let mut answer = Zeroizing::new(Vec::with_capacity(wanted.len().saturating_mul(70)));
        for (request, wanted) in requests.iter().zip(wanted) {
            let place = (wanted.custody, wanted.period, wanted.trees);
            let custodian = self.vault.custodian();
            let shares = match custodian.release_shares(request, place, &consent, own, now) {
                Ok(shares) => shares,
                Err(Vault::Refused { .. } | Vault::Erased { .. } | Vault::NoReceipt { .. }) => {
                    Vec::new()
                }
                Err(error) => return Err(Error::vault("releasing a share")(error)),
            };
            answer.push(u8::try_from(shares.len()).unwrap_or(0));
            for (tree, share) in &shares {
                answer.push(*tree);
                answer.extend_from_slice(share.expose());
            }
        }
        Ok(answer)
    }
}

/// One round of asking other custodians.
struct Asking<'a> {
    /// Organisations of this node: what their trees give is known already.
    own: BTreeSet<Address>,
    down: &'a Down,
    now: Timestamp,
}

/// What came of a round.
#[derive(Default)]
struct Asked {
    /// Whether a custodian refused.
    is_refused: bool,
    /// How the last one failed that did not answer.
    failed: Option<Error>,
    /// Custodians that gave wrong shares, and how many.
    wrong: Vec<(Address, u64)>,
}

impl Asking<'_> {
    /// Asks each custodian at most once, those whose shares go together side by side.
    async fn ask_each<F>(
        &self,
        gathering: &mut [Gathering],
        ask: impl Fn(Address, Vec<WantedShares>) -> F,
    ) -> Asked
    where
        F: Future<Output = Result<Given>>,
    {
        let mut tried = self.own.clone();
        let mut done = Asked::default();
        loop {
            let next = self.next(gathering, &tried);
            if next.is_empty() {
                return done;
            }
            let asking = next.into_iter().map(|(who, wanted)| {
                let given = ask(who, wanted.clone());
                async move { (who, wanted, given.await) }
            });
            for (who, wanted, given) in futures::future::join_all(asking).await {
                tried.insert(who);
                match given {
                    Ok(given) => {
                        self.down.note(who, None);
                        let wrong = take_given(gathering, &wanted, given);
                        if wrong > 0 {
                            done.wrong.push((who, wrong));
                        }
                    }
                    Err(Error::NotPermitted { message }) => {
                        tracing::debug!(organization = %who, message, "a custodian refuses");
                        done.is_refused = true;
                    }
                    Err(error) => {
                        tracing::debug!(organization = %who, %error, "a custodian gives no answer");
                        self.down.note(who, Some(self.now));
                        done.failed = Some(error);
                    }
                }
            }
        }
    }

    /// Whom to ask next and for what: for each record the first custodians of its custody that have what is missing.
    fn next(
        &self,
        gathering: &[Gathering],
        tried: &BTreeSet<Address>,
    ) -> BTreeMap<Address, Vec<WantedShares>> {
        let mut next: BTreeMap<Address, Vec<WantedShares>> = BTreeMap::new();
        for one in gathering {
            let missing = one.missing();
            let mut uncovered = missing;
            if missing == 0 {
                continue;
            }
            let left = one.custody.custodians.iter();
            let mut left: Vec<Address> =
                left.filter(|who| !tried.contains(*who)).copied().collect();
            left.sort_by_key(|who| self.down.is(*who, self.now));
            for who in left {
                // It is asked for all it can give: another one that should give some of it may not answer.
                let trees = one.custody.held_by(who) & missing;
                if trees & uncovered != 0 {
                    uncovered &= !trees;
                    next.entry(who).or_default().push(WantedShares {
                        at: one.at,
                        slot: one.slot,
                        custody: one.place.custody,
                        period: one.place.period,
                        trees,
                    });
                }
            }
        }
        next
    }
}

/// Keeps the shares that are what they should be, and counts the others.
fn take_given(gathering: &mut [Gathering], wanted: &[WantedShares], given: Given) -> u64 {
    let mut wrong = 0_usize;
    for (wanted, shares) in wanted.iter().zip(given) {
        if let Some(one) = gathering.iter_mut().find(|one| one.at == wanted.at) {
            let is_wrong = |(tree, share): &&(u8, Secret32)| !one.place.is_share(*tree, share);
            wrong = wrong.saturating_add(shares.iter().filter(is_wrong).count());
            take(one, shares);
        }
    }
    u64::try_from(wrong).unwrap_or(u64::MAX)
}

/// Keeps the shares that fit.
fn take(one: &mut Gathering, shares: Vec<(u8, Secret32)>) {
    for (tree, share) in shares {
        if one.place.is_share(tree, &share) {
            one.shares.insert(tree, share);
        }
    }
}

/// Reads an answer: for each wanted record the number of shares, then the shares. `None` if it is anything else.
fn read_given(answer: &[u8], count: usize) -> Option<Given> {
    let mut rest = answer;
    let mut given = Vec::with_capacity(count);
    for _ in 0..count {
        let (number, after) = rest.split_first()?;
        let (shares, after) = after.split_at_checked(usize::from(*number) * SHARE_LEN)?;
        let (entries, _) = shares.as_chunks::<SHARE_LEN>();
        let read = entries.iter().map(|entry| {
            let (tree, share) = entry.split_first()?;
            let share: [u8; 32] = share.try_into().ok()?;
            Some((*tree, Secret32::new(share)))
        });
        given.push(read.collect::<Option<Vec<_>>>()?);
        rest = after;
    }
    rest.is_empty().then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_a_whole_or_not_at_all() {
        let share = |tree: u8| [&[tree][..], &[tree; 32]].concat();
        let answer = [&[2][..], &share(0), &share(2), &[0], &[1], &share(1)].concat();
        let given = read_given(&answer, 3).unwrap();
        let trees: Vec<Vec<u8>> = given
            .iter()
            .map(|one| one.iter().map(|(tree, _)| *tree).collect())
            .collect();
        assert_eq!(trees, [vec![0, 2], vec![], vec![1]]);
        assert_eq!(given[0][1].1, Secret32::new([2; 32]));
        assert!(read_given(&answer, 2).is_none(), "more than was wanted");
        assert!(read_given(&answer[..answer.len() - 1], 3).is_none());
        assert!(read_given(&answer, 4).is_none());
    }

    /// A record version of which this node has no share, whose custody has `count` custodians and a threshold of two.
    fn gathering(count: u8) -> (Gathering, Vec<Secret32>) {
        let custody = Custody {
            id: alloy_primitives::B128::repeat_byte(1),
            owner: Address::repeat_byte(0),
            threshold: 2,
            custodians: (0..count).map(Address::repeat_byte).collect(),
        };
        let trees = u8::try_from(custody.subsets().len()).unwrap();
        let shares: Vec<_> = (0..trees)
            .map(|tree| Secret32::new([tree + 1; 32]))
            .collect();
        let one = Gathering {
            at: 0,
            version: (RecordId::default(), 1),
            slot: 0,
            place: SharedPepper::new(custody.id, 7, &shares),
            custody,
            shares: BTreeMap::new(),
            is_refused: false,
        };
        (one, shares)
    }

    /// LIM-13: one custodian is down and one lies; the liar is named, and the pepper comes of the others.
    #[tokio::test]
    async fn a_lying_custodian_is_named_and_others_are_asked() {
        let (one, shares) = gathering(4);
        let custody = one.custody.clone();
        let expected = one.place.pepper(&RecordId::default(), 1, &shares);
        let honest = |who: Address, wanted: &WantedShares| -> Vec<(u8, Secret32)> {
            let trees = custody.held_by(who) & wanted.trees;
            let given = (0_u8..)
                .zip(&shares)
                .filter(|(tree, _)| trees & bit(*tree) != 0);
            given.map(|(tree, share)| (tree, share.clone())).collect()
        };
        let (away, liar) = (Address::repeat_byte(0), Address::repeat_byte(1));
        let down = Down::default();
        let asking = Asking {
            own: BTreeSet::new(),
            down: &down,
            now: Timestamp(1_000),
        };
        let asked = Mutex::new(Vec::new());
        let mut all = [one];
        let done = asking
            .ask_each(&mut all, |who, wanted| {
                asked.lock().push(who);
                let shares = honest(who, &wanted[0]);
                std::future::ready(if who == away {
                    Err(Error::Member {
                        message: "away".into(),
                    })
                } else if who == liar {
                    let wrong = shares
                        .iter()
                        .map(|(tree, _)| (*tree, Secret32::new([9; 32])));
                    Ok(vec![wrong.collect()])
                } else {
                    Ok(vec![shares])
                })
            })
            .await;
        assert_eq!(done.wrong.len(), 1);
        assert_eq!(done.wrong[0].0, liar);
        assert!(done.failed.is_some() && !done.is_refused);
        assert_eq!(all[0].pepper(), Some(expected));
        assert!(
            down.is(away, Timestamp(1_001)),
            "and is asked last from now on"
        );
        let asked = asked.into_inner();
        let distinct: BTreeSet<_> = asked.iter().collect();
        assert_eq!(distinct.len(), asked.len(), "each is asked once");
    }

    /// With too few honest custodians nothing comes of it.
    #[tokio::test]
    async fn fewer_than_the_threshold_give_no_pepper() {
        let (one, shares) = gathering(3);
        let custody = one.custody.clone();
        let down = Down::default();
        let asking = Asking {
            own: BTreeSet::new(),
            down: &down,
            now: Timestamp(1_000),
        };
        let mut all = [one];
        let done = asking
            .ask_each(&mut all, |who, wanted| {
                let trees = custody.held_by(who) & wanted[0].trees;
                let given = (0_u8..)
                    .zip(&shares)
                    .filter(|(tree, _)| trees & bit(*tree) != 0);
                let given = given.map(|(tree, share)| (tree, share.clone())).collect();
                std::future::ready(if who == Address::repeat_byte(2) {
                    Ok(vec![given])
                } else {
                    Err(refused("the patient's consent"))
                })
            })
            .await;
        assert!(done.is_refused && done.wrong.is_empty());
        assert!(all[0].missing() != 0);
        assert_eq!(all[0].pepper(), None);
    }

    #[test]
    fn who_gave_no_answer_is_asked_last_for_a_while() {
        let down = Down::default();
        let who = Address::repeat_byte(1);
        down.note(who, Some(Timestamp(5_000)));
        assert!(down.is(who, Timestamp(5_000 + DOWN_MS - 1)));
        assert!(!down.is(who, Timestamp(5_000 + DOWN_MS)));
        assert!(!down.is(Address::repeat_byte(2), Timestamp(5_000)));
        down.note(who, None);
        assert!(!down.is(who, Timestamp(5_001)));
    }
}
