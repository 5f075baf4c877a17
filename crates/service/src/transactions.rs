//! Sending transactions for the accounts whose keys the node's key service keeps.

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, TxKind};
use alloy_sol_types::{SolCall, SolInterface as _};
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::{
        audit::IAudit::IAuditErrors, consent::IConsent::IConsentErrors,
        emergency::IEmergency::IEmergencyErrors, governance::IGovernance::IGovernanceErrors,
        identity::IIdentity::IIdentityErrors, prescriptions::IPrescriptions::IPrescriptionsErrors,
        records::IRecords::IRecordsErrors,
    },
    account::{AccountKey, UnsignedCall},
};
use stele_vault::Vault;
use tokio::sync::Mutex;

use crate::{
    error::{Error, Result},
    ports::{BlockRef, Call, Ledger, LedgerError, ReceiptView},
};

/// How long a use case waits for its transaction, in milliseconds. Longer than a leader's timeout, so that one
/// failed view does not fail a request.
pub const WAIT_MS: u64 = 15_000;

/// Signs and sends. Nonces of one account are taken one after the other; accounts do not wait for each other.
pub struct Transactions {
    ledger: Arc<dyn Ledger>,
    vault: Arc<Vault>,
    chain_id: u64,
    senders: parking_lot::Mutex<HashMap<Address, Arc<Mutex<()>>>>,
}

/// A contract call to be sent, with the gas it may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) to: Address,
    pub(crate) input: Bytes,
    pub(crate) gas: u64,
}

impl Order {
    /// A call of a system contract. `gas` bounds it; none is paid for.
    pub(crate) fn new(to: Address, call: &impl SolCall, gas: u64) -> Self {
        Self {
            to,
            input: call.abi_encode().into(),
            gas,
        }
    }
}

impl Transactions {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, vault: Arc<Vault>) -> Self {
        let chain_id = ledger.facts().chain_id;
        Self {
            ledger,
            vault,
            chain_id,
            senders: parking_lot::Mutex::default(),
        }
    }

    /// Signs the orders as `sender`, in this order, and hands them to the pool. Returns the signed bytes and
    /// their hashes; nothing is final yet.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        sender: Address,
        orders: Vec<Order>,
    ) -> Result<Vec<B256>> {
        let key = self.key(sender)?;
        let lock = Arc::clone(self.senders.lock().entry(sender).or_default());
        let _turn = lock.lock().await;
        let (_, mut nonce, _) = self
            .ledger
            .account(sender, BlockRef::Pending)
            .map_err(Error::ledger(what))?;
        let mut hashes = Vec::with_capacity(orders.len());
        for order in orders {
            let signed = key
                .sign(UnsignedCall {
                    chain_id: self.chain_id,
                    nonce,
                    gas_limit: order.gas,
                    to: TxKind::Call(order.to),
                    input: order.input,
                })
                .map_err(|error| Error::internal(what, error))?;
            hashes.push(
                self.ledger
                    .submit_own(signed)
                    .await
                    .map_err(Error::ledger(what))?,
            );
            nonce = nonce.saturating_add(1);
        }
        Ok(hashes)
    }

    /// Sends one order and waits until it is final and indexed.
    pub(crate) async fn settle(
        &self,
        what: &'static str,
        sender: Address,
        order: Order,
    ) -> Result<ReceiptView> {
        let hashes = self.send(what, sender, vec![order.clone()]).await?;
        let hash = hashes.first().copied().unwrap_or_default();
        self.settled(what, sender, hash, Some(&order)).await
    }

    /// Waits for a transaction that was sent. A reverted one is an error with the contract's words.
    pub(crate) async fn settled(
        &self,
        what: &'static str,
        sender: Address,
        hash: B256,
        order: Option<&Order>,
    ) -> Result<ReceiptView> {
        let receipt = self
            .ledger
            .wait(hash, WAIT_MS)
            .await
            .map_err(Error::ledger(what))?;
        if receipt.receipt.success {
            return Ok(receipt);
        }
        // The receipt does not keep the revert data; the same call against the present state gives it.
        let again = order.map(|order| {
            let call = Call {
                from: sender,
                to: Some(order.to),
                input: order.input.clone(),
                gas: Some(order.gas),
                ..Call::default()
            };
            self.ledger.call(&call, BlockRef::Latest)
        });
        match again {
            Some(Err(source)) => Err(refused(what, source)),
            Some(Ok(_)) | None => Err(Error::Conflict {
                message: format!(
                    "the ledger refused {what}: something changed at the same moment; try again"
                ),
            }),
        }
    }

    pub(crate) fn key(&self, account: Address) -> Result<AccountKey> {
        let secret = self
            .vault
            .keys()
            .signing(account)
            .map_err(Error::vault("reading a signing key"))?
            .ok_or_else(|| Error::NotPermitted {
                message: format!("this node does not keep the key of account {account}"),
            })?;
        AccountKey::new(secret).map_err(|error| Error::internal("reading a signing key", error))
    }
}

/// A contract's refusal in words: a missing permission is told apart from everything else.
pub(crate) fn refused(what: &'static str, source: LedgerError) -> Error {
    let LedgerError::Reverted { output } = &source else {
        return Error::Ledger { what, source };
    };
    match revert_words(output) {
        Some((true, message)) => Error::NotPermitted {
            message: format!("the ledger refused {what}: {message}"),
        },
        Some((false, message)) => Error::Conflict {
            message: format!("the ledger refused {what}: {message}"),
        },
        None => Error::Ledger { what, source },
    }
}

/// Name and values of a system contract's error, and whether it means "may not".
pub(crate) fn revert_words(output: &[u8]) -> Option<(bool, String)> {
    let text = if let Ok(error) = IRecordsErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IConsentErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IIdentityErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IAuditErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IPrescriptionsErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IEmergencyErrors::abi_decode(output) {
        format!("{error:?}")
    } else if let Ok(error) = IGovernanceErrors::abi_decode(output) {
        format!("{error:?}")
    } else {
        return None;
    };
    // `NotPermitted(NotPermitted { log: 0x…, .. })`: the outer name is the enum's.
    let inner = text
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(&text)
        .to_owned();
    let may_not = [
        "NotPermitted",
        "NotActive",
        "NotAuthor",
        "NotSponsor",
        "NotAMember",
        "NotCustodian",
        "NotAnOrganization",
        "NotAPrescriber",
        "NotADispenser",
        "NotItsPrescriber",
        "NotAClinician",
        "NotAReviewer",
    ]
    .iter()
    .any(|name| inner.starts_with(name));
    Some((may_not, inner))
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolError as _;
    use stele_core::abi::{consent::IConsent, records::IRecords};

    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let denied = IRecords::NotPermitted {
            log: Address::ZERO,
            author: Address::ZERO,
            category: 3,
        };
        let (may_not, words) = revert_words(&denied.abi_encode()).expect("a known error");
        assert!(may_not && words.contains("category: 3"), "{words}");
        let nonce = IConsent::BadNonce {
            expected: 2,
            given: 1,
        };
        let (may_not, words) = revert_words(&nonce.abi_encode()).expect("a known error");
        assert!(!may_not && words.contains("expected: 2"), "{words}");
        assert_eq!(revert_words(b"abc"), None);
    }
}
