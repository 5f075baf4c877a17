//! Who may transact, and with which key: the rules this chain adds to Ethereum's. One implementation, used by the
//! pool on the final state and by every validator on the state a transaction really meets.

use std::{cell::Cell, sync::LazyLock};

use alloy_primitives::{Address, U256, keccak256};
use revm::{
    context::{TxEnv, result::InvalidTransaction as RevmInvalid},
    context_interface::cfg::GasParams,
};
use stele_core::tx::{AccountSignature, RecoveredTransaction, SenderKey, Transaction};

use crate::{
    contracts::{
        governance,
        identity::{self, Account, Standing, read::Key},
    },
    error::InvalidTransaction,
    evm::SPEC,
    state,
};

/// Outcome of a check: fatal, or invalid, or the account the transaction counts against.
pub(crate) type Checked = Result<Result<Address, InvalidTransaction>, state::Error>;

/// Checks that the signing key speaks for the sender, that the sender may transact and, where the transaction
/// creates a contract, that it may deploy. `read` gives a slot of a contract's storage. Yields the organisation
/// the transaction counts against; in an open network an unknown sender counts for itself.
pub(crate) fn check(
    recovered: &RecoveredTransaction,
    open: bool,
    read: impl Fn(Address, U256) -> Result<U256, state::Error>,
) -> Checked {
    let sender = recovered.sender;
    // The account's own slot is asked for by each of the questions below.
    let last = Cell::new(None);
    let read = |contract: Address, key: U256| match last.get() {
        Some((asked, found)) if asked == (contract, key) => Ok(found),
        Some(_) | None => {
            let found = read(contract, key)?;
            last.set(Some(((contract, key), found)));
            Ok(found)
        }
    };
    let account = identity::read::account(read, sender)?;
    if let Err(invalid) = check_key(recovered, &account, &read)? {
        return Ok(Err(invalid));
    }
    let organization = match identity::read::standing(read, sender)? {
        Standing::Active { organization, .. } => organization,
        Standing::Unregistered | Standing::Barred if open => return Ok(Ok(sender)),
        Standing::Unregistered => return Ok(Err(InvalidTransaction::NotRegistered { sender })),
        Standing::Barred => {
            let organization = account.sponsor;
            return Ok(Err(InvalidTransaction::NotActive {
                sender,
                organization,
            }));
        }
    };
    let creates = recovered.transaction.to().is_create();
    if creates && !open && !governance::read::may_deploy(read, sender)? {
        return Ok(Err(InvalidTransaction::MayNotDeploy { sender }));
    }
    Ok(Ok(organization))
}

fn check_key(
    recovered: &RecoveredTransaction,
    account: &Account,
    read: &impl Fn(Address, U256) -> Result<U256, state::Error>,
) -> Result<Result<(), InvalidTransaction>, state::Error> {
    let sender = recovered.sender;
    let refused = Ok(Err(InvalidTransaction::KeyRefused { account: sender }));
    match recovered.key {
        SenderKey::Own => {
            if account.own_key_removed {
                return refused;
            }
        }
        SenderKey::Secp256k1 { key_id } => {
            if identity::read::speaks_for(read, sender, key_id)? != Some(Key::Secp256k1) {
                return refused;
            }
        }
        SenderKey::Passkey {
            key_id,
            rp_id_hash,
            origin_digest,
        } => {
            let Some(Key::Passkey {
                rp_id_hash: registered,
            }) = identity::read::speaks_for(read, sender, key_id)?
            else {
                return refused;
            };
            if registered != rp_id_hash {
                return Ok(Err(InvalidTransaction::RelyingParty { account: sender }));
            }
            let organization = account.sponsor;
            let allowed = identity::read::origin_allowed(read, organization, origin_digest)?
                || (asked_from_localhost(&recovered.transaction)
                    && identity::read::origin_allowed(read, organization, keccak256(LOCALHOST))?);
            if !allowed {
                return Ok(Err(InvalidTransaction::Origin { organization }));
            }
        }
    }
    Ok(Ok(()))
}

/// Whether a passkey was used on `http://localhost` with whatever port: a node on one's own machine picks a free
/// one. The client data was verified with the signature; only its origin is read here.
fn asked_from_localhost(transaction: &Transaction) -> bool {
    #[derive(serde::Deserialize)]
    struct ClientData {
        origin: String,
    }
    let Transaction::Account(account) = transaction else {
        return false;
    };
    let AccountSignature::WebAuthn(assertion) = &account.signature else {
        return false;
    };
    serde_json::from_slice::<ClientData>(&assertion.client_data_json)
        .is_ok_and(|data| is_localhost(&data.origin))
}

fn is_localhost(origin: &str) -> bool {
    let Some(rest) = origin.strip_prefix(LOCALHOST) else {
        return false;
    };
    let Some(port) = rest.strip_prefix(':') else {
        return rest.is_empty();
    };
    !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

const LOCALHOST: &str = "http://localhost";

/// Checks what depends on no state: intrinsic gas, size of init code, the block's gas limit, the nonce's range.
pub(crate) fn check_alone(
    transaction: &TxEnv,
    block_gas_limit: u64,
) -> Result<(), InvalidTransaction> {
    let limit = transaction.gas_limit;
    if limit > block_gas_limit {
        return Err(InvalidTransaction::GasLimit {
            limit,
            available: block_gas_limit,
        });
    }
    if transaction.nonce == u64::MAX {
        return Err(InvalidTransaction::NonceMax);
    }
    let size = transaction.data.len();
    if transaction.kind.is_create() && size > INIT_CODE_MAX {
        return Err(InvalidTransaction::InitCodeTooLarge {
            size,
            max: INIT_CODE_MAX,
        });
    }
    let needed = intrinsic_gas(transaction);
    if needed > limit {
        return Err(InvalidTransaction::IntrinsicGas { limit, needed });
    }
    Ok(())
}

/// The least gas limit the transaction can have: EIP-2028, 2930, 3860 and the floor of EIP-7623.
pub(crate) fn intrinsic_gas(transaction: &TxEnv) -> u64 {
    static PRICES: LazyLock<GasParams> = LazyLock::new(|| GasParams::new_spec(SPEC));
    let gas = PRICES.initial_tx_gas_for_tx(transaction, None);
    gas.initial_total_gas().max(gas.floor_gas())
}

/// EIP-3860: twice EIP-170's limit on code.
const INIT_CODE_MAX: usize = revm::primitives::eip3860::MAX_INITCODE_SIZE;

/// The machine's refusal in our words.
pub(crate) fn translate(invalid: &RevmInvalid, transaction: &TxEnv) -> InvalidTransaction {
    match invalid {
        RevmInvalid::NonceTooHigh { tx, state } => InvalidTransaction::NonceTooHigh {
            next: *state,
            given: *tx,
        },
        RevmInvalid::NonceTooLow { tx, state } => InvalidTransaction::NonceTooLow {
            next: *state,
            given: *tx,
        },
        RevmInvalid::NonceOverflowInTransaction => InvalidTransaction::NonceMax,
        RevmInvalid::LackOfFundForMaxFee { balance, .. } => InvalidTransaction::InsufficientFunds {
            balance: **balance,
            value: transaction.value,
        },
        RevmInvalid::CallGasCostMoreThanGasLimit {
            initial_gas: needed,
            gas_limit: limit,
        }
        | RevmInvalid::GasFloorMoreThanGasLimit {
            gas_floor: needed,
            gas_limit: limit,
        } => InvalidTransaction::IntrinsicGas {
            limit: *limit,
            needed: *needed,
        },
        RevmInvalid::RejectCallerWithCode => InvalidTransaction::SenderIsContract {
            sender: transaction.caller,
        },
        RevmInvalid::CreateInitCodeSizeLimit => InvalidTransaction::InitCodeTooLarge {
            size: transaction.data.len(),
            max: INIT_CODE_MAX,
        },
        other => InvalidTransaction::Rules(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_has_any_port_and_nothing_else() {
        for origin in [
            "http://localhost",
            "http://localhost:8480",
            "http://localhost:1",
        ] {
            assert!(is_localhost(origin), "{origin}");
        }
        for origin in [
            "https://localhost:8480",
            "http://localhost.evil.example",
            "http://localhost:",
            "http://localhost:80.evil.example",
            "http://localhost:123456",
            "http://localhost@evil.example",
        ] {
            assert!(!is_localhost(origin), "{origin}");
        }
    }
}
