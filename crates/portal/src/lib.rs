//! The web portal: people use Stele without knowing that there is a ledger.
//!
//! Owns pages, forms, sessions' cookies and what browsers are told. Decides nothing about records, consent or keys:
//! every answer comes from a use case of `stele-service`. Must never log an address with its parameters, a form's
//! content or anything clinical; never put a secret or a clinical value in an address or a title; never ask another
//! host for anything. Pages are server-rendered and work without script, except for passkeys.

#[macro_use]
mod text;

mod assets;
mod development;
mod error;
mod events;
mod form;
mod front;
mod handed;
mod install;
mod names;
mod page;
mod session;
mod shown;
mod views;

pub use development::development;
pub use front::{Export, ExportForm, PortalConfig, router, with_pages};
pub use text::Language;
