use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40, keccak256};
use alloy_sol_types::{SolCall as _, SolValue as _};
use proptest::prelude::*;
use stele_core::{
    abi::{
        consent::IConsent::{Terms, grantCall, revokeCall},
        identity::IIdentity::{
            registerDeviceCall, registerMemberCall, registerPatientCall, updateMemberCall,
        },
        records::IRecords::*,
    },
    id::{CONSENT, DEFAULT_CHAIN_ID, IDENTITY, RECORDS},
    mmr,
};

use super::custody_hash;
use crate::contracts::{
    governance::{
        Parameter,
        tests::{decide, suspend},
    },
    testing::{Receipt, Sandbox, person, sign, slot, word_of},
};

const HOSPITAL: u64 = 1;
const LAB: u64 = 2;
const DOCTOR: u64 = 5;
const PATIENT: u64 = 6;
const DEVICE: u64 = 7;
const OTHER_PATIENT: u64 = 8;

fn populated() -> Sandbox {
    let mut chain = Sandbox::new(&[person(HOSPITAL), person(LAB), person(3), person(4)]);
    let hospital = person(HOSPITAL);
    let call = registerMemberCall {
        member: person(DOCTOR),
        roles: 1,
        licence: B256::ZERO,
    };
    chain.send(hospital, IDENTITY, &call).ok();
    for patient in [PATIENT, OTHER_PATIENT] {
        let call = registerPatientCall {
            patient: person(patient),
            directoryRoot: B256::ZERO,
        };
        chain.send(hospital, IDENTITY, &call).ok();
    }
    let call = registerDeviceCall {
        device: person(DEVICE),
        commitment: B256::ZERO,
    };
    chain.send(hospital, IDENTITY, &call).ok();
    chain
}

fn grant(chain: &mut Sandbox, to: u64, categories: u64, permissions: u8) -> u32 {
    let terms = Terms {
        categories,
        permissions,
        purposes: 1,
        notBefore: U40::from(chain.now_s),
        expires: U40::from(chain.now_s + 1_000),
        recordsFrom: 0,
        recordsTo: u16::MAX,
    };
    let call = grantCall {
        grantee: person(to),
        terms,
        envelopeDigest: B256::ZERO,
        request: 0,
    };
    chain
        .send(person(PATIENT), CONSENT, &call)
        .ok()
        .returned::<grantCall>()
}

fn leaf(n: u64) -> B256 {
    keccak256(n.to_be_bytes())
}

fn entry(log: u64, categories: &[u8], first: u64) -> Entry {
    let leaves = (0..categories.len() as u64)
        .map(|i| leaf(first + i))
        .collect();
    Entry {
        log: person(log),
        categories: categories.to_vec().into(),
        leaves,
    }
}

fn batch(entries: Vec<Entry>, author: u64, custodian: u64) -> anchorCall {
    anchorCall {
        entries,
        author: person(author),
        custodian: person(custodian),
        storageSignature: Bytes::new(),
    }
}

/// The hospital anchors for an author of its own and keeps the ciphertexts itself.
fn anchor(chain: &mut Sandbox, author: u64, entries: Vec<Entry>) -> Receipt {
    chain.send(person(HOSPITAL), RECORDS, &batch(entries, author, HOSPITAL))
}

fn size(chain: &mut Sandbox, log: u64) -> u64 {
    chain.ask(RECORDS, &logRootCall { log: person(log) }).size
}

#[test]
fn every_category_needs_permission() {
    let mut chain = populated();
    let refused: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).refused();
    assert_eq!(
        (refused.log, refused.author, refused.category),
        (person(PATIENT), person(DOCTOR), 0)
    );
    grant(&mut chain, HOSPITAL, 0b101, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 2, 0], 0)]).ok();
    anchor(&mut chain, HOSPITAL, vec![entry(PATIENT, &[2], 3)]).ok();
    let refused: NotPermitted =
        anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 1, 3], 4)]).refused();
    assert_eq!(refused.category, 1, "the first that is not open");
    let _: NotPermitted = anchor(&mut chain, DEVICE, vec![entry(PATIENT, &[0], 4)]).refused();
    grant(&mut chain, DEVICE, 1, 2);
    anchor(&mut chain, DEVICE, vec![entry(PATIENT, &[0], 4)]).ok();
    grant(&mut chain, DOCTOR, 1 << 63, 5);
    let _: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[63], 5)]).refused();
    let _: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(OTHER_PATIENT, &[0], 5)]).refused();
    assert_eq!(size(&mut chain, PATIENT), 5);
}

#[test]
fn logs_of_organizations_are_written_by_their_own() {
    let mut chain = populated();
    anchor(&mut chain, HOSPITAL, vec![entry(HOSPITAL, &[0], 0)]).ok();
    anchor(&mut chain, DOCTOR, vec![entry(HOSPITAL, &[9], 1)]).ok();
    let _: NotPermitted = anchor(&mut chain, DEVICE, vec![entry(HOSPITAL, &[0], 2)]).refused();
    let _: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(LAB, &[0], 2)]).refused();
    let _: UnknownLog = anchor(&mut chain, DOCTOR, vec![entry(DOCTOR, &[0], 2)]).refused();
    let _: UnknownLog = anchor(&mut chain, DOCTOR, vec![entry(77, &[0], 2)]).refused();
    assert_eq!(size(&mut chain, HOSPITAL), 2);
}

#[test]
fn authors_are_the_caller_or_its_staff() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    grant(&mut chain, LAB, 1, 2);
    let call = batch(vec![entry(PATIENT, &[0], 0)], DOCTOR, LAB);
    let refused: NotAuthor = chain.send(person(LAB), RECORDS, &call).refused();
    assert_eq!(
        (refused.author, refused.caller),
        (person(DOCTOR), person(LAB))
    );
    let call = batch(vec![entry(PATIENT, &[0], 0)], PATIENT, HOSPITAL);
    let _: NotAuthor = chain.send(person(HOSPITAL), RECORDS, &call).refused();
    let call = batch(vec![entry(PATIENT, &[0], 0)], 50, HOSPITAL);
    let _: NotActive = chain.send(person(50), RECORDS, &call).refused();
}

#[test]
fn suspended_authors_write_nothing() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    grant(&mut chain, DOCTOR, 1, 2);
    let status = |status| updateMemberCall {
        member: person(DOCTOR),
        status,
        roles: 1,
        licence: B256::ZERO,
    };
    chain.send(person(HOSPITAL), IDENTITY, &status(2)).ok();
    let _: NotActive = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).refused();
    chain.send(person(HOSPITAL), IDENTITY, &status(1)).ok();
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).ok();
    suspend(&mut chain, HOSPITAL, &[LAB, 3, 4]);
    for author in [HOSPITAL, DOCTOR] {
        let _: NotActive = anchor(&mut chain, author, vec![entry(PATIENT, &[0], 0)]).refused();
        let call = disputeCall {
            log: person(PATIENT),
            index: 0,
            reason: 1,
        };
        let _: NotActive = chain.send(person(author), RECORDS, &call).refused();
    }
    let call = transferCustodyCall {
        log: person(PATIENT),
        to: person(LAB),
    };
    let _: NotActive = chain.send(person(HOSPITAL), RECORDS, &call).refused();
    assert_eq!(size(&mut chain, PATIENT), 1);
}

#[test]
fn a_revoked_or_expired_writer_is_stopped() {
    let mut chain = populated();
    let id = grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).ok();
    let call = revokeCall {
        grantee: person(HOSPITAL),
        id,
        directoryRoot: B256::ZERO,
    };
    chain.send(person(PATIENT), CONSENT, &call).ok();
    let _: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 1)]).refused();
    grant(&mut chain, HOSPITAL, 1, 2);
    chain.now_s += 1_000;
    let _: NotPermitted = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 1)]).refused();
}

#[test]
fn a_batch_is_all_or_nothing() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    let before = chain.state();
    let entries = vec![entry(PATIENT, &[0, 0, 0], 0), entry(OTHER_PATIENT, &[0], 3)];
    let refused: NotPermitted = anchor(&mut chain, DOCTOR, entries).refused();
    assert_eq!(refused.log, person(OTHER_PATIENT));
    assert_eq!(chain.state(), before);
}

#[test]
fn misshapen_batches_are_refused() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, u64::MAX, 2);
    let _: EmptyBatch = anchor(&mut chain, DOCTOR, vec![]).refused();
    let _: EmptyBatch = anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[], 0)]).refused();
    let mut short = entry(PATIENT, &[0, 0], 0);
    short.leaves.pop();
    let entries = vec![entry(PATIENT, &[0], 0), short];
    let refused: LengthMismatch = anchor(&mut chain, DOCTOR, entries).refused();
    assert_eq!(refused.entry, U256::ONE);
    let refused: InvalidCategory =
        anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 64], 0)]).refused();
    assert_eq!(refused.category, 64);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0; 1_024], 0)]).ok();
    let refused: BatchTooLarge =
        anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0; 1_025], 0)]).refused();
    assert_eq!(
        (refused.leaves, refused.max),
        (U256::from(1_025), U256::from(1_024))
    );
    let payload: Bytes = (Parameter::MaxLeaves.key(), U256::from(64))
        .abi_encode()
        .into();
    decide(&mut chain, &[HOSPITAL, LAB, 3], 4, payload);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0; 64], 0)]).ok();
    let split = vec![entry(PATIENT, &[0; 40], 0), entry(PATIENT, &[0; 40], 40)];
    let refused: BatchTooLarge = anchor(&mut chain, DOCTOR, split).refused();
    assert_eq!(refused.leaves, U256::from(80));
}

/// NFR-INT4: a batch kept by another organisation needs that organisation's word.
#[test]
fn the_custodian_signs() {
    let mut chain = populated();
    let entries = vec![entry(PATIENT, &[0, 5], 0)];
    let mut call = batch(entries.clone(), PATIENT, LAB);
    let patient = person(PATIENT);
    let refused: BadStorageSignature = chain.send(patient, RECORDS, &call).refused();
    assert_eq!(refused.custodian, person(LAB));
    let hash = custody_hash(DEFAULT_CHAIN_ID, patient, &entries);
    // The hash is what Solidity's abi.encode gives, by way of the encoded dynamic array.
    let inner = keccak256(entries.abi_encode());
    let outer = (
        "stele/custody/1".to_owned(),
        U256::from(DEFAULT_CHAIN_ID),
        RECORDS,
        patient,
        inner,
    );
    assert_eq!(hash, keccak256(outer.abi_encode_params()));
    for (signer, hash) in [
        (HOSPITAL, hash),
        (LAB, custody_hash(1, patient, &entries)),
        (
            LAB,
            custody_hash(DEFAULT_CHAIN_ID, person(DOCTOR), &entries),
        ),
        (
            LAB,
            custody_hash(DEFAULT_CHAIN_ID, patient, &[entry(PATIENT, &[0, 5], 1)]),
        ),
    ] {
        call.storageSignature = sign(signer, hash);
        let _: BadStorageSignature = chain.send(patient, RECORDS, &call).refused();
    }
    call.storageSignature = sign(LAB, hash);
    chain.send(patient, RECORDS, &call).ok();
    assert_eq!(
        chain.ask(RECORDS, &custodianOfCall { log: patient }),
        person(LAB)
    );
    call.custodian = person(DOCTOR);
    let _: NotAnOrganization = chain.send(patient, RECORDS, &call).refused();
    suspend(&mut chain, LAB, &[HOSPITAL, 3, 4]);
    call.custodian = person(LAB);
    let _: NotActive = chain.send(patient, RECORDS, &call).refused();
}

#[test]
fn events_tell_the_whole_log() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, u64::MAX, 2);
    let entries = vec![
        entry(PATIENT, &[0, 1], 0),
        entry(HOSPITAL, &[3], 10),
        entry(PATIENT, &[2], 2),
    ];
    let receipt = anchor(&mut chain, DOCTOR, entries).ok();
    let events = receipt.events::<Anchored>();
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.log, e.first, e.leaves.len()))
        .collect();
    assert_eq!(
        told,
        [
            (person(PATIENT), 0, 2),
            (person(HOSPITAL), 0, 1),
            (person(PATIENT), 2, 1)
        ]
    );
    let all = [leaf(0), leaf(1), leaf(2)];
    assert_eq!(events[0].root, mmr::bag(2, &mmr::peaks(&all[..2])));
    assert_eq!(events[2].root, mmr::bag(3, &mmr::peaks(&all)));
    assert_eq!(events[2].author, person(DOCTOR));
    assert_eq!(events[0].categories.as_ref(), [0, 1]);
}

#[test]
fn tombstones_append() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 0], 0)]).ok();
    let mut call = tombstoneCall {
        log: person(PATIENT),
        index: 1,
        category: 0,
        leaf: leaf(9),
        reason: 3,
        author: person(DOCTOR),
    };
    let receipt = chain.send(person(HOSPITAL), RECORDS, &call).ok();
    let event = &receipt.events::<Tombstoned>()[0];
    assert_eq!(
        (event.index, event.at, event.leaf, event.reason),
        (1, 2, leaf(9), 3)
    );
    let found = chain.ask(
        RECORDS,
        &logPeaksCall {
            log: person(PATIENT),
        },
    );
    assert_eq!(
        (found.size, found.peaks),
        (3, mmr::peaks(&[leaf(0), leaf(1), leaf(9)]))
    );
    call.index = 3;
    let _: UnknownRecord = chain.send(person(HOSPITAL), RECORDS, &call).refused();
    call.category = 1;
    let _: NotPermitted = chain.send(person(HOSPITAL), RECORDS, &call).refused();
    call.category = 64;
    let _: InvalidCategory = chain.send(person(HOSPITAL), RECORDS, &call).refused();
    call.author = person(LAB);
    call.category = 0;
    let _: NotPermitted = chain.send(person(LAB), RECORDS, &call).refused();
}

#[test]
fn the_concerned_dispute() {
    let mut chain = populated();
    let id = grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).ok();
    let call = revokeCall {
        grantee: person(HOSPITAL),
        id,
        directoryRoot: B256::ZERO,
    };
    chain.send(person(PATIENT), CONSENT, &call).ok();
    let call = disputeCall {
        log: person(PATIENT),
        index: 0,
        reason: 2,
    };
    for by in [PATIENT, HOSPITAL, DOCTOR] {
        let receipt = chain.send(person(by), RECORDS, &call).ok();
        assert_eq!(receipt.events::<Disputed>()[0].by, person(by));
    }
    let refused: NotPermitted = chain.send(person(LAB), RECORDS, &call).refused();
    assert_eq!(refused.category, 255);
    grant(&mut chain, LAB, 4, 1);
    chain.send(person(LAB), RECORDS, &call).ok();
    let call = disputeCall {
        log: person(PATIENT),
        index: 1,
        reason: 2,
    };
    let _: UnknownRecord = chain.send(person(PATIENT), RECORDS, &call).refused();
}

#[test]
fn inclusion() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0; 11], 0)]).ok();
    let all: Vec<B256> = (0..11).map(leaf).collect();
    for index in 0..11 {
        let path = mmr::path(&all, index).unwrap();
        let mut call = verifyInclusionCall {
            log: person(PATIENT),
            index,
            leaf: leaf(index),
            path,
        };
        assert!(chain.ask(RECORDS, &call));
        call.leaf = leaf(index + 1);
        assert!(!chain.ask(RECORDS, &call));
        call.leaf = leaf(index);
        call.path.push(leaf(0));
        assert!(!chain.ask(RECORDS, &call));
        call.path.pop();
        call.index = index + 11;
        assert!(!chain.ask(RECORDS, &call));
    }
}

/// LIM-26, defect 1: in the Solidity contract of the sources anyone overwrote any record. Here whatever anyone calls,
/// the leaves that stood keep standing, and outsiders add none.
#[test]
fn lim_26_no_overwrite() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 0, 0], 0)]).ok();
    let before = chain.state();
    let lab = person(LAB);
    let attempts = [
        batch(vec![entry(PATIENT, &[0], 90)], LAB, LAB).abi_encode(),
        batch(vec![entry(PATIENT, &[0], 90)], PATIENT, LAB).abi_encode(),
        batch(vec![entry(PATIENT, &[0], 90)], DOCTOR, LAB).abi_encode(),
        tombstoneCall {
            log: person(PATIENT),
            author: lab,
            ..Default::default()
        }
        .abi_encode(),
        transferCustodyCall {
            log: person(PATIENT),
            to: lab,
        }
        .abi_encode(),
        disputeCall {
            log: person(PATIENT),
            index: 0,
            reason: 0,
        }
        .abi_encode(),
    ];
    for attempt in attempts {
        let receipt = chain.transact(lab, RECORDS, attempt.into(), 10_000_000, U256::ZERO);
        assert!(receipt.outcome.is_err());
        assert_eq!(chain.state(), before);
    }
    // The author itself can only append: the old leaves are still proven by the new peaks.
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 90)]).ok();
    let all = [leaf(0), leaf(1), leaf(2), leaf(90)];
    for index in 0..4 {
        let path = mmr::path(&all, index).unwrap();
        let leaf = all[usize::try_from(index).unwrap()];
        assert!(chain.ask(
            RECORDS,
            &verifyInclusionCall {
                log: person(PATIENT),
                index,
                leaf,
                path
            }
        ));
    }
}

/// LIM-26, defect 2: the transfer event of the sources' contract named the new owner twice.
#[test]
fn lim_26_transfer_names_both_sides() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0], 0)]).ok();
    let to = |to| transferCustodyCall {
        log: person(PATIENT),
        to: person(to),
    };
    let _: NotCustodian = chain.send(person(LAB), RECORDS, &to(LAB)).refused();
    let _: AlreadyCustodian = chain
        .send(person(HOSPITAL), RECORDS, &to(HOSPITAL))
        .refused();
    let _: NotAnOrganization = chain.send(person(HOSPITAL), RECORDS, &to(DOCTOR)).refused();
    let receipt = chain.send(person(HOSPITAL), RECORDS, &to(LAB)).ok();
    let event = &receipt.events::<CustodyTransferred>()[0];
    assert_eq!((event.from, event.to), (person(HOSPITAL), person(LAB)));
    assert_ne!(event.from, event.to);
    let _: NotCustodian = chain.send(person(HOSPITAL), RECORDS, &to(3)).refused();
    let receipt = chain.send(person(PATIENT), RECORDS, &to(3)).ok();
    let event = &receipt.events::<CustodyTransferred>()[0];
    assert_eq!((event.from, event.to), (person(LAB), person(3)));
    assert_eq!(
        chain.ask(
            RECORDS,
            &custodianOfCall {
                log: person(PATIENT)
            }
        ),
        person(3)
    );
    assert_eq!(size(&mut chain, PATIENT), 1, "the leaves stay");
}

/// LIM-26, defect 3: name, diseases and contact stood readable on the ledger. Here no function takes or gives text:
/// what an author has is hashed with a salt before the ledger sees it, and 32 bytes a record are all there is.
#[test]
fn lim_26_no_plaintext() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    let text = "Jane Example, type 2 diabetes, +1 555 0100";
    let salt = B256::repeat_byte(0x5a);
    let leaf = keccak256([salt.as_slice(), text.as_bytes()].concat());
    let entries = vec![Entry {
        log: person(PATIENT),
        categories: vec![0].into(),
        leaves: vec![leaf],
    }];
    let receipt = anchor(&mut chain, DOCTOR, entries).ok();
    let mut seen: Vec<u8> = receipt
        .logs
        .iter()
        .flat_map(|log| log.data.data.to_vec())
        .collect();
    for words in chain.state() {
        seen.extend(words.values().flat_map(|word| word.to_be_bytes::<32>()));
    }
    assert!(seen.windows(32).any(|window| window == leaf.as_slice()));
    for fragment in ["Jane", "diabetes", "0100"] {
        assert!(
            !seen
                .windows(fragment.len())
                .any(|window| window == fragment.as_bytes())
        );
    }
    // Nor can text be smuggled in as a leaf of odd length: leaves are words.
    assert!(anchorCall::SIGNATURE.contains("(address,bytes,bytes32[])[]"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// NFR-INT1: whatever the batches, size, peaks and root are those of the mountain range of all leaves.
    #[test]
    fn anchoring_equals_the_mountain_range_of_all_leaves(
        batches in proptest::collection::vec(
            proptest::collection::vec((0..2_usize, 1..40_usize), 1..4), 1..8),
    ) {
        let mut chain = populated();
        grant(&mut chain, HOSPITAL, 1, 2);
        let logs = [PATIENT, HOSPITAL];
        let mut model = [Vec::new(), Vec::new()];
        let mut next = 0;
        for batch in batches {
            let mut entries = Vec::new();
            for (log, count) in batch {
                let entry = entry(logs[log], &vec![0; count], next);
                next += count as u64;
                model[log].extend(entry.leaves.clone());
                entries.push(entry);
            }
            anchor(&mut chain, DOCTOR, entries).ok();
            for (log, leaves) in logs.into_iter().zip(&model) {
                let found = chain.ask(RECORDS, &logPeaksCall { log: person(log) });
                prop_assert_eq!(found.size, leaves.len() as u64);
                prop_assert_eq!(&found.peaks, &mmr::peaks(leaves));
                let root = chain.ask(RECORDS, &logRootCall { log: person(log) }).root;
                prop_assert_eq!(root, mmr::bag(found.size, &found.peaks));
            }
        }
    }
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        anchorCall::default().abi_encode(),
        tombstoneCall::default().abi_encode(),
        disputeCall::default().abi_encode(),
        transferCustodyCall::default().abi_encode(),
        logRootCall::default().abi_encode(),
        logPeaksCall::default().abi_encode(),
        custodianOfCall::default().abi_encode(),
        verifyInclusionCall::default().abi_encode(),
    ];
    populated().check_selectors::<IRecordsCalls>(RECORDS, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = populated();
    grant(&mut chain, HOSPITAL, 1, 2);
    anchor(&mut chain, DOCTOR, vec![entry(PATIENT, &[0, 0, 0], 0)]).ok();
    let base = slot(person(PATIENT).into_word(), U256::ZERO);
    let custodian = U256::from_be_bytes(person(HOSPITAL).into_word().0);
    assert_eq!(chain.word(RECORDS, base), U256::from(3) | custodian << 64);
    let peaks = mmr::peaks(&[leaf(0), leaf(1), leaf(2)]);
    assert_eq!(chain.word(RECORDS, base + U256::from(2)), word_of(peaks[0]));
    assert_eq!(chain.word(RECORDS, base + U256::ONE), word_of(peaks[1]));
    assert_eq!(
        chain.words(RECORDS).len(),
        3,
        "a slot for the log and one for each mountain"
    );
    assert_eq!(
        chain.ask(RECORDS, &custodianOfCall { log: Address::ZERO }),
        Address::ZERO
    );
}
