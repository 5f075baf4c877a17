//! Transactions signed by a passkey.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use stele_chain::{Chain, InvalidTransaction, Rejected};
use stele_core::{
    abi::identity::IIdentity,
    crypto::webauthn::{self, Assertion},
    id::IDENTITY,
    tx::{AccountSignature, AccountTransaction, Transaction},
};

use crate::{
    accounts::account_call,
    support::{call, chain, execute, hospital, key, register_patient},
};

/// An authenticator that asks nobody.
struct Passkey(EcdsaKeyPair);

impl Passkey {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn assertion(&self, challenge: B256, rp_id: &str, origin: &str) -> Assertion {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        let client_data = format!(
            r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}","crossOrigin":false}}"#
        );
        let mut authenticator_data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        authenticator_data.extend_from_slice(&[0x05, 0, 0, 0, 0]);
        let mut message = authenticator_data.clone();
        message.extend_from_slice(digest(&SHA256, client_data.as_bytes()).as_ref());
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        let public = self.0.public_key().as_ref();
        Assertion {
            authenticator_data: authenticator_data.into(),
            client_data_json: client_data.into_bytes().into(),
            r: B256::from_slice(r),
            s: webauthn::low_s(s.try_into().unwrap()).into(),
            x: B256::from_slice(&public[1..33]),
            y: B256::from_slice(&public[33..]),
        }
    }

    fn key_id(&self) -> B256 {
        self.assertion(B256::ZERO, "", "").key_id()
    }
}

struct Patient {
    passkey: Passkey,
    account: alloy_primitives::Address,
}

impl Patient {
    fn asks(&self, nonce: u64, rp_id: &str, origin: &str) -> Bytes {
        let input = IIdentity::isActiveCall { who: self.account }
            .abi_encode()
            .into();
        let call = account_call(self.account, nonce, IDENTITY, input);
        let assertion = self.passkey.assertion(call.signing_hash(), rp_id, origin);
        let signature = AccountSignature::WebAuthn(assertion);
        Transaction::Account(Box::new(AccountTransaction { call, signature })).encode()
    }
}

fn patient_with_passkey(chain: &Chain, rp_id: &str) -> Patient {
    let own = key(50);
    register_patient(chain, own.address());
    let passkey = Passkey::new();
    let rp_id_hash = B256::from_slice(digest(&SHA256, rp_id.as_bytes()).as_ref());
    let add = IIdentity::addKeyCall {
        keyId: passkey.key_id(),
        kind: 1,
        rpIdHash: rp_id_hash,
    };
    assert!(execute(chain, call(&own, 0, IDENTITY, add)).receipt.success);
    Patient {
        passkey,
        account: own.address(),
    }
}

fn allow(chain: &Chain, origin: &str) {
    let nonce = chain.pending_nonce(hospital().address()).unwrap();
    let allow = IIdentity::allowOriginCall {
        originDigest: keccak256(origin),
        allowed: true,
    };
    assert!(
        execute(chain, call(&hospital(), nonce, IDENTITY, allow))
            .receipt
            .success
    );
}

/// A passkey signs for the account, on the pages and for the relying party its organisation named only.
#[test]
fn a_passkey_signs_where_its_organisation_allows() {
    let chain = chain(false);
    let patient = patient_with_passkey(&chain, "care.example");
    let refused = |transaction| match chain.submit(transaction) {
        Err(Rejected::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    };
    let organization = hospital().address();
    let origin = "https://care.example";
    assert_eq!(
        refused(patient.asks(1, "care.example", origin)),
        InvalidTransaction::Origin { organization }
    );
    allow(&chain, origin);
    let receipt = execute(&chain, patient.asks(1, "care.example", origin));
    assert!(receipt.receipt.success);
    assert_eq!(
        refused(patient.asks(2, "evil.example", origin)),
        InvalidTransaction::RelyingParty {
            account: patient.account
        }
    );
    assert_eq!(
        refused(patient.asks(2, "care.example", "https://evil.example")),
        InvalidTransaction::Origin { organization }
    );
    let stranger = Patient {
        passkey: Passkey::new(),
        account: patient.account,
    };
    assert_eq!(
        refused(stranger.asks(2, "care.example", origin)),
        InvalidTransaction::KeyRefused {
            account: patient.account
        }
    );
}

/// A node on one's own machine picks any free port.
#[test]
fn localhost_is_allowed_with_any_port_once_named() {
    let chain = chain(false);
    let patient = patient_with_passkey(&chain, "localhost");
    let origin = "http://localhost:43121";
    assert!(chain.submit(patient.asks(1, "localhost", origin)).is_err());
    allow(&chain, "http://localhost");
    assert!(
        execute(&chain, patient.asks(1, "localhost", origin))
            .receipt
            .success
    );
    assert!(
        chain
            .submit(patient.asks(2, "localhost", "http://localhost.evil.example"))
            .is_err()
    );
}
