//! The forms a literal reference may have (FHIR R4 "References", `Reference.reference`).

use crate::definitions::Definitions;
use crate::primitive;

/// A literal reference, taken apart; borrows from the text it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `#id`: a resource contained in the same one; empty for the container itself.
    Contained(&'a str),
    /// `Type/id` or `Type/id/_history/version` on this server.
    Relative {
        /// A resource type of FHIR R4.
        resource_type: &'a str,
        /// The id.
        id: &'a str,
        /// The version, if one is named.
        version: Option<&'a str>,
    },
    /// `urn:uuid:…` or `urn:oid:…`: another entry of the same Bundle.
    Urn(&'a str),
    /// `Type?parameters`: the one resource a search finds, allowed in transactions only.
    Conditional {
        /// A resource type of FHIR R4.
        resource_type: &'a str,
        /// What follows the question mark.
        query: &'a str,
    },
    /// A URL of another server, or of this one written in full.
    Absolute {
        /// The whole URL.
        url: &'a str,
        /// Type and id if the URL ends like a FHIR REST address.
        target: Option<(&'a str, &'a str)>,
    },
}

impl<'a> Reference<'a> {
    /// Takes a reference apart; `None` if it has none of the forms.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(id) = text.strip_prefix('#') {
            return (id.is_empty() || primitive::is_id(id)).then_some(Self::Contained(id));
        }
        if text.is_empty() || text.contains(char::is_control) {
            return None;
        }
        if text.starts_with("urn:") {
            return Some(Self::Urn(text));
        }
        // The query of a conditional reference holds URLs itself, so it is looked for first.
        if let Some((resource_type, query)) = text.split_once('?')
            && Definitions::load().resource(resource_type).is_some()
        {
            return (!query.is_empty()).then_some(Self::Conditional {
                resource_type,
                query,
            });
        }
        if text.contains("://") {
            return Some(Self::Absolute {
                url: text,
                target: address(text),
            });
        }
        let (resource_type, rest) = text.split_once('/')?;
        let (id, version) = match rest.split_once("/_history/") {
            Some((id, version)) => (id, Some(version)),
            None => (rest, None),
        };
        let good = Definitions::load().resource(resource_type).is_some()
            && primitive::is_id(id)
            && version.is_none_or(primitive::is_id);
        good.then_some(Self::Relative {
            resource_type,
            id,
            version,
        })
    }

    /// The resource type the reference itself tells, if it does.
    pub fn resource_type(&self) -> Option<&'a str> {
        match self {
            Self::Relative { resource_type, .. } | Self::Conditional { resource_type, .. } => {
                Some(resource_type)
            }
            Self::Absolute { target, .. } => target.map(|(resource_type, _)| resource_type),
            Self::Contained(_) | Self::Urn(_) => None,
        }
    }
}

/// Type and id at the end of a REST address, before an optional `/_history/version`.
fn address(url: &str) -> Option<(&str, &str)> {
    let url = url
        .split_once("/_history/")
        .map_or(url, |(before, _)| before);
    let (rest, id) = url.rsplit_once('/')?;
    let resource_type = rest.rsplit('/').next()?;
    let good = Definitions::load().resource(resource_type).is_some() && primitive::is_id(id);
    good.then_some((resource_type, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_form() {
        let relative = |resource_type, id, version| {
            Some(Reference::Relative {
                resource_type,
                id,
                version,
            })
        };
        let cases = [
            ("Patient/1", relative("Patient", "1", None)),
            ("Patient/1/_history/2", relative("Patient", "1", Some("2"))),
            ("#p", Some(Reference::Contained("p"))),
            ("#", Some(Reference::Contained(""))),
            ("urn:uuid:x", Some(Reference::Urn("urn:uuid:x"))),
            (
                "Practitioner?identifier=http://x|1",
                Some(Reference::Conditional {
                    resource_type: "Practitioner",
                    query: "identifier=http://x|1",
                }),
            ),
            ("Patient/", None),
            ("Patient", None),
            ("Patiens/1", None),
            ("/Patient/1", None),
            ("Patient/1/2", None),
            ("", None),
            ("a b", None),
            ("#a_b", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Reference::parse(text), expected, "{text}");
        }
        let absolute = Reference::parse("https://h.example/fhir/Patient/7/_history/1").unwrap();
        assert_eq!(absolute.resource_type(), Some("Patient"));
    }
}
