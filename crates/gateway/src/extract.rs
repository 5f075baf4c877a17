//! Extractors whose refusals look like all others, where axum's own would answer in plain text.

use std::sync::Arc;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use serde::de::DeserializeOwned;
use stele_fhir::outcome::IssueCode;

use crate::{body, front::Front, problem::Problem};

/// A JSON document as the body.
#[derive(Debug)]
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Front>> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, front: &Arc<Front>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !says_json(&parts.headers) {
            return Err(Problem::one(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                IssueCode::NotSupported,
                "send the body as application/json",
            ));
        }
        let bytes = body::read(&parts.headers, body, front.config.max_body_bytes).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| wrong(&error))
    }
}

/// Parts of the address.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Front>> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Problem> {
        Path::from_request_parts(parts, front)
            .await
            .map(|Path(named)| Self(named))
            .map_err(|rejection| Problem::bad_request(IssueCode::Value, rejection.body_text()))
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// 400 for what is no JSON, 422 for JSON of another shape; the text says line, column and member.
fn wrong(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        return Problem::one(
            StatusCode::UNPROCESSABLE_ENTITY,
            IssueCode::Structure,
            format!("the body is not what is expected here: {error}"),
        );
    }
    Problem::bad_request(
        IssueCode::Structure,
        format!("the body can't be read as JSON: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn unreadable_is_told_from_wrong() {
        let read = |text: &str| serde_json::from_str::<Vec<u8>>(text).map_err(|e| wrong(&e));
        assert_eq!(read("[1,").expect_err("cut").status, 400);
        let problem = read("[1,300]").expect_err("too much");
        assert_eq!(problem.status, 422);
        let text = problem.to_json();
        assert!(text.contains("line 1 column 6"), "{text}");
    }

    #[test]
    fn json_has_to_be_called_json() {
        let with = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            says_json(&headers)
        };
        assert!(with("application/json") && with("application/JSON; charset=utf-8"));
        assert!(with("application/fhir+json"));
        assert!(!with("text/plain") && !says_json(&HeaderMap::new()));
    }
}
