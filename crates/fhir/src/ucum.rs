//! Units of measure by UCUM, the code system that FHIR quantities use.

/// FHIR's value set of common units, sorted: <http://hl7.org/fhir/ValueSet/ucum-common>.
const COMMON: &str = include_str!("../definitions/ucum-common.txt");

/// Whether a text is one of the common units of UCUM in its case-sensitive form, such as `mmol/L` or `10*9/L`. Units
/// that can be formed by UCUM's grammar and are not in FHIR's list of 1,357 are not known here.
#[must_use]
pub fn is_common(text: &str) -> bool {
    COMMON.lines().any(|unit| unit == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_laboratories_are_known() {
        for good in [
            "mmol/L",
            "mg/dL",
            "g/L",
            "10*9/L",
            "10*3/uL",
            "%",
            "U/L",
            "[IU]/mL",
            "mm[Hg]",
            "fL",
            "pg",
            "umol/L",
            "mL/min/{1.73_m2}",
            "1",
            "{ratio}",
            "ng/mL",
            "Cel",
        ] {
            assert!(is_common(good), "{good}");
        }
        for bad in [
            "",
            "mmol per litre",
            "mmol/",
            "xyz",
            "µmol/L",
            "<b>",
            "mmol/L\n%",
        ] {
            assert!(!is_common(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_names_nothing_twice() {
        let units: Vec<&str> = COMMON.lines().collect();
        assert!(units.is_sorted_by(|a, b| a < b));
        assert_eq!(units.len(), 1357);
    }
}
