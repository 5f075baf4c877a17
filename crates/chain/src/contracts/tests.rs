//! What holds for every system contract.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible};

use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40, keccak256};
use alloy_sol_types::{SolCall as _, SolInterface as _, SolValue as _};
use proptest::prelude::*;
use stele_core::{
    abi::{
        audit::IAudit::{IAuditCalls, anchorReceiptsCall},
        consent::IConsent::{
            IConsentCalls, Terms, canCall, grantCall, publishDirectoryCall, renounceCall,
            requestCall,
        },
        emergency::IEmergency::{IEmergencyCalls, openCall, reviewCall},
        governance::IGovernance::{IGovernanceCalls, proposeCall, voteCall},
        identity::IIdentity::{
            IIdentityCalls, accountCall, addKeyCall, allowOriginCall, isActiveCall,
            registerDeviceCall, registerMemberCall, registerPatientCall, updateMemberCall,
            updateOrganizationCall,
        },
        prescriptions::IPrescriptions::{IPrescriptionsCalls, cancelCall, issueCall},
        records::IRecords::{
            Entry, IRecordsCalls, anchorCall, disputeCall, tombstoneCall, transferCustodyCall,
        },
        system::ISystem::{DelegateCallNotAllowed, NonPayable, StaticCallNotAllowed},
    },
    id::{AUDIT, CONSENT, EMERGENCY, GOVERNANCE, IDENTITY, PRESCRIPTIONS, RECORDS},
};

use super::{
    ADDRESSES, GenesisError, GenesisSpec, GenesisValidator,
    consent::{self, Question},
    genesis, governance, identity, is_reserved, records,
    testing::{GAS, Refusal, Sandbox, organization, person},
};

const PROXY: Address = Address::repeat_byte(0xcc);

/// EVM code that passes its calldata on to `target` by `opcode` and gives back whatever comes.
fn proxy(opcode: u8, target: Address, value: bool) -> Vec<u8> {
    // calldatacopy(0, 0, calldatasize)
    let mut code = vec![0x36, 0x5f, 0x5f, 0x37];
    // retSize, retOffset, argsSize, argsOffset
    code.extend([0x5f, 0x5f, 0x36, 0x5f]);
    if matches!(opcode, 0xf1 | 0xf2) {
        code.extend([0x60, u8::from(value)]);
    }
    code.push(0x73);
    code.extend(target.as_slice());
    code.extend([0x5a, opcode]);
    // returndatacopy(0, 0, returndatasize)
    code.extend([0x3d, 0x5f, 0x5f, 0x3e]);
    let landing = u8::try_from(code.len() + 6).unwrap();
    // jumpi(landing, success); revert(0, returndatasize); landing: return(0, returndatasize)
    code.extend([
        0x60, landing, 0x57, 0x3d, 0x5f, 0xfd, 0x5b, 0x3d, 0x5f, 0xf3,
    ]);
    code
}

fn populated() -> Sandbox {
    populated_with(&[1])
}

fn populated_with(organizations: &[u64]) -> Sandbox {
    let organizations: Vec<Address> = organizations.iter().map(|n| person(*n)).collect();
    let mut chain = Sandbox::new(&organizations);
    let call = registerMemberCall {
        member: person(2),
        roles: 1,
        licence: keccak256("licence"),
    };
    chain.send(person(1), IDENTITY, &call).ok();
    let call = registerPatientCall {
        patient: person(3),
        directoryRoot: B256::ZERO,
    };
    chain.send(person(1), IDENTITY, &call).ok();
    let terms = Terms {
        categories: 1,
        permissions: 3,
        purposes: 1,
        notBefore: U40::ZERO,
        expires: U40::MAX,
        recordsFrom: 0,
        recordsTo: 1_000,
    };
    let call = grantCall {
        grantee: person(1),
        terms,
        envelopeDigest: B256::ZERO,
        request: 0,
    };
    chain.send(person(3), CONSENT, &call).ok();
    chain
}

fn batch(leaves: usize) -> anchorCall {
    let entry = Entry {
        log: person(3),
        categories: vec![0; leaves].into(),
        leaves: (0..leaves).map(|n| keccak256(n.to_be_bytes())).collect(),
    };
    anchorCall {
        entries: vec![entry],
        author: person(2),
        custodian: person(1),
        storageSignature: Bytes::new(),
    }
}

#[test]
fn the_reserved_range() {
    for address in ADDRESSES {
        assert!(is_reserved(address));
    }
    assert!(is_reserved(
        "0x5e1e0000000000000000000000000000000000ff"
            .parse()
            .unwrap()
    ));
    assert!(!is_reserved(
        "0x5e1e000000000000000000000000000000000100"
            .parse()
            .unwrap()
    ));
    assert!(!is_reserved(Address::ZERO));
}

#[test]
fn other_storage_than_its_own_is_refused() {
    let mut chain = populated();
    let input: Bytes = publishDirectoryCall {
        directoryRoot: B256::ZERO,
    }
    .abi_encode()
    .into();
    for target in ADDRESSES {
        for opcode in [0xf4, 0xf2] {
            chain.place(PROXY, proxy(opcode, target, false), U256::ZERO);
            let receipt = chain.transact(person(3), PROXY, input.clone(), GAS, U256::ZERO);
            let _: DelegateCallNotAllowed = receipt.refused();
        }
    }
}

#[test]
fn value_is_refused_and_stays() {
    let mut chain = populated();
    chain.place(person(3), vec![], U256::from(10));
    let input: Bytes = publishDirectoryCall {
        directoryRoot: B256::ZERO,
    }
    .abi_encode()
    .into();
    for target in ADDRESSES {
        let receipt = chain.transact(person(3), target, input.clone(), GAS, U256::ONE);
        let _: NonPayable = receipt.refused();
    }
    chain.place(PROXY, proxy(0xf1, CONSENT, true), U256::from(10));
    let _: NonPayable = chain
        .transact(person(3), PROXY, input, GAS, U256::ZERO)
        .refused();
}

#[test]
fn static_calls_read_and_do_not_write() {
    let mut chain = populated();
    chain.place(person(1), proxy(0xfa, IDENTITY, false), U256::ZERO);
    // The organisation's account is a contract here: its static call comes from an active organisation.
    let call = registerPatientCall {
        patient: person(9),
        directoryRoot: B256::ZERO,
    };
    let before = chain.state();
    let receipt = chain.transact(
        person(5),
        person(1),
        call.abi_encode().into(),
        GAS,
        U256::ZERO,
    );
    let _: StaticCallNotAllowed = receipt.refused();
    assert_eq!(chain.state(), before);
    let call = isActiveCall { who: person(2) };
    let receipt = chain.transact(
        person(5),
        person(1),
        call.abi_encode().into(),
        GAS,
        U256::ZERO,
    );
    assert!(receipt.ok().returned::<isActiveCall>());
}

#[test]
fn contracts_call_the_contracts() {
    let mut chain = populated();
    chain.place(person(1), proxy(0xf1, IDENTITY, false), U256::ZERO);
    let call = registerPatientCall {
        patient: person(9),
        directoryRoot: keccak256("keys"),
    };
    chain
        .transact(
            person(5),
            person(1),
            call.abi_encode().into(),
            GAS,
            U256::ZERO,
        )
        .ok();
    assert!(chain.ask(IDENTITY, &isActiveCall { who: person(9) }));
    assert_eq!(
        chain.ask(IDENTITY, &accountCall { who: person(9) }).sponsor,
        person(1)
    );
}

#[test]
fn unknown_and_misencoded_calls_revert_empty() {
    let mut chain = populated();
    let mut dirty = isActiveCall { who: person(2) }.abi_encode();
    dirty[4] = 1;
    let mut wide = canCall::default().abi_encode();
    wide[4 + 2 * 32] = 1;
    let short = isActiveCall { who: person(2) }.abi_encode()[..35].to_vec();
    for target in ADDRESSES {
        for input in [
            vec![],
            vec![1, 2, 3],
            vec![0xde, 0xad, 0xbe, 0xef],
            vec![0; 68],
        ] {
            let receipt = chain.transact(person(5), target, input.into(), GAS, U256::ZERO);
            assert_eq!(receipt.outcome, Err(Refusal::Revert(Bytes::new())));
        }
    }
    for (target, input) in [(IDENTITY, dirty), (CONSENT, wide), (IDENTITY, short)] {
        let receipt = chain.transact(person(5), target, input.into(), GAS, U256::ZERO);
        assert_eq!(receipt.outcome, Err(Refusal::Revert(Bytes::new())));
    }
    let mut longer = isActiveCall { who: person(2) }.abi_encode();
    longer.extend([1, 2, 3]);
    chain
        .transact(person(5), IDENTITY, longer.into(), GAS, U256::ZERO)
        .ok();
}

/// Calldata whose parts overlap is refused: entries sharing one array of leaves would unfold a small transaction into
/// much memory and work.
#[test]
fn overlapping_calldata_is_refused() {
    let mut chain = populated();
    let mut call = batch(4);
    call.entries.push(call.entries[0].clone());
    let honest = call.abi_encode();
    chain
        .transact(person(1), RECORDS, honest.clone().into(), GAS, U256::ZERO)
        .ok();
    let mut overlapping = honest;
    // Head of four words, length of the array, then one offset an entry.
    let offsets = 4 + 5 * 32;
    let (first, second) = overlapping[offsets..offsets + 64].split_at_mut(32);
    second.copy_from_slice(first);
    let receipt = chain.transact(person(1), RECORDS, overlapping.into(), GAS, U256::ZERO);
    assert_eq!(receipt.outcome, Err(Refusal::Revert(Bytes::new())));
}

/// With whatever gas a call is started, it either does all or leaves no trace.
#[test]
fn out_of_gas_leaves_no_state() {
    let calls: Vec<(Address, Address, Bytes)> = vec![
        (person(1), RECORDS, batch(9).abi_encode().into()),
        (
            person(1),
            IDENTITY,
            registerPatientCall {
                patient: person(9),
                directoryRoot: keccak256("keys"),
            }
            .abi_encode()
            .into(),
        ),
    ];
    for (from, to, input) in calls {
        let needed = {
            let mut chain = populated();
            let receipt = chain
                .transact(from, to, input.clone(), GAS, U256::ZERO)
                .ok();
            receipt.gas_used
        };
        let mut chain = populated();
        let before = chain.state();
        let mut refused = 0;
        // Steps that are no multiple of any opcode's gas, so that it runs out between all of them.
        for gas in (needed / 2..needed).step_by(331) {
            // Below the intrinsic gas the transaction is not executed at all.
            let Some(receipt) = chain.attempt(from, to, input.clone(), gas, U256::ZERO) else {
                continue;
            };
            assert_eq!(receipt.outcome, Err(Refusal::Halt), "{gas} of {needed}");
            assert_eq!(receipt.gas_used, gas);
            assert_eq!(chain.state(), before);
            refused += 1;
        }
        assert!(refused > 50, "{refused}");
        let all = chain
            .transact(from, to, input, needed + 2_301, U256::ZERO)
            .ok();
        assert_eq!(all.gas_used, needed);
    }
}

/// Gas is part of consensus: these figures change only with a new version of the chain.
#[test]
fn gas_is_what_it_was() {
    let mut chain = populated();
    let figures: Vec<u64> = [1, 16, 256]
        .map(|leaves| chain.send(person(1), RECORDS, &batch(leaves)).ok().gas_used)
        .to_vec();
    let grant = {
        let terms = Terms {
            categories: 1,
            permissions: 1,
            purposes: 1,
            notBefore: U40::ZERO,
            expires: U40::MAX,
            recordsFrom: 0,
            recordsTo: 1,
        };
        let call = grantCall {
            grantee: person(8),
            terms,
            envelopeDigest: B256::ZERO,
            request: 0,
        };
        chain.send(person(3), CONSENT, &call).ok().gas_used
    };
    assert_eq!((figures, grant), (vec![85_126, 86_068, 356_470], 51_263));
}

/// Native code is charged as the opcodes it stands for, summed here by hand.
#[test]
fn gas_follows_the_opcodes() {
    let mut chain = populated();
    let input = publishDirectoryCall {
        directoryRoot: B256::repeat_byte(1),
    }
    .abi_encode();
    // 21,000 and 16 a byte of calldata, none of which is zero.
    let intrinsic = 21_000 + 16 * 36;
    assert!(input.iter().all(|byte| *byte != 0));
    let decode = 2 * 6;
    let mapping = 30 + 2 * 6;
    let cold_load = 2_100;
    let (set, reset) = (2_100 + 20_000, 2_100 + 2_900);
    let log = 375 + 2 * 375 + 8 * 32;
    let rest = intrinsic + decode + mapping + cold_load + mapping + log;
    for (root, store) in [(1, set), (2, reset), (2, 2_200)] {
        let call = publishDirectoryCall {
            directoryRoot: B256::repeat_byte(root),
        };
        let receipt = chain.send(person(3), CONSENT, &call).ok();
        assert_eq!(receipt.gas_used, rest + store);
    }
}

/// Everything a member or an organisation could call, with arguments that would otherwise be accepted.
fn actions() -> Vec<(Address, Vec<u8>)> {
    [identity_actions(), other_actions(), care_actions()].concat()
}

fn identity_actions() -> Vec<(Address, Vec<u8>)> {
    vec![
        (IDENTITY, updateOrganizationCall::default().abi_encode()),
        (
            IDENTITY,
            allowOriginCall {
                originDigest: B256::repeat_byte(1),
                allowed: true,
            }
            .abi_encode(),
        ),
        (
            IDENTITY,
            registerMemberCall {
                member: person(30),
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            IDENTITY,
            registerPatientCall {
                patient: person(31),
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            IDENTITY,
            registerDeviceCall {
                device: person(32),
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            IDENTITY,
            updateMemberCall {
                member: person(2),
                status: 1,
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            IDENTITY,
            addKeyCall {
                keyId: person(33).into_word(),
                ..Default::default()
            }
            .abi_encode(),
        ),
    ]
}

fn other_actions() -> Vec<(Address, Vec<u8>)> {
    let log = person(3);
    vec![
        (RECORDS, batch(1).abi_encode()),
        (
            RECORDS,
            tombstoneCall {
                log,
                author: person(2),
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            RECORDS,
            disputeCall {
                log,
                index: 0,
                reason: 1,
            }
            .abi_encode(),
        ),
        (
            RECORDS,
            transferCustodyCall { log, to: person(5) }.abi_encode(),
        ),
        (
            CONSENT,
            requestCall {
                patient: log,
                expires: U40::MAX,
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            CONSENT,
            renounceCall {
                patient: log,
                id: 1,
            }
            .abi_encode(),
        ),
        (
            AUDIT,
            anchorReceiptsCall {
                count: 1,
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            GOVERNANCE,
            proposeCall {
                kind: 3,
                payload: person(1).abi_encode().into(),
            }
            .abi_encode(),
        ),
        (
            GOVERNANCE,
            voteCall {
                id: 1,
                support: true,
            }
            .abi_encode(),
        ),
    ]
}

fn care_actions() -> Vec<(Address, Vec<u8>)> {
    let log = person(3);
    vec![
        (
            PRESCRIPTIONS,
            issueCall {
                id: log,
                portions: 1,
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            EMERGENCY,
            openCall {
                patient: log,
                categories: 1,
                reason: 1,
                until: U40::from(1_800_000_100_u64),
                ..Default::default()
            }
            .abi_encode(),
        ),
        (
            EMERGENCY,
            reviewCall {
                number: 1,
                verdict: 1,
                ..Default::default()
            }
            .abi_encode(),
        ),
        (PRESCRIPTIONS, cancelCall { id: log }.abi_encode()),
    ]
}

/// Whoever is suspended, or belongs to an organisation that is, changes nothing by any call.
#[test]
fn the_suspended_change_nothing() {
    let others = [4, 5, 6];
    let mut chain = populated_with(&[1, 4, 5, 6]);
    chain.send(person(1), RECORDS, &batch(1)).ok();
    let accepted = actions()
        .into_iter()
        .filter(|(to, input)| {
            let mut chain = populated_with(&[1, 4, 5, 6]);
            chain.send(person(1), RECORDS, &batch(1)).ok();
            let input = Bytes::from(input.clone());
            chain
                .transact(person(1), *to, input, GAS, U256::ZERO)
                .outcome
                .is_ok()
        })
        .count();
    assert!(
        accepted >= 13,
        "most calls succeed without suspension: {accepted}"
    );
    governance::tests::suspend(&mut chain, 1, &others);
    let before = chain.state();
    for by in [person(1), person(2)] {
        for (to, input) in actions() {
            let receipt = chain.transact(by, to, input.into(), GAS, U256::ZERO);
            assert!(receipt.outcome.is_err());
            assert_eq!(chain.state(), before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// No calldata breaks the node: whatever bytes come, the call is answered, refused, or runs out of gas.
    #[test]
    fn any_calldata_is_answered(
        to in 0..ADDRESSES.len(),
        call in 0..100_usize,
        tail in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 0..600),
        words in proptest::collection::vec(0..600_u64, 0..12),
    ) {
        let to = ADDRESSES[to];
        let selectors: Vec<[u8; 4]> = match to {
            IDENTITY => IIdentityCalls::selectors().collect(),
            RECORDS => IRecordsCalls::selectors().collect(),
            CONSENT => IConsentCalls::selectors().collect(),
            AUDIT => IAuditCalls::selectors().collect(),
            PRESCRIPTIONS => IPrescriptionsCalls::selectors().collect(),
            EMERGENCY => IEmergencyCalls::selectors().collect(),
            _ => IGovernanceCalls::selectors().collect(),
        };
        let mut input = selectors[call % selectors.len()].to_vec();
        for word in words {
            input.extend(B256::from(U256::from(word)));
        }
        input.extend(tail);
        let mut chain = populated();
        for by in [person(1), person(3)] {
            let receipt = chain.transact(by, to, input.clone().into(), 5_000_000, U256::ZERO);
            prop_assert!(receipt.gas_used <= 5_000_000);
        }
    }
}

/// The views without the EVM answer as the contracts do.
#[test]
fn reads_equal_calls() {
    let mut chain = populated();
    chain.send(person(1), RECORDS, &batch(5)).ok();
    let state: BTreeMap<Address, BTreeMap<U256, U256>> = ADDRESSES
        .into_iter()
        .map(|contract| (contract, chain.words(contract)))
        .collect();
    let asked = RefCell::new(0);
    let read = |contract: Address, slot: U256| {
        *asked.borrow_mut() += 1;
        Ok::<_, Infallible>(state[&contract].get(&slot).copied().unwrap_or_default())
    };
    let Ok(account) = identity::read::account(read, person(2));
    assert_eq!(
        (account.kind, account.sponsor),
        (identity::Kind::Member, person(1))
    );
    let Ok(standing) = identity::read::standing(read, person(2));
    assert_eq!(standing.member_of(), Some(person(1)));
    let Ok(key) = identity::read::speaks_for(read, person(2), person(2).into_word());
    assert_eq!(key, Some(identity::read::Key::Secp256k1));
    let Ok(allowed) = identity::read::origin_allowed(read, person(1), B256::ZERO);
    assert!(!allowed);
    let Ok(may) = governance::read::may_deploy(read, person(1));
    assert!(!may);
    let Ok(staleness) = governance::read::parameter(read, governance::Parameter::StalenessMs);
    assert_eq!(staleness, 60_000);
    let Ok(seats) = governance::read::validators(read);
    assert_eq!((seats.len(), seats[0].organization), (1, person(1)));
    let question = Question {
        permissions: 1,
        purposes: 1,
        month: Some(3),
    };
    for (category, expected) in [(0, true), (1, false)] {
        let Ok(can) =
            consent::read::can(read, person(3), person(2), category, question, chain.now_s);
        assert_eq!(can, expected);
    }
    let Ok((size, peaks)) = records::read::peaks(read, person(3));
    assert_eq!((size, peaks.len()), (5, 2));
    let Ok(log) = records::read::log(read, person(3));
    assert_eq!(log.custodian, person(1));
    assert!(*asked.borrow() > 10);
}

#[test]
fn a_genesis_is_checked() {
    let validator = |n: u8, who| GenesisValidator {
        key: B256::repeat_byte(n),
        organization: person(who),
    };
    let good = GenesisSpec {
        organizations: vec![organization(person(1)), organization(person(2))],
        validators: vec![validator(1, 1), validator(2, 1), validator(3, 2)],
        parameters: vec![(governance::Parameter::MaxLeaves, 100)],
        deployers: vec![person(4)],
    };
    let storage = genesis(&good).unwrap();
    assert_eq!(storage, genesis(&good).unwrap());
    assert!(
        storage
            .values()
            .flat_map(BTreeMap::values)
            .all(|word| !word.is_zero())
    );
    assert_eq!(
        storage.keys().copied().collect::<Vec<_>>(),
        [IDENTITY, GOVERNANCE]
    );
    assert!(!storage.contains_key(&AUDIT));
    let changed = |change: &dyn Fn(&mut GenesisSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        genesis(&spec).unwrap_err()
    };
    assert_eq!(
        changed(&|s| s.organizations.clear()),
        GenesisError::NoOrganization
    );
    assert!(matches!(
        changed(&|s| s.validators.clear()),
        GenesisError::Validators { .. }
    ));
    assert!(matches!(
        changed(&|s| s.validators = (1..=51).map(|n| validator(n, 1)).collect()),
        GenesisError::Validators { given: 51, .. }
    ));
    for who in [person(1), Address::ZERO, AUDIT] {
        let error = changed(&|s| s.organizations.push(organization(who)));
        assert_eq!(error, GenesisError::Organization(who));
    }
    for bad in [validator(1, 1), validator(9, 9), validator(0, 1)] {
        let error = changed(&|s| s.validators.push(bad));
        assert!(matches!(error, GenesisError::Validator { .. }));
    }
    let error = changed(&|s| s.parameters = vec![(governance::Parameter::MaxLeaves, 1)]);
    assert!(
        error
            .to_string()
            .contains("max_leaves is 1, it must be 64 to 1024"),
        "{error}"
    );
}
