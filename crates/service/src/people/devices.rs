//! Passkeys of a patient who holds the keys: another one is added, or a lost one removed, by a transaction that one of the
//! patient's passkeys signs. The node has no key that could do it.

use alloy_sol_types::SolCall as _;
use stele_core::{
    abi::identity::IIdentity::removeKeyCall,
    id::{IDENTITY, PatientId},
};

use super::{
    NewPasskey, PasskeyUse, Person, Site, ToSign,
    drafts::{HandedOver, NewKey},
    own_keys::{not_this, require_wrapped},
};
use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

const KEY_GAS: u64 = 300_000;

impl Service {
    /// Prepares adding a passkey, for one that the account has.
    ///
    /// # Errors
    /// It does not answer the challenge, belongs elsewhere, or the account has too many.
    pub fn draft_own_passkey(
        &self,
        site: &Site,
        person: &Person,
        challenge: &[u8; 32],
        passkey: &NewPasskey,
    ) -> Result<ToSign> {
        let (add, credential, known) = self.new_passkey(site, person, challenge, passkey)?;
        let with = HandedOver {
            passkey: Some(NewKey {
                credential: credential.into(),
                known,
            }),
            ..HandedOver::default()
        };
        let patient = PatientId(person.account);
        let (id, call) = self.keep_call(IDENTITY, KEY_GAS, patient, &add, with)?;
        Ok(ToSign {
            id,
            challenge: call.signing_hash(),
        })
    }

    /// Carries the addition that one of the account's passkeys signed, and keeps the patient's keys wrapped for the new
    /// one.
    ///
    /// # Errors
    /// The draft ended or adds nothing, or the ledger refuses.
    pub async fn confirm_own_passkey(
        &self,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
        wrapped: &str,
    ) -> Result<()> {
        let (call, with) = self.read_draft(actor, id)?;
        let mut new = with.passkey.ok_or_else(not_this)?;
        require_wrapped(wrapped)?;
        new.known.wrapped = Some(wrapped.to_owned());
        self.send_signed(actor, call, passkey).await?;
        self.keep_passkey(actor.account, &new.credential, &new.known)?;
        self.end_draft(id)
    }

    /// Prepares the removal of a passkey, for another one of the account.
    ///
    /// # Errors
    /// It is not one of the account's, or the only one.
    pub fn draft_removal(&self, actor: &Actor, credential: &[u8]) -> Result<String> {
        let (_, known) = self
            .known_passkey(credential)?
            .filter(|(owner, _)| *owner == actor.account)
            .ok_or_else(|| Error::not_found("passkey", "of this account"))?;
        if self.wrapped_keys(actor.account)?.len() < 2 {
            return Err(Error::Conflict {
                message: "This is the only passkey that opens your record. Add another one first."
                    .into(),
            });
        }
        let call = removeKeyCall {
            keyId: known.key_id(),
        };
        let patient = PatientId(actor.account);
        let with = HandedOver::default();
        let (id, _) = self.keep_call(IDENTITY, KEY_GAS, patient, &call, with)?;
        Ok(id)
    }

    /// What the removal of a draft removes, read from the transaction: the passkey's name and credential id, and what is to
    /// be signed.
    ///
    /// # Errors
    /// The draft ended, or removes nothing of the account's.
    pub fn removal(&self, actor: &Actor, id: &str) -> Result<(ToSign, String, Vec<u8>)> {
        let (call, _) = self.read_draft(actor, id)?;
        let remove = removeKeyCall::abi_decode(&call.input)
            .ok()
            .filter(|_| call.to == IDENTITY)
            .ok_or_else(not_this)?;
        for view in self.passkeys(actor.account)? {
            let known = self.known_passkey(&view.credential)?;
            if known.is_some_and(|(_, known)| known.key_id() == remove.keyId) {
                let to_sign = ToSign {
                    id: id.to_owned(),
                    challenge: call.signing_hash(),
                };
                return Ok((to_sign, view.label, view.credential));
            }
        }
        Err(Error::not_found("passkey", "of this account"))
    }

    /// Carries the removal that another passkey signed: from its block on the removed one signs nothing, and the keys that
    /// were wrapped for it are forgotten.
    ///
    /// # Errors
    /// The draft ended, or the ledger refuses.
    pub async fn confirm_removal(
        &self,
        actor: &Actor,
        id: &str,
        passkey: &PasskeyUse,
    ) -> Result<()> {
        let (_, _, credential) = self.removal(actor, id)?;
        let (call, _) = self.read_draft(actor, id)?;
        self.send_signed(actor, call, passkey).await?;
        self.index
            .local()
            .remove_passkey(&credential, actor.account)
            .map_err(Error::index("removing a passkey"))?;
        self.end_draft(id)
    }
}
