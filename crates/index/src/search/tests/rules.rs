//! Rules that a random world seldom meets.

use alloy_primitives::{Address, B256, aliases::U40};
use alloy_sol_types::SolEvent as _;
use serde_json::{Value as Json, json};
use stele_core::{
    abi::{consent::IConsent, identity::IIdentity},
    crypto::Secret32,
    id::{self, OrganizationId, PatientId, RecordId},
    leaf::record_id,
    time::Timestamp,
};
use stele_fhir::search::{FullText, extract, full_text};

use super::{
    query,
    world::{NOW, blocks_of, clinician, log, organization, patient},
};
use crate::{Error, Index, NewVersion, Page, Placement, Viewer};

const KEY: Secret32 = Secret32::new([4; 32]);

pub(super) fn open() -> (tempfile::TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path(), &KEY).unwrap();
    (folder, index)
}

fn record(json: &Json) -> RecordId {
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    record_id(
        OrganizationId(organization()),
        &text("resourceType"),
        &text("id"),
    )
}

pub(super) fn version(
    json: &Json,
    owner: Option<PatientId>,
    slot: u8,
    version: u32,
    leaf: u64,
) -> NewVersion {
    let resource_type = json["resourceType"].as_str().unwrap();
    NewVersion {
        resource_type: resource_type.to_owned(),
        id: json["id"].as_str().unwrap().to_owned(),
        version,
        placement: Placement {
            record: record(json),
            log: owner.map_or_else(organization, |patient| patient.0),
            leaf,
            patient: owner,
            category_slot: slot,
            category: slot,
            month: 100,
        },
        last_updated: Timestamp(1_000 * u64::from(version)),
        clinical_ms: Some(-5),
        deleted: false,
        values: extract(resource_type, json),
        text: full_text(json),
    }
}

/// The patient lets a clinician see slot 1 only.
pub(super) fn grant_slot_one(index: &Index) {
    let granted = IConsent::Granted {
        patient: patient(0).0,
        grantee: clinician(0),
        id: 1,
        terms: IConsent::Terms {
            categories: 0b10,
            permissions: 1,
            purposes: 1,
            notBefore: U40::ZERO,
            expires: U40::MAX,
            recordsFrom: 0,
            recordsTo: u16::MAX,
        },
        envelopeDigest: B256::ZERO,
        request: 0,
    };
    let logs = vec![log(id::CONSENT, granted.encode_log_data())];
    index.chain().apply_all(&blocks_of(logs)).unwrap();
}

pub(super) fn viewer(principal: Address) -> Viewer {
    Viewer {
        principals: vec![principal],
        purposes: 1,
        directory: true,
    }
}

fn names(page: &Page) -> (Vec<&str>, Vec<&str>) {
    (
        page.matches
            .iter()
            .map(|version| version.id.as_str())
            .collect(),
        page.includes
            .iter()
            .map(|version| version.id.as_str())
            .collect(),
    )
}

/// A patient's observation with a doctor and an encounter in another category.
fn record_of_one() -> Vec<NewVersion> {
    let owner = Some(patient(0));
    let patient = json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Needlework"}]});
    let doctor = json!({"resourceType": "Practitioner", "id": "d", "name": [{"family": "Dorn"}]});
    let encounter =
        json!({"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/p"}});
    let observation = json!({"resourceType": "Observation", "id": "o",
        "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5", "display": "Needlecount"}]},
        "subject": {"reference": "Patient/p"}, "encounter": {"reference": "Encounter/e"},
        "performer": [{"reference": "Practitioner/d"}, {"reference": "Practitioner/gone"}]});
    vec![
        version(&patient, owner, 0, 1, 0),
        version(&doctor, None, 0, 1, 0),
        version(&encounter, owner, 2, 1, 1),
        version(&observation, owner, 1, 1, 2),
    ]
}

/// What is included is seen under the same consent as what is found. (NFR-SEC2)
#[test]
fn includes_show_what_the_viewer_may_see() {
    let (_folder, index) = open();
    grant_slot_one(&index);
    index.search().put(&record_of_one()).unwrap();
    let search = |kind, text, who| {
        index
            .search()
            .search(&query(kind, text), &viewer(who), NOW)
            .unwrap()
    };
    let all = "code=1234-5&_include=Observation:subject&_include=Observation:encounter&_include=Observation:performer";
    let page = search("Observation", all, clinician(0));
    assert_eq!(names(&page), (vec!["o"], vec!["d"]));
    let page = search("Observation", all, patient(0).0);
    assert_eq!(names(&page), (vec!["o"], vec!["p", "e", "d"]));
    let page = search("Observation", "_include=Observation:*", patient(0).0);
    assert_eq!(page.includes.len(), 3);
    let page = search(
        "Practitioner",
        "_id=d&_revinclude=Observation:performer",
        clinician(0),
    );
    assert_eq!(names(&page), (vec!["d"], vec!["o"]));
    let page = search(
        "Practitioner",
        "_id=d&_revinclude=Observation:performer",
        clinician(1),
    );
    assert_eq!(names(&page), (vec!["d"], vec![]));
    let page = search("Patient", "_summary=count", clinician(0));
    assert_eq!((page.total, page.matches.len()), (Some(0), 0));
}

/// What a viewer may not see helps to find nothing, however it is asked for, and an ended grant opens nothing.
/// (NFR-SEC2)
#[test]
fn consent_holds_on_every_hop_and_ends_with_the_grant() {
    let (_folder, index) = open();
    grant_slot_one(&index);
    index.search().put(&record_of_one()).unwrap();
    let count = |kind, text, who, now| {
        let page = index
            .search()
            .search(&query(kind, text), &viewer(who), now)
            .unwrap();
        page.matches.len()
    };
    let own = patient(0).0;
    for (kind, text, seen, granted) in [
        ("Observation", "code=1234-5", 1, 1),
        ("Observation", "subject:Patient.name=needlework", 1, 0),
        (
            "Observation",
            "code=1234-5&subject:Patient.name=needlework",
            1,
            0,
        ),
        ("Observation", "performer:Practitioner.family=dorn", 1, 1),
        (
            "Practitioner",
            "_has:Observation:performer:code=1234-5",
            1,
            1,
        ),
        (
            "Practitioner",
            "family=dorn&_has:Observation:performer:code=1234-5",
            1,
            1,
        ),
        ("Patient", "_has:Observation:patient:code=1234-5", 1, 0),
        ("Encounter", "_id=e", 1, 0),
        ("Encounter", "_has:Observation:encounter:code=1234-5", 1, 0),
    ] {
        assert_eq!(count(kind, text, own, NOW), seen, "{kind}?{text}");
        assert_eq!(
            count(kind, text, clinician(0), NOW),
            granted,
            "{kind}?{text}"
        );
        let directory = usize::from(kind == "Practitioner" && !text.contains("_has"));
        assert_eq!(
            count(kind, text, clinician(1), NOW),
            directory,
            "{kind}?{text}"
        );
    }
    let revoked = IConsent::Revoked {
        patient: own,
        grantee: clinician(0),
        id: 1,
        directoryRoot: B256::ZERO,
    };
    let mut block = blocks_of(vec![log(id::CONSENT, revoked.encode_log_data())]).remove(0);
    block.height = 1;
    index.chain().apply(&block).unwrap();
    assert_eq!(count("Observation", "code=1234-5", clinician(0), NOW), 0);
    let by_source = "_has:Observation:performer:code=1234-5";
    assert_eq!(count("Practitioner", by_source, clinician(0), NOW), 0);
    assert_eq!(count("Observation", "code=1234-5", own, NOW), 1);
}

/// Whoever is suspended sees nothing, whatever grants there are; so do the members of a suspended organisation.
#[test]
fn suspended_accounts_see_nothing() {
    let (_folder, index) = open();
    index.search().put(&record_of_one()).unwrap();
    grant_slot_one(&index);
    let ask = || {
        let query = query("Observation", "code=1234-5");
        let own = viewer(clinician(0));
        let found = index
            .search()
            .search(&query, &own, NOW)
            .unwrap()
            .matches
            .len();
        let read = index
            .search()
            .read("Observation", "o", None, &own, NOW)
            .unwrap();
        assert_eq!(found, usize::from(read.is_some()));
        found
    };
    let mut height = 0;
    let mut follow = |event: alloy_primitives::LogData| {
        height += 1;
        let mut block = blocks_of(vec![log(id::IDENTITY, event)]).remove(0);
        (block.height, block.hash) = (height, B256::ZERO);
        index.chain().apply(&block).unwrap();
    };
    let update = |account, status| {
        IIdentity::AccountUpdated {
            account,
            status,
            roles: 0,
            commitment: B256::ZERO,
        }
        .encode_log_data()
    };
    assert_eq!(ask(), 1);
    for (account, kind) in [(organization(), 1), (clinician(0), 2)] {
        let registered = IIdentity::AccountRegistered {
            account,
            kind,
            sponsor: organization(),
            roles: 0,
            commitment: B256::ZERO,
        };
        follow(registered.encode_log_data());
    }
    assert_eq!(ask(), 1);
    for account in [organization(), clinician(0)] {
        follow(update(account, 2));
        assert_eq!(ask(), 0);
        follow(update(account, 1));
        assert_eq!(ask(), 1);
    }
}

#[test]
fn everything_is_what_the_viewer_may_see_of_it() {
    let (_folder, index) = open();
    grant_slot_one(&index);
    index.search().put(&record_of_one()).unwrap();
    let everything = |who, cursor: Option<&str>, limit| {
        index
            .search()
            .everything(patient(0), None, cursor, limit, &viewer(who), NOW)
            .unwrap()
    };
    assert_eq!(
        names(&everything(clinician(0), None, 10)),
        (vec!["o"], vec!["d"])
    );
    assert_eq!(names(&everything(clinician(1), None, 10)), (vec![], vec![]));
    let first = everything(patient(0).0, None, 2);
    let second = everything(patient(0).0, first.next.as_deref(), 2);
    assert_eq!(
        [names(&first).0, names(&second).0].concat(),
        ["p", "e", "o"]
    );
    assert_eq!(second.next, None);
    let other = index.search().everything(
        patient(1),
        None,
        first.next.as_deref(),
        2,
        &viewer(patient(1).0),
        NOW,
    );
    assert!(matches!(other, Err(Error::Cursor)));
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story of one resource, told through every list"
)]
fn versions_are_listed_read_and_deleted() {
    let (_folder, index) = open();
    let owner = Some(patient(0));
    let json = json!({"resourceType": "Condition", "id": "c", "code": {"text": "Needle"}});
    let mut deleted = version(&json, owner, 1, 3, 12);
    (deleted.deleted, deleted.values, deleted.text) = (true, Vec::new(), FullText::default());
    // The newest comes first here, and the same again: neither changes the answers.
    let second = version(&json, owner, 1, 2, 11);
    index
        .search()
        .put(&[second.clone(), version(&json, owner, 2, 1, 10), second])
        .unwrap();
    let own = viewer(patient(0).0);
    let read = |number| {
        index
            .search()
            .read("Condition", "c", number, &own, NOW)
            .unwrap()
    };
    assert_eq!(read(None).unwrap().version, 2);
    assert_eq!(read(Some(1)).unwrap().placement.leaf, 10);
    assert_eq!(read(Some(9)), None);
    index.search().put(&[deleted]).unwrap();
    assert!(read(None).unwrap().deleted);
    let found = index
        .search()
        .search(&query("Condition", "code:missing=false"), &own, NOW)
        .unwrap();
    assert_eq!(found.matches, []);
    let list = |before| {
        index
            .search()
            .history("Condition", "c", before, 2, &own, NOW)
            .unwrap()
    };
    assert_eq!(
        list(None)
            .iter()
            .map(|version| version.version)
            .collect::<Vec<_>>(),
        [3, 2]
    );
    assert_eq!(
        list(Some(2))
            .iter()
            .map(|version| version.version)
            .collect::<Vec<_>>(),
        [1]
    );
    let typed = |before: Option<&crate::ResourceVersion>| {
        index
            .search()
            .history_type("Condition", Timestamp(0), before, 2, &own, NOW)
            .unwrap()
    };
    let first = typed(None);
    assert_eq!(
        first
            .iter()
            .map(|version| version.version)
            .collect::<Vec<_>>(),
        [3, 2]
    );
    assert_eq!(
        typed(first.last())
            .iter()
            .map(|version| version.version)
            .collect::<Vec<_>>(),
        [1]
    );
    // The grant opens slot 1 only: the first version, which was in slot 2, is not in what the clinician sees.
    grant_slot_one(&index);
    let seen = index
        .search()
        .history("Condition", "c", None, 9, &viewer(clinician(0)), NOW)
        .unwrap();
    assert_eq!(
        seen.iter()
            .map(|version| version.version)
            .collect::<Vec<_>>(),
        [3, 2]
    );
    assert_eq!(
        index
            .search()
            .locate("Condition", "c")
            .unwrap()
            .unwrap()
            .version,
        3
    );
    assert_eq!(
        index.search().leaf_of(record(&json), 2).unwrap(),
        Some((patient(0).0, 11))
    );
    assert_eq!(
        index
            .search()
            .at_leaf(patient(0).0, 10)
            .unwrap()
            .unwrap()
            .version,
        1
    );
    assert_eq!(index.search().leaves_indexed(patient(0).0).unwrap(), 3);
}

#[test]
fn wrong_versions_are_refused_and_leave_nothing() {
    let (_folder, index) = open();
    let json = json!({"resourceType": "Condition", "id": "c", "code": {"text": "x"}});
    let good = version(&json, Some(patient(0)), 1, 1, 0);
    let wrong = [
        NewVersion {
            version: 0,
            ..good.clone()
        },
        NewVersion {
            placement: Placement {
                category_slot: 64,
                ..good.placement.clone()
            },
            ..good.clone()
        },
        NewVersion {
            placement: Placement {
                log: organization(),
                ..good.placement.clone()
            },
            ..good.clone()
        },
    ];
    for wrong in wrong {
        assert!(matches!(
            index.search().put(&[good.clone(), wrong]),
            Err(Error::Version { .. })
        ));
    }
    let unknown = NewVersion {
        resource_type: "Nothing".to_owned(),
        ..good.clone()
    };
    assert!(matches!(
        index.search().put(&[good.clone(), unknown]),
        Err(Error::ResourceType(_))
    ));
    // Two versions cannot stand at one leaf.
    let same_leaf = NewVersion {
        version: 2,
        ..good.clone()
    };
    assert!(matches!(
        index.search().put(&[good.clone(), same_leaf]),
        Err(Error::Sql { .. })
    ));
    assert_eq!(index.search().stats().unwrap().versions, 0);
    index.search().put(&[good]).unwrap();
    assert_eq!(index.search().stats().unwrap().versions, 1);
}

fn holds(folder: &std::path::Path, needle: &str) -> bool {
    let has = |path: std::path::PathBuf| {
        std::fs::read(path)
            .unwrap()
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    };
    std::fs::read_dir(folder)
        .unwrap()
        .any(|entry| has(entry.unwrap().path()))
}

/// Everything that a search index knows of a record, in the file opened with its key.
fn contents(index: &Index) -> String {
    let reader = index.search().file.reader().unwrap();
    let mut all = String::new();
    for table in [
        "names",
        "concepts",
        "strings",
        "versions",
        "texts_data",
        "tokens",
        "refs",
        "ranges",
        "accounts",
    ] {
        let mut statement = reader.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for at in 0..columns {
                match row.get_ref(at).unwrap() {
                    rusqlite::types::ValueRef::Text(bytes)
                    | rusqlite::types::ValueRef::Blob(bytes) => {
                        all.push_str(&String::from_utf8_lossy(bytes));
                    }
                    _ => all.push('.'),
                }
            }
        }
    }
    all
}

/// An erased record leaves no value behind, in no table and no dictionary; others stay. (NFR-PRI2)
#[test]
fn erasure_and_purge_leave_nothing() {
    let (_folder, index) = open();
    let versions = record_of_one();
    index.search().put(&versions).unwrap();
    assert!(contents(&index).contains("1234-5"));
    assert_eq!(
        index
            .search()
            .erase(&[versions[3].placement.record])
            .unwrap(),
        1
    );
    let left = contents(&index);
    for gone in ["1234-5", "needlecount", "gone"] {
        assert!(!left.contains(gone), "{gone}");
    }
    assert!(left.contains("needlework") && left.contains("dorn"));
    assert_eq!(
        index
            .search()
            .erase(&[versions[3].placement.record])
            .unwrap(),
        0
    );

    // Purging slot 0 takes the patient resource and leaves the encounter in slot 2.
    assert_eq!(index.search().purge(patient(0), 0b1).unwrap(), 1);
    assert!(!contents(&index).contains("needlework"));
    assert_eq!(index.search().stats().unwrap().resources, 2);
    // What was purged can be indexed again, when access is given again.
    index.search().put(&versions).unwrap();
    let own = viewer(patient(0).0);
    let page = index
        .search()
        .search(
            &query("Observation", "patient=p&_content=needlecount"),
            &own,
            NOW,
        )
        .unwrap();
    assert_eq!(page.matches.len(), 1);
    assert_eq!(index.search().purge(patient(0), u64::MAX).unwrap(), 3);
    assert!(!contents(&index).contains("needle"));
}

/// A stolen disk yields ciphertext: no file holds a value, before and after the log is moved into it. (NFR-SEC1)
#[test]
fn files_hold_no_clear_text_and_open_with_their_key_only() {
    let (folder, index) = open();
    index.search().put(&record_of_one()).unwrap();
    for needle in ["Needle", "needle", "1234-5", "SQLite format 3"] {
        assert!(!holds(folder.path(), needle), "{needle}");
    }
    drop(index);
    for needle in ["Needle", "needle", "1234-5", "SQLite format 3"] {
        assert!(!holds(folder.path(), needle), "{needle}");
    }
    let other = Index::open(folder.path(), &Secret32::new([9; 32]));
    assert!(matches!(other, Err(Error::Key { .. })), "{other:?}");
    let index = Index::open(folder.path(), &KEY).unwrap();
    let own = viewer(patient(0).0);
    let page = index
        .search()
        .search(&query("Observation", "patient=p"), &own, NOW)
        .unwrap();
    assert_eq!(page.matches.len(), 1);
}

/// One flipped byte is an error, never another answer. (NFR-INT2)
#[test]
fn a_flipped_byte_is_never_served() {
    let (folder, index) = open();
    index.search().put(&record_of_one()).unwrap();
    drop(index);
    let path = folder.path().join("search.db");
    let whole = std::fs::read(&path).unwrap();
    let own = viewer(patient(0).0);
    let ask = || -> crate::Result<usize> {
        let index = Index::open(folder.path(), &KEY)?;
        let page =
            index
                .search()
                .search(&query("Observation", "patient=p&code=1234-5"), &own, NOW)?;
        Ok(page.matches.len())
    };
    assert_eq!(ask().unwrap(), 1);
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        for log in ["search.db-wal", "search.db-shm"] {
            drop(std::fs::remove_file(folder.path().join(log)));
        }
        // Pages that the question does not need may be the bad ones.
        assert!(matches!(ask(), Err(_) | Ok(1)), "byte {at}");
    }
}

#[test]
fn a_newer_file_is_refused() {
    let (folder, index) = open();
    index
        .search()
        .writer
        .lock()
        .connection
        .pragma_update(None, "user_version", 99)
        .unwrap();
    drop(index);
    let refused = Index::open(folder.path(), &KEY);
    assert!(
        matches!(
            refused,
            Err(Error::Newer {
                found: 99,
                known: 2,
                ..
            })
        ),
        "{refused:?}"
    );
}

/// An index whose parameter numbers mean something else is emptied and says so.
#[test]
fn another_catalogue_empties_the_index() {
    let (folder, index) = open();
    index.search().put(&record_of_one()).unwrap();
    index.search().mark_complete().unwrap();
    drop(index);
    let index = Index::open(folder.path(), &KEY).unwrap();
    assert!(index.search().is_complete().unwrap());
    index
        .search()
        .writer
        .lock()
        .connection
        .execute("UPDATE meta SET value = 7 WHERE key = 'catalogue'", [])
        .unwrap();
    drop(index);
    let index = Index::open(folder.path(), &KEY).unwrap();
    assert!(!index.search().is_complete().unwrap());
    assert_eq!(index.search().stats().unwrap().versions, 0);
}
