//! Routing of Consent's calls.

use alloy_primitives::{Address, Bytes, aliases::U40};
use stele_core::abi::consent::IConsent::{self as abi, IConsentCalls as Calls};

use super::{
    logic::{self, Authorization, NewGrant},
    signing,
    storage::{self, Grant, GrantStatus, Question},
};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::grant(c) => grant(host, c),
        Calls::grantBySig(c) => grant_by_sig(host, c),
        Calls::revoke(c) => logic::revoke(host, c.grantee, c.id, c.directoryRoot).map(done),
        Calls::revokeBySig(c) => revoke_by_sig(host, c),
        Calls::renounce(c) => logic::renounce(host, c.patient, c.id).map(done),
        Calls::request(c) => {
            let id = logic::request(host, c.patient, c.detailsDigest, c.expires)?;
            answer::<abi::requestCall>(&id)
        }
        Calls::decline(c) => logic::decline(host, c.request).map(done),
        Calls::publishDirectory(c) => logic::publish_directory(host, c.directoryRoot).map(done),
        Calls::can(c) => {
            let open = open(host, c.patient, c.who, c.permission, c.purpose, None)?;
            answer::<abi::canCall>(&logic::has_category(open, c.category))
        }
        Calls::canAt(c) => {
            let open = open(
                host,
                c.patient,
                c.who,
                c.permission,
                c.purpose,
                Some(c.month),
            )?;
            answer::<abi::canAtCall>(&logic::has_category(open, c.category))
        }
        Calls::openCategories(c) => {
            let open = open(host, c.patient, c.who, c.permission, c.purpose, None)?;
            answer::<abi::openCategoriesCall>(&open)
        }
        Calls::grantAt(c) => grant_at(host, c.patient, c.grantee, c.index),
        Calls::requestOf(c) => request_of(host, c.patient, c.request),
        Calls::directoryRoot(c) => {
            answer::<abi::directoryRootCall>(&storage::directory_root(host, c.patient)?)
        }
        Calls::signatureNonce(c) => {
            answer::<abi::signatureNonceCall>(&storage::counters(host, c.patient)?.nonce)
        }
        Calls::DOMAIN_SEPARATOR(_) => {
            // Two type and name hashes, the version's, and the separator's own.
            host.charge_hashes(3, 96)?;
            host.charge_hashes(1, 160)?;
            answer::<abi::DOMAIN_SEPARATORCall>(&signing::domain_separator(host.chain_id()))
        }
    }
}

fn grant(host: &mut Host<'_>, c: abi::grantCall) -> Outcome<Bytes> {
    let new = NewGrant {
        grantee: c.grantee,
        terms: c.terms,
        envelope_digest: c.envelopeDigest,
        request: c.request,
    };
    answer::<abi::grantCall>(&logic::grant(host, new)?)
}

fn grant_by_sig(host: &mut Host<'_>, c: abi::grantBySigCall) -> Outcome<Bytes> {
    let new = NewGrant {
        grantee: c.grantee,
        terms: c.terms,
        envelope_digest: c.envelopeDigest,
        request: c.request,
    };
    let authorization = Authorization {
        nonce: c.nonce,
        deadline: c.deadline,
        signature: c.signature,
    };
    answer::<abi::grantBySigCall>(&logic::grant_by_sig(host, c.patient, new, &authorization)?)
}

fn revoke_by_sig(host: &mut Host<'_>, c: abi::revokeBySigCall) -> Outcome<Bytes> {
    let abi::revokeBySigCall {
        patient,
        grantee,
        id,
        directoryRoot: root,
        ..
    } = c;
    let authorization = Authorization {
        nonce: c.nonce,
        deadline: c.deadline,
        signature: c.signature,
    };
    logic::revoke_by_sig(host, patient, grantee, id, root, &authorization).map(done)
}

fn open(
    host: &mut Host<'_>,
    patient: Address,
    who: Address,
    permissions: u8,
    purposes: u16,
    month: Option<u16>,
) -> Outcome<u64> {
    let now_s = host.now_s();
    storage::open(
        host,
        patient,
        who,
        &Question {
            permissions,
            purposes,
            month,
        },
        now_s,
    )
}

fn request_of(host: &mut Host<'_>, patient: Address, id: u32) -> Outcome<Bytes> {
    let request = storage::request(host, patient, id)?;
    answer::<abi::requestOfCall>(&abi::requestOfReturn {
        requester: request.requester,
        status: request.status_at(host.now_s()) as u8,
        expires: U40::from(request.expires_s),
    })
}

fn grant_at(host: &mut Host<'_>, patient: Address, grantee: Address, index: u8) -> Outcome<Bytes> {
    let grant = if index < storage::MAX_GRANTS {
        let base = storage::grants_slot(host, patient, grantee)?;
        storage::grant(host, base, index)?
    } else {
        Grant::default()
    };
    let used = grant.status != GrantStatus::Unused;
    answer::<abi::grantAtCall>(&abi::grantAtReturn {
        id: if used {
            logic::grant_id(index, grant.serial)
        } else {
            0
        },
        revoked: used && grant.status != GrantStatus::Granted,
        terms: abi::Terms {
            categories: grant.categories,
            permissions: grant.permissions,
            purposes: grant.purposes,
            notBefore: U40::from(grant.not_before_s),
            expires: U40::from(grant.expires_s),
            recordsFrom: grant.records_from,
            recordsTo: grant.records_to,
        },
    })
}
