use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40, keccak256};
use alloy_sol_types::{SolCall as _, SolStruct as _};
use proptest::prelude::*;
use stele_core::{
    abi::{
        identity::IIdentity::{registerMemberCall, updateMemberCall},
        prescriptions::IPrescriptions::*,
        typed::{Dispense, prescriptions_domain},
    },
    id::{DEFAULT_CHAIN_ID, IDENTITY, PRESCRIPTIONS},
};

use super::logic::{DOCTOR, PHARMACIST};
use crate::contracts::{
    governance::tests::suspend,
    testing::{Receipt, Sandbox, person, sign, slot, word_of},
};

/// Organisations 1 to 4; doctor 10 and pharmacist 11 of organisation 1, pharmacist 12 of organisation 2.
fn clinic() -> Sandbox {
    let mut chain = Sandbox::new(&[person(1), person(2), person(3), person(4)]);
    for (organization, member, roles) in [(1, 10, DOCTOR), (1, 11, PHARMACIST), (2, 12, PHARMACIST)]
    {
        let call = registerMemberCall {
            member: person(member),
            roles,
            licence: keccak256("licence"),
        };
        chain.send(person(organization), IDENTITY, &call).ok();
    }
    chain
}

fn text() -> B256 {
    keccak256("text")
}

/// The key of person 100 is the prescription's.
const KEY: u64 = 100;

fn issue(chain: &mut Sandbox, by: u64, key: u64, portions: u16, days: u64) -> Receipt {
    let call = issueCall {
        id: person(key),
        commitment: text(),
        portions,
        expires: U40::from(chain.now_s + days * 86_400),
    };
    chain.send(person(by), PRESCRIPTIONS, &call)
}

fn signed(key: u64, chain_id: u64, by: u64, sequence: u16, portions: u16) -> Bytes {
    let message = Dispense {
        id: person(key),
        dispenser: person(by),
        sequence,
        portions,
    };
    sign(
        key,
        message.eip712_signing_hash(&prescriptions_domain(chain_id)),
    )
}

fn dispense(chain: &mut Sandbox, by: u64, sequence: u16, portions: u16) -> Receipt {
    let call = dispenseCall {
        id: person(KEY),
        sequence,
        portions,
        signature: signed(KEY, DEFAULT_CHAIN_ID, by, sequence, portions),
    };
    chain.send(person(by), PRESCRIPTIONS, &call)
}

fn cancel(chain: &mut Sandbox, by: u64) -> Receipt {
    chain.send(person(by), PRESCRIPTIONS, &cancelCall { id: person(KEY) })
}

fn verdict(chain: &mut Sandbox, key: u64, commitment: B256) -> (u8, u16) {
    let call = verifyCall {
        id: person(key),
        commitment,
    };
    let answer = chain.ask(PRESCRIPTIONS, &call);
    (answer.verdict, answer.left)
}

/// FR-PH1: forged, altered, cancelled, dispensed and expired are told apart.
#[test]
fn verdicts() {
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 3, 30).ok();
    assert_eq!(verdict(&mut chain, KEY, text()), (0, 3));
    assert_eq!(verdict(&mut chain, 101, text()), (1, 0));
    assert_eq!(verdict(&mut chain, KEY, keccak256("another")), (2, 3));
    dispense(&mut chain, 11, 0, 1).ok();
    assert_eq!(verdict(&mut chain, KEY, text()), (0, 2));
    dispense(&mut chain, 12, 1, 2).ok();
    assert_eq!(verdict(&mut chain, KEY, text()), (4, 0));
    let _: AlreadyDispensed = dispense(&mut chain, 11, 2, 1).refused();

    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 3, 30).ok();
    chain.now_s += 30 * 86_400 - 1;
    assert_eq!(verdict(&mut chain, KEY, text()), (0, 3));
    chain.now_s += 1;
    assert_eq!(verdict(&mut chain, KEY, text()), (5, 3));
    let refused: PrescriptionExpired = dispense(&mut chain, 11, 0, 1).refused();
    assert_eq!(refused.expires, U40::from(chain.now_s));

    let mut chain = clinic();
    let _: UnknownPrescription = dispense(&mut chain, 11, 0, 1).refused();
    issue(&mut chain, 10, KEY, 3, 30).ok();
    let receipt = cancel(&mut chain, 10).ok();
    assert_eq!(receipt.events::<Cancelled>()[0].by, person(10));
    assert_eq!(verdict(&mut chain, KEY, text()), (3, 3));
    let _: PrescriptionCancelled = dispense(&mut chain, 11, 0, 1).refused();
    let _: PrescriptionCancelled = cancel(&mut chain, 10).refused();
}

/// FR-PH2: two pharmacies are shown the same code; both sign for what they see; one wins.
#[test]
fn of_two_pharmacies_one_wins() {
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 1, 30).ok();
    let receipt = dispense(&mut chain, 12, 0, 1).ok();
    let event = &receipt.events::<Dispensed>()[0];
    assert_eq!((event.dispenser, event.left), (person(12), 0));
    let _: AlreadyDispensed = dispense(&mut chain, 11, 0, 1).refused();
    // With something left the second is told that it did not see the first.
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 5, 30).ok();
    dispense(&mut chain, 12, 0, 2).ok();
    let refused: OutOfSequence = dispense(&mut chain, 11, 0, 2).refused();
    assert_eq!((refused.expected, refused.given), (1, 0));
}

#[test]
fn signatures_name_everything() {
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 5, 30).ok();
    let mut attempt = |key, chain_id, signed_by, signed_sequence, signed_portions| {
        let call = dispenseCall {
            id: person(KEY),
            sequence: 0,
            portions: 2,
            signature: signed(key, chain_id, signed_by, signed_sequence, signed_portions),
        };
        chain.send(person(11), PRESCRIPTIONS, &call)
    };
    let wrong = [
        attempt(101, DEFAULT_CHAIN_ID, 11, 0, 2),
        attempt(KEY, DEFAULT_CHAIN_ID + 1, 11, 0, 2),
        attempt(KEY, DEFAULT_CHAIN_ID, 12, 0, 2),
        attempt(KEY, DEFAULT_CHAIN_ID, 11, 1, 2),
        attempt(KEY, DEFAULT_CHAIN_ID, 11, 0, 5),
    ];
    for receipt in wrong {
        let _: BadSignature = receipt.refused();
    }
    attempt(KEY, DEFAULT_CHAIN_ID, 11, 0, 2).ok();
    let empty = dispenseCall {
        id: person(KEY),
        sequence: 1,
        portions: 1,
        signature: Bytes::new(),
    };
    let _: BadSignature = chain.send(person(11), PRESCRIPTIONS, &empty).refused();
    let refused: TooManyPortions = dispense(&mut chain, 11, 1, 4).refused();
    assert_eq!((refused.left, refused.asked), (3, 4));
    let _: EmptyPrescription = dispense(&mut chain, 11, 1, 0).refused();
}

#[test]
fn roles_decide() {
    let mut chain = clinic();
    for nobody in [1, 11, 50] {
        let _: NotAPrescriber = issue(&mut chain, nobody, KEY, 1, 30).refused();
    }
    issue(&mut chain, 10, KEY, 2, 30).ok();
    for nobody in [1, 10, 50] {
        let _: NotADispenser = dispense(&mut chain, nobody, 0, 1).refused();
    }
    for nobody in [11, 2, 50] {
        let _: NotItsPrescriber = cancel(&mut chain, nobody).refused();
    }
    // A suspended doctor issues and cancels nothing; what was issued before stays good until the organisation ends it.
    let status = |chain: &mut Sandbox, member, roles, status| {
        let call = updateMemberCall {
            member: person(member),
            status,
            roles,
            licence: keccak256("licence"),
        };
        chain.send(person(1), IDENTITY, &call).ok();
    };
    status(&mut chain, 10, DOCTOR, 2);
    let _: NotAPrescriber = issue(&mut chain, 10, 101, 1, 30).refused();
    let _: NotItsPrescriber = cancel(&mut chain, 10).refused();
    dispense(&mut chain, 11, 0, 1).ok();
    status(&mut chain, 11, PHARMACIST, 2);
    let _: NotADispenser = dispense(&mut chain, 11, 1, 1).refused();
    suspend(&mut chain, 2, &[1, 3, 4]);
    let _: NotADispenser = dispense(&mut chain, 12, 1, 1).refused();
    cancel(&mut chain, 1).ok();
}

#[test]
fn an_id_is_issued_once() {
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 1, 30).ok();
    let _: AlreadyIssued = issue(&mut chain, 10, KEY, 9, 30).refused();
    cancel(&mut chain, 10).ok();
    let _: AlreadyIssued = issue(&mut chain, 10, KEY, 9, 30).refused();
    let _: EmptyPrescription = issue(&mut chain, 10, 101, 0, 30).refused();
    let _: InvalidExpiry = issue(&mut chain, 10, 101, 1, 0).refused();
    let _: InvalidExpiry = issue(&mut chain, 10, 101, 1, 732).refused();
    for id in [Address::ZERO, PRESCRIPTIONS] {
        let call = issueCall {
            id,
            commitment: text(),
            portions: 1,
            expires: U40::from(chain.now_s + 1),
        };
        let _: InvalidId = chain.send(person(10), PRESCRIPTIONS, &call).refused();
    }
    let call = issueCall {
        id: person(101),
        commitment: B256::ZERO,
        portions: 1,
        expires: U40::from(chain.now_s + 1),
    };
    let _: EmptyPrescription = chain.send(person(10), PRESCRIPTIONS, &call).refused();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// FR-PH2: however it is tried, what is dispensed equals a model that never gives out more than was issued.
    #[test]
    fn never_more_than_was_issued(
        portions in 1_u16..6,
        steps in proptest::collection::vec(
            (11_u64..14, 0_u16..5, 0_u16..4, prop_oneof![9 => Just(0_u64), 1 => 0_u64..20], 0_u8..20), 1..30),
    ) {
        let mut chain = clinic();
        issue(&mut chain, 10, KEY, portions, 30).ok();
        let expires = chain.now_s + 30 * 86_400;
        let (mut given, mut sequence, mut is_over) = (0_u16, 0_u16, false);
        for (by, number, asked, days, end) in steps {
            chain.now_s += days * 86_400;
            if end == 0 {
                cancel(&mut chain, 10);
                is_over = true;
            }
            let fits = by < 13
                && !is_over
                && chain.now_s < expires
                && number == sequence
                && asked > 0
                && given + asked <= portions;
            let receipt = dispense(&mut chain, by, number, asked);
            prop_assert_eq!(receipt.outcome.is_ok(), fits);
            if fits {
                given += asked;
                sequence += 1;
                prop_assert_eq!(receipt.returned::<dispenseCall>(), portions - given);
            }
            let now = chain.ask(PRESCRIPTIONS, &prescriptionCall { id: person(KEY) });
            prop_assert_eq!((now.dispensed, now.sequence), (given, sequence));
            prop_assert!(now.dispensed <= now.portions);
        }
    }
}

/// Chains of protocol 1 have an account without code there: a call succeeds and does nothing, as it always did.
#[test]
fn a_chain_without_the_contract_is_as_before() {
    let mut chain = clinic();
    chain.place(PRESCRIPTIONS, Vec::new(), U256::ZERO);
    let receipt = issue(&mut chain, 10, KEY, 1, 30).ok();
    assert!(receipt.logs.is_empty());
    assert_eq!(receipt.outcome, Ok(Bytes::new()));
    assert!(chain.words(PRESCRIPTIONS).is_empty());
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        issueCall::default().abi_encode(),
        dispenseCall::default().abi_encode(),
        cancelCall::default().abi_encode(),
        prescriptionCall::default().abi_encode(),
        verifyCall::default().abi_encode(),
        DOMAIN_SEPARATORCall.abi_encode(),
    ];
    clinic().check_selectors::<IPrescriptionsCalls>(PRESCRIPTIONS, &calls);
    let separator = clinic().ask(PRESCRIPTIONS, &DOMAIN_SEPARATORCall {});
    assert_eq!(
        separator,
        prescriptions_domain(DEFAULT_CHAIN_ID).separator()
    );
}

#[test]
fn storage_layout() {
    let mut chain = clinic();
    issue(&mut chain, 10, KEY, 5, 30).ok();
    let expires = U256::from(chain.now_s + 30 * 86_400);
    dispense(&mut chain, 11, 0, 2).ok();
    cancel(&mut chain, 10).ok();
    let base = slot(person(KEY).into_word(), U256::ZERO);
    let word = word_of(person(10).into_word())
        | U256::from(5) << 160
        | U256::from(2) << 176
        | U256::from(1) << 192
        | U256::from(2) << 208
        | expires << 216;
    assert_eq!(chain.word(PRESCRIPTIONS, base), word);
    assert_eq!(chain.word(PRESCRIPTIONS, base + U256::ONE), word_of(text()));
    assert_eq!(chain.words(PRESCRIPTIONS).len(), 2);
}
