//! Synthea's transaction bundles go through reading, validation and editing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stele_fhir::{parse, text, validate};

/// All bundles: file name and text.
pub(crate) fn bundles() -> impl Iterator<Item = (String, Vec<u8>)> {
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
        bzip2::read::MultiBzDecoder::new(file).read_to_end(&mut json).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), json)
    })
}

/// NFR-INTEROP1: what a real generator writes is accepted as it is.
#[test]
fn every_bundle_is_valid() {
    for (name, json) in bundles() {
        let bundle = parse::resource(&json, &parse::Limits::default()).unwrap();
        let issues = validate::resource(&bundle.value);
        assert!(issues.is_empty(), "{name}: {issues:?}");
    }
}

/// NFR-INT1: only `id` and `meta` differ after stamping a real resource.
#[test]
fn stamping_changes_nothing_else() {
    let (_, json) = bundles().nth(5).unwrap();
    let bundle = parse::resource(&json, &parse::Limits::default()).unwrap();
    let entries = bundle.value["entry"].as_array().unwrap();
    for entry in entries {
        let mut expected = entry["resource"].clone();
        let written = expected.to_string();
        let stamped = text::set_id_and_meta(&written, "x", "7", "2026-01-01T00:00:00Z").unwrap();
        expected["id"] = json!("x");
        if expected.get("meta").is_none() {
            expected["meta"] = json!({});
        }
        expected["meta"]["versionId"] = json!("7");
        expected["meta"]["lastUpdated"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(serde_json::from_str::<Value>(&stamped).unwrap(), expected);
    }
}
