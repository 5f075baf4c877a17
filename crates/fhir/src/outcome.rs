//! What went wrong, where, and how badly: the issues every part of this crate reports.
//!
//! An issue names elements and rules. It never quotes the content of an element, because
//! issues travel into logs and on to screens, and content is health information.

use serde_json::{Value, json};

/// One finding about a message (FHIR R4 `OperationOutcome.issue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How bad it is; only [`Severity::Error`] and [`Severity::Fatal`] refuse the input.
    pub severity: Severity,
    /// What kind of problem it is.
    pub code: IssueCode,
    /// One sentence in plain English for the sender; holds no element content.
    pub diagnostics: String,
    /// FHIRPath-style locations, such as `Observation.valueQuantity.value`; may be empty.
    pub expression: Vec<String>,
}

impl Issue {
    /// An issue that refuses the input.
    pub fn error(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, diagnostics)
    }

    /// An issue that is reported while the input is accepted.
    pub fn warning(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, diagnostics)
    }

    /// An issue that carries information only.
    pub fn information(code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self::new(Severity::Information, code, diagnostics)
    }

    /// An issue of any severity, without a location.
    pub fn new(severity: Severity, code: IssueCode, diagnostics: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            diagnostics: diagnostics.into(),
            expression: Vec::new(),
        }
    }

    /// The same issue with one more FHIRPath-style location.
    #[must_use]
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression.push(expression.into());
        self
    }

    /// Whether the input must be refused because of this issue.
    pub fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Fatal | Severity::Error)
    }

    /// This issue as one member of `OperationOutcome.issue`.
    pub fn to_json(&self) -> Value {
        let mut issue = json!({
            "severity": self.severity.code(),
            "code": self.code.code(),
            "diagnostics": self.diagnostics,
        });
        if !self.expression.is_empty()
            && let Some(members) = issue.as_object_mut()
        {
            members.insert("expression".to_owned(), json!(self.expression));
        }
        issue
    }
}

/// FHIR R4 value set `issue-severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Information,
    /// Accepted, although something is odd or was ignored.
    Warning,
    /// Refused.
    Error,
    /// Refused, and nothing after the problem could be looked at.
    Fatal,
}

impl Severity {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// FHIR R4 value set `issue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueCode {
    /// Content breaks a rule of the specification or of this server.
    Invalid,
    /// The structure is wrong: unreadable JSON, unknown element, wrong JSON type.
    Structure,
    /// A required element is missing.
    Required,
    /// An element's value is out of bounds or malformed.
    Value,
    /// A content rule between elements failed.
    Invariant,
    /// Nobody is signed in.
    Login,
    /// The credentials are not known.
    Unknown,
    /// The session ended.
    Expired,
    /// The caller may not do this.
    Forbidden,
    /// Some information was left out.
    Suppressed,
    /// The input could not be processed.
    Processing,
    /// The feature is not offered.
    NotSupported,
    /// The same thing exists already.
    Duplicate,
    /// More than one match where one was needed.
    MultipleMatches,
    /// There is no such thing.
    NotFound,
    /// It was deleted.
    Deleted,
    /// The content is too long.
    TooLong,
    /// A code is not in the value set, or a code system is not known.
    CodeInvalid,
    /// An extension is wrong or not understood.
    Extension,
    /// The operation is too costly.
    TooCostly,
    /// A rule of this server's operation refused it.
    BusinessRule,
    /// Somebody else changed it in between.
    Conflict,
    /// Trying again later may help.
    Transient,
    /// A lock could not be had.
    LockError,
    /// A store is full or missing.
    NoStore,
    /// The server failed.
    Exception,
    /// It took too long.
    Timeout,
    /// An answer is incomplete.
    Incomplete,
    /// Too many requests.
    Throttled,
    /// Information only.
    Informational,
}

impl IssueCode {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Structure => "structure",
            Self::Required => "required",
            Self::Value => "value",
            Self::Invariant => "invariant",
            Self::Login => "login",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Suppressed => "suppressed",
            Self::Processing => "processing",
            Self::NotSupported => "not-supported",
            Self::Duplicate => "duplicate",
            Self::MultipleMatches => "multiple-matches",
            Self::NotFound => "not-found",
            Self::Deleted => "deleted",
            Self::TooLong => "too-long",
            Self::CodeInvalid => "code-invalid",
            Self::Extension => "extension",
            Self::TooCostly => "too-costly",
            Self::BusinessRule => "business-rule",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::LockError => "lock-error",
            Self::NoStore => "no-store",
            Self::Exception => "exception",
            Self::Timeout => "timeout",
            Self::Incomplete => "incomplete",
            Self::Throttled => "throttled",
            Self::Informational => "informational",
        }
    }
}

/// An `OperationOutcome` resource holding the issues in the order given.
///
/// FHIR demands at least one issue, so an empty slice yields "All OK" for information.
pub fn to_json(issues: &[Issue]) -> Value {
    let all_ok = [Issue::information(IssueCode::Informational, "All OK")];
    let issues = if issues.is_empty() { &all_ok } else { issues };
    json!({
        "resourceType": "OperationOutcome",
        "issue": issues.iter().map(Issue::to_json).collect::<Vec<_>>(),
    })
}
