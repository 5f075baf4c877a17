use std::collections::BTreeMap;

use alloy_primitives::{keccak256, map::B256Map};
use alloy_trie::{HashBuilder, proof::verify_proof};
use proptest::prelude::*;

use super::*;
use crate::state::walk;

/// Nodes by path, checked by hash on every read, as the store does.
#[derive(Default)]
struct Nodes(BTreeMap<Nibbles, Bytes>);

impl NodeSource for Nodes {
    fn node(&self, path: &Nibbles, hash: &B256) -> Result<Bytes, Error> {
        let node = self
            .0
            .get(path)
            .ok_or_else(|| Error::damaged(0, format!("no node at {path:?}")))?;
        if keccak256(node) != *hash {
            return Err(Error::damaged(0, format!("wrong node at {path:?}")));
        }
        Ok(node.clone())
    }
}

impl Nodes {
    fn apply(&mut self, delta: TrieDelta) {
        for (path, node) in delta.nodes {
            match node {
                Some(node) => self.0.insert(path, node.rlp),
                None => self.0.remove(&path),
            };
        }
    }
}

type Model = BTreeMap<B256, Vec<u8>>;

fn expected_root(model: &Model) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in model {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Applies one block of changes to both and holds root, stored nodes, values and proofs against the model.
fn check_block(
    nodes: &mut Nodes,
    root: B256,
    model: &mut Model,
    block: &BTreeMap<B256, Option<Vec<u8>>>,
) -> B256 {
    let changes = block
        .iter()
        .map(|(key, value)| (Nibbles::unpack(key), value.clone()))
        .collect();
    let delta = update(nodes, root, changes).expect("all nodes are there");
    for (key, value) in block {
        match value {
            Some(value) => model.insert(*key, value.clone()),
            None => model.remove(key),
        };
    }
    assert_eq!(delta.root, expected_root(model));
    let root = delta.root;
    nodes.apply(delta);
    let mut visited = Vec::new();
    let mut found = Model::new();
    walk::leaves(
        nodes,
        root,
        &mut |path| visited.push(*path),
        &mut |key, value| {
            found.insert(B256::from_slice(&key.pack()), value.to_vec());
            Ok(())
        },
    )
    .expect("every node is there");
    assert_eq!(&found, model);
    let stored: Vec<_> = nodes.0.keys().copied().collect();
    visited.sort();
    assert_eq!(visited, stored, "no node is left over");
    for key in block.keys() {
        let path = Nibbles::unpack(key);
        let (value, proof) = walk::prove(nodes, root, &path).expect("every node is there");
        assert_eq!(value.as_ref(), model.get(key));
        assert_eq!(
            walk::lookup(nodes, root, &path).expect("every node is there"),
            value
        );
        verify_proof(root, path, value, &proof).expect("the proof holds");
    }
    root
}

/// Keys that share long prefixes, so that extensions, splits and nodes shorter than a hash all occur.
fn key() -> impl Strategy<Value = B256> {
    prop_oneof![
        (0_u8..4, 0_u8..4, 0_u8..3).prop_map(|(first, last, length)| {
            let mut key = B256::ZERO;
            key.0[0] = first << 4;
            key.0[31] = last;
            key.0[15] = length;
            key
        }),
        any::<[u8; 2]>().prop_map(keccak256),
    ]
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 1..4).prop_map(Some),
        2 => prop::collection::vec(any::<u8>(), 30..80).prop_map(Some),
        3 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any sequence of blocks gives the root of `HashBuilder` over the same contents, leaves no stale node behind,
    /// and every proof, of presence and of absence, verifies with alloy's verifier.
    #[test]
    fn roots_and_proofs_equal_ethereums(
        blocks in prop::collection::vec(prop::collection::btree_map(key(), value(), 0..40), 1..8)
    ) {
        let (mut nodes, mut model, mut root) = (Nodes::default(), Model::new(), EMPTY_ROOT_HASH);
        for block in &blocks {
            root = check_block(&mut nodes, root, &mut model, block);
        }
    }
}

#[test]
fn many_keys_take_the_parallel_path() {
    let (mut nodes, mut model) = (Nodes::default(), Model::new());
    let key = |n: u32| keccak256(n.to_be_bytes());
    let fill: BTreeMap<_, _> = (0..2000).map(|n| (key(n), Some(vec![1, 2, 3]))).collect();
    let root = check_block(&mut nodes, EMPTY_ROOT_HASH, &mut model, &fill);
    let mixed = (1000..2500)
        .map(|n| (key(n), (n % 3 == 0).then(|| vec![n.to_be_bytes()[3]; 40])))
        .collect();
    let root = check_block(&mut nodes, root, &mut model, &mixed);
    let clear = (0..2500).map(|n| (key(n), None)).collect();
    let root = check_block(&mut nodes, root, &mut model, &clear);
    assert_eq!(root, EMPTY_ROOT_HASH);
    assert!(nodes.0.is_empty());
}

#[test]
fn a_flipped_byte_in_a_node_is_an_error() {
    let (mut nodes, mut model) = (Nodes::default(), Model::new());
    let key = |n: u32| keccak256(n.to_be_bytes());
    let fill: BTreeMap<_, _> = (0..50)
        .map(|n| (key(n), Some(vec![n.to_be_bytes()[3]; 40])))
        .collect();
    let root = check_block(&mut nodes, EMPTY_ROOT_HASH, &mut model, &fill);
    let expected: B256Map<Vec<u8>> = model.into_iter().collect();
    for (path, node) in nodes.0.clone() {
        let mut bad = node.to_vec();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        nodes.0.insert(path, bad.into());
        let mut refused = 0;
        for (key, value) in &expected {
            match walk::lookup(&nodes, root, &Nibbles::unpack(key)) {
                Ok(found) => assert_eq!(found.as_ref(), Some(value)),
                Err(error) => {
                    assert!(error.is_damage());
                    refused += 1;
                }
            }
        }
        assert!(refused > 0, "node at {path:?} is on some path");
        nodes.0.insert(path, node);
    }
}
