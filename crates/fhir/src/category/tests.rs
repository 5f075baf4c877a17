use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::rules::Match;
use super::*;
use crate::definitions::Definitions;

fn check(resource: &Value, category: Category) {
    assert_eq!(assign(resource), category, "{resource}");
}

fn coded(resource_type: &str, system: &str, code: &str) -> Value {
    json!({ "resourceType": resource_type,
        "code": { "coding": [{ "system": system, "code": code }] } })
}

#[test]
fn numbers_and_names_are_unique_and_lead_back() {
    let mut before = None;
    for category in Category::ALL {
        assert!(category.number() < 64);
        assert!(before < Some(category.number()));
        before = Some(category.number());
        assert_eq!(Category::from_number(category.number()), Some(category));
        assert_eq!(Category::from_name(category.name()), Some(category));
    }
    let plain: BTreeSet<_> = Category::ALL.map(Category::plain_name).into();
    assert_eq!(plain.len(), Category::ALL.len());
    assert_eq!(Category::from_number(63), None);
    assert_eq!(Category::from_name("x"), None);
}

/// Numbers are on chains: this list may grow, but no line of it may change.
#[test]
fn numbers_never_change() {
    let written: Vec<String> = Category::ALL
        .iter()
        .map(|c| format!("{}={}", c.number(), c.name()))
        .collect();
    assert_eq!(
        written.join(" "),
        "0=demographics 1=emergency-summary 2=allergies 3=medicines 4=problems 5=immunizations \
         6=vital-signs 7=laboratory 8=imaging 9=procedures 10=encounters 11=documents \
         12=care-plans 13=cardiology 14=family-history 15=social-history 16=devices \
         17=appointments 18=questionnaires 19=orders 20=billing 21=administrative \
         22=record-keeping 23=research 24=vision 25=nutrition 31=other 40=mental-health \
         41=sexual-health 42=substance-use 43=genetics 44=violence 45=restricted"
    );
}

#[test]
fn follows_type_category_and_code() {
    let loinc = "http://loinc.org";
    let snomed = "http://snomed.info/sct";
    check(
        &json!({ "resourceType": "Patient" }),
        Category::Demographics,
    );
    check(
        &json!({ "resourceType": "Substance" }),
        Category::Administrative,
    );
    check(
        &json!({ "resourceType": "SubstancePolymer" }),
        Category::Other,
    );
    check(&coded("Observation", loinc, "718-7"), Category::Laboratory);
    check(
        &coded("Observation", loinc, "85354-9"),
        Category::VitalSigns,
    );
    check(
        &coded("Observation", loinc, "34534-8"),
        Category::Cardiology,
    );
    check(&coded("Condition", snomed, "59621000"), Category::Problems);
    check(
        &coded("Condition", snomed, "86406008"),
        Category::SexualHealth,
    );
    check(
        &coded("Condition", snomed, "35489007"),
        Category::MentalHealth,
    );
    check(&coded("Observation", loinc, "51969-4"), Category::Genetics);
    check(
        &coded("Condition", "http://hl7.org/fhir/sid/icd-10-cm", "F10.20"),
        Category::SubstanceUse,
    );
    check(
        &coded("Condition", "http://hl7.org/fhir/sid/icd-10", "F32.1"),
        Category::MentalHealth,
    );
    check(
        &coded("Condition", "http://hl7.org/fhir/sid/icd-10", "I10"),
        Category::Problems,
    );
    check(
        &coded("Observation", "http://other", "86406008"),
        Category::Laboratory,
    );
    let mut survey = coded("Observation", loinc, "72514-3");
    survey["category"] = json!([{ "coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey" }] }]);
    check(&survey, Category::Questionnaires);
}

#[test]
fn takes_the_strictest_of_labels_codes_and_contained_resources() {
    let label = |code: &str| {
        json!({ "resourceType": "Observation", "meta": { "security": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code }] } })
    };
    check(&label("PSY"), Category::MentalHealth);
    check(&label("HIV"), Category::SexualHealth);
    check(&label("ETH"), Category::SubstanceUse);
    check(&label("SDV"), Category::Violence);
    check(&label("GDIS"), Category::Genetics);
    check(
        &json!({ "resourceType": "Condition", "meta": { "security": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V" }] } }),
        Category::Restricted,
    );
    let contained = json!({ "resourceType": "MedicationRequest",
        "contained": [coded("Condition", "http://snomed.info/sct", "86406008")] });
    check(&contained, Category::SexualHealth);
    let claim = json!({ "resourceType": "Claim", "item": [{ "productOrService": {
        "coding": [{ "system": "http://snomed.info/sct", "code": "171207006" }] } }] });
    check(&claim, Category::MentalHealth);
}

#[test]
fn the_author_decides_when_they_say_so() {
    let mut resource = coded("Condition", "http://snomed.info/sct", "86406008");
    resource["meta"] = json!({ "tag": [{ "system": TAG_SYSTEM, "code": "problems" }] });
    check(&resource, Category::Problems);
    resource["meta"]["tag"][0]["code"] = json!("no such category");
    check(&resource, Category::SexualHealth);
}

#[test]
fn every_rule_is_sound() {
    let definitions = Definitions::load();
    for (category, types) in rules::TYPES {
        for name in *types {
            assert!(definitions.resource(name).is_some(), "{name}");
            assert_eq!(rules::usual_type(name), *category, "{name} is listed twice");
        }
    }
    for rule in rules::SENSITIVE {
        assert!(rule.category.is_sensitive());
        if rule.matches == Match::Exact {
            for code in rule.codes {
                assert_eq!(
                    rules::sensitive(rule.system, code),
                    Some(rule.category),
                    "{code}"
                );
            }
        }
    }
    for rule in rules::USUAL {
        for code in rule.codes {
            assert_eq!(
                rules::usual_code(rule.system, code),
                Some(rule.category),
                "{code}"
            );
        }
    }
}

/// `docs/categories.md` says what the tables say. Set `STELE_WRITE_DOCS=1` to write it anew.
#[test]
fn the_published_rules_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/categories.md");
    let expected = document();
    if std::env::var_os("STELE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "docs/categories.md is out of date");
}

fn document() -> String {
    let mut out = String::from(HEAD);
    for category in Category::ALL {
        let mut marks = Vec::new();
        if Category::EMERGENCY.contains(&category) {
            marks.push("opened first in an emergency");
        }
        if category.is_sensitive() {
            marks.push("sensitive");
        }
        let (number, name) = (category.number(), category.name());
        let plain = category.plain_name();
        writeln!(
            out,
            "| {number} | `{name}` | {plain} | {} |",
            marks.join(", ")
        )
        .unwrap();
    }
    out.push_str(ORDER);
    out.push_str("\n## Sensitive codes\n");
    tables(&mut out, rules::SENSITIVE);
    out.push_str("\n## Other codes\n");
    tables(&mut out, rules::USUAL);
    out.push_str("\n## Resource types\n\n| category | types |\n|---|---|\n");
    for (category, types) in rules::TYPES {
        writeln!(out, "| `{}` | {} |", category.name(), types.join(", ")).unwrap();
    }
    out
}

fn tables(out: &mut String, rules: &[rules::Rule]) {
    out.push_str("\n| category | system | codes |\n|---|---|---|\n");
    for rule in rules {
        let how = if rule.matches == Match::Prefix {
            "beginning with "
        } else {
            ""
        };
        let (name, codes) = (rule.category.name(), rule.codes.join(", "));
        writeln!(out, "| `{name}` | `{}` | {how}{codes} |", rule.system).unwrap();
    }
}

const HEAD: &str = "# Categories

Every record belongs to one category. Patients grant and withhold access by category, and each
category has keys of its own. The author's gateway assigns it by the rules below before the
record is sealed; an author may set another with a tag. This page is written from the tables in
`crates/fhir/src/category/`, and a test compares the two. Numbers never change their meaning.

| number | name | in words | |
|---|---|---|---|
";

const ORDER: &str = "
## Which rule decides

1. A `meta.tag` with the system `https://stele.health/category` whose code is a name above.
2. The strictest sensitive category that any coding in the resource leads to: its codes, reasons,
   answers and billed items, its security labels (`meta.security`), and its contained resources.
   Of several the highest number wins.
3. `code`, then `type`, then `category`, by the table of other codes; the first that is listed.
4. The resource type. A type that is not listed is `other`.

Narrative belongs to its resource and follows it.

Limits: only codes are looked at, never text. The lists hold codes that commonly occur and not
all descendants of a concept. A sensitive diagnosis without a listed code, or written only in
words, needs a security label or a tag from its author.
";
