//! The operator's interface: what is wrong is named in the same form as everywhere.

use serde_json::{Value, json};

use super::{Answer, Bed};

const JSON: (&str, &str) = ("content-type", "application/json");

impl Bed {
    fn operator() -> Self {
        let mut bed = Self::new();
        let token = bed.folder.token("admin", None);
        bed.set_token(token);
        bed
    }

    async fn admin(&self, path: &str, body: impl Into<String>) -> Answer {
        self.ask("POST", &format!("/admin/{path}"), &[JSON], body.into())
            .await
    }
}

/// Malformed bodies and addresses are answered by an OperationOutcome that says what and where.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let bed = Bed::operator();
    let cut = bed
        .admin("organizations", r#"{"name": "Kos","#)
        .await
        .problem(400)
        .to_string();
    assert!(cut.contains("line 1"), "{cut}");
    for (path, body, named) in [
        ("organizations", r#"{"name":"Kos"}"#, "kind"),
        (
            "organizations",
            r#"{"name":"Kos","kind":"palace"}"#,
            "palace",
        ),
        (
            "organizations",
            r#"{"name":"Kos","kind":"hospital","beds":4}"#,
            "beds",
        ),
        (
            "grants/revoke",
            r#"{"patient":"p1","grantee":"nobody","id":0}"#,
            "line 1",
        ),
        ("erase", "[]", "Erasure"),
    ] {
        let outcome = bed.admin(path, body).await.problem(422).to_string();
        assert!(outcome.contains(named), "{path} {body}: {outcome}");
    }
    bed.admin("practitioners", r#"{"name":"A","roles":["wizard"]}"#)
        .await
        .problem(400);
    bed.ask("POST", "/admin/organizations", &[], "{}")
        .await
        .problem(415);
    bed.get("/admin/accounts/0x12").await.problem(400);
    let nobody = "/admin/accounts/0x0000000000000000000000000000000000000001";
    bed.get(nobody).await.problem(404);
    let organizations = bed.get("/admin/organizations").await.is(200).json();
    assert_eq!(
        organizations.as_array().unwrap().len(),
        1,
        "nothing was added"
    );
    bed.node.stop();
}

/// A key's private members are refused by name and never repeated.
#[tokio::test(flavor = "multi_thread")]
async fn private_keys_are_refused() {
    let bed = Bed::operator();
    let organization = bed.node.ready["organization"].clone();
    let client = |key: Value| {
        json!({
            "id": "lab", "jwks": { "keys": [key] }, "scope": "system/*.rs", "organization": organization,
            "purposes": ["TREAT"]
        })
        .to_string()
    };
    let private =
        json!({ "kty": "EC", "crv": "P-384", "kid": "k", "x": "AA", "y": "AA", "d": "c2VjcmV0" });
    let outcome = bed
        .admin("clients", client(private))
        .await
        .problem(422)
        .to_string();
    assert!(
        outcome.contains("private members (d)") && outcome.contains("jwks.keys[0]"),
        "{outcome}"
    );
    assert!(!outcome.contains("c2VjcmV0"));
    let symmetric = json!({ "kty": "oct", "kid": "k", "k": "c2VjcmV0" });
    let outcome = bed
        .admin("clients", client(symmetric))
        .await
        .problem(422)
        .to_string();
    assert!(outcome.contains("(k)"), "{outcome}");
    bed.node.stop();
}
