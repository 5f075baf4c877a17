//! A doctor signs a prescription with a passkey: the sheet is shown, and the challenge is the hash of the transaction that
//! commits to it.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stele_core::{
    abi::prescriptions::IPrescriptions::issueCall,
    id::PRESCRIPTIONS,
    prescription::{Code, Sheet},
    tx::AccountCall,
};
use stele_fhir::parse;

use super::PasskeyUse;
use crate::{
    Service,
    error::{Error, Result},
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

/// What is kept beside the transaction while it waits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    /// FHIR id that the MedicationRequest gets.
    id: String,
    /// The MedicationRequest.
    resource: String,
    /// The code.
    code: String,
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
        let beside = Beside {
            id: ready.id,
            resource: ready.resource.text,
            code: ready.code,
        };
        let beside = serde_json::to_vec(&beside).map_err(|e| Error::internal(WHAT, e))?;
        let input = ready.call.abi_encode();
        let (id, call) = self.keep_waiting(actor.account, PRESCRIPTIONS, GAS, input, &beside)?;
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
        self.carry(actor.account, call, passkey).await?;
        self.forget_waiting(id)?;
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

    fn waiting_prescription(&self, actor: &Actor, id: &str) -> Result<(AccountCall, Beside, Code)> {
        let (call, beside) = self.waiting(actor.account, id)?;
        let beside: Beside =
            serde_json::from_slice(&beside).map_err(|e| Error::internal(WHAT, e))?;
        let code = Code::parse(&beside.code).map_err(|e| Error::internal(WHAT, e))?;
        Ok((call, beside, code))
    }
}
