use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40, keccak256};
use alloy_sol_types::SolCall as _;
use stele_core::{
    abi::{
        consent::IConsent::{Revoked, UnknownGrant, canCall, renounceCall},
        emergency::IEmergency::*,
        identity::IIdentity::{registerMemberCall, registerPatientCall},
    },
    id::{CONSENT, EMERGENCY, IDENTITY},
};

use super::logic::{ADMINISTRATOR, AUDITOR, DOCTOR, NURSE};
use crate::contracts::{
    governance::tests::suspend,
    testing::{Receipt, Sandbox, person, slot, word_of},
};

const HOURS: u64 = 3600;
const PATIENT: u64 = 50;

/// Organisations 1 to 4; doctor 10, nurse 11, administrator 12, auditor 13 of organisation 1; auditor 14 of organisation 2;
/// doctor who audits too, 15; patient 50 of organisation 2.
fn hospital() -> Sandbox {
    let mut chain = Sandbox::new(&[person(1), person(2), person(3), person(4)]);
    for (organization, member, roles) in [
        (1, 10, DOCTOR),
        (1, 11, NURSE),
        (1, 12, ADMINISTRATOR),
        (1, 13, AUDITOR),
        (2, 14, AUDITOR),
        (1, 15, DOCTOR | AUDITOR),
    ] {
        let call = registerMemberCall {
            member: person(member),
            roles,
            licence: keccak256("licence"),
        };
        chain.send(person(organization), IDENTITY, &call).ok();
    }
    let call = registerPatientCall {
        patient: person(PATIENT),
        directoryRoot: B256::ZERO,
    };
    chain.send(person(2), IDENTITY, &call).ok();
    chain
}

fn open(chain: &mut Sandbox, by: u64, reason: u8, seconds: u64) -> Receipt {
    let call = openCall {
        patient: person(PATIENT),
        categories: 0b101,
        reason,
        detailsDigest: keccak256("why"),
        until: U40::from(chain.now_s + seconds),
    };
    chain.send(person(by), EMERGENCY, &call)
}

fn review(chain: &mut Sandbox, by: u64, number: u64, verdict: u8) -> Receipt {
    let call = reviewCall {
        number,
        verdict,
        detailsDigest: B256::ZERO,
    };
    chain.send(person(by), EMERGENCY, &call)
}

fn can(chain: &mut Sandbox, who: u64, category: u8, permission: u8, purpose: u16) -> bool {
    let call = canCall {
        patient: person(PATIENT),
        who: person(who),
        category,
        permission,
        purpose,
    };
    chain.ask(CONSENT, &call)
}

/// FR-D10, LIM-11: the opening is for the clinician, to see, for emergency treatment, for four hours at most.
#[test]
fn what_is_opened_is_narrow_and_short() {
    let mut chain = hospital();
    assert!(!can(&mut chain, 10, 0, 1, 8));
    let receipt = open(&mut chain, 10, 2, 4 * HOURS).ok();
    let event = &receipt.events::<Opened>()[0];
    assert_eq!(
        (event.patient, event.clinician, event.number, event.reason),
        (person(PATIENT), person(10), 1, 2)
    );
    assert!(can(&mut chain, 10, 0, 1, 8) && can(&mut chain, 10, 2, 1, 8));
    let others = [
        (10, 1, 1, 8),
        (10, 0, 2, 8),
        (10, 0, 4, 8),
        (10, 0, 1, 1),
        (11, 0, 1, 8),
        (1, 0, 1, 8),
    ];
    for (who, category, permission, purpose) in others {
        assert!(!can(&mut chain, who, category, permission, purpose));
    }
    chain.now_s += 4 * HOURS - 1;
    assert!(can(&mut chain, 10, 0, 1, 8));
    chain.now_s += 1;
    assert!(!can(&mut chain, 10, 0, 1, 8));
    let _: InvalidPeriod = open(&mut chain, 10, 2, 4 * HOURS + 1).refused();
    let _: InvalidPeriod = open(&mut chain, 10, 2, 0).refused();
    // The clinician ends it early.
    let receipt = open(&mut chain, 10, 1, HOURS).ok();
    let id = receipt.events::<Opened>()[0].grantId;
    let end = renounceCall {
        patient: person(PATIENT),
        id,
    };
    chain.send(person(10), CONSENT, &end).ok();
    assert!(!can(&mut chain, 10, 0, 1, 8));
    // A suspended organisation's clinicians see nothing from that block on.
    open(&mut chain, 11, 1, HOURS).ok();
    assert!(can(&mut chain, 11, 0, 1, 8));
    suspend(&mut chain, 1, &[2, 3, 4]);
    assert!(!can(&mut chain, 11, 0, 1, 8));
}

#[test]
fn who_may_open() {
    let mut chain = hospital();
    for nobody in [1, 12, 13, 14, PATIENT, 60] {
        let _: NotAClinician = open(&mut chain, nobody, 1, HOURS).refused();
    }
    for reason in [0, 5] {
        let _: InvalidReason = open(&mut chain, 10, reason, HOURS).refused();
    }
    let wrong = openCall {
        patient: person(11),
        categories: 1,
        reason: 1,
        detailsDigest: B256::ZERO,
        until: U40::from(chain.now_s + 1),
    };
    let _: NotAPatient = chain.send(person(10), EMERGENCY, &wrong).refused();
    open(&mut chain, 10, 1, HOURS).ok();
    let _: AlreadyOpen = open(&mut chain, 10, 1, HOURS).refused();
    open(&mut chain, 11, 1, HOURS).ok();
    chain.now_s += HOURS;
    open(&mut chain, 10, 1, HOURS).ok();
    assert_eq!(chain.ask(EMERGENCY, &openingCountCall {}), 3);
}

#[test]
fn reviews() {
    let mut chain = hospital();
    open(&mut chain, 15, 3, HOURS).ok();
    let _: UnknownOpening = review(&mut chain, 13, 2, 1).refused();
    for nobody in [15, 10, 14, 1, 60] {
        let _: NotAReviewer = review(&mut chain, nobody, 1, 1).refused();
    }
    for verdict in [0, 3] {
        let _: InvalidVerdict = review(&mut chain, 13, 1, verdict).refused();
    }
    let receipt = review(&mut chain, 13, 1, 2).ok();
    assert_eq!(receipt.events::<Reviewed>()[0].verdict, 2);
    let _: AlreadyReviewed = review(&mut chain, 12, 1, 1).refused();
    let found = chain.ask(EMERGENCY, &openingCall { number: 1 });
    assert_eq!((found.clinician, found.verdict), (person(15), 2));
}

/// One transaction of the patient ends what several clinicians may see; a list that names one that is over ends none.
#[test]
fn stop_all() {
    let mut chain = hospital();
    let mut list = stopAllCall::default();
    for by in [10, 11] {
        let receipt = open(&mut chain, by, 1, HOURS).ok();
        list.grantees.push(person(by));
        list.ids.push(receipt.events::<Opened>()[0].grantId);
    }
    let _: NotAPatient = chain.send(person(10), EMERGENCY, &list).refused();
    let mut short = list.clone();
    short.ids.pop();
    let _: InvalidList = chain.send(person(PATIENT), EMERGENCY, &short).refused();
    let mut wrong = list.clone();
    wrong.ids[1] += 1;
    let _: UnknownGrant = chain.send(person(PATIENT), EMERGENCY, &wrong).refused();
    assert!(can(&mut chain, 10, 0, 1, 8) && can(&mut chain, 11, 0, 1, 8));
    let receipt = chain.send(person(PATIENT), EMERGENCY, &list).ok();
    assert_eq!(receipt.events::<Revoked>().len(), 2);
    assert!(!can(&mut chain, 10, 0, 1, 8) && !can(&mut chain, 11, 0, 1, 8));
}

#[test]
fn a_chain_without_the_contract_is_as_before() {
    let mut chain = hospital();
    chain.place(EMERGENCY, Vec::new(), U256::ZERO);
    let receipt = open(&mut chain, 10, 1, HOURS).ok();
    assert!(receipt.logs.is_empty());
    assert_eq!(receipt.outcome, Ok(Bytes::new()));
    assert!(!can(&mut chain, 10, 0, 1, 8));
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        openCall::default().abi_encode(),
        reviewCall::default().abi_encode(),
        stopAllCall::default().abi_encode(),
        openingCall::default().abi_encode(),
        openingCountCall.abi_encode(),
    ];
    hospital().check_selectors::<IEmergencyCalls>(EMERGENCY, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = hospital();
    open(&mut chain, 10, 3, HOURS).ok();
    review(&mut chain, 12, 1, 1).ok();
    let until = U256::from(chain.now_s + HOURS);
    let number = |n: u64| U256::from(n);
    assert_eq!(chain.word(EMERGENCY, U256::ZERO), number(1));
    let base = slot(B256::from(number(1)), number(1));
    let word = |who: Address| word_of(who.into_word());
    let first = word(person(PATIENT)) | number(3) << 160 | number(1) << 168 | until << 176;
    assert_eq!(chain.word(EMERGENCY, base), first);
    let grant = chain.ask(EMERGENCY, &openingCall { number: 1 }).grantId;
    let second = word(person(10)) | U256::from(grant) << 160;
    assert_eq!(chain.word(EMERGENCY, base + U256::ONE), second);
    let last = slot(
        person(10).into_word(),
        slot(person(PATIENT).into_word(), number(2)),
    );
    assert_eq!(chain.word(EMERGENCY, last), until);
    assert_eq!(chain.words(EMERGENCY).len(), 4);
}
