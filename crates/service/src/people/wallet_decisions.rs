//! Decisions that a patient's wallet signs instead of the passkey. The ledger takes two of them as typed data (EIP-712):
//! to give somebody access, and to stop it. The wallet shows the fields by name; the organisation sends what was signed.

use alloy_primitives::{Address, B256, Bytes, Signature, aliases::U40};
use alloy_sol_types::{Eip712Domain, SolCall as _, SolStruct};
use serde_json::{Value, json};
use stele_core::{
    abi::{
        consent::IConsent::{grantBySigCall, grantCall, revokeBySigCall, revokeCall},
        typed,
    },
    id::{CONSENT, PatientId},
    time::Timestamp,
    tx::AccountCall,
};

use super::{Settled, drafts::DraftRead};
use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
    transactions::Order,
};

/// Gas that a signed decision may use: the signature is checked by the contract.
const GAS: u64 = 600_000;

/// What a draft says in the form that a wallet signs. The signature is still empty.
enum Typed {
    Grant(typed::Grant),
    Revoke(typed::Revoke),
}

impl Typed {
    /// Of a draft's call, good until a moment; nothing for decisions that the contract takes no signature for.
    fn of(call: &AccountCall, nonce: u64, until: Timestamp) -> Option<Self> {
        let patient = call.account;
        let deadline = U40::saturating_from(until.seconds());
        let input = call.input.as_ref();
        if call.to != CONSENT {
            return None;
        }
        if let Ok(grant) = grantCall::abi_decode(input) {
            let terms = grant.terms;
            return Some(Self::Grant(typed::Grant {
                patient,
                grantee: grant.grantee,
                categories: terms.categories,
                permissions: terms.permissions,
                purposes: terms.purposes,
                notBefore: terms.notBefore,
                expires: terms.expires,
                recordsFrom: terms.recordsFrom,
                recordsTo: terms.recordsTo,
                envelopeDigest: grant.envelopeDigest,
                request: grant.request,
                nonce,
                deadline,
            }));
        }
        let revoke = revokeCall::abi_decode(input).ok()?;
        Some(Self::Revoke(typed::Revoke {
            patient,
            grantee: revoke.grantee,
            id: revoke.id,
            directoryRoot: revoke.directoryRoot,
            nonce,
            deadline,
        }))
    }

    /// What the wallet's signature is over. 32 bytes, EIP-712.
    fn signing_hash(&self, chain_id: u64) -> B256 {
        let domain = typed::consent_domain(chain_id);
        match self {
            Self::Grant(grant) => grant.eip712_signing_hash(&domain),
            Self::Revoke(revoke) => revoke.eip712_signing_hash(&domain),
        }
    }

    /// As `eth_signTypedData_v4` takes it.
    fn document(&self, chain_id: u64) -> Value {
        let domain = typed::consent_domain(chain_id);
        let number = |value: U40| value.to::<u64>().to_string();
        match self {
            Self::Grant(grant) => document::<typed::Grant>(
                &domain,
                chain_id,
                &json!({
                    "patient": grant.patient.to_string(),
                    "grantee": grant.grantee.to_string(),
                    "categories": grant.categories.to_string(),
                    "permissions": grant.permissions.to_string(),
                    "purposes": grant.purposes.to_string(),
                    "notBefore": number(grant.notBefore),
                    "expires": number(grant.expires),
                    "recordsFrom": grant.recordsFrom.to_string(),
                    "recordsTo": grant.recordsTo.to_string(),
                    "envelopeDigest": grant.envelopeDigest,
                    "request": grant.request.to_string(),
                    "nonce": grant.nonce.to_string(),
                    "deadline": number(grant.deadline),
                }),
            ),
            Self::Revoke(revoke) => document::<typed::Revoke>(
                &domain,
                chain_id,
                &json!({
                    "patient": revoke.patient.to_string(),
                    "grantee": revoke.grantee.to_string(),
                    "id": revoke.id.to_string(),
                    "directoryRoot": revoke.directoryRoot,
                    "nonce": revoke.nonce.to_string(),
                    "deadline": number(revoke.deadline),
                }),
            ),
        }
    }

    /// The transaction that carries it with its signature.
    fn order(self, signature: Bytes) -> Order {
        match self {
            Self::Grant(grant) => Order::new(
                CONSENT,
                &grantBySigCall {
                    patient: grant.patient,
                    grantee: grant.grantee,
                    terms: stele_core::abi::consent::IConsent::Terms {
                        categories: grant.categories,
                        permissions: grant.permissions,
                        purposes: grant.purposes,
                        notBefore: grant.notBefore,
                        expires: grant.expires,
                        recordsFrom: grant.recordsFrom,
                        recordsTo: grant.recordsTo,
                    },
                    envelopeDigest: grant.envelopeDigest,
                    request: grant.request,
                    nonce: grant.nonce,
                    deadline: grant.deadline,
                    signature,
                },
                GAS,
            ),
            Self::Revoke(revoke) => Order::new(
                CONSENT,
                &revokeBySigCall {
                    patient: revoke.patient,
                    grantee: revoke.grantee,
                    id: revoke.id,
                    directoryRoot: revoke.directoryRoot,
                    nonce: revoke.nonce,
                    deadline: revoke.deadline,
                    signature,
                },
                GAS,
            ),
        }
    }
}

/// Typed data of one structure, with its types as EIP-712 writes them.
fn document<T: SolStruct>(domain: &Eip712Domain, chain_id: u64, message: &Value) -> Value {
    let fields = |written: &str| -> Vec<Value> {
        let (_, fields) = written.split_once('(').unwrap_or_default();
        fields
            .trim_end_matches(')')
            .split(',')
            .filter_map(|field| field.split_once(' '))
            .map(|(kind, name)| json!({ "name": name, "type": kind }))
            .collect()
    };
    json!({
        "types": {
            "EIP712Domain": fields(&domain.encode_type()),
            T::NAME: fields(&T::eip712_root_type()),
        },
        "primaryType": T::NAME,
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": chain_id,
            "verifyingContract": domain.verifying_contract.map(|one| one.to_string()),
        },
        "message": message,
    })
}

impl Service {
    /// What one of the actor's wallets is to sign for a draft: JSON as `eth_signTypedData_v4` takes it.
    ///
    /// # Errors
    /// There is no such draft, the wallet is not the actor's, or wallets can't sign this decision.
    pub fn wallet_draft(&self, actor: &Actor, id: &str, wallet: Address) -> Result<String> {
        const WHAT: &str = "preparing a decision for a wallet";
        let read = self.read_whole_draft(WHAT, actor, id)?;
        if !self.wallets(actor.account)?.contains(&wallet) {
            return Err(foreign());
        }
        let typed = self.typed(&read)?;
        Ok(typed.document(self.ledger.facts().chain_id).to_string())
    }

    /// Carries a decision that a wallet of the patient's signed, and sees to the keys that go with it.
    ///
    /// # Errors
    /// The draft ended, the signature is not one of the account's wallets', or the ledger refuses.
    pub async fn confirm_draft_by_wallet(
        &self,
        actor: &Actor,
        id: &str,
        signature: &[u8],
    ) -> Result<Settled> {
        const WHAT: &str = "recording a decision signed by a wallet";
        let read = self.read_whole_draft(WHAT, actor, id)?;
        if self.holds_own_keys(PatientId(actor.account))? {
            return Err(foreign());
        }
        let typed = self.typed(&read)?;
        let signer = Signature::from_raw(signature)
            .and_then(|signature| {
                let hash = typed.signing_hash(self.ledger.facts().chain_id);
                signature.recover_address_from_prehash(&hash)
            })
            .map_err(|_| Error::NotPermitted {
                message: "What your wallet returned is not a signature. Try again.".into(),
            })?;
        if !self.wallets(actor.account)?.contains(&signer) {
            return Err(foreign());
        }
        let act = self.act_of(&read.call)?;
        self.hand_keys_over(actor, &read.with).await?;
        let order = typed.order(signature.to_vec().into());
        let receipt = self
            .transactions
            .settle(WHAT, self.organization.0, order)
            .await?;
        self.decided(actor, id, &act, &read.with).await?;
        Ok(Settled {
            act,
            transaction: receipt.hash,
            height: receipt.position.height,
        })
    }

    fn typed(&self, read: &DraftRead) -> Result<Typed> {
        let nonce = self.signature_nonce(PatientId(read.call.account))?;
        Typed::of(&read.call, nonce, read.expires).ok_or_else(|| Error::NotSupported {
            message: "A wallet cannot sign this here. Use your passkey.".into(),
        })
    }
}

fn foreign() -> Error {
    Error::NotPermitted {
        message:
            "Your wallet signed with another account, or something else than this site asked for. Nothing was done."
                .into(),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;
    use stele_core::abi::consent::IConsent::Terms;

    use super::*;

    fn call(input: Vec<u8>) -> AccountCall {
        AccountCall {
            chain_id: 57_831,
            account: Address::repeat_byte(1),
            nonce: 0,
            gas_limit: 1,
            to: CONSENT,
            input: input.into(),
        }
    }

    fn grant() -> AccountCall {
        let terms = Terms {
            categories: u64::MAX,
            permissions: 3,
            purposes: 1,
            notBefore: U40::from(1_795_305_600_u64),
            expires: U40::from(1_797_897_600_u64),
            recordsFrom: 0,
            recordsTo: u16::MAX,
        };
        let call_of = grantCall {
            grantee: Address::repeat_byte(2),
            terms,
            envelopeDigest: B256::repeat_byte(3),
            request: 7,
        };
        call(call_of.abi_encode())
    }

    /// What a wallet is shown is what the contract's hash is over: the types are the contract's, and every field of the
    /// draft is in the message.
    #[test]
    fn a_grant_is_shown_field_by_field() {
        let typed = Typed::of(&grant(), 9, Timestamp::from_seconds(1_795_306_200)).expect("typed");
        let document = typed.document(57_831);
        assert_eq!(document["primaryType"], "Grant");
        assert_eq!(
            document["types"]["Grant"].as_array().map(Vec::len),
            Some(13)
        );
        assert_eq!(
            document["types"]["EIP712Domain"],
            json!([
                { "name": "name", "type": "string" },
                { "name": "version", "type": "string" },
                { "name": "chainId", "type": "uint256" },
                { "name": "verifyingContract", "type": "address" }
            ])
        );
        let message = document["message"].as_object().expect("an object");
        for field in document["types"]["Grant"].as_array().expect("a list") {
            let name = field["name"].as_str().expect("a name");
            assert!(message.contains_key(name), "{name}");
        }
        // A wallet's JavaScript would round a number of this size.
        assert_eq!(message["categories"], u64::MAX.to_string());
        assert_eq!(message["deadline"], "1795306200");
        assert_ne!(typed.signing_hash(57_831), typed.signing_hash(1));
    }

    #[test]
    fn only_what_the_contract_takes_is_signed_by_a_wallet() {
        let until = Timestamp::from_seconds(1);
        let decline = stele_core::abi::consent::IConsent::declineCall { request: 1 };
        assert!(Typed::of(&call(decline.abi_encode()), 0, until).is_none());
        let revoke = revokeCall {
            grantee: Address::repeat_byte(2),
            id: 4,
            directoryRoot: b256!(
                "0000000000000000000000000000000000000000000000000000000000000000"
            ),
        };
        let revoke = call(revoke.abi_encode());
        assert!(matches!(Typed::of(&revoke, 0, until), Some(Typed::Revoke(one)) if one.id == 4));
        let elsewhere = AccountCall {
            to: Address::repeat_byte(9),
            ..revoke
        };
        assert!(Typed::of(&elsewhere, 0, until).is_none());
    }
}
