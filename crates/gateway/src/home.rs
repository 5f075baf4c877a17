//! `/` where no portal is: what this is, where things are, how the node fares.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{Html, IntoResponse as _, Response},
};

use crate::front::Front;

/// `GET /`
pub(crate) async fn page(State(front): State<Arc<Front>>) -> Response {
    let ledger = front.service.ledger();
    let html = TEMPLATE
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{chain}", &ledger.facts().chain_id.to_string())
        .replace("{height}", &ledger.height().to_string())
        .replace("{organization}", &front.service.organization().to_string());
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    ([(CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

/// `GET /home.css`
pub(crate) async fn style() -> Response {
    (
        [(
            CONTENT_TYPE,
            HeaderValue::from_static("text/css; charset=utf-8"),
        )],
        STYLE,
    )
        .into_response()
}

const TEMPLATE: &str = include_str!("home.html");
const STYLE: &str = include_str!("home.css");

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy forbids what the page must not have: scripts, and anything from elsewhere.
    #[test]
    fn the_page_asks_nobody_else() {
        assert!(!TEMPLATE.contains("<script") && !TEMPLATE.contains("style="));
        assert!(!TEMPLATE.contains("http://") && !TEMPLATE.contains("https://"));
        assert!(!STYLE.contains("url("));
    }
}
