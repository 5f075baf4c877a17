//! A managed patient takes the account over: with a key file, or with a passkey in the browser. What they share is here:
//! what is offered, what must fit, and what is destroyed afterwards.

use alloy_primitives::{Address, B256};
use stele_core::{
    abi::identity::IIdentity::claimCall,
    consent::Permissions,
    id::{IDENTITY, PatientId},
};
use stele_fhir::category::Category;
use stele_vault::keys::Directory;

use super::{ClaimGrantee, ClaimOffer, ROOT_INFO, base64, decode_directory, own_slot};
use crate::{
    Service,
    directory::slots_of,
    error::{Error, Result},
    session::Actor,
    transactions::Order,
};

impl Service {
    /// What a managed patient needs to take the account over, sealed to a key of theirs. The organisation's staff
    /// asks for it, with the patient present.
    ///
    /// # Errors
    /// The actor may not decide for this patient, or the key is none.
    pub async fn offer_claim(
        &self,
        actor: &Actor,
        patient: PatientId,
        to: &[u8],
    ) -> Result<ClaimOffer> {
        const WHAT: &str = "offering an account";
        self.require_decider(actor, patient)?;
        let root = self.managed_root(patient)?;
        let public = stele_core::crypto::hpke::KemPublic::from_bytes(to).map_err(|error| {
            Error::Conflict {
                message: format!("the key to seal to: {error}"),
            }
        })?;
        let sealed = stele_core::crypto::hpke::seal(
            &public,
            ROOT_INFO,
            patient.0.as_slice(),
            root.secret().expose(),
            &mut stele_core::crypto::os_rng(),
        )
        .map_err(|error| Error::internal(WHAT, error))?;
        let keys = self.vault.keys();
        let mut from_generation = 1_u32;
        for category in Category::ALL {
            let generation = keys
                .generation(patient.0, category.number())
                .map_err(Error::vault(WHAT))?;
            from_generation = from_generation.max(generation.saturating_add(1));
        }
        let now = self.clock.now();
        let mut grantees = Vec::new();
        for grant in self.grants_of(actor, patient)? {
            if grant.is_live(now) && grant.terms.permissions.contains(Permissions::READ) {
                grantees.push(ClaimGrantee {
                    account: grant.grantee,
                    key: base64(&self.grantee_key(grant.grantee).await?),
                    categories: grant.terms.categories,
                    records_from: grant.terms.records_from,
                    records_to: grant.terms.records_to,
                });
            }
        }
        Ok(ClaimOffer {
            account: patient.0,
            root: base64(&sealed),
            from_generation,
            grantees,
        })
    }

    /// A managed patient takes over: their key becomes the account's only one, the organisation's copies of the
    /// account's key and of the root key are destroyed, and records written from now on are sealed to key
    /// generations that the organisation can't derive. Earlier records stay openable by who was granted them.
    ///
    /// # Errors
    /// Not managed here, what is handed over does not fit together, or the ledger refuses.
    pub async fn claim(
        &self,
        actor: &Actor,
        patient: PatientId,
        key_id: B256,
        directory: &[u8],
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<(B256, u64)> {
        const WHAT: &str = "taking an account over";
        self.require_decider(actor, patient)?;
        let directory = self.claimed_directory(patient, directory)?;
        let call = claimCall {
            keyId: key_id,
            rpIdHash: B256::ZERO,
            directoryRoot: directory.root(),
        };
        self.keep_claimed(patient, &directory, envelopes).await?;
        let receipt = self
            .transactions
            .settle(WHAT, patient.0, Order::new(IDENTITY, &call, 500_000))
            .await?;
        self.destroy_managed(patient).await?;
        Ok((receipt.hash, receipt.position.height))
    }

    /// The directory that a managed patient hands over, if it was derived from the root key that is kept here.
    pub(crate) fn claimed_directory(&self, patient: PatientId, bytes: &[u8]) -> Result<Directory> {
        let root = self.managed_root(patient)?;
        let directory = decode_directory(bytes)?;
        if directory.log() != patient.0 {
            return Err(Error::Conflict {
                message: "the key directory is another patient's".into(),
            });
        }
        for category in Category::ALL {
            // Grants on the ledger name slots: a directory with other slots would silently change who sees what.
            if slots_of(&root, &[category])? != own_slot(&directory, category)? {
                return Err(Error::Conflict {
                    message: "the key directory was not derived from this patient's root key"
                        .into(),
                });
            }
        }
        Ok(directory)
    }

    /// Keeps what a patient who takes over hands over. As long as the root key is here it goes before a directory, and
    /// envelopes of a generation that nothing is sealed to open nothing, so it does no harm if the claim fails.
    pub(crate) async fn keep_claimed(
        &self,
        patient: PatientId,
        directory: &Directory,
        envelopes: &[(Address, Vec<u8>)],
    ) -> Result<()> {
        const WHAT: &str = "keeping a key directory";
        self.vault
            .keys()
            .add_directory(directory)
            .await
            .map_err(Error::vault(WHAT))?;
        self.keep_envelopes(WHAT, patient, envelopes).await
    }

    /// Destroys the organisation's copies of the keys of an account that was taken over.
    pub(crate) async fn destroy_managed(&self, patient: PatientId) -> Result<()> {
        const WHAT: &str = "destroying the keys of an account that was taken over";
        let keys = self.vault.keys();
        keys.remove_root(patient.0)
            .await
            .map_err(Error::vault(WHAT))?;
        keys.remove_signing(patient.0)
            .await
            .map_err(Error::vault(WHAT))?;
        self.vault.clear_cached_keys();
        Ok(())
    }
}
