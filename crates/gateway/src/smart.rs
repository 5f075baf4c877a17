//! SMART backend services (SMART App Launch 2.2): scopes, access tokens, and the token endpoint.
//!
//! A client proves itself with a signed assertion and gets a token that names an organisation, or one of its
//! practitioners, and what it may ask for. What it then sees is decided by consent, never by a scope alone.

mod clients;
mod endpoint;
mod principal;
mod scopes;
mod tokens;

pub(crate) use clients::check as check_client;
pub(crate) use endpoint::{discovery, introspect, token};
pub(crate) use principal::Principal;
pub use scopes::{Interaction, ParseScopeError, Scopes};
pub(crate) use tokens::random_id;
pub use tokens::{MintError, NewToken, TokenKey, mint};
