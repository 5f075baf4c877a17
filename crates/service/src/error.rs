//! One error for all use cases. Each variant answers for every front: a stable code, whether trying again may
//! help, and a text that may be shown to the caller.

use stele_fhir::outcome::Issue;

use crate::ports::LedgerError;

/// Result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a use case did not do what was asked. Texts carry pseudonyms and FHIR ids, never clinical values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The resource or the request is not valid; nothing was written.
    #[error("{}", first_diagnostic(issues))]
    Invalid {
        /// Everything that is wrong, with locations.
        issues: Vec<Issue>,
        /// True when it could not even be read (400), false when it was read but breaks a rule (422).
        unreadable: bool,
    },
    /// It does not exist for this actor: absent, or not to be disclosed.
    #[error("{resource} does not exist")]
    NotFound {
        /// `Type/id`, as asked.
        resource: String,
    },
    /// It existed and was deleted.
    #[error("{resource} was deleted")]
    Gone {
        /// `Type/id`, as asked.
        resource: String,
    },
    /// The actor may not do this, and may know it.
    #[error("{message}")]
    NotPermitted {
        /// What is missing and how to get it.
        message: String,
    },
    /// The state is another than the request assumes.
    #[error("{message}")]
    Conflict {
        /// What is different.
        message: String,
    },
    /// `If-Match` or a conditional request names another version, or several resources.
    #[error("{message}")]
    PreconditionFailed {
        /// What was expected and what is.
        message: String,
    },
    /// Content that was altered is withheld.
    #[error("{resource} does not match what was recorded: it is withheld")]
    DoesNotMatch {
        /// `Type/id/_history/version`.
        resource: String,
    },
    /// Too much was asked.
    #[error("{message}")]
    TooLarge {
        /// Which limit.
        message: String,
    },
    /// It can't be done here.
    #[error("{message}")]
    NotSupported {
        /// What, and what can.
        message: String,
    },
    /// The node refuses to write: its disk is full.
    #[error("the node can't store anything now: {message}")]
    StorageFull {
        /// What the system said.
        message: String,
    },
    /// Another member of the consortium is needed for it and did not do it.
    #[error("{message}")]
    Member {
        /// Which member and what it said.
        message: String,
    },
    /// The ledger refused or could not answer.
    #[error("the ledger refused {what}")]
    Ledger {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        #[source]
        source: LedgerError,
    },
    /// The vault refused or failed.
    #[error("the vault failed at {what}")]
    Vault {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        #[source]
        source: Box<stele_vault::Error>,
    },
    /// The index failed.
    #[error("the index failed at {what}")]
    Index {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        #[source]
        source: Box<stele_index::Error>,
    },
    /// Something that valid input never leads to.
    #[error("internal failure at {what}: {problem}")]
    Internal {
        /// What was attempted.
        what: &'static str,
        /// What happened.
        problem: String,
    },
}

fn first_diagnostic(issues: &[Issue]) -> String {
    issues
        .iter()
        .find(|issue| issue.is_error())
        .or_else(|| issues.first())
        .map_or_else(
            || "the request is not valid".into(),
            |issue| issue.diagnostics.clone(),
        )
}

impl Error {
    /// Stable code, documented in `docs/errors.md`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid {
                unreadable: true, ..
            } => "unreadable",
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not-found",
            Self::Gone { .. } => "deleted",
            Self::NotPermitted { .. } => "not-permitted",
            Self::Conflict { .. } => "conflict",
            Self::PreconditionFailed { .. } => "precondition-failed",
            Self::DoesNotMatch { .. } => "does-not-match",
            Self::TooLarge { .. } => "too-large",
            Self::NotSupported { .. } => "not-supported",
            Self::StorageFull { .. } => "storage-full",
            Self::Member { .. } => "member",
            Self::Ledger { .. } => "ledger",
            Self::Vault { .. } => "vault",
            Self::Index { .. } => "index",
            Self::Internal { .. } => "internal",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::StorageFull { .. }
                | Self::Member { .. }
                | Self::Ledger { .. }
                | Self::Vault { .. }
                | Self::Index { .. }
        )
    }

    /// Text for the caller: what was wrong and what to do, no internals.
    #[must_use]
    pub fn public_message(&self) -> String {
        match self {
            Self::Ledger { what, source } => match source {
                LedgerError::Pending { .. } | LedgerError::Refused { .. } => source.to_string(),
                LedgerError::Reverted { .. } => format!("the ledger refused {what}: {source}"),
                _ => format!("the ledger could not do {what}; try again"),
            },
            Self::Vault { what, .. } | Self::Index { what, .. } => {
                format!("the node could not do {what}; try again")
            }
            Self::Internal { .. } => "internal failure; the log says more".into(),
            other => other.to_string(),
        }
    }

    pub(crate) fn not_found(resource_type: &str, id: &str) -> Self {
        Self::NotFound {
            resource: format!("{resource_type}/{id}"),
        }
    }

    pub(crate) fn internal(what: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Internal {
            what,
            problem: problem.to_string(),
        }
    }

    pub(crate) fn ledger(what: &'static str) -> impl FnOnce(LedgerError) -> Self {
        move |source| Self::Ledger { what, source }
    }

    /// A full disk has its own error, whatever the vault was doing.
    pub(crate) fn vault(what: &'static str) -> impl FnOnce(stele_vault::Error) -> Self {
        move |source| match source {
            stele_vault::Error::DiskFull { .. } => Self::StorageFull {
                message: source.public_message().to_owned(),
            },
            source => Self::Vault {
                what,
                source: Box::new(source),
            },
        }
    }

    pub(crate) fn index(what: &'static str) -> impl FnOnce(stele_index::Error) -> Self {
        move |source| Self::Index {
            what,
            source: Box::new(source),
        }
    }
}
