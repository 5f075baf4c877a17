//! Reading a trie: the value of one key, its proof, and every leaf in order.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Header;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};

use super::{Error, nodes::NodeSource, trie::join};

/// The RLP value stored under `key` (64 nibbles) in the trie with `root`, if any.
///
/// # Errors
/// Those of the source: damaged or unreadable nodes.
pub(crate) fn lookup(
    source: &dyn NodeSource,
    root: B256,
    key: &Nibbles,
) -> Result<Option<Vec<u8>>, Error> {
    follow(source, root, key, |_| {})
}

/// The value under `key` and its Merkle proof: RLP of every node on the path that is stored by hash, from the root
/// down, as EIP-1186 has it. Without a value it proves the absence; an empty trie has an empty proof.
///
/// # Errors
/// Those of the source.
pub(crate) fn prove(
    source: &dyn NodeSource,
    root: B256,
    key: &Nibbles,
) -> Result<(Option<Vec<u8>>, Vec<Bytes>), Error> {
    let mut proof = Vec::new();
    let value = follow(source, root, key, |node| proof.push(node.clone()))?;
    Ok((value, proof))
}

/// Called with a leaf's key (64 nibbles) and RLP value.
pub(crate) type LeafVisitor<'a> = dyn FnMut(&Nibbles, &[u8]) -> Result<(), Error> + 'a;

/// Calls `leaf` with every leaf (64 nibbles, value) in ascending order and `node` with the path of every node that
/// is stored by hash.
///
/// # Errors
/// Those of the source, and of `leaf`.
pub(crate) fn leaves(
    source: &dyn NodeSource,
    root: B256,
    node: &mut dyn FnMut(&Nibbles),
    leaf: &mut LeafVisitor<'_>,
) -> Result<(), Error> {
    if root == EMPTY_ROOT_HASH {
        return Ok(());
    }
    let path = Nibbles::default();
    node(&path);
    let rlp = source.node(&path, &root)?;
    descend(source, &rlp, path, node, leaf)
}

fn descend(
    source: &dyn NodeSource,
    rlp: &[u8],
    path: Nibbles,
    node: &mut dyn FnMut(&Nibbles),
    leaf: &mut LeafVisitor<'_>,
) -> Result<(), Error> {
    let mut enter = |child: Child<'_>, path: Nibbles| match child {
        Child::Empty => Ok(()),
        Child::Hash(hash) => {
            node(&path);
            let rlp = source.node(&path, &hash)?;
            descend(source, &rlp, path, node, leaf)
        }
        Child::Inline(rlp) => descend(source, rlp, path, node, leaf),
    };
    match parse(rlp)? {
        Parsed::Leaf { key, value } => leaf(&path.join(&key), value),
        Parsed::Extension { key, child } => enter(child, path.join(&key)),
        Parsed::Branch(mut items) => {
            for nibble in 0..16 {
                enter(reference(items.next_item()?)?, join(&path, nibble))?;
            }
            Ok(())
        }
    }
}

/// Called with a leaf's key (64 nibbles) and RLP value; says whether to go on.
pub(crate) type RangeVisitor<'a> = dyn FnMut(&Nibbles, &[u8]) -> Result<bool, Error> + 'a;

/// Calls `leaf` with every leaf from the key `from` on, in ascending order, until it says to stop. Reads only the
/// nodes on the way.
///
/// # Errors
/// Those of the source, and of `leaf`.
pub(crate) fn leaves_from(
    source: &dyn NodeSource,
    root: B256,
    from: &Nibbles,
    leaf: &mut RangeVisitor<'_>,
) -> Result<(), Error> {
    if root == EMPTY_ROOT_HASH {
        return Ok(());
    }
    let path = Nibbles::default();
    let rlp = source.node(&path, &root)?;
    descend_from(source, &rlp, path, from, leaf).map(drop)
}

/// The part of [`leaves_from`] below one node; `false` when the visitor had enough.
fn descend_from(
    source: &dyn NodeSource,
    rlp: &[u8],
    path: Nibbles,
    from: &Nibbles,
    leaf: &mut RangeVisitor<'_>,
) -> Result<bool, Error> {
    // Everything below a path that is before the key is before the key.
    let is_before = |path: &Nibbles| *path < from.slice(..path.len().min(from.len()));
    let mut enter = |child: Child<'_>, path: Nibbles| {
        if is_before(&path) {
            return Ok(true);
        }
        match child {
            Child::Empty => Ok(true),
            Child::Hash(hash) => {
                let rlp = source.node(&path, &hash)?;
                descend_from(source, &rlp, path, from, leaf)
            }
            Child::Inline(rlp) => descend_from(source, rlp, path, from, leaf),
        }
    };
    match parse(rlp)? {
        Parsed::Leaf { key, value } => {
            let key = path.join(&key);
            if key < *from {
                return Ok(true);
            }
            leaf(&key, value)
        }
        Parsed::Extension { key, child } => enter(child, path.join(&key)),
        Parsed::Branch(mut items) => {
            for nibble in 0..16 {
                if !enter(reference(items.next_item()?)?, join(&path, nibble))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

fn follow(
    source: &dyn NodeSource,
    root: B256,
    key: &Nibbles,
    mut visit: impl FnMut(&Bytes),
) -> Result<Option<Vec<u8>>, Error> {
    if root == EMPTY_ROOT_HASH {
        return Ok(None);
    }
    let mut depth = 0;
    let mut stored = source.node(&Nibbles::default(), &root)?;
    visit(&stored);
    loop {
        let mut inline: Vec<u8> = Vec::new();
        let hash = loop {
            let rlp = if inline.is_empty() {
                stored.as_ref()
            } else {
                &inline
            };
            match step(rlp, key, &mut depth)? {
                Step::Absent => return Ok(None),
                Step::Value(value) => return Ok(Some(value.to_vec())),
                Step::Child(Child::Empty) => return Ok(None),
                Step::Child(Child::Hash(hash)) => break hash,
                Step::Child(Child::Inline(rlp)) => inline = rlp.to_vec(),
            }
        };
        stored = source.node(&key.slice(..depth), &hash)?;
        visit(&stored);
    }
}

enum Step<'a> {
    Absent,
    Value(&'a [u8]),
    Child(Child<'a>),
}

/// One step from a node towards `key`, of which `depth` nibbles are behind us.
fn step<'a>(rlp: &'a [u8], key: &Nibbles, depth: &mut usize) -> Result<Step<'a>, Error> {
    let rest = key.slice(*depth..);
    Ok(match parse(rlp)? {
        Parsed::Leaf { key, value } if key == rest => Step::Value(value),
        Parsed::Leaf { .. } => Step::Absent,
        Parsed::Extension { key, child } if rest.starts_with(&key) => {
            *depth = depth.saturating_add(key.len());
            Step::Child(child)
        }
        Parsed::Extension { .. } => Step::Absent,
        Parsed::Branch(mut items) => {
            let Some(nibble) = rest.first() else {
                return Ok(Step::Absent);
            };
            for _ in 0..nibble {
                items.next_item()?;
            }
            *depth = depth.saturating_add(1);
            Step::Child(reference(items.next_item()?)?)
        }
    })
}

/// What a node holds for a child.
#[derive(Clone, Copy)]
pub(crate) enum Child<'a> {
    Empty,
    Hash(B256),
    /// A node shorter than a hash stands in its parent itself.
    Inline(&'a [u8]),
}

/// A node, read in place.
pub(crate) enum Parsed<'a> {
    Leaf { key: Nibbles, value: &'a [u8] },
    Extension { key: Nibbles, child: Child<'a> },
    Branch(Items<'a>),
}

/// The items of an RLP list, each with its header.
#[derive(Clone, Copy)]
pub(crate) struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    pub(crate) fn next_item(&mut self) -> Result<&'a [u8], Error> {
        let mut payload = self.0;
        let header = Header::decode(&mut payload).map_err(|_| MALFORMED)?;
        let rest = payload.get(header.payload_length..).ok_or(MALFORMED)?;
        let length = self.0.len().saturating_sub(rest.len());
        let item = self.0.get(..length).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(item)
    }
}

/// Reads a node.
pub(crate) fn parse(mut rlp: &[u8]) -> Result<Parsed<'_>, Error> {
    let items = Items(Header::decode_bytes(&mut rlp, true).map_err(|_| MALFORMED)?);
    let mut rest = items;
    let (mut path, mut second) = (rest.next_item()?, rest.next_item()?);
    if !rest.0.is_empty() {
        return Ok(Parsed::Branch(items));
    }
    let path = Header::decode_bytes(&mut path, false).map_err(|_| MALFORMED)?;
    // Hex-prefix encoding (yellow paper, appendix C): in the first nibble bit 1 marks a leaf and bit 0 an odd
    // length, whose odd nibble fills the byte.
    let (first, packed) = path.split_first().ok_or(MALFORMED)?;
    let mut key = Nibbles::default();
    if first & 0x10 != 0 {
        key.push(first & 0xf);
    }
    if packed.len() > 32 {
        return Err(MALFORMED);
    }
    key = key.join(&Nibbles::unpack(packed));
    if first & 0x20 == 0 {
        return Ok(Parsed::Extension {
            key,
            child: reference(second)?,
        });
    }
    let value = Header::decode_bytes(&mut second, false).map_err(|_| MALFORMED)?;
    Ok(Parsed::Leaf { key, value })
}

/// Reads a branch's or extension's item for a child.
pub(crate) fn reference(item: &[u8]) -> Result<Child<'_>, Error> {
    match item.split_first() {
        Some((0x80, [])) => Ok(Child::Empty),
        Some((0xa0, hash)) => Ok(Child::Hash(B256::try_from(hash).map_err(|_| MALFORMED)?)),
        Some((0xc0.., _)) => Ok(Child::Inline(item)),
        Some(_) | None => Err(MALFORMED),
    }
}

/// The bytes hash to what their parent says, so only a trie this code did not write can be malformed.
const MALFORMED: Error = Error::Invariant("a trie node with the right hash is not a node");
