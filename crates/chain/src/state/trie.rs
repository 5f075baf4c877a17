//! Incremental Merkle-Patricia trie: applies a sorted set of changes to a trie known by its root hash and yields
//! the new root with the nodes to write and remove.
//!
//! Nodes are stored at their path, so that a changed node overwrites its predecessor and nothing accumulates.
//! Only touched paths are loaded; every loaded node was checked against its hash by the [`NodeSource`]. Keys are
//! 32 bytes, already hashed; roots equal Ethereum's.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode},
};
use rayon::prelude::*;

use super::{
    Error,
    nodes::NodeSource,
    walk::{self, Child, Parsed},
};

/// A change of one key: 64 nibbles, and its RLP value or `None` to remove it.
pub(crate) type Change = (Nibbles, Option<Vec<u8>>);

/// What a set of changes did to a trie.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrieDelta {
    /// Root after the changes.
    pub(crate) root: B256,
    /// Whether every node of the trie before the changes is gone.
    pub(crate) wiped: bool,
    /// New nodes by path; `None` where a stored node must be removed.
    pub(crate) nodes: BTreeMap<Nibbles, Option<StoredNode>>,
}

/// A node that is stored on its own.
#[derive(Clone, Debug)]
pub(crate) struct StoredNode {
    /// keccak-256 of the RLP.
    pub(crate) hash: B256,
    /// Its RLP.
    pub(crate) rlp: Bytes,
}

/// Applies `changes` (sorted by key, no key twice) to the trie with `root`.
///
/// # Errors
/// Those of the source: damaged or unreadable nodes.
pub(crate) fn update(
    source: &dyn NodeSource,
    root: B256,
    mut changes: Vec<Change>,
) -> Result<TrieDelta, Error> {
    let start = if root == EMPTY_ROOT_HASH {
        Node::Empty
    } else {
        Node::Ref(RlpNode::word_rlp(&root))
    };
    let updater = Updater { source };
    let mut stale = Vec::new();
    let path = Nibbles::default();
    let (node, _) = updater.apply(start, &path, &mut changes, &mut stale)?;
    let mut fresh = Vec::new();
    let root = match &node {
        Node::Empty => EMPTY_ROOT_HASH,
        Node::Ref(_) => root,
        Node::Leaf(_) | Node::Extension(_) | Node::Branch(_) => {
            let reference = hash(&node, &path, &mut fresh)?;
            reference.as_hash().ok_or(Error::Invariant(
                "the root of a trie with hashed keys is under 32 bytes",
            ))?
        }
    };
    let mut nodes: BTreeMap<_, _> = stale.into_iter().map(|path| (path, None)).collect();
    nodes.extend(fresh.into_iter().map(|(path, node)| (path, Some(node))));
    Ok(TrieDelta {
        root,
        wiped: false,
        nodes,
    })
}

/// A node in memory. Everything but `Empty` and `Ref` differs from what is stored.
enum Node {
    Empty,
    /// An unchanged node: its hash, or its RLP if that is shorter.
    Ref(RlpNode),
    Leaf(Box<Leaf>),
    Extension(Box<Extension>),
    Branch(Box<Children>),
}

struct Leaf {
    key: Nibbles,
    value: Vec<u8>,
}

struct Extension {
    key: Nibbles,
    child: Node,
}

struct Children([Node; 16]);

impl Children {
    const fn empty() -> Self {
        Self([const { Node::Empty }; 16])
    }

    #[expect(clippy::indexing_slicing, reason = "a nibble is masked to below 16")]
    const fn at(&mut self, nibble: u8) -> &mut Node {
        &mut self.0[(nibble & 0xf) as usize]
    }

    const fn take(&mut self, nibble: u8) -> Node {
        std::mem::replace(self.at(nibble), Node::Empty)
    }
}

struct Updater<'a> {
    source: &'a dyn NodeSource,
}

/// Changes at the root from which its children are worked on in parallel; below, threads cost more than they save.
const PARALLEL_FROM: usize = 128;

impl Updater<'_> {
    /// Applies changes to the node at `path`; tells whether anything changed. Paths of stored nodes that are no
    /// longer valid go to `stale`.
    fn apply(
        &self,
        node: Node,
        path: &Nibbles,
        changes: &mut [Change],
        stale: &mut Vec<Nibbles>,
    ) -> Result<(Node, bool), Error> {
        if changes.is_empty() {
            return Ok((node, false));
        }
        match node {
            Node::Empty => {
                let entries = inserts(changes);
                let changed = !entries.is_empty();
                Ok((build(path.len(), entries), changed))
            }
            Node::Ref(reference) => {
                let loaded = self.load(&reference, path)?;
                let (node, changed) = self.apply(loaded, path, changes, stale)?;
                if !changed {
                    return Ok((Node::Ref(reference), false));
                }
                if reference.is_hash() {
                    stale.push(*path);
                }
                Ok((node, true))
            }
            Node::Leaf(leaf) => Ok(apply_to_leaf(*leaf, path, changes)),
            Node::Extension(extension) => self.apply_to_extension(*extension, path, changes, stale),
            Node::Branch(children) => self.apply_to_branch(children, path, changes, stale),
        }
    }

    fn load(&self, reference: &RlpNode, path: &Nibbles) -> Result<Node, Error> {
        match reference.as_hash() {
            Some(hash) => decode(&self.source.node(path, &hash)?),
            None => decode(reference),
        }
    }

    fn apply_to_branch(
        &self,
        mut children: Box<Children>,
        path: &Nibbles,
        changes: &mut [Change],
        stale: &mut Vec<Nibbles>,
    ) -> Result<(Node, bool), Error> {
        let depth = path.len();
        let parallel = path.is_empty() && changes.len() >= PARALLEL_FROM;
        let mut work = Vec::new();
        for group in changes.chunk_by_mut(|a, b| a.0.get(depth) == b.0.get(depth)) {
            let nibble = group.first().and_then(|(key, _)| key.get(depth));
            let nibble = nibble.ok_or(Error::Invariant("a key ends inside the trie"))?;
            work.push((nibble, children.take(nibble), group));
        }
        let apply = |(nibble, child, group): (u8, Node, &mut [Change])| {
            let mut stale = Vec::new();
            let (child, changed) = self.apply(child, &join(path, nibble), group, &mut stale)?;
            Ok((nibble, child, changed, stale))
        };
        let done: Vec<_> = if parallel {
            work.into_par_iter()
                .map(apply)
                .collect::<Result<_, Error>>()?
        } else {
            work.into_iter().map(apply).collect::<Result<_, Error>>()?
        };
        let mut changed = false;
        for (nibble, child, child_changed, child_stale) in done {
            *children.at(nibble) = child;
            changed |= child_changed;
            stale.extend(child_stale);
        }
        if !changed {
            return Ok((Node::Branch(children), false));
        }
        Ok((self.shrink_branch(children, path, stale)?, true))
    }

    /// A branch with fewer than two children is no branch any more.
    fn shrink_branch(
        &self,
        mut children: Box<Children>,
        path: &Nibbles,
        stale: &mut Vec<Nibbles>,
    ) -> Result<Node, Error> {
        let mut live = (0..16_u8)
            .filter(|nibble| !matches!(children.0.get(usize::from(*nibble)), Some(Node::Empty)));
        let (first, second) = (live.next(), live.next());
        let Some(nibble) = first else {
            return Ok(Node::Empty);
        };
        if second.is_some() {
            return Ok(Node::Branch(children));
        }
        let child = children.take(nibble);
        let prefix = Nibbles::from_nibbles([nibble]);
        let Node::Ref(reference) = child else {
            return Ok(prefixed(prefix, child));
        };
        // Only the loaded child tells whether it merges into this node or hangs below it unchanged.
        let child_path = join(path, nibble);
        match self.load(&reference, &child_path)? {
            merged @ (Node::Leaf(_) | Node::Extension(_)) => {
                if reference.is_hash() {
                    stale.push(child_path);
                }
                Ok(prefixed(prefix, merged))
            }
            Node::Branch(_) | Node::Ref(_) | Node::Empty => {
                Ok(prefixed(prefix, Node::Ref(reference)))
            }
        }
    }

    fn apply_to_extension(
        &self,
        extension: Extension,
        path: &Nibbles,
        changes: &mut [Change],
        stale: &mut Vec<Nibbles>,
    ) -> Result<(Node, bool), Error> {
        let Extension { key, child } = extension;
        // How far every insertion follows the extension. A removal that leaves it removes nothing.
        let shared = changes
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(full, _)| full.slice(path.len()..).common_prefix_length(&key))
            .min()
            .unwrap_or(key.len());
        let prefix = key.slice(..shared);
        let below = path.join(&prefix);
        let changes = under(changes, &below);
        if shared == key.len() {
            let (child, changed) = self.apply(child, &below, changes, stale)?;
            if !changed {
                return Ok((Node::Extension(Box::new(Extension { key, child })), false));
            }
            return Ok((prefixed(key, child), true));
        }
        let nibble = key
            .get(shared)
            .ok_or(Error::Invariant("an extension ends before its split"))?;
        let mut children = Box::new(Children::empty());
        *children.at(nibble) = prefixed(key.slice(shared.saturating_add(1)..), child);
        let (branch, _) = self.apply_to_branch(children, &below, changes, stale)?;
        Ok((prefixed(prefix, branch), true))
    }
}

fn apply_to_leaf(mut leaf: Leaf, path: &Nibbles, changes: &mut [Change]) -> (Node, bool) {
    let full = path.join(&leaf.key);
    let mut changed = false;
    let mut kept = true;
    for (key, value) in changes.iter_mut() {
        match value {
            Some(new) if *key == full => {
                if *new != leaf.value {
                    leaf.value = std::mem::take(new);
                    changed = true;
                }
                *value = None;
            }
            None if *key == full => kept = false,
            Some(_) => changed = true,
            None => {}
        }
    }
    if kept && !changed {
        return (Node::Leaf(Box::new(leaf)), false);
    }
    let mut entries = inserts(changes);
    if kept {
        let at = entries.partition_point(|(key, _)| *key < full);
        entries.insert(at, (full, leaf.value));
    }
    (build(path.len(), entries), true)
}

/// The changes that set a value, in order.
fn inserts(changes: &mut [Change]) -> Vec<(Nibbles, Vec<u8>)> {
    changes
        .iter_mut()
        .filter_map(|(key, value)| value.take().map(|value| (*key, value)))
        .collect()
}

/// The changes whose keys start with `prefix`: neighbours, because changes are sorted.
fn under<'a>(changes: &'a mut [Change], prefix: &Nibbles) -> &'a mut [Change] {
    let start = changes.iter().position(|(key, _)| key.starts_with(prefix));
    let Some((_, rest)) = start.and_then(|start| changes.split_at_mut_checked(start)) else {
        return &mut [];
    };
    let count = rest
        .iter()
        .take_while(|(key, _)| key.starts_with(prefix))
        .count();
    rest.split_at_mut_checked(count)
        .map_or(&mut [], |(matching, _)| matching)
}

/// A new subtrie at `depth` of sorted, distinct entries.
fn build(depth: usize, mut entries: Vec<(Nibbles, Vec<u8>)>) -> Node {
    if entries.len() <= 1 {
        return entries.pop().map_or(Node::Empty, |(key, value)| {
            Node::Leaf(Box::new(Leaf {
                key: key.slice(depth..),
                value,
            }))
        });
    }
    let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
        return Node::Empty;
    };
    // Sorted: what the ends share, all share.
    let first = *first;
    let fork = first.common_prefix_length(last);
    let mut children = Box::new(Children::empty());
    while let Some(nibble) = entries.last().and_then(|(key, _)| key.get(fork)) {
        let at = entries.partition_point(|(key, _)| key.get(fork) < Some(nibble));
        *children.at(nibble) = build(fork.saturating_add(1), entries.split_off(at));
    }
    prefixed(first.slice(depth..fork), Node::Branch(children))
}

/// The node that stands for `node` below the nibbles of `prefix`.
fn prefixed(prefix: Nibbles, node: Node) -> Node {
    if prefix.is_empty() {
        return node;
    }
    match node {
        Node::Empty => Node::Empty,
        Node::Leaf(mut leaf) => {
            leaf.key = prefix.join(&leaf.key);
            Node::Leaf(leaf)
        }
        Node::Extension(mut extension) => {
            extension.key = prefix.join(&extension.key);
            Node::Extension(extension)
        }
        Node::Branch(_) | Node::Ref(_) => Node::Extension(Box::new(Extension {
            key: prefix,
            child: node,
        })),
    }
}

/// Hashes changed nodes below `path` and lists those that are stored on their own.
fn hash(
    node: &Node,
    path: &Nibbles,
    fresh: &mut Vec<(Nibbles, StoredNode)>,
) -> Result<RlpNode, Error> {
    // Large enough for a full branch, so that it never grows.
    let mut rlp = Vec::with_capacity(BRANCH_MAX_BYTES);
    hash_into(node, path, fresh, &mut rlp)
}

/// As [`hash`]; `rlp` is a buffer whose contents do not matter.
fn hash_into(
    node: &Node,
    path: &Nibbles,
    fresh: &mut Vec<(Nibbles, StoredNode)>,
    rlp: &mut Vec<u8>,
) -> Result<RlpNode, Error> {
    let reference = match node {
        Node::Empty => return Err(Error::Invariant("an empty node was to be hashed")),
        Node::Ref(reference) => return Ok(reference.clone()),
        Node::Leaf(leaf) => {
            rlp.clear();
            LeafNodeRef::new(&leaf.key, &leaf.value).rlp(rlp)
        }
        Node::Extension(extension) => {
            let below = path.join(&extension.key);
            let child = hash_into(&extension.child, &below, fresh, rlp)?;
            rlp.clear();
            ExtensionNodeRef::new(&extension.key, &child).rlp(rlp)
        }
        Node::Branch(children) => {
            let (stack, mask) = hash_children(children, path, fresh, rlp)?;
            rlp.clear();
            BranchNodeRef::new(&stack, mask).rlp(rlp)
        }
    };
    if let Some(hash) = reference.as_hash() {
        let rlp = Bytes::copy_from_slice(rlp);
        fresh.push((*path, StoredNode { hash, rlp }));
    }
    Ok(reference)
}

fn hash_children(
    children: &Children,
    path: &Nibbles,
    fresh: &mut Vec<(Nibbles, StoredNode)>,
    rlp: &mut Vec<u8>,
) -> Result<(Vec<RlpNode>, TrieMask), Error> {
    let live = (0..16_u8)
        .zip(&children.0)
        .filter(|(_, node)| !matches!(node, Node::Empty));
    let mut stack = Vec::with_capacity(16);
    let mut mask = TrieMask::default();
    if path.is_empty() {
        let live: Vec<_> = live.collect();
        let done: Vec<_> = live
            .into_par_iter()
            .map(|(nibble, child)| {
                let mut fresh = Vec::new();
                let reference = hash(child, &join(path, nibble), &mut fresh)?;
                Ok((nibble, reference, fresh))
            })
            .collect::<Result<_, Error>>()?;
        for (nibble, reference, nodes) in done {
            mask.set_bit(nibble);
            stack.push(reference);
            fresh.extend(nodes);
        }
    } else {
        for (nibble, child) in live {
            mask.set_bit(nibble);
            stack.push(hash_into(child, &join(path, nibble), fresh, rlp)?);
        }
    }
    Ok((stack, mask))
}

fn decode(rlp: &[u8]) -> Result<Node, Error> {
    Ok(match walk::parse(rlp)? {
        Parsed::Leaf { key, value } => Node::Leaf(Box::new(Leaf {
            key,
            value: value.to_vec(),
        })),
        Parsed::Extension { key, child } => Node::Extension(Box::new(Extension {
            key,
            child: reference_to(child),
        })),
        Parsed::Branch(mut items) => {
            let mut children = Box::new(Children::empty());
            for child in &mut children.0 {
                *child = reference_to(walk::reference(items.next_item()?)?);
            }
            Node::Branch(children)
        }
    })
}

fn reference_to(child: Child<'_>) -> Node {
    match child {
        Child::Empty => Node::Empty,
        Child::Hash(hash) => Node::Ref(RlpNode::word_rlp(&hash)),
        // Inline nodes are shorter than a hash, so they fit a reference.
        Child::Inline(rlp) => Node::Ref(RlpNode::from_rlp(rlp)),
    }
}

/// `path` one nibble further.
pub(crate) fn join(path: &Nibbles, nibble: u8) -> Nibbles {
    let mut longer = *path;
    longer.push(nibble);
    longer
}

/// Length of a branch with sixteen hashed children: 16 × 33, an empty value and a header of 3 bytes.
pub(crate) const BRANCH_MAX_BYTES: usize = 532;

#[cfg(test)]
mod tests;
