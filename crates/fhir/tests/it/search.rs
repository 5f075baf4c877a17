//! Search from the request's text to the answer, on Synthea's resources: a resource is found by
//! what it holds and not by what it does not.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use stele_fhir::search::ast::{Filter, IndexValue};
use stele_fhir::search::{self, Handling, Options};

/// Resources of three lives and of the two bundles of organisations and practitioners.
fn resources() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fhir/synthea");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut resources = Vec::new();
    for name in names.iter().take(5) {
        let mut text = String::new();
        let file = std::fs::File::open(name).unwrap();
        bzip2::read::MultiBzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        let bundle: Value = serde_json::from_str(&text).unwrap();
        let entries = bundle["entry"].as_array().unwrap().iter();
        resources.extend(entries.map(|entry| entry["resource"].clone()));
    }
    resources
}

fn filter(resource_type: &str, name: &str, text: &str) -> Filter {
    let options = Options {
        handling: Handling::Strict,
        now_ms: 0,
        count_max: 10,
        base_url: None,
    };
    let pairs = [(name.to_owned(), text.to_owned())];
    let (mut query, _) = search::parse(resource_type, &pairs, &options)
        .unwrap_or_else(|issues| panic!("{resource_type}?{name}: {issues:?}"));
    query.filters.remove(0)
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            matches!(c, ',' | '|' | '$' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
}

struct Checked {
    kind: String,
    values: Vec<IndexValue>,
    asked: usize,
}

impl Checked {
    /// The resource is found by `text`, where it has that text at all.
    fn found(&mut self, name: &str, text: Option<String>) {
        let Some(text) = text else { return };
        let filter = filter(&self.kind, name, &text);
        assert_eq!(
            search::matches(&filter, &self.values),
            Some(true),
            "{}?{name}",
            self.kind
        );
        self.asked += 1;
    }

    fn not_found(&mut self, name: &str, text: Option<String>) {
        let Some(text) = text else { return };
        let filter = filter(&self.kind, name, &text);
        assert_eq!(
            search::matches(&filter, &self.values),
            Some(false),
            "{}?{name}",
            self.kind
        );
        self.asked += 1;
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// NFR-INTEROP1: every value that a real resource holds finds it, with system and without, by its
/// own precision and by less; another value does not.
#[test]
fn resources_are_found_by_what_they_hold() {
    let mut asked = 0;
    for resource in resources() {
        let kind = text(&resource, "/resourceType").unwrap();
        let values = search::extract(&kind, &resource);
        let mut check = Checked {
            kind,
            values,
            asked: 0,
        };
        check.found("_id", text(&resource, "/id"));
        check.not_found("_id", Some("another".to_owned()));
        match check.kind.as_str() {
            "Patient" => patient(&mut check, &resource),
            "Observation" => observation(&mut check, &resource),
            "MedicationRequest" => {
                check.found("status", text(&resource, "/status"));
                check.found("authoredon", text(&resource, "/authoredOn"));
                check.found("subject", text(&resource, "/subject/reference"));
            }
            "Encounter" => {
                let start = text(&resource, "/period/start");
                check.found("date", start.as_ref().map(|start| format!("ge{start}")));
                check.found("date", start.as_ref().map(|start| start[..4].to_owned()));
                check.not_found("date", start.map(|start| format!("lt{start}")));
                check.found("class", text(&resource, "/class/code"));
            }
            "Organization" => {
                check.found("name", text(&resource, "/name").map(|name| escaped(&name)));
                check.found("address-city", text(&resource, "/address/0/city"));
            }
            _ => {}
        }
        asked += check.asked;
    }
    assert!(asked > 10_000, "{asked}");
}

fn patient(check: &mut Checked, resource: &Value) {
    let family = text(resource, "/name/0/family");
    check.found("family:exact", family.clone());
    check.found("family", family.as_ref().map(|name| name.to_uppercase()));
    check.found(
        "name:contains",
        family.as_ref().map(|name| name[1..].to_owned()),
    );
    check.not_found("family:exact", family.map(|name| name.to_uppercase()));
    let born = text(resource, "/birthDate").unwrap();
    check.found("birthdate", Some(born.clone()));
    check.found("birthdate", Some(born[..7].to_owned()));
    check.found("birthdate", Some(format!("le{}", &born[..4])));
    check.not_found("birthdate", Some(format!("gt{born}")));
    check.found("gender", text(resource, "/gender"));
    check.found("phone", text(resource, "/telecom/0/value"));
    for identifier in resource["identifier"].as_array().unwrap() {
        let system = identifier["system"].as_str().unwrap();
        let value = escaped(identifier["value"].as_str().unwrap());
        check.found("identifier", Some(format!("{system}|{value}")));
        check.not_found("identifier", Some(format!("|{value}")));
    }
}

fn observation(check: &mut Checked, resource: &Value) {
    let code = text(resource, "/code/coding/0/code").unwrap();
    check.found("code", Some(format!("http://loinc.org|{code}")));
    check.not_found("code:not", Some(code.clone()));
    check.not_found("code", Some(format!("|{code}")));
    check.found("subject", text(resource, "/subject/reference"));
    let date = text(resource, "/effectiveDateTime");
    check.found("date", date.clone());
    check.found("date", date.as_ref().map(|date| date[..4].to_owned()));
    check.not_found("date", date.map(|date| format!("ne{date}")));
    if let Some(number) = resource.pointer("/valueQuantity/value") {
        let unit = text(resource, "/valueQuantity/code").unwrap();
        let whole = format!("{number}|http://unitsofmeasure.org|{}", escaped(&unit));
        check.found("value-quantity", Some(number.to_string()));
        check.found("value-quantity", Some(whole.clone()));
        check.found("value-quantity", Some(format!("ge{whole}")));
        check.found("code-value-quantity", Some(format!("{code}$le{number}")));
        check.not_found("value-quantity", Some(format!("gt{whole}")));
        check.not_found("code-value-quantity", Some(format!("x{code}${number}")));
        check.found("value-string:missing", Some("true".to_owned()));
    }
}
