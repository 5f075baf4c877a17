//! The genesis file: what a consortium starts with. Every member has the same; every difference in it, even in the
//! consortium's name, makes another chain.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use serde::{Deserialize, Serialize};
use stele_core::{
    block::{Block, Header, Validator, receipts_root, transactions_root, validators_hash},
    certificate::{ValidatorKey, ValidatorSet},
    id::DEFAULT_CHAIN_ID,
};

use crate::{
    contracts::{self, GenesisOrganization, GenesisSpec, GenesisValidator, governance::Parameter},
    error::Error,
    state::{Overlay, Pending, State},
};

/// What a consortium starts with, as its JSON file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// EIP-155 chain id.
    #[serde(default = "default_chain_id")]
    pub chain_id: u64,
    /// Version of the ledger's rules that the chain begins with; absent for 1.
    #[serde(default = "first_protocol", skip_serializing_if = "is_first_protocol")]
    pub protocol: u32,
    /// Time of the block at height 0, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Name of the consortium.
    pub consortium: String,
    /// Development: any sender may transact and deploy. For a consortium of one only.
    #[serde(default)]
    pub open: bool,
    /// First organisations, active from the start.
    pub organizations: Vec<Organization>,
    /// First validators.
    pub validators: Vec<Seat>,
    /// Parameters of governance that differ from their defaults, by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, u64>,
    /// Accounts that may deploy contracts from the start.
    #[serde(default)]
    pub deployers: Vec<Address>,
    /// Accounts that exist from the start.
    #[serde(default)]
    pub alloc: BTreeMap<Address, Allocation>,
}

/// An organisation of the genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// Its account.
    pub address: Address,
    /// Its kind, by the consortium's own numbering.
    #[serde(default)]
    pub kind: u8,
    /// Digest of its endpoints.
    #[serde(default)]
    pub endpoints_digest: B256,
    /// Digest of its public keys.
    #[serde(default)]
    pub keys_digest: B256,
}

/// A validator of the genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// ed25519 public key, 32 bytes.
    pub key: B256,
    /// Organisation that runs it, one of the genesis.
    pub organization: Address,
}

/// An account that exists from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// Balance in wei.
    #[serde(default)]
    pub balance: U256,
    /// Nonce.
    #[serde(default)]
    pub nonce: u64,
    /// Bytecode.
    #[serde(default)]
    pub code: Bytes,
    /// Storage by slot.
    #[serde(default)]
    pub storage: BTreeMap<U256, U256>,
}

const fn default_chain_id() -> u64 {
    DEFAULT_CHAIN_ID
}

const fn first_protocol() -> u32 {
    1
}

/// A chain of protocol 1 keeps the text of its genesis file, which its first block commits to.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde asks for"
)]
const fn is_first_protocol(protocol: &u32) -> bool {
    *protocol == 1
}

impl Genesis {
    /// Reads a genesis file.
    ///
    /// # Errors
    /// [`Error::Genesis`] if it is not one, with the place in the text.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let genesis: Self = serde_json::from_slice(text).map_err(unusable)?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The genesis file's text, indented.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(unusable)
    }

    /// The block at height 0, with the state it begins.
    ///
    /// # Errors
    /// [`Error::Genesis`] if the genesis contradicts itself.
    pub fn block(&self) -> Result<Block, Error> {
        self.build(&State::in_memory()?).map(|(block, _)| block)
    }

    /// The validators whose certificates make blocks final.
    ///
    /// # Errors
    /// [`Error::Genesis`] for none, too many, or one that is named twice.
    pub fn validator_set(&self) -> Result<ValidatorSet, Error> {
        let keys = self
            .validators
            .iter()
            .map(|seat| ValidatorKey::new(seat.key.0));
        ValidatorSet::new(keys).map_err(unusable)
    }

    /// The first validators with the organisations that run them.
    #[must_use]
    pub fn seats(&self) -> Vec<Validator> {
        self.validators.iter().map(Seat::validator).collect()
    }

    /// Begins the chain in an empty state, or sees that the state is this chain's. Yields the block at height 0.
    pub(crate) fn begin(&self, state: &State) -> Result<Block, Error> {
        let Some(head) = state.head() else {
            let (block, overlay) = self.build(state)?;
            state.insert(block.hash(), overlay.into());
            state.commit(&block, &[], &[])?;
            return Ok(block);
        };
        let block = self.block()?;
        let given = block.hash();
        if head.genesis_hash != given {
            return Err(Error::OtherGenesis {
                stored: head.genesis_hash,
                given,
            });
        }
        Ok(block)
    }

    fn build(&self, empty: &State) -> Result<(Block, Overlay), Error> {
        self.check()?;
        let storage = contracts::genesis(&self.spec()?).map_err(unusable)?;
        let mut pending = Pending::new(empty.view_on(B256::ZERO)?);
        for address in contracts::addresses_of(self.protocol) {
            pending.set_account(address, 1, U256::ZERO, &contracts::SYSTEM_CODE);
        }
        for (address, slots) in storage {
            for (slot, value) in slots {
                pending.set_slot(address, slot, value);
            }
        }
        for (address, account) in &self.alloc {
            pending.set_account(*address, account.nonce, account.balance, &account.code);
            for (slot, value) in &account.storage {
                pending.set_slot(*address, *slot, *value);
            }
        }
        let overlay = pending.seal()?;
        let seats = self.seats();
        let header = Header {
            timestamp_ms: self.timestamp_ms,
            // Nobody proposed this block: the field commits to all of the file, also to what is not state.
            proposer: keccak256(serde_json::to_vec(self).map_err(unusable)?),
            transactions_root: transactions_root(&[]),
            receipts_root: receipts_root(&[]),
            state_root: overlay.root(),
            gas_limit: self.gas_limit(),
            next_validators_hash: validators_hash(&seats),
            ..Header::default()
        };
        Ok((
            Block {
                header,
                transactions: Vec::new(),
            },
            overlay,
        ))
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Genesis { problem });
        if !(1..=contracts::PROTOCOL).contains(&self.protocol) {
            return refuse(format!(
                "`protocol` is {}, this version of the program knows 1 to {}",
                self.protocol,
                contracts::PROTOCOL
            ));
        }
        if self.open && self.organizations.len() > 1 {
            return refuse("`open` is for a consortium of one organisation only".into());
        }
        if let Some(address) = self
            .alloc
            .keys()
            .find(|address| contracts::is_reserved(**address))
        {
            return refuse(format!(
                "`alloc` names {address}, an address of the system contracts"
            ));
        }
        let empty = |(_, account): &(&Address, &Allocation)| {
            account.balance.is_zero() && account.nonce == 0 && account.code.is_empty()
        };
        if let Some((address, _)) = self.alloc.iter().find(empty) {
            return refuse(format!(
                "`alloc` names {address} without balance, nonce or code"
            ));
        }
        Ok(())
    }

    fn spec(&self) -> Result<GenesisSpec, Error> {
        let parameters = self.parameters.iter().map(|(name, value)| {
            let known = Parameter::ALL
                .into_iter()
                .find(|known| known.name() == name);
            known
                .map(|parameter| (parameter, *value))
                .ok_or_else(|| Error::Genesis {
                    problem: format!("`parameters` names {name:?}, which is no parameter"),
                })
        });
        Ok(GenesisSpec {
            organizations: self
                .organizations
                .iter()
                .map(Organization::of_contracts)
                .collect(),
            validators: self
                .validators
                .iter()
                .map(|seat| GenesisValidator {
                    key: seat.key,
                    organization: seat.organization,
                })
                .collect(),
            parameters: parameters.collect::<Result<_, _>>()?,
            deployers: self.deployers.clone(),
        })
    }

    fn gas_limit(&self) -> u64 {
        let parameter = Parameter::BlockGasLimit;
        let given = self.parameters.get(parameter.name()).copied();
        given.unwrap_or_else(|| parameter.bounds().default)
    }
}

impl Organization {
    const fn of_contracts(&self) -> GenesisOrganization {
        GenesisOrganization {
            address: self.address,
            kind: self.kind,
            endpoints_digest: self.endpoints_digest,
            keys_digest: self.keys_digest,
        }
    }
}

impl Seat {
    const fn validator(&self) -> Validator {
        Validator {
            key: self.key,
            organization: self.organization,
        }
    }
}

fn unusable(error: impl std::error::Error) -> Error {
    Error::Genesis {
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
