//! Routing of Prescriptions' calls.

use alloy_primitives::{Bytes, aliases::U40};
use stele_core::abi::{
    prescriptions::IPrescriptions::{self as abi, IPrescriptionsCalls as Calls},
    typed::prescriptions_domain,
};

use super::{logic, storage};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::issue(c) => logic::issue(host, &c).map(done),
        Calls::dispense(c) => {
            let left = logic::dispense(host, &c)?;
            answer::<abi::dispenseCall>(&left)
        }
        Calls::cancel(c) => logic::cancel(host, c.id).map(done),
        Calls::prescription(c) => {
            let (found, base) = storage::prescription(host, c.id)?;
            let view = abi::prescriptionReturn {
                prescriber: found.prescriber,
                commitment: storage::commitment(host, base)?,
                portions: found.portions,
                dispensed: found.dispensed,
                sequence: found.sequence,
                status: found.status as u8,
                expires: U40::from(found.expires_s),
            };
            answer::<abi::prescriptionCall>(&view)
        }
        Calls::verify(c) => {
            let (verdict, left) = logic::verify(host, c.id, c.commitment)?;
            answer::<abi::verifyCall>(&abi::verifyReturn {
                verdict: verdict as u8,
                left,
            })
        }
        Calls::DOMAIN_SEPARATOR(_) => {
            logic::charge_domain(host)?;
            let separator = prescriptions_domain(host.chain_id()).separator();
            answer::<abi::DOMAIN_SEPARATORCall>(&separator)
        }
    }
}
