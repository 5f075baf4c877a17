//! What is good once is not good twice: client assertions, over restarts too.

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use stele_core::time::{Clock as _, SystemClock};

use crate::node::{Client, Folder, Running};

/// The key pair of the gateway's own tests.
const KEY: &[u8] = include_bytes!("../../../gateway/src/smart/endpoint/es384.pem");

/// NFR-SEC6: a client assertion buys one token. Sent again, to the same node or after a restart, it is refused; so is one
/// for another audience, and one that has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_assertion_is_good_once() {
    let folder = Folder::new();
    let node = folder.start();
    let key = EncodingKey::from_ec_pem(KEY).unwrap();
    let mut jwk =
        serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES384).unwrap()).unwrap();
    jwk["kid"] = json!("k1");
    let operator = Client::new(folder.token("admin", None));
    let registered = operator
        .send(
            "POST",
            &node.url("/admin/clients"),
            Some((
                "application/json",
                json!({
                    "id": "lab", "jwks": { "keys": [jwk] }, "scope": "system/*.rs",
                    "organization": node.ready["organization"], "purposes": ["TREAT"]
                })
                .to_string(),
            )),
        )
        .await;
    assert_eq!(registered.status, 200, "{}", registered.text);

    // Both runs must be the same audience, so the port is kept.
    let port = node.ready["http"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let audience = node.url("/auth/token");
    let assertion = |jti: &str, audience: &str, ends_in: i64| {
        let now = SystemClock.now().seconds();
        let claims = json!({
            "iss": "lab", "sub": "lab", "aud": audience, "jti": jti,
            "exp": i64::try_from(now).unwrap() + ends_in
        });
        let header = Header {
            kid: Some("k1".into()),
            ..Header::new(Algorithm::ES384)
        };
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let once = assertion("a", &audience, 200);
    let (status, answer) = ask(&node, &once).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        Client::new(token).get(&node.fhir("Patient")).await.status,
        200
    );
    let (status, answer) = ask(&node, &once).await;
    assert_eq!(
        (status, &answer["error"]),
        (401, &json!("invalid_client")),
        "{answer}"
    );
    for (what, bad) in [
        (
            "another audience",
            assertion("b", "http://elsewhere/auth/token", 200),
        ),
        ("expired", assertion("c", &audience, -10)),
        ("too long", assertion("d", &audience, 3600)),
    ] {
        let (status, answer) = ask(&node, &bad).await;
        assert_eq!(status, 401, "{what}: {answer}");
    }
    node.kill();

    let node = folder.start_with(&["--http", &format!("127.0.0.1:{port}")]);
    let (status, answer) = ask(&node, &once).await;
    assert_eq!(status, 401, "a crash makes nobody forget: {answer}");
    let (status, answer) = ask(&node, &assertion("e", &audience, 200)).await;
    assert_eq!(status, 200, "{answer}");
    node.stop();
}

async fn ask(node: &Running, assertion: &str) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(node.url("/auth/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!(
            "grant_type=client_credentials&scope=system%2F*.rs&client_assertion={assertion}\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        ))
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}
