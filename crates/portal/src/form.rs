//! Forms: read under a limit, held against the session's token, never trusted.

use std::sync::Arc;

use alloy_primitives::{Bytes, hex};
use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{
        HeaderMap,
        header::{CONTENT_TYPE, ORIGIN},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stele_service::people::{NewPasskey, PasskeyUse, Session};
use subtle::ConstantTimeEq as _;

use crate::{
    error::{Answer, Refusal},
    front::Portal,
    session,
};

/// Largest form in bytes: a long note.
const FORM_MAX: usize = 256 * 1024;

/// Fields of a form or of an address, in the order sent.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(
            form_urlencoded::parse(encoded)
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// Fields that were read elsewhere.
    pub(crate) const fn of(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }

    /// The first value of a field, without blanks around it; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(field, _)| field == name)
            .map_or("", |(_, value)| value.trim())
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// All fields but some, encoded again; nothing where they hold no text. What is chosen from a list is no text.
    pub(crate) fn encoded_but(&self, left_out: &[&str]) -> Option<String> {
        let kept = || {
            self.0
                .iter()
                .filter(|(name, _)| !left_out.contains(&name.as_str()))
        };
        let chosen = ["kind", "status", "until", "amount", "portion"];
        let is_written = |(name, value): &(String, String)| {
            !chosen.contains(&name.as_str()) && !value.trim().is_empty()
        };
        if !kept().any(is_written) {
            return None;
        }
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        for (name, value) in kept() {
            encoded.append_pair(name, value);
        }
        Some(encoded.finish())
    }

    /// A field that a script filled with bytes.
    fn bytes(&self, name: &str) -> Answer<Bytes> {
        let text = self.text(name);
        if text.is_empty() {
            return Err(Refusal::bad_form(text!(
                "Your device's answer is missing. Passkeys need a browser with scripts switched on."
            )));
        }
        URL_SAFE_NO_PAD
            .decode(text)
            .map(Bytes::from)
            .map_err(|_| Refusal::bad_form(text!("Your device's answer can't be read. Try again.")))
    }

    /// The answer of a device that made a passkey.
    pub(crate) fn new_passkey(&self) -> Answer<NewPasskey> {
        Ok(NewPasskey {
            client_data: self.bytes("client_data")?,
            authenticator_data: self.bytes("authenticator_data")?,
            label: self.text("label").to_owned(),
        })
    }

    /// The answer of a device that used a passkey.
    pub(crate) fn passkey(&self) -> Answer<PasskeyUse> {
        Ok(PasskeyUse {
            credential: self.bytes("credential")?,
            client_data: self.bytes("client_data")?,
            authenticator_data: self.bytes("authenticator_data")?,
            signature: self.bytes("signature")?,
        })
    }
}

/// A form that was sent from one of our own pages, in the session it was made for.
pub(crate) struct Posted {
    pub(crate) secret: String,
    pub(crate) session: Session,
    pub(crate) fields: Fields,
    pub(crate) headers: HeaderMap,
}

impl FromRequest<Arc<Portal>> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        require_own_page(&parts.headers, portal.site.origin())?;
        let (secret, session) = session::of(portal, &parts.headers)?.ok_or_else(stale)?;
        let is_form = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        if !is_form {
            return Err(Refusal::bad_form(text!("It was not sent as a form.")));
        }
        let body = to_bytes(body, FORM_MAX)
            .await
            .map_err(|_| Refusal::bad_form(text!("It is too large.")))?;
        let fields = Fields::parse(&body);
        require_token(&session, fields.text("csrf"))?;
        Ok(Self {
            secret,
            session,
            fields,
            headers: parts.headers,
        })
    }
}

/// Refuses a form without the token of the session it was made for.
pub(crate) fn require_token(session: &Session, given: &str) -> Answer<()> {
    let given = hex::decode(given).unwrap_or_default();
    if bool::from(given.ct_eq(session.csrf.as_slice())) {
        return Ok(());
    }
    Err(stale())
}

pub(crate) fn stale() -> Refusal {
    Refusal::bad_form(text!(
        "You were signed out, or the page was open for too long. Nothing was changed. Go to the start and try again."
    ))
}

/// Browsers say from which page a form was sent. Another site's page may not send ours.
pub(crate) fn require_own_page(headers: &HeaderMap, own: &str) -> Answer<()> {
    match headers.get(ORIGIN).map(http::HeaderValue::as_bytes) {
        None => Ok(()),
        Some(origin) if origin == own.as_bytes() => Ok(()),
        Some(_) => Err(Refusal::not_allowed(text!(
            "This form was sent from another site. Open {own} yourself.",
            own
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_trimmed() {
        let fields = Fields::parse(b"a=+x+&b=1&b=2&c=%3Cb%3E");
        assert_eq!(fields.text("a"), "x");
        assert_eq!(fields.all("b"), ["1", "2"]);
        assert_eq!(fields.text("c"), "<b>");
        assert_eq!(fields.text("d"), "");
    }

    #[test]
    fn fields_are_encoded_again_without_the_frame() {
        let fields = Fields::parse(b"csrf=1&kind=note&text=a+%26+b&name=");
        assert_eq!(
            fields.encoded_but(&["csrf"]).as_deref(),
            Some("kind=note&text=a+%26+b&name=")
        );
        assert_eq!(
            fields.encoded_but(&["csrf", "text"]),
            None,
            "nothing was written"
        );
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let own = "http://localhost:8480";
        let mut headers = HeaderMap::new();
        assert!(require_own_page(&headers, own).is_ok());
        for (origin, good) in [
            (own, true),
            ("null", false),
            ("https://evil.example", false),
        ] {
            headers.insert(ORIGIN, origin.parse().expect("a value"));
            assert_eq!(require_own_page(&headers, own).is_ok(), good, "{origin}");
        }
    }
}
