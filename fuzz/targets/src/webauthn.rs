//! Passkey assertions.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable as _, RlpDecodable, RlpEncodable};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stele_core::crypto::webauthn::{AllowedOrigin, Assertion, low_s, verify};

/// An assertion and the challenge it is held against, in RLP: the fields in this order.
#[derive(Clone, Debug, RlpEncodable, RlpDecodable)]
pub struct Case {
    /// `authenticatorData`.
    pub authenticator_data: Bytes,
    /// `clientDataJSON`.
    pub client_data_json: Bytes,
    /// `r` of the signature.
    pub r: B256,
    /// `s` of the signature.
    pub s: B256,
    /// x coordinate of the key.
    pub x: B256,
    /// y coordinate of the key.
    pub y: B256,
    /// The challenge.
    pub challenge: Bytes,
}

/// Verifies an assertion. What is accepted names the challenge, was signed by a present and verified user, has a low
/// `s`, and is refused for any other challenge or signature.
pub fn webauthn(data: &[u8]) {
    let mut rest = data;
    let Ok(case) = Case::decode(&mut rest) else {
        return;
    };
    let assertion = Assertion {
        authenticator_data: case.authenticator_data,
        client_data_json: case.client_data_json,
        r: case.r,
        s: case.s,
        x: case.x,
        y: case.y,
    };
    let Ok(verified) = verify(&assertion, &case.challenge) else {
        return;
    };
    let client_data = std::str::from_utf8(&assertion.client_data_json).unwrap();
    assert!(client_data.contains(&URL_SAFE_NO_PAD.encode(&case.challenge)));
    assert_eq!(assertion.authenticator_data[32] & 0x05, 0x05);
    assert_eq!(low_s(&assertion.s.0), assertion.s.0);
    let mut other = case.challenge.to_vec();
    other.push(0);
    assert!(verify(&assertion, &other).is_err());
    let mut forged = assertion;
    forged.r.0[31] ^= 1;
    assert!(verify(&forged, &case.challenge).is_err());
    let elsewhere = B256::repeat_byte(0xee);
    assert!(
        verified
            .require(&elsewhere, &[AllowedOrigin::Localhost])
            .is_err()
    );
}
