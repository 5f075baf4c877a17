//! Commit certificates: the validators' signatures that make a block final, and the check that
//! anybody can repeat offline.
//!
//! This module owns the signed bytes, the stored form of a certificate and its verification. It
//! must never depend on the consensus engine: a proof file is checked years later, by a program
//! that has no engine, from these bytes and Ed25519 alone. The bytes are those that a `finalize`
//! vote of the simplex protocol signs, so a certificate needs no second round of signatures.
//!
//! Verification follows RFC 8032 as `aws-lc-rs` implements it. Validators vote by the laxer rules
//! of ZIP 215. Every signature made by the standard algorithm passes both; a validator that
//! crafts one that passes only the second can keep a single certificate from being provable
//! offline, never make a false one pass.

use std::collections::BTreeSet;

use alloy_primitives::{B256, B512};
use alloy_rlp::{BufMut, Decodable, Encodable, Header};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Ed25519 public key of a validator. 32 bytes, RFC 8032 §5.1.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValidatorKey(B256);

impl ValidatorKey {
    /// Takes the 32 bytes as they are; whether they are a point on the curve shows when a
    /// signature is verified.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(B256::new(bytes))
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// The validators of one epoch in the order that certificates count them: ascending by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ValidatorKey>", into = "Vec<ValidatorKey>")]
pub struct ValidatorSet(Vec<ValidatorKey>);

impl ValidatorSet {
    /// Sorts the keys and refuses duplicates, whose owner would count twice.
    ///
    /// # Errors
    /// [`CertificateError::Validators`] for none, for more than [`VALIDATORS_MAX`], or for a key
    /// that is there twice.
    pub fn new(keys: impl IntoIterator<Item = ValidatorKey>) -> Result<Self, CertificateError> {
        let mut set = BTreeSet::new();
        for key in keys {
            if !set.insert(key) {
                return Err(CertificateError::Validators("a key is there twice"));
            }
        }
        if set.is_empty() {
            return Err(CertificateError::Validators("there is none"));
        }
        if set.len() > VALIDATORS_MAX {
            return Err(CertificateError::Validators("there are more than 1,024"));
        }
        Ok(Self(set.into_iter().collect()))
    }

    /// The keys, ascending.
    pub fn keys(&self) -> &[ValidatorKey] {
        &self.0
    }

    /// Signatures that make a block final: `n - f` with `f = ⌊(n - 1) / 3⌋`, so 1 of 1, 3 of 4,
    /// 34 of 50.
    pub fn quorum(&self) -> usize {
        let n = self.0.len();
        n.saturating_sub(n.saturating_sub(1) / 3)
    }

    /// Signatures that are more than half: what it takes to end an epoch by hand. 3 of 4 and of 5, 4 of 7.
    pub fn majority(&self) -> usize {
        (self.0.len() / 2).saturating_add(1)
    }

    fn key(&self, validator: u16) -> Option<&ValidatorKey> {
        self.0.get(usize::from(validator))
    }
}

impl TryFrom<Vec<ValidatorKey>> for ValidatorSet {
    type Error = CertificateError;

    fn try_from(keys: Vec<ValidatorKey>) -> Result<Self, Self::Error> {
        Self::new(keys)
    }
}

impl From<ValidatorSet> for Vec<ValidatorKey> {
    fn from(set: ValidatorSet) -> Self {
        set.0
    }
}

/// One validator's signature under a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatorSignature {
    /// Position of the signer in the [`ValidatorSet`] of the epoch, from 0.
    pub validator: u16,
    /// Ed25519 signature over [`CommitCertificate::signed_bytes`]. 64 bytes, RFC 8032 §5.1.6.
    pub signature: B512,
}

/// Proof that a quorum of the validators finalized one block, and with it all its ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitCertificate {
    /// Epoch whose validator set signed.
    pub epoch: u64,
    /// View of the epoch in which the block was proposed.
    pub view: u64,
    /// View in which the block's parent was proposed.
    pub parent_view: u64,
    /// Digest of the block that was voted on: keccak-256 of its header.
    pub block: B256,
    /// The signatures, strictly ascending by validator.
    pub signatures: Vec<ValidatorSignature>,
}

impl CommitCertificate {
    /// Checks that a quorum of `validators` finalized the block with this digest.
    ///
    /// `namespace` is [`namespace`] of the chain, `validators` the set of the certificate's epoch.
    /// To prove an ancestor, verify the certificate for the block it names and follow the parent
    /// hashes down from there.
    ///
    /// # Errors
    /// Says which signature or count was wrong; every signature must be good, also those beyond
    /// the quorum.
    pub fn verify(
        &self,
        block: &B256,
        validators: &ValidatorSet,
        namespace: &[u8],
    ) -> Result<(), CertificateError> {
        if self.block != *block {
            return Err(CertificateError::OtherBlock {
                wanted: *block,
                found: self.block,
            });
        }
        self.check_order()?;
        if self.signatures.len() < validators.quorum() {
            return Err(CertificateError::TooFew {
                signatures: self.signatures.len(),
                quorum: validators.quorum(),
            });
        }
        verify_each(&self.signatures, validators, &self.signed_bytes(namespace))
    }

    /// As [`Self::verify`], by the validators of `epoch`: a certificate of another epoch is none.
    ///
    /// # Errors
    /// [`CertificateError::OtherEpoch`], and those of [`Self::verify`].
    pub fn verify_in(
        &self,
        epoch: u64,
        block: &B256,
        validators: &ValidatorSet,
        namespace: &[u8],
    ) -> Result<(), CertificateError> {
        if self.epoch != epoch {
            return Err(CertificateError::OtherEpoch {
                wanted: epoch,
                found: self.epoch,
            });
        }
        self.verify(block, validators, namespace)
    }

    /// The bytes each validator signed: LEB128 length of the domain, the domain (`namespace`
    /// followed by `_FINALIZE`), then epoch, view and parent view as LEB128 and the 32-byte digest.
    pub fn signed_bytes(&self, namespace: &[u8]) -> Vec<u8> {
        let mut bytes = in_domain(&[namespace, FINALIZE].concat());
        put_leb128(&mut bytes, self.epoch);
        put_leb128(&mut bytes, self.view);
        put_leb128(&mut bytes, self.parent_view);
        bytes.extend_from_slice(self.block.as_slice());
        bytes
    }

    /// Stored form: RLP list of epoch, view, parent view, digest and a list of
    /// `[validator, signature]`. About 70 bytes a signature.
    pub fn encode(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }

    /// Reads what [`Self::encode`] wrote; nothing else, so that a certificate has one encoding.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] for bytes that are not such a list or go on after it,
    /// [`CertificateError::Unordered`] for signatures out of order.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CertificateError> {
        let certificate = <Self as Decodable>::decode(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(CertificateError::Malformed(
                alloy_rlp::Error::UnexpectedLength,
            ));
        }
        certificate.check_order()?;
        Ok(certificate)
    }

    fn check_order(&self) -> Result<(), CertificateError> {
        check_order(&self.signatures)
    }

    fn payload_length(&self) -> usize {
        [
            self.epoch.length(),
            self.view.length(),
            self.parent_view.length(),
            self.block.length(),
        ]
        .into_iter()
        .fold(self.signatures.length(), usize::saturating_add)
    }
}

impl Encodable for CommitCertificate {
    fn encode(&self, out: &mut dyn BufMut) {
        Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.epoch.encode(out);
        self.view.encode(out);
        self.parent_view.encode(out);
        self.block.encode(out);
        self.signatures.encode(out);
    }

    fn length(&self) -> usize {
        let payload_length = self.payload_length();
        payload_length.saturating_add(alloy_rlp::length_of_length(payload_length))
    }
}

impl Decodable for CommitCertificate {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = Header::decode_bytes(buf, true)?;
        let certificate = Self {
            epoch: Decodable::decode(&mut payload)?,
            view: Decodable::decode(&mut payload)?,
            parent_view: Decodable::decode(&mut payload)?,
            block: Decodable::decode(&mut payload)?,
            signatures: Decodable::decode(&mut payload)?,
        };
        if payload.is_empty() {
            Ok(certificate)
        } else {
            Err(alloy_rlp::Error::UnexpectedLength)
        }
    }
}

impl Encodable for ValidatorSignature {
    fn encode(&self, out: &mut dyn BufMut) {
        let payload_length = self
            .validator
            .length()
            .saturating_add(self.signature.length());
        Header {
            list: true,
            payload_length,
        }
        .encode(out);
        self.validator.encode(out);
        self.signature.encode(out);
    }

    fn length(&self) -> usize {
        let payload_length = self
            .validator
            .length()
            .saturating_add(self.signature.length());
        payload_length.saturating_add(alloy_rlp::length_of_length(payload_length))
    }
}

impl Decodable for ValidatorSignature {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = Header::decode_bytes(buf, true)?;
        let signature = Self {
            validator: Decodable::decode(&mut payload)?,
            signature: Decodable::decode(&mut payload)?,
        };
        if payload.is_empty() {
            Ok(signature)
        } else {
            Err(alloy_rlp::Error::UnexpectedLength)
        }
    }
}

/// Why a certificate proves nothing, or a set of validators is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The certificate is for another block.
    #[error("the certificate is for block {found}, not for {wanted}")]
    OtherBlock {
        /// Digest that was to be proven.
        wanted: B256,
        /// Digest in the certificate.
        found: B256,
    },
    /// The certificate was signed in another epoch.
    #[error("the certificate is of epoch {found}, not of epoch {wanted}")]
    OtherEpoch {
        /// Epoch whose validators decide.
        wanted: u64,
        /// Epoch in the certificate.
        found: u64,
    },
    /// Fewer signatures than needed: a quorum for a certificate, more than half for the end of an epoch by hand.
    #[error("{signatures} signatures where {quorum} are needed")]
    TooFew {
        /// Signatures in the certificate.
        signatures: usize,
        /// Signatures needed.
        quorum: usize,
    },
    /// Signatures are not strictly ascending by validator, so one could count twice.
    #[error("the signature of validator {validator} is out of order or there twice")]
    Unordered {
        /// Position of the offending signer.
        validator: u16,
    },
    /// A signer outside the set.
    #[error("validator {validator} signed, and there are only {validators}")]
    UnknownValidator {
        /// Position claimed by the signature.
        validator: u16,
        /// Size of the set.
        validators: usize,
    },
    /// A signature that does not verify.
    #[error("the signature of validator {validator} does not verify")]
    Signature {
        /// Position of the signer.
        validator: u16,
    },
    /// Bytes that are not an encoded certificate.
    #[error("reading a certificate")]
    Malformed(#[from] alloy_rlp::Error),
    /// Keys that do not make a validator set.
    #[error("the validator set is invalid: {0}")]
    Validators(&'static str),
}

/// Signing domain of a chain: `_STELE`, the chain id (8 bytes, big-endian) and the digest of its
/// genesis block. 46 bytes. A signature made on one chain thus says nothing on another.
pub fn namespace(chain_id: u64, genesis: &B256) -> Vec<u8> {
    [
        b"_STELE".as_slice(),
        &chain_id.to_be_bytes(),
        genesis.as_slice(),
    ]
    .concat()
}

/// The beginning of what a validator signs in a domain: LEB128 length of the domain, and the domain.
pub(crate) fn in_domain(domain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = u64::try_from(domain.len()).unwrap_or(u64::MAX);
    put_leb128(&mut bytes, length);
    bytes.extend_from_slice(domain);
    bytes
}

/// Refuses signatures that are not strictly ascending by validator.
pub(crate) fn check_order(signatures: &[ValidatorSignature]) -> Result<(), CertificateError> {
    let pairs = signatures.iter().zip(signatures.iter().skip(1));
    for (before, after) in pairs {
        if before.validator >= after.validator {
            return Err(CertificateError::Unordered {
                validator: after.validator,
            });
        }
    }
    Ok(())
}

/// Verifies each signature over the same bytes; how many there are is for the caller to judge.
pub(crate) fn verify_each(
    signatures: &[ValidatorSignature],
    validators: &ValidatorSet,
    signed: &[u8],
) -> Result<(), CertificateError> {
    for ValidatorSignature {
        validator,
        signature,
    } in signatures
    {
        let key = validators
            .key(*validator)
            .ok_or(CertificateError::UnknownValidator {
                validator: *validator,
                validators: validators.0.len(),
            })?;
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(signed, signature.as_slice())
            .map_err(|_| CertificateError::Signature {
                validator: *validator,
            })?;
    }
    Ok(())
}

pub(crate) fn put_leb128(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Domain of finalize votes, from the simplex engine's `scheme` module.
const FINALIZE: &[u8] = b"_FINALIZE";

/// Most validators in a set. The engine is meant for up to 50; the bound keeps a forged proof file
/// from costing more than some ten milliseconds.
pub const VALIDATORS_MAX: usize = 1024;

#[cfg(test)]
mod tests;
