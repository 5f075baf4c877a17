//! What the ledger costs its members: bytes, and no money.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, aliases::U40, keccak256};
use alloy_sol_types::{SolCall as _, SolEvent as _};
use stele_chain::{
    Chain, PoolLimits,
    state::{MemoryStore, State, StateOptions, Store, Table},
};
use stele_core::{
    abi::{consent::IConsent, records::IRecords},
    account::AccountKey,
    id::{CONSENT, RECORDS},
};

use crate::support::{call, chain, execute, genesis, hospital, key, register_patient, signed};

/// Leaves of a batch, the most there may be.
const LEAVES: usize = 256;

/// A chain whose rows can be counted.
struct Counted {
    store: Arc<MemoryStore>,
    chain: Chain,
    batches: u64,
}

impl Counted {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let rows: Arc<dyn Store> = store.clone();
        let state = State::over(rows, StateOptions::default()).unwrap();
        let chain = Chain::over(state, &genesis(false), PoolLimits::default()).unwrap();
        Self {
            store,
            chain,
            batches: 0,
        }
    }

    fn rows(&self, table: Table) -> (usize, usize) {
        let all = self
            .store
            .snapshot()
            .range(table, &[], &[0xff; 80], usize::MAX)
            .unwrap();
        let bytes = all.iter().map(|(key, value)| key.len() + value.len()).sum();
        (all.len(), bytes)
    }

    /// Nodes of the state's tries.
    fn nodes(&self) -> usize {
        self.rows(Table::AccountNodes).0 + self.rows(Table::StorageNodes).0
    }

    /// Bytes of everything the chain keeps.
    fn bytes(&self) -> usize {
        Table::ALL.iter().map(|table| self.rows(*table).1).sum()
    }

    /// A patient for whom the hospital may write.
    fn admit(&self, patient: &AccountKey) {
        register_patient(&self.chain, patient.address());
        let grant = write_grant(hospital().address());
        let receipt = execute(&self.chain, call(patient, 0, CONSENT, grant));
        assert!(receipt.receipt.success);
    }

    /// Anchors one full batch over some logs.
    fn anchor(&mut self, logs: &[Address]) {
        let each = LEAVES / logs.len();
        let entries = logs.iter().enumerate().map(|(part, log)| IRecords::Entry {
            log: *log,
            categories: vec![1; each].into(),
            leaves: (0..each)
                .map(|leaf| keccak256(format!("{}/{part}/{leaf}", self.batches)))
                .collect(),
        });
        let anchor = IRecords::anchorCall {
            entries: entries.collect(),
            author: hospital().address(),
            custodian: hospital().address(),
            storageSignature: Bytes::new(),
        };
        let nonce = self.chain.pending_nonce(hospital().address()).unwrap();
        let to = TxKind::Call(RECORDS);
        let signed = signed(
            &hospital(),
            nonce,
            to,
            anchor.abi_encode().into(),
            20_000_000,
        );
        assert!(execute(&self.chain, signed).receipt.success);
        self.batches += 1;
    }
}

fn write_grant(grantee: Address) -> IConsent::grantCall {
    IConsent::grantCall {
        grantee,
        terms: IConsent::Terms {
            categories: 0xff,
            permissions: 2,
            purposes: 1,
            notBefore: U40::ZERO,
            expires: U40::from(4_000_000_000_u64),
            recordsFrom: 0,
            recordsTo: 1_000,
        },
        envelopeDigest: B256::repeat_byte(2),
        request: 0,
    }
}

/// NFR-SCA1, LIM-04: state grows with patients, not with records. Forty times the records of the same patients add a
/// few peaks to each log; new patients add what patients take.
#[test]
fn state_grows_with_patients_not_with_records() {
    let mut counted = Counted::new();
    let patients: Vec<AccountKey> = (20..28).map(key).collect();
    let logs: Vec<Address> = patients.iter().map(AccountKey::address).collect();
    patients.iter().for_each(|patient| counted.admit(patient));
    counted.anchor(&logs);
    let before = counted.nodes();
    for _ in 0..39 {
        counted.anchor(&logs);
    }
    let many = counted.nodes();
    // A log of 32 leaves has one peak, one of 1,280 has two; the words between them were never more than six.
    let of_one_log = 2 * 6;
    assert!(
        many - before <= logs.len() * of_one_log,
        "{before} nodes became {many} with forty times the records"
    );
    let more: Vec<AccountKey> = (30..38).map(key).collect();
    more.iter().for_each(|patient| counted.admit(patient));
    counted.anchor(&more.iter().map(AccountKey::address).collect::<Vec<_>>());
    assert!(
        counted.nodes() >= many + 2 * more.len(),
        "patients take state"
    );
}

/// NFR-SCA1, LIM-04: at most 200 bytes of chain for a record anchored in full batches, everything counted: blocks,
/// receipts, indices, state.
#[test]
fn a_record_in_a_batch_takes_at_most_200_bytes() {
    let mut counted = Counted::new();
    let patients: Vec<AccountKey> = (20..24).map(key).collect();
    let logs: Vec<Address> = patients.iter().map(AccountKey::address).collect();
    patients.iter().for_each(|patient| counted.admit(patient));
    counted.anchor(&logs);
    let before = counted.bytes();
    const BATCHES: usize = 20;
    for _ in 0..BATCHES {
        counted.anchor(&logs);
    }
    let each = (counted.bytes() - before) / (BATCHES * LEAVES);
    assert!((64..=200).contains(&each), "{each} bytes for a record");
}

/// NFR-COST, LIM-02: gas has no price, so somebody without any balance grants and revokes, and still has none; nobody
/// has any.
#[test]
fn nobody_pays() {
    let chain = chain(false);
    let (patient, doctor) = (key(40), key(41));
    register_patient(&chain, patient.address());
    register_patient(&chain, doctor.address());
    let grant = write_grant(doctor.address());
    let granted = execute(&chain, call(&patient, 0, CONSENT, grant));
    let event = &granted.receipt.logs[0];
    let event = IConsent::Granted::decode_log(event).unwrap();
    let revoke = IConsent::revokeCall {
        grantee: doctor.address(),
        id: event.id,
        directoryRoot: B256::ZERO,
    };
    let revoked = execute(&chain, call(&patient, 1, CONSENT, revoke));
    for receipt in [granted, revoked] {
        assert!(receipt.receipt.success);
        assert!(receipt.gas_used > 21_000, "work is counted");
    }
    let view = chain.view();
    for account in [&patient, &doctor, &hospital()] {
        let balance = view.account(account.address()).unwrap().map(|a| a.balance);
        assert_eq!(balance.unwrap_or_default(), U256::ZERO);
    }
}
