//! Detached JSON Web Signatures with the keys of accounts: what signs exports and reports.
//!
//! Compact serialisation with the payload left out and not encoded (RFC 7515 appendix F, RFC 7797 `b64: false`),
//! algorithm `ES256K` (RFC 8812): ECDSA on secp256k1 over SHA-256. The protected header carries the public key
//! (`jwk`) and the account it speaks for (`kid`). Whether that account is anybody is for the caller to find out.

use alloy_primitives::{Address, B256, keccak256};
use aws_lc_rs::signature::{ECDSA_P256K1_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::{account::AccountKey, time::Timestamp};

const WHAT: &str = "a detached signature";
const ALGORITHM: &str = "ES256K";

/// Protected header.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    b64: bool,
    crit: Vec<String>,
    kid: Address,
    iat: u64,
    jwk: Jwk,
}

/// Public key (RFC 7517, RFC 8812 §3.1).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

/// Who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The account the signature speaks for, as it says.
    pub account: Address,
    /// Address of the key that signed; the account itself unless another key was added to it.
    pub key: Address,
    /// When it was signed, in whole seconds, as it says.
    pub signed: Timestamp,
}

/// Signs `payload` for an account: `header..signature`, both in base64url. `now` goes into the header as `iat`.
///
/// # Errors
/// [`Error::Refused`], which no valid key leads to.
pub fn sign(
    key: &AccountKey,
    account: Address,
    now: Timestamp,
    payload: &[u8],
) -> Result<String, Error> {
    const REFUSED: Error = Error::Refused { what: WHAT };
    // The library behind gives no public key; a signature that recovers to the account does.
    let probe = keccak256(b"stele/jws-key");
    let public = key
        .sign_hash(probe)?
        .recover_from_prehash(&probe)
        .map_err(|_| REFUSED)?
        .to_encoded_point(false);
    let (Some(x), Some(y)) = (public.x(), public.y()) else {
        return Err(REFUSED);
    };
    let header = Header {
        alg: ALGORITHM.into(),
        b64: false,
        crit: vec!["b64".into()],
        kid: account,
        iat: now.seconds(),
        jwk: Jwk {
            kty: "EC".into(),
            crv: "secp256k1".into(),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        },
    };
    let header = serde_json::to_vec(&header).map_err(|_| REFUSED)?;
    let header = URL_SAFE_NO_PAD.encode(header);
    let digest = B256::from_slice(&Sha256::digest(signing_input(&header, payload)));
    let signature = key.sign_hash(digest)?.as_bytes();
    let (rs, _) = signature.split_at(64);
    Ok(format!("{header}..{}", URL_SAFE_NO_PAD.encode(rs)))
}

/// Verifies a detached signature over `payload` and names the signer.
///
/// # Errors
/// [`Error::Malformed`] for another form or algorithm, [`Error::Signature`] if it does not match.
pub fn verify(jws: &str, payload: &[u8]) -> Result<Signer, Error> {
    let malformed = |problem| Error::Malformed {
        what: WHAT,
        problem,
    };
    let (encoded, signature) = jws
        .split_once("..")
        .ok_or_else(|| malformed("it is not of the form header..signature"))?;
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| malformed("a part is not base64url"))
    };
    let header: Header = serde_json::from_slice(&decode(encoded)?)
        .map_err(|_| malformed("its header is not one of ours"))?;
    if header.alg != ALGORITHM
        || header.b64
        || header.crit != ["b64"]
        || (header.jwk.kty.as_str(), header.jwk.crv.as_str()) != ("EC", "secp256k1")
    {
        return Err(malformed(
            "its algorithm is not ES256K over a detached payload",
        ));
    }
    let point = [decode(&header.jwk.x)?, decode(&header.jwk.y)?].concat();
    if point.len() != 64 {
        return Err(malformed("its key has a wrong length"));
    }
    let public = [&[4][..], &point].concat();
    UnparsedPublicKey::new(&ECDSA_P256K1_SHA256_FIXED, public)
        .verify(&signing_input(encoded, payload), &decode(signature)?)
        .map_err(|_| Error::Signature { scheme: ALGORITHM })?;
    Ok(Signer {
        account: header.kid,
        signed: Timestamp::from_seconds(header.iat),
        key: Address::from_slice(keccak256(&point).split_at(12).1),
    })
}

/// RFC 7797 §3: the encoded header, a dot, the payload as it is.
fn signing_input(header: &str, payload: &[u8]) -> Vec<u8> {
    [header.as_bytes(), b".", payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret32;

    #[test]
    fn signs_for_an_account_and_nothing_may_change() {
        let key = AccountKey::new(Secret32::new([7; 32])).unwrap();
        let account = Address::repeat_byte(3);
        let jws = sign(&key, account, Timestamp(5_999), b"payload").unwrap();
        let signer = verify(&jws, b"payload").unwrap();
        assert_eq!((signer.account, signer.key), (account, key.address()));
        assert_eq!(signer.signed, Timestamp(5_000));
        assert!(matches!(
            verify(&jws, b"payloae"),
            Err(Error::Signature { .. })
        ));
        for at in 0..jws.len() {
            let mut bytes = jws.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(bytes).unwrap();
            // The last letters hold spare bits of base64url, which the decoder insists are zero.
            assert!(verify(&altered, b"payload").is_err(), "letter {at}");
        }
        assert!(verify("", b"payload").is_err());
    }
}
