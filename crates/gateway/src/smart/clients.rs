//! What a client must be to be registered: an id, scopes of this server, purposes, and public keys only.

use axum::http::StatusCode;
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use serde::Deserialize as _;
use serde_json::Value;
use stele_fhir::outcome::{Issue, IssueCode};
use stele_service::clients::Client;

use super::Scopes;
use crate::problem::Problem;

/// # Errors
/// 422 that names everything that is wrong. No key's content is repeated.
pub(crate) fn check(client: &Client) -> Result<(), Problem> {
    let mut issues = Vec::new();
    if client.id.is_empty() || client.id.len() > ID_MAX {
        issues.push(wrong("id", &format!("must have 1 to {ID_MAX} characters")));
    }
    match client.scope.parse::<Scopes>() {
        Ok(scopes) if scopes.is_empty() => {
            issues.push(wrong("scope", "names no scope"));
        }
        Ok(scopes) if scopes.is_admin() => {
            issues.push(wrong("scope", "admin is for the operator, not for clients"));
        }
        Ok(_) => {}
        Err(error) => issues.push(wrong("scope", &error.to_string())),
    }
    if client.purposes.is_empty() {
        issues.push(wrong("purposes", "names no purpose of use"));
    }
    check_keys(&client.jwks, &mut issues);
    if issues.is_empty() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, issues))
}

fn check_keys(jwks: &Value, issues: &mut Vec<Issue>) {
    let keys = jwks.get("keys").and_then(Value::as_array);
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        issues.push(wrong(
            "jwks.keys",
            "must be a list of at least one public key (RFC 7517)",
        ));
        return;
    };
    for (index, key) in keys.iter().enumerate() {
        let place = format!("jwks.keys[{index}]");
        let private: Vec<&str> = PRIVATE
            .into_iter()
            .filter(|member| key.get(member).is_some())
            .collect();
        if !private.is_empty() {
            issues.push(wrong(
                &place,
                &format!(
                    "has private members ({}): register public keys only, and hold this key for stolen",
                    private.join(", ")
                ),
            ));
        } else if let Err(problem) = check_public(key) {
            issues.push(wrong(&place, problem));
        }
    }
}

fn check_public(key: &Value) -> Result<(), &'static str> {
    let member = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    if member("kid").is_empty() {
        return Err("has no kid, by which assertions name it");
    }
    match (member("kty"), member("crv")) {
        ("EC", "P-256" | "P-384") => {}
        ("RSA", _) if member("n").len() >= RSA_MIN_LEN => {}
        ("RSA", _) => return Err("is an RSA key of fewer than 2048 bits"),
        _ => return Err("must be RSA, or EC with P-384 or P-256"),
    }
    let read = Jwk::deserialize(key).ok();
    read.and_then(|jwk| DecodingKey::from_jwk(&jwk).ok())
        .map(drop)
        .ok_or("can't be read as a public key (RFC 7517)")
}

fn wrong(place: &str, text: &str) -> Issue {
    Issue::error(IssueCode::Value, format!("{place} {text}")).at(place)
}

/// Members of private and symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Base64url of a modulus of 2048 bits: 256 bytes without a leading zero.
const RSA_MIN_LEN: usize = 342;
/// A longer id is no id.
const ID_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey};
    use serde_json::json;
    use stele_core::{consent::Purpose, id::OrganizationId};

    use super::*;

    fn public() -> Value {
        let key = EncodingKey::from_ec_pem(include_bytes!("endpoint/es384.pem")).expect("a key");
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES384).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!("k1");
        jwk
    }

    fn refused(change: impl FnOnce(&mut Client)) -> String {
        let mut client = Client {
            id: "lab".into(),
            jwks: json!({ "keys": [public()] }),
            scope: "system/*.rs".into(),
            organization: OrganizationId::default(),
            practitioner: None,
            purposes: vec![Purpose::Treat],
        };
        change(&mut client);
        check(&client).err().map_or_else(String::new, |problem| {
            assert_eq!(problem.status, 422);
            problem.to_json()
        })
    }

    #[test]
    fn private_members_are_refused_by_name() {
        assert_eq!(refused(|_| {}), "");
        for member in PRIVATE {
            let mut key = public();
            key[member] = json!("c2VjcmV0");
            let text = refused(|client| client.jwks = json!({ "keys": [public(), key] }));
            assert!(
                text.contains(&format!("private members ({member})")),
                "{text}"
            );
            assert!(text.contains(r#""expression":["jwks.keys[1]"]"#), "{text}");
            assert!(!text.contains("c2VjcmV0"), "a key is not repeated");
        }
    }

    #[test]
    fn keys_that_nobody_could_use_are_refused() {
        let with = |key: Value| refused(|client| client.jwks = json!({ "keys": [key] }));
        let mut nameless = public();
        nameless.as_object_mut().expect("a key").remove("kid");
        assert!(with(nameless).contains("kid"));
        assert!(
            with(json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "" })).contains("RSA")
        );
        assert!(
            with(json!({ "kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB" })).contains("2048")
        );
        assert!(refused(|client| client.jwks = json!({ "keys": [] })).contains("jwks.keys"));
        assert!(refused(|client| client.scope = "admin".into()).contains("operator"));
        assert!(refused(|client| client.scope = "system/Pony.r".into()).contains("system/Pony.r"));
        assert!(refused(|client| client.purposes.clear()).contains("purposes"));
    }
}
