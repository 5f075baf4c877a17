//! Epochs: runs of blocks that one set of validators finalizes, and the proof of how one set followed another.
//!
//! Validators change between two heights that are known well before: heights that are multiples of [`INTERVAL`]. The
//! first block after such a height announces, in [`Header::next_validators_hash`], the set that the decisions up to
//! that height seat; every block up to the next such height repeats it. If the announced set is another than the
//! current one, the block at that next height is the last of its epoch, and the announced set finalizes what follows.
//! Nothing changes without a decision: then one epoch lasts for ever.
//!
//! Where so many validators are lost that nothing becomes final any more, more than half of an epoch's validators can end
//! it by hand: see [`recovery`].
//!
//! This module must never depend on the consensus engine or on the state of the chain: a proof file is checked from
//! headers and certificates alone.

pub mod recovery;

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable as _;
use serde::{Deserialize, Serialize};

use crate::{
    block::{Header, Validator, validators_hash},
    certificate::{
        CertificateError, CommitCertificate, ValidatorKey, ValidatorSet, ValidatorSignature,
    },
};
use recovery::RecoveryError;

/// Blocks between two heights at which validators can change. Part of consensus. A decision thus takes effect after 33
/// to 64 blocks: early enough for people, and late enough that everybody who votes at the boundary has long known it.
pub const INTERVAL: u64 = 32;

/// Most validators at once: what the consensus engine was measured with.
pub const VALIDATORS_MAX: u32 = 50;

/// A run of blocks and the validators that finalize them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    number: u64,
    first: u64,
    base: B256,
    validators: Vec<Validator>,
    hash: B256,
    set: ValidatorSet,
}

impl Epoch {
    /// Epoch `number` from height `first` on. `base` is the digest of the block its first block stands on: the last of
    /// the epoch before, or the block at height 0 for epoch 0, to which that block belongs.
    ///
    /// # Errors
    /// [`CertificateError::Validators`] for no validator, too many, or one that is there twice.
    pub fn new(
        number: u64,
        first: u64,
        base: B256,
        mut validators: Vec<Validator>,
    ) -> Result<Self, CertificateError> {
        validators.sort_by_key(|validator| validator.key);
        let set = set_of(&validators)?;
        Ok(Self {
            number,
            first,
            base,
            hash: validators_hash(&validators),
            validators,
            set,
        })
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Height of its first block; 0 for epoch 0.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Digest of the block that its first block stands on.
    #[must_use]
    pub const fn base(&self) -> B256 {
        self.base
    }

    /// Its validators with the organisations that run them, ascending by key.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// Their keys, as certificates count them.
    #[must_use]
    pub const fn set(&self) -> &ValidatorSet {
        &self.set
    }

    /// What headers call the set: [`validators_hash`].
    #[must_use]
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Height of the epoch's last block, as far as a block of the epoch tells: `None` while no other set is announced.
    /// The block that the epoch stands on tells nothing.
    #[must_use]
    pub fn last(&self, header: &Header) -> Option<u64> {
        if header.number < self.first || header.next_validators_hash == self.hash {
            return None;
        }
        header.number.checked_next_multiple_of(INTERVAL)
    }
}

/// Whether validators can change after the block at this height.
#[must_use]
pub const fn is_turn(height: u64) -> bool {
    height.is_multiple_of(INTERVAL)
}

/// The end of an epoch, with what proves which validators follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// RLP of the header of the epoch's last block.
    pub header: Bytes,
    /// The certificate that finalized it.
    pub certificate: Bytes,
    /// The validators of the next epoch.
    pub validators: Vec<Validator>,
    /// Who ended the epoch by hand at that block, by a [`recovery::Recovery`]; nobody where its header announces the
    /// next validators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ValidatorSignature>,
}

/// Why a change of validators proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The header can't be read.
    #[error("the header is malformed: {0}")]
    Header(alloy_rlp::Error),
    /// The certificate does not finalize the header by the epoch's validators.
    #[error("the last block of epoch {epoch}: {source}")]
    Certificate {
        /// The epoch.
        epoch: u64,
        /// What is wrong.
        source: CertificateError,
    },
    /// The header is of another epoch, or not at a height where validators can change.
    #[error("block {height} of epoch {found} is not the last of epoch {epoch}")]
    Place {
        /// Height of the header.
        height: u64,
        /// Epoch it names.
        found: u64,
        /// Epoch that ends.
        epoch: u64,
    },
    /// The validators are not those that the header announces.
    #[error("the validators after epoch {epoch} are not those its last block announces")]
    Announced {
        /// Epoch that ends.
        epoch: u64,
    },
    /// The epoch was ended by hand, and not by those who may.
    #[error("the end of epoch {epoch} by hand: {source}")]
    Recovery {
        /// Epoch that ends.
        epoch: u64,
        /// What is wrong.
        source: RecoveryError,
    },
}

/// The validators of the epoch after `changes`, which begin with the end of epoch 0: each is finalized by the set
/// before it. `namespace` is the signing domain of the chain. Several may be missing at the end, none in between.
///
/// # Errors
/// The first change that does not follow.
pub fn walk(
    genesis: &ValidatorSet,
    namespace: &[u8],
    changes: &[Change],
) -> Result<ValidatorSet, ChangeError> {
    let mut set = genesis.clone();
    let mut base = None;
    for (epoch, change) in (0_u64..).zip(changes) {
        let header = change.ends(epoch, base, &set, namespace)?;
        base = Some(header.hash());
        set = set_of(&change.validators)
            .map_err(|source| ChangeError::Certificate { epoch, source })?;
    }
    Ok(set)
}

/// The epochs from `first`, which is epoch 0, to the one after `changes`; as [`walk`], for whoever needs each of them.
///
/// # Errors
/// The first change that does not follow.
pub fn follow(
    first: Epoch,
    namespace: &[u8],
    changes: &[Change],
) -> Result<Vec<Epoch>, ChangeError> {
    let mut epochs = vec![first.clone()];
    let mut current = first;
    for change in changes {
        let epoch = current.number();
        let base = (epoch > 0).then_some(current.base());
        let header = change.ends(epoch, base, current.set(), namespace)?;
        let following = Epoch::new(
            epoch.saturating_add(1),
            header.number.saturating_add(1),
            header.hash(),
            change.validators.clone(),
        );
        current = following.map_err(|source| ChangeError::Certificate { epoch, source })?;
        epochs.push(current.clone());
    }
    Ok(epochs)
}

impl Change {
    /// Whether the epoch was ended by hand.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// The header, unverified.
    ///
    /// # Errors
    /// [`ChangeError::Header`] if it can't be read.
    pub fn header(&self) -> Result<Header, ChangeError> {
        read_header(&self.header).map_err(ChangeError::Header)
    }

    /// The header, if this ends `epoch`, which `set` finalizes and which stands on the block `base`; `None` for the
    /// first epoch.
    fn ends(
        &self,
        epoch: u64,
        base: Option<B256>,
        set: &ValidatorSet,
        namespace: &[u8],
    ) -> Result<Header, ChangeError> {
        let header = self.header()?;
        if self.is_recovery() {
            recovery::ends(self, &header, epoch, base, set, namespace)
                .and_then(|()| recovery::signed(self, &header, epoch, set, namespace))
                .map_err(|source| ChangeError::Recovery { epoch, source })?;
            return Ok(header);
        }
        if header.epoch != epoch || header.number == 0 || !is_turn(header.number) {
            return Err(ChangeError::Place {
                height: header.number,
                found: header.epoch,
                epoch,
            });
        }
        let wrong = |source| ChangeError::Certificate { epoch, source };
        let certificate = CommitCertificate::decode(&self.certificate).map_err(wrong)?;
        certificate
            .verify_in(epoch, &header.hash(), set, namespace)
            .map_err(wrong)?;
        if validators_hash(&self.validators) != header.next_validators_hash {
            return Err(ChangeError::Announced { epoch });
        }
        Ok(header)
    }
}

fn read_header(mut bytes: &[u8]) -> Result<Header, alloy_rlp::Error> {
    let header = Header::decode(&mut bytes)?;
    if bytes.is_empty() {
        Ok(header)
    } else {
        Err(alloy_rlp::Error::UnexpectedLength)
    }
}

fn set_of(validators: &[Validator]) -> Result<ValidatorSet, CertificateError> {
    let keys = validators
        .iter()
        .map(|validator| ValidatorKey::new(validator.key.0));
    ValidatorSet::new(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(keys: &[u8]) -> Vec<Validator> {
        let seat = |&byte| Validator {
            key: B256::repeat_byte(byte),
            organization: alloy_primitives::Address::repeat_byte(byte),
        };
        keys.iter().map(seat).collect()
    }

    #[test]
    fn an_epoch_ends_at_the_next_turn_after_another_set_is_announced() {
        let epoch = Epoch::new(3, 65, B256::ZERO, seats(&[2, 1])).unwrap();
        assert_eq!(epoch.hash(), validators_hash(&seats(&[1, 2])));
        let header = |number, keys: &[u8]| Header {
            number,
            epoch: 3,
            next_validators_hash: validators_hash(&seats(keys)),
            ..Header::default()
        };
        assert_eq!(epoch.last(&header(70, &[1, 2])), None);
        for (number, last) in [(65, 96), (95, 96), (96, 96), (97, 128)] {
            assert_eq!(epoch.last(&header(number, &[1, 2, 3])), Some(last));
        }
    }

    #[test]
    fn a_set_needs_members_and_each_once() {
        assert!(Epoch::new(0, 0, B256::ZERO, Vec::new()).is_err());
        assert!(Epoch::new(0, 0, B256::ZERO, seats(&[1, 1])).is_err());
    }
}
