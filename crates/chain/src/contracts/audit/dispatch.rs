//! Routing of Audit's calls.

use alloy_primitives::Bytes;
use stele_core::abi::audit::IAudit::{self as abi, IAuditCalls as Calls};

use super::{logic, storage};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::anchorReceipts(batch) => logic::anchor(host, &batch).map(done),
        Calls::head(c) => {
            let sequence = storage::sequence(host, c.organization)?;
            let head = abi::headReturn {
                count: sequence.count,
                head_: sequence.head,
            };
            answer::<abi::headCall>(&head)
        }
    }
}
