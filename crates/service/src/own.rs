//! Patients who keep their own keys: the node relays what they signed, keeps what they publish, and hands out their
//! records sealed. It never has their keys; what opens a record is done where the key file is.

mod claim;
mod handed;
pub(crate) mod sealing;

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, Signature};
use alloy_sol_types::{SolCall as _, SolStruct as _};
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::{
        consent::IConsent::{directoryRootCall, revokeBySigCall},
        identity::IIdentity::speaksForCall,
        typed,
    },
    consent::Permissions,
    id::{CONSENT, IDENTITY, PatientId},
    proof::{Disclosure, RecordProof},
    receipt::AccessAction,
    time::Timestamp,
    tx::Transaction,
};
use stele_fhir::category::Category;
use stele_vault::{
    SealedRecord,
    keys::{Directory, Grant as KeyGrant},
};

use crate::{
    Service,
    error::{Error, Result},
    network::rules::LiveConsent,
    ports::{BlockRef, Call},
    records::read_error,
    session::Actor,
    transactions::{Order, WAIT_MS, refused},
};

/// How old or how far ahead a signed sign-in may be, in milliseconds.
const SIGN_IN_MS: u64 = 120_000;

/// What a key signed to speak for an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignIn {
    /// The account.
    pub account: Address,
    /// Address of the gateway it is meant for.
    pub audience: String,
    /// Random; used once.
    pub id: B256,
    /// When it was signed, in Unix seconds.
    pub issued: u64,
    /// EIP-712 signature, 65 bytes.
    pub signature: Bytes,
}

/// What a patient's own device needs to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnAccount {
    /// The account.
    pub account: Address,
    /// Chain id.
    pub chain_id: u64,
    /// Nonce of the account's next transaction.
    pub nonce: u64,
    /// Nonce of the next grant or revocation signed for somebody else to send.
    pub signature_nonce: u64,
    /// Root of the key directory on the ledger.
    pub directory_root: B256,
    /// The key directory kept here, in base64; absent where none was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

/// A record of a patient as it is handed to the patient: sealed, with the proof of its place on the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnRecord {
    /// What the patient's key opens.
    pub sealed: SealedRecord,
    /// Proof of its leaf; discloses no content.
    pub proof: RecordProof,
}

/// One line of the list of a patient's own records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnEntry {
    /// `Type/id`.
    pub record: String,
    /// Version.
    pub version: u32,
    /// When it changed last.
    pub last_updated: Timestamp,
    /// Part of the record it belongs to.
    pub category: String,
}

/// What a managed patient gets when taking the account over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimOffer {
    /// The account.
    pub account: Address,
    /// The root key so far, sealed to the key that was given; in base64.
    pub root: String,
    /// First key generation that is the patient's own.
    pub from_generation: u32,
    /// Who holds keys and is to get those of the new generation.
    pub grantees: Vec<ClaimGrantee>,
}

/// A grantee of a patient who takes over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimGrantee {
    /// The account.
    pub account: Address,
    /// Its X-Wing public key, in base64.
    pub key: String,
    /// Category slots it may read.
    pub categories: u64,
    /// First month of sealing.
    pub records_from: u16,
    /// Last such month.
    pub records_to: u16,
}

pub use handed::{HandedEntry, HandedPage};
pub use sealing::{Amended, Room, SealedDraft, SealedEntry, SealingOffer, Wanted};

/// Domain of the envelope that a root key travels in.
pub const ROOT_INFO: &[u8] = b"stele/claim/v1";

impl Service {
    /// Checks a sign-in: signed just now, for this gateway, by a key that speaks for an active patient, and not
    /// used before. Gives the patient.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] with what is wrong.
    pub fn sign_in(&self, signed: &SignIn, audience: &str) -> Result<PatientId> {
        const WHAT: &str = "signing in";
        let no = |message: String| Error::NotPermitted { message };
        if signed.audience != audience {
            return Err(no(format!("the sign-in is not meant for {audience}")));
        }
        let (now, issued) = (self.clock.now(), Timestamp::from_seconds(signed.issued));
        if now.0.abs_diff(issued.0) > SIGN_IN_MS {
            return Err(no("the sign-in is too old, or the clocks differ".into()));
        }
        let typed = typed::SignIn {
            account: signed.account,
            audience: signed.audience.clone(),
            id: signed.id,
            issued: alloy_primitives::aliases::U40::saturating_from(signed.issued),
        };
        let domain = typed::sign_in_domain(self.ledger.facts().chain_id);
        let hash = typed.eip712_signing_hash(&domain);
        let signer = Signature::from_raw(&signed.signature)
            .and_then(|signature| signature.recover_address_from_prehash(&hash))
            .map_err(|_| no("the sign-in's signature can't be read".into()))?;
        let call = speaksForCall {
            who: signed.account,
            keyId: signer.into_word(),
        };
        let output = self.view(WHAT, IDENTITY, call.abi_encode())?;
        let speaks = speaksForCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        let is_patient = self
            .account(signed.account)?
            .is_some_and(|account| account.kind == 3 && account.active);
        if !(speaks.ok && speaks.kind == 0 && is_patient) {
            return Err(no(format!(
                "the key does not speak for {}, or that is no active patient",
                signed.account
            )));
        }
        let fresh = self
            .index
            .local()
            .use_assertion(
                "own-key",
                &signed.id.to_string(),
                issued.plus_ms(2 * SIGN_IN_MS),
                now,
            )
            .map_err(Error::index(WHAT))?;
        if fresh {
            Ok(PatientId(signed.account))
        } else {
            Err(no("the sign-in was used before".into()))
        }
    }

    /// What the patient's device needs to sign. For the patient alone.
    ///
    /// # Errors
    /// The actor is no patient.
    pub fn own_account(&self, actor: &Actor) -> Result<OwnAccount> {
        const WHAT: &str = "reading an own account";
        let patient = own(actor)?;
        let call = directoryRootCall { patient: patient.0 };
        let output = self.view(WHAT, CONSENT, call.abi_encode())?;
        let directory_root = directoryRootCall::abi_decode_returns(&output)
            .map_err(|error| Error::internal(WHAT, error))?;
        let (_, nonce, _) = self
            .ledger
            .account(patient.0, BlockRef::Pending)
            .map_err(Error::ledger(WHAT))?;
        let directory = self
            .vault
            .keys()
            .directory(patient.0)
            .map_err(Error::vault(WHAT))?;
        Ok(OwnAccount {
            account: patient.0,
            chain_id: self.ledger.facts().chain_id,
            nonce,
            signature_nonce: self.signature_nonce(patient)?,
            directory_root,
            directory: directory.map(|directory| base64(&directory.encode())),
        })
    }

    /// The patient's own records, newest versions, a page at a time.
    ///
    /// # Errors
    /// The actor is no patient; a cursor of another list.
    pub async fn own_records(
        &self,
        actor: &Actor,
        cursor: Option<&str>,
    ) -> Result<(Vec<OwnEntry>, Option<String>)> {
        let patient = own(actor)?;
        let page = self
            .index
            .search()
            .everything(
                patient,
                None,
                cursor,
                crate::records::COUNT_MAX,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(crate::records::index_error("listing own records"))?;
        let mut records = Vec::with_capacity(page.matches.len());
        let mut slots = 0_u64;
        let entries = page
            .matches
            .iter()
            .map(|found| {
                let place = &found.placement;
                slots |= 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
                records.push((place.record, found.version));
                OwnEntry {
                    record: format!("{}/{}", found.resource_type, found.id),
                    version: found.version,
                    last_updated: found.last_updated,
                    category: Category::from_number(place.category)
                        .map_or("other", Category::name)
                        .to_owned(),
                }
            })
            .collect();
        if !records.is_empty() {
            let receipt = self.receipt(actor, patient.0, AccessAction::Search, slots, &records);
            self.write_receipt(receipt, &records).await?;
        }
        Ok((entries, page.next))
    }

    /// One of the patient's own records, sealed, with the pepper the custodian releases for it and the proof of
    /// its leaf. The receipt is written first, as for every reading.
    ///
    /// # Errors
    /// As for [`Service::read`].
    pub async fn own_record(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
    ) -> Result<OwnRecord> {
        const WHAT: &str = "handing out an own record";
        let patient = own(actor)?;
        let found = self
            .index
            .search()
            .read(
                resource_type,
                id,
                version,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(Error::index(WHAT))?
            .filter(|found| found.placement.log == patient.0);
        let Some(found) = found else {
            self.refuse_hidden(actor, resource_type, id).await?;
            return Err(Error::not_found(resource_type, id));
        };
        if found.deleted {
            return Err(Error::Gone {
                resource: format!("{resource_type}/{id}"),
            });
        }
        let place = &found.placement;
        let records = [(place.record, found.version)];
        let slot = 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
        let receipt = self.receipt(actor, place.log, AccessAction::Read, slot, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let (service, actor, version) = (Arc::clone(self), actor.clone(), found.clone());
        let (meta, pepper, proof) = tokio::task::spawn_blocking(move || {
            let meta = service.checked_meta(&version)?;
            let consent = LiveConsent::new(&*service, &actor)?;
            let pepper = service
                .pepper_of(&actor, &meta, &consent, &receipt)
                .map_err(|error| read_error(&version, error))?;
            service.released.forget(std::iter::once(&receipt));
            let proof = service.record_proof(&version, &meta, Disclosure::Nothing)?;
            Ok::<_, Error>((meta, pepper, proof))
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))??;
        let sealed = self
            .vault
            .sealed_record(&meta, &pepper)
            .await
            .map_err(|error| read_error(&found, error))?;
        Ok(OwnRecord { sealed, proof })
    }

    /// Relays the end of a grant that a patient signed (EIP-712), and keeps what goes with it: the directory of
    /// the new key generations, and their keys sealed to who remains.
    ///
    /// # Errors
    /// The directory is not the one the signature names, or the ledger refuses.
    pub async fn relay_revoke(
        &self,
        revoke: revokeBySigCall,
        directory: &[u8],
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<(B256, u64)> {
        const WHAT: &str = "relaying the end of a grant";
        let directory = decode_directory(directory)?;
        if directory.log() != revoke.patient || directory.root() != revoke.directoryRoot {
            return Err(Error::Conflict {
                message: "the key directory is not the one the signature names".into(),
            });
        }
        let patient = PatientId(revoke.patient);
        let (grantee, id) = (revoke.grantee, revoke.id);
        let order = Order::new(CONSENT, &revoke, 600_000);
        let receipt = self
            .transactions
            .settle(WHAT, self.organization.0, order)
            .await?;
        let keys = self.vault.keys();
        keys.add_directory(&directory)
            .await
            .map_err(Error::vault(WHAT))?;
        self.keep_envelopes(WHAT, patient, envelopes).await?;
        self.forget_ended(patient, grantee, id).await?;
        self.vault.clear_cached_keys();
        Ok((receipt.hash, receipt.position.height))
    }

    /// Keeps key envelopes that a patient sealed to grantees.
    pub(crate) async fn keep_envelopes(
        &self,
        what: &'static str,
        patient: PatientId,
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<()> {
        let mut received: BTreeMap<Address, Vec<KeyGrant>> = BTreeMap::new();
        for (grantee, bytes) in envelopes {
            let envelope = KeyGrant::decode(bytes).map_err(|error| malformed(&error))?;
            if envelope.log != patient.0 {
                return Err(Error::Conflict {
                    message: "a key envelope is for another patient's records".into(),
                });
            }
            received.entry(*grantee).or_default().push(envelope);
        }
        for (grantee, envelopes) in &received {
            self.vault
                .keys()
                .add_grants(*grantee, envelopes)
                .await
                .map_err(Error::vault(what))?;
        }
        Ok(())
    }

    /// Forgets the keys of an ended grant, unless another live one of the same grantee needs them.
    pub(crate) async fn forget_ended(
        &self,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<()> {
        const WHAT: &str = "forgetting the keys of an ended grant";
        let grants = self
            .index
            .chain()
            .grants_of(patient)
            .map_err(Error::index(WHAT))?;
        let now = self.clock.now();
        let of = |wanted: bool| {
            grants
                .iter()
                .filter(move |grant| grant.grantee == grantee && (grant.id == id) == wanted)
        };
        let ended = of(true).fold(0, |slots, grant| slots | grant.terms.categories);
        let kept = of(false)
            .filter(|grant| {
                grant.is_live(now) && grant.terms.permissions.contains(Permissions::READ)
            })
            .fold(0_u64, |slots, grant| slots | grant.terms.categories);
        for slot in 0..stele_core::consent::SLOTS {
            if (ended & !kept) >> slot & 1 == 1 {
                self.vault
                    .keys()
                    .remove_grants(grantee, patient.0, slot)
                    .await
                    .map_err(Error::vault(WHAT))?;
            }
        }
        Ok(())
    }

    /// Relays a transaction that a patient signed, and waits for it.
    ///
    /// # Errors
    /// It is another sender's, or the ledger refuses.
    pub async fn relay_transaction(&self, actor: &Actor, signed: Bytes) -> Result<(B256, u64)> {
        let patient = own(actor)?;
        self.relay(patient.0, signed).await
    }

    /// As [`Self::relay_transaction`], for any account of this node.
    pub(crate) async fn relay(&self, account: Address, signed: Bytes) -> Result<(B256, u64)> {
        const WHAT: &str = "relaying a transaction";
        let conflict = |message: String| Error::Conflict { message };
        let recovered = Transaction::decode(&signed)
            .and_then(|transaction| transaction.recover(self.ledger.facts().chain_id))
            .map_err(|error| conflict(error.to_string()))?;
        if recovered.sender != account {
            return Err(conflict(format!("the transaction is not {account}'s")));
        }
        let hash = self
            .ledger
            .submit(signed)
            .await
            .map_err(Error::ledger(WHAT))?;
        let receipt = self
            .ledger
            .wait(hash, WAIT_MS)
            .await
            .map_err(Error::ledger(WHAT))?;
        if receipt.receipt.success {
            return Ok((hash, receipt.position.height));
        }
        let call = Call {
            from: account,
            to: receipt.to,
            input: recovered.transaction.input().clone(),
            gas: Some(recovered.transaction.gas_limit()),
            ..Call::default()
        };
        match self.ledger.call(&call, BlockRef::Latest) {
            Err(source) => Err(refused(WHAT, source)),
            Ok(_) => Err(conflict("the ledger refused it; try again".into())),
        }
    }

    /// Whether a patient holds the keys: registered here, and no root key of theirs is kept.
    ///
    /// # Errors
    /// The vault fails.
    pub fn holds_own_keys(&self, patient: PatientId) -> Result<bool> {
        self.vault
            .keys()
            .manages(patient.0)
            .map(|managed| !managed)
            .map_err(Error::vault("asking for a key"))
    }

    /// The key directory of a patient who holds the keys, as it is kept here.
    pub(crate) fn own_directory(&self, patient: PatientId) -> Result<Directory> {
        self.vault
            .keys()
            .directory(patient.0)
            .map_err(Error::vault("reading a key directory"))?
            .ok_or_else(|| Error::not_found("key directory", &patient.to_string()))
    }
}

/// The slot of a category in a directory, as a bit.
pub(crate) fn own_slot(directory: &Directory, category: Category) -> Result<u64> {
    directory
        .slot_of(category.number())
        .and_then(|slot| 1_u64.checked_shl(slot.into()))
        .ok_or_else(|| Error::Conflict {
            message: "the key directory lacks a category".into(),
        })
}

/// The patient that an actor is.
pub(crate) fn own(actor: &Actor) -> Result<PatientId> {
    if actor.is_patient(actor.account) {
        return Ok(PatientId(actor.account));
    }
    Err(Error::NotPermitted {
        message: "only patients themselves do this; sign in with the patient's key file".into(),
    })
}

pub(crate) fn decode_directory(bytes: &[u8]) -> Result<Directory> {
    Directory::decode(bytes).map_err(|error| malformed(&error))
}

fn malformed(error: &stele_vault::Error) -> Error {
    Error::Conflict {
        message: error.to_string(),
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}
