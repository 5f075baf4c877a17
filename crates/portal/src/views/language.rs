//! The language of the pages, as a person chooses it: for this browser, and for the account where somebody is signed in.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header::REFERER},
    response::{IntoResponse as _, Redirect},
    routing::post,
};

use crate::{
    error::{Answer, Refusal},
    form::{Fields, require_own_page},
    front::Portal,
    session::{self, own_path, with_cookies},
    text::{self, Language},
};

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new().route("/language", post(choose))
}

/// `POST /language`. Needs no session, for who is not signed in chooses too; another site's page can't send it.
async fn choose(State(portal): State<Arc<Portal>>, headers: HeaderMap, body: Bytes) -> Answer {
    require_own_page(&headers, portal.site.origin())?;
    let fields = Fields::parse(&body);
    let language = Language::from_code(fields.text("language"))
        .ok_or_else(|| Refusal::bad_form(text!("It names no language that there is.")))?;
    if let Some((_, session)) = session::of(&portal, &headers)?
        && let Some(account) = session.account
    {
        portal.service.keep_language(account, language.code())?;
    }
    let back = came_from(&headers, portal.site.origin()).unwrap_or("/");
    let response = Redirect::to(back).into_response();
    Ok(with_cookies(
        response,
        text::cookie(language, portal.is_secure),
    ))
}

/// The page of ours that the form stood on.
fn came_from<'a>(headers: &'a HeaderMap, origin: &str) -> Option<&'a str> {
    let referer = headers.get(REFERER)?.to_str().ok()?;
    own_path(referer.strip_prefix(origin)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_leads_back_to_a_page_of_ours() {
        let origin = "https://records.example";
        for (referer, expected) in [
            (
                "https://records.example/record?page=2",
                Some("/record?page=2"),
            ),
            ("https://records.example", None),
            ("https://records.example.evil.example/", None),
            ("https://records.example//evil.example", None),
            ("https://evil.example/", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REFERER, referer.parse().expect("a value"));
            assert_eq!(came_from(&headers, origin), expected, "{referer}");
        }
        assert_eq!(came_from(&HeaderMap::new(), origin), None);
    }
}
