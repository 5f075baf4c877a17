//! Searches against a model in plain code, and the rules that a random world seldom meets.

mod model;
mod rules;
mod timeline;
mod world;

use proptest::prelude::*;
use stele_fhir::search::{
    Handling, Options,
    ast::{Query, Total},
    parse,
};

use model::Model;
use world::{NOW, World, world};

/// Reads a search as the gateway would.
pub(super) fn query(resource_type: &str, text: &str) -> Query {
    let pairs: Vec<(String, String)> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let options = Options {
        handling: Handling::Strict,
        now_ms: i64::try_from(NOW.0).unwrap(),
        count_max: 1_000,
        base_url: None,
    };
    let (query, warnings) = parse(resource_type, &pairs, &options)
        .unwrap_or_else(|issues| panic!("{text}: {issues:?}"));
    assert!(warnings.is_empty(), "{text}: {warnings:?}");
    query
}

/// Conditions on an Observation that the worlds below meet now and then.
const OBSERVATION: &[&str] = &[
    "code=c0",
    "code=http://s0|c1",
    "code=|c1",
    "code=http://s1|",
    "code:not=c0",
    "code:text=alp",
    "code=c0,c2",
    "code:missing=true",
    "subject=Patient/p0",
    "patient=p1",
    "subject=p0,p1",
    "subject:missing=false",
    "performer=Practitioner/d0",
    "performer:missing=true",
    "date=2020",
    "date=ge2020-06",
    "date=lt2021-01-01",
    "date=sa2020-03-15",
    "date=eb2020-07",
    "date=ne2020-03-15",
    "date=ap2020-05",
    "value-quantity=5",
    "value-quantity=gt5|http://u|mg",
    "value-quantity=le7||mg",
    "value-quantity=ne5.0",
    "value-quantity=ap6",
    "code-value-quantity=c0$gt4",
    "code-value-quantity=http://s0|c1$le6",
    "value-string=alpha",
    "value-string:contains=et",
    "value-string:exact=Alpha Béta",
    "_profile=http://p/a",
    "_profile:below=http://p",
    "_id=o1,o2,o3",
    "_lastUpdated=ge2026-01-02",
    "subject:Patient.name=ann",
    "patient.birthdate=lt1980",
    "performer:Practitioner.family=dorn",
    "_has:Provenance:target:agent=Practitioner/d0",
    "_has:Provenance:target:recorded=2020",
    "_content=alpha",
];

/// Conditions on a Patient.
const PATIENT: &[&str] = &[
    "name=ann",
    "family:exact=Ängström",
    "gender=female",
    "birthdate=ge1980",
    "_has:Observation:patient:code=c0",
    "_has:Observation:subject:date=2020",
    "gender:missing=true",
    "general-practitioner:Practitioner.family=dorn",
    "_id=p0,p2",
];

const OBSERVATION_SORT: &[&str] = &[
    "",
    "date",
    "-date",
    "code,-date",
    "-value-quantity",
    "-_lastUpdated",
    "_id",
    "patient,-code",
    "value-string",
];

fn conditions(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(of), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// What is found, counted and sorted is what plain code finds, for every viewer: consent holds on every hop.
    /// Paging gives each match once. (NFR-SEC2, NFR-PRI2)
    #[test]
    fn searches_agree_with_the_model(
        world in world(),
        asked in proptest::collection::vec((conditions(OBSERVATION), proptest::sample::select(OBSERVATION_SORT)), 6),
        people in proptest::collection::vec(conditions(PATIENT), 3),
        count in 1_u32..5,
    ) {
        let built = world.build();
        let model = Model::new(&world);
        for viewer in world.viewers() {
            for (conditions, sort) in &asked {
                let mut text = conditions.join("&");
                if !sort.is_empty() {
                    text = format!("{text}&_sort={sort}");
                }
                check(&built, &model, &viewer, "Observation", &text, count)?;
            }
            for conditions in &people {
                check(&built, &model, &viewer, "Patient", &conditions.join("&"), count)?;
            }
        }
    }

    /// An index emptied and filled again, in another order and other batches, gives the same answers.
    #[test]
    fn rebuilt_equals_followed(world in world(), asked in proptest::collection::vec(conditions(OBSERVATION), 4)) {
        let built = world.build();
        let before: Vec<_> = asked.iter().map(|conditions| ids(&built, &world, &conditions.join("&"))).collect();
        built.index.search().clear().unwrap();
        prop_assert!(!built.index.search().is_complete().unwrap());
        prop_assert_eq!(built.index.search().stats().unwrap().versions, 0);
        for version in world.versions().iter().rev() {
            built.index.search().put(std::slice::from_ref(version)).unwrap();
        }
        built.index.search().mark_complete().unwrap();
        prop_assert!(built.index.search().is_complete().unwrap());
        let blocks = world.blocks();
        built.index.chain().clear().unwrap();
        built.index.chain().apply_all(&blocks).unwrap();
        let after: Vec<_> = asked.iter().map(|conditions| ids(&built, &world, &conditions.join("&"))).collect();
        prop_assert_eq!(before, after);
    }
}

fn ids(built: &world::Built, world: &World, text: &str) -> Vec<Vec<String>> {
    let ids = |viewer| {
        let page = built
            .index
            .search()
            .search(&query("Observation", text), viewer, NOW)
            .unwrap();
        let mut ids: Vec<String> = page.matches.into_iter().map(|found| found.id).collect();
        ids.sort();
        ids
    };
    world.viewers().iter().map(ids).collect()
}

fn check(
    built: &world::Built,
    model: &Model<'_>,
    viewer: &crate::Viewer,
    resource_type: &str,
    text: &str,
    count: u32,
) -> Result<(), TestCaseError> {
    let mut query = query(resource_type, text);
    query.count = Some(count);
    query.total = Some(Total::Accurate);
    let expected = model.search(&query, viewer, NOW);
    let mut found = Vec::new();
    loop {
        let page = built.index.search().search(&query, viewer, NOW).unwrap();
        prop_assert_eq!(page.total, Some(expected.len() as u64), "{}", text);
        prop_assert!(page.matches.len() <= count as usize);
        found.extend(page.matches.into_iter().map(|found| found.id));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    let mut in_any_order: Vec<&String> = found.iter().collect();
    in_any_order.sort();
    let mut expected_in_any_order: Vec<&String> = expected.iter().map(|(id, _)| id).collect();
    expected_in_any_order.sort();
    prop_assert_eq!(in_any_order, expected_in_any_order, "{}", text);
    // Equal keys may stand in any order; the keys themselves may not.
    let keys: Vec<_> = found
        .iter()
        .map(|id| {
            expected
                .iter()
                .find(|(other, _)| other == id)
                .map(|(_, keys)| keys)
        })
        .collect();
    let expected: Vec<_> = expected.iter().map(|(_, keys)| Some(keys)).collect();
    prop_assert_eq!(keys, expected, "{}", text);
    Ok(())
}
