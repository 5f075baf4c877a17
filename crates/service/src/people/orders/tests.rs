//! Reports as FHIR, and what is wrong with them.

use stele_fhir::category::{self, Category};

use super::{
    report::{is_loinc, put_code},
    *,
};

fn result(name: &str, value: &str, unit: &str, low: &str, high: &str) -> NewResult {
    let own = str::to_owned;
    NewResult {
        name: own(name),
        loinc: String::new(),
        value: own(value),
        unit: own(unit),
        low: own(low),
        high: own(high),
    }
}

fn slip() -> OrderSlip {
    OrderSlip {
        id: "o1".into(),
        patient: Address::repeat_byte(1),
        name: "STONE, Eva".into(),
        born: "1984-03-15".into(),
        orderer: Address::repeat_byte(2),
        laboratory: Address::repeat_byte(3),
        test: "Potassium".into(),
        reason: String::new(),
        is_urgent: false,
        at: Timestamp(0),
        answered: None,
        corrected: None,
        filed: None,
    }
}

#[test]
fn a_report_is_valid_fhir_of_the_laboratory() {
    let report = NewReport {
        results: vec![
            result("Potassium", "6.30", "mmol/L", "3.5", "5.1"),
            result("CRP", "<0.5", "mg/L", "", "5"),
            result("Blood group", "A Rh positive", "", "", ""),
        ],
        conclusion: "High potassium".into(),
        document: Some(("report.pdf".into(), b"%PDF-1.7".to_vec())),
    };
    assert!(report_problems(&report, 0).is_empty());
    let actor = Actor::system(
        OrganizationId(Address::repeat_byte(3)),
        stele_core::consent::Purpose::Treat,
        "test",
    );
    let made = transaction(&slip(), &actor, "Patient/p", &report, Timestamp(0));
    let entries = made["entry"].as_array().expect("entries");
    assert_eq!(entries.len(), 4);
    for entry in entries {
        let resource = &entry["resource"];
        let issues = stele_fhir::validate::resource(resource);
        assert!(issues.is_empty(), "{issues:?}");
        assert_eq!(category::assign(resource), Category::Laboratory);
    }
    let first = &entries[0]["resource"];
    assert_eq!(first["interpretation"][0]["coding"][0]["code"], "H");
    assert!(first.to_string().contains("6.30"), "digits stay as typed");
    assert_eq!(entries[1]["resource"]["valueQuantity"]["comparator"], "<");
    assert_eq!(entries[2]["resource"]["valueString"], "A Rh positive");
    assert_eq!(
        entries[3]["resource"]["result"][0]["reference"],
        entries[0]["fullUrl"]
    );
}

/// A typed code is kept as LOINC's, if it can be one.
#[test]
fn codes_are_those_of_loinc() {
    for code in ["2823-3", "718-7", "8480-6", "4548-4", "85354-9", "55284-4"] {
        assert!(is_loinc(code), "{code}");
    }
    for other in [
        "2823-4",
        "2823",
        "-3",
        "2823-",
        "2823-33",
        "28x3-3",
        "12345678-9",
        "٢٨٢٣-3",
    ] {
        assert!(!is_loinc(other), "{other}");
    }
    let coded = NewResult {
        loinc: "2823-3".into(),
        ..result("Potassium", "6.30", "mmol/L", "", "")
    };
    let mut made = json!({ "code": { "text": "Potassium" } });
    put_code(&mut made, &coded);
    assert_eq!(made["code"]["coding"][0]["system"], "http://loinc.org");
    assert_eq!(made["code"]["text"], "Potassium");
    let report = NewReport {
        results: vec![NewResult {
            loinc: "2823-4".into(),
            ..coded
        }],
        ..NewReport::default()
    };
    assert_eq!(report_problems(&report, 0)[0].0, "loinc-0");
}

/// A correction makes new versions of what was written, takes back what is left out, and adds what is new.
#[test]
fn a_correction_is_of_the_entries_that_are_there() {
    let first = NewReport {
        results: vec![
            result("Potassium", "6.30", "mmol/L", "", ""),
            result("Sodium", "140", "mmol/L", "", ""),
        ],
        ..NewReport::default()
    };
    let written = ["a".to_owned(), "b".to_owned(), "r".to_owned()];
    let mut slip = slip();
    slip.filed = Filed::of(None, &first, &written);
    slip.answered = Some(Timestamp(0));
    let correction = NewReport {
        results: vec![
            result("Potassium", "5.30", "mmol/L", "", ""),
            result("Sodium", "", "", "", ""),
            result("Chloride", "101", "mmol/L", "", ""),
        ],
        ..NewReport::default()
    };
    assert_eq!(report_problems(&correction, 2), []);
    // The same rows of a first report lack a value.
    assert_eq!(report_problems(&correction, 0)[0].0, "value-1");
    let actor = Actor::system(
        OrganizationId(Address::repeat_byte(3)),
        stele_core::consent::Purpose::Treat,
        "test",
    );
    let made = transaction(&slip, &actor, "Patient/p", &correction, Timestamp(60_000));
    let of = |at: usize| &made["entry"][at];
    let told: Vec<(&str, &str)> = (0..4)
        .map(|at| {
            let resource = &of(at)["resource"];
            let issues = stele_fhir::validate::resource(resource);
            assert!(issues.is_empty(), "{issues:?}");
            let url = of(at)["request"]["url"].as_str().unwrap_or_default();
            (url, resource["status"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("Observation/a", "corrected"),
            ("Observation/b", "entered-in-error"),
            ("Observation", "corrected"),
            ("DiagnosticReport/r", "corrected"),
        ]
    );
    assert!(of(1)["resource"].get("valueQuantity").is_none());
    assert_eq!(of(1)["resource"]["code"]["text"], "Sodium");
    let results = of(3)["resource"]["result"].as_array().expect("results");
    assert_eq!(results.len(), 2, "what was taken back is no result");
    assert_eq!(results[1]["reference"], of(2)["fullUrl"]);
    // What was found stays found then; when it was said moves.
    assert_ne!(
        of(0)["resource"]["issued"],
        of(0)["resource"]["effectiveDateTime"]
    );
    let again = [
        "a".to_owned(),
        "b".to_owned(),
        "c".to_owned(),
        "r".to_owned(),
    ];
    let filed = Filed::of(slip.filed.as_ref(), &correction, &again).expect("filed");
    let names: Vec<&str> = filed
        .results
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    assert_eq!(names, ["Potassium", "Sodium", "Chloride"]);
}

#[test]
fn mistakes_are_named_at_their_field() {
    let fields = |one: NewResult| -> Vec<String> {
        let report = NewReport {
            results: vec![one],
            ..NewReport::default()
        };
        report_problems(&report, 0)
            .into_iter()
            .map(|(field, _)| field)
            .collect()
    };
    assert_eq!(fields(result("", "1", "1", "", "")), ["name-0"]);
    assert_eq!(fields(result("K", "", "mmol/L", "", "")), ["value-0"]);
    assert_eq!(fields(result("K", "6.3", "", "", "")), ["unit-0"]);
    assert_eq!(
        fields(result("K", "6.3", "mmol per litre", "", "")),
        ["unit-0"]
    );
    assert_eq!(fields(result("K", "6.3", "mmol/L", "5", "4")), ["low-0"]);
    assert_eq!(fields(result("K", "6.3", "mmol/L", "x", "")), ["low-0"]);
    let none = report_problems(&NewReport::default(), 0);
    assert_eq!(none.len(), 1);
    let page = NewReport {
        document: Some(("x.pdf".into(), b"<html>".to_vec())),
        ..NewReport::default()
    };
    assert_eq!(report_problems(&page, 0)[0].0, "file");
}
