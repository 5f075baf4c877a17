//! IPFS trustless gateway (`specs.ipfs.tech/http-gateways/trustless-gateway`): blocks and CAR files of ciphertext,
//! read-only. Whoever asks checks every byte against the address; without key and pepper it opens for nobody.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL,
            CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
        },
    },
    response::Response,
};
use cid::Cid;
use stele_fhir::outcome::IssueCode;

use crate::{
    body,
    front::Front,
    problem::{Answer, Problem},
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// One block.
    Raw,
    /// A CAR of the block alone, or with everything below it.
    Car { block_only: bool },
}

/// `GET /ipfs/{cid}?format=raw|car`
pub(crate) async fn block(
    State(front): State<Arc<Front>>,
    method: Method,
    Path(cid): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    let cid: Cid = cid
        .parse()
        .map_err(|_| Problem::bad_request(IssueCode::Value, "this is not a CID"))?;
    let pairs = body::pairs(query.unwrap_or_default().as_bytes());
    let format = format_of(&headers, &pairs)?;
    let etag = match format {
        Format::Raw => format!("\"{cid}.raw\""),
        Format::Car { block_only: false } => format!("W/\"{cid}.car.dfs\""),
        Format::Car { block_only: true } => format!("W/\"{cid}.car.dfs.block\""),
    };
    let is_known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == etag || tag.trim() == "*");
    if !front.service.has_blob(&cid)? {
        return Err(Problem::not_found("this block is not here"));
    }
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        content(&front, cid, format, method == Method::HEAD).await?
    };
    describe(response.headers_mut(), &cid, format, &etag);
    Ok(response)
}

async fn content(
    front: &Arc<Front>,
    cid: Cid,
    format: Format,
    head_only: bool,
) -> Result<Response, Problem> {
    match format {
        Format::Raw => {
            let block = front.service.blob(&cid).await?;
            let block = block.ok_or_else(|| Problem::not_found("this block is not here"))?;
            let length = block.len();
            let mut response = Response::new(Body::from(block));
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            Ok(response)
        }
        Format::Car { .. } if head_only => Ok(Response::new(Body::empty())),
        Format::Car { block_only } => Ok(Response::new(Body::from_stream(
            front.service.car(cid, block_only),
        ))),
    }
}

/// # Errors
/// 406 where neither a block nor a CAR is asked for: what is here is ciphertext, which no browser can show.
fn format_of(headers: &HeaderMap, pairs: &[(String, String)]) -> Result<Format, Problem> {
    let parameter = |name: &str| {
        pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    let block_only = parameter("dag-scope") == Some("block");
    let accepted = |kind: &str| {
        let values = headers.get_all(ACCEPT);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(kind))
    };
    match parameter("format") {
        Some("raw") => Ok(Format::Raw),
        Some("car") => Ok(Format::Car { block_only }),
        None if accepted("application/vnd.ipld.car") => Ok(Format::Car { block_only }),
        None if accepted("application/vnd.ipld.raw") => Ok(Format::Raw),
        Some(_) | None => Err(Problem::one(
            StatusCode::NOT_ACCEPTABLE,
            IssueCode::NotSupported,
            "this is a trustless gateway: ask with format=raw or format=car",
        )),
    }
}

fn describe(headers: &mut HeaderMap, cid: &Cid, format: Format, etag: &str) {
    let (kind, extension) = match format {
        Format::Raw => ("application/vnd.ipld.raw", "bin"),
        Format::Car { .. } => (
            "application/vnd.ipld.car; version=1; order=dfs; dups=n",
            "car",
        ),
    };
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(CONTENT_TYPE, kind);
    put(ETAG, etag);
    put(
        CONTENT_DISPOSITION,
        &format!("attachment; filename=\"{cid}.{extension}\""),
    );
    put(CACHE_CONTROL, "public, max-age=29030400, immutable");
    put(
        HeaderName::from_static("x-ipfs-path"),
        &format!("/ipfs/{cid}"),
    );
    put(HeaderName::from_static("x-ipfs-roots"), &cid.to_string());
    put(VARY, "Accept");
    // Clients in browsers fetch and verify from any page; there is nothing here to protect from them.
    put(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    put(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        "X-Ipfs-Path, X-Ipfs-Roots, Content-Type",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_has_to_be_named() {
        let asked = |accept: Option<&'static str>, query: &str| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            format_of(&headers, &body::pairs(query.as_bytes()))
        };
        assert_eq!(asked(None, "format=raw").expect("raw"), Format::Raw);
        assert_eq!(
            asked(None, "format=car").expect("car"),
            Format::Car { block_only: false }
        );
        let car = asked(Some("application/vnd.ipld.car"), "dag-scope=block");
        assert_eq!(car.expect("car"), Format::Car { block_only: true });
        assert_eq!(
            asked(Some("application/vnd.ipld.raw"), "").expect("raw"),
            Format::Raw
        );
        assert_eq!(asked(Some("text/html"), "").expect_err("none").status, 406);
        assert_eq!(asked(None, "format=tar").expect_err("none").status, 406);
    }
}
