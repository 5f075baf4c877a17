//! The portal put together: routes, what all views share, and what happens around every request.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc};

use alloy_primitives::{Address, hex};
use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
            REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use stele_core::id::PatientId;
use stele_service::{
    Error, Service,
    export::Collected,
    metrics::Class,
    people::{Named, Person, Site},
    session::Actor,
};
use tokio::sync::watch;

use crate::{
    assets,
    error::{Answer, Refusal},
    events, install,
    names::Names,
    text::{self, Language, Spoken},
    views,
};

/// What the portal is told by the binary.
#[derive(Clone)]
pub struct PortalConfig {
    /// The site that people open, and that their passkeys are for.
    pub site: Site,
    /// The language of pages for people who chose none and whose browser asks for none that there is.
    pub language: Language,
    /// Largest file that a person may add, in bytes.
    pub upload_max_bytes: u64,
    /// Becomes true when the node stops: live pages are let go.
    pub stopped: watch::Receiver<bool>,
    /// Makes the signed file of a record, which the gateway knows how to write.
    pub export: Export,
}

/// Writes a record that was collected as one signed file.
pub type Export = Arc<dyn Fn(Collected, ExportForm) -> Result<String, Error> + Send + Sync>;

/// What the file of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportForm {
    /// A page for people, with the Bundle in it.
    Page,
    /// The FHIR Bundle alone.
    Bundle,
}

/// What every view works with.
pub(crate) struct Portal {
    pub(crate) service: Arc<Service>,
    pub(crate) site: Site,
    /// Largest file that a person may add, in bytes.
    pub(crate) upload_max_bytes: u64,
    /// Whether people come over TLS.
    pub(crate) is_secure: bool,
    /// Name of the session's cookie.
    pub(crate) cookie: &'static str,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) export: Export,
    language: Language,
    names: Names,
    attempts: DefaultKeyedRateLimiter<String>,
    registrations: DefaultKeyedRateLimiter<String>,
}

impl Portal {
    /// Name and calling of an account.
    pub(crate) async fn name(&self, account: Address) -> Result<Named, Error> {
        let now = self.service.now();
        if let Some(known) = self.names.known(account, now) {
            return Ok(known);
        }
        let named = self.service.named(account).await?;
        self.names.keep(named.clone(), now);
        Ok(named)
    }

    /// A patient's own name. It is part of the record, so looking it up leaves a trace in the patient's history.
    pub(crate) async fn patient_name(
        &self,
        actor: &Actor,
        person: &Person,
    ) -> Result<String, Error> {
        let now = self.service.now();
        if let Some(known) = self.names.known(person.account, now) {
            return Ok(known.name);
        }
        let found = self
            .service
            .demographics(actor, PatientId(person.account))
            .await;
        let name = match found {
            Ok(found) => found.name,
            Err(Error::NotFound { .. }) => return Ok(text!("Name not known").into()),
            Err(error) => return Err(error),
        };
        let named = Named {
            account: person.account,
            name: name.clone(),
            what: None,
            organization: None,
        };
        self.names.keep(named, now);
        Ok(name)
    }

    /// Takes one attempt to sign in or to use a code from an address's allowance.
    pub(crate) fn attempt(&self, from: SocketAddr, headers: &HeaderMap) -> Answer<()> {
        within(
            &self.attempts,
            from,
            headers,
            text!("Wait a minute, then try again."),
        )
    }

    /// Takes one registration from an address's allowance.
    pub(crate) fn registration(&self, from: SocketAddr, headers: &HeaderMap) -> Answer<()> {
        within(
            &self.registrations,
            from,
            headers,
            text!("Too many people registered from where you are. Wait an hour, then try again."),
        )
    }
}

/// Takes one from the allowance of the address that asks.
fn within(
    allowance: &DefaultKeyedRateLimiter<String>,
    from: SocketAddr,
    headers: &HeaderMap,
    words: &str,
) -> Answer<()> {
    // A reverse proxy on this machine says for whom it asks.
    let forwarded = headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok()?.rsplit(',').next())
        .filter(|_| from.ip().is_loopback());
    let key = forwarded.map_or_else(|| from.ip().to_string(), |one| one.trim().to_owned());
    allowance.retain_recent();
    allowance.check_key(&key).map_err(|_| Refusal::Page {
        status: StatusCode::TOO_MANY_REQUESTS,
        title: text!("Too many attempts"),
        words: words.to_owned(),
    })
}

/// All pages of the portal. Merged with the gateway's router by the binary.
#[must_use = "the router answers nothing until it is served"]
pub fn router(service: Arc<Service>, config: PortalConfig) -> Router {
    let is_secure = config.site.origin().starts_with("https://");
    service.set_interpreter(Arc::new(Spoken {
        installation: config.language,
    }));
    let portal = Arc::new(Portal {
        service,
        is_secure,
        // Browsers keep a cookie of this name only from the host itself, over TLS (RFC 6265bis).
        cookie: if is_secure {
            "__Host-stele"
        } else {
            "stele_session"
        },
        site: config.site,
        upload_max_bytes: config.upload_max_bytes,
        stopped: config.stopped,
        export: config.export,
        language: config.language,
        names: Names::default(),
        attempts: RateLimiter::keyed(
            Quota::per_minute(ATTEMPTS_A_MINUTE).allow_burst(ATTEMPTS_AT_ONCE),
        ),
        registrations: RateLimiter::keyed(Quota::per_hour(REGISTRATIONS_AN_HOUR)),
    });
    Router::new()
        .merge(views::routes())
        .merge(install::routes())
        .route("/events", get(events::stream))
        .route("/assets/{name}", get(assets::serve))
        .route("/assets/{digest}/{*name}", get(assets::serve_module))
        .layer(middleware::from_fn_with_state(Arc::clone(&portal), around))
        .with_state(portal)
}

/// People who mistype an address get a page; programs get the gateway's words. For the whole of the HTTP address.
#[must_use = "the router answers nothing until it is served"]
pub fn with_pages(router: Router, installation: Language) -> Router {
    router.layer(middleware::from_fn_with_state(
        installation,
        page_for_people,
    ))
}

async fn page_for_people(
    State(installation): State<Language>,
    request: Request,
    next: Next,
) -> Response {
    let is_known = request.extensions().get::<MatchedPath>().is_some();
    let path = request.uri().path();
    let is_interface = ["/fhir/", "/admin/", "/auth/", "/ipfs/"]
        .iter()
        .any(|one| path.starts_with(one));
    let wants_page = request.headers().get(ACCEPT).is_some_and(|accepted| {
        accepted
            .to_str()
            .is_ok_and(|accepted| accepted.contains("text/html"))
    });
    if is_known || is_interface || !wants_page || request.method() != Method::GET {
        return Box::pin(next.run(request)).await;
    }
    let language = text::wanted(request.headers(), installation);
    let mut response = text::spoken(language, || Refusal::not_found().into_response());
    speak(&mut response, language);
    protect(&mut response, false);
    response
}

/// Around every request: the right host, headers that browsers heed, and one line in the log with the address's
/// template.
async fn around(State(portal): State<Arc<Portal>>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let started = tokio::time::Instant::now();
    let language = text::wanted(request.headers(), portal.language);
    let mut response = match elsewhere(&portal, &request) {
        Some(answer) => answer,
        None => text::speaking(language, Box::pin(next.run(request))).await,
    };
    speak(&mut response, language);
    protect(&mut response, portal.is_secure);
    let id = request_id();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = started.elapsed();
    let status = response.status().as_u16();
    portal
        .service
        .metrics()
        .answered(Class::Other, status, took);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%method, route, status, ms, id, "portal.request");
    response
}

/// Passkeys belong to a name, so people who typed an address of this machine are sent to `localhost`. It also keeps
/// other sites' names that resolve to this machine out.
fn elsewhere(portal: &Portal, request: &Request) -> Option<Response> {
    let own = portal.site.origin().strip_prefix("http://localhost")?;
    let host = request.headers().get(HOST)?.to_str().ok()?;
    if host.strip_prefix("localhost") == Some(own) {
        return None;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(StatusCode::MISDIRECTED_REQUEST.into_response());
    }
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    Some(Redirect::to(&format!("{}{path}", portal.site.origin())).into_response())
}

/// Says in which language a page is, and what that depended on.
fn speak(response: &mut Response, language: Language) {
    let headers = response.headers_mut();
    let is_page = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
        headers.insert(VARY, HeaderValue::from_static("accept-language, cookie"));
    }
}

/// Headers of every answer: nothing from elsewhere, no frame, no copy on disk unless a view allowed one.
fn protect(response: &mut Response, is_secure: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    headers.insert(FEATURES, HeaderValue::from_static(ALLOWED_FEATURES));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if is_secure {
        headers.insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
}

fn request_id() -> String {
    let mut bytes = [0; 8];
    // A number for the help desk: without random numbers it is all zeros, and nothing depends on it.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

/// Where a request came from.
pub(crate) type From = ConnectInfo<SocketAddr>;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
                      connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const ALLOWED_FEATURES: &str = "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), \
                                microphone=(), geolocation=(), payment=(), usb=()";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const FEATURES: HeaderName = HeaderName::from_static("permissions-policy");
/// Attempts to sign in that one address may make for long: a ward behind one address signs in at the change of shift.
const ATTEMPTS_A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Attempts at once.
const ATTEMPTS_AT_ONCE: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Registrations from one address in an hour: the doctors of a clinic on their first day, not a flood.
const REGISTRATIONS_AN_HOUR: NonZeroU32 = NonZeroU32::new(20).unwrap();
