//! A record of two thousand entries, page by page.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, Log};
use alloy_sol_types::SolEvent as _;
use serde_json::{Value as Json, json};
use stele_core::{abi::records::IRecords, id};
use stele_fhir::search::{FullText, begin_ms};

use super::{
    rules::{grant_slot_one, open, version, viewer},
    world::{NOW, blocks_of, clinician, log, patient},
};
use crate::{Ended, Error, Index, Listing, NewVersion, Page, Placement};

/// Entries of the record.
const ENTRIES: u64 = 2_000;
/// Entries of a page.
const PAGE: u32 = 50;

/// The entry at a place of the log: one of four kinds in turn, every tenth without a date, many with the same one.
fn entry(number: u64) -> Json {
    let (resource_type, name) = match number % 4 {
        0 => ("Observation", ["Potassium", "Sodium"]),
        1 => ("Condition", ["Asthma", "Migraine"]),
        2 => ("MedicationRequest", ["Amoxicillin", "Ibuprofen"]),
        _ => ("Encounter", ["Visit", "Check-up"]),
    };
    let name = name[usize::try_from(number / 4 % 2).unwrap()];
    let mut json = json!({"resourceType": resource_type, "id": format!("r{number}")});
    let code = json!({"coding": [{"system": "http://s", "code": name, "display": name}]});
    let day = format!(
        "20{:02}-{:02}-{:02}",
        number * 7 % 23,
        1 + number % 12,
        1 + number % 28
    );
    let is_dated = !number.is_multiple_of(10);
    let mut put = |member: &str, value: Json| {
        json.as_object_mut()
            .unwrap()
            .insert(member.to_owned(), value);
    };
    match resource_type {
        "Observation" => {
            put("code", code);
            put(
                "encounter",
                json!({"reference": format!("Encounter/r{}", number + 3)}),
            );
            if is_dated {
                put(
                    "effectiveDateTime",
                    json!(format!("{day}T{:02}:30:00+02:00", number % 24)),
                );
            }
        }
        "Condition" => {
            put("code", code);
            let state = ["active", "resolved", "remission"][usize::try_from(number % 3).unwrap()];
            put("clinicalStatus", json!({"coding": [{"code": state}]}));
            if is_dated {
                put("onsetDateTime", json!(day));
            }
        }
        "MedicationRequest" => {
            put("medicationCodeableConcept", code);
            let state = ["active", "stopped"][usize::try_from(number / 8 % 2).unwrap()];
            put("status", json!(state));
            if is_dated {
                put("authoredOn", json!(day));
            }
        }
        _ => {
            put("type", json!([code]));
            if is_dated {
                put("period", json!({"start": day}));
            }
        }
    }
    json
}

/// A version of an entry as the writer gives it to the index.
fn indexed(number: u64, json: &Json, its_version: u32, leaf: u64) -> NewVersion {
    let slot = u8::try_from(number % 4).unwrap();
    NewVersion {
        clinical_ms: stele_fhir::compartment::clinical_date(json).and_then(begin_ms),
        ..version(json, Some(patient(0)), slot, its_version, leaf)
    }
}

/// When an entry is sorted, as the model has it.
fn when(version: &NewVersion) -> i64 {
    version
        .clinical_ms
        .unwrap_or_else(|| version.last_updated.0.cast_signed())
}

/// The order in which the index came to know the entries: an encounter with the first that points at it.
fn known(number: u64) -> u64 {
    if number % 4 == 3 {
        2 * (number - 3) + 1
    } else {
        2 * number
    }
}

fn filled() -> (tempfile::TempDir, Index, Vec<NewVersion>) {
    let (folder, index) = open();
    grant_slot_one(&index);
    let record: Vec<NewVersion> = (0..ENTRIES)
        .map(|number| indexed(number, &entry(number), 1, number))
        .collect();
    index.search().put(&record).unwrap();
    // Somebody else's, which must be on no page.
    let other =
        json!({"resourceType": "Observation", "id": "other", "code": {"text": "Potassium"}});
    index
        .search()
        .put(&[version(&other, Some(patient(1)), 0, 1, 0)])
        .unwrap();
    (folder, index, record)
}

fn list(index: &Index, listing: &Listing) -> Page {
    index
        .search()
        .list(listing, &viewer(patient(0).0), NOW)
        .unwrap()
}

/// All pages of a listing, by id.
fn all(index: &Index, listing: Listing) -> Vec<String> {
    let mut listing = listing;
    let mut ids = Vec::new();
    loop {
        let page = list(index, &listing);
        assert!(page.matches.len() <= usize::try_from(listing.limit).unwrap());
        ids.extend(page.matches.into_iter().map(|one| one.id));
        match page.next {
            Some(next) => listing.after = Some(next),
            None => return ids,
        }
    }
}

/// FR-P04: every entry of a long record is on exactly one page, newest first, and filters take away what they should.
#[test]
fn pages_are_in_order_complete_and_without_doubles() {
    let (_folder, index, record) = filled();
    let kept = |keeps: &dyn Fn(&NewVersion) -> bool| -> Vec<String> {
        let mut kept: Vec<&NewVersion> = record.iter().filter(|one| keeps(one)).collect();
        // Entries of one moment: the one that the index knew last first.
        kept.sort_by_key(|one| std::cmp::Reverse((when(one), known(one.placement.leaf))));
        kept.into_iter().map(|one| one.id.clone()).collect()
    };
    let whole = Listing::of(patient(0), PAGE);
    assert_eq!(all(&index, whole.clone()), kept(&|_| true));
    let (from, until) = (
        begin_ms("2010-03-01").unwrap(),
        begin_ms("2012-01-01").unwrap(),
    );
    let narrow = Listing {
        categories: vec![0, 2],
        from_ms: Some(from),
        until_ms: Some(until),
        counted: true,
        ..whole.clone()
    };
    let expected =
        kept(&|one| [0, 2].contains(&one.placement.category) && (from..until).contains(&when(one)));
    assert!(
        expected.len() > usize::try_from(PAGE).unwrap(),
        "{}",
        expected.len()
    );
    assert_eq!(list(&index, &narrow).total, Some(expected.len() as u64));
    assert_eq!(all(&index, narrow), expected);
    let without = Listing {
        without: vec!["Encounter", "Condition"],
        ..whole.clone()
    };
    assert_eq!(
        all(&index, without),
        kept(&|one| !["Encounter", "Condition"].contains(&one.resource_type.as_str()))
    );
    let named = Listing {
        named: "POTASS".into(),
        ..whole.clone()
    };
    assert_eq!(
        all(&index, named),
        kept(&|one| one.resource_type == "Observation"
            && one.id[1..].parse::<u64>().unwrap() / 4 % 2 == 0)
    );
    let alike = Listing {
        alike: Some(("Observation".into(), "r4".into())),
        ..whole
    };
    assert_eq!(
        all(&index, alike),
        kept(&|one| one.resource_type == "Observation"
            && one.id[1..].parse::<u64>().unwrap() / 4 % 2 == 1)
    );
}

/// What ended stands behind what lasts, over all pages; a list of what lasts names each once.
#[test]
fn what_ended_comes_last_or_not_at_all() {
    let (_folder, index, record) = filled();
    let lasts = |one: &NewVersion| {
        let number: u64 = one.id[1..].parse().unwrap();
        match one.resource_type.as_str() {
            "Condition" => number.is_multiple_of(3),
            "MedicationRequest" => (number / 8).is_multiple_of(2),
            _ => false,
        }
    };
    let by_id: BTreeMap<&str, &NewVersion> =
        record.iter().map(|one| (one.id.as_str(), one)).collect();
    let two = Listing {
        categories: vec![1, 2],
        ended: Ended::Last,
        ..Listing::of(patient(0), PAGE)
    };
    let listed = all(&index, two.clone());
    assert_eq!(listed.len(), usize::try_from(ENTRIES / 2).unwrap());
    let keys: Vec<(bool, i64, u64)> = listed
        .iter()
        .map(|id| by_id[id.as_str()])
        .map(|one| (lasts(one), when(one), known(one.placement.leaf)))
        .collect();
    assert!(keys.is_sorted_by(|a, b| a >= b));
    let current = Listing {
        ended: Ended::LeftOut,
        ..two
    };
    let listed = all(&index, current.clone());
    assert_eq!(
        listed.len(),
        keys.iter().filter(|(lasts, ..)| *lasts).count()
    );
    assert!(listed.iter().all(|id| lasts(by_id[id.as_str()])));
    let once = list(
        &index,
        &Listing {
            once: true,
            limit: 3,
            ..current
        },
    );
    assert_eq!(
        (once.total, once.matches.len(), once.next),
        (Some(4), 3, None)
    );
    assert_eq!(once.matches[0].id, listed[0]);
}

/// A later version of an entry, which says something more.
fn amended(number: u64, leaf: u64) -> NewVersion {
    let mut json = entry(number);
    json["note"] = json!([{"text": "amended"}]);
    indexed(number, &json, 2, leaf)
}

/// What the ledger says of an erased version.
fn erasure(place: &Placement, at: u64) -> Log {
    let erased = IRecords::Tombstoned {
        log: place.log,
        index: place.leaf,
        at,
        reason: 1,
        author: place.log,
        leaf: B256::ZERO,
    };
    log(id::RECORDS, erased.encode_log_data())
}

/// Entries that are there all the while are listed once, whatever is added, amended, deleted or erased between two pages;
/// what is gone is on no later page.
#[test]
fn a_record_that_changes_is_still_listed_whole() {
    let (_folder, index, record) = filled();
    let mut listing = Listing::of(patient(0), PAGE);
    let order = all(&index, listing.clone());
    let number = |id: &str| id[1..].parse::<u64>().unwrap();
    let mut seen: Vec<String> = Vec::new();
    let mut gone = BTreeSet::new();
    let mut blocks = Vec::new();
    // Every version has a leaf of its own.
    let mut leaf = 10_000..;
    let mut next_leaf = move || leaf.next().unwrap();
    for round in 0..40_u64 {
        let page = list(&index, &listing);
        for one in &page.matches {
            assert!(!gone.contains(&one.id), "{} was taken away before", one.id);
            seen.push(one.id.clone());
        }
        let Some(next) = page.next else { break };
        listing.after = Some(next);
        if round % 4 != 1 {
            continue;
        }
        // One of the page just seen and one of a page to come are amended, two to come go, one new is added.
        let ahead: Vec<&String> = order
            .iter()
            .filter(|id| !seen.contains(id))
            .step_by(17)
            .collect();
        let [changed, deleted, erased, ..] = ahead.as_slice() else {
            break;
        };
        for id in [seen.last().unwrap(), *changed] {
            // Without a clinical date the moment of recording counts, which an amendment moves.
            if !number(id).is_multiple_of(10) {
                let amended = amended(number(id), next_leaf());
                index.search().put(&[amended]).unwrap();
            }
        }
        let mut deletion = indexed(number(deleted), &entry(number(deleted)), 2, next_leaf());
        (deletion.deleted, deletion.values, deletion.text) =
            (true, Vec::new(), FullText::default());
        index.search().put(&[deletion]).unwrap();
        let place = &record[usize::try_from(number(erased)).unwrap()].placement;
        blocks.push(erasure(place, 50_000 + round));
        // The grant's block is the first.
        let all = blocks_of(
            std::iter::repeat_n(blocks[0].clone(), 1)
                .chain(blocks.clone())
                .collect(),
        );
        index.chain().apply(all.last().unwrap()).unwrap();
        gone.extend([(*deleted).clone(), (*erased).clone()]);
        let mut newest = entry(1);
        newest["id"] = json!(format!("r{}", 1_000_001 + round));
        newest["onsetDateTime"] = json!("2026-01-01");
        index
            .search()
            .put(&[indexed(1, &newest, 1, next_leaf())])
            .unwrap();
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "an entry was listed twice");
    assert!(gone.len() >= 10, "{}", gone.len());
    for id in order.iter().filter(|id| !gone.contains(*id)) {
        assert!(unique.contains(id), "{id} was on no page");
    }
}

/// The viewer's grant decides about every page, its encounters and its total.
#[test]
fn a_page_holds_what_the_viewer_may_see() {
    let (_folder, index, _) = filled();
    let listing = Listing {
        counted: true,
        ..Listing::of(patient(0), PAGE)
    };
    let ask = |who| index.search().list(&listing, &viewer(who), NOW).unwrap();
    let own = ask(patient(0).0);
    assert_eq!(own.total, Some(ENTRIES));
    let observations = own
        .matches
        .iter()
        .filter(|one| one.resource_type == "Observation");
    let encounters: BTreeSet<String> = observations
        .map(|one| format!("r{}", one.id[1..].parse::<u64>().unwrap() + 3))
        .collect();
    assert!(!encounters.is_empty());
    let included: BTreeSet<String> = own.includes.into_iter().map(|one| one.id).collect();
    assert_eq!(included, encounters);
    let granted = ask(clinician(0));
    assert_eq!(
        (granted.total, granted.includes),
        (Some(ENTRIES / 4), Vec::new())
    );
    assert!(
        granted
            .matches
            .iter()
            .all(|one| one.placement.category_slot == 1)
    );
    assert_eq!(ask(clinician(1)).total, Some(0));
    // A page's end belongs to its own listing.
    let narrower = Listing {
        categories: vec![0],
        after: own.next,
        ..listing.clone()
    };
    let refused = index.search().list(&narrower, &viewer(patient(0).0), NOW);
    assert!(matches!(refused, Err(Error::Cursor)));
}
