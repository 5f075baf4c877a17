//! Answers that carry resources: one, or a Bundle into which stored texts are put byte for byte.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde_json::Value;
use stele_core::time::Timestamp;
use stele_fhir::{outcome, outcome::Issue, project};
use stele_service::{SearchPage, Stored};

use super::{
    headers::{View, etag, none_match, put_version},
    pretty,
};
use crate::problem::FHIR_JSON;

/// A JSON text as an answer.
pub(super) fn json(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    response
}

/// The same, indented where that was asked for.
pub(super) fn shown(status: StatusCode, text: String, view: &View) -> Response {
    json(
        status,
        if view.pretty {
            pretty::indent(&text)
        } else {
            text
        },
    )
}

/// Stored text as a body, without a copy.
pub(super) fn body_of(text: Arc<str>) -> Body {
    Body::from(Bytes::from_owner(Arc::<[u8]>::from(text)))
}

/// One version of a resource, or 304 if the client has it.
pub(super) fn resource(stored: Stored, headers: &HeaderMap, view: &View) -> Response {
    let mut response = if none_match(headers, stored.version) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if view.is_whole() && !view.pretty {
        json(StatusCode::OK, body_of(stored.text))
    } else {
        shown(
            StatusCode::OK,
            projected(&stored.text, view).into_owned(),
            view,
        )
    };
    put_version(response.headers_mut(), stored.version, stored.last_updated);
    response
}

/// The text itself, or the view of it that was asked for.
fn projected<'t>(text: &'t str, view: &View) -> Cow<'t, str> {
    if view.is_whole() {
        return Cow::Borrowed(text);
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        // What is stored was read before it was stored; if it can't be read now, it is shown as it is.
        return Cow::Borrowed(text);
    };
    if view.elements.is_empty() {
        return project::summary(&value, view.summary)
            .map_or(Cow::Borrowed(text), |value| Cow::Owned(value.to_string()));
    }
    let names: Vec<&str> = view.elements.iter().map(String::as_str).collect();
    Cow::Owned(project::elements(&value, &names).to_string())
}

/// A Bundle in the making.
#[derive(Debug)]
pub(super) struct BundleText {
    text: String,
    entries: usize,
}

impl BundleText {
    /// Starts a Bundle. `links` are pairs of relation and URL.
    pub(super) fn new(
        bundle_type: &str,
        at: Timestamp,
        total: Option<u64>,
        links: &[(&str, String)],
    ) -> Self {
        let mut text = format!(
            r#"{{"resourceType":"Bundle","meta":{{"lastUpdated":"{}"}},"type":"{bundle_type}""#,
            at.to_instant()
        );
        if let Some(total) = total {
            let _ = write!(text, r#","total":{total}"#);
        }
        if !links.is_empty() {
            text.push_str(r#","link":["#);
            for (position, (relation, url)) in links.iter().enumerate() {
                let comma = if position == 0 { "" } else { "," };
                let _ = write!(
                    text,
                    r#"{comma}{{"relation":"{relation}","url":{}}}"#,
                    quoted(url)
                );
            }
            text.push(']');
        }
        Self { text, entries: 0 }
    }

    /// Adds an entry from its members, each a name and JSON text.
    pub(super) fn push(&mut self, members: &[(&str, &str)]) {
        self.text.push_str(if self.entries == 0 {
            r#","entry":[{"#
        } else {
            ",{"
        });
        for (position, (name, value)) in members.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let _ = write!(self.text, r#"{comma}"{name}":{value}"#);
        }
        self.text.push('}');
        self.entries = self.entries.saturating_add(1);
    }

    pub(super) fn finish(mut self) -> String {
        self.text
            .push_str(if self.entries == 0 { "}" } else { "]}" });
        self.text
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A search set: matches, includes, and what the caller should know.
pub(super) fn searchset(
    fhir_url: &str,
    page: &SearchPage,
    warnings: &[Issue],
    view: &View,
    at: Timestamp,
    links: &[(&str, String)],
) -> String {
    let mut bundle = BundleText::new("searchset", at, page.total, links);
    if view.summary != project::Summary::Count {
        let all = page.matches.iter().map(|one| (one, r#"{"mode":"match"}"#));
        let all = all.chain(
            page.included
                .iter()
                .map(|one| (one, r#"{"mode":"include"}"#)),
        );
        for (one, mode) in all {
            let url = quoted(&format!("{fhir_url}/{}/{}", one.resource_type, one.id));
            bundle.push(&[
                ("fullUrl", &url),
                ("resource", &projected(&one.text, view)),
                ("search", mode),
            ]);
        }
    }
    let issues: Vec<Issue> = warnings.iter().chain(&page.outcomes).cloned().collect();
    if !issues.is_empty() {
        let outcome = outcome::to_json(&issues).to_string();
        bundle.push(&[("resource", &outcome), ("search", r#"{"mode":"outcome"}"#)]);
    }
    bundle.finish()
}

/// A history: every version with the request that made it.
pub(super) fn history(
    fhir_url: &str,
    page: &SearchPage,
    view: &View,
    at: Timestamp,
    links: &[(&str, String)],
) -> String {
    let mut bundle = BundleText::new("history", at, page.total, links);
    for one in &page.matches {
        let place = format!("{}/{}", one.resource_type, one.id);
        let url = quoted(&format!("{fhir_url}/{place}"));
        let (method, target, status) = match (one.deleted, one.version) {
            (true, _) => ("DELETE", place.as_str(), "204"),
            (false, 1) => ("POST", one.resource_type.as_str(), "201"),
            (false, _) => ("PUT", place.as_str(), "200"),
        };
        let request = format!(r#"{{"method":"{method}","url":{}}}"#, quoted(target));
        let response = format!(
            r#"{{"status":"{status}","etag":{},"lastModified":"{}"}}"#,
            quoted(&etag(one.version)),
            one.last_updated.to_instant()
        );
        let text = projected(&one.text, view);
        let mut members = vec![("fullUrl", url.as_str())];
        if !one.deleted {
            members.push(("resource", &text));
        }
        members.push(("request", &request));
        members.push(("response", &response));
        bundle.push(&members);
    }
    if !page.outcomes.is_empty() {
        // A history has no outcome entries: they stand in a response, which FHIR allows in any Bundle entry.
        let outcome = outcome::to_json(&page.outcomes);
        let response = format!(r#"{{"status":"200","outcome":{outcome}}}"#);
        let request = r#"{"method":"GET","url":"_history"}"#;
        bundle.push(&[("request", request), ("response", &response)]);
    }
    bundle.finish()
}

/// Links of a page: itself and the next one.
pub(super) fn links(
    url: &str,
    pairs: &[(String, String)],
    next: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut links = vec![("self", with_query(url, pairs, None))];
    if let Some(cursor) = next {
        links.push(("next", with_query(url, pairs, Some(cursor))));
    }
    links
}

fn with_query(url: &str, pairs: &[(String, String)], cursor: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if cursor.is_none() || name != CURSOR {
            query.append_pair(name, value);
        }
    }
    if let Some(cursor) = cursor {
        query.append_pair(CURSOR, cursor);
    }
    let query = query.finish();
    if query.is_empty() {
        url.to_owned()
    } else {
        format!("{url}?{query}")
    }
}

/// Parameter that carries the place where a page begins.
pub(super) const CURSOR: &str = "_cursor";

#[cfg(test)]
mod tests {
    use stele_service::Verification;

    use super::*;

    fn stored(id: &str, version: u32, text: &str) -> Stored {
        Stored {
            resource_type: "Observation".into(),
            id: id.into(),
            version,
            last_updated: Timestamp(0),
            deleted: text.is_empty(),
            text: text.into(),
            state: Verification::Verified,
        }
    }

    const ODD: &str = "{\"resourceType\":\"Observation\" ,\"id\":\"a\",\"status\":\"final\",\"code\":{\"text\":\"x\"},\"valueQuantity\":{\"value\":6.30}}";

    /// NFR-INT1: what was stored leaves as the bytes that were stored, inside a Bundle too.
    #[test]
    fn stored_bytes_go_into_bundles_unchanged() {
        let page = SearchPage {
            matches: vec![stored("a", 1, ODD)],
            included: vec![stored(
                "b",
                1,
                "{\"resourceType\":\"Patient\",\"id\":\"b\"}",
            )],
            outcomes: vec![Issue::warning(
                outcome::IssueCode::Suppressed,
                "one \"withheld\"",
            )],
            total: Some(1),
            next: None,
        };
        let links = links(
            "http://h/fhir/r4/Observation",
            &[("code".into(), "a|b".into())],
            Some("c 1"),
        );
        let text = searchset(
            "http://h/fhir/r4",
            &page,
            &[],
            &View::default(),
            Timestamp(0),
            &links,
        );
        assert!(text.contains(ODD), "{text}");
        let bundle: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(bundle["total"], 1);
        assert_eq!(
            bundle["link"][0]["url"],
            "http://h/fhir/r4/Observation?code=a%7Cb"
        );
        assert_eq!(
            bundle["link"][1]["url"],
            "http://h/fhir/r4/Observation?code=a%7Cb&_cursor=c+1"
        );
        assert_eq!(
            bundle["entry"][0]["fullUrl"],
            "http://h/fhir/r4/Observation/a"
        );
        let modes: Vec<&Value> = bundle["entry"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|e| &e["search"]["mode"])
            .collect();
        assert_eq!(modes, ["match", "include", "outcome"]);
        let read =
            stele_fhir::parse::resource(text.as_bytes(), &stele_fhir::parse::Limits::default());
        let issues = stele_fhir::validate::resource(&read.expect("a Bundle").value);
        assert!(!issues.iter().any(Issue::is_error), "{issues:?}");
    }

    #[test]
    fn views_are_marked_and_counts_have_no_entries() {
        let page = SearchPage {
            matches: vec![stored("a", 1, ODD)],
            total: Some(1),
            ..SearchPage::default()
        };
        let elements = View {
            elements: vec!["status".into()],
            ..View::default()
        };
        let text = searchset("http://h", &page, &[], &elements, Timestamp(0), &[]);
        assert!(
            text.contains("SUBSETTED") && !text.contains("valueQuantity"),
            "{text}"
        );
        let count = View {
            summary: project::Summary::Count,
            ..View::default()
        };
        let text = searchset("http://h", &page, &[], &count, Timestamp(0), &[]);
        assert!(
            text.contains("\"total\":1") && !text.contains("entry"),
            "{text}"
        );
    }

    #[test]
    fn a_history_names_what_was_asked() {
        let page = SearchPage {
            matches: vec![stored("a", 3, ""), stored("a", 2, ODD), stored("a", 1, ODD)],
            ..SearchPage::default()
        };
        let text = history("http://h", &page, &View::default(), Timestamp(0), &[]);
        let bundle: Value = serde_json::from_str(&text).expect("JSON");
        let entries = bundle["entry"].as_array().expect("entries");
        let methods: Vec<&Value> = entries.iter().map(|e| &e["request"]["method"]).collect();
        assert_eq!(methods, ["DELETE", "PUT", "POST"]);
        assert!(entries[0].get("resource").is_none());
        assert_eq!(entries[1]["response"]["etag"], "W/\"2\"");
        let issues = stele_fhir::validate::resource(&bundle);
        assert!(!issues.iter().any(Issue::is_error), "{issues:?}");
    }

    #[test]
    fn a_version_the_client_has_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", HeaderValue::from_static("W/\"2\""));
        let response = resource(stored("a", 2, ODD), &headers, &View::default());
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers()["etag"], "W/\"2\"");
        let response = resource(stored("a", 3, ODD), &headers, &View::default());
        assert_eq!(
            (response.status().as_u16(), &response.headers()["etag"]),
            (200, &HeaderValue::from_static("W/\"3\""))
        );
    }
}
