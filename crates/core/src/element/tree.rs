//! The tree over leaf hashes, and multiproofs of several leaves at once.

use alloy_primitives::B256;
use sha2::{Digest, Sha256};

use super::{Error, count};

/// More leaves than this make no resource: a text of 4 GiB would be needed.
const LEAVES_MAX: u32 = 1 << 28;

/// Root over all leaf hashes, in order.
pub(super) fn root(hashes: &[B256]) -> B256 {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    seal(count(hashes), &level.first().copied().unwrap_or_default())
}

/// Hashes that complete the tree around the leaves at `indices` (sorted, distinct).
pub(super) fn siblings(hashes: &[B256], indices: &[usize]) -> Vec<B256> {
    let mut out = Vec::new();
    let mut level = hashes.to_vec();
    let mut known = indices.to_vec();
    while level.len() > 1 {
        let mut above: Vec<usize> = Vec::with_capacity(known.len());
        for (place, &at) in known.iter().enumerate() {
            let other = at ^ 1;
            let other_is_known = known.get(place + 1) == Some(&other)
                || place.checked_sub(1).and_then(|before| known.get(before)) == Some(&other);
            if !other_is_known && let Some(hash) = level.get(other) {
                out.push(*hash);
            }
            if above.last() != Some(&(at / 2)) {
                above.push(at / 2);
            }
        }
        known = above;
        level = parents(&level);
    }
    out
}

/// Root that the disclosed leaves and the siblings lead to.
pub(super) fn root_of_proof(
    leaf_count: u32,
    leaves: &[(u32, B256)],
    siblings: &[B256],
) -> Result<B256, Error> {
    let malformed = |problem| Error::Malformed { problem };
    if leaf_count > LEAVES_MAX {
        return Err(malformed("it claims more leaves than a resource has"));
    }
    if leaves.is_empty() {
        return Err(malformed("it discloses nothing"));
    }
    let ordered = leaves
        .array_windows::<2>()
        .all(|[(first, _), (second, _)]| first < second);
    if !ordered || leaves.last().is_some_and(|(last, _)| *last >= leaf_count) {
        return Err(malformed("its elements are out of order or out of range"));
    }
    let mut rest = siblings.iter();
    let mut width = leaf_count;
    let mut level = leaves.to_vec();
    while width > 1 {
        let mut above = Vec::with_capacity(level.len());
        let mut nodes = level.iter().copied().peekable();
        while let Some((at, hash)) = nodes.next() {
            let other = at ^ 1;
            let other_hash = if other >= width {
                None
            } else if let Some((_, known)) = nodes.next_if(|(next, _)| *next == other) {
                Some(known)
            } else {
                Some(*rest.next().ok_or(malformed("a hash is missing"))?)
            };
            let parent = match other_hash {
                None => hash,
                Some(right) if at < other => node(&hash, &right),
                Some(left) => node(&left, &hash),
            };
            above.push((at / 2, parent));
        }
        level = above;
        width = width.div_ceil(2);
    }
    if rest.next().is_some() {
        return Err(malformed("a hash is left over"));
    }
    let top = level.first().map(|(_, hash)| *hash).unwrap_or_default();
    Ok(seal(leaf_count, &top))
}

fn parents(level: &[B256]) -> Vec<B256> {
    level
        .chunks(2)
        .filter_map(|pair| match pair {
            [left, right] => Some(node(left, right)),
            [odd] => Some(*odd),
            _ => None,
        })
        .collect()
}

fn node(left: &B256, right: &B256) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    B256::new(hasher.finalize().into())
}

fn seal(leaf_count: u32, top: &B256) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([2]);
    hasher.update(leaf_count.to_be_bytes());
    hasher.update(top);
    B256::new(hasher.finalize().into())
}
