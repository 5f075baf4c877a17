//! What a patient is about to sign: a transaction of the patient's own account, shown in words before the passkey is
//! asked for. The words are read from the transaction's bytes, whose hash is the passkey's challenge.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use alloy_rlp::{Decodable as _, Encodable as _};
use alloy_sol_types::SolCall;
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::{
        consent::IConsent::{declineCall, grantCall, revokeCall},
        emergency::IEmergency::stopAllCall,
    },
    consent::Terms,
    id::{CONSENT, EMERGENCY, PatientId},
    time::Timestamp,
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};
use stele_fhir::category::Category;
use stele_vault::keys::Grant as KeyGrant;

use super::{PasskeyUse, passkeys::Known, random};
use crate::{
    Service,
    error::{Error, Result},
    grants::GrantRequest,
    ports::BlockRef,
    session::Actor,
};

/// How long a draft waits for its passkey, in milliseconds.
pub(super) const DRAFT_MS: u64 = 10 * 60 * 1000;
/// Gas that a decision about consent may use.
const GAS: u64 = 500_000;
/// Gas for ending up to [`STOPPED_MAX`] grants.
const STOP_ALL_GAS: u64 = 5_000_000;
/// Most grants that the ledger ends at once.
const STOPPED_MAX: usize = 64;

/// What a transaction of a patient says, read from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Somebody gets access.
    Grant {
        /// Who.
        grantee: Address,
        /// The terms.
        terms: Terms,
        /// The categories of the terms' slots.
        categories: Vec<Category>,
        /// The request it answers, or 0.
        request: u32,
    },
    /// Somebody's access ends.
    Revoke {
        /// Whose.
        grantee: Address,
        /// Number of the grant.
        id: u32,
    },
    /// Everybody's access ends.
    StopAll {
        /// Whose, and the numbers of the grants.
        grants: Vec<(Address, u32)>,
    },
    /// A request is declined.
    Decline {
        /// Number of the request.
        request: u32,
    },
}

/// A draft as it is shown.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its id, 64 hex digits.
    pub id: String,
    /// What the passkey signs: the transaction's signing hash.
    pub challenge: B256,
    /// RLP of the [`AccountCall`], which the hash is over.
    pub call: Bytes,
    /// What the transaction says.
    pub act: Act,
}

/// A decision that is final.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What it says.
    pub act: Act,
    /// Its transaction.
    pub transaction: B256,
    /// Height of its block.
    pub height: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    /// RLP of the [`AccountCall`].
    call: Bytes,
    /// What goes with it.
    with: HandedOver,
    /// When it ends.
    expires: Timestamp,
}

/// A draft as it is carried out.
pub(super) struct DraftRead {
    pub(super) call: AccountCall,
    pub(super) with: HandedOver,
    /// When it ends.
    pub(super) expires: Timestamp,
}

/// What is kept or handed on when a decision is final; off the ledger.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandedOver {
    /// Keys sealed to grantees.
    pub(super) envelopes: Vec<(Address, Bytes)>,
    /// The key directory that the call publishes the root of, from a patient who holds the keys.
    pub(super) directory: Option<Bytes>,
    /// A passkey that the call adds.
    pub(super) passkey: Option<NewKey>,
}

/// A passkey that waits for the transaction that adds it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    pub(super) credential: Bytes,
    pub(super) known: Known,
}

impl Service {
    /// Prepares a grant for the patient's passkey.
    ///
    /// # Errors
    /// The actor is not the patient, or the patient's keys are not here.
    pub async fn draft_grant(&self, actor: &Actor, request: GrantRequest) -> Result<Prepared> {
        let patient = request.patient;
        self.require_decider(actor, patient)?;
        let (call, envelopes) = self.grant_call(&request).await?;
        let grantee = request.grantee;
        let envelopes = envelopes
            .iter()
            .map(|one| (grantee, one.encode().into()))
            .collect();
        let with = HandedOver {
            envelopes,
            ..HandedOver::default()
        };
        self.keep_draft(patient, &call, with)
    }

    /// Prepares the end of a grant for the patient's passkey.
    ///
    /// # Errors
    /// The actor is not the patient, or there is no such live grant.
    pub fn draft_revoke(
        &self,
        actor: &Actor,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<Prepared> {
        self.open_grant(actor, patient, grantee, id)?;
        let call = revokeCall {
            grantee,
            id,
            directoryRoot: B256::ZERO,
        };
        self.keep_draft(patient, &call, HandedOver::default())
    }

    /// A grant that can be ended.
    pub(super) fn open_grant(
        &self,
        actor: &Actor,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<stele_index::grants::Grant> {
        let now = self.clock.now();
        let is_open = |grant: &stele_index::grants::Grant| {
            grant.grantee == grantee
                && grant.id == id
                && grant.revoked.is_none()
                && grant.terms.period.until > now
        };
        self.grants_of(actor, patient)?
            .into_iter()
            .find(is_open)
            .ok_or_else(|| Error::Conflict {
                message: "This access has already ended.".into(),
            })
    }

    /// Prepares the end of all live grants, in one transaction, for the patient's passkey: of the first 64, which is more
    /// than anybody gives.
    ///
    /// # Errors
    /// The actor is not the patient, or nobody has access.
    pub fn draft_stop_all(&self, actor: &Actor, patient: PatientId) -> Result<Prepared> {
        let now = self.clock.now();
        let live: Vec<_> = self
            .grants_of(actor, patient)?
            .into_iter()
            .filter(|grant| grant.revoked.is_none() && grant.terms.period.until > now)
            .take(STOPPED_MAX)
            .collect();
        if live.is_empty() {
            return Err(Error::Conflict {
                message: "Nobody has access.".into(),
            });
        }
        let call = stopAllCall {
            grantees: live.iter().map(|grant| grant.grantee).collect(),
            ids: live.iter().map(|grant| grant.id).collect(),
        };
        let with = HandedOver::default();
        self.keep_draft_to(EMERGENCY, STOP_ALL_GAS, patient, &call, with)
    }

    /// Prepares declining a request for the patient's passkey.
    ///
    /// # Errors
    /// The actor is not the patient.
    pub fn draft_decline(
        &self,
        actor: &Actor,
        patient: PatientId,
        request: u32,
    ) -> Result<Prepared> {
        self.require_decider(actor, patient)?;
        self.keep_draft(patient, &declineCall { request }, HandedOver::default())
    }

    /// A draft of the actor's that has not ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn draft(&self, actor: &Actor, id: &str) -> Result<Prepared> {
        let (call, _) = self.read_draft(actor, id)?;
        self.prepared(id, &call)
    }

    /// Carries a decision that the patient's passkey signed, and sees to the keys that go with it.
    ///
    /// # Errors
    /// The draft ended, the passkey is another's or signed something else, or the ledger refuses.
    pub async fn confirm_draft(
        &self,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
    ) -> Result<Settled> {
        let (call, with) = self.read_draft(actor, id)?;
        let act = self.act_of(&call)?;
        self.hand_keys_over(actor, &with).await?;
        let (transaction, height) = self.send_signed(actor, call, passkey).await?;
        self.decided(actor, id, &act, &with).await?;
        Ok(Settled {
            act,
            transaction,
            height,
        })
    }

    /// Hands the keys of a grant over. Before it is final: without it they open nothing.
    pub(super) async fn hand_keys_over(&self, actor: &Actor, with: &HandedOver) -> Result<()> {
        const WHAT: &str = "handing keys over";
        let mut keys: BTreeMap<Address, Vec<KeyGrant>> = BTreeMap::new();
        for (grantee, bytes) in &with.envelopes {
            let key = KeyGrant::decode(bytes).map_err(|error| Error::internal(WHAT, error))?;
            keys.entry(*grantee).or_default().push(key);
        }
        let is_own = self.holds_own_keys(PatientId(actor.account))?;
        for (grantee, keys) in &keys {
            // What a browser sealed is tried with the grantee's key; what was sealed here needs no trial.
            let kept = if is_own {
                self.vault.keys().add_grants(*grantee, keys).await
            } else {
                self.vault.keys().keep_grants(*grantee, keys).await
            };
            kept.map_err(Error::vault(WHAT))?;
        }
        Ok(())
    }

    /// Sees to the keys after a decision is final, and ends its draft.
    pub(super) async fn decided(
        &self,
        actor: &Actor,
        id: &str,
        act: &Act,
        with: &HandedOver,
    ) -> Result<()> {
        let patient = PatientId(actor.account);
        let is_own = self.holds_own_keys(patient)?;
        let ended = match act {
            Act::Revoke { grantee, id } => vec![(*grantee, *id)],
            Act::StopAll { grants } => grants.clone(),
            Act::Grant { .. } | Act::Decline { .. } => Vec::new(),
        };
        if let Some(directory) = &with.directory {
            self.keep_directory(directory).await?;
        }
        for (grantee, id) in ended {
            if is_own {
                self.forget_ended(patient, grantee, id).await?;
            } else {
                self.renew_keys(patient, grantee, id).await?;
            }
        }
        if is_own {
            self.vault.clear_cached_keys();
        }
        self.end_draft(id)
    }

    /// Sends a call that a passkey of the actor's signed, and waits for it.
    pub(super) async fn send_signed(
        &self,
        actor: &Actor,
        call: AccountCall,
        passkey: &PasskeyUse,
    ) -> Result<(B256, u64)> {
        let signature = AccountSignature::WebAuthn(self.assertion_of(actor.account, passkey)?);
        let signed = Transaction::Account(Box::new(AccountTransaction { call, signature }));
        self.relay_transaction(actor, signed.encode()).await
    }

    pub(crate) fn end_draft(&self, id: &str) -> Result<()> {
        self.index
            .local()
            .end_session(&digest(id))
            .map_err(Error::index("ending a draft"))
    }

    pub(super) fn keep_draft(
        &self,
        patient: PatientId,
        call: &impl SolCall,
        with: HandedOver,
    ) -> Result<Prepared> {
        self.keep_draft_to(CONSENT, GAS, patient, call, with)
    }

    fn keep_draft_to(
        &self,
        to: Address,
        gas_limit: u64,
        patient: PatientId,
        call: &impl SolCall,
        with: HandedOver,
    ) -> Result<Prepared> {
        let (id, call) = self.keep_call(to, gas_limit, patient, call, with)?;
        self.prepared(&id, &call)
    }

    /// Keeps a call of the patient's account for ten minutes; gives the draft's id.
    pub(super) fn keep_call(
        &self,
        to: Address,
        gas_limit: u64,
        patient: PatientId,
        call: &impl SolCall,
        with: HandedOver,
    ) -> Result<(String, AccountCall)> {
        const WHAT: &str = "preparing a decision";
        let (_, nonce, _) = self
            .ledger
            .account(patient.0, BlockRef::Pending)
            .map_err(Error::ledger(WHAT))?;
        let call = AccountCall {
            chain_id: self.ledger.facts().chain_id,
            account: patient.0,
            nonce,
            gas_limit,
            to,
            input: call.abi_encode().into(),
        };
        let mut encoded = Vec::new();
        call.encode(&mut encoded);
        let id = hex::encode(random());
        let draft = Draft {
            call: encoded.into(),
            with,
            expires: self.clock.now().plus_ms(DRAFT_MS),
        };
        let document = serde_json::to_vec(&draft).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_session(&digest(&id), &document, draft.expires)
            .map_err(Error::index(WHAT))?;
        Ok((id, call))
    }

    pub(crate) fn read_draft(&self, actor: &Actor, id: &str) -> Result<(AccountCall, HandedOver)> {
        const WHAT: &str = "reading a draft";
        let DraftRead { call, with, .. } = self.read_whole_draft(WHAT, actor, id)?;
        Ok((call, with))
    }

    /// A draft of the actor's, with its end.
    pub(super) fn read_whole_draft(
        &self,
        what: &'static str,
        actor: &Actor,
        id: &str,
    ) -> Result<DraftRead> {
        let found = self
            .index
            .local()
            .session(&digest(id), self.clock.now())
            .map_err(Error::index(what))?;
        let draft: Option<Draft> = found
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|e| Error::internal(what, e))?;
        let draft = draft.ok_or_else(|| Error::not_found("draft", "it was used or is too old"))?;
        let call =
            AccountCall::decode(&mut draft.call.as_ref()).map_err(|e| Error::internal(what, e))?;
        if call.account == actor.account {
            return Ok(DraftRead {
                call,
                with: draft.with,
                expires: draft.expires,
            });
        }
        Err(Error::not_found("draft", "it was used or is too old"))
    }

    fn prepared(&self, id: &str, call: &AccountCall) -> Result<Prepared> {
        let mut encoded = Vec::new();
        call.encode(&mut encoded);
        Ok(Prepared {
            id: id.to_owned(),
            challenge: call.signing_hash(),
            call: encoded.into(),
            act: self.act_of(call)?,
        })
    }

    /// What the bytes of a call say.
    pub(super) fn act_of(&self, call: &AccountCall) -> Result<Act> {
        const WHAT: &str = "reading a transaction";
        if call.to == EMERGENCY {
            let stop = stopAllCall::abi_decode(call.input.as_ref())
                .map_err(|error| Error::internal(WHAT, error))?;
            return Ok(Act::StopAll {
                grants: stop.grantees.into_iter().zip(stop.ids).collect(),
            });
        }
        if call.to != CONSENT {
            return Err(Error::internal(WHAT, "it is no decision about consent"));
        }
        let input = call.input.as_ref();
        if let Ok(grant) = grantCall::abi_decode(input) {
            let terms = Terms::from_abi(&grant.terms);
            return Ok(Act::Grant {
                grantee: grant.grantee,
                categories: self.categories_of(PatientId(call.account), terms.categories)?,
                terms,
                request: grant.request,
            });
        }
        if let Ok(revoke) = revokeCall::abi_decode(input) {
            return Ok(Act::Revoke {
                grantee: revoke.grantee,
                id: revoke.id,
            });
        }
        declineCall::abi_decode(input)
            .map(|decline| Act::Decline {
                request: decline.request,
            })
            .map_err(|error| Error::internal(WHAT, error))
    }
}

fn digest(id: &str) -> B256 {
    keccak256([b"stele/draft/v1\0".as_slice(), id.as_bytes()].concat())
}
