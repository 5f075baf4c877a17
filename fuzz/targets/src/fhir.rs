//! FHIR JSON from a client: reading, validating, editing in the text, patching, taking Bundles apart, search values.

use stele_fhir::{bundle, category, compartment, parse, patch, search, text, validate};

/// Between a resource and a JSON Patch for it.
pub(crate) const SEPARATOR: &[u8] = b"\n--patch--\n";

const ID: &str = "fuzz-1";
const UPDATED: &str = "2026-03-01T10:00:00.000Z";

/// Reads the bytes as a resource, and what follows `SEPARATOR` as a JSON Patch for it. Whatever is accepted goes
/// through everything that a write and a read do with it; edits change what they say and leave valid JSON.
pub fn fhir(data: &[u8]) {
    let at = data
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR);
    let (resource, patch) = match at {
        Some(at) => (&data[..at], Some(&data[at + SEPARATOR.len()..])),
        None => (data, None),
    };
    let limits = parse::Limits {
        max_bytes: 1 << 20,
        ..parse::Limits::default()
    };
    let Ok(read) = parse::resource(resource, &limits) else {
        return;
    };
    assert_eq!(
        read.text.as_bytes(),
        resource,
        "the text is kept as it was sent"
    );
    drop(validate::resource(&read.value));
    let category = category::assign(&read.value);
    assert!(category.number() < 64);
    let _ = compartment::patient_of(&read.value);
    drop(search::extract(&read.resource_type, &read.value));
    if let Ok(edited) = text::set_id_and_meta(&read.text, ID, "7", UPDATED) {
        let again = parse::edited(edited.clone()).unwrap();
        assert_eq!(again.id.as_deref(), Some(ID));
        assert_eq!(again.value["meta"]["versionId"], "7");
        assert_eq!(again.value["meta"]["lastUpdated"], UPDATED);
        let twice = text::set_id_and_meta(&edited, ID, "7", UPDATED);
        assert_eq!(
            twice.as_deref(),
            Ok(edited.as_str()),
            "setting the same again changes nothing"
        );
    }
    let same = text::rewrite_references(&read.text, &|_| None);
    assert_eq!(same.as_deref(), Ok(read.text.as_str()));
    if let Some(patch) = patch
        && let Ok(patched) = patch::json_patch(&read, patch)
    {
        let patched = parse::edited(patched).unwrap();
        assert_eq!(patched.resource_type, read.resource_type);
        assert_eq!(patched.id, read.id);
    }
    if read.resource_type == "Bundle"
        && let Ok(plan) = bundle::parse(read)
    {
        let order = plan.processing_order();
        assert_eq!(order.len(), plan.entries.len());
        let assigned = order
            .iter()
            .map(|index| (*index, format!("a{index}")))
            .collect();
        let links = plan.links(&assigned);
        drop(plan.conditional_references());
        drop(links);
    }
}
