//! Routing of Governance's calls.

use alloy_primitives::{B256, Bytes, U256, aliases::U40};
use stele_core::abi::governance::IGovernance::{self as abi, IGovernanceCalls as Calls};

use super::{
    logic,
    payload::Decision,
    storage::{self, Parameter, ProposalStatus, Seat},
};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
    storage::Reader as _,
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::propose(c) => answer::<abi::proposeCall>(&logic::propose(host, c.kind, c.payload)?),
        Calls::vote(c) => logic::vote(host, c.id, c.support).map(done),
        Calls::proposal(c) => proposal(host, c.id),
        Calls::proposalCount(_) => {
            answer::<abi::proposalCountCall>(&storage::counters(host)?.proposals)
        }
        Calls::parameter(c) => {
            let parameter =
                Parameter::from_key(c.key).ok_or(abi::UnknownParameter { key: c.key })?;
            let value = storage::parameter(host, parameter)?;
            answer::<abi::parameterCall>(&U256::from(value))
        }
        Calls::mayDeploy(c) => answer::<abi::mayDeployCall>(&storage::may_deploy(host, c.account)?),
        Calls::validatorCount(_) => {
            answer::<abi::validatorCountCall>(&storage::counters(host)?.validators)
        }
        Calls::validatorAt(c) => {
            let Seat {
                key,
                organization,
                seated,
            } = storage::seat(host, c.index)?;
            answer::<abi::validatorAtCall>(&abi::validatorAtReturn {
                key,
                organization,
                seated,
            })
        }
    }
}

fn proposal(host: &mut Host<'_>, id: u32) -> Outcome<Bytes> {
    let proposal = storage::proposal(host, id)?;
    let digest = if proposal.status == ProposalStatus::Unknown {
        B256::ZERO
    } else {
        let words = storage::payload(host, id, Decision::words(proposal.kind))?;
        host.keccak(&words.concat())?
    };
    answer::<abi::proposalCall>(&abi::proposalReturn {
        kind: proposal.kind,
        status: proposal.status_at(host.now_s()) as u8,
        proposer: proposal.proposer,
        deadline: U40::from(proposal.deadline_s),
        yes: proposal.yes,
        no: proposal.no,
        payloadDigest: digest,
    })
}
