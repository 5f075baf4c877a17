//! Passkeys: made, used to sign in, listed, removed. The ledger says which keys speak for an account; the local store
//! keeps what a sign-in needs to know of each.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::identity::IIdentity::{
        addKeyCall, allowOriginCall, originAllowedCall, removeKeyCall, speaksForCall,
    },
    crypto::webauthn::{self, Assertion, Registered, Verified},
    id::{IDENTITY, OrganizationId},
    time::Timestamp,
};

use super::{Person, Site, refused_passkey};
use crate::{
    Service,
    error::{Error, Result},
    transactions::Order,
};

/// Passkeys of one account. A person has a few devices.
const PASSKEYS_MAX: usize = 16;
/// Longest name of a passkey, in characters.
const LABEL_MAX: usize = 60;

/// What an authenticator returned when a passkey was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPasskey {
    /// `clientDataJSON`.
    pub client_data: Bytes,
    /// `authenticatorData`.
    pub authenticator_data: Bytes,
    /// What its owner calls it.
    pub label: String,
}

/// What an authenticator returned when a passkey was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyUse {
    /// Credential id.
    pub credential: Bytes,
    /// `clientDataJSON`.
    pub client_data: Bytes,
    /// `authenticatorData`.
    pub authenticator_data: Bytes,
    /// `r` and `s`, big-endian, 64 bytes.
    pub signature: Bytes,
}

/// What is known of a passkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Known {
    pub(crate) x: B256,
    pub(crate) y: B256,
    label: String,
    added: Timestamp,
    used: Option<Timestamp>,
    sign_count: u32,
    /// The keys of a patient who holds them, wrapped under what only this passkey gives; in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wrapped: Option<String>,
}

impl Known {
    /// The id of the key in `Identity`.
    pub(super) fn key_id(&self) -> B256 {
        webauthn::key_id_of(&self.x, &self.y)
    }

    /// What is kept of a passkey that was just made.
    pub(crate) fn new(made: &Registered, label: &str, now: Timestamp) -> Self {
        let label: String = label.trim().chars().take(LABEL_MAX).collect();
        Self {
            x: made.x,
            y: made.y,
            label: if label.is_empty() {
                "Passkey".into()
            } else {
                label
            },
            added: now,
            used: None,
            sign_count: made.verified.sign_count,
            wrapped: None,
        }
    }

    /// The call that makes it a key of the account that sends it.
    fn added_by(&self, site: &Site) -> addKeyCall {
        addKeyCall {
            keyId: self.key_id(),
            kind: 1,
            rpIdHash: webauthn::rp_id_hash(site.rp_id()),
        }
    }

    /// Holds a sign-in against this key, and notes its use.
    pub(super) fn check_sign_in(
        &mut self,
        site: &Site,
        challenge: &[u8; 32],
        passkey: &PasskeyUse,
        now: Timestamp,
    ) -> Result<Verified> {
        let assertion = passkey.assertion(self)?;
        let verified =
            webauthn::verify(&assertion, challenge).map_err(|error| refused_passkey(&error))?;
        site.require(&verified)?;
        // A counter that stands still is the mark of a copied authenticator; most passkeys keep none.
        if self.sign_count > 0 && verified.sign_count <= self.sign_count {
            return Err(Error::NotPermitted {
                message: "This passkey seems to have been copied. Use another one and remove it."
                    .into(),
            });
        }
        self.sign_count = verified.sign_count;
        self.used = Some(now);
        Ok(verified)
    }
}

/// Holds a new passkey against the challenge and the site it was made for.
pub(super) fn checked(
    site: &Site,
    challenge: &[u8; 32],
    passkey: &NewPasskey,
) -> Result<Registered> {
    let new = webauthn::registered(&passkey.client_data, &passkey.authenticator_data, challenge)
        .map_err(|error| refused_passkey(&error))?;
    site.require(&new.verified)?;
    Ok(new)
}

/// A passkey as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyView {
    /// Credential id.
    pub credential: Vec<u8>,
    /// What its owner calls it.
    pub label: String,
    /// When it was made.
    pub added: Timestamp,
    /// When it was last used to sign in.
    pub used: Option<Timestamp>,
}

impl PasskeyUse {
    /// The assertion of a known key; `s` is brought to its low form.
    pub(crate) fn assertion(&self, known: &Known) -> Result<Assertion> {
        let malformed = || Error::NotPermitted {
            message: "the passkey's signature is malformed".into(),
        };
        let (r, s) = self
            .signature
            .split_first_chunk::<32>()
            .ok_or_else(malformed)?;
        let s: &[u8; 32] = s.try_into().map_err(|_| malformed())?;
        Ok(Assertion {
            authenticator_data: self.authenticator_data.clone(),
            client_data_json: self.client_data.clone(),
            r: B256::new(*r),
            s: B256::new(webauthn::low_s(s)),
            x: known.x,
            y: known.y,
        })
    }
}

impl Service {
    /// The challenge of a sign-in or of a new passkey, from 32 random bytes. It can never be a transaction's hash.
    #[must_use]
    pub fn sign_in_challenge(&self, random: &[u8; 32]) -> [u8; 32] {
        webauthn::sign_in_challenge(self.ledger.facts().chain_id, random)
    }

    /// Adds a passkey to an account whose key this node keeps: on the ledger it speaks for the account from then on.
    ///
    /// # Errors
    /// It does not answer the challenge, belongs elsewhere, or the ledger refuses.
    pub async fn add_passkey(
        &self,
        site: &Site,
        person: &Person,
        challenge: &[u8; 32],
        passkey: &NewPasskey,
    ) -> Result<()> {
        let (_, credential, known) = self.new_passkey(site, person, challenge, passkey)?;
        let whose = (person.account, person.organization);
        self.bind_passkey(site, whose, &credential, &known).await
    }

    /// Checks a new passkey; gives the call that adds it, its credential id, and what is kept of it.
    pub(super) fn new_passkey(
        &self,
        site: &Site,
        person: &Person,
        challenge: &[u8; 32],
        passkey: &NewPasskey,
    ) -> Result<(addKeyCall, Vec<u8>, Known)> {
        let new = checked(site, challenge, passkey)?;
        let before = self
            .index
            .local()
            .passkeys_of(person.account)
            .map_err(Error::index("adding a passkey"))?;
        if before.len() >= PASSKEYS_MAX {
            return Err(Error::Conflict {
                message: format!(
                    "An account has at most {PASSKEYS_MAX} passkeys. Remove one first."
                ),
            });
        }
        let known = Known::new(&new, &passkey.label, self.clock.now());
        Ok((known.added_by(site), new.credential, known))
    }

    /// Makes a passkey that was checked a key of an account whose own key is here, and its way to sign in.
    pub(super) async fn bind_passkey(
        &self,
        site: &Site,
        (account, organization): (Address, OrganizationId),
        credential: &[u8],
        known: &Known,
    ) -> Result<()> {
        const WHAT: &str = "adding a passkey";
        self.allow_origin(site, organization).await?;
        let ask = speaksForCall {
            who: account,
            keyId: known.key_id(),
        };
        let output = self.view(WHAT, IDENTITY, ask.abi_encode())?;
        let speaks = speaksForCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        // It speaks already where an earlier attempt was cut off after this step.
        let added = if speaks.ok {
            None
        } else {
            let order = Order::new(IDENTITY, &known.added_by(site), 300_000);
            Some(self.transactions.settle(WHAT, account, order).await?)
        };
        self.keep_passkey(account, credential, known)?;
        // Only who signs in here is told of anything, and by a first passkey somebody does only now, after its block.
        if let Some(receipt) = added
            && let Err(error) = self.look_at(&receipt)
        {
            tracing::error!(error = &error as &dyn std::error::Error, "notices.first");
        }
        Ok(())
    }

    /// Keeps what a sign-in needs to know of a new passkey.
    pub(super) fn keep_passkey(
        &self,
        account: Address,
        credential: &[u8],
        known: &Known,
    ) -> Result<()> {
        const WHAT: &str = "keeping a passkey";
        let document = serde_json::to_vec(known).map_err(|e| Error::internal(WHAT, e))?;
        let kept = self
            .index
            .local()
            .add_passkey(credential, account, &document)
            .map_err(Error::index(WHAT))?;
        if kept {
            return Ok(());
        }
        Err(Error::Conflict {
            message: "This passkey is already in use. Choose another device.".into(),
        })
    }

    /// Sees to it that passkeys used on the portal's page sign for accounts of an organisation hosted here.
    async fn allow_origin(&self, site: &Site, organization: OrganizationId) -> Result<()> {
        const WHAT: &str = "allowing the portal's address";
        let (_, digest) = site.allowed();
        let ask = originAllowedCall {
            organization_: organization.0,
            originDigest: digest,
        };
        let output = self.view(WHAT, IDENTITY, ask.abi_encode())?;
        let allowed = originAllowedCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        if allowed {
            return Ok(());
        }
        let allow = allowOriginCall {
            originDigest: digest,
            allowed: true,
        };
        self.transactions
            .settle(WHAT, organization.0, Order::new(IDENTITY, &allow, 300_000))
            .await
            .map(drop)
    }

    /// Checks a sign-in and gives the person. `random` is what the challenge was made from.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] with what is wrong.
    pub fn sign_in_with_passkey(
        &self,
        site: &Site,
        random: &[u8; 32],
        passkey: &PasskeyUse,
    ) -> Result<Person> {
        const WHAT: &str = "signing in";
        let no = |message: &str| Error::NotPermitted {
            message: message.to_owned(),
        };
        let (account, mut known) = self.known_passkey(&passkey.credential)?.ok_or_else(|| {
            no("This passkey is not known here. Use another one, or ask for an invitation code.")
        })?;
        let challenge = self.sign_in_challenge(random);
        let verified = known.check_sign_in(site, &challenge, passkey, self.clock.now())?;
        let ask = speaksForCall {
            who: account,
            keyId: known.key_id(),
        };
        let output = self.view(WHAT, IDENTITY, ask.abi_encode())?;
        let speaks = speaksForCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        if !(speaks.ok && speaks.kind == 1 && speaks.rpIdHash == verified.rp_id_hash) {
            return Err(no("This passkey was removed from the account."));
        }
        let person = self
            .person(account)?
            .ok_or_else(|| no("This account is suspended. Ask your organisation."))?;
        let document = serde_json::to_vec(&known).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .update_passkey(&passkey.credential, &document)
            .map_err(Error::index(WHAT))?;
        Ok(person)
    }

    /// An account's passkeys, oldest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn passkeys(&self, account: Address) -> Result<Vec<PasskeyView>> {
        const WHAT: &str = "listing passkeys";
        let mut list = Vec::new();
        for (credential, document) in self
            .index
            .local()
            .passkeys_of(account)
            .map_err(Error::index(WHAT))?
        {
            let known: Known =
                serde_json::from_slice(&document).map_err(|e| Error::internal(WHAT, e))?;
            list.push(PasskeyView {
                credential,
                label: known.label,
                added: known.added,
                used: known.used,
            });
        }
        list.sort_by_key(|one| one.added);
        Ok(list)
    }

    /// Removes a passkey: from its block on it speaks for the account no more. Never the last one.
    ///
    /// # Errors
    /// It is not one of the person's, the last one, or the ledger refuses.
    pub async fn remove_passkey(&self, person: &Person, credential: &[u8]) -> Result<()> {
        const WHAT: &str = "removing a passkey";
        let known = self.known_passkey(credential)?;
        let (_, known) = known
            .filter(|(account, _)| *account == person.account)
            .ok_or_else(|| Error::not_found("passkey", "of this account"))?;
        let all = self
            .index
            .local()
            .passkeys_of(person.account)
            .map_err(Error::index(WHAT))?;
        if all.len() < 2 {
            return Err(Error::Conflict {
                message: "This is your only passkey. Add another one first.".into(),
            });
        }
        let remove = removeKeyCall {
            keyId: known.key_id(),
        };
        self.transactions
            .settle(WHAT, person.account, Order::new(IDENTITY, &remove, 300_000))
            .await?;
        self.index
            .local()
            .remove_passkey(credential, person.account)
            .map_err(Error::index(WHAT))
            .map(drop)
    }

    pub(crate) fn known_passkey(&self, credential: &[u8]) -> Result<Option<(Address, Known)>> {
        const WHAT: &str = "finding a passkey";
        self.index
            .local()
            .passkey(credential)
            .map_err(Error::index(WHAT))?
            .map(|(account, document)| {
                serde_json::from_slice(&document)
                    .map(|known| (account, known))
                    .map_err(|e| Error::internal(WHAT, e))
            })
            .transpose()
    }
}
