//! Merkle mountain range over a log's leaves: appending touches few peaks, any leaf is proven by its path to
//! a peak, and the size in the root proves that no leaf was withheld.
//!
//! Nodes are keccak-256 so that Solidity verifies them cheaply: leaf node `H(0x00 ‖ leaf)`, inner node
//! `H(0x01 ‖ left ‖ right)`, root `H(0x02 ‖ size as u64 big-endian ‖ peaks from highest to lowest)`.

use alloy_primitives::{B256, keccak256};

/// Highest mountain: logs hold fewer than 2^40 leaves.
pub const MAX_HEIGHT: u8 = 40;

/// Node of a single leaf.
#[must_use]
pub fn leaf_node(leaf: B256) -> B256 {
    let mut bytes = [0_u8; 33];
    let (_, body) = bytes.split_at_mut(1);
    body.copy_from_slice(leaf.as_slice());
    keccak256(bytes)
}

/// Node over two children.
#[must_use]
pub fn inner_node(left: B256, right: B256) -> B256 {
    let mut bytes = [1_u8; 65];
    let (_, body) = bytes.split_at_mut(1);
    let (first, second) = body.split_at_mut(32);
    first.copy_from_slice(left.as_slice());
    second.copy_from_slice(right.as_slice());
    keccak256(bytes)
}

/// Root over size and peaks, highest first. An empty log has the zero root.
#[must_use]
pub fn bag(size: u64, peaks: &[B256]) -> B256 {
    if size == 0 {
        return B256::ZERO;
    }
    let mut bytes = Vec::with_capacity(peaks.len().saturating_mul(32).saturating_add(9));
    bytes.push(2);
    bytes.extend_from_slice(&size.to_be_bytes());
    for peak in peaks {
        bytes.extend_from_slice(peak.as_slice());
    }
    keccak256(bytes)
}

/// Heights of the mountains of a log of `size` leaves, highest first: the set bits of its size.
pub fn peak_heights(size: u64) -> impl Iterator<Item = u8> {
    (0..=MAX_HEIGHT)
        .rev()
        .filter(move |height| size >> height & 1 == 1)
}

/// Where a leaf stands: height of its mountain and its position within it. `None` beyond the size.
#[must_use]
pub fn locate(size: u64, index: u64) -> Option<(u8, u64)> {
    let mut start = 0_u64;
    for height in peak_heights(size) {
        let width = 1_u64.checked_shl(height.into())?;
        let end = start.checked_add(width)?;
        if index < end {
            return Some((height, index.checked_sub(start)?));
        }
        start = end;
    }
    None
}

/// The peak that a leaf and its siblings (from the leaf upwards) lead to.
#[must_use]
pub fn climb(leaf: B256, position: u64, path: &[B256]) -> B256 {
    let mut node = leaf_node(leaf);
    let mut position = position;
    for sibling in path {
        node = if position & 1 == 0 {
            inner_node(node, *sibling)
        } else {
            inner_node(*sibling, node)
        };
        position >>= 1;
    }
    node
}

/// Adds leaves to a log, calling `load` and `store` for peaks by height. Returns the new size.
/// Only peaks that differ at the end are stored; nothing above the new size is left behind.
///
/// # Errors
/// Whatever `load` and `store` return.
pub fn append<E>(
    size: u64,
    leaves: impl IntoIterator<Item = B256>,
    mut load: impl FnMut(u8) -> Result<B256, E>,
    mut store: impl FnMut(u8, B256) -> Result<(), E>,
) -> Result<u64, E> {
    let mut new: [Option<B256>; MAX_HEIGHT as usize + 1] = [None; MAX_HEIGHT as usize + 1];
    let mut count = size;
    for leaf in leaves {
        let mut node = leaf_node(leaf);
        let mut height = 0_u8;
        while count >> height & 1 == 1 {
            let left = match new.get_mut(usize::from(height)).and_then(Option::take) {
                Some(peak) => peak,
                None => load(height)?,
            };
            node = inner_node(left, node);
            height = height.saturating_add(1);
        }
        if let Some(slot) = new.get_mut(usize::from(height)) {
            *slot = Some(node);
        }
        count = count.saturating_add(1);
    }
    for (height, peak) in (0_u8..).zip(new) {
        if let Some(peak) = peak {
            store(height, peak)?;
        }
    }
    Ok(count)
}

/// Siblings of the leaf at `index` up to its peak, from all leaves of the log. `None` beyond the end.
#[must_use]
pub fn path(leaves: &[B256], index: u64) -> Option<Vec<B256>> {
    let size = u64::try_from(leaves.len()).ok()?;
    let (height, position) = locate(size, index)?;
    let start = usize::try_from(index.checked_sub(position)?).ok()?;
    let width = 1_usize.checked_shl(height.into())?;
    let mountain = leaves.get(start..start.checked_add(width)?)?;
    let mut level: Vec<B256> = mountain.iter().map(|leaf| leaf_node(*leaf)).collect();
    let mut position = usize::try_from(position).ok()?;
    let mut siblings = Vec::with_capacity(height.into());
    while let Some(above) = level_above(&level) {
        siblings.push(*level.get(position ^ 1)?);
        level = above;
        position >>= 1;
    }
    Some(siblings)
}

/// The paths of many leaves of one log, its nodes hashed once.
#[derive(Clone, Debug)]
pub struct Paths {
    size: u64,
    /// For each mountain, highest first, its levels from the leaves upwards.
    mountains: Vec<(u8, Vec<Vec<B256>>)>,
}

impl Paths {
    /// Over all leaves of a log.
    #[must_use]
    pub fn new(leaves: &[B256]) -> Self {
        let size = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        let mut rest = leaves;
        let mut mountains = Vec::new();
        for height in peak_heights(size) {
            let width = 1_usize.checked_shl(height.into()).unwrap_or(usize::MAX);
            let (mountain, after) = rest.split_at(width.min(rest.len()));
            rest = after;
            let lowest: Vec<B256> = mountain.iter().map(|leaf| leaf_node(*leaf)).collect();
            let mut levels = vec![lowest];
            while let Some(next) = levels.last().and_then(|level| level_above(level)) {
                levels.push(next);
            }
            mountains.push((height, levels));
        }
        Self { size, mountains }
    }

    /// As [`path`].
    #[must_use]
    pub fn of(&self, index: u64) -> Option<Vec<B256>> {
        let (height, position) = locate(self.size, index)?;
        let (_, levels) = self.mountains.iter().find(|(at, _)| *at == height)?;
        let mut position = usize::try_from(position).ok()?;
        let mut siblings = Vec::with_capacity(height.into());
        for level in levels.iter().take(height.into()) {
            siblings.push(*level.get(position ^ 1)?);
            position >>= 1;
        }
        Some(siblings)
    }
}

/// The nodes over a level; `None` above a peak.
fn level_above(level: &[B256]) -> Option<Vec<B256>> {
    if level.len() < 2 {
        return None;
    }
    let pairs = level.chunks(2);
    Some(
        pairs
            .filter_map(|pair| Some(inner_node(*pair.first()?, *pair.get(1)?)))
            .collect(),
    )
}

/// Size, peaks (highest first) of a log from all its leaves.
#[must_use]
pub fn peaks(leaves: &[B256]) -> Vec<B256> {
    let mut stored = std::collections::BTreeMap::new();
    let size = append::<std::convert::Infallible>(
        0,
        leaves.iter().copied(),
        |_| Ok(B256::ZERO),
        |height, peak| {
            stored.insert(height, peak);
            Ok(())
        },
    )
    .unwrap_or_default();
    peak_heights(size)
        .filter_map(|height| stored.get(&height).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(n: u64) -> B256 {
        keccak256(n.to_be_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Appending in any batches gives the peaks of the whole, and every leaf is proven by its path.
        #[test]
        fn batches_equal_whole(sizes in proptest::collection::vec(1_usize..20, 1..8)) {
            let mut stored = [B256::ZERO; MAX_HEIGHT as usize + 1];
            let (mut size, mut all) = (0_u64, Vec::new());
            for batch in sizes {
                let new: Vec<B256> = (0_u64..).take(batch).map(|i| leaf(size + i)).collect();
                let before = stored;
                size = append::<()>(size, new.iter().copied(), |h| Ok(before[h as usize]), |h, p| { stored[h as usize] = p; Ok(()) }).unwrap();
                all.extend(new);
            }
            let live: Vec<B256> = peak_heights(size).map(|h| stored[h as usize]).collect();
            prop_assert_eq!(&live, &peaks(&all));
            let paths = Paths::new(&all);
            prop_assert!(paths.of(size).is_none());
            for (index, one) in (0_u64..).zip(&all) {
                prop_assert_eq!(paths.of(index), path(&all, index));
                let (height, position) = locate(size, index).unwrap();
                let path = path(&all, index).unwrap();
                prop_assert_eq!(path.len(), height as usize);
                prop_assert_eq!(climb(*one, position, &path), stored[height as usize]);
                prop_assert_ne!(climb(leaf(u64::MAX), position, &path), stored[height as usize]);
            }
            prop_assert!(locate(size, size).is_none());
        }
    }
}
