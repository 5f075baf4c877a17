//! The whole state: blocks against a model, proofs, forks, crashes, damage.

mod crash;
mod damage;
mod model;
mod parts;

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::{Address, Bytes, Log, LogData, U256, address, b256};
use alloy_trie::{Nibbles, proof::verify_proof};
use proptest::prelude::*;
use revm::DatabaseRef;

use self::model::{Model, Step, apply, genesis, next_block, steps};
use super::*;

fn fill(slots: u64) -> Vec<Step> {
    let owner = Address::repeat_byte(1);
    let mut out = vec![Step::Account {
        who: owner,
        nonce: 1,
        balance: 5,
        code: 0,
    }];
    out.extend((0..slots).map(|slot| Step::Slot {
        who: owner,
        slot,
        value: slot + 1,
    }));
    out
}

fn check_proofs(view: &StateView, model: &Model) {
    for who in model::addresses() {
        let slots: Vec<_> = (0..4).map(U256::from).collect();
        let proof = view.proof(who, &slots).unwrap();
        let key = Nibbles::unpack(keccak256(who));
        let value = proof.account.as_ref().map(alloy_rlp::encode);
        verify_proof(view.state_root(), key, value, &proof.proof).unwrap();
        assert_eq!(proof.account, model.account(who));
        let root = proof
            .account
            .map_or(alloy_trie::EMPTY_ROOT_HASH, |account| account.storage_root);
        for slot in proof.storage {
            let key = Nibbles::unpack(keccak256(slot.slot.to_be_bytes::<32>()));
            let value = (!slot.value.is_zero()).then(|| alloy_rlp::encode(slot.value));
            verify_proof(root, key, value, &slot.proof).unwrap();
            assert_eq!(slot.value, model.slot(who, slot.slot));
            assert_eq!(view.storage_ref(who, slot.slot).unwrap(), slot.value);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any blocks give the state root of the model computed from scratch, both while they are only executed on top
    /// of each other and after they are committed; proofs, also of absence, verify with alloy; the full check passes.
    #[test]
    fn blocks_equal_the_model(blocks in prop::collection::vec(steps(), 1..6), lag in 0_usize..4) {
        let state = State::in_memory().unwrap();
        let mut model = Model::default();
        let mut executed = vec![genesis(&state, &[], &mut model)];
        let mut committed = 0;
        for steps in &blocks {
            let parent = executed.last().unwrap().hash();
            let block = next_block(&state, parent, steps, &mut model);
            let view = state.view_on(block.hash()).unwrap();
            prop_assert_eq!(view.state_root(), model.root());
            prop_assert_eq!(block.header.state_root, model.root());
            check_proofs(&view, &model);
            executed.push(block);
            while committed + lag < executed.len() {
                prop_assert_eq!(state.commit(&executed[committed], &[], b"c").unwrap(), Commit::Written);
                committed += 1;
            }
        }
        for block in &executed[committed..] {
            state.commit(block, &[], b"c").unwrap();
        }
        let latest = state.latest();
        prop_assert_eq!(latest.state_root(), model.root());
        check_proofs(&latest, &model);
        let verified = latest.verify(&mut |_| {}).unwrap();
        prop_assert_eq!(verified.blocks, executed.len() as u64);
        prop_assert_eq!(verified.accounts, model.accounts.len() as u64);
    }
}

#[test]
fn forks_stand_side_by_side_and_the_loser_is_forgotten() {
    let state = State::in_memory().unwrap();
    let mut left = Model::default();
    let start = genesis(&state, &fill(40), &mut left);
    state.commit(&start, &[], b"").unwrap();
    let mut right = left.clone();
    let who = Address::repeat_byte(1);
    let left_block = next_block(
        &state,
        start.hash(),
        &[Step::Slot {
            who,
            slot: 1,
            value: 77,
        }],
        &mut left,
    );
    let right_block = next_block(&state, start.hash(), &[Step::Destroy { who }], &mut right);
    let on_right = next_block(
        &state,
        right_block.hash(),
        &[Step::Account {
            who,
            nonce: 3,
            balance: 0,
            code: 1,
        }],
        &mut right,
    );
    let view = |block: &Block| state.view_on(block.hash());
    assert_eq!(
        view(&left_block).unwrap().slot(who, U256::from(1)).unwrap(),
        U256::from(77)
    );
    assert_eq!(
        view(&on_right).unwrap().slot(who, U256::from(1)).unwrap(),
        U256::ZERO
    );
    assert_eq!(view(&on_right).unwrap().state_root(), right.root());
    let before = view(&left_block).unwrap();
    state.commit(&left_block, &[], b"").unwrap();
    assert!(matches!(view(&on_right), Err(Error::UnknownBlock { .. })));
    assert!(matches!(
        view(&right_block),
        Err(Error::UnknownBlock { .. })
    ));
    assert_eq!(view(&left_block).unwrap().state_root(), left.root());
    assert_eq!(
        before.slot(who, U256::from(1)).unwrap(),
        U256::from(77),
        "old views stay valid"
    );
    assert!(matches!(
        state.commit(&right_block, &[], b""),
        Err(Error::Conflict {
            height: 1,
            part: "block",
            ..
        })
    ));
    state.latest().verify(&mut |_| {}).unwrap();
}

#[test]
fn commits_are_in_order_and_idempotent() {
    let state = State::in_memory().unwrap();
    let mut model = Model::default();
    let start = genesis(&state, &fill(3), &mut model);
    let second = next_block(&state, start.hash(), &fill(9), &mut model);
    assert!(matches!(
        state.commit(&second, &[], b""),
        Err(Error::Gap {
            next: 0,
            offered: 1
        })
    ));
    assert_eq!(state.commit(&start, &[], b"").unwrap(), Commit::Written);
    assert_eq!(
        state.commit(&start, &[], b"").unwrap(),
        Commit::AlreadyFinal
    );
    assert_eq!(state.commit(&second, &[], b"").unwrap(), Commit::Written);
    assert_eq!(
        state.commit(&start, &[], b"").unwrap(),
        Commit::AlreadyFinal
    );
    let mut other = second;
    other.header.timestamp_ms += 1;
    assert!(matches!(
        state.commit(&other, &[], b""),
        Err(Error::Conflict { part: "block", .. })
    ));
    other.header.number += 1;
    assert!(matches!(
        state.commit(&other, &[], b""),
        Err(Error::Conflict { part: "parent", .. })
    ));
}

/// A destroyed account leaves no node behind, and its address can be used again.
#[test]
fn destroyed_storage_is_gone() {
    let state = State::in_memory().unwrap();
    let mut model = Model::default();
    let who = Address::repeat_byte(1);
    let start = genesis(&state, &fill(3000), &mut model);
    state.commit(&start, &[], b"").unwrap();
    let gone = next_block(&state, start.hash(), &[Step::Destroy { who }], &mut model);
    let again = next_block(&state, gone.hash(), &fill(2), &mut model);
    state.commit(&gone, &[], b"").unwrap();
    assert!(state.latest().account(who).unwrap().is_none());
    state.latest().verify(&mut |_| {}).unwrap();
    state.commit(&again, &[], b"").unwrap();
    assert_eq!(
        state.latest().slot(who, U256::from(1)).unwrap(),
        U256::from(2)
    );
    assert_eq!(state.latest().slot(who, U256::from(7)).unwrap(), U256::ZERO);
    assert_eq!(state.latest().verify(&mut |_| {}).unwrap().slots, 2);
}

/// A store that fails at a chosen write, before or after it took effect, as a full disk or a lost machine would.
struct Failing {
    inner: MemoryStore,
    writes: AtomicUsize,
    fail_at: usize,
    effective: bool,
}

impl Store for Failing {
    fn snapshot(&self) -> Box<dyn Reader> {
        self.inner.snapshot()
    }

    fn write(&self, batch: Batch) -> Result<(), Error> {
        if self.writes.fetch_add(1, Ordering::SeqCst) != self.fail_at {
            return self.inner.write(batch);
        }
        if self.effective {
            self.inner.write(batch)?;
        }
        Err(Error::store("writing", "injected".into()))
    }
}

/// A failed commit leaves the chain as it was or complete, reads go on, and the same block can be committed again.
#[test]
fn a_failed_write_leaves_a_whole_block_or_nothing() {
    for (fail_at, effective) in (1..5).flat_map(|at| [(at, false), (at, true)]) {
        let store = Arc::new(Failing {
            inner: MemoryStore::new(),
            writes: AtomicUsize::new(0),
            fail_at,
            effective,
        });
        let mut model = Model::default();
        let mut state = State::over(Arc::clone(&store) as _, StateOptions::default()).unwrap();
        let mut block = genesis(&state, &fill(20), &mut model);
        for height in 0..4_u64 {
            if let Err(error) = state.commit(&block, &[], b"") {
                assert!(matches!(error, Error::Store { .. }), "{error}");
                assert_eq!(state.head().map(|head| head.height), height.checked_sub(1));
                let overlay = state.overlay(&block.hash()).unwrap();
                state = State::over(Arc::clone(&store) as _, StateOptions::default()).unwrap();
                state.latest().verify(&mut |_| {}).unwrap();
                state.insert(block.hash(), overlay);
                let again = if effective {
                    Commit::AlreadyFinal
                } else {
                    Commit::Written
                };
                assert_eq!(state.commit(&block, &[], b"").unwrap(), again);
            }
            assert_eq!(state.latest().state_root(), block.header.state_root);
            block = next_block(&state, block.hash(), &fill(height * 13), &mut model);
        }
        assert!(state.latest().verify(&mut |_| {}).unwrap().blocks == 4);
    }
}

fn log(emitter: u8, topics: &[u8]) -> Log {
    let topics = topics
        .iter()
        .map(|topic| B256::repeat_byte(*topic))
        .collect();
    let data = LogData::new(topics, Bytes::from_static(b"d")).unwrap();
    Log {
        address: Address::repeat_byte(emitter),
        data,
    }
}

#[test]
fn blocks_and_logs_are_found() {
    let state = State::in_memory().unwrap();
    let mut model = Model::default();
    let start = genesis(&state, &[], &mut model);
    state.commit(&start, &[], b"genesis").unwrap();
    let mut parent = start.hash();
    for height in 1..=60_u64 {
        let topics = [1, u8::try_from(height % 7).unwrap()];
        let receipts: Vec<_> = (0..2_u8)
            .map(|index| model::receipt(vec![log(9, &topics), log(index, &[topics[1], 1])]))
            .collect();
        let transactions = (0..2)
            .map(|index| Bytes::from(format!("transaction {height} {index}").into_bytes()))
            .collect();
        let block = model::block_with(&state, parent, &[], &mut model, transactions, &receipts);
        state
            .commit(
                &block,
                &receipts,
                format!("certificate {height}").as_bytes(),
            )
            .unwrap();
        parent = block.hash();

        let view = state.latest();
        assert_eq!(view.block(height).unwrap().unwrap(), block);
        assert_eq!(view.receipts(height).unwrap().unwrap(), receipts);
        assert_eq!(view.height_of(parent).unwrap(), Some(height));
        let place = view
            .transaction_location(keccak256(&block.transactions[1]))
            .unwrap();
        assert_eq!(place, Some(TransactionLocation { height, index: 1 }));
        let certificate = view.certificate(height).unwrap().unwrap();
        assert_eq!(
            certificate.as_ref(),
            format!("certificate {height}").as_bytes()
        );
        assert!(view.block(height + 1).unwrap().is_none());
        assert!(view.height_of(B256::ZERO).unwrap().is_none());
    }
    let view = state.latest();
    view.verify(&mut |_| {}).unwrap();
    check_log_filters(&view);
}

/// The index finds exactly what a scan of all receipts finds.
fn check_log_filters(view: &StateView) {
    let address = Address::repeat_byte;
    let topic = B256::repeat_byte;
    let filters = [
        LogFilter::default(),
        LogFilter {
            addresses: vec![address(9)],
            topics: vec![],
        },
        LogFilter {
            addresses: vec![address(0), address(1)],
            topics: vec![vec![topic(3), topic(5)]],
        },
        LogFilter {
            addresses: vec![],
            topics: vec![vec![topic(1)], vec![topic(2)]],
        },
        LogFilter {
            addresses: vec![],
            topics: vec![vec![], vec![topic(1)]],
        },
        LogFilter {
            addresses: vec![address(77)],
            topics: vec![],
        },
        LogFilter {
            addresses: vec![],
            topics: vec![vec![], vec![], vec![topic(1)]],
        },
    ];
    for (filter, (from, to)) in filters
        .iter()
        .flat_map(|f| [(f, (0, 99)), (f, (13, 41)), (f, (9, 8))])
    {
        let expected: Vec<_> = (from..=to.min(60))
            .flat_map(|height| {
                let logs = view.receipts(height).unwrap().unwrap_or_default();
                logs.into_iter()
                    .flat_map(|receipt| receipt.logs)
                    .map(move |log| (height, log))
            })
            .filter(|(_, log)| filter.accepts(log))
            .collect();
        let found = view.logs(filter, from, to, usize::MAX, |_| None).unwrap();
        assert_eq!(found.next_height, None);
        let found: Vec<_> = found
            .logs
            .into_iter()
            .map(|found| (found.height, found.log))
            .collect();
        assert_eq!(found, expected, "{filter:?} {from}..={to}");
    }
    let cut = view.logs(&filters[1], 5, 60, 3, |_| None).unwrap();
    assert_eq!((cut.logs.len(), cut.next_height), (4, Some(7)));
    assert_eq!(cut.logs[0].transaction_hash, keccak256("transaction 5 0"));
    assert_eq!(
        (cut.logs[1].transaction_index, cut.logs[1].log_index),
        (1, 2)
    );
}

#[test]
fn an_empty_state_has_the_empty_root() {
    let state = State::in_memory().unwrap();
    assert_eq!(state.latest().state_root(), alloy_trie::EMPTY_ROOT_HASH);
    assert!(state.head().is_none());
    let proof = state
        .latest()
        .proof(address!("0x00000000000000000000000000000000000000aa"), &[]);
    assert!(proof.unwrap().account.is_none());
    let unknown = b256!("0x0000000000000000000000000000000000000000000000000000000000000001");
    assert!(matches!(
        state.view_on(unknown),
        Err(Error::UnknownBlock { .. })
    ));
}

#[test]
fn a_folder_is_opened_by_one_process_and_survives_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let open = || State::open(folder.path(), StateOptions::default());
    let state = open().unwrap();
    assert!(matches!(open(), Err(Error::Store { .. })));
    let mut block = genesis(&state, &fill(30), &mut model);
    for height in 0..5 {
        state.commit(&block, &[], b"").unwrap();
        block = next_block(&state, block.hash(), &fill(height * 11), &mut model);
    }
    let head = state.head();
    drop(state);
    let state = open().unwrap();
    assert_eq!(state.head(), head);
    assert_eq!(state.head().unwrap().height, 4);
    state.latest().verify(&mut |_| {}).unwrap();
    apply(&mut Pending::new(state.latest()), &[]);
}
