use super::*;

fn rules(hosts: &[&str], origins: &[&str], token: Option<&str>) -> Rules {
    Rules {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        origins: Origins::These(origins.iter().map(ToString::to_string).collect()),
        token: token.map(SecretString::from),
    }
}

fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn call(headers: &[(&str, &str)]) -> Request<()> {
    request("POST", headers)
}

#[test]
fn names_that_a_page_could_point_here_are_refused() {
    let default = rules(&[], &[], None);
    for host in [
        "localhost",
        "LOCALHOST:8545",
        "127.0.0.1:8545",
        "[::1]:8545",
        "192.168.7.9",
    ] {
        assert!(default.admit(&call(&[("host", host)])).is_ok(), "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "a b",
    ] {
        assert_eq!(
            default.admit(&call(&[("host", host)])),
            Err(Refusal::Host),
            "{host}"
        );
    }
    assert_eq!(default.admit(&call(&[])), Err(Refusal::Host));

    let listed = rules(&["node.hospital.example", "other.example:8545"], &[], None);
    assert!(
        listed
            .admit(&call(&[("host", "node.hospital.example:9")]))
            .is_ok()
    );
    assert!(
        listed
            .admit(&call(&[("host", "Other.Example:8545")]))
            .is_ok()
    );
    assert_eq!(
        listed.admit(&call(&[("host", "other.example:9")])),
        Err(Refusal::Host)
    );
    assert!(
        rules(&["*"], &[], None)
            .admit(&call(&[("host", "any.example")]))
            .is_ok()
    );
}

#[test]
fn pages_are_refused_unless_listed() {
    let page = "https://wallet.example";
    let headers = [("host", "localhost"), ("origin", page)];
    let default = rules(&[], &[], None);
    assert_eq!(default.admit(&call(&headers)), Err(Refusal::Origin));
    for origin in [
        "http://localhost:3000",
        "https://remix.ethereum.org",
        "null",
    ] {
        let headers = [("host", "localhost"), ("origin", origin)];
        assert_eq!(
            default.admit(&call(&headers)),
            Err(Refusal::Origin),
            "{origin}"
        );
        assert_eq!(
            default.admit(&request("OPTIONS", &headers)),
            Err(Refusal::Origin),
            "{origin}"
        );
    }
    let listed = rules(&[], &[page], None);
    let origin = HeaderValue::from_static(page);
    assert_eq!(
        listed.admit(&call(&headers)),
        Ok(Admitted::Call {
            origin: Some(origin.clone())
        })
    );
    assert_eq!(
        listed.admit(&request("OPTIONS", &headers)),
        Ok(Admitted::Preflight { origin })
    );
    let any = Rules {
        origins: Origins::Any,
        ..rules(&[], &[], None)
    };
    assert!(any.admit(&call(&headers)).is_ok());
}

#[test]
fn the_token_must_match() {
    let rules = rules(&[], &["https://wallet.example"], Some("secret"));
    let with = |value| rules.admit(&call(&[("host", "localhost"), ("authorization", value)]));
    assert!(with("Bearer secret").is_ok());
    assert!(with("bearer secret").is_ok());
    for wrong in [
        "Bearer secre",
        "Bearer secretx",
        "Bearer ",
        "Basic secret",
        "secret",
        "",
    ] {
        assert_eq!(with(wrong), Err(Refusal::Token), "{wrong}");
    }
    let headers = [("host", "localhost"), ("origin", "https://wallet.example")];
    assert_eq!(rules.admit(&call(&headers)), Err(Refusal::Token));
    assert!(matches!(
        rules.admit(&request("OPTIONS", &headers)),
        Ok(Admitted::Preflight { .. })
    ));
    // Without an origin it is no preflight, and gets past nothing.
    assert_eq!(
        rules.admit(&request("OPTIONS", &[("host", "localhost")])),
        Err(Refusal::Token)
    );
}
