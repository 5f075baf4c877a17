//! Whose record a resource is, after the Patient compartment of FHIR R4.
//!
//! The official compartment also takes in resources that a patient merely wrote or took part
//! in. A record belongs to the person it is about, so the elements are tried in an order, and
//! the first that names a patient decides.
//!
//! Source: <https://hl7.org/fhir/R4/compartmentdefinition-patient.html>.

use serde_json::Value;

use crate::reference::Reference;

/// Whose record a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatientRef {
    /// Nobody's: the resource belongs to the organisation (Organization, Practitioner,
    /// Location, definitions, a Group's observation and so on).
    None,
    /// The resource is the Patient itself; its id, if it has one yet.
    Own(Option<String>),
    /// The patient behind this reference as written: `Patient/1`, an absolute URL, a `urn:` of
    /// the same Bundle (which may turn out to be no Patient), or `Patient?query`.
    One(String),
    /// More than one patient. The caller must not file it under one of them only.
    Several(Vec<String>),
    /// The patient with this identifier, named without a literal reference (a logical reference): system and value.
    Identified(String, String),
    /// Whoever the records behind these references belong to (Provenance and AuditEvent).
    Targets(Vec<String>),
    /// A patient is meant, but named by identifier, by display text or by a contained resource
    /// only. Such a resource must not be filed as if it had no patient.
    Unnamed,
}

/// Whose record the resource is.
pub fn patient_of(resource: &Value) -> PatientRef {
    let resource_type = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if resource_type == "Patient" {
        return PatientRef::Own(
            resource
                .get("id")
                .and_then(Value::as_str)
                .map(str::to_owned),
        );
    }
    let mut is_unnamed = false;
    let mut identified = Vec::new();
    for path in paths(resource_type) {
        let mut named = Vec::new();
        let is_meant = MEANT.contains(path);
        visit(
            resource,
            path,
            &mut |element| match told(resource, element, is_meant) {
                Told::Patient(reference) if !named.contains(&reference) => named.push(reference),
                Told::Patient(_) | Told::Other => {}
                Told::Unnamed => {
                    is_unnamed = true;
                    identified.extend(identifier(element).filter(|one| !identified.contains(one)));
                }
            },
        );
        match named.len() {
            0 => {}
            1 => return named.pop().map_or(PatientRef::None, PatientRef::One),
            _ => return PatientRef::Several(named),
        }
    }
    if is_unnamed {
        return match (identified.pop(), identified.is_empty()) {
            (Some((system, value)), true) => PatientRef::Identified(system, value),
            _ => PatientRef::Unnamed,
        };
    }
    let mut targets = Vec::new();
    for path in targets_of(resource_type) {
        visit(resource, path, &mut |element| {
            if let Some(Value::String(reference)) = element.get("reference")
                && !targets.contains(reference)
            {
                targets.push(reference.clone());
            }
        });
    }
    if targets.is_empty() {
        PatientRef::None
    } else {
        PatientRef::Targets(targets)
    }
}

/// When the care happened that a resource tells of: a FHIR date, dateTime or instant as
/// written, at the precision it was written with. `None` if the resource does not say.
pub fn clinical_date(resource: &Value) -> Option<&str> {
    DATES.iter().find_map(|path| {
        let mut element = resource;
        for name in path.split('.') {
            element = element.get(name)?;
            if let Value::Array(items) = element {
                element = items.first()?;
            }
        }
        element.as_str()
    })
}

/// What a Reference says about a patient.
enum Told {
    Patient(String),
    /// Somebody or something else.
    Other,
    /// Perhaps a patient, but without a usable reference.
    Unnamed,
}

/// `is_meant` says that the element names the patient by its definition, so that one without a
/// usable reference still means a patient.
fn told(resource: &Value, element: &Value, is_meant: bool) -> Told {
    let declared = element.get("type").and_then(Value::as_str);
    let unclear = match declared {
        Some("Patient") => Told::Unnamed,
        None if is_meant => Told::Unnamed,
        None | Some(_) => Told::Other,
    };
    let Some(written) = element.get("reference").and_then(Value::as_str) else {
        return unclear;
    };
    let Some(reference) = Reference::parse(written) else {
        return unclear;
    };
    if let Reference::Contained(id) = reference {
        return match contained_type(resource, id) {
            Some("Patient") => Told::Unnamed,
            Some(_) => Told::Other,
            None => unclear,
        };
    }
    match (reference, reference.resource_type().or(declared)) {
        (_, Some("Patient")) | (Reference::Urn(_) | Reference::Absolute { .. }, None) => {
            Told::Patient(written.to_owned())
        }
        (_, _) => Told::Other,
    }
}

/// System and value of a Reference's identifier, where it has no literal reference.
/// Source: <https://hl7.org/fhir/R4/references.html#logical>.
fn identifier(element: &Value) -> Option<(String, String)> {
    if element.get("reference").is_some() {
        return None;
    }
    let identifier = element.get("identifier")?;
    let part = |name| identifier.get(name).and_then(Value::as_str);
    Some((part("system")?.to_owned(), part("value")?.to_owned()))
}

/// The type of the contained resource with this id.
fn contained_type<'v>(resource: &'v Value, id: &str) -> Option<&'v str> {
    let contained = resource.get("contained")?.as_array()?;
    let inner = contained
        .iter()
        .find(|inner| inner.get("id").and_then(Value::as_str) == Some(id))?;
    inner.get("resourceType")?.as_str()
}

/// Calls `found` with every element at a dotted path, through arrays.
fn visit<'v>(value: &'v Value, path: &str, found: &mut impl FnMut(&'v Value)) {
    if let Value::Array(items) = value {
        return items.iter().for_each(|item| visit(item, path, found));
    }
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    match (value.get(name), rest) {
        (Some(inner), Some(rest)) => visit(inner, rest, found),
        (Some(Value::Array(items)), None) => items.iter().for_each(found),
        (Some(inner), None) => found(inner),
        (None, _) => {}
    }
}

/// Elements that name the patient, most telling first.
fn paths(resource_type: &str) -> &'static [&'static str] {
    let rule = PATHS
        .iter()
        .find(|(_, types)| types.contains(&resource_type));
    rule.map_or(&[], |(paths, _)| *paths)
}

/// Elements whose own patient decides when none is named.
fn targets_of(resource_type: &str) -> &'static [&'static str] {
    match resource_type {
        "Provenance" => &["target"],
        "AuditEvent" => &["entity.what"],
        "Binary" => &["securityContext"],
        "PaymentNotice" | "EnrollmentResponse" => &["request"],
        "Linkage" => &["item.resource"],
        "VerificationResult" => &["target"],
        "Task" => &["focus", "basedOn"],
        _ => &[],
    }
}

/// Elements that name whom a resource is about, and nobody who merely took part.
const MEANT: &[&str] = &[
    "patient",
    "subject",
    "beneficiary",
    "individual",
    "candidate",
    "for",
];

/// Paths of [`paths`], and the resource types they hold for.
const PATHS: &[(&[&str], &[&str])] = &[
    (
        &["patient"],
        &[
            "AllergyIntolerance",
            "BodyStructure",
            "Claim",
            "ClaimResponse",
            "Consent",
            "CoverageEligibilityRequest",
            "CoverageEligibilityResponse",
            "DetectedIssue",
            "Device",
            "EpisodeOfCare",
            "ExplanationOfBenefit",
            "FamilyMemberHistory",
            "Immunization",
            "ImmunizationEvaluation",
            "ImmunizationRecommendation",
            "MolecularSequence",
            "NutritionOrder",
            "RelatedPerson",
            "SupplyDelivery",
            "VisionPrescription",
        ],
    ),
    (
        &["subject"],
        &[
            "Account",
            "AdverseEvent",
            "Basic",
            "CarePlan",
            "CareTeam",
            "ChargeItem",
            "ClinicalImpression",
            "Composition",
            "Condition",
            "Contract",
            "DeviceRequest",
            "DeviceUseStatement",
            "DiagnosticReport",
            "DocumentManifest",
            "DocumentReference",
            "Encounter",
            "Flag",
            "Goal",
            "GuidanceResponse",
            "ImagingStudy",
            "Media",
            "MeasureReport",
            "MedicationAdministration",
            "MedicationDispense",
            "MedicationRequest",
            "MedicationStatement",
            "Observation",
            "Procedure",
            "RequestGroup",
            "RiskAssessment",
            "ServiceRequest",
            "Specimen",
        ],
    ),
    (
        &["subject", "recipient", "sender"],
        &["Communication", "CommunicationRequest"],
    ),
    (&["subject", "recipient"], &["Invoice"]),
    (&["subject", "source"], &["List"]),
    (&["subject", "source", "author"], &["QuestionnaireResponse"]),
    (
        &["beneficiary", "subscriber", "policyHolder"],
        &["Coverage"],
    ),
    (&["participant.actor"], &["Appointment"]),
    (&["actor"], &["AppointmentResponse", "Schedule"]),
    (&["candidate"], &["EnrollmentRequest"]),
    (&["member.entity"], &["Group"]),
    (&["link.target"], &["Person"]),
    (&["individual"], &["ResearchSubject"]),
    (&["deliverTo"], &["SupplyRequest"]),
    (&["for"], &["Task"]),
    (&["entity.what", "agent.who"], &["AuditEvent"]),
    (&["target"], &["Provenance"]),
    (&["securityContext"], &["Binary"]),
];

/// Where the clinical date stands, most telling first; names do not clash between types.
const DATES: &[&str] = &[
    "effectiveDateTime",
    "effectivePeriod.start",
    "effectiveInstant",
    "effectiveTiming.event",
    "onsetDateTime",
    "onsetPeriod.start",
    "performedDateTime",
    "performedPeriod.start",
    "occurrenceDateTime",
    "occurrencePeriod.start",
    "servicedDate",
    "servicedPeriod.start",
    "billablePeriod.start",
    "whenHandedOver",
    "started",
    "start",
    "context.period.start",
    "collection.collectedDateTime",
    "collection.collectedPeriod.start",
    "createdDateTime",
    "createdPeriod.start",
    "identifiedDateTime",
    "period.start",
    "startDate",
    "authoredOn",
    "authored",
    "recordedDate",
    "date",
    "dateTime",
    "issued",
    "assertedDate",
    "statusDate",
    "sent",
    "recorded",
    "created",
    "dateWritten",
];

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn finds_the_patient() {
        let one = |reference: &str| PatientRef::One(reference.to_owned());
        let subject = |reference: &str| {
            json!({ "resourceType": "Observation", "subject": { "reference": reference },
                "performer": [{ "reference": "Patient/writer" }] })
        };
        let cases = [
            (
                json!({ "resourceType": "Patient", "id": "1" }),
                PatientRef::Own(Some("1".into())),
            ),
            (subject("Patient/1"), one("Patient/1")),
            (subject("urn:uuid:1"), one("urn:uuid:1")),
            (
                subject("Patient?identifier=a|b"),
                one("Patient?identifier=a|b"),
            ),
            (subject("http://h/Patient/1"), one("http://h/Patient/1")),
            (subject("Group/1"), PatientRef::None),
            (subject("http://h/Device/1"), PatientRef::None),
            (subject("#p"), PatientRef::Unnamed),
            (
                json!({ "resourceType": "Observation", "subject": { "display": "x" } }),
                PatientRef::Unnamed,
            ),
            (
                json!({ "resourceType": "Observation", "subject": { "display": "x", "type": "Device" } }),
                PatientRef::None,
            ),
            (
                json!({ "resourceType": "AuditEvent", "agent": [{ "who": { "display": "x" } }] }),
                PatientRef::None,
            ),
            (
                json!({ "resourceType": "Observation", "subject": { "reference": "#d" },
                    "contained": [{ "resourceType": "Device", "id": "d" }] }),
                PatientRef::None,
            ),
            (
                json!({ "resourceType": "Organization", "id": "o" }),
                PatientRef::None,
            ),
            (
                json!({ "resourceType": "Coverage", "beneficiary": { "reference": "Patient/1" },
                    "policyHolder": { "reference": "Patient/2" } }),
                one("Patient/1"),
            ),
            (
                json!({ "resourceType": "Appointment", "participant": [
                    { "actor": { "reference": "Practitioner/1" } },
                    { "actor": { "reference": "Patient/1" } },
                    { "actor": { "reference": "Patient/1" } }] }),
                one("Patient/1"),
            ),
            (
                json!({ "resourceType": "Group", "member": [
                    { "entity": { "reference": "Patient/1" } },
                    { "entity": { "reference": "Patient/2" } }] }),
                PatientRef::Several(vec!["Patient/1".into(), "Patient/2".into()]),
            ),
            (
                json!({ "resourceType": "Provenance", "target": [
                    { "reference": "Observation/1" }, { "reference": "Condition/2" }] }),
                PatientRef::Targets(vec!["Observation/1".into(), "Condition/2".into()]),
            ),
        ];
        for (resource, expected) in cases {
            assert_eq!(patient_of(&resource), expected, "{resource}");
        }
    }

    #[test]
    fn a_logical_reference_names_its_identifier() {
        let of =
            |subject| patient_of(&json!({ "resourceType": "Observation", "subject": subject }));
        let whole = json!({ "system": "s", "value": "v" });
        assert_eq!(
            of(json!({ "identifier": whole })),
            PatientRef::Identified("s".into(), "v".into())
        );
        let half = of(json!({ "identifier": { "value": "v" } }));
        assert_eq!(half, PatientRef::Unnamed);
        let contained = of(json!({ "reference": "#p", "identifier": whole }));
        assert_eq!(contained, PatientRef::Unnamed);
    }

    /// Every type of the official Patient compartment has a rule here.
    #[test]
    fn covers_the_official_compartment() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared/data/fhir/definitions-r4/profiles-resources.json.bz2");
        let mut json = String::new();
        let file = std::fs::File::open(&path).unwrap();
        bzip2::read::MultiBzDecoder::new(file)
            .read_to_string(&mut json)
            .unwrap();
        let bundle: Value = serde_json::from_str(&json).unwrap();
        let compartment = bundle["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["resource"])
            .find(|r| r["resourceType"] == "CompartmentDefinition" && r["code"] == "Patient")
            .unwrap();
        let mut covered = 0;
        for resource in compartment["resource"].as_array().unwrap() {
            let resource_type = resource["code"].as_str().unwrap();
            if resource.get("param").is_some() && resource_type != "Patient" {
                assert!(!paths(resource_type).is_empty(), "{resource_type}");
                covered += 1;
            }
        }
        assert!(covered > 60, "{covered}");
    }

    #[test]
    fn finds_the_clinical_date() {
        let cases = [
            (
                json!({ "issued": "2024-02-01T00:00:00Z", "effectiveDateTime": "2024" }),
                "2024",
            ),
            (json!({ "period": { "start": "2020-05" } }), "2020-05"),
            (
                json!({ "context": { "period": { "start": "2020" } }, "date": "2021" }),
                "2020",
            ),
        ];
        for (resource, expected) in cases {
            assert_eq!(clinical_date(&resource), Some(expected));
        }
        assert_eq!(clinical_date(&json!({ "birthDate": "1980" })), None);
    }
}
