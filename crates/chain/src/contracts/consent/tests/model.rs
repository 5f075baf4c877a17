//! Grants against a model that remembers every grant ever given and asks each of them.

use alloy_primitives::aliases::U40;
use proptest::prelude::*;
use stele_core::{
    abi::consent::IConsent::{Terms, grantCall, openCategoriesCall, renounceCall},
    id::CONSENT,
};

use super::{
    super::storage::{Grant, GrantStatus, MAX_SERIAL},
    DOCTOR, HOSPITAL, LAB, PATIENT, STRANGER, can, can_at, give, populated, revoke,
};
use crate::contracts::testing::{Sandbox, person};

#[derive(Clone, Debug)]
enum Step {
    Grant {
        to: usize,
        categories: u64,
        permissions: u8,
        purposes: u16,
        from: i64,
        for_s: i64,
        months: (u16, u16),
    },
    Revoke {
        to: usize,
        nth: usize,
    },
    Renounce {
        to: usize,
        nth: usize,
    },
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let grant = (
        0..4_usize,
        1_u64..8,
        1_u8..8,
        1_u16..8,
        -20_i64..40,
        1_i64..60,
        (0_u16..4, 0_u16..4),
    )
        .prop_map(
            |(to, categories, permissions, purposes, from, for_s, (a, b))| {
                let months = (a.min(b), a.max(b));
                Step::Grant {
                    to,
                    categories,
                    permissions,
                    purposes,
                    from,
                    for_s,
                    months,
                }
            },
        );
    prop_oneof![
        4 => grant,
        2 => (0..4_usize, 0..20_usize).prop_map(|(to, nth)| Step::Revoke { to, nth }),
        1 => (0..4_usize, 0..20_usize).prop_map(|(to, nth)| Step::Renounce { to, nth }),
        2 => (0_u64..30).prop_map(Step::Wait),
    ]
}

/// What the model remembers of a grant.
struct Given {
    to: usize,
    id: u32,
    terms: Terms,
    ended: bool,
}

fn lives(given: &Given, now_s: u64) -> bool {
    let from: u64 = given.terms.notBefore.to();
    !given.ended && from <= now_s && now_s < given.terms.expires.to::<u64>()
}

const GRANTEES: [u64; 4] = [HOSPITAL, LAB, DOCTOR, STRANGER];

/// The model's answer: every grant ever given is asked, those to the hospital also for its doctor.
fn model_open(model: &[Given], who: usize, ask: (u8, u16, Option<u16>), now_s: u64) -> u64 {
    let (permission, purpose, month) = ask;
    model
        .iter()
        .filter(|g| g.to == who || (GRANTEES[who] == DOCTOR && GRANTEES[g.to] == HOSPITAL))
        .filter(|g| lives(g, now_s))
        .filter(|g| g.terms.permissions & permission == permission)
        .filter(|g| g.terms.purposes & purpose == purpose)
        .filter(|g| month.is_none_or(|m| (g.terms.recordsFrom..=g.terms.recordsTo).contains(&m)))
        .fold(0, |open, g| open | g.terms.categories)
}

fn apply(chain: &mut Sandbox, model: &mut Vec<Given>, step: &Step) {
    match *step {
        Step::Grant {
            to,
            categories,
            permissions,
            purposes,
            from,
            for_s,
            months,
        } => {
            let start = chain.now_s.saturating_add_signed(from);
            let end = start.saturating_add_signed(for_s);
            let terms = Terms {
                categories,
                permissions,
                purposes,
                notBefore: U40::from(start),
                expires: U40::from(end),
                recordsFrom: months.0,
                recordsTo: months.1,
            };
            let over = |g: &&Given| g.ended || chain.now_s >= g.terms.expires.to::<u64>();
            let open = model
                .iter()
                .filter(|g| g.to == to)
                .filter(|g| !over(g))
                .count();
            let fits = end > chain.now_s && open < 16;
            let receipt = give(chain, GRANTEES[to], terms.clone());
            assert_eq!(receipt.outcome.is_ok(), fits);
            if fits {
                let id = receipt.returned::<grantCall>();
                assert!(
                    model.iter().all(|g| g.to != to || g.id != id),
                    "ids are unique"
                );
                model.push(Given {
                    to,
                    id,
                    terms,
                    ended: false,
                });
            }
        }
        Step::Revoke { to, nth } | Step::Renounce { to, nth } => {
            let Some(given) = model.iter_mut().filter(|g| g.to == to).nth(nth) else {
                return;
            };
            let receipt = if matches!(step, Step::Revoke { .. }) {
                revoke(chain, GRANTEES[to], given.id)
            } else {
                let call = renounceCall {
                    patient: person(PATIENT),
                    id: given.id,
                };
                chain.send(person(GRANTEES[to]), CONSENT, &call)
            };
            assert!(!(given.ended && receipt.outcome.is_ok()), "ended twice");
            // One that expired may have lost its slot to another; it is over in either case.
            let expired = chain.now_s >= given.terms.expires.to::<u64>();
            assert!(given.ended || expired || receipt.outcome.is_ok());
            given.ended = true;
        }
        Step::Wait(seconds) => chain.now_s += seconds,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_sequence_opens_a_revoked_or_expired_grant(steps in proptest::collection::vec(any_step(), 1..40)) {
        let mut chain = populated();
        let mut model = Vec::new();
        for step in steps {
            apply(&mut chain, &mut model, &step);
            for (index, who) in GRANTEES.into_iter().enumerate() {
                let (patient, address) = (person(PATIENT), person(who));
                for (permission, purpose) in [(1, 1), (2, 0), (4, 2), (7, 7)] {
                    let expected = model_open(&model, index, (permission, purpose, None), chain.now_s);
                    let call = openCategoriesCall { patient, who: address, permission, purpose };
                    prop_assert_eq!(chain.ask(CONSENT, &call), expected);
                    let found = can(&mut chain, who, 1, permission, purpose);
                    prop_assert_eq!(found, expected & 2 != 0);
                }
                let expected = model_open(&model, index, (1, 1, Some(2)), chain.now_s) & 1 != 0;
                prop_assert_eq!(can_at(&mut chain, who, 2), expected);
            }
        }
    }

    #[test]
    fn grants_round_trip(
        categories: u64, permissions: u8, purposes: u16, not_before_s in 0..1_u64 << 40,
        expires_s in 0..1_u64 << 40, records_from: u16, records_to: u16,
        serial in 0..=MAX_SERIAL, status in 0..4_u8,
    ) {
        let status = [GrantStatus::Unused, GrantStatus::Granted, GrantStatus::Revoked,
            GrantStatus::Renounced][usize::from(status)];
        let grant = Grant { categories, permissions, purposes, not_before_s, expires_s,
            records_from, records_to, serial, status };
        prop_assert_eq!(Grant::unpack(grant.pack()), grant);
    }
}
