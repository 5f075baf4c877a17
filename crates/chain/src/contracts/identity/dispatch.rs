//! Routing of Identity's calls.

use alloy_primitives::{Address, B256, Bytes};
use stele_core::abi::identity::IIdentity::{self as abi, IIdentityCalls as Calls};

use super::{
    logic,
    storage::{self, Key, Kind},
};
use crate::contracts::{
    dispatch::{answer, done},
    host::{Host, Outcome},
};

pub(crate) fn route(host: &mut Host<'_>, call: Calls) -> Outcome<Bytes> {
    match call {
        Calls::updateOrganization(c) => {
            logic::update_organization(host, c.endpointsDigest, c.keysDigest).map(done)
        }
        Calls::allowOrigin(c) => logic::allow_origin(host, c.originDigest, c.allowed).map(done),
        Calls::registerMember(c) => {
            logic::register(host, c.member, Kind::Member, c.roles, c.licence).map(done)
        }
        Calls::updateMember(c) => {
            logic::update_member(host, c.member, c.status, c.roles, c.licence).map(done)
        }
        Calls::registerPatient(c) => {
            logic::register(host, c.patient, Kind::Patient, 0, c.directoryRoot).map(done)
        }
        Calls::registerDevice(c) => {
            logic::register(host, c.device, Kind::Device, 0, c.commitment).map(done)
        }
        Calls::addKey(c) => logic::add_key(host, c.keyId, c.kind, c.rpIdHash).map(done),
        Calls::removeKey(c) => logic::remove_key(host, c.keyId).map(done),
        Calls::claim(c) => logic::claim(host, c.keyId, c.rpIdHash, c.directoryRoot).map(done),
        Calls::account(c) => account(host, c.who),
        Calls::isActive(c) => {
            answer::<abi::isActiveCall>(&storage::standing(host, c.who)?.is_active())
        }
        Calls::organizationOf(c) => {
            answer::<abi::organizationOfCall>(&storage::account(host, c.who)?.sponsor)
        }
        Calls::organization(c) => organization(host, c.who),
        Calls::organizationCount(_) => {
            let count = storage::organization_count(host)?;
            answer::<abi::organizationCountCall>(&abi::organizationCountReturn {
                registered: count.registered,
                active: count.active,
            })
        }
        Calls::organizationAt(c) => {
            answer::<abi::organizationAtCall>(&storage::organization_at(host, c.index)?)
        }
        Calls::speaksFor(c) => speaks_for(host, c.who, c.keyId),
        Calls::originAllowed(c) => {
            let allowed = storage::origin_allowed(host, c.organization_, c.originDigest)?;
            answer::<abi::originAllowedCall>(&allowed)
        }
        Calls::commitmentOf(c) => {
            answer::<abi::commitmentOfCall>(&storage::commitment(host, c.who)?)
        }
    }
}

fn account(host: &mut Host<'_>, who: Address) -> Outcome<Bytes> {
    let account = storage::account(host, who)?;
    answer::<abi::accountCall>(&abi::Account {
        kind: account.kind as u8,
        status: account.status as u8,
        sponsor: account.sponsor,
        roles: account.roles,
        ownKeyRemoved: account.own_key_removed,
        keys: account.keys,
    })
}

fn organization(host: &mut Host<'_>, who: Address) -> Outcome<Bytes> {
    let account = storage::account(host, who)?;
    let mut organization = abi::organizationReturn {
        kind: 0,
        status: 0,
        endpointsDigest: B256::ZERO,
        keysDigest: B256::ZERO,
    };
    if account.kind == Kind::Organization {
        let (endpoints, keys) = storage::digests(host, who)?;
        organization.kind = account.organization_kind;
        organization.status = account.status as u8;
        organization.endpointsDigest = endpoints;
        organization.keysDigest = keys;
    }
    answer::<abi::organizationCall>(&organization)
}

fn speaks_for(host: &mut Host<'_>, who: Address, key_id: B256) -> Outcome<Bytes> {
    let key = storage::speaks_for(host, who, key_id)?;
    let (kind, rp_id_hash) = match key {
        Some(Key::Passkey { rp_id_hash }) => (logic::PASSKEY, rp_id_hash),
        Some(Key::Secp256k1) | None => (logic::SECP256K1, B256::ZERO),
    };
    answer::<abi::speaksForCall>(&abi::speaksForReturn {
        ok: key.is_some(),
        kind,
        rpIdHash: rp_id_hash,
    })
}
