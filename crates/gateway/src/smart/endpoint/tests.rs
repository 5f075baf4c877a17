//! Assertions are checked without a server: keys, claims and purposes.

use jsonwebtoken::{EncodingKey, Header};

use super::*;

const AUDIENCE: &str = "http://localhost:8480/auth/token";

/// A P-384 key pair made for these tests: the private part in PKCS#8, the public one as a JWK.
fn pair() -> (EncodingKey, Value) {
    let key = EncodingKey::from_ec_pem(include_bytes!("es384.pem")).expect("a key");
    let mut jwk =
        serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES384).expect("a public key"))
            .expect("JSON");
    jwk["kid"] = json!("k1");
    (
        key,
        json!({ "keys": [{ "kty": "oct", "kid": "k1", "k": "AA" }, jwk] }),
    )
}

fn claims(now_s: u64) -> Value {
    json!({ "iss": "lab", "sub": "lab", "aud": AUDIENCE, "exp": now_s + 200, "jti": "a" })
}

fn signed(claims: &Value) -> (String, Value) {
    let (key, jwks) = pair();
    let header = Header {
        kid: Some("k1".into()),
        ..Header::new(Algorithm::ES384)
    };
    (
        jsonwebtoken::encode(&header, claims, &key).expect("signed"),
        jwks,
    )
}

fn verified(assertion: &str, jwks: &Value, kid: &str) -> Option<Assertion> {
    keys(jwks, kid, AlgorithmFamily::Ec)
        .find_map(|key| check_signature(assertion, Algorithm::ES384, &key, AUDIENCE))
}

#[test]
fn an_assertion_is_held_against_the_client_s_keys() {
    let (assertion, jwks) = signed(&claims(1000));
    let read = verified(&assertion, &jwks, "k1").expect("verified");
    assert_eq!((read.iss.as_str(), read.jti.as_str()), ("lab", "a"));
    assert!(check_claims(&read, Timestamp::from_seconds(1000)).is_ok());
    assert!(
        verified(&assertion, &jwks, "k2").is_none(),
        "another key id"
    );
    let mut altered = assertion;
    altered.replace_range(altered.len() - 8..altered.len() - 4, "AAAA");
    assert!(
        verified(&altered, &jwks, "k1").is_none(),
        "an altered signature"
    );
    let mut elsewhere = claims(1000);
    elsewhere["aud"] = json!("http://elsewhere/auth/token");
    let (assertion, jwks) = signed(&elsewhere);
    assert!(
        verified(&assertion, &jwks, "k1").is_none(),
        "another audience"
    );
}

#[test]
fn claims_are_bounded_in_time() {
    let check = |change: &dyn Fn(&mut Value), now_s: u64| {
        let mut claims = claims(1000);
        change(&mut claims);
        let claims: Assertion = serde_json::from_value(claims).expect("claims");
        check_claims(&claims, Timestamp::from_seconds(now_s)).map_err(|refusal| refusal.error)
    };
    assert_eq!(check(&|_| {}, 1000), Ok(()));
    assert_eq!(check(&|_| {}, 1200), Err("invalid_client"), "expired");
    assert_eq!(
        check(&|_| {}, 800),
        Err("invalid_client"),
        "lives over five minutes"
    );
    assert_eq!(
        check(&|c| c["sub"] = json!("other"), 1000),
        Err("invalid_client")
    );
    assert_eq!(
        check(&|c| c["jti"] = json!(""), 1000),
        Err("invalid_client")
    );
    assert_eq!(
        check(&|c| c["nbf"] = json!(1100), 1000),
        Err("invalid_client")
    );
}

#[test]
fn purposes_are_those_registered() {
    let client = |purposes: &[Purpose]| Client {
        id: "lab".into(),
        jwks: json!({}),
        scope: "system/*.rs".into(),
        organization: stele_core::id::OrganizationId::default(),
        practitioner: None,
        purposes: purposes.to_vec(),
    };
    let both = client(&[Purpose::Hresch, Purpose::Treat]);
    assert_eq!(purposes(&both, None).expect("default"), [Purpose::Treat]);
    assert_eq!(
        purposes(&both, Some("HRESCH".into())).expect("asked"),
        [Purpose::Hresch]
    );
    assert!(purposes(&both, Some("HPAYMT".into())).is_err());
    let research = client(&[Purpose::Hresch]);
    assert_eq!(
        purposes(&research, None).expect("only one"),
        [Purpose::Hresch]
    );
    assert!(purposes(&client(&[]), None).is_err());
}

#[test]
fn purposes_come_with_the_assertion_too() {
    let mut with = claims(1000);
    with["extensions"] =
        json!({ "hl7-b2b": { "purpose_of_use": ["urn:oid:2.16.840.1.113883.5.8#TREAT"] } });
    let read: Assertion = serde_json::from_value(with).expect("claims");
    assert_eq!(read.purpose().as_deref(), Some("TREAT"));
}
