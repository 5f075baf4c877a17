//! The crate's error: a text edit that could not be made.

use crate::outcome::{Issue, IssueCode};

/// Why an edit on JSON text failed.
///
/// Input that breaks a FHIR rule is reported as [`Issue`]s instead, because there may be
/// several and each has a location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON; it was not read by [`crate::parse::resource`] before.
    #[error("{attempt}: the text is not valid JSON at byte {at}")]
    Malformed {
        /// What was being done.
        attempt: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    /// An element has another JSON type than the edit needs.
    #[error("{attempt}: {element} is not a JSON {wanted}")]
    WrongType {
        /// What was being done.
        attempt: &'static str,
        /// The element's name.
        element: &'static str,
        /// `object` or `array`.
        wanted: &'static str,
    },
}

impl Error {
    /// Stable name of the variant, for documents and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "fhir.malformed",
            Self::WrongType { .. } => "fhir.wrong-type",
        }
    }

    /// Whether the same call may succeed later: never, the input itself is at fault.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// What the sender may be told.
    pub fn public_message(&self) -> String {
        match self {
            Self::Malformed { .. } => {
                "The resource is not valid JSON. Check it and send it again.".to_owned()
            }
            Self::WrongType {
                element, wanted, ..
            } => {
                format!("The element {element} has to be a JSON {wanted}.")
            }
        }
    }
}

impl From<&Error> for Issue {
    fn from(error: &Error) -> Self {
        Self::error(IssueCode::Structure, error.public_message())
    }
}
