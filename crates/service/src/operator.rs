//! Small questions of the operator's desk.

use std::sync::Arc;

use alloy_primitives::Address;
use alloy_sol_types::SolCall as _;
use stele_core::{
    abi::consent::IConsent::{grantBySigCall, signatureNonceCall},
    consent::Purpose,
    id::{CONSENT, OrganizationId, PatientId},
};
use stele_vault::keys::{Directory, Grant};

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

impl Service {
    /// The account of a Patient resource of this node, by its FHIR id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn patient_of(&self, patient_id: &str) -> Result<PatientId> {
        self.locate("Patient", patient_id)?
            .and_then(|version| version.placement.patient)
            .ok_or_else(|| Error::not_found("Patient", patient_id))
    }

    /// The X-Wing public key of a grantee, made if it is of this node and has none. 1,216 bytes.
    ///
    /// # Errors
    /// The vault refuses, or the grantee's member does not answer.
    pub async fn grantee_key(&self, grantee: Address) -> Result<Vec<u8>> {
        self.public_key_of(grantee)
            .await
            .map(|public| public.to_bytes())
    }

    /// Nonce of the next grant that a patient signs for somebody else to send.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn signature_nonce(&self, patient: PatientId) -> Result<u64> {
        const WHAT: &str = "reading a signature nonce";
        let input = signatureNonceCall { patient: patient.0 }.abi_encode();
        let output = self.view(WHAT, CONSENT, input)?;
        signatureNonceCall::abi_decode_returns(&output).map_err(|e| Error::internal(WHAT, e))
    }

    /// As [`Service::register_own_patient`], from the directory's bytes.
    ///
    /// # Errors
    /// The bytes are no directory, or the ledger refuses.
    pub async fn register_directory(
        &self,
        organization: OrganizationId,
        directory: &[u8],
    ) -> Result<PatientId> {
        let directory = Directory::decode(directory).map_err(|error| malformed(&error))?;
        self.register_own_patient(organization, &directory).await
    }

    /// As [`Service::relay_grant`], from the envelopes' bytes.
    ///
    /// # Errors
    /// The bytes are no envelopes, or not those the grant commits to; the ledger refuses.
    pub async fn relay_encoded_grant(
        &self,
        grant: grantBySigCall,
        envelopes: &[Vec<u8>],
    ) -> Result<(u32, alloy_primitives::B256, u64)> {
        let envelopes = envelopes
            .iter()
            .map(|bytes| Grant::decode(bytes))
            .collect::<stele_vault::Result<Vec<_>>>()
            .map_err(|error| malformed(&error))?;
        self.relay_grant(grant, &envelopes).await
    }

    /// The organisation that may erase a record, acting as its administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn administrator_of(self: &Arc<Self>, resource_type: &str, id: &str) -> Result<Actor> {
        let found = self
            .locate(resource_type, id)?
            .ok_or_else(|| Error::not_found(resource_type, id))?;
        let organization = OrganizationId(self.organization_hosting(found.placement.log));
        Ok(Actor::system(organization, Purpose::Treat, "operator"))
    }
}

fn malformed(error: &stele_vault::Error) -> Error {
    Error::Conflict {
        message: error.to_string(),
    }
}
