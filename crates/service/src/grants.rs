//! Consent: a patient lets somebody see or add, changes their mind, answers requests.

use std::ops::RangeInclusive;

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolStruct as _;
use stele_core::{
    abi::{
        consent::IConsent::{declineCall, grantBySigCall, grantCall, requestCall, revokeCall},
        typed,
    },
    account::AccountKey,
    consent::{Period, Permissions, Purpose, Terms},
    id::{CONSENT, PatientId},
    time::Timestamp,
};
use stele_fhir::category::Category;
pub use stele_index::grants::{AccessRequest, Grant, RequestStatus};

use crate::{
    Service,
    directory::{ALL_MONTHS, envelopes_digest, slots_of},
    error::{Error, Result},
    network::rules::Standing,
    own::own_slot,
    ports::ReceiptView,
    session::{Actor, ActorKind},
    transactions::Order,
};

/// What a patient grants.
#[derive(Clone, Debug)]
pub struct GrantRequest {
    /// The patient.
    pub patient: PatientId,
    /// Who gets access.
    pub grantee: Address,
    /// Which parts of the record.
    pub categories: Vec<Category>,
    /// See, add, share.
    pub permissions: Permissions,
    /// For which purposes.
    pub purposes: Vec<Purpose>,
    /// When it may be used.
    pub period: Period,
    /// Which months of sealing it opens; all when absent.
    pub months: Option<RangeInclusive<u16>>,
    /// The request it answers.
    pub request: Option<u32>,
}

/// What somebody asks a patient for, in words and terms. Stays off chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestDetails {
    /// Why, for the patient to read.
    pub reason: String,
    /// Names of the categories asked for; the patient chooses when there are none.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Names of the permissions asked for.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Purposes of use.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// Random, so that the digest on the ledger can't be guessed.
    pub salt: B256,
}

/// A grant on the ledger.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// Its number for this patient and grantee.
    pub id: u32,
    /// The transaction that recorded it.
    pub transaction: B256,
    /// Height of its block.
    pub height: u64,
    /// What it says, rendered from the recorded terms.
    pub sentence: String,
}

impl Service {
    /// Records a grant. The patient decides; for a managed patient staff and systems of the organisation that
    /// registered the patient record the decision.
    ///
    /// # Errors
    /// The actor may not decide for this patient, or the ledger refuses the terms.
    pub async fn grant(&self, actor: &Actor, request: GrantRequest) -> Result<Granted> {
        const WHAT: &str = "a grant";
        self.require_decider(actor, request.patient)?;
        let (call, envelopes) = self.grant_call(&request).await?;
        // Keys are handed over before the grant is final: they open nothing without the custodian, who asks
        // the ledger. A crash between the two leaves keys that nobody can use.
        if !envelopes.is_empty() {
            self.vault
                .keys()
                .keep_grants(request.grantee, &envelopes)
                .await
                .map_err(Error::vault(WHAT))?;
        }
        let terms = Terms::from_abi(&call.terms);
        let receipt = self
            .transactions
            .settle(WHAT, request.patient.0, Order::new(CONSENT, &call, 500_000))
            .await?;
        let id = consent_number(&receipt)
            .ok_or_else(|| Error::internal(WHAT, "the ledger recorded no grant"))?;
        let words: Vec<&str> = request.categories.iter().map(|c| c.plain_name()).collect();
        Ok(Granted {
            id,
            transaction: receipt.hash,
            height: receipt.position.height,
            sentence: terms.sentence(&request.grantee.to_string(), &words),
        })
    }

    /// The call that records a grant of a managed patient, and the keys that are handed over with it.
    pub(crate) async fn grant_call(
        &self,
        request: &GrantRequest,
    ) -> Result<(grantCall, Vec<stele_vault::keys::Grant>)> {
        let root = self.managed_root(request.patient)?;
        let months = request.months.clone().unwrap_or(ALL_MONTHS);
        let terms = Terms {
            categories: slots_of(&root, &request.categories)?,
            permissions: request.permissions,
            purposes: request.purposes.clone(),
            period: request.period,
            records_from: *months.start(),
            records_to: *months.end(),
        };
        let mut envelopes = Vec::new();
        if request.permissions.contains(Permissions::READ) {
            let (patient, grantee) = (request.patient, request.grantee);
            envelopes = self
                .seal_keys(patient, grantee, &request.categories, months)
                .await?;
        }
        let call = grantCall {
            grantee: request.grantee,
            terms: terms.to_abi(),
            envelopeDigest: envelopes_digest(&envelopes),
            request: request.request.unwrap_or(0),
        };
        Ok((call, envelopes))
    }

    /// Ends a grant. It refuses from its block on; records written later are sealed to a new generation of keys,
    /// which the remaining grantees of the same categories receive.
    ///
    /// # Errors
    /// The actor may not decide for this patient, or there is no such grant.
    pub async fn revoke(
        &self,
        actor: &Actor,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<(B256, u64)> {
        const WHAT: &str = "ending a grant";
        self.require_decider(actor, patient)?;
        let call = revokeCall {
            grantee,
            id,
            directoryRoot: B256::ZERO,
        };
        let receipt = self
            .transactions
            .settle(WHAT, patient.0, Order::new(CONSENT, &call, 500_000))
            .await?;
        self.renew_keys(patient, grantee, id).await?;
        Ok((receipt.hash, receipt.position.height))
    }

    /// Starts the next generation of the categories of an ended grant and seals it to who remains.
    pub(crate) async fn renew_keys(
        &self,
        patient: PatientId,
        grantee: Address,
        id: u32,
    ) -> Result<()> {
        const WHAT: &str = "renewing a patient's keys";
        let root = self.managed_root(patient)?;
        let now = self.clock.now();
        let grants = self
            .index
            .chain()
            .grants_of(patient)
            .map_err(Error::index(WHAT))?;
        let Some(ended) = grants.iter().find(|g| g.grantee == grantee && g.id == id) else {
            return Ok(());
        };
        let keys = self.vault.keys();
        for category in Category::ALL {
            let slot = slots_of(&root, &[category])?;
            if ended.terms.categories & slot == 0
                || !ended.terms.permissions.contains(Permissions::READ)
            {
                continue;
            }
            keys.next_generation(patient.0, category.number())
                .await
                .map_err(Error::vault(WHAT))?;
            let remaining = grants.iter().filter(|g| {
                g.is_live(now)
                    && g.terms.categories & slot != 0
                    && g.terms.permissions.contains(Permissions::READ)
            });
            let mut kept_by_ended = false;
            for grant in remaining {
                kept_by_ended |= grant.grantee == grantee;
                let months = grant.terms.records_from..=grant.terms.records_to;
                let sealed = self
                    .seal_keys(patient, grant.grantee, &[category], months)
                    .await?;
                keys.keep_grants(grant.grantee, &sealed)
                    .await
                    .map_err(Error::vault(WHAT))?;
            }
            if !kept_by_ended {
                let slot = root
                    .slot_of(category.number())
                    .map_err(Error::vault(WHAT))?;
                keys.remove_grants(grantee, patient.0, slot)
                    .await
                    .map_err(Error::vault(WHAT))?;
            }
        }
        self.vault.clear_cached_keys();
        Ok(())
    }

    /// Asks a patient for access. What is asked for stays off chain, here; its digest is recorded.
    ///
    /// # Errors
    /// The ledger refuses.
    pub async fn request_access(
        &self,
        actor: &Actor,
        patient: PatientId,
        details: &RequestDetails,
        expires: Timestamp,
    ) -> Result<u32> {
        const WHAT: &str = "a request for access";
        let document = serde_json::to_vec(details).map_err(|e| Error::internal(WHAT, e))?;
        let details_digest = keccak256(&document);
        self.index
            .local()
            .put_session(&details_digest, &document, expires)
            .map_err(Error::index(WHAT))?;
        let call = requestCall {
            patient: patient.0,
            detailsDigest: details_digest,
            expires: alloy_primitives::aliases::U40::saturating_from(expires.seconds()),
        };
        let receipt = self
            .transactions
            .settle(WHAT, actor.account, Order::new(CONSENT, &call, 500_000))
            .await?;
        consent_number(&receipt)
            .ok_or_else(|| Error::internal(WHAT, "the ledger recorded no request"))
    }

    /// Declines a request.
    ///
    /// # Errors
    /// The actor may not decide for this patient, or there is no such open request.
    pub async fn decline(&self, actor: &Actor, patient: PatientId, request: u32) -> Result<B256> {
        const WHAT: &str = "declining a request";
        self.require_decider(actor, patient)?;
        let call = declineCall { request };
        let receipt = self
            .transactions
            .settle(WHAT, patient.0, Order::new(CONSENT, &call, 300_000))
            .await?;
        Ok(receipt.hash)
    }

    /// All grants of a patient, ended ones too. For the patient and those who may decide for them.
    ///
    /// # Errors
    /// The actor may not see them.
    pub fn grants_of(&self, actor: &Actor, patient: PatientId) -> Result<Vec<Grant>> {
        self.require_decider(actor, patient)?;
        self.index
            .chain()
            .grants_of(patient)
            .map_err(Error::index("listing grants"))
    }

    /// All requests made to a patient.
    ///
    /// # Errors
    /// The actor may not see them.
    pub fn requests_of(&self, actor: &Actor, patient: PatientId) -> Result<Vec<AccessRequest>> {
        self.require_decider(actor, patient)?;
        self.index
            .chain()
            .requests_of(patient)
            .map_err(Error::index("listing requests"))
    }

    /// What a request asks for, if it was made here and has not expired.
    ///
    /// # Errors
    /// The index fails.
    pub fn request_details(&self, request: &AccessRequest) -> Result<Option<RequestDetails>> {
        const WHAT: &str = "reading a request's details";
        self.index
            .local()
            .session(&request.details_digest, self.clock.now())
            .map_err(Error::index(WHAT))?
            .map(|bytes| serde_json::from_slice(&bytes).map_err(|e| Error::internal(WHAT, e)))
            .transpose()
    }

    /// Names of the categories in a patient's slots: as the root key places them, or the directory of a patient who holds
    /// the keys.
    ///
    /// # Errors
    /// Neither is here.
    pub fn categories_of(&self, patient: PatientId, slots: u64) -> Result<Vec<Category>> {
        let mut found = Vec::new();
        if self.holds_own_keys(patient)? {
            let directory = self.own_directory(patient)?;
            for category in Category::ALL {
                if own_slot(&directory, category)? & slots != 0 {
                    found.push(category);
                }
            }
            return Ok(found);
        }
        let root = self.managed_root(patient)?;
        for category in Category::ALL {
            if slots_of(&root, &[category])? & slots != 0 {
                found.push(category);
            }
        }
        Ok(found)
    }

    /// Category slots of a log that the actor may use now, as the ledger judges it.
    pub(crate) fn open_slots(
        &self,
        actor: &Actor,
        log: Address,
        permission: Permissions,
    ) -> Result<u64> {
        Standing::open_slots(self, actor, log, permission)
    }

    pub(crate) fn require_decider(&self, actor: &Actor, patient: PatientId) -> Result<()> {
        if actor.is_patient(patient.0) {
            return Ok(());
        }
        let account = self
            .account(patient.0)?
            .ok_or_else(|| Error::not_found("patient account", &patient.to_string()))?;
        let staff = matches!(actor.kind, ActorKind::System | ActorKind::Practitioner);
        let managed = self
            .vault
            .keys()
            .manages(patient.0)
            .map_err(Error::vault("asking for a key"))?;
        if staff && managed && account.sponsor == actor.organization {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: format!(
                "only the patient decides about {patient}; staff record a decision only where their organisation manages the patient's keys"
            ),
        })
    }

    pub(crate) fn managed_root(&self, patient: PatientId) -> Result<stele_vault::keys::RootKey> {
        self.vault
            .keys()
            .root(patient.0)
            .map_err(Error::vault("reading a patient's key"))?
            .ok_or_else(|| Error::NotSupported {
                message: format!(
                    "{patient} keeps their own keys: name their key file with --key-file-of-patient"
                ),
            })
    }

    /// Relays a grant that a patient with own keys signed (EIP-712) and keeps the key envelopes handed over.
    ///
    /// # Errors
    /// The envelopes are not those the grant commits to, or the ledger refuses.
    pub async fn relay_grant(
        &self,
        grant: grantBySigCall,
        envelopes: &[stele_vault::keys::Grant],
    ) -> Result<(u32, B256, u64)> {
        const WHAT: &str = "relaying a grant";
        if envelopes_digest(envelopes) != grant.envelopeDigest {
            return Err(Error::Conflict {
                message: "the key envelopes are not those the grant commits to".into(),
            });
        }
        self.vault
            .keys()
            .add_grants(grant.grantee, envelopes)
            .await
            .map_err(Error::vault(WHAT))?;
        let order = Order::new(CONSENT, &grant, 600_000);
        let receipt = self
            .transactions
            .settle(WHAT, self.organization.0, order)
            .await?;
        let id = consent_number(&receipt)
            .ok_or_else(|| Error::internal(WHAT, "the ledger recorded no grant"))?;
        Ok((id, receipt.hash, receipt.position.height))
    }
}

/// The number of the grant or request that a transaction recorded: the third indexed value of Consent's event.
fn consent_number(receipt: &ReceiptView) -> Option<u32> {
    receipt
        .receipt
        .logs
        .iter()
        .find(|log| log.address == CONSENT)
        .and_then(|log| log.topics().get(3))
        .and_then(|topic| u32::try_from(alloy_primitives::U256::from_be_bytes(topic.0)).ok())
}

/// An order that carries a grant signed by the patient's key, for somebody else to send.
pub(crate) fn signed_grant(
    chain_id: u64,
    key: &AccountKey,
    mut call: grantBySigCall,
) -> Result<Order> {
    let terms = &call.terms;
    let typed = typed::Grant {
        patient: call.patient,
        grantee: call.grantee,
        categories: terms.categories,
        permissions: terms.permissions,
        purposes: terms.purposes,
        notBefore: terms.notBefore,
        expires: terms.expires,
        recordsFrom: terms.recordsFrom,
        recordsTo: terms.recordsTo,
        envelopeDigest: call.envelopeDigest,
        request: call.request,
        nonce: call.nonce,
        deadline: call.deadline,
    };
    let hash = typed.eip712_signing_hash(&typed::consent_domain(chain_id));
    let signature = key
        .sign_hash(hash)
        .map_err(|error| Error::internal("signing a grant", error))?;
    call.signature = signature.as_bytes().to_vec().into();
    Ok(Order::new(CONSENT, &call, 600_000))
}
