//! Consent's rules.

use alloy_primitives::{Address, B256, Bytes, U256, aliases::U40};
use stele_core::{
    abi::consent::IConsent::{self as abi, Terms},
    id::CONSENT,
};

use super::{
    signing::{SignedGrant, SignedRevocation},
    storage::{
        self, Grant, GrantStatus, MAX_GRANTS, MAX_SERIAL, PatientStatus, Request, RequestStatus,
    },
};
use crate::contracts::{
    host::{Host, Outcome},
    identity, signature,
};

/// A grant to be given.
#[derive(Clone, Debug)]
pub(crate) struct NewGrant {
    pub(crate) grantee: Address,
    pub(crate) terms: Terms,
    pub(crate) envelope_digest: B256,
    pub(crate) request: u32,
}

/// A signature that stands in for the patient's own transaction.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) nonce: u64,
    pub(super) deadline: U40,
    pub(super) signature: Bytes,
}

/// Whether a bit set of categories has this one.
pub(crate) fn has_category(open: u64, category: u8) -> bool {
    open.checked_shr(category.into())
        .is_some_and(|bits| bits & 1 == 1)
}

pub(super) fn grant(host: &mut Host<'_>, new: NewGrant) -> Outcome<u32> {
    let patient = host.caller();
    active_patient(host, patient)?;
    write_grant(host, patient, new)
}

pub(super) fn grant_by_sig(
    host: &mut Host<'_>,
    patient: Address,
    new: NewGrant,
    authorization: &Authorization,
) -> Outcome<u32> {
    active_patient(host, patient)?;
    let signed = SignedGrant {
        patient,
        grantee: new.grantee,
        terms: new.terms.clone(),
        envelope_digest: new.envelope_digest,
        request: new.request,
        nonce: authorization.nonce,
        deadline_s: authorization.deadline.to(),
    };
    charge_signing(host, GRANT_WORDS)?;
    let hash = signed.signing_hash(host.chain_id());
    authorize(host, patient, hash, authorization)?;
    write_grant(host, patient, new)
}

fn active_patient(host: &mut Host<'_>, who: Address) -> Outcome<()> {
    match storage::patient_status(host, who)? {
        PatientStatus::Active => Ok(()),
        PatientStatus::Inactive => Err(abi::NotActive { account: who }.into()),
        PatientStatus::Other => Err(abi::NotAPatient { account: who }.into()),
    }
}

/// Gas of the EIP-712 hash of a message of so many words.
fn charge_signing(host: &mut Host<'_>, words: usize) -> Outcome<()> {
    // Type, domain's type, name and version; the message; the domain; the whole.
    host.charge_hashes(4, 96)?;
    host.charge_hashes(1, words.saturating_mul(32))?;
    host.charge_hashes(1, 160)?;
    host.charge_hashes(1, 66)
}

/// Uses up a signature of the patient: in time, next in order, by a key that speaks for the account.
fn authorize(
    host: &mut Host<'_>,
    patient: Address,
    hash: B256,
    authorization: &Authorization,
) -> Outcome<()> {
    let Authorization {
        nonce,
        deadline,
        signature,
    } = authorization;
    if host.now_s() > deadline.to::<u64>() {
        return Err(abi::SignatureExpired {
            deadline: *deadline,
        }
        .into());
    }
    let mut counters = storage::counters(host, patient)?;
    if counters.nonce != *nonce {
        return Err(abi::BadNonce {
            expected: counters.nonce,
            given: *nonce,
        }
        .into());
    }
    let Some(signer) = signature::recover(host, hash, signature)? else {
        return Err(abi::BadSignature {
            signer: Address::ZERO,
        }
        .into());
    };
    let key = identity::storage::speaks_for(host, patient, signer.into_word())?;
    if key != Some(identity::storage::Key::Secp256k1) {
        return Err(abi::BadSignature { signer }.into());
    }
    counters.nonce = counters.nonce.saturating_add(1);
    storage::set_counters(host, patient, counters)
}

/// Writes a grant of this patient. Whose decision it is, the caller has checked.
pub(crate) fn write_grant(host: &mut Host<'_>, patient: Address, new: NewGrant) -> Outcome<u32> {
    let NewGrant {
        grantee,
        terms,
        envelope_digest,
        request,
    } = new;
    let now_s = host.now_s();
    if grantee == patient || !identity::logic::registrable(grantee) {
        return Err(abi::InvalidGrantee { grantee }.into());
    }
    check_terms(&terms, now_s)?;
    if request != 0 {
        close_request(host, patient, request, RequestStatus::Answered)?;
    }
    let base = storage::grants_slot(host, patient, grantee)?;
    let (index, serial) =
        free_slot(host, base, now_s)?.ok_or(abi::TooManyGrants { patient, grantee })?;
    let grant = Grant {
        categories: terms.categories,
        permissions: terms.permissions,
        purposes: terms.purposes,
        not_before_s: terms.notBefore.to(),
        expires_s: terms.expires.to(),
        records_from: terms.recordsFrom,
        records_to: terms.recordsTo,
        serial,
        status: GrantStatus::Granted,
    };
    storage::set_grant(host, base, index, &grant)?;
    let id = grant_id(index, serial);
    let event = abi::Granted {
        patient,
        grantee,
        id,
        terms,
        envelopeDigest: envelope_digest,
        request,
    };
    host.emit(CONSENT, &event)?;
    Ok(id)
}

fn check_terms(terms: &Terms, now_s: u64) -> Outcome<()> {
    let Terms {
        permissions,
        purposes,
        notBefore: not_before,
        expires,
        ..
    } = *terms;
    if terms.categories == 0 || permissions == 0 || purposes == 0 {
        return Err(abi::EmptyTerms {}.into());
    }
    if permissions & !PERMISSIONS != 0 || purposes & !PURPOSES != 0 {
        return Err(abi::UnknownTerms {
            permissions,
            purposes,
        }
        .into());
    }
    if not_before >= expires || expires.to::<u64>() <= now_s {
        return Err(abi::InvalidPeriod {
            notBefore: not_before,
            expires,
        }
        .into());
    }
    if terms.recordsFrom > terms.recordsTo {
        return Err(abi::InvalidRecordsPeriod {
            recordsFrom: terms.recordsFrom,
            recordsTo: terms.recordsTo,
        }
        .into());
    }
    Ok(())
}

/// First index that was never used or whose grant is over, and the serial of its next use.
fn free_slot(host: &mut Host<'_>, base: U256, now_s: u64) -> Outcome<Option<(u8, u32)>> {
    for index in 0..MAX_GRANTS {
        let grant = storage::grant(host, base, index)?;
        // A slot whose serials are used up is never used again: ids stay unique.
        if grant.is_over(now_s) && grant.serial < MAX_SERIAL {
            return Ok(Some((index, grant.serial.saturating_add(1))));
        }
    }
    Ok(None)
}

pub(super) fn grant_id(index: u8, serial: u32) -> u32 {
    u32::from(index) << 24 | serial
}

/// The grant an id names, its index, and the first slot of its pair.
fn find(
    host: &mut Host<'_>,
    patient: Address,
    grantee: Address,
    id: u32,
) -> Outcome<(U256, u8, Grant)> {
    let unknown = abi::UnknownGrant {
        patient,
        grantee,
        id,
    };
    let [index, ..] = id.to_be_bytes();
    if index >= MAX_GRANTS {
        return Err(unknown.into());
    }
    let base = storage::grants_slot(host, patient, grantee)?;
    let grant = storage::grant(host, base, index)?;
    if grant.status == GrantStatus::Unused || grant.serial != id & MAX_SERIAL {
        return Err(unknown.into());
    }
    if grant.status != GrantStatus::Granted {
        return Err(abi::AlreadyRevoked {
            patient,
            grantee,
            id,
        }
        .into());
    }
    Ok((base, index, grant))
}

pub(super) fn revoke(
    host: &mut Host<'_>,
    grantee: Address,
    id: u32,
    directory_root: B256,
) -> Outcome<()> {
    let patient = host.caller();
    active_patient(host, patient)?;
    end(
        host,
        patient,
        grantee,
        id,
        directory_root,
        GrantStatus::Revoked,
    )
}

pub(super) fn revoke_by_sig(
    host: &mut Host<'_>,
    patient: Address,
    grantee: Address,
    id: u32,
    directory_root: B256,
    authorization: &Authorization,
) -> Outcome<()> {
    active_patient(host, patient)?;
    let signed = SignedRevocation {
        patient,
        grantee,
        id,
        directory_root,
        nonce: authorization.nonce,
        deadline_s: authorization.deadline.to(),
    };
    charge_signing(host, REVOKE_WORDS)?;
    let hash = signed.signing_hash(host.chain_id());
    authorize(host, patient, hash, authorization)?;
    end(
        host,
        patient,
        grantee,
        id,
        directory_root,
        GrantStatus::Revoked,
    )
}

pub(super) fn renounce(host: &mut Host<'_>, patient: Address, id: u32) -> Outcome<()> {
    let grantee = host.caller();
    if identity::storage::standing(host, grantee)? == identity::Standing::Barred {
        return Err(abi::NotActive { account: grantee }.into());
    }
    end(
        host,
        patient,
        grantee,
        id,
        B256::ZERO,
        GrantStatus::Renounced,
    )
}

/// Ends a grant. Whose decision it is, the caller has checked.
pub(crate) fn end(
    host: &mut Host<'_>,
    patient: Address,
    grantee: Address,
    id: u32,
    directory_root: B256,
    status: GrantStatus,
) -> Outcome<()> {
    let (base, index, mut grant) = find(host, patient, grantee, id)?;
    grant.status = status;
    storage::set_grant(host, base, index, &grant)?;
    let event = abi::Revoked {
        patient,
        grantee,
        id,
        directoryRoot: directory_root,
    };
    host.emit(CONSENT, &event)?;
    if directory_root.is_zero() {
        Ok(())
    } else {
        publish(host, patient, directory_root)
    }
}

pub(super) fn request(
    host: &mut Host<'_>,
    patient: Address,
    details_digest: B256,
    expires: U40,
) -> Outcome<u32> {
    let requester = host.caller();
    if !identity::storage::standing(host, requester)?.is_active() {
        return Err(abi::NotActive { account: requester }.into());
    }
    active_patient(host, patient)?;
    let now_s = host.now_s();
    if expires.to::<u64>() <= now_s {
        let not_before = U40::from(now_s & storage::MAX_TIME_S);
        return Err(abi::InvalidPeriod {
            notBefore: not_before,
            expires,
        }
        .into());
    }
    let mut recent = storage::recent(host, patient, requester)?;
    let mut free = None;
    for (place, id) in recent.iter().enumerate() {
        let open = *id != 0
            && storage::request(host, patient, *id)?.status_at(now_s) == RequestStatus::Open;
        if !open {
            free = Some(place);
            break;
        }
    }
    let full = || abi::TooManyRequests { patient, requester };
    let mut counters = storage::counters(host, patient)?;
    let id = counters.requests.checked_add(1).ok_or_else(full)?;
    *free
        .and_then(|place| recent.get_mut(place))
        .ok_or_else(full)? = id;
    counters.requests = id;
    storage::set_recent(host, patient, requester, recent)?;
    storage::set_counters(host, patient, counters)?;
    let request = Request {
        requester,
        status: RequestStatus::Open,
        expires_s: expires.to(),
    };
    storage::set_request(host, patient, id, &request)?;
    let event = abi::Requested {
        patient,
        requester,
        request: id,
        detailsDigest: details_digest,
        expires,
    };
    host.emit(CONSENT, &event)?;
    Ok(id)
}

pub(super) fn decline(host: &mut Host<'_>, id: u32) -> Outcome<()> {
    let patient = host.caller();
    active_patient(host, patient)?;
    let requester = close_request(host, patient, id, RequestStatus::Declined)?;
    host.emit(
        CONSENT,
        &abi::Declined {
            patient,
            requester,
            request: id,
        },
    )
}

/// Ends an open request and names who made it.
fn close_request(
    host: &mut Host<'_>,
    patient: Address,
    id: u32,
    status: RequestStatus,
) -> Outcome<Address> {
    let mut request = storage::request(host, patient, id)?;
    match request.status_at(host.now_s()) {
        RequestStatus::Open => {}
        RequestStatus::Unknown => {
            return Err(abi::UnknownRequest {
                patient,
                request: id,
            }
            .into());
        }
        RequestStatus::Answered | RequestStatus::Declined | RequestStatus::Expired => {
            return Err(abi::RequestClosed {
                patient,
                request: id,
            }
            .into());
        }
    }
    request.status = status;
    storage::set_request(host, patient, id, &request)?;
    Ok(request.requester)
}

pub(super) fn publish_directory(host: &mut Host<'_>, root: B256) -> Outcome<()> {
    let patient = host.caller();
    active_patient(host, patient)?;
    publish(host, patient, root)
}

/// Publishes the root of a patient's directory of keys. Whose decision it is, the caller has checked.
pub(crate) fn publish(host: &mut Host<'_>, patient: Address, root: B256) -> Outcome<()> {
    storage::set_directory_root(host, patient, root)?;
    host.emit(
        CONSENT,
        &abi::DirectoryPublished {
            patient,
            directoryRoot: root,
        },
    )
}

/// Permission to read.
pub(crate) const READ: u8 = 1;
/// Permission to write.
pub(crate) const WRITE: u8 = 2;
/// Read 1, write 2, share 4.
const PERMISSIONS: u8 = 7;
/// Treatment, payment, research, emergency treatment, patient's request, operations, public health.
const PURPOSES: u16 = 0x7f;
/// Words of an encoded `Grant`, its type hash included.
const GRANT_WORDS: usize = 14;
/// Words of an encoded `Revoke`, its type hash included.
const REVOKE_WORDS: usize = 7;
