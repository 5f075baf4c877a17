//! The signature around an export or report, and what makes its signer somebody.

use alloy_primitives::{Address, B256, U256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ExportError;
use crate::{
    account::AccountKey,
    crypto::jws,
    id::{IDENTITY, LogId},
    proof::{StateProof, TrustAnchor, mapping_slot},
    time::Timestamp,
};

/// System of pseudonymous accounts in FHIR identifiers.
const ACCOUNTS: &str = "https://stele.health/account";
/// Position of the mapping of accounts in Identity's storage; `docs/contracts/identity.md`.
const IDENTITY_ACCOUNTS: u64 = 1;
/// Position of the mapping of added keys.
const IDENTITY_KEYS: u64 = 5;

/// What Identity's storage said of the signer in a certified block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerProof {
    /// The account that signs.
    pub account: Address,
    /// Its word in Identity's storage; where another key signs for it, that key's word too.
    pub state: StateProof,
}

/// What a signer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerRole {
    /// An active organisation of the consortium.
    Organization,
    /// The patient the file is about.
    Patient,
}

/// Slot of an account's word in Identity's storage.
#[must_use]
pub fn account_slot(account: Address) -> U256 {
    mapping_slot(account.into_word(), U256::from(IDENTITY_ACCOUNTS))
}

/// Slot of the word of a key that was added to an account. `generation` stands in the account's word.
#[must_use]
pub fn key_slot(account: Address, generation: u16, key: Address) -> U256 {
    let owner = U256::from_be_bytes(account.into_word().0) | (U256::from(generation) << 160);
    let keys = mapping_slot(B256::from(owner), U256::from(IDENTITY_KEYS));
    mapping_slot(key.into_word(), keys)
}

/// The object with its signature as the last member: FHIR's `Signature` with a detached JWS over the object's bytes.
///
/// # Errors
/// The text is no JSON object, or the key refuses.
pub fn sign(
    unsigned: &str,
    key: &AccountKey,
    account: Address,
    when: Timestamp,
) -> Result<String, ExportError> {
    let open = unsigned
        .strip_suffix('}')
        .ok_or_else(|| ExportError::new("signature", "only an object can be signed"))?;
    let jws = jws::sign(key, account, when, unsigned.as_bytes())
        .map_err(|error| ExportError::new("signature", error))?;
    let signed = Timestamp::from_seconds(when.seconds());
    Ok(format!(
        "{open},\"signature\":{}}}",
        element(account, signed, &jws)
    ))
}

/// FHIR's `Signature`. All but `data` says again what stands in the signed header, so it is rebuilt and compared.
fn element(account: Address, when: Timestamp, jws: &str) -> String {
    serde_json::json!({
        "type": [{
            "system": "urn:iso-astm:E1762-95:2013",
            "code": "1.2.840.10065.1.12.1.5",
            "display": "Verification Signature"
        }],
        "when": when.to_instant(),
        "who": { "identifier": { "system": ACCOUNTS, "value": account.to_string() } },
        "targetFormat": "application/fhir+json",
        "sigFormat": "application/jose",
        "data": STANDARD.encode(jws)
    })
    .to_string()
}

#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    signature: &'a RawValue,
}

/// The object as it was signed, the signature element as it stands, and the detached JWS in it.
fn split(text: &str) -> Result<(String, &str, String), ExportError> {
    let wrong = |what: &str| ExportError::new("signature", what);
    let signed: Signed<'_> =
        serde_json::from_str(text).map_err(|error| ExportError::new("signature", error))?;
    let raw = signed.signature.get();
    let rest = text
        .trim_end()
        .strip_suffix('}')
        .and_then(|rest| rest.strip_suffix(raw))
        .and_then(|rest| rest.strip_suffix(",\"signature\":"))
        .ok_or_else(|| wrong("the signature is not the last member of the file"))?;
    let value: serde_json::Value =
        serde_json::from_str(raw).map_err(|error| ExportError::new("signature", error))?;
    let data = value
        .get("data")
        .and_then(serde_json::Value::as_str)
        .ok_or_else(|| wrong("the signature has no data"))?;
    let jws = STANDARD
        .decode(data)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| wrong("the signature's data is not base64 of a JWS"))?;
    Ok((format!("{rest}}}"), raw, jws))
}

/// Verifies the signature over a file and that its signer may sign it.
pub(super) fn verify(
    text: &str,
    proof: &SignerProof,
    patient: LogId,
    anchor: &TrustAnchor,
) -> Result<(Address, SignerRole), ExportError> {
    let (payload, raw, jws) = split(text)?;
    let signer = jws::verify(&jws, payload.as_bytes())
        .map_err(|error| ExportError::new("signature", error))?;
    if raw != element(signer.account, signer.signed, &jws) {
        return Err(ExportError::new(
            "signature",
            "what the signature says of itself is not what was signed",
        ));
    }
    let wrong = |what: &str| ExportError::new("signer", what);
    if signer.account != proof.account || proof.state.contract != IDENTITY {
        return Err(wrong(
            "the file proves another signer than the one who signed",
        ));
    }
    let state = proof
        .state
        .verify(anchor)
        .map_err(|error| ExportError::proof("signer", &error))?;
    let account = proof.account;
    let word = |slot| {
        state
            .word("signer", slot)
            .map_err(|error| ExportError::proof("signer", &error))
    };
    let found = Standing::unpack(word(account_slot(account))?);
    let speaks = if signer.key == account {
        !found.own_key_removed
    } else {
        word(key_slot(account, found.key_generation, signer.key))? == U256::from(1)
    };
    if !speaks {
        return Err(wrong("the key does not speak for the account"));
    }
    match (found.kind, found.active) {
        (1, true) => Ok((account, SignerRole::Organization)),
        (3, true) if account == patient => Ok((account, SignerRole::Patient)),
        _ => Err(wrong(
            "the signer is neither an active organisation nor the patient",
        )),
    }
}

/// What of an account's word matters for signing; the layout is Identity's.
struct Standing {
    kind: u8,
    active: bool,
    own_key_removed: bool,
    key_generation: u16,
}

impl Standing {
    fn unpack(word: U256) -> Self {
        let byte = |at: usize| word.byte(at);
        Self {
            kind: byte(0),
            active: byte(1) == 1,
            own_key_removed: byte(8) != 0,
            key_generation: u16::from_le_bytes([byte(30), byte(31)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret32;

    #[test]
    fn a_signed_object_splits_into_what_was_signed() {
        let key = AccountKey::new(Secret32::new([5; 32])).unwrap();
        let unsigned = r#"{"a":1,"b":{"signature":2}}"#;
        let signed = sign(unsigned, &key, key.address(), Timestamp(0)).unwrap();
        let (payload, raw, jws) = split(&signed).unwrap();
        assert_eq!(payload, unsigned);
        let signer = jws::verify(&jws, payload.as_bytes()).unwrap();
        assert_eq!(signer.account, key.address());
        assert_eq!(raw, element(signer.account, signer.signed, &jws));
        // A member put behind the signature is not covered by it, so the file is refused.
        let behind = format!("{},\"x\":1}}", signed.strip_suffix('}').unwrap());
        assert!(split(&behind).is_err());
    }

    #[test]
    fn the_words_layout_is_identitys() {
        let mut bytes = [0_u8; 32];
        (bytes[0], bytes[1], bytes[8], bytes[30], bytes[31]) = (3, 1, 1, 2, 0);
        let found = Standing::unpack(U256::from_le_bytes(bytes));
        assert!(found.active && found.own_key_removed);
        assert_eq!((found.kind, found.key_generation), (3, 2));
    }
}
