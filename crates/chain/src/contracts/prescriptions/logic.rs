//! Prescriptions' rules.

use alloy_primitives::{Address, B256, aliases::U40};
use alloy_sol_types::SolStruct as _;
use stele_core::{
    abi::{
        prescriptions::IPrescriptions::{self as abi, dispenseCall, issueCall},
        typed::{Dispense, prescriptions_domain},
    },
    id::PRESCRIPTIONS,
};

use super::storage::{self, Prescription, Status};
use crate::contracts::{
    host::{Host, Outcome},
    identity, signature,
};

/// Whether something may be dispensed now, and if not, why. The numbers are the ledger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    Good = 0,
    Unknown = 1,
    Altered = 2,
    Cancelled = 3,
    Dispensed = 4,
    Expired = 5,
}

pub(super) fn issue(host: &mut Host<'_>, new: &issueCall) -> Outcome<()> {
    let prescriber = host.caller();
    if !identity::logic::has_role(host, prescriber, DOCTOR)? {
        return Err(abi::NotAPrescriber {
            account: prescriber,
        }
        .into());
    }
    if !identity::logic::registrable(new.id) {
        return Err(abi::InvalidId { id: new.id }.into());
    }
    if new.portions == 0 || new.commitment.is_zero() {
        return Err(abi::EmptyPrescription {}.into());
    }
    let expires_s: u64 = new.expires.to();
    let now_s = host.now_s();
    if expires_s <= now_s || expires_s > now_s.saturating_add(LONGEST_S) {
        return Err(abi::InvalidExpiry {
            expires: new.expires,
        }
        .into());
    }
    let (found, base) = storage::prescription(host, new.id)?;
    if found.status != Status::Unknown {
        return Err(abi::AlreadyIssued { id: new.id }.into());
    }
    let issued = Prescription {
        prescriber,
        portions: new.portions,
        dispensed: 0,
        sequence: 0,
        status: Status::Issued,
        expires_s,
    };
    storage::set_prescription(host, base, &issued)?;
    storage::set_commitment(host, base, new.commitment)?;
    let event = abi::Issued {
        id: new.id,
        prescriber,
        commitment: new.commitment,
        portions: new.portions,
        expires: new.expires,
    };
    host.emit(PRESCRIPTIONS, &event)
}

pub(super) fn dispense(host: &mut Host<'_>, call: &dispenseCall) -> Outcome<u16> {
    let dispenser = host.caller();
    let id = call.id;
    if !identity::logic::has_role(host, dispenser, PHARMACIST)? {
        return Err(abi::NotADispenser { account: dispenser }.into());
    }
    let (mut found, base) = storage::prescription(host, id)?;
    match state(&found, host.now_s()) {
        Verdict::Good => {}
        Verdict::Unknown | Verdict::Altered => {
            return Err(abi::UnknownPrescription { id }.into());
        }
        Verdict::Cancelled => return Err(abi::PrescriptionCancelled { id }.into()),
        Verdict::Dispensed => return Err(abi::AlreadyDispensed { id }.into()),
        Verdict::Expired => {
            let expires = U40::from(found.expires_s);
            return Err(abi::PrescriptionExpired { id, expires }.into());
        }
    }
    if call.sequence != found.sequence {
        return Err(abi::OutOfSequence {
            id,
            expected: found.sequence,
            given: call.sequence,
        }
        .into());
    }
    let left = found.left();
    if call.portions == 0 {
        return Err(abi::EmptyPrescription {}.into());
    }
    let Some(rest) = left.checked_sub(call.portions) else {
        return Err(abi::TooManyPortions {
            id,
            left,
            asked: call.portions,
        }
        .into());
    };
    require_code(host, call, dispenser)?;
    found.dispensed = found.dispensed.saturating_add(call.portions);
    found.sequence = found.sequence.saturating_add(1);
    storage::set_prescription(host, base, &found)?;
    let event = abi::Dispensed {
        id,
        dispenser,
        sequence: call.sequence,
        portions: call.portions,
        left: rest,
    };
    host.emit(PRESCRIPTIONS, &event)?;
    Ok(rest)
}

/// The prescription's own key has to have signed this very dispensing.
fn require_code(host: &mut Host<'_>, call: &dispenseCall, dispenser: Address) -> Outcome<()> {
    // Type, message, and the whole; the domain apart.
    host.charge_hashes(1, 70)?;
    host.charge_hashes(1, 160)?;
    host.charge_hashes(1, 66)?;
    charge_domain(host)?;
    let signed = Dispense {
        id: call.id,
        dispenser,
        sequence: call.sequence,
        portions: call.portions,
    };
    let hash = signed.eip712_signing_hash(&prescriptions_domain(host.chain_id()));
    match signature::recover(host, hash, &call.signature)? {
        Some(signer) if signer == call.id => Ok(()),
        other => Err(abi::BadSignature {
            signer: other.unwrap_or_default(),
        }
        .into()),
    }
}

/// Gas of the hashes of an EIP-712 domain: its type, name and version, and the whole.
pub(super) fn charge_domain(host: &mut Host<'_>) -> Outcome<()> {
    host.charge_hashes(3, 96)?;
    host.charge_hashes(1, 160)
}

pub(super) fn cancel(host: &mut Host<'_>, id: Address) -> Outcome<()> {
    let caller = host.caller();
    let (mut found, base) = storage::prescription(host, id)?;
    match found.status {
        Status::Issued => {}
        Status::Unknown => return Err(abi::UnknownPrescription { id }.into()),
        Status::Cancelled => return Err(abi::PrescriptionCancelled { id }.into()),
    }
    let prescriber = identity::storage::account(host, found.prescriber)?;
    let may = caller == found.prescriber || caller == prescriber.sponsor;
    if !may || !identity::storage::standing(host, caller)?.is_active() {
        return Err(abi::NotItsPrescriber { account: caller }.into());
    }
    found.status = Status::Cancelled;
    storage::set_prescription(host, base, &found)?;
    host.emit(PRESCRIPTIONS, &abi::Cancelled { id, by: caller })
}

pub(super) fn verify(
    host: &mut Host<'_>,
    id: Address,
    commitment: B256,
) -> Outcome<(Verdict, u16)> {
    let (found, base) = storage::prescription(host, id)?;
    let verdict = match state(&found, host.now_s()) {
        Verdict::Unknown => Verdict::Unknown,
        _ if storage::commitment(host, base)? != commitment => Verdict::Altered,
        verdict => verdict,
    };
    Ok((verdict, found.left()))
}

/// What the ledger alone knows of a prescription, without its text.
fn state(found: &Prescription, now_s: u64) -> Verdict {
    match found.status {
        Status::Unknown => Verdict::Unknown,
        Status::Cancelled => Verdict::Cancelled,
        Status::Issued if found.left() == 0 => Verdict::Dispensed,
        Status::Issued if now_s >= found.expires_s => Verdict::Expired,
        Status::Issued => Verdict::Good,
    }
}

/// Identity's role of doctors.
pub(super) const DOCTOR: u32 = 1;
/// Identity's role of pharmacists.
pub(super) const PHARMACIST: u32 = 4;
/// Longest time between issue and end, in seconds: two years, as long as repeat prescriptions run anywhere.
const LONGEST_S: u64 = 731 * 24 * 3600;
