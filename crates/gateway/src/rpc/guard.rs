//! Who may speak to this server, decided before a byte of the body is read: the name it was called by
//! (against DNS rebinding), the web page the call comes from, and the bearer token.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, ORIGIN, VARY, WWW_AUTHENTICATE,
    },
    uri::Authority,
};
use jsonrpsee::server::HttpBody;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::{
    Origins, RpcConfig,
    sockets::{self, Sockets},
};

/// Puts the guard before the server.
#[derive(Clone)]
pub(crate) struct GuardLayer {
    rules: Arc<Rules>,
    places: Arc<Semaphore>,
    sockets: Sockets,
}

impl GuardLayer {
    /// Requests and WebSockets take a place each while they last.
    pub(crate) fn new(config: RpcConfig, places: Arc<Semaphore>, sockets: Sockets) -> Self {
        Self {
            rules: Arc::new(Rules {
                hosts: config.allowed_hosts,
                origins: config.allowed_origins,
                token: config.token,
            }),
            places,
            sockets,
        }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            before: self.clone(),
        }
    }
}

/// The server behind the guard.
#[derive(Clone)]
pub(crate) struct Guard<S> {
    inner: S,
    before: GuardLayer,
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    B: Send + 'static,
    S: Service<Request<B>, Response = Response<HttpBody>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<HttpBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = match self.before.rules.admit(&request) {
            Ok(Admitted::Call { origin }) => origin,
            Ok(Admitted::Preflight { origin }) => {
                return Box::pin(std::future::ready(Ok(preflight(origin))));
            }
            Err(refusal) => return Box::pin(std::future::ready(Ok(refusal.response()))),
        };
        let Ok(place) = Arc::clone(&self.before.places).try_acquire_owned() else {
            return Box::pin(std::future::ready(Ok(Refusal::Crowded.response())));
        };
        if sockets::is_asked_for(&request) {
            let sockets = self.before.sockets.clone();
            return Box::pin(async move {
                let mut response = sockets.open(request, place).await;
                if let Some(origin) = origin {
                    share_with(response.headers_mut(), origin);
                }
                Ok(response)
            });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            drop(place);
            if let Some(origin) = origin {
                share_with(response.headers_mut(), origin);
            }
            Ok(response)
        })
    }
}

struct Rules {
    hosts: Vec<String>,
    origins: Origins,
    token: Option<SecretString>,
}

/// What may pass.
#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    /// A call; from a web page when there is an origin.
    Call { origin: Option<HeaderValue> },
    /// A browser asks whether its page may call.
    Preflight { origin: HeaderValue },
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Host,
    Origin,
    Token,
    Crowded,
}

impl Rules {
    fn admit<B>(&self, request: &Request<B>) -> Result<Admitted, Refusal> {
        if !self.host_allowed(request) {
            return Err(Refusal::Host);
        }
        let origin = request.headers().get(ORIGIN).cloned();
        if let Some(origin) = &origin
            && !self.origin_allowed(origin)
        {
            return Err(Refusal::Origin);
        }
        // Browsers send no token with the question whether they may send one.
        if request.method() == Method::OPTIONS
            && let Some(origin) = origin
        {
            return Ok(Admitted::Preflight { origin });
        }
        if !self.token_matches(request.headers()) {
            return Err(Refusal::Token);
        }
        Ok(Admitted::Call { origin })
    }

    /// A web page can only reach us under a DNS name of its own, so `localhost` and IP addresses are safe.
    fn host_allowed<B>(&self, request: &Request<B>) -> bool {
        let header = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let stated = header.or_else(|| request.uri().authority().map(Authority::as_str));
        let Some(authority) = stated.and_then(|host| host.parse::<Authority>().ok()) else {
            return false;
        };
        let host = authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|allowed| {
                allowed == "*"
                    || allowed.eq_ignore_ascii_case(host)
                    || allowed.eq_ignore_ascii_case(authority.as_str())
            })
    }

    fn origin_allowed(&self, origin: &HeaderValue) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::These(allowed) => origin.to_str().is_ok_and(|origin| {
                allowed
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(origin))
            }),
        }
    }

    fn token_matches(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        given.is_some_and(|(_, given)| {
            given
                .as_bytes()
                .ct_eq(token.expose_secret().as_bytes())
                .into()
        })
    }
}

impl Refusal {
    fn response(self) -> Response<HttpBody> {
        let (status, text) = match self {
            Self::Host => (
                StatusCode::FORBIDDEN,
                "this host name is not in the node's allowed hosts\n",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "this origin is not in the node's allowed origins\n",
            ),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "a valid bearer token is required\n",
            ),
            Self::Crowded => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many connections; come back later\n",
            ),
        };
        let mut response = Response::new(HttpBody::from(text));
        *response.status_mut() = status;
        if self == Self::Token {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn preflight(origin: HeaderValue) -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    share_with(headers, origin);
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, authorization"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // A listed public page may reach a node on the private network (Private Network Access).
    headers.insert(
        "access-control-allow-private-network",
        HeaderValue::from_static("true"),
    );
    response
}

fn share_with(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests;
