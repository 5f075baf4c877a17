//! Layout of Identity's storage, and what follows from it without a rule.

use alloy_primitives::{Address, B256, U256};
use stele_core::id::IDENTITY;

use crate::contracts::storage::{
    Reader, Writer, address_at, address_word, at, bits, u8_at, u16_at, u32_at,
};

/// Kind of an account, as on the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Not registered.
    #[default]
    None = 0,
    /// Organisation: a member of the consortium with a vote.
    Organization = 1,
    /// Member of staff of an organisation.
    Member = 2,
    /// Patient.
    Patient = 3,
    /// Device of an organisation.
    Device = 4,
}

impl Kind {
    fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Organization,
            2 => Self::Member,
            3 => Self::Patient,
            4 => Self::Device,
            _ => Self::None,
        }
    }
}

/// Status of an account, as on the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Not registered.
    #[default]
    Unknown = 0,
    /// May act.
    Active = 1,
    /// May not act for now.
    Suspended = 2,
    /// May not act any more.
    Closed = 3,
}

impl Status {
    /// The status with this number.
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Active,
            2 => Self::Suspended,
            3 => Self::Closed,
            _ => Self::Unknown,
        }
    }
}

/// An account: one word of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What it is.
    pub kind: Kind,
    /// Whether it may act. For members and devices their organisation decides too: see [`Standing`].
    pub status: Status,
    /// Bit set of roles.
    pub roles: u32,
    /// Number of added keys.
    pub keys: u16,
    /// The key whose address is the account speaks for it no more.
    pub own_key_removed: bool,
    /// Organisation that vouches for the account; for an organisation, itself.
    pub sponsor: Address,
    /// Kind of an organisation, by the consortium's own numbering.
    pub organization_kind: u8,
    /// Counts the times all keys were replaced at once; keys of earlier generations do not speak.
    pub key_generation: u16,
}

impl Account {
    fn unpack(word: U256) -> Self {
        Self {
            kind: Kind::from_bits(u8_at(word, 0)),
            status: Status::from_bits(u8_at(word, 8)),
            roles: u32_at(word, 16),
            keys: u16_at(word, 48),
            own_key_removed: u8_at(word, 64) != 0,
            sponsor: address_at(word, 72),
            organization_kind: u8_at(word, 232),
            key_generation: u16_at(word, 240),
        }
    }

    fn pack(&self) -> U256 {
        at(self.kind as u8, 0)
            | at(self.status as u8, 8)
            | at(self.roles, 16)
            | at(self.keys, 48)
            | at(self.own_key_removed, 64)
            | address_word(self.sponsor, 72)
            | at(self.organization_kind, 232)
            | at(self.key_generation, 240)
    }

    /// Whether the account itself may act, leaving its organisation aside.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }
}

/// What an account may do at the moment, its organisation considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not registered.
    Unregistered,
    /// Suspended or closed, or of an organisation that is.
    Barred,
    /// Active.
    Active {
        /// What the account is.
        kind: Kind,
        /// Organisation that vouches for it.
        organization: Address,
    },
}

impl Standing {
    /// The organisation whose active member of staff this is.
    #[must_use]
    pub fn member_of(&self) -> Option<Address> {
        match self {
            Self::Active {
                kind: Kind::Member,
                organization,
            } => Some(*organization),
            Self::Active { .. } | Self::Unregistered | Self::Barred => None,
        }
    }

    /// Whether it is registered and active.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}

/// A key that speaks for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// secp256k1; its id is its address, left-padded.
    Secp256k1,
    /// Passkey (P-256).
    Passkey {
        /// SHA-256 of the relying party's id.
        rp_id_hash: B256,
    },
}

/// How many organisations there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrganizationCount {
    /// All that were ever registered.
    pub registered: u64,
    /// Those that are active.
    pub active: u64,
}

pub(crate) fn account<R: Reader>(reader: &mut R, who: Address) -> Result<Account, R::Error> {
    let slot = reader.mapping(who.into_word(), ACCOUNTS)?;
    reader.load(IDENTITY, slot).map(Account::unpack)
}

pub(crate) fn set_account<W: Writer>(
    writer: &mut W,
    who: Address,
    account: &Account,
) -> Result<(), W::Error> {
    let slot = writer.mapping(who.into_word(), ACCOUNTS)?;
    writer.store(IDENTITY, slot, account.pack())
}

pub(crate) fn standing<R: Reader>(reader: &mut R, who: Address) -> Result<Standing, R::Error> {
    let account = account(reader, who)?;
    if account.kind == Kind::None {
        return Ok(Standing::Unregistered);
    }
    if !account.is_active() {
        return Ok(Standing::Barred);
    }
    let depends = matches!(account.kind, Kind::Member | Kind::Device);
    if depends && !self::account(reader, account.sponsor)?.is_active() {
        return Ok(Standing::Barred);
    }
    Ok(Standing::Active {
        kind: account.kind,
        organization: account.sponsor,
    })
}

pub(crate) fn commitment<R: Reader>(reader: &mut R, who: Address) -> Result<B256, R::Error> {
    let slot = reader.mapping(who.into_word(), COMMITMENTS)?;
    reader.load(IDENTITY, slot).map(B256::from)
}

pub(crate) fn set_commitment<W: Writer>(
    writer: &mut W,
    who: Address,
    commitment: B256,
) -> Result<(), W::Error> {
    let slot = writer.mapping(who.into_word(), COMMITMENTS)?;
    writer.store(IDENTITY, slot, commitment.into())
}

/// Digests of an organisation's endpoints and keys.
pub(crate) fn digests<R: Reader>(reader: &mut R, who: Address) -> Result<(B256, B256), R::Error> {
    let slot = reader.mapping(who.into_word(), DIGESTS)?;
    let endpoints = reader.load(IDENTITY, slot)?;
    let keys = reader.load(IDENTITY, slot.wrapping_add(U256::ONE))?;
    Ok((endpoints.into(), keys.into()))
}

pub(crate) fn set_digests<W: Writer>(
    writer: &mut W,
    who: Address,
    endpoints: B256,
    keys: B256,
) -> Result<(), W::Error> {
    let slot = writer.mapping(who.into_word(), DIGESTS)?;
    writer.store(IDENTITY, slot, endpoints.into())?;
    writer.store(IDENTITY, slot.wrapping_add(U256::ONE), keys.into())
}

pub(crate) fn organization_count<R: Reader>(reader: &mut R) -> Result<OrganizationCount, R::Error> {
    let word = reader.load(IDENTITY, COUNTS)?;
    Ok(OrganizationCount {
        registered: bits(word, 0, 64),
        active: bits(word, 64, 64),
    })
}

pub(crate) fn set_organization_count<W: Writer>(
    writer: &mut W,
    count: OrganizationCount,
) -> Result<(), W::Error> {
    writer.store(
        IDENTITY,
        COUNTS,
        at(count.registered, 0) | at(count.active, 64),
    )
}

pub(crate) fn organization_at<R: Reader>(reader: &mut R, index: u64) -> Result<Address, R::Error> {
    let first = reader.array(ORGANIZATIONS)?;
    let word = reader.load(IDENTITY, first.wrapping_add(U256::from(index)))?;
    Ok(address_at(word, 0))
}

pub(crate) fn set_organization_at<W: Writer>(
    writer: &mut W,
    index: u64,
    who: Address,
) -> Result<(), W::Error> {
    let first = writer.array(ORGANIZATIONS)?;
    writer.store(
        IDENTITY,
        first.wrapping_add(U256::from(index)),
        address_word(who, 0),
    )
}

pub(crate) fn key<R: Reader>(
    reader: &mut R,
    who: Address,
    generation: u16,
    key_id: B256,
) -> Result<Option<Key>, R::Error> {
    let slot = key_slot(reader, who, generation, key_id)?;
    let word = reader.load(IDENTITY, slot)?;
    Ok(if word.is_zero() {
        None
    } else if word == SECP256K1_KEY {
        Some(Key::Secp256k1)
    } else {
        Some(Key::Passkey {
            rp_id_hash: word.into(),
        })
    })
}

/// Sets or clears a key. A passkey's `rp_id_hash` must be greater than 1: the rule checks it.
pub(crate) fn set_key<W: Writer>(
    writer: &mut W,
    who: Address,
    generation: u16,
    key_id: B256,
    key: Option<Key>,
) -> Result<(), W::Error> {
    let slot = key_slot(writer, who, generation, key_id)?;
    let word = match key {
        None => U256::ZERO,
        Some(Key::Secp256k1) => SECP256K1_KEY,
        Some(Key::Passkey { rp_id_hash }) => rp_id_hash.into(),
    };
    writer.store(IDENTITY, slot, word)
}

fn key_slot<R: Reader>(
    reader: &mut R,
    who: Address,
    generation: u16,
    key_id: B256,
) -> Result<U256, R::Error> {
    let owner = address_word(who, 0) | at(generation, 160);
    let keys = reader.mapping(owner.into(), KEYS)?;
    reader.mapping(key_id, keys)
}

/// The key, if it speaks for the account now: its own key until removed, and keys added since the last claim.
pub(crate) fn speaks_for<R: Reader>(
    reader: &mut R,
    who: Address,
    key_id: B256,
) -> Result<Option<Key>, R::Error> {
    let account = account(reader, who)?;
    if key_id == who.into_word() {
        return Ok((!account.own_key_removed).then_some(Key::Secp256k1));
    }
    if account.keys == 0 {
        return Ok(None);
    }
    key(reader, who, account.key_generation, key_id)
}

pub(crate) fn origin_allowed<R: Reader>(
    reader: &mut R,
    organization: Address,
    origin_digest: B256,
) -> Result<bool, R::Error> {
    let slot = origin_slot(reader, organization, origin_digest)?;
    reader.load(IDENTITY, slot).map(|word| !word.is_zero())
}

pub(crate) fn set_origin_allowed<W: Writer>(
    writer: &mut W,
    organization: Address,
    origin_digest: B256,
    allowed: bool,
) -> Result<(), W::Error> {
    let slot = origin_slot(writer, organization, origin_digest)?;
    writer.store(IDENTITY, slot, at(allowed, 0))
}

fn origin_slot<R: Reader>(
    reader: &mut R,
    organization: Address,
    origin_digest: B256,
) -> Result<U256, R::Error> {
    let origins = reader.mapping(organization.into_word(), ORIGINS)?;
    reader.mapping(origin_digest, origins)
}

const COUNTS: U256 = U256::ZERO;
const ACCOUNTS: U256 = U256::from_limbs([1, 0, 0, 0]);
const COMMITMENTS: U256 = U256::from_limbs([2, 0, 0, 0]);
const DIGESTS: U256 = U256::from_limbs([3, 0, 0, 0]);
const ORGANIZATIONS: U256 = U256::from_limbs([4, 0, 0, 0]);
const KEYS: U256 = U256::from_limbs([5, 0, 0, 0]);
const ORIGINS: U256 = U256::from_limbs([6, 0, 0, 0]);
/// What stands for a secp256k1 key. A passkey stands as its rpIdHash, which is never this.
pub(crate) const SECP256K1_KEY: U256 = U256::ONE;
