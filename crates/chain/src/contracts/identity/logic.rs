//! Identity's rules.

use alloy_primitives::{Address, B256, U256};
use stele_core::{abi::identity::IIdentity as abi, id::IDENTITY};

use super::storage::{self, Account, Key, Kind, Status};
use crate::contracts::{
    consent,
    host::{Host, Outcome},
    is_reserved,
    storage::Writer,
};

/// The caller, which must be an active organisation.
pub(crate) fn active_organization(host: &mut Host<'_>) -> Outcome<Address> {
    let caller = host.caller();
    let account = storage::account(host, caller)?;
    if account.kind != Kind::Organization {
        return Err(abi::NotAnOrganization { account: caller }.into());
    }
    if !account.is_active() {
        return Err(abi::NotActive { account: caller }.into());
    }
    Ok(caller)
}

/// The caller's account, which must be active (and its organisation, for members and devices).
fn active_account(host: &mut Host<'_>) -> Outcome<(Address, Account)> {
    let caller = host.caller();
    let account = storage::account(host, caller)?;
    if account.kind == Kind::None {
        return Err(abi::UnknownAccount { account: caller }.into());
    }
    if !storage::standing(host, caller)?.is_active() {
        return Err(abi::NotActive { account: caller }.into());
    }
    Ok((caller, account))
}

pub(super) fn update_organization(host: &mut Host<'_>, endpoints: B256, keys: B256) -> Outcome<()> {
    let organization = active_organization(host)?;
    storage::set_digests(host, organization, endpoints, keys)?;
    let event = abi::OrganizationUpdated {
        organization,
        endpointsDigest: endpoints,
        keysDigest: keys,
    };
    host.emit(IDENTITY, &event)
}

pub(super) fn allow_origin(host: &mut Host<'_>, origin: B256, allowed: bool) -> Outcome<()> {
    let organization = active_organization(host)?;
    storage::set_origin_allowed(host, organization, origin, allowed)?;
    host.emit(
        IDENTITY,
        &abi::OriginAllowed {
            organization,
            originDigest: origin,
            allowed,
        },
    )
}

/// Registers a member, patient or device of the calling organisation.
pub(super) fn register(
    host: &mut Host<'_>,
    who: Address,
    kind: Kind,
    roles: u32,
    commitment: B256,
) -> Outcome<()> {
    let sponsor = active_organization(host)?;
    if !registrable(who) {
        return Err(abi::InvalidAccount { account: who }.into());
    }
    if storage::account(host, who)?.kind != Kind::None {
        return Err(abi::AlreadyRegistered { account: who }.into());
    }
    let account = Account {
        kind,
        status: Status::Active,
        roles,
        sponsor,
        ..Account::default()
    };
    storage::set_account(host, who, &account)?;
    if !commitment.is_zero() {
        if kind == Kind::Patient {
            consent::logic::publish(host, who, commitment)?;
        } else {
            storage::set_commitment(host, who, commitment)?;
        }
    }
    let event = abi::AccountRegistered {
        account: who,
        kind: kind as u8,
        sponsor,
        roles,
        commitment,
    };
    host.emit(IDENTITY, &event)
}

/// Whether an account may have this address.
pub(crate) fn registrable(who: Address) -> bool {
    !who.is_zero() && !is_reserved(who)
}

/// Whether it is an active member of an active organisation with one of these roles.
pub(crate) fn has_role(host: &mut Host<'_>, who: Address, roles: u32) -> Outcome<bool> {
    let standing = storage::standing(host, who)?;
    Ok(standing.member_of().is_some() && storage::account(host, who)?.roles & roles != 0)
}

pub(super) fn update_member(
    host: &mut Host<'_>,
    who: Address,
    status: u8,
    roles: u32,
    commitment: B256,
) -> Outcome<()> {
    let caller = active_organization(host)?;
    let mut account = storage::account(host, who)?;
    match account.kind {
        Kind::None => return Err(abi::UnknownAccount { account: who }.into()),
        Kind::Organization | Kind::Patient => {
            return Err(abi::InvalidKind {
                kind: account.kind as u8,
            }
            .into());
        }
        Kind::Member | Kind::Device => {}
    }
    if account.sponsor != caller {
        return Err(abi::NotSponsor {
            account: who,
            caller,
        }
        .into());
    }
    if account.status == Status::Closed {
        return Err(abi::NotActive { account: who }.into());
    }
    account.status = Status::from_bits(status);
    if account.status == Status::Unknown {
        return Err(abi::InvalidStatus { status }.into());
    }
    account.roles = roles;
    storage::set_account(host, who, &account)?;
    storage::set_commitment(host, who, commitment)?;
    host.emit(
        IDENTITY,
        &abi::AccountUpdated {
            account: who,
            status,
            roles,
            commitment,
        },
    )
}

pub(super) fn add_key(
    host: &mut Host<'_>,
    key_id: B256,
    kind: u8,
    rp_id_hash: B256,
) -> Outcome<()> {
    let (who, mut account) = active_account(host)?;
    let key = new_key(key_id, kind, rp_id_hash)?;
    if key_id == who.into_word() {
        if key != Key::Secp256k1 {
            return Err(abi::InvalidKey { keyId: key_id }.into());
        }
        if !account.own_key_removed {
            return Err(abi::KeyExists {
                account: who,
                keyId: key_id,
            }
            .into());
        }
        account.own_key_removed = false;
    } else {
        if account.keys >= MAX_KEYS {
            return Err(abi::TooManyKeys { account: who }.into());
        }
        if storage::key(host, who, account.key_generation, key_id)?.is_some() {
            return Err(abi::KeyExists {
                account: who,
                keyId: key_id,
            }
            .into());
        }
        storage::set_key(host, who, account.key_generation, key_id, Some(key))?;
        account.keys = account.keys.saturating_add(1);
    }
    storage::set_account(host, who, &account)?;
    let event = abi::KeyAdded {
        account: who,
        keyId: key_id,
        kind,
        rpIdHash: rp_id_hash,
    };
    host.emit(IDENTITY, &event)
}

/// Checks what a key says of itself.
fn new_key(key_id: B256, kind: u8, rp_id_hash: B256) -> Outcome<Key> {
    let key = match kind {
        SECP256K1 => Key::Secp256k1,
        PASSKEY => Key::Passkey { rp_id_hash },
        _ => return Err(abi::InvalidKind { kind }.into()),
    };
    let sound = match key {
        // The id must be an address, else it names a key that can never sign.
        Key::Secp256k1 => {
            !key_id.is_zero()
                && Address::from_word(key_id).into_word() == key_id
                && rp_id_hash.is_zero()
        }
        Key::Passkey { rp_id_hash } => {
            !key_id.is_zero() && U256::from_be_bytes(rp_id_hash.0) > storage::SECP256K1_KEY
        }
    };
    if sound {
        Ok(key)
    } else {
        Err(abi::InvalidKey { keyId: key_id }.into())
    }
}

pub(super) fn remove_key(host: &mut Host<'_>, key_id: B256) -> Outcome<()> {
    let (who, mut account) = active_account(host)?;
    let unknown = abi::UnknownKey {
        account: who,
        keyId: key_id,
    };
    let own = key_id == who.into_word();
    if own {
        if account.own_key_removed {
            return Err(unknown.into());
        }
        if account.keys == 0 {
            return Err(abi::LastKey { account: who }.into());
        }
        account.own_key_removed = true;
    } else {
        if storage::key(host, who, account.key_generation, key_id)?.is_none() {
            return Err(unknown.into());
        }
        if account.own_key_removed && account.keys <= 1 {
            return Err(abi::LastKey { account: who }.into());
        }
        storage::set_key(host, who, account.key_generation, key_id, None)?;
        account.keys = account.keys.saturating_sub(1);
    }
    storage::set_account(host, who, &account)?;
    host.emit(
        IDENTITY,
        &abi::KeyRemoved {
            account: who,
            keyId: key_id,
        },
    )
}

pub(super) fn claim(
    host: &mut Host<'_>,
    key_id: B256,
    rp_id_hash: B256,
    directory_root: B256,
) -> Outcome<()> {
    let (who, mut account) = active_account(host)?;
    if account.kind != Kind::Patient {
        return Err(abi::InvalidKind {
            kind: account.kind as u8,
        }
        .into());
    }
    if account.own_key_removed {
        return Err(abi::AlreadyClaimed { account: who }.into());
    }
    // A passkey always names its relying party; a key file has none.
    let kind = if rp_id_hash.is_zero() {
        SECP256K1
    } else {
        PASSKEY
    };
    let key = new_key(key_id, kind, rp_id_hash)?;
    if key_id == who.into_word() {
        return Err(abi::InvalidKey { keyId: key_id }.into());
    }
    account.own_key_removed = true;
    account.keys = 1;
    // The organisation may have added keys of its own before: a new generation leaves them all behind.
    account.key_generation = account
        .key_generation
        .checked_add(1)
        .ok_or(abi::TooManyKeys { account: who })?;
    storage::set_key(host, who, account.key_generation, key_id, Some(key))?;
    storage::set_account(host, who, &account)?;
    host.emit(
        IDENTITY,
        &abi::KeyRemoved {
            account: who,
            keyId: who.into_word(),
        },
    )?;
    let added = abi::KeyAdded {
        account: who,
        keyId: key_id,
        kind,
        rpIdHash: rp_id_hash,
    };
    host.emit(IDENTITY, &added)?;
    consent::logic::publish(host, who, directory_root)?;
    host.emit(
        IDENTITY,
        &abi::AccountClaimed {
            account: who,
            keyId: key_id,
        },
    )
}

/// An organisation that enters the consortium.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) organization: Address,
    pub(crate) kind: u8,
    pub(crate) endpoints_digest: B256,
    pub(crate) keys_digest: B256,
}

/// Writes a new, active organisation. Whether it may enter is for Governance or genesis to have decided.
pub(crate) fn write_organization<W: Writer>(
    writer: &mut W,
    admission: &Admission,
) -> Result<(), W::Error> {
    let who = admission.organization;
    let mut count = storage::organization_count(writer)?;
    let account = Account {
        kind: Kind::Organization,
        status: Status::Active,
        sponsor: who,
        organization_kind: admission.kind,
        ..Account::default()
    };
    storage::set_account(writer, who, &account)?;
    storage::set_digests(
        writer,
        who,
        admission.endpoints_digest,
        admission.keys_digest,
    )?;
    storage::set_organization_at(writer, count.registered, who)?;
    count.registered = count.registered.saturating_add(1);
    count.active = count.active.saturating_add(1);
    storage::set_organization_count(writer, count)
}

/// Governance admits an organisation.
pub(crate) fn admit(host: &mut Host<'_>, admission: &Admission) -> Outcome<()> {
    write_organization(host, admission)?;
    let event = abi::OrganizationRegistered {
        organization: admission.organization,
        kind: admission.kind,
        endpointsDigest: admission.endpoints_digest,
        keysDigest: admission.keys_digest,
    };
    host.emit(IDENTITY, &event)
}

/// Governance suspends or reinstates an organisation, which it has checked to be one with another status.
pub(crate) fn set_organization_status(
    host: &mut Host<'_>,
    who: Address,
    mut account: Account,
    status: Status,
) -> Outcome<()> {
    account.status = status;
    storage::set_account(host, who, &account)?;
    let mut count = storage::organization_count(host)?;
    count.active = if status == Status::Active {
        count.active.saturating_add(1)
    } else {
        count.active.saturating_sub(1)
    };
    storage::set_organization_count(host, count)?;
    let event = abi::AccountUpdated {
        account: who,
        status: status as u8,
        roles: account.roles,
        commitment: B256::ZERO,
    };
    host.emit(IDENTITY, &event)
}

/// Most keys added to one account: enough for devices and a successor, few enough to review.
pub(crate) const MAX_KEYS: u16 = 16;
/// Kind of a secp256k1 key in the ABI.
pub(super) const SECP256K1: u8 = 0;
/// Kind of a passkey in the ABI.
pub(super) const PASSKEY: u8 = 1;
