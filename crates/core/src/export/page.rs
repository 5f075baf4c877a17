//! The page for people that a signed Bundle travels in: one HTML file, with the Bundle in a link that saves it.

use alloy_primitives::B256;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{ExportError, ProvenExport, verify};
use crate::proof::TrustAnchor;

/// What stands before the Bundle's base64 in a page, once. Text of the record can't hold it: `<` and `"` are escaped.
pub const PAGE_MARK: &str = "<a class=\"btn\" id=\"bundle\" download=\"health-record.fhir.json\" href=\"data:application/fhir+json;base64,";

/// A page without its Bundle: what comes before the base64 and what comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Up to and with [`PAGE_MARK`].
    pub before: String,
    /// From the quote that ends the link's address on.
    pub after: String,
}

impl Page {
    /// SHA-256 over both parts: what the Bundle's proofs say of the page.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut hasher = Sha256::new();
        hasher.update(self.before.as_bytes());
        hasher.update(self.after.as_bytes());
        B256::from_slice(&hasher.finalize())
    }

    /// The page with a signed Bundle in it.
    #[must_use]
    pub fn with(&self, bundle: &str) -> String {
        [
            self.before.as_str(),
            &STANDARD.encode(bundle),
            self.after.as_str(),
        ]
        .concat()
    }

    /// Takes a page and its Bundle apart.
    ///
    /// # Errors
    /// The text is no such page.
    pub fn split(html: &str) -> Result<(Self, String), ExportError> {
        Self::split_at(html, PAGE_MARK)
    }

    /// As [`Self::split`], for a page with another mark before what it carries.
    pub(super) fn split_at(html: &str, mark: &str) -> Result<(Self, String), ExportError> {
        let wrong = |what: &str| ExportError::new("page", what);
        let (head, rest) = html
            .split_once(mark)
            .ok_or_else(|| wrong("the page carries no record"))?;
        let (data, tail) = rest
            .split_once('"')
            .ok_or_else(|| wrong("the record in the page is cut off"))?;
        let bundle = STANDARD
            .decode(data)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| wrong("the record in the page is not base64 of text"))?;
        let page = Self {
            before: format!("{head}{mark}"),
            after: format!("\"{tail}"),
        };
        Ok((page, bundle))
    }
}

/// Verifies the Bundle in a page, and that the page is the one that was made with it.
///
/// # Errors
/// What is wrong and where; `page` where the text for people was changed.
pub fn verify_page(html: &str, anchor: &TrustAnchor) -> Result<ProvenExport, ExportError> {
    let (page, bundle) = Page::split(html)?;
    let proven = verify(&bundle, anchor)?;
    if proven.page == Some(page.digest()) {
        Ok(proven)
    } else {
        Err(ExportError::new(
            "page",
            "the page was changed; the record in it was not",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_bundle_back_and_notices_changes() {
        let page = Page {
            before: format!("<html>{PAGE_MARK}"),
            after: "\">Save</a></html>".into(),
        };
        let html = page.with("{\"a\":1}");
        let (again, bundle) = Page::split(&html).unwrap();
        assert_eq!(
            (again.clone(), bundle.as_str()),
            (page.clone(), "{\"a\":1}")
        );
        assert_eq!(again.digest(), page.digest());
        let (other, _) = Page::split(&html.replace("Save", "Safe")).unwrap();
        assert_ne!(other.digest(), page.digest());
        assert!(Page::split("<html></html>").is_err());
    }
}
