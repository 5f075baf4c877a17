//! From a call to a contract's function: the guards that are the same for all, calldata decoded once, and routing.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolInterface, abi::AbiDecoderConfig};
use revm::interpreter::CallInputs;
use stele_core::{abi::system::ISystem, id};

use super::{
    SYSTEM_CODE, audit, consent, emergency, governance,
    host::{Fail, Host, Outcome},
    identity, prescriptions, records,
};

/// A system contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// Accounts and keys.
    Identity,
    /// Logs of records.
    Records,
    /// Grants.
    Consent,
    /// Access receipts.
    Audit,
    /// Prescriptions, on chains that have them.
    Prescriptions,
    /// Emergencies, on chains that have them.
    Emergency,
    /// Votes.
    Governance,
}

impl Contract {
    /// The contract at an address.
    pub(crate) fn at(address: Address) -> Option<Self> {
        match address {
            id::IDENTITY => Some(Self::Identity),
            id::RECORDS => Some(Self::Records),
            id::CONSENT => Some(Self::Consent),
            id::AUDIT => Some(Self::Audit),
            id::PRESCRIPTIONS => Some(Self::Prescriptions),
            id::EMERGENCY => Some(Self::Emergency),
            id::GOVERNANCE => Some(Self::Governance),
            _ => None,
        }
    }

    /// Whether a chain has it whose account of this code digest stands at the contract's address. Those that every
    /// chain has from its beginning are not looked at.
    pub(crate) fn is_installed(self, code: B256) -> bool {
        !matches!(self, Self::Prescriptions | Self::Emergency) || code == system_code_digest()
    }

    /// Runs a call and returns its encoded result.
    pub(crate) fn run(self, host: &mut Host<'_>, input: &[u8]) -> Outcome<Bytes> {
        match self {
            Self::Identity => {
                let call = decode(host, input)?;
                identity::dispatch::route(host, call)
            }
            Self::Records => {
                let call = decode(host, input)?;
                records::dispatch::route(host, call)
            }
            Self::Consent => {
                let call = decode(host, input)?;
                consent::dispatch::route(host, call)
            }
            Self::Audit => {
                let call = decode(host, input)?;
                audit::dispatch::route(host, call)
            }
            Self::Prescriptions => {
                let call = decode(host, input)?;
                prescriptions::dispatch::route(host, call)
            }
            Self::Emergency => {
                let call = decode(host, input)?;
                emergency::dispatch::route(host, call)
            }
            Self::Governance => {
                let call = decode(host, input)?;
                governance::dispatch::route(host, call)
            }
        }
    }
}

/// Digest of the one byte of code that system contracts have.
fn system_code_digest() -> B256 {
    static DIGEST: LazyLock<B256> = LazyLock::new(|| keccak256(SYSTEM_CODE));
    *DIGEST
}

/// What no system contract allows.
pub(crate) fn guard(inputs: &CallInputs) -> Outcome<()> {
    if inputs.target_address != inputs.bytecode_address {
        return Err(ISystem::DelegateCallNotAllowed {}.into());
    }
    if inputs.call_value() != U256::ZERO {
        return Err(ISystem::NonPayable {}.into());
    }
    Ok(())
}

/// Reads calldata. Only the canonical encoding is accepted: overlapping offsets would let a small transaction
/// unfold into much memory, and dirty high bits would pass for other values. Bytes after the end are ignored, as solc does.
fn decode<I: SolInterface>(host: &mut Host<'_>, input: &[u8]) -> Outcome<I> {
    let words = u64::try_from(input.len().div_ceil(32)).unwrap_or(u64::MAX);
    host.charge(DECODE_WORD_GAS.saturating_mul(words))?;
    let (selector, arguments) = input
        .split_first_chunk::<4>()
        .ok_or(Fail::Revert(Bytes::new()))?;
    let config = AbiDecoderConfig::new()
        .strict(true)
        .validate_allow_trailing_bytes(true);
    I::abi_decode_raw_with_config(*selector, arguments, config)
        .map_err(|_| Fail::Revert(Bytes::new()))
}

/// Gas for decoding a word of calldata: a CALLDATALOAD and an MSTORE, 3 each.
const DECODE_WORD_GAS: u64 = 6;

/// The encoded result of a view.
pub(crate) fn answer<C: SolCall>(value: &C::Return) -> Outcome<Bytes> {
    Ok(C::abi_encode_returns(value).into())
}

/// The empty result of a call that only acts.
pub(crate) fn done((): ()) -> Bytes {
    Bytes::new()
}
