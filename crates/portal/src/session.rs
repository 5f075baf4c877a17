//! Who asks: the session behind a browser's cookie, and the person behind the session.

use std::sync::Arc;

use alloy_primitives::B256;
use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderValue,
        header::{COOKIE, SET_COOKIE},
        request::Parts,
    },
    response::Response,
};
use stele_core::time::Timestamp;
use stele_service::{
    people::{Person, PersonKind, SESSION_MS, Session},
    session::Actor,
};

use crate::{
    error::{Answer, Refusal},
    front::Portal,
    text::{self, Language},
};

/// How long a sign-in counts as fresh, in milliseconds.
const FRESH_MS: u64 = 15 * 60 * 1000;

/// Somebody who is signed in, may act now, and has a name.
pub(crate) struct Signed {
    pub(crate) secret: String,
    pub(crate) session: Session,
    pub(crate) person: Person,
    pub(crate) actor: Actor,
    /// Name, as written.
    pub(crate) name: String,
    /// Name of the organisation.
    pub(crate) organization: String,
    /// Whether this is a patient who holds the keys of the record: the node can't open it, the browser does.
    pub(crate) holds_keys: bool,
}

impl Signed {
    pub(crate) fn is_patient(&self) -> bool {
        self.person.kind == PersonKind::Patient
    }

    /// The patient who is signed in; staff have no pages of their own record here.
    pub(crate) fn patient(&self) -> Answer<stele_core::id::PatientId> {
        if self.is_patient() {
            return Ok(stele_core::id::PatientId(self.person.account));
        }
        Err(Refusal::not_allowed(text!("This page is for patients.")))
    }

    /// Refuses everyone without one of the roles.
    pub(crate) fn require(&self, roles: u32) -> Answer<()> {
        if !self.is_patient() && self.person.has(roles) {
            return Ok(());
        }
        Err(Refusal::not_allowed(text!(
            "This page is not part of your work here."
        )))
    }

    /// Refuses what needs the person, not only the browser: a sign-in of the last minutes.
    pub(crate) fn require_fresh(&self, now: Timestamp) -> Answer<()> {
        if now.0.saturating_sub(self.session.started.0) <= FRESH_MS {
            return Ok(());
        }
        Err(Refusal::not_allowed(text!(
            "For this you need to have signed in within the last 15 minutes. Sign out, sign in again, and try once more."
        )))
    }

    /// What stands in every form.
    pub(crate) fn csrf(&self) -> String {
        alloy_primitives::hex::encode(self.session.csrf)
    }
}

impl FromRequestParts<Arc<Portal>> for Signed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let (secret, session) = of(portal, &parts.headers)?.ok_or(Refusal::SignIn)?;
        let account = session.account.ok_or(Refusal::SignIn)?;
        // Asked at every request: whoever is suspended is out from the block of the suspension on.
        let Some(person) = portal.service.person(account)? else {
            portal.service.end_session(&secret)?;
            return Err(Refusal::SignIn);
        };
        let actor = person.actor();
        let organization = portal.name(person.organization.0).await?.name;
        let holds_keys = person.kind == PersonKind::Patient
            && portal
                .service
                .holds_own_keys(stele_core::id::PatientId(account))?;
        let name = match person.kind {
            PersonKind::Staff => portal.name(account).await?.name,
            // The name is part of the record, which is closed here.
            PersonKind::Patient if holds_keys => {
                let number = portal
                    .service
                    .patient_number(stele_core::id::PatientId(account))?;
                text!("patient PAT{number}", number = format_args!("{number:03}"))
            }
            PersonKind::Patient => portal.patient_name(&actor, &person).await?,
        };
        Ok(Self {
            secret,
            session,
            person,
            actor,
            name,
            organization,
            holds_keys,
        })
    }
}

/// The session of a request, if it has one that is still good.
pub(crate) fn of(portal: &Portal, headers: &HeaderMap) -> Answer<Option<(String, Session)>> {
    let Some(secret) = secret(headers, portal.cookie) else {
        return Ok(None);
    };
    let session = portal.service.session(secret)?;
    Ok(session.map(|session| (secret.to_owned(), session)))
}

/// The session of a visitor, made if there is none; then the second value is the cookie to set.
pub(crate) fn visitor(
    portal: &Portal,
    headers: &HeaderMap,
) -> Answer<(String, Session, Option<HeaderValue>)> {
    if let Some((secret, session)) = of(portal, headers)? {
        return Ok((secret, session, None));
    }
    let (secret, session) = portal.service.begin_session(None)?;
    let cookie = cookie(portal, &secret, SESSION_MS / 1000);
    Ok((secret, session, Some(cookie)))
}

/// Adds cookies to an answer.
pub(crate) fn with_cookies(
    mut response: Response,
    cookies: impl IntoIterator<Item = HeaderValue>,
) -> Response {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Ends the session there was and begins one for who signed in: nobody can fix a session for somebody else. The second
/// cookie is the language that the person chose, on whatever device that was.
pub(crate) fn signed_in(
    portal: &Portal,
    before: &str,
    person: &Person,
) -> Answer<Vec<HeaderValue>> {
    portal.service.end_session(before)?;
    let (secret, _) = portal.service.begin_session(Some(person.account))?;
    let mut cookies = vec![cookie(portal, &secret, SESSION_MS / 1000)];
    let language = portal.service.language_of(person.account)?;
    let language = language.and_then(|code| Language::from_code(&code));
    cookies.extend(language.and_then(|language| text::cookie(language, portal.is_secure)));
    Ok(cookies)
}

/// As [`signed_in`], for somebody who has a request to be registered and no account.
pub(crate) fn applied(portal: &Portal, before: &str, application: B256) -> Answer<HeaderValue> {
    portal.service.end_session(before)?;
    let (secret, mut session) = portal.service.begin_session(None)?;
    session.applicant = Some(application);
    portal.service.keep_session(&secret, &session)?;
    Ok(cookie(portal, &secret, SESSION_MS / 1000))
}

/// A cookie that takes the place of the session's and ends at once.
pub(crate) fn no_cookie(portal: &Portal) -> HeaderValue {
    cookie(portal, "", 0)
}

fn cookie(portal: &Portal, secret: &str, max_age_s: u64) -> HeaderValue {
    let secure = if portal.is_secure { "; Secure" } else { "" };
    let text = format!(
        "{}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}",
        portal.cookie
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn secret<'a>(headers: &'a HeaderMap, cookie: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie)
        .map(|(_, secret)| secret)
        .filter(|secret| secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Where to go after signing in: a page of ours, never another site's.
pub(crate) fn own_path(path: &str) -> Option<&str> {
    let harmless = path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    harmless.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_follow_a_sign_in() {
        for good in ["/", "/record", "/record/Observation/1?version=2"] {
            assert_eq!(own_path(good), Some(good));
        }
        for bad in [
            "",
            "record",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\nb",
        ] {
            assert_eq!(own_path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        let secret_text = "ab".repeat(32);
        let value = format!("x=1; stele_session={secret_text}; y=2");
        headers.insert(COOKIE, value.parse().expect("a value"));
        assert_eq!(
            secret(&headers, "stele_session"),
            Some(secret_text.as_str())
        );
        headers.insert(COOKIE, "stele_session=short".parse().expect("a value"));
        assert_eq!(secret(&headers, "stele_session"), None);
    }
}
