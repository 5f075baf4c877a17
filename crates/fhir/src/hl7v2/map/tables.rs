//! HL7 tables to FHIR codes, after the concept maps of "HL7 Version 2 to FHIR". What the guide leaves open is left
//! out here too, unless FHIR demands a code; then the reason stands beside it.

/// HL7 table 0001 to `administrative-gender`.
pub(super) fn gender(code: &str) -> Option<&'static str> {
    Some(match code {
        "F" => "female",
        "M" => "male",
        "O" | "A" | "N" => "other",
        "U" => "unknown",
        _ => return None,
    })
}

/// HL7 table 0002 to v3 MaritalStatus, with its system.
pub(super) fn marital_status(code: &str) -> Option<(&'static str, &'static str)> {
    let code = match code {
        "A" | "E" => "L",
        "D" => "D",
        "M" => "M",
        "S" => "S",
        "W" => "W",
        "C" => "C",
        "G" | "P" | "R" => "T",
        "N" => "A",
        "I" => "I",
        "B" => "U",
        _ => return None,
    };
    Some((
        "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus",
        code,
    ))
}

/// HL7 table 0200 to `name-use`.
pub(super) fn name_use(code: &str) -> Option<&'static str> {
    Some(match code {
        "BAD" => "old",
        "D" => "usual",
        "L" | "R" => "official",
        "M" => "maiden",
        "MSK" => "anonymous",
        "N" => "nickname",
        "NAV" | "TEMP" => "temp",
        _ => return None,
    })
}

/// HL7 table 0190 to `address-use`.
pub(super) fn address_use(code: &str) -> Option<&'static str> {
    Some(match code {
        "BA" => "old",
        "BI" => "billing",
        "C" => "temp",
        "B" | "O" => "work",
        "H" => "home",
        _ => return None,
    })
}

/// HL7 table 0202 to `contact-point-system`.
pub(super) fn telecom_system(code: &str) -> Option<&'static str> {
    Some(match code {
        "PH" | "CP" => "phone",
        "FX" => "fax",
        "BP" => "pager",
        "Internet" | "INTERNET" | "X.400" => "email",
        "MD" | "SAT" | "TDD" | "TTY" => "other",
        _ => return None,
    })
}

/// HL7 table 0201 to `contact-point-use`.
pub(super) fn telecom_use(code: &str) -> Option<&'static str> {
    Some(match code {
        "PRN" => "home",
        "WPN" => "work",
        "PRS" => "mobile",
        _ => return None,
    })
}

/// HL7 table 0063 (and NK1-3) to v2-0131, the system of `Patient.contact.relationship`.
pub(super) fn contact_role(code: &str) -> Option<&'static str> {
    Some(match code {
        "EMC" | "C" => "C",
        "EMR" | "E" => "E",
        "F" => "F",
        "I" => "I",
        "N" => "N",
        "S" => "S",
        "U" | "UNK" => "U",
        _ => return None,
    })
}

/// HL7 table 0004 to v3 ActCode: code and display. Local classes keep HL7's own table.
pub(super) fn encounter_class(code: &str) -> Option<(&'static str, &'static str)> {
    Some(match code {
        "E" => ("EMER", "emergency"),
        "I" => ("IMP", "inpatient encounter"),
        "O" => ("AMB", "ambulatory"),
        "P" => ("PRENC", "pre-admission"),
        _ => return None,
    })
}

/// HL7 table 0007 or PV2-25 to a priority code of v3 ActPriority.
pub(super) fn encounter_priority(code: &str) -> Option<&'static str> {
    Some(match code {
        "1" => "EM",
        "2" => "UR",
        "3" => "EL",
        _ => return None,
    })
}

/// HL7 table 0127 to `allergy-intolerance-category`.
pub(super) fn allergy_category(code: &str) -> Option<&'static str> {
    Some(match code {
        "DA" => "medication",
        "FA" => "food",
        "EA" | "PA" | "LA" => "environment",
        "AA" => "biologic",
        _ => return None,
    })
}

/// HL7 table 0128 to `allergy-intolerance-criticality` and `reaction-event-severity`.
pub(super) fn allergy_severity(code: &str) -> (Option<&'static str>, Option<&'static str>) {
    match code {
        "SV" => (Some("high"), Some("severe")),
        "MO" => (None, Some("moderate")),
        "MI" => (Some("low"), Some("mild")),
        "U" => (Some("unable-to-assess"), None),
        _ => (None, None),
    }
}

/// HL7 table 0085 to `observation-status`. The guide leaves some codes open; FHIR demands one, so results that were
/// entered and not yet verified are preliminary, ordered ones registered, and verified ones final.
pub(super) fn observation_status(code: &str) -> Option<&'static str> {
    Some(match code {
        "A" => "amended",
        "C" => "corrected",
        "D" | "W" => "entered-in-error",
        "F" | "U" | "V" => "final",
        "P" | "R" | "B" => "preliminary",
        "I" | "O" | "S" => "registered",
        "X" => "cancelled",
        _ => return None,
    })
}

/// HL7 table 0123 to `diagnostic-report-status`.
pub(super) fn report_status(code: &str) -> Option<&'static str> {
    Some(match code {
        "O" | "I" | "S" => "registered",
        "P" => "preliminary",
        "C" => "corrected",
        "R" | "A" => "partial",
        "F" => "final",
        "X" => "cancelled",
        _ => return None,
    })
}

/// HL7 table 0038 (order status) to `request-status`.
pub(super) fn order_status(code: &str) -> Option<&'static str> {
    Some(match code {
        "CA" | "DC" | "RP" => "revoked",
        "CM" => "completed",
        "ER" => "entered-in-error",
        "HD" => "on-hold",
        "IP" | "SC" | "A" => "active",
        _ => return None,
    })
}

/// HL7 table 0119 (order control) to `request-status`, used where ORC-5 is empty.
pub(super) fn order_control(code: &str) -> Option<&'static str> {
    Some(match code {
        "CR" | "DC" | "DF" | "DR" | "OC" | "OD" => "revoked",
        "FU" => "completed",
        "HD" | "HR" | "OH" => "on-hold",
        // A cancellation that is only asked for leaves the order as it is.
        "AF" | "CA" | "NW" | "OK" | "PR" | "PY" | "RL" | "RO" | "RQ" | "SN" | "XO" => "active",
        _ => return None,
    })
}

/// HL7 tables 0485 and 0027 to `request-priority`.
pub(super) fn priority(code: &str) -> Option<&'static str> {
    Some(match code {
        "S" => "stat",
        "A" => "asap",
        "R" => "routine",
        _ => return None,
    })
}

/// HL7 table 0322 to Immunization and MedicationAdministration status.
pub(super) fn completion(code: &str) -> &'static str {
    match code {
        "RE" | "NA" => "not-done",
        _ => "completed",
    }
}

/// HL7 tables 0271 and 0272 to `composition-status` of a document.
pub(super) fn document_status(code: &str) -> Option<&'static str> {
    Some(match code {
        "DI" | "DO" | "IN" | "IP" | "PA" => "preliminary",
        "AU" | "LA" => "final",
        _ => return None,
    })
}

/// A FHIR system for the name of a coding system (HL7 table 0396). Names that are not known here become an address of
/// ours that holds the name, so that codes of different systems are never taken for one another.
pub(super) fn coding_system(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let known = match upper.as_str() {
        "LN" | "LOINC" => "http://loinc.org",
        "SCT" | "SNOMED" | "SNOMED-CT" | "SNOMEDCT" | "SCT2" => "http://snomed.info/sct",
        "I9" | "I9C" | "I9CM" | "I9CDX" => "http://hl7.org/fhir/sid/icd-9-cm",
        "I10" | "ICD10" => "http://hl7.org/fhir/sid/icd-10",
        "I10C" | "I10CM" => "http://hl7.org/fhir/sid/icd-10-cm",
        "C4" | "CPT" | "CPT4" => "http://www.ama-assn.org/go/cpt",
        "CVX" => "http://hl7.org/fhir/sid/cvx",
        "MVX" => "http://hl7.org/fhir/sid/mvx",
        "NDC" => "http://hl7.org/fhir/sid/ndc",
        "RXNORM" => "http://www.nlm.nih.gov/research/umls/rxnorm",
        "UCUM" => UCUM,
        "WC" | "ATC" => "http://www.whocc.no/atc",
        "CDCREC" => "urn:oid:2.16.840.1.113883.6.238",
        "NULLFL" => "http://terminology.hl7.org/CodeSystem/v3-NullFlavor",
        "ISO3166_1" => "urn:iso:std:iso:3166",
        "ISO639" => "urn:ietf:bcp:47",
        "UNII" => "http://fdasis.nlm.nih.gov",
        "DCM" => "http://dicom.nema.org/resources/ontology/DCM",
        "NUCC" => "http://nucc.org/provider-taxonomy",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    if let Some(table) = upper.strip_prefix("HL7")
        && !table.is_empty()
        && table.len() <= 4
        && table.bytes().all(|byte| byte.is_ascii_digit())
    {
        return hl7_table(table);
    }
    if name.starts_with("http://") || name.starts_with("https://") || name.starts_with("urn:") {
        return super::encode::uri(name);
    }
    if super::types::is_oid(name) {
        return format!("urn:oid:{name}");
    }
    format!(
        "https://stele.health/hl7v2/coding-system/{}",
        super::encode::component(name)
    )
}

/// The system of an HL7 v2 table, such as `0203`.
pub(super) fn hl7_table(number: &str) -> String {
    format!("http://terminology.hl7.org/CodeSystem/v2-{number:0>4}")
}

/// Units of measure.
pub(super) const UCUM: &str = "http://unitsofmeasure.org";
