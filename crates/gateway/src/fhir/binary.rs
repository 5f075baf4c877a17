//! Binary: content in and out as it is, without being held; and the same as a FHIR resource.

use std::{io, sync::Arc};

use axum::{
    BoxError,
    body::{Body, Bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION,
        },
    },
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use stele_fhir::outcome::IssueCode;
use stele_service::Error;

use super::{
    asked::Asked,
    headers::{self, Prefer, View, asks_for_fhir, content_type, none_match, put_version},
    page,
    pending::{self, Carried},
};
use crate::{
    body,
    problem::{Answer, Problem},
};

/// Whether a body is the content itself rather than a resource that carries it.
pub(super) fn is_raw(headers: &HeaderMap) -> bool {
    !matches!(
        content_type(headers).as_str(),
        "" | "application/fhir+json" | "application/json"
    )
}

/// `POST Binary` with content of any type. `X-Security-Context: Patient/…` says whose it is.
pub(super) async fn create(asked: &Asked, body: Body) -> Answer {
    let (front, headers) = (&asked.front, &asked.headers);
    let max_bytes = front.config.max_binary_bytes;
    if body::content_length(headers).is_some_and(|length| length > max_bytes) {
        return Err(Problem::too_large(max_bytes));
    }
    if matches!(
        content_type(headers).as_str(),
        "application/fhir+xml" | "application/fhir+turtle"
    ) {
        return Err(headers::unsupported(
            "FHIR resources are taken as JSON only",
        ));
    }
    let kind = headers::text(headers, "content-type")?
        .unwrap_or(OCTETS)
        .to_owned();
    let context = headers::text(headers, "x-security-context")?.map(str::to_owned);
    let (service, actor) = (Arc::clone(&front.service), asked.principal.actor.clone());
    let content = body.into_data_stream().map_err(io::Error::other);
    // When the client hangs up the content ends with an error, and nothing of it is kept.
    let carried = pending::carry_out(front, Prefer::read(headers), |watch| async move {
        service
            .write_binary(&actor, &kind, context.as_deref(), max_bytes, content, watch)
            .await
    });
    let written = match carried.await? {
        Carried::Done(written) => written,
        Carried::Waits(ticket) => return Ok(pending::accepted(front, &ticket, &View::default())),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let location = format!(
        "{}/Binary/{}/_history/{}",
        front.config.fhir_url(),
        written.id,
        written.version
    );
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, value);
    }
    put_version(
        response.headers_mut(),
        written.version,
        written.last_updated,
    );
    Ok(response)
}

/// `GET Binary/{id}`: the content, or the resource where FHIR is asked for.
pub(super) async fn read(asked: &Asked) -> Answer {
    let (service, actor) = (&asked.front.service, &asked.principal.actor);
    let (headers, id) = (&asked.headers, asked.id.as_str());
    let wants_fhir = asks_for_fhir(headers, &asked.pairs());
    let (info, content) = service.read_binary(actor, id).await?;
    let is_resource = info.content_type == RESOURCE;
    let mut response = if none_match(headers, info.version) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if is_resource {
        // Written as a resource: its text is bounded as every body is.
        let text = whole(content).await?;
        if text.is_empty() {
            // No resource is empty: what was opened is a tombstone.
            return Err(Error::Gone {
                resource: format!("Binary/{id}"),
            }
            .into());
        }
        if wants_fhir {
            page::json(StatusCode::OK, text)
        } else {
            unwrapped(&text)?
        }
    } else if wants_fhir {
        let view = asked.view()?;
        let head = service.read(actor, "Binary", id).await?;
        if view.is_whole() {
            page::json(StatusCode::OK, wrapped(&head.text, content))
        } else {
            return Ok(page::resource(head, headers, &view));
        }
    } else {
        raw(
            &info.content_type,
            Some(info.size_bytes),
            Body::from_stream(content),
        )
    };
    put_version(response.headers_mut(), info.version, info.last_updated);
    Ok(response)
}

/// Content as it is. A browser must neither guess its type nor run it: it came from whoever wrote it.
fn raw(kind: &str, size_bytes: Option<u64>, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static(OCTETS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap_or(octets));
    if let Some(size_bytes) = size_bytes {
        headers.insert(CONTENT_LENGTH, size_bytes.into());
    }
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    headers.insert(NOSNIFF.0, HeaderValue::from_static(NOSNIFF.1));
    response
}

async fn whole(content: impl Stream<Item = Result<Bytes, Error>>) -> Result<Bytes, Problem> {
    let pieces: Vec<Bytes> = content.try_collect().await?;
    Ok(Bytes::from(pieces.concat()))
}

/// The content of a Binary that was written as a resource.
fn unwrapped(text: &[u8]) -> Result<Response, Problem> {
    let broken = || {
        Problem::one(
            StatusCode::INTERNAL_SERVER_ERROR,
            IssueCode::Exception,
            "the Binary's data can't be decoded; ask for application/fhir+json",
        )
    };
    let resource: Value = serde_json::from_slice(text).map_err(|_| broken())?;
    let member = |name: &str| resource.get(name).and_then(Value::as_str);
    let data: String = member("data")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    let content = STANDARD.decode(data).map_err(|_| broken())?;
    let size_bytes = u64::try_from(content.len()).ok();
    Ok(raw(
        member("contentType").unwrap_or(OCTETS),
        size_bytes,
        Body::from(content),
    ))
}

/// A Binary's head with the content put in as `data`, encoded as it passes.
fn wrapped<E: Into<BoxError> + Send + 'static>(
    head: &str,
    content: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Body {
    let open = head.trim_end().strip_suffix('}').unwrap_or(head);
    let start = Bytes::from(format!(r#"{open},"data":""#));
    let encoded = stream::unfold(
        (Box::pin(content), Vec::new(), false),
        |(mut content, mut left, done)| async move {
            if done {
                return None;
            }
            match content.next().await {
                Some(Ok(piece)) => {
                    left.extend_from_slice(&piece);
                    let rest = left.split_off(left.len() - left.len() % 3);
                    let text = Bytes::from(STANDARD.encode(&left));
                    Some((Ok(text), (content, rest, false)))
                }
                Some(Err(error)) => Some((Err(error), (content, Vec::new(), true))),
                None => {
                    let mut text = STANDARD.encode(&left);
                    text.push_str("\"}");
                    Some((Ok(Bytes::from(text)), (content, Vec::new(), true)))
                }
            }
        },
    );
    Body::from_stream(stream::once(async move { Ok(start) }).chain(encoded))
}

const OCTETS: &str = "application/octet-stream";
/// What the service calls the content of a Binary that was written as a resource.
const RESOURCE: &str = "application/fhir+json";
const NOSNIFF: (HeaderName, &str) = (HeaderName::from_static("x-content-type-options"), "nosniff");

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_is_encoded_as_it_passes() {
        let head = r#"{"resourceType":"Binary","id":"b","contentType":"text/plain"}"#;
        let pieces = ["a", "bcde", "", "fghij"];
        let content = stream::iter(pieces.map(|piece| io::Result::Ok(Bytes::from(piece))));
        let body = axum::body::to_bytes(wrapped(head, content), 1 << 20)
            .await
            .expect("a body");
        let read: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(read["data"], STANDARD.encode("abcdefghij"));
        let response = unwrapped(&body).expect("data");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        assert_eq!(body.as_ref(), b"abcdefghij");
    }

    #[test]
    fn raw_content_is_told_from_resources() {
        let headers = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers
        };
        assert!(is_raw(&headers("application/dicom")) && is_raw(&headers("text/html; charset=x")));
        assert!(!is_raw(&headers("application/fhir+json; charset=utf-8")));
        assert!(!is_raw(&HeaderMap::new()));
    }

    #[test]
    fn foreign_content_is_never_run() {
        let response = raw("text/html", None, Body::empty());
        assert_eq!(response.headers()[CONTENT_DISPOSITION], "attachment");
        assert_eq!(
            response.headers()[CONTENT_SECURITY_POLICY],
            "default-src 'none'; sandbox"
        );
    }
}
