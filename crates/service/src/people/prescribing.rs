//! A doctor signs a prescription with a passkey: the sheet is shown, and the challenge is the hash of the transaction that
//! commits to it.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use alloy_rlp::{Decodable as _, Encodable as _};
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stele_core::{
    abi::prescriptions::IPrescriptions::issueCall,
    id::PRESCRIPTIONS,
    prescription::{Code, Sheet},
    time::Timestamp,
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};
use stele_fhir::parse;

use super::{PasskeyUse, drafts::DRAFT_MS, random};
use crate::{
    Service,
    error::{Error, Result},
    ports::BlockRef,
    prescriptions::{GAS, Prescribed, Ready},
    session::Actor,
};

const WHAT: &str = "preparing a prescription";

/// A prescription that waits for its doctor's passkey.
#[derive(Debug)]
pub struct PreparedPrescription {
    /// Its id, 64 hex digits.
    pub id: String,
    /// What the passkey signs: the transaction's signing hash.
    pub challenge: B256,
    /// What the transaction commits to.
    pub sheet: Sheet,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    /// RLP of the [`AccountCall`].
    call: Bytes,
    /// FHIR id that the MedicationRequest gets.
    id: String,
    /// The MedicationRequest.
    resource: String,
    /// The code.
    code: String,
    /// When it ends.
    expires: Timestamp,
}

impl Service {
    /// Prepares a prescription for the doctor's passkey.
    ///
    /// # Errors
    /// As for [`Service::prescribe`].
    pub async fn draft_prescription(
        self: &Arc<Self>,
        actor: &Actor,
        request: &Value,
    ) -> Result<PreparedPrescription> {
        let ready = self.ready(actor, request).await?;
        let (_, nonce, _) = self
            .ledger
            .account(actor.account, BlockRef::Pending)
            .map_err(Error::ledger(WHAT))?;
        let call = AccountCall {
            chain_id: self.ledger.facts().chain_id,
            account: actor.account,
            nonce,
            gas_limit: GAS,
            to: PRESCRIPTIONS,
            input: ready.call.abi_encode().into(),
        };
        let mut encoded = Vec::new();
        call.encode(&mut encoded);
        let draft = Draft {
            call: encoded.into(),
            id: ready.id,
            resource: ready.resource.text,
            code: ready.code,
            expires: self.clock.now().plus_ms(DRAFT_MS),
        };
        let id = hex::encode(random());
        let document = serde_json::to_vec(&draft).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_session(&digest(&id), &document, draft.expires)
            .map_err(Error::index(WHAT))?;
        Ok(PreparedPrescription {
            id,
            challenge: call.signing_hash(),
            sheet: ready.sheet,
        })
    }

    /// A prescription of the actor's that waits.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn prepared_prescription(&self, actor: &Actor, id: &str) -> Result<PreparedPrescription> {
        let (call, _, code) = self.waiting_prescription(actor, id)?;
        Ok(PreparedPrescription {
            id: id.to_owned(),
            challenge: call.signing_hash(),
            sheet: code.sheet().map_err(|e| Error::internal(WHAT, e))?,
        })
    }

    /// Carries a prescription that the doctor's passkey signed, and writes it to the record.
    ///
    /// # Errors
    /// The draft ended, the passkey is another's or signed something else, or the ledger refuses.
    pub async fn confirm_prescription(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
    ) -> Result<Prescribed> {
        let (call, draft, code) = self.waiting_prescription(actor, id)?;
        let issue = issueCall::abi_decode(&call.input).map_err(|e| Error::internal(WHAT, e))?;
        // What is written to the record has to be what was signed.
        if (issue.id, issue.commitment) != (code.id(), code.commitment()) {
            return Err(Error::internal(WHAT, "the draft contradicts itself"));
        }
        let signature = AccountSignature::WebAuthn(self.assertion_of(actor.account, passkey)?);
        let signed = Transaction::Account(Box::new(AccountTransaction { call, signature }));
        self.relay(actor.account, signed.encode()).await?;
        self.index
            .local()
            .end_session(&digest(id))
            .map_err(Error::index(WHAT))?;
        let ready = Ready {
            sheet: code.sheet().map_err(|e| Error::internal(WHAT, e))?,
            call: issue,
            id: draft.id,
            resource: parse::edited(draft.resource)
                .map_err(|_| Error::internal(WHAT, "the draft is no resource"))?,
            code: draft.code,
        };
        self.record_prescription(actor, ready).await
    }

    fn waiting_prescription(&self, actor: &Actor, id: &str) -> Result<(AccountCall, Draft, Code)> {
        let gone = || Error::not_found("draft", "it was used or is too old");
        let found = self
            .index
            .local()
            .session(&digest(id), self.clock.now())
            .map_err(Error::index(WHAT))?
            .ok_or_else(gone)?;
        let draft: Draft = serde_json::from_slice(&found).map_err(|e| Error::internal(WHAT, e))?;
        let call =
            AccountCall::decode(&mut draft.call.as_ref()).map_err(|e| Error::internal(WHAT, e))?;
        let code = Code::parse(&draft.code).map_err(|e| Error::internal(WHAT, e))?;
        if call.account == actor.account {
            Ok((call, draft, code))
        } else {
            Err(gone())
        }
    }

    /// What a passkey of this account signed.
    pub(crate) fn assertion_of(
        &self,
        account: Address,
        passkey: &PasskeyUse,
    ) -> Result<stele_core::crypto::webauthn::Assertion> {
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
    keccak256([b"stele/prescription-draft/v1\0".as_slice(), id.as_bytes()].concat())
}
