//! Transactions: Ethereum's envelopes of types 0, 1 and 2 (EIP-2718), and one of our own for accounts that
//! are spoken for by a passkey or another key (type [`ACCOUNT_TX_TYPE`]).

use std::fmt;

use alloy_consensus::{
    EthereumTxEnvelope, Transaction as _, TxEip4844, TxLegacy,
    transaction::{RlpEcdsaDecodableTx as _, SignerRecoverable as _},
};
use alloy_eips::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy_rlp::{
    BufMut, Decodable, EMPTY_LIST_CODE, Encodable, Header, RlpDecodable, RlpEncodable,
};

use crate::crypto::webauthn;

/// EIP-2718 type of an account transaction.
pub const ACCOUNT_TX_TYPE: u8 = 0x5e;
/// Longest accepted transaction, in bytes: room for 256 leaves of a batch many times over.
pub const MAX_TX_BYTES: usize = 256 * 1024;
/// Longest accepted passkey signature (authenticator data, client data and the rest), in bytes.
pub const MAX_ASSERTION_BYTES: usize = 2048;

/// A signed transaction as it travels and as blocks hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all transactions are Ethereum's; boxing them would cost an allocation each"
)]
pub enum Transaction {
    /// Legacy, EIP-2930 or EIP-1559.
    Ethereum(EthereumTxEnvelope<TxEip4844>),
    /// Signed by a key that Identity lists for the account.
    Account(Box<AccountTransaction>),
}

/// What an account transaction asks for. The signing hash is over this alone.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct AccountCall {
    /// Chain the transaction is for.
    pub chain_id: u64,
    /// The account that acts; `Identity` says which keys speak for it.
    pub account: Address,
    /// The account's nonce.
    pub nonce: u64,
    /// Gas limit; there is no price.
    pub gas_limit: u64,
    /// The contract called.
    pub to: Address,
    /// Calldata.
    pub input: Bytes,
}

impl AccountCall {
    /// Signing hash: keccak-256 over `0x5e ‖ rlp(call)`. 32 bytes; the WebAuthn challenge of a passkey.
    /// The type byte separates it from sign-in challenges and from every Ethereum transaction.
    #[must_use]
    pub fn signing_hash(&self) -> B256 {
        let mut buffer = Vec::with_capacity(self.length().saturating_add(1));
        buffer.put_u8(ACCOUNT_TX_TYPE);
        self.encode(&mut buffer);
        keccak256(&buffer)
    }
}

/// Who signed an account transaction, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountSignature {
    /// A secp256k1 key; its address identifies it.
    Secp256k1(Signature),
    /// A passkey: a WebAuthn assertion whose challenge is the signing hash.
    WebAuthn(webauthn::Assertion),
}

/// A call with the signature of a key that speaks for the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTransaction {
    /// What is asked.
    pub call: AccountCall,
    /// Who signed.
    pub signature: AccountSignature,
}

/// The key a transaction was signed with, to be held against `Identity` when it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderKey {
    /// The secp256k1 key whose address is the account itself.
    Own,
    /// A secp256k1 key added to the account: the left-padded address is its key id.
    Secp256k1 {
        /// Key id in `Identity`.
        key_id: B256,
    },
    /// A passkey.
    Passkey {
        /// keccak-256 of the P-256 key's coordinates x ‖ y: its key id in `Identity`.
        key_id: B256,
        /// SHA-256 of the relying party id the authenticator signed for.
        rp_id_hash: B256,
        /// keccak-256 of the origin in the client data, to be allowed by the sponsor.
        origin_digest: B256,
    },
}

/// A transaction whose signature was verified: the sender travels with it and is not recovered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredTransaction {
    /// The transaction.
    pub transaction: Transaction,
    /// keccak-256 of its encoding.
    pub hash: B256,
    /// The account that acts.
    pub sender: Address,
    /// The key it acts with.
    pub key: SenderKey,
    /// Length of its encoding in bytes.
    pub size: usize,
}

/// Why bytes are not an acceptable transaction. The texts are shown to callers as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Longer than [`MAX_TX_BYTES`].
    #[error("transaction of {size} bytes is over the limit of {max} bytes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not the RLP of a known type.
    #[error("malformed transaction: {0}")]
    Malformed(String),
    /// A type that exists elsewhere but not here.
    #[error("transaction type {0:#04x} is not supported; use 0, 1, 2 or 0x5e")]
    UnsupportedType(u8),
    /// For another chain.
    #[error("transaction is for chain {given}, this is chain {expected}")]
    WrongChain {
        /// This chain's id.
        expected: u64,
        /// The transaction's, or `None` when it does not say (not replay-protected).
        given: ChainIdText,
    },
    /// The signature does not verify.
    #[error("invalid signature: {0}")]
    Signature(String),
}

/// A chain id as errors show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainIdText(pub Option<u64>);

impl fmt::Display for ChainIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("none (not replay-protected)"),
        }
    }
}

impl Transaction {
    /// Reads one transaction; every byte must belong to it.
    ///
    /// # Errors
    /// Too large, malformed, trailing bytes, or an unsupported type.
    pub fn decode(bytes: &[u8]) -> Result<Self, TransactionError> {
        if bytes.len() > MAX_TX_BYTES {
            return Err(TransactionError::TooLarge {
                size: bytes.len(),
                max: MAX_TX_BYTES,
            });
        }
        let mut rest = bytes;
        let transaction = match bytes.first() {
            None => return Err(TransactionError::Malformed("empty".into())),
            Some(&ACCOUNT_TX_TYPE) => {
                rest = rest.get(1..).unwrap_or_default();
                AccountTransaction::decode(&mut rest).map(|tx| Self::Account(Box::new(tx)))
            }
            Some(&kind) if kind <= 0x7f && kind > 2 => {
                return Err(TransactionError::UnsupportedType(kind));
            }
            // Decoded by itself: alloy tries every type there is and then names a type as the cause.
            Some(&list) if list >= EMPTY_LIST_CODE => TxLegacy::rlp_decode_signed(&mut rest)
                .map(|tx| Self::Ethereum(EthereumTxEnvelope::Legacy(tx))),
            Some(_) => EthereumTxEnvelope::<TxEip4844>::decode_2718(&mut rest)
                .map(Self::Ethereum)
                .map_err(|error| alloy_rlp::Error::Custom(eip2718_text(&error))),
        }
        .map_err(|error| TransactionError::Malformed(error.to_string()))?;
        if rest.is_empty() {
            Ok(transaction)
        } else {
            Err(TransactionError::Malformed(format!(
                "{} bytes after its end",
                rest.len()
            )))
        }
    }

    /// EIP-2718 encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Ethereum(tx) => tx.encoded_2718().into(),
            Self::Account(tx) => {
                let mut out = vec![ACCOUNT_TX_TYPE];
                tx.encode(&mut out);
                out.into()
            }
        }
    }

    /// keccak-256 of the encoding.
    #[must_use]
    pub fn hash(&self) -> B256 {
        match self {
            Self::Ethereum(tx) => *tx.tx_hash(),
            Self::Account(_) => keccak256(self.encode()),
        }
    }

    /// EIP-2718 type byte.
    #[must_use]
    pub fn tx_type(&self) -> u8 {
        match self {
            Self::Ethereum(tx) => tx.tx_type() as u8,
            Self::Account(_) => ACCOUNT_TX_TYPE,
        }
    }

    /// Chain id, where the transaction has one.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        match self {
            Self::Ethereum(tx) => tx.chain_id(),
            Self::Account(tx) => Some(tx.call.chain_id),
        }
    }

    /// The account's nonce.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        match self {
            Self::Ethereum(tx) => tx.nonce(),
            Self::Account(tx) => tx.call.nonce,
        }
    }

    /// Gas limit.
    #[must_use]
    pub fn gas_limit(&self) -> u64 {
        match self {
            Self::Ethereum(tx) => tx.gas_limit(),
            Self::Account(tx) => tx.call.gas_limit,
        }
    }

    /// Called contract, or creation.
    #[must_use]
    pub fn to(&self) -> TxKind {
        match self {
            Self::Ethereum(tx) => tx.kind(),
            Self::Account(tx) => TxKind::Call(tx.call.to),
        }
    }

    /// Value in wei; always zero for account transactions.
    #[must_use]
    pub fn value(&self) -> U256 {
        match self {
            Self::Ethereum(tx) => tx.value(),
            Self::Account(_) => U256::ZERO,
        }
    }

    /// Calldata or init code.
    #[must_use]
    pub fn input(&self) -> &Bytes {
        match self {
            Self::Ethereum(tx) => tx.input(),
            Self::Account(tx) => &tx.call.input,
        }
    }

    /// Checks the chain id and the signature and names the sender. The only place where a signature is verified.
    ///
    /// # Errors
    /// Another chain, no replay protection, or a signature that does not verify (also: high s).
    pub fn recover(self, chain_id: u64) -> Result<RecoveredTransaction, TransactionError> {
        if self.chain_id() != Some(chain_id) {
            return Err(TransactionError::WrongChain {
                expected: chain_id,
                given: ChainIdText(self.chain_id()),
            });
        }
        let encoded = self.encode();
        let (sender, key) = match &self {
            Self::Ethereum(tx) => {
                let sender = tx
                    .recover_signer()
                    .map_err(|error| TransactionError::Signature(error.to_string()))?;
                (sender, SenderKey::Own)
            }
            Self::Account(tx) => (tx.call.account, tx.key()?),
        };
        Ok(RecoveredTransaction {
            hash: keccak256(&encoded),
            size: encoded.len(),
            transaction: self,
            sender,
            key,
        })
    }
}

impl AccountTransaction {
    fn key(&self) -> Result<SenderKey, TransactionError> {
        let hash = self.call.signing_hash();
        match &self.signature {
            AccountSignature::Secp256k1(signature) => {
                if signature.normalize_s().is_some() {
                    return Err(TransactionError::Signature(
                        "s is not in the lower half".into(),
                    ));
                }
                let signer = alloy_consensus::crypto::secp256k1::recover_signer(signature, hash)
                    .map_err(|error| TransactionError::Signature(error.to_string()))?;
                Ok(if signer == self.call.account {
                    SenderKey::Own
                } else {
                    SenderKey::Secp256k1 {
                        key_id: signer.into_word(),
                    }
                })
            }
            AccountSignature::WebAuthn(assertion) => {
                let verified = webauthn::verify(assertion, hash.as_slice())
                    .map_err(|error| TransactionError::Signature(error.to_string()))?;
                Ok(SenderKey::Passkey {
                    key_id: assertion.key_id(),
                    rp_id_hash: verified.rp_id_hash,
                    origin_digest: keccak256(verified.origin.as_bytes()),
                })
            }
        }
    }

    /// r, s and the recovery parity as JSON-RPC shows them; the parity of a passkey is always even.
    #[must_use]
    pub fn rpc_signature(&self) -> (U256, U256, bool) {
        match &self.signature {
            AccountSignature::Secp256k1(s) => (s.r(), s.s(), s.v()),
            AccountSignature::WebAuthn(a) => (a.r.into(), a.s.into(), false),
        }
    }
}

const SECP256K1: u8 = 0;
const WEBAUTHN: u8 = 1;

impl AccountTransaction {
    fn payload_length(&self) -> usize {
        let signature = match &self.signature {
            AccountSignature::Secp256k1(s) => [
                SECP256K1.length(),
                s.v().length(),
                s.r().length(),
                s.s().length(),
            ]
            .iter()
            .sum(),
            AccountSignature::WebAuthn(a) => [
                WEBAUTHN.length(),
                a.authenticator_data.length(),
                a.client_data_json.length(),
                a.r.length(),
                a.s.length(),
                a.x.length(),
                a.y.length(),
            ]
            .iter()
            .sum::<usize>(),
        };
        self.call.length().saturating_add(signature)
    }
}

impl Encodable for AccountTransaction {
    /// `[call, kind, …signature]`: kind 0 `[yParity, r, s]`, kind 1 `[authenticatorData, clientDataJSON, r, s, x, y]`.
    fn encode(&self, out: &mut dyn BufMut) {
        Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.call.encode(out);
        match &self.signature {
            AccountSignature::Secp256k1(s) => {
                SECP256K1.encode(out);
                s.v().encode(out);
                s.r().encode(out);
                s.s().encode(out);
            }
            AccountSignature::WebAuthn(a) => {
                WEBAUTHN.encode(out);
                a.authenticator_data.encode(out);
                a.client_data_json.encode(out);
                a.r.encode(out);
                a.s.encode(out);
                a.x.encode(out);
                a.y.encode(out);
            }
        }
    }

    fn length(&self) -> usize {
        let payload = self.payload_length();
        payload.saturating_add(alloy_rlp::length_of_length(payload))
    }
}

impl Decodable for AccountTransaction {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut list = Header::decode_bytes(buf, true)?;
        let call = AccountCall::decode(&mut list)?;
        let signature = match u8::decode(&mut list)? {
            SECP256K1 => {
                let parity = bool::decode(&mut list)?;
                let r = U256::decode(&mut list)?;
                let s = U256::decode(&mut list)?;
                AccountSignature::Secp256k1(Signature::new(r, s, parity))
            }
            WEBAUTHN => {
                if list.len() > MAX_ASSERTION_BYTES {
                    return Err(alloy_rlp::Error::Custom("passkey signature is too long"));
                }
                AccountSignature::WebAuthn(webauthn::Assertion {
                    authenticator_data: Bytes::decode(&mut list)?,
                    client_data_json: Bytes::decode(&mut list)?,
                    r: B256::decode(&mut list)?,
                    s: B256::decode(&mut list)?,
                    x: B256::decode(&mut list)?,
                    y: B256::decode(&mut list)?,
                })
            }
            _ => return Err(alloy_rlp::Error::Custom("unknown kind of signature")),
        };
        if list.is_empty() {
            Ok(Self { call, signature })
        } else {
            Err(alloy_rlp::Error::Custom(
                "more fields than an account transaction has",
            ))
        }
    }
}

fn eip2718_text(error: &alloy_eips::eip2718::Eip2718Error) -> &'static str {
    match error {
        alloy_eips::eip2718::Eip2718Error::UnexpectedType(0) => {
            "a transaction of type 0 is a list and has no type byte before it"
        }
        alloy_eips::eip2718::Eip2718Error::UnexpectedType(_) => "unexpected type",
        _ => "not the RLP of a signed transaction",
    }
}
