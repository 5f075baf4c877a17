//! Scopes: `system/Observation.rs`, the older `system/*.read`, and `admin`.
//!
//! Source: SMART App Launch 2.2, "Scopes for requesting FHIR Resources"; version 1 `read`, `write` and `*` are
//! read as `rs`, `cud` and `cruds`. Scopes with a query (`?category=…`) are not offered.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// What a request does, as one letter of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// `c`
    Create,
    /// `r`: read, vread, history of one resource.
    Read,
    /// `u`: update and patch.
    Update,
    /// `d`
    Delete,
    /// `s`: search, history of a type, and conditions.
    Search,
}

impl Interaction {
    const ALL: [Self; 5] = [
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Delete,
        Self::Search,
    ];

    const fn bit(self) -> u8 {
        match self {
            Self::Create => 1,
            Self::Read => 2,
            Self::Update => 4,
            Self::Delete => 8,
            Self::Search => 16,
        }
    }

    /// The letter in a scope.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Create => 'c',
            Self::Read => 'r',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Search => 's',
        }
    }
}

/// A set of scopes. Printed in version 2 syntax, separated by spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Letters by resource type; `*` is any.
    types: BTreeMap<String, u8>,
    admin: bool,
}

/// A scope that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{scope:?} is not a scope of this server: use system/Type.cruds, system/*.read or admin")]
pub struct ParseScopeError {
    /// The scope as written, cut to a printable length.
    pub scope: String,
}

impl Scopes {
    /// Reads what is a scope of this server and leaves out what is not, as a token endpoint may.
    #[must_use]
    pub fn parse_lenient(text: &str) -> Self {
        let mut scopes = Self::default();
        for word in text.split_ascii_whitespace() {
            // A client asks for what it knows; `openid` or `launch` mean nothing here.
            let _ = scopes.add(word);
        }
        scopes
    }

    fn add(&mut self, scope: &str) -> Result<(), ParseScopeError> {
        if scope == ADMIN {
            self.admin = true;
            return Ok(());
        }
        let (resource_type, letters) = parse_one(scope).ok_or_else(|| ParseScopeError {
            scope: scope.chars().filter(|c| !c.is_control()).take(80).collect(),
        })?;
        *self.types.entry(resource_type.to_owned()).or_default() |= letters;
        Ok(())
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && !self.admin
    }

    /// Whether the operator's interface may be used.
    #[must_use]
    pub const fn is_admin(&self) -> bool {
        self.admin
    }

    /// Whether an interaction with a resource type is allowed.
    #[must_use]
    pub fn allow(&self, interaction: Interaction, resource_type: &str) -> bool {
        self.letters(resource_type) & interaction.bit() != 0
    }

    fn letters(&self, resource_type: &str) -> u8 {
        let of = |name: &str| self.types.get(name).copied().unwrap_or_default();
        of(resource_type) | of(ANY)
    }

    /// What both sets allow.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut types = BTreeMap::new();
        for name in self.types.keys().chain(other.types.keys()) {
            let letters = self.letters(name) & other.letters(name);
            if letters != 0 {
                types.insert(name.clone(), letters);
            }
        }
        Self {
            types,
            admin: self.admin && other.admin,
        }
    }

    /// The same set without the operator's interface, which no client is ever given.
    #[must_use]
    pub fn without_admin(mut self) -> Self {
        self.admin = false;
        self
    }
}

impl FromStr for Scopes {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let mut scopes = Self::default();
        text.split_ascii_whitespace()
            .try_for_each(|word| scopes.add(word))?;
        Ok(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, letters) in &self.types {
            write!(f, "{between}system/{name}.")?;
            for interaction in Interaction::ALL {
                if letters & interaction.bit() != 0 {
                    write!(f, "{}", interaction.letter())?;
                }
            }
            between = " ";
        }
        if self.admin {
            write!(f, "{between}{ADMIN}")?;
        }
        Ok(())
    }
}

fn parse_one(scope: &str) -> Option<(&str, u8)> {
    let (resource_type, allowed) = scope.strip_prefix("system/")?.split_once('.')?;
    if resource_type != ANY && !stele_fhir::is_resource_type(resource_type) {
        return None;
    }
    let letters = match allowed {
        "read" => Interaction::Read.bit() | Interaction::Search.bit(),
        "write" => {
            Interaction::Create.bit() | Interaction::Update.bit() | Interaction::Delete.bit()
        }
        "*" => Interaction::ALL.iter().fold(0, |all, one| all | one.bit()),
        letters => in_order(letters)?,
    };
    Some((resource_type, letters))
}

/// Letters have to stand in the order `cruds`, each once.
fn in_order(letters: &str) -> Option<u8> {
    let mut left = Interaction::ALL.iter();
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= left
            .find(|interaction| interaction.letter() == letter)?
            .bit();
    }
    (bits != 0).then_some(bits)
}

/// Scope of the operator's interface.
const ADMIN: &str = "admin";
/// Any resource type.
const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().expect("scopes")
    }

    #[test]
    fn both_versions_are_read() {
        for (written, shown) in [
            ("system/*.cruds", "system/*.cruds"),
            ("system/*.read", "system/*.rs"),
            ("system/Patient.write", "system/Patient.cud"),
            ("system/Patient.*", "system/Patient.cruds"),
            ("system/Patient.r system/Patient.s", "system/Patient.rs"),
            ("admin system/Observation.rs", "system/Observation.rs admin"),
        ] {
            assert_eq!(scopes(written).to_string(), shown);
        }
        for wrong in [
            "system/Patient.sr",
            "system/Patient.rr",
            "system/Patient.",
            "system/Pony.r",
            "patient/Patient.r",
            "system/Patient.rs?gender=x",
            "openid",
        ] {
            assert!(wrong.parse::<Scopes>().is_err(), "{wrong}");
            assert!(Scopes::parse_lenient(wrong).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn what_both_allow_is_given() {
        for (asked, allowed, given) in [
            ("system/*.cruds", "system/Patient.rs", "system/Patient.rs"),
            ("system/Patient.cruds", "system/*.read", "system/Patient.rs"),
            ("system/Patient.r", "system/Observation.r", ""),
            (
                "system/*.rs system/Patient.c",
                "system/*.r system/Patient.cs",
                "system/*.r system/Patient.crs",
            ),
            ("admin", "system/*.cruds", ""),
        ] {
            assert_eq!(scopes(asked).intersect(&scopes(allowed)).to_string(), given);
        }
    }

    #[test]
    fn a_type_is_allowed_by_itself_or_by_any() {
        let some = scopes("system/*.r system/Patient.s");
        assert!(some.allow(Interaction::Read, "Observation"));
        assert!(some.allow(Interaction::Search, "Patient"));
        assert!(!some.allow(Interaction::Search, "Observation"));
        assert!(!some.is_admin());
    }

    proptest! {
        /// Whatever two sets are intersected, nothing is allowed that one of them does not allow.
        #[test]
        fn an_intersection_never_widens(a in set(), b in set()) {
            let both = a.intersect(&b);
            for interaction in Interaction::ALL {
                for name in ["Patient", "Observation", "Claim"] {
                    prop_assert_eq!(
                        both.allow(interaction, name),
                        a.allow(interaction, name) && b.allow(interaction, name)
                    );
                }
            }
            prop_assert_eq!(scopes(&both.to_string()), both);
        }
    }

    fn set() -> impl Strategy<Value = Scopes> {
        let name = prop_oneof![Just("*"), Just("Patient"), Just("Observation")];
        proptest::collection::btree_map(name, 1_u8..32, 0..3).prop_map(|types| Scopes {
            types: types
                .into_iter()
                .map(|(name, bits)| (name.to_owned(), bits))
                .collect(),
            admin: false,
        })
    }
}
