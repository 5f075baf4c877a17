//! secp256k1 keys of accounts: the key service and the command line sign transactions with them.

use std::fmt;

use alloy_consensus::{SignableTransaction as _, TxEip1559, crypto::secp256k1};
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use rand_core::CryptoRng;

use crate::{
    crypto::{Error, Secret32},
    tx::{AccountCall, AccountSignature, AccountTransaction, Transaction},
};

/// A secp256k1 signing key (SEC 2 §2.4.1) and its Ethereum address.
#[derive(Clone)]
pub struct AccountKey {
    secret: Secret32,
    address: Address,
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({})", self.address)
    }
}

/// The fields of a transaction that its sender chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedCall {
    /// Chain id.
    pub chain_id: u64,
    /// The account's nonce.
    pub nonce: u64,
    /// Gas limit; there is no price.
    pub gas_limit: u64,
    /// Contract called, or creation.
    pub to: TxKind,
    /// Calldata or init code.
    pub input: Bytes,
}

impl AccountKey {
    /// Takes a secret scalar.
    ///
    /// # Errors
    /// Zero, or not below the group's order.
    pub fn new(secret: Secret32) -> Result<Self, Error> {
        const REFUSED: Error = Error::Refused {
            what: "a secp256k1 secret",
        };
        // The library behind gives no public key; signing once and recovering does.
        let probe = keccak256(b"stele/account-key");
        let signature =
            secp256k1::sign_message(B256::from(*secret.expose()), probe).map_err(|_| REFUSED)?;
        let address = secp256k1::recover_signer(&signature, probe).map_err(|_| REFUSED)?;
        Ok(Self { secret, address })
    }

    /// A new key.
    ///
    /// # Errors
    /// None in practice: one in 2^128 random scalars is refused.
    pub fn random(rng: &mut impl CryptoRng) -> Result<Self, Error> {
        Self::new(Secret32::random(rng))
    }

    /// The account the key speaks for unless `Identity` says otherwise.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The secret scalar, for the key store.
    #[must_use]
    pub const fn secret(&self) -> &Secret32 {
        &self.secret
    }

    /// Signs a 32-byte hash; low s.
    ///
    /// # Errors
    /// The library refuses, which it does for no valid key.
    pub fn sign_hash(&self, hash: B256) -> Result<Signature, Error> {
        secp256k1::sign_message(B256::from(*self.secret.expose()), hash).map_err(|_| {
            Error::Refused {
                what: "signing with a secp256k1 key",
            }
        })
    }

    /// Signs an EIP-1559 transaction at price zero and encodes it (EIP-2718).
    ///
    /// # Errors
    /// As for [`Self::sign_hash`].
    pub fn sign(&self, call: UnsignedCall) -> Result<Bytes, Error> {
        self.sign_with_value(call, U256::ZERO)
    }

    /// As [`Self::sign`], with a value in wei.
    ///
    /// # Errors
    /// As for [`Self::sign_hash`].
    pub fn sign_with_value(&self, call: UnsignedCall, value: U256) -> Result<Bytes, Error> {
        let transaction = TxEip1559 {
            chain_id: call.chain_id,
            nonce: call.nonce,
            gas_limit: call.gas_limit,
            max_fee_per_gas: 0,
            max_priority_fee_per_gas: 0,
            to: call.to,
            value,
            access_list: alloy_eips::eip2930::AccessList::default(),
            input: call.input,
        };
        let signature = self.sign_hash(transaction.signature_hash())?;
        Ok(transaction.into_signed(signature).encoded_2718().into())
    }

    /// Signs a call of a contract for an account that this key speaks for: Ethereum's envelope where the account
    /// is the key's own address, else that of [`crate::tx::ACCOUNT_TX_TYPE`].
    ///
    /// # Errors
    /// As for [`Self::sign_hash`]; a creation, which only an own key may send.
    pub fn sign_for(&self, account: Address, call: UnsignedCall) -> Result<Bytes, Error> {
        if account == self.address {
            return self.sign(call);
        }
        let TxKind::Call(to) = call.to else {
            return Err(Error::Refused {
                what: "creating a contract for another account",
            });
        };
        let call = AccountCall {
            chain_id: call.chain_id,
            account,
            nonce: call.nonce,
            gas_limit: call.gas_limit,
            to,
            input: call.input,
        };
        let signature = AccountSignature::Secp256k1(self.sign_hash(call.signing_hash())?);
        let signed = AccountTransaction { call, signature };
        Ok(Transaction::Account(Box::new(signed)).encode())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};

    use super::*;
    use crate::tx::SenderKey;

    #[test]
    fn address_is_that_of_the_well_known_development_key() {
        let secret = b256!("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
        let key = AccountKey::new(Secret32::new(secret.0)).unwrap();
        assert_eq!(
            key.address(),
            address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
        );
        assert!(AccountKey::new(Secret32::new([0; 32])).is_err());
        assert!(!format!("{key:?}").contains("ac0974"));
    }

    #[test]
    fn what_it_signs_is_recovered_to_it() {
        let key = AccountKey::new(Secret32::new([7; 32])).unwrap();
        let call = UnsignedCall {
            chain_id: 5,
            nonce: 3,
            gas_limit: 100_000,
            to: TxKind::Call(Address::repeat_byte(1)),
            input: Bytes::from_static(b"abc"),
        };
        let recovered = Transaction::decode(&key.sign(call).unwrap())
            .unwrap()
            .recover(5)
            .unwrap();
        assert_eq!(
            (recovered.sender, recovered.key),
            (key.address(), SenderKey::Own)
        );
    }

    #[test]
    fn it_signs_for_an_account_it_was_added_to() {
        let key = AccountKey::new(Secret32::new([7; 32])).unwrap();
        let account = Address::repeat_byte(9);
        let call = UnsignedCall {
            chain_id: 5,
            nonce: 3,
            gas_limit: 100_000,
            to: TxKind::Call(Address::repeat_byte(1)),
            input: Bytes::from_static(b"abc"),
        };
        let signed = key.sign_for(account, call.clone()).unwrap();
        let recovered = Transaction::decode(&signed).unwrap().recover(5).unwrap();
        assert_eq!(recovered.sender, account);
        let key_id = key.address().into_word();
        assert_eq!(recovered.key, SenderKey::Secp256k1 { key_id });
        let own = key.sign_for(key.address(), call.clone()).unwrap();
        assert_eq!(own, key.sign(call).unwrap());
    }
}
