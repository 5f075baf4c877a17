//! Routing of Records' calls.

use alloy_primitives::{Address, Bytes};
use stele_core::abi::records::IRecords::{self as abi, IRecordsCalls as Calls};

use super::{logic, storage};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::anchor(c) => logic::anchor(host, c).map(done),
        Calls::tombstone(c) => logic::tombstone(host, &c).map(done),
        Calls::dispute(c) => logic::dispute(host, c.log, c.index, c.reason).map(done),
        Calls::transferCustody(c) => logic::transfer_custody(host, c.log, c.to).map(done),
        Calls::logRoot(c) => log_root(host, c.log),
        Calls::logPeaks(c) => {
            let slot = storage::slot(host, c.log)?;
            let size = storage::log(host, slot)?.size;
            let peaks = storage::peaks(host, slot, size)?;
            answer::<abi::logPeaksCall>(&abi::logPeaksReturn { size, peaks })
        }
        Calls::custodianOf(c) => {
            let slot = storage::slot(host, c.log)?;
            answer::<abi::custodianOfCall>(&storage::log(host, slot)?.custodian)
        }
        Calls::verifyInclusion(c) => {
            let stands = logic::verify_inclusion(host, c.log, c.index, c.leaf, &c.path)?;
            answer::<abi::verifyInclusionCall>(&stands)
        }
    }
}

fn log_root(host: &mut Host<'_>, log: Address) -> Outcome<Bytes> {
    let slot = storage::slot(host, log)?;
    let size = storage::log(host, slot)?.size;
    let root = logic::root(host, slot, size)?;
    answer::<abi::logRootCall>(&abi::logRootReturn { size, root })
}
