//! A whole life from the Synthea bundles, indexed as extracted, searched and compared with plain code.

use std::{io::Read as _, path::PathBuf};

use alloy_primitives::Address;
use serde_json::Value as Json;
use stele_core::{
    crypto::Secret32,
    id::{OrganizationId, PatientId},
    leaf::record_id,
    time::Timestamp,
};
use stele_fhir::search::{
    Handling, Options,
    ast::{Filter, Query, Total},
    extract, full_text, matches, parse,
};
use stele_index::{Index, NewVersion, Placement, Viewer};

const NOW: Timestamp = Timestamp(1_780_272_000_000);

/// Resources of a bundle, with the references between them as the server would rewrite them.
fn bundle(name_start: &str) -> Vec<Json> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fhir/synthea");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(name_start)
        })
        .collect();
    files.sort();
    let file = std::fs::File::open(&files[0]).unwrap();
    let mut text = String::new();
    bzip2::read::BzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let bundle: Json = serde_json::from_str(&text).unwrap();
    for entry in bundle["entry"].as_array().unwrap() {
        let resource = &entry["resource"];
        let (kind, id) = (
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap(),
        );
        text = text.replace(
            &format!("\"reference\":\"urn:uuid:{id}\""),
            &format!("\"reference\":\"{kind}/{id}\""),
        );
        text = text.replace(
            &format!("\"reference\": \"urn:uuid:{id}\""),
            &format!("\"reference\": \"{kind}/{id}\""),
        );
    }
    let bundle: Json = serde_json::from_str(&text).unwrap();
    bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

fn query(resource_type: &str, text: &str) -> Query {
    let pairs: Vec<(String, String)> = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let options = Options {
        handling: Handling::Strict,
        now_ms: 0,
        count_max: 1_000,
        base_url: None,
    };
    parse(resource_type, &pairs, &options).unwrap().0
}

/// Every kind of search finds in a real record what plain code finds. (S12)
#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a list of searches, one of every kind"
)]
fn a_real_record_is_found_by_every_kind_of_value() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path(), &Secret32::new([6; 32])).unwrap();
    let patient = Address::repeat_byte(0x77);
    let resources = bundle("085e81c0");
    let version = |(leaf, json): (u64, &Json)| {
        let (kind, id) = (
            json["resourceType"].as_str().unwrap(),
            json["id"].as_str().unwrap(),
        );
        NewVersion {
            resource_type: kind.to_owned(),
            id: id.to_owned(),
            version: 1,
            placement: Placement {
                record: record_id(OrganizationId(Address::ZERO), kind, id),
                log: patient,
                leaf,
                patient: Some(PatientId(patient)),
                category_slot: 7,
                category: 7,
                month: 600,
            },
            last_updated: NOW,
            clinical_ms: None,
            deleted: false,
            values: extract(kind, json),
            text: full_text(json),
        }
    };
    let versions: Vec<NewVersion> = (0..).zip(&resources).map(version).collect();
    for batch in versions.chunks(100) {
        index.search().put(batch).unwrap();
    }
    let viewer = Viewer {
        principals: vec![patient],
        purposes: 1,
        directory: true,
    };
    let id = resources
        .iter()
        .find(|json| json["resourceType"] == "Patient")
        .unwrap()["id"]
        .as_str()
        .unwrap();
    let asked = [
        (
            "Observation",
            format!("patient={id}&code=http://loinc.org|8302-2"),
            true,
        ),
        ("Observation", "code=8302-2,29463-7".to_owned(), true),
        ("Observation", "value-quantity=gt100".to_owned(), true),
        ("Observation", "value-quantity=gt50||cm".to_owned(), true),
        (
            "Observation",
            "code-value-quantity=8302-2$gt100".to_owned(),
            true,
        ),
        (
            "Observation",
            "component-code-value-quantity=8480-6$gt90".to_owned(),
            true,
        ),
        (
            "Observation",
            "date=ge2000&category=vital-signs".to_owned(),
            true,
        ),
        ("Observation", "code:not=8302-2".to_owned(), true),
        ("Observation", "value-concept:missing=true".to_owned(), true),
        ("Condition", "code:text=a".to_owned(), false),
        (
            "Condition",
            format!("subject=Patient/{id}&onset-date=lt2030"),
            true,
        ),
        ("Encounter", "status=finished&date=sa1990".to_owned(), true),
        ("Encounter", "class=AMB".to_owned(), true),
        (
            "Patient",
            "gender=male,female&birthdate=lt2030".to_owned(),
            true,
        ),
        ("Patient", "name:contains=u".to_owned(), true),
        ("Claim", "created=ge1990".to_owned(), true),
        ("Immunization", "date=ap2015".to_owned(), false),
        ("Procedure", "date=lt2030&status=completed".to_owned(), true),
        ("ExplanationOfBenefit", format!("patient={id}"), true),
    ];
    for (kind, text, is_found) in asked {
        let mut query = query(kind, &text);
        query.total = Some(Total::Accurate);
        query.count = Some(1_000);
        let expected = |version: &&NewVersion| {
            version.resource_type == kind
                && query
                    .filters
                    .iter()
                    .all(|filter: &Filter| matches(filter, &version.values).unwrap())
        };
        let mut expected: Vec<&str> = versions
            .iter()
            .filter(expected)
            .map(|version| version.id.as_str())
            .collect();
        expected.sort_unstable();
        let page = index.search().search(&query, &viewer, NOW).unwrap();
        let mut found: Vec<&str> = page
            .matches
            .iter()
            .map(|version| version.id.as_str())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{kind}?{text}");
        assert_eq!(page.total, Some(expected.len() as u64), "{kind}?{text}");
        assert!(
            !is_found || !expected.is_empty(),
            "{kind}?{text} should find something in this record"
        );
        // Nobody else finds any of it.
        let stranger = Viewer {
            principals: vec![Address::ZERO],
            ..viewer.clone()
        };
        assert_eq!(
            index.search().search(&query, &stranger, NOW).unwrap().total,
            Some(0)
        );
    }
    let everything = index
        .search()
        .everything(PatientId(patient), None, None, 100_000, &viewer, NOW)
        .unwrap();
    assert_eq!(everything.matches.len(), resources.len());
}
