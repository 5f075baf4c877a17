use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall as _, SolValue as _};
use stele_core::{
    abi::{
        governance::IGovernance::*,
        identity::IIdentity::{OrganizationRegistered, isActiveCall},
    },
    id::{GOVERNANCE, IDENTITY},
};

use super::{Parameter, logic};
use crate::contracts::testing::{Receipt, Sandbox, person, slot, word_of};

/// Has an organisation suspended: the first voter proposes, the others agree.
pub(crate) fn suspend(chain: &mut Sandbox, who: u64, voters: &[u64]) {
    decide(chain, voters, 2, person(who).abi_encode().into());
    assert!(!chain.ask(IDENTITY, &isActiveCall { who: person(who) }));
}

/// Has a proposal passed by all these voters.
pub(crate) fn decide(chain: &mut Sandbox, voters: &[u64], kind: u8, payload: Bytes) {
    let id = propose(chain, voters[0], kind, payload)
        .ok()
        .returned::<proposeCall>();
    for voter in &voters[1..] {
        vote(chain, *voter, id, true).ok();
    }
    let status = chain.ask(GOVERNANCE, &proposalCall { id }).status;
    assert_eq!(status, 2, "executed");
}

fn propose(chain: &mut Sandbox, by: u64, kind: u8, payload: Bytes) -> Receipt {
    chain.send(person(by), GOVERNANCE, &proposeCall { kind, payload })
}

fn vote(chain: &mut Sandbox, by: u64, id: u32, support: bool) -> Receipt {
    chain.send(person(by), GOVERNANCE, &voteCall { id, support })
}

fn consortium(members: u64) -> Sandbox {
    let members: Vec<Address> = (1..=members).map(person).collect();
    Sandbox::new(&members)
}

fn parameter(parameter: Parameter, value: u64) -> Bytes {
    (parameter.key(), U256::from(value)).abi_encode().into()
}

#[test]
fn more_than_two_thirds() {
    for (voters, needed) in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (6, 5),
        (7, 5),
        (50, 34),
    ] {
        assert_eq!(logic::needed(voters), needed, "{voters}");
        assert!(u32::from(needed) * 3 > u32::from(voters) * 2);
    }
}

#[test]
fn more_than_two_thirds_decide() {
    for members in 1..=7_u64 {
        let mut chain = consortium(members);
        let needed = u64::from(logic::needed(u16::try_from(members).unwrap()));
        let payload = parameter(Parameter::StalenessMs, 5_000);
        let id = propose(&mut chain, 1, 4, payload)
            .ok()
            .returned::<proposeCall>();
        for voter in 2..=members {
            let executed = chain.ask(GOVERNANCE, &proposalCall { id }).status == 2;
            assert_eq!(executed, voter > needed, "{members} members, {voter} next");
            if !executed {
                vote(&mut chain, voter, id, true).ok();
            }
        }
        let key = Parameter::StalenessMs.key();
        assert_eq!(
            chain.ask(GOVERNANCE, &parameterCall { key }),
            U256::from(5_000)
        );
    }
}

#[test]
fn a_minority_that_refuses_rejects() {
    let mut chain = consortium(4);
    let payload = parameter(Parameter::StalenessMs, 5_000);
    let id = propose(&mut chain, 1, 4, payload)
        .ok()
        .returned::<proposeCall>();
    vote(&mut chain, 2, id, false).ok();
    assert_eq!(chain.ask(GOVERNANCE, &proposalCall { id }).status, 1);
    let receipt = vote(&mut chain, 3, id, false).ok();
    assert_eq!(receipt.events::<Rejected>().len(), 1);
    let refused: NotOpen = vote(&mut chain, 4, id, true).refused();
    assert_eq!(refused.status, 3);
    let key = Parameter::StalenessMs.key();
    assert_eq!(
        chain.ask(GOVERNANCE, &parameterCall { key }),
        U256::from(60_000)
    );
}

#[test]
fn one_member_decides_alone() {
    let mut chain = consortium(1);
    let payload: Bytes = (
        person(9),
        U256::from(3),
        keccak256("endpoints"),
        keccak256("keys"),
    )
        .abi_encode()
        .into();
    let receipt = propose(&mut chain, 1, 1, payload.clone()).ok();
    assert_eq!(receipt.events::<Executed>().len(), 1);
    let registered = receipt.events::<OrganizationRegistered>();
    assert_eq!(
        (registered[0].organization, registered[0].kind),
        (person(9), 3)
    );
    assert!(chain.ask(IDENTITY, &isActiveCall { who: person(9) }));
    let id = receipt.returned::<proposeCall>();
    let proposal = chain.ask(GOVERNANCE, &proposalCall { id });
    assert_eq!((proposal.status, proposal.yes, proposal.no), (2, 1, 0));
    assert_eq!(proposal.payloadDigest, keccak256(&payload));
    assert_eq!(proposal.proposer, person(1));
    // The newcomer has a vote at once.
    let payload = parameter(Parameter::MaxLeaves, 64);
    let receipt = propose(&mut chain, 1, 4, payload).ok();
    assert_eq!(receipt.events::<Voted>()[0].needed, 2);
    assert!(receipt.events::<Executed>().is_empty());
}

#[test]
fn suspended_votes_do_not_count() {
    let mut chain = consortium(5);
    let payload = parameter(Parameter::StalenessMs, 5_000);
    let id = propose(&mut chain, 5, 4, payload)
        .ok()
        .returned::<proposeCall>();
    vote(&mut chain, 1, id, true).ok();
    suspend(&mut chain, 5, &[1, 2, 3, 4]);
    let receipt = vote(&mut chain, 2, id, true).ok();
    let voted = &receipt.events::<Voted>()[0];
    assert_eq!(
        (voted.yes, voted.needed),
        (2, 3),
        "the vote of 5 counts no more"
    );
    let _: NotAMember = vote(&mut chain, 5, id, true).refused();
    let _: NotAMember = propose(&mut chain, 5, 3, person(5).abi_encode().into()).refused();
    vote(&mut chain, 3, id, true).ok();
    assert_eq!(chain.ask(GOVERNANCE, &proposalCall { id }).status, 2);
    decide(&mut chain, &[1, 2, 3], 3, person(5).abi_encode().into());
    assert!(chain.ask(IDENTITY, &isActiveCall { who: person(5) }));
}

#[test]
fn one_vote_each_while_open() {
    let mut chain = consortium(4);
    let payload = parameter(Parameter::StalenessMs, 5_000);
    let _: NotAMember = propose(&mut chain, 30, 4, payload.clone()).refused();
    let id = propose(&mut chain, 1, 4, payload)
        .ok()
        .returned::<proposeCall>();
    let _: AlreadyVoted = vote(&mut chain, 1, id, true).refused();
    let _: AlreadyVoted = vote(&mut chain, 1, id, false).refused();
    let _: NotAMember = vote(&mut chain, 30, id, true).refused();
    let _: UnknownProposal = vote(&mut chain, 2, id + 1, true).refused();
    chain.now_s += Parameter::ProposalLifetimeS.bounds().default;
    let refused: NotOpen = vote(&mut chain, 2, id, true).refused();
    assert_eq!(refused.status, 4);
    assert_eq!(chain.ask(GOVERNANCE, &proposalCall { id }).status, 4);
}

#[test]
fn parameters_are_bounded() {
    let mut chain = consortium(1);
    for item in Parameter::ALL {
        let bounds = item.bounds();
        assert!((bounds.min..=bounds.max).contains(&bounds.default));
        let key = item.key();
        assert_eq!(
            chain.ask(GOVERNANCE, &parameterCall { key }),
            U256::from(bounds.default)
        );
        for value in [bounds.min, bounds.max] {
            propose(&mut chain, 1, 4, parameter(item, value)).ok();
            assert_eq!(
                chain.ask(GOVERNANCE, &parameterCall { key }),
                U256::from(value)
            );
        }
        for value in [0, bounds.min - 1, bounds.max + 1] {
            let refused: ParameterOutOfRange =
                propose(&mut chain, 1, 4, parameter(item, value)).refused();
            assert_eq!(refused.value, U256::from(value));
        }
    }
    let unknown: Bytes = (B256::repeat_byte(1), U256::ONE).abi_encode().into();
    let _: UnknownParameter = propose(&mut chain, 1, 4, unknown).refused();
    let huge: Bytes = (Parameter::StalenessMs.key(), U256::MAX)
        .abi_encode()
        .into();
    let _: ParameterOutOfRange = propose(&mut chain, 1, 4, huge).refused();
}

#[test]
fn the_consortium_is_never_empty() {
    let mut chain = consortium(1);
    let _: InvalidProposal = propose(&mut chain, 1, 2, person(1).abi_encode().into()).refused();
    let first = keccak256("first validator");
    let unseat: Bytes = (first, person(1), false).abi_encode().into();
    let _: InvalidProposal = propose(&mut chain, 1, 6, unseat.clone()).refused();
    let second: Bytes = (keccak256("second"), person(1), true).abi_encode().into();
    propose(&mut chain, 1, 6, second.clone()).ok();
    let _: InvalidProposal = propose(&mut chain, 1, 6, second).refused();
    propose(&mut chain, 1, 6, unseat).ok();
    assert_eq!(chain.ask(GOVERNANCE, &validatorCountCall {}), 2);
    let entry = chain.ask(GOVERNANCE, &validatorAtCall { index: 0 });
    assert_eq!(
        (entry.key, entry.organization, entry.seated),
        (first, person(1), false)
    );
    let strange: Bytes = (keccak256("third"), person(40), true).abi_encode().into();
    let _: InvalidProposal = propose(&mut chain, 1, 6, strange).refused();
}

#[test]
fn deployers_are_decided_upon() {
    let mut chain = consortium(1);
    for allowed in [true, false] {
        propose(&mut chain, 1, 5, (person(8), allowed).abi_encode().into()).ok();
        assert_eq!(
            chain.ask(GOVERNANCE, &mayDeployCall { account: person(8) }),
            allowed
        );
    }
}

#[test]
fn malformed_payloads_are_refused() {
    let mut chain = consortium(1);
    let dirty = B256::repeat_byte(1);
    for (kind, payload) in [
        (0, vec![]),
        (7, vec![0; 32]),
        (2, vec![0; 31]),
        (2, vec![0; 64]),
        (2, dirty.to_vec()),
        (2, person(30).abi_encode()),
        (3, person(1).abi_encode()),
        (
            5,
            [person(3).into_word(), B256::from(U256::from(2))].concat(),
        ),
        (
            1,
            (person(1), U256::ONE, B256::ZERO, B256::ZERO).abi_encode(),
        ),
        (
            1,
            (IDENTITY, U256::ONE, B256::ZERO, B256::ZERO).abi_encode(),
        ),
    ] {
        let refused: InvalidProposal = propose(&mut chain, 1, kind, payload.into()).refused();
        assert_eq!(refused.kind, kind);
    }
    assert_eq!(chain.ask(GOVERNANCE, &proposalCountCall {}), 0);
}

#[test]
fn every_selector_is_routed() {
    let calls = [
        proposeCall::default().abi_encode(),
        voteCall::default().abi_encode(),
        proposalCall::default().abi_encode(),
        proposalCountCall {}.abi_encode(),
        parameterCall::default().abi_encode(),
        mayDeployCall::default().abi_encode(),
        validatorCountCall {}.abi_encode(),
        validatorAtCall::default().abi_encode(),
    ];
    consortium(1).check_selectors::<IGovernanceCalls>(GOVERNANCE, &calls);
}

#[test]
fn storage_layout() {
    let mut chain = consortium(2);
    let payload = parameter(Parameter::StalenessMs, 5_000);
    let id = propose(&mut chain, 1, 4, payload)
        .ok()
        .returned::<proposeCall>();
    let deadline = chain.now_s + 1_209_600;
    let word = |slot| chain.word(GOVERNANCE, slot);
    let number = |n: u64| U256::from(n);
    assert_eq!(
        word(U256::ZERO),
        number(1) | number(1) << 32 | number(1) << 64
    );
    let base = slot(number(id.into()), number(1));
    let proposer: U256 = person(1).into_word().into();
    let expected =
        number(4) | number(1) << 8 | proposer << 16 | number(deadline) << 176 | number(1) << 216;
    assert_eq!(word(base), expected);
    assert_eq!(
        word(base + number(1)),
        word_of(Parameter::StalenessMs.key())
    );
    assert_eq!(word(base + number(2)), number(5_000));
    let votes = slot(number(id.into()), number(2));
    assert_eq!(word(slot(person(1).into_word(), votes)), number(1));
    let validators: U256 = word_of(keccak256(number(5).to_be_bytes::<32>()));
    let key = keccak256("first validator");
    assert_eq!(word(validators), word_of(key));
    assert_eq!(word(validators + number(1)), proposer | number(1) << 160);
    assert_eq!(word(slot(key, number(6))), number(1));
    vote(&mut chain, 2, id, true).ok();
    let stored = chain.word(GOVERNANCE, slot(Parameter::StalenessMs.key(), number(3)));
    assert_eq!(stored, number(5_000));
    assert_eq!(&Parameter::StalenessMs.key()[..13], b"staleness_ms\0");
}
