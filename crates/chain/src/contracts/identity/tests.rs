use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolCall as _;
use proptest::prelude::*;
use stele_core::{
    abi::{consent::IConsent::DirectoryPublished, identity::IIdentity::*},
    id::{CONSENT, IDENTITY},
};

use super::{Kind, Status, logic::MAX_KEYS};
use crate::contracts::testing::{Receipt, Sandbox, person, slot, word_of};

const HOSPITAL: u64 = 1;
const LAB: u64 = 2;
const DOCTOR: u64 = 3;
const PATIENT: u64 = 4;
const DEVICE: u64 = 5;

fn populated() -> Sandbox {
    let mut chain = Sandbox::new(&[person(HOSPITAL), person(LAB)]);
    register_member(&mut chain, HOSPITAL, DOCTOR).ok();
    register_patient(&mut chain, HOSPITAL, PATIENT).ok();
    let call = registerDeviceCall {
        device: person(DEVICE),
        commitment: keccak256("serial"),
    };
    chain.send(person(HOSPITAL), IDENTITY, &call).ok();
    chain
}

fn register_member(chain: &mut Sandbox, by: u64, who: u64) -> Receipt {
    let call = registerMemberCall {
        member: person(who),
        roles: 1,
        licence: keccak256("licence"),
    };
    chain.send(person(by), IDENTITY, &call)
}

fn register_patient(chain: &mut Sandbox, by: u64, who: u64) -> Receipt {
    let call = registerPatientCall {
        patient: person(who),
        directoryRoot: keccak256("keys"),
    };
    chain.send(person(by), IDENTITY, &call)
}

fn update(chain: &mut Sandbox, by: u64, who: u64, status: Status) -> Receipt {
    let call = updateMemberCall {
        member: person(who),
        status: status as u8,
        roles: 2,
        licence: keccak256("renewed"),
    };
    chain.send(person(by), IDENTITY, &call)
}

fn passkey(n: u8) -> addKeyCall {
    addKeyCall {
        keyId: B256::repeat_byte(n),
        kind: 1,
        rpIdHash: keccak256("localhost"),
    }
}

fn speaks(chain: &mut Sandbox, who: u64, key: B256) -> bool {
    chain
        .ask(
            IDENTITY,
            &speaksForCall {
                who: person(who),
                keyId: key,
            },
        )
        .ok
}

#[test]
fn registration_needs_an_active_organization() {
    let mut chain = populated();
    for by in [DOCTOR, PATIENT, DEVICE, 50] {
        let refused: NotAnOrganization = register_member(&mut chain, by, 20).refused();
        assert_eq!(refused.account, person(by));
    }
    let account = chain.ask(
        IDENTITY,
        &accountCall {
            who: person(DOCTOR),
        },
    );
    assert_eq!((account.kind, account.status, account.roles), (2, 1, 1));
    assert_eq!(account.sponsor, person(HOSPITAL));
    assert_eq!(
        chain.ask(
            IDENTITY,
            &organizationOfCall {
                who: person(PATIENT)
            }
        ),
        person(HOSPITAL)
    );
    assert_eq!(
        chain.ask(
            IDENTITY,
            &commitmentOfCall {
                who: person(DOCTOR)
            }
        ),
        keccak256("licence")
    );
    let count = chain.ask(IDENTITY, &organizationCountCall {});
    assert_eq!((count.registered, count.active), (2, 2));
    assert_eq!(
        chain.ask(IDENTITY, &organizationAtCall { index: 1 }),
        person(LAB)
    );
    let lab = chain.ask(IDENTITY, &organizationCall { who: person(LAB) });
    assert_eq!(
        (lab.kind, lab.status, lab.endpointsDigest),
        (7, 1, keccak256(person(LAB)))
    );
}

#[test]
fn an_account_is_registered_once() {
    let mut chain = populated();
    for who in [HOSPITAL, LAB, DOCTOR, PATIENT, DEVICE] {
        let refused: AlreadyRegistered = register_patient(&mut chain, LAB, who).refused();
        assert_eq!(refused.account, person(who));
    }
    for address in [Address::ZERO, IDENTITY] {
        let call = registerMemberCall {
            member: address,
            roles: 0,
            licence: B256::ZERO,
        };
        let _: InvalidAccount = chain.send(person(LAB), IDENTITY, &call).refused();
    }
}

#[test]
fn only_the_sponsor_updates() {
    let mut chain = populated();
    let _: NotSponsor = update(&mut chain, LAB, DOCTOR, Status::Suspended).refused();
    let _: NotAnOrganization = update(&mut chain, DOCTOR, DOCTOR, Status::Active).refused();
    let _: UnknownAccount = update(&mut chain, HOSPITAL, 77, Status::Active).refused();
    let _: InvalidStatus = update(&mut chain, HOSPITAL, DOCTOR, Status::Unknown).refused();
    update(&mut chain, HOSPITAL, DOCTOR, Status::Suspended).ok();
    assert!(!chain.ask(
        IDENTITY,
        &isActiveCall {
            who: person(DOCTOR)
        }
    ));
    let _: NotActive = chain.send(person(DOCTOR), IDENTITY, &passkey(9)).refused();
    update(&mut chain, HOSPITAL, DOCTOR, Status::Active).ok();
    assert!(chain.ask(
        IDENTITY,
        &isActiveCall {
            who: person(DOCTOR)
        }
    ));
    update(&mut chain, HOSPITAL, DEVICE, Status::Suspended).ok();
}

#[test]
fn closed_is_final() {
    let mut chain = populated();
    update(&mut chain, HOSPITAL, DOCTOR, Status::Closed).ok();
    let _: NotActive = update(&mut chain, HOSPITAL, DOCTOR, Status::Active).refused();
}

#[test]
fn patients_are_not_suspended() {
    let mut chain = populated();
    let refused: InvalidKind = update(&mut chain, HOSPITAL, PATIENT, Status::Suspended).refused();
    assert_eq!(refused.kind, Kind::Patient as u8);
    let _: InvalidKind = update(&mut chain, HOSPITAL, HOSPITAL, Status::Suspended).refused();
}

#[test]
fn the_last_key_stays() {
    let mut chain = populated();
    let own = person(PATIENT).into_word();
    let remove = |key| removeKeyCall { keyId: key };
    let _: LastKey = chain
        .send(person(PATIENT), IDENTITY, &remove(own))
        .refused();
    chain.send(person(PATIENT), IDENTITY, &passkey(9)).ok();
    let _: KeyExists = chain.send(person(PATIENT), IDENTITY, &passkey(9)).refused();
    chain.send(person(PATIENT), IDENTITY, &remove(own)).ok();
    assert!(!speaks(&mut chain, PATIENT, own));
    let _: UnknownKey = chain
        .send(person(PATIENT), IDENTITY, &remove(own))
        .refused();
    let last = B256::repeat_byte(9);
    let _: LastKey = chain
        .send(person(PATIENT), IDENTITY, &remove(last))
        .refused();
    let again = addKeyCall {
        keyId: own,
        kind: 0,
        rpIdHash: B256::ZERO,
    };
    chain.send(person(PATIENT), IDENTITY, &again).ok();
    assert!(speaks(&mut chain, PATIENT, own));
    chain.send(person(PATIENT), IDENTITY, &remove(last)).ok();
    assert!(!speaks(&mut chain, PATIENT, last));
}

#[test]
fn unsound_keys_are_refused() {
    let mut chain = populated();
    let word = person(30).into_word();
    for (key, kind, rp) in [
        (B256::repeat_byte(9), 0, B256::ZERO),
        (B256::ZERO, 0, B256::ZERO),
        (word, 0, B256::repeat_byte(1)),
        (B256::repeat_byte(9), 1, B256::ZERO),
        (B256::repeat_byte(9), 1, B256::from(U256::ONE)),
        (person(PATIENT).into_word(), 1, keccak256("localhost")),
    ] {
        let call = addKeyCall {
            keyId: key,
            kind,
            rpIdHash: rp,
        };
        let _: InvalidKey = chain.send(person(PATIENT), IDENTITY, &call).refused();
    }
    let call = addKeyCall {
        keyId: word,
        kind: 2,
        rpIdHash: B256::ZERO,
    };
    let _: InvalidKind = chain.send(person(PATIENT), IDENTITY, &call).refused();
    let _: UnknownAccount = chain.send(person(60), IDENTITY, &passkey(9)).refused();
    for n in 0..MAX_KEYS {
        let key = person(100 + u64::from(n)).into_word();
        let call = addKeyCall {
            keyId: key,
            kind: 0,
            rpIdHash: B256::ZERO,
        };
        chain.send(person(PATIENT), IDENTITY, &call).ok();
    }
    let _: TooManyKeys = chain.send(person(PATIENT), IDENTITY, &passkey(9)).refused();
}

/// LIM-01's precondition: after the handover the organisation's keys, open or hidden, do not speak.
#[test]
fn claim_leaves_one_key() {
    let mut chain = populated();
    let hidden = person(31).into_word();
    let add = addKeyCall {
        keyId: hidden,
        kind: 0,
        rpIdHash: B256::ZERO,
    };
    chain.send(person(PATIENT), IDENTITY, &add).ok();
    assert!(speaks(&mut chain, PATIENT, hidden));
    let key = B256::repeat_byte(8);
    let claim = claimCall {
        keyId: key,
        rpIdHash: keccak256("localhost"),
        directoryRoot: keccak256("new"),
    };
    let receipt = chain.send(person(PATIENT), IDENTITY, &claim).ok();
    assert_eq!(receipt.events::<AccountClaimed>()[0].keyId, key);
    let published = receipt.events::<DirectoryPublished>();
    assert_eq!(published[0].directoryRoot, keccak256("new"));
    assert!(receipt.logs.iter().any(|log| log.address == CONSENT));
    assert!(speaks(&mut chain, PATIENT, key));
    assert!(!speaks(&mut chain, PATIENT, hidden));
    assert!(!speaks(&mut chain, PATIENT, person(PATIENT).into_word()));
    assert_eq!(
        chain
            .ask(
                IDENTITY,
                &accountCall {
                    who: person(PATIENT)
                }
            )
            .keys,
        1
    );
    let _: AlreadyClaimed = chain.send(person(PATIENT), IDENTITY, &claim).refused();
    let _: InvalidKind = chain.send(person(DOCTOR), IDENTITY, &claim).refused();
}

/// A patient with a key file takes over without a passkey; the account's own key can't be claimed again.
#[test]
fn claim_takes_a_key_file_too() {
    let mut chain = populated();
    let claim = |key: B256| claimCall {
        keyId: key,
        rpIdHash: B256::ZERO,
        directoryRoot: keccak256("new"),
    };
    let own = claim(person(PATIENT).into_word());
    let _: InvalidKey = chain.send(person(PATIENT), IDENTITY, &own).refused();
    let _: InvalidKey = chain
        .send(person(PATIENT), IDENTITY, &claim(B256::repeat_byte(8)))
        .refused();
    let key = person(31).into_word();
    let receipt = chain.send(person(PATIENT), IDENTITY, &claim(key)).ok();
    assert_eq!(receipt.events::<KeyAdded>()[0].kind, 0);
    assert!(speaks(&mut chain, PATIENT, key));
    assert!(!speaks(&mut chain, PATIENT, person(PATIENT).into_word()));
}

#[test]
fn origins_are_allowed_by_their_organization() {
    let mut chain = populated();
    let origin = keccak256("https://portal.example");
    let allowed = |who| originAllowedCall {
        organization_: person(who),
        originDigest: origin,
    };
    let call = allowOriginCall {
        originDigest: origin,
        allowed: true,
    };
    let _: NotAnOrganization = chain.send(person(DOCTOR), IDENTITY, &call).refused();
    chain.send(person(HOSPITAL), IDENTITY, &call).ok();
    assert!(chain.ask(IDENTITY, &allowed(HOSPITAL)));
    assert!(!chain.ask(IDENTITY, &allowed(LAB)));
    let call = allowOriginCall {
        originDigest: origin,
        allowed: false,
    };
    chain.send(person(HOSPITAL), IDENTITY, &call).ok();
    assert!(!chain.ask(IDENTITY, &allowed(HOSPITAL)));
}

#[test]
fn a_suspended_organization_takes_its_members_along() {
    let mut chain = Sandbox::new(&[person(HOSPITAL), person(LAB), person(6), person(7)]);
    register_member(&mut chain, HOSPITAL, DOCTOR).ok();
    register_patient(&mut chain, HOSPITAL, PATIENT).ok();
    crate::contracts::governance::tests::suspend(&mut chain, HOSPITAL, &[LAB, 6, 7]);
    assert!(!chain.ask(
        IDENTITY,
        &isActiveCall {
            who: person(HOSPITAL)
        }
    ));
    assert!(!chain.ask(
        IDENTITY,
        &isActiveCall {
            who: person(DOCTOR)
        }
    ));
    assert!(chain.ask(
        IDENTITY,
        &isActiveCall {
            who: person(PATIENT)
        }
    ));
    let _: NotActive = register_member(&mut chain, HOSPITAL, 20).refused();
    let _: NotActive = chain.send(person(DOCTOR), IDENTITY, &passkey(9)).refused();
    let count = chain.ask(IDENTITY, &organizationCountCall {});
    assert_eq!((count.registered, count.active), (4, 3));
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Remove(u8),
    RemoveOwn,
    RestoreOwn,
    Claim(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u8..5).prop_map(Step::Add),
        (1_u8..5).prop_map(Step::Remove),
        Just(Step::RemoveOwn),
        Just(Step::RestoreOwn),
        (1_u8..5).prop_map(Step::Claim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The keys that speak for an account are those of a set to which the same was done; it is never empty.
    #[test]
    fn keys_equal_a_model(steps in proptest::collection::vec(step(), 1..24)) {
        let mut chain = populated();
        let own = person(PATIENT).into_word();
        let mut model = std::collections::BTreeSet::from([own]);
        for step in steps {
            let key = |n: u8| B256::repeat_byte(n);
            let (receipt, accepted) = match step {
                Step::Add(n) => {
                    (chain.send(person(PATIENT), IDENTITY, &passkey(n)), model.insert(key(n)))
                }
                Step::Remove(n) => {
                    let accepted = model.len() > 1 && model.remove(&key(n));
                    (chain.send(person(PATIENT), IDENTITY, &removeKeyCall { keyId: key(n) }), accepted)
                }
                Step::RemoveOwn => {
                    let accepted = model.len() > 1 && model.remove(&own);
                    (chain.send(person(PATIENT), IDENTITY, &removeKeyCall { keyId: own }), accepted)
                }
                Step::RestoreOwn => {
                    let call = addKeyCall { keyId: own, kind: 0, rpIdHash: B256::ZERO };
                    (chain.send(person(PATIENT), IDENTITY, &call), model.insert(own))
                }
                Step::Claim(n) => {
                    let accepted = model.contains(&own);
                    if accepted {
                        model = std::collections::BTreeSet::from([key(n)]);
                    }
                    let rp = keccak256("localhost");
                    let call = claimCall { keyId: key(n), rpIdHash: rp, directoryRoot: rp };
                    (chain.send(person(PATIENT), IDENTITY, &call), accepted)
                }
            };
            prop_assert_eq!(receipt.outcome.is_ok(), accepted);
            prop_assert!(!model.is_empty());
            for candidate in (1..5).map(key).chain([own]) {
                prop_assert_eq!(speaks(&mut chain, PATIENT, candidate), model.contains(&candidate));
            }
        }
    }
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        updateOrganizationCall::default().abi_encode(),
        allowOriginCall::default().abi_encode(),
        registerMemberCall::default().abi_encode(),
        updateMemberCall::default().abi_encode(),
        registerPatientCall::default().abi_encode(),
        registerDeviceCall::default().abi_encode(),
        addKeyCall::default().abi_encode(),
        removeKeyCall::default().abi_encode(),
        claimCall::default().abi_encode(),
        accountCall::default().abi_encode(),
        isActiveCall::default().abi_encode(),
        organizationOfCall::default().abi_encode(),
        organizationCall::default().abi_encode(),
        organizationCountCall {}.abi_encode(),
        organizationAtCall::default().abi_encode(),
        speaksForCall::default().abi_encode(),
        originAllowedCall::default().abi_encode(),
        commitmentOfCall::default().abi_encode(),
    ];
    populated().check_selectors::<IIdentityCalls>(IDENTITY, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = populated();
    chain.send(person(DOCTOR), IDENTITY, &passkey(9)).ok();
    let word = |slot| chain.word(IDENTITY, slot);
    let number = |n: u64| U256::from(n);
    assert_eq!(word(U256::ZERO), number(2) | number(2) << 64);
    let doctor = person(DOCTOR).into_word();
    let sponsor: U256 = person(HOSPITAL).into_word().into();
    let expected = number(2) | number(1) << 8 | number(1) << 16 | number(1) << 48 | sponsor << 72;
    assert_eq!(word(slot(doctor, number(1))), expected);
    assert_eq!(word(slot(doctor, number(2))), word_of(keccak256("licence")));
    let hospital = person(HOSPITAL).into_word();
    let organization = number(1) | number(1) << 8 | sponsor << 72 | number(7) << 232;
    assert_eq!(word(slot(hospital, number(1))), organization);
    assert_eq!(
        word(slot(hospital, number(3))),
        word_of(keccak256(person(HOSPITAL)))
    );
    let first: U256 = word_of(keccak256(number(4).to_be_bytes::<32>()));
    assert_eq!(word(first), sponsor);
    let keys = slot(doctor, number(5));
    assert_eq!(
        word(slot(B256::repeat_byte(9), keys)),
        word_of(keccak256("localhost"))
    );
}
