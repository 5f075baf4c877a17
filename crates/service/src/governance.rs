//! The consortium's decisions: members propose and vote; what was decided takes effect here.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall as _, SolValue as _};
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::governance::IGovernance::{Executed, Proposed, parameterCall, proposeCall, voteCall},
    id::{GOVERNANCE, OrganizationId},
};
use stele_index::network::Proposal;

use crate::{
    Service,
    directory::OrganizationKind,
    error::{Error, Result},
    ports::ReceiptView,
    transactions::Order,
};

/// Parameters of the consortium, as `docs/contracts/governance.md` lists them.
pub const PARAMETERS: [&str; 4] = [
    "staleness_ms",
    "block_gas_limit",
    "max_leaves",
    "proposal_lifetime_s",
];
/// Gas of a proposal or vote: counting goes over all organisations.
const GAS: u64 = 2_000_000;

/// What members decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    tag = "decision",
    deny_unknown_fields
)]
pub enum Decision {
    /// An organisation enters.
    Admit {
        /// Its account.
        organization: Address,
        /// Its kind.
        kind: OrganizationKind,
    },
    /// An organisation is suspended.
    Suspend {
        /// Its account.
        organization: Address,
    },
    /// A suspended organisation acts again.
    Reinstate {
        /// Its account.
        organization: Address,
    },
    /// A parameter is set.
    Parameter {
        /// One of [`PARAMETERS`].
        name: String,
        /// Its value.
        value: u64,
    },
    /// An account may deploy contracts, or no longer.
    Deployer {
        /// The account.
        account: Address,
        /// Whether it may.
        allowed: bool,
    },
    /// A validator is seated or unseated.
    Validator {
        /// Its ed25519 key.
        key: B256,
        /// The organisation that runs it.
        organization: Address,
        /// Whether it is seated.
        seated: bool,
    },
}

impl Decision {
    /// Kind and payload as `IGovernance.propose` takes them.
    ///
    /// # Errors
    /// A parameter of another name.
    fn encode(&self) -> Result<(u8, Bytes)> {
        let (kind, payload) = match self {
            Self::Admit { organization, kind } => {
                let kind = U256::from(*kind as u8);
                let digests = (B256::ZERO, B256::ZERO);
                (
                    1,
                    (*organization, kind, digests.0, digests.1).abi_encode_params(),
                )
            }
            Self::Suspend { organization } => (2, (*organization,).abi_encode_params()),
            Self::Reinstate { organization } => (3, (*organization,).abi_encode_params()),
            Self::Parameter { name, value } => {
                (4, (key_of(name)?, U256::from(*value)).abi_encode_params())
            }
            Self::Deployer { account, allowed } => (5, (*account, *allowed).abi_encode_params()),
            Self::Validator {
                key,
                organization,
                seated,
            } => (6, (*key, *organization, *seated).abi_encode_params()),
        };
        Ok((kind, payload.into()))
    }

    /// What a proposal on the ledger proposes; `None` for a kind this program does not know.
    #[must_use]
    pub fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        Some(match kind {
            1 => {
                let (organization, kind, _, _) =
                    <(Address, U256, B256, B256)>::abi_decode_params(payload).ok()?;
                Self::Admit {
                    organization,
                    kind: OrganizationKind::from_number(u8::try_from(kind).ok()?)?,
                }
            }
            2 => Self::Suspend {
                organization: Address::abi_decode(payload).ok()?,
            },
            3 => Self::Reinstate {
                organization: Address::abi_decode(payload).ok()?,
            },
            4 => {
                let (key, value) = <(B256, U256)>::abi_decode_params(payload).ok()?;
                Self::Parameter {
                    name: name_of(key)?.to_owned(),
                    value: u64::try_from(value).ok()?,
                }
            }
            5 => {
                let (account, allowed) = <(Address, bool)>::abi_decode_params(payload).ok()?;
                Self::Deployer { account, allowed }
            }
            6 => {
                let (key, organization, seated) =
                    <(B256, Address, bool)>::abi_decode_params(payload).ok()?;
                Self::Validator {
                    key,
                    organization,
                    seated,
                }
            }
            _ => return None,
        })
    }
}

/// A parameter's key: its ASCII name, right-padded with zeros.
fn key_of(name: &str) -> Result<B256> {
    if !PARAMETERS.contains(&name) {
        return Err(Error::Conflict {
            message: format!("{name:?} is not a parameter; use {}", PARAMETERS.join(", ")),
        });
    }
    Ok(B256::right_padding_from(name.as_bytes()))
}

fn name_of(key: B256) -> Option<&'static str> {
    PARAMETERS
        .into_iter()
        .find(|name| B256::right_padding_from(name.as_bytes()) == key)
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// Its number.
    pub proposal: u32,
    /// Whether it was carried out in this transaction; else it waits for other members, or was rejected.
    pub executed: bool,
    /// The transaction.
    pub transaction: B256,
    /// Height of its block.
    pub height: u64,
}

impl Service {
    /// Proposes a decision as an organisation of this node, which thereby votes yes. A consortium of one decides
    /// alone.
    ///
    /// # Errors
    /// The organisation is no member, or the decision is not one the contract takes.
    pub async fn propose(&self, member: OrganizationId, decision: &Decision) -> Result<Decided> {
        let (kind, payload) = decision.encode()?;
        let call = proposeCall { kind, payload };
        let order = Order::new(GOVERNANCE, &call, GAS);
        let receipt = self
            .transactions
            .settle("a proposal", member.0, order)
            .await?;
        let id = events::<Proposed>(&receipt)
            .next()
            .map(|event| event.id)
            .ok_or_else(|| Error::internal("a proposal", "the ledger recorded none"))?;
        self.apply_parameters()?;
        Ok(decided(id, &receipt))
    }

    /// Votes as an organisation of this node.
    ///
    /// # Errors
    /// The organisation is no member, has voted, or there is no such open proposal.
    pub async fn vote(&self, member: OrganizationId, id: u32, support: bool) -> Result<Decided> {
        let call = voteCall { id, support };
        let order = Order::new(GOVERNANCE, &call, GAS);
        let receipt = self.transactions.settle("a vote", member.0, order).await?;
        self.apply_parameters()?;
        Ok(decided(id, &receipt))
    }

    /// All proposals with their votes, newest first.
    ///
    /// # Errors
    /// The index can't answer.
    pub fn proposals(&self) -> Result<Vec<Proposal>> {
        self.index
            .chain()
            .proposals()
            .map_err(Error::index("listing proposals"))
    }

    /// A parameter in force.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn parameter(&self, name: &str) -> Result<u64> {
        const WHAT: &str = "reading a parameter";
        let key = key_of(name)?;
        let output = self.view(WHAT, GOVERNANCE, parameterCall { key }.abi_encode())?;
        let value = parameterCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        u64::try_from(value).map_err(|error| Error::internal(WHAT, error))
    }

    /// Whether an account may deploy contracts.
    ///
    /// # Errors
    /// The index can't answer.
    pub fn deployers(&self) -> Result<Vec<Address>> {
        self.index
            .chain()
            .deployers()
            .map_err(Error::index("listing deployers"))
    }

    /// Puts into force here what members decided: how old the ledger's state may be for the custodian. The other
    /// parameters bind inside the ledger itself.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn apply_parameters(&self) -> Result<()> {
        let bound_ms = self.parameter("staleness_ms")?;
        self.vault.custodian().set_staleness_ms(bound_ms);
        Ok(())
    }

    /// Follows decisions of other members as they become final. Ends when the ledger stops.
    pub async fn run_parameters(self: Arc<Self>) {
        let mut blocks = self.ledger.subscribe();
        loop {
            let decided = match blocks.recv().await {
                Ok(block) => block
                    .receipts
                    .iter()
                    .flat_map(|receipt| &receipt.receipt.logs)
                    .any(|log| log.address == GOVERNANCE),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => true,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            };
            if decided && let Err(error) = self.apply_parameters() {
                tracing::warn!(error = %error, "a decided parameter is not in force yet");
            }
        }
    }
}

fn events<E: alloy_sol_types::SolEvent>(receipt: &ReceiptView) -> impl Iterator<Item = E> {
    receipt
        .receipt
        .logs
        .iter()
        .filter(|log| log.address == GOVERNANCE)
        .filter_map(|log| E::decode_log_data(&log.data).ok())
}

fn decided(proposal: u32, receipt: &ReceiptView) -> Decided {
    Decided {
        proposal,
        executed: events::<Executed>(receipt).any(|event| event.id == proposal),
        transaction: receipt.hash,
        height: receipt.position.height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_is_read_back() {
        let organization = Address::repeat_byte(3);
        let decisions = [
            Decision::Admit {
                organization,
                kind: OrganizationKind::Pharmacy,
            },
            Decision::Suspend { organization },
            Decision::Reinstate { organization },
            Decision::Parameter {
                name: "staleness_ms".into(),
                value: 5_000,
            },
            Decision::Deployer {
                account: organization,
                allowed: true,
            },
            Decision::Validator {
                key: B256::repeat_byte(1),
                organization,
                seated: false,
            },
        ];
        for decision in decisions {
            let (kind, payload) = decision.encode().expect("encodes");
            assert_eq!(Decision::decode(kind, &payload), Some(decision));
        }
        let unknown = Decision::Parameter {
            name: "staleness".into(),
            value: 1,
        };
        let error = unknown.encode().expect_err("no such parameter").to_string();
        assert!(error.contains("staleness_ms"), "{error}");
    }
}
