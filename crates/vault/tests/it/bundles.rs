//! Resources of the Synthea bundles, as they are written there.

use std::{io::Read, path::PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Bundle {
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    resource: Box<RawValue>,
}

/// Texts of all resources in the `count` first bundles, bundle by bundle. Fails without the data.
pub(crate) fn synthea(count: usize) -> Vec<Vec<String>> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fhir/synthea");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(
        paths.len() >= count,
        "{} has too few bundles",
        folder.display()
    );
    paths.iter().take(count).map(resources).collect()
}

fn resources(path: impl AsRef<std::path::Path>) -> Vec<String> {
    let mut text = String::new();
    bzip2::read::MultiBzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let bundle: Bundle = serde_json::from_str(&text).unwrap();
    bundle
        .entry
        .into_iter()
        .map(|entry| entry.resource.get().to_owned())
        .collect()
}
