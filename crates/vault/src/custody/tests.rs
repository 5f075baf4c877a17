use std::collections::BTreeMap;

use alloy_primitives::B256;

use super::*;

/// An owner and its custodians, each with a folder of its own.
struct Members {
    folder: tempfile::TempDir,
    custody: Custody,
}

fn account(number: usize) -> Address {
    Address::repeat_byte(u8::try_from(number).unwrap() + 1)
}

fn record(number: u8) -> RecordId {
    RecordId(B256::repeat_byte(number))
}

fn of(record: &RecordId) -> ShareOf<'_> {
    ShareOf {
        log: Address::repeat_byte(90),
        slot: 3,
        record,
        version: 2,
    }
}

impl Members {
    /// The first is the owner. Nothing is dealt yet.
    fn new(count: usize, threshold: u8) -> Self {
        let members = Self {
            folder: tempfile::tempdir().unwrap(),
            custody: Custody {
                id: B128::repeat_byte(7),
                owner: account(0),
                threshold,
                custodians: (0..count).map(account).collect(),
            },
        };
        members.at(0).found(members.custody.clone()).unwrap();
        members
    }

    /// As the member's program finds it when it starts.
    fn at(&self, number: usize) -> Custodies {
        let folder = self.folder.path().join(number.to_string());
        Custodies::open(&folder, Secret32::new([u8::try_from(number).unwrap(); 32])).unwrap()
    }

    /// Deals what is not confirmed, to those custodians that `reach`.
    fn deal(&self, reach: impl Fn(usize) -> bool) {
        let owner = self.at(0);
        for undealt in owner.undealt() {
            let place = self.custody.place_of(undealt.to).unwrap();
            if reach(place) {
                let nodes = owner.nodes(self.custody.id, undealt.tree).unwrap();
                let to = self.at(place);
                to.take(&undealt.custody, undealt.tree, undealt.to, &nodes)
                    .unwrap();
                owner
                    .confirm(self.custody.id, undealt.tree, undealt.to)
                    .unwrap();
            }
        }
    }

    /// The shares that some members have together.
    fn shares(&self, of: &ShareOf<'_>, period: u32, who: &[usize]) -> BTreeMap<u8, Secret32> {
        let mut all = BTreeMap::new();
        for number in who {
            let found = self
                .at(*number)
                .shares(self.custody.id, period, u16::MAX, of);
            all.extend(found.unwrap());
        }
        all
    }
}

/// LIM-13: for every number of custodians and every threshold, any `t` of them know every tree and make the pepper, and
/// to any fewer at least one tree is missing, once the owner has forgotten what is not its own.
#[test]
fn a_threshold_of_custodians_opens_and_fewer_do_not() {
    for count in 1..=CUSTODIANS_MAX {
        for threshold in 1..=count {
            let members = Members::new(count, u8::try_from(threshold).unwrap());
            let record = record(1);
            let of = of(&record);
            let (pepper, place) = members.at(0).seal(&of).unwrap().unwrap();
            members.deal(|_| true);
            let owner = members.at(0);
            for _ in 0..3 {
                owner.seal(&of).unwrap();
                owner.end_period().unwrap();
                owner.forget(&[]).unwrap();
            }
            let trees = members.custody.subsets().len();
            for who in 0..1_usize << count {
                let who: Vec<usize> = (0..count).filter(|place| who >> place & 1 == 1).collect();
                let held = who.iter().fold(0, |held, number| {
                    held | members.custody.held_by(account(*number))
                });
                let shares = members.shares(&of, place.period, &who);
                if who.len() < threshold {
                    assert_ne!(held, members.custody.all_trees(), "{who:?}");
                    assert!(shares.len() < trees, "{threshold} of {count}: {who:?}");
                    continue;
                }
                assert_eq!(held, members.custody.all_trees(), "{who:?}");
                assert!(shares.iter().all(|(tree, one)| place.is_share(*tree, one)));
                let shares: Vec<_> = shares.into_values().collect();
                assert_eq!(place.pepper(&record, 2, &shares), pepper, "{who:?}");
            }
        }
    }
}

#[test]
fn a_share_is_bound_to_its_record_log_and_slot() {
    let members = Members::new(3, 2);
    let record = record(1);
    let (_, place) = members.at(0).seal(&of(&record)).unwrap().unwrap();
    let other = self::record(2);
    let asked = of(&record);
    for wrong in [
        ShareOf { slot: 4, ..asked },
        ShareOf {
            version: 1,
            ..asked
        },
        ShareOf {
            log: account(50),
            ..asked
        },
        ShareOf {
            record: &other,
            ..asked
        },
    ] {
        for (tree, share) in members.shares(&wrong, place.period, &[0]) {
            assert!(!place.is_share(tree, &share), "{wrong:?}");
        }
    }
    for (tree, share) in members.shares(&asked, place.period + 1, &[0]) {
        assert!(!place.is_share(tree, &share));
    }
    for (tree, share) in members.shares(&asked, place.period, &[0]) {
        assert!(place.is_share(tree, &share));
        assert!(!place.is_share(tree + 1, &share));
    }
}

/// A custodian that was not reached yet costs nothing: the owner keeps its tree over a restart, deals it later, and
/// forgets it only then.
#[test]
fn what_is_not_confirmed_stays_with_the_owner() {
    let members = Members::new(3, 2);
    let record = record(1);
    let of = of(&record);
    let (pepper, place) = members.at(0).seal(&of).unwrap().unwrap();
    members.deal(|number| number != 2);
    assert_eq!(members.at(0).undealt().len(), 2, "two trees of the third");
    let pass = || {
        for _ in 0..3 {
            members.at(0).end_period().unwrap();
            members.at(0).forget(&[]).unwrap();
        }
    };
    pass();
    let all = |who: &[usize]| {
        let shares = members.shares(&of, place.period, who);
        let shares: Vec<_> = shares.into_values().collect();
        (shares.len() == 3).then(|| place.pepper(&record, 2, &shares))
    };
    assert_eq!(all(&[0]), Some(pepper.clone()), "the owner alone, as yet");
    members.deal(|_| true);
    assert!(members.at(0).undealt().is_empty());
    members
        .at(0)
        .forget(&[(place.custody, place.period)])
        .unwrap();
    assert!(all(&[0]).is_some(), "a period in use is not forgotten");
    pass();
    assert_eq!(all(&[0]), None);
    for who in [[0, 1], [0, 2], [1, 2]] {
        assert_eq!(all(&who), Some(pepper.clone()), "{who:?}");
    }
    let owner = members.at(0);
    let (later, place) = owner.seal(&of).unwrap().unwrap();
    assert_ne!(later, pepper, "a later period has peppers of its own");
    for _ in 0..9 {
        owner.end_period().unwrap();
    }
    let (_, after) = owner.seal(&of).unwrap().unwrap();
    let ended = after.period - place.period;
    assert_eq!(ended, u32::from(KEPT_PERIODS), "and none for nothing");
}

#[test]
fn erased_shares_are_gone_everywhere_and_no_others() {
    let members = Members::new(3, 2);
    let (gone, kept) = (record(1), record(2));
    let (_, place) = members.at(0).seal(&of(&gone)).unwrap().unwrap();
    members.deal(|number| number == 1);
    let erased = ErasedPlace {
        record: gone,
        custody: place.custody,
        period: place.period,
    };
    for number in 0..2 {
        members.at(number).destroy(&[erased]).unwrap();
    }
    // What is dealt later lacks it, too.
    members.deal(|_| true);
    for number in 0..3 {
        let asked = members
            .at(number)
            .shares(place.custody, place.period, u16::MAX, &of(&gone));
        assert!(matches!(asked, Err(Error::Erased { .. })), "{number}");
        assert!(
            !members
                .shares(&of(&kept), place.period, &[number])
                .is_empty()
        );
    }
}

#[test]
fn trees_are_taken_by_their_custodians_only() {
    let members = Members::new(3, 2);
    let owner = members.at(0);
    let nodes = owner.nodes(members.custody.id, 0).unwrap();
    let other = members.at(1);
    let subsets = members.custody.subsets();
    for (tree, subset) in (0..).zip(subsets) {
        let taken = other.take(&members.custody, tree, account(1), &nodes);
        assert_eq!(taken.is_ok(), subset >> 1 & 1 == 1, "{tree}");
    }
    assert!(other.take(&members.custody, 9, account(1), &nodes).is_err());
    let stranger = other.take(&members.custody, 0, account(40), &nodes);
    assert!(stranger.is_err());
    let changed = Custody {
        threshold: 1,
        ..members.custody
    };
    assert!(other.learn(&changed).is_err(), "another one with its id");
    for (count, threshold, twice) in [
        (0, 1, false),
        (6, 2, false),
        (3, 0, false),
        (3, 4, false),
        (3, 2, true),
    ] {
        let mut custodians: Vec<_> = (0..count).map(account).collect();
        if twice {
            custodians[2] = custodians[1];
        }
        let bad = Custody {
            id: B128::repeat_byte(9),
            owner: account(0),
            threshold,
            custodians,
        };
        assert!(other.learn(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_new_custody_takes_over_and_the_old_one_is_still_read() {
    let members = Members::new(3, 2);
    let record = record(1);
    let (pepper, place) = members.at(0).seal(&of(&record)).unwrap().unwrap();
    members.deal(|_| true);
    let next = Custody {
        id: B128::repeat_byte(8),
        ..members.custody.clone()
    };
    let owner = members.at(0);
    owner.found(next.clone()).unwrap();
    let (_, later) = owner.seal(&of(&record)).unwrap().unwrap();
    assert_eq!(
        (later.custody, members.at(0).current()),
        (next.id, Some(next))
    );
    owner.forget(&[]).unwrap();
    assert!(members.shares(&of(&record), place.period, &[0]).len() < 3);
    let shares: Vec<_> = members
        .shares(&of(&record), place.period, &[0, 1])
        .into_values()
        .collect();
    assert_eq!(place.pepper(&record, 2, &shares), pepper);
}

impl Members {
    /// Hands over what `by` has to hand over, taking from other holders what it lacks itself.
    fn hand_over(&self, by: usize) {
        let place_of = |who: Address| (0..9).find(|number| account(*number) == who).unwrap();
        let coordinator = self.at(by);
        for undealt in coordinator.undealt() {
            let holders = coordinator.holders(&undealt);
            let from = holders.first().map_or(by, |holder| place_of(*holder));
            let nodes = self.at(from).nodes(self.custody.id, undealt.tree).unwrap();
            self.at(place_of(undealt.to))
                .take(&undealt.custody, undealt.tree, undealt.to, &nodes)
                .unwrap();
            coordinator
                .confirm(self.custody.id, undealt.tree, undealt.to)
                .unwrap();
        }
    }

    fn with(&self, leaver: usize, successor: usize) -> Custody {
        let mut next = self.custody.clone();
        let place = next.place_of(account(leaver)).unwrap();
        next.custodians[place] = account(successor);
        next
    }
}

/// LIM-13: a custodian is gone, or the owner itself: the next member gets what it held, from whoever has it, over a restart
/// in between; then again any two of three open, and what was erased stays erased.
#[test]
fn a_successor_holds_what_the_one_before_held() {
    for (leaver, coordinator) in [(2, 0), (1, 0), (0, 1)] {
        let members = Members::new(3, 2);
        let (kept, erased) = (record(1), record(2));
        let of = of(&kept);
        let (pepper, place) = members.at(0).seal(&of).unwrap().unwrap();
        members
            .at(0)
            .seal(&ShareOf {
                record: &erased,
                ..of
            })
            .unwrap();
        members.deal(|_| true);
        for _ in 0..3 {
            members.at(0).end_period().unwrap();
            members.at(0).forget(&[]).unwrap();
        }
        let gone = ErasedPlace {
            record: erased,
            custody: place.custody,
            period: place.period,
        };
        (0..3).for_each(|number| members.at(number).destroy(&[gone]).unwrap());
        // Nothing is written under a custody that has a successor in it.
        let other = Custody {
            id: B128::repeat_byte(8),
            ..members.custody.clone()
        };
        members.at(0).found(other).unwrap();

        let next = members.with(leaver, 3);
        members.at(coordinator).succeed(&next, true).unwrap();
        let handed: Vec<_> = members.at(coordinator).undealt();
        let to_successor = handed.iter().filter(|one| one.to == account(3));
        assert_eq!(to_successor.count(), 2, "two trees each");
        let left = (1..3).find(|number| ![leaver, coordinator].contains(number));
        if let Some(left) = left {
            members.at(left).succeed(&next, false).unwrap();
        }
        members.hand_over(coordinator);
        let waits = members.at(coordinator).undealt();
        assert!(waits.iter().all(|one| one.to != account(3)), "{waits:?}");

        let remaining = [0, 1, 2, 3].into_iter().filter(|one| *one != leaver);
        let remaining: Vec<usize> = remaining.collect();
        for pair in [[0, 1], [0, 2], [1, 2]] {
            let who = pair.map(|one| remaining[one]);
            let shares = members.shares(&of, place.period, &who);
            let shares: Vec<_> = shares.into_values().collect();
            assert_eq!(shares.len(), 3, "{who:?} of a leaver {leaver}");
            assert_eq!(place.pepper(&kept, 2, &shares), pepper);
        }
        let again = ShareOf {
            record: &erased,
            ..of
        };
        let found = members
            .at(3)
            .shares(place.custody, place.period, u16::MAX, &again);
        assert!(matches!(found, Err(Error::Erased { .. })), "{found:?}");
    }
}

/// A custodian made from a backup is dealt again what it should hold, also what the owner has forgotten since; one that
/// leaves destroys it.
#[test]
fn a_custodian_without_its_trees_is_dealt_them_again() {
    let members = Members::new(3, 2);
    let record = record(1);
    let of = of(&record);
    let (_, place) = members.at(0).seal(&of).unwrap().unwrap();
    members.deal(|_| true);
    for _ in 0..3 {
        members.at(0).end_period().unwrap();
        members.at(0).forget(&[]).unwrap();
    }
    fs::remove_dir_all(members.folder.path().join("2")).unwrap();
    assert!(members.shares(&of, place.period, &[2]).is_empty());
    members.at(0).deal_again(account(2)).unwrap();
    members.at(0).deal_again(account(2)).unwrap();
    assert_eq!(members.at(0).undealt().len(), 2, "noted once");
    members.hand_over(0);
    assert!(members.at(0).undealt().is_empty());
    assert_eq!(members.shares(&of, place.period, &[2]).len(), 2);

    // Once it is no custodian any more it destroys what is not its own, and no more.
    assert_eq!(members.at(2).destroy_others().unwrap(), 2);
    assert!(members.shares(&of, place.period, &[2]).is_empty());
    assert_eq!(members.at(0).destroy_others().unwrap(), 0);
    assert_eq!(members.shares(&of, place.period, &[0, 1]).len(), 3);

    let asking = BTreeSet::from([account(1), account(4)]);
    assert!(members.at(2).asking().unwrap().is_empty());
    members.at(2).ask_again(&asking).unwrap();
    assert_eq!(members.at(2).asking().unwrap(), asking, "over a restart");
}

/// Nobody slips into another custody, or into the one that records are being sealed under.
#[test]
fn only_a_place_of_the_same_custody_changes_hands() {
    let members = Members::new(3, 2);
    let owner = members.at(0);
    let next = members.with(2, 3);
    assert!(owner.succeed(&next, true).is_err(), "it is written under");
    let reader = members.at(4);
    reader.learn(&members.custody).unwrap();
    for wrong in [
        Custody {
            threshold: 1,
            ..next.clone()
        },
        Custody {
            owner: account(3),
            ..next.clone()
        },
        Custody {
            id: next.id,
            owner: next.owner,
            threshold: next.threshold,
            custodians: vec![account(0), account(1)],
        },
    ] {
        assert!(reader.succeed(&wrong, false).is_err(), "{wrong:?}");
    }
    reader.succeed(&next, false).unwrap();
    assert_eq!(members.at(4).custody(next.id), Some(next));
}
