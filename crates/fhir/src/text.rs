//! Edits on a resource's own text that leave every other byte as it was written.
//!
//! Stored bytes are what was signed and hashed, so the server sets only `id`,
//! `meta.versionId`, `meta.lastUpdated` and the references a transaction rewrites, and it
//! sets them here, in the text. The text has to have come through [`crate::parse::resource`].

use std::ops::Range;

use crate::error::Error;
use crate::scan::{self, Kind, Member, Scanner};

/// Sets `id`, `meta.versionId` and `meta.lastUpdated` of a resource, inserting what is absent.
///
/// `last_updated` is a FHIR instant. Nothing else changes: number literals, order, white
/// space and unknown extensions stay byte for byte.
///
/// # Errors
/// [`Error::Malformed`] for text that is no JSON object; [`Error::WrongType`] when `meta` is
/// there but is no object.
pub fn set_id_and_meta(
    text: &str,
    id: &str,
    version_id: &str,
    last_updated: &str,
) -> Result<String, Error> {
    let malformed = Error::Malformed {
        attempt: "setting id and meta",
        at: 0,
    };
    let root = scan::value_at(text, 0).ok_or_else(|| malformed.clone())?;
    let members = scan::members(text, &root).ok_or(malformed)?;
    let style = Style::of(text, &root, &members);
    let resource_type = scan::member(text, &members, "resourceType");
    let id_member = scan::member(text, &members, "id");
    let anchor = id_member
        .or(resource_type)
        .map_or(root.start + 1, |member| member.value.end);

    let mut edits = Vec::with_capacity(4);
    let mut inserted = Vec::with_capacity(2);
    match id_member {
        Some(member) => edits.push((member.value.clone(), quote(id))),
        None => inserted.push(style.member("id", &quote(id))),
    }
    match scan::member(text, &members, "meta") {
        Some(meta) => set_meta(text, meta, version_id, last_updated, &mut edits)?,
        None => {
            let version = style.nested("versionId", &quote(version_id));
            let updated = style.nested("lastUpdated", &quote(last_updated));
            let close = style.closing();
            let meta = format!("{{{version},{updated}{close}}}");
            inserted.push(style.member("meta", &meta));
        }
    }
    if !inserted.is_empty() {
        let inserted = inserted.join(",");
        let text = match (anchor == root.start + 1, members.is_empty()) {
            (true, true) => inserted,
            (true, false) => format!("{inserted},"),
            (false, _) => format!(",{inserted}"),
        };
        edits.push((anchor..anchor, text));
    }
    Ok(splice(text, edits))
}

/// Rewrites references for which `replace` returns a new target; all other bytes stay.
///
/// Every string member named `reference` is offered, and so are members of the types `uri`,
/// `url`, `canonical`, `oid` and `uuid` that hold a `urn:` (FHIR R4 "Resolving references in
/// Bundles"). `Identifier.value` and narrative are never offered.
///
/// # Errors
/// Never for text that [`crate::parse::resource`] accepted; kept fallible for other text.
pub fn rewrite_references(
    text: &str,
    replace: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Error> {
    rewrite_links(text, |target, _| replace(target))
}

/// What kind of member a link stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// `Reference.reference`, which has to lead somewhere.
    Reference,
    /// A URI that may name another entry or nothing at all.
    Uri,
}

/// Offers each link with its kind and puts in what `replace` returns.
pub(crate) fn rewrite_links(
    text: &str,
    mut replace: impl FnMut(&str, Link) -> Option<String>,
) -> Result<String, Error> {
    let mut edits = Vec::new();
    let mut key = "";
    let mut outer = Vec::with_capacity(16);
    for token in Scanner::new(text) {
        match token.kind {
            Kind::ObjectStart | Kind::ArrayStart => outer.push(key),
            Kind::ObjectEnd | Kind::ArrayEnd => key = outer.pop().unwrap_or_default(),
            Kind::Scalar => {}
            Kind::Key => key = text.get(token.span).unwrap_or_default(),
            Kind::String => {
                let link = match key {
                    "\"reference\"" => Link::Reference,
                    key if LINK_MEMBERS.contains(&key) => Link::Uri,
                    _ => continue,
                };
                let target = scan::unquote(text, &token.span).ok_or(Error::Malformed {
                    attempt: "rewriting references",
                    at: token.span.start,
                })?;
                if link == Link::Uri && !target.starts_with("urn:") {
                    continue;
                }
                if let Some(new) = replace(&target, link) {
                    edits.push((token.span, quote(&new)));
                }
            }
        }
    }
    Ok(splice(text, edits))
}

fn set_meta(
    text: &str,
    meta: &Member,
    version_id: &str,
    last_updated: &str,
    edits: &mut Vec<Edit>,
) -> Result<(), Error> {
    let wrong = Error::WrongType {
        attempt: "setting id and meta",
        element: "meta",
        wanted: "object",
    };
    let members = scan::members(text, &meta.value).ok_or(wrong)?;
    let style = Style::of(text, &meta.value, &members);
    let mut inserted = Vec::with_capacity(2);
    for (name, value) in [("versionId", version_id), ("lastUpdated", last_updated)] {
        match scan::member(text, &members, name) {
            Some(member) => edits.push((member.value.clone(), quote(value))),
            None => inserted.push(style.member(name, &quote(value))),
        }
    }
    if !inserted.is_empty() {
        let comma = if members.is_empty() { "" } else { "," };
        let at = meta.value.start + 1;
        edits.push((at..at, format!("{}{comma}", inserted.join(","))));
    }
    Ok(())
}

/// The white space a text uses around its members, so that insertions look like the rest.
struct Style<'a> {
    before_key: &'a str,
    after_colon: &'a str,
}

impl<'a> Style<'a> {
    fn of(text: &'a str, object: &Range<usize>, members: &[Member]) -> Self {
        let Some(first) = members.first() else {
            return Self {
                before_key: "",
                after_colon: "",
            };
        };
        let gap = text
            .get(first.key.end..first.value.start)
            .unwrap_or_default();
        Self {
            before_key: text
                .get(object.start + 1..first.key.start)
                .unwrap_or_default(),
            after_colon: gap.split_once(':').map_or("", |(_, after)| after),
        }
    }

    fn member(&self, name: &str, value: &str) -> String {
        format!("{}\"{name}\":{}{value}", self.before_key, self.after_colon)
    }

    /// A member one level deeper: the indentation grows by its own width when there is one.
    fn nested(&self, name: &str, value: &str) -> String {
        let indent = self.before_key.rsplit('\n').next().unwrap_or_default();
        let indent = if self.before_key.contains('\n') {
            indent
        } else {
            ""
        };
        format!(
            "{}{indent}\"{name}\":{}{value}",
            self.before_key, self.after_colon
        )
    }

    fn closing(&self) -> &'a str {
        if self.before_key.contains('\n') {
            self.before_key
        } else {
            ""
        }
    }
}

/// A span to replace and what to put there.
pub(crate) type Edit = (Range<usize>, String);

/// The text with all edits made; spans must lie on character bounds and not overlap.
pub(crate) fn splice(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = String::with_capacity(text.len() + grown);
    let mut at = 0;
    for (span, new) in edits {
        out.push_str(text.get(at..span.start).unwrap_or_default());
        out.push_str(&new);
        at = span.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// A string as a JSON literal.
pub(crate) fn quote(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Members of the link types of FHIR R4 that may name another entry of the same Bundle, with
/// their quotes as they stand in the text (element names never need escapes).
const LINK_MEMBERS: &[&str] = &[
    "\"url\"",
    "\"uri\"",
    "\"source\"",
    "\"instantiatesUri\"",
    "\"instantiatesCanonical\"",
    "\"instantiates\"",
    "\"derivedFromUri\"",
    "\"derivedFromCanonical\"",
    "\"valueUri\"",
    "\"valueUrl\"",
    "\"valueUuid\"",
    "\"valueOid\"",
    "\"valueCanonical\"",
    "\"resource\"",
    "\"questionnaire\"",
    "\"target\"",
];

#[cfg(test)]
mod tests;
