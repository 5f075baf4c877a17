//! Layout of Governance's storage, and the parameters with their bounds.

use alloy_primitives::{Address, B256, U256};
use stele_core::id::GOVERNANCE;

use crate::contracts::storage::{
    Reader, Writer, address_at, address_word, at, bits, u8_at, u16_at, u32_at,
};

/// A number the consortium sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// How old a custodian's last finalized block may be before it refuses to disclose, in ms.
    StalenessMs,
    /// Most gas of a block.
    BlockGasLimit,
    /// Most leaves of one transaction.
    MaxLeaves,
    /// How long a proposal stays open, in seconds.
    ProposalLifetimeS,
}

/// Allowed range of a parameter, both ends included, and its value until one is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
    /// Value until the consortium sets one.
    pub default: u64,
}

impl Parameter {
    /// All parameters.
    pub const ALL: [Self; 4] = [
        Self::StalenessMs,
        Self::BlockGasLimit,
        Self::MaxLeaves,
        Self::ProposalLifetimeS,
    ];

    /// Its name on the ledger: ASCII.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StalenessMs => "staleness_ms",
            Self::BlockGasLimit => "block_gas_limit",
            Self::MaxLeaves => "max_leaves",
            Self::ProposalLifetimeS => "proposal_lifetime_s",
        }
    }

    /// Its key on the ledger: the name, padded with zeros to 32 bytes on the right.
    #[must_use]
    pub fn key(self) -> B256 {
        B256::right_padding_from(self.name().as_bytes())
    }

    /// The parameter with this key.
    #[must_use]
    pub fn from_key(key: B256) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|parameter| parameter.key() == key)
    }

    /// Its bounds.
    #[must_use]
    pub fn bounds(self) -> Bounds {
        match self {
            // Below a second every hiccup stops reads; above an hour revocation means little.
            Self::StalenessMs => Bounds {
                min: 1_000,
                max: 3_600_000,
                default: 60_000,
            },
            // The least still takes a full batch of leaves, whose calldata alone costs up to 10.5 million.
            Self::BlockGasLimit => Bounds {
                min: 30_000_000,
                max: 2_000_000_000,
                default: 200_000_000,
            },
            Self::MaxLeaves => Bounds {
                min: MIN_MAX_LEAVES,
                max: 1_024,
                default: 1_024,
            },
            // An hour to a year; two weeks.
            Self::ProposalLifetimeS => Bounds {
                min: 3_600,
                max: 31_536_000,
                default: 1_209_600,
            },
        }
    }
}

pub(crate) fn parameter<R: Reader>(reader: &mut R, parameter: Parameter) -> Result<u64, R::Error> {
    let slot = reader.mapping(parameter.key(), PARAMETERS)?;
    let word = reader.load(GOVERNANCE, slot)?;
    Ok(if word.is_zero() {
        parameter.bounds().default
    } else {
        bits(word, 0, 64)
    })
}

pub(crate) fn set_parameter<W: Writer>(
    writer: &mut W,
    parameter: Parameter,
    value: u64,
) -> Result<(), W::Error> {
    let slot = writer.mapping(parameter.key(), PARAMETERS)?;
    writer.store(GOVERNANCE, slot, U256::from(value))
}

/// Counters of the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Proposals so far: id of the last.
    pub(crate) proposals: u32,
    /// Entries of the list of validators, seated or not.
    pub(crate) validators: u32,
    /// Validators that are seated.
    pub(crate) seated: u32,
}

pub(crate) fn counters<R: Reader>(reader: &mut R) -> Result<Counters, R::Error> {
    let word = reader.load(GOVERNANCE, COUNTERS)?;
    Ok(Counters {
        proposals: u32_at(word, 0),
        validators: u32_at(word, 32),
        seated: u32_at(word, 64),
    })
}

pub(crate) fn set_counters<W: Writer>(writer: &mut W, counters: Counters) -> Result<(), W::Error> {
    let word = at(counters.proposals, 0) | at(counters.validators, 32) | at(counters.seated, 64);
    writer.store(GOVERNANCE, COUNTERS, word)
}

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ProposalStatus {
    #[default]
    Unknown = 0,
    Open = 1,
    Executed = 2,
    Rejected = 3,
    /// Not stored: an open proposal past its deadline.
    Expired = 4,
}

/// A proposal without its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) kind: u8,
    pub(crate) status: ProposalStatus,
    pub(crate) proposer: Address,
    pub(crate) deadline_s: u64,
    /// Votes of active organisations, as counted at the last vote.
    pub(crate) yes: u16,
    pub(crate) no: u16,
}

impl Proposal {
    /// Its status at this time.
    pub(crate) fn status_at(&self, now_s: u64) -> ProposalStatus {
        if self.status == ProposalStatus::Open && now_s >= self.deadline_s {
            ProposalStatus::Expired
        } else {
            self.status
        }
    }
}

pub(crate) fn proposal<R: Reader>(reader: &mut R, id: u32) -> Result<Proposal, R::Error> {
    let slot = proposal_slot(reader, id)?;
    let word = reader.load(GOVERNANCE, slot)?;
    Ok(Proposal {
        kind: u8_at(word, 0),
        status: match u8_at(word, 8) {
            1 => ProposalStatus::Open,
            2 => ProposalStatus::Executed,
            3 => ProposalStatus::Rejected,
            _ => ProposalStatus::Unknown,
        },
        proposer: address_at(word, 16),
        deadline_s: bits(word, 176, 40),
        yes: u16_at(word, 216),
        no: u16_at(word, 232),
    })
}

pub(crate) fn set_proposal<W: Writer>(
    writer: &mut W,
    id: u32,
    proposal: &Proposal,
) -> Result<(), W::Error> {
    let slot = proposal_slot(writer, id)?;
    let word = at(proposal.kind, 0)
        | at(proposal.status as u8, 8)
        | address_word(proposal.proposer, 16)
        | at(proposal.deadline_s & MAX_TIME_S, 176)
        | at(proposal.yes, 216)
        | at(proposal.no, 232);
    writer.store(GOVERNANCE, slot, word)
}

/// The words of a proposal's payload.
pub(crate) fn payload<R: Reader>(
    reader: &mut R,
    id: u32,
    words: usize,
) -> Result<Vec<B256>, R::Error> {
    let mut slot = proposal_slot(reader, id)?;
    let mut payload = Vec::new();
    for _ in 0..words {
        slot = slot.wrapping_add(U256::ONE);
        payload.push(reader.load(GOVERNANCE, slot)?.into());
    }
    Ok(payload)
}

pub(crate) fn set_payload<W: Writer>(
    writer: &mut W,
    id: u32,
    payload: &[B256],
) -> Result<(), W::Error> {
    let mut slot = proposal_slot(writer, id)?;
    for word in payload {
        slot = slot.wrapping_add(U256::ONE);
        writer.store(GOVERNANCE, slot, (*word).into())?;
    }
    Ok(())
}

fn proposal_slot<R: Reader>(reader: &mut R, id: u32) -> Result<U256, R::Error> {
    reader.mapping(U256::from(id).into(), PROPOSALS)
}

/// A vote cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    Yes,
    No,
}

impl Vote {
    pub(crate) fn new(support: bool) -> Self {
        if support { Self::Yes } else { Self::No }
    }
}

/// First slot of a proposal's votes, to be asked for single voters.
pub(crate) fn votes_slot<R: Reader>(reader: &mut R, id: u32) -> Result<U256, R::Error> {
    reader.mapping(U256::from(id).into(), VOTES)
}

pub(crate) fn vote<R: Reader>(
    reader: &mut R,
    votes: U256,
    voter: Address,
) -> Result<Option<Vote>, R::Error> {
    let slot = reader.mapping(voter.into_word(), votes)?;
    let word = reader.load(GOVERNANCE, slot)?;
    Ok(match u8_at(word, 0) {
        1 => Some(Vote::Yes),
        2 => Some(Vote::No),
        _ => None,
    })
}

pub(crate) fn set_vote<W: Writer>(
    writer: &mut W,
    votes: U256,
    voter: Address,
    vote: Vote,
) -> Result<(), W::Error> {
    let slot = writer.mapping(voter.into_word(), votes)?;
    let word = match vote {
        Vote::Yes => 1_u8,
        Vote::No => 2,
    };
    writer.store(GOVERNANCE, slot, at(word, 0))
}

pub(crate) fn may_deploy<R: Reader>(reader: &mut R, who: Address) -> Result<bool, R::Error> {
    let slot = reader.mapping(who.into_word(), DEPLOYERS)?;
    reader.load(GOVERNANCE, slot).map(|word| !word.is_zero())
}

pub(crate) fn set_may_deploy<W: Writer>(
    writer: &mut W,
    who: Address,
    allowed: bool,
) -> Result<(), W::Error> {
    let slot = writer.mapping(who.into_word(), DEPLOYERS)?;
    writer.store(GOVERNANCE, slot, at(allowed, 0))
}

/// A validator's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Ed25519 public key, 32 bytes.
    pub key: B256,
    /// Organisation that runs it.
    pub organization: Address,
    /// Whether it validates.
    pub seated: bool,
}

pub(crate) fn seat<R: Reader>(reader: &mut R, index: u32) -> Result<Seat, R::Error> {
    let slot = seat_slot(reader, index)?;
    let key = reader.load(GOVERNANCE, slot)?;
    let word = reader.load(GOVERNANCE, slot.wrapping_add(U256::ONE))?;
    Ok(Seat {
        key: key.into(),
        organization: address_at(word, 0),
        seated: u8_at(word, 160) != 0,
    })
}

pub(crate) fn set_seat<W: Writer>(writer: &mut W, index: u32, seat: &Seat) -> Result<(), W::Error> {
    let slot = seat_slot(writer, index)?;
    writer.store(GOVERNANCE, slot, seat.key.into())?;
    let word = address_word(seat.organization, 0) | at(seat.seated, 160);
    writer.store(GOVERNANCE, slot.wrapping_add(U256::ONE), word)
}

fn seat_slot<R: Reader>(reader: &mut R, index: u32) -> Result<U256, R::Error> {
    let first = reader.array(VALIDATORS)?;
    Ok(first.wrapping_add(U256::from(u64::from(index).wrapping_mul(2))))
}

/// Index of a validator's entry by its key.
pub(crate) fn seat_index<R: Reader>(reader: &mut R, key: B256) -> Result<Option<u32>, R::Error> {
    let slot = reader.mapping(key, SEATS)?;
    reader
        .load(GOVERNANCE, slot)
        .map(|word| u32_at(word, 0).checked_sub(1))
}

pub(crate) fn set_seat_index<W: Writer>(
    writer: &mut W,
    key: B256,
    index: u32,
) -> Result<(), W::Error> {
    let slot = writer.mapping(key, SEATS)?;
    writer.store(
        GOVERNANCE,
        slot,
        U256::from(u64::from(index).saturating_add(1)),
    )
}

/// Seats or unseats a validator, adding its entry if there is none.
pub(crate) fn write_seat<W: Writer>(writer: &mut W, seat: &Seat) -> Result<(), W::Error> {
    let mut counters = counters(writer)?;
    let (index, was_seated) = match seat_index(writer, seat.key)? {
        Some(index) => (index, self::seat(writer, index)?.seated),
        None => {
            let index = counters.validators;
            counters.validators = counters.validators.saturating_add(1);
            set_seat_index(writer, seat.key, index)?;
            (index, false)
        }
    };
    counters.seated = match (was_seated, seat.seated) {
        (false, true) => counters.seated.saturating_add(1),
        (true, false) => counters.seated.saturating_sub(1),
        (true, true) | (false, false) => counters.seated,
    };
    set_seat(writer, index, seat)?;
    set_counters(writer, counters)
}

/// Least value of [`Parameter::MaxLeaves`]: a batch up to this size need not ask for the parameter.
pub(crate) const MIN_MAX_LEAVES: u64 = 64;
/// Largest time in seconds: 40 bits.
const MAX_TIME_S: u64 = (1 << 40) - 1;
const COUNTERS: U256 = U256::ZERO;
const PROPOSALS: U256 = U256::from_limbs([1, 0, 0, 0]);
const VOTES: U256 = U256::from_limbs([2, 0, 0, 0]);
const PARAMETERS: U256 = U256::from_limbs([3, 0, 0, 0]);
const DEPLOYERS: U256 = U256::from_limbs([4, 0, 0, 0]);
const VALIDATORS: U256 = U256::from_limbs([5, 0, 0, 0]);
const SEATS: U256 = U256::from_limbs([6, 0, 0, 0]);
