//! The language of a request: what the person chose, else what the browser asks for, else the installation's.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_LANGUAGE, COOKIE},
};

use super::Language;

/// Name of the cookie that keeps a choice. It says nothing of the person and is no secret.
const COOKIE_NAME: &str = "stele_language";
/// How long a browser keeps a choice, in seconds: a year.
const COOKIE_S: u64 = 365 * 24 * 3600;
/// Longest list of languages that is looked at: browsers send a few.
const RANGES_MAX: usize = 32;

/// The language that a browser's request is answered in.
pub(crate) fn wanted(headers: &HeaderMap, installation: Language) -> Language {
    chosen(headers)
        .or_else(|| asked(headers))
        .unwrap_or(installation)
}

/// The language that was chosen in this browser.
pub(crate) fn chosen(headers: &HeaderMap) -> Option<Language> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .and_then(|(_, code)| Language::from_code(code))
}

/// The cookie that keeps a choice.
pub(crate) fn cookie(language: Language, is_secure: bool) -> Option<HeaderValue> {
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_S}{secure}",
        language.code()
    );
    HeaderValue::from_str(&text).ok()
}

/// The best of the languages in `Accept-Language` (RFC 9110, 12.5.4) that there is; `de-AT` asks for German. Of two that
/// are wanted alike the first wins, and `q=0` is not wanted.
fn asked(headers: &HeaderMap) -> Option<Language> {
    let mut best: Option<(u16, Language)> = None;
    let ranges = headers
        .get_all(ACCEPT_LANGUAGE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for range in ranges.take(RANGES_MAX) {
        let mut parts = range.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(1000, thousandths);
        let primary = tag.split('-').next().unwrap_or_default();
        let Some(language) = Language::from_code(primary).filter(|_| weight > 0) else {
            continue;
        };
        if best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language)
}

/// A weight (RFC 9110, 12.4.2) in thousandths: `0.8` is 800. What is no weight is 0.
fn thousandths(weight: &str) -> u16 {
    let (whole, rest) = weight.split_once('.').unwrap_or((weight, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "1" => 1000,
        "0" => format!("{rest:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn what_was_chosen_comes_before_what_the_browser_asks_for() {
        let german = Language::German;
        for (asked, expected) in [
            ("de", german),
            ("de-AT,en;q=0.5", german),
            ("fr, DE-CH;q=0.9, en;q=0.8", german),
            ("en;q=0.3, de;q=0.31", german),
            ("en, de", Language::English),
            ("de;q=0, en;q=0.1", Language::English),
            ("de;q=nan, en;q=0.1", Language::English),
            ("de;q=2, en;q=0.1", Language::English),
        ] {
            let sent = headers(&[("accept-language", asked)]);
            assert_eq!(wanted(&sent, Language::English), expected, "{asked}");
        }
        let sent = headers(&[
            ("accept-language", "en"),
            ("cookie", "a=b; stele_language=de"),
        ]);
        assert_eq!(wanted(&sent, Language::English), german);
        for none in ["fr", "*", "", "x;;q==", "de;q=0"] {
            let sent = headers(&[("accept-language", none)]);
            assert_eq!(wanted(&sent, german), german, "{none}: the installation's");
            assert_eq!(wanted(&sent, Language::English), Language::English);
        }
        let unknown = headers(&[("cookie", "stele_language=xx")]);
        assert_eq!(chosen(&unknown), None);
    }

    #[test]
    fn a_choice_is_read_back_from_its_cookie() {
        for language in Language::ALL {
            let cookie = cookie(language, true).expect("a cookie");
            let cookie = cookie.to_str().expect("text");
            assert!(cookie.ends_with("; Secure"));
            let sent = headers(&[("cookie", cookie.split(';').next().expect("a pair"))]);
            assert_eq!(chosen(&sent), Some(language));
        }
    }
}
