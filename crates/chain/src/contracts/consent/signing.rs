//! EIP-712 hashes of what a patient signs for others to send.

use alloy_primitives::{Address, B256, Keccak256, U256, keccak256};
use stele_core::{abi::consent::IConsent::Terms, id::CONSENT};

/// A grant as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedGrant {
    /// Who grants.
    pub patient: Address,
    /// To whom.
    pub grantee: Address,
    /// What, for what and when.
    pub terms: Terms,
    /// Digest of the key envelope handed over off chain.
    pub envelope_digest: B256,
    /// Request that is answered, or 0.
    pub request: u32,
    /// The patient's signature nonce.
    pub nonce: u64,
    /// Last Unix second at which the signature is accepted; 40 bits.
    pub deadline_s: u64,
}

/// A revocation as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRevocation {
    /// Who revokes.
    pub patient: Address,
    /// From whom.
    pub grantee: Address,
    /// Which grant.
    pub id: u32,
    /// Root of the next directory of keys, or zero.
    pub directory_root: B256,
    /// The patient's signature nonce.
    pub nonce: u64,
    /// Last Unix second at which the signature is accepted; 40 bits.
    pub deadline_s: u64,
}

impl SignedGrant {
    /// Signing hash: 32 bytes, keccak-256 over EIP-712 (domain: chain id, contract).
    #[must_use]
    pub fn signing_hash(&self, chain_id: u64) -> B256 {
        let terms = &self.terms;
        let message = words([
            keccak256(GRANT_TYPE),
            self.patient.into_word(),
            self.grantee.into_word(),
            number(terms.categories),
            number(terms.permissions),
            number(terms.purposes),
            B256::from(U256::from(terms.notBefore)),
            B256::from(U256::from(terms.expires)),
            number(terms.recordsFrom),
            number(terms.recordsTo),
            self.envelope_digest,
            number(self.request),
            number(self.nonce),
            number(self.deadline_s),
        ]);
        typed_hash(chain_id, message)
    }
}

impl SignedRevocation {
    /// Signing hash: 32 bytes, keccak-256 over EIP-712 (domain: chain id, contract).
    #[must_use]
    pub fn signing_hash(&self, chain_id: u64) -> B256 {
        let message = words([
            keccak256(REVOKE_TYPE),
            self.patient.into_word(),
            self.grantee.into_word(),
            number(self.id),
            self.directory_root,
            number(self.nonce),
            number(self.deadline_s),
        ]);
        typed_hash(chain_id, message)
    }
}

/// EIP-712 domain separator of the contract on a chain.
#[must_use]
pub fn domain_separator(chain_id: u64) -> B256 {
    words([
        keccak256(DOMAIN_TYPE),
        keccak256("Stele Consent"),
        keccak256("1"),
        number(chain_id),
        CONSENT.into_word(),
    ])
}

fn typed_hash(chain_id: u64, message: B256) -> B256 {
    let mut bytes = [0_u8; 66];
    let (prefix, body) = bytes.split_at_mut(2);
    prefix.copy_from_slice(&[0x19, 0x01]);
    let (domain, hash) = body.split_at_mut(32);
    domain.copy_from_slice(domain_separator(chain_id).as_slice());
    hash.copy_from_slice(message.as_slice());
    keccak256(bytes)
}

fn words<const N: usize>(words: [B256; N]) -> B256 {
    let mut hasher = Keccak256::new();
    for word in words {
        hasher.update(word);
    }
    hasher.finalize()
}

fn number(value: impl Into<u64>) -> B256 {
    U256::from(value.into()).into()
}

const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const GRANT_TYPE: &str = "Grant(address patient,address grantee,uint64 categories,\
uint8 permissions,uint16 purposes,uint40 notBefore,uint40 expires,uint16 recordsFrom,\
uint16 recordsTo,bytes32 envelopeDigest,uint32 request,uint64 nonce,uint40 deadline)";
const REVOKE_TYPE: &str = "Revoke(address patient,address grantee,uint32 id,bytes32 directoryRoot,\
uint64 nonce,uint40 deadline)";
