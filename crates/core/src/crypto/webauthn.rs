//! Verifying passkey assertions (WebAuthn Level 3), with no state and no network.
//!
//! The client data is checked by the *limited verification algorithm* of WebAuthn §5.8.1.2 on the
//! exact bytes that were signed: it is never parsed as JSON, so two parsers cannot disagree on it.
//! Attestation is not looked at: a passkey proves possession, not its make.

use alloy_primitives::{B256, Bytes, Keccak256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

mod register;

pub use register::{CREDENTIAL_ID_MAX_LEN, Registered, registered};

/// Longest client data accepted. Browsers write about 150 bytes; 1 KiB leaves room for origins.
pub const CLIENT_DATA_MAX_LEN: usize = 1024;
/// Longest authenticator data accepted: 37 bytes, and room for extension outputs.
pub const AUTHENTICATOR_DATA_MAX_LEN: usize = 512;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
/// (n − 1) / 2 for P-256 (SEC 2 §2.4.2): the largest `s` that is not the twin of a smaller one.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];
/// n for P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Why an assertion was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A part is missing, too long or not of the shape the standard gives it.
    #[error("the passkey's {part} is malformed")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// The assertion answers another challenge, or is a registration.
    #[error("the passkey answered another challenge")]
    Challenge,
    /// The page that asked is not one that may.
    #[error("the passkey was used on {origin:?}, which is not an allowed origin")]
    Origin {
        /// The origin the browser reported.
        origin: String,
    },
    /// The passkey was used inside a page of another site.
    #[error("the passkey was used in a frame of another site")]
    CrossOrigin,
    /// The passkey belongs to another relying party.
    #[error("the passkey belongs to another relying party")]
    RelyingParty,
    /// User presence or user verification is missing.
    #[error("the passkey did not verify its user")]
    UserNotVerified,
    /// The signature's `s` is above half the group order, so that a twin signature exists.
    #[error("the passkey's signature is not normalised to low s")]
    HighS,
    /// The signature does not match.
    #[error("the passkey's signature does not match")]
    Signature,
}

/// An origin that may ask for assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Exactly this origin, for example `https://portal.example.org`.
    Exact(String),
    /// `http://localhost` with any port: a node on one's own machine.
    Localhost,
}

impl AllowedOrigin {
    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Exact(allowed) => allowed == origin,
            Self::Localhost => origin.strip_prefix("http://localhost").is_some_and(|port| {
                port.is_empty()
                    || port.strip_prefix(':').is_some_and(|digits| {
                        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
                    })
            }),
        }
    }
}

/// A passkey's signature as it travels: what the authenticator returned, and the key it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assertion {
    /// `authenticatorData`, as returned.
    pub authenticator_data: Bytes,
    /// `clientDataJSON`, the exact bytes.
    pub client_data_json: Bytes,
    /// `r` of the signature, big-endian.
    pub r: B256,
    /// `s` of the signature, big-endian, normalised to low s by the client.
    pub s: B256,
    /// x coordinate of the P-256 public key, big-endian.
    pub x: B256,
    /// y coordinate of the P-256 public key, big-endian.
    pub y: B256,
}

impl Assertion {
    /// keccak-256 of `x ‖ y`: the key's id in `Identity`.
    #[must_use]
    pub fn key_id(&self) -> B256 {
        key_id_of(&self.x, &self.y)
    }
}

/// keccak-256 of a P-256 key's coordinates x ‖ y: its id in `Identity`.
#[must_use]
pub fn key_id_of(x: &B256, y: &B256) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(x);
    hasher.update(y);
    hasher.finalize()
}

/// What a passkey stores of a relying party id: its SHA-256.
#[must_use]
pub fn rp_id_hash(rp_id: &str) -> B256 {
    B256::new(Sha256::digest(rp_id).into())
}

/// What a verified assertion says about itself, to be held against what is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// SHA-256 of the relying party id the authenticator signed for.
    pub rp_id_hash: B256,
    /// The origin of the page that asked, as the browser reported it.
    pub origin: String,
    /// The authenticator's signature counter; 0 if it keeps none.
    pub sign_count: u32,
}

impl Verified {
    /// Checks that the passkey is one of this relying party's, used on a page that may ask.
    ///
    /// # Errors
    /// [`Error::RelyingParty`] or [`Error::Origin`].
    pub fn require(&self, rp_id_hash: &B256, origins: &[AllowedOrigin]) -> Result<(), Error> {
        if self.rp_id_hash != *rp_id_hash {
            return Err(Error::RelyingParty);
        }
        if origins.iter().any(|allowed| allowed.allows(&self.origin)) {
            return Ok(());
        }
        Err(Error::Origin {
            origin: self.origin.chars().take(120).collect(),
        })
    }
}

/// Checks that the assertion is its key's signature over `challenge`, by a present and verified
/// user, in a page that is nobody's frame. Relying party and origin are for
/// [`Verified::require`] or the chain to judge.
///
/// # Errors
/// The first check that fails, see [`Error`].
pub fn verify(assertion: &Assertion, challenge: &[u8]) -> Result<Verified, Error> {
    let origin = check_client_data(&assertion.client_data_json, "webauthn.get", challenge)?;
    let (rp_id_hash, sign_count) = check_authenticator_data(&assertion.authenticator_data)?;
    if assertion.s.0 > HALF_ORDER {
        return Err(Error::HighS);
    }
    let mut message = assertion.authenticator_data.to_vec();
    message.extend_from_slice(&Sha256::digest(&assertion.client_data_json));
    let signature = [assertion.r.0, assertion.s.0].concat();
    // SEC 1 §2.3.3: the uncompressed form of a point.
    let public = [&[4][..], assertion.x.as_slice(), assertion.y.as_slice()].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .map_err(|_| Error::Malformed { part: "public key" })?
        .verify_sig(&message, &signature)
        .map_err(|_| Error::Signature)?;
    Ok(Verified {
        rp_id_hash,
        origin: origin.to_owned(),
        sign_count,
    })
}

/// The low twin of a signature's `s`: `s` itself, or `n − s`.
///
/// Values above `n`, which no signature has, are returned as they are and fail verification.
#[must_use]
pub fn low_s(s: &[u8; 32]) -> [u8; 32] {
    if *s <= HALF_ORDER || *s >= ORDER {
        return *s;
    }
    let mut out = [0; 32];
    let mut borrow = false;
    for ((to, n), s) in out.iter_mut().zip(ORDER).zip(*s).rev() {
        let (first, under) = n.overflowing_sub(s);
        let (second, under_again) = first.overflowing_sub(u8::from(borrow));
        *to = second;
        borrow = under || under_again;
    }
    out
}

/// The challenge of a sign-in. Domain-separated, so that it can never be a transaction's hash.
#[must_use]
pub fn sign_in_challenge(chain_id: u64, random: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"stele/sign-in/v1\0");
    hasher.update(chain_id.to_be_bytes());
    hasher.update(random);
    hasher.finalize().into()
}

/// WebAuthn §5.8.1.2, with `crossOrigin` false or absent. `kind` is `webauthn.get` or `webauthn.create`.
fn check_client_data<'a>(json: &'a [u8], kind: &str, expected: &[u8]) -> Result<&'a str, Error> {
    const MALFORMED: Error = Error::Malformed {
        part: "client data",
    };
    if json.len() > CLIENT_DATA_MAX_LEN {
        return Err(MALFORMED);
    }
    let text = std::str::from_utf8(json).map_err(|_| MALFORMED)?;
    let rest = text
        .strip_prefix(r#"{"type":""#)
        .and_then(|rest| rest.strip_prefix(kind))
        .and_then(|rest| rest.strip_prefix(r#"","challenge":""#))
        .ok_or(MALFORMED)?;
    let (challenge, rest) = rest.split_once('"').ok_or(MALFORMED)?;
    if challenge != URL_SAFE_NO_PAD.encode(expected) {
        return Err(Error::Challenge);
    }
    let rest = rest.strip_prefix(r#","origin":""#).ok_or(MALFORMED)?;
    let (origin, rest) = rest.split_once('"').ok_or(MALFORMED)?;
    // An origin is ASCII without escapes (RFC 6454 §6.2); a backslash would hide where it ends.
    if origin.contains('\\') {
        return Err(MALFORMED);
    }
    let rest = match rest.strip_prefix(r#","crossOrigin":"#) {
        Some(flag) => flag.strip_prefix("false").ok_or(Error::CrossOrigin)?,
        None => rest,
    };
    // What follows, if anything, is reserved for members a verifier must ignore.
    if rest == "}" || (rest.starts_with(',') && rest.ends_with('}')) {
        Ok(origin)
    } else {
        Err(MALFORMED)
    }
}

/// WebAuthn §6.1: `rpIdHash (32) ‖ flags (1) ‖ signCount (4) ‖ extensions`.
fn check_authenticator_data(bytes: &[u8]) -> Result<(B256, u32), Error> {
    const MALFORMED: Error = Error::Malformed {
        part: "authenticator data",
    };
    if bytes.len() > AUTHENTICATOR_DATA_MAX_LEN {
        return Err(MALFORMED);
    }
    let (rp_id_hash, rest) = bytes.split_first_chunk::<32>().ok_or(MALFORMED)?;
    let (flags, rest) = rest.split_first().ok_or(MALFORMED)?;
    let (sign_count, _extensions) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
    if flags & (USER_PRESENT | USER_VERIFIED) != USER_PRESENT | USER_VERIFIED {
        return Err(Error::UserNotVerified);
    }
    Ok((B256::new(*rp_id_hash), u32::from_be_bytes(*sign_count)))
}

#[cfg(test)]
mod tests;
