//! The one place where refusals get their HTTP status and their OperationOutcome.

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use stele_fhir::outcome::{self, Issue, IssueCode};
use stele_service::{
    Error,
    ports::{LedgerError, RefusalKind},
};

/// What a handler gives: an answer, or why there is none.
pub(crate) type Answer = Result<Response, Problem>;

/// A refusal on its way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) issues: Vec<Issue>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) const fn new(status: StatusCode, issues: Vec<Issue>) -> Self {
        Self {
            status,
            issues,
            headers: Vec::new(),
        }
    }

    pub(crate) fn one(status: StatusCode, code: IssueCode, text: impl Into<String>) -> Self {
        Self::new(status, vec![Issue::error(code, text)])
    }

    /// 400: a header, an address or a search that can't be read.
    pub(crate) fn bad_request(code: IssueCode, text: impl Into<String>) -> Self {
        Self::one(StatusCode::BAD_REQUEST, code, text)
    }

    /// 404 for what is not there or not to be disclosed.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::one(StatusCode::NOT_FOUND, IssueCode::NotFound, text)
    }

    /// 413 for a body over its limit.
    pub(crate) fn too_large(limit_bytes: u64) -> Self {
        Self::one(
            StatusCode::PAYLOAD_TOO_LARGE,
            IssueCode::TooLong,
            format!("the body may have at most {limit_bytes} bytes; send it in parts"),
        )
    }

    /// 412 for a condition that several resources meet.
    pub(crate) fn several() -> Self {
        Self::one(
            StatusCode::PRECONDITION_FAILED,
            IssueCode::MultipleMatches,
            "the condition matches several resources; make it narrower",
        )
    }

    /// 401 with the challenge of RFC 6750 §3. `error` is absent when no token was sent.
    pub(crate) fn unauthorized(error: Option<&'static str>, text: &'static str) -> Self {
        let challenge = error.map_or_else(
            || "Bearer realm=\"stele\"".to_owned(),
            |error| {
                format!("Bearer realm=\"stele\", error=\"{error}\", error_description=\"{text}\"")
            },
        );
        Self::one(StatusCode::UNAUTHORIZED, IssueCode::Login, text)
            .with(WWW_AUTHENTICATE, &challenge)
    }

    /// 403: the token is good but does not reach this far.
    pub(crate) fn insufficient_scope(needed: &str) -> Self {
        let challenge =
            format!("Bearer realm=\"stele\", error=\"insufficient_scope\", scope=\"{needed}\"");
        Self::one(
            StatusCode::FORBIDDEN,
            IssueCode::Forbidden,
            format!("the access token lacks the scope {needed}"),
        )
        .with(WWW_AUTHENTICATE, &challenge)
    }

    /// The same problem with one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The OperationOutcome as text.
    pub(crate) fn to_json(&self) -> String {
        outcome::to_json(&self.issues).to_string()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = status_of(&error);
        if status.is_server_error() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                code = error.code(),
                "http.failed"
            );
        }
        let text = error.public_message();
        let retry = status == StatusCode::SERVICE_UNAVAILABLE;
        let issues = match error {
            Error::Invalid { issues, .. } if !issues.is_empty() => issues,
            _ => vec![Issue::error(code, text)],
        };
        let problem = Self::new(status, issues);
        if retry {
            problem.with(RETRY_AFTER, RETRY_SECONDS)
        } else {
            problem
        }
    }
}

/// Status and issue code of a use case's error. The crate's error may grow: what is not known here is internal.
fn status_of(error: &Error) -> (StatusCode, IssueCode) {
    match error {
        Error::Invalid { issues, unreadable } => {
            (invalid_status(issues, *unreadable), IssueCode::Invalid)
        }
        Error::NotFound { .. } => (StatusCode::NOT_FOUND, IssueCode::NotFound),
        Error::Gone { .. } => (StatusCode::GONE, IssueCode::Deleted),
        Error::NotPermitted { .. } => (StatusCode::FORBIDDEN, IssueCode::Forbidden),
        Error::Conflict { .. } => (StatusCode::CONFLICT, IssueCode::Conflict),
        Error::PreconditionFailed { .. } => (StatusCode::PRECONDITION_FAILED, IssueCode::Conflict),
        Error::DoesNotMatch { .. } => (StatusCode::INTERNAL_SERVER_ERROR, IssueCode::Exception),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, IssueCode::TooLong),
        Error::NotSupported { .. } => (StatusCode::UNPROCESSABLE_ENTITY, IssueCode::NotSupported),
        Error::StorageFull { .. } => (StatusCode::SERVICE_UNAVAILABLE, IssueCode::NoStore),
        Error::Ledger { source, .. } => ledger_status(source),
        Error::Vault { .. } | Error::Index { .. } | Error::Member { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, IssueCode::Transient)
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, IssueCode::Exception),
    }
}

fn ledger_status(error: &LedgerError) -> (StatusCode, IssueCode) {
    match error {
        LedgerError::Refused {
            kind: RefusalKind::NotPermitted,
            ..
        } => (StatusCode::FORBIDDEN, IssueCode::Forbidden),
        LedgerError::Refused {
            kind: RefusalKind::PoolFull,
            ..
        } => (StatusCode::SERVICE_UNAVAILABLE, IssueCode::Throttled),
        LedgerError::Refused { .. } | LedgerError::Reverted { .. } => {
            (StatusCode::CONFLICT, IssueCode::Conflict)
        }
        LedgerError::Pending { .. } => (StatusCode::SERVICE_UNAVAILABLE, IssueCode::Timeout),
        _ => (StatusCode::SERVICE_UNAVAILABLE, IssueCode::Transient),
    }
}

/// Unreadable is 400, readable and wrong 422; two kinds of issues have a status of their own.
fn invalid_status(issues: &[Issue], unreadable: bool) -> StatusCode {
    let has = |code| {
        issues
            .iter()
            .any(|issue| issue.is_error() && issue.code == code)
    };
    if has(IssueCode::Forbidden) {
        StatusCode::FORBIDDEN
    } else if has(IssueCode::TooLong) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if unreadable {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// MIME type of every FHIR answer.
pub(crate) const FHIR_JSON: &str = "application/fhir+json;charset=utf-8";
/// A view that failed is tried again within seconds.
const RETRY_SECONDS: &str = "5";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, status: u16, code: IssueCode) {
        let problem = Problem::from(error);
        assert_eq!(problem.status.as_u16(), status);
        assert_eq!(problem.issues[0].code, code);
        assert!(problem.into_response().headers().contains_key(CONTENT_TYPE));
    }

    #[test]
    fn every_refusal_has_its_status() {
        let resource = || "Patient/1".to_owned();
        let message = || "m".to_owned();
        check(
            Error::NotFound {
                resource: resource(),
            },
            404,
            IssueCode::NotFound,
        );
        check(
            Error::Gone {
                resource: resource(),
            },
            410,
            IssueCode::Deleted,
        );
        check(
            Error::NotPermitted { message: message() },
            403,
            IssueCode::Forbidden,
        );
        check(
            Error::Conflict { message: message() },
            409,
            IssueCode::Conflict,
        );
        check(
            Error::PreconditionFailed { message: message() },
            412,
            IssueCode::Conflict,
        );
        check(
            Error::DoesNotMatch {
                resource: resource(),
            },
            500,
            IssueCode::Exception,
        );
        check(
            Error::TooLarge { message: message() },
            413,
            IssueCode::TooLong,
        );
        check(
            Error::NotSupported { message: message() },
            422,
            IssueCode::NotSupported,
        );
        check(
            Error::StorageFull { message: message() },
            503,
            IssueCode::NoStore,
        );
        check(
            Error::Member { message: message() },
            503,
            IssueCode::Transient,
        );
        check(
            Error::Internal {
                what: "w",
                problem: message(),
            },
            500,
            IssueCode::Exception,
        );
    }

    #[test]
    fn the_ledger_s_refusals_are_told_apart() {
        let refused = |kind| Error::Ledger {
            what: "a write",
            source: LedgerError::Refused {
                kind,
                message: "m".to_owned(),
            },
        };
        check(
            refused(RefusalKind::NotPermitted),
            403,
            IssueCode::Forbidden,
        );
        check(refused(RefusalKind::PoolFull), 503, IssueCode::Throttled);
        check(refused(RefusalKind::Nonce), 409, IssueCode::Conflict);
    }

    #[test]
    fn invalid_input_keeps_its_issues() {
        let issue = |code| vec![Issue::error(code, "x").at("Patient.name")];
        let invalid = |code, unreadable| Error::Invalid {
            issues: issue(code),
            unreadable,
        };
        check(
            invalid(IssueCode::Structure, true),
            400,
            IssueCode::Structure,
        );
        check(
            invalid(IssueCode::Required, false),
            422,
            IssueCode::Required,
        );
        check(invalid(IssueCode::TooLong, true), 413, IssueCode::TooLong);
        check(
            invalid(IssueCode::Forbidden, false),
            403,
            IssueCode::Forbidden,
        );
        let text = Problem::from(invalid(IssueCode::Required, false)).to_json();
        assert!(text.contains(r#""expression":["Patient.name"]"#), "{text}");
    }

    #[test]
    fn what_may_pass_says_when_to_try_again() {
        let response = Problem::from(Error::StorageFull {
            message: "disk".into(),
        })
        .into_response();
        assert_eq!(response.headers()[RETRY_AFTER], RETRY_SECONDS);
    }

    #[test]
    fn challenges_follow_rfc_6750() {
        let response = Problem::unauthorized(None, "no token").into_response();
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            "Bearer realm=\"stele\""
        );
        let response = Problem::insufficient_scope("system/Patient.r").into_response();
        assert_eq!(response.status(), 403);
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().expect("text");
        assert!(challenge.contains("insufficient_scope"), "{challenge}");
    }
}
