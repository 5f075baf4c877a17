//! Keys that can be destroyed one by one: a puncturable pseudo-random function.
//!
//! A log-structured store keeps deleted values in old segments until it happens to compact them,
//! and a backup keeps them longer. So nothing secret is stored as it is: every per-record secret is
//! sealed under a key derived from a tree (depth 96, path = first 96 bits of SHA-256 of the id).
//! Erasing a record replaces the nodes on its path by their siblings: from what is left, the key
//! can no longer be computed by anyone, and whatever bytes linger are noise.
//!
//! The tree is one small file, sealed under the vault's master key and replaced as a whole: written
//! beside, synced, renamed over, and the old file's blocks overwritten before they are given back.
//! Overwriting is best effort on copy-on-write file systems and flash; there the master key remains
//! the second lock. Erasing costs about 3 KB of file for good; an untouched tree is 51 bytes.
//!
//! Trees that custodians share have 32 bits more in front of the path: the period in which a record was sealed. Whoever
//! only writes with such a tree keeps the periods to come and forgets those gone by ([`ShredTree::forget_before`]), at the
//! cost of one node for each bit.
//!
//! An older copy of the file brings erased keys back. That is why every opening and every restore
//! applies the list of tombstones first ([`ShredTree::puncture`] is idempotent).

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};
use stele_core::crypto::{Secret32, aead, kdf, os_rng};
use zeroize::Zeroizing;

use crate::{
    cid::sha256,
    codec::Reader,
    error::{Error, Result},
    ggm,
};

/// Bits of the path that come from the id.
const ID_BITS: u32 = 96;
const MAGIC: &[u8; 8] = b"STELESHR";
const WHAT: &str = "a tree of record keys";
/// Bytes of a node in the file: depth, path, seed.
const NODE_LEN: usize = 1 + 16 + 32;

/// How deep a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// By id: the path is 96 bits of its digest.
    Ids,
    /// By period, then id: 32 bits before the 96.
    Periods,
}

impl Shape {
    const fn depth(self) -> u32 {
        match self {
            Self::Ids => ID_BITS,
            Self::Periods => 32 + ID_BITS,
        }
    }

    /// Its version of the file.
    const fn version(self) -> u8 {
        match self {
            Self::Ids => 1,
            Self::Periods => 2,
        }
    }

    /// Bits below a node, which is never deeper than the tree.
    const fn below(self, node: &Node) -> u32 {
        self.depth().saturating_sub(node.depth)
    }

    /// Whether a node that begins at `start` is over a leaf: a node covers the leaves that share its first bits.
    fn covers(self, start: u128, node: &Node, leaf: u128) -> bool {
        (leaf ^ start).checked_shr(self.below(node)).unwrap_or(0) == 0
    }
}

type Nodes = BTreeMap<u128, Node>;

#[derive(Clone)]
struct Node {
    depth: u32,
    seed: Secret32,
}

/// A tree of keys, any of which can be destroyed.
pub(crate) struct ShredTree {
    path: PathBuf,
    at_rest: Secret32,
    shape: Shape,
    /// What is left of the tree, by the first leaf below each node.
    nodes: RwLock<Nodes>,
    /// One rewrite of the file at a time.
    writing: Mutex<()>,
}

impl ShredTree {
    /// Opens the tree in a file, or makes a new one if there is none.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Crypto`] and [`Error::Malformed`] if the file is not what this
    /// vault wrote.
    pub(crate) fn open(path: &Path, at_rest: Secret32) -> Result<Self> {
        match Self::load(path, at_rest.clone(), Shape::Ids)? {
            Some(tree) => Ok(tree),
            None => Self::create(path, at_rest, Shape::Ids, whole()),
        }
    }

    /// Makes a new tree by periods in a file, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`].
    pub(crate) fn create_periods(path: &Path, at_rest: Secret32) -> Result<Self> {
        Self::create(path, at_rest, Shape::Periods, whole())
    }

    /// Opens a tree by periods. `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_periods(path: &Path, at_rest: Secret32) -> Result<Option<Self>> {
        Self::load(path, at_rest, Shape::Periods)
    }

    /// Keeps a tree by periods that another vault gave with [`Self::nodes`].
    ///
    /// # Errors
    /// [`Error::Malformed`] for other bytes, [`Error::Io`], [`Error::Crypto`].
    pub(crate) fn adopt_periods(path: &Path, at_rest: Secret32, nodes: &[u8]) -> Result<Self> {
        let nodes = read_nodes(nodes, Shape::Periods)?;
        Self::create(path, at_rest, Shape::Periods, nodes)
    }

    fn load(path: &Path, at_rest: Secret32, shape: Shape) -> Result<Option<Self>> {
        let nodes = match fs::read(path) {
            Ok(bytes) => decode(&bytes, &at_rest, shape)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io {
                    attempt: "reading",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Ok(Some(Self::new(path, at_rest, shape, nodes)))
    }

    fn create(path: &Path, at_rest: Secret32, shape: Shape, nodes: Nodes) -> Result<Self> {
        replace_file(path, &encode(&nodes, &at_rest, shape)?)?;
        Ok(Self::new(path, at_rest, shape, nodes))
    }

    fn new(path: &Path, at_rest: Secret32, shape: Shape, nodes: Nodes) -> Self {
        Self {
            path: path.to_owned(),
            at_rest,
            shape,
            nodes: RwLock::new(nodes),
            writing: Mutex::new(()),
        }
    }

    /// The key of an id, or `None` if it was destroyed.
    pub(crate) fn key(
        &self,
        id: &[u8; 32],
        label: &'static str,
        context: &[&[u8]],
    ) -> Option<Secret32> {
        self.key_at(leaf_of(id), label, context)
    }

    /// The key of an id in a period, or `None` if it was destroyed or the period forgotten.
    pub(crate) fn key_in(
        &self,
        period: u32,
        id: &[u8; 32],
        label: &'static str,
        context: &[&[u8]],
    ) -> Option<Secret32> {
        self.key_at(leaf_in(period, id), label, context)
    }

    fn key_at(&self, leaf: u128, label: &'static str, context: &[&[u8]]) -> Option<Secret32> {
        let nodes = self.nodes.read();
        let (&start, node) = nodes.range(..=leaf).next_back()?;
        if !self.shape.covers(start, node, leaf) {
            return None;
        }
        let below = self.shape.below(node);
        let mask = 1u128.checked_shl(below).map_or(u128::MAX, |bit| bit - 1);
        let seed = ggm::descend(&node.seed, leaf & mask, below);
        Some(kdf::derive(seed.expose(), label, context))
    }

    /// Destroys the keys of some ids, durably. Ids that are gone already are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Crypto`]; then nothing was destroyed.
    pub(crate) fn puncture(&self, ids: &[[u8; 32]]) -> Result<()> {
        self.change(|nodes| {
            let removed = ids
                .iter()
                .map(|id| remove_leaf(nodes, leaf_of(id), self.shape));
            removed.fold(false, |any, one| any | one)
        })
    }

    /// As [`Self::puncture`], each in its period.
    ///
    /// # Errors
    /// As [`Self::puncture`].
    pub(crate) fn puncture_in(&self, ids: &[(u32, [u8; 32])]) -> Result<()> {
        self.change(|nodes| {
            let removed = ids
                .iter()
                .map(|(period, id)| remove_leaf(nodes, leaf_in(*period, id), self.shape));
            removed.fold(false, |any, one| any | one)
        })
    }

    /// Destroys the keys of all periods before one, durably.
    ///
    /// # Errors
    /// As [`Self::puncture`].
    pub(crate) fn forget_before(&self, period: u32) -> Result<()> {
        let first = u128::from(period) << ID_BITS;
        self.change(|nodes| forget_below(nodes, first, self.shape))
    }

    /// Destroys all keys, durably: the tree begins anew.
    ///
    /// # Errors
    /// As [`Self::puncture`].
    pub(crate) fn renew(&self) -> Result<()> {
        self.change(|nodes| {
            *nodes = whole();
            true
        })
    }

    /// What is left of the tree, in the clear: for one that is to hold it, too.
    pub(crate) fn nodes(&self) -> Zeroizing<Vec<u8>> {
        write_nodes(&self.nodes.read())
    }

    /// Replaces the file if `change` says that it changed something.
    fn change(&self, change: impl FnOnce(&mut Nodes) -> bool) -> Result<()> {
        let _one_at_a_time = self.writing.lock();
        let mut nodes = self.nodes.read().clone();
        if change(&mut nodes) {
            replace_file(&self.path, &encode(&nodes, &self.at_rest, self.shape)?)?;
            *self.nodes.write() = nodes;
        }
        Ok(())
    }
}

/// A tree of which nothing is gone yet.
fn whole() -> Nodes {
    let root = Node {
        depth: 0,
        seed: Secret32::random(&mut os_rng()),
    };
    BTreeMap::from([(0, root)])
}

/// Replaces the node over a leaf by the siblings along the path to it. False if there is none.
fn remove_leaf(nodes: &mut Nodes, leaf: u128, shape: Shape) -> bool {
    let Some((&start, node)) = nodes.range(..=leaf).next_back() else {
        return false;
    };
    if !shape.covers(start, node, leaf) {
        return false;
    }
    let Some(mut node) = nodes.remove(&start) else {
        return false;
    };
    let mut start = start;
    while node.depth < shape.depth() {
        let (left, right, bit) = children(&node, shape);
        if leaf & bit == 0 {
            nodes.insert(start | bit, right);
            node = left;
        } else {
            nodes.insert(start, left);
            start |= bit;
            node = right;
        }
    }
    true
}

/// Removes all leaves before one. False if there was none.
fn forget_below(nodes: &mut Nodes, first: u128, shape: Shape) -> bool {
    let mut before: Nodes = std::mem::take(nodes);
    *nodes = before.split_off(&first);
    let Some((mut start, mut node)) = before.pop_last() else {
        return false;
    };
    if !shape.covers(start, &node, first) {
        return true;
    }
    // The node begins before the first leaf to be kept: it is cut along the path to it, and what is left of the path goes.
    while start != first && node.depth < shape.depth() {
        let (left, right, bit) = children(&node, shape);
        if first & bit == 0 {
            nodes.insert(start | bit, right);
            node = left;
        } else {
            start |= bit;
            node = right;
        }
    }
    nodes.insert(start, node);
    true
}

/// Both children of a node that is no leaf, and the bit that tells them apart.
fn children(node: &Node, shape: Shape) -> (Node, Node, u128) {
    let depth = node.depth + 1;
    let child = |right| Node {
        depth,
        seed: ggm::child(&node.seed, right),
    };
    let bit = 1u128
        .checked_shl(shape.depth().saturating_sub(depth))
        .unwrap_or(0);
    (child(false), child(true), bit)
}

fn leaf_of(id: &[u8; 32]) -> u128 {
    let digest = sha256(id);
    digest
        .iter()
        .take(12)
        .fold(0, |path, byte| path << 8 | u128::from(*byte))
}

fn leaf_in(period: u32, id: &[u8; 32]) -> u128 {
    u128::from(period) << ID_BITS | leaf_of(id)
}

fn write_nodes(nodes: &Nodes) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(nodes.len() * NODE_LEN));
    for (start, node) in nodes {
        plain.push(u8::try_from(node.depth).unwrap_or(u8::MAX));
        plain.extend_from_slice(&start.to_be_bytes());
        plain.extend_from_slice(node.seed.expose());
    }
    plain
}

fn read_nodes(plain: &[u8], shape: Shape) -> Result<Nodes> {
    let mut reader = Reader::new(plain, WHAT);
    let mut nodes = BTreeMap::new();
    for _ in 0..plain.len() / NODE_LEN {
        let depth = u32::from(reader.u8()?);
        if depth > shape.depth() {
            return Err(reader.error("a node is too deep"));
        }
        let start = u128::from_be_bytes(reader.array()?);
        nodes.insert(
            start,
            Node {
                depth,
                seed: Secret32::new(reader.array()?),
            },
        );
    }
    reader.end()?;
    Ok(nodes)
}

fn encode(nodes: &Nodes, at_rest: &Secret32, shape: Shape) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.push(shape.version());
    let sealed = aead::seal(at_rest, &out, &write_nodes(nodes), &mut os_rng())
        .map_err(Error::crypto("sealing the tree of record keys"))?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

fn decode(bytes: &[u8], at_rest: &Secret32, shape: Shape) -> Result<Nodes> {
    let (header, sealed) = bytes
        .split_at_checked(MAGIC.len() + 1)
        .ok_or(Error::Malformed {
            what: WHAT,
            problem: "it is too short",
        })?;
    if header.strip_prefix(MAGIC) != Some(&[shape.version()]) {
        return Err(Error::Malformed {
            what: WHAT,
            problem: "its header is unknown",
        });
    }
    let plain = aead::open(at_rest, header, sealed)
        .map_err(Error::crypto("opening the tree of record keys"))?;
    read_nodes(&plain, shape)
}

/// Replaces a file durably and overwrites what it held before.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    let old = OpenOptions::new().read(true).write(true).open(path).ok();
    let mut new = File::create(&beside).map_err(Error::io("creating", &beside))?;
    new.write_all(bytes)
        .map_err(Error::io("writing", &beside))?;
    new.sync_all().map_err(Error::io("syncing", &beside))?;
    fs::rename(&beside, path).map_err(Error::io("replacing", path))?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(Error::io("syncing", folder))?;
    }
    // The new file stands from here on; failing to wipe the old blocks must not undo that.
    if let Some(mut old) = old
        && let Err(error) = overwrite(&mut old)
    {
        tracing::warn!(%error, "the replaced key file could not be overwritten");
    }
    Ok(())
}

fn overwrite(file: &mut File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.rewind()?;
    std::io::copy(&mut std::io::repeat(0).take(length), file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_of(tree: &ShredTree, id: [u8; 32]) -> Option<Secret32> {
        tree.key(&id, "test", &[])
    }

    #[test]
    fn a_destroyed_key_stays_destroyed_and_no_other_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        let at_rest = Secret32::new([1; 32]);
        let tree = ShredTree::open(&path, at_rest.clone()).unwrap();
        let ids: Vec<[u8; 32]> = (0..40).map(|n| [n; 32]).collect();
        let before: Vec<_> = ids.iter().map(|id| key_of(&tree, *id)).collect();
        tree.puncture(&[ids[3], ids[17]]).unwrap();
        tree.puncture(&[ids[17]]).unwrap();
        for tree in [tree, ShredTree::open(&path, at_rest).unwrap()] {
            for (at, id) in ids.iter().enumerate() {
                let expected = if at == 3 || at == 17 {
                    None
                } else {
                    before[at].clone()
                };
                assert_eq!(key_of(&tree, *id), expected, "{at}");
            }
        }
    }

    /// What is left on disk cannot give the key: no stored node is on the path to the leaf.
    #[test]
    fn no_remaining_node_leads_to_a_destroyed_leaf() {
        let folder = tempfile::tempdir().unwrap();
        let tree = ShredTree::open(&folder.path().join("tree"), Secret32::new([1; 32])).unwrap();
        tree.puncture(&[[5; 32]]).unwrap();
        let leaf = leaf_of(&[5; 32]);
        let nodes = tree.nodes.read();
        assert_eq!(nodes.len(), 96);
        for (start, node) in nodes.iter() {
            assert!(!Shape::Ids.covers(*start, node, leaf));
        }
    }

    #[test]
    fn an_older_file_is_cured_by_the_tombstones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        let at_rest = Secret32::new([1; 32]);
        let tree = ShredTree::open(&path, at_rest.clone()).unwrap();
        let backup = fs::read(&path).unwrap();
        tree.puncture(&[[9; 32]]).unwrap();
        fs::write(&path, backup).unwrap();
        let restored = ShredTree::open(&path, at_rest).unwrap();
        assert!(key_of(&restored, [9; 32]).is_some());
        restored.puncture(&[[9; 32]]).unwrap();
        assert!(key_of(&restored, [9; 32]).is_none());
    }

    #[test]
    fn a_wrong_master_key_or_byte_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        ShredTree::open(&path, Secret32::new([1; 32])).unwrap();
        assert!(ShredTree::open(&path, Secret32::new([2; 32])).is_err());
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(ShredTree::open(&path, Secret32::new([1; 32])).is_err());
    }

    fn periods(folder: &Path) -> ShredTree {
        ShredTree::create_periods(&folder.join("periods"), Secret32::new([1; 32])).unwrap()
    }

    #[test]
    fn forgotten_periods_are_gone_and_later_ones_do_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let tree = periods(folder.path());
        let ids = [[1; 32], [2; 32]];
        let all = [0, 1, 2, 3, 7, 8, 1 << 31, u32::MAX];
        let keys = |tree: &ShredTree| -> Vec<_> {
            let each = all.iter().flat_map(|period| ids.map(|id| (*period, id)));
            each.map(|(period, id)| tree.key_in(period, &id, "test", &[]))
                .collect()
        };
        let whole = keys(&tree);
        assert!(whole.iter().all(Option::is_some));
        for first in [1, 3, 8, 8, u32::MAX] {
            tree.forget_before(first).unwrap();
            let again = ShredTree::open_periods(&tree.path, tree.at_rest.clone());
            for tree in [&tree, &again.unwrap().unwrap()] {
                for (at, key) in keys(tree).into_iter().enumerate() {
                    let expected = whole[at].clone().filter(|_| all[at / 2] >= first);
                    assert_eq!(key, expected, "{first} {at}");
                }
            }
            assert!(tree.nodes.read().len() <= 32, "one node a bit at most");
        }
    }

    #[test]
    fn what_another_adopts_is_the_same_without_what_was_erased() {
        let folder = tempfile::tempdir().unwrap();
        let tree = periods(folder.path());
        tree.puncture_in(&[(5, [1; 32])]).unwrap();
        let path = folder.path().join("adopted");
        let adopted = ShredTree::adopt_periods(&path, Secret32::new([2; 32]), &tree.nodes());
        let adopted = adopted.unwrap();
        for (period, id) in [(5, [2; 32]), (6, [1; 32])] {
            let key = tree.key_in(period, &id, "test", &[]);
            assert!(key.is_some());
            assert_eq!(adopted.key_in(period, &id, "test", &[]), key);
        }
        assert_eq!(adopted.key_in(5, &[1; 32], "test", &[]), None);
        let cut = tree.nodes();
        assert!(ShredTree::adopt_periods(&path, Secret32::new([2; 32]), &cut[1..]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let at_rest = Secret32::new([0; 32]);
            for shape in [Shape::Ids, Shape::Periods] {
                prop_assert!(decode(&bytes, &at_rest, shape).is_err());
                let mut framed = MAGIC.to_vec();
                framed.push(shape.version());
                framed.extend_from_slice(&bytes);
                prop_assert!(decode(&framed, &at_rest, shape).is_err());
            }
        }
    }
}
