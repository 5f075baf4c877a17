//! The published rules: which codes and types lead to which category.
//!
//! Codes are matched by system and code, never by display text. The lists hold codes that
//! commonly occur, not every descendant of a concept: this crate has no terminology server,
//! and `docs/categories.md` says so.

use super::Category::{self, *};

/// A list of codes of one system with their category.
pub(super) struct Rule {
    pub(super) system: &'static str,
    pub(super) matches: Match,
    pub(super) category: Category,
    pub(super) codes: &'static [&'static str],
}

/// How a code is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Exact,
    /// The code begins with a listed one (classifications with meaningful codes).
    Prefix,
}

/// The sensitive category a code leads to wherever it stands in a resource.
pub(super) fn sensitive(system: &str, code: &str) -> Option<Category> {
    find(SENSITIVE, system, code)
}

/// The category of a `category`, `code` or `type` that is not sensitive.
pub(super) fn usual_code(system: &str, code: &str) -> Option<Category> {
    find(USUAL, system, code)
}

fn find(rules: &[Rule], system: &str, code: &str) -> Option<Category> {
    let system = canonical(system);
    rules
        .iter()
        .filter(|rule| rule.system == system)
        .find(|rule| match rule.matches {
            Match::Exact => rule.codes.contains(&code),
            Match::Prefix => rule.codes.iter().any(|prefix| code.starts_with(prefix)),
        })
        .map(|rule| rule.category)
}

/// National editions of ICD-10 share the chapters the rules speak of.
fn canonical(system: &str) -> &str {
    if system.starts_with(ICD_10) || system == "http://fhir.de/CodeSystem/bfarm/icd-10-gm" {
        ICD_10
    } else {
        system
    }
}

/// The category of a resource type when nothing else decides.
pub(super) fn usual_type(resource_type: &str) -> Category {
    TYPES
        .iter()
        .find(|(_, types)| types.contains(&resource_type))
        .map_or(Other, |(category, _)| *category)
}

const fn rule(
    category: Category,
    system: &'static str,
    matches: Match,
    codes: &'static [&'static str],
) -> Rule {
    Rule {
        system,
        matches,
        category,
        codes,
    }
}

const ACT: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const ICD_10: &str = "http://hl7.org/fhir/sid/icd-10";
const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const ATC: &str = "http://www.whocc.no/atc";
const OBSERVATION: &str = "http://terminology.hl7.org/CodeSystem/observation-category";
const SECTION: &str = "http://terminology.hl7.org/CodeSystem/v2-0074";

/// Rules for sensitive content, over all codings of a resource.
pub(super) const SENSITIVE: &[Rule] = &[
    // Security labels (FHIR R4 `meta.security`, HL7 v3 ActCode and Confidentiality).
    rule(
        MentalHealth,
        ACT,
        Match::Exact,
        &["BH", "COGN", "DVD", "EMOTDIS", "MH", "PSY", "PSYTHPN"],
    ),
    rule(
        SexualHealth,
        ACT,
        Match::Exact,
        &["HIV", "SEX", "STD", "GENDER"],
    ),
    rule(
        SubstanceUse,
        ACT,
        Match::Exact,
        &["ETH", "SUD", "ETHUD", "OPIOIDUD"],
    ),
    rule(Genetics, ACT, Match::Exact, &["GDIS", "SCA", "SICKLE"]),
    rule(Violence, ACT, Match::Exact, &["MST", "SDV", "VIO"]),
    rule(
        Restricted,
        ACT,
        Match::Exact,
        &["SPI", "TBOO", "CEL", "ADOL", "PHY", "PRS"],
    ),
    rule(Restricted, CONFIDENTIALITY, Match::Exact, &["R", "V"]),
    // SNOMED CT.
    rule(
        MentalHealth,
        SNOMED,
        Match::Exact,
        &[
            "74732009",
            "35489007",
            "36923009",
            "370143000",
            "66344007",
            "78667006",
            "13746004",
            "58214004",
            "197480006",
            "48694002",
            "21897009",
            "371631005",
            "47505003",
            "191736004",
            "406506008",
            "35919005",
            "171207006",
            "225444004",
            "82313006",
            "72366004",
            "248062006",
            "26929004",
            "52448006",
            "386257007",
            "850261000000100",
            "231504006",
        ],
    ),
    rule(
        SexualHealth,
        SNOMED,
        Match::Exact,
        &[
            "86406008",
            "62479008",
            "165816005",
            "31676001",
            "165815009",
            "8098009",
            "15628003",
            "76272004",
            "240589008",
            "33839006",
            "240542006",
            "310861008",
            "165829005",
            "269828009",
            "72892002",
            "79586000",
            "19169002",
            "17369002",
            "35999006",
            "198992004",
            "252160004",
            "66348005",
            "11466000",
            "236974004",
            "31208007",
            "85548006",
            "65588006",
            "65200003",
            "68254000",
            "46706006",
            "169553002",
            "301807007",
            "169230002",
            "274804006",
            "225158009",
            "271442007",
            "22523008",
            "57797005",
            "386639001",
            "243077000",
        ],
    ),
    rule(
        SubstanceUse,
        SNOMED,
        Match::Exact,
        &[
            "7200002",
            "66590003",
            "15167005",
            "5602001",
            "75544000",
            "191816009",
            "26416006",
            "55680006",
            "361055000",
            "78267003",
            "413473000",
        ],
    ),
    rule(
        Genetics,
        SNOMED,
        Match::Exact,
        &[
            "41040004",
            "190905008",
            "417357006",
            "127040003",
            "443529005",
            "58756001",
            "405824009",
            "412734009",
            "412738007",
            "32895009",
        ],
    ),
    rule(Violence, SNOMED, Match::Exact, &["397940009", "706893006"]),
    // LOINC.
    rule(
        MentalHealth,
        LOINC,
        Match::Exact,
        &[
            "44249-1", "44261-6", "55758-7", "69737-5", "70274-6", "71354-5", "73831-0", "72106-8",
        ],
    ),
    rule(
        SexualHealth,
        LOINC,
        Match::Exact,
        &[
            "75622-1", "7917-8", "7918-6", "29893-5", "25835-0", "20447-9", "56888-1", "68961-2",
            "5220-9", "5221-7", "30361-0", "55277-8", "76690-7", "82810-3", "2118-8", "2106-3",
            "21613-5", "24111-7", "20507-0", "11084-1", "43304-5",
        ],
    ),
    rule(
        SubstanceUse,
        LOINC,
        Match::Exact,
        &[
            "75626-2", "72109-2", "82667-7", "65750-2", "5643-2", "5640-8", "3426-4", "3397-7",
        ],
    ),
    rule(
        Genetics,
        LOINC,
        Match::Exact,
        &[
            "51969-4", "81247-9", "48018-6", "69548-6", "55233-1", "51968-6", "81248-7", "47998-0",
        ],
    ),
    rule(
        Violence,
        LOINC,
        Match::Exact,
        &["28245-9", "76499-3", "76500-8", "76501-6", "95618-5"],
    ),
    // ICD-10 chapters; the order matters, the first prefix wins.
    rule(
        SubstanceUse,
        ICD_10,
        Match::Prefix,
        &[
            "F10", "F11", "F12", "F13", "F14", "F15", "F16", "F18", "F19", "Z71.4", "Z71.5",
        ],
    ),
    rule(
        MentalHealth,
        ICD_10,
        Match::Prefix,
        &[
            "F0", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "T14.91", "X7", "X80", "X81",
            "X82", "X83",
        ],
    ),
    rule(
        SexualHealth,
        ICD_10,
        Match::Prefix,
        &[
            "B20", "B21", "B22", "B23", "B24", "Z21", "R75", "A5", "A60", "A63", "A64", "O", "Z30",
            "Z31", "Z32", "Z33", "Z34", "Z35", "Z36", "Z37", "Z39", "Z3A", "F52", "N97",
        ],
    ),
    rule(
        Genetics,
        ICD_10,
        Match::Prefix,
        &["Q9", "Z14", "Z15", "D57", "E84", "G10"],
    ),
    rule(
        Violence,
        ICD_10,
        Match::Prefix,
        &["T74", "T76", "Y07", "Y06"],
    ),
    // Medicines that tell the condition they are for.
    rule(
        SexualHealth,
        ATC,
        Match::Prefix,
        &[
            "J05AE", "J05AF", "J05AG", "J05AJ", "J05AR", "G02B", "G03A", "G03G", "G04BE",
        ],
    ),
    rule(SubstanceUse, ATC, Match::Prefix, &["N07BB", "N07BC"]),
    rule(
        MentalHealth,
        ATC,
        Match::Prefix,
        &["N05A", "N05B", "N06A", "N06D"],
    ),
    rule(
        SexualHealth,
        RXNORM,
        Match::Exact,
        &[
            "1000126", "1534809", "1605257", "1856546", "389221", "748856", "748962", "749762",
            "751905", "757594", "807283", "831533", "978950",
        ],
    ),
];

/// Rules for `category`, `code` and `type`.
pub(super) const USUAL: &[Rule] = &[
    rule(EmergencySummary, LOINC, Match::Exact, &["60591-5"]),
    rule(
        Cardiology,
        LOINC,
        Match::Exact,
        &[
            "11524-6", "34534-8", "28010-7", "10230-1", "8601-7", "33762-6", "89579-7", "67151-1",
            "88020-3", "88021-1", "34552-0", "42148-7",
        ],
    ),
    rule(
        Cardiology,
        SNOMED,
        Match::Exact,
        &["40701008", "29303009", "762998009", "423475008"],
    ),
    rule(
        VitalSigns,
        LOINC,
        Match::Exact,
        &[
            "85353-1", "85354-9", "29463-7", "8302-2", "8867-4", "9279-1", "39156-5", "8310-5",
        ],
    ),
    rule(
        SocialHistory,
        LOINC,
        Match::Exact,
        &["72166-2", "11367-0", "71802-3", "63513-6", "93025-5"],
    ),
    rule(VitalSigns, OBSERVATION, Match::Exact, &["vital-signs"]),
    rule(Laboratory, OBSERVATION, Match::Exact, &["laboratory"]),
    rule(Imaging, OBSERVATION, Match::Exact, &["imaging"]),
    rule(
        Procedures,
        OBSERVATION,
        Match::Exact,
        &["procedure", "therapy"],
    ),
    rule(
        SocialHistory,
        OBSERVATION,
        Match::Exact,
        &["social-history", "activity"],
    ),
    rule(Questionnaires, OBSERVATION, Match::Exact, &["survey"]),
    rule(Problems, OBSERVATION, Match::Exact, &["exam"]),
    // DiagnosticReport.category: HL7 v2 table 0074.
    rule(Genetics, SECTION, Match::Exact, &["GE"]),
    rule(
        Laboratory,
        SECTION,
        Match::Exact,
        &[
            "LAB", "CH", "HM", "MB", "BLB", "CP", "CY", "IMM", "PAT", "SP", "SR", "TX", "VR",
            "MCB", "MYC", "PAR",
        ],
    ),
    rule(
        Imaging,
        SECTION,
        Match::Exact,
        &[
            "RAD", "CT", "CTH", "CUS", "MRI", "NMR", "NMS", "OUS", "RUS", "VUS", "XRC", "RX", "IMG",
        ],
    ),
    rule(Cardiology, SECTION, Match::Exact, &["CG", "EC"]),
    rule(
        Documents,
        LOINC,
        Match::Exact,
        &[
            "34117-2",
            "51847-2",
            "34133-9",
            "11488-4",
            "18842-5",
            "11506-3",
            "11504-8",
            "57133-1",
            "LP173418-7",
        ],
    ),
    rule(Imaging, LOINC, Match::Exact, &["18748-4", "LP29684-5"]),
    rule(Laboratory, LOINC, Match::Exact, &["LP29693-6", "26436-6"]),
];

/// What types lead to; a type that is not listed is [`Category::Other`].
pub(super) const TYPES: &[(Category, &[&str])] = &[
    (Demographics, &["Patient", "RelatedPerson", "Person"]),
    (Allergies, &["AllergyIntolerance"]),
    (
        Medicines,
        &[
            "Medication",
            "MedicationAdministration",
            "MedicationDispense",
            "MedicationKnowledge",
            "MedicationRequest",
            "MedicationStatement",
        ],
    ),
    (
        Problems,
        &[
            "AdverseEvent",
            "ClinicalImpression",
            "Condition",
            "DetectedIssue",
            "Flag",
            "RiskAssessment",
        ],
    ),
    (
        Immunizations,
        &[
            "Immunization",
            "ImmunizationEvaluation",
            "ImmunizationRecommendation",
        ],
    ),
    (
        Laboratory,
        &[
            "DiagnosticReport",
            "Observation",
            "Specimen",
            "BiologicallyDerivedProduct",
        ],
    ),
    (Imaging, &["ImagingStudy", "Media", "BodyStructure"]),
    (Procedures, &["Procedure"]),
    (Encounters, &["Encounter", "EpisodeOfCare"]),
    (
        Documents,
        &[
            "Binary",
            "Bundle",
            "Communication",
            "CommunicationRequest",
            "Composition",
            "DocumentManifest",
            "DocumentReference",
            "List",
        ],
    ),
    (CarePlans, &["CarePlan", "CareTeam", "Goal", "RequestGroup"]),
    (FamilyHistory, &["FamilyMemberHistory"]),
    (
        Devices,
        &[
            "Device",
            "DeviceMetric",
            "DeviceRequest",
            "DeviceUseStatement",
            "SupplyDelivery",
            "SupplyRequest",
        ],
    ),
    (
        Appointments,
        &["Appointment", "AppointmentResponse", "Schedule", "Slot"],
    ),
    (Questionnaires, &["QuestionnaireResponse"]),
    (Orders, &["GuidanceResponse", "ServiceRequest", "Task"]),
    (
        Billing,
        &[
            "Account",
            "ChargeItem",
            "Claim",
            "ClaimResponse",
            "Contract",
            "Coverage",
            "CoverageEligibilityRequest",
            "CoverageEligibilityResponse",
            "EnrollmentRequest",
            "EnrollmentResponse",
            "ExplanationOfBenefit",
            "Invoice",
            "PaymentNotice",
            "PaymentReconciliation",
        ],
    ),
    (
        Administrative,
        &[
            "ActivityDefinition",
            "CapabilityStatement",
            "CatalogEntry",
            "ChargeItemDefinition",
            "CodeSystem",
            "CompartmentDefinition",
            "ConceptMap",
            "DeviceDefinition",
            "Endpoint",
            "EventDefinition",
            "ExampleScenario",
            "GraphDefinition",
            "Group",
            "HealthcareService",
            "ImplementationGuide",
            "InsurancePlan",
            "Library",
            "Location",
            "Measure",
            "MeasureReport",
            "MessageDefinition",
            "MessageHeader",
            "NamingSystem",
            "ObservationDefinition",
            "OperationDefinition",
            "OperationOutcome",
            "Organization",
            "OrganizationAffiliation",
            "Parameters",
            "PlanDefinition",
            "Practitioner",
            "PractitionerRole",
            "Questionnaire",
            "SearchParameter",
            "SpecimenDefinition",
            "StructureDefinition",
            "StructureMap",
            "Subscription",
            "Substance",
            "TerminologyCapabilities",
            "TestReport",
            "TestScript",
            "ValueSet",
        ],
    ),
    (
        RecordKeeping,
        &[
            "AuditEvent",
            "Consent",
            "Linkage",
            "Provenance",
            "VerificationResult",
        ],
    ),
    (
        Research,
        &[
            "EffectEvidenceSynthesis",
            "Evidence",
            "EvidenceVariable",
            "ResearchDefinition",
            "ResearchElementDefinition",
            "ResearchStudy",
            "ResearchSubject",
            "RiskEvidenceSynthesis",
        ],
    ),
    (Vision, &["VisionPrescription"]),
    (Nutrition, &["NutritionOrder"]),
    (Genetics, &["MolecularSequence"]),
];
