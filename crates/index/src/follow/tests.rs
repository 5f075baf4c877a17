//! Following the chain: what each event leaves behind, and that following again changes nothing.

use alloy_primitives::{Address, B256, Bytes, Log, U256, aliases::U40};
use alloy_sol_types::SolEvent;
use proptest::prelude::*;
use stele_core::{
    abi::{
        audit::IAudit, consent::IConsent, emergency::IEmergency, governance::IGovernance,
        identity::IIdentity, prescriptions::IPrescriptions, records::IRecords,
    },
    block::Validator,
    consent::Permissions,
    crypto::Secret32,
    id::{self, PatientId},
    time::Timestamp,
};

use super::{ChainIndex, FinalizedBlock, FinalizedLog, Seated};
use crate::{Error, grants::RequestStatus};

fn open() -> (tempfile::TempDir, ChainIndex) {
    let folder = tempfile::tempdir().unwrap();
    let index = ChainIndex::open(folder.path(), &Secret32::new([5; 32])).unwrap();
    (folder, index)
}

fn log(address: Address, event: &impl SolEvent) -> Log {
    Log {
        address,
        data: event.encode_log_data(),
    }
}

fn block(height: u64, logs: Vec<Log>) -> FinalizedBlock {
    let logs = (0..)
        .zip(logs)
        .map(|(log_index, log)| FinalizedLog {
            tx_hash: B256::from(U256::from(height * 1_000 + log_index / 2)),
            tx_index: log_index / 2,
            log_index,
            log,
        })
        .collect();
    FinalizedBlock {
        seating: None,
        height,
        hash: B256::from(U256::from(height + 1)),
        timestamp: Timestamp(height * 1_000),
        logs,
    }
}

fn terms(categories: u64) -> IConsent::Terms {
    IConsent::Terms {
        categories,
        permissions: 1,
        purposes: 1,
        notBefore: U40::ZERO,
        expires: U40::from(100),
        recordsFrom: 0,
        recordsTo: u16::MAX,
    }
}

const A: Address = Address::repeat_byte(0xaa);
const B: Address = Address::repeat_byte(0xbb);
const P: Address = Address::repeat_byte(0x11);

/// One event of every kind.
#[expect(clippy::too_many_lines, reason = "a list of events, one of every kind")]
fn chain() -> Vec<FinalizedBlock> {
    let one = B256::repeat_byte(1);
    vec![
        block(0, Vec::new()),
        block(
            1,
            vec![
                log(
                    id::IDENTITY,
                    &IIdentity::OrganizationRegistered {
                        organization: A,
                        kind: 2,
                        endpointsDigest: one,
                        keysDigest: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::AccountRegistered {
                        account: P,
                        kind: 3,
                        sponsor: A,
                        roles: 0,
                        commitment: B256::ZERO,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::AccountRegistered {
                        account: B,
                        kind: 2,
                        sponsor: A,
                        roles: 5,
                        commitment: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::AccountUpdated {
                        account: B,
                        status: 2,
                        roles: 4,
                        commitment: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::OrganizationUpdated {
                        organization: A,
                        endpointsDigest: B256::ZERO,
                        keysDigest: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::OriginAllowed {
                        organization: A,
                        originDigest: one,
                        allowed: true,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::KeyAdded {
                        account: P,
                        keyId: one,
                        kind: 1,
                        rpIdHash: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::AccountClaimed {
                        account: P,
                        keyId: one,
                    },
                ),
                log(
                    id::IDENTITY,
                    &IIdentity::KeyRemoved {
                        account: P,
                        keyId: B256::repeat_byte(2),
                    },
                ),
            ],
        ),
        block(
            2,
            vec![
                log(
                    id::RECORDS,
                    &IRecords::Anchored {
                        log: P,
                        author: B,
                        first: 0,
                        root: one,
                        categories: Bytes::from_static(&[3, 63]),
                        leaves: vec![B256::repeat_byte(7), B256::repeat_byte(8)],
                    },
                ),
                log(
                    id::RECORDS,
                    &IRecords::Tombstoned {
                        log: P,
                        index: 1,
                        at: 2,
                        reason: 4,
                        author: B,
                        leaf: B256::repeat_byte(9),
                    },
                ),
                log(
                    id::RECORDS,
                    &IRecords::Anchored {
                        log: P,
                        author: A,
                        first: 3,
                        root: one,
                        categories: Bytes::from_static(&[5]),
                        leaves: vec![B256::repeat_byte(10)],
                    },
                ),
                log(
                    id::RECORDS,
                    &IRecords::Disputed {
                        log: P,
                        index: 0,
                        by: P,
                        reason: 2,
                    },
                ),
                log(
                    id::RECORDS,
                    &IRecords::CustodyTransferred {
                        log: P,
                        from: A,
                        to: B,
                    },
                ),
            ],
        ),
        block(
            3,
            vec![
                log(
                    id::CONSENT,
                    &IConsent::Requested {
                        patient: P,
                        requester: B,
                        request: 1,
                        detailsDigest: one,
                        expires: U40::from(50),
                    },
                ),
                log(
                    id::CONSENT,
                    &IConsent::Requested {
                        patient: P,
                        requester: A,
                        request: 2,
                        detailsDigest: one,
                        expires: U40::from(50),
                    },
                ),
                log(
                    id::CONSENT,
                    &IConsent::Declined {
                        patient: P,
                        requester: A,
                        request: 2,
                    },
                ),
                log(
                    id::CONSENT,
                    &IConsent::Granted {
                        patient: P,
                        grantee: B,
                        id: 7,
                        terms: terms(1 << 63),
                        envelopeDigest: one,
                        request: 1,
                    },
                ),
                log(
                    id::CONSENT,
                    &IConsent::Granted {
                        patient: P,
                        grantee: B,
                        id: 8,
                        terms: terms(2),
                        envelopeDigest: one,
                        request: 0,
                    },
                ),
                log(
                    id::CONSENT,
                    &IConsent::Revoked {
                        patient: P,
                        grantee: B,
                        id: 8,
                        directoryRoot: one,
                    },
                ),
                log(
                    id::AUDIT,
                    &IAudit::ReceiptsAnchored {
                        organization: A,
                        first: 0,
                        count: 3,
                        root: one,
                        head: one,
                    },
                ),
            ],
        ),
        block(
            4,
            vec![
                log(
                    id::PRESCRIPTIONS,
                    &IPrescriptions::Issued {
                        id: A,
                        prescriber: A,
                        commitment: one,
                        portions: 3,
                        expires: U40::from(9),
                    },
                ),
                log(
                    id::PRESCRIPTIONS,
                    &IPrescriptions::Dispensed {
                        id: A,
                        dispenser: B,
                        sequence: 0,
                        portions: 1,
                        left: 2,
                    },
                ),
                log(
                    id::PRESCRIPTIONS,
                    &IPrescriptions::Cancelled { id: A, by: B },
                ),
                log(
                    id::EMERGENCY,
                    &IEmergency::Opened {
                        patient: P,
                        clinician: B,
                        number: 1,
                        grantId: 5,
                        reason: 2,
                        detailsDigest: one,
                        until: U40::from(9),
                    },
                ),
                log(
                    id::EMERGENCY,
                    &IEmergency::Reviewed {
                        number: 1,
                        patient: P,
                        reviewer: A,
                        verdict: 1,
                        detailsDigest: one,
                    },
                ),
                log(
                    id::GOVERNANCE,
                    &IGovernance::Proposed {
                        id: 1,
                        proposer: A,
                        kind: 4,
                        payload: Bytes::from_static(b"x"),
                        deadline: U40::from(9),
                    },
                ),
                log(
                    id::GOVERNANCE,
                    &IGovernance::Voted {
                        id: 1,
                        voter: A,
                        support: true,
                        yes: 1,
                        no: 0,
                        needed: 1,
                    },
                ),
                log(id::GOVERNANCE, &IGovernance::Executed { id: 1, kind: 4 }),
                log(
                    id::GOVERNANCE,
                    &IGovernance::ParameterSet {
                        key: one,
                        value: U256::from(60_000),
                    },
                ),
                log(
                    id::GOVERNANCE,
                    &IGovernance::DeployerSet {
                        account: B,
                        allowed: true,
                    },
                ),
                log(
                    id::GOVERNANCE,
                    &IGovernance::ValidatorSet {
                        key: one,
                        organization: A,
                        seated: true,
                    },
                ),
            ],
        ),
    ]
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one question for every kind of event"
)]
fn every_event_is_answered_from() {
    let (_folder, index) = open();
    index.apply_all(&chain()).unwrap();
    assert_eq!(index.height().unwrap(), Some(4));

    let dispensed = index.dispensings_of(A).unwrap();
    assert_eq!(
        (dispensed.len(), dispensed[0].dispenser, dispensed[0].left),
        (1, B, 2)
    );
    assert_eq!(index.dispensings_by(B, 9).unwrap(), dispensed);
    assert_eq!(index.cancellation_of(A).unwrap().unwrap().0, B);
    let openings = index.openings_of(PatientId(P), 9).unwrap();
    assert_eq!((openings[0].number, openings[0].clinician), (1, B));
    assert_eq!(openings[0].review.as_ref().unwrap().verdict, 1);
    assert_eq!(index.openings_by_staff_of(A, 9).unwrap(), openings);

    let account = index.account(B).unwrap().unwrap();
    assert_eq!(
        (account.kind, account.status, account.roles, account.sponsor),
        (2, 2, 4, A)
    );
    assert_eq!(account.registered.height, 1);
    assert_eq!(index.accounts_of(A, 3).unwrap().len(), 1);
    let organizations = index.organizations().unwrap();
    assert_eq!(
        (
            organizations.len(),
            organizations[0].kind,
            organizations[0].endpoints
        ),
        (1, 2, B256::ZERO)
    );
    assert_eq!(index.origins_of(A).unwrap(), [B256::repeat_byte(1)]);
    let keys = index.keys_of(P).unwrap();
    assert_eq!(
        keys.iter().map(|key| key.removed).collect::<Vec<_>>(),
        [false, true]
    );

    let leaves = index.leaves_of(P, 0, 10).unwrap();
    let seen: Vec<_> = leaves
        .iter()
        .map(|leaf| (leaf.index, leaf.leaf.0[0], leaf.category_slot))
        .collect();
    assert_eq!(
        seen,
        [
            (0, 7, Some(3)),
            (1, 8, Some(63)),
            (2, 9, None),
            (3, 10, Some(5))
        ]
    );
    assert_eq!(index.log_size(P).unwrap(), 4);
    for leaf in &leaves {
        assert_eq!(index.leaf(P, leaf.index).unwrap().as_ref(), Some(leaf));
        assert_eq!(&index.leaves_of(P, leaf.index, 1).unwrap()[0], leaf);
    }
    assert_eq!(index.leaf(P, 4).unwrap(), None);
    let asked = index.commitments(P, &[3, 0, 2, 2, 4, u64::MAX]).unwrap();
    let at = |place: usize| (leaves[place].index, leaves[place].leaf);
    assert_eq!(asked, [at(0), at(2), at(3)].into());
    assert!(index.commitments(Address::ZERO, &[0]).unwrap().is_empty());
    assert_eq!(index.tombstones_of(P).unwrap()[0].index, 1);
    assert_eq!(index.custodian_of(P).unwrap(), Some(B));
    assert_eq!(index.disputes_of(P).unwrap()[0].0, 0);

    let patient = PatientId(P);
    let grants = index.grants_of(patient).unwrap();
    assert_eq!(
        grants
            .iter()
            .map(|grant| grant.revoked.is_some())
            .collect::<Vec<_>>()
            .len(),
        2
    );
    assert_eq!(index.grants_to(B).unwrap().len(), 2);
    let open = |at| {
        index.open_categories(
            patient,
            &[B],
            Permissions::READ,
            1,
            500,
            Timestamp::from_seconds(at),
        )
    };
    assert_eq!((open(99).unwrap(), open(100).unwrap()), (1 << 63, 0));
    let statuses: Vec<_> = index
        .requests_of(patient)
        .unwrap()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(statuses, [RequestStatus::Declined, RequestStatus::Granted]);
    assert_eq!(
        index.directory_root(patient).unwrap(),
        Some(B256::repeat_byte(1))
    );
    let expired = index
        .grants_expired(Timestamp(0), Timestamp::from_seconds(100))
        .unwrap();
    assert_eq!(
        expired.iter().map(|grant| grant.id).collect::<Vec<_>>(),
        [7]
    );

    assert_eq!(index.audit_head(A).unwrap(), (3, B256::repeat_byte(1)));
    assert_eq!(index.receipt_batches(A, 2).unwrap().len(), 1);
    assert_eq!(index.receipt_batches(A, 3).unwrap().len(), 0);
    let proposals = index.proposals().unwrap();
    assert_eq!(
        (proposals[0].status, proposals[0].votes.as_slice()),
        (2, [(A, true)].as_slice())
    );
    assert_eq!(
        index.parameter(B256::repeat_byte(1)).unwrap(),
        Some(U256::from(60_000))
    );
    assert_eq!(index.deployers().unwrap(), [B]);
    assert_eq!(index.validators().unwrap(), [(B256::repeat_byte(1), A)]);
    let stats = index.stats().unwrap();
    assert_eq!(
        (stats.leaves, stats.logs, stats.grants, stats.receipts),
        (4, 1, 2, 3)
    );
}

/// Seats that were given by hand take the place of all there were, without an event.
#[test]
fn seats_given_by_hand_take_the_place_of_all_others() {
    let (_folder, index) = open();
    index.apply_all(&chain()).unwrap();
    let key = B256::repeat_byte(7);
    let mut next = block(5, Vec::new());
    next.seating = Some(Seated {
        validators: vec![Validator {
            key,
            organization: P,
        }],
        suspended: vec![A],
    });
    index.apply(&next).unwrap();
    assert_eq!(index.validators().unwrap(), [(key, P)]);
    assert_eq!(index.account(A).unwrap().unwrap().status, 2);
}

/// Everything the file holds, table by table.
fn dump(index: &ChainIndex) -> Vec<String> {
    let reader = index.file().reader().unwrap();
    let tables: Vec<String> = reader
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let mut statement = reader.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<_> = (0..columns)
                .map(|at| row.get::<_, rusqlite::types::Value>(at).unwrap())
                .collect();
            rows.push(format!("{table} {values:?}"));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// In whatever batches blocks come, also when some come again, the file holds the same; and so it does when it
    /// is emptied and follows from the start. (NFR-INT1)
    #[test]
    fn rebuilt_equals_followed(steps in proptest::collection::vec((0_usize..5, 1_usize..6), 1..8)) {
        let blocks = chain();
        let (_folder, whole) = open();
        whole.apply_all(&blocks).unwrap();
        let (_other_folder, index) = open();
        let mut reached = 0;
        for (from, length) in steps {
            let from = from.min(reached);
            let to = (from + length).min(blocks.len());
            index.apply_all(&blocks[from..to]).unwrap();
            reached = reached.max(to);
        }
        index.apply_all(&blocks).unwrap();
        prop_assert_eq!(dump(&index), dump(&whole));
        index.clear().unwrap();
        prop_assert_eq!(index.height().unwrap(), None);
        index.apply_all(&blocks).unwrap();
        prop_assert_eq!(dump(&index), dump(&whole));
    }
}

#[test]
fn gaps_and_other_chains_are_refused_whole() {
    let (_folder, index) = open();
    let blocks = chain();
    assert!(matches!(
        index.apply(&blocks[2]),
        Err(Error::Gap {
            expected: 0,
            found: 2
        })
    ));
    index.apply_all(&blocks[..2]).unwrap();
    let before = dump(&index);
    assert!(matches!(
        index.apply(&blocks[3]),
        Err(Error::Gap {
            expected: 2,
            found: 3
        })
    ));
    let other = FinalizedBlock {
        seating: None,
        hash: B256::ZERO,
        ..blocks[1].clone()
    };
    assert!(matches!(
        index.apply(&other),
        Err(Error::Diverged { height: 1, .. })
    ));
    // A log that is no event of its contract: nothing of the block, nor of the one before it, is written.
    let unknown = Log {
        address: id::CONSENT,
        data: alloy_primitives::LogData::new_unchecked(vec![B256::ZERO], Bytes::new()),
    };
    let bad = block(3, vec![unknown]);
    assert!(matches!(
        index.apply_all(&[blocks[2].clone(), bad]),
        Err(Error::Event {
            height: 3,
            contract: "Consent",
            ..
        })
    ));
    assert_eq!(dump(&index), before);
}
