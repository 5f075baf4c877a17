//! What the first block after an epoch that was ended by hand changes: seats of validators, and the organisations that
//! lost theirs.

use alloy_primitives::Address;
use stele_core::block::Validator;

use super::{
    governance::storage::{self as governance, Seat},
    identity::{Kind, Status, storage as identity},
    storage::Writer,
};

/// Gives exactly `validators` a seat and suspends `suspended`, as far as these are active organisations.
pub(crate) fn carry_out<W: Writer>(
    writer: &mut W,
    validators: &[Validator],
    suspended: &[Address],
) -> Result<(), W::Error> {
    for index in 0..governance::counters(writer)?.validators {
        let seat = governance::seat(writer, index)?;
        let stays = validators.iter().any(|validator| validator.key == seat.key);
        if seat.seated && !stays {
            let seated = false;
            governance::write_seat(writer, &Seat { seated, ..seat })?;
        }
    }
    for validator in validators {
        let seat = Seat {
            key: validator.key,
            organization: validator.organization,
            seated: true,
        };
        governance::write_seat(writer, &seat)?;
    }
    for organization in suspended {
        let mut account = identity::account(writer, *organization)?;
        if account.kind != Kind::Organization || !account.is_active() {
            continue;
        }
        account.status = Status::Suspended;
        identity::set_account(writer, *organization, &account)?;
        let mut count = identity::organization_count(writer)?;
        count.active = count.active.saturating_sub(1);
        identity::set_organization_count(writer, count)?;
    }
    Ok(())
}
