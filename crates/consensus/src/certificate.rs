//! From the engine's certificates to ours.

use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    simplex::{
        scheme::ed25519::Scheme,
        types::{Finalization, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    certificate::Signers,
    ed25519::{PublicKey, Signature, certificate::Certificate},
    sha256,
};
use commonware_utils::{Participant, TryCollect as _, ordered::Set};
use stele_core::certificate::{CommitCertificate, ValidatorKey, ValidatorSet, ValidatorSignature};

use crate::{Error, block::Digest};

/// The certificate that [`stele_core::certificate`] verifies without the engine. `None` if the
/// engine's is malformed, which it never is after the engine has verified it.
pub(crate) fn from_finalization(
    finalization: &Finalization<Scheme, Digest>,
) -> Option<CommitCertificate> {
    let proposal = &finalization.proposal;
    let certificate = &finalization.certificate;
    let signatures = certificate
        .signers
        .iter()
        .zip(&certificate.signatures)
        .map(|(signer, signature)| {
            Some(ValidatorSignature {
                validator: u16::try_from(usize::from(signer)).ok()?,
                signature: <[u8; 64]>::try_from(signature.get()?.as_ref()).ok()?.into(),
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(CommitCertificate {
        epoch: proposal.round.epoch().get(),
        view: proposal.round.view().get(),
        parent_view: proposal.parent.get(),
        block: proposal.payload.0.into(),
        signatures,
    })
}

/// The engine's form of a certificate; [`from_finalization`] backwards. The signatures are not
/// verified here, the engine does that.
pub(crate) fn to_finalization(
    certificate: &CommitCertificate,
    validators: &Set<PublicKey>,
) -> Option<Finalization<Scheme, Digest>> {
    let round = Round::new(Epoch::new(certificate.epoch), View::new(certificate.view));
    let signers = certificate.signatures.iter();
    let signers = signers.map(|signed| Participant::new(signed.validator.into()));
    let signatures = certificate.signatures.iter();
    let signatures = signatures.map(|signed| {
        Some(
            Signature::decode(Copying(signed.signature.as_slice()))
                .ok()?
                .into(),
        )
    });
    Some(Finalization {
        proposal: Proposal::new(
            round,
            View::new(certificate.parent_view),
            sha256::Digest(certificate.block.0),
        ),
        certificate: Certificate {
            signers: Signers::try_from((validators, signers)).ok()?,
            signatures: signatures.collect::<Option<_>>()?,
        },
    })
}

/// The engine's form of a validator key.
pub(crate) fn engine_key(key: &ValidatorKey) -> Result<PublicKey, Error> {
    PublicKey::decode(Copying(key.as_bytes())).map_err(|_| Error::Config {
        key: "validators",
        problem: "a key is not an Ed25519 public key".to_owned(),
    })
}

/// The engine's form of a validator set; both sort by the bytes of the key.
pub(crate) fn engine_set(validators: &ValidatorSet) -> Result<Set<PublicKey>, Error> {
    let keys: Vec<_> = validators
        .keys()
        .iter()
        .map(engine_key)
        .collect::<Result<_, _>>()?;
    keys.into_iter().try_collect().map_err(|_| Error::Config {
        key: "validators",
        problem: "a key is there twice".to_owned(),
    })
}
