//! Access tokens: signed statements of who asks, for whom, and how far. Nothing is stored; a token ends by itself.

use alloy_primitives::Address;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use stele_core::{
    consent::Purpose,
    crypto::{Secret32, os_rng},
    id::{OrganizationId, PatientId},
    time::Timestamp,
};

use super::Scopes;

/// Key of the access tokens of one node: 32 bytes for HMAC-SHA-256, made at random and kept wrapped at rest.
#[derive(Clone, Debug)]
pub struct TokenKey(Secret32);

impl TokenKey {
    /// Takes the key as it is kept.
    #[must_use]
    pub const fn new(secret: Secret32) -> Self {
        Self(secret)
    }
}

/// What a new access token says.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Client it is given to.
    pub client: String,
    /// Organisation it acts for.
    pub organization: OrganizationId,
    /// Practitioner it acts as.
    pub practitioner: Option<Address>,
    /// Patient it acts as; excludes a practitioner.
    pub patient: Option<PatientId>,
    /// How far it reaches.
    pub scopes: Scopes,
    /// Purposes of use it claims.
    pub purposes: Vec<Purpose>,
    /// How long it lives, in seconds.
    pub lifetime_s: u64,
}

/// Signing a token failed.
#[derive(Debug, thiserror::Error)]
#[error("signing an access token for client {client}")]
pub struct MintError {
    client: String,
    #[source]
    source: jsonwebtoken::errors::Error,
}

/// Claims of an access token (RFC 9068 names, and ours).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: String,
    pub(crate) client_id: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) jti: String,
    pub(crate) scope: String,
    pub(crate) organization: OrganizationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) practitioner: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) patient: Option<PatientId>,
    pub(crate) purpose_of_use: Vec<Purpose>,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Not one of ours, or altered.
    Invalid,
    /// It ended.
    Expired,
}

/// Signs an access token. `base_url` is the front's own address, which only accepts tokens made for it.
///
/// # Errors
/// The claims can't be signed.
pub fn mint(
    key: &TokenKey,
    base_url: &str,
    token: &NewToken,
    now: Timestamp,
) -> Result<String, MintError> {
    let issued = now.seconds();
    let claims = Claims {
        iss: base_url.to_owned(),
        aud: audience(base_url),
        sub: token.client.clone(),
        client_id: token.client.clone(),
        iat: issued,
        exp: issued.saturating_add(token.lifetime_s),
        jti: random_id(),
        scope: token.scopes.to_string(),
        organization: token.organization,
        practitioner: token.practitioner,
        patient: token.patient,
        purpose_of_use: token.purposes.clone(),
    };
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.0.expose())).map_err(
        |source| MintError {
            client: token.client.clone(),
            source,
        },
    )
}

/// Checks a token's signature, address and time.
pub(crate) fn verify(
    key: &TokenKey,
    base_url: &str,
    token: &str,
    now: Timestamp,
) -> Result<Claims, Rejected> {
    let mut validation = Validation::new(Algorithm::HS256);
    // Time is an argument here, not the system's.
    validation.validate_exp = false;
    validation.set_audience(&[audience(base_url)]);
    validation.set_issuer(&[base_url]);
    let decoding = DecodingKey::from_secret(key.0.expose());
    let claims = jsonwebtoken::decode::<Claims>(token, &decoding, &validation)
        .map_err(|_| Rejected::Invalid)?
        .claims;
    if claims.exp <= now.seconds() {
        Err(Rejected::Expired)
    } else {
        Ok(claims)
    }
}

fn audience(base_url: &str) -> String {
    format!("{base_url}/fhir/r4")
}

/// 16 random bytes in hexadecimal.
pub(crate) fn random_id() -> String {
    let bytes = Secret32::random(&mut os_rng());
    alloy_primitives::hex::encode(bytes.expose().first_chunk::<16>().unwrap_or(&[0; 16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "http://localhost:8480";

    fn key(byte: u8) -> TokenKey {
        TokenKey::new(Secret32::new([byte; 32]))
    }

    fn token() -> NewToken {
        NewToken {
            client: "lab".into(),
            organization: OrganizationId(Address::repeat_byte(1)),
            practitioner: None,
            patient: None,
            scopes: "system/*.rs".parse().expect("scopes"),
            purposes: vec![Purpose::Treat],
            lifetime_s: 300,
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_with_until_it_ends() {
        let now = Timestamp::from_seconds(1_000_000);
        let text = mint(&key(7), BASE, &token(), now).expect("a token");
        let claims = verify(&key(7), BASE, &text, now).expect("good");
        assert_eq!(
            (claims.client_id.as_str(), claims.scope.as_str()),
            ("lab", "system/*.rs")
        );
        assert_eq!(claims.organization, token().organization);
        assert_eq!(claims.purpose_of_use, [Purpose::Treat]);
        let last = Timestamp::from_seconds(1_000_299);
        assert!(verify(&key(7), BASE, &text, last).is_ok());
        let end = Timestamp::from_seconds(1_000_300);
        assert_eq!(verify(&key(7), BASE, &text, end), Err(Rejected::Expired));
    }

    #[test]
    fn other_keys_servers_and_algorithms_are_refused() {
        let now = Timestamp::from_seconds(1_000_000);
        let text = mint(&key(7), BASE, &token(), now).expect("a token");
        assert_eq!(verify(&key(8), BASE, &text, now), Err(Rejected::Invalid));
        assert_eq!(
            verify(&key(7), "http://other", &text, now),
            Err(Rejected::Invalid)
        );
        let mut altered = text.clone();
        altered.replace_range(altered.len() - 6..altered.len() - 4, "zz");
        assert_eq!(verify(&key(7), BASE, &altered, now), Err(Rejected::Invalid));
        // {"alg":"none","typ":"JWT"} with the same claims.
        let claims = text.split('.').nth(1).expect("claims");
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert_eq!(verify(&key(7), BASE, &none, now), Err(Rejected::Invalid));
        assert_eq!(verify(&key(7), BASE, "", now), Err(Rejected::Invalid));
    }

    #[test]
    fn the_key_is_never_printed() {
        assert!(!format!("{:?}", key(7)).contains('7'));
    }
}
