//! Patients who hold the keys of their record, in the browser: taking them over with a passkey, and what they share.
//!
//! The keys never come here unwrapped. What comes is a wrapped form that only the passkey opens, public keys, envelopes
//! sealed to grantees, and transactions that a passkey signed.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use stele_core::{
    abi::{
        consent::IConsent::{grantCall, revokeCall},
        identity::IIdentity::claimCall,
    },
    consent::{Permissions, Terms},
    crypto::webauthn::rp_id_hash,
    id::{IDENTITY, PatientId},
    tx::AccountCall,
};
use stele_fhir::category::Category;
use stele_index::grants::Grant;
use stele_vault::keys::{Directory, Grant as KeyGrant};

use super::{PasskeyUse, Person, Prepared, Site, drafts::HandedOver};
use crate::{
    Service,
    directory::ALL_MONTHS,
    error::{Error, Result},
    grants::GrantRequest,
    own::{ClaimOffer, decode_directory, own_slot},
    session::Actor,
};

/// Longest wrapped form in base64: 96 bytes take 128 letters.
const WRAPPED_MAX: usize = 256;
/// Most envelopes handed over at once: every category to as many grantees as can be sealed to in one go.
const ENVELOPES_MAX: usize = 4096;
const CLAIM_GAS: u64 = 500_000;

/// A transaction that waits for a passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSign {
    /// Id of the draft, 64 hex digits.
    pub id: String,
    /// What the passkey signs.
    pub challenge: B256,
}

/// The keys of a patient, wrapped for one passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Credential id of the passkey.
    pub credential: Vec<u8>,
    /// What its PRF opens, in base64.
    pub wrapped: String,
}

impl Service {
    /// What a managed patient needs to take the account over, for the person who uses a passkey of the account now. A
    /// session alone does not get it: the root key would outlive the session.
    ///
    /// # Errors
    /// The passkey is not the person's or answers something else; as for [`Service::offer_claim`].
    pub async fn offer_claim_to(
        &self,
        site: &Site,
        person: &Person,
        random: &[u8; 32],
        passkey: &PasskeyUse,
        key: &[u8],
    ) -> Result<ClaimOffer> {
        if self.sign_in_with_passkey(site, random, passkey)? != *person {
            return Err(Error::NotPermitted {
                message: "This passkey is another account's.".into(),
            });
        }
        self.offer_claim(&person.actor(), PatientId(person.account), key)
            .await
    }

    /// Prepares the claim for the passkey that is to speak for the account alone.
    ///
    /// # Errors
    /// The keys are not managed here, the directory does not fit, or the passkey is not the actor's.
    pub fn draft_claim(
        &self,
        site: &Site,
        actor: &Actor,
        credential: &[u8],
        directory: &[u8],
    ) -> Result<ToSign> {
        let patient = PatientId(actor.account);
        self.require_decider(actor, patient)?;
        let directory = self.claimed_directory(patient, directory)?;
        let (_, known) = self
            .known_passkey(credential)?
            .filter(|(owner, _)| *owner == actor.account)
            .ok_or_else(|| Error::not_found("passkey", "of this account"))?;
        let call = claimCall {
            keyId: known.key_id(),
            rpIdHash: rp_id_hash(site.rp_id()),
            directoryRoot: directory.root(),
        };
        let with = HandedOver::default();
        let (id, call) = self.keep_call(IDENTITY, CLAIM_GAS, patient, &call, with)?;
        Ok(ToSign {
            id,
            challenge: call.signing_hash(),
        })
    }

    /// Carries a claim that the passkey signed: from its block on that passkey alone speaks for the account, records are
    /// sealed to keys that the organisation never had, and the organisation's copies are destroyed. The wrapped keys are
    /// kept before, so that a crash leaves a useless copy rather than a lost record.
    ///
    /// # Errors
    /// What is handed over does not fit what was signed, or the ledger refuses; then the account stays managed.
    pub async fn confirm_claim(
        &self,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
        wrapped: &str,
        directory: &[u8],
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<()> {
        let patient = PatientId(actor.account);
        let (call, _) = self.read_draft(actor, id)?;
        let claim = claimCall::abi_decode(&call.input).ok();
        let claim = claim.filter(|_| call.to == IDENTITY).ok_or_else(not_this)?;
        let directory = self.claimed_directory(patient, directory)?;
        let is_signed = directory.root() == claim.directoryRoot
            && self.assertion_of(actor.account, passkey)?.key_id() == claim.keyId;
        if !is_signed {
            return Err(not_this());
        }
        within(envelopes.len())?;
        self.keep_wrapped(actor.account, &passkey.credential, wrapped)?;
        self.keep_claimed(patient, &directory, envelopes).await?;
        self.send_signed(actor, call, passkey).await?;
        self.destroy_managed(patient).await?;
        self.forget_other_passkeys(actor.account, &passkey.credential)?;
        self.end_draft(id)
    }

    /// Keeps the keys of a patient in the form that only one passkey opens.
    pub(super) fn keep_wrapped(
        &self,
        account: Address,
        credential: &[u8],
        wrapped: &str,
    ) -> Result<()> {
        const WHAT: &str = "keeping wrapped keys";
        require_wrapped(wrapped)?;
        let (_, mut known) = self
            .known_passkey(credential)?
            .filter(|(owner, _)| *owner == account)
            .ok_or_else(|| Error::not_found("passkey", "of this account"))?;
        known.wrapped = Some(wrapped.to_owned());
        let document = serde_json::to_vec(&known).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .update_passkey(credential, &document)
            .map_err(Error::index(WHAT))
    }

    /// After a claim one passkey speaks for the account; the others sign nothing any more.
    fn forget_other_passkeys(&self, account: Address, kept: &[u8]) -> Result<()> {
        const WHAT: &str = "forgetting passkeys";
        let local = self.index.local();
        for (credential, _) in local.passkeys_of(account).map_err(Error::index(WHAT))? {
            if credential != kept {
                local
                    .remove_passkey(&credential, account)
                    .map_err(Error::index(WHAT))?;
            }
        }
        Ok(())
    }

    /// The wrapped keys of an account, one for each passkey that has them.
    ///
    /// # Errors
    /// The index fails.
    pub fn wrapped_keys(&self, account: Address) -> Result<Vec<WrappedKey>> {
        const WHAT: &str = "reading wrapped keys";
        let mut list = Vec::new();
        for (credential, _) in self
            .index
            .local()
            .passkeys_of(account)
            .map_err(Error::index(WHAT))?
        {
            let known = self.known_passkey(&credential)?;
            if let Some(wrapped) = known.and_then(|(_, known)| known.wrapped) {
                list.push(WrappedKey {
                    credential,
                    wrapped,
                });
            }
        }
        Ok(list)
    }

    /// Prepares a grant whose keys the patient's browser sealed.
    ///
    /// # Errors
    /// The actor is not the patient, or the envelopes are not those of the grant.
    pub fn draft_own_grant(
        &self,
        actor: &Actor,
        request: &GrantRequest,
        envelopes: &[Vec<u8>],
    ) -> Result<Prepared> {
        let patient = request.patient;
        self.require_decider(actor, patient)?;
        let directory = self.own_directory(patient)?;
        let mut slots = 0;
        for category in &request.categories {
            slots |= own_slot(&directory, *category)?;
        }
        within(envelopes.len())?;
        let mut digests = Vec::new();
        for bytes in envelopes {
            let envelope = decode_envelope(bytes)?;
            let slot = 1_u64.checked_shl(envelope.slot.into()).unwrap_or(0);
            if envelope.log != patient.0 || slots & slot == 0 {
                return Err(Error::Conflict {
                    message: "a key envelope opens something that is not shared".into(),
                });
            }
            digests.extend_from_slice(envelope.digest().as_slice());
        }
        let months = request.months.clone().unwrap_or(ALL_MONTHS);
        let terms = Terms {
            categories: slots,
            permissions: request.permissions,
            purposes: request.purposes.clone(),
            period: request.period,
            records_from: *months.start(),
            records_to: *months.end(),
        };
        let call = grantCall {
            grantee: request.grantee,
            terms: terms.to_abi(),
            envelopeDigest: keccak256(digests),
            request: request.request.unwrap_or(0),
        };
        let with = HandedOver {
            envelopes: to_one(request.grantee, envelopes),
            ..HandedOver::default()
        };
        self.keep_draft(patient, &call, with)
    }

    /// What the browser needs to end a grant: who keeps access to what the ended one could read, with their keys.
    ///
    /// # Errors
    /// The actor is not the patient, or the grant has ended.
    pub fn remaining_after(
        &self,
        actor: &Actor,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<(Vec<Category>, Vec<Grant>)> {
        let ended = self.open_grant(actor, patient, grantee, id)?;
        let directory = self.own_directory(patient)?;
        let now = self.clock.now();
        let reads = |grant: &Grant| grant.terms.permissions.contains(Permissions::READ);
        let mut concerned = Vec::new();
        for category in Category::ALL {
            if reads(&ended) && ended.terms.categories & own_slot(&directory, category)? != 0 {
                concerned.push(category);
            }
        }
        let mut remaining = self.grants_of(actor, patient)?;
        remaining.retain(|grant| {
            grant.is_live(now)
                && reads(grant)
                && grant.terms.categories & ended.terms.categories != 0
                && (grant.grantee, grant.id) != (grantee, id)
        });
        Ok((concerned, remaining))
    }

    /// Prepares the end of a grant: what is written later is sealed to the next generation of keys, whose public half the
    /// patient's browser derived, and which it sealed to who remains.
    ///
    /// # Errors
    /// The actor is not the patient, the grant has ended, or the directory does not fit.
    pub fn draft_own_revoke(
        &self,
        actor: &Actor,
        grantee: Address,
        id: u32,
        directory: &[u8],
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<Prepared> {
        let patient = PatientId(actor.account);
        self.require_decider(actor, patient)?;
        self.open_grant(actor, patient, grantee, id)?;
        let next = self.next_directory(patient, directory)?;
        within(envelopes.len())?;
        let mut kept = Vec::with_capacity(envelopes.len());
        for (to, bytes) in envelopes {
            if decode_envelope(bytes)?.log != patient.0 {
                return Err(Error::Conflict {
                    message: "a key envelope is for another patient's records".into(),
                });
            }
            kept.push((*to, Bytes::copy_from_slice(bytes)));
        }
        let call = revokeCall {
            grantee,
            id,
            directoryRoot: next.root(),
        };
        let with = HandedOver {
            envelopes: kept,
            directory: Some(next.encode().into()),
            ..HandedOver::default()
        };
        self.keep_draft(patient, &call, with)
    }

    /// Keeps a call of a patient who holds the keys, with nothing to hand on beside it, for the passkey to sign.
    pub(crate) fn keep_own_call(
        &self,
        to: Address,
        gas_limit: u64,
        patient: PatientId,
        call: &impl SolCall,
    ) -> Result<(String, AccountCall)> {
        self.keep_call(to, gas_limit, patient, call, HandedOver::default())
    }

    /// A directory that may follow the one that is kept: of the same patient and slots, no generation gone back.
    fn next_directory(&self, patient: PatientId, bytes: &[u8]) -> Result<Directory> {
        let before = self.own_directory(patient)?;
        let next = decode_directory(bytes)?;
        let fits = next.log() == patient.0
            && Category::ALL.into_iter().all(|category| {
                let number = category.number();
                before.slot_of(number).is_some()
                    && before.slot_of(number) == next.slot_of(number)
                    && before.generation(number) <= next.generation(number)
            });
        if fits {
            return Ok(next);
        }
        Err(Error::Conflict {
            message: "the key directory does not follow the one before".into(),
        })
    }

    /// Keeps the directory that a decision published.
    pub(super) async fn keep_directory(&self, bytes: &[u8]) -> Result<()> {
        self.vault
            .keys()
            .add_directory(&decode_directory(bytes)?)
            .await
            .map_err(Error::vault("keeping a key directory"))
    }
}

fn to_one(grantee: Address, envelopes: &[Vec<u8>]) -> Vec<(Address, Bytes)> {
    envelopes
        .iter()
        .map(|bytes| (grantee, Bytes::copy_from_slice(bytes)))
        .collect()
}

fn decode_envelope(bytes: &[u8]) -> Result<KeyGrant> {
    KeyGrant::decode(bytes).map_err(|error| Error::Conflict {
        message: error.to_string(),
    })
}

fn within(envelopes: usize) -> Result<()> {
    if envelopes <= ENVELOPES_MAX {
        return Ok(());
    }
    Err(Error::TooLarge {
        message: format!("at most {ENVELOPES_MAX} key envelopes at once"),
    })
}

/// Whether something can be a wrapped key; what it is only the passkey tells.
pub(super) fn require_wrapped(wrapped: &str) -> Result<()> {
    let is_base64 = wrapped
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    if is_base64 && (1..=WRAPPED_MAX).contains(&wrapped.len()) {
        return Ok(());
    }
    Err(Error::Conflict {
        message: "the wrapped keys are not of the right form".into(),
    })
}

pub(super) fn not_this() -> Error {
    Error::Conflict {
        message: "what was handed over is not what the passkey signed".into(),
    }
}
