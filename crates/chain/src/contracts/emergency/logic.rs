//! Emergency's rules.

use alloy_primitives::{Address, B256, U256, aliases::U40};
use stele_core::{
    abi::{
        consent::IConsent::Terms,
        emergency::IEmergency::{self as abi, openCall, reviewCall, stopAllCall},
    },
    id::EMERGENCY,
};

use super::storage::{self, Opening};
use crate::contracts::{
    consent::{
        logic::{NewGrant, READ, end, write_grant},
        storage::{GrantStatus, PatientStatus, patient_status},
    },
    host::{Host, Outcome},
    identity,
};

pub(super) fn open(host: &mut Host<'_>, call: &openCall) -> Outcome<u64> {
    let clinician = host.caller();
    let patient = call.patient;
    if !identity::logic::has_role(host, clinician, DOCTOR | NURSE)? {
        return Err(abi::NotAClinician { account: clinician }.into());
    }
    if patient_status(host, patient)? != PatientStatus::Active {
        return Err(abi::NotAPatient { account: patient }.into());
    }
    if !(1..=REASONS).contains(&call.reason) {
        return Err(abi::InvalidReason {
            reason: call.reason,
        }
        .into());
    }
    let now_s = host.now_s();
    let until_s: u64 = call.until.to();
    if until_s <= now_s || until_s > now_s.saturating_add(LONGEST_S) {
        return Err(abi::InvalidPeriod { until: call.until }.into());
    }
    let last_s = storage::last_until(host, patient, clinician)?;
    if last_s > now_s {
        return Err(abi::AlreadyOpen {
            patient,
            clinician,
            until: U40::from(last_s),
        }
        .into());
    }
    let grant = write_grant(host, patient, terms(clinician, call, now_s))?;
    let number = storage::count(host)?.saturating_add(1);
    storage::set_count(host, number)?;
    storage::set_last_until(host, patient, clinician, until_s)?;
    let opening = Opening {
        patient,
        clinician,
        grant,
        reason: call.reason,
        verdict: 0,
        until_s,
    };
    storage::set_opening(host, number, &opening)?;
    let event = abi::Opened {
        patient,
        clinician,
        number,
        grantId: grant,
        reason: call.reason,
        detailsDigest: call.detailsDigest,
        until: call.until,
    };
    host.emit(EMERGENCY, &event)?;
    Ok(number)
}

/// What is opened: to see, for emergency treatment, now, whatever its age.
fn terms(clinician: Address, call: &openCall, now_s: u64) -> NewGrant {
    NewGrant {
        grantee: clinician,
        terms: Terms {
            categories: call.categories,
            permissions: READ,
            purposes: EMERGENCY_TREATMENT,
            notBefore: U40::saturating_from(now_s),
            expires: call.until,
            recordsFrom: 0,
            recordsTo: u16::MAX,
        },
        envelope_digest: B256::ZERO,
        request: 0,
    }
}

pub(super) fn review(host: &mut Host<'_>, call: &reviewCall) -> Outcome<()> {
    let reviewer = host.caller();
    let number = call.number;
    let mut opening = storage::opening(host, number)?;
    if opening.clinician.is_zero() {
        return Err(abi::UnknownOpening { number }.into());
    }
    let organization = identity::storage::account(host, opening.clinician)?.sponsor;
    let is_of_it = identity::storage::standing(host, reviewer)?.member_of() == Some(organization);
    if reviewer == opening.clinician
        || !is_of_it
        || !identity::logic::has_role(host, reviewer, ADMINISTRATOR | AUDITOR)?
    {
        return Err(abi::NotAReviewer { account: reviewer }.into());
    }
    if opening.verdict != 0 {
        return Err(abi::AlreadyReviewed { number }.into());
    }
    if !matches!(call.verdict, 1 | 2) {
        return Err(abi::InvalidVerdict {
            verdict: call.verdict,
        }
        .into());
    }
    opening.verdict = call.verdict;
    storage::set_opening(host, number, &opening)?;
    let event = abi::Reviewed {
        number,
        patient: opening.patient,
        reviewer,
        verdict: call.verdict,
        detailsDigest: call.detailsDigest,
    };
    host.emit(EMERGENCY, &event)
}

/// Ends grants of the calling patient's record, all or none.
pub(super) fn stop_all(host: &mut Host<'_>, call: &stopAllCall) -> Outcome<()> {
    let patient = host.caller();
    if patient_status(host, patient)? != PatientStatus::Active {
        return Err(abi::NotAPatient { account: patient }.into());
    }
    let (grantees, ids) = (call.grantees.len(), call.ids.len());
    if grantees != ids || grantees == 0 || grantees > STOPPED_MAX {
        return Err(abi::InvalidList {
            grantees: U256::from(grantees),
            ids: U256::from(ids),
        }
        .into());
    }
    for (grantee, id) in call.grantees.iter().zip(&call.ids) {
        end(
            host,
            patient,
            *grantee,
            *id,
            B256::ZERO,
            GrantStatus::Revoked,
        )?;
    }
    Ok(())
}

/// Identity's roles.
pub(super) const DOCTOR: u32 = 1;
pub(super) const NURSE: u32 = 2;
pub(super) const ADMINISTRATOR: u32 = 32;
pub(super) const AUDITOR: u32 = 64;
/// Consent's purpose bit of emergency treatment.
const EMERGENCY_TREATMENT: u16 = 8;
/// Reasons are numbered from 1 to this.
const REASONS: u8 = 4;
/// Longest opening in seconds: four hours, a stay in an emergency department.
const LONGEST_S: u64 = 4 * 3600;
/// Most grants ended at once: each is two slots and a log.
const STOPPED_MAX: usize = 64;
