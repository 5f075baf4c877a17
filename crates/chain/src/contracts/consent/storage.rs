//! Layout of Consent's storage, and what a set of grants opens.

use alloy_primitives::{Address, B256, U256};
use stele_core::id::CONSENT;

use crate::contracts::{
    identity::{
        Kind, Standing,
        storage::{account, standing},
    },
    storage::{Reader, Writer, address_at, address_word, at, bits, u8_at, u16_at, u32_at},
};

/// Where a grant stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum GrantStatus {
    /// The slot was never used.
    #[default]
    Unused = 0,
    /// Given; live within its period.
    Granted = 1,
    /// Taken back by the patient.
    Revoked = 2,
    /// Given back by the grantee.
    Renounced = 3,
}

/// A grant: one word of storage. Times in Unix seconds, months since January 1970, inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) categories: u64,
    pub(crate) permissions: u8,
    pub(crate) purposes: u16,
    pub(crate) not_before_s: u64,
    pub(crate) expires_s: u64,
    pub(crate) records_from: u16,
    pub(crate) records_to: u16,
    /// Counts the uses of the slot, from 1; 24 bits.
    pub(crate) serial: u32,
    pub(crate) status: GrantStatus,
}

impl Grant {
    pub(crate) fn unpack(word: U256) -> Self {
        Self {
            categories: bits(word, 0, 64),
            permissions: u8_at(word, 64),
            purposes: u16_at(word, 72),
            not_before_s: bits(word, 88, 40),
            expires_s: bits(word, 128, 40),
            records_from: u16_at(word, 168),
            records_to: u16_at(word, 184),
            serial: u32_at(word, 200) & MAX_SERIAL,
            status: match u8_at(word, 224) {
                0 => GrantStatus::Unused,
                1 => GrantStatus::Granted,
                2 => GrantStatus::Revoked,
                _ => GrantStatus::Renounced,
            },
        }
    }

    pub(crate) fn pack(&self) -> U256 {
        at(self.categories, 0)
            | at(self.permissions, 64)
            | at(self.purposes, 72)
            | at(self.not_before_s & MAX_TIME_S, 88)
            | at(self.expires_s & MAX_TIME_S, 128)
            | at(self.records_from, 168)
            | at(self.records_to, 184)
            | at(self.serial & MAX_SERIAL, 200)
            | at(self.status as u8, 224)
    }

    /// Whether the grant holds at this time.
    pub(crate) fn is_live(&self, now_s: u64) -> bool {
        self.status == GrantStatus::Granted && self.not_before_s <= now_s && now_s < self.expires_s
    }

    /// Whether another grant may take the slot.
    pub(crate) fn is_over(&self, now_s: u64) -> bool {
        self.status != GrantStatus::Granted || now_s >= self.expires_s
    }

    /// The categories it opens for what is asked.
    fn opens(&self, question: &Question, now_s: u64) -> u64 {
        let permitted = self.permissions & question.permissions == question.permissions;
        let purposeful = self.purposes & question.purposes == question.purposes;
        let within = question
            .month
            .is_none_or(|month| self.records_from <= month && month <= self.records_to);
        if self.is_live(now_s) && permitted && purposeful && within {
            self.categories
        } else {
            0
        }
    }
}

/// What is asked of a patient's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Bits all of which one grant must have: 1 read, 2 write, 4 share. None asked, nothing opens.
    pub permissions: u8,
    /// Bits all of which the same grant must have; 0 asks for none in particular.
    pub purposes: u16,
    /// Sealing month of the record, months since January 1970; `None` for any.
    pub month: Option<u16>,
}

/// Category slots of the patient that are open to `who` at this time, as a bit set.
pub(crate) fn open<R: Reader>(
    reader: &mut R,
    patient: Address,
    who: Address,
    question: &Question,
    now_s: u64,
) -> Result<u64, R::Error> {
    let standing = standing(reader, who)?;
    open_to(reader, patient, who, standing, question, now_s)
}

/// As [`open`], for a caller whose standing is known.
pub(crate) fn open_to<R: Reader>(
    reader: &mut R,
    patient: Address,
    who: Address,
    standing: Standing,
    question: &Question,
    now_s: u64,
) -> Result<u64, R::Error> {
    if question.permissions == 0 || standing == Standing::Barred {
        return Ok(0);
    }
    if who == patient {
        let own = matches!(
            standing,
            Standing::Active {
                kind: Kind::Patient,
                ..
            }
        );
        return Ok(if own { u64::MAX } else { 0 });
    }
    let grants = reader.mapping(patient.into_word(), GRANTS)?;
    let mut open = scan(reader, grants, who, question, now_s)?;
    if let Some(organization) = standing.member_of() {
        open |= scan(reader, grants, organization, question, now_s)?;
    }
    Ok(open)
}

fn scan<R: Reader>(
    reader: &mut R,
    grants: U256,
    grantee: Address,
    question: &Question,
    now_s: u64,
) -> Result<u64, R::Error> {
    let base = reader.mapping(grantee.into_word(), grants)?;
    let mut open = 0;
    for index in 0..MAX_GRANTS {
        let word = reader.load(CONSENT, base.wrapping_add(U256::from(index)))?;
        // Slots are used in order: behind one that was never used there is none.
        if word.is_zero() {
            break;
        }
        open |= Grant::unpack(word).opens(question, now_s);
    }
    Ok(open)
}

/// First of the slots of the grants of a pair.
pub(crate) fn grants_slot<R: Reader>(
    reader: &mut R,
    patient: Address,
    grantee: Address,
) -> Result<U256, R::Error> {
    let grants = reader.mapping(patient.into_word(), GRANTS)?;
    reader.mapping(grantee.into_word(), grants)
}

/// The grant at an index from 0 to 15, given the first slot of its pair.
pub(crate) fn grant<R: Reader>(reader: &mut R, base: U256, index: u8) -> Result<Grant, R::Error> {
    reader
        .load(CONSENT, base.wrapping_add(U256::from(index)))
        .map(Grant::unpack)
}

pub(crate) fn set_grant<W: Writer>(
    writer: &mut W,
    base: U256,
    index: u8,
    grant: &Grant,
) -> Result<(), W::Error> {
    writer.store(CONSENT, base.wrapping_add(U256::from(index)), grant.pack())
}

/// A patient's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Signatures used so far: the nonce of the next.
    pub(crate) nonce: u64,
    /// Requests received so far: the id of the last.
    pub(crate) requests: u32,
}

pub(crate) fn counters<R: Reader>(reader: &mut R, patient: Address) -> Result<Counters, R::Error> {
    let slot = reader.mapping(patient.into_word(), COUNTERS)?;
    let word = reader.load(CONSENT, slot)?;
    Ok(Counters {
        nonce: bits(word, 0, 64),
        requests: u32_at(word, 64),
    })
}

pub(crate) fn set_counters<W: Writer>(
    writer: &mut W,
    patient: Address,
    counters: Counters,
) -> Result<(), W::Error> {
    let slot = writer.mapping(patient.into_word(), COUNTERS)?;
    writer.store(
        CONSENT,
        slot,
        at(counters.nonce, 0) | at(counters.requests, 64),
    )
}

pub(crate) fn directory_root<R: Reader>(
    reader: &mut R,
    patient: Address,
) -> Result<B256, R::Error> {
    let slot = reader.mapping(patient.into_word(), DIRECTORIES)?;
    reader.load(CONSENT, slot).map(B256::from)
}

pub(crate) fn set_directory_root<W: Writer>(
    writer: &mut W,
    patient: Address,
    root: B256,
) -> Result<(), W::Error> {
    let slot = writer.mapping(patient.into_word(), DIRECTORIES)?;
    writer.store(CONSENT, slot, root.into())
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RequestStatus {
    #[default]
    Unknown = 0,
    Open = 1,
    Answered = 2,
    Declined = 3,
    /// Not stored: an open request past its time.
    Expired = 4,
}

/// A request for access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) requester: Address,
    pub(crate) status: RequestStatus,
    pub(crate) expires_s: u64,
}

impl Request {
    /// Its status at this time.
    pub(crate) fn status_at(&self, now_s: u64) -> RequestStatus {
        if self.status == RequestStatus::Open && now_s >= self.expires_s {
            RequestStatus::Expired
        } else {
            self.status
        }
    }
}

pub(crate) fn request<R: Reader>(
    reader: &mut R,
    patient: Address,
    id: u32,
) -> Result<Request, R::Error> {
    let slot = request_slot(reader, patient, id)?;
    let word = reader.load(CONSENT, slot)?;
    let status = match u8_at(word, 160) {
        1 => RequestStatus::Open,
        2 => RequestStatus::Answered,
        3 => RequestStatus::Declined,
        _ => RequestStatus::Unknown,
    };
    Ok(Request {
        requester: address_at(word, 0),
        status,
        expires_s: bits(word, 168, 40),
    })
}

pub(crate) fn set_request<W: Writer>(
    writer: &mut W,
    patient: Address,
    id: u32,
    request: &Request,
) -> Result<(), W::Error> {
    let slot = request_slot(writer, patient, id)?;
    let word = address_word(request.requester, 0)
        | at(request.status as u8, 160)
        | at(request.expires_s & MAX_TIME_S, 168);
    writer.store(CONSENT, slot, word)
}

fn request_slot<R: Reader>(reader: &mut R, patient: Address, id: u32) -> Result<U256, R::Error> {
    let requests = reader.mapping(patient.into_word(), REQUESTS)?;
    reader.mapping(U256::from(id).into(), requests)
}

/// Ids of a requester's last requests to a patient; 0 where there is none.
pub(crate) type Recent = [u32; 4];

pub(crate) fn recent<R: Reader>(
    reader: &mut R,
    patient: Address,
    requester: Address,
) -> Result<Recent, R::Error> {
    let slot = recent_slot(reader, patient, requester)?;
    let word = reader.load(CONSENT, slot)?;
    Ok([
        u32_at(word, 0),
        u32_at(word, 32),
        u32_at(word, 64),
        u32_at(word, 96),
    ])
}

pub(crate) fn set_recent<W: Writer>(
    writer: &mut W,
    patient: Address,
    requester: Address,
    [a, b, c, d]: Recent,
) -> Result<(), W::Error> {
    let slot = recent_slot(writer, patient, requester)?;
    writer.store(CONSENT, slot, at(a, 0) | at(b, 32) | at(c, 64) | at(d, 96))
}

fn recent_slot<R: Reader>(
    reader: &mut R,
    patient: Address,
    requester: Address,
) -> Result<U256, R::Error> {
    let recent = reader.mapping(patient.into_word(), RECENT)?;
    reader.mapping(requester.into_word(), recent)
}

/// Whether the account is a patient's and may act.
pub(crate) fn patient_status<R: Reader>(
    reader: &mut R,
    who: Address,
) -> Result<PatientStatus, R::Error> {
    let account = account(reader, who)?;
    Ok(match (account.kind, account.is_active()) {
        (Kind::Patient, true) => PatientStatus::Active,
        (Kind::Patient, false) => PatientStatus::Inactive,
        (Kind::None | Kind::Organization | Kind::Member | Kind::Device, _) => PatientStatus::Other,
    })
}

/// Answer of [`patient_status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatientStatus {
    Active,
    Inactive,
    /// Not a patient's account.
    Other,
}

/// Grants of one patient to one grantee at a time: they share the slots `can` reads.
pub(crate) const MAX_GRANTS: u8 = 16;
/// Largest serial: 24 bits.
pub(crate) const MAX_SERIAL: u32 = (1 << 24) - 1;
/// Largest time in seconds: 40 bits.
pub(crate) const MAX_TIME_S: u64 = (1 << 40) - 1;
const GRANTS: U256 = U256::ZERO;
const COUNTERS: U256 = U256::from_limbs([1, 0, 0, 0]);
const DIRECTORIES: U256 = U256::from_limbs([2, 0, 0, 0]);
const REQUESTS: U256 = U256::from_limbs([3, 0, 0, 0]);
const RECENT: U256 = U256::from_limbs([4, 0, 0, 0]);
