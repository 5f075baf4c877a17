//! Bodies and forms: read whole under a limit, taken apart.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use bytes::BytesMut;
use futures::StreamExt as _;
use stele_fhir::outcome::IssueCode;

use crate::problem::Problem;

/// MIME type of forms.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Reads a body of at most `max_bytes`.
///
/// # Errors
/// 413 before anything is read if the length says so, or once the limit is passed; 400 if it ends early.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Bytes, Problem> {
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    if content_length(headers).is_some_and(|length| length > limit) {
        return Err(Problem::too_large(limit));
    }
    let mut stream = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| {
            Problem::bad_request(
                IssueCode::Incomplete,
                "the body ended early or can't be read",
            )
        })?;
        if whole.len().saturating_add(piece.len()) > max_bytes {
            return Err(Problem::too_large(limit));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// What `Content-Length` says.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The decoded names and values of a form or a URL's query, in order.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn a_body_stays_under_its_limit() {
        let none = HeaderMap::new();
        let read_body = |text: &'static str| read(&none, Body::from(text), 4);
        assert_eq!(read_body("1234").await.expect("fits").as_ref(), b"1234");
        assert_eq!(read_body("12345").await.expect_err("too long").status, 413);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        // The length alone refuses: the body would never end.
        let endless = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(
            read(&headers, endless, 4)
                .await
                .expect_err("too long")
                .status,
            413
        );
    }

    #[test]
    fn forms_are_decoded_in_order() {
        let found = pairs(b"code=http%3A%2F%2Floinc.org%7C8302-2&_sort=-date&name=a+b&x");
        let expected = [
            ("code", "http://loinc.org|8302-2"),
            ("_sort", "-date"),
            ("name", "a b"),
            ("x", ""),
        ];
        assert_eq!(found.len(), expected.len());
        for ((name, value), (want_name, want_value)) in found.iter().zip(expected) {
            assert_eq!((name.as_str(), value.as_str()), (want_name, want_value));
        }
    }
}
