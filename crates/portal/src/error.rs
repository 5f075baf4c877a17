//! What goes wrong, as a page: what happened, what to do next, and a number to tell the help desk.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use stele_service::Error;

use crate::{page::Page, text};

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody has to sign in first.
    SignIn,
    /// A page that says what happened.
    Page {
        status: StatusCode,
        title: &'static str,
        words: String,
    },
}

/// What a view gives.
pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn not_found() -> Self {
        Self::Page {
            status: StatusCode::NOT_FOUND,
            title: text!("There is nothing here"),
            words: text!("The address may be wrong, or what was here may have been removed.")
                .into(),
        }
    }

    pub(crate) fn not_allowed(words: impl Into<String>) -> Self {
        Self::Page {
            status: StatusCode::FORBIDDEN,
            title: text!("You cannot do this"),
            words: words.into(),
        }
    }

    pub(crate) fn bad_form(words: impl Into<String>) -> Self {
        Self::Page {
            status: StatusCode::BAD_REQUEST,
            title: text!("This form did not work"),
            words: words.into(),
        }
    }
}

impl From<Error> for Refusal {
    /// Existence is not disclosed: what may not be seen is not there.
    fn from(error: Error) -> Self {
        let (status, title) = match &error {
            Error::NotFound { .. } => return Self::not_found(),
            Error::Gone { .. } => (StatusCode::GONE, text!("This was removed")),
            Error::NotPermitted { .. } => (StatusCode::FORBIDDEN, text!("You cannot do this")),
            Error::Conflict { .. } | Error::PreconditionFailed { .. } => {
                (StatusCode::CONFLICT, text!("Something has changed"))
            }
            Error::Invalid { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                text!("This form did not work"),
            ),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, text!("This is too large")),
            Error::DoesNotMatch { .. } => (StatusCode::CONFLICT, text!("This entry is held back")),
            Error::NotSupported { .. } => (
                StatusCode::NOT_IMPLEMENTED,
                text!("This is not possible here"),
            ),
            Error::StorageFull { .. } | Error::Ledger { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                text!("This could not be recorded now"),
            ),
            Error::Vault { .. } | Error::Index { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "portal.failed");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    text!("This does not work now"),
                )
            }
            _ => {
                tracing::error!(error = &error as &dyn std::error::Error, "portal.failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    text!("Something went wrong"),
                )
            }
        };
        Self::Page {
            status,
            title,
            words: text::told(&error.public_message()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self::Page {
            status,
            title,
            words,
        } = self
        else {
            return Redirect::to("/sign-in").into_response();
        };
        let main = html! {
            div.flow {
                h1 { (title) }
                p { (words) }
                p { a.btn href="/" { (text!("Go to the start")) } }
            }
        };
        (status, Page::new(title, main).narrow().render(None)).into_response()
    }
}
