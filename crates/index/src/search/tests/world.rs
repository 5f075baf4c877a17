//! Small random worlds: patients, a directory, observations, grants, tombstones.

use alloy_primitives::{Address, B256, Log, aliases::U40};
use alloy_sol_types::SolEvent as _;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use stele_core::{
    abi::{consent::IConsent, records::IRecords},
    crypto::Secret32,
    id::{self, OrganizationId, PatientId},
    leaf::record_id,
    time::Timestamp,
};
use stele_fhir::search::{FullText, extract, full_text};

use crate::{FinalizedBlock, FinalizedLog, Index, NewVersion, Placement, Viewer};

/// The moment of all searches: 2026-06-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_780_272_000_000);

pub(crate) const PATIENTS: u8 = 3;

pub(crate) fn patient(number: u8) -> PatientId {
    PatientId(Address::repeat_byte(0x10 + number))
}

pub(crate) fn organization() -> Address {
    Address::repeat_byte(0xee)
}

pub(crate) fn clinician(number: u8) -> Address {
    Address::repeat_byte(0xc0 + number)
}

/// A resource of the world, in its newest version.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) json: Json,
    pub(crate) patient: Option<u8>,
    pub(crate) slot: u8,
    pub(crate) month: u16,
    pub(crate) deleted: bool,
    pub(crate) tombstoned: bool,
    /// Whether an earlier version, which says other things, came first.
    pub(crate) amended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct GrantGiven {
    pub(crate) patient: u8,
    pub(crate) grantee: u8,
    pub(crate) categories: u64,
    pub(crate) permissions: u8,
    pub(crate) purposes: u16,
    pub(crate) not_before: u64,
    pub(crate) expires: u64,
    pub(crate) records_from: u16,
    pub(crate) records_to: u16,
    pub(crate) revoked: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) resources: Vec<Resource>,
    pub(crate) grants: Vec<GrantGiven>,
}

/// An index filled with a world; the folder lives as long.
pub(crate) struct Built {
    pub(crate) index: Index,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn build(&self) -> Built {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path(), &Secret32::new([3; 32])).unwrap();
        for block in self.blocks() {
            index.chain().apply(&block).unwrap();
        }
        index.search().put(&self.versions()).unwrap();
        Built {
            index,
            _folder: folder,
        }
    }

    /// All versions, in order.
    pub(crate) fn versions(&self) -> Vec<NewVersion> {
        let mut versions = Vec::new();
        for (leaf, resource) in (0_u64..).zip(&self.resources) {
            let mut version = 1;
            if resource.amended {
                let mut earlier = resource.json.clone();
                // Nothing of it may be found once it is superseded.
                earlier["code"] = json!({"coding": [{"system": "http://s0", "code": "c0"}]});
                earlier["valueString"] = json!("alpha superseded");
                versions.push(self.version(resource, &earlier, version, leaf + 1_000, false));
                version += 1;
            }
            versions.push(self.version(resource, &resource.json, version, leaf, resource.deleted));
        }
        versions
    }

    fn version(
        &self,
        of: &Resource,
        json: &Json,
        version: u32,
        leaf: u64,
        deleted: bool,
    ) -> NewVersion {
        let resource_type = json["resourceType"].as_str().unwrap();
        let id = json["id"].as_str().unwrap();
        let owner = of.patient.map(patient);
        NewVersion {
            resource_type: resource_type.to_owned(),
            id: id.to_owned(),
            version,
            placement: Placement {
                record: record_id(OrganizationId(organization()), resource_type, id),
                log: owner.map_or_else(organization, |patient| patient.0),
                leaf,
                patient: owner,
                category_slot: of.slot,
                category: 1,
                month: of.month,
            },
            last_updated: last_updated(json),
            clinical_ms: None,
            deleted,
            values: if deleted {
                Vec::new()
            } else {
                extract(resource_type, json)
            },
            text: if deleted {
                FullText::default()
            } else {
                full_text(json)
            },
        }
    }

    /// The grants, their revocations and the tombstones, a block each.
    pub(crate) fn blocks(&self) -> Vec<FinalizedBlock> {
        let mut logs: Vec<Log> = Vec::new();
        for (number, grant) in (1_u32..).zip(&self.grants) {
            let (patient, grantee) = (patient(grant.patient).0, clinician(grant.grantee));
            logs.push(log(
                id::CONSENT,
                IConsent::Granted {
                    patient,
                    grantee,
                    id: number,
                    terms: IConsent::Terms {
                        categories: grant.categories,
                        permissions: grant.permissions,
                        purposes: grant.purposes,
                        notBefore: U40::from(grant.not_before),
                        expires: U40::from(grant.expires),
                        recordsFrom: grant.records_from,
                        recordsTo: grant.records_to,
                    },
                    envelopeDigest: B256::ZERO,
                    request: 0,
                }
                .encode_log_data(),
            ));
            if grant.revoked {
                logs.push(log(
                    id::CONSENT,
                    IConsent::Revoked {
                        patient,
                        grantee,
                        id: number,
                        directoryRoot: B256::ZERO,
                    }
                    .encode_log_data(),
                ));
            }
        }
        for (index, resource) in (0_u64..)
            .zip(&self.resources)
            .filter(|(_, resource)| resource.tombstoned)
        {
            logs.push(log(
                id::RECORDS,
                IRecords::Tombstoned {
                    log: resource
                        .patient
                        .map_or_else(organization, |number| patient(number).0),
                    index,
                    at: index + 10_000,
                    reason: 1,
                    author: organization(),
                    leaf: B256::ZERO,
                }
                .encode_log_data(),
            ));
        }
        blocks_of(logs)
    }

    pub(crate) fn viewers(&self) -> Vec<Viewer> {
        let viewer = |principals, purposes, directory| Viewer {
            principals,
            purposes,
            directory,
        };
        vec![
            viewer(vec![patient(0).0], 16, true),
            viewer(vec![clinician(0)], 1, true),
            viewer(vec![clinician(0), clinician(1)], 1, true),
            viewer(vec![clinician(1)], 3, false),
            viewer(Vec::new(), 1, true),
        ]
    }
}

pub(crate) fn log(address: Address, data: alloy_primitives::LogData) -> Log {
    Log { address, data }
}

/// One block for each log, from height 0.
pub(crate) fn blocks_of(logs: Vec<Log>) -> Vec<FinalizedBlock> {
    let block = |(height, log): (u64, Log)| FinalizedBlock {
        seating: None,
        height,
        hash: B256::repeat_byte(u8::try_from(height % 256).unwrap()),
        timestamp: Timestamp(1_000 * height),
        logs: vec![FinalizedLog {
            tx_hash: B256::repeat_byte(9),
            tx_index: 0,
            log_index: 0,
            log,
        }],
    };
    (0..).zip(logs).map(block).collect()
}

fn last_updated(json: &Json) -> Timestamp {
    let day = json["meta"]["lastUpdated"].as_str().unwrap();
    let day: u64 = day["2026-01-0".len()..="2026-01-0".len()].parse().unwrap();
    // 2026-01-01T00:00:00Z and some days.
    Timestamp((1_767_225_600 + (day - 1) * 86_400) * 1_000)
}

prop_compose! {
    fn observation()(
        code in 0_u8..4,
        system in 0_u8..3,
        display in proptest::option::of(proptest::sample::select(vec!["Alpha", "alp", "Beta"])),
        subject in proptest::option::weighted(0.9, 0..PATIENTS),
        performer in proptest::option::of(0_u8..2),
        date in proptest::option::weighted(0.9, proptest::sample::select(vec![
            "2020", "2020-03", "2020-03-15", "2020-06-30T10:00:00Z", "2021-01-01", "2019-12-31",
        ])),
        value in prop_oneof![
            (1_u32..9, 0_u8..3).prop_map(|(amount, unit)| match unit {
                0 => json!({"valueQuantity": {"value": amount}}),
                1 => json!({"valueQuantity": {"value": amount, "system": "http://u", "code": "mg", "unit": "mg"}}),
                _ => json!({"valueQuantity": {"value": amount, "unit": "mg"}}),
            }),
            proptest::sample::select(vec!["Alpha Béta", "beta", "alphabet", "gamma"])
                .prop_map(|text| json!({"valueString": text})),
            Just(json!({})),
        ],
        profile in proptest::option::of(proptest::sample::select(vec!["http://p/a", "http://p/a/b", "http://q"])),
        day in 1_u8..5,
        slot in proptest::sample::select(vec![0_u8, 1, 63]),
        month in 100_u16..104,
        fate in 0_u8..10,
    ) -> Resource {
        let mut json = json!({"resourceType": "Observation", "status": "final"});
        json["meta"] = json!({"lastUpdated": format!("2026-01-0{day}T00:00:00Z")});
        if let Some(profile) = profile {
            json["meta"]["profile"] = json!([profile]);
        }
        if code < 3 {
            let mut coding = json!({"code": format!("c{code}")});
            if system < 2 {
                coding["system"] = json!(format!("http://s{system}"));
            }
            if let Some(display) = display {
                coding["display"] = json!(display);
            }
            json["code"] = json!({"coding": [coding]});
        }
        if let Some(subject) = subject {
            json["subject"] = json!({"reference": format!("Patient/p{subject}")});
        }
        if let Some(performer) = performer {
            json["performer"] = json!([{"reference": format!("Practitioner/d{performer}")}]);
        }
        if let Some(date) = date {
            json["effectiveDateTime"] = json!(date);
        }
        for (name, member) in value.as_object().unwrap() {
            json[name] = member.clone();
        }
        // An Observation of nobody is filed under the first patient here, so that it has an owner.
        let patient = Some(subject.unwrap_or(0));
        Resource { json, patient, slot, month, deleted: fate == 0, tombstoned: fate == 1, amended: fate < 4 }
    }
}

prop_compose! {
    fn grant()(
        (patient, grantee) in (0..PATIENTS, 0_u8..2),
        categories in proptest::sample::select(vec![0b01_u64, 0b10, 0b11, 1 << 63, u64::MAX, (1 << 63) | 1]),
        permissions in proptest::sample::select(vec![1_u8, 1, 1, 2, 3]),
        purposes in proptest::sample::select(vec![1_u16, 1, 3, 2, u16::MAX]),
        (starts, ends) in (0_u8..4, 0_u8..4),
        (records_from, records_to) in proptest::sample::select(vec![(0, u16::MAX), (0, u16::MAX), (101, 102), (0, 100)]),
        revoked in proptest::bool::weighted(0.2),
    ) -> GrantGiven {
        let now = NOW.seconds();
        GrantGiven {
            patient, grantee, categories, permissions, purposes,
            not_before: if starts == 0 { now + 1 } else { now },
            expires: if ends == 0 { now } else { now + 1 },
            records_from, records_to, revoked,
        }
    }
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let observations = proptest::collection::vec(observation(), 0..16);
    let grants = proptest::collection::vec(grant(), 0..8);
    let provenances =
        proptest::collection::vec((0_u8..16, 0_u8..2, 0..PATIENTS, proptest::bool::ANY), 0..5);
    (observations, grants, provenances).prop_map(|(observations, grants, provenances)| {
        let mut resources = fixed();
        for (number, mut resource) in observations.into_iter().enumerate() {
            resource.json["id"] = json!(format!("o{number}"));
            resources.push(resource);
        }
        for (number, (target, agent, patient, recent)) in provenances.into_iter().enumerate() {
            let json = json!({
                "resourceType": "Provenance", "id": format!("v{number}"),
                "meta": {"lastUpdated": "2026-01-01T00:00:00Z"},
                "target": [{"reference": format!("Observation/o{target}")}],
                "recorded": if recent { "2020-05-05T00:00:00Z" } else { "2019-05-05T00:00:00Z" },
                "agent": [{"who": {"reference": format!("Practitioner/d{agent}")}}],
            });
            resources.push(plain(json, Some(patient)));
        }
        World { resources, grants }
    })
}

/// The people of every world.
fn fixed() -> Vec<Resource> {
    let meta = json!({"lastUpdated": "2026-01-01T00:00:00Z"});
    vec![
        plain(
            json!({"resourceType": "Patient", "id": "p0", "meta": meta, "gender": "female", "birthDate": "1984-03",
            "name": [{"family": "Ängström", "given": ["Ann"]}],
            "generalPractitioner": [{"reference": "Practitioner/d0"}]}),
            Some(0),
        ),
        plain(
            json!({"resourceType": "Patient", "id": "p1", "meta": meta, "birthDate": "1975",
            "name": [{"family": "Annan", "given": ["Bo"]}]}),
            Some(1),
        ),
        plain(
            json!({"resourceType": "Patient", "id": "p2", "meta": meta, "gender": "female", "birthDate": "1990-01-01",
            "name": [{"family": "Cole"}]}),
            Some(2),
        ),
        plain(
            json!({"resourceType": "Practitioner", "id": "d0", "meta": meta, "name": [{"family": "Dorn"}]}),
            None,
        ),
        plain(
            json!({"resourceType": "Practitioner", "id": "d1", "meta": meta, "name": [{"family": "Egli"}]}),
            None,
        ),
    ]
}

fn plain(json: Json, patient: Option<u8>) -> Resource {
    Resource {
        json,
        patient,
        slot: 0,
        month: 101,
        deleted: false,
        tombstoned: false,
        amended: false,
    }
}
