//! The state carried to another store, part by part.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_trie::Nibbles;
use proptest::prelude::*;
use stele_core::block::Block;

use super::{
    super::{
        Head, Incoming, MemoryStore, State, StateView, decode_wants,
        nodes::Owner,
        parts::{Want, encode_wants},
    },
    Model, check_proofs, fill,
    model::{Step, genesis, next_block, steps},
};

/// A chain of these blocks, with its blocks from the first on.
fn lived_in(blocks: &[Vec<Step>]) -> (State, Vec<Block>, Model) {
    let state = State::in_memory().unwrap();
    let mut model = Model::default();
    let mut made = vec![genesis(&state, &[], &mut model)];
    state.commit(&made[0], &[], b"").unwrap();
    for steps in blocks {
        let block = next_block(&state, made.last().unwrap().hash(), steps, &mut model);
        state.commit(&block, &[], b"c").unwrap();
        made.push(block);
    }
    (state, made, model)
}

/// A chain with nothing but its first block.
fn begun() -> State {
    let state = State::in_memory().unwrap();
    let first = genesis(&state, &[], &mut Model::default());
    state.commit(&first, &[], b"").unwrap();
    state
}

fn begin(store: &Arc<MemoryStore>, head: Head, first: &Block) -> Incoming {
    let mut incoming = Incoming::over(Arc::clone(store) as _).unwrap();
    assert!(incoming.offer().is_none());
    incoming
        .begin(Bytes::from_static(b"offer"), head, first, &[], None)
        .unwrap();
    incoming
}

/// As the giver does.
pub(super) fn parts(view: &StateView, wants: &[u8], limit: usize) -> Vec<Bytes> {
    let owners: BTreeMap<B256, Address> = view.storage_owners().unwrap();
    let wants = decode_wants(wants).unwrap();
    let address = |key: &B256| owners.get(key).copied();
    view.parts(wants, &address, limit).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any state (accounts, storage, code) goes through parts of any size, over restarts between all of them, and reads
    /// the same: root, every account, slot and code, proofs, and not a node more.
    #[test]
    fn a_state_in_parts_is_the_same_state(
        blocks in prop::collection::vec(steps(), 1..6),
        limit in 1_usize..3_000,
    ) {
        let (giver, made, model) = lived_in(&blocks);
        let view = giver.latest();
        let head = view.head().unwrap();
        let store = Arc::new(MemoryStore::new());
        let mut incoming = begin(&store, head, &made[0]);
        while let Some(wants) = incoming.wants() {
            let given = parts(&view, &wants, limit);
            prop_assert!(!given.is_empty());
            incoming.take_parts(&given).unwrap().unwrap();
            // As after a restart: everything is read from the store.
            incoming = Incoming::over(Arc::clone(&store) as _).unwrap();
            prop_assert_eq!(incoming.offer().unwrap().as_ref(), b"offer");
        }
        for block in &made[1..] {
            incoming.take_blocks(&[(block.clone(), Vec::new())], b"c").unwrap();
        }
        let taker = begun();
        prop_assert_eq!(taker.adopt(incoming).unwrap(), head);
        let taken = taker.latest();
        prop_assert_eq!(taken.state_root(), model.root());
        check_proofs(&taken, &model);
        let (here, there) = (taken.verify(&mut |_| {}), view.verify(&mut |_| {}));
        prop_assert_eq!(here.unwrap(), there.unwrap());
        // And it goes on.
        let mut after = model;
        let next = next_block(&taker, head.hash, &blocks[0], &mut after);
        taker.commit(&next, &[], b"c").unwrap();
        prop_assert_eq!(taker.latest().state_root(), after.root());
        check_proofs(&taker.latest(), &after);
    }
}

/// What is changed, left out, repeated or added is refused, and what is there stays as it was.
#[test]
fn every_wrong_part_is_refused() {
    let who = Address::repeat_byte(2);
    let mut account = fill(40);
    account.push(Step::Account {
        who,
        nonce: 1,
        balance: 7,
        code: 2,
    });
    let (giver, made, _) = lived_in(&[account]);
    let view = giver.latest();
    let store = Arc::new(MemoryStore::new());
    let mut incoming = begin(&store, view.head().unwrap(), &made[0]);
    let wants = incoming.wants().unwrap();
    let good = parts(&view, &wants, usize::MAX);
    assert!(good.len() > 40, "{} parts", good.len());
    assert!(good.iter().any(|part| part.len() == 20), "an address");
    let mut refused = |bad: &[Bytes]| {
        incoming.take_parts(bad).unwrap().unwrap_err();
        assert_eq!(incoming.wants().unwrap(), wants, "nothing was taken");
        assert_eq!(incoming.bytes(), 0);
    };
    for at in 0..good.len() {
        let mut flipped = good.clone();
        let mut bytes = flipped[at].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        flipped[at] = bytes.into();
        refused(&flipped);
        let mut short = good.clone();
        // A state may end anywhere but must go on there: without its last part it is only not whole yet.
        short.remove(at);
        if at + 1 < good.len() {
            refused(&short);
        }
        let mut long = good.clone();
        long.insert(at, Bytes::from_static(b"more"));
        refused(&long);
    }
    let mut more = good.clone();
    more.push(Bytes::from_static(b"more"));
    refused(&more);
    incoming.take_parts(&good).unwrap().unwrap();
    assert_eq!(incoming.wants(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whoever asks may say anything: it is read or refused, and what it names is found or not.
    #[test]
    fn questions_of_any_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        path in prop::collection::vec(0_u8..16, 0..=64),
        at in 0_usize..64,
        storage in any::<bool>(),
    ) {
        if let Some(wants) = decode_wants(&bytes) {
            prop_assert_eq!(encode_wants(&wants), bytes);
        }
        let (giver, made, _) = lived_in(&[fill(60)]);
        let view = giver.latest();
        let store = Arc::new(MemoryStore::new());
        let incoming = begin(&store, view.head().unwrap(), &made[0]);
        let all = parts(&view, &incoming.wants().unwrap(), usize::MAX);
        // A node that is there, asked for where it does not belong.
        let want = Want::Node {
            owner: if storage { Owner::Storage(Address::repeat_byte(1)) } else { Owner::Accounts },
            path: Nibbles::from_nibbles(path),
            hash: keccak256(&all[at % all.len()]),
        };
        let encoded = encode_wants([&want]);
        prop_assert_eq!(decode_wants(&encoded).unwrap(), vec![want]);
        parts(&view, &encoded, 10_000);
    }
}

/// What lacks a block, or a part, does not become the chain.
#[test]
fn nothing_half_is_adopted() {
    let (giver, made, _) = lived_in(&[fill(40), fill(60)]);
    let view = giver.latest();
    let head = view.head().unwrap();
    let store = Arc::new(MemoryStore::new());
    let mut incoming = begin(&store, head, &made[0]);
    let pair = |at: usize| (made[at].clone(), Vec::new());
    assert!(incoming.take_blocks(&[pair(2)], b"c").is_err(), "a gap");
    incoming.take_blocks(&[pair(1)], b"c").unwrap();
    let taker = begun();
    let again = || Incoming::over(Arc::clone(&store) as _).unwrap();
    assert!(taker.adopt(again()).is_err());
    incoming.take_blocks(&[pair(2)], b"c").unwrap();
    assert!(taker.adopt(again()).is_err());
    let wants = incoming.wants().unwrap();
    incoming
        .take_parts(&parts(&view, &wants, usize::MAX))
        .unwrap()
        .unwrap();
    assert_eq!(taker.head().unwrap().height, 0);
    taker.adopt(again()).unwrap();
    assert_eq!(taker.head(), Some(head));
    assert!(taker.adopt(again()).is_err(), "once is enough");
    assert!(view.find_code(keccak256(b"none")).unwrap().is_none());
}
