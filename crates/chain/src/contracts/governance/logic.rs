//! Governance's rules.

use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40};
use stele_core::{abi::governance::IGovernance as abi, id::GOVERNANCE};

use super::{
    payload::{self, Decision},
    storage::{self, Parameter, Proposal, ProposalStatus, Seat, Vote},
};
use crate::contracts::{
    host::{Host, Outcome},
    identity::{self, Kind, Status},
};

/// The caller, which must be an active organisation.
fn member(host: &mut Host<'_>) -> Outcome<Address> {
    let caller = host.caller();
    let account = identity::storage::account(host, caller)?;
    if account.kind == Kind::Organization && account.is_active() {
        Ok(caller)
    } else {
        Err(abi::NotAMember { caller }.into())
    }
}

pub(super) fn propose(host: &mut Host<'_>, kind: u8, payload: Bytes) -> Outcome<u32> {
    let proposer = member(host)?;
    let words = payload::words(kind, &payload).ok_or(abi::InvalidProposal { kind })?;
    let decision = Decision::parse(kind, &words).ok_or(abi::InvalidProposal { kind })?;
    check(host, kind, &decision)?;
    let mut counters = storage::counters(host)?;
    let id = counters
        .proposals
        .checked_add(1)
        .ok_or(abi::InvalidProposal { kind })?;
    counters.proposals = id;
    storage::set_counters(host, counters)?;
    storage::set_payload(host, id, &words)?;
    let lifetime_s = storage::parameter(host, Parameter::ProposalLifetimeS)?;
    let deadline_s = host.now_s().saturating_add(lifetime_s) & MAX_TIME_S;
    let deadline = U40::from(deadline_s);
    host.emit(
        GOVERNANCE,
        &abi::Proposed {
            id,
            proposer,
            kind,
            payload,
            deadline,
        },
    )?;
    let proposal = Proposal {
        kind,
        status: ProposalStatus::Open,
        proposer,
        deadline_s,
        yes: 0,
        no: 0,
    };
    cast(host, id, proposal, proposer, Vote::Yes, &decision)?;
    Ok(id)
}

pub(super) fn vote(host: &mut Host<'_>, id: u32, support: bool) -> Outcome<()> {
    let voter = member(host)?;
    let proposal = storage::proposal(host, id)?;
    match proposal.status_at(host.now_s()) {
        ProposalStatus::Open => {}
        ProposalStatus::Unknown => return Err(abi::UnknownProposal { id }.into()),
        status
        @ (ProposalStatus::Executed | ProposalStatus::Rejected | ProposalStatus::Expired) => {
            return Err(abi::NotOpen {
                id,
                status: status as u8,
            }
            .into());
        }
    }
    let kind = proposal.kind;
    let words = storage::payload(host, id, Decision::words(kind))?;
    let decision = Decision::parse(kind, &words).ok_or(abi::InvalidProposal { kind })?;
    cast(host, id, proposal, voter, Vote::new(support), &decision)
}

/// Records a vote, counts again, and decides when it can be decided.
fn cast(
    host: &mut Host<'_>,
    id: u32,
    mut proposal: Proposal,
    voter: Address,
    vote: Vote,
    decision: &Decision,
) -> Outcome<()> {
    let votes = storage::votes_slot(host, id)?;
    if storage::vote(host, votes, voter)?.is_some() {
        return Err(abi::AlreadyVoted { id, voter }.into());
    }
    storage::set_vote(host, votes, voter, vote)?;
    let tally = tally(host, votes)?;
    (proposal.yes, proposal.no) = (tally.yes, tally.no);
    let support = vote == Vote::Yes;
    let needed = tally.needed;
    let event = abi::Voted {
        id,
        voter,
        support,
        yes: tally.yes,
        no: tally.no,
        needed,
    };
    host.emit(GOVERNANCE, &event)?;
    let rejected = tally.no > tally.voters.saturating_sub(needed);
    if tally.yes >= needed {
        proposal.status = ProposalStatus::Executed;
        storage::set_proposal(host, id, &proposal)?;
        check(host, proposal.kind, decision)?;
        execute(host, decision)?;
        host.emit(
            GOVERNANCE,
            &abi::Executed {
                id,
                kind: proposal.kind,
            },
        )
    } else if rejected {
        proposal.status = ProposalStatus::Rejected;
        storage::set_proposal(host, id, &proposal)?;
        host.emit(GOVERNANCE, &abi::Rejected { id })
    } else {
        storage::set_proposal(host, id, &proposal)
    }
}

/// Votes of the organisations that are active now.
struct Tally {
    voters: u16,
    needed: u16,
    yes: u16,
    no: u16,
}

/// Counts the votes of active organisations afresh, so that one suspended since counts no more.
fn tally(host: &mut Host<'_>, votes: U256) -> Outcome<Tally> {
    let count = identity::storage::organization_count(host)?;
    let mut tally = Tally {
        voters: 0,
        needed: 0,
        yes: 0,
        no: 0,
    };
    for index in 0..count.registered {
        let organization = identity::storage::organization_at(host, index)?;
        if !identity::storage::account(host, organization)?.is_active() {
            continue;
        }
        tally.voters = tally.voters.saturating_add(1);
        match storage::vote(host, votes, organization)? {
            Some(Vote::Yes) => tally.yes = tally.yes.saturating_add(1),
            Some(Vote::No) => tally.no = tally.no.saturating_add(1),
            None => {}
        }
    }
    tally.needed = needed(tally.voters);
    Ok(tally)
}

/// Least number of votes that is more than two thirds.
pub(super) fn needed(voters: u16) -> u16 {
    let two_thirds = u32::from(voters).saturating_mul(2) / 3;
    u16::try_from(two_thirds)
        .unwrap_or(u16::MAX)
        .saturating_add(1)
}

/// Whether the decision can be carried out as things stand.
fn check(host: &mut Host<'_>, kind: u8, decision: &Decision) -> Outcome<()> {
    let sound = match decision {
        Decision::Admit(admission) => {
            let who = admission.organization;
            identity::logic::registrable(who)
                && identity::storage::account(host, who)?.kind == Kind::None
        }
        Decision::Suspend(who) => {
            let account = identity::storage::account(host, *who)?;
            account.kind == Kind::Organization
                && account.status == Status::Active
                && identity::storage::organization_count(host)?.active > 1
        }
        Decision::Reinstate(who) => {
            let account = identity::storage::account(host, *who)?;
            account.kind == Kind::Organization && account.status == Status::Suspended
        }
        Decision::Parameter(key, value) => return check_parameter(*key, *value).map(drop),
        Decision::Deployer(who, _) => !who.is_zero(),
        Decision::Validator(seat) => check_seat(host, seat)?,
    };
    if sound {
        Ok(())
    } else {
        Err(abi::InvalidProposal { kind }.into())
    }
}

fn check_parameter(key: B256, value: U256) -> Outcome<(Parameter, u64)> {
    let parameter = Parameter::from_key(key).ok_or(abi::UnknownParameter { key })?;
    let bounds = parameter.bounds();
    match u64::try_from(value) {
        Ok(number) if (bounds.min..=bounds.max).contains(&number) => Ok((parameter, number)),
        _ => Err(abi::ParameterOutOfRange {
            key,
            value,
            min: U256::from(bounds.min),
            max: U256::from(bounds.max),
        }
        .into()),
    }
}

/// A seat is taken for an active organisation while there is room; the last one is not given up.
fn check_seat(host: &mut Host<'_>, seat: &Seat) -> Outcome<bool> {
    let account = identity::storage::account(host, seat.organization)?;
    if account.kind != Kind::Organization || seat.key.is_zero() {
        return Ok(false);
    }
    let counters = storage::counters(host)?;
    let entry = match storage::seat_index(host, seat.key)? {
        Some(index) => Some(storage::seat(host, index)?),
        None => None,
    };
    let is_seated = entry.is_some_and(|entry| entry.seated);
    Ok(if seat.seated {
        account.is_active() && !is_seated && counters.seated < MAX_VALIDATORS
    } else {
        is_seated
            && entry.is_some_and(|entry| entry.organization == seat.organization)
            && counters.seated > 1
    })
}

fn execute(host: &mut Host<'_>, decision: &Decision) -> Outcome<()> {
    match decision {
        Decision::Admit(admission) => identity::logic::admit(host, admission),
        Decision::Suspend(who) => set_status(host, *who, Status::Suspended),
        Decision::Reinstate(who) => set_status(host, *who, Status::Active),
        Decision::Parameter(key, value) => {
            let (parameter, number) = check_parameter(*key, *value)?;
            storage::set_parameter(host, parameter, number)?;
            host.emit(
                GOVERNANCE,
                &abi::ParameterSet {
                    key: *key,
                    value: *value,
                },
            )
        }
        Decision::Deployer(account, allowed) => {
            storage::set_may_deploy(host, *account, *allowed)?;
            let event = abi::DeployerSet {
                account: *account,
                allowed: *allowed,
            };
            host.emit(GOVERNANCE, &event)
        }
        Decision::Validator(seat) => {
            storage::write_seat(host, seat)?;
            let Seat {
                key,
                organization,
                seated,
            } = *seat;
            host.emit(
                GOVERNANCE,
                &abi::ValidatorSet {
                    key,
                    organization,
                    seated,
                },
            )
        }
    }
}

fn set_status(host: &mut Host<'_>, who: Address, status: Status) -> Outcome<()> {
    let account = identity::storage::account(host, who)?;
    identity::logic::set_organization_status(host, who, account, status)
}

/// Most validators seated at once.
pub(crate) const MAX_VALIDATORS: u32 = stele_core::epoch::VALIDATORS_MAX;
/// Largest time in seconds: 40 bits.
const MAX_TIME_S: u64 = (1 << 40) - 1;
