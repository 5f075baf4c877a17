//! What request headers and general parameters say: formats, preferences, versions.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED},
};
use stele_core::time::Timestamp;
use stele_fhir::{
    outcome::{Issue, IssueCode},
    project,
    search::{self, Handling},
};

use crate::problem::Problem;

/// What a write answers with (`Prefer: return`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Nothing but headers.
    Minimal,
    /// The resource as stored.
    Representation,
    /// What happened, in words.
    OperationOutcome,
}

/// `Prefer` (RFC 7240) as FHIR uses it; unknown preferences mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefer {
    /// `None` where the client has no preference.
    pub(super) answer: Option<Return>,
    pub(super) handling: Handling,
    /// Whether to be answered once a write is durable, before it is final.
    pub(super) respond_async: bool,
}

impl Prefer {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        for preference in list(headers, &PREFER) {
            match preference.as_str() {
                "return=minimal" => prefer.answer = Some(Return::Minimal),
                "return=representation" => prefer.answer = Some(Return::Representation),
                "return=operationoutcome" => prefer.answer = Some(Return::OperationOutcome),
                "handling=strict" => prefer.handling = Handling::Strict,
                "handling=lenient" => prefer.handling = Handling::Lenient,
                "respond-async" => prefer.respond_async = true,
                _ => {}
            }
        }
        prefer
    }
}

/// Members of a header that lists values, lower-cased, without spaces.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .map(|one| {
            one.chars()
                .filter(|c| !c.is_whitespace() && *c != '"')
                .collect::<String>()
        })
        .map(|one| one.to_ascii_lowercase())
        .collect()
}

/// How resources are to be shown: general parameters of every read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) summary: project::Summary,
    pub(super) elements: Vec<String>,
    pub(super) pretty: bool,
}

impl Default for View {
    fn default() -> Self {
        Self {
            summary: project::Summary::False,
            elements: Vec::new(),
            pretty: false,
        }
    }
}

impl View {
    /// Checks `Accept` and `_format`, and reads `_summary`, `_elements` and `_pretty`.
    ///
    /// # Errors
    /// 406 for other formats than JSON; 400 for an unknown `_summary`.
    pub(super) fn read(headers: &HeaderMap, pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut view = Self::default();
        let mut format = None;
        for (name, value) in pairs {
            match name.as_str() {
                "_format" => format = Some(value.as_str()),
                "_pretty" => view.pretty = value == "true",
                "_elements" => view
                    .elements
                    .extend(value.split(',').map(|e| e.trim().to_owned())),
                "_summary" => {
                    view.summary = project::Summary::parse(value).ok_or_else(|| {
                        Problem::bad_request(
                            IssueCode::Value,
                            "_summary is true, text, data, count or false",
                        )
                    })?;
                }
                _ => {}
            }
        }
        let acceptable = match format {
            Some(format) => is_json(&format.replace(' ', "+")),
            None => accepts_json(headers),
        };
        if acceptable {
            return Ok(view);
        }
        Err(Problem::one(
            StatusCode::NOT_ACCEPTABLE,
            IssueCode::NotSupported,
            "only JSON is offered: ask for application/fhir+json",
        ))
    }

    /// Whether stored text can leave as it is.
    pub(super) fn is_whole(&self) -> bool {
        self.summary == project::Summary::False && self.elements.is_empty()
    }
}

impl View {
    /// The view a parsed search asks for.
    pub(super) fn of_query(query: &search::ast::Query, pretty: bool) -> Self {
        use search::ast::Summary;
        let summary = match query.summary {
            Summary::False => project::Summary::False,
            Summary::True => project::Summary::True,
            Summary::Text => project::Summary::Text,
            Summary::Data => project::Summary::Data,
            Summary::Count => project::Summary::Count,
        };
        Self {
            summary,
            elements: query.elements.clone(),
            pretty,
        }
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let refused = range.split(';').skip(1).any(|parameter| {
                let parameter: String = parameter.chars().filter(|c| !c.is_whitespace()).collect();
                matches!(parameter.as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
            });
            let range = essence(range);
            !refused && (is_json(&range) || range == "*/*" || range == "application/*")
        })
}

/// Whether FHIR JSON itself is asked for, rather than anything.
pub(super) fn asks_for_fhir(headers: &HeaderMap, pairs: &[(String, String)]) -> bool {
    if let Some((_, format)) = pairs.iter().find(|(name, _)| name == "_format") {
        return is_json(&format.replace(' ', "+"));
    }
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| essence(range) == "application/fhir+json")
}

fn is_json(kind: &str) -> bool {
    matches!(
        essence(kind).as_str(),
        "json"
            | "application/fhir+json"
            | "application/json"
            | "text/json"
            | "application/json+fhir"
    )
}

/// A MIME type without its parameters, lower-cased.
fn essence(kind: &str) -> String {
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// MIME type of the body, lower-cased, without parameters; empty when not given.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(essence)
        .unwrap_or_default()
}

/// # Errors
/// 415 for a body that is not FHIR JSON, or not in UTF-8.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = content_type(headers);
    let charset = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value
                .to_ascii_lowercase()
                .split_once("charset=")
                .map(|(_, set)| set.trim_matches(['"', ' ']).to_owned())
        });
    if charset.is_some_and(|set| !set.starts_with("utf-8")) {
        return Err(unsupported("send the resource in UTF-8"));
    }
    if kind.is_empty() || is_json(&kind) {
        return Ok(());
    }
    Err(unsupported(
        "send the resource as application/fhir+json; XML and RDF are not offered",
    ))
}

/// # Errors
/// 415 for a patch that is no JSON Patch.
pub(super) fn require_json_patch(headers: &HeaderMap) -> Result<(), Problem> {
    if content_type(headers) == JSON_PATCH {
        return Ok(());
    }
    Err(unsupported("send the patch as application/json-patch+json").with(ACCEPT_PATCH, JSON_PATCH))
}

/// 415.
pub(super) fn unsupported(text: &str) -> Problem {
    Problem::one(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        IssueCode::NotSupported,
        text,
    )
}

/// Version that `If-Match` names.
///
/// # Errors
/// 400 for anything but one `W/"n"`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let version = value.to_str().ok().and_then(version_of);
    version.map(Some).ok_or_else(|| {
        Problem::bad_request(
            IssueCode::Value,
            "If-Match must name one version as W/\"1\"",
        )
    })
}

/// Whether `If-None-Match` names this version.
pub(super) fn none_match(headers: &HeaderMap, version: u32) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| version_of(tag) == Some(version))
}

/// Version in an entity tag; the weak mark may be missing, as some clients leave it out.
fn version_of(tag: &str) -> Option<u32> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// Sets `ETag` and `Last-Modified`.
pub(super) fn put_version(headers: &mut HeaderMap, version: u32, last_updated: Timestamp) {
    if let Ok(tag) = HeaderValue::from_str(&etag(version)) {
        headers.insert(ETAG, tag);
    }
    if let Ok(date) = HeaderValue::from_str(&http_date(last_updated)) {
        headers.insert(LAST_MODIFIED, date);
    }
}

/// Weak entity tag of a version.
pub(super) fn etag(version: u32) -> String {
    format!("W/\"{version}\"")
}

/// RFC 9110 §5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(at: Timestamp) -> String {
    let utc = at.to_utc();
    let three = |name: String| name.chars().take(3).collect::<String>();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        three(utc.weekday().to_string()),
        utc.day(),
        three(utc.month().to_string()),
        utc.year(),
        utc.hour(),
        utc.minute(),
        utc.second()
    )
}

/// A header's text.
///
/// # Errors
/// 400 if it is not readable.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    headers
        .get(name)
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                vec![Issue::error(
                    IssueCode::Value,
                    "a header has characters outside ASCII",
                )],
            )
        })
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const JSON_PATCH: &str = "application/json-patch+json";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn json_is_given_where_it_is_taken() {
        for (accept, taken) in [
            ("*/*", true),
            ("application/fhir+json", true),
            ("application/fhir+json; fhirVersion=4.0", true),
            ("text/html, application/xhtml+xml, */*;q=0.8", true),
            ("application/json", true),
            ("application/fhir+xml", false),
            ("text/turtle", false),
            ("application/json;q=0", false),
        ] {
            let headers = headers(&[("accept", accept)]);
            assert_eq!(View::read(&headers, &[]).is_ok(), taken, "{accept}");
        }
        let format = |value: &str| {
            let pairs = [("_format".to_owned(), value.to_owned())];
            View::read(&headers(&[("accept", "application/fhir+xml")]), &pairs)
        };
        // A `+` in a query is a space once decoded.
        assert!(format("json").is_ok() && format("application/fhir json").is_ok());
        assert_eq!(format("xml").expect_err("xml").status, 406);
    }

    #[test]
    fn preferences_are_read() {
        let prefer = Prefer::read(&headers(&[("prefer", "handling=strict, return=minimal")]));
        assert_eq!(
            prefer,
            Prefer {
                answer: Some(Return::Minimal),
                handling: Handling::Strict,
                respond_async: false
            }
        );
        let prefer = Prefer::read(&headers(&[(
            "prefer",
            "return=OperationOutcome; respond-async",
        )]));
        assert_eq!(prefer.answer, Some(Return::OperationOutcome));
        assert!(prefer.respond_async);
        assert_eq!(Prefer::read(&HeaderMap::new()), Prefer::default());
    }

    #[test]
    fn versions_are_read_from_tags() {
        let read = |tag: &str| if_match(&headers(&[("if-match", tag)]));
        assert_eq!(read("W/\"7\"").expect("read"), Some(7));
        assert_eq!(read("\"7\"").expect("read"), Some(7));
        for wrong in ["7", "*", "W/\"x\"", "W/\"1\", W/\"2\""] {
            assert_eq!(read(wrong).expect_err(wrong).status, 400);
        }
        assert!(none_match(
            &headers(&[("if-none-match", "W/\"1\", W/\"2\"")]),
            2
        ));
        assert!(!none_match(&headers(&[("if-none-match", "W/\"1\"")]), 2));
    }

    #[test]
    fn dates_are_written_as_http_wants_them() {
        assert_eq!(
            http_date(Timestamp::from_seconds(784_111_777)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(etag(3), "W/\"3\"");
    }

    #[test]
    fn bodies_have_to_be_json_in_utf8() {
        for (kind, taken) in [
            ("application/fhir+json", true),
            ("application/json; charset=UTF-8", true),
            ("application/fhir+xml", false),
            ("application/json; charset=utf-16", false),
            ("text/plain", false),
        ] {
            assert_eq!(
                require_json(&headers(&[("content-type", kind)])).is_ok(),
                taken,
                "{kind}"
            );
        }
        assert!(
            require_json_patch(&headers(&[("content-type", "application/json-patch+json")]))
                .is_ok()
        );
        assert_eq!(
            require_json_patch(&HeaderMap::new())
                .expect_err("no type")
                .status,
            415
        );
    }
}
