//! Files of ours as browsers get them: by gzip (RFC 1952) where they take it and it helps. Only what is the same for
//! everybody: a page that holds a session's token beside what somebody else may have written is never compressed.

use std::{borrow::Cow, io::Write as _, sync::OnceLock};

use axum::{
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, write::GzEncoder};

/// For what has its digest in its address.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// A file, compressed when it is first wanted so.
pub(super) struct Packed {
    kind: &'static str,
    plain: Cow<'static, [u8]>,
    small: OnceLock<Option<Vec<u8>>>,
}

impl Packed {
    pub(super) const fn new(kind: &'static str, plain: Cow<'static, [u8]>) -> Self {
        Self {
            kind,
            plain,
            small: OnceLock::new(),
        }
    }

    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The answer to whoever sent these headers.
    pub(super) fn answer(&'static self, headers: &HeaderMap) -> Response {
        let common = [
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (CACHE_CONTROL, HeaderValue::from_static(FOR_GOOD)),
            (VARY, HeaderValue::from_static("accept-encoding")),
        ];
        let small = self.small.get_or_init(|| small(self.kind, &self.plain));
        match small {
            Some(small) if takes_gzip(headers) => {
                let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
                (common, encoding, small.as_slice()).into_response()
            }
            _ => (common, self.plain()).into_response(),
        }
    }
}

/// The content by gzip, where that is a tenth less: pictures and fonts are compressed already.
fn small(kind: &str, plain: &[u8]) -> Option<Vec<u8>> {
    if kind == "font/woff2" || kind == "image/png" {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    let small = encoder.finish().ok()?;
    (small.len() < plain.len() / 10 * 9).then_some(small)
}

/// Whether a request takes gzip (RFC 9110, 12.5.3): named, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| {
            let (name, weight) = one.split_once(';').unwrap_or((one, ""));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
            name.trim().eq_ignore_ascii_case("gzip")
                && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn only_who_takes_it_gets_it_smaller() {
        for (accepted, takes) in [
            (None, false),
            (Some("gzip, deflate, br"), true),
            (Some("br;q=1.0, GZIP;q=0.8"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
            (Some("gzip;q=high"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accepted) = accepted {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            }
            assert_eq!(takes_gzip(&headers), takes, "{accepted:?}");
        }
    }

    #[test]
    fn what_is_made_smaller_comes_back_whole() {
        let plain = "export const one = 1;\n".repeat(100);
        let packed = small("text/javascript; charset=utf-8", plain.as_bytes()).expect("smaller");
        let mut back = String::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_string(&mut back)
            .expect("gzip");
        assert_eq!(back, plain);
        assert!(small("font/woff2", plain.as_bytes()).is_none());
        assert!(small("image/svg+xml", b"<svg/>").is_none());
    }
}
