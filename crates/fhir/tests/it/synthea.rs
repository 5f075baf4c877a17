//! Synthea's transaction bundles go the whole way: reading, validation, taking apart, links,
//! stamping, and the questions whose record each resource is and which category.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stele_fhir::bundle::{self, BundleType, Method};
use stele_fhir::category::{self, Category};
use stele_fhir::compartment::{self, PatientRef};
use stele_fhir::{parse, text, validate};

/// All bundles: file name and text.
fn bundles() -> impl Iterator<Item = (String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fhir/synthea");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("the real data is not at {}: {error}", folder.display());
    });
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bz2"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 57, "bundles in {}", folder.display());
    files.into_iter().map(|path| {
        let mut json = Vec::new();
        let file = File::open(&path).unwrap();
        bzip2::read::MultiBzDecoder::new(file)
            .read_to_end(&mut json)
            .unwrap();
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            json,
        )
    })
}

fn read(json: &[u8]) -> parse::Resource {
    parse::resource(json, &parse::Limits::default()).unwrap()
}

/// NFR-INTEROP1, NFR-INT1: what a real generator writes is accepted as it is, every link
/// between its entries leads somewhere, and what would be stored differs from what was sent by
/// `id`, `meta` and references only.
#[test]
fn every_bundle_goes_the_whole_way() {
    let mut found_categories = BTreeMap::new();
    for (name, json) in bundles() {
        let plan = bundle::parse(read(&json)).unwrap_or_else(|issues| panic!("{name}: {issues:?}"));
        // The two directories of organisations and practitioners are batches.
        let is_directory = name.starts_with("0-");
        assert_eq!(
            plan.bundle_type == BundleType::Batch,
            is_directory,
            "{name}"
        );
        for stored in store(&name, &plan) {
            check_patient(&stored, &compartment::patient_of(&stored.value));
            *found_categories
                .entry(category::assign(&stored.value))
                .or_insert(0_usize) += 1;
        }
    }
    assert!(
        found_categories.values().sum::<usize>() > 40_000,
        "{found_categories:?}"
    );
    for category in [
        Category::SexualHealth,
        Category::MentalHealth,
        Category::Laboratory,
    ] {
        assert!(
            found_categories.contains_key(&category),
            "{found_categories:?}"
        );
    }
}

/// The resources of a Bundle as they would be stored, each compared with the same edits made
/// on its tree.
fn store(name: &str, plan: &bundle::Plan) -> Vec<parse::Resource> {
    let type_of = |n: usize| &plan.entries[n].resource.as_ref().unwrap().resource_type;
    let assigned: BTreeMap<usize, String> = (0..plan.entries.len())
        .map(|n| (n, format!("{}/x{n}", type_of(n))))
        .collect();
    let links = plan.links(&assigned);
    let found: HashMap<String, String> = plan
        .conditional_references()
        .into_iter()
        .map(|conditional| {
            let target = format!("{}/found", conditional.resource_type);
            (conditional.reference, target)
        })
        .collect();
    let all_links = links_of(plan, &assigned, &found);
    let store_one = |entry: &bundle::Entry| {
        assert!(entry.issues.is_empty(), "{name}: {:?}", entry.issues);
        let resource = entry.resource.as_ref().unwrap();
        assert_eq!(entry.request.as_ref().unwrap().method, Method::Post);
        let issues = validate::entry(&resource.value, entry.index);
        assert!(issues.is_empty(), "{name}: {issues:?}");
        let linked = plan.resolve(entry.index, &links, &found).unwrap();
        let id = format!("x{}", entry.index);
        let stored = text::set_id_and_meta(&linked, &id, "1", NOW).unwrap();
        assert_eq!(
            parse::edited(stored.clone()).unwrap(),
            read(stored.as_bytes())
        );
        let stored = parse::edited(stored).unwrap();
        assert_eq!(
            stored.value,
            expected(resource.value.clone(), &id, &all_links)
        );
        stored
    };
    plan.entries.iter().map(store_one).collect()
}

const NOW: &str = "2026-01-01T00:00:00Z";

fn links_of(
    plan: &bundle::Plan,
    assigned: &BTreeMap<usize, String>,
    found: &HashMap<String, String>,
) -> HashMap<String, String> {
    let mut links = found.clone();
    for entry in &plan.entries {
        links.insert(
            entry.full_url.clone().unwrap(),
            assigned[&entry.index].clone(),
        );
    }
    links
}

/// The same edits made on the tree.
fn expected(mut value: Value, id: &str, links: &HashMap<String, String>) -> Value {
    relink(&mut value, links);
    value["id"] = json!(id);
    if value.get("meta").is_none() {
        value["meta"] = json!({});
    }
    value["meta"]["versionId"] = json!("1");
    value["meta"]["lastUpdated"] = json!(NOW);
    value
}

fn relink(value: &mut Value, links: &HashMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if key == "reference" => {
                        if let Some(new) = links.get(target.as_str()) {
                            target.clone_from(new);
                        }
                    }
                    value => relink(value, links),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relink(item, links)),
        _ => {}
    }
}

/// Every clinical resource names its patient; directories belong to nobody.
fn check_patient(resource: &parse::Resource, patient: &PatientRef) {
    match resource.resource_type.as_str() {
        "Patient" => assert_eq!(*patient, PatientRef::Own(resource.id.clone())),
        "Organization" | "Practitioner" | "PractitionerRole" | "Location" | "Medication" => {
            assert_eq!(*patient, PatientRef::None);
        }
        name => match patient {
            PatientRef::One(reference) => assert!(reference.starts_with("Patient/x"), "{name}"),
            other => panic!("{name}: {other:?}"),
        },
    }
}
