use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use proptest::prelude::*;

use super::*;

/// A software authenticator: what a browser and its passkey would return.
struct Authenticator(EcdsaKeyPair);

impl Authenticator {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn sign(&self, client_data: &str, flags: u8) -> Assertion {
        let mut authenticator_data = Sha256::digest(b"localhost").to_vec();
        authenticator_data.push(flags);
        authenticator_data.extend_from_slice(&7u32.to_be_bytes());
        let mut message = authenticator_data.clone();
        message.extend_from_slice(&Sha256::digest(client_data.as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        let (bytes, sec1) = (signature.as_ref(), self.0.public_key().as_ref());
        Assertion {
            authenticator_data: authenticator_data.into(),
            client_data_json: client_data.as_bytes().to_vec().into(),
            r: B256::from_slice(&bytes[..32]),
            s: low_s(bytes[32..].try_into().unwrap()).into(),
            x: B256::from_slice(&sec1[1..33]),
            y: B256::from_slice(&sec1[33..]),
        }
    }
}

fn client_data(challenge: &[u8], origin: &str, tail: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}"{tail}"#)
}

fn check(assertion: &Assertion, challenge: &[u8]) -> Result<u32, Error> {
    let rp_id_hash = B256::new(Sha256::digest(b"localhost").into());
    let origins = [
        AllowedOrigin::Localhost,
        AllowedOrigin::Exact("https://a.example".into()),
    ];
    let verified = verify(assertion, challenge)?;
    verified.require(&rp_id_hash, &origins)?;
    Ok(verified.sign_count)
}

#[test]
fn accepts_what_browsers_write() {
    let authenticator = Authenticator::new();
    for (origin, tail) in [
        ("http://localhost:8480", r#","crossOrigin":false}"#),
        ("http://localhost", "}"),
        (
            "https://a.example",
            r#","crossOrigin":false,"other_keys_can_be_added_here":"x"}"#,
        ),
    ] {
        let signed = authenticator.sign(&client_data(b"c", origin, tail), 0x05);
        assert_eq!(check(&signed, b"c"), Ok(7), "{origin}");
    }
}

#[test]
fn names_what_is_wrong() {
    let authenticator = Authenticator::new();
    let refuse =
        |data: String, flags: u8| check(&authenticator.sign(&data, flags), b"c").unwrap_err();
    let good = r#","crossOrigin":false}"#;
    let origin = "http://localhost:8480";
    assert_eq!(
        refuse(client_data(b"other", origin, good), 5),
        Error::Challenge
    );
    for wrong in [
        "http://localhost:8480.evil.example",
        "https://localhost",
        "http://localhost:",
    ] {
        assert!(
            matches!(
                refuse(client_data(b"c", wrong, good), 5),
                Error::Origin { .. }
            ),
            "{wrong}"
        );
    }
    assert_eq!(
        refuse(client_data(b"c", origin, r#","crossOrigin":true}"#), 5),
        Error::CrossOrigin
    );
    assert_eq!(
        refuse(client_data(b"c", origin, good), 1),
        Error::UserNotVerified
    );
    assert_eq!(
        refuse(client_data(b"c", origin, good), 4),
        Error::UserNotVerified
    );
    let registration = client_data(b"c", origin, good).replace("webauthn.get", "webauthn.create");
    assert!(matches!(
        refuse(registration, 5),
        Error::Malformed {
            part: "client data"
        }
    ));
    let escaped = client_data(b"c", r#"http://localhost:8480\",\"origin\":\"x"#, good);
    assert!(matches!(
        refuse(escaped, 5),
        Error::Malformed {
            part: "client data"
        }
    ));
}

#[test]
fn refuses_high_s_and_other_keys() {
    let authenticator = Authenticator::new();
    let data = client_data(b"c", "http://localhost:1", r#","crossOrigin":false}"#);
    let signed = authenticator.sign(&data, 5);
    let stranger = Authenticator::new().sign(&data, 5);
    let forged = Assertion {
        x: stranger.x,
        y: stranger.y,
        ..signed.clone()
    };
    assert_eq!(check(&forged, b"c"), Err(Error::Signature));
    assert_ne!(forged.key_id(), signed.key_id());
    // The twin n − s verifies under plain ECDSA; accepting it would make signatures malleable.
    let mut twin = signed.clone();
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let value = i16::from(ORDER[at]) - i16::from(signed.s[at]) - borrow;
        borrow = i16::from(value < 0);
        twin.s[at] = u8::try_from(value.rem_euclid(256)).unwrap();
    }
    assert_eq!(check(&twin, b"c"), Err(Error::HighS));
    assert_eq!(low_s(&twin.s), signed.s);
    let zero = Assertion {
        s: B256::ZERO,
        ..signed.clone()
    };
    assert_eq!(check(&zero, b"c"), Err(Error::Signature));
    let off_curve = Assertion {
        x: B256::repeat_byte(1),
        ..signed.clone()
    };
    assert_eq!(
        check(&off_curve, b"c"),
        Err(Error::Malformed { part: "public key" })
    );
    let verified = verify(&signed, b"c").unwrap();
    assert_eq!(
        verified.require(&B256::ZERO, &[AllowedOrigin::Localhost]),
        Err(Error::RelyingParty)
    );
}

#[test]
fn a_sign_in_is_bound_to_its_chain() {
    assert_ne!(
        sign_in_challenge(1, &[0; 32]),
        sign_in_challenge(2, &[0; 32])
    );
    assert_ne!(
        sign_in_challenge(1, &[0; 32]),
        sign_in_challenge(1, &[1; 32])
    );
}

proptest! {
    #[test]
    fn any_flipped_byte_is_refused(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let authenticator = Authenticator::new();
        let data = client_data(b"c", "http://localhost:1", r#","crossOrigin":false}"#);
        let mut signed = authenticator.sign(&data, 5);
        let mut authenticator_data = signed.authenticator_data.to_vec();
        let mut client_data_json = signed.client_data_json.to_vec();
        let at = at.index(authenticator_data.len() + client_data_json.len() + 64);
        let mut all = authenticator_data
            .iter_mut()
            .chain(&mut client_data_json)
            .chain(&mut signed.r.0)
            .chain(&mut signed.s.0);
        *all.nth(at).unwrap() ^= 1 << bit;
        signed.authenticator_data = authenticator_data.into();
        signed.client_data_json = client_data_json.into();
        prop_assert!(check(&signed, b"c").is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        authenticator_data in proptest::collection::vec(any::<u8>(), 0..80),
        client_data_json in proptest::collection::vec(any::<u8>(), 0..200),
        r: [u8; 32],
        s: [u8; 32],
    ) {
        let assertion = Assertion {
            authenticator_data: authenticator_data.into(),
            client_data_json: client_data_json.into(),
            r: r.into(),
            s: s.into(),
            x: s.into(),
            y: r.into(),
        };
        prop_assert!(check(&assertion, b"c").is_err());
    }
}
