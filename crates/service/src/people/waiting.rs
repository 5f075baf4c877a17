//! Transactions of people that wait for their passkey: kept for ten minutes with what belongs to them.

use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use alloy_rlp::{Decodable as _, Encodable as _};
use serde::{Deserialize, Serialize};
use stele_core::{
    crypto::webauthn::Assertion,
    time::Timestamp,
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};

use super::{PasskeyUse, drafts::DRAFT_MS, random};
use crate::{
    Service,
    error::{Error, Result},
    ports::BlockRef,
};

const WHAT: &str = "keeping what is to be signed";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    /// RLP of the [`AccountCall`].
    call: Bytes,
    /// What belongs to it and is not on the ledger.
    beside: Bytes,
    /// When it ends.
    expires: Timestamp,
}

impl Service {
    /// Makes an account's next transaction and keeps it, with what belongs to it. Gives its id, 64 hex digits.
    pub(crate) fn keep_waiting(
        &self,
        account: Address,
        to: Address,
        gas_limit: u64,
        input: Vec<u8>,
        beside: &[u8],
    ) -> Result<(String, AccountCall)> {
        let (_, nonce, _) = self
            .ledger
            .account(account, BlockRef::Pending)
            .map_err(Error::ledger(WHAT))?;
        let call = AccountCall {
            chain_id: self.ledger.facts().chain_id,
            account,
            nonce,
            gas_limit,
            to,
            input: input.into(),
        };
        let mut encoded = Vec::new();
        call.encode(&mut encoded);
        let waiting = Waiting {
            call: encoded.into(),
            beside: beside.to_vec().into(),
            expires: self.clock.now().plus_ms(DRAFT_MS),
        };
        let id = hex::encode(random());
        let document = serde_json::to_vec(&waiting).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_session(&digest(&id), &document, waiting.expires)
            .map_err(Error::index(WHAT))?;
        Ok((id, call))
    }

    /// A transaction of this account that waits, and what belongs to it.
    pub(crate) fn waiting(&self, account: Address, id: &str) -> Result<(AccountCall, Bytes)> {
        let gone = || Error::not_found("draft", "it was used or is too old");
        let found = self
            .index
            .local()
            .session(&digest(id), self.clock.now())
            .map_err(Error::index(WHAT))?
            .ok_or_else(gone)?;
        let waiting: Waiting =
            serde_json::from_slice(&found).map_err(|e| Error::internal(WHAT, e))?;
        let call = AccountCall::decode(&mut waiting.call.as_ref())
            .map_err(|e| Error::internal(WHAT, e))?;
        if call.account == account {
            Ok((call, waiting.beside))
        } else {
            Err(gone())
        }
    }

    /// Forgets what was carried out.
    pub(crate) fn forget_waiting(&self, id: &str) -> Result<()> {
        self.index
            .local()
            .end_session(&digest(id))
            .map_err(Error::index(WHAT))
    }

    /// Carries a transaction that a passkey of the account signed, and waits until it is final.
    pub(crate) async fn carry(
        &self,
        account: Address,
        call: AccountCall,
        passkey: &PasskeyUse,
    ) -> Result<(B256, u64)> {
        let signature = AccountSignature::WebAuthn(self.assertion_of(account, passkey)?);
        let signed = Transaction::Account(Box::new(AccountTransaction { call, signature }));
        self.relay(account, signed.encode()).await
    }

    /// What a passkey of this account signed.
    pub(crate) fn assertion_of(&self, account: Address, passkey: &PasskeyUse) -> Result<Assertion> {
        let (_, known) = self
            .known_passkey(&passkey.credential)?
            .filter(|(owner, _)| *owner == account)
            .ok_or_else(|| Error::NotPermitted {
                message: "That passkey is not one of this account's.".into(),
            })?;
        passkey.assertion(&known)
    }
}

fn digest(id: &str) -> B256 {
    keccak256([b"stele/waiting/v1\0".as_slice(), id.as_bytes()].concat())
}
