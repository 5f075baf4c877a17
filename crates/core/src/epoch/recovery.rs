//! The end of an epoch by hand: the document with which a consortium goes on after it lost so many validators for good
//! that no quorum is left.
//!
//! It names the last final block and the validators that finalize what follows, and more than half of the epoch's
//! validators sign it. Two contradicting documents can't both be signed so, and whoever is left can't make another block
//! final beside it, as long as everybody signs one document an epoch and votes no more in an epoch once it signed its
//! end: the two promises that the tool which signs keeps. Anybody who knows the validators of the epoch can verify it.

use alloy_primitives::{B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

use super::{Change, ChangeError, Epoch, read_header};
use crate::{
    block::{Header, Validator, validators_hash},
    certificate::{
        CertificateError, CommitCertificate, ValidatorSet, ValidatorSignature, check_order,
        in_domain, namespace, put_leb128, verify_each,
    },
};

/// The document, as its JSON file says it. Height, block and state root stand in the header, too; here people read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recovery {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Digest of the block at height 0.
    pub genesis: B256,
    /// The epoch that ends.
    pub epoch: u64,
    /// Height of the last final block.
    pub height: u64,
    /// Its digest.
    pub block: B256,
    /// State root after it.
    pub state_root: B256,
    /// RLP of its header.
    pub header: Bytes,
    /// A certificate that finalizes it.
    pub certificate: Bytes,
    /// The validators of the next epoch.
    pub validators: Vec<Validator>,
    /// Signatures of validators of the epoch that ends, ascending by their positions in it.
    #[serde(default)]
    pub signatures: Vec<ValidatorSignature>,
}

/// Why such a document ends no epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// It is of another chain.
    #[error("it is of the chain {chain_id} with genesis {genesis}")]
    OtherChain {
        /// Chain id in it.
        chain_id: u64,
        /// Genesis in it.
        genesis: B256,
    },
    /// It ends another epoch.
    #[error("it ends epoch {found}, not epoch {wanted}")]
    OtherEpoch {
        /// Epoch that could be ended.
        wanted: u64,
        /// Epoch in it.
        found: u64,
    },
    /// The header can't be read.
    #[error("its header is malformed: {0}")]
    Header(alloy_rlp::Error),
    /// What people read is not what the header says.
    #[error("its {field} is not that of its header")]
    Contradicts {
        /// "height", "block" or "state root".
        field: &'static str,
    },
    /// The block is not of the epoch, nor the one that the epoch stands on.
    #[error("block {height} of epoch {found} is not one at which epoch {epoch} can end")]
    Place {
        /// Height of the block.
        height: u64,
        /// Epoch it names.
        found: u64,
        /// Epoch that ends.
        epoch: u64,
    },
    /// The block is not final.
    #[error("its block is not final: {0}")]
    Certificate(CertificateError),
    /// The validators it names are no set.
    #[error("the validators it names: {0}")]
    Validators(CertificateError),
    /// Too few signatures, or one that is not good.
    #[error("its signatures: {0}")]
    Signatures(CertificateError),
    /// Two documents that are to be one say different things.
    #[error("it is {found}, not {wanted}: the documents say different things")]
    Differs {
        /// Digest of the one.
        wanted: B256,
        /// Digest of the other.
        found: B256,
    },
}

impl Recovery {
    /// The document, without signatures, that ends `epoch` at a final block.
    #[must_use]
    pub fn new(
        chain: (u64, B256),
        epoch: u64,
        (header, certificate): (&Header, Bytes),
        mut validators: Vec<Validator>,
    ) -> Self {
        validators.sort_by_key(|validator| validator.key);
        let (chain_id, genesis) = chain;
        Self {
            chain_id,
            genesis,
            epoch,
            height: header.number,
            block: header.hash(),
            state_root: header.state_root,
            header: alloy_rlp::encode(header).into(),
            certificate,
            validators,
            signatures: Vec::new(),
        }
    }

    /// What is signed, for people to compare: keccak-256 of [`Self::signed_bytes`]. Certificates and signatures of two
    /// documents with the same digest may differ.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(self.signed_bytes())
    }

    /// The bytes that a validator signs with its key: LEB128 length of the domain ‖ [`Self::domain`] ‖
    /// [`Self::payload`].
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = in_domain(&self.domain());
        bytes.extend_from_slice(&self.payload());
        bytes
    }

    /// Signing domain: that of the chain's votes, followed by `_RECOVERY`, which no vote has.
    #[must_use]
    pub fn domain(&self) -> Vec<u8> {
        domain(&namespace(self.chain_id, &self.genesis))
    }

    /// Epoch and height in LEB128, digest of the block, hash of the next validators (32 bytes each).
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        payload(self.epoch, self.height, &self.block, &self.validators)
    }

    /// The same as a change of validators, which proofs carry.
    #[must_use]
    pub fn change(&self) -> Change {
        Change {
            header: self.header.clone(),
            certificate: self.certificate.clone(),
            validators: self.validators.clone(),
            signatures: self.signatures.clone(),
        }
    }

    /// The document behind a change of validators that ended `epoch` by hand.
    ///
    /// # Errors
    /// [`ChangeError::Header`] if its header can't be read.
    pub fn of(chain: (u64, B256), epoch: u64, change: &Change) -> Result<Self, ChangeError> {
        let header = change.header()?;
        let certificate = (&header, change.certificate.clone());
        let mut recovery = Self::new(chain, epoch, certificate, change.validators.clone());
        recovery.signatures.clone_from(&change.signatures);
        Ok(recovery)
    }

    /// Takes the signatures of another copy, too.
    ///
    /// # Errors
    /// [`RecoveryError::Differs`] if the other says something else.
    pub fn merge(&mut self, other: &Self) -> Result<(), RecoveryError> {
        let (wanted, found) = (self.digest(), other.digest());
        if wanted != found {
            return Err(RecoveryError::Differs { wanted, found });
        }
        for signature in &other.signatures {
            self.add(*signature);
        }
        Ok(())
    }

    /// Adds a signature, in place of an earlier one of the same validator.
    pub fn add(&mut self, signature: ValidatorSignature) {
        self.signatures
            .retain(|known| known.validator != signature.validator);
        self.signatures.push(signature);
        self.signatures.sort_by_key(|signed| signed.validator);
    }

    /// Checks everything but that enough have signed: it is of this chain, of the epoch `ended`, its block is final, and
    /// the signatures that are there are good.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn examine(&self, ended: &Epoch, chain: (u64, B256)) -> Result<Header, RecoveryError> {
        let (chain_id, genesis) = chain;
        if (self.chain_id, self.genesis) != (chain_id, genesis) {
            return Err(RecoveryError::OtherChain {
                chain_id: self.chain_id,
                genesis: self.genesis,
            });
        }
        let wanted = ended.number();
        if self.epoch != wanted {
            let found = self.epoch;
            return Err(RecoveryError::OtherEpoch { wanted, found });
        }
        let change = self.change();
        let header = read_header(&self.header).map_err(RecoveryError::Header)?;
        let fields = [
            ("height", header.number == self.height),
            ("block", header.hash() == self.block),
            ("state root", header.state_root == self.state_root),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, agrees)| !agrees) {
            return Err(RecoveryError::Contradicts { field });
        }
        Epoch::new(
            wanted.saturating_add(1),
            0,
            self.block,
            self.validators.clone(),
        )
        .map_err(RecoveryError::Validators)?;
        let domain = namespace(chain_id, &genesis);
        let base = (wanted > 0).then_some(ended.base());
        ends(&change, &header, wanted, base, ended.set(), &domain)?;
        check_order(&self.signatures)
            .and_then(|()| verify_each(&self.signatures, ended.set(), &self.signed_bytes()))
            .map_err(RecoveryError::Signatures)?;
        Ok(header)
    }

    /// As [`Self::examine`], and more than half of the epoch's validators have signed.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn verify(&self, ended: &Epoch, chain: (u64, B256)) -> Result<Header, RecoveryError> {
        let header = self.examine(ended, chain)?;
        enough(&self.signatures, ended.set())?;
        Ok(header)
    }
}

/// Whether an epoch can end at the block of a header: it is one of the epoch's own, final by its validators, or the one
/// on which the epoch stands, where none of its own is final.
pub(super) fn ends(
    change: &Change,
    header: &Header,
    epoch: u64,
    base: Option<B256>,
    set: &ValidatorSet,
    namespace: &[u8],
) -> Result<(), RecoveryError> {
    let hash = header.hash();
    if base == Some(hash) {
        // That it is final was proven when the epoch began.
        return Ok(());
    }
    if header.epoch != epoch || header.number == 0 {
        return Err(RecoveryError::Place {
            height: header.number,
            found: header.epoch,
            epoch,
        });
    }
    CommitCertificate::decode(&change.certificate)
        .and_then(|certificate| certificate.verify_in(epoch, &hash, set, namespace))
        .map_err(RecoveryError::Certificate)
}

/// Whether more than half of the set signed a change.
pub(super) fn signed(
    change: &Change,
    header: &Header,
    epoch: u64,
    set: &ValidatorSet,
    namespace: &[u8],
) -> Result<(), RecoveryError> {
    let mut bytes = in_domain(&domain(namespace));
    let payload = payload(epoch, header.number, &header.hash(), &change.validators);
    bytes.extend_from_slice(&payload);
    enough(&change.signatures, set)?;
    check_order(&change.signatures)
        .and_then(|()| verify_each(&change.signatures, set, &bytes))
        .map_err(RecoveryError::Signatures)
}

fn enough(signatures: &[ValidatorSignature], set: &ValidatorSet) -> Result<(), RecoveryError> {
    let needed = set.majority();
    if signatures.len() >= needed {
        return Ok(());
    }
    Err(RecoveryError::Signatures(CertificateError::TooFew {
        signatures: signatures.len(),
        quorum: needed,
    }))
}

fn domain(namespace: &[u8]) -> Vec<u8> {
    [namespace, RECOVERY].concat()
}

fn payload(epoch: u64, height: u64, block: &B256, validators: &[Validator]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_leb128(&mut bytes, epoch);
    put_leb128(&mut bytes, height);
    bytes.extend_from_slice(block.as_slice());
    bytes.extend_from_slice(validators_hash(validators).as_slice());
    bytes
}

/// Ends the signing domain.
const RECOVERY: &[u8] = b"_RECOVERY";

#[cfg(test)]
pub(crate) mod tests;
