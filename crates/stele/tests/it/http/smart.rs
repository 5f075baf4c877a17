//! SMART backend services: who gets a token, and what it opens.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use stele_core::{crypto::Secret32, time::Timestamp};
use stele_gateway::{NewToken, TokenKey, mint};

use super::{Answer, Bed, FHIR, observation};
use crate::node::{Client, patient};

/// A client system with its key; the pairs were made for these tests.
struct System {
    id: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl System {
    fn new(id: &str, algorithm: Algorithm) -> Self {
        let key = match algorithm {
            Algorithm::RS384 => EncodingKey::from_rsa_pem(include_bytes!("rs384.pem")),
            _ => EncodingKey::from_ec_pem(include_bytes!("es384.pem")),
        };
        Self {
            id: id.to_owned(),
            algorithm,
            key: key.unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = "k1".into();
        json!({ "keys": [jwk] })
    }

    /// Claims of a good assertion, each with an id of its own.
    fn claims(&self, bed: &Bed) -> Value {
        let jti = uuid();
        json!({ "iss": self.id, "sub": self.id, "aud": bed.url("/auth/token"), "exp": now_s() + 120, "jti": jti })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some("k1".into()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

impl Bed {
    async fn register(&self, system: &System, scope: &str, practitioner: Option<&str>) {
        let mut client = json!({
            "id": system.id, "jwks": system.jwks(), "scope": scope, "organization": self.node.ready["organization"],
            "purposes": ["TREAT"]
        });
        if let Some(practitioner) = practitioner {
            client["practitioner"] = practitioner.into();
        }
        let operator = Client::new(self.folder.token("admin", None));
        let url = self.url("/admin/clients");
        let answer = operator
            .send("POST", &url, Some(("application/json", client.to_string())))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn token(&self, assertion: &str, scope: &str) -> Answer {
        let form = url_encoded(&[
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", scope),
        ]);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.ask("POST", "/auth/token", &[kind], form).await
    }

    async fn good_token(&self, system: &System, scope: &str) -> Value {
        let assertion = system.sign(&system.claims(self));
        self.token(&assertion, scope).await.is(200).json()
    }
}

fn url_encoded(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| {
        let value: String = value
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn now_s() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the node under test has the system's clock"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn uuid() -> String {
    let bytes = Secret32::random(&mut stele_core::crypto::os_rng());
    bytes
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Discovery, a token by RS384 and by ES384, what it opens, and what it says of itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_a_token_by_its_key() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.set_token(String::new());
    let told = bed
        .get(".well-known/smart-configuration")
        .await
        .is(200)
        .json();
    assert_eq!(told["token_endpoint"], bed.url("/auth/token"));
    assert_eq!(told["grant_types_supported"], json!(["client_credentials"]));
    for algorithm in ["RS384", "ES384"] {
        let offered = told["token_endpoint_auth_signing_alg_values_supported"].to_string();
        assert!(offered.contains(algorithm), "{offered}");
    }
    let statement = bed.get("metadata").await.is(200).json();
    assert_eq!(stele_fhir::validate::resource(&statement), []);
    assert_eq!(
        statement["rest"][0]["security"]["extension"][0]["extension"][0]["valueUri"],
        told["token_endpoint"]
    );

    for system in [
        System::new("rsa", Algorithm::RS384),
        System::new("curve", Algorithm::ES384),
    ] {
        bed.register(&system, "system/*.rs system/Observation.cud", None)
            .await;
        // What is both asked for and registered is given.
        let given = bed.good_token(&system, "system/*.cruds openid").await;
        assert_eq!(given["token_type"], "bearer");
        assert_eq!(given["scope"], "system/*.rs system/Observation.cruds");
        assert!((300..=3600).contains(&given["expires_in"].as_u64().unwrap()));
        let token = given["access_token"].as_str().unwrap().to_owned();
        bed.set_token(token.clone());
        bed.get("Patient/p1").await.is(200);
        let id = format!("by-{}", system.id);
        bed.put(&observation(&id, "p1", "718-7", 1.0)).await.is(201);
        let refused = bed.put(&patient("p2")).await.is(403);
        assert!(
            refused
                .header("www-authenticate")
                .contains("insufficient_scope"),
            "{:?}",
            refused.headers
        );
        bed.get("/admin/organizations").await.problem(403);
        let form = url_encoded(&[("token", &token)]);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let said = bed
            .ask("POST", "/auth/introspect", &[kind], form)
            .await
            .is(200)
            .json();
        assert_eq!(
            (&said["active"], &said["client_id"]),
            (&json!(true), &json!(system.id))
        );
        let other = url_encoded(&[("token", "not.a.token")]);
        let said = bed
            .ask("POST", "/auth/introspect", &[kind], other)
            .await
            .is(200)
            .json();
        assert_eq!(said, json!({ "active": false }));
    }
    bed.node.stop();
}

/// Every way in which an assertion may be wrong is refused with the error of RFC 6749, and gives nothing.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_assertions_are_refused() {
    let mut bed = Bed::new();
    bed.set_token(String::new());
    let system = System::new("lab", Algorithm::ES384);
    bed.register(&system, "system/Observation.rs", None).await;
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = system.claims(&bed);
        change(&mut claims);
        claims
    };
    let thief = System::new("lab", Algorithm::RS384);
    let symmetric = jsonwebtoken::encode(
        &Header {
            kid: Some("k1".into()),
            ..Header::new(Algorithm::HS256)
        },
        &claims(&|_| {}),
        &EncodingKey::from_secret(b"public keys are no secrets"),
    );
    let other_kid = jsonwebtoken::encode(
        &Header {
            kid: Some("k2".into()),
            ..Header::new(Algorithm::ES384)
        },
        &claims(&|_| {}),
        &system.key,
    );
    let used = system.sign(&claims(&|_| {}));
    bed.token(&used, "system/*.rs").await.is(200);
    for (what, assertion) in [
        (
            "wrong audience",
            system.sign(&claims(&|c| {
                c["aud"] = "https://elsewhere.example/token".into()
            })),
        ),
        (
            "expired",
            system.sign(&claims(&|c| c["exp"] = (now_s() - 10).into())),
        ),
        (
            "too long",
            system.sign(&claims(&|c| c["exp"] = (now_s() + 4000).into())),
        ),
        (
            "not yet",
            system.sign(&claims(&|c| c["nbf"] = (now_s() + 1000).into())),
        ),
        (
            "another subject",
            system.sign(&claims(&|c| c["sub"] = "other".into())),
        ),
        (
            "an unknown client",
            system.sign(&claims(&|c| c["iss"] = "nobody".into())),
        ),
        (
            "no id",
            system.sign(&claims(&|c| drop(c.as_object_mut().unwrap().remove("jti")))),
        ),
        ("another key", thief.sign(&claims(&|_| {}))),
        ("another kid", other_kid.unwrap()),
        ("a symmetric key", symmetric.unwrap()),
        ("used before", used),
        ("no JWT", "abc".to_owned()),
    ] {
        let refused = bed.token(&assertion, "system/*.rs").await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.text);
        assert_eq!(refused.json()["error"], "invalid_client", "{what}");
        assert_eq!(refused.header("cache-control"), "no-store");
    }
    let fresh = || system.sign(&system.claims(&bed));
    let refused = bed.token(&fresh(), "system/Patient.r").await.is(400).json();
    assert_eq!(refused["error"], "invalid_scope");
    let refused = bed.token(&fresh(), "admin").await.is(400).json();
    assert_eq!(
        refused["error"], "invalid_scope",
        "no client is ever the operator"
    );
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let refused = bed
        .ask("POST", "/auth/token", &[kind], "grant_type=password")
        .await
        .is(400)
        .json();
    assert_eq!(refused["error"], "unsupported_grant_type");
    let as_json = ("content-type", "application/json");
    bed.ask("POST", "/auth/token", &[as_json], "{}")
        .await
        .is(400);
    bed.node.stop();
}

/// A narrow token reads what it names and nothing else, not even through joins; an expired, altered or foreign one
/// reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_it_names() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    bed.put(&observation("o1", "p1", "718-7", 1.0))
        .await
        .is(201);
    let narrow = bed.folder.token("system/Observation.rs", None);
    bed.set_token(narrow.clone());
    bed.get("Observation/o1").await.is(200);
    assert_eq!(
        bed.found("Observation?code=718-7&_include=Observation:subject")
            .await,
        ["Observation/o1"]
    );
    for refused in [
        "Patient/p1",
        "Patient?_id=p1",
        "Patient/p1/_history",
        "Patient/p1/$everything",
        "Patient/p1/$proof",
        "Observation?subject:Patient.family=Testfamily",
        "Patient?_has:Observation:patient:code=718-7",
    ] {
        let answer = bed.get(refused).await.is(403);
        assert!(
            answer
                .header("www-authenticate")
                .contains("insufficient_scope"),
            "{refused}"
        );
    }
    bed.ask("DELETE", "Observation/o1", &[], "")
        .await
        .problem(403);
    let text = observation("o1", "p1", "718-7", 2.0).to_string();
    let conditional = [FHIR, ("if-none-exist", "code=718-7")];
    bed.ask("POST", "Observation", &conditional, text)
        .await
        .problem(403);
    let create_only = bed.folder.token("system/Observation.c", None);
    bed.set_token(create_only);
    bed.get("Observation/o1").await.problem(403);
    bed.post("Observation", &observation("x", "p1", "718-7", 2.0))
        .await
        .is(201);

    let (head, rest) = narrow.split_at(narrow.len() - 6);
    let altered = format!(
        "{head}{}",
        if rest.starts_with("AAAA") {
            "BBBBBB"
        } else {
            "AAAAAA"
        }
    );
    bed.set_token(altered);
    let refused = bed.get("Observation/o1").await.is(401);
    assert!(refused.header("www-authenticate").contains("invalid_token"));

    // The node's own key, with which an hour-old token and one for another node are made.
    let unlock = stele_vault::unlock::read_key_file(&bed.folder.beside("data.key")).unwrap();
    let wrapped = std::fs::read(bed.folder.path().join("token.key")).unwrap();
    let key =
        stele_core::crypto::keystore::unwrap(&wrapped, &unlock, b"stele/token-key/1").unwrap();
    let key = TokenKey::new(Secret32::new(key.as_slice().try_into().unwrap()));
    let token = NewToken {
        client: "operator".into(),
        organization: serde_json::from_value(bed.node.ready["organization"].clone()).unwrap(),
        practitioner: None,
        patient: None,
        scopes: "system/*.rs".parse().unwrap(),
        purposes: vec![stele_core::consent::Purpose::Treat],
        lifetime_s: 600,
    };
    let base = bed.node.ready["http"].as_str().unwrap().to_owned();
    let made = |base: &str, at: u64| mint(&key, base, &token, Timestamp::from_seconds(at)).unwrap();
    bed.set_token(made(&base, now_s()));
    bed.get("Observation/o1").await.is(200);
    bed.set_token(made(&base, now_s() - 3600));
    let expired = bed.get("Observation/o1").await.is(401);
    assert!(
        expired.header("www-authenticate").contains("expired"),
        "{:?}",
        expired.headers
    );
    bed.set_token(made("http://elsewhere.example", now_s()));
    bed.get("Observation/o1").await.problem(401);
    bed.node.stop();
}

/// A client acts for its organisation or as one of its practitioners; the trail tells them apart, and who is
/// suspended acts no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_acts_for_somebody() {
    let mut bed = Bed::new();
    bed.put(&patient("p1")).await.is(201);
    let home = bed.folder.token("system/*.cruds", None);
    let doctor = bed.folder.json(&[
        "practitioner",
        "add",
        "Dr Lind",
        "--roles",
        "doctor",
        "--json",
    ]);
    let doctor = doctor["practitioner"].as_str().unwrap().to_owned();
    let ward = System::new("ward", Algorithm::ES384);
    bed.register(&ward, "system/*.rs", Some(&doctor)).await;
    let token = bed.good_token(&ward, "system/*.rs").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    bed.set_token(token.clone());
    bed.get("Patient/p1").await.is(200);
    bed.set_token(home);
    bed.get("Patient/p1").await.is(200);
    let events = bed.get("AuditEvent?patient=p1").await.is(200).json();
    let who: Vec<String> = events["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            e["resource"]["agent"][0]["who"]["identifier"]["value"]
                .as_str()
                .unwrap()
                .to_lowercase()
        })
        .collect();
    let organization = bed.node.ready["organization"]
        .as_str()
        .unwrap()
        .to_lowercase();
    assert_eq!(who, [organization, doctor.to_lowercase()]);

    let operator = Client::new(bed.folder.token("admin", None));
    let url = bed.url(&format!("/admin/practitioners/{doctor}/status"));
    let answer = operator
        .send(
            "POST",
            &url,
            Some(("application/json", r#"{"active":false}"#.to_owned())),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    bed.set_token(token);
    bed.get("Patient/p1").await.problem(401);
    bed.node.stop();
}
