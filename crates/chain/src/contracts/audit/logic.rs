//! Audit's rules.

use alloy_primitives::B256;
use stele_core::{
    abi::audit::IAudit::{self as abi, anchorReceiptsCall},
    id::AUDIT,
};

use super::storage::{self, Sequence};
use crate::contracts::{
    host::{Host, Outcome},
    identity::{self, Kind},
};

pub(super) fn anchor(host: &mut Host<'_>, batch: &anchorReceiptsCall) -> Outcome<()> {
    let organization = host.caller();
    let account = identity::storage::account(host, organization)?;
    if account.kind != Kind::Organization {
        return Err(abi::NotAnOrganization {
            caller: organization,
        }
        .into());
    }
    if !account.is_active() {
        return Err(abi::NotActive { organization }.into());
    }
    if batch.count == 0 {
        return Err(abi::EmptyBatch {}.into());
    }
    let sequence = storage::sequence(host, organization)?;
    let out_of_sequence = abi::OutOfSequence {
        organization,
        expected: sequence.count,
        given: batch.first,
    };
    if batch.first != sequence.count {
        return Err(out_of_sequence.into());
    }
    if batch.previousHead != sequence.head {
        let (expected, given): (B256, B256) = (sequence.head, batch.previousHead);
        return Err(abi::WrongHead {
            organization,
            expected,
            given,
        }
        .into());
    }
    let count = sequence
        .count
        .checked_add(batch.count.into())
        .ok_or(out_of_sequence)?;
    storage::set_sequence(
        host,
        organization,
        Sequence {
            count,
            head: batch.head,
        },
    )?;
    let event = abi::ReceiptsAnchored {
        organization,
        first: batch.first,
        count: batch.count,
        root: batch.root,
        head: batch.head,
    };
    host.emit(AUDIT, &event)
}
