//! Pages that show the state of a development chain: accounts, blocks, transactions and logs by the system contracts'
//! ABIs, code and storage. Served by `stele dev` alone; they change nothing, have no script, and ask no other host.

mod abi;
mod pages;

use std::{net::IpAddr, sync::Arc};

use alloy_primitives::{Address, B256};
use axum::{
    Router,
    extract::{Path, RawQuery, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use maud::{DOCTYPE, Markup, html};
use stele_service::{
    development::Development,
    ports::{Ledger, LedgerError},
};

use crate::{
    assets,
    form::Fields,
    page::{Rendered, icon, mark},
};

/// What the pages show.
pub(crate) struct Inspected {
    ledger: Arc<dyn Ledger>,
    chain: Arc<dyn Development>,
    rpc: String,
}

/// Why there is no page.
#[derive(Debug)]
enum Problem {
    NotThere(String),
    Failed(LedgerError),
}

type Shown = Result<Rendered, Problem>;

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, words) = match self {
            Self::NotThere(words) => (StatusCode::NOT_FOUND, words),
            Self::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let main = html! {
            h1 { "There is nothing to show" }
            p { (words) }
            p { a.btn href="/" { "Go to the start" } }
        };
        (status, shell("Nothing to show", &main)).into_response()
    }
}

/// The pages over a development chain; `rpc` is where its JSON-RPC listens.
#[must_use = "the router answers nothing until it is served"]
pub fn development(ledger: Arc<dyn Ledger>, chain: Arc<dyn Development>, rpc: String) -> Router {
    Router::new()
        .route("/", get(start))
        .route("/find", get(find))
        .route("/blocks/{height}", get(block))
        .route("/transactions/{hash}", get(transaction))
        .route("/accounts/{address}", get(account))
        .route("/assets/{name}", get(assets::serve))
        .layer(middleware::from_fn(around))
        .with_state(Arc::new(Inspected { ledger, chain, rpc }))
}

/// Around every request: names that a web page could have pointed here are refused, and browsers are told what they
/// may load.
async fn around(request: Request, next: Next) -> Response {
    let mut response = if is_own_name(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "open this page as localhost\n").into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_own_name(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// `GET /`
async fn start(State(inspected): State<Arc<Inspected>>) -> Shown {
    pages::start(&inspected)
}

/// `GET /find`: to whatever a number, an address or a hash names.
async fn find(
    State(inspected): State<Arc<Inspected>>,
    RawQuery(query): RawQuery,
) -> Result<Redirect, Problem> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let text = fields.text("what");
    if let Ok(height) = text.parse::<u64>() {
        return Ok(Redirect::to(&format!("/blocks/{height}")));
    }
    if let Ok(address) = text.parse::<Address>() {
        return Ok(Redirect::to(&format!("/accounts/{address}")));
    }
    let not_there = || {
        let words =
            "It is no height, no address, and no hash of a block or transaction of this chain.";
        Problem::NotThere(words.to_owned())
    };
    let hash: B256 = text.parse().map_err(|_| not_there())?;
    if inspected.ledger.transaction(hash)?.is_some() {
        return Ok(Redirect::to(&format!("/transactions/{hash}")));
    }
    let block = inspected.block_by(hash)?.ok_or_else(not_there)?;
    Ok(Redirect::to(&format!("/blocks/{}", block.header.number)))
}

/// `GET /blocks/{height}`
async fn block(State(inspected): State<Arc<Inspected>>, Path(height): Path<String>) -> Shown {
    let height = height
        .parse()
        .map_err(|_| Problem::NotThere("A block is named by its height.".into()))?;
    pages::block(&inspected, height)
}

/// `GET /transactions/{hash}`
async fn transaction(State(inspected): State<Arc<Inspected>>, Path(hash): Path<String>) -> Shown {
    let hash = hash
        .parse()
        .map_err(|_| Problem::NotThere("A transaction is named by its hash.".into()))?;
    pages::transaction(&inspected, hash)
}

/// `GET /accounts/{address}`
async fn account(
    State(inspected): State<Arc<Inspected>>,
    Path(address): Path<String>,
    RawQuery(query): RawQuery,
) -> Shown {
    let address = address
        .parse()
        .map_err(|_| Problem::NotThere("An account is named by its address.".into()))?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let from = fields.text("from").parse().unwrap_or_default();
    pages::account(&inspected, address, from)
}

/// A page: bar with a search field, main part.
fn shell(title: &str, main: &Markup) -> Rendered {
    Rendered(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – Stele development chain" }
                link rel="icon" href=(assets::address("mark.svg"));
                link rel="stylesheet" href=(assets::address("portal.css"));
            }
            body.compact {
                a.skip href="#main" { "Skip to content" }
                header.top { div {
                    a.brand href="/" { (mark()) " Stele" }
                    span.org { "Development chain" }
                } }
                main #main {
                    form.filters method="get" action="/find" role="search" aria-label="This chain" {
                        div.field.wide {
                            label for="what" { "Height, address or hash" }
                            input #what name="what" autocomplete="off" spellcheck="false" maxlength="80";
                        }
                        button.btn { (icon("search")) " Show" }
                    }
                    (main)
                }
                footer.foot { div { span { "In memory, with keys that everybody knows. Nothing here is kept." } } }
            }
        }
    })
}

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_are_answered() {
        let mut headers = HeaderMap::new();
        assert!(!is_own_name(&headers));
        for (host, own) in [
            ("localhost:8546", true),
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("evil.example:8546", false),
            ("localhost.evil.example", false),
        ] {
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(is_own_name(&headers), own, "{host}");
        }
    }
}
