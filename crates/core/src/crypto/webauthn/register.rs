//! Reading what an authenticator returns when a passkey is made.
//!
//! Attestation is not asked for and not looked at, so nothing here is signed: a registration proves that the page which
//! made the passkey answered our challenge. That the key can sign is shown by the first assertion.

use alloy_primitives::B256;

use super::{
    AUTHENTICATOR_DATA_MAX_LEN, Error, USER_PRESENT, USER_VERIFIED, Verified, check_client_data,
    key_id_of,
};

/// Longest credential id (WebAuthn §5.4.1).
pub const CREDENTIAL_ID_MAX_LEN: usize = 1023;

/// Attested credential data follows the counter (WebAuthn §6.1).
const ATTESTED: u8 = 0x40;
/// The COSE key of an ES256 credential up to its x coordinate, in the one encoding CTAP2 allows (CTAP 2.1 §6.5.6):
/// `{1: 2, 3: -7, -1: 1, -2: x, -3: y}`.
const COSE_BEFORE_X: [u8; 10] = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
/// Between x and y.
const COSE_BEFORE_Y: [u8; 3] = [0x22, 0x58, 0x20];

/// A new passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Credential id, 1 to [`CREDENTIAL_ID_MAX_LEN`] bytes.
    pub credential: Vec<u8>,
    /// x coordinate of the P-256 public key, big-endian.
    pub x: B256,
    /// y coordinate of the P-256 public key, big-endian.
    pub y: B256,
    /// Relying party, origin and counter, for [`Verified::require`].
    pub verified: Verified,
}

impl Registered {
    /// The key's id in `Identity`, as [`super::Assertion::key_id`].
    #[must_use]
    pub fn key_id(&self) -> B256 {
        key_id_of(&self.x, &self.y)
    }
}

/// Reads a registration that answers `challenge`: `clientDataJSON`, and the authenticator data of the attestation.
/// Only P-256 with ES256 is taken; user presence and verification are required.
///
/// # Errors
/// The first check that fails, see [`Error`].
pub fn registered(
    client_data_json: &[u8],
    authenticator_data: &[u8],
    challenge: &[u8],
) -> Result<Registered, Error> {
    const MALFORMED: Error = Error::Malformed {
        part: "authenticator data",
    };
    let origin = check_client_data(client_data_json, "webauthn.create", challenge)?;
    if authenticator_data.len() > AUTHENTICATOR_DATA_MAX_LEN + CREDENTIAL_ID_MAX_LEN {
        return Err(MALFORMED);
    }
    let (rp_id_hash, rest) = authenticator_data
        .split_first_chunk::<32>()
        .ok_or(MALFORMED)?;
    let (flags, rest) = rest.split_first().ok_or(MALFORMED)?;
    if flags & (USER_PRESENT | USER_VERIFIED) != USER_PRESENT | USER_VERIFIED {
        return Err(Error::UserNotVerified);
    }
    if flags & ATTESTED == 0 {
        return Err(MALFORMED);
    }
    let (sign_count, rest) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
    let (_make, rest) = rest.split_first_chunk::<16>().ok_or(MALFORMED)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(MALFORMED)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > CREDENTIAL_ID_MAX_LEN {
        return Err(MALFORMED);
    }
    let (credential, key) = rest.split_at_checked(length).ok_or(MALFORMED)?;
    let (x, y) = coordinates(key).ok_or(Error::Malformed { part: "public key" })?;
    Ok(Registered {
        credential: credential.to_vec(),
        x,
        y,
        verified: Verified {
            rp_id_hash: B256::new(*rp_id_hash),
            origin: origin.to_owned(),
            sign_count: u32::from_be_bytes(*sign_count),
        },
    })
}

/// The coordinates of a COSE key. Extension outputs may follow it.
fn coordinates(cose: &[u8]) -> Option<(B256, B256)> {
    let (x, rest) = cose
        .strip_prefix(&COSE_BEFORE_X)?
        .split_first_chunk::<32>()?;
    let (y, _extensions) = rest
        .strip_prefix(&COSE_BEFORE_Y)?
        .split_first_chunk::<32>()?;
    Some((B256::new(*x), B256::new(*y)))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::crypto::webauthn::rp_id_hash;

    const CHALLENGE: [u8; 32] = [7; 32];

    fn client_data(kind: &str) -> Vec<u8> {
        let challenge = URL_SAFE_NO_PAD.encode(CHALLENGE);
        format!(
            r#"{{"type":"{kind}","challenge":"{challenge}","origin":"http://localhost:1","crossOrigin":false}}"#
        )
        .into_bytes()
    }

    fn authenticator_data(flags: u8) -> Vec<u8> {
        let mut data = rp_id_hash("localhost").to_vec();
        data.push(flags);
        data.extend_from_slice(&[0, 0, 0, 9]);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&[0, 3, 1, 2, 3]);
        data.extend_from_slice(&COSE_BEFORE_X);
        data.extend_from_slice(&[4; 32]);
        data.extend_from_slice(&COSE_BEFORE_Y);
        data.extend_from_slice(&[5; 32]);
        data
    }

    #[test]
    fn a_registration_is_read_whole() {
        let read = registered(
            &client_data("webauthn.create"),
            &authenticator_data(0x45),
            &CHALLENGE,
        )
        .unwrap();
        assert_eq!(read.credential, [1, 2, 3]);
        assert_eq!(
            (read.x, read.y),
            (B256::repeat_byte(4), B256::repeat_byte(5))
        );
        assert_eq!(read.verified.sign_count, 9);
        assert_eq!(read.verified.rp_id_hash, rp_id_hash("localhost"));
    }

    #[test]
    fn what_is_no_registration_is_refused() {
        let read = |kind, data: &[u8]| registered(&client_data(kind), data, &CHALLENGE);
        let good = authenticator_data(0x45);
        assert!(read("webauthn.get", &good).is_err());
        assert_eq!(
            read("webauthn.create", &authenticator_data(0x41)),
            Err(Error::UserNotVerified)
        );
        assert!(read("webauthn.create", &authenticator_data(0x05)).is_err());
        for cut in 0..good.len() {
            assert!(
                read("webauthn.create", &good[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        let mut other = good;
        other[60] = 0x38;
        assert!(
            read("webauthn.create", &other).is_err(),
            "another algorithm"
        );
        assert_eq!(
            registered(
                &client_data("webauthn.create"),
                &authenticator_data(0x45),
                &[8; 32]
            ),
            Err(Error::Challenge)
        );
    }
}
