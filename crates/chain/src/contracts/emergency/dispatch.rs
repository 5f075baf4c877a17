//! Routing of Emergency's calls.

use alloy_primitives::{Bytes, aliases::U40};
use stele_core::abi::emergency::IEmergency::{self as abi, IEmergencyCalls as Calls};

use super::{logic, storage};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::open(c) => {
            let number = logic::open(host, &c)?;
            answer::<abi::openCall>(&number)
        }
        Calls::review(c) => logic::review(host, &c).map(done),
        Calls::stopAll(c) => logic::stop_all(host, &c).map(done),
        Calls::opening(c) => {
            let found = storage::opening(host, c.number)?;
            answer::<abi::openingCall>(&abi::openingReturn {
                patient: found.patient,
                clinician: found.clinician,
                grantId: found.grant,
                reason: found.reason,
                verdict: found.verdict,
                until: U40::from(found.until_s),
            })
        }
        Calls::openingCount(_) => {
            let count = storage::count(host)?;
            answer::<abi::openingCountCall>(&count)
        }
    }
}
