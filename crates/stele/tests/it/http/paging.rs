//! Pages: followed to their end nothing comes twice and nothing is missing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Bed, link, name, observation};
use crate::node::{demo, patient};

fn matches(entries: &[Value]) -> Vec<String> {
    let matches = entries
        .iter()
        .filter(|entry| entry["search"]["mode"] == "match");
    matches.filter_map(name).collect()
}

/// Searches with and without an order, `$everything` and includes over the demonstration's bundles.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_to_the_end() {
    let bed = Bed::new();
    let imported = bed
        .folder
        .json(&["import", demo().to_str().unwrap(), "--json"]);
    assert_eq!(imported["failed"], 0, "{imported}");
    let total = |search: &str| {
        let search = format!("{search}_total=accurate&_count=1");
        let bed = &bed;
        async move {
            bed.get(&search).await.is(200).json()["total"]
                .as_u64()
                .unwrap()
        }
    };
    for (search, count) in [
        ("Observation?", 97),
        ("Observation?_sort=-date&", 50),
        ("Observation?_sort=code,date&category=laboratory&", 31),
        ("Encounter?_include=Encounter:patient&", 13),
        ("Condition?patient.birthdate=gt1900&_sort=_lastUpdated&", 7),
    ] {
        let found = matches(&bed.all_pages(&format!("{search}_count={count}")).await);
        let once: BTreeSet<&String> = found.iter().collect();
        assert!(found.len() > count, "{search} has several pages");
        assert_eq!(found.len(), once.len(), "{search}: nothing twice");
        assert_eq!(
            u64::try_from(found.len()).unwrap(),
            total(search).await,
            "{search}: nothing missing"
        );
    }
    let first = bed.get("Patient?_count=1").await.is(200).json();
    let id = first["entry"][0]["resource"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let whole = matches(&bed.all_pages(&format!("Patient/{id}/$everything")).await);
    let paged = matches(
        &bed.all_pages(&format!("Patient/{id}/$everything?_count=10"))
            .await,
    );
    assert!(whole.len() > 20, "{}", whole.len());
    assert_eq!(whole, paged);
    assert_eq!(paged.iter().collect::<BTreeSet<_>>().len(), paged.len());
    bed.get("Patient/none/$everything").await.problem(404);
    bed.get("Group/none/$everything").await.problem(404);
    bed.node.stop();
}

/// What is written while a client follows pages neither repeats nor hides what was there; cursors are of one search.
#[tokio::test(flavor = "multi_thread")]
async fn pages_bear_writes_in_between() {
    let bed = Bed::with("default_count = 2\nmax_count = 3\n");
    bed.put(&patient("p1")).await.is(201);
    for n in 0..8_u8 {
        bed.put(&observation(&format!("o{n}"), "p1", "718-7", n.into()))
            .await
            .is(201);
    }
    let page = bed
        .get("Observation?_sort=value-quantity")
        .await
        .is(200)
        .json();
    assert_eq!(page["entry"].as_array().unwrap().len(), 2, "the default");
    let most = bed.get("Observation?_count=500").await.is(200).json();
    assert_eq!(most["entry"].as_array().unwrap().len(), 3, "the largest");
    bed.put(&observation("low", "p1", "718-7", 0.5))
        .await
        .is(201);
    bed.put(&observation("high", "p1", "718-7", 6.5))
        .await
        .is(201);
    let next = link(&page, "next").unwrap();
    let rest: Vec<String> = bed.all_pages(&next).await.iter().filter_map(name).collect();
    let expected =
        ["o2", "o3", "o4", "o5", "o6", "high", "o7"].map(|id| format!("Observation/{id}"));
    assert_eq!(rest, expected);
    let (_, cursor) = next.split_once("_cursor=").unwrap();
    bed.get(&format!("Observation?_sort=date&_cursor={cursor}"))
        .await
        .problem(400);
    bed.get("Observation?_cursor=nonsense").await.problem(400);
    bed.node.stop();
}
