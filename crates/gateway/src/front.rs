//! The HTTP front put together: routes, what all handlers share, and what happens around every request.

use std::{
    future::Future,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER,
            STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use stele_fhir::outcome::IssueCode;
use stele_service::{Service, metrics::Class};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    GatewayConfig, admin, export, fhir, health, home, ipfs, members, network, own,
    problem::Problem,
    rate::{self, Rates},
    smart,
};

/// What every handler works with.
pub(crate) struct Front {
    pub(crate) service: Arc<Service>,
    pub(crate) config: GatewayConfig,
    /// The CapabilityStatement, written once.
    pub(crate) metadata: OnceLock<Bytes>,
    pub(crate) rates: Rates,
    turns: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
}

impl Front {
    fn new(service: Arc<Service>, config: GatewayConfig) -> Self {
        Self {
            rates: Rates::new(config.rate_per_second, config.rate_burst),
            service,
            config,
            metadata: OnceLock::new(),
            turns: std::iter::repeat_with(Arc::default).take(TURNS).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for the turn of a condition: two requests with the same one see each other's outcome, so that both
    /// don't create. The turn is to be held until the write is findable, also when its client is answered before.
    pub(crate) async fn turn(
        &self,
        resource_type: &str,
        condition: &str,
    ) -> Option<OwnedMutexGuard<()>> {
        let turns = u64::try_from(TURNS).ok()?;
        let turn = self
            .hasher
            .hash_one((resource_type, condition))
            .checked_rem(turns)?;
        let lock = self.turns.get(usize::try_from(turn).ok()?)?;
        Some(Arc::clone(lock).lock_owned().await)
    }

    /// Runs work that takes a while on a thread where it holds nobody up.
    ///
    /// # Errors
    /// 500 if it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| broke(&error))
    }

    /// Runs work that must come to its end when the client hangs up.
    ///
    /// # Errors
    /// 500 if it panicked.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        tokio::spawn(work).await.map_err(|error| broke(&error))
    }
}

fn broke(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "http.broke");
    Problem::one(
        StatusCode::INTERNAL_SERVER_ERROR,
        IssueCode::Exception,
        "internal failure; the log says more",
    )
}

/// All addresses of the HTTP front but JSON-RPC's. A caller may add its own, such as a portal's; `/` is taken only
/// where the configuration says so.
#[must_use = "the router answers nothing until it is served"]
pub fn router(service: Arc<Service>, config: GatewayConfig) -> Router {
    let routes = routes(config.home);
    let front = Arc::new(Front::new(service, config));
    routes
        .fallback(fhir::no_such_address)
        .method_not_allowed_fallback(fhir::no_such_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&front),
            rate::limit,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&front), around))
        .with_state(front)
}

fn routes(with_home: bool) -> Router<Arc<Front>> {
    let routes = Router::new()
        .merge(fhir::routes())
        .merge(admin::routes())
        .merge(members::routes())
        .merge(network::routes())
        .merge(own::routes())
        .merge(export::routes())
        .route("/.well-known/stele.json", get(admin::facts))
        .route("/auth/token", post(smart::token))
        .route("/auth/introspect", post(smart::introspect))
        .route("/ipfs/{cid}", get(ipfs::block))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(health::openapi));
    if !with_home {
        return routes;
    }
    routes
        .route("/", get(home::page))
        .route("/home.css", get(home::style))
}

/// Around every request: its id, a time limit, headers that browsers heed, and one line in the log. The line has
/// the address's template, never the address, which may hold a name.
async fn around(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let path = request.uri().path();
    let is_stream = path.starts_with("/fhir/r4/Binary") || path.starts_with("/ipfs/");
    let started = tokio::time::Instant::now();
    let answer = Box::pin(next.run(request));
    let mut response = if is_stream {
        answer.await
    } else {
        match tokio::time::timeout(front.config.request_timeout, answer).await {
            Ok(response) => response,
            Err(_) => Problem::one(
                StatusCode::SERVICE_UNAVAILABLE,
                IssueCode::Timeout,
                "the request took too long; a write may still be finished",
            )
            .with(RETRY_AFTER, "10")
            .into_response(),
        }
    };
    let is_https = front.config.base_url.starts_with("https://");
    protect(response.headers_mut(), is_https);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = started.elapsed();
    let class = Class::of(method.as_str(), &route);
    let status = response.status().as_u16();
    front.service.metrics().answered(class, status, took);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%method, route, status, ms, id, "http.request");
    response
}

/// Headers that every answer has unless its handler set its own.
fn protect(headers: &mut HeaderMap, is_https: bool) {
    let mut unless_set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    unless_set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    unless_set(X_FRAME_OPTIONS, "DENY");
    unless_set(REFERRER_POLICY, "no-referrer");
    unless_set(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    unless_set(CACHE_CONTROL, "no-store");
    if is_https {
        unless_set(STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

/// The client's `X-Request-Id` if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    given
        .filter(|id| (1..=64).contains(&id.len()) && id.chars().all(allowed))
        .map_or_else(smart::random_id, str::to_owned)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Two conditions that share a turn only wait a little.
const TURNS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_if_it_is_harmless() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(with("abc-1.2_3"), "abc-1.2_3");
        for odd in ["", "a b", "x\"y"] {
            assert_ne!(with(odd), odd);
        }
        assert_eq!(request_id(&HeaderMap::new()).len(), 32);
    }

    #[test]
    fn a_handler_may_say_more_about_caching() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        protect(&mut headers, true);
        assert_eq!(headers[CACHE_CONTROL], "public");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }

    /// Two routes for one address would stop the node at its start.
    #[test]
    fn no_two_routes_meet() {
        assert!(routes(true).has_routes() && routes(false).has_routes());
    }

    /// `openapi.json` is kept by hand: every address of the router stands in it, and nothing else.
    #[test]
    fn every_address_is_described() {
        let document: serde_json::Value =
            serde_json::from_str(health::OPENAPI).expect("openapi.json is JSON");
        let described: std::collections::BTreeSet<String> = document["paths"]
            .as_object()
            .expect("paths")
            .keys()
            .cloned()
            .collect();
        let sources = [
            include_str!("front.rs"),
            include_str!("fhir.rs"),
            include_str!("admin.rs"),
            include_str!("members.rs"),
            include_str!("own.rs"),
            include_str!("export.rs"),
            include_str!("network.rs"),
        ];
        let mut served = std::collections::BTreeSet::new();
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for call in code.split(".route(").skip(1) {
                let path = call
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|c| c.split('"').next());
                served.insert(path.expect("a path").to_owned());
            }
        }
        served.remove("/fhir/r4/");
        assert_eq!(described, served);
    }
}
