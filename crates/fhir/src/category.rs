//! Clinical categories: what a patient grants or withholds, and the published rules that
//! assign one to every resource.
//!
//! The rules are `docs/categories.md`, which is written from the tables here. They are applied
//! by the author's gateway before a record is sealed, because the category selects the key.

use serde_json::Value;

mod rules;

/// A clinical category. The number is part of grants, keys and chain data: it never changes
/// its meaning and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Category {
    /// Name, birth date, address, next of kin.
    Demographics = 0,
    /// Summaries written for emergencies.
    EmergencySummary = 1,
    /// Allergies and intolerances.
    Allergies = 2,
    /// Medicines.
    Medicines = 3,
    /// Problems and diagnoses.
    Problems = 4,
    /// Vaccinations.
    Immunizations = 5,
    /// Blood pressure, weight, pulse and the like.
    VitalSigns = 6,
    /// Laboratory results and specimens.
    Laboratory = 7,
    /// X-rays, scans and their reports.
    Imaging = 8,
    /// Operations and treatments.
    Procedures = 9,
    /// Visits and hospital stays.
    Encounters = 10,
    /// Letters and notes.
    Documents = 11,
    /// Care plans, goals, care teams.
    CarePlans = 12,
    /// Heart tests and heart disease measurements.
    Cardiology = 13,
    /// Illnesses in the family.
    FamilyHistory = 14,
    /// Work, housing, smoking, exercise.
    SocialHistory = 15,
    /// Devices and implants.
    Devices = 16,
    /// Appointments.
    Appointments = 17,
    /// Questionnaires and scores.
    Questionnaires = 18,
    /// Orders and referrals.
    Orders = 19,
    /// Claims, coverage and invoices.
    Billing = 20,
    /// Directories, definitions, technical resources.
    Administrative = 21,
    /// Where records came from and who used them.
    RecordKeeping = 22,
    /// Research studies.
    Research = 23,
    /// Eye tests and glasses.
    Vision = 24,
    /// Diet and feeding.
    Nutrition = 25,
    /// Anything else.
    Other = 31,
    /// Mental and behavioural health.
    MentalHealth = 40,
    /// Sexual and reproductive health, HIV and sexually transmitted infections.
    SexualHealth = 41,
    /// Alcohol and drug use disorders.
    SubstanceUse = 42,
    /// Genetic tests and hereditary disease.
    Genetics = 43,
    /// Abuse and domestic violence.
    Violence = 44,
    /// Marked as restricted for another reason.
    Restricted = 45,
}

impl Category {
    /// Every category, in the order of its number.
    pub const ALL: [Self; 33] = [
        Self::Demographics,
        Self::EmergencySummary,
        Self::Allergies,
        Self::Medicines,
        Self::Problems,
        Self::Immunizations,
        Self::VitalSigns,
        Self::Laboratory,
        Self::Imaging,
        Self::Procedures,
        Self::Encounters,
        Self::Documents,
        Self::CarePlans,
        Self::Cardiology,
        Self::FamilyHistory,
        Self::SocialHistory,
        Self::Devices,
        Self::Appointments,
        Self::Questionnaires,
        Self::Orders,
        Self::Billing,
        Self::Administrative,
        Self::RecordKeeping,
        Self::Research,
        Self::Vision,
        Self::Nutrition,
        Self::Other,
        Self::MentalHealth,
        Self::SexualHealth,
        Self::SubstanceUse,
        Self::Genetics,
        Self::Violence,
        Self::Restricted,
    ];

    /// What an emergency opens first: who it is and whom to call, allergies, medicines,
    /// problems, and summaries written for the purpose.
    pub const EMERGENCY: [Self; 5] = [
        Self::Demographics,
        Self::EmergencySummary,
        Self::Allergies,
        Self::Medicines,
        Self::Problems,
    ];

    /// The stable number, 0 to 63.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The category with this number, if it is in use.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.number() == number)
    }

    /// The code used in tags, grants, tokens and commands, such as `sexual-health`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Demographics => "demographics",
            Self::EmergencySummary => "emergency-summary",
            Self::Allergies => "allergies",
            Self::Medicines => "medicines",
            Self::Problems => "problems",
            Self::Immunizations => "immunizations",
            Self::VitalSigns => "vital-signs",
            Self::Laboratory => "laboratory",
            Self::Imaging => "imaging",
            Self::Procedures => "procedures",
            Self::Encounters => "encounters",
            Self::Documents => "documents",
            Self::CarePlans => "care-plans",
            Self::Cardiology => "cardiology",
            Self::FamilyHistory => "family-history",
            Self::SocialHistory => "social-history",
            Self::Devices => "devices",
            Self::Appointments => "appointments",
            Self::Questionnaires => "questionnaires",
            Self::Orders => "orders",
            Self::Billing => "billing",
            Self::Administrative => "administrative",
            Self::RecordKeeping => "record-keeping",
            Self::Research => "research",
            Self::Vision => "vision",
            Self::Nutrition => "nutrition",
            Self::Other => "other",
            Self::MentalHealth => "mental-health",
            Self::SexualHealth => "sexual-health",
            Self::SubstanceUse => "substance-use",
            Self::Genetics => "genetics",
            Self::Violence => "violence",
            Self::Restricted => "restricted",
        }
    }

    /// Words for people, to stand inside a sentence: "can see heart tests and medicines".
    pub fn plain_name(self) -> &'static str {
        match self {
            Self::Demographics => "name, address and contacts",
            Self::EmergencySummary => "emergency summaries",
            Self::Allergies => "allergies",
            Self::Medicines => "medicines",
            Self::Problems => "health problems",
            Self::Immunizations => "vaccinations",
            Self::VitalSigns => "measurements such as blood pressure and weight",
            Self::Laboratory => "laboratory results",
            Self::Imaging => "X-rays and scans",
            Self::Procedures => "operations and treatments",
            Self::Encounters => "visits and hospital stays",
            Self::Documents => "letters and notes",
            Self::CarePlans => "care plans",
            Self::Cardiology => "heart tests",
            Self::FamilyHistory => "illnesses in the family",
            Self::SocialHistory => "life and work",
            Self::Devices => "devices and implants",
            Self::Appointments => "appointments",
            Self::Questionnaires => "questionnaires",
            Self::Orders => "orders and referrals",
            Self::Billing => "bills and insurance",
            Self::Administrative => "administrative entries",
            Self::RecordKeeping => "who wrote and used the record",
            Self::Research => "research studies",
            Self::Vision => "eye tests and glasses",
            Self::Nutrition => "diet",
            Self::Other => "other entries",
            Self::MentalHealth => "mental health",
            Self::SexualHealth => "sexual and reproductive health",
            Self::SubstanceUse => "alcohol and drug use",
            Self::Genetics => "genetic information",
            Self::Violence => "abuse and violence",
            Self::Restricted => "restricted entries",
        }
    }

    /// The category called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.name() == name)
    }

    /// Whether people are asked about it apart from everything else.
    pub fn is_sensitive(self) -> bool {
        self.number() >= Self::MentalHealth.number()
    }

    /// How strict it is: higher wins where several apply. All sensitive categories are above
    /// all others; `Restricted` is the highest.
    fn strictness(self) -> u8 {
        if self.is_sensitive() {
            self.number()
        } else {
            0
        }
    }

    fn strictest(self, other: Self) -> Self {
        if other.strictness() > self.strictness() {
            other
        } else {
            self
        }
    }
}

/// The category of a resource.
///
/// In this order: the author's own tag; the strictest of what security labels, the codes
/// anywhere in the resource and its contained resources say; the resource's `category` and
/// `code`; its type. Narrative belongs to the resource and follows it.
pub fn assign(resource: &Value) -> Category {
    if let Some(category) = author_tag(resource) {
        return category;
    }
    let own = usual(resource);
    let contained = resource
        .get("contained")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let inner = contained.map(assign).fold(own, Category::strictest);
    let mut strictest = inner;
    codings(resource, &mut |system, code| {
        if let Some(category) = rules::sensitive(system, code) {
            strictest = strictest.strictest(category);
        }
    });
    strictest
}

/// What the author said, by `meta.tag` of system [`TAG_SYSTEM`].
fn author_tag(resource: &Value) -> Option<Category> {
    let tags = resource.get("meta")?.get("tag")?.as_array()?;
    tags.iter()
        .filter(|tag| tag.get("system").and_then(Value::as_str) == Some(TAG_SYSTEM))
        .find_map(|tag| Category::from_name(tag.get("code")?.as_str()?))
}

/// The category from `category`, `code` and type, before anything sensitive is looked at.
fn usual(resource: &Value) -> Category {
    let text = |member: &str| {
        resource
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut found = None;
    for member in ["code", "type", "category"] {
        if let Some(concept) = resource.get(member) {
            codings(concept, &mut |system, code| {
                found = found.or_else(|| rules::usual_code(system, code));
            });
        }
    }
    found.unwrap_or_else(|| rules::usual_type(text("resourceType")))
}

/// Calls `visit` with system and code of every coding in a tree.
fn codings<'v>(value: &'v Value, visit: &mut impl FnMut(&'v str, &'v str)) {
    match value {
        Value::Object(members) => {
            let (mut system, mut code) = (None, None);
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("system", Value::String(text)) => system = Some(text),
                    ("code", Value::String(text)) => code = Some(text),
                    (_, Value::Object(_) | Value::Array(_)) => codings(value, visit),
                    (_, _) => {}
                }
            }
            if let (Some(system), Some(code)) = (system, code) {
                visit(system, code);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| codings(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// System of the `meta.tag` by which an author sets the category.
pub const TAG_SYSTEM: &str = "https://stele.health/category";

#[cfg(test)]
mod tests;
