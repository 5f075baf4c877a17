//! Real HL7 v2 messages of two origins go the whole way: read, mapped or refused with a reason, and every resource that
//! is made passes the official definitions.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use stele_fhir::{
    bundle,
    hl7v2::{Location, Problem, Weight, ack, batch, map::Context, take},
    outcome::Issue,
    validate,
};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/hl7v2");
    let mut files: Vec<PathBuf> = ["cdc-reportstream", "microsoft-fhir-converter"]
        .iter()
        .flat_map(|origin| {
            let folder = folder.join(origin);
            fs::read_dir(&folder)
                .unwrap_or_else(|error| {
                    panic!("the real data is not at {}: {error}", folder.display())
                })
                .map(|entry| entry.unwrap().path())
        })
        .collect();
    files.sort();
    files
}

/// What became of one message: its resources by type, or why it was refused.
fn outcome(bytes: &[u8], name: &str) -> Result<BTreeMap<String, usize>, Vec<Problem>> {
    let context = Context::new("2026-01-01T00:00:00.000Z");
    let taken = match take(bytes, &context) {
        Ok(taken) => taken,
        Err((header, problems)) => {
            assert!(
                problems.iter().any(Problem::is_error),
                "{name}: {problems:?}"
            );
            // The sender is answered, and the answer names the message.
            let code = ack::Code::ApplicationError;
            let answer = ack::write(header.as_deref(), code, &problems, "1", "2026");
            let control_id = header.map(|header| header.control_id).unwrap_or_default();
            assert!(
                answer.contains(&format!("\rMSA|AE|{control_id}")),
                "{name}: {answer}"
            );
            return Err(problems);
        }
    };
    assert!(
        taken.problems.iter().all(|p| p.weight < Weight::Error),
        "{name}"
    );
    let plan = bundle::parse(taken.bundle).unwrap_or_else(|issues| panic!("{name}: {issues:?}"));
    let mut found = BTreeMap::new();
    for entry in plan.entries {
        assert!(entry.issues.is_empty(), "{name}: {:?}", entry.issues);
        let resource = entry.resource.unwrap();
        let issues = validate::entry(&resource.value, entry.index);
        let errors: Vec<&Issue> = issues.iter().filter(|issue| issue.is_error()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}\n{}", resource.text);
        *found.entry(resource.resource_type).or_default() += 1;
    }
    Ok(found)
}

/// NFR-INTEROP1: all messages of all files are read; each is mapped to valid FHIR or refused by the place at fault.
#[test]
fn real_messages_are_mapped_or_refused_by_name() {
    let (mut messages, mut mapped) = (0, 0);
    let mut resources: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let files = files();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let found = batch::messages(&fs::read(file).unwrap());
        assert!(!found.is_empty(), "{name}");
        for bytes in found {
            messages += 1;
            match outcome(&bytes, &name) {
                Ok(types) => {
                    mapped += 1;
                    for (resource_type, count) in types {
                        *resources.entry(resource_type).or_default() += count;
                    }
                }
                Err(problems) => {
                    let place = problems[0].location.as_ref().map(Location::to_string);
                    let why = format!("{} {}", place.unwrap_or_default(), problems[0].code.words());
                    *refused.entry(why).or_default() += 1;
                }
            }
        }
    }
    assert_eq!((files.len(), messages, mapped), (280, 281, 120));
    let counted = |map: &BTreeMap<String, usize>| -> Vec<(String, usize)> {
        map.iter().map(|(name, n)| (name.clone(), *n)).collect()
    };
    // 110 of the messages are fixtures of single fields, 21 have no PID: nobody can say whose records they are.
    let expected = [
        ("MSH-9 Unsupported event code", 5),
        ("MSH-9 Unsupported message type", 16),
        ("OBR-4 Required field missing", 9),
        ("PID-3 Required field missing", 131),
    ];
    assert_eq!(
        counted(&refused),
        expected.map(|(why, n)| (why.to_owned(), n))
    );
    let expected = [
        ("AllergyIntolerance", 8),
        ("Binary", 120),
        ("Condition", 12),
        ("Coverage", 7),
        ("DiagnosticReport", 120),
        ("DocumentReference", 5),
        ("Encounter", 49),
        ("Immunization", 3),
        ("Media", 21),
        ("MedicationDispense", 3),
        ("MedicationRequest", 7),
        ("Observation", 494),
        ("Organization", 65),
        ("Patient", 123),
        ("Practitioner", 324),
        ("Procedure", 6),
        ("Provenance", 120),
        ("ServiceRequest", 134),
        ("Specimen", 75),
    ];
    assert_eq!(
        counted(&resources),
        expected.map(|(name, n)| (name.to_owned(), n))
    );
}
