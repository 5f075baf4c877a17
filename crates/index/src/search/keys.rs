//! Numbers for resource types and their parameters.

use std::{collections::BTreeMap, sync::OnceLock};

use stele_fhir::search::{ast::ParamId, catalogue::Catalogue};

use crate::error::{Error, Result};

/// Type of the entries of `names` that are URIs.
pub(crate) const URI: i64 = 0;

/// Number of a resource type: its position in the sorted list, from 1. Stable as long as the catalogue's
/// fingerprint is.
pub(crate) fn type_number(name: &str) -> Result<i64> {
    known_type(name).ok_or_else(|| Error::ResourceType(name.chars().take(64).collect()))
}

/// As [`type_number`], or nothing for a type that is not R4's.
pub(crate) fn known_type(name: &str) -> Option<i64> {
    numbers().get(name).copied()
}

/// Name of a type's number.
pub(crate) fn type_name(number: i64) -> Option<&'static str> {
    let at = usize::try_from(number.checked_sub(1)?).ok()?;
    Catalogue::r4().resource_types().nth(at)
}

/// Key of the value tables: a parameter of a resource type.
pub(crate) const fn param_key(type_number: i64, param: ParamId) -> i64 {
    (type_number << 16) | param.0 as i64
}

fn numbers() -> &'static BTreeMap<&'static str, i64> {
    static NUMBERS: OnceLock<BTreeMap<&'static str, i64>> = OnceLock::new();
    NUMBERS.get_or_init(|| Catalogue::r4().resource_types().zip(1..).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for name in Catalogue::r4().resource_types() {
            assert_eq!(type_name(type_number(name).unwrap()), Some(name));
        }
        assert_eq!(type_name(URI), None);
        assert!(type_number("Nothing").is_err());
    }
}
