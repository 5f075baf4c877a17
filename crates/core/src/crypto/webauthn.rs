//! WebAuthn assertions as signatures (W3C Web Authentication Level 2 §7.2, for the case that the challenge
//! is known): one P-256 signature over `authenticatorData ‖ SHA-256(clientDataJSON)`, on the exact bytes sent.

use alloy_primitives::{B256, Bytes, U256, keccak256, uint};
use aws_lc_rs::{digest, signature};
use base64::Engine as _;
use serde::Deserialize;

/// What an authenticator returned, in the parts that a verifier needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// `rpIdHash (32) ‖ flags (1) ‖ signCount (4) ‖ extensions`.
    pub authenticator_data: Bytes,
    /// The client data exactly as the browser serialised it.
    pub client_data_json: Bytes,
    /// r of the signature, big-endian.
    pub r: B256,
    /// s of the signature, big-endian, in the lower half of the order.
    pub s: B256,
    /// x of the public key, big-endian.
    pub x: B256,
    /// y of the public key, big-endian.
    pub y: B256,
}

/// What a verified assertion says beside "signed".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAssertion {
    /// SHA-256 of the relying party id.
    pub rp_id_hash: B256,
    /// Origin of the page that asked, as in the client data.
    pub origin: String,
    /// Signature counter; 0 when the authenticator keeps none.
    pub sign_count: u32,
}

/// Why an assertion is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebAuthnError {
    /// The client data is not the JSON it should be.
    #[error("client data is not valid: {0}")]
    ClientData(String),
    /// Not an assertion.
    #[error("client data has type {0:?}, expected \"webauthn.get\"")]
    Type(String),
    /// The assertion answers another challenge.
    #[error("the challenge signed is not the one asked")]
    Challenge,
    /// Asked from a page embedded in another origin.
    #[error("cross-origin assertions are not accepted")]
    CrossOrigin,
    /// Fewer than 37 bytes.
    #[error("authenticator data of {0} bytes is too short")]
    AuthenticatorData(usize),
    /// The person was not present or not verified.
    #[error("the authenticator did not verify its user (flags {0:#04x})")]
    UserVerification(u8),
    /// The signature has a twin with high s.
    #[error("s is not in the lower half of the order")]
    HighS,
    /// The signature is wrong for this key.
    #[error("the signature does not verify")]
    Signature,
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
}

/// Half of the order of P-256, rounded down (SEC 2 §2.4.2).
const HALF_ORDER: U256 =
    uint!(0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8_U256);
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;

impl Assertion {
    /// keccak-256 over x ‖ y: how `Identity` names the key.
    #[must_use]
    pub fn key_id(&self) -> B256 {
        keccak256([self.x.as_slice(), self.y.as_slice()].concat())
    }
}

/// Verifies an assertion over a challenge. Origin and relying party are returned for the caller to hold
/// against what the account's sponsor allows.
///
/// # Errors
/// Each check by its own variant; nothing is accepted in part.
pub fn verify(assertion: &Assertion, challenge: &[u8]) -> Result<VerifiedAssertion, WebAuthnError> {
    let client: ClientData = serde_json::from_slice(&assertion.client_data_json)
        .map_err(|error| WebAuthnError::ClientData(error.to_string()))?;
    if client.kind != "webauthn.get" {
        return Err(WebAuthnError::Type(client.kind.chars().take(40).collect()));
    }
    if client.challenge != base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(challenge) {
        return Err(WebAuthnError::Challenge);
    }
    if client.cross_origin {
        return Err(WebAuthnError::CrossOrigin);
    }
    let data = &assertion.authenticator_data;
    let short = || WebAuthnError::AuthenticatorData(data.len());
    let (rp_id_hash, rest) = data.split_first_chunk::<32>().ok_or_else(short)?;
    let (flags, rest) = rest.split_first().ok_or_else(short)?;
    let (count, _) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    if flags & (USER_PRESENT | USER_VERIFIED) != USER_PRESENT | USER_VERIFIED {
        return Err(WebAuthnError::UserVerification(*flags));
    }
    if U256::from_be_bytes(assertion.s.0) > HALF_ORDER {
        return Err(WebAuthnError::HighS);
    }
    let hash = digest::digest(&digest::SHA256, &assertion.client_data_json);
    let message = [data.as_ref(), hash.as_ref()].concat();
    let key = [&[4][..], assertion.x.as_slice(), assertion.y.as_slice()].concat();
    let signature = [assertion.r.as_slice(), assertion.s.as_slice()].concat();
    signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
        .verify(&message, &signature)
        .map_err(|_| WebAuthnError::Signature)?;
    Ok(VerifiedAssertion {
        rp_id_hash: B256::from(*rp_id_hash),
        origin: client.origin,
        sign_count: u32::from_be_bytes(*count),
    })
}
