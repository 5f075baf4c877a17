mod model;

use alloy_primitives::{Address, B256, U256, aliases::U40, keccak256};
use alloy_sol_types::{Eip712Domain, SolCall as _, SolValue as _};
use stele_core::{
    abi::{
        consent::IConsent::*,
        identity::IIdentity::{
            addKeyCall, registerDeviceCall, registerMemberCall, registerPatientCall, removeKeyCall,
            updateMemberCall,
        },
    },
    id::{CONSENT, DEFAULT_CHAIN_ID, IDENTITY},
};

use super::signing::{SignedGrant, SignedRevocation, domain_separator};
use crate::contracts::{
    governance::tests::suspend,
    testing::{Receipt, Sandbox, person, sign, slot, word_of},
};

const HOSPITAL: u64 = 1;
const LAB: u64 = 2;
const DOCTOR: u64 = 5;
const PATIENT: u64 = 6;
const DEVICE: u64 = 7;
/// Not registered: an address made for one grant.
const STRANGER: u64 = 8;

fn populated() -> Sandbox {
    let mut chain = Sandbox::new(&[person(HOSPITAL), person(LAB), person(3), person(4)]);
    let hospital = person(HOSPITAL);
    let call = registerMemberCall {
        member: person(DOCTOR),
        roles: 1,
        licence: B256::ZERO,
    };
    chain.send(hospital, IDENTITY, &call).ok();
    let call = registerPatientCall {
        patient: person(PATIENT),
        directoryRoot: B256::ZERO,
    };
    chain.send(hospital, IDENTITY, &call).ok();
    let call = registerDeviceCall {
        device: person(DEVICE),
        commitment: B256::ZERO,
    };
    chain.send(hospital, IDENTITY, &call).ok();
    chain
}

fn terms(chain: &Sandbox) -> Terms {
    Terms {
        categories: 0b101,
        permissions: 3,
        purposes: 1 | 8,
        notBefore: U40::from(chain.now_s),
        expires: U40::from(chain.now_s + 1_000),
        recordsFrom: 600,
        recordsTo: 700,
    }
}

fn give(chain: &mut Sandbox, to: u64, terms: Terms) -> Receipt {
    let call = grantCall {
        grantee: person(to),
        terms,
        envelopeDigest: keccak256("envelope"),
        request: 0,
    };
    chain.send(person(PATIENT), CONSENT, &call)
}

fn give_default(chain: &mut Sandbox, to: u64) -> u32 {
    let terms = terms(chain);
    give(chain, to, terms).ok().returned::<grantCall>()
}

fn revoke(chain: &mut Sandbox, from: u64, id: u32) -> Receipt {
    let call = revokeCall {
        grantee: person(from),
        id,
        directoryRoot: B256::ZERO,
    };
    chain.send(person(PATIENT), CONSENT, &call)
}

fn can(chain: &mut Sandbox, who: u64, category: u8, permission: u8, purpose: u16) -> bool {
    let (patient, who) = (person(PATIENT), person(who));
    chain.ask(
        CONSENT,
        &canCall {
            patient,
            who,
            category,
            permission,
            purpose,
        },
    )
}

fn can_at(chain: &mut Sandbox, who: u64, month: u16) -> bool {
    let (patient, who) = (person(PATIENT), person(who));
    let call = canAtCall {
        patient,
        who,
        category: 0,
        permission: 1,
        purpose: 1,
        month,
    };
    chain.ask(CONSENT, &call)
}

#[test]
fn a_grant_opens_what_it_says() {
    let mut chain = populated();
    assert!(!can(&mut chain, LAB, 0, 1, 1));
    let id = give_default(&mut chain, LAB);
    assert_eq!(id, 1, "index 0, serial 1");
    for (category, permission, purpose, open) in [
        (0, 1, 1, true),
        (2, 1, 1, true),
        (1, 1, 1, false),
        (63, 1, 1, false),
        (64, 1, 1, false),
        (255, 1, 1, false),
        (0, 2, 8, true),
        (0, 3, 9, true),
        (0, 4, 1, false),
        (0, 7, 1, false),
        (0, 0, 1, false),
        (0, 1, 2, false),
        (0, 1, 3, false),
        (0, 1, 0, true),
    ] {
        let found = can(&mut chain, LAB, category, permission, purpose);
        assert_eq!(found, open, "{category} {permission} {purpose}");
    }
    assert!(can_at(&mut chain, LAB, 600) && can_at(&mut chain, LAB, 700));
    assert!(!can_at(&mut chain, LAB, 599) && !can_at(&mut chain, LAB, 701));
    let question = |permission| openCategoriesCall {
        patient: person(PATIENT),
        who: person(LAB),
        permission,
        purpose: 1,
    };
    assert_eq!(chain.ask(CONSENT, &question(1)), 0b101);
    assert_eq!(chain.ask(CONSENT, &question(4)), 0);
    chain.now_s += 999;
    assert!(can(&mut chain, LAB, 0, 1, 1));
    chain.now_s += 1;
    assert!(
        !can(&mut chain, LAB, 0, 1, 1),
        "expiry is the first moment after the end"
    );
}

#[test]
fn patients_open_their_own_and_nobody_elses() {
    let mut chain = populated();
    assert!(can(&mut chain, PATIENT, 63, 7, 127));
    assert!(!can(&mut chain, PATIENT, 64, 1, 1));
    // Who is no patient has no records of its own here.
    let call = canCall {
        patient: person(DOCTOR),
        who: person(DOCTOR),
        category: 0,
        permission: 1,
        purpose: 1,
    };
    assert!(!chain.ask(CONSENT, &call));
}

#[test]
fn organization_grants_open_to_active_members() {
    let mut chain = populated();
    give_default(&mut chain, HOSPITAL);
    assert!(can(&mut chain, HOSPITAL, 0, 1, 1));
    assert!(can(&mut chain, DOCTOR, 0, 1, 1));
    assert!(
        !can(&mut chain, DEVICE, 0, 1, 1),
        "devices need a grant of their own"
    );
    assert!(!can(&mut chain, LAB, 0, 1, 1));
    give_default(&mut chain, DEVICE);
    assert!(can(&mut chain, DEVICE, 0, 1, 1));
}

#[test]
fn suspended_accounts_get_nothing() {
    let mut chain = populated();
    for who in [HOSPITAL, DOCTOR, STRANGER] {
        give_default(&mut chain, who);
        assert!(can(&mut chain, who, 0, 1, 1));
    }
    let status = |status| updateMemberCall {
        member: person(DOCTOR),
        status,
        roles: 1,
        licence: B256::ZERO,
    };
    chain.send(person(HOSPITAL), IDENTITY, &status(2)).ok();
    assert!(!can(&mut chain, DOCTOR, 0, 1, 1));
    let details = requestCall {
        patient: person(PATIENT),
        detailsDigest: B256::ZERO,
        expires: U40::MAX,
    };
    let _: NotActive = chain.send(person(DOCTOR), CONSENT, &details).refused();
    let call = renounceCall {
        patient: person(PATIENT),
        id: 1,
    };
    let _: NotActive = chain.send(person(DOCTOR), CONSENT, &call).refused();
    chain.send(person(HOSPITAL), IDENTITY, &status(1)).ok();
    assert!(can(&mut chain, DOCTOR, 0, 1, 1));
    suspend(&mut chain, HOSPITAL, &[LAB, 3, 4]);
    assert!(!can(&mut chain, HOSPITAL, 0, 1, 1));
    assert!(
        !can(&mut chain, DOCTOR, 0, 1, 1),
        "even by the member's own grant"
    );
    assert!(can(&mut chain, STRANGER, 0, 1, 1));
    assert!(
        can(&mut chain, PATIENT, 0, 1, 1),
        "the patient is not locked out"
    );
}

#[test]
fn unsound_terms_are_refused() {
    let mut chain = populated();
    let good = terms(&chain);
    for change in [
        (|t| t.categories = 0) as fn(&mut Terms),
        |t| t.permissions = 0,
        |t| t.purposes = 0,
    ] {
        let mut terms = good.clone();
        change(&mut terms);
        let _: EmptyTerms = give(&mut chain, LAB, terms).refused();
    }
    for change in [(|t| t.permissions = 8) as fn(&mut Terms), |t| {
        t.purposes = 128
    }] {
        let mut terms = good.clone();
        change(&mut terms);
        let _: UnknownTerms = give(&mut chain, LAB, terms).refused();
    }
    for (not_before, expires) in [(10, 0), (0, 0), (-20, -10), (-20, 0)] {
        let time = |offset| U40::from(chain.now_s.saturating_add_signed(offset));
        let terms = Terms {
            notBefore: time(not_before),
            expires: time(expires),
            ..good.clone()
        };
        let _: InvalidPeriod = give(&mut chain, LAB, terms).refused();
    }
    let backwards = Terms {
        recordsFrom: 701,
        ..good
    };
    let _: InvalidRecordsPeriod = give(&mut chain, LAB, backwards).refused();
    let _: InvalidGrantee = give(&mut chain, PATIENT, good.clone()).refused();
    for grantee in [Address::ZERO, CONSENT] {
        let call = grantCall {
            grantee,
            terms: good.clone(),
            envelopeDigest: B256::ZERO,
            request: 0,
        };
        let _: InvalidGrantee = chain.send(person(PATIENT), CONSENT, &call).refused();
        let refused: NotAPatient = chain.send(person(DOCTOR), CONSENT, &call).refused();
        assert_eq!(refused.account, person(DOCTOR));
    }
}

#[test]
fn ids_name_one_grant_for_ever() {
    let mut chain = populated();
    let ids: Vec<u32> = (0..16).map(|_| give_default(&mut chain, LAB)).collect();
    assert_eq!(ids[15], 15 << 24 | 1);
    let all = terms(&chain);
    let _: TooManyGrants = give(&mut chain, LAB, all).refused();
    revoke(&mut chain, LAB, ids[3]).ok();
    let _: AlreadyRevoked = revoke(&mut chain, LAB, ids[3]).refused();
    let again = give_default(&mut chain, LAB);
    assert_eq!(again, 3 << 24 | 2, "the slot is used again, the id is new");
    let _: UnknownGrant = revoke(&mut chain, LAB, ids[3]).refused();
    let _: UnknownGrant = revoke(&mut chain, LAB, 16 << 24 | 1).refused();
    let _: UnknownGrant = revoke(&mut chain, HOSPITAL, ids[0]).refused();
    let call = grantAtCall {
        patient: person(PATIENT),
        grantee: person(LAB),
        index: 3,
    };
    let found = chain.ask(CONSENT, &call);
    assert_eq!((found.id, found.revoked), (again, false));
    chain.now_s += 1_000;
    assert_eq!(
        give_default(&mut chain, LAB),
        2,
        "an expired grant makes room"
    );
}

#[test]
fn revocation_publishes_the_next_directory() {
    let mut chain = populated();
    let id = give_default(&mut chain, LAB);
    let root = keccak256("next generation");
    let call = revokeCall {
        grantee: person(LAB),
        id,
        directoryRoot: root,
    };
    let receipt = chain.send(person(PATIENT), CONSENT, &call).ok();
    assert_eq!(receipt.events::<Revoked>()[0].directoryRoot, root);
    assert_eq!(
        receipt.events::<DirectoryPublished>()[0].directoryRoot,
        root
    );
    assert_eq!(
        chain.ask(
            CONSENT,
            &directoryRootCall {
                patient: person(PATIENT)
            }
        ),
        root
    );
    let call = publishDirectoryCall {
        directoryRoot: keccak256("more"),
    };
    chain.send(person(PATIENT), CONSENT, &call).ok();
    let _: NotAPatient = chain.send(person(HOSPITAL), CONSENT, &call).refused();
}

#[test]
fn grantees_give_back_their_own_grants_only() {
    let mut chain = populated();
    let id = give_default(&mut chain, STRANGER);
    let call = renounceCall {
        patient: person(PATIENT),
        id,
    };
    let _: UnknownGrant = chain.send(person(LAB), CONSENT, &call).refused();
    let receipt = chain.send(person(STRANGER), CONSENT, &call).ok();
    assert_eq!(receipt.events::<Revoked>()[0].grantee, person(STRANGER));
    assert!(!can(&mut chain, STRANGER, 0, 1, 1));
}

fn signed_grant(chain: &Sandbox, nonce: u64) -> SignedGrant {
    SignedGrant {
        patient: person(PATIENT),
        grantee: person(LAB),
        terms: terms(chain),
        envelope_digest: keccak256("envelope"),
        request: 0,
        nonce,
        deadline_s: chain.now_s + 60,
    }
}

fn send_signed(chain: &mut Sandbox, signed: &SignedGrant, signature: &[u8]) -> Receipt {
    let call = grantBySigCall {
        patient: signed.patient,
        grantee: signed.grantee,
        terms: signed.terms.clone(),
        envelopeDigest: signed.envelope_digest,
        request: signed.request,
        nonce: signed.nonce,
        deadline: U40::from(signed.deadline_s),
        signature: signature.to_vec().into(),
    };
    chain.send(person(STRANGER), CONSENT, &call)
}

#[test]
fn signatures_work_once() {
    let mut chain = populated();
    let signed = signed_grant(&chain, 0);
    let signature = sign(PATIENT, signed.signing_hash(DEFAULT_CHAIN_ID));
    let elsewhere = sign(PATIENT, signed.signing_hash(1));
    let _: BadSignature = send_signed(&mut chain, &signed, &elsewhere).refused();
    let stranger = sign(STRANGER, signed.signing_hash(DEFAULT_CHAIN_ID));
    let refused: BadSignature = send_signed(&mut chain, &signed, &stranger).refused();
    assert_eq!(refused.signer, person(STRANGER));
    let _: BadSignature = send_signed(&mut chain, &signed, &signature[..64]).refused();
    let mut malleable = signature.to_vec();
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    let s = U256::from_be_slice(&malleable[32..64]);
    malleable[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    malleable[64] ^= 27 ^ 28;
    let _: BadSignature = send_signed(&mut chain, &signed, &malleable).refused();
    let mut wider = signed.clone();
    wider.terms.categories = u64::MAX;
    let _: BadSignature = send_signed(&mut chain, &wider, &signature).refused();
    send_signed(&mut chain, &signed, &signature).ok();
    assert!(can(&mut chain, LAB, 0, 1, 1));
    let refused: BadNonce = send_signed(&mut chain, &signed, &signature).refused();
    assert_eq!((refused.expected, refused.given), (1, 0));
    assert_eq!(
        chain.ask(
            CONSENT,
            &signatureNonceCall {
                patient: person(PATIENT)
            }
        ),
        1
    );

    let revocation = SignedRevocation {
        patient: person(PATIENT),
        grantee: person(LAB),
        id: 1,
        directory_root: B256::ZERO,
        nonce: 1,
        deadline_s: chain.now_s,
    };
    let call = revokeBySigCall {
        patient: person(PATIENT),
        grantee: person(LAB),
        id: 1,
        directoryRoot: B256::ZERO,
        nonce: 1,
        deadline: U40::from(chain.now_s),
        signature: sign(PATIENT, revocation.signing_hash(DEFAULT_CHAIN_ID)),
    };
    chain.now_s += 1;
    let _: SignatureExpired = chain.send(person(STRANGER), CONSENT, &call).refused();
    chain.now_s -= 1;
    chain.send(person(STRANGER), CONSENT, &call).ok();
    assert!(!can(&mut chain, LAB, 0, 1, 1));
}

#[test]
fn added_keys_sign_and_removed_ones_do_not() {
    let mut chain = populated();
    let key = person(40).into_word();
    let add = addKeyCall {
        keyId: key,
        kind: 0,
        rpIdHash: B256::ZERO,
    };
    chain.send(person(PATIENT), IDENTITY, &add).ok();
    let signed = signed_grant(&chain, 0);
    let signature = sign(40, signed.signing_hash(DEFAULT_CHAIN_ID));
    send_signed(&mut chain, &signed, &signature).ok();
    let remove = removeKeyCall {
        keyId: person(PATIENT).into_word(),
    };
    chain.send(person(PATIENT), IDENTITY, &remove).ok();
    let signed = signed_grant(&chain, 1);
    let signature = sign(PATIENT, signed.signing_hash(DEFAULT_CHAIN_ID));
    let _: BadSignature = send_signed(&mut chain, &signed, &signature).refused();
}

/// The hashes are those of an independent EIP-712 implementation.
#[test]
fn signing_hashes_are_eip_712() {
    mod twin {
        alloy_sol_types::sol! {
            struct Grant { address patient; address grantee; uint64 categories; uint8 permissions;
                uint16 purposes; uint40 notBefore; uint40 expires; uint16 recordsFrom;
                uint16 recordsTo; bytes32 envelopeDigest; uint32 request; uint64 nonce; uint40 deadline; }
            struct Revoke { address patient; address grantee; uint32 id; bytes32 directoryRoot;
                uint64 nonce; uint40 deadline; }
        }
    }
    use alloy_sol_types::SolStruct as _;
    let mut chain = populated();
    let domain = Eip712Domain::new(
        Some("Stele Consent".into()),
        Some("1".into()),
        Some(U256::from(DEFAULT_CHAIN_ID)),
        Some(CONSENT),
        None,
    );
    assert_eq!(domain_separator(DEFAULT_CHAIN_ID), domain.separator());
    assert_eq!(
        chain.ask(CONSENT, &DOMAIN_SEPARATORCall {}),
        domain.separator()
    );
    let signed = signed_grant(&chain, 5);
    let t = signed.terms.clone();
    let grant = twin::Grant {
        patient: signed.patient,
        grantee: signed.grantee,
        categories: t.categories,
        permissions: t.permissions,
        purposes: t.purposes,
        notBefore: t.notBefore,
        expires: t.expires,
        recordsFrom: t.recordsFrom,
        recordsTo: t.recordsTo,
        envelopeDigest: signed.envelope_digest,
        request: 0,
        nonce: 5,
        deadline: U40::from(signed.deadline_s),
    };
    assert_eq!(
        signed.signing_hash(DEFAULT_CHAIN_ID),
        grant.eip712_signing_hash(&domain)
    );
    let revocation = SignedRevocation {
        patient: person(1),
        grantee: person(2),
        id: 3,
        directory_root: keccak256("root"),
        nonce: 4,
        deadline_s: 5,
    };
    let revoke = twin::Revoke {
        patient: person(1),
        grantee: person(2),
        id: 3,
        directoryRoot: keccak256("root"),
        nonce: 4,
        deadline: U40::from(5),
    };
    assert_eq!(
        revocation.signing_hash(DEFAULT_CHAIN_ID),
        revoke.eip712_signing_hash(&domain)
    );
}

#[test]
fn requests_are_bounded_and_answered_once() {
    let mut chain = populated();
    let ask = |expires: u64| requestCall {
        patient: person(PATIENT),
        detailsDigest: keccak256("why"),
        expires: U40::from(expires),
    };
    let until = chain.now_s + 100;
    let _: InvalidPeriod = chain
        .send(person(LAB), CONSENT, &ask(until - 100))
        .refused();
    let _: NotActive = chain.send(person(STRANGER), CONSENT, &ask(until)).refused();
    for id in 1..=4 {
        let receipt = chain.send(person(LAB), CONSENT, &ask(until)).ok();
        assert_eq!(receipt.returned::<requestCall>(), id);
    }
    let _: TooManyRequests = chain.send(person(LAB), CONSENT, &ask(until)).refused();
    chain.send(person(HOSPITAL), CONSENT, &ask(until)).ok();
    let _: UnknownRequest = chain
        .send(person(PATIENT), CONSENT, &declineCall { request: 9 })
        .refused();
    let receipt = chain
        .send(person(PATIENT), CONSENT, &declineCall { request: 2 })
        .ok();
    assert_eq!(receipt.events::<Declined>()[0].requester, person(LAB));
    let _: RequestClosed = chain
        .send(person(PATIENT), CONSENT, &declineCall { request: 2 })
        .refused();
    let receipt = chain.send(person(LAB), CONSENT, &ask(until)).ok();
    assert_eq!(
        receipt.returned::<requestCall>(),
        6,
        "the declined one made room"
    );
    let answer = grantCall {
        grantee: person(LAB),
        terms: terms(&chain),
        envelopeDigest: B256::ZERO,
        request: 1,
    };
    chain.send(person(PATIENT), CONSENT, &answer).ok();
    let _: RequestClosed = chain.send(person(PATIENT), CONSENT, &answer).refused();
    let status = |chain: &mut Sandbox, request| {
        chain
            .ask(
                CONSENT,
                &requestOfCall {
                    patient: person(PATIENT),
                    request,
                },
            )
            .status
    };
    let found: Vec<u8> = [0, 1, 2, 3].map(|id| status(&mut chain, id)).to_vec();
    assert_eq!(found, [0, 2, 3, 1]);
    chain.now_s = until;
    assert_eq!(status(&mut chain, 3), 4);
    let _: RequestClosed = chain
        .send(person(PATIENT), CONSENT, &declineCall { request: 3 })
        .refused();
}

#[test]
fn every_selector_is_routed() {
    let patient = person(PATIENT);
    let calls = [
        grantCall::default().abi_encode(),
        grantBySigCall {
            patient,
            ..Default::default()
        }
        .abi_encode(),
        revokeCall::default().abi_encode(),
        revokeBySigCall {
            patient,
            ..Default::default()
        }
        .abi_encode(),
        renounceCall::default().abi_encode(),
        requestCall::default().abi_encode(),
        declineCall::default().abi_encode(),
        publishDirectoryCall::default().abi_encode(),
        canCall::default().abi_encode(),
        canAtCall::default().abi_encode(),
        openCategoriesCall::default().abi_encode(),
        grantAtCall::default().abi_encode(),
        requestOfCall::default().abi_encode(),
        directoryRootCall::default().abi_encode(),
        signatureNonceCall::default().abi_encode(),
        DOMAIN_SEPARATORCall {}.abi_encode(),
    ];
    populated().check_selectors::<IConsentCalls>(CONSENT, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = populated();
    give_default(&mut chain, LAB);
    let until = chain.now_s + 100;
    let call = requestCall {
        patient: person(PATIENT),
        detailsDigest: B256::ZERO,
        expires: U40::from(until),
    };
    chain.send(person(LAB), CONSENT, &call).ok();
    chain
        .send(
            person(PATIENT),
            CONSENT,
            &publishDirectoryCall {
                directoryRoot: B256::repeat_byte(4),
            },
        )
        .ok();
    let number = |n: u64| U256::from(n);
    let (patient, lab) = (person(PATIENT).into_word(), person(LAB).into_word());
    let base = slot(lab, slot(patient, number(0)));
    let expected = number(0b101)
        | number(3) << 64
        | number(9) << 72
        | number(chain.now_s) << 88
        | number(chain.now_s + 1_000) << 128
        | number(600) << 168
        | number(700) << 184
        | number(1) << 200
        | number(1) << 224;
    assert_eq!(chain.word(CONSENT, base), expected);
    assert_eq!(
        chain.word(CONSENT, slot(patient, number(1))),
        number(1) << 64
    );
    assert_eq!(
        chain.word(CONSENT, slot(patient, number(2))),
        word_of(B256::repeat_byte(4))
    );
    let request = slot(number(1), slot(patient, number(3)));
    let expected = U256::from_be_bytes(lab.0) | number(1) << 160 | number(until) << 168;
    assert_eq!(chain.word(CONSENT, request), expected);
    assert_eq!(
        chain.word(CONSENT, slot(lab, slot(patient, number(4)))),
        number(1)
    );
    assert_eq!((person(LAB),).abi_encode(), lab.to_vec());
}
