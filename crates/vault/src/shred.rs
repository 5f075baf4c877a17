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

const DEPTH: u32 = 96;
const MAGIC: &[u8; 8] = b"STELESHR";
const VERSION: u8 = 1;
const WHAT: &str = "a tree of record keys";
/// Bytes of a node in the file: depth, path, seed.
const NODE_LEN: usize = 1 + 16 + 32;

struct Node {
    depth: u32,
    seed: Secret32,
}

/// A tree of keys, any of which can be destroyed.
pub(crate) struct ShredTree {
    path: PathBuf,
    at_rest: Secret32,
    /// What is left of the tree, by the first leaf below each node.
    nodes: RwLock<BTreeMap<u128, Node>>,
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
        let nodes = match fs::read(path) {
            Ok(bytes) => decode(&bytes, &at_rest)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let root = Node {
                    depth: 0,
                    seed: Secret32::random(&mut os_rng()),
                };
                let nodes = BTreeMap::from([(0, root)]);
                replace_file(path, &encode(&nodes, &at_rest)?)?;
                nodes
            }
            Err(source) => {
                return Err(Error::Io {
                    attempt: "reading",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            at_rest,
            nodes: RwLock::new(nodes),
            writing: Mutex::new(()),
        })
    }

    /// The key of an id, or `None` if it was destroyed.
    pub(crate) fn key(
        &self,
        id: &[u8; 32],
        label: &'static str,
        context: &[&[u8]],
    ) -> Option<Secret32> {
        let leaf = leaf_of(id);
        let nodes = self.nodes.read();
        let (&start, node) = nodes.range(..=leaf).next_back()?;
        let below = DEPTH - node.depth;
        // A node covers the leaves that share its first bits.
        if (leaf ^ start).checked_shr(below).unwrap_or(0) != 0 {
            return None;
        }
        let mask = 1u128.checked_shl(below).map_or(u128::MAX, |bit| bit - 1);
        let seed = ggm::descend(&node.seed, leaf & mask, below);
        Some(kdf::derive(seed.expose(), label, context))
    }

    /// Destroys the keys of some ids, durably. Ids that are gone already are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Crypto`]; then nothing was destroyed.
    pub(crate) fn puncture(&self, ids: &[[u8; 32]]) -> Result<()> {
        let _one_at_a_time = self.writing.lock();
        let mut nodes: BTreeMap<u128, Node> = self
            .nodes
            .read()
            .iter()
            .map(|(start, node)| {
                (
                    *start,
                    Node {
                        depth: node.depth,
                        seed: node.seed.clone(),
                    },
                )
            })
            .collect();
        let mut changed = false;
        for id in ids {
            changed |= remove_leaf(&mut nodes, leaf_of(id));
        }
        if changed {
            replace_file(&self.path, &encode(&nodes, &self.at_rest)?)?;
            *self.nodes.write() = nodes;
        }
        Ok(())
    }
}

/// Replaces the node over a leaf by the siblings along the path to it. False if there is none.
fn remove_leaf(nodes: &mut BTreeMap<u128, Node>, leaf: u128) -> bool {
    let Some((&start, node)) = nodes.range(..=leaf).next_back() else {
        return false;
    };
    if (leaf ^ start).checked_shr(DEPTH - node.depth).unwrap_or(0) != 0 {
        return false;
    }
    let Some(mut node) = nodes.remove(&start) else {
        return false;
    };
    let mut start = start;
    while node.depth < DEPTH {
        let bit = 1u128 << (DEPTH - node.depth - 1);
        let (left, right) = (ggm::child(&node.seed, false), ggm::child(&node.seed, true));
        let depth = node.depth + 1;
        if leaf & bit == 0 {
            nodes.insert(start | bit, Node { depth, seed: right });
            node = Node { depth, seed: left };
        } else {
            nodes.insert(start, Node { depth, seed: left });
            start |= bit;
            node = Node { depth, seed: right };
        }
    }
    true
}

fn leaf_of(id: &[u8; 32]) -> u128 {
    let digest = sha256(id);
    digest
        .iter()
        .take(12)
        .fold(0, |path, byte| path << 8 | u128::from(*byte))
}

fn encode(nodes: &BTreeMap<u128, Node>, at_rest: &Secret32) -> Result<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(nodes.len() * NODE_LEN));
    for (start, node) in nodes {
        plain.push(u8::try_from(node.depth).unwrap_or(u8::MAX));
        plain.extend_from_slice(&start.to_be_bytes());
        plain.extend_from_slice(node.seed.expose());
    }
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    let sealed = aead::seal(at_rest, &out, &plain, &mut os_rng())
        .map_err(Error::crypto("sealing the tree of record keys"))?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

fn decode(bytes: &[u8], at_rest: &Secret32) -> Result<BTreeMap<u128, Node>> {
    let (header, sealed) = bytes
        .split_at_checked(MAGIC.len() + 1)
        .ok_or(Error::Malformed {
            what: WHAT,
            problem: "it is too short",
        })?;
    if header.strip_prefix(MAGIC) != Some(&[VERSION]) {
        return Err(Error::Malformed {
            what: WHAT,
            problem: "its header is unknown",
        });
    }
    let plain = aead::open(at_rest, header, sealed)
        .map_err(Error::crypto("opening the tree of record keys"))?;
    let mut reader = Reader::new(&plain, WHAT);
    let mut nodes = BTreeMap::new();
    for _ in 0..plain.len() / NODE_LEN {
        let depth = u32::from(reader.u8()?);
        if depth > DEPTH {
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
            assert_ne!((leaf ^ start) >> (DEPTH - node.depth), 0);
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

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes, &Secret32::new([0; 32])).is_err());
            let mut framed = MAGIC.to_vec();
            framed.push(VERSION);
            framed.extend_from_slice(&bytes);
            prop_assert!(decode(&framed, &Secret32::new([0; 32])).is_err());
        }
    }
}
